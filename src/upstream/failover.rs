//! Pure: what becomes of a request when something went wrong. The one table, see docs/failover.md.

use super::error::{Cause, Reached};

/// What to do with a request that has no answer yet, or only a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Give it to another worker.
    Retry,
    /// Tell the client what happened (502, 503, 504, 500).
    Answer,
    /// The head is out: cut the connection, so that nobody takes a part for the whole.
    Abort,
}

/// What matters about the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestTraits {
    /// The method is idempotent (RFC 9110 §9.2.2), or the client sent an `Idempotency-Key`.
    pub is_idempotent: bool,
    /// The whole request is still here. False once a piece of a streamed body was passed on.
    pub is_replayable: bool,
    /// How often it was entered by a worker that then died.
    pub entered_before: u32,
    /// How often it was handed to a worker that died without entering it.
    pub handed_before: u32,
}

/// A request that was never entered is harmless, but a worker that dies on *decoding* it would take every other worker
/// with it: after this many hand-outs it is given up.
pub const HANDED_MAX: u32 = 16;

/// Decides. `retries` is how often an *entered* request may be given to another worker.
pub fn decide(cause: Cause, reached: Reached, request: RequestTraits, retries: u32) -> Decision {
    if reached == Reached::Answering {
        return Decision::Abort;
    }
    let may_retry = match (cause, reached) {
        (Cause::WorkerDied, Reached::Queued | Reached::Handed) => request.handed_before < HANDED_MAX,
        (Cause::WorkerDied, Reached::Entered) => request.is_idempotent && request.entered_before < retries,
        // Everything else is an answer of the application, or of the server as a whole: another worker would only say
        // the same again.
        _ => false,
    };
    if may_retry && request.is_replayable { Decision::Retry } else { Decision::Answer }
}

/// What the client is told. A request that was in an application which died, and finds no other worker, may have taken
/// effect: "not executed" (503) would be wrong.
pub fn told(cause: Cause, entered_before: u32) -> Cause {
    match cause {
        Cause::QueueTimeout | Cause::Unavailable if entered_before > 0 => Cause::WorkerDied,
        other => other,
    }
}

/// Whether repeating a request with this method does no harm (RFC 9110 §9.2.2).
pub fn is_idempotent(method: &http::Method) -> bool {
    use http::Method;
    [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE].contains(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(is_idempotent: bool) -> RequestTraits {
        RequestTraits { is_idempotent, is_replayable: true, entered_before: 0, handed_before: 0 }
    }

    #[test]
    fn every_row_of_the_table() {
        use Decision::{Abort, Answer, Retry};
        let get = request(true);
        let post = request(false);
        let rows = [
            (Cause::WorkerDied, Reached::Queued, post, Retry),
            (Cause::WorkerDied, Reached::Handed, get, Retry),
            (Cause::WorkerDied, Reached::Handed, post, Retry),
            (Cause::WorkerDied, Reached::Handed, RequestTraits { handed_before: HANDED_MAX, ..post }, Answer),
            (Cause::WorkerDied, Reached::Handed, RequestTraits { is_replayable: false, ..post }, Answer),
            (Cause::WorkerDied, Reached::Entered, get, Retry),
            (Cause::WorkerDied, Reached::Entered, RequestTraits { entered_before: 1, ..get }, Answer),
            (Cause::WorkerDied, Reached::Entered, post, Answer),
            (Cause::WorkerDied, Reached::Answering, get, Abort),
            (Cause::Raised, Reached::Entered, get, Answer),
            (Cause::Raised, Reached::Answering, get, Abort),
            (Cause::Incomplete, Reached::Entered, get, Answer),
            (Cause::Incomplete, Reached::Answering, post, Abort),
            (Cause::QueueFull, Reached::Queued, get, Answer),
            (Cause::QueueTimeout, Reached::Queued, post, Answer),
            (Cause::Unavailable, Reached::Queued, get, Answer),
            (Cause::Timeout, Reached::Entered, get, Answer),
            (Cause::Timeout, Reached::Answering, get, Abort),
            (Cause::Unsupported, Reached::Handed, get, Answer),
        ];
        for (cause, reached, request, expected) in rows {
            assert_eq!(decide(cause, reached, request, 1), expected, "{cause:?} {reached:?} {request:?}");
        }
    }

    #[test]
    fn not_executed_is_said_only_where_it_is_true() {
        assert_eq!(told(Cause::QueueTimeout, 0), Cause::QueueTimeout);
        assert_eq!(told(Cause::QueueTimeout, 1), Cause::WorkerDied);
        assert_eq!(told(Cause::Unavailable, 1), Cause::WorkerDied);
        assert_eq!(told(Cause::Timeout, 1), Cause::Timeout);
    }

    #[test]
    fn no_retry_when_none_are_allowed() {
        assert_eq!(decide(Cause::WorkerDied, Reached::Entered, request(true), 0), Decision::Answer);
        assert_eq!(decide(Cause::WorkerDied, Reached::Handed, request(false), 0), Decision::Retry);
    }
}
