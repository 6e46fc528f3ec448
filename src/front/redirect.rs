//! http → https.

use super::body::Body;
use super::gate::host;
use super::rescue::{self, Asker, Failure};
use http::header::{CONNECTION, HOST, LOCATION};
use http::{HeaderValue, Response, StatusCode, Version, request};

/// Sends the client to the same place over HTTPS. The request went through the gate: its Host is a host and its target a
/// path, so that the location leads to the host the client chose itself and to no other.
///
/// 308 (RFC 9110 §15.4.9) keeps the method and the body, where 301 would let a POST become a GET.
pub fn to_https(request: &request::Parts, port: u16) -> Response<Body> {
    match location(request, port) {
        Some(location) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
            response.headers_mut().insert(LOCATION, location);
            if request.version < Version::HTTP_2 {
                // The client goes elsewhere; its body, if any, is not waited for.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
        // An HTTP/1.0 client without a Host cannot be told where to go.
        None => rescue::page(&Failure::Refused(super::gate::Refusal::HostMissing), &Asker::of(request)),
    }
}

fn location(request: &request::Parts, port: u16) -> Option<HeaderValue> {
    let host = host::name(request.headers.get(HOST)?.to_str().ok()?);
    let target = request.uri.path_and_query().map_or("/", |target| target.as_str());
    let target = if target == "*" { "/" } else { target };
    let location =
        if port == 443 { format!("https://{host}{target}") } else { format!("https://{host}:{port}{target}") };
    HeaderValue::try_from(location).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed preparation is a failed test")]
    use super::*;

    #[test]
    fn locations() {
        for (host, target, port, expected) in [
            ("example.org", "/", 443, "https://example.org/"),
            ("example.org:8080", "/a?b=c", 8443, "https://example.org:8443/a?b=c"),
            ("[::1]:80", "/a", 443, "https://[::1]/a"),
            ("a", "*", 443, "https://a/"),
        ] {
            let request = http::Request::builder().uri(target).header("host", host).body(()).unwrap();
            let response = to_https(&request.into_parts().0, port);
            assert_eq!(response.status(), 308);
            assert_eq!(response.headers()["location"], expected);
        }
        let request = http::Request::builder().uri("/").body(()).unwrap();
        assert_eq!(to_https(&request.into_parts().0, 443).status(), 400);
    }
}
