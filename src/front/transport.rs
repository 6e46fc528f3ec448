//! The byte stream of one client: TCP or Unix, with or without TLS, as one type, so that the HTTP code is compiled once.

use super::tls::ClientCertificate;
use super::{Address, TlsInfo};
use rustix::net::RecvFlags;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// An accepted socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// An accepted socket on its way to another thread's runtime.
#[derive(Debug)]
pub(super) enum DetachedSocket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// What HTTP is spoken on.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(Socket),
    /// Boxed: a TLS session is large and most of its life idle.
    Tls(Box<TlsStream<Socket>>),
}

impl Socket {
    /// Takes the socket off this thread's runtime.
    pub(super) fn detach(self) -> io::Result<DetachedSocket> {
        Ok(match self {
            Self::Tcp(stream) => DetachedSocket::Tcp(stream.into_std()?),
            Self::Unix(stream) => DetachedSocket::Unix(stream.into_std()?),
        })
    }

    /// The number of its descriptor.
    pub(super) fn number(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }

    /// The address the client connected to; the listener's own where the socket cannot say more.
    pub(super) fn local_address(&self, listener: &Address) -> Address {
        match (self, listener) {
            // A listener on one address has nothing to ask: that saves a system call per connection.
            (Self::Tcp(stream), Address::Tcp(bound)) if bound.ip().is_unspecified() => {
                stream.local_addr().map_or_else(|_| listener.clone(), Address::Tcp)
            }
            _ => listener.clone(),
        }
    }

    /// The first byte the client sent, left in the socket. `None`: it closed without a word.
    pub(super) async fn peek_byte(&self) -> io::Result<Option<u8>> {
        fn peek(socket: impl AsFd) -> io::Result<Option<u8>> {
            let mut byte = [0_u8];
            let (count, _) = rustix::net::recv(socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
            Ok((count == 1).then_some(byte[0]))
        }
        match self {
            Self::Tcp(stream) => stream.async_io(Interest::READABLE, || peek(stream)).await,
            Self::Unix(stream) => stream.async_io(Interest::READABLE, || peek(stream)).await,
        }
    }
}

impl DetachedSocket {
    /// Registers the socket with the runtime of the calling thread.
    pub(super) fn attach(self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(stream) => Socket::Tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Socket::Unix(UnixStream::from_std(stream)?),
        })
    }
}

impl Transport {
    /// What the handshake agreed on; `None` without TLS.
    pub(super) fn tls_info(&self, asks_clients: bool) -> Option<TlsInfo> {
        let Self::Tls(stream) = self else { return None };
        let (_, session) = stream.get_ref();
        Some(TlsInfo {
            version: session.protocol_version().map_or(0, u16::from),
            cipher_suite: session.negotiated_cipher_suite().map_or(0, |suite| u16::from(suite.suite())),
            server_name: session.server_name().map(str::to_owned),
            client: asks_clients.then(|| ClientCertificate::of(session.peer_certificates().unwrap_or_default())),
        })
    }

    /// Whether ALPN chose HTTP/2; `None` where nothing was negotiated.
    pub(super) fn negotiated_http2(&self) -> Option<bool> {
        let Self::Tls(stream) = self else { return None };
        stream.get_ref().1.alpn_protocol().map(|protocol| protocol == b"h2")
    }
}

/// Sends a poll to whichever stream is there.
macro_rules! forward {
    ($type:ident { $($variant:ident),+ }) => {
        impl AsyncRead for $type {
            #[inline]
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() { $(Self::$variant(stream) => Pin::new(stream).poll_read(cx, buffer)),+ }
            }
        }

        impl AsyncWrite for $type {
            #[inline]
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() { $(Self::$variant(stream) => Pin::new(stream).poll_write(cx, bytes)),+ }
            }

            #[inline]
            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() { $(Self::$variant(stream) => Pin::new(stream).poll_write_vectored(cx, slices)),+ }
            }

            fn is_write_vectored(&self) -> bool {
                match self { $(Self::$variant(stream) => stream.is_write_vectored()),+ }
            }

            #[inline]
            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() { $(Self::$variant(stream) => Pin::new(stream).poll_flush(cx)),+ }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() { $(Self::$variant(stream) => Pin::new(stream).poll_shutdown(cx)),+ }
            }
        }
    };
}

forward!(Socket { Tcp, Unix });
forward!(Transport { Plain, Tls });
