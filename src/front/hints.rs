//! Early hints (RFC 8297): the informational response 103 that an application sends ahead of its answer.
//!
//! hyper's server cannot send one; the byte stream in front of it can, between two messages. h2 can.

use super::exchange::Ledger;
use super::http2::interim::Interim;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use monoceros_wire::message::ResponseHead;
use std::sync::Arc;

/// The only informational status an application may send.
const EARLY_HINTS: u16 = 103;

/// A request's way to send hints; an extension of requests that can.
#[derive(Debug, Clone)]
pub(super) enum EarlyHints {
    Http1(Arc<Ledger>),
    Http2(Arc<Interim>),
}

impl EarlyHints {
    /// Sends the hint in a frame of a worker. What is no hint is left out: a client never asked for it.
    pub(super) fn send(&self, payload: &Bytes) {
        let Some(fields) = decode(payload) else { return };
        match self {
            Self::Http1(ledger) => ledger.hint(&encode(&fields)),
            Self::Http2(interim) => interim.hint(fields),
        }
    }
}

/// The types of http refuse whatever could end a line.
fn decode(payload: &Bytes) -> Option<HeaderMap> {
    let head = ResponseHead::decode(payload).ok().filter(|head| head.status == EARLY_HINTS)?;
    let mut fields = HeaderMap::new();
    for (name, value) in head.fields {
        fields.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
    }
    Some(fields)
}

fn encode(fields: &HeaderMap) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 103 Early Hints\r\n".to_vec();
    for (name, value) in fields {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
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
        let encoded = |payload: Bytes| decode(&payload).as_ref().map(encode);
        assert_eq!(encoded(payload(103, &[link])).as_deref(), Some(&expected[..]));
        assert_eq!(encoded(payload(100, &[link])), None);
        assert_eq!(encoded(payload(103, &[(b"link", b"a\r\nset-cookie: b")])), None);
        assert_eq!(encoded(payload(103, &[(b"li nk", b"a")])), None);
        assert_eq!(encoded(Bytes::from_static(b"nonsense")), None);
    }
}
