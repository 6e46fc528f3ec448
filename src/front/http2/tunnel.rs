//! A stream of HTTP/2 as a stream of bytes, for a WebSocket (RFC 8441).

use super::piece::Piece;
use bytes::Bytes;
use h2::{RecvStream, SendStream};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Both directions of one stream. Dropped before its end, it resets the stream.
#[derive(Debug)]
pub struct Tunnel {
    receive: RecvStream,
    send: SendStream<Piece>,
    /// Received and not read yet.
    held: Bytes,
    is_ended: bool,
}

impl Tunnel {
    pub(super) fn new(receive: RecvStream, send: SendStream<Piece>) -> Self {
        Self { receive, send, held: Bytes::new(), is_ended: false }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.held.is_empty() {
            match ready!(self.receive.poll_data(context)) {
                None => return Poll::Ready(Ok(())),
                Some(data) => self.held = data.map_err(io::Error::other)?,
            }
        }
        let count = self.held.len().min(buffer.remaining());
        buffer.put_slice(&self.held.split_to(count));
        self.receive.flow_control().release_capacity(count).map_err(io::Error::other)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.send.reserve_capacity(bytes.len());
        while self.send.capacity() == 0 {
            let capacity = ready!(self.send.poll_capacity(context)).ok_or(io::ErrorKind::BrokenPipe)?;
            capacity.map_err(io::Error::other)?;
        }
        let count = self.send.capacity().min(bytes.len());
        let piece = Piece::uncounted(Bytes::copy_from_slice(&bytes[..count]));
        self.send.send_data(piece, false).map_err(io::Error::other)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task writes all that it is given.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.is_ended, true) {
            self.send.send_data(Piece::default(), true).map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }
}
