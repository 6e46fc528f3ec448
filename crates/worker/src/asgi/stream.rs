//! The three kinds of conversations with an application, seen through the one door that tasks and awaitables need.

use super::http::HttpExchange;
use super::lifespan::Lifespan;
use super::websocket::WebSocketExchange;
use bytes::Bytes;
use pyo3::intern;
use pyo3::prelude::*;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a state that only ever changes under the interpreter's lock, in one thread; no Python code runs meanwhile.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a call of the application ended.
pub(super) enum Outcome {
    Returned,
    Raised(PyErr),
    Cancelled,
}

/// What an awaitable waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Receive,
    Send,
}

/// One conversation.
pub(super) enum Stream {
    Http(Py<HttpExchange>),
    WebSocket(Py<WebSocketExchange>),
    Lifespan(Py<Lifespan>),
}

impl Stream {
    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Http(exchange) => Self::Http(exchange.clone_ref(py)),
            Self::WebSocket(exchange) => Self::WebSocket(exchange.clone_ref(py)),
            Self::Lifespan(lifespan) => Self::Lifespan(lifespan.clone_ref(py)),
        }
    }

    /// The result of an operation, or `None` while it has to wait.
    pub(super) fn poll(&self, py: Python<'_>, operation: Operation) -> PyResult<Option<Py<PyAny>>> {
        match (self, operation) {
            (Self::Http(exchange), Operation::Receive) => exchange.get().poll_receive(py),
            (Self::Http(exchange), Operation::Send) => exchange.get().poll_send(py),
            (Self::WebSocket(exchange), Operation::Receive) => exchange.get().poll_receive(py),
            (Self::WebSocket(exchange), Operation::Send) => exchange.get().poll_send(py),
            (Self::Lifespan(lifespan), Operation::Receive) => lifespan.get().poll_receive(py),
            (Self::Lifespan(_), Operation::Send) => Ok(Some(py.None())),
        }
    }

    pub(super) fn waiters(&self) -> &Waiters {
        match self {
            Self::Http(exchange) => exchange.get().waiters(),
            Self::WebSocket(exchange) => exchange.get().waiters(),
            Self::Lifespan(lifespan) => lifespan.get().waiters(),
        }
    }

    pub(super) fn create_future(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Http(exchange) => exchange.get().server().event_loop().create_future(py),
            Self::WebSocket(exchange) => exchange.get().server().event_loop().create_future(py),
            Self::Lifespan(lifespan) => lifespan.get().event_loop().create_future(py),
        }
    }

    /// Calls the application. `None`: the front has taken the request back.
    pub(super) fn enter<'py>(&self, py: Python<'py>, request: &Bytes) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self {
            Self::Http(exchange) => exchange.get().enter(exchange.bind(py), request),
            Self::WebSocket(exchange) => exchange.get().enter(exchange.bind(py), request),
            Self::Lifespan(_) => Ok(None),
        }
    }

    /// The application's callable has ended.
    pub(super) fn returned(&self, py: Python<'_>, outcome: &Outcome) {
        match self {
            Self::Http(exchange) => exchange.get().returned(py, outcome),
            Self::WebSocket(exchange) => exchange.get().returned(py, outcome),
            Self::Lifespan(lifespan) => lifespan.get().returned(py, outcome),
        }
    }
}

/// Futures that wake whoever waits in `receive` or `send`. They carry no value: the woken looks again, so that a
/// cancelled wait loses nothing.
#[derive(Default)]
pub(super) struct Waiters {
    receive: Mutex<Vec<Py<PyAny>>>,
    send: Mutex<Vec<Py<PyAny>>>,
}

impl Waiters {
    fn of(&self, operation: Operation) -> MutexGuard<'_, Vec<Py<PyAny>>> {
        lock(match operation {
            Operation::Receive => &self.receive,
            Operation::Send => &self.send,
        })
    }

    pub(super) fn add(&self, operation: Operation, future: Py<PyAny>) {
        self.of(operation).push(future);
    }

    pub(super) fn remove(&self, operation: Operation, future: &Py<PyAny>) {
        self.of(operation).retain(|other| !other.is(future));
    }

    pub(super) fn wake(&self, py: Python<'_>, operation: Operation) {
        let woken = std::mem::take(&mut *self.of(operation));
        for future in woken {
            let future = future.bind(py);
            let pending = future.call_method0(intern!(py, "done")).and_then(|done| Ok(!done.is_truthy()?));
            if pending.unwrap_or(false)
                && let Err(error) = future.call_method1(intern!(py, "set_result"), (py.None(),))
            {
                error.write_unraisable(py, Some(future));
            }
        }
    }
}
