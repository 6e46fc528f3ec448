//! One zygote: starting it, talking to it, noticing its end.

use super::Settings;
use super::extension::EXTENSION;
use super::state::GenerationNumber;
use crate::sys::socket::{ACTIVATION_VARIABLES, HANDOVER_VARIABLE};
use crate::sys::spawn::prepare_child;
use monoceros_wire::sys::{packet_pair, set_nonblocking};
use monoceros_wire::zygote::{self, CONTROL_DESCRIPTOR_VARIABLE, Command as Order};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::sync::{mpsc, oneshot};

/// The variable with the number of the memory file that holds the worker extension.
const EXTENSION_DESCRIPTOR_VARIABLE: &str = "MONOCEROS_EXTENSION_FD";

/// How a service manager says where it listens and how often it wants to hear of us (`sd_notify(3)`). For us alone: what
/// a child says in our place would be taken for our word.
pub const SERVICE_MANAGER_VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// Run by the interpreter; loads the extension and gives it control.
const BOOT_SCRIPT: &str = include_str!("../../crates/worker/src/boot.py");

/// For a zygote that was told to end; a hanging import cannot hear it.
const END_GRACE: Duration = Duration::from_secs(1);

/// What is heard of a zygote.
#[derive(Debug)]
pub(super) enum News {
    Said(zygote::Event),
    /// The process is gone, in words; nothing follows.
    Ended(String),
}

/// A running zygote.
#[derive(Debug)]
pub(super) struct Zygote {
    orders: Orders,
    id: u32,
    end: Option<oneshot::Sender<()>>,
}

/// The way to a zygote.
#[derive(Debug, Clone)]
pub(super) struct Orders(Arc<AsyncFd<OwnedFd>>);

impl Orders {
    /// See [`Zygote::send`].
    pub(super) fn send(&self, order: &Order, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        zygote::send_message(self.0.get_ref().as_fd(), order, descriptors)
    }
}

/// Output of a zygote, before it forks.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) stdout: Option<ChildStdout>,
    pub(super) stderr: Option<ChildStderr>,
}

impl Zygote {
    /// Starts the interpreter and tells it about the application. What it says, and that it has ended, goes to `news`.
    /// Must be called on the main thread, which outlives every zygote.
    pub(super) fn start(
        python: &Path,
        settings: &Settings,
        generation: GenerationNumber,
        news: mpsc::UnboundedSender<(GenerationNumber, News)>,
    ) -> io::Result<(Self, Output)> {
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
        for variable in SERVICE_MANAGER_VARIABLES.into_iter().chain(ACTIVATION_VARIABLES).chain([HANDOVER_VARIABLE]) {
            command.env_remove(variable);
        }
        prepare_child(&mut command, vec![Arc::clone(&theirs), extension]);
        let mut command = tokio::process::Command::from(command);
        let mut child = command.kill_on_drop(true).spawn()?;
        drop(theirs);
        let output = Output { stdout: child.stdout.take(), stderr: child.stderr.take() };
        set_nonblocking(&ours, true)?;
        let control = Arc::new(crate::sys::readiness::watch(ours)?);
        let (end, ending) = oneshot::channel();
        let id = child.id().unwrap_or_default();
        let zygote = Self { orders: Orders(Arc::clone(&control)), id, end: Some(end) };
        zygote.send(&Order::Configure { version: monoceros_wire::VERSION, settings: settings.app.clone() }, &[])?;
        tokio::spawn(follow(control, child, ending, move |told| {
            // Nobody listens any more only when the program ends.
            let _ = news.send((generation, told));
        }));
        Ok((zygote, output))
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Sends an order. The socket holds many of them; one that does not fit means that the zygote hangs.
    pub(super) fn send(&self, order: &Order, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.orders.send(order, descriptors)
    }

    /// The way to it, for others.
    pub(super) fn orders(&self) -> Orders {
        self.orders.clone()
    }

    /// Ends it, and with it its workers: by word, and soon after by force.
    pub(super) fn end(&mut self) {
        if let Some(end) = self.end.take() {
            let _ = self.send(&Order::Exit, &[]);
            // Gone already, if nobody receives.
            let _ = end.send(());
        }
    }
}

/// Passes on what a zygote says, until its process has ended. Its socket alone does not tell: a process that the
/// application has forked may hold a copy.
async fn follow(control: Arc<AsyncFd<OwnedFd>>, mut child: Child, ending: oneshot::Receiver<()>, tell: impl Fn(News)) {
    let mut is_open = true;
    let deadline = async {
        // Dropped without a word: nobody is interested any more.
        if ending.await.is_ok() {
            tokio::time::sleep(END_GRACE).await;
        }
    };
    tokio::pin!(deadline);
    let mut is_killed = false;
    let status = loop {
        tokio::select! {
            biased;
            news = next(&control), if is_open => match news {
                Ok(Some(news)) => tell(News::Said(news)),
                _ => is_open = false,
            },
            status = child.wait() => break status,
            () = &mut deadline, if !is_killed => {
                is_killed = true;
                // It may have ended meanwhile.
                let _ = child.start_kill();
            }
        }
    };
    // The select prefers what was said, but readiness may lag behind the exit.
    while let Ok(Some((news, _))) = zygote::receive_message(control.get_ref()) {
        tell(News::Said(news));
    }
    tell(News::Ended(match status {
        Ok(status) => describe(status),
        Err(error) => format!("ended ({error})"),
    }));
}

/// The next message; `None` when the zygote has closed its end. Cancel-safe.
async fn next(control: &AsyncFd<OwnedFd>) -> io::Result<Option<zygote::Event>> {
    loop {
        let mut guard = control.readable().await?;
        match zygote::receive_message(control.get_ref()) {
            Ok(message) => return Ok(message.map(|(news, _)| news)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// An exit status in words.
pub(super) fn describe(status: ExitStatus) -> String {
    use monoceros_wire::zygote::ExitStatus as Status;
    let status = status.code().map(Status::Code).or(status.signal().map(Status::Signal));
    status.map_or_else(|| "ended".to_owned(), |status| super::state::describe(status, false))
}

/// The extension as a file without a name, which the interpreter loads through its descriptor: nothing has to be
/// installed or unpacked.
fn extension_file() -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("monoceros_worker.so", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(file);
    file.write_all(EXTENSION)?;
    Ok(file.into())
}
