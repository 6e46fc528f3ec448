//! A worker's answer becomes a response.

use super::body::{Body, BodyError, Pieces};
use super::files::send::file_body;
use crate::upstream::error::{Cause, Reached, UpstreamError};
use crate::upstream::exchange::Event;
use crate::upstream::pool::Conversation;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use monoceros_wire::message::ResponseHead;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Builds the response whose head has just arrived; its body follows from the conversation.
pub(super) fn respond(
    conversation: Conversation,
    payload: &Bytes,
    is_end: bool,
) -> Result<Response<Body>, UpstreamError> {
    let (mut response, first) = head(payload, conversation.worker())?;
    *response.body_mut() = if is_end {
        Body::full(first)
    } else {
        let length = response.headers().get(http::header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        Body::stream(AnswerBody { conversation, first: Some(first), file: None, remaining: length, is_over: false })
    };
    Ok(response)
}

/// Decodes a head (of a response, an acceptance or a hint) and the bytes behind it.
pub(super) fn head(payload: &Bytes, worker: Option<u32>) -> Result<(Response<Body>, Bytes), UpstreamError> {
    let nonsense = UpstreamError { cause: Cause::Incomplete, reached: Reached::Entered, worker };
    let decoded = ResponseHead::decode(payload).map_err(|_| nonsense)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(decoded.status).map_err(|_| nonsense)?;
    response.headers_mut().reserve(decoded.fields.len() + 2);
    for (name, value) in decoded.fields {
        append(response.headers_mut(), name, value).ok_or(nonsense)?;
    }
    Ok((response, decoded.body))
}

/// Appends a field. Fields that speak about the connection are ours alone, but for `Trailer`: hyper sends only the
/// trailers that it names. `None` for what is no header field.
fn append(headers: &mut HeaderMap, name: &[u8], value: &[u8]) -> Option<()> {
    let name = HeaderName::from_bytes(name).ok()?;
    let value = HeaderValue::from_bytes(value).ok()?;
    let is_hop_by_hop = matches!(
        name.as_str(),
        "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade"
    );
    if !is_hop_by_hop {
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
