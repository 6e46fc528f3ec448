//! One zygote: starting it, talking to it, noticing its end.

use super::Settings;
use super::extension::EXTENSION;
use crate::sys::spawn::prepare_child;
use monoceros_wire::sys::{packet_pair, set_nonblocking};
use monoceros_wire::zygote::{self, CONTROL_DESCRIPTOR_VARIABLE, Command as Order, Event as News};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, ChildStderr, ChildStdout};

/// The variable with the number of the memory file that holds the worker extension.
const EXTENSION_DESCRIPTOR_VARIABLE: &str = "MONOCEROS_EXTENSION_FD";

/// Run by the interpreter; loads the extension and gives it control.
const BOOT_SCRIPT: &str = include_str!("../../crates/worker/src/boot.py");

/// A running zygote.
#[derive(Debug)]
pub(super) struct Zygote {
    control: AsyncFd<OwnedFd>,
    child: Child,
}

/// Output of a zygote, before it forks.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) stdout: Option<ChildStdout>,
    pub(super) stderr: Option<ChildStderr>,
}

impl Zygote {
    /// Starts the interpreter and tells it about the application. Must be called on the main thread, which outlives
    /// every zygote.
    pub(super) fn start(python: &Path, settings: &Settings) -> io::Result<(Self, Output)> {
        let (ours, theirs) = packet_pair()?;
        let theirs = Arc::new(theirs);
        let extension = Arc::new(extension_file()?);
        let mut command = Command::new(python);
        command
            .args(["-c", BOOT_SCRIPT])
            .current_dir(&settings.chdir)
            .envs(settings.environment.iter().map(|(name, value)| (name, value)))
            .env(CONTROL_DESCRIPTOR_VARIABLE, theirs.as_raw_fd().to_string())
            .env(EXTENSION_DESCRIPTOR_VARIABLE, extension.as_raw_fd().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        prepare_child(&mut command, vec![Arc::clone(&theirs), extension]);
        let mut command = tokio::process::Command::from(command);
        let mut child = command.kill_on_drop(true).spawn()?;
        drop(theirs);
        let output = Output { stdout: child.stdout.take(), stderr: child.stderr.take() };
        set_nonblocking(&ours, true)?;
        let zygote = Self { control: crate::sys::readiness::watch(ours)?, child };
        zygote.send(&Order::Configure { version: monoceros_wire::VERSION, settings: settings.app.clone() }, &[])?;
        Ok((zygote, output))
    }

    /// Sends an order. The socket holds many of them; one that does not fit means that the zygote hangs.
    pub(super) fn send(&self, order: &Order, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        zygote::send_message(self.control.get_ref().as_fd(), order, descriptors)
    }

    /// The next message; `None` when the zygote has closed its end. Cancel-safe.
    pub(super) async fn next(&self) -> io::Result<Option<News>> {
        loop {
            let mut guard = self.control.readable().await?;
            match zygote::receive_message::<News>(self.control.get_ref()) {
                Ok(message) => return Ok(message.map(|(news, _)| news)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for its end.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }
}

/// An exit status in words.
pub(super) fn describe(status: ExitStatus) -> String {
    use monoceros_wire::zygote::ExitStatus as Status;
    let status = status.code().map(Status::Code).or(status.signal().map(Status::Signal));
    status.map_or_else(|| "ended".to_owned(), super::state::describe)
}

/// The extension as a file without a name, which the interpreter loads through its descriptor: nothing has to be
/// installed or unpacked.
fn extension_file() -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("monoceros_worker.so", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(file);
    file.write_all(EXTENSION)?;
    Ok(file.into())
}
