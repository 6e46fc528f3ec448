//! The program replaces itself: it starts its own file anew, with the same arguments, and hands its listening sockets over.
//! When the new process serves, this one lets its clients finish and ends. When the new one fails, nothing has happened.

use super::handover::{self, Word};
use crate::front::listener::Listeners;
use crate::supervisor::SERVICE_MANAGER_VARIABLES;
use crate::sys::socket::{ACTIVATION_VARIABLES, HANDOVER_VARIABLE};
use crate::sys::spawn::spawn_successor;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Beyond the time for a worker to boot: to read the configuration, to find the interpreter.
const PREPARATION: Duration = Duration::from_secs(15);
/// For a process that has said why it cannot serve to end.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// How this process was started.
#[derive(Debug, Clone)]
pub struct Program {
    /// The name it was called by.
    name: OsString,
    /// The file that it was then.
    file: Option<PathBuf>,
    arguments: Vec<OsString>,
    directory: PathBuf,
}

/// How an upgrade goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Started { pid: u32 },
    Done { pid: u32 },
    Failed(Refusal),
}

/// Why there is no successor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) summary: String,
    /// What the successor said about it, which is in the log already; may be empty.
    pub(super) words: String,
}

impl From<String> for Refusal {
    fn from(summary: String) -> Self {
        Self { summary, words: String::new() }
    }
}

pub(super) type Watcher = mpsc::UnboundedSender<Step>;

/// A successor that was started and has not served yet.
#[derive(Debug)]
pub(super) struct Upgrade {
    pid: u32,
    watcher: Option<Watcher>,
    outcome: JoinHandle<Result<(), Refusal>>,
}

impl Program {
    /// Of this process. Call it early: later the file may be another one.
    pub fn of_this_process() -> Self {
        let mut arguments = std::env::args_os();
        Self {
            name: arguments.next().unwrap_or_default(),
            arguments: arguments.collect(),
            file: std::env::current_exe().ok(),
            directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
        }
    }

    /// The file that the name leads to now: a new version may have taken its place.
    fn resolve(&self) -> PathBuf {
        let by_name = match self.name.to_str() {
            Some(name) if !name.contains('/') => search(name),
            _ => Some(self.directory.join(&self.name)).filter(|path| is_program(path)),
        };
        by_name.or_else(|| self.file.clone()).unwrap_or_else(|| PathBuf::from(&self.name))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.resolve());
        command.arg0(&self.name).args(&self.arguments).current_dir(&self.directory);
        // It has the sockets from us; the names of those of the service manager are still worth knowing.
        let [activated, _, _] = ACTIVATION_VARIABLES;
        command.env_remove(activated);
        // What was said to this process about the watchdog holds for the next one.
        let [_, _, watchdog] = SERVICE_MANAGER_VARIABLES;
        if std::env::var(watchdog).is_ok_and(|pid| pid == std::process::id().to_string()) {
            command.env_remove(watchdog);
        }
        command
    }
}

/// In the directories of `PATH`, as a shell does.
fn search(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| is_program(file))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

/// Why this process cannot be replaced at all.
pub(super) fn obstacle() -> Option<&'static str> {
    (std::process::id() == 1).then_some(
        "this is process 1 of a container, which ends with it: start a new container, or reload with HUP for new code",
    )
}

impl Upgrade {
    /// Starts the successor. Must be called on the main thread, whose end is the successor's until it serves.
    pub(super) fn begin(
        program: &Program,
        (clients, operators): (&Listeners, &Listeners),
        boot_timeout: Duration,
        watcher: Option<Watcher>,
    ) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let channel = tokio::net::UnixStream::from_std(ours)?;
        let mut command = program.command();
        let (value, descriptors) = handover::offer(&theirs, clients, operators)?;
        command.env(HANDOVER_VARIABLE, value);
        let file = PathBuf::from(command.get_program());
        let child = spawn_successor(command, &descriptors)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?;
        let pid = child.id().unwrap_or_default();
        tracing::info!("upgrade: {} starts as process {pid}", file.display());
        let outcome = tokio::spawn(follow(child, channel, boot_timeout + PREPARATION));
        let upgrade = Self { pid, watcher, outcome };
        upgrade.tell(Step::Started { pid });
        Ok(upgrade)
    }

    /// Waits until the successor serves; the result is its process, or why it does not. Cancel-safe.
    pub(super) async fn finished(&mut self) -> Result<u32, Refusal> {
        let outcome = (&mut self.outcome).await.unwrap_or_else(|error| Err(error.to_string().into()));
        outcome.map(|()| self.pid)
    }

    /// Ends the successor, because this process is to end. It may have begun to serve in this very moment.
    pub(super) async fn give_up(mut self) {
        if self.outcome.is_finished() && self.finished().await.is_err() {
            // It has ended already.
            return;
        }
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
            && let Err(error) = kill_process(pid, Signal::TERM)
        {
            tracing::debug!("the new process has ended already: {error}");
        }
    }

    pub(super) fn tell(&self, step: Step) {
        if let Some(watcher) = &self.watcher {
            // Whoever asked may have gone.
            let _ = watcher.send(step);
        }
    }
}

impl Drop for Upgrade {
    fn drop(&mut self) {
        // The channel ends, and with it a successor that does not serve.
        self.outcome.abort();
    }
}

/// Waits for the successor's word. One that will not serve is gone when this returns.
async fn follow(mut child: Child, mut channel: tokio::net::UnixStream, patience: Duration) -> Result<(), Refusal> {
    let mut text = Vec::new();
    let word = async {
        // One word, then the end.
        let _ = channel.read_to_end(&mut text).await;
        serde_json::from_slice::<Word>(&text).ok()
    };
    let words = match tokio::time::timeout(patience, word).await {
        Ok(Some(Word::Serves)) => return Ok(()),
        Ok(Some(Word::Failed(words))) => words,
        Ok(None) => String::new(),
        Err(_) => {
            let _ = child.kill().await;
            return Err(format!("the new program did not serve within {} s and was ended", patience.as_secs()).into());
        }
    };
    let status = if let Ok(Ok(status)) = tokio::time::timeout(LAST_MOMENT, child.wait()).await {
        status.to_string()
    } else {
        let _ = child.kill().await;
        "killed".to_owned()
    };
    Err(Refusal { summary: format!("the new program ended before it could serve ({status})"), words })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_by_its_name() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("monoceros");
        let program = |name: &str| Program {
            name: name.into(),
            file: Some("/as/it/was".into()),
            arguments: Vec::new(),
            directory: directory.path().to_owned(),
        };
        // It was removed: what it was at the start may still be there.
        assert_eq!(program("./monoceros").resolve(), Path::new("/as/it/was"));
        std::fs::write(&file, "")?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
        assert_eq!(program("./monoceros").resolve(), directory.path().join("./monoceros"));
        assert_eq!(program(&file.to_string_lossy()).resolve(), file);
        assert!(program("sh").resolve().ends_with("sh"));
        Ok(())
    }
}
