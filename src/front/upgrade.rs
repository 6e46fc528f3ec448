//! The byte stream that a request for a WebSocket becomes once it is accepted, of HTTP/1.1 or of HTTP/2.

use super::http2::tunnel::Tunnel;
use http::Extensions;
use hyper::upgrade::{OnUpgrade, Upgraded as HyperUpgraded};
use hyper_util::rt::TokioIo;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// What will be the stream, once the answer's head is on its way.
#[derive(Debug, Clone)]
pub enum Upgrade {
    Http1(OnUpgrade),
    /// Taken by the first who waits for it.
    Http2(Arc<Mutex<Option<oneshot::Receiver<Tunnel>>>>),
}

/// The stream.
#[derive(Debug)]
pub enum Upgraded {
    Http1(TokioIo<HyperUpgraded>),
    Http2(Tunnel),
}

impl Upgrade {
    /// For a stream of HTTP/2; whoever holds the other end gives the tunnel.
    pub(super) fn http2() -> (oneshot::Sender<Tunnel>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self::Http2(Arc::new(Mutex::new(Some(receiver)))))
    }

    /// Takes it out of a request's extensions.
    pub fn take(extensions: &mut Extensions) -> Option<Self> {
        extensions.remove::<Self>().or_else(|| extensions.remove::<OnUpgrade>().map(Self::Http1))
    }

    /// Waits for the stream. `None`: the client has left before.
    pub async fn finished(self) -> Option<Upgraded> {
        match self {
            Self::Http1(upgrade) => Some(Upgraded::Http1(TokioIo::new(upgrade.await.ok()?))),
            Self::Http2(receiver) => {
                let receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
                Some(Upgraded::Http2(receiver?.await.ok()?))
            }
        }
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Http1(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Http2(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Http1(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Http2(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Http1(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Http2(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Http1(stream) => stream.is_write_vectored(),
            Self::Http2(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Http1(stream) => Pin::new(stream).poll_flush(context),
            Self::Http2(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Http1(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Http2(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
