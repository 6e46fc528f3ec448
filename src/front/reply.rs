//! A worker's answer becomes a response.

use super::body::{Body, BodyError, Pieces};
use super::files::internal;
use super::files::respond::{Content, Source};
use super::files::send::file_body;
use crate::upstream::error::{Cause, Reached, UpstreamError};
use crate::upstream::exchange::Event;
use crate::upstream::pool::Conversation;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, request};
use http_body::{Body as HttpBody, Frame, SizeHint};
use monoceros_wire::message::ResponseHead;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Builds the response whose head has just arrived; its body follows from the conversation.
pub(super) fn respond(
    conversation: Conversation,
    request: &request::Parts,
    payload: &Bytes,
    is_end: bool,
) -> Result<Response<Body>, UpstreamError> {
    let worker = conversation.worker();
    let (mut response, first) = head(payload, worker)?;
    let has_none = request.method == Method::HEAD
        || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = is_end.then_some(BodyFacts { length: first.len() as u64, may_lack: has_none });
    let length = settle_length(response.headers_mut(), body).map_err(|error| {
        tracing::error!("{error}: {} {} of {}", request.method, request.uri.path(), Name(worker));
        nonsense(worker)
    })?;
    *response.body_mut() = if is_end {
        Body::full(first)
    } else {
        Body::stream(AnswerBody { conversation, first: Some(first), file: None, remaining: length, is_over: false })
    };
    Ok(response)
}

/// Builds the response whose body is the file that follows (`wsgi.file_wrapper`, ASGI `pathsend`): it can be sent in parts.
pub(super) async fn respond_with_file(
    conversation: Conversation,
    request: &request::Parts,
    payload: &Bytes,
) -> Result<Response<Body>, UpstreamError> {
    let worker = conversation.worker();
    let (mut response, _) = head(payload, worker)?;
    match conversation.next().await {
        Event::File { file, range, is_end: true } => {
            let body = BodyFacts { length: range.length, may_lack: false };
            settle_length(response.headers_mut(), Some(body)).map_err(|error| {
                tracing::error!("{error}: {} {} of {}", request.method, request.uri.path(), Name(worker));
                nonsense(worker)
            })?;
            let content = Content { source: Source::File(file, range.offset), length: range.length };
            Ok(internal::with_file(response, (&request.method, &request.headers), content))
        }
        Event::Failed(error) => Err(error),
        other => {
            tracing::error!("a file was to follow the head of an answer of {}, not {other:?}", Name(worker));
            Err(nonsense(worker))
        }
    }
}

/// What is known of a body that arrived whole.
#[derive(Clone, Copy)]
struct BodyFacts {
    length: u64,
    /// The length may be announced of a body that is not sent (RFC 9110 §8.6).
    may_lack: bool,
}

/// Why a `Content-Length` cannot be sent: the client would cut the connection's bytes in the wrong place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum LengthError {
    #[error("the application sent the Content-Length {0:?}, which is no number")]
    Malformed(HeaderValue),
    #[error("the application sent two different Content-Length fields, {0} and {1}")]
    Different(u64, u64),
    #[error("the application sent the Content-Length {announced} with a body of {sent} bytes")]
    False { announced: u64, sent: u64 },
}

/// Leaves one true `Content-Length`, or none.
fn settle_length(headers: &mut HeaderMap, body: Option<BodyFacts>) -> Result<Option<u64>, LengthError> {
    let mut length = None;
    let mut count = 0;
    for value in headers.get_all(CONTENT_LENGTH) {
        let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let Some(next) = digits.and_then(|digits| digits.parse().ok()) else {
            return Err(LengthError::Malformed(value.clone()));
        };
        match length {
            Some(earlier) if earlier != next => return Err(LengthError::Different(earlier, next)),
            _ => length = Some(next),
        }
        count += 1;
    }
    let Some(announced) = length else { return Ok(None) };
    if count > 1 {
        headers.insert(CONTENT_LENGTH, announced.into());
    }
    match body {
        Some(body) if body.length != announced && (body.length > 0 || !body.may_lack) => {
            Err(LengthError::False { announced, sent: body.length })
        }
        _ => Ok(length),
    }
}

fn nonsense(worker: Option<u32>) -> UpstreamError {
    UpstreamError { cause: Cause::Incomplete, reached: Reached::Entered, worker }
}

/// A worker in the words of the log.
struct Name(Option<u32>);

impl std::fmt::Display for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(worker) => write!(formatter, "worker {worker}"),
            None => formatter.write_str("a worker"),
        }
    }
}

/// Decodes a head (of a response, an acceptance or a hint) and the bytes behind it.
pub(super) fn head(payload: &Bytes, worker: Option<u32>) -> Result<(Response<Body>, Bytes), UpstreamError> {
    let unusable = |what: std::fmt::Arguments<'_>| {
        tracing::error!("an answer of {} cannot be sent: {what}", Name(worker));
        nonsense(worker)
    };
    let decoded = ResponseHead::decode(payload).map_err(|error| unusable(format_args!("{error}")))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() =
        StatusCode::from_u16(decoded.status).map_err(|_| unusable(format_args!("the status {}", decoded.status)))?;
    if response.status().canonical_reason().is_none() {
        // Else hyper would invent one.
        response.extensions_mut().insert(hyper::ext::ReasonPhrase::from_static(b""));
    }
    response.headers_mut().reserve(decoded.fields.len() + 2);
    for (name, value) in decoded.fields {
        // The value is not quoted: it may be a secret.
        append(response.headers_mut(), name, value)
            .ok_or_else(|| unusable(format_args!("the header field \"{}\" is malformed", name.escape_ascii())))?;
    }
    Ok((response, decoded.body))
}

/// Fields that speak about a connection (RFC 9113 §8.2.2).
pub(super) static OF_THE_CONNECTION: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Appends a field. Fields that speak about the connection are ours alone, but for `Trailer`: hyper sends only the
/// trailers that it names. `None` for what is no header field.
fn append(headers: &mut HeaderMap, name: &[u8], value: &[u8]) -> Option<()> {
    let name = HeaderName::from_bytes(name).ok()?;
    let value = HeaderValue::from_bytes(value).ok()?;
    if !OF_THE_CONNECTION.contains(&name) {
        headers.append(name, value);
    }
    Some(())
}

/// The rest of an answer.
struct AnswerBody {
    conversation: Conversation,
    first: Option<Bytes>,
    /// A file that takes its place in the body, and whether it is the last part.
    file: Option<(Body, bool)>,
    /// What `Content-Length` promises and was not sent yet.
    remaining: Option<u64>,
    is_over: bool,
}

impl AnswerBody {
    fn sent(&mut self, bytes: &Bytes) {
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.saturating_sub(bytes.len() as u64);
        }
    }

    fn poll_file(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let Some((file, is_last)) = &mut self.file else { return Poll::Ready(None) };
        let next = ready!(Pin::new(file).poll_frame(context));
        if next.is_none() {
            self.is_over = *is_last;
            self.file = None;
        }
        Poll::Ready(next.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default())))
    }
}

impl Pieces for AnswerBody {
    fn limit_pieces(mut self: Pin<&mut Self>, bytes: usize) {
        if let Some((file, _)) = &mut self.file {
            file.limit_pieces(bytes);
        }
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            if let Some(bytes) = this.first.take()
                && !bytes.is_empty()
            {
                this.sent(&bytes);
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if let Some(next) = ready!(this.poll_file(context)) {
                return Poll::Ready(Some(next.map(|bytes| {
                    this.sent(&bytes);
                    Frame::data(bytes)
                })));
            }
            if this.is_over {
                return Poll::Ready(None);
            }
            match ready!(this.conversation.poll_next(context)) {
                Event::Data { bytes, is_end } => {
                    this.is_over = is_end;
                    this.first = Some(bytes);
                }
                Event::File { file, range, is_end } => {
                    this.file = Some((file_body(file, range.offset, range.length), is_end));
                }
                Event::Trailers(payload) => {
                    this.is_over = true;
                    if let Some(trailers) = trailers(&payload) {
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                }
                Event::Failed(error) => {
                    this.is_over = true;
                    return Poll::Ready(Some(Err(broken(&error))));
                }
                // A second head, a message, a hint too late: the worker checks the order, so this cannot be meant.
                _ => {
                    this.is_over = true;
                    return Poll::Ready(Some(Err(BodyError::ApplicationFailed)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over && self.first.is_none() && self.file.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn broken(error: &UpstreamError) -> BodyError {
    match error.cause {
        Cause::WorkerDied => BodyError::WorkerLost,
        _ => BodyError::ApplicationFailed,
    }
}

fn trailers(payload: &Bytes) -> Option<HeaderMap> {
    let decoded = ResponseHead::decode(payload).ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in decoded.fields {
        append(&mut headers, name, value)?;
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed preparation is a failed test")]
    use super::*;

    /// The fields, what is known of the body, what is sent.
    type Case = (&'static [&'static str], Option<BodyFacts>, Result<Option<u64>, LengthError>);

    #[test]
    fn one_true_length_is_sent_or_none() {
        let whole = |length| Some(BodyFacts { length, may_lack: false });
        let head = |length| Some(BodyFacts { length, may_lack: true });
        let different = Err(LengthError::Different(3, 5));
        let too_long = |sent| Err(LengthError::False { announced: 3, sent });
        let cases: [Case; 13] = [
            (&[], whole(5), Ok(None)),
            (&["5"], whole(5), Ok(Some(5))),
            (&["5", "5"], whole(5), Ok(Some(5))),
            (&["3", "5"], whole(5), different),
            (&["3", "5"], None, Err(LengthError::Different(3, 5))),
            (&["3"], None, Ok(Some(3))),
            (&["3"], whole(5), too_long(5)),
            (&["3"], whole(0), too_long(0)),
            (&["3"], head(0), Ok(Some(3))),
            (&["3"], head(5), too_long(5)),
            (&["+3"], None, Err(LengthError::Malformed(HeaderValue::from_static("+3")))),
            (&["3, 3"], None, Err(LengthError::Malformed(HeaderValue::from_static("3, 3")))),
            (&[""], None, Err(LengthError::Malformed(HeaderValue::from_static("")))),
        ];
        for (values, body, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_LENGTH, HeaderValue::from_static(value));
            }
            let settled = settle_length(&mut headers, body);
            assert_eq!(settled, expected, "{values:?}");
            if settled.is_ok() {
                assert!(headers.get_all(CONTENT_LENGTH).iter().count() <= 1, "{values:?}");
            }
        }
    }

    #[test]
    fn fields_about_the_connection_are_left_out_and_malformed_ones_refused() {
        let mut headers = HeaderMap::new();
        assert_eq!(append(&mut headers, b"connection", b"close"), Some(()));
        assert_eq!(append(&mut headers, b"x-a", b"b"), Some(()));
        assert_eq!(append(&mut headers, b"x-a", b"b\0"), None);
        assert_eq!(append(&mut headers, b"x a", b"b"), None);
        assert_eq!(headers.len(), 1);
    }
}
