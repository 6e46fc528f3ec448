//! Pure: which certificate is for which name.

use std::collections::HashMap;

/// The names of several certificates, which are meant by their place in the order of the settings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// Under each name all that are for it: an RSA one may stand behind an ECDSA one.
    exact: HashMap<String, Vec<usize>>,
    /// `*.example.org` stands under `example.org`; a wildcard covers exactly one label (RFC 9525 §6.3).
    wildcard: HashMap<String, Vec<usize>>,
}

impl Choice {
    /// The first certificate serves clients that name nobody, or somebody unknown.
    const DEFAULT: &'static [usize] = &[0];

    /// From the names of each certificate, in lower case.
    pub(super) fn new<'a>(certificates: impl IntoIterator<Item = &'a [String]>) -> Self {
        let mut choice = Self::default();
        for (index, names) in certificates.into_iter().enumerate() {
            for name in names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut choice.wildcard, parent),
                    None => (&mut choice.exact, name.as_str()),
                };
                names.entry(name.to_owned()).or_default().push(index);
            }
        }
        choice
    }

    /// Which certificates may be shown to a client that asks for this name; at least one.
    pub(super) fn candidates(&self, server_name: Option<&str>) -> &[usize] {
        server_name.and_then(|name| self.of(name)).unwrap_or(Self::DEFAULT)
    }

    /// A client that has asked for `server_name` asks for a host whose certificate it has not been shown.
    pub(super) fn is_elsewhere(&self, server_name: &str, host: &str) -> bool {
        let shown = self.candidates(Some(server_name));
        self.of(host).is_some_and(|wanted| !wanted.iter().any(|index| shown.contains(index)))
    }

    fn of(&self, name: &str) -> Option<&[usize]> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let parent = || name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        self.exact.get(&name).or_else(parent).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(certificates: &[&[&str]]) -> Choice {
        let certificates: Vec<Vec<String>> =
            certificates.iter().map(|names| names.iter().map(ToString::to_string).collect()).collect();
        Choice::new(certificates.iter().map(Vec::as_slice))
    }

    #[test]
    fn names_choose() {
        let choice = choice(&[&["a.example"], &["*.b.example", "b.example"], &["x.b.example"], &["a.example"], &[]]);
        let rows: [(Option<&str>, &[usize]); 9] = [
            (None, &[0]),
            (Some("a.example"), &[0, 3]),
            (Some("A.Example."), &[0, 3]),
            (Some("b.example"), &[1]),
            (Some("any.b.example"), &[1]),
            (Some("x.b.example"), &[2]),
            (Some("two.labels.b.example"), &[0]),
            (Some("example"), &[0]),
            (Some(""), &[0]),
        ];
        for (name, expected) in rows {
            assert_eq!(choice.candidates(name), expected, "{name:?}");
        }
    }
}
