//! A worker from fork to exit: take the seat, greet, load, serve, clean up.

use crate::load::{self, Application};
use crate::{asgi, forks, signals, stacks, wsgi};
use monoceros_wire::frame::{Kind, LINK};
use monoceros_wire::message::{Hello, Interface};
use monoceros_wire::outbound::Outbound;
use monoceros_wire::page::Page;
use monoceros_wire::zygote::{EXIT_APP_LOAD, EXIT_LINK, WorkerSettings};
use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::process::{Pid, Signal};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// What a freshly forked worker was given.
pub(crate) struct Seat {
    pub(crate) worker: u32,
    pub(crate) zygote: Pid,
    pub(crate) socket: OwnedFd,
    pub(crate) page: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// Where it tells its Python stacks.
    pub(crate) stacks: OwnedFd,
    pub(crate) settings: WorkerSettings,
    /// Loaded by the zygote, when preloading.
    pub(crate) application: Option<Application>,
    /// The signal handlers that the application has installed while it was preloaded.
    pub(crate) handlers: Py<PyDict>,
}

/// Runs a worker and returns its exit code; whatever goes wrong has been said on standard error.
pub(crate) fn run(py: Python<'_>, seat: Seat) -> i32 {
    match prepare(py, &seat).and_then(|()| load_and_serve(py, seat)) {
        Ok(code) => code,
        Err(error) => exit_code(py, &error),
    }
}

/// Serves a loaded application until the link ends or is drained.
pub(crate) fn serve(
    py: Python<'_>,
    application: Application,
    socket: OwnedFd,
    page: Page,
    settings: &WorkerSettings,
) -> PyResult<i32> {
    forks::watch(py)?;
    forks::detach(py, &socket)?;
    let object = application.object.into_bound(py);
    match application.interface {
        Interface::Wsgi => wsgi::serve(py, object, socket, page, settings),
        Interface::Asgi => asgi::serve(py, object, socket, page, settings),
    }
}

/// Waits for the threads, unless there is no time for it, and runs the hooks that the interpreter would at its end.
pub(crate) fn run_exit_hooks(py: Python<'_>) {
    let hooks = [("threading", "_shutdown"), ("atexit", "_run_exitfuncs")];
    for (module, function) in &hooks[usize::from(signals::is_quitting())..] {
        if let Err(error) = py.import(module).and_then(|module| module.call_method0(function)) {
            error.display(py);
        }
    }
}

/// Ends the process without tearing the interpreter down: the process is gone in a moment, and daemon threads crash
/// interpreters that are being torn down. The zygote comes here directly: the hooks a preloaded application has
/// registered are its workers' business.
pub(crate) fn exit_now(py: Python<'_>, code: i32) -> PyResult<()> {
    flush_streams(py);
    py.import("os")?.call_method1("_exit", (code,))?;
    Ok(())
}

/// Writes out what Python has buffered. A broken pipe is nobody's problem here.
pub(crate) fn flush_streams(py: Python<'_>) {
    for name in ["stdout", "stderr"] {
        let _ = py.import("sys").and_then(|sys| sys.getattr(name)).and_then(|stream| stream.call_method0("flush"));
    }
}

fn prepare(py: Python<'_>, seat: &Seat) -> PyResult<()> {
    // The kernel's promise first; then the check for a zygote that died before the promise was made.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)?;
    if rustix::process::getppid() != Some(seat.zygote) {
        return Err(io::Error::other("the zygote is gone").into());
    }
    signals::prepare_worker(py, &seat.handlers)?;
    rustix::stdio::dup2_stdout(&seat.stdout).map_err(io::Error::from)?;
    rustix::stdio::dup2_stderr(&seat.stderr).map_err(io::Error::from)?;
    if let Ok(name) = CString::new(format!("monoceros: w{}", seat.worker)) {
        let _ = rustix::thread::set_name(&name);
    }
    // The log is read line by line, whatever kind of file stands behind it.
    let line_buffering = PyDict::new(py);
    line_buffering.set_item("line_buffering", true)?;
    for name in ["stdout", "stderr"] {
        let stream = py.import("sys")?.getattr(name)?;
        if stream.hasattr("reconfigure")? {
            stream.call_method("reconfigure", (), Some(&line_buffering))?;
        }
    }
    // A crash in native code then names the Python lines it came from, and so does a SIGABRT, with which the supervisor
    // ends a worker that hangs.
    py.import("faulthandler")?.call_method0("enable")?;
    Ok(())
}

fn load_and_serve(py: Python<'_>, seat: Seat) -> PyResult<i32> {
    let Seat { socket, page, stdout, stderr, stacks, settings, application, .. } = seat;
    drop((stdout, stderr));
    stacks::install(py, stacks)?;
    let page = Page::open(page.as_fd())?;
    if greet(&socket).is_err() {
        return Ok(EXIT_LINK);
    }
    let application = match application {
        Some(application) => application,
        None => match load::load(py, &settings) {
            Ok(application) => {
                freeze(py)?;
                application
            }
            Err(failure) => {
                let sent = send_now(&socket, Kind::BootFailed, &failure.encode());
                return Ok(if sent.is_ok() { EXIT_APP_LOAD } else { EXIT_LINK });
            }
        },
    };
    serve(py, application, socket, page, &settings)
}

/// Takes everything the import has made out of the garbage collector's rounds: it lives as long as the process. In a
/// preloading zygote this also keeps the memory shared, because a collection writes into every object it visits.
pub(crate) fn freeze(py: Python<'_>) -> PyResult<()> {
    let gc = py.import("gc")?;
    gc.call_method0("collect")?;
    gc.call_method0("freeze")?;
    Ok(())
}

/// Sends the first frame of a link.
pub(crate) fn greet(socket: &OwnedFd) -> io::Result<()> {
    let hello = Hello { version: monoceros_wire::VERSION, pid: std::process::id() };
    send_now(socket, Kind::Hello, &hello.encode())
}

/// Sends one frame of the link itself. Nothing else is under way, so blocking is fine.
fn send_now(socket: &OwnedFd, kind: Kind, payload: &[u8]) -> io::Result<()> {
    let mut outbound = Outbound::default();
    outbound.push(LINK, kind, 0, payload);
    loop {
        match outbound.send(socket.as_fd()) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The exit code of an exception that reached the top, as Python itself would choose it.
pub(crate) fn exit_code(py: Python<'_>, error: &PyErr) -> i32 {
    if error.is_instance_of::<PySystemExit>(py) {
        let code = error.value(py).getattr("code").ok();
        return code.map_or(1, |code| if code.is_none() { 0 } else { code.extract().unwrap_or(1) });
    }
    error.display(py);
    1
}
