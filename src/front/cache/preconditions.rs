//! Pure: what a stored answer says to the conditions of a request (RFC 9111 §4.3.2, RFC 9110 §13).

use super::directives::Members;
use http::header::{DATE, ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED};
use std::time::SystemTime;

/// Whether the client has the answer already.
pub fn is_not_modified(request: &HeaderMap, stored: &HeaderMap) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        // Without a tag of its own it is in no list; only "any" fits it.
        let own = stored.get(ETAG).map(|tag| opaque(tag.as_bytes()));
        return request
            .get_all(IF_NONE_MATCH)
            .iter()
            .flat_map(|value| Members(value.as_bytes()))
            .any(|tag| tag == b"*" || own.is_some_and(|own| opaque(tag) == own));
    }
    // Without a modification date, that of the answer serves (RFC 9111 §4.3.2).
    let modified = date(stored, LAST_MODIFIED).or_else(|| date(stored, DATE));
    matches!((date(request, IF_MODIFIED_SINCE), modified), (Some(since), Some(modified)) if modified <= since)
}

/// Whether the `Range` of a request counts (RFC 9110 §13.1.5): the client has a part of exactly this.
pub fn range_counts(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let Some(condition) = request.get(IF_RANGE) else { return true };
    if condition.as_bytes().contains(&b'"') {
        let is_strong = !condition.as_bytes().starts_with(b"W/");
        return is_strong && stored.get(ETAG) == Some(condition);
    }
    // A date is a strong validator only once its second is over (RFC 9110 §8.8.2.2).
    let modified = date(stored, LAST_MODIFIED);
    modified.is_some() && date(request, IF_RANGE) == modified && date(stored, DATE) > modified
}

/// Without the mark of a weak one: for a GET, weak is strong enough.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::front::cache::sample::headers;

    type Lines<'a> = &'a [(&'static str, &'a str)];

    const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATE: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    #[test]
    fn who_has_it_already() {
        let both: &[(&'static str, &str)] = &[("etag", "\"a,b\""), ("last-modified", EARLY)];
        let weak: &[(&'static str, &str)] = &[("etag", "W/\"a\"")];
        let dated: &[(&'static str, &str)] = &[("date", EARLY)];
        let cases: &[(Lines<'_>, Lines<'_>, bool)] = &[
            (both, &[], false),
            (both, &[("if-none-match", "\"a,b\"")], true),
            (both, &[("if-none-match", "\"x\", W/\"a,b\"")], true),
            (both, &[("if-none-match", "\"x\""), ("if-none-match", "\"a,b\"")], true),
            (both, &[("if-none-match", "*")], true),
            (both, &[("if-none-match", "\"a\"")], false),
            (both, &[("if-none-match", "\"x\""), ("if-modified-since", LATE)], false),
            (both, &[("if-none-match", "\"a,b\""), ("if-modified-since", "Sun, 06 Nov 1984 08:49:37 GMT")], true),
            (both, &[("if-modified-since", EARLY)], true),
            (both, &[("if-modified-since", "yesterday")], false),
            (weak, &[("if-none-match", "\"a\"")], true),
            (weak, &[("if-modified-since", EARLY)], false),
            (dated, &[("if-modified-since", LATE)], true),
            (dated, &[("if-none-match", "\"a\"")], false),
        ];
        for (stored, request, expected) in cases {
            assert_eq!(is_not_modified(&headers(request), &headers(stored)), *expected, "{stored:?} {request:?}");
        }
    }

    #[test]
    fn a_part_is_only_for_who_has_the_same() {
        let stored = headers(&[("etag", "\"a\""), ("last-modified", EARLY), ("date", LATE)]);
        let young = headers(&[("etag", "W/\"a\""), ("last-modified", EARLY), ("date", EARLY)]);
        for (condition, expected, of_young) in [
            ("\"a\"", true, false),
            ("W/\"a\"", false, false),
            ("\"b\"", false, false),
            (EARLY, true, false),
            (LATE, false, false),
            ("nonsense", false, false),
        ] {
            let request = headers(&[("if-range", condition)]);
            assert_eq!(range_counts(&request, &stored), expected, "{condition}");
            assert_eq!(range_counts(&request, &young), of_young, "{condition}");
        }
        assert!(range_counts(&HeaderMap::new(), &stored));
    }
}
