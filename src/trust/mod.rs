//! Makes browsers and programs of this machine accept the authority for development certificates, and stop accepting it.
//!
//! Nothing here asks for a password or becomes another user: where rights are missing, the commands are told instead.

mod nss;
mod system;

use crate::front::tls::authority::Authority;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// The name of the authority inside a store.
const NAME: &str = "monoceros development authority";

/// What is to be done with the stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Install,
    Uninstall,
}

/// What became of one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// For people: "the system's store", "Chromium".
    pub store: String,
    pub result: Done,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    Changed,
    /// It was so already.
    Nothing,
    /// Somebody has to do it: why, and the commands.
    ByHand {
        reason: String,
        commands: Vec<String>,
    },
    Failed(String),
}

/// Goes through all stores that there are for this user.
pub fn carry_out(wish: Wish, authority: &Authority, home: Option<&Path>) -> Vec<Outcome> {
    let mut outcomes = vec![system::carry_out(wish, authority)];
    outcomes.extend(nss::carry_out(wish, &authority.file, home));
    outcomes
}

/// Whether a program is there.
fn finds(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Runs a program quietly. The error is what it said.
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error: io::Error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program}: {} ({})", said.trim().lines().last().unwrap_or("failed"), output.status))
}
