//! A request of our own to one certain worker: does it answer, and how?
//!
//! It goes over the worker's link like any request, but it never waits in the queue, is never recalled nor repeated
//! elsewhere, and is in no access log.

use super::conversation::Conversation;
use super::error::{Cause, UpstreamError};
use super::exchange::{Event, Exchange, SpoolLimits};
use super::link::Link;
use super::pool::Pool;
use super::request::{EncodedRequest, RequestBody};
use super::sweep::Rhythm;
use bytes::Bytes;
use monoceros_wire::frame::StreamId;
use monoceros_wire::message::{BodySource, Field, HttpVersion, Protocol, RequestFacts, ResponseHead};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

const FIELDS: &[Field<'static>] = &[(b"host", b"localhost"), (b"user-agent", b"monoceros-probe"), (b"accept", b"*/*")];

/// What came of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The whole answer has come; this was its status.
    Answered(u16),
    /// The application failed to answer.
    Failed,
    /// Not answered within this time.
    Late { limit: Duration, inside: Option<StreamId> },
    /// The worker cannot be asked: it is about to end, or has ended.
    Gone,
}

impl Outcome {
    pub(super) fn is_good(self) -> bool {
        matches!(self, Self::Answered(200..=399))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(status) => write!(formatter, "was answered with status {status}"),
            Self::Failed => formatter.write_str("failed in the application"),
            Self::Late { limit, .. } => write!(formatter, "was not answered within {limit:.1?}"),
            Self::Gone => formatter.write_str("did not reach the worker"),
        }
    }
}

/// `GET` of a path, which may have a query.
fn request(target: &str) -> Option<EncodedRequest> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let facts = RequestFacts {
        protocol: Protocol::Http,
        version: HttpVersion::Http11,
        is_https: false,
        tls: None,
        body: BodySource::Empty,
        method: b"GET",
        path: path.as_bytes(),
        query: query.as_bytes(),
        client_address: b"127.0.0.1",
        client_port: 0,
        server_address: b"127.0.0.1",
        server_port: 80,
    };
    let fields = FIELDS.iter().copied();
    EncodedRequest::encode(&facts, fields, RequestBody::Inline(Bytes::new()), false).map(EncodedRequest::probing).ok()
}

impl Pool {
    /// Asks one worker, and waits for the end of its answer.
    pub(super) async fn probe(self: &Arc<Self>, link: &Arc<Link>, target: &str, limit: Duration) -> Outcome {
        let Some(conversation) = request(target).and_then(|request| self.send_to(link, request)) else {
            return Outcome::Gone;
        };
        // Dropping the conversation tells the worker that nobody waits.
        let outcome = tokio::time::timeout(limit, listen(&conversation)).await;
        outcome.unwrap_or_else(|_| Outcome::Late { limit, inside: conversation.inside() })
    }

    fn send_to(self: &Arc<Self>, link: &Arc<Link>, request: EncodedRequest) -> Option<Conversation> {
        let now = self.now();
        let settings = self.settings();
        let limits = SpoolLimits { memory: settings.response_memory, file: settings.response_file_max };
        let exchange = Arc::new(Exchange::new(request, now, limits, settings.timeouts.answer));
        let mut state = self.lock();
        let member = state.members.iter_mut().find(|member| Arc::ptr_eq(&member.link, link))?;
        if !member.link.hand(&exchange, now) {
            return None;
        }
        member.in_flight += 1;
        state.hasten(Rhythm::Quick);
        drop(state);
        Some(Conversation::new(exchange, Arc::clone(self)))
    }
}

async fn listen(conversation: &Conversation) -> Outcome {
    let mut status = None;
    loop {
        let is_end = match conversation.next().await {
            Event::Head { payload, is_end, .. } => {
                let Ok(head) = ResponseHead::decode(&payload) else { return Outcome::Failed };
                status = Some(head.status);
                is_end
            }
            Event::Data { is_end, .. } | Event::File { is_end, .. } => is_end,
            Event::Trailers(_) => true,
            Event::Hint(_) => false,
            Event::Failed(UpstreamError { cause: Cause::WorkerDied, .. }) => return Outcome::Gone,
            // Not what answers a GET.
            Event::Failed(_) | Event::Accepted(_) | Event::Message { .. } | Event::Close { .. } => {
                return Outcome::Failed;
            }
        };
        if let (Some(status), true) = (status, is_end) {
            return Outcome::Answered(status);
        }
    }
}
