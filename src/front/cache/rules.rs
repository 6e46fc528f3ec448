//! Pure: what may be stored, and what may be done with it: RFC 9111 as a shared cache reads it, RFC 5861, RFC 8246.
//!
//! All times are in milliseconds. Dates count only when an answer comes in; from then on its age grows with a clock that
//! nobody sets.

use super::directives::{self, Directives};
use super::vary::Vary;
use http::header::{AGE, AUTHORIZATION, DATE, ETAG, EXPIRES, HeaderMap, LAST_MODIFIED, SET_COOKIE, VARY};
use http::{HeaderName, StatusCode};
use std::time::{SystemTime, UNIX_EPOCH};

/// What holds for a stored answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Up to this age it is fresh.
    pub lifetime: u64,
    /// When it came.
    pub initial_age: u64,
    /// It is never used unasked.
    pub no_cache: bool,
    /// It is not used when stale, whatever goes wrong.
    must_revalidate: bool,
    /// The same, but for what the application itself allows.
    is_shared_only: bool,
    immutable: bool,
    /// Requests with an `Authorization` may have it.
    pub for_authorized: bool,
    stale_while_revalidate: u64,
    stale_if_error: Option<u64>,
}

/// Why an answer is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unstorable {
    /// Neither the client nor the application wants it.
    NoStore,
    Private,
    /// The request had an `Authorization`, and nothing says that others may have the answer too.
    Authorized,
    SetCookie,
    /// `Vary: *`.
    VariesAlways,
    /// Nothing says how long it is fresh.
    NoFreshness,
    /// It is stale at once, and there is nothing to ask with whether it still holds.
    Useless,
    /// A part, an answer to a condition, or a status that must be understood and is not.
    Status,
}

/// When an answer came in.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// By the clock of the world.
    pub at: SystemTime,
    /// Since its request was sent.
    pub delay: u64,
}

/// Decides whether the answer to a GET is stored. `withheld` fields are left out then.
pub fn storable(
    request: &HeaderMap,
    status: StatusCode,
    answer: &HeaderMap,
    arrival: Arrival,
) -> Result<(Policy, Vec<HeaderName>), Unstorable> {
    let (mut directives, is_targeted) = Directives::of_answer(answer);
    let withheld = std::mem::take(&mut directives.withheld);
    // A status that must be understood: those of RFC 9110 that need nothing special are (RFC 9111 §5.2.2.3).
    let no_store = if directives.must_understand { !is_understood(status) } else { directives.no_store };
    if no_store || Directives::of_request(request).no_store {
        return Err(Unstorable::NoStore);
    }
    if status.is_informational() || matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED) {
        return Err(Unstorable::Status);
    }
    if directives.private {
        return Err(Unstorable::Private);
    }
    let for_authorized = directives.public || directives.must_revalidate || directives.shared_max_age.is_some();
    if request.contains_key(AUTHORIZATION) && !for_authorized {
        return Err(Unstorable::Authorized);
    }
    if answer.contains_key(SET_COOKIE) && !withheld.contains(&SET_COOKIE) {
        return Err(Unstorable::SetCookie);
    }
    if Vary::of(answer) == Vary::Always {
        return Err(Unstorable::VariesAlways);
    }
    let lifetime = lifetime(&directives, is_targeted, answer, arrival);
    let policy = Policy {
        lifetime: lifetime.unwrap_or(0),
        initial_age: initial_age(answer, arrival),
        no_cache: directives.no_cache,
        must_revalidate: directives.must_revalidate || directives.proxy_revalidate || directives.no_cache,
        is_shared_only: directives.shared_max_age.is_some(),
        immutable: directives.immutable,
        for_authorized,
        stale_while_revalidate: 1000 * directives.stale_while_revalidate.unwrap_or(0),
        stale_if_error: directives.stale_if_error.map(|seconds| 1000 * seconds),
    };
    if lifetime.is_none() && !directives.no_cache {
        return Err(Unstorable::NoFreshness);
    }
    let can_be_asked_for = answer.contains_key(ETAG) || answer.contains_key(LAST_MODIFIED);
    if policy.is_stale_at_once() && !can_be_asked_for {
        return Err(Unstorable::Useless);
    }
    Ok((policy, withheld))
}

fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 302 | 303 | 307 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// How long an answer is fresh, where it says so (RFC 9111 §4.2.1). Nothing is guessed (§4.2.2).
fn lifetime(directives: &Directives, is_targeted: bool, answer: &HeaderMap, arrival: Arrival) -> Option<u64> {
    if let Some(seconds) = directives.shared_max_age.or(directives.max_age) {
        return Some(1000 * seconds);
    }
    let mut expires = answer.get_all(EXPIRES).iter();
    let first = expires.next().filter(|_| !is_targeted)?;
    // What is no date is a time in the past (§5.3).
    let date = |value: &http::HeaderValue| httpdate::parse_http_date(value.to_str().ok()?).ok();
    let expires = date(first).filter(|_| expires.next().is_none()).unwrap_or(UNIX_EPOCH);
    let sent = answer.get(DATE).and_then(date).unwrap_or_else(|| whole_seconds(arrival.at));
    Some(expires.duration_since(sent).map_or(0, |lifetime| lifetime.as_millis() as u64))
}

/// RFC 9111 §4.2.3.
fn initial_age(answer: &HeaderMap, arrival: Arrival) -> u64 {
    let first = answer.get(AGE).and_then(|value| value.as_bytes().split(|byte| *byte == b',').next());
    let told = first.and_then(|text| directives::seconds(text.trim_ascii())).unwrap_or(0);
    let date = answer.get(DATE).and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok());
    let apparent = date.and_then(|date| whole_seconds(arrival.at).duration_since(date).ok());
    (1000 * told + arrival.delay).max(apparent.map_or(0, |age| age.as_millis() as u64))
}

/// Dates have no parts of a second.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + std::time::Duration::from_secs(since.as_secs())
}

impl Policy {
    /// Every request would have to ask for it.
    pub fn is_stale_at_once(&self) -> bool {
        self.no_cache || (self.lifetime <= self.initial_age && self.stale_while_revalidate == 0)
    }

    /// The same, and stale from the beginning.
    #[must_use]
    pub fn stale(&self) -> Self {
        Self { lifetime: 0, initial_age: 0, ..self.clone() }
    }
}

/// What is done with a stored answer for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    Fresh,
    /// The client takes a stale one.
    Stale,
    /// The application takes it that the client gets a stale one, while it is asked for a new one.
    StaleWhileRevalidating,
    /// Ask first: it is stale.
    Validate,
    /// Ask first: the client wants that.
    ValidateForClient,
}

/// Decides it (RFC 9111 §4.2, §5.2.1).
pub fn reuse(policy: &Policy, age: u64, request: &Directives) -> Reuse {
    let staleness = age.saturating_sub(policy.lifetime);
    let is_fresh = age < policy.lifetime && !policy.no_cache;
    if request.no_cache {
        return Reuse::ValidateForClient;
    }
    if is_fresh {
        let is_young = request.max_age.is_none_or(|most| age <= 1000 * most);
        let stays_fresh = request.min_fresh.is_none_or(|least| policy.lifetime - age >= 1000 * least);
        // Of what never changes, "reload" is no reason to ask (RFC 8246 §2).
        return if (is_young || policy.immutable) && stays_fresh { Reuse::Fresh } else { Reuse::ValidateForClient };
    }
    if policy.must_revalidate {
        return Reuse::Validate;
    }
    let is_young = request.max_age.is_none_or(|most| age <= 1000 * most) && request.min_fresh.is_none();
    if is_young && staleness < policy.stale_while_revalidate {
        return Reuse::StaleWhileRevalidating;
    }
    let most = request.max_stale.map_or(0, |most| most.saturating_mul(1000));
    if is_young && staleness < most && !policy.is_shared_only { Reuse::Stale } else { Reuse::Validate }
}

/// Whether a stale answer is better than an error. `otherwise` holds where nobody says how stale it may be.
pub fn may_stand_in(policy: &Policy, age: u64, request: &Directives, otherwise: u64) -> bool {
    if policy.must_revalidate {
        return false;
    }
    let told = policy.stale_if_error.or(request.stale_if_error.map(|seconds| 1000 * seconds));
    let otherwise = if policy.is_shared_only { 0 } else { otherwise };
    age.saturating_sub(policy.lifetime) < told.unwrap_or(otherwise)
}

/// Answers that a stale one may stand in for (RFC 5861 §4).
pub fn is_error(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// Fields that are about one connection or one hop, or that only this cache is to say (RFC 9111 §3.1).
static NOT_STORED: [HeaderName; 5] = [
    AGE,
    http::header::PROXY_AUTHENTICATE,
    http::header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("cache-status"),
];

/// What is left of the fields of an answer when it is stored.
pub fn strip(headers: &mut HeaderMap, withheld: &[HeaderName]) {
    for name in NOT_STORED.iter().chain(withheld) {
        headers.remove(name);
    }
}

/// Fields that a 304 does not change: they speak of the body that is stored (RFC 9111 §3.2).
static OF_THE_BODY: [HeaderName; 4] =
    [http::header::CONTENT_LENGTH, http::header::CONTENT_ENCODING, http::header::CONTENT_RANGE, VARY];

/// The fields of a stored answer after a 304 (RFC 9111 §3.2, §4.3.4). `None` where the 304 is about another answer.
pub fn freshened(stored: &HeaderMap, news: &HeaderMap) -> Option<HeaderMap> {
    let tag = |headers: &HeaderMap| {
        headers.get(ETAG).map(|tag| tag.as_bytes().strip_prefix(b"W/").unwrap_or(tag.as_bytes()).to_vec())
    };
    if let (Some(old), Some(new)) = (tag(stored), tag(news))
        && old != new
    {
        return None;
    }
    let mut headers = stored.clone();
    // Its age begins anew.
    headers.remove(AGE);
    headers.remove(DATE);
    for name in news.keys().filter(|name| !OF_THE_BODY.contains(name)) {
        headers.remove(name);
        for value in news.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    Some(headers)
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
