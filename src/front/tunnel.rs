//! Joins a WebSocket session with a worker: whole messages on the client's side, fragments under flow control on the
//! worker's.

use super::drain::Shutdown;
use super::upgrade::Upgrade;
use super::websocket::Settings;
use super::websocket::extension::Agreement;
use super::websocket::session::{self, FromClient, FromWorker, ToClient, ToWorker};
use crate::upstream::exchange::Event;
use crate::upstream::pool::{Conversation, Sender};
use bytes::{Bytes, BytesMut};
use monoceros_wire::frame::{FLAG_END, FLAG_TEXT, Kind};
use monoceros_wire::message::encode_close;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Messages of the client that may wait while the worker takes earlier ones; beyond them the client is not read. Each
/// may keep the buffer it was read into.
const MESSAGES_WAITING: usize = 8;

/// Bytes of messages that may wait. The message that passes this mark may be as long as messages may be.
const BYTES_WAITING: u32 = 1 << 20;

/// Runs an accepted WebSocket to its end, or until the drain begins.
pub(super) async fn run(
    upgrade: Upgrade,
    conversation: Conversation,
    settings: Arc<Settings>,
    deflate: Option<Agreement>,
    shutdown: Option<Shutdown>,
) {
    let Some(upgraded) = upgrade.finished().await else {
        // The client left during the handshake; dropping the conversation tells the worker.
        return;
    };
    let (messages_in, messages) = mpsc::channel(MESSAGES_WAITING);
    let to_worker = Messages { queue: messages_in, room: Arc::new(Semaphore::new(BYTES_WAITING as usize)) };
    let mut pump = tokio::spawn(pass_on(messages, conversation.sender()));
    let conversation = Arc::new(conversation);
    let from_worker = Answers { conversation: Arc::clone(&conversation), partial: BytesMut::new(), is_over: false };
    let stopping = async {
        match shutdown {
            Some(mut shutdown) => drop(shutdown.begun().await),
            None => std::future::pending().await,
        }
    };
    let deadline = session::run(upgraded, to_worker, from_worker, &settings, deflate.as_ref(), stopping).await;
    // The client's last messages and its close code reach the worker before the conversation ends; an application
    // that does not take them learns, after a while, only that the client is gone.
    if tokio::time::timeout_at(deadline, &mut pump).await.is_err() {
        pump.abort();
    }
    drop(conversation);
}

/// The client's messages on their way to the worker.
struct Messages {
    queue: mpsc::Sender<Waiting>,
    /// One permit for each byte that may still be queued.
    room: Arc<Semaphore>,
}

/// A message, and the room it takes until it was passed on.
type Waiting = (FromClient, Option<OwnedSemaphorePermit>);

impl ToWorker for Messages {
    async fn ready(&mut self) {
        // Neither is ever closed while the other side lives; what is delivered after its end is swallowed.
        let _ = self.room.acquire().await;
        let _ = self.queue.reserve().await;
    }

    fn deliver(&mut self, message: FromClient) {
        let length = match &message {
            FromClient::Message { data, .. } => data.len(),
            FromClient::Closed { .. } => 0,
        };
        // A message longer than the room that is left takes all of it: nothing follows before it is gone.
        let taken = u32::try_from(length.min(self.room.available_permits())).unwrap_or(BYTES_WAITING);
        let permit = Arc::clone(&self.room).try_acquire_many_owned(taken).ok();
        let _ = self.queue.try_send((message, permit));
    }
}

/// Passes the client's messages on to the worker.
async fn pass_on(mut messages: mpsc::Receiver<Waiting>, sender: Sender) {
    while let Some((message, _room)) = messages.recv().await {
        let passed = match message {
            FromClient::Message { text, data } => {
                let flags = if text { FLAG_TEXT } else { 0 };
                sender.send(Kind::Message, flags, FLAG_END, data).await
            }
            FromClient::Closed { code, reason } => sender.send_now(Kind::Close, encode_close(code, &reason)).await,
        };
        if passed.is_err() {
            return;
        }
    }
}

/// The worker's messages, put together again.
struct Answers {
    conversation: Arc<Conversation>,
    partial: BytesMut,
    is_over: bool,
}

impl FromWorker for Answers {
    async fn receive(&mut self) -> ToClient {
        // What was received is kept in `self`, so that the caller may drop this future and ask again.
        while !self.is_over {
            match self.conversation.next().await {
                Event::Message { bytes, is_text, is_last: true } => {
                    let data = self.complete(bytes);
                    return ToClient::Message { text: is_text, data };
                }
                Event::Message { bytes, .. } => self.partial.extend_from_slice(&bytes),
                Event::Close { code, reason } => {
                    self.is_over = true;
                    return ToClient::Close { code, reason: String::from_utf8_lossy(&reason).into_owned() };
                }
                _ => self.is_over = true,
            }
        }
        ToClient::Lost
    }
}

impl Answers {
    fn complete(&mut self, last: Bytes) -> Bytes {
        if self.partial.is_empty() {
            return last;
        }
        self.partial.extend_from_slice(&last);
        self.partial.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn message(length: usize) -> FromClient {
        FromClient::Message { text: false, data: Bytes::from(vec![0; length]) }
    }

    #[tokio::test]
    async fn bytes_that_wait_for_the_worker_are_bounded() {
        let (queue, mut messages) = mpsc::channel(MESSAGES_WAITING);
        let mut to_worker = Messages { queue, room: Arc::new(Semaphore::new(BYTES_WAITING as usize)) };
        to_worker.deliver(message(600_000));
        assert_eq!(to_worker.ready().now_or_never(), Some(()));
        to_worker.deliver(message(16 << 20));
        assert_eq!(to_worker.ready().now_or_never(), None, "more may be queued than there is room for");
        // The first is taken, then passed on: there is room again.
        let first = messages.recv().await;
        assert_eq!(to_worker.ready().now_or_never(), None);
        drop(first);
        assert_eq!(to_worker.ready().now_or_never(), Some(()));
        to_worker.deliver(message(0));
        for _ in 0..6 {
            assert_eq!(to_worker.ready().now_or_never(), Some(()));
            to_worker.deliver(message(0));
        }
        assert_eq!(to_worker.ready().now_or_never(), None, "the number of messages is not bounded");
    }
}
