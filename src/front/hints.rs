//! Early hints (RFC 8297): the informational response 103 that an application sends ahead of its answer.
//!
//! hyper's server cannot send one. On HTTP/1.1 the byte stream in front of it can, between two messages; on HTTP/2 nobody
//! but the h2 crate can, so there they are left out, as RFC 8297 allows.

use super::exchange::Ledger;
use bytes::Bytes;
use monoceros_wire::message::ResponseHead;
use std::sync::Arc;

/// The only informational status an application may send.
const EARLY_HINTS: u16 = 103;

/// A request's way to send hints; an extension of requests that can.
#[derive(Debug, Clone)]
pub(super) struct EarlyHints(pub(super) Arc<Ledger>);

impl EarlyHints {
    /// Sends the hint in a frame of a worker. What is no hint is left out: a client never asked for it.
    pub(super) fn send(&self, payload: &Bytes) {
        if let Some(bytes) = encode(payload) {
            self.0.hint(&bytes);
        }
    }
}

fn encode(payload: &Bytes) -> Option<Vec<u8>> {
    let head = ResponseHead::decode(payload).ok().filter(|head| head.status == EARLY_HINTS)?;
    let mut bytes = b"HTTP/1.1 103 Early Hints\r\n".to_vec();
    for (name, value) in head.fields {
        // The types of http refuse whatever could end a line.
        let name = http::HeaderName::from_bytes(name).ok()?;
        let value = http::HeaderValue::from_bytes(value).ok()?;
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use monoceros_wire::message::encode_response;

    fn payload(status: u16, fields: &[(&[u8], &[u8])]) -> Bytes {
        let mut payload = BytesMut::new();
        assert!(encode_response(&mut payload, status, fields.iter().copied()).is_ok());
        payload.freeze()
    }

    #[test]
    fn only_clean_hints_are_sent() {
        let link: (&[u8], &[u8]) = (b"link", b"</style.css>; rel=preload");
        let expected = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n";
        assert_eq!(encode(&payload(103, &[link])).as_deref(), Some(&expected[..]));
        assert_eq!(encode(&payload(100, &[link])), None);
        assert_eq!(encode(&payload(103, &[(b"link", b"a\r\nset-cookie: b")])), None);
        assert_eq!(encode(&payload(103, &[(b"li nk", b"a")])), None);
        assert_eq!(encode(&Bytes::from_static(b"nonsense")), None);
    }
}
