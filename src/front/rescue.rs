//! The one place where a failure becomes a status and a page.

use super::body::Body;
use super::error_pages::ErrorPages;
use super::gate::Refusal;
use super::intake::IntakeError;
use super::maintenance::Notice;
use super::websocket::handshake;
use crate::upstream::error::{Cause, UpstreamError};
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Response, StatusCode, Version, request};
use std::borrow::Cow;
use std::sync::Arc;

const TEMPLATE: &str = include_str!("../../static/error.html");
const MAINTENANCE: &str = include_str!("../../static/maintenance.html");

/// Why a request gets no answer of its own, and whose fault it is.
#[derive(Debug)]
pub enum Failure {
    /// The client's: the gate did not let the request in.
    Refused(Refusal),
    /// The client's: it asked for a WebSocket wrongly.
    WebSocket(handshake::Refusal),
    NotFound,
    /// The operator's: the program may not read what is there.
    Forbidden,
    /// `allow` is the list of methods that would do.
    MethodNotAllowed {
        allow: &'static str,
    },
    /// `limit` in bytes.
    BodyTooLarge {
        limit: u64,
    },
    /// The body did not come in.
    Intake(IntakeError),
    /// The application's, the worker's, or nobody was free.
    Upstream(UpstreamError),
    /// Nobody's: the operator works on the site.
    Maintenance(Arc<Notice>),
    /// Ours.
    Internal,
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

impl From<IntakeError> for Failure {
    fn from(error: IntakeError) -> Self {
        Self::Intake(error)
    }
}

/// How the sender of a request wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// `HEAD` gets no body.
    pub head: bool,
    /// HTTP/2 knows no `Connection: close`.
    pub http1: bool,
    pub format: Format,
}

/// What a page is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    Html,
    /// RFC 9457 problem details.
    Problem,
    #[default]
    Plain,
}

impl Asker {
    pub fn of(request: &request::Parts) -> Self {
        let accept = request.headers.get(ACCEPT).map_or(&b""[..], HeaderValue::as_bytes);
        Self {
            head: request.method == Method::HEAD,
            http1: request.version < Version::HTTP_2,
            format: Format::preferred(accept),
        }
    }

    /// Out of a refused, perhaps broken HTTP/1 head.
    pub fn of_bytes(head: &[u8]) -> Self {
        let accept = head.split(|&byte| byte == b'\n').skip(1).find_map(|line| {
            let (name, value) = line.split_at_checked("accept:".len())?;
            name.eq_ignore_ascii_case(b"accept:").then_some(value)
        });
        Self { head: head.starts_with(b"HEAD "), http1: true, format: Format::preferred(accept.unwrap_or_default()) }
    }
}

impl Format {
    /// What an `Accept` value (RFC 9110 §12.5.1) likes best; of equals, what it names first.
    fn preferred(accept: &[u8]) -> Self {
        let accept = String::from_utf8_lossy(accept).to_ascii_lowercase();
        let mut best = (0, Self::Plain);
        for element in accept.split(',') {
            let mut parts = element.split(';').map(str::trim);
            let format = match parts.next().unwrap_or_default() {
                "text/html" | "application/xhtml+xml" => Self::Html,
                "application/problem+json" | "application/json" => Self::Problem,
                "text/plain" => Self::Plain,
                _ => continue,
            };
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |weight| weight.parse().ok());
            let thousandths = (weight.unwrap_or(0.0_f32).clamp(0.0, 1.0) * 1000.0) as u16;
            if thousandths > best.0 {
                best = (thousandths, format);
            }
        }
        best.1
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Problem => "application/problem+json",
            Self::Plain => "text/plain; charset=utf-8",
        })
    }
}

impl Failure {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => refused(*refusal),
            Self::WebSocket(refusal) => refusal.response().status(),
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge { .. } | Self::Intake(IntakeError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Intake(IntakeError::Timeout(_)) => StatusCode::REQUEST_TIMEOUT,
            Self::Intake(IntakeError::Broken(_)) => StatusCode::BAD_REQUEST,
            Self::Upstream(error) => not_answered(error.cause),
            Self::Maintenance(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Intake(IntakeError::Storage(_)) | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What the client is told besides the status. Of the inside it learns nothing: causes are for the log.
    fn detail(&self) -> Cow<'static, str> {
        match self {
            Self::Refused(refusal) => format!("The request was not let in: {refusal}.").into(),
            Self::WebSocket(refusal) => format!("The WebSocket was not opened: {refusal}.").into(),
            Self::NotFound => "There is nothing at this address.".into(),
            Self::Forbidden => "The server may not read what is at this address.".into(),
            Self::MethodNotAllowed { allow } => format!("This address answers {allow} only.").into(),
            Self::BodyTooLarge { limit } | Self::Intake(IntakeError::TooLarge { limit }) => {
                format!("The request body is larger than {} ({limit} bytes, setting `--max-body`).", Size(*limit))
                    .into()
            }
            Self::Intake(IntakeError::Timeout(_)) => "The request body did not arrive in time.".into(),
            Self::Intake(IntakeError::Broken(_)) => "The request body is malformed or incomplete.".into(),
            Self::Upstream(error) => told(error.cause).into(),
            Self::Maintenance(notice) => notice.message.clone().into(),
            Self::Intake(IntakeError::Storage(_)) | Self::Internal => {
                "The server failed to answer this request.".into()
            }
        }
    }

    /// Seconds after which it is worth to ask again.
    fn retry_after(&self) -> Option<u32> {
        match self {
            // A part of a second counts as one.
            Self::Maintenance(notice) => u32::try_from(notice.retry_after.as_millis().div_ceil(1000)).ok(),
            Self::Upstream(UpstreamError { cause: Cause::Unavailable, .. }) => Some(5),
            Self::Upstream(UpstreamError { cause: Cause::BootFailed { seconds }, .. }) => Some(*seconds),
            Self::Upstream(UpstreamError {
                cause: Cause::QueueFull | Cause::QueueTimeout | Cause::Unwanted(503),
                ..
            }) => Some(1),
            _ => None,
        }
    }

    fn allow(&self) -> Option<&'static str> {
        match self {
            Self::MethodNotAllowed { allow } => Some(allow),
            Self::Refused(Refusal::MethodNotAllowed { .. }) => Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            _ => None,
        }
    }

    /// After these, what the connection carries next cannot be trusted, or is a body nobody wants to read.
    fn closes(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::BodyTooLarge { .. } | Self::Intake(_))
    }
}

fn not_answered(cause: Cause) -> StatusCode {
    match cause {
        Cause::WorkerDied => StatusCode::BAD_GATEWAY,
        Cause::QueueFull | Cause::QueueTimeout | Cause::Unavailable | Cause::BootFailed { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Cause::Timeout => StatusCode::GATEWAY_TIMEOUT,
        // A good status can be a sign by a header field; without its answer it would be a lie.
        Cause::Unwanted(status) if status >= 400 => StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY),
        Cause::Unwanted(_) => StatusCode::BAD_GATEWAY,
        Cause::Raised | Cause::Incomplete => StatusCode::INTERNAL_SERVER_ERROR,
        Cause::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Cause::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    }
}

fn told(cause: Cause) -> &'static str {
    match cause {
        Cause::WorkerDied => "The application ended while it worked on the request. It may have taken effect.",
        Cause::QueueFull | Cause::QueueTimeout => {
            "The application has more to do than it can. Please try again in a moment."
        }
        Cause::Unavailable | Cause::BootFailed { .. } => "The application is not running at the moment.",
        Cause::Timeout => "The application took too long to answer.",
        Cause::Raised | Cause::Incomplete | Cause::Unwanted(_) => "The application failed to answer this request.",
        Cause::Unsupported => "The application cannot answer this kind of request.",
        Cause::TooLarge => "The request head is larger than the application can be given.",
    }
}

fn refused(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::TargetTooLong { .. } => StatusCode::URI_TOO_LONG,
        Refusal::HeadTooLong { .. } | Refusal::TooManyFields { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Refusal::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        Refusal::TransferCoding | Refusal::Protocol => StatusCode::NOT_IMPLEMENTED,
        Refusal::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::HeaderTimeout => StatusCode::REQUEST_TIMEOUT,
        Refusal::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// The built-in page for a failure.
pub fn page(failure: &Failure, asker: &Asker) -> Response<Body> {
    respond(failure, *asker, None)
}

/// The page of the site for a failure, or the built-in one.
pub fn site_page(failure: &Failure, asker: &Asker, pages: &ErrorPages) -> Response<Body> {
    let own = match failure {
        _ if asker.format != Format::Html => None,
        Failure::Maintenance(_) => pages.for_maintenance(),
        _ => pages.for_status(failure.status()),
    };
    respond(failure, *asker, own)
}

fn respond(failure: &Failure, asker: Asker, own: Option<&str>) -> Response<Body> {
    let status = failure.status();
    let text = if asker.head { String::new() } else { render(failure, asker.format, own) };
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Failure::WebSocket(refusal) = failure {
        headers.extend(refusal.response().into_parts().0.headers);
    }
    headers.insert(CONTENT_TYPE, asker.format.content_type());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = failure.retry_after() {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    if let Some(allow) = failure.allow() {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    if asker.http1 && failure.closes() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// `own` is a page of the site, in place of the built-in one.
fn render(failure: &Failure, format: Format, own: Option<&str>) -> String {
    let (status, detail) = (failure.status(), failure.detail());
    let title = status.canonical_reason().unwrap_or("Error");
    match format {
        Format::Html => {
            let (built_in, title) = match failure {
                Failure::Maintenance(_) => (MAINTENANCE, "Down for maintenance"),
                _ => (TEMPLATE, title),
            };
            own.unwrap_or(built_in)
                .replace("{{status}}", status.as_str())
                .replace("{{title}}", title)
                .replace("{{detail}}", &escape(&detail))
        }
        Format::Problem => serde_json::json!({
            "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail,
        })
        .to_string(),
        Format::Plain => format!("{} {title}\n{detail}\n", status.as_str()),
    }
}

/// No detail holds a client's words today; escaped all the same, because one day one will.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Bytes for people.
struct Size(u64);

impl std::fmt::Display for Size {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
            if self.0 >= unit && self.0.is_multiple_of(unit) {
                return write!(formatter, "{} {name}", self.0 / unit);
            }
        }
        write!(formatter, "{} bytes", self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed preparation is a failed test")]
    use super::*;
    use crate::upstream::error::Reached;
    use http_body::Body as _;

    const PLAIN: Asker = Asker { head: false, http1: true, format: Format::Plain };

    #[test]
    fn every_failure_has_its_status_and_its_headers() {
        let upstream = |cause| Failure::Upstream(UpstreamError { cause, reached: Reached::Entered, worker: Some(1) });
        let storage = Failure::Intake(IntakeError::Storage(std::io::ErrorKind::StorageFull.into()));
        let cases: &[(Failure, u16, Option<&str>, bool)] = &[
            (Failure::Refused(Refusal::BareLineFeed), 400, None, true),
            (Failure::Refused(Refusal::TargetTooLong { limit: 1 }), 414, None, true),
            (Failure::Refused(Refusal::HeadTooLong { limit: 1 }), 431, None, true),
            (Failure::Refused(Refusal::TooManyFields { limit: 1 }), 431, None, true),
            (Failure::Refused(Refusal::Version), 505, None, true),
            (Failure::Refused(Refusal::TransferCoding), 501, None, true),
            (Failure::Refused(Refusal::MethodNotAllowed { method: "TRACE" }), 405, None, true),
            (Failure::Refused(Refusal::HeaderTimeout), 408, None, true),
            (Failure::WebSocket(handshake::Refusal::Key), 400, None, false),
            (Failure::NotFound, 404, None, false),
            (Failure::Forbidden, 403, None, false),
            (Failure::MethodNotAllowed { allow: "GET" }, 405, None, false),
            (Failure::BodyTooLarge { limit: 1 }, 413, None, true),
            (Failure::Intake(IntakeError::TooLarge { limit: 1 }), 413, None, true),
            (Failure::Intake(IntakeError::Timeout(std::time::Duration::ZERO)), 408, None, true),
            (storage, 500, None, true),
            (upstream(Cause::WorkerDied), 502, None, false),
            (upstream(Cause::Unavailable), 503, Some("5"), false),
            (upstream(Cause::BootFailed { seconds: 7 }), 503, Some("7"), false),
            (upstream(Cause::QueueFull), 503, Some("1"), false),
            (upstream(Cause::QueueTimeout), 503, Some("1"), false),
            (upstream(Cause::Unwanted(503)), 503, Some("1"), false),
            (upstream(Cause::Unwanted(429)), 429, None, false),
            (upstream(Cause::Unwanted(200)), 502, None, false),
            (upstream(Cause::Timeout), 504, None, false),
            (upstream(Cause::Raised), 500, None, false),
            (upstream(Cause::Incomplete), 500, None, false),
            (upstream(Cause::Unsupported), 501, None, false),
            (upstream(Cause::TooLarge), 431, None, false),
            (Failure::Internal, 500, None, false),
        ];
        for (failure, status, retry_after, closes) in cases {
            let response = page(failure, &PLAIN);
            let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
            assert_eq!(response.status(), *status, "{failure:?}");
            assert_eq!(header("retry-after"), *retry_after, "{failure:?}");
            assert_eq!(header("connection"), closes.then_some("close"), "{failure:?}");
            assert_eq!(header("allow").is_some(), *status == 405, "{failure:?}");
            assert_eq!(page(failure, &Asker { http1: false, ..PLAIN }).headers().get("connection"), None);
        }
        let wrong_version = page(&Failure::WebSocket(handshake::Refusal::Version), &PLAIN);
        assert_eq!(
            (wrong_version.status().as_u16(), &wrong_version.headers()["upgrade"]),
            (426, &"websocket".parse().unwrap())
        );
    }

    #[test]
    fn the_client_chooses_the_format() {
        for (accept, expected) in [
            ("", Format::Plain),
            ("*/*", Format::Plain),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Html),
            ("application/json", Format::Problem),
            ("application/json, text/html", Format::Problem),
            ("application/json;q=0.5, text/html", Format::Html),
            ("TEXT/HTML;q=0", Format::Plain),
            ("text/html;q=nonsense", Format::Plain),
        ] {
            assert_eq!(Format::preferred(accept.as_bytes()), expected, "{accept}");
        }
        let asker = Asker::of_bytes(b"HEAD / HTTP/1.1\r\nhost: a\r\nACCEPT: text/html\r\n");
        assert_eq!(asker, Asker { head: true, http1: true, format: Format::Html });
    }

    #[test]
    fn pages() {
        let failure = Failure::BodyTooLarge { limit: 1 << 20 };
        let html = render(&failure, Format::Html, None);
        assert!(html.contains("<title>413 Payload Too Large</title>") && html.contains("1 MiB"));
        let said = |message: &str| {
            let (retry_after, message) = (std::time::Duration::from_millis(1500), message.to_owned());
            Failure::Maintenance(Arc::new(Notice { retry_after, message, bypass: Vec::new() }))
        };
        let closed = render(&said("<script>"), Format::Html, None);
        assert!(closed.contains("<title>Down for maintenance</title>") && closed.contains("&lt;script&gt;"));
        for html in [html, closed] {
            assert!(!html.contains("{{") && !html.contains("http://") && !html.contains("https://"));
        }
        assert_eq!(render(&failure, Format::Html, Some("{{status}}: {{title}}")), "413: Payload Too Large");
        let problem = render(&said("a \"quote\""), Format::Problem, None);
        let problem: serde_json::Value = serde_json::from_str(&problem).unwrap_or_default();
        assert_eq!((&problem["status"], &problem["detail"]), (&503.into(), &"a \"quote\"".into()));
        assert_eq!(page(&said("closed"), &PLAIN).headers()["retry-after"], "2");
        assert!(page(&failure, &Asker { head: true, ..PLAIN }).body().is_end_stream());
    }
}
