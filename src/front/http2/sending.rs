//! The body of one answer on its way to the client, at the client's pace.

use super::piece::{Delivery, Piece};
use crate::front::body::BodyError;
use crate::front::exchange::Tracked;
use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// The size of the first piece that is asked for. It doubles while the client takes the pieces whole, so that a client
/// that takes nothing costs little.
const FIRST_PIECE: usize = 16 << 10;
const LARGEST_PIECE: usize = 128 << 10;

/// Why a body was not sent to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("the client reset the stream: {0}")]
    Reset(Reason),
    #[error("the client takes nothing")]
    Stalled,
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Http2(#[from] h2::Error),
    #[error("the stream is gone")]
    Gone,
}

/// A body and the stream it goes to.
pub(super) struct Sending {
    stream: SendStream<Piece>,
    body: Tracked,
    delivery: Arc<Delivery>,
    /// Taken from the body and not given to h2 yet: the client's window is full.
    rest: Bytes,
    piece_size: usize,
    /// Nothing comes after `rest`.
    is_last: bool,
    /// All was given to h2.
    is_handed_over: bool,
    stall: Stall,
}

impl Sending {
    pub(super) fn new(stream: SendStream<Piece>, body: Tracked, timeout: Duration) -> Self {
        Self {
            stream,
            body,
            delivery: Arc::default(),
            rest: Bytes::new(),
            piece_size: FIRST_PIECE,
            is_last: false,
            is_handed_over: false,
            stall: Stall { timeout, seen: 0, timer: None },
        }
    }

    /// Sends everything. Done when it has gone out, or the stream is over; the client is told why.
    pub(super) async fn run(mut self) -> Result<(), SendError> {
        let outcome = std::future::poll_fn(|context| self.poll(context)).await;
        match &outcome {
            Err(SendError::Stalled) => self.stream.send_reset(Reason::CANCEL),
            Err(SendError::Body(_)) => {
                // A reset drops what h2 still has to send: without it the client would not learn that its request ran.
                std::future::poll_fn(|context| self.poll_delivered(context)).await;
                self.stream.send_reset(Reason::INTERNAL_ERROR);
            }
            _ => {}
        }
        outcome
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        while !self.is_handed_over {
            if !self.rest.is_empty() {
                match self.poll_room(context) {
                    Poll::Ready(room) => self.send(room?)?,
                    Poll::Pending => return self.stall.poll(&self.delivery, context).map(Err),
                }
            } else if let Poll::Ready(next) = self.poll_next(context) {
                next?;
            } else {
                return match self.stream.poll_reset(context)? {
                    Poll::Ready(reason) => Poll::Ready(Err(SendError::Reset(reason))),
                    Poll::Pending => Poll::Pending,
                };
            }
        }
        // Until all has gone out the client may still make its window smaller, and take nothing.
        match self.delivery.poll_done(context) {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => self.stall.poll(&self.delivery, context).map(Err),
        }
    }

    /// Ready when what was given to h2 has gone out, or the client does not take it.
    fn poll_delivered(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self.delivery.poll_done(context) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => self.stall.poll(&self.delivery, context).map(drop),
        }
    }

    /// Takes the next piece of the body.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.body.body.limit_pieces(self.piece_size);
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)).transpose()? else {
            self.is_handed_over = true;
            return Poll::Ready(Ok(self.stream.send_data(Piece::default(), true)?));
        };
        match frame.into_data() {
            Ok(bytes) => {
                self.rest = bytes;
                self.is_last = self.body.is_end_stream();
                if self.is_last && self.rest.is_empty() {
                    self.is_handed_over = true;
                    self.stream.send_data(Piece::default(), true)?;
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    self.is_handed_over = true;
                    self.stream.send_trailers(trailers)?;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// How much the client takes now. Only asked for with something in hand: what one stream reserves, the others lack.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<usize, SendError>> {
        self.stream.reserve_capacity(self.rest.len());
        loop {
            let room = self.stream.capacity();
            if room > 0 {
                return Poll::Ready(Ok(room));
            }
            self.piece_size = FIRST_PIECE;
            ready!(self.stream.poll_capacity(context)).ok_or(SendError::Gone)??;
        }
    }

    fn send(&mut self, room: usize) -> Result<(), SendError> {
        let part = self.rest.split_to(room.min(self.rest.len()));
        let is_whole = self.rest.is_empty();
        if is_whole {
            self.piece_size = (self.piece_size * 2).min(LARGEST_PIECE);
        }
        self.is_handed_over = is_whole && self.is_last;
        Ok(self.stream.send_data(Piece::new(part, &self.delivery), self.is_handed_over)?)
    }
}

/// How long the client takes nothing. The timer is set once and looks, when it goes off, whether something has happened
/// meanwhile.
struct Stall {
    timeout: Duration,
    seen: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// To be called when the stream waits for the client.
    fn poll(&mut self, delivery: &Delivery, context: &mut Context<'_>) -> Poll<SendError> {
        let progress = delivery.progress();
        let timer = self.timer.get_or_insert_with(|| {
            self.seen = progress;
            Box::pin(tokio::time::sleep(self.timeout))
        });
        while timer.as_mut().poll(context).is_ready() {
            if self.seen == progress {
                return Poll::Ready(SendError::Stalled);
            }
            self.seen = progress;
            timer.as_mut().reset(Instant::now() + self.timeout);
        }
        Poll::Pending
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::front::body::Body;
    use crate::front::exchange::{Exchange, Ledger};
    use http::Response;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    /// Answers the first request of a client, which gives its SETTINGS, with `length` bytes.
    async fn answer(server: DuplexStream, length: usize) -> Result<(), SendError> {
        let mut connection = h2::server::Builder::new().handshake::<_, Piece>(server).await.unwrap();
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        let stream = respond.send_response(Response::new(()), false).unwrap();
        let exchange = Exchange::new(&Arc::new(Ledger::default()));
        let body = Tracked::new(Body::full(vec![7; length]), exchange, false);
        let sending = Sending::new(stream, body, Duration::from_secs(60)).run();
        tokio::select! {
            outcome = sending => outcome,
            _ = connection.accept() => Err(SendError::Gone),
        }
    }

    /// A client as bytes: the preface, SETTINGS with this window, and `GET /`.
    async fn client(window: u8, room: usize) -> (DuplexStream, DuplexStream) {
        let (mut client, server) = duplex(room);
        let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, window, 0];
        let request = [0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 1, b'a'];
        client.write_all(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings, &request].concat()).await.unwrap();
        (client, server)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_all_gets_all() {
        let (mut client, server) = client(200, 256).await;
        let reading = tokio::spawn(async move {
            let mut bytes = Vec::new();
            let mut piece = [0; 100];
            while let Ok(count @ 1..) = client.read(&mut piece).await {
                bytes.extend_from_slice(&piece[..count]);
                // However slowly: each piece renews the time.
                tokio::time::sleep(Duration::from_secs(40)).await;
            }
            bytes.into_iter().filter(|&byte| byte == 7).count()
        });
        answer(server, 5000).await.unwrap();
        assert!(reading.await.unwrap() >= 4000, "at least what did not fit on the way");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up() {
        // No window; or a window, but nobody reads, so that all is handed over and does not go out.
        for window in [0, 200] {
            let (_client, server) = client(window, 256).await;
            let begun = Instant::now();
            let outcome = answer(server, 5000).await;
            assert!(matches!(outcome, Err(SendError::Stalled)), "{window}: {outcome:?}");
            assert!(begun.elapsed() >= Duration::from_secs(60) && begun.elapsed() < Duration::from_secs(121));
        }
    }
}
