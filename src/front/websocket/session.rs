//! The task that joins an upgraded connection and a worker, both directions at once.
//!
//! The client's pings are answered here, silent clients are pinged, and the closing handshake is done in both
//! directions; the worker sees only whole messages and one end.

mod keep_alive;
mod output;

use super::Settings;
use super::codec::{Decoder, Encoder, Event};
use super::extension::Agreement;
use super::frame::close_code;
use bytes::Bytes;
use futures_util::FutureExt as _;
use keep_alive::{Alive, KeepAlive};
use output::Output;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

/// Bytes asked for in one read.
const READ_CHUNK: usize = 16 << 10;

/// After the close frames the client is given this long to end the connection, so that its last bytes do not make
/// the kernel reset it before the close frame was read.
const LINGER: Duration = Duration::from_secs(1);

/// What the worker is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClient {
    /// A message; valid UTF-8 when it is text.
    Message { text: bool, data: Bytes },
    /// The end, always last and exactly once (unless the worker was lost): the client's close code, 1005 when it gave
    /// none, 1006 when the connection just ended, or the code it was closed with for breaking the protocol.
    Closed { code: u16, reason: String },
}

/// What the worker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToClient {
    /// A message; text must be valid UTF-8.
    Message { text: bool, data: Bytes },
    /// Close the connection; nothing that follows is sent.
    Close { code: u16, reason: String },
    /// The worker is gone: the client is told 1011 and the worker nothing more.
    Lost,
}

/// Where messages for the worker go. Its pace is the client's: nothing is read while it is not ready.
pub trait ToWorker: Send {
    /// Waits until one more message can be delivered. May be dropped and called again.
    fn ready(&mut self) -> impl Future<Output = ()> + Send;
    /// Delivers one message after [`ToWorker::ready`].
    fn deliver(&mut self, message: FromClient);
}

/// Where messages of the worker come from. It is asked only while the client keeps up, so that asking is the sign
/// that what came before was consumed.
pub trait FromWorker: Send {
    /// The next message; [`ToClient::Lost`] again and again at the end. May be dropped and called again.
    fn receive(&mut self) -> impl Future<Output = ToClient> + Send;
}

/// A channel with no other sender: the room that `ready` saw is still there in `deliver`.
impl ToWorker for mpsc::Sender<FromClient> {
    async fn ready(&mut self) {
        // A closed channel swallows what is delivered; the loss is reported by `FromWorker`.
        let _ = self.reserve().await;
    }

    fn deliver(&mut self, message: FromClient) {
        let _ = self.try_send(message);
    }
}

impl FromWorker for mpsc::Receiver<ToClient> {
    async fn receive(&mut self) -> ToClient {
        self.recv().await.unwrap_or(ToClient::Lost)
    }
}

/// Runs a WebSocket from the handshake's answer to the end of the connection. When `stopping` is ready, the server goes
/// down: both sides are told 1012. Returns when the worker's time to take what is left for it is over.
pub async fn run<T, I, O>(
    connection: T,
    mut to_worker: I,
    mut from_worker: O,
    settings: &Settings,
    deflate: Option<&Agreement>,
    stopping: impl Future<Output = ()> + Send,
) -> Instant
where
    T: AsyncRead + AsyncWrite + Send,
    I: ToWorker,
    O: FromWorker,
{
    let (reader, writer) = tokio::io::split(connection);
    let mut session = Session {
        reader,
        writer,
        decoder: Decoder::new(settings.max_message_bytes, deflate),
        encoder: Encoder::new(deflate),
        output: Output::default(),
        pong: None,
        delivery: None,
        close_deadline: None,
        worker_lost: false,
        alive: KeepAlive::new(settings),
        close_timeout: settings.close_timeout,
    };
    let end = tokio::select! {
        biased;
        () = stopping => session.stop(),
        end = session.exchange(&mut to_worker, &mut from_worker) => end,
    };
    let deadline = Instant::now() + settings.close_timeout;
    let worker_lost = session.worker_lost;
    let tell_worker = async {
        if worker_lost {
            return;
        }
        tokio::select! {
            () = to_worker.ready() => to_worker.deliver(FromClient::Closed { code: end.code, reason: end.reason }),
            () = until_lost(&mut from_worker) => {}
            // An application that takes nothing must not keep the conversation of a client that is gone.
            () = sleep_until(deadline) => {}
        }
    };
    tokio::join!(tell_worker, session.hang_up(end.connected));
    deadline
}

async fn until_lost(from_worker: &mut impl FromWorker) {
    while from_worker.receive().await != ToClient::Lost {}
}

/// How the exchange ended.
struct End {
    code: u16,
    reason: String,
    /// Whether the connection still works, so that what is unsent is worth sending.
    connected: bool,
}

impl End {
    /// The connection ended without a close frame, or is given up.
    fn abnormal() -> Self {
        Self { code: close_code::ABNORMAL, reason: String::new(), connected: false }
    }
}

struct Session<T> {
    reader: ReadHalf<T>,
    writer: WriteHalf<T>,
    decoder: Decoder,
    encoder: Encoder,
    output: Output,
    /// The payload of the last ping not yet answered; an older one needs no answer (RFC 6455 §5.5.3).
    pong: Option<Bytes>,
    /// A message the worker is not ready for. Nothing is read meanwhile.
    delivery: Option<FromClient>,
    /// Set once our close frame is sent: the client's is waited for until then.
    close_deadline: Option<Instant>,
    worker_lost: bool,
    alive: KeepAlive,
    close_timeout: Duration,
}

impl<T: AsyncRead + AsyncWrite> Session<T> {
    async fn exchange(&mut self, to_worker: &mut impl ToWorker, from_worker: &mut impl FromWorker) -> End {
        let mut timer = std::pin::pin!(sleep_until(self.next_deadline()));
        loop {
            if let Some(end) = self.take_events() {
                return end;
            }
            self.queue_pong();
            // In this order, so that one write carries all that the worker has ready.
            let heard = tokio::select! {
                biased;
                () = to_worker.ready(), if self.delivery.is_some() => {
                    if let Some(message) = self.delivery.take() {
                        to_worker.deliver(message);
                    }
                    None
                }
                message = from_worker.receive(), if self.output.is_low() && self.close_deadline.is_none() => {
                    self.take_message(message);
                    self.set(timer.as_mut());
                    None
                }
                result = self.output.write_some(&mut self.writer), if self.output.is_pending() => {
                    if result.is_err() {
                        return End::abnormal();
                    }
                    // A worker that never pauses must not keep the client from being heard.
                    let may_read = self.delivery.is_none();
                    may_read.then(|| read_more(&mut self.reader, &mut self.decoder).now_or_never()).flatten()
                }
                result = read_more(&mut self.reader, &mut self.decoder), if self.delivery.is_none() => Some(result),
                () = timer.as_mut() => {
                    if let Some(end) = self.time_passed(Instant::now()) {
                        return end;
                    }
                    self.set(timer.as_mut());
                    None
                }
            };
            match heard {
                None => {}
                Some(Ok(length)) if length > 0 => {
                    self.alive.heard(Instant::now());
                    if self.next_deadline() < timer.deadline() {
                        self.set(timer.as_mut());
                    }
                }
                Some(_) => return End::abnormal(),
            }
        }
    }

    /// Takes what was decoded, up to the first message that has to be delivered.
    fn take_events(&mut self) -> Option<End> {
        while self.delivery.is_none() {
            match self.decoder.next_event() {
                Ok(None) => return None,
                Ok(Some(Event::Message { text, data })) => {
                    // Once closed by the server, the application takes nothing more.
                    if self.close_deadline.is_none() {
                        self.delivery = Some(FromClient::Message { text, data });
                    }
                }
                Ok(Some(Event::Ping(payload))) => self.pong = Some(payload),
                Ok(Some(Event::Pong(_))) => {}
                Ok(Some(Event::Close { code, reason })) => {
                    let code = code.unwrap_or(close_code::NO_STATUS);
                    self.send_close(code, "");
                    return Some(End { code, reason, connected: true });
                }
                Err(error) => {
                    let reason = error.to_string();
                    self.send_close(error.close_code(), &reason);
                    return Some(End { code: error.close_code(), reason, connected: true });
                }
            }
        }
        None
    }

    fn take_message(&mut self, message: ToClient) {
        match message {
            ToClient::Message { text, data } => {
                let payload = self.encoder.message(text, data, &mut self.output.small);
                self.output.push_payload(payload);
            }
            ToClient::Close { code, reason } => {
                // The application takes nothing more.
                self.delivery = None;
                self.send_close(code, &reason);
            }
            ToClient::Lost => {
                self.worker_lost = true;
                self.delivery = None;
                self.send_close(close_code::INTERNAL_ERROR, "");
            }
        }
    }

    /// Queues our close frame, unless it was sent before.
    fn send_close(&mut self, code: u16, reason: &str) {
        if self.close_deadline.is_none() {
            self.close_deadline = Some(Instant::now() + self.close_timeout);
            Encoder::close(code, reason, &mut self.output.small);
        }
    }

    /// The server goes down: the client is asked to come back, and its answer is not waited for.
    fn stop(&mut self) -> End {
        self.send_close(close_code::SERVICE_RESTART, "");
        End { code: close_code::SERVICE_RESTART, reason: String::new(), connected: true }
    }

    fn queue_pong(&mut self) {
        if self.output.is_low()
            && self.close_deadline.is_none()
            && let Some(payload) = self.pong.take()
        {
            Encoder::pong(&payload, &mut self.output.small);
        }
    }

    fn next_deadline(&self) -> Instant {
        self.close_deadline.unwrap_or_else(|| self.alive.next_deadline())
    }

    fn set(&self, timer: std::pin::Pin<&mut Sleep>) {
        let deadline = self.next_deadline();
        if timer.deadline() != deadline {
            timer.reset(deadline);
        }
    }

    fn time_passed(&mut self, now: Instant) -> Option<End> {
        if let Some(deadline) = self.close_deadline {
            return (now >= deadline).then(End::abnormal);
        }
        match self.alive.time_passed(now, self.delivery.is_none()) {
            Alive::Yes => None,
            Alive::Ask => {
                Encoder::ping(&[], &mut self.output.small);
                None
            }
            Alive::No => Some(End::abnormal()),
        }
    }

    /// Sends what is unsent and ends the connection.
    async fn hang_up(mut self, connected: bool) {
        if connected {
            let Self { output, writer, reader, close_timeout, .. } = &mut self;
            let flush = async {
                while output.is_pending() {
                    output.write_some(writer).await?;
                }
                writer.shutdown().await
            };
            if let Ok(Ok(())) = timeout(*close_timeout, flush).await {
                let mut discarded = [0; 1024];
                let drain = async { while reader.read(&mut discarded).await.is_ok_and(|length| length > 0) {} };
                let _ = timeout(LINGER, drain).await;
            }
        }
    }
}

/// One read into the decoder's buffer. A silent client keeps no buffer: there may be very many of them.
async fn read_more(reader: &mut (impl AsyncRead + Unpin), decoder: &mut Decoder) -> io::Result<usize> {
    std::future::poll_fn(|context| {
        decoder.buffer().reserve(READ_CHUNK);
        let result = std::pin::pin!(reader.read_buf(decoder.buffer())).poll(context);
        if result.is_pending() {
            decoder.release_memory();
        }
        result
    })
    .await
}

#[cfg(test)]
mod tests;
