//! Validators and preconditions: RFC 9110 §8.8 and §13. Pure; the time is an argument.

use http::header::{ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::{SystemTime, UNIX_EPOCH};

/// The last second an HTTP date can name: the end of the year 9999.
const LATEST: u64 = 253_402_300_799;

/// What tells one state of a representation from another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Validators {
    /// With its quotes; begins with `W/` if it is weak.
    pub etag: Option<HeaderValue>,
    /// Seconds since the epoch, never in the future (RFC 9110 §8.8.2.1).
    pub last_modified: Option<u64>,
}

impl Validators {
    /// The validators of a file as `fstat` describes it. The entity tag is strong: inode, length and time of modification
    /// in nanoseconds, in hexadecimal. A file that is replaced by renaming changes its inode even if its time is kept.
    pub fn of_file(inode: u64, length: u64, seconds: i64, nanoseconds: u32, now: SystemTime) -> Self {
        let time = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        let last_modified = u64::try_from(seconds).unwrap_or(0).min(to_seconds(now)).min(LATEST);
        // Plain ASCII by construction.
        let etag = HeaderValue::try_from(format!("\"{inode:x}-{length:x}-{time:x}\"")).ok();
        Self { etag, last_modified: Some(last_modified) }
    }

    /// Those that an answer has; what cannot be read counts as none.
    pub fn of_answer(headers: &HeaderMap) -> Self {
        let etag = headers.get(ETAG).filter(|etag| EntityTags(etag.as_bytes()).next().is_some());
        Self { etag: etag.cloned(), last_modified: date(headers, LAST_MODIFIED) }
    }

    /// Whether the tag is weak, and the tag with its quotes.
    fn tag(&self) -> Option<(bool, &[u8])> {
        EntityTags(self.etag.as_ref()?.as_bytes()).next()
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
        if !lists_tag(headers, IF_MATCH, current, Comparison::Strong) {
            return Verdict::PreconditionFailed;
        }
    } else if is_later(current, headers, IF_UNMODIFIED_SINCE) == Some(true) {
        return Verdict::PreconditionFailed;
    }
    if headers.contains_key(IF_NONE_MATCH) {
        if lists_tag(headers, IF_NONE_MATCH, current, Comparison::Weak) {
            return Verdict::NotModified;
        }
    } else if is_later(current, headers, IF_MODIFIED_SINCE) == Some(false) {
        return Verdict::NotModified;
    }
    Verdict::Send { ranges: if_range(headers, current, now) }
}

/// RFC 9110 §13.1.5: the range is sent only of exactly the state the client has a part of.
fn if_range(headers: &HeaderMap, current: &Validators, now: SystemTime) -> bool {
    let Some(value) = headers.get(IF_RANGE) else { return true };
    if value.as_bytes().contains(&b'"') {
        return current.tag().is_some_and(|(is_weak, tag)| !is_weak && value.as_bytes().trim_ascii() == tag);
    }
    // A date is a strong validator only once its second is over (RFC 9110 §8.8.2.2).
    current
        .last_modified
        .is_some_and(|modified| date(headers, IF_RANGE) == Some(modified) && to_seconds(now) > modified)
}

/// Whether the representation was modified after the header's date; `None` where there is nothing to compare.
fn is_later(current: &Validators, headers: &HeaderMap, name: HeaderName) -> Option<bool> {
    Some(current.last_modified? > date(headers, name)?)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether the header's list has the current tag, or is `*`. A list is read up to its first mistake.
fn lists_tag(headers: &HeaderMap, name: HeaderName, current: &Validators, comparison: Comparison) -> bool {
    let current = current.tag();
    headers.get_all(name).iter().any(|value| {
        let value = value.as_bytes().trim_ascii();
        value == b"*"
            || current.is_some_and(|(is_weak, current)| {
                EntityTags(value)
                    .any(|(weak, tag)| tag == current && !((weak || is_weak) && comparison == Comparison::Strong))
            })
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
    use std::time::Duration;

    const TAG: &str = "\"a-5-17f\"";
    /// The modification of the file in these tests, and a second before and after.
    const EXACTLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const MODIFIED: u64 = 784_111_777;

    const WHOLE: Verdict = Verdict::Send { ranges: false };
    const ANY: Verdict = Verdict::Send { ranges: true };

    fn validators(etag: &str, last_modified: u64) -> Validators {
        Validators { etag: Some(HeaderValue::from_str(etag).unwrap()), last_modified: Some(last_modified) }
    }

    fn verdict(fields: &[(HeaderName, &str)], now: u64) -> Verdict {
        verdict_on(&validators(TAG, MODIFIED), fields, now)
    }

    fn verdict_on(current: &Validators, fields: &[(HeaderName, &str)], now: u64) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        evaluate(&headers, current, UNIX_EPOCH + Duration::from_secs(now))
    }

    /// The validators, the preconditions, the verdict.
    type Case<'a> = (&'a Validators, &'a [(HeaderName, &'a str)], Verdict);

    #[test]
    fn weak_tags_and_answers_without_validators() {
        use Verdict::{NotModified, PreconditionFailed};
        let weak = &format!("W/{TAG}");
        let (is_weak, nothing) = (validators(weak, MODIFIED), Validators::default());
        let cases: &[Case<'_>] = &[
            (&is_weak, &[(IF_NONE_MATCH, weak)], NotModified),
            (&is_weak, &[(IF_NONE_MATCH, TAG)], NotModified),
            (&is_weak, &[(IF_MATCH, weak)], PreconditionFailed),
            (&is_weak, &[(IF_MATCH, TAG)], PreconditionFailed),
            (&is_weak, &[(IF_RANGE, weak)], WHOLE),
            (&is_weak, &[(IF_RANGE, TAG)], WHOLE),
            (&is_weak, &[(IF_RANGE, EXACTLY)], ANY),
            (&nothing, &[(IF_NONE_MATCH, TAG)], ANY),
            (&nothing, &[(IF_NONE_MATCH, "*")], NotModified),
            (&nothing, &[(IF_MATCH, TAG)], PreconditionFailed),
            (&nothing, &[(IF_MATCH, "*")], ANY),
            (&nothing, &[(IF_MODIFIED_SINCE, AFTER)], ANY),
            (&nothing, &[(IF_UNMODIFIED_SINCE, BEFORE)], ANY),
            (&nothing, &[(IF_RANGE, EXACTLY)], WHOLE),
            (&nothing, &[(IF_RANGE, TAG)], WHOLE),
        ];
        for (current, fields, expected) in cases {
            assert_eq!(verdict_on(current, fields, MODIFIED + 100), *expected, "{current:?} {fields:?}");
        }
    }

    #[test]
    fn validators_of_an_answer() {
        let of = |etag: &str, date: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ETAG, HeaderValue::from_str(etag).unwrap());
            headers.insert(LAST_MODIFIED, HeaderValue::from_str(date).unwrap());
            Validators::of_answer(&headers)
        };
        assert_eq!(of(TAG, EXACTLY), validators(TAG, MODIFIED));
        assert_eq!(of("no quotes", "yesterday"), Validators::default());
        assert_eq!(Validators::of_answer(&HeaderMap::new()), Validators::default());
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
        let new = |seconds, nanoseconds| Validators::of_file(0xa, 5, seconds, nanoseconds, now);
        assert_eq!(new(0, 0x17f), validators(TAG, 0));
        assert_eq!(new(999, 0).last_modified, Some(999));
        assert_eq!(new(2000, 0).last_modified, Some(1000), "not in the future");
        assert_eq!(new(i64::MIN, 0).last_modified, Some(0), "before the epoch");
        assert_ne!(new(2000, 0).etag, new(2001, 0).etag);
        let late = UNIX_EPOCH + Duration::from_secs(LATEST + 10);
        assert_eq!(Validators::of_file(1, 1, i64::MAX, 0, late).last_modified, Some(LATEST));
    }
}
