//! What a client may use up: time, header bytes, body bytes, requests per connection.

use std::time::Duration;

/// Limits per connection and per request. The defaults are nginx's where nginx has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// TLS handshake, from accept (nginx: `client_header_timeout`).
    pub handshake_timeout: Duration,
    /// Whole request head, from its first byte (nginx: `client_header_timeout`).
    pub header_timeout: Duration,
    /// Between two reads of a request body (nginx: `client_body_timeout`).
    pub body_timeout: Duration,
    /// Between two writes of a response (nginx: `send_timeout`).
    pub send_timeout: Duration,
    /// Idle connection between requests (nginx: `keepalive_timeout`).
    pub keep_alive_timeout: Duration,
    /// Requests on one connection before it is closed (nginx: `keepalive_requests`).
    pub keep_alive_requests: u32,
    /// Request line and header fields together, in bytes → 431 (request line alone: → 414 at `target_max`).
    pub header_bytes: usize,
    /// Request target, in bytes → 414.
    pub target_bytes: usize,
    /// Header fields → 431 (nginx: `max_headers`).
    pub header_fields: usize,
    /// Request body, in bytes → 413 (nginx: `client_max_body_size`). Zero is no limit.
    pub body_bytes: u64,
    /// Concurrent streams of one HTTP/2 connection (nginx: `http2_max_concurrent_streams`).
    pub http2_streams: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(15),
            header_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            send_timeout: Duration::from_secs(60),
            keep_alive_timeout: Duration::from_secs(75),
            keep_alive_requests: 1000,
            header_bytes: 32 << 10,
            target_bytes: 8 << 10,
            header_fields: 128,
            body_bytes: 1 << 20,
            http2_streams: 128,
        }
    }
}
