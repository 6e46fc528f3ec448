//! Serves a WSGI application (PEP 3333) on a link.
//!
//! Each thread takes a request, builds its environ, calls the application and sends what it returns; nothing runs
//! beside these threads. Every finished answer leaves before the next request is entered.

mod environ;
mod exchange;
mod file_wrapper;
mod head;
mod input;
mod respond;

pub(crate) use file_wrapper::FileWrapper;

use crate::link::{Fault, Halt, Link, Next};
use crate::log::complain;
use crate::worker::{exit_code, exit_now};
use crate::{forks, signals, stacks};
use environ::Environs;
use exchange::{Exchange, Failure};
use monoceros_wire::frame::{Frame, Kind, LINK, StreamId};
use monoceros_wire::message::{Abort, BodySource, Interface, Protocol, Ready, Request};
use monoceros_wire::page::Page;
use monoceros_wire::zygote::{EXIT_LINK, WorkerSettings};
use pyo3::exceptions::{PyBrokenPipeError, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyList, PyTuple};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

/// Serves `app` until the link ends or is drained, and returns the exit code of the process.
pub(crate) fn serve(
    py: Python<'_>,
    app: Bound<'_, PyAny>,
    socket: OwnedFd,
    page: Page,
    settings: &WorkerSettings,
) -> PyResult<i32> {
    let app = app.unbind();
    let page = Arc::new(page);
    stacks::begin(&page, None);
    let link = Arc::new(Link::new(socket, page)?);
    let threads = settings.threads.clamp(1, monoceros_wire::CELLS_MAX as u32);
    let mut server = Server::new(py, &app, &link, settings)?;
    for number in 2..=threads {
        start_thread(Server::new(py, &app, &link, settings)?, py, number)?;
    }
    link.queue(|out| out.push(LINK, Kind::Ready, 0, &Ready { interface: Interface::Wsgi, slots: threads }.encode()));
    let code = match link.flush(py) {
        Ok(()) => server.run(py)?,
        Err(_) => 0,
    };
    Ok(match link.wait_until_idle(py)? {
        None => code,
        Some(Fault::Closed) => EXIT_LINK,
        Some(Fault::Protocol(error)) => {
            complain(py, &format!("the front does not speak this protocol: {error}"));
            EXIT_LINK
        }
    })
}

/// A daemon thread: what it runs when the process ends has nobody waiting for it.
fn start_thread(server: Server, py: Python<'_>, number: u32) -> PyResult<()> {
    let server = Mutex::new(server);
    let run = PyCFunction::new_closure(py, None, None, move |arguments, _| {
        let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
        server.run(arguments.py()).map(|_| ())
    })?;
    let arguments = PyDict::new(py);
    arguments.set_item("target", run)?;
    arguments.set_item("name", format!("monoceros-{number}"))?;
    arguments.set_item("daemon", true)?;
    py.import("threading")?.getattr("Thread")?.call((), Some(&arguments))?.call_method0("start")?;
    Ok(())
}

/// What one thread needs to serve.
struct Server {
    app: Py<PyAny>,
    link: Arc<Link>,
    environs: Environs,
}

/// How a thread goes on after a request.
enum After {
    Next,
    /// The application asked the process to exit.
    Exit(i32),
}

impl Server {
    fn new(py: Python<'_>, app: &Py<PyAny>, link: &Arc<Link>, settings: &WorkerSettings) -> PyResult<Self> {
        let environs = Environs::new(py, settings)?;
        Ok(Self { app: app.clone_ref(py), link: Arc::clone(link), environs })
    }

    /// Serves requests until there are no more, and returns the exit code.
    fn run(&mut self, py: Python<'_>) -> PyResult<i32> {
        let thread = crate::sys::thread_ident(py)?;
        let link = Arc::clone(&self.link);
        loop {
            let Next::Request(frame) = link.next(py)? else { return Ok(0) };
            let stream = frame.stream;
            let after = self.serve_one(py, frame, thread);
            link.finish(stream);
            match after {
                Ok(After::Next) => {}
                Ok(After::Exit(code)) => {
                    link.stop();
                    return Ok(code);
                }
                Err(error) => {
                    // Ours, not the application's: the request gets an answer, and the log the reason.
                    complain(py, "the worker could not serve a request");
                    error.display(py);
                    self.abort(py, stream, Abort::Raised);
                }
            }
        }
    }

    /// Serves one request from its frame to the end of its response.
    fn serve_one(&mut self, py: Python<'_>, mut frame: Frame, thread: u64) -> PyResult<After> {
        let (stream, file) = (frame.stream, frame.descriptor.take());
        let request = match Request::decode(&frame.payload) {
            Ok(request) => request,
            Err(error) => {
                self.link.fail(error);
                return Ok(After::Next);
            }
        };
        if request.facts.protocol == Protocol::WebSocket || request.facts.body == BodySource::Stream {
            self.abort(py, stream, Abort::Unsupported);
            return Ok(After::Next);
        }
        let environ = self.environs.build(py, &request, file)?;
        let is_head = request.facts.method == b"HEAD";
        let exchange = Bound::new(py, Exchange::new(Arc::clone(&self.link), stream, request.cell, is_head))?;
        environ.set_item(intern!(py, "wsgi.early_hints"), exchange.getattr(intern!(py, "early_hints"))?)?;
        let now = monoceros_wire::sys::monotonic_now();
        if !self.link.page.enter(request.cell, stream, now, thread) {
            return Ok(After::Next);
        }
        exchange.borrow_mut().set_entered_at(now);
        let result = self.call(py, &environ, &exchange);
        if let Ok(mut exchange) = exchange.try_borrow_mut() {
            exchange.refuse_hints();
        }
        if forks::is_child() {
            // The application forked and let both processes return. This one's work ends here.
            exit_now(py, 0)?;
        }
        let after = match result {
            Ok(()) => After::Next,
            Err(failure) => self.fail(py, &request, &exchange, failure),
        };
        self.link.page.finish(request.cell, stream);
        stacks::forget_asked(thread);
        Ok(after)
    }

    /// Calls the application, sends what it returns, and closes it whatever happened.
    fn call(&self, py: Python<'_>, environ: &Bound<'_, PyDict>, exchange: &Bound<'_, Exchange>) -> Result<(), Failure> {
        let body = self.app.bind(py).call1((environ, exchange))?;
        let sent = respond::respond(exchange, &body);
        match (sent, close(&body)) {
            (Ok(()), closed) => Ok(closed?),
            (Err(failure), Ok(())) => Err(failure),
            (Err(failure), Err(error)) => {
                complain(py, "the application's close() failed, too");
                error.display(py);
                Err(failure)
            }
        }
    }

    /// Tells the log what went wrong, and the front where the response cannot be completed.
    fn fail(&self, py: Python<'_>, request: &Request<'_>, exchange: &Bound<'_, Exchange>, failure: Failure) -> After {
        let line = || format!("{} {}", request.facts.method.escape_ascii(), request.facts.path.escape_ascii());
        let (is_ended, is_cancelled) = {
            let exchange = exchange.borrow();
            (exchange.is_ended(), exchange.is_cancelled())
        };
        let abort = match &failure {
            // Nobody reads it, but the front must know that this thread is free again.
            Failure::Cancelled => Abort::Incomplete,
            Failure::Incomplete(message) => {
                complain(py, &format!("{message}: {}", line()));
                Abort::Incomplete
            }
            Failure::Raised(error) if is_cancelled && error.is_instance_of::<PyBrokenPipeError>(py) => {
                Abort::Incomplete
            }
            // The log has its stack already.
            Failure::Raised(error) if error.is_instance_of::<stacks::DeadlineExceeded>(py) => Abort::Incomplete,
            Failure::Raised(error) if signals::is_quitting() && error.is_instance_of::<PySystemExit>(py) => {
                complain(py, &format!("interrupted, because the worker has to end: {}", line()));
                Abort::Raised
            }
            Failure::Raised(error) => {
                complain(py, &format!("the application failed: {}", line()));
                error.display(py);
                Abort::Raised
            }
        };
        if !is_ended {
            self.abort(py, exchange.borrow().stream(), abort);
        }
        match failure {
            Failure::Raised(error) if error.is_instance_of::<PySystemExit>(py) => After::Exit(exit_code(py, &error)),
            _ => After::Next,
        }
    }

    fn abort(&self, py: Python<'_>, stream: StreamId, reason: Abort) {
        self.link.queue(|out| out.push(stream, Kind::Abort, 0, &[reason as u8]));
        if let Err(Halt::Raised(error)) = self.link.flush(py) {
            error.display(py);
        }
    }
}

/// Calls `close()` where the iterable has one.
fn close(body: &Bound<'_, PyAny>) -> PyResult<()> {
    if body.is_exact_instance_of::<PyList>() || body.is_exact_instance_of::<PyTuple>() {
        return Ok(());
    }
    match body.getattr_opt(intern!(body.py(), "close"))? {
        Some(close) => close.call0().map(|_| ()),
        None => Ok(()),
    }
}
