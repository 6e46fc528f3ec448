//! Pure: which of several answers of one URL is meant (RFC 9111 §4.1).

use super::directives::Members;
use http::header::{ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, HeaderMap, HeaderName, VARY};

/// The `Vary` of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vary {
    /// No other request is answered with it.
    Always,
    /// The fields that select it; none where it is for everybody.
    By(Vec<HeaderName>),
}

impl Vary {
    /// Of an answer. A name that is no name could stand for anything.
    pub fn of(answer: &HeaderMap) -> Self {
        let mut fields = Vec::new();
        for member in answer.get_all(VARY).iter().flat_map(|value| Members(value.as_bytes())) {
            match HeaderName::from_bytes(member) {
                Ok(name) if member != b"*" => fields.push(name),
                _ => return Self::Always,
            }
        }
        fields.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        fields.dedup();
        Self::By(fields)
    }
}

/// What a request says in the fields that select an answer, with each difference left out that makes none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    fields: Vec<HeaderName>,
    values: Vec<u8>,
}

impl Selection {
    /// Of the request that has led to an answer.
    pub fn new(fields: Vec<HeaderName>, request: &HeaderMap) -> Self {
        let values = values(&fields, request);
        Self { fields, values }
    }

    /// Whether a request may have the same answer.
    pub fn matches(&self, request: &HeaderMap) -> bool {
        self.fields.is_empty() || self.values == values(&self.fields, request)
    }

    /// What a request says in the same fields.
    pub fn values_of(&self, request: &HeaderMap) -> Vec<u8> {
        values(&self.fields, request)
    }

    /// In bytes.
    pub fn weight(&self) -> usize {
        self.values.len() + self.fields.len() * size_of::<HeaderName>()
    }
}

/// A field that is not there is told from an empty one; a line feed cannot be in a field.
fn values(fields: &[HeaderName], request: &HeaderMap) -> Vec<u8> {
    let mut values = Vec::new();
    for name in fields {
        let start = values.len();
        for value in request.get_all(name) {
            values.push(if values.len() == start { b':' } else { b',' });
            normalise(value.as_bytes(), &mut values);
        }
        // Tags of languages, codings and character sets know no case (RFC 9110 §8.4.1, §8.3.2, §8.5.1).
        if [ACCEPT_ENCODING, ACCEPT_LANGUAGE, ACCEPT_CHARSET].contains(name) {
            values[start..].make_ascii_lowercase();
        }
        values.push(b'\n');
    }
    values
}

/// Members without the space around them, one comma between two.
fn normalise(value: &[u8], values: &mut Vec<u8>) {
    for (place, member) in Members(value).enumerate() {
        if place > 0 {
            values.push(b',');
        }
        values.extend_from_slice(member);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::front::cache::sample::headers;

    #[test]
    fn the_fields_that_select() {
        let by = |names: &[&'static str]| Vary::By(names.iter().map(|name| HeaderName::from_static(name)).collect());
        for (lines, expected) in [
            (&[][..], by(&[])),
            (&["", ","], by(&[])),
            (&["Foo, bar", "foo"], by(&["bar", "foo"])),
            (&["*"], Vary::Always),
            (&["foo, *"], Vary::Always),
            (&["", ", *"], Vary::Always),
            (&["not a name"], Vary::Always),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("vary", *line)).collect();
            assert_eq!(Vary::of(&headers(&lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn requests_that_mean_the_same_match() {
        let matches = |name: &'static str, stored: &[&str], asked: &[&str]| {
            let lines = |values: &[&str]| -> Vec<(&'static str, String)> {
                values.iter().map(|value| (name, (*value).to_owned())).collect()
            };
            let map = |values: &[&str]| {
                headers(&lines(values).iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>())
            };
            Selection::new(vec![HeaderName::from_static(name)], &map(stored)).matches(&map(asked))
        };
        assert!(matches("foo", &["1"], &["1"]) && !matches("foo", &["1"], &["2"]));
        assert!(matches("foo", &[], &[]) && !matches("foo", &[], &["1"]) && !matches("foo", &["1"], &[]));
        assert!(!matches("foo", &[], &[""]), "an empty field is one");
        assert!(matches("foo", &["1,2"], &[" 1, 2 "]) && matches("foo", &["1, 2"], &["1", "2"]));
        assert!(!matches("foo", &["\"1, 2\""], &["\"1,2\""]), "space in quotes counts");
        assert!(!matches("foo", &["a"], &["A"]) && !matches("foo", &["1,2"], &["2,1"]));
        assert!(matches("accept-language", &["en, de"], &["eN,De"]));
        assert!(matches("accept-encoding", &["gzip, br"], &["GZIP,br"]));
    }

    #[test]
    fn every_field_counts() {
        let fields = vec![HeaderName::from_static("bar"), HeaderName::from_static("foo")];
        let stored = Selection::new(fields, &headers(&[("foo", "1"), ("bar", "abc")]));
        assert!(stored.matches(&headers(&[("bar", "abc"), ("foo", "1"), ("other", "x")])));
        assert!(!stored.matches(&headers(&[("bar", "abc")])) && !stored.matches(&headers(&[("foo", "1")])));
        // The end of one and the beginning of the next are not mixed up.
        assert!(!stored.matches(&headers(&[("bar", "abc,:1")])));
        assert!(Selection::default().matches(&headers(&[("foo", "2")])));
    }
}
