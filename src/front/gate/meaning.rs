//! What a request head means, after hyper or h2 has parsed it: one form for HTTP/1 and HTTP/2, or a refusal.
//!
//! What comes out: the target is in origin-form with a normal path (or `OPTIONS *`), there is exactly one valid `Host`
//! (HTTP/1.0 may have none), no header belongs to the connection, no header name could be mistaken for another once an
//! application server has turned `-` into `_`.

use super::head::has_element;
use super::raw::Limits;
use super::{Refusal, WebSocket, host, path, trim};
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, Entry, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, request};

/// Hop-by-hop headers (RFC 9110 §7.6.1), whatever `Connection` says.
static HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    UPGRADE,
    // The settings of an h2c upgrade, which is not done: handed on, they could upgrade somebody behind us.
    HeaderName::from_static("http2-settings"),
];

/// Never removed because a client lists them in `Connection`: an application's decisions hang on them.
static KEPT: [HeaderName; 4] = [HOST, AUTHORIZATION, COOKIE, CONTENT_LENGTH];

/// Checks a head and brings it into the one form. `secure` says whether the client came over TLS.
/// A request for a WebSocket gets the mark [`WebSocket`]; no other may be answered with 101.
pub fn examine(request: &mut request::Parts, secure: bool) -> Result<(), Refusal> {
    let websocket = check_method(request)?;
    if request.version >= Version::HTTP_2 {
        adopt_authority(request)?;
    }
    check_host(request, secure)?;
    normalise_target(request)?;
    // Before the names with an underscore go: `Connection` may list them.
    remove_hop_by_hop(&mut request.headers, websocket && request.version < Version::HTTP_2);
    tidy_fields(&mut request.headers);
    if request.version >= Version::HTTP_2 {
        join_cookies(&mut request.headers);
        trim_values(&mut request.headers);
    }
    if websocket {
        request.extensions.insert(WebSocket);
    }
    Ok(())
}

/// The limits of an HTTP/2 head that h2 does not know. HTTP/1 heads were checked as they were read.
pub fn check_size(request: &request::Parts, limits: Limits) -> Result<(), Refusal> {
    if request.version < Version::HTTP_2 {
        return Ok(());
    }
    if request.uri.path_and_query().is_some_and(|target| target.as_str().len() > limits.target_bytes) {
        return Err(Refusal::TargetTooLong { limit: limits.target_bytes });
    }
    // As in HTTP/1, where `Host` counts and all cookies are one field.
    let crumbs = request.headers.get_all(COOKIE).iter().count();
    let host = usize::from(request.uri.authority().is_some() && !request.headers.contains_key(HOST));
    if request.headers.len() + host - crumbs.saturating_sub(1) > limits.header_fields {
        return Err(Refusal::TooManyFields { limit: limits.header_fields });
    }
    Ok(())
}

/// Refuses methods that are not served; the result is whether a WebSocket is asked for.
fn check_method(request: &request::Parts) -> Result<bool, Refusal> {
    match request.method {
        Method::GET => Ok(request.version == Version::HTTP_11 && asks_for_websocket(&request.headers)),
        Method::HEAD | Method::POST | Method::PUT | Method::DELETE | Method::PATCH | Method::OPTIONS => Ok(false),
        // TRACE would send cookies and credentials back in a body that a script can read.
        Method::TRACE => Err(Refusal::MethodNotAllowed { method: "TRACE" }),
        Method::CONNECT => match request.extensions.get::<h2::ext::Protocol>() {
            Some(protocol) if protocol.as_str() == "websocket" => Ok(true),
            Some(_) => Err(Refusal::Protocol),
            None => Err(Refusal::MethodNotAllowed { method: "CONNECT" }),
        },
        // Method names are case-sensitive: `get` is not GET, and would slip past a rule about GET.
        ref other if other.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) => Err(Refusal::Method),
        _ => Ok(false),
    }
}

/// Exactly what the scanner of HTTP/1 bytes takes for a possible upgrade ([`super::head::Body::Upgrade`]).
fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let lists =
        |name: HeaderName, word: &[u8]| headers.get_all(name).iter().any(|value| has_element(value.as_bytes(), word));
    // One look-up settles it for almost every request.
    headers.contains_key(UPGRADE)
        && lists(UPGRADE, b"websocket")
        && lists(CONNECTION, b"upgrade")
        && !headers.contains_key(TRANSFER_ENCODING)
        && headers.get(CONTENT_LENGTH).is_none_or(|length| length.as_bytes().iter().all(|&digit| digit == b'0'))
}

/// Makes `:authority` the `Host` (RFC 9113 §8.3.1). Where both stand, they must be one and the same.
fn adopt_authority(request: &mut request::Parts) -> Result<(), Refusal> {
    let Some(authority) = request.uri.authority() else { return Ok(()) };
    let authority = authority.as_str();
    match request.headers.entry(HOST) {
        Entry::Occupied(host) => {
            let mut values = host.iter();
            let same = values.next().is_some_and(|host| host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()));
            match (values.next(), same) {
                (Some(_), _) => Err(Refusal::HostTwice),
                (None, false) => Err(Refusal::HostMismatch),
                (None, true) => Ok(()),
            }
        }
        Entry::Vacant(host) => {
            host.insert(HeaderValue::try_from(authority).map_err(|_| Refusal::HostInvalid)?);
            Ok(())
        }
    }
}

fn check_host(request: &request::Parts, secure: bool) -> Result<(), Refusal> {
    let mut hosts = request.headers.get_all(HOST).iter();
    let Some(host) = hosts.next() else {
        return if request.version == Version::HTTP_10 { Ok(()) } else { Err(Refusal::HostMissing) };
    };
    if hosts.next().is_some() {
        return Err(Refusal::HostTwice);
    }
    let host = host.to_str().map_err(|_| Refusal::HostInvalid)?;
    if host.is_empty() {
        return Err(Refusal::HostMissing);
    }
    if !host::is_valid(host.as_bytes()) {
        return Err(Refusal::HostInvalid);
    }
    let default_port = match request.uri.scheme_str() {
        Some("https") => 443,
        Some(_) => 80,
        None if secure => 443,
        None => 80,
    };
    match request.uri.authority() {
        Some(authority) if !host::is_same(authority.as_str(), host, default_port) => Err(Refusal::HostMismatch),
        _ => Ok(()),
    }
}

fn normalise_target(request: &mut request::Parts) -> Result<(), Refusal> {
    let uri = &request.uri;
    let origin_form = uri.authority().is_none() && uri.scheme().is_none();
    if uri.path() == "*" {
        return if request.method == Method::OPTIONS { Ok(()) } else { Err(Refusal::Asterisk) };
    }
    let normal = path::normalise(uri.path())?;
    let replacement = match normal {
        std::borrow::Cow::Borrowed(_) if origin_form => return Ok(()),
        std::borrow::Cow::Borrowed(_) => match uri.path_and_query() {
            // `http://a?b` has no path of its own.
            Some(target) if target.as_str().starts_with('?') => {
                Some(PathAndQuery::try_from(["/", target.as_str()].concat()).map_err(|_| Refusal::TargetCharacter)?)
            }
            target => target.cloned(),
        },
        std::borrow::Cow::Owned(path) => {
            let target = match uri.query() {
                Some(query) => format!("{path}?{query}"),
                None => path,
            };
            Some(PathAndQuery::try_from(target).map_err(|_| Refusal::TargetCharacter)?)
        }
    };
    request.uri = Uri::from(replacement.unwrap_or_else(|| PathAndQuery::from_static("/")));
    Ok(())
}

/// Removes what concerns this connection only, and what the client lists in `Connection` as such.
fn remove_hop_by_hop(headers: &mut HeaderMap, keep_upgrade: bool) {
    let listed: Vec<HeaderName> = match headers.get(CONNECTION) {
        None => Vec::new(),
        Some(_) => headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
            .map(trim)
            // The words that mean the connection itself, not a header.
            .filter(|word| ![&b"close"[..], b"keep-alive", b"upgrade"].iter().any(|own| word.eq_ignore_ascii_case(own)))
            .filter_map(|word| HeaderName::from_bytes(word).ok())
            .filter(|name| !is_kept(name))
            .collect(),
    };
    for name in &listed {
        headers.remove(name);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if keep_upgrade {
        // Whoever answers the handshake reads one value, not the client's list of wishes.
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
}

fn is_kept(name: &HeaderName) -> bool {
    KEPT.contains(name) || name.as_str().starts_with("x-forwarded-") || *name == "forwarded" || *name == "x-real-ip"
}

/// Drops names with `_` or `.`: WSGI and CGI write `-` as `_`, so that `X_Real_IP` would pass for `X-Real-IP`
/// (nginx: `underscores_in_headers off`, `ignore_invalid_headers on`).
fn tidy_fields(headers: &mut HeaderMap) {
    let ambiguous = |name: &HeaderName| memchr::memchr2(b'_', b'.', name.as_str().as_bytes()).is_some();
    if headers.keys().any(ambiguous) {
        let names: Vec<HeaderName> = headers.keys().filter(|name| ambiguous(name)).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
}

/// HTTP/2 may send a cookie header in crumbs; an application must see one (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// HTTP/1's parser does this; in HTTP/2 a space at either end arrives as it was sent.
fn trim_values(headers: &mut HeaderMap) {
    for value in headers.values_mut() {
        let trimmed = trim(value.as_bytes());
        if trimmed.len() != value.len()
            && let Ok(trimmed) = HeaderValue::from_bytes(trimmed)
        {
            *value = trimmed;
        }
    }
}
