//! What is found, what goes, and what is counted.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use crate::front::cache::rules::{self, Arrival};
use crate::front::cache::sample::headers;
use bytes::Bytes;
use http::StatusCode;
use std::time::SystemTime;

fn stored(body: &str, tags: &str) -> Stored {
    let headers = headers(&[("cache-control", "max-age=60"), ("cache-tag", tags)]);
    let arrival = Arrival { at: SystemTime::UNIX_EPOCH, delay: 0 };
    let (policy, _) = rules::storable(&HeaderMap::new(), StatusCode::OK, &headers, arrival).unwrap();
    Stored { status: StatusCode::OK, headers, body: Bytes::from(body.to_owned()), policy, arrived: 0 }
}

fn key(path: &str) -> Key {
    Key::new(false, "a", path)
}

fn put(store: &Store, path: &str, body: &str) {
    let (key, none) = (key(path), HeaderMap::new());
    assert!(store.insert(&key, Selection::default(), &none, stored(body, path), store.era(&key)));
}

fn body(store: &Store, path: &str, request: &HeaderMap) -> Option<Bytes> {
    store.find(&key(path), request).stored.map(|stored| stored.body.clone())
}

#[test]
fn each_request_finds_its_own() {
    let store = Store::new(1 << 20);
    let german = headers(&[("accept-language", "de")]);
    let english = headers(&[("accept-language", "en")]);
    for (request, text) in [(&german, "hallo"), (&english, "hello"), (&german, "servus")] {
        let selection = Selection::new(vec![http::header::ACCEPT_LANGUAGE], request);
        assert!(store.insert(&key("/"), selection, request, stored(text, ""), store.era(&key("/"))));
    }
    assert_eq!(body(&store, "/", &german).unwrap(), "servus");
    assert_eq!(body(&store, "/", &english).unwrap(), "hello");
    assert_eq!(store.len(), 2);
    let found = store.find(&key("/"), &HeaderMap::new());
    assert!(found.stored.is_none() && found.has_others);
    for number in 0..2 * VARIANTS_MAX {
        let request = headers(&[("accept-language", &number.to_string())]);
        let selection = Selection::new(vec![http::header::ACCEPT_LANGUAGE], &request);
        assert!(store.insert(&key("/"), selection, &request, stored("x", ""), store.era(&key("/"))));
        // What is used stays.
        assert!(body(&store, "/", &english).is_some());
    }
    assert_eq!(store.len(), VARIANTS_MAX);
}

#[test]
fn the_least_used_goes_and_the_bound_is_kept() {
    let text = "x".repeat(10_000);
    let store = Store::new(100_000);
    put(&store, "/used", &text);
    for number in 0..100 {
        put(&store, &format!("/{number}"), &text);
        assert!(store.bytes() <= store.bound());
        if number < 5 {
            assert!(body(&store, "/used", &HeaderMap::new()).is_some());
        }
    }
    assert!(store.len() >= 5 && store.evicted() > 80, "{} {}", store.len(), store.evicted());
    let too_large = stored(&"x".repeat(200_000), "");
    assert!(!store.insert(&key("/l"), Selection::default(), &HeaderMap::new(), too_large, store.era(&key("/l"))));
    store.set_bound(0);
    assert_eq!((store.len(), store.bytes()), (0, 0));
}

#[test]
fn what_was_made_void_is_gone_and_is_not_stored_afterwards() {
    let store = Store::new(1 << 20);
    let none = HeaderMap::new();
    for path in ["/a", "/b/1", "/b/2"] {
        put(&store, path, "x");
    }
    let era = store.era(&key("/a"));
    assert!(store.invalidate(&key("/a")) && !store.invalidate(&key("/a")));
    assert!(!store.insert(&key("/a"), Selection::default(), &none, stored("late", ""), era));
    assert_eq!(store.purge(&Which::Tag("/b/1".to_owned())), 1);
    assert!(body(&store, "/b/1", &none).is_none() && body(&store, "/b/2", &none).is_some());
    let era = store.era(&key("/c"));
    assert_eq!(store.purge(&Which::Prefix("/b/".to_owned())), 1);
    assert!(!store.insert(&key("/c"), Selection::default(), &none, stored("late", ""), era));
    assert_eq!((store.len(), store.bytes()), (0, 0));
}

#[test]
fn nobody_waits_for_what_is_not_stored() {
    let store = Store::new(1 << 20);
    assert!(!store.is_passing(&key("/"), 100));
    store.mark_passing(&key("/"), 110);
    assert!(store.is_passing(&key("/"), 109) && !store.is_passing(&key("/"), 110));
    store.mark_passing(&key("/"), 110);
    put(&store, "/", "x");
    assert!(!store.is_passing(&key("/"), 105));
}
