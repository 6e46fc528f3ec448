//! An answer that is stored while it is sent. The application is read at its own pace: neither a slow client nor one that
//! leaves keeps it from being stored.

use crate::front::body::{Body, BodyError, Pieces};
use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What has come and was not sent.
#[derive(Debug, Default)]
struct Between {
    pieces: VecDeque<Frame<Bytes>>,
    end: Option<End>,
    has_ended: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
enum End {
    Complete,
    Failed(BodyError),
    /// It is too large to be stored: the client reads the rest by itself.
    HandedOver(Body),
}

#[derive(Debug, Default)]
struct Shared(Mutex<Between>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Between> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, frame: Frame<Bytes>) {
        let mut between = self.lock();
        between.pieces.push_back(frame);
        between.wake();
    }

    fn end(&self, end: End) {
        let mut between = self.lock();
        between.end = Some(end);
        between.has_ended = true;
        between.wake();
    }
}

impl Between {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Divides a body: the first half is sent to the client, the second is to run, and yields the whole if it can be stored.
pub(super) fn divide(body: Body, largest: usize) -> (Body, impl Future<Output = Option<Bytes>> + Send + 'static) {
    let shared = Arc::new(Shared::default());
    let remaining = body.size_hint().exact();
    let reading = Reading { shared: Arc::clone(&shared), remaining, rest: None, is_over: false };
    (Body::stream(reading), collect(body, largest, Writing(shared)))
}

async fn collect(mut body: Body, largest: usize, client: Writing) -> Option<Bytes> {
    let mut whole = BytesMut::new();
    let mut is_storable = true;
    loop {
        let frame = match body.frame().await {
            None => {
                client.0.end(End::Complete);
                return is_storable.then(|| whole.freeze());
            }
            Some(Err(error)) => {
                client.0.end(End::Failed(error));
                return None;
            }
            Some(Ok(frame)) => frame,
        };
        match frame.data_ref() {
            // A copy: the piece may be a part of a buffer that is much larger.
            Some(data) if whole.len() + data.len() <= largest => whole.extend_from_slice(data),
            Some(_) => {
                client.0.push(frame);
                client.0.end(End::HandedOver(body));
                return None;
            }
            None => is_storable = false,
        }
        client.0.push(frame);
    }
}

/// Were the task to end without a word, the client would wait for ever.
struct Writing(Arc<Shared>);

impl Drop for Writing {
    fn drop(&mut self) {
        let mut between = self.0.lock();
        if !std::mem::replace(&mut between.has_ended, true) {
            between.end = Some(End::Failed(BodyError::ApplicationFailed));
            between.wake();
        }
    }
}

/// The client's half.
struct Reading {
    shared: Arc<Shared>,
    /// What `Content-Length` promises and was not sent yet.
    remaining: Option<u64>,
    rest: Option<Body>,
    is_over: bool,
}

impl Pieces for Reading {
    fn limit_pieces(mut self: Pin<&mut Self>, bytes: usize) {
        if let Some(rest) = &mut self.rest {
            rest.limit_pieces(bytes);
        }
    }
}

impl HttpBody for Reading {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(rest) = &mut this.rest {
            return Pin::new(rest).poll_frame(context);
        }
        if this.is_over {
            return Poll::Ready(None);
        }
        let mut between = this.shared.lock();
        if let Some(frame) = between.pieces.pop_front() {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            this.remaining = this.remaining.map(|remaining| remaining.saturating_sub(length));
            return Poll::Ready(Some(Ok(frame)));
        }
        match between.end.take() {
            None => {
                between.waker = Some(context.waker().clone());
                Poll::Pending
            }
            Some(End::HandedOver(body)) => {
                drop(between);
                let rest = this.rest.insert(body);
                Pin::new(rest).poll_frame(context)
            }
            Some(End::Complete) => {
                this.is_over = true;
                Poll::Ready(None)
            }
            Some(End::Failed(error)) => {
                this.is_over = true;
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.rest {
            Some(rest) => rest.is_end_stream(),
            None => self.is_over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            Some(rest) => rest.size_hint(),
            None => self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    /// Pieces, then an end or a failure.
    struct Source(VecDeque<&'static str>, bool);

    impl Pieces for Source {}

    impl HttpBody for Source {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            let piece = self.0.pop_front().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
            Poll::Ready(piece.or_else(|| std::mem::take(&mut self.1).then_some(Err(BodyError::WorkerLost))))
        }
    }

    async fn run(pieces: &[&'static str], fails: bool, largest: usize) -> (Option<Bytes>, Result<Bytes, BodyError>) {
        let (client, filling) = divide(Body::stream(Source(pieces.iter().copied().collect(), fails)), largest);
        let (stored, sent) = tokio::join!(filling, client.collect());
        (stored, sent.map(http_body_util::Collected::to_bytes))
    }

    #[tokio::test]
    async fn the_client_gets_everything_and_what_is_whole_and_small_is_stored() {
        let (stored, sent) = run(&["ab", "cd"], false, 4).await;
        assert_eq!((stored.unwrap(), sent.unwrap()), (Bytes::from("abcd"), Bytes::from("abcd")));
        let (stored, sent) = run(&["ab", "cd", "ef"], false, 3).await;
        assert_eq!((stored, sent.unwrap()), (None, Bytes::from("abcdef")));
        let (stored, sent) = run(&["ab"], true, 4).await;
        assert!(stored.is_none() && sent.is_err(), "a part is never taken for the whole");
    }

    #[tokio::test]
    async fn a_client_that_leaves_does_not_matter_and_a_filling_that_is_dropped_cuts_it_off() {
        let (client, filling) = divide(Body::stream(Source(["ab"].into(), false)), 4);
        drop(client);
        assert_eq!(filling.await.unwrap(), Bytes::from("ab"));
        let (client, filling) = divide(Body::stream(Source(["ab"].into(), false)), 4);
        drop(filling);
        assert!(client.collect().await.is_err());
    }
}
