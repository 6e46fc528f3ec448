//! Serves an ASGI 3 application: one event loop on the main thread, one task per request.
//!
//! # Layout
//! - [`serve`]: a worker's life: startup, serving, draining, shutdown
//! - `server`: the link: frames in, frames out, which requests run; `dispatch`: what each frame causes; `identity`:
//!   which request it is, and how it ends
//! - `http`, `websocket`, `lifespan`: `receive` and `send` of the three kinds of conversations; `stream` is what they
//!   have in common
//! - `request_body`, `response`, `flow`: what is received and sent, in which order, within which credit
//! - `call`, `awaitable`: coroutines without a Python frame: the application's call, the results of `receive`, `send`
//! - `pace`: when a finished answer may wait for the next one
//! - `scope`, `events`, `fields`: from and to Python's dictionaries
//! - `failure`: what the log is told
//!
//! # The last frame of a stream
//! `Done` or `Abort`, never both: `Abort` where the response is missing or incomplete and the client still waits, `Done`
//! in every other case (also where the application failed after its response, or after the client had gone).

mod awaitable;
mod call;
mod dispatch;
mod event_loop;
mod events;
mod failure;
mod fields;
mod flow;
mod http;
mod identity;
mod lifespan;
mod pace;
mod request_body;
mod response;
mod scope;
mod server;
mod stream;
mod websocket;

use event_loop::EventLoop;
use failure::report;
use lifespan::{Lifespan, Startup};
use monoceros_wire::frame::{Kind, LINK};
use monoceros_wire::message::BootFailure;
use monoceros_wire::outbound::Outbound;
use monoceros_wire::page::Page;
use monoceros_wire::zygote::{EXIT_APP_LOAD, LifespanChoice, LoopChoice, WorkerSettings};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use server::Server;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Serves `app` until the front drains the link; returns the worker's exit code. `Hello` was sent by the caller.
///
/// Must be called on the main thread, with no event loop running. SIGTERM drains, SIGINT does nothing: the
/// terminal sends it to the whole group, and the front decides what it means.
#[expect(clippy::needless_pass_by_value, reason = "the worker owns its application until it exits")]
pub fn serve(
    py: Python<'_>,
    app: Bound<'_, PyAny>,
    socket: OwnedFd,
    page: Page,
    settings: &WorkerSettings,
) -> PyResult<i32> {
    let event_loop = match EventLoop::new(py, settings.event_loop) {
        Ok(event_loop) => Arc::new(event_loop),
        Err(error) => return refuse_loop(&socket, settings.event_loop, &error),
    };
    let state = PyDict::new(py);
    let server = Server::open(&app, event_loop.clone(), socket, page, settings, state.clone().unbind())?;
    handle_signals(py, &event_loop, server.bind(py))?;
    let server = server.get();
    let lifespan = match settings.lifespan {
        LifespanChoice::Off => None,
        choice => Some(Lifespan::begin(&app, &event_loop, choice, &state)?),
    };
    if let Some(lifespan) = &lifespan
        && let Some(failure) = start_up(py, &event_loop, server, lifespan.get())?
    {
        server.announce_failure(&failure);
        server.flush_all()?;
        return Ok(EXIT_APP_LOAD);
    }
    if !server.is_draining() && server.exit().is_none() {
        server.announce(py);
        while server.exit().is_none() && !server.is_drained() {
            event_loop.run_forever(py)?;
        }
    }
    if let Some(code) = server.exit() {
        return Ok(code);
    }
    if let Some(lifespan) = &lifespan {
        shut_down(py, &event_loop, server, lifespan.get())?;
    }
    if let Some(code) = server.exit() {
        return Ok(code);
    }
    server.flush_all()?;
    close_loop(py, &event_loop)?;
    Ok(0)
}

/// Runs the loop until startup is over. Only a failure is returned; a drain meanwhile ends the wait.
fn start_up(
    py: Python<'_>,
    event_loop: &EventLoop,
    server: &Server,
    lifespan: &Lifespan,
) -> PyResult<Option<BootFailure>> {
    while lifespan.is_starting() && server.exit().is_none() && !server.is_draining() {
        event_loop.run_forever(py)?;
    }
    Ok(match lifespan.startup() {
        Startup::Failed(failure) => Some(failure),
        Startup::Pending | Startup::Done => None,
    })
}

fn shut_down(py: Python<'_>, event_loop: &EventLoop, server: &Server, lifespan: &Lifespan) -> PyResult<()> {
    if lifespan.ask_shutdown(py) {
        while lifespan.is_stopping() && server.exit().is_none() {
            event_loop.run_forever(py)?;
        }
    }
    Ok(())
}

/// Cancels what the application has left running, lets it clean up, and closes the loop.
fn close_loop(py: Python<'_>, event_loop: &EventLoop) -> PyResult<()> {
    event_loop.begin_close();
    let asyncio = py.import("asyncio")?;
    let bound = event_loop.bind(py);
    let leftovers = PyList::empty(py);
    for task in asyncio.call_method1("all_tasks", (bound,))?.try_iter()? {
        let task = task?;
        task.call_method0("cancel")?;
        leftovers.append(task)?;
    }
    if !leftovers.is_empty() {
        let ended = asyncio.call_method1("wait", (&leftovers,))?;
        event_loop.run_until_complete(py, &ended)?;
        for task in &leftovers {
            // A cancelled task has no exception to ask for; one that failed instead must not do so in silence.
            if !task.call_method0("cancelled")?.is_truthy()? {
                let error = task.call_method0("exception")?;
                if !error.is_none() {
                    report(py, "monoceros: a task failed during shutdown", Some(&PyErr::from_value(error)));
                }
            }
        }
    }
    event_loop.run_until_complete(py, &bound.call_method0("shutdown_asyncgens")?)?;
    bound.call_method0("close").map(drop)
}

/// The loop's handlers replace whatever the import has left on SIGTERM. SIGINT is only caught where Python would raise
/// `KeyboardInterrupt`; caught and not ignored, because what is ignored stays so in programs the application starts.
fn handle_signals(py: Python<'_>, event_loop: &EventLoop, server: &Bound<'_, Server>) -> PyResult<()> {
    let signal = py.import("signal")?;
    let event_loop = event_loop.bind(py);
    event_loop.call_method1("add_signal_handler", (signal.getattr("SIGTERM")?, server.getattr("terminate")?))?;
    let interrupt = signal.getattr("SIGINT")?;
    let current = signal.call_method1("getsignal", (&interrupt,))?;
    if current.is(signal.getattr("default_int_handler")?) || current.eq(signal.getattr("SIG_DFL")?)? {
        event_loop.call_method1("add_signal_handler", (interrupt, server.getattr("ignore")?))?;
    }
    Ok(())
}

/// The loop that was asked for cannot be had.
fn refuse_loop(socket: &OwnedFd, choice: LoopChoice, error: &PyErr) -> PyResult<i32> {
    let hint = match choice {
        LoopChoice::Uvloop => "pip install uvloop, or set the event loop to \"asyncio\"",
        LoopChoice::Auto | LoopChoice::Asyncio => "",
    };
    let failure = BootFailure {
        stage: "interface".to_owned(),
        message: format!("the event loop could not be made: {error}"),
        hint: hint.to_owned(),
        traceback: String::new(),
    };
    let mut outbound = Outbound::default();
    outbound.push(LINK, Kind::BootFailed, 0, &failure.encode());
    while !outbound.send(socket.as_fd())? {}
    Ok(EXIT_APP_LOAD)
}
