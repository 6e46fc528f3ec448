//! Joins a WebSocket session with a worker: whole messages on the client's side, fragments under flow control on the
//! worker's.

use super::upgrade::Upgrade;
use super::websocket::Settings;
use super::websocket::extension::Agreement;
use super::websocket::session::{self, FromClient, FromWorker, ToClient};
use crate::upstream::exchange::Event;
use crate::upstream::pool::{Conversation, Sender};
use bytes::{Bytes, BytesMut};
use monoceros_wire::frame::{FLAG_END, FLAG_TEXT, Kind};
use monoceros_wire::message::encode_close;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Messages of the client that may wait while the worker takes earlier ones; beyond them the client is not read.
const MESSAGES_WAITING: usize = 8;

/// Runs an accepted WebSocket to its end.
pub(super) async fn run(
    upgrade: Upgrade,
    conversation: Conversation,
    settings: Arc<Settings>,
    deflate: Option<Agreement>,
) {
    let Some(upgraded) = upgrade.finished().await else {
        // The client left during the handshake; dropping the conversation tells the worker.
        return;
    };
    let (to_worker, messages) = mpsc::channel(MESSAGES_WAITING);
    let mut pump = tokio::spawn(pass_on(messages, conversation.sender()));
    let conversation = Arc::new(conversation);
    let from_worker = Answers { conversation: Arc::clone(&conversation), partial: BytesMut::new(), is_over: false };
    session::run(upgraded, to_worker, from_worker, &settings, deflate.as_ref()).await;
    // The client's last messages and its close code reach the worker before the conversation ends; an application
    // that does not take them learns, after a while, only that the client is gone.
    if tokio::time::timeout(settings.close_timeout, &mut pump).await.is_err() {
        pump.abort();
    }
    drop(conversation);
}

/// Passes the client's messages on to the worker.
async fn pass_on(mut messages: mpsc::Receiver<FromClient>, sender: Sender) {
    while let Some(message) = messages.recv().await {
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
