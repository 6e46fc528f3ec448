//! The one type of response body: nothing, bytes, or a stream.

use crate::telemetry::access::Counted;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A response body that is made piece by piece.
pub trait Pieces: HttpBody<Data = Bytes, Error = BodyError> {
    /// Asks for pieces of at most so many bytes from now on: the client takes no more at a time. A body that has its
    /// bytes already need not care.
    fn limit_pieces(self: Pin<&mut Self>, _bytes: usize) {}
}

/// Why a body broke off after the head was sent. The connection is cut then: never a false end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the worker ended before its answer was complete")]
    WorkerLost,
    #[error("the application failed after it had started its answer")]
    ApplicationFailed,
    #[error("the file became shorter while it was sent")]
    FileShrank,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Pieces for Counted<Body> {
    fn limit_pieces(mut self: Pin<&mut Self>, bytes: usize) {
        self.body_mut().limit_pieces(bytes);
    }
}

/// A response body.
pub enum Body {
    /// `None` once it was sent, or when there is none.
    Full(Option<Bytes>),
    Stream(Pin<Box<dyn Pieces + Send>>),
}

impl std::fmt::Debug for Body {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(bytes) => formatter.debug_tuple("Full").field(&bytes.as_ref().map(Bytes::len)).finish(),
            Self::Stream(_) => formatter.write_str("Stream"),
        }
    }
}

impl Body {
    pub fn empty() -> Self {
        Self::Full(None)
    }

    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::Full((!bytes.is_empty()).then_some(bytes))
    }

    pub fn stream(body: impl Pieces + Send + 'static) -> Self {
        Self::Stream(Box::pin(body))
    }

    /// See [`Pieces::limit_pieces`].
    pub fn limit_pieces(&mut self, bytes: usize) {
        if let Self::Stream(stream) = self {
            stream.as_mut().limit_pieces(bytes);
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => stream.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_none(),
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}
