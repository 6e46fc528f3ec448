//! The request path that holds now: it can be replaced between two requests of the same connection.

use super::body::Body;
use super::incoming::Incoming;
use super::pipeline::Pipeline;
use super::{Answer, ConnectionInfo};
use arc_swap::ArcSwap;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub struct Site {
    pipeline: ArcSwap<Pipeline>,
}

impl Site {
    pub fn new(pipeline: Pipeline) -> Self {
        Self { pipeline: ArcSwap::from_pointee(pipeline) }
    }

    /// From now on requests take this path; those on their way stay on theirs.
    pub fn replace(&self, pipeline: Pipeline) {
        self.pipeline.store(Arc::new(pipeline));
    }
}

impl Answer for Site {
    async fn answer(self: Arc<Self>, connection: Arc<ConnectionInfo>, request: Request<Incoming>) -> Response<Body> {
        self.pipeline.load_full().answer(connection, request).await
    }

    fn turned_away(&self, connection: &ConnectionInfo, request: &Parts, status: StatusCode) {
        self.pipeline.load().turned_away(connection, request, status);
    }
}
