//! stub
use super::body::Body;
use super::intake::IntakeError;
use super::websocket::handshake;
use crate::upstream::error::{Cause, UpstreamError};
use http::*;
#[derive(Debug)]
pub enum Failure {
    Refused(super::gate::meaning::Refusal),
    WebSocket(handshake::Refusal),
    NotFound,
    MethodNotAllowed { allow: &'static str },
    BodyTooLarge { limit: u64 },
    Intake(IntakeError),
    Upstream(UpstreamError),
    Internal,
}
impl From<UpstreamError> for Failure {
    fn from(e: UpstreamError) -> Self {
        Self::Upstream(e)
    }
}
impl From<IntakeError> for Failure {
    fn from(e: IntakeError) -> Self {
        Self::Intake(e)
    }
}
pub fn respond(f: &Failure, _m: &Method, _h: &HeaderMap) -> Response<Body> {
    let s = match f {
        Failure::NotFound => 404,
        Failure::Upstream(e) => match e.cause {
            Cause::WorkerDied => 502,
            Cause::Raised | Cause::Incomplete => 500,
            Cause::Timeout => 504,
            _ => 503,
        },
        Failure::Refused(_) | Failure::WebSocket(_) => 400,
        Failure::MethodNotAllowed { .. } => 405,
        Failure::BodyTooLarge { .. } => 413,
        Failure::Intake(IntakeError::TooLarge { .. }) => 413,
        Failure::Intake(_) => 400,
        Failure::Internal => 500,
    };
    Response::builder().status(s).body(Body::full(format!("{f:?}\n"))).unwrap()
}
