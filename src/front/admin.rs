//! The listener for operators (`--admin-bind`): what clients of the site are not to see.

use super::body::Body;
use super::health::{Health, Question};
use super::incoming::Incoming;
use super::rescue::{self, Asker, Failure};
use super::{Answer, ConnectionInfo};
use http::{Request, Response};
use std::sync::Arc;

/// Everything under this path is ours.
const PREFIX: &str = "/-/";

/// Answers what comes in on the admin listener.
#[derive(Debug)]
pub struct Admin {
    pub health: Arc<Health>,
}

impl Answer for Admin {
    async fn answer(self: Arc<Self>, _: Arc<ConnectionInfo>, request: Request<Incoming>) -> Response<Body> {
        let (parts, _) = request.into_parts();
        match parts.uri.path().strip_prefix(PREFIX).and_then(Question::named) {
            Some(question) => self.health.answer(question, &parts),
            None => rescue::page(&Failure::NotFound, &Asker::of(&parts)),
        }
    }
}
