//! Which request an exchange is, and how it ends.

use super::failure::{report, stems_from_disconnect};
use super::server::Server;
use super::stream::Outcome;
use monoceros_wire::frame::StreamId;
use monoceros_wire::message::Abort;
use pyo3::prelude::*;

/// Which stream an exchange is, and whose.
pub(super) struct Identity {
    pub(super) server: Py<Server>,
    pub(super) place: Place,
    /// Method and path, for the log.
    pub(super) label: Box<str>,
}

/// Where a request is known: on the link, and in the page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) stream: StreamId,
    pub(super) cell: u32,
}

/// The last frame of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Done,
    Abort(Abort),
    /// The application has returned, but a part of its response still waits for credit. `Done` comes after it.
    Lingering,
}

impl Identity {
    /// Tells the log about an application that failed; `status` is that of its answer, if it has one.
    pub(super) fn report(
        &self,
        py: Python<'_>,
        outcome: &Outcome,
        ending: Ending,
        disconnected: bool,
        status: Option<u16>,
    ) {
        let label = &self.label;
        match (outcome, ending) {
            (Outcome::Cancelled, _) if self.server.get().has_to_end() => {}
            (Outcome::Raised(error), _) if disconnected && stems_from_disconnect(py, error) => {}
            (Outcome::Raised(error), Ending::Abort(_)) => {
                report(py, &format!("monoceros: the application raised an exception: {label}"), Some(error));
            }
            (Outcome::Raised(error), _) => {
                // Mostly the page of a framework's error handler, which raises the exception again for the log.
                let answer = match status {
                    _ if disconnected => "its client had gone".to_owned(),
                    Some(status) => format!("its answer was {status}"),
                    None => "its WebSocket was closed".to_owned(),
                };
                let line = format!("monoceros: the application raised an exception ({answer}): {label}");
                report(py, &line, Some(error));
            }
            (Outcome::Returned, Ending::Abort(_)) => {
                let line = format!("monoceros: the application returned without a complete response: {label}");
                report(py, &line, None);
            }
            (Outcome::Cancelled, Ending::Abort(_)) => {
                let line = format!("monoceros: the application's task was cancelled before its response: {label}");
                report(py, &line, None);
            }
            (Outcome::Returned | Outcome::Cancelled, _) => {}
        }
    }
}
