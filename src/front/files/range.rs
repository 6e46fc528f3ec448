//! The `Range` header (RFC 9110 §14). Pure.

use std::ops::Range;

/// Requests for more parts than this get the whole file: nobody needs them, and each costs a head.
const PARTS_MAX: usize = 16;

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Everything, as if there were no header (200).
    Whole,
    /// One part (206). Not empty, and inside the file.
    Part(Range<u64>),
    /// Several parts in the order asked for, that do not overlap (206, `multipart/byteranges`).
    Parts(Vec<Range<u64>>),
    /// No part of the file was asked for (416).
    Unsatisfiable,
}

/// Reads the header's value for a file of `length` bytes. Another unit, a mistake, or an unreasonable number of parts
/// means [`Selection::Whole`] (RFC 9110 §14.2 leaves the header to the server's liking).
pub fn select(value: &[u8], length: u64) -> Selection {
    let Some((unit, set)) = value.split_at_checked(6) else { return Selection::Whole };
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return Selection::Whole;
    }
    let mut parts: Vec<Range<u64>> = Vec::new();
    let mut specified = 0;
    for spec in set.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|spec| !spec.is_empty()) {
        specified += 1;
        if specified > PARTS_MAX {
            return Selection::Whole;
        }
        match read_spec(spec, length) {
            Spec::Part(part) => parts.push(part),
            Spec::Outside => {}
            Spec::Whole => return Selection::Whole,
        }
    }
    if specified == 0 {
        return Selection::Whole;
    }
    merge(&mut parts);
    match parts.len() {
        0 => Selection::Unsatisfiable,
        1 => Selection::Part(parts.swap_remove(0)),
        _ => Selection::Parts(parts),
    }
}

enum Spec {
    Part(Range<u64>),
    Outside,
    /// A mistake, or the end of an empty file.
    Whole,
}

/// `first-last`, `first-` or `-suffix`.
fn read_spec(spec: &[u8], length: u64) -> Spec {
    let Some(dash) = memchr::memchr(b'-', spec) else { return Spec::Whole };
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    if first.is_empty() {
        return match (number(last), length) {
            (None, _) => Spec::Whole,
            (Some(0), _) => Spec::Outside,
            // Satisfiable by §14.1.2, but `Content-Range` has no words for it.
            (Some(_), 0) => Spec::Whole,
            (Some(suffix), _) => Spec::Part(length.saturating_sub(suffix)..length),
        };
    }
    let Some(first) = number(first) else { return Spec::Whole };
    let last = if last.is_empty() { Some(u64::MAX) } else { number(last) };
    match last {
        None => Spec::Whole,
        Some(last) if last < first => Spec::Whole,
        Some(_) if first >= length => Spec::Outside,
        Some(last) => Spec::Part(first..last.saturating_add(1).min(length)),
    }
}

/// Digits only. A number beyond 64 bits is beyond every file too.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0_u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

/// Joins parts that overlap or touch; they are sorted then. Parts that are apart keep the order of the request.
fn merge(parts: &mut Vec<Range<u64>>) {
    let mut sorted = parts.clone();
    sorted.sort_unstable_by_key(|part| part.start);
    sorted.dedup_by(|next, previous| {
        let touches = next.start <= previous.end;
        if touches {
            previous.end = previous.end.max(next.end);
        }
        touches
    });
    if sorted.len() < parts.len() {
        *parts = sorted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_a_file_of_1000_bytes() {
        let part = Selection::Part;
        let parts = |parts: &[Range<u64>]| Selection::Parts(parts.to_vec());
        let cases = [
            ("bytes=0-0", part(0..1)),
            ("bytes=0-499", part(0..500)),
            ("bytes=500-999", part(500..1000)),
            ("bytes=500-1000", part(500..1000)),
            ("bytes=999-", part(999..1000)),
            ("bytes=0-", part(0..1000)),
            ("bytes=-1", part(999..1000)),
            ("bytes=-1000", part(0..1000)),
            ("bytes=-5000", part(0..1000)),
            ("BYTES=0-0", part(0..1)),
            ("bytes= 0-0", part(0..1)),
            ("bytes=007-9", part(7..10)),
            ("bytes=5-99999999999999999999999999", part(5..1000)),
            ("bytes=-99999999999999999999999999", part(0..1000)),
            // Several.
            ("bytes=0-0,-1", parts(&[0..1, 999..1000])),
            ("bytes=0-9, 20-29", parts(&[0..10, 20..30])),
            ("bytes=20-29,0-9", parts(&[20..30, 0..10])),
            ("bytes=,0-9,,20-29,", parts(&[0..10, 20..30])),
            ("bytes=0-9,2000-", part(0..10)),
            ("bytes=2000-,0-9,3000-,20-29", parts(&[0..10, 20..30])),
            ("bytes=0-9,10-19", part(0..20)),
            ("bytes=0-9,5-19", part(0..20)),
            ("bytes=5-19,0-9", part(0..20)),
            ("bytes=0-99,10-19", part(0..100)),
            ("bytes=500-600,0-9,5-19", parts(&[0..20, 500..601])),
            ("bytes=0-,0-,0-,0-", part(0..1000)),
            // Nothing of the file.
            ("bytes=1000-", Selection::Unsatisfiable),
            ("bytes=1000-1001", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=99999999999999999999999999-", Selection::Unsatisfiable),
            ("bytes=1000-,2000-3000", Selection::Unsatisfiable),
            // Ignored.
            ("", Selection::Whole),
            ("bytes", Selection::Whole),
            ("bytes=", Selection::Whole),
            ("bytes=,", Selection::Whole),
            ("bytes=-", Selection::Whole),
            ("bytes=5", Selection::Whole),
            ("bytes=9-0", Selection::Whole),
            ("bytes=a-b", Selection::Whole),
            ("bytes=0x0-5", Selection::Whole),
            ("bytes=+0-5", Selection::Whole),
            ("bytes=0--5", Selection::Whole),
            ("bytes=0 - 5", Selection::Whole),
            ("bytes=0-5,9-0", Selection::Whole),
            ("bytes 0-5", Selection::Whole),
            ("lines=0-5", Selection::Whole),
            ("items=0-5", Selection::Whole),
        ];
        for (value, expected) in cases {
            assert_eq!(select(value.as_bytes(), 1000), expected, "{value}");
        }
    }

    #[test]
    fn too_many_parts_are_not_worth_it() {
        let set = |count: u64| {
            let specs: Vec<String> = (0..count).map(|part| format!("{}-{}", part * 10, part * 10)).collect();
            format!("bytes={}", specs.join(","))
        };
        assert!(matches!(select(set(16).as_bytes(), 1000), Selection::Parts(parts) if parts.len() == 16));
        assert_eq!(select(set(17).as_bytes(), 1000), Selection::Whole);
    }

    #[test]
    fn an_empty_file_has_no_parts() {
        assert_eq!(select(b"bytes=0-", 0), Selection::Unsatisfiable);
        assert_eq!(select(b"bytes=0-0", 0), Selection::Unsatisfiable);
        assert_eq!(select(b"bytes=-5", 0), Selection::Whole);
    }
}
