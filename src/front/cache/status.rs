//! Pure: the `Cache-Status` of an answer (RFC 9211).

use http::HeaderValue;
use std::fmt::Write as _;

/// How an answer came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the cache, without asking.
    Hit,
    /// The application was asked.
    Forwarded(Forward),
}

/// Why the application was asked (RFC 9211 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// The cache has nothing to do with such a request.
    Bypass,
    /// The method is not GET or HEAD.
    Method,
    /// Nothing is stored under this address.
    UriMiss,
    /// What is stored is for requests that say something else.
    VaryMiss,
    Stale,
    /// The client wanted it.
    Request,
}

/// Everything that is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub way: Way,
    /// The status of the application's answer, where the client gets another one.
    pub forward_status: Option<u16>,
    /// Seconds for which it is still fresh.
    pub ttl: Option<i64>,
    pub is_stored: bool,
    /// Another request has fetched it.
    pub is_collapsed: bool,
    pub detail: Option<&'static str>,
}

impl Status {
    pub fn new(way: Way) -> Self {
        Self { way, forward_status: None, ttl: None, is_stored: false, is_collapsed: false, detail: None }
    }

    /// From the cache; lifetime and age in milliseconds.
    pub fn hit(lifetime: u64, age: u64) -> Self {
        Self { ttl: Some(ttl(lifetime, age)), ..Self::new(Way::Hit) }
    }

    pub fn value(&self) -> HeaderValue {
        let mut text = String::from("monoceros");
        match self.way {
            Way::Hit => text.push_str("; hit"),
            Way::Forwarded(forward) => {
                text.push_str("; fwd=");
                text.push_str(match forward {
                    Forward::Bypass => "bypass",
                    Forward::Method => "method",
                    Forward::UriMiss => "uri-miss",
                    Forward::VaryMiss => "vary-miss",
                    Forward::Stale => "stale",
                    Forward::Request => "request",
                });
            }
        }
        // Writing to a string cannot fail.
        if let Some(status) = self.forward_status {
            let _ = write!(text, "; fwd-status={status}");
        }
        if let Some(ttl) = self.ttl {
            let _ = write!(text, "; ttl={ttl}");
        }
        if self.is_stored {
            text.push_str("; stored");
        }
        if self.is_collapsed {
            text.push_str("; collapsed");
        }
        if let Some(detail) = self.detail {
            text.push_str("; detail=");
            text.push_str(detail);
        }
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("monoceros"))
    }
}

/// In whole seconds; below zero since it is stale.
pub fn ttl(lifetime: u64, age: u64) -> i64 {
    i64::try_from(lifetime / 1000).unwrap_or(i64::MAX) - i64::try_from(age / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_is_told() {
        let forwarded = |forward| Status::new(Way::Forwarded(forward));
        for (status, expected) in [
            (Status::hit(60_000, 1_500), "monoceros; hit; ttl=59"),
            (Status::hit(60_000, 70_000), "monoceros; hit; ttl=-10"),
            (Status { is_collapsed: true, ..Status::hit(9000, 0) }, "monoceros; hit; ttl=9; collapsed"),
            (forwarded(Forward::Bypass), "monoceros; fwd=bypass"),
            (forwarded(Forward::Method), "monoceros; fwd=method"),
            (
                Status { is_stored: true, ttl: Some(60), ..forwarded(Forward::UriMiss) },
                "monoceros; fwd=uri-miss; ttl=60; stored",
            ),
            (forwarded(Forward::VaryMiss), "monoceros; fwd=vary-miss"),
            (
                Status { forward_status: Some(503), detail: Some("stale-if-error"), ..forwarded(Forward::Stale) },
                "monoceros; fwd=stale; fwd-status=503; detail=stale-if-error",
            ),
            (forwarded(Forward::Request), "monoceros; fwd=request"),
        ] {
            assert_eq!(status.value(), expected);
        }
    }
}
