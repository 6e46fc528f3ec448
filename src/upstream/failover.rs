//! Pure: what becomes of a request when something went wrong. The one table, see docs/failover.md.

use super::error::{Cause, Reached};
use super::signs::Signs;
use std::time::Duration;

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
    /// How many tries of it came to nothing after the application was entered.
    pub entered_before: u32,
    /// How often it was handed to a worker that died without entering it.
    pub handed_before: u32,
    /// Since it arrived.
    pub age: Duration,
}

/// When a request that was entered is given to another worker. One that was not always is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How often (nginx: `proxy_next_upstream_tries`, less one).
    pub retries: u32,
    /// So long after its arrival no further try begins; zero is no limit (nginx: `proxy_next_upstream_timeout`).
    pub timeout: Duration,
    /// By what (nginx: `proxy_next_upstream`; `HAProxy`: `retry-on`).
    pub signs: Signs,
    /// After an answer that is a sign also when the request is not idempotent (nginx: `non_idempotent`).
    pub non_idempotent: bool,
    /// At most so many tries for each hundred requests, see [`super::budget`].
    pub budget: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self { retries: 1, timeout: Duration::ZERO, signs: Signs::default(), non_idempotent: false, budget: 20 }
    }
}

/// A request that was never entered is harmless, but a worker that dies on *decoding* it would take every other worker
/// with it: after this many hand-outs it is given up.
pub const HANDED_MAX: u32 = 16;

/// Decides. `reached` is how far the client has seen it get: an answer that is a sign, and of which nothing was sent,
/// leaves the request [`Reached::Entered`].
pub fn decide(cause: Cause, reached: Reached, request: RequestTraits, policy: &Policy) -> Decision {
    if reached == Reached::Answering {
        return Decision::Abort;
    }
    let may_retry = match (cause, reached) {
        (Cause::WorkerDied, Reached::Queued | Reached::Handed) => request.handed_before < HANDED_MAX,
        (_, Reached::Entered) => may_repeat(cause, request, policy),
        // Everything else is an answer of the server as a whole: another worker would only say the same again.
        _ => false,
    };
    if may_retry && request.is_replayable { Decision::Retry } else { Decision::Answer }
}

/// The application was entered, and may have done its work.
fn may_repeat(cause: Cause, request: RequestTraits, policy: &Policy) -> bool {
    // Only an answer tells that the application is not still at work.
    let is_opted_in = policy.non_idempotent && matches!(cause, Cause::Unwanted(_));
    policy.signs.include(cause)
        && (request.is_idempotent || is_opted_in)
        && request.entered_before < policy.retries
        && (policy.timeout.is_zero() || request.age < policy.timeout)
}

/// What the client is told. `earlier` is what it would have been told about the last try, if there was one after which
/// another worker was to be asked: when none can be had, "not executed" (503) would be wrong.
pub fn told(cause: Cause, earlier: Option<Cause>) -> Cause {
    match (cause, earlier) {
        (Cause::QueueTimeout | Cause::Unavailable | Cause::BootFailed { .. }, Some(earlier)) => earlier,
        (cause, _) => cause,
    }
}

/// Whether repeating a request with this method does no harm (RFC 9110 §9.2.2).
pub fn is_idempotent(method: &http::Method) -> bool {
    use http::Method;
    [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE].contains(method)
}

#[cfg(test)]
mod tests {
    use super::super::signs::Sign;
    use super::*;

    fn request(is_idempotent: bool) -> RequestTraits {
        let age = Duration::from_secs(5);
        RequestTraits { is_idempotent, is_replayable: true, entered_before: 0, handed_before: 0, age }
    }

    fn policy(signs: &[&str]) -> Policy {
        let signs = Signs::new(signs.iter().filter_map(|sign| Sign::parse(sign)).collect());
        Policy { signs, ..Policy::default() }
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
            assert_eq!(
                decide(cause, reached, request, &Policy::default()),
                expected,
                "{cause:?} {reached:?} {request:?}"
            );
        }
    }

    #[test]
    fn the_signs_decide_about_what_was_entered() {
        let all = [Cause::WorkerDied, Cause::Timeout, Cause::Raised, Cause::Incomplete, Cause::Unwanted(503)];
        let rows: [(&[&str], &[Cause]); 6] = [
            (&[], &[]),
            (&["died"], &[Cause::WorkerDied]),
            (&["timeout"], &[Cause::Timeout]),
            (&["error"], &[Cause::Raised, Cause::Incomplete]),
            (&["503"], &[Cause::Unwanted(503)]),
            (&["died", "timeout", "error", "5xx"], &all),
        ];
        for (signs, retried) in rows {
            for cause in all {
                let decide = |request, reached| decide(cause, reached, request, &policy(signs));
                let expected = if retried.contains(&cause) { Decision::Retry } else { Decision::Answer };
                assert_eq!(decide(request(true), Reached::Entered), expected, "{signs:?} {cause:?}");
                assert_eq!(decide(request(false), Reached::Entered), Decision::Answer, "{signs:?} {cause:?}");
                assert_eq!(decide(request(true), Reached::Answering), Decision::Abort, "{signs:?} {cause:?}");
            }
        }
    }

    #[test]
    fn only_an_answer_lets_a_post_be_repeated_and_only_if_that_is_wanted() {
        let wanted = Policy { non_idempotent: true, ..policy(&["died", "timeout", "error", "503"]) };
        for (cause, expected) in [
            (Cause::Unwanted(503), Decision::Retry),
            (Cause::WorkerDied, Decision::Answer),
            (Cause::Timeout, Decision::Answer),
            (Cause::Raised, Decision::Answer),
        ] {
            assert_eq!(decide(cause, Reached::Entered, request(false), &wanted), expected, "{cause:?}");
        }
    }

    #[test]
    fn no_try_begins_too_late() {
        for (timeout, expected) in
            [(0, Decision::Retry), (6, Decision::Retry), (5, Decision::Answer), (1, Decision::Answer)]
        {
            let policy = Policy { timeout: Duration::from_secs(timeout), ..Policy::default() };
            assert_eq!(decide(Cause::WorkerDied, Reached::Entered, request(true), &policy), expected, "{timeout} s");
            // What was not entered is harmless at any age.
            assert_eq!(decide(Cause::WorkerDied, Reached::Handed, request(true), &policy), Decision::Retry);
        }
    }

    #[test]
    fn not_executed_is_said_only_where_it_is_true() {
        assert_eq!(told(Cause::QueueTimeout, None), Cause::QueueTimeout);
        for earlier in [Cause::WorkerDied, Cause::Timeout, Cause::Unwanted(503)] {
            assert_eq!(told(Cause::QueueTimeout, Some(earlier)), earlier);
            assert_eq!(told(Cause::Unavailable, Some(earlier)), earlier);
            assert_eq!(told(Cause::Raised, Some(earlier)), Cause::Raised);
        }
    }

    #[test]
    fn no_retry_when_none_are_allowed() {
        let none = Policy { retries: 0, ..Policy::default() };
        assert_eq!(decide(Cause::WorkerDied, Reached::Entered, request(true), &none), Decision::Answer);
        assert_eq!(decide(Cause::WorkerDied, Reached::Handed, request(false), &none), Decision::Retry);
    }
}
