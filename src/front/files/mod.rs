//! Static files.

use std::path::PathBuf;

/// Settings of static files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    pub mounts: Vec<Mount>,
}

/// A directory served under a URL prefix (nginx: `location` + `alias`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `/` or `/prefix` without a slash at the end. A mount at `/` lets the application answer what it does not have.
    pub url: String,
    pub directory: PathBuf,
}
