//! The opening handshake: RFC 6455 §4.2 over HTTP/1.1, RFC 8441 over HTTP/2. Pure.

use super::Settings;
use super::extension::Agreement;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use h2::ext::Protocol;
use http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use sha1::{Digest as _, Sha1};

/// Appended to the key before it is hashed (RFC 6455 §1.3).
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const VERSION: &str = "13";

/// What the front itself says in the answer; the application cannot.
const OURS: [HeaderName; 6] =
    [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, CONTENT_LENGTH, TRANSFER_ENCODING];

/// A valid opening handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// `Sec-WebSocket-Accept` of HTTP/1.1; `None` on HTTP/2, which answers 200 instead of 101.
    accept: Option<String>,
    /// Subprotocols in the client's order of preference.
    pub protocols: Vec<String>,
    /// What the answer will agree to; the session needs the same.
    pub deflate: Option<Agreement>,
}

/// Why a request for a WebSocket is refused. The client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("Sec-WebSocket-Key is missing, repeated or not 16 bytes in base64")]
    Key,
    #[error("Sec-WebSocket-Protocol is not a list of different tokens")]
    Protocols,
    #[error("Sec-WebSocket-Version is not 13")]
    Version,
}

impl Refusal {
    /// The head of the answer: 426 with the version spoken, or 400.
    pub fn response(self) -> Response<()> {
        let mut response = Response::new(());
        if self == Self::Version {
            *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
            response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        } else {
            *response.status_mut() = StatusCode::BAD_REQUEST;
        }
        response
    }
}

/// Reads the head of a request. `None`: it does not ask for a WebSocket, and is answered like any other.
pub fn examine(request: &Parts, settings: &Settings) -> Result<Option<Opening>, Refusal> {
    let upgrade = request.method == Method::GET
        && request.version == Version::HTTP_11
        && lists_token(&request.headers, &CONNECTION, "upgrade")
        && lists_token(&request.headers, &UPGRADE, "websocket");
    let extended_connect = request.method == Method::CONNECT
        && request.extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_str() == "websocket");
    if !upgrade && !extended_connect {
        return Ok(None);
    }
    let headers = &request.headers;
    let mut versions = headers.get_all(SEC_WEBSOCKET_VERSION).iter();
    if versions.next().is_none_or(|version| version.as_bytes() != VERSION.as_bytes()) || versions.next().is_some() {
        return Err(Refusal::Version);
    }
    let accept = if upgrade { Some(accept_key(headers)?) } else { None };
    let protocols = offered_protocols(headers)?;
    let extensions = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter().filter_map(|value| value.to_str().ok());
    let deflate = if settings.deflate { Agreement::negotiate(extensions) } else { None };
    Ok(Some(Opening { accept, protocols, deflate }))
}

impl Opening {
    /// The head of the answer that opens the WebSocket, with the subprotocol the application chose and its other header
    /// fields (those that belong to the handshake itself are left out).
    ///
    /// # Errors
    /// The subprotocol was not offered: the application's fault, and the client would fail the connection.
    pub fn accept(&self, protocol: Option<&str>, application: HeaderMap) -> Result<Response<()>, ProtocolNotOffered> {
        let mut response = Response::new(());
        let headers = response.headers_mut();
        *headers = application;
        for name in OURS {
            headers.remove(name);
        }
        if let Some(protocol) = protocol {
            let value = HeaderValue::from_str(protocol).ok().filter(|_| self.protocols.iter().any(|p| p == protocol));
            headers.insert(SEC_WEBSOCKET_PROTOCOL, value.ok_or(ProtocolNotOffered)?);
        }
        if let Some(value) = self.deflate.as_ref().and_then(|deflate| deflate.header_value().try_into().ok()) {
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, value);
        }
        if let Some(accept) = self.accept.as_ref().and_then(|accept| accept.try_into().ok()) {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        }
        Ok(response)
    }
}

/// The application chose a subprotocol the client did not offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the application chose a WebSocket subprotocol that the client did not offer")]
pub struct ProtocolNotOffered;

fn accept_key(headers: &HeaderMap) -> Result<String, Refusal> {
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let (Some(key), None) = (keys.next(), keys.next()) else { return Err(Refusal::Key) };
    let key = key.as_bytes();
    if !BASE64.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
        return Err(Refusal::Key);
    }
    Ok(BASE64.encode(Sha1::new().chain_update(key).chain_update(KEY_SUFFIX).finalize()))
}

fn offered_protocols(headers: &HeaderMap) -> Result<Vec<String>, Refusal> {
    let mut protocols: Vec<String> = Vec::new();
    for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        let value = value.to_str().map_err(|_| Refusal::Protocols)?;
        for protocol in value.split(',').map(str::trim) {
            if !is_token(protocol) || protocols.iter().any(|known| known == protocol) {
                return Err(Refusal::Protocols);
            }
            protocols.push(protocol.to_owned());
        }
    }
    Ok(protocols)
}

/// Whether one of the comma-separated members of a header's values is `token`.
fn lists_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|member| member.trim().eq_ignore_ascii_case(token))
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use http::Request;

    fn parts(method: Method, version: Version, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// The handshake of RFC 6455 §1.2, with some header fields replaced (or left out, when the value is `-`).
    fn example(replaced: &[(&'static str, &'static str)]) -> Parts {
        let mut headers = vec![
            ("host", "server.example.com"),
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ];
        headers.retain(|(name, _)| replaced.iter().all(|(other, _)| other != name));
        headers.extend(replaced.iter().filter(|(_, value)| *value != "-"));
        parts(Method::GET, Version::HTTP_11, &headers)
    }

    #[test]
    fn requests_that_open_a_websocket_and_requests_that_do_not() {
        type Replaced = &'static [(&'static str, &'static str)];
        let opens = |request: &Parts| examine(request, &Settings::default()).map(|opening| opening.is_some());
        let cases: &[(Replaced, Result<bool, Refusal>)] = &[
            (&[], Ok(true)),
            (&[("connection", "keep-alive, Upgrade")], Ok(true)),
            (&[("connection", "keep-alive"), ("connection", "upgrade")], Ok(true)),
            (&[("upgrade", "WebSocket")], Ok(true)),
            (&[("upgrade", "h2c, websocket")], Ok(true)),
            (&[("connection", "-")], Ok(false)),
            (&[("connection", "keep-alive")], Ok(false)),
            (&[("upgrade", "-")], Ok(false)),
            (&[("upgrade", "h2c")], Ok(false)),
            (&[("sec-websocket-version", "-")], Err(Refusal::Version)),
            (&[("sec-websocket-version", "8")], Err(Refusal::Version)),
            (&[("sec-websocket-version", "13, 8")], Err(Refusal::Version)),
            (&[("sec-websocket-version", "13"), ("sec-websocket-version", "8")], Err(Refusal::Version)),
            (&[("sec-websocket-key", "-")], Err(Refusal::Key)),
            (&[("sec-websocket-key", "")], Err(Refusal::Key)),
            (&[("sec-websocket-key", "c2hvcnQ=")], Err(Refusal::Key)),
            (&[("sec-websocket-key", "not base64 at all!!!!!!==")], Err(Refusal::Key)),
            (
                &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")],
                Err(Refusal::Key),
            ),
            (&[("sec-websocket-protocol", "chat, superchat")], Ok(true)),
            (&[("sec-websocket-protocol", "chat, chat")], Err(Refusal::Protocols)),
            (&[("sec-websocket-protocol", "")], Err(Refusal::Protocols)),
            (&[("sec-websocket-protocol", "a b")], Err(Refusal::Protocols)),
        ];
        for (replaced, expected) in cases {
            assert_eq!(opens(&example(replaced)), *expected, "{replaced:?}");
        }
        let mut post = example(&[]);
        post.method = Method::POST;
        assert_eq!(opens(&post), Ok(false));
        let mut old = example(&[]);
        old.version = Version::HTTP_10;
        assert_eq!(opens(&old), Ok(false));
    }

    #[test]
    fn the_example_of_the_rfc_is_answered_as_there() {
        let request = example(&[("sec-websocket-protocol", "chat, superchat")]);
        let opening = examine(&request, &Settings::default()).unwrap().unwrap();
        assert_eq!(opening.protocols, ["chat", "superchat"]);
        let mut application = HeaderMap::new();
        application.insert("x-mine", HeaderValue::from_static("1"));
        application.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("forged"));
        application.insert(CONTENT_LENGTH, HeaderValue::from_static("5"));
        let response = opening.accept(Some("chat"), application).unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let headers = response.headers();
        assert_eq!(headers[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(headers[UPGRADE], "websocket");
        assert_eq!(headers[CONNECTION], "Upgrade");
        assert_eq!(headers[SEC_WEBSOCKET_PROTOCOL], "chat");
        assert_eq!(headers["x-mine"], "1");
        assert!(!headers.contains_key(CONTENT_LENGTH));
        assert!(!headers.contains_key(SEC_WEBSOCKET_EXTENSIONS));
        assert_eq!(opening.accept(Some("other"), HeaderMap::new()).unwrap_err(), ProtocolNotOffered);
    }

    #[test]
    fn extended_connect_needs_no_key_and_is_answered_with_200() {
        let mut request = parts(Method::CONNECT, Version::HTTP_2, &[("sec-websocket-version", "13")]);
        assert_eq!(examine(&request, &Settings::default()), Ok(None));
        request.extensions.insert(Protocol::from_static("websocket"));
        let opening = examine(&request, &Settings::default()).unwrap().unwrap();
        let response = opening.accept(None, HeaderMap::new()).unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.headers().is_empty());
    }

    #[test]
    fn compression_is_agreed_to_only_when_it_is_switched_on() {
        let request = example(&[("sec-websocket-extensions", "permessage-deflate; client_max_window_bits")]);
        let opening = examine(&request, &Settings::default()).unwrap().unwrap();
        let response = opening.accept(None, HeaderMap::new()).unwrap();
        assert_eq!(response.headers()[SEC_WEBSOCKET_EXTENSIONS], "permessage-deflate");
        let off = Settings { deflate: false, ..Settings::default() };
        assert_eq!(examine(&request, &off).unwrap().unwrap().deflate, None);
    }

    #[test]
    fn a_wrong_version_is_told_the_right_one() {
        let response = Refusal::Version.response();
        assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
        assert_eq!(response.headers()[SEC_WEBSOCKET_VERSION], "13");
        assert_eq!(Refusal::Key.response().status(), StatusCode::BAD_REQUEST);
    }
}
