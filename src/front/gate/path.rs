//! The one normaliser of paths. Its result is what routes and rules are matched against *and* what is handed on, so the
//! two can never differ.
//!
//! - `.` and `..` segments are resolved, also written as `%2e`; a path that climbs above the root is refused.
//! - A run of slashes at the start becomes one: echoed into a `Location`, `//host` would leave the site. Empty segments
//!   further in are data (`/proxy/http://…`) and stay.
//! - `%2f` and `%5c` are never decoded, and stay where they are data. But a segment that would hold a dot segment if
//!   somebody behind us decoded them (`..%2f..`) is refused: nothing honest writes that.
//! - All other percent-encoding stays as it came. A `%` without two hexadecimal digits, and `%00`, are refused.

use std::borrow::Cow;

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("it does not start with a slash")]
    NotAbsolute,
    #[error("a `%` is not followed by two hexadecimal digits")]
    PercentEncoding,
    #[error("it holds an encoded NUL (`%00`)")]
    Nul,
    #[error("it climbs above the root")]
    AboveRoot,
    #[error("an encoded slash stands beside a dot segment")]
    HiddenDotSegment,
    #[error("it holds a byte outside visible ASCII")]
    Character,
}

/// The path to match and to hand on; borrowed when it is normal already.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, PathError> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    // `.` at a segment's start, `%` anywhere and `//` at the front are what makes a path need a closer look.
    let mut plain = !bytes.starts_with(b"//");
    let mut previous = 0;
    for &byte in bytes {
        if !byte.is_ascii_graphic() {
            return Err(PathError::Character);
        }
        plain &= byte != b'%' && !(byte == b'.' && matches!(previous, b'/' | b'\\'));
        previous = byte;
    }
    if plain {
        return Ok(Cow::Borrowed(path));
    }
    check_percent_encoding(bytes)?;
    let body = path.trim_start_matches('/');
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_in_directory = false;
    for segment in body.split('/') {
        ends_in_directory = false;
        match dots(segment) {
            Some(1) => ends_in_directory = true,
            Some(_) => {
                segments.pop().ok_or(PathError::AboveRoot)?;
                ends_in_directory = true;
            }
            None if hides_dot_segment(segment) => return Err(PathError::HiddenDotSegment),
            None => segments.push(segment),
        }
    }
    if ends_in_directory && !segments.is_empty() {
        segments.push("");
    }
    let normal = segments.join("/");
    // `/..//x` must not come out as `//x`.
    let normal = normal.trim_start_matches('/');
    Ok(if path.strip_prefix('/') == Some(normal) { Cow::Borrowed(path) } else { Cow::Owned(format!("/{normal}")) })
}

fn check_percent_encoding(bytes: &[u8]) -> Result<(), PathError> {
    for at in memchr::memchr_iter(b'%', bytes) {
        match bytes.get(at + 1..at + 3) {
            Some(b"00") => return Err(PathError::Nul),
            Some([high, low]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {}
            _ => return Err(PathError::PercentEncoding),
        }
    }
    Ok(())
}

/// One for `.`, two for `..`, each dot plain or as `%2e`.
fn dots(segment: &str) -> Option<usize> {
    let mut rest = segment.as_bytes();
    let mut count = 0;
    while !rest.is_empty() {
        rest = match rest {
            [b'.', rest @ ..] => rest,
            [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return None,
        };
        count += 1;
    }
    matches!(count, 1 | 2).then_some(count)
}

/// Whether decoding `%2f` or `%5c`, or reading a backslash as a slash, would bring out a `.` or `..` segment.
fn hides_dot_segment(segment: &str) -> bool {
    let mut rest = segment;
    let mut separated = false;
    loop {
        let end = rest.as_bytes().iter().enumerate().position(|(index, &byte)| {
            byte == b'\\'
                || (byte == b'%'
                    && rest
                        .as_bytes()
                        .get(index + 1..index + 3)
                        .is_some_and(|code| code.eq_ignore_ascii_case(b"2f") || code.eq_ignore_ascii_case(b"5c")))
        });
        let Some(end) = end else { return separated && dots(rest).is_some() };
        if dots(&rest[..end]).is_some() {
            return true;
        }
        separated = true;
        rest = &rest[end + if rest.as_bytes()[end] == b'\\' { 1 } else { 3 }..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        use PathError::{AboveRoot, Character, HiddenDotSegment, NotAbsolute, Nul, PercentEncoding};
        let cases: &[(&str, Result<&str, PathError>)] = &[
            ("/", Ok("/")),
            ("/a/b", Ok("/a/b")),
            ("/a/../b", Ok("/b")),
            ("/a/%2e%2e/b", Ok("/b")),
            ("/a/%2E./b", Ok("/b")),
            ("/a/./b", Ok("/a/b")),
            ("/a/.", Ok("/a/")),
            ("/a/b/..", Ok("/a/")),
            ("/a/..", Ok("/")),
            ("/.", Ok("/")),
            ("//a//b", Ok("/a//b")),
            ("//", Ok("/")),
            ("/a//../b", Ok("/a/b")),
            ("/x/..//y", Ok("/y")),
            ("/x/..//%2e/y", Ok("/y")),
            ("/...", Ok("/...")),
            ("/.hidden", Ok("/.hidden")),
            ("/a..b/..c", Ok("/a..b/..c")),
            ("/a%2fb", Ok("/a%2fb")),
            ("/a%5Cb\\c", Ok("/a%5Cb\\c")),
            ("/%41%c3%a9", Ok("/%41%c3%a9")),
            ("/proxy/http://example.org/", Ok("/proxy/http://example.org/")),
            ("/..", Err(AboveRoot)),
            ("/../etc", Err(AboveRoot)),
            ("//../etc", Err(AboveRoot)),
            ("/a/../../etc", Err(AboveRoot)),
            ("/%2e%2e/etc", Err(AboveRoot)),
            ("/a/..%2fetc", Err(HiddenDotSegment)),
            ("/a%2f..", Err(HiddenDotSegment)),
            ("/a/..\\etc", Err(HiddenDotSegment)),
            ("/a\\..\\b", Err(HiddenDotSegment)),
            ("/a%5c%2e%2e%5cb", Err(HiddenDotSegment)),
            ("/a%00", Err(Nul)),
            ("/a%zz", Err(PercentEncoding)),
            ("/a%4", Err(PercentEncoding)),
            ("/a%", Err(PercentEncoding)),
            ("/a b", Err(Character)),
            ("/\u{e9}", Err(Character)),
            ("a", Err(NotAbsolute)),
            ("", Err(NotAbsolute)),
            ("*", Err(NotAbsolute)),
        ];
        for (path, expected) in cases {
            assert_eq!(normalise(path).as_deref(), expected.as_ref().map(|path| *path), "{path}");
            if let Ok(normal) = normalise(path) {
                assert_eq!(normalise(&normal).as_deref(), Ok(&*normal), "{path} is not normal after once");
            }
        }
    }
}
