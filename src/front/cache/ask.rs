//! The application is asked, and what becomes of its answer.

use super::directives::Directives;
use super::flight::{Landing, Leader};
use super::rules::{self, Arrival, Policy};
use super::serve::{Errand, marked, now};
use super::status::{Forward, Status, Way, ttl};
use super::stored::{Stored, not_modified};
use super::vary::{Selection, Vary};
use super::{Counts, fill, preconditions};
use crate::front::body::Body;
use crate::front::incoming::Incoming;
use crate::front::pipeline::Served;
use crate::front::rescue::Failure;
use crate::upstream::error::Cause;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, response};
use http_body::Body as _;
use std::sync::Arc;
use std::time::SystemTime;

/// For so many seconds nobody waits for another one's answer after an answer that was not stored.
const PASSING_TIME: u64 = 120;

/// Why the application is asked, and what there is already.
#[derive(Clone)]
pub(super) struct Question {
    /// Not to be used unasked.
    pub(super) stored: Option<Arc<Stored>>,
    pub(super) directives: Directives,
    pub(super) forward: Forward,
    pub(super) is_collapsed: bool,
}

/// What is known when an answer comes.
struct Asked {
    era: u64,
    at: u64,
}

/// What comes of a question.
enum Outcome {
    Answer(Response<Body>),
    /// A stale one, instead of an error.
    StandIn(Response<Body>),
}

/// Conditions and ranges of a client are about what it gets, not about what is stored.
pub(super) fn remove_conditions(headers: &mut HeaderMap) {
    for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE, RANGE] {
        headers.remove(name);
    }
}

impl Errand {
    /// Asks the application; `leader` tells those who wait.
    pub(super) async fn ask(
        &self,
        parts: &Parts,
        question: Question,
        leader: Option<Leader>,
        served: &mut Served,
    ) -> Result<Response<Body>, Failure> {
        let asked = Asked { era: self.cache.store.era(&self.key), at: now() };
        let conditional = question.stored.as_ref().and_then(|stored| conditional(parts, stored));
        let request = conditional.as_ref().unwrap_or(parts);
        let answer = self.pipeline.ask_application(&self.connection, request, Incoming::Empty, served).await;
        let answer = match self.stand_in(parts, &question, answer) {
            Ok(Outcome::Answer(answer)) => answer,
            Ok(Outcome::StandIn(stale)) => {
                Leader::land(leader, Landing::Void);
                return Ok(stale);
            }
            Err(failure) => {
                Leader::land(leader, Landing::Void);
                return Err(failure);
            }
        };
        match (&question.stored, conditional) {
            (Some(stored), Some(_)) if answer.status() == StatusCode::NOT_MODIFIED => {
                if let Some(headers) = rules::freshened(&stored.headers, answer.headers()) {
                    return Ok(self.freshen(parts, &question, headers, &asked, leader));
                }
                // It is about something that is not stored here: ask for the whole.
                self.cache.store.invalidate(&self.key);
                let asked = Asked { era: self.cache.store.era(&self.key), at: now() };
                let mut parts = parts.clone();
                remove_conditions(&mut parts.headers);
                let answer = self.pipeline.ask_application(&self.connection, &parts, Incoming::Empty, served).await?;
                Ok(self.admit(&parts, &question, answer, &asked, leader))
            }
            _ => Ok(self.admit(parts, &question, answer, &asked, leader)),
        }
    }

    /// The answer of the application, or what the client gets in place of an error.
    fn stand_in(
        &self,
        parts: &Parts,
        question: &Question,
        answer: Result<Response<Body>, Failure>,
    ) -> Result<Outcome, Failure> {
        let status = match &answer {
            Ok(answer) if rules::is_error(answer.status()) => answer.status(),
            Err(Failure::Upstream(error)) if !matches!(error.cause, Cause::TooLarge | Cause::Unsupported) => {
                Failure::Upstream(*error).status()
            }
            _ => return answer.map(Outcome::Answer),
        };
        let now = now();
        let otherwise = self.cache.settings.load().stale_if_error.as_millis() as u64;
        let usable = question
            .stored
            .as_ref()
            .filter(|stored| rules::may_stand_in(&stored.policy, stored.age(now), &question.directives, otherwise));
        let Some(stored) = usable else { return answer.map(Outcome::Answer) };
        let told = Status {
            forward_status: Some(status.as_u16()),
            ttl: Some(ttl(stored.policy.lifetime, stored.age(now))),
            detail: Some("stale-if-error"),
            ..Status::new(Way::Forwarded(question.forward))
        };
        Ok(Outcome::StandIn(stored.respond(&parts.method, &parts.headers, now, &told)))
    }

    /// The stored answer still holds (RFC 9111 §4.3.4).
    fn freshen(
        &self,
        parts: &Parts,
        question: &Question,
        mut headers: HeaderMap,
        asked: &Asked,
        leader: Option<Leader>,
    ) -> Response<Body> {
        let Some(old) = &question.stored else { return Response::new(Body::empty()) };
        let arrival = Arrival { at: SystemTime::now(), delay: now().saturating_sub(asked.at) };
        let storable = rules::storable(&parts.headers, old.status, &headers, arrival);
        let now = now();
        let is_stored = storable.is_ok();
        // One that is not to be stored any more is for this client still.
        let (policy, withheld) = storable.unwrap_or_else(|_| (old.policy.stale(), Vec::new()));
        rules::strip(&mut headers, &withheld);
        add_date(&mut headers, arrival.at);
        let fresh = Stored { status: old.status, headers, body: old.body.clone(), policy, arrived: now };
        let told = Status {
            forward_status: Some(304),
            ttl: Some(ttl(fresh.policy.lifetime, fresh.age(now))),
            is_stored,
            is_collapsed: question.is_collapsed,
            ..Status::new(Way::Forwarded(question.forward))
        };
        let response = fresh.respond(&parts.method, &parts.headers, now, &told);
        let landing = if is_stored {
            self.keep(&parts.headers, fresh, asked.era)
        } else {
            self.cache.store.invalidate(&self.key);
            Landing::Void
        };
        Leader::land(leader, landing);
        response
    }

    /// A whole answer: it is stored if it may be.
    fn admit(
        &self,
        parts: &Parts,
        question: &Question,
        answer: Response<Body>,
        asked: &Asked,
        leader: Option<Leader>,
    ) -> Response<Body> {
        let mut told = Status { is_collapsed: false, ..Status::new(Way::Forwarded(question.forward)) };
        let arrival = Arrival { at: SystemTime::now(), delay: now().saturating_sub(asked.at) };
        let largest = self.cache.settings.load().largest;
        let fits = answer.body().size_hint().lower() <= largest as u64;
        let storable = match parts.method {
            Method::GET if fits => rules::storable(&parts.headers, answer.status(), answer.headers(), arrival).ok(),
            _ => None,
        };
        let Some((policy, withheld)) = storable else {
            if parts.method == Method::GET {
                self.cache.store.mark_passing(&self.key, now() / 1000 + PASSING_TIME);
            }
            Leader::land(leader, Landing::Void);
            return marked(answer, &told);
        };
        told.is_stored = true;
        told.ttl = Some(ttl(policy.lifetime, policy.initial_age));
        let (mut head, body) = answer.into_parts();
        add_date(&mut head.headers, arrival.at);
        let draft = Draft { errand: self.clone(), request: parts.headers.clone(), policy, withheld, era: asked.era };
        let body = match body {
            Body::Full(bytes) => {
                let landing = draft.store(&head, bytes.as_ref().map(|bytes| Bytes::copy_from_slice(bytes)));
                Leader::land(leader, landing);
                Body::Full(bytes)
            }
            stream @ Body::Stream(_) => {
                let (client, filling) = fill::divide(stream, largest);
                let copy = copy_of(&head);
                tokio::spawn(async move {
                    let landing = match filling.await {
                        Some(bytes) => draft.store(&copy, Some(bytes)),
                        None => Landing::Void,
                    };
                    Leader::land(leader, landing);
                });
                client
            }
        };
        let response = marked(Response::from_parts(head, body), &told);
        // Asked without the client's conditions, or asked for something newer than the client has.
        let has_it = response.status().is_success()
            && question.stored.is_some()
            && preconditions::is_not_modified(&parts.headers, response.headers());
        if has_it { not_modified(response) } else { response }
    }

    /// Stores an answer, and says what those who wait can do.
    fn keep(&self, request: &HeaderMap, stored: Stored, era: u64) -> Landing {
        let Vary::By(fields) = Vary::of(&stored.headers) else { return Landing::Void };
        let is_stale_at_once = stored.policy.is_stale_at_once();
        if !self.cache.store.insert(&self.key, Selection::new(fields, request), request, stored, era) {
            return Landing::Void;
        }
        Counts::add(&self.cache.counts.stored);
        if is_stale_at_once {
            // Everybody has to ask, so nobody is to wait.
            self.cache.store.mark_passing(&self.key, now() / 1000 + PASSING_TIME);
            return Landing::Void;
        }
        Landing::Stored
    }
}

/// The request with the conditions that ask whether a stored answer still holds; `None` where there is nothing to ask
/// with, or where it is about the head alone.
fn conditional(parts: &Parts, stored: &Stored) -> Option<Parts> {
    let (tag, modified) = (stored.headers.get(ETAG), stored.headers.get(LAST_MODIFIED));
    if parts.method != Method::GET || (tag.is_none() && modified.is_none()) {
        return None;
    }
    let mut parts = parts.clone();
    remove_conditions(&mut parts.headers);
    let conditions = [(IF_NONE_MATCH, tag), (IF_MODIFIED_SINCE, modified)];
    for (name, value) in conditions {
        parts.headers.extend(value.map(|value| (name, value.clone())));
    }
    Some(parts)
}

/// The time at which the answer was made (RFC 9110 §6.6.1); later nobody may say it.
fn add_date(headers: &mut HeaderMap, at: SystemTime) {
    if !headers.contains_key(DATE) {
        let date = HeaderValue::try_from(httpdate::fmt_http_date(at)).ok();
        headers.extend(date.map(|date| (DATE, date)));
    }
}

fn copy_of(head: &response::Parts) -> response::Parts {
    let (mut copy, ()) = Response::new(()).into_parts();
    copy.status = head.status;
    copy.headers.clone_from(&head.headers);
    copy
}

/// An answer whose body is on its way.
struct Draft {
    errand: Errand,
    request: HeaderMap,
    policy: Policy,
    withheld: Vec<HeaderName>,
    era: u64,
}

impl Draft {
    fn store(self, head: &response::Parts, body: Option<Bytes>) -> Landing {
        let body = body.unwrap_or_default();
        let mut headers = head.headers.clone();
        rules::strip(&mut headers, &self.withheld);
        if head.status != StatusCode::NO_CONTENT {
            headers.insert(CONTENT_LENGTH, body.len().into());
        }
        let stored = Stored { status: head.status, headers, body, policy: self.policy, arrived: now() };
        self.errand.keep(&self.request, stored, self.era)
    }
}
