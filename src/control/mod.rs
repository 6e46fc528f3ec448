//! The control socket: commands for a running server, from the same machine and the same user.
//!
//! # Layout
//! - [`protocol`]: what is said, one JSON object per line
//! - [`place`]: where the sockets are, for the server that makes one and the command that looks for it
//! - [`server`]: takes commands and sends replies
//! - [`client`]: sends one command and shows its replies

pub mod client;
pub mod place;
pub mod protocol;
pub mod server;

use std::path::PathBuf;

/// Settings of the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Settings {
    /// In the directory for such sockets, named after the process.
    #[default]
    Automatic,
    At(PathBuf),
    Off,
}
