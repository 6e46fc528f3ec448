//! From the path of a request to a path below a mount's directory. Pure.
//!
//! SECURITY: this is the first of two layers; the kernel refuses to leave the directory in [`super::open`]. Here is
//! refused what a file name should never have come from: encoded slashes, backslashes, NUL, dot segments, hidden files.

use std::borrow::Cow;

/// The one hidden name that is shown (RFC 8615).
const WELL_KNOWN: &[u8] = b".well-known";

/// Where a path leads. `mount` is an index into the URLs given.
#[derive(Debug, PartialEq, Eq)]
pub enum Resolution<'a> {
    NotCovered,
    /// The path belongs to this mount, but no file can have it.
    Refused {
        mount: usize,
    },
    Covered {
        mount: usize,
        target: Target<'a>,
    },
}

/// A path below a mount's directory: no `.` or `..`, no NUL, no slash at the start; any other bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Target<'a> {
    decoded: Cow<'a, [u8]>,
    /// Where the part below the mount begins.
    start: usize,
}

impl Target<'_> {
    /// The path relative to the directory; empty for the directory itself. Slashes in it may be doubled.
    pub fn relative(&self) -> &[u8] {
        &self.decoded[self.start..]
    }

    /// The whole path of the request, without escapes.
    pub fn path(&self) -> &[u8] {
        &self.decoded
    }

    /// Whether the request's path ends with a slash: it asks for a directory.
    pub fn is_directory(&self) -> bool {
        self.decoded.ends_with(b"/")
    }
}

/// Finds the first of `urls` (longest first) that covers `path`, which is in origin form without a query, and what
/// `path` means below it. Escapes are undone once, and the URLs are compared with the result.
pub fn resolve<'a>(path: &'a str, urls: &[impl AsRef<str>]) -> Resolution<'a> {
    let cover = |path: &[u8]| {
        let covering = |url: &str| rest_below(url, path).map(<[u8]>::len);
        urls.iter().enumerate().find_map(|(mount, url)| Some((mount, covering(url.as_ref())?)))
    };
    let Some(decoded) = decode(path) else {
        return match cover(path.as_bytes()) {
            Some((mount, _)) => Resolution::Refused { mount },
            None => Resolution::NotCovered,
        };
    };
    let Some((mount, rest)) = cover(&decoded) else { return Resolution::NotCovered };
    let rest = &decoded[decoded.len() - rest..];
    if !rest.split(|byte| *byte == b'/').all(is_served) {
        return Resolution::Refused { mount };
    }
    let start = decoded.len() - rest.iter().skip_while(|byte| **byte == b'/').count();
    Resolution::Covered { mount, target: Target { decoded, start } }
}

/// What follows `url` in `path`, when it ends at the end of a segment.
fn rest_below<'a>(url: &str, path: &'a [u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(url.trim_end_matches('/').as_bytes())?;
    (rest.is_empty() || rest[0] == b'/').then_some(rest)
}

/// Undoes percent-encoding. `None` when an escape is malformed or hides a byte that no name has, or such a byte is
/// there in the open.
fn decode(path: &str) -> Option<Cow<'_, [u8]>> {
    let bytes = path.as_bytes();
    if memchr::memchr2(0, b'\\', bytes).is_some() {
        return None;
    }
    let Some(first) = memchr::memchr(b'%', bytes) else { return Some(Cow::Borrowed(bytes)) };
    let mut decoded = Vec::with_capacity(bytes.len());
    decoded.extend_from_slice(&bytes[..first]);
    let mut rest = &bytes[first..];
    while let [byte, after @ ..] = rest {
        if *byte != b'%' {
            decoded.push(*byte);
            rest = after;
            continue;
        }
        let [high, low, after @ ..] = after else { return None };
        let byte = hexadecimal(*high)? << 4 | hexadecimal(*low)?;
        if matches!(byte, 0 | b'/' | b'\\') {
            return None;
        }
        decoded.push(byte);
        rest = after;
    }
    Some(Cow::Owned(decoded))
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// Whether a path below a directory is one that is shown: nothing hidden, no way up, and not the directory itself.
pub fn is_shown(relative: &[u8]) -> bool {
    !relative.is_empty() && relative.split(|byte| *byte == b'/').all(is_served)
}

/// Whether files with this segment in their path are shown. Doubled slashes count as one, as nginx does
/// (`merge_slashes`).
fn is_served(segment: &[u8]) -> bool {
    !segment.starts_with(b".") || segment == WELL_KNOWN
}

#[cfg(test)]
mod tests {
    use super::*;

    const URLS: [&str; 3] = ["/static/deep", "/static", "/"];

    /// `mount:path`, with a slash at its end for a directory.
    fn resolved(path: &str, urls: &[&str]) -> String {
        match resolve(path, urls) {
            Resolution::NotCovered => "-".to_owned(),
            Resolution::Refused { mount } => format!("{mount}!"),
            Resolution::Covered { mount, target } => {
                let relative = target.relative().escape_ascii().to_string();
                let slash = if target.is_directory() && !relative.ends_with('/') { "/" } else { "" };
                format!("{mount}:{relative}{slash}")
            }
        }
    }

    #[test]
    fn paths_and_where_they_lead() {
        let cases = [
            ("/static/a.css", "1:a.css"),
            ("/static/deep/a.css", "0:a.css"),
            ("/static/deeper/a.css", "1:deeper/a.css"),
            ("/static", "1:"),
            ("/static/", "1:/"),
            ("/static/sub/", "1:sub/"),
            ("/staticfile", "2:staticfile"),
            ("/", "2:/"),
            ("/favicon.ico", "2:favicon.ico"),
            // Escapes are undone once, also in the prefix.
            ("/static/a%20b.css", "1:a b.css"),
            ("/%73tatic/a.css", "1:a.css"),
            ("/static/100%25.txt", "1:100%.txt"),
            ("/static/%252e%252e/x", "1:%2e%2e/x"),
            ("/static/gr%c3%bcn", "1:gr\\xc3\\xbcn"),
            ("/static/%ff", "1:\\xff"),
            // Doubled slashes are one, and never make an absolute path.
            ("/static//a.css", "1:a.css"),
            ("/static///etc/passwd", "1:etc/passwd"),
            ("//etc/passwd", "2:etc/passwd"),
            ("/static/sub//a.css", "1:sub//a.css"),
            // Names that only look dangerous.
            ("/static/a..b", "1:a..b"),
            ("/static/a.", "1:a."),
            ("/static/...", "1!"),
            // Out of the directory.
            ("/static/../secret", "1!"),
            ("/static/sub/../../secret", "1!"),
            ("/static/..", "1!"),
            ("/static/.", "1!"),
            ("/static/./a.css", "1!"),
            ("/static/%2e%2e/secret", "1!"),
            ("/static/.%2E/secret", "1!"),
            ("/static/%2e/a.css", "1!"),
            ("/static/..%2fsecret", "1!"),
            ("/static/a%2fb", "1!"),
            ("/static/a%2Fb", "1!"),
            ("/static/..%5csecret", "1!"),
            ("/static/..\\secret", "1!"),
            ("/../etc/passwd", "2!"),
            ("/static/a%00.css", "1!"),
            ("/static/a\0.css", "1!"),
            // Malformed escapes.
            ("/static/%", "1!"),
            ("/static/%2", "1!"),
            ("/static/%zz", "1!"),
            ("/static/%+1", "1!"),
            // Hidden files.
            ("/static/.env", "1!"),
            ("/static/.git/config", "1!"),
            ("/static/sub/.htaccess", "1!"),
            ("/.well-known/security.txt", "2:.well-known/security.txt"),
            ("/.well-known-not", "2!"),
            ("/static/%2egit/config", "1!"),
        ];
        for (path, expected) in cases {
            assert_eq!(resolved(path, &URLS), expected, "{path}");
        }
    }

    #[test]
    fn paths_outside_of_every_mount() {
        for path in ["/", "/other", "/statics", "/other/%zz", "*", ""] {
            assert_eq!(resolved(path, &["/static"]), "-", "{path}");
        }
        assert_eq!(resolved("/static/a", &[]), "-");
    }
}
