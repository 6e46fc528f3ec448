//! The `Date` header, made once per second.

use http::HeaderValue;
use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

/// For the current second (RFC 9110 §6.6.1).
pub(super) fn now() -> HeaderValue {
    thread_local! {
        static LAST: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) };
    }
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    LAST.with_borrow_mut(|(last, value)| {
        if *last != second
            && let Ok(made) = HeaderValue::try_from(httpdate::fmt_http_date(now))
        {
            (*last, *value) = (second, made);
        }
        value.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_time() {
        let parsed = now().to_str().ok().and_then(|date| httpdate::parse_http_date(date).ok());
        let age = parsed.and_then(|date| SystemTime::now().duration_since(date).ok());
        assert!(age.is_some_and(|age| age.as_secs() < 2), "{age:?}");
    }
}
