//! A request in the words of the wire: addresses, scheme and header fields as the application will see them.

use super::{Address, ConnectionInfo};
use crate::upstream::error::{Cause, Reached, UpstreamError};
use crate::upstream::failover::is_idempotent;
use crate::upstream::request::{Client, EncodedRequest, RequestBody};
use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderName, Method, Version};
use monoceros_wire::message::{BodySource, ClientFacts, HttpVersion, Protocol, RequestFacts, TlsFacts};
use std::fmt::Write;

/// No header that anybody sends, but `HTTP_PROXY` to CGI programs and what they start (CVE-2016-5385).
static PROXY: HeaderName = HeaderName::from_static("proxy");

/// Encodes a request whose meaning the gate has accepted. `length` is the length of the body that was read.
pub(super) fn encode(
    connection: &ConnectionInfo,
    parts: &Parts,
    protocol: Protocol,
    source: BodySource,
    length: u64,
    body: RequestBody,
) -> Result<EncodedRequest, UpstreamError> {
    let (client, server) = (AddressText::new(&connection.peer), AddressText::new(&connection.local));
    let path = parts.uri.path();
    let facts = RequestFacts {
        protocol,
        version: match parts.version {
            Version::HTTP_10 => HttpVersion::Http10,
            Version::HTTP_2 => HttpVersion::Http2,
            _ => HttpVersion::Http11,
        },
        is_https: connection.tls.is_some(),
        tls: connection.tls.as_ref().map(|tls| TlsFacts {
            version: tls.version,
            cipher_suite: tls.cipher_suite,
            client: tls
                .client
                .as_ref()
                .map(|client| ClientFacts { subject: client.subject.as_bytes(), chain: client.chain.as_bytes() }),
        }),
        body: source,
        // An extended CONNECT is the opening of a WebSocket: to the application it is the GET that HTTP/1.1 uses.
        method: if protocol == Protocol::WebSocket { b"GET" } else { parts.method.as_str().as_bytes() },
        path: if path.is_empty() { b"/" } else { path.as_bytes() },
        query: parts.uri.query().unwrap_or_default().as_bytes(),
        client_address: client.text.as_bytes(),
        client_port: client.port,
        server_address: server.text.as_bytes(),
        server_port: server.port,
    };
    let length_text = itoa::Buffer::new().format(length).to_owned();
    let has_body = matches!(source, BodySource::Inline | BodySource::File { .. });
    let is_streamed = source == BodySource::Stream;
    // Over HTTP/2 it was made from `:authority`, which comes first; so applications expect it (ASGI says so).
    let host = parts.headers.get(HOST).filter(|_| parts.version == Version::HTTP_2);
    // A body that was read has a length, whatever framing the client used.
    let fields = host
        .map(|host| (&HOST, host))
        .into_iter()
        .chain(parts.headers.iter().filter(|(name, _)| host.is_none() || *name != HOST))
        .filter(|(name, _)| {
            *name != TRANSFER_ENCODING
                && *name != EXPECT
                && *name != PROXY
                && (is_streamed || !has_body || *name != CONTENT_LENGTH)
        })
        .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
        .chain(has_body.then_some((&b"content-length"[..], length_text.as_bytes())));
    let may_repeat = is_idempotent(&parts.method)
        || parts.headers.contains_key("idempotency-key")
        || (protocol == Protocol::WebSocket && parts.method == Method::CONNECT);
    let request = EncodedRequest::encode(&facts, fields, body, may_repeat).map_err(|_| UpstreamError {
        cause: Cause::TooLarge,
        reached: Reached::Queued,
        worker: None,
    })?;
    Ok(request.of(client_of(&connection.peer)))
}

/// Whose turn in the queue it takes. Behind a Unix socket is another server, with clients that are not known here.
fn client_of(peer: &Address) -> Option<Client> {
    match peer {
        Address::Tcp(socket) => Some(Client::from(socket.ip())),
        Address::Unix(_) => None,
    }
}

/// An address as the application gets it.
struct AddressText {
    text: String,
    port: u16,
}

impl AddressText {
    fn new(address: &Address) -> Self {
        let mut text = String::new();
        match address {
            Address::Tcp(socket) => {
                // Cannot fail: the target is a string.
                let _ = write!(text, "{}", socket.ip().to_canonical());
                Self { text, port: socket.port() }
            }
            Address::Unix(path) => {
                if let Some(path) = path {
                    text.push_str(&path.to_string_lossy());
                }
                // The wire has a byte for the length.
                text.truncate(text.floor_char_boundary(255));
                Self { text, port: 0 }
            }
        }
    }
}
