//! Answers of the application that are used again: a shared cache after RFC 9111, in memory (`--cache`).
//!
//! # Layout
//! - [`directives`], [`dictionary`]: the fields `Cache-Control` and `CDN-Cache-Control` (pure)
//! - [`rules`]: what is stored, and what may be done with it (pure)
//! - [`vary`]: which of several answers of one URL is meant (pure)
//! - [`key`]: what answers are stored under, and which ones a purge means (pure)
//! - [`preconditions`]: conditional requests (pure)
//! - [`status`]: the field `Cache-Status` (pure)
//! - `store`, `stored`: the answers themselves
//! - `flight`: one request asks, the others wait for its answer
//! - `fill`: an answer that is stored while it is sent
//! - `serve`, `ask`: the way of a request through all of this

mod ask;
pub mod dictionary;
pub mod directives;
mod fill;
mod flight;
pub mod key;
pub mod preconditions;
pub mod rules;
mod serve;
pub mod status;
mod store;
mod stored;
pub mod vary;

pub(super) use serve::serve;

use arc_swap::ArcSwap;
use flight::Flights;
use key::Which;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use store::Store;

/// Settings of the cache.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Memory for stored answers, in bytes; zero is no cache (nginx: `proxy_cache_path … max_size`).
    pub memory: usize,
    /// Longest body that is stored, in bytes.
    pub largest: usize,
    /// How long a request waits for another one's answer (nginx: `proxy_cache_lock_timeout`).
    pub wait: Duration,
    /// How stale an answer may be that stands in for an error, where nobody says (nginx: `proxy_cache_use_stale`).
    pub stale_if_error: Duration,
    /// A reload of the application empties it.
    pub purge_on_reload: bool,
}

/// See the module. It lives as long as the process, on or off.
#[derive(Debug)]
pub struct Cache {
    settings: ArcSwap<Settings>,
    store: Store,
    flights: Arc<Flights>,
    counts: Counts,
}

/// What requests have met with.
#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    stored: AtomicU64,
}

impl Counts {
    fn add(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// What is in the cache, and what it was good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// In bytes.
    pub memory: usize,
    /// What may be in it, in bytes.
    pub bound: usize,
    pub answers: usize,
    /// Requests that were answered from it.
    pub hits: u64,
    /// Requests for which the application was asked.
    pub misses: u64,
    /// Answers that were stored.
    pub stored: u64,
    /// URLs that had to make room.
    pub evicted: u64,
}

impl Cache {
    pub fn new(settings: Settings) -> Self {
        Self {
            store: Store::new(settings.memory),
            settings: ArcSwap::from_pointee(settings),
            flights: Arc::default(),
            counts: Counts::default(),
        }
    }

    /// From now on these hold. What does not fit any more goes.
    pub fn set_settings(&self, settings: &Settings) {
        self.store.set_bound(settings.memory);
        self.settings.store(Arc::new(settings.clone()));
    }

    pub fn is_on(&self) -> bool {
        self.store.bound() > 0
    }

    pub fn load(&self) -> Load {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Load {
            memory: self.store.bytes(),
            bound: self.store.bound(),
            answers: self.store.len(),
            hits: count(&self.counts.hits),
            misses: count(&self.counts.misses),
            stored: count(&self.counts.stored),
            evicted: self.store.evicted(),
        }
    }

    /// Removes answers and returns how many.
    pub fn purge(&self, which: &Which) -> usize {
        self.store.purge(which)
    }

    /// The application was loaded anew.
    pub fn note_reload(&self) {
        if self.is_on() && self.settings.load().purge_on_reload {
            let count = self.purge(&Which::All);
            tracing::info!("cache: {count} answers removed, the application was loaded anew (--cache-purge-on-reload)");
        }
    }
}

/// What the tests of this directory are made of.
#[cfg(test)]
mod sample {
    use http::{HeaderMap, HeaderName, HeaderValue};

    pub(super) fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let field = |&(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value of a header field"))
        };
        lines.iter().map(field).collect()
    }
}
