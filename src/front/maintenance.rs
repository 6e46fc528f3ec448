//! Maintenance: everybody but those who are let in gets 503 and a page, from the front itself.

use super::Address;
use super::bypass::Bypass;
use arc_swap::ArcSwapOption;
use http::request::Parts;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What was announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// For the `Retry-After` field.
    pub retry_after: Duration,
    /// For the page.
    pub message: String,
    /// Let in besides those of the configuration.
    pub bypass: Vec<Bypass>,
}

/// Said when nobody says anything else.
pub const MESSAGE: &str = "We are working on this site. Please come back in a few minutes.";

/// On or off. It outlives a reload, not the process.
#[derive(Debug, Default)]
pub struct Maintenance {
    /// All that a request looks at while there is none.
    is_on: AtomicBool,
    notice: ArcSwapOption<Notice>,
}

impl Maintenance {
    /// From now on new requests get this; those on their way, and open connections, go on.
    pub fn begin(&self, notice: Notice) {
        self.notice.store(Some(Arc::new(notice)));
        self.is_on.store(true, Ordering::Release);
    }

    /// True when it was on.
    pub fn end(&self) -> bool {
        self.notice.store(None);
        self.is_on.swap(false, Ordering::AcqRel)
    }

    /// What was announced, while it is on.
    pub fn notice(&self) -> Option<Arc<Notice>> {
        if self.is_on.load(Ordering::Acquire) { self.notice.load_full() } else { None }
    }

    /// What a request gets instead of an answer, if it is not let in. `configured` are the rules of the configuration.
    pub fn stops(&self, peer: &Address, request: &Parts, configured: &[Bypass]) -> Option<Arc<Notice>> {
        let notice = self.notice()?;
        let is_let_in = configured.iter().chain(&notice.bypass).any(|rule| rule.lets_in(peer, request));
        (!is_let_in).then_some(notice)
    }
}
