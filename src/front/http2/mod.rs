//! HTTP/2, spoken with the h2 crate. One task per connection: it drives h2 and, in it, the streams of the connection.

mod date;
mod head;
pub(super) mod interim;
mod piece;
mod sending;
mod stream;
pub(super) mod tunnel;

use super::Answer;
use super::connection::Service;
use super::drain::Shutdown;
use super::exchange::Ledger;
use super::inspect::http2::Http2Stream;
use super::limits;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::Request;
use piece::Piece;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::task::coop::{Unconstrained, unconstrained};
use tokio::time::{Sleep, sleep};

/// For a client without open streams to take in its last answer and to say goodbye. It owes us the answer to a PING,
/// and may have nothing else to wait for.
const FAREWELL: Duration = Duration::from_secs(3);
/// Flow control: what a client may send unasked, per stream and per connection.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of an answer inside h2, per stream, and never more than the client's window allows.
const SEND_BUFFER: usize = 128 << 10;

/// Serves one connection to its end.
pub(super) async fn serve<A: Answer>(
    stream: Http2Stream,
    limits: &limits::Settings,
    service: Service<A>,
    mut shutdown: Shutdown,
) -> Result<(), h2::Error> {
    let ledger = Arc::clone(&service.ledger);
    let h2 = tokio::select! {
        biased;
        h2 = builder(limits).handshake(stream) => h2?,
        () = farewell(&mut shutdown) => return Ok(()),
    };
    let send_timeout = limits.send_timeout;
    let start = |request, respond| stream::serve(service.clone(), request, respond, send_timeout);
    let mut connection =
        Connection { h2, ledger, start, streams: FuturesUnordered::new(), is_leaving: false, farewell: None };
    tokio::select! {
        biased;
        outcome = std::future::poll_fn(|context| connection.poll(context)) => return outcome,
        _ = shutdown.begun() => connection.leave(),
    }
    std::future::poll_fn(|context| connection.poll(context)).await
}

async fn farewell(shutdown: &mut Shutdown) {
    shutdown.begun().await;
    sleep(FAREWELL).await;
}

fn builder(limits: &limits::Settings) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.http2_streams)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(Some(1024))
        .enable_connect_protocol();
    builder
}

struct Connection<S, F> {
    h2: h2::server::Connection<Http2Stream, Piece>,
    ledger: Arc<Ledger>,
    /// Makes a request and its answer the future that serves them.
    start: S,
    /// Tunnels are not among them: they belong to their sessions. Unconstrained: what one poll of this task may do is
    /// bounded by the most streams, and the runtime's budget for one task is too small for all of them.
    streams: FuturesUnordered<Unconstrained<F>>,
    /// GOAWAY was sent.
    is_leaving: bool,
    farewell: Option<Pin<Box<Sleep>>>,
}

impl<S, F> Connection<S, F>
where
    S: Fn(Request<RecvStream>, SendResponse<Piece>) -> F,
    F: Future<Output = ()>,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            while let Poll::Ready(accepted) = self.h2.poll_accept(context) {
                self.ledger.set_streams(true);
                let Some(accepted) = accepted else { return Poll::Ready(Ok(())) };
                let (request, respond) = accepted?;
                self.streams.push(unconstrained((self.start)(request, respond)));
            }
            while let Poll::Ready(Some(())) = self.streams.poll_next_unpin(context) {}
            // h2 wakes this task for what the streams have given it to send.
            self.ledger.set_streams(self.h2.has_streams());
            if self.is_leaving || !self.ledger.is_closing() {
                break;
            }
            self.leave();
        }
        if !self.is_leaving || self.h2.has_streams() || self.ledger.is_blocked() {
            self.farewell = None;
            return Poll::Pending;
        }
        let farewell = self.farewell.get_or_insert_with(|| Box::pin(sleep(FAREWELL)));
        ready!(farewell.as_mut().poll(context));
        Poll::Ready(Ok(()))
    }

    /// Takes no more streams, and ends when those that are open have ended.
    fn leave(&mut self) {
        if !self.is_leaving {
            self.is_leaving = true;
            self.h2.graceful_shutdown();
        }
    }
}
