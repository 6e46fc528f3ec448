//! WebSocket: the codec of RFC 6455 with permessage-deflate (RFC 7692), and the session between client and worker.
//!
//! # Layout
//! - [`handshake`]: is this request an opening handshake, and what the answer to it is (pure)
//! - [`extension`]: negotiation of permessage-deflate (pure)
//! - [`frame`]: frame heads and close codes (pure)
//! - [`mask`]: the XOR that clients apply to their payloads (pure)
//! - [`codec`]: bytes to messages and back, without I/O
//! - [`deflate`]: compression of messages, with a bound on what is inflated
//! - [`session`]: the task that joins an upgraded connection and a worker
//!
//! # How a request becomes a session
//! 1. [`handshake::examine`] reads the request's head: `Ok(None)` is an ordinary request; `Err(refusal)` is answered
//!    with [`handshake::Refusal::response`].
//! 2. The worker is asked, with the offered [`handshake::Opening::protocols`]. A refusal by the application is an
//!    ordinary response (ASGI: 403).
//! 3. [`handshake::Opening::accept`] makes the 101 (HTTP/1.1) or 200 (HTTP/2) head. The response has no body; the
//!    connection is taken over with `hyper::upgrade::on` on the *request*, which must be called before the response
//!    is returned. HTTP/2 needs `enable_connect_protocol` on the server's builder.
//! 4. [`session::run`] is spawned on `hyper_util::rt::TokioIo::new(upgraded)` with the two halves of the worker's side
//!    (see [`session::ToWorker`] and [`session::FromWorker`]; tokio's bounded channels implement them) and
//!    [`handshake::Opening::deflate`].

pub mod codec;
pub mod deflate;
pub mod extension;
pub mod frame;
pub mod handshake;
pub mod mask;
pub mod session;

use std::time::Duration;

/// Settings of WebSocket connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Largest message taken from a client, in bytes after decompression; a longer one closes with 1009
    /// (uvicorn: `ws_max_size`).
    pub max_message_bytes: usize,
    /// A client that was silent for this long is pinged; `None` never pings (uvicorn: `ws_ping_interval`).
    pub ping_interval: Option<Duration>,
    /// A pinged client that stays silent for this long is given up (uvicorn: `ws_ping_timeout`).
    pub ping_timeout: Duration,
    /// How long the client may take to read what was sent and to answer a close frame.
    pub close_timeout: Duration,
    /// Whether permessage-deflate is agreed to when offered (uvicorn: `ws_per_message_deflate`).
    pub deflate: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_message_bytes: 16 << 20,
            ping_interval: Some(Duration::from_secs(20)),
            ping_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(10),
            deflate: true,
        }
    }
}
