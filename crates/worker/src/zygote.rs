//! The zygote: a single-threaded process that forks workers when the supervisor says so, and reports their ends.
//!
//! It waits on its control socket and on one pidfd per worker, so it needs no SIGCHLD handler that an application could
//! replace, and it reaps only what it has forked. The end of the control socket ends all workers and then itself:
//! whoever forked them is gone, and no orphan may stay.

use crate::load::{self, Application};
use crate::log::complain;
use crate::worker::{self, Seat};
use crate::{forks, signals};
use monoceros_wire::zygote::{
    Command, EXIT_APP_LOAD, EXIT_LINK, Event, ExitStatus, WorkerSettings, receive_message, send_message,
};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Which process returned from [`run`].
pub(crate) enum Role {
    /// The zygote itself, at its end.
    Zygote { code: i32 },
    /// A forked child that has yet to become a worker.
    Worker(Box<Seat>),
}

/// A worker that was forked and not yet reaped.
struct Child {
    worker: u32,
    pid: Pid,
    /// Missing where the kernel has no pidfds; such children are looked at every [`REAP_INTERVAL`].
    pidfd: Option<OwnedFd>,
}

const REAP_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

struct Zygote {
    control: OwnedFd,
    settings: WorkerSettings,
    application: Option<Application>,
    children: Vec<Child>,
    /// The application's signal handlers, when it was preloaded.
    handlers: Py<PyDict>,
}

/// Greets, waits for the settings, preloads when asked to, and serves commands until the end.
pub(crate) fn run(py: Python<'_>, control: OwnedFd) -> PyResult<Role> {
    signals::prepare_zygote(py)?;
    crate::api::install(py)?;
    forks::watch(py)?;
    // Signals of the terminal go to its foreground group: the supervisor hears them and decides.
    let _ = rustix::process::setpgid(None, None);
    let _ = rustix::thread::set_name(c"monoceros: zyg");
    send_message(control.as_fd(), &started(py)?, &[])?;
    let Some(settings) = wait_for_settings(py, &control)? else { return Ok(Role::Zygote { code: EXIT_LINK }) };
    let application = if settings.preload {
        match load::load(py, &settings) {
            Ok(application) => Some(application),
            Err(failure) => {
                send_message(control.as_fd(), &Event::BootFailed { failure }, &[])?;
                return Ok(Role::Zygote { code: EXIT_APP_LOAD });
            }
        }
    } else {
        None
    };
    // A preloaded application may have asked the kernel to reap its children; ours must be waited for. Its handlers are
    // its workers' business.
    let signal = py.import("signal")?;
    signal.call_method1("signal", (signal.getattr("SIGCHLD")?, signal.getattr("SIG_DFL")?))?;
    let handlers = signals::prepare_zygote(py)?;
    worker::freeze(py)?;
    send_message(control.as_fd(), &Event::Loaded, &[])?;
    Ok(Zygote { control, settings, application, children: Vec::new(), handlers }.serve(py))
}

fn started(py: Python<'_>) -> PyResult<Event> {
    Ok(Event::Started {
        version: monoceros_wire::VERSION,
        pid: std::process::id(),
        python: Python::version_str().to_owned(),
        executable: py.import("sys")?.getattr("executable")?.extract::<Option<String>>()?.unwrap_or_default(),
    })
}

/// The settings, or `None` when the supervisor has gone or is of another version.
fn wait_for_settings(py: Python<'_>, control: &OwnedFd) -> PyResult<Option<WorkerSettings>> {
    match receive(py, control)? {
        Some((Command::Configure { version, settings }, _)) if version == monoceros_wire::VERSION => Ok(Some(settings)),
        Some((Command::Configure { version, .. }, _)) => {
            let ours = monoceros_wire::VERSION;
            complain(py, &format!("the supervisor speaks version {version} of the protocol, the extension {ours}"));
            Ok(None)
        }
        Some(_) => {
            complain(py, "the supervisor's first message is not the configuration");
            Ok(None)
        }
        None => Ok(None),
    }
}

/// The next command; `None` at the end of the socket.
fn receive(py: Python<'_>, control: &OwnedFd) -> PyResult<Option<(Command, Vec<OwnedFd>)>> {
    loop {
        match py.detach(|| receive_message::<Command>(control)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => py.check_signals()?,
            // The supervisor died with unread messages of ours in its buffer.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            other => return Ok(other?),
        }
    }
}

/// What a zygote does after one round.
enum Step {
    Continue,
    /// This is the child of a fork.
    Become(Box<Seat>),
    End,
}

impl Zygote {
    fn serve(mut self, py: Python<'_>) -> Role {
        loop {
            match self.step(py) {
                Ok(Step::Continue) => {}
                Ok(Step::Become(seat)) => return Role::Worker(seat),
                Ok(Step::End) => return self.end(0),
                Err(error) => {
                    error.display(py);
                    return self.end(1);
                }
            }
        }
    }

    /// Waits for something to happen and deals with it.
    fn step(&mut self, py: Python<'_>) -> PyResult<Step> {
        let has_command = self.wait(py)?;
        if !self.reap() {
            return Ok(Step::End);
        }
        if !has_command {
            return Ok(Step::Continue);
        }
        match receive(py, &self.control)? {
            Some((Command::Fork { worker }, descriptors)) => {
                return Ok(self.fork(py, worker, descriptors)?.map_or(Step::Continue, Step::Become));
            }
            Some((Command::Signal { worker, signal }, _)) => self.signal(py, worker, signal)?,
            Some((Command::Configure { .. }, _)) => complain(py, "configured twice; the first settings stay"),
            Some((Command::Exit, _)) | None => return Ok(Step::End),
        }
        Ok(Step::Continue)
    }

    /// Waits until there is a command (true) or a child may have ended.
    fn wait(&self, py: Python<'_>) -> PyResult<bool> {
        let pidfds = self.children.iter().filter_map(|child| child.pidfd.as_ref());
        let mut descriptors: Vec<PollFd<'_>> =
            std::iter::once(&self.control).chain(pidfds).map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        let timeout = self.children.iter().any(|child| child.pidfd.is_none()).then_some(&REAP_INTERVAL);
        match py.detach(|| rustix::event::poll(&mut descriptors, timeout)) {
            Ok(_) => Ok(!descriptors[0].revents().is_empty()),
            Err(Errno::INTR) => py.check_signals().map(|()| false),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    /// Reports every child that has ended. False when nobody listens any more.
    fn reap(&mut self) -> bool {
        let mut listening = true;
        let control = &self.control;
        self.children.retain(|child| {
            let Some(status) = ended(child.pid, WaitOptions::NOHANG) else { return true };
            let event = Event::Exited { worker: child.worker, pid: pid_number(child.pid), status };
            listening &= send_message(control.as_fd(), &event, &[]).is_ok();
            false
        });
        listening
    }

    /// Forks one worker. In the child, returns its seat.
    fn fork(&mut self, py: Python<'_>, worker: u32, descriptors: Vec<OwnedFd>) -> PyResult<Option<Box<Seat>>> {
        let Ok([socket, page, stdout, stderr, stacks]) = <[OwnedFd; 5]>::try_from(descriptors) else {
            let message = "a fork needs five descriptors: link, page, stdout, stderr, stacks".to_owned();
            send_message(self.control.as_fd(), &Event::ForkFailed { worker, message }, &[])?;
            return Ok(None);
        };
        // Text that is still buffered would be written by both processes.
        worker::flush_streams(py);
        let zygote = rustix::process::getpid();
        forks::expect_worker(true);
        let pid = py.import("os")?.call_method0("fork").and_then(|pid| pid.extract::<i32>());
        forks::expect_worker(false);
        let pid = match pid {
            Ok(pid) => pid,
            Err(error) => {
                let event = Event::ForkFailed { worker, message: error.value(py).to_string() };
                send_message(self.control.as_fd(), &event, &[])?;
                return Ok(None);
            }
        };
        let Some(pid) = Pid::from_raw(pid) else {
            return Ok(Some(Box::new(Seat {
                worker,
                zygote,
                socket,
                page,
                stdout,
                stderr,
                stacks,
                settings: self.settings.clone(),
                application: self.application.take(),
                handlers: self.handlers.clone_ref(py),
            })));
        };
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok();
        self.children.push(Child { worker, pid, pidfd });
        send_message(self.control.as_fd(), &Event::Forked { worker, pid: pid_number(pid) }, &[])?;
        Ok(None)
    }

    /// Sends a signal to a worker. It is our unreaped child, so its id cannot belong to anybody else.
    fn signal(&self, py: Python<'_>, worker: u32, signal: i32) -> PyResult<()> {
        if let Some(child) = self.children.iter().find(|child| child.worker == worker) {
            // By way of Python, which knows real-time signals, too.
            py.import("os")?.call_method1("kill", (pid_number(child.pid), signal))?;
        }
        Ok(())
    }

    /// Ends all workers at once.
    fn end(self, code: i32) -> Role {
        for child in &self.children {
            let _ = rustix::process::kill_process(child.pid, Signal::KILL);
        }
        for child in &self.children {
            if let Some(status) = ended(child.pid, WaitOptions::empty()) {
                let event = Event::Exited { worker: child.worker, pid: pid_number(child.pid), status };
                let _ = send_message(self.control.as_fd(), &event, &[]);
            }
        }
        Role::Zygote { code }
    }
}

/// How this child of ours ended, or `None` while it runs.
fn ended(pid: Pid, options: WaitOptions) -> Option<ExitStatus> {
    loop {
        match rustix::process::waitpid(Some(pid), options) {
            Ok(None) => return None,
            Ok(Some((_, status))) => return exit_status(status),
            Err(Errno::INTR) => {}
            // Somebody in this process has waited for it already, so nobody knows how it ended.
            Err(_) => return Some(ExitStatus::Code(-1)),
        }
    }
}

fn exit_status(status: WaitStatus) -> Option<ExitStatus> {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(ExitStatus::Code(code)),
        (None, Some(signal)) => Some(ExitStatus::Signal(signal)),
        (None, None) => None,
    }
}

fn pid_number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}
