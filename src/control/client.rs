//! Sends one command to a running server and hands on its replies.

use super::place;
use super::protocol::{Command, Reply};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Which server is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The only one that runs here.
    Only,
    Process(u32),
    Socket(PathBuf),
}

/// Why a command did not reach a server.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("no server of this user runs here")]
    NoServer,
    #[error("{} servers run here, with the processes {}", .0.len(), list(.0))]
    Several(Vec<u32>),
    #[error("process {0} is no server of this user")]
    NoSuchProcess(u32),
    #[error("{path}: {error}")]
    Connect { path: String, error: io::Error },
    #[error("the server did not answer to the end")]
    Unfinished,
    #[error("the server's answer is not understood (is it of another version?): {0}")]
    Unintelligible(serde_json::Error),
}

impl ControlError {
    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoServer | Self::NoSuchProcess(_) => {
                Some("name its socket with --control PATH; root sees the servers under /run/monoceros")
            }
            Self::Several(_) => Some("choose one with --pid N"),
            _ => None,
        }
    }
}

fn list(pids: &[u32]) -> String {
    pids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// Finds the socket of the server that is meant, among those in `directories`.
pub fn find(target: &Target, directories: &[PathBuf]) -> Result<PathBuf, ControlError> {
    let running = || place::running(directories);
    match target {
        Target::Socket(path) => Ok(path.clone()),
        Target::Process(pid) => place::of_process(directories, *pid).ok_or(ControlError::NoSuchProcess(*pid)),
        Target::Only => match running().as_slice() {
            [] => Err(ControlError::NoServer),
            [(_, path)] => Ok(path.clone()),
            several => Err(ControlError::Several(several.iter().map(|(pid, _)| *pid).collect())),
        },
    }
}

/// Sends a command; every reply goes to `see`. Returns when the last one has come.
pub fn send(path: &Path, command: &Command, mut see: impl FnMut(&Reply)) -> Result<(), ControlError> {
    let connect = |error| ControlError::Connect { path: path.display().to_string(), error };
    let mut stream = UnixStream::connect(path).map_err(connect)?;
    let mut line = serde_json::to_vec(command).map_err(ControlError::Unintelligible)?;
    line.push(b'\n');
    stream.write_all(&line).map_err(connect)?;
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(|_| ControlError::Unfinished)?;
        let reply: Reply = serde_json::from_str(&line).map_err(ControlError::Unintelligible)?;
        see(&reply);
        if reply.is_last() {
            return Ok(());
        }
    }
    Err(ControlError::Unfinished)
}
