//! The one type of request body, of HTTP/1 or HTTP/2.

use super::http2::interim::Interim;
use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A request body as it arrives.
#[derive(Debug)]
pub enum Incoming {
    Empty,
    Http1(hyper::body::Incoming),
    Http2(Http2Body),
}

/// Why a body broke off: malformed framing, or the client has left.
#[derive(Debug, thiserror::Error)]
pub enum IncomingError {
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

/// The data of one HTTP/2 stream. The client may send as much again as was taken.
#[derive(Debug)]
pub struct Http2Body {
    stream: RecvStream,
    /// What `Content-Length` promises and has not arrived; h2 sees to it that it is true.
    remaining: Option<u64>,
    interim: Arc<Interim>,
}

impl Http2Body {
    pub(super) fn new(stream: RecvStream, length: Option<u64>, interim: Arc<Interim>) -> Self {
        Self { stream, remaining: length, interim }
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, IncomingError>>> {
        let data = match self.stream.poll_data(context) {
            Poll::Ready(data) => data,
            Poll::Pending => {
                self.interim.wants_body();
                return Poll::Pending;
            }
        };
        match data {
            Some(Ok(bytes)) => {
                // An error would mean that the stream is gone, which the next call tells.
                let _ = self.stream.flow_control().release_capacity(bytes.len());
                if let Some(remaining) = &mut self.remaining {
                    *remaining = remaining.saturating_sub(bytes.len() as u64);
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => {
                let trailers = ready!(self.stream.poll_trailers(context));
                Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)).map_err(Into::into).transpose())
            }
        }
    }
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = IncomingError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncomingError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Http1(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            Self::Http2(body) => body.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.remaining.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
