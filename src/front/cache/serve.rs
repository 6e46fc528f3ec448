//! The way of a request through the cache, up to the moment at which the application is asked.

use super::ask::Question;
use super::directives::Directives;
use super::flight::{Boarding, Landing, Leader, landed};
use super::key::Key;
use super::rules::{self, Reuse};
use super::status::{Forward, Status, Way};
use super::store::Found;
use super::stored::{CACHE_STATUS, Stored};
use super::{Cache, Counts};
use crate::front::ConnectionInfo;
use crate::front::body::Body;
use crate::front::incoming::Incoming;
use crate::front::pipeline::{Pipeline, Served};
use crate::front::rescue::Failure;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_LOCATION, HOST, IF_MATCH, IF_UNMODIFIED_SINCE, LOCATION, RANGE,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Extensions, HeaderValue, Method, Response, StatusCode};
use http_body::Body as _;
use monoceros_wire::sys::monotonic_now;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// Milliseconds of the clock that nobody sets.
pub(super) fn now() -> u64 {
    monotonic_now() / 1_000_000
}

/// Answers a request from the cache, or with the help of the application.
pub(in crate::front) async fn serve(
    pipeline: &Arc<Pipeline>,
    cache: &Arc<Cache>,
    connection: &Arc<ConnectionInfo>,
    parts: &Parts,
    body: Incoming,
    served: &mut Served,
) -> Result<Response<Body>, Failure> {
    let errand = Errand {
        pipeline: Arc::clone(pipeline),
        cache: Arc::clone(cache),
        connection: Arc::clone(connection),
        key: key_of(connection, parts),
    };
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return errand.change(parts, body, served).await;
    }
    // A body has a meaning that is not in the key; the two conditions are for the application alone (RFC 9111 §4.3.2).
    let is_for_application = !body.is_end_stream()
        || parts.headers.contains_key(IF_MATCH)
        || parts.headers.contains_key(IF_UNMODIFIED_SINCE);
    if is_for_application {
        Counts::add(&cache.counts.misses);
        let response = pipeline.ask_application(connection, parts, body, served).await?;
        return Ok(marked(response, &Status::new(Way::Forwarded(Forward::Bypass))));
    }
    errand.answer(parts, served).await
}

fn key_of(connection: &ConnectionInfo, parts: &Parts) -> Key {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let target = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    Key::new(connection.tls.is_some(), host, target)
}

/// Says how the answer came about.
pub(super) fn marked(mut response: Response<Body>, status: &Status) -> Response<Body> {
    response.headers_mut().append(&CACHE_STATUS, status.value());
    response
}

/// Nothing is there, and the client does not want anybody to be asked (RFC 9111 §5.2.1.7).
fn not_cached() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// One request that is to be answered, and what is needed for that.
#[derive(Clone)]
pub(super) struct Errand {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) cache: Arc<Cache>,
    pub(super) connection: Arc<ConnectionInfo>,
    pub(super) key: Key,
}

/// What comes of a look into the cache.
enum Look {
    Answer(Response<Body>),
    Ask(Found, Forward),
}

impl Errand {
    /// A method that may change something (RFC 9111 §4.4).
    async fn change(&self, parts: &Parts, body: Incoming, served: &mut Served) -> Result<Response<Body>, Failure> {
        Counts::add(&self.cache.counts.misses);
        let response = self.pipeline.ask_application(&self.connection, parts, body, served).await?;
        let has_worked = response.status().is_success() || response.status().is_redirection();
        if has_worked && parts.method != Method::OPTIONS {
            self.cache.store.invalidate(&self.key);
            for name in [LOCATION, CONTENT_LOCATION] {
                let reference = response.headers().get(name).and_then(|value| value.to_str().ok());
                if let Some(key) = reference.and_then(|reference| self.key.related(reference)) {
                    self.cache.store.invalidate(&key);
                }
            }
        }
        Ok(marked(response, &Status::new(Way::Forwarded(Forward::Method))))
    }

    /// GET or HEAD without a body.
    async fn answer(&self, parts: &Parts, served: &mut Served) -> Result<Response<Body>, Failure> {
        let directives = Directives::of_request(&parts.headers);
        let deadline = Instant::now() + self.cache.settings.load().wait;
        let mut is_collapsed = false;
        let (found, forward, leader) = loop {
            let (found, forward) = match self.look(parts, &directives, is_collapsed) {
                Look::Answer(response) => return Ok(response),
                Look::Ask(_, forward) if directives.only_if_cached => {
                    return Ok(marked(not_cached(), &Status::new(Way::Forwarded(forward))));
                }
                Look::Ask(found, forward) => (found, forward),
            };
            if !self.may_wait(parts, &directives, forward) {
                break (found, forward, None);
            }
            match self.cache.flights.board(&self.key, found.selecting.clone()) {
                Boarding::Lead(leader) => break (found, forward, Some(leader)),
                Boarding::Follow(flight) => match timeout_at(deadline, landed(flight)).await {
                    Ok(Landing::Stored) => is_collapsed = true,
                    Ok(Landing::Gone) => {}
                    Ok(Landing::Void) | Err(_) => break (found, forward, None),
                },
            }
        };
        Counts::add(&self.cache.counts.misses);
        self.ask(parts, Question { stored: found.stored, directives, forward, is_collapsed }, leader, served).await
    }

    fn look(&self, parts: &Parts, directives: &Directives, is_collapsed: bool) -> Look {
        if directives.no_store {
            return Look::Ask(Found::default(), Forward::Request);
        }
        let mut found = self.cache.store.find(&self.key, &parts.headers);
        // Who signs in may see more than others, unless the application says that it is the same.
        if parts.headers.contains_key(AUTHORIZATION)
            && found.stored.as_ref().is_some_and(|it| !it.policy.for_authorized)
        {
            return Look::Ask(Found::default(), Forward::Bypass);
        }
        let Some(stored) = &found.stored else {
            let forward = if found.has_others { Forward::VaryMiss } else { Forward::UriMiss };
            return Look::Ask(found, forward);
        };
        let now = now();
        let age = stored.age(now);
        let mut detail = None;
        match rules::reuse(&stored.policy, age, directives) {
            Reuse::Fresh | Reuse::Stale => {}
            Reuse::StaleWhileRevalidating => {
                detail = Some("stale-while-revalidate");
                self.revalidate_aside(parts, stored, found.selecting.clone());
            }
            Reuse::Validate => return Look::Ask(found, Forward::Stale),
            Reuse::ValidateForClient => return Look::Ask(found, Forward::Request),
        }
        Counts::add(&self.cache.counts.hits);
        let status = Status { is_collapsed, detail, ..Status::hit(stored.policy.lifetime, age) };
        let response = stored.respond(&parts.method, &parts.headers, now, &status);
        found.stored = None;
        Look::Answer(response)
    }

    /// Whether an answer to somebody else may be the answer to this one.
    fn may_wait(&self, parts: &Parts, directives: &Directives, forward: Forward) -> bool {
        parts.method == Method::GET
            && matches!(forward, Forward::UriMiss | Forward::VaryMiss | Forward::Stale)
            && !directives.no_store
            && !parts.headers.contains_key(RANGE)
            && !parts.headers.contains_key(AUTHORIZATION)
            && !self.cache.store.is_passing(&self.key, now() / 1000)
    }

    /// Asks for a new answer, unless somebody does already. Nobody waits for it (RFC 5861 §3).
    fn revalidate_aside(&self, parts: &Parts, stored: &Arc<Stored>, selecting: Vec<u8>) {
        let Boarding::Lead(leader) = self.cache.flights.board(&self.key, selecting) else { return };
        let mut parts = parts.clone();
        // The hints and the upgrade of the client's connection are not for this.
        parts.extensions = Extensions::new();
        parts.method = Method::GET;
        super::ask::remove_conditions(&mut parts.headers);
        let directives = Directives::default();
        let question =
            Question { stored: Some(Arc::clone(stored)), directives, forward: Forward::Stale, is_collapsed: false };
        tokio::spawn(self.clone().fetch(parts, question, leader));
    }

    async fn fetch(self, parts: Parts, question: Question, leader: Leader) {
        let mut served = Served::default();
        // A failure stands in the log of whoever caused it; the next request tries again.
        if let Ok(response) = self.ask(&parts, question, Some(leader), &mut served).await {
            // What is stored is stored without this half of it.
            drop(response);
        }
    }
}
