//! A stored answer, and the responses that are made of it.

use super::directives::Members;
use super::preconditions;
use super::rules::Policy;
use super::status::Status;
use crate::front::body::Body;
use crate::front::files::range::{self, Selection as Part};
use bytes::Bytes;
use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RANGE,
};
use http::{Method, Response, StatusCode};

/// The field that says what has become of a request (RFC 9211).
pub(super) static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What an entry takes besides its bytes: its place in the tables.
const OVERHEAD: usize = 512;

/// One answer of the application.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) policy: Policy,
    /// When it came, in milliseconds of the clock that nobody sets.
    pub(super) arrived: u64,
}

impl Stored {
    pub(super) fn age(&self, now: u64) -> u64 {
        self.policy.initial_age.saturating_add(now.saturating_sub(self.arrived))
    }

    /// In bytes.
    pub(super) fn weight(&self) -> usize {
        let fields: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
        OVERHEAD + fields + self.body.len()
    }

    /// What the application has marked it with: `Cache-Tag`, a list with commas, or `Surrogate-Key`, with spaces.
    pub(super) fn tags(&self) -> Vec<Box<str>> {
        let with_commas = self.headers.get_all("cache-tag").iter().flat_map(|value| Members(value.as_bytes()));
        let with_spaces = self.headers.get_all("surrogate-key").iter();
        let with_spaces = with_spaces.flat_map(|value| value.as_bytes().split(u8::is_ascii_whitespace));
        let tags = with_commas.chain(with_spaces).filter(|tag| !tag.is_empty());
        tags.map(|tag| String::from_utf8_lossy(tag).into()).collect()
    }

    /// The response to a GET or HEAD.
    pub(super) fn respond(&self, method: &Method, request: &HeaderMap, now: u64, status: &Status) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        if self.status.canonical_reason().is_none() {
            // Else hyper would invent one.
            response.extensions_mut().insert(hyper::ext::ReasonPhrase::from_static(b""));
        }
        let headers = response.headers_mut();
        headers.insert(AGE, (self.age(now) / 1000).into());
        headers.append(&CACHE_STATUS, status.value());
        // Conditions are about what would succeed without them (RFC 9110 §13.2.1).
        if self.status.is_success() && preconditions::is_not_modified(request, &self.headers) {
            return not_modified(response);
        }
        if method == Method::HEAD {
            return response;
        }
        let length = self.body.len() as u64;
        let part = match request.get(RANGE) {
            Some(value) if self.status == StatusCode::OK && preconditions::range_counts(request, &self.headers) => {
                range::select(value.as_bytes(), length)
            }
            _ => Part::Whole,
        };
        match part {
            // Several parts are more trouble than the whole.
            Part::Whole | Part::Parts(_) => *response.body_mut() = Body::full(self.body.clone()),
            Part::Part(part) => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let headers = response.headers_mut();
                headers.insert(CONTENT_LENGTH, (part.end - part.start).into());
                let range = format!("bytes {}-{}/{length}", part.start, part.end - 1);
                headers.extend(HeaderValue::try_from(range).ok().map(|range| (CONTENT_RANGE, range)));
                *response.body_mut() = Body::full(self.body.slice(part.start as usize..part.end as usize));
            }
            Part::Unsatisfiable => {
                *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
                let headers = response.headers_mut();
                headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
                let range = HeaderValue::try_from(format!("bytes */{length}")).ok();
                headers.extend(range.map(|range| (CONTENT_RANGE, range)));
            }
        }
        response
    }
}

/// A 304 for a client that has the answer already (RFC 9110 §15.4.5).
pub(super) fn not_modified(mut response: Response<Body>) -> Response<Body> {
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_RANGE] {
        response.headers_mut().remove(name);
    }
    *response.body_mut() = Body::empty();
    response
}
