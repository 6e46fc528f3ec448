//! The end of a connection on which the client may still be sending.

use crate::front::transport::Transport;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::time::Sleep;

/// Nginx: `lingering_timeout`.
const LINGER: Duration = Duration::from_secs(5);

/// Throws away what still comes, for a while: closing a socket with unread bytes resets the connection, and the client
/// may then never see the answer.
#[derive(Debug)]
pub(super) struct Linger {
    timer: Pin<Box<Sleep>>,
}

impl Linger {
    pub(super) fn new() -> Self {
        Self { timer: Box::pin(tokio::time::sleep(LINGER)) }
    }

    /// Ready when the client has closed its side, or the time is over.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, transport: &mut Transport) -> Poll<()> {
        if self.timer.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let mut bytes = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut *transport).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}
