//! Informational responses of one stream: 100 (Continue) and 103 (Early Hints).

use super::piece::Piece;
use futures_util::task::AtomicWaker;
use h2::server::SendResponse;
use http::header::EXPECT;
use http::{HeaderMap, Response, StatusCode, request};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Context;

/// Bytes of hints per request. h2 keeps them until the client takes them, without flow control, so that what is beyond
/// is left out.
const HINT_BYTES: usize = 64 << 10;

/// Joins whoever has something to say before the answer with the task of the stream, which says it.
#[derive(Debug, Default)]
pub(in crate::front) struct Interim {
    /// The client waits for 100 (Continue) with its body.
    expects: AtomicBool,
    has_news: AtomicBool,
    waiting: Mutex<Waiting>,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Waiting {
    responses: VecDeque<Response<()>>,
    hint_bytes: usize,
}

impl Interim {
    pub(super) fn new(request: &request::Parts) -> Self {
        let expects = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        Self { expects: request.headers.get(EXPECT).is_some_and(expects).into(), ..Self::default() }
    }

    /// The body is wanted, and nothing of it is there yet.
    pub(in crate::front) fn wants_body(&self) {
        if self.expects.load(Ordering::Relaxed) && self.expects.swap(false, Ordering::Relaxed) {
            self.say(StatusCode::CONTINUE, HeaderMap::new(), 0);
        }
    }

    pub(in crate::front) fn hint(&self, fields: HeaderMap) {
        let bytes = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        self.say(StatusCode::EARLY_HINTS, fields, bytes);
    }

    fn say(&self, status: StatusCode, fields: HeaderMap, hint_bytes: usize) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = fields;
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.hint_bytes + hint_bytes > HINT_BYTES {
                return;
            }
            waiting.hint_bytes += hint_bytes;
            waiting.responses.push_back(response);
        }
        self.has_news.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Says what there is to say, and wakes the stream's task when there is more.
    pub(super) fn send(&self, respond: &mut SendResponse<Piece>, context: &Context<'_>) {
        self.waker.register(context.waker());
        if !self.has_news.swap(false, Ordering::Acquire) {
            return;
        }
        let responses = std::mem::take(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner).responses);
        for response in responses {
            // A hint that h2 does not take is no reason to do without the answer.
            if let Err(error) = respond.send_informational(response) {
                tracing::debug!(%error, "an informational response was not sent");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, Request};

    fn interim(expect: &'static str) -> Interim {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.headers.insert(EXPECT, HeaderValue::from_static(expect));
        Interim::new(&parts)
    }

    fn statuses(interim: &Interim) -> Vec<u16> {
        let waiting = interim.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.responses.iter().map(|response| response.status().as_u16()).collect()
    }

    #[test]
    fn who_expects_100_is_told_once() {
        for (expect, expected) in [("100-continue", &[100][..]), ("100-Continue", &[100]), ("other", &[])] {
            let interim = interim(expect);
            interim.wants_body();
            interim.wants_body();
            assert_eq!(statuses(&interim), expected, "{expect}");
        }
    }

    #[test]
    fn hints_are_bounded() {
        let interim = interim("100-continue");
        let mut fields = HeaderMap::new();
        fields.insert("link", HeaderValue::try_from("x".repeat(30_000)).unwrap_or(HeaderValue::from_static("")));
        for _ in 0..5 {
            interim.hint(fields.clone());
        }
        interim.wants_body();
        assert_eq!(statuses(&interim), [103, 103, 100]);
    }
}
