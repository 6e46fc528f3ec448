//! Pure: `Cache-Control` of requests and answers (RFC 9111 §5.2, RFC 5861, RFC 8246), and its form for caches like this
//! one (`CDN-Cache-Control`, RFC 9213).

use super::dictionary::{self, Value};
use http::header::{CACHE_CONTROL, GetAll, HeaderMap, HeaderName, HeaderValue};

/// The field that counts before `Cache-Control` where it is there and well-formed.
pub const TARGETED: HeaderName = HeaderName::from_static("cdn-cache-control");

/// The largest number of seconds that is told from others (RFC 9111 §1.2.2).
const SECONDS_MAX: u64 = 1 << 31;

/// What is said; directives that mean nothing here are left out. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directives {
    pub no_store: bool,
    pub no_cache: bool,
    pub private: bool,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
    pub immutable: bool,
    pub only_if_cached: bool,
    pub max_age: Option<u64>,
    pub shared_max_age: Option<u64>,
    pub min_fresh: Option<u64>,
    /// Of a request; [`u64::MAX`] where any age will do.
    pub max_stale: Option<u64>,
    pub stale_while_revalidate: Option<u64>,
    pub stale_if_error: Option<u64>,
    /// Fields that are not to be stored: `no-cache="set-cookie"`, `private="x-user"`.
    pub withheld: Vec<HeaderName>,
}

impl Directives {
    /// Of a request.
    pub fn of_request(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        directives.read(headers.get_all(CACHE_CONTROL));
        directives
    }

    /// Of an answer. The second value says that they come from the targeted field, so that `Expires` does not count.
    pub fn of_answer(headers: &HeaderMap) -> (Self, bool) {
        if let Some(targeted) = Self::targeted(&headers.get_all(TARGETED)) {
            return (targeted, true);
        }
        let mut directives = Self::default();
        directives.read(headers.get_all(CACHE_CONTROL));
        (directives, false)
    }

    fn read(&mut self, values: GetAll<'_, HeaderValue>) {
        for value in values {
            for member in Members(value.as_bytes()) {
                let (name, argument) = split(member);
                self.take(&name.to_ascii_lowercase(), argument);
            }
        }
    }

    /// One directive. Of one that is given twice, the first counts.
    fn take(&mut self, name: &[u8], argument: Option<Argument<'_>>) {
        let text = argument.map(|argument| argument.text);
        match name {
            b"no-cache" => self.unqualified(argument, |directives| directives.no_cache = true),
            b"private" => self.unqualified(argument, |directives| directives.private = true),
            // Who cannot read how long an answer is fresh takes it for stale (RFC 9111 §4.2.1).
            b"max-age" => _ = self.max_age.get_or_insert(text.and_then(seconds).unwrap_or(0)),
            b"s-maxage" => _ = self.shared_max_age.get_or_insert(text.and_then(seconds).unwrap_or(0)),
            b"max-stale" => self.max_stale = self.max_stale.or(text.map_or(Some(u64::MAX), seconds)),
            b"min-fresh" => self.min_fresh = self.min_fresh.or(text.and_then(seconds)),
            b"stale-while-revalidate" => {
                self.stale_while_revalidate = self.stale_while_revalidate.or(text.and_then(seconds));
            }
            b"stale-if-error" => self.stale_if_error = self.stale_if_error.or(text.and_then(seconds)),
            _ => self.raise(name),
        }
    }

    /// A directive without an argument.
    fn raise(&mut self, name: &[u8]) {
        match name {
            b"no-store" => self.no_store = true,
            b"no-cache" => self.no_cache = true,
            b"private" => self.private = true,
            b"public" => self.public = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => self.must_understand = true,
            b"immutable" => self.immutable = true,
            b"only-if-cached" => self.only_if_cached = true,
            _ => {}
        }
    }

    /// With a quoted list of fields the directive is about these only (RFC 9111 §5.2.2.4, §5.2.2.7).
    fn unqualified(&mut self, argument: Option<Argument<'_>>, raise: impl FnOnce(&mut Self)) {
        let names = argument.filter(|argument| argument.is_quoted).map(|argument| argument.text);
        let names = names.map(|names| names.split(|byte| *byte == b',').map(<[u8]>::trim_ascii));
        let before = self.withheld.len();
        let mut is_readable = true;
        for name in names.into_iter().flatten().filter(|name| !name.is_empty()) {
            match HeaderName::from_bytes(name) {
                Ok(name) => self.withheld.push(name),
                Err(_) => is_readable = false,
            }
        }
        if self.withheld.len() == before || !is_readable {
            raise(self);
        }
    }

    /// `None` where the field is not there, is empty, or is no dictionary: then it is as if it were not there.
    fn targeted(values: &GetAll<'_, HeaderValue>) -> Option<Self> {
        let mut lines = values.iter().map(HeaderValue::as_bytes);
        let mut text = lines.next()?.to_vec();
        for line in lines {
            text.extend_from_slice(b",");
            text.extend_from_slice(line);
        }
        let members = dictionary::parse(&text).filter(|members| !members.is_empty())?;
        let mut directives = Self::default();
        for (name, value) in members {
            let number = match value {
                Value::Integer(number) => u64::try_from(number).ok().map(|number| number.min(SECONDS_MAX)),
                _ => None,
            };
            match name {
                b"max-age" => directives.max_age = number,
                b"s-maxage" => directives.shared_max_age = number,
                b"stale-while-revalidate" => directives.stale_while_revalidate = number,
                b"stale-if-error" => directives.stale_if_error = number,
                _ if value == Value::Boolean(true) => directives.raise(name),
                // A list of fields, or something unknown: the narrow reading of these two does no harm.
                b"no-cache" | b"private" if value == Value::Other => directives.raise(name),
                _ => {}
            }
        }
        Some(directives)
    }
}

#[derive(Debug, Clone, Copy)]
struct Argument<'a> {
    text: &'a [u8],
    is_quoted: bool,
}

/// Name and argument of one directive. With a space around the `=` it is none that anybody knows.
fn split(member: &[u8]) -> (&[u8], Option<Argument<'_>>) {
    let Some(equals) = memchr::memchr(b'=', member) else { return (member, None) };
    let (name, text) = (&member[..equals], &member[equals + 1..]);
    let quoted = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
    (name, Some(Argument { text: quoted.unwrap_or(text), is_quoted: quoted.is_some() }))
}

/// Digits only; more than can be told apart is very much.
pub fn seconds(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |number: u64, digit: &u8| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(text.iter().fold(0, add).min(SECONDS_MAX))
}

/// The members of a list, without the space around them. Commas inside of quotes are part of a member.
#[derive(Debug)]
pub struct Members<'a>(pub &'a [u8]);

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.0.is_empty() {
            let (member, rest) = self.0.split_at(end_of_member(self.0));
            self.0 = rest.get(1..).unwrap_or_default();
            let member = member.trim_ascii();
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    }
}

/// Where the next comma is that is not inside of quotes.
fn end_of_member(list: &[u8]) -> usize {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (place, byte) in list.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b',' if !is_quoted => return place,
            _ => {}
        }
    }
    list.len()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::front::cache::sample::headers;

    fn of(lines: &[&str]) -> Directives {
        let lines: Vec<_> = lines.iter().map(|line| ("cache-control", *line)).collect();
        Directives::of_answer(&headers(&lines)).0
    }

    #[test]
    fn directives_as_they_are_written() {
        let none = Directives::default();
        let age = |seconds| Directives { max_age: Some(seconds), ..Directives::default() };
        let cases: &[(&[&str], Directives)] = &[
            (&[], none.clone()),
            (&["", ",, ,"], none.clone()),
            (&["max-age=60"], age(60)),
            (&["MaX-aGe=60"], age(60)),
            (&["max-age=0060"], age(60)),
            (&["max-age=\"60\""], age(60)),
            (&["foo, max-age=60 , bar=1"], age(60)),
            (&["max-age=60, max-age=1"], age(60)),
            (&["max-age=60", "max-age=1"], age(60)),
            (&["max-age=99999999999999999999"], age(SECONDS_MAX)),
            // What cannot be read is stale.
            (&["max-age"], age(0)),
            (&["max-age="], age(0)),
            (&["max-age='60'"], age(0)),
            (&["max-age=-60"], age(0)),
            (&["max-age=60.5"], age(0)),
            (&["max-age= 60"], age(0)),
            (&["max-age =60"], none.clone()),
            // Quotes hide what is in them.
            (&["x=\"max-age=60, no-store\""], none.clone()),
            (&["x=\"a\\\", max-age=60\""], none.clone()),
            (&["x=\"max-age=60"], none.clone()),
            (&["no-STORE"], Directives { no_store: true, ..none.clone() }),
            (&["no-cache, private"], Directives { no_cache: true, private: true, ..none.clone() }),
            (&["private=x-user"], Directives { private: true, ..none.clone() }),
            (&["private=\"\""], Directives { private: true, ..none.clone() }),
            (&["s-maxage=5"], Directives { shared_max_age: Some(5), ..none.clone() }),
            (&["max-stale"], Directives { max_stale: Some(u64::MAX), ..none.clone() }),
            (&["stale-if-error=x"], none.clone()),
            (
                &["stale-while-revalidate=5, stale-if-error=6"],
                Directives { stale_while_revalidate: Some(5), stale_if_error: Some(6), ..none.clone() },
            ),
            (
                &["no-cache=\"set-cookie, X-User\""],
                Directives {
                    withheld: vec![http::header::SET_COOKIE, HeaderName::from_static("x-user")],
                    ..none.clone()
                },
            ),
            (
                &["no-cache=\"set-cookie, x user\""],
                Directives { no_cache: true, withheld: vec![http::header::SET_COOKIE], ..none.clone() },
            ),
        ];
        for (lines, expected) in cases {
            assert_eq!(&of(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn the_targeted_field_counts_where_it_can_be_read() {
        let read = |value: &str| {
            let lines = [("cache-control", "max-age=1"), ("cdn-cache-control", value)];
            Directives::of_answer(&headers(&lines))
        };
        let age = |seconds| Directives { max_age: Some(seconds), ..Directives::default() };
        for (value, expected) in [
            ("max-age=60", (age(60), true)),
            ("foo, max-age=60;a=b, bar=\"x\"", (age(60), true)),
            ("max-age=99999999999", (age(SECONDS_MAX), true)),
            ("no-store", (Directives { no_store: true, ..Directives::default() }, true)),
            ("private=(a b)", (Directives { private: true, ..Directives::default() }, true)),
            ("no-store=?0", (Directives::default(), true)),
            ("max-age=\"60\"", (Directives::default(), true)),
            ("max-age=-1", (Directives::default(), true)),
            ("max-age=60, &&&", (age(1), false)),
            ("MaX-aGe=60", (age(1), false)),
            ("max-age= 60", (age(1), false)),
            ("max-age=60,", (age(1), false)),
            ("", (age(1), false)),
        ] {
            assert_eq!(read(value), expected, "{value}");
        }
    }
}
