//! Serves an ASGI 3 application: one event loop on the main thread, one task per request.
//!
//! # Layout
//! - `life`: startup, serving and shutdown, as the main task of the loop; `ending`: how the worker is told to end
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
mod ending;
mod event_loop;
mod events;
mod failure;
mod fields;
mod flow;
mod http;
mod identity;
mod life;
mod lifespan;
mod pace;
mod request_body;
mod response;
mod scope;
mod server;
mod stream;
mod websocket;

use crate::signals;
use event_loop::EventLoop;
use failure::report;
use life::Life;
use lifespan::Lifespan;
use monoceros_wire::frame::{Kind, LINK};
use monoceros_wire::message::BootFailure;
use monoceros_wire::outbound::Outbound;
use monoceros_wire::page::Page;
use monoceros_wire::zygote::{EXIT_APP_LOAD, LifespanChoice, LoopChoice, WorkerSettings};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict, PyList};
use server::Server;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// How long what is left running may clean up in a worker that has to end at once.
const LEFTOVERS_TIME: Duration = Duration::from_millis(200);

/// Serves `app` until the front drains the link; returns the worker's exit code. `Hello` was sent by the caller.
///
/// Must be called on the main thread, with no event loop running. SIGTERM drains, SIGQUIT ends at once, SIGINT does
/// nothing: the terminal sends it to the whole group, and the front decides what it means.
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
    let lifespan = match settings.lifespan {
        LifespanChoice::Off => None,
        choice => Some(Lifespan::begin(&app, &event_loop, choice, &state)?),
    };
    let life = Bound::new(py, Life::new(event_loop.clone(), server.clone_ref(py), lifespan))?;
    let code = Life::run(&life)?;
    let server = server.get();
    // A broken link takes nothing more.
    if server.exit().is_some() {
        return Ok(code);
    }
    server.flush_all()?;
    if code == 0 {
        close_loop(py, &event_loop, server)?;
    }
    Ok(code)
}

/// Cancels what the application has left running, lets it clean up, and closes the loop.
fn close_loop(py: Python<'_>, event_loop: &EventLoop, server: &Server) -> PyResult<()> {
    let asyncio = py.import("asyncio")?;
    let bound = event_loop.bind(py);
    let leftovers = PyList::empty(py);
    for task in asyncio.call_method1("all_tasks", (bound,))?.try_iter()? {
        let task = task?;
        task.call_method0("cancel")?;
        leftovers.append(task)?;
    }
    if !leftovers.is_empty() {
        let patience = server.has_to_end().then_some([("timeout", LEFTOVERS_TIME.as_secs_f64())]);
        let patience = patience.map(|timeout| timeout.into_py_dict(py)).transpose()?;
        let ended = asyncio.call_method("wait", (&leftovers,), patience.as_ref())?;
        event_loop.run_until_complete(py, &ended)?;
        for task in &leftovers {
            // A cancelled task has no exception to ask for; one that failed instead must not do so in silence.
            if task.call_method0("done")?.is_truthy()? && !task.call_method0("cancelled")?.is_truthy()? {
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

/// The loop's handlers replace whatever the import has left on SIGTERM. The others are only caught where the application
/// does not; SIGINT is caught and not ignored, because what is ignored stays so in programs the application starts.
fn handle_signals(py: Python<'_>, event_loop: &EventLoop, server: &Bound<'_, Server>) -> PyResult<()> {
    let signal = py.import("signal")?;
    for (name, handler) in [("SIGTERM", "terminate"), ("SIGQUIT", "quit"), ("SIGINT", "ignore")] {
        let number = signal.getattr(name)?;
        if name == "SIGTERM" || signals::is_ours_or_default(&number)? {
            event_loop.bind(py).call_method1("add_signal_handler", (&number, server.getattr(handler)?))?;
            signals::claim(&number)?;
        }
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
