//! Validators and preconditions: RFC 9110 §8.8 and §13. Pure; the time is an argument.

use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE};
use http::{HeaderMap, HeaderName};
use std::time::{SystemTime, UNIX_EPOCH};

/// The last second an HTTP date can name: the end of the year 9999.
const LATEST: u64 = 253_402_300_799;

/// What tells one state of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validators {
    /// A strong entity tag with its quotes: inode, length and time of modification in nanoseconds, in hexadecimal. A
    /// file that is replaced by renaming changes its inode even if its time is kept.
    pub etag: String,
    /// Seconds since the epoch, never in the future (RFC 9110 §8.8.2.1).
    pub last_modified: u64,
}

impl Validators {
    /// The validators of a file as `fstat` describes it.
    pub fn new(inode: u64, length: u64, seconds: i64, nanoseconds: u32, now: SystemTime) -> Self {
        let time = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        let last_modified = u64::try_from(seconds).unwrap_or(0).min(to_seconds(now)).min(LATEST);
        Self { etag: format!("\"{inode:x}-{length:x}-{time:x}\""), last_modified }
    }
}

/// What the preconditions of a GET or HEAD request allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send the file. A `Range` header counts only if `ranges` is true.
    Send {
        ranges: bool,
    },
    NotModified,
    PreconditionFailed,
}

/// Evaluates the preconditions in the order of RFC 9110 §13.2.2, for GET and HEAD.
pub fn evaluate(headers: &HeaderMap, current: &Validators, now: SystemTime) -> Verdict {
    if headers.contains_key(IF_MATCH) {
        if !lists_tag(headers, IF_MATCH, &current.etag, Comparison::Strong) {
            return Verdict::PreconditionFailed;
        }
    } else if date(headers, IF_UNMODIFIED_SINCE).is_some_and(|date| current.last_modified > date) {
        return Verdict::PreconditionFailed;
    }
    if headers.contains_key(IF_NONE_MATCH) {
        if lists_tag(headers, IF_NONE_MATCH, &current.etag, Comparison::Weak) {
            return Verdict::NotModified;
        }
    } else if date(headers, IF_MODIFIED_SINCE).is_some_and(|date| current.last_modified <= date) {
        return Verdict::NotModified;
    }
    Verdict::Send { ranges: if_range(headers, current, now) }
}

/// RFC 9110 §13.1.5: the range is sent only of exactly the state the client has a part of.
fn if_range(headers: &HeaderMap, current: &Validators, now: SystemTime) -> bool {
    let Some(value) = headers.get(IF_RANGE) else { return true };
    if value.as_bytes().contains(&b'"') {
        return value.as_bytes() == current.etag.as_bytes();
    }
    // A date is a strong validator only once its second is over (RFC 9110 §8.8.2.2).
    date(headers, IF_RANGE) == Some(current.last_modified) && to_seconds(now) > current.last_modified
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether the header's list has `etag`, which is a strong one, or is `*`. A list is read up to its first mistake.
fn lists_tag(headers: &HeaderMap, name: HeaderName, etag: &str, comparison: Comparison) -> bool {
    headers.get_all(name).iter().any(|value| {
        let value = value.as_bytes().trim_ascii();
        value == b"*"
            || EntityTags(value)
                .any(|(weak, tag)| tag == etag.as_bytes() && !(weak && comparison == Comparison::Strong))
    })
}

/// The entity tags of a list: whether each is weak, and the tag with its quotes. Commas inside a tag are part of it.
struct EntityTags<'a>(&'a [u8]);

impl<'a> Iterator for EntityTags<'a> {
    type Item = (bool, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let separators = self.0.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b',')).count();
        let rest = &self.0[separators..];
        let (weak, rest) = rest.strip_prefix(b"W/").map_or((false, rest), |rest| (true, rest));
        let end = 2 + memchr::memchr(b'"', rest.strip_prefix(b"\"")?)?;
        let (tag, rest) = rest.split_at(end);
        self.0 = rest;
        Some((weak, tag))
    }
}

/// The date of a header in seconds since the epoch; `None` when there is no header, or none that can be read: it is
/// ignored then (RFC 9110 §13.1.3, §13.1.4).
fn date(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    let value = headers.get(name)?.to_str().ok()?;
    httpdate::parse_http_date(value).ok().map(to_seconds)
}

fn to_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |duration| duration.as_secs())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use http::HeaderValue;
    use std::time::Duration;

    const TAG: &str = "\"a-5-17f\"";
    /// The modification of the file in these tests, and a second before and after.
    const EXACTLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const MODIFIED: u64 = 784_111_777;

    const WHOLE: Verdict = Verdict::Send { ranges: false };
    const ANY: Verdict = Verdict::Send { ranges: true };

    fn verdict(fields: &[(HeaderName, &str)], now: u64) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let current = Validators { etag: TAG.to_owned(), last_modified: MODIFIED };
        evaluate(&headers, &current, UNIX_EPOCH + Duration::from_secs(now))
    }

    #[test]
    fn preconditions_in_their_order() {
        use Verdict::{NotModified, PreconditionFailed};
        let weak = &format!("W/{TAG}");
        let list = &format!("\"x\", W/\"y,z\" ,{TAG}");
        let rfc850 = "Sunday, 06-Nov-94 08:49:37 GMT";
        let asctime = "Sun Nov  6 08:49:37 1994";
        let cases: &[(&[(HeaderName, &str)], Verdict)] = &[
            (&[], ANY),
            (&[(IF_NONE_MATCH, TAG)], NotModified),
            (&[(IF_NONE_MATCH, weak)], NotModified),
            (&[(IF_NONE_MATCH, list)], NotModified),
            (&[(IF_NONE_MATCH, "*")], NotModified),
            (&[(IF_NONE_MATCH, "\"x\""), (IF_NONE_MATCH, TAG)], NotModified),
            (&[(IF_NONE_MATCH, "\"other\"")], ANY),
            (&[(IF_NONE_MATCH, "a-5-17f")], ANY),
            (&[(IF_NONE_MATCH, "")], ANY),
            (&[(IF_NONE_MATCH, "\"unfinished")], ANY),
            (&[(IF_NONE_MATCH, "w/\"a-5-17f\"")], ANY),
            (&[(IF_MATCH, TAG)], ANY),
            (&[(IF_MATCH, list)], ANY),
            (&[(IF_MATCH, "*")], ANY),
            (&[(IF_MATCH, weak)], PreconditionFailed),
            (&[(IF_MATCH, "\"other\"")], PreconditionFailed),
            (&[(IF_MATCH, "rubbish")], PreconditionFailed),
            (&[(IF_MODIFIED_SINCE, EXACTLY)], NotModified),
            (&[(IF_MODIFIED_SINCE, AFTER)], NotModified),
            (&[(IF_MODIFIED_SINCE, rfc850)], NotModified),
            (&[(IF_MODIFIED_SINCE, asctime)], NotModified),
            (&[(IF_MODIFIED_SINCE, BEFORE)], ANY),
            (&[(IF_MODIFIED_SINCE, "yesterday")], ANY),
            (&[(IF_UNMODIFIED_SINCE, BEFORE)], PreconditionFailed),
            (&[(IF_UNMODIFIED_SINCE, EXACTLY)], ANY),
            (&[(IF_UNMODIFIED_SINCE, AFTER)], ANY),
            (&[(IF_UNMODIFIED_SINCE, "rubbish")], ANY),
            // Tags make dates superfluous.
            (&[(IF_NONE_MATCH, "\"other\""), (IF_MODIFIED_SINCE, AFTER)], ANY),
            (&[(IF_NONE_MATCH, TAG), (IF_MODIFIED_SINCE, BEFORE)], NotModified),
            (&[(IF_MATCH, TAG), (IF_UNMODIFIED_SINCE, BEFORE)], ANY),
            // A failed precondition comes before "not modified".
            (&[(IF_MATCH, "\"other\""), (IF_NONE_MATCH, TAG)], PreconditionFailed),
            (&[(IF_UNMODIFIED_SINCE, BEFORE), (IF_MODIFIED_SINCE, EXACTLY)], PreconditionFailed),
            (&[(IF_MATCH, TAG), (IF_NONE_MATCH, TAG)], NotModified),
            // The part and the rest must be of the same state.
            (&[(IF_RANGE, TAG)], ANY),
            (&[(IF_RANGE, weak)], WHOLE),
            (&[(IF_RANGE, "\"other\"")], WHOLE),
            (&[(IF_RANGE, EXACTLY)], ANY),
            (&[(IF_RANGE, BEFORE)], WHOLE),
            (&[(IF_RANGE, AFTER)], WHOLE),
            (&[(IF_RANGE, "rubbish")], WHOLE),
            (&[(IF_RANGE, TAG), (IF_NONE_MATCH, TAG)], NotModified),
        ];
        for (fields, expected) in cases {
            assert_eq!(verdict(fields, MODIFIED + 100), *expected, "{fields:?}");
        }
    }

    #[test]
    fn a_date_says_nothing_about_the_second_that_is_not_over() {
        assert_eq!(verdict(&[(IF_RANGE, EXACTLY)], MODIFIED), WHOLE);
        assert_eq!(verdict(&[(IF_RANGE, TAG)], MODIFIED), ANY);
    }

    #[test]
    fn validators_of_any_time_a_file_can_have() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let new = |seconds, nanoseconds| Validators::new(0xa, 5, seconds, nanoseconds, now);
        assert_eq!(new(0, 0x17f), Validators { etag: TAG.to_owned(), last_modified: 0 });
        assert_eq!(new(999, 0).last_modified, 999);
        assert_eq!(new(2000, 0).last_modified, 1000, "not in the future");
        assert_eq!(new(i64::MIN, 0).last_modified, 0, "before the epoch");
        assert_ne!(new(2000, 0).etag, new(2001, 0).etag);
        let late = UNIX_EPOCH + Duration::from_secs(LATEST + 10);
        assert_eq!(Validators::new(1, 1, i64::MAX, 0, late).last_modified, LATEST);
    }
}
