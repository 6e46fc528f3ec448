//! The table of what is stored, for how long, and what is done with it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use crate::front::cache::sample::headers;
use std::time::Duration;

type Lines<'a> = &'a [(&'static str, &'a str)];

/// A second that dates can name: Sun, 06 Nov 1994 08:49:37 GMT.
const NOW: u64 = 784_111_777;

fn arrival() -> Arrival {
    Arrival { at: UNIX_EPOCH + Duration::from_millis(NOW * 1000 + 500), delay: 0 }
}

fn date(offset: i64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(NOW.checked_add_signed(offset).unwrap()))
}

fn policy_of(answer: &[(&'static str, &str)]) -> Result<Policy, Unstorable> {
    storable(&HeaderMap::new(), StatusCode::OK, &headers(answer), arrival()).map(|(policy, _)| policy)
}

fn policy(cache_control: &str) -> Policy {
    policy_of(&[("cache-control", cache_control), ("etag", "\"a\"")]).unwrap()
}

#[test]
fn only_what_says_so_is_stored() {
    let none: &[(&'static str, &str)] = &[];
    let signed_in: &[(&'static str, &str)] = &[("authorization", "Basic eDp5")];
    let unwilling: &[(&'static str, &str)] = &[("cache-control", "no-store")];
    let cases: &[(Lines<'_>, u16, Lines<'_>, Option<Unstorable>)] = &[
        (none, 200, &[("cache-control", "max-age=60")], None),
        (none, 200, &[("cache-control", "s-maxage=60")], None),
        (none, 200, &[("expires", "Sat, 06 Nov 2094 08:49:37 GMT")], None),
        (none, 200, &[("cdn-cache-control", "max-age=60"), ("cache-control", "no-store")], None),
        (none, 404, &[("cache-control", "max-age=60")], None),
        (none, 599, &[("cache-control", "max-age=60")], None),
        // Nothing is guessed.
        (none, 200, &[], Some(Unstorable::NoFreshness)),
        (none, 200, &[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")], Some(Unstorable::NoFreshness)),
        (none, 200, &[("cache-control", "public"), ("etag", "\"a\"")], Some(Unstorable::NoFreshness)),
        // What has to be asked for needs something to ask with.
        (none, 200, &[("cache-control", "no-cache")], Some(Unstorable::Useless)),
        (none, 200, &[("cache-control", "max-age=0")], Some(Unstorable::Useless)),
        (none, 200, &[("expires", "0")], Some(Unstorable::Useless)),
        (none, 200, &[("cache-control", "no-cache"), ("etag", "\"a\"")], None),
        (none, 200, &[("cache-control", "max-age=0"), ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")], None),
        (none, 200, &[("cache-control", "max-age=0, stale-while-revalidate=5")], None),
        // Not for others.
        (none, 200, &[("cache-control", "no-store, max-age=60")], Some(Unstorable::NoStore)),
        (none, 200, &[("cache-control", "private, max-age=60")], Some(Unstorable::Private)),
        (none, 200, &[("cache-control", "max-age=60"), ("cdn-cache-control", "private")], Some(Unstorable::Private)),
        (none, 200, &[("cache-control", "max-age=60"), ("set-cookie", "a=b")], Some(Unstorable::SetCookie)),
        (none, 200, &[("cache-control", "max-age=60, public"), ("set-cookie", "a=b")], Some(Unstorable::SetCookie)),
        (none, 200, &[("cache-control", "max-age=60, no-cache=\"set-cookie\""), ("set-cookie", "a=b")], None),
        (none, 200, &[("cache-control", "max-age=60"), ("vary", "*")], Some(Unstorable::VariesAlways)),
        (unwilling, 200, &[("cache-control", "max-age=60")], Some(Unstorable::NoStore)),
        (signed_in, 200, &[("cache-control", "max-age=60")], Some(Unstorable::Authorized)),
        (signed_in, 200, &[("cache-control", "max-age=60, public")], None),
        (signed_in, 200, &[("cache-control", "max-age=60, must-revalidate")], None),
        (signed_in, 200, &[("cache-control", "s-maxage=60")], None),
        // Not the whole.
        (none, 206, &[("cache-control", "max-age=60")], Some(Unstorable::Status)),
        (none, 304, &[("cache-control", "max-age=60")], Some(Unstorable::Status)),
        (none, 200, &[("cache-control", "max-age=60, no-store, must-understand")], None),
        (none, 599, &[("cache-control", "max-age=60, no-store, must-understand")], Some(Unstorable::NoStore)),
    ];
    for (request, status, answer, expected) in cases {
        let status = StatusCode::from_u16(*status).unwrap();
        let found = storable(&headers(request), status, &headers(answer), arrival());
        assert_eq!(found.err(), *expected, "{request:?} {status} {answer:?}");
    }
}

#[test]
fn how_long_it_is_fresh_and_how_old_it_is() {
    let (now, later, earlier) = (date(0), date(60), date(-10));
    let cases: &[(Lines<'_>, u64, u64)] = &[
        (&[("cache-control", "max-age=60")], 60_000, 0),
        (&[("cache-control", "max-age=60, s-maxage=5")], 5_000, 0),
        (&[("cache-control", "max-age=60"), ("expires", "0")], 60_000, 0),
        (&[("cache-control", "max-age=60"), ("cdn-cache-control", "max-age=7")], 7_000, 0),
        (&[("expires", &later)], 60_000, 0),
        (&[("expires", &later), ("date", &earlier)], 70_000, 10_000),
        (&[("expires", &now), ("etag", "\"a\"")], 0, 0),
        (&[("expires", &later), ("expires", &later), ("etag", "\"a\"")], 0, 0),
        (&[("expires", "Sun, 06 Nov 2094 08:49:37 UTC"), ("etag", "\"a\"")], 0, 0),
        (&[("expires", &later), ("date", "yesterday")], 60_000, 0),
        (&[("cache-control", "max-age=60"), ("age", "30")], 60_000, 30_000),
        (&[("cache-control", "max-age=60"), ("age", "30, 0")], 60_000, 30_000),
        (&[("cache-control", "max-age=60"), ("age", "0"), ("age", "30")], 60_000, 0),
        (&[("cache-control", "max-age=60"), ("age", "30.0")], 60_000, 0),
        (&[("cache-control", "max-age=60"), ("age", "-30")], 60_000, 0),
        (&[("cache-control", "max-age=60"), ("age", "3"), ("date", &earlier)], 60_000, 10_000),
        (&[("cache-control", "max-age=60"), ("date", &later)], 60_000, 0),
    ];
    for (answer, lifetime, age) in cases {
        let found = policy_of(answer).unwrap();
        assert_eq!((found.lifetime, found.initial_age), (*lifetime, *age), "{answer:?}");
    }
    let slow = Arrival { delay: 2500, ..arrival() };
    assert_eq!(initial_age(&headers(&[("age", "3")]), slow), 5500);
}

#[test]
fn what_is_done_with_it() {
    use Reuse::{Fresh, Stale, StaleWhileRevalidating, Validate, ValidateForClient};
    // Cache-Control of the answer, its age in seconds, Cache-Control of the request.
    let cases = [
        ("max-age=60", 0, "", Fresh),
        ("max-age=60", 59, "", Fresh),
        ("max-age=60", 60, "", Validate),
        ("max-age=60", 5, "no-cache", ValidateForClient),
        ("max-age=60", 5, "max-age=0", ValidateForClient),
        ("max-age=60", 5, "max-age=5", Fresh),
        ("max-age=60", 5, "max-age=4", ValidateForClient),
        ("max-age=60", 5, "min-fresh=55", Fresh),
        ("max-age=60", 5, "min-fresh=56", ValidateForClient),
        ("max-age=60, immutable", 5, "max-age=0", Fresh),
        ("max-age=60, immutable", 5, "no-cache", ValidateForClient),
        ("max-age=60", 70, "max-stale", Stale),
        ("max-age=60", 70, "max-stale=11", Stale),
        ("max-age=60", 70, "max-stale=9", Validate),
        ("max-age=60, must-revalidate", 70, "max-stale", Validate),
        ("max-age=60, proxy-revalidate", 70, "max-stale", Validate),
        ("s-maxage=60", 70, "max-stale", Validate),
        ("max-age=60, no-cache", 5, "", Validate),
        ("max-age=60, no-cache", 5, "max-stale", Validate),
        ("max-age=60, stale-while-revalidate=10", 69, "", StaleWhileRevalidating),
        ("max-age=60, stale-while-revalidate=10", 70, "", Validate),
        ("max-age=60, stale-while-revalidate=10", 65, "max-age=0", Validate),
        ("s-maxage=60, stale-while-revalidate=10", 65, "", StaleWhileRevalidating),
        ("max-age=60, stale-while-revalidate=10, must-revalidate", 65, "", Validate),
    ];
    for (answer, age, request, expected) in cases {
        let request = Directives::of_request(&headers(&[("cache-control", request)]));
        assert_eq!(reuse(&policy(answer), age * 1000, &request), expected, "{answer} {age} {request:?}");
    }
}

#[test]
fn when_a_stale_answer_is_better_than_an_error() {
    for (answer, age, request, expected) in [
        ("max-age=60", 61, "", true),
        ("max-age=60", 71, "", false),
        ("max-age=60, stale-if-error=100", 159, "", true),
        ("max-age=60, stale-if-error=100", 160, "", false),
        ("max-age=60, stale-if-error=0", 60, "", false),
        ("max-age=60", 100, "stale-if-error=100", true),
        ("s-maxage=60", 61, "", false),
        ("s-maxage=60, stale-if-error=100", 61, "", true),
        ("max-age=60, must-revalidate", 61, "", false),
        ("max-age=60, proxy-revalidate, stale-if-error=100", 61, "", false),
        ("no-cache", 0, "", false),
    ] {
        let request = Directives::of_request(&headers(&[("cache-control", request)]));
        let found = may_stand_in(&policy(answer), age * 1000, &request, 10_000);
        assert_eq!(found, expected, "{answer} {age} {request:?}");
    }
}

#[test]
fn a_304_brings_news_of_the_fields_but_not_of_the_body() {
    let stored = headers(&[
        ("etag", "\"a\""),
        ("age", "5"),
        ("date", "old"),
        ("content-length", "36"),
        ("x-a", "1"),
        ("x-b", "1"),
        ("x-b", "2"),
    ]);
    let news = headers(&[("etag", "W/\"a\""), ("content-length", "0"), ("x-b", "3"), ("cache-control", "max-age=9")]);
    let expected = headers(&[
        ("etag", "W/\"a\""),
        ("content-length", "36"),
        ("x-a", "1"),
        ("x-b", "3"),
        ("cache-control", "max-age=9"),
    ]);
    assert_eq!(freshened(&stored, &news), Some(expected));
    assert_eq!(freshened(&stored, &headers(&[("etag", "\"b\"")])), None);
}
