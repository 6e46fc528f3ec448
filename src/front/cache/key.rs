//! Pure: what answers are stored under, and which of them is meant.

use http::Uri;
use http::uri::PathAndQuery;
use std::fmt;

/// The address of a resource as text: `https://example.org/path?query`. The host is in small letters and without the
/// port that goes without saying; path and query are as the client sent them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Box<str>);

impl Key {
    pub fn new(is_https: bool, host: &str, target: &str) -> Self {
        let (scheme, port) = if is_https { ("https://", ":443") } else { ("http://", ":80") };
        let host = host.strip_suffix(port).unwrap_or(host);
        let mut text = String::with_capacity(scheme.len() + host.len() + target.len());
        text.push_str(scheme);
        text.push_str(host);
        text[scheme.len()..].make_ascii_lowercase();
        text.push_str(target);
        Self(text.into_boxed_str())
    }

    /// As an operator or an application writes it. `None` where it is no address of a resource.
    pub fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let is_https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        Some(Self::new(is_https, uri.authority()?.as_str(), target))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Scheme and host, and what follows.
    fn split(&self) -> (&str, &str) {
        let host = self.0.find("://").map_or(0, |place| place + 3);
        let path = self.0[host..].find('/').map_or(self.0.len(), |place| host + place);
        self.0.split_at(path)
    }

    /// What an answer to a request for this one names in `Location` or `Content-Location`, if it is on the same site
    /// (RFC 9111 §4.4). A relative reference is read as RFC 3986 §5.2 has it.
    pub fn related(&self, reference: &str) -> Option<Self> {
        let reference = reference.split('#').next().unwrap_or_default();
        let (site, target) = self.split();
        if reference.is_empty() {
            return None;
        }
        if let Some(path) = reference.strip_prefix("//") {
            let scheme = site.split("//").next().unwrap_or_default();
            return Self::parse(&format!("{scheme}//{path}")).filter(|key| key.split().0 == site);
        }
        if reference.starts_with('/') {
            return Some(Self(format!("{site}{}", without_dots(reference)).into_boxed_str()));
        }
        let scheme = reference.split(['/', '?']).next().unwrap_or_default();
        if scheme.contains(':') {
            return Self::parse(reference).filter(|key| key.split().0 == site);
        }
        let path = target.split('?').next().unwrap_or_default();
        let of_path = path.rfind('/').map_or("/", |slash| &path[..=slash]);
        let directory = if reference.starts_with('?') { path } else { of_path };
        Some(Self(format!("{site}{}", without_dots(&format!("{directory}{reference}"))).into_boxed_str()))
    }
}

/// RFC 3986 §5.2.4. The query stays as it is.
fn without_dots(target: &str) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    segments.pop();
                }
                if is_last {
                    segments.push("");
                }
            }
            _ => segments.push(part),
        }
    }
    format!("/{}{query}", segments.join("/"))
}

/// Which stored answers are to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// One URL, or one path and query on every host.
    Url(String),
    /// Every URL, or every path, that begins so.
    Prefix(String),
    /// What the application has marked so.
    Tag(String),
    All,
}

impl Which {
    /// Whether a stored answer is meant. URLs are compared as [`Key`] writes them.
    pub fn means(&self, key: &Key, tags: &[Box<str>]) -> bool {
        match self {
            Self::Url(url) if url.starts_with('/') => key.split().1 == url,
            Self::Url(url) => key.as_str() == url,
            Self::Prefix(prefix) if prefix.starts_with('/') => key.split().1.starts_with(prefix.as_str()),
            Self::Prefix(prefix) => key.as_str().starts_with(prefix.as_str()),
            Self::Tag(tag) => tags.iter().any(|own| **own == **tag),
            Self::All => true,
        }
    }

    /// Brings an address into the form of [`Key`]. `None` where it is none.
    pub fn normal(self) -> Option<Self> {
        let normal = |text: String| {
            if text.starts_with('/') { Some(text) } else { Key::parse(&text).map(|key| key.as_str().to_owned()) }
        };
        Some(match self {
            Self::Url(url) => Self::Url(normal(url)?),
            Self::Prefix(prefix) => Self::Prefix(normal(prefix)?),
            other => other,
        })
    }
}

impl fmt::Display for Which {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => formatter.write_str(url),
            Self::Prefix(prefix) => write!(formatter, "{prefix}…"),
            Self::Tag(tag) => write!(formatter, "tag {tag}"),
            Self::All => formatter.write_str("all"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn one_resource_has_one_key() {
        for (is_https, host, target, expected) in [
            (false, "Example.ORG", "/A?b=C", "http://example.org/A?b=C"),
            (false, "example.org:80", "/", "http://example.org/"),
            (true, "example.org:443", "/", "https://example.org/"),
            (true, "example.org:80", "/", "https://example.org:80/"),
            (false, "[::1]:8000", "/", "http://[::1]:8000/"),
            (false, "", "/", "http:///"),
        ] {
            assert_eq!(Key::new(is_https, host, target).as_str(), expected);
        }
        assert_eq!(Key::parse("HTTP://EXAMPLE.org:80/a").unwrap().as_str(), "http://example.org/a");
        assert_eq!(Key::parse("https://example.org").unwrap().as_str(), "https://example.org/");
        assert_eq!((Key::parse("/a"), Key::parse("ftp://a/"), Key::parse("nonsense")), (None, None, None));
    }

    #[test]
    fn what_an_answer_names_on_the_same_site() {
        let key = Key::parse("http://example.org/a/b?c=1").unwrap();
        for (reference, expected) in [
            ("/x", Some("http://example.org/x")),
            ("x?y=1#z", Some("http://example.org/a/x?y=1")),
            ("../x", Some("http://example.org/x")),
            ("../../../x/.", Some("http://example.org/x/")),
            ("./", Some("http://example.org/a/")),
            ("?d=2", Some("http://example.org/a/b?d=2")),
            ("http://EXAMPLE.org:80/x", Some("http://example.org/x")),
            ("//example.org/x", Some("http://example.org/x")),
            ("http://other.org/x", None),
            ("https://example.org/x", None),
            ("//other.org/x", None),
            ("mailto:a@b", None),
            ("#z", None),
            ("", None),
        ] {
            let related = key.related(reference);
            assert_eq!(related.as_ref().map(Key::as_str), expected, "{reference}");
        }
    }

    #[test]
    fn which_are_meant() {
        let key = Key::parse("http://example.org/news/1?page=2").unwrap();
        let tags = ["news".into(), "front".into()];
        let url = |text: &str| Which::Url(text.to_owned()).normal().unwrap();
        let prefix = |text: &str| Which::Prefix(text.to_owned()).normal().unwrap();
        for which in [
            url("http://Example.org/news/1?page=2"),
            url("/news/1?page=2"),
            prefix("http://example.org/news/"),
            prefix("http://example.org"),
            prefix("/ne"),
            Which::Tag("front".to_owned()),
            Which::All,
        ] {
            assert!(which.means(&key, &tags), "{which:?}");
        }
        for which in [
            url("http://example.org/news/1"),
            url("/news/1"),
            prefix("https://example.org/news/"),
            prefix("/page"),
            Which::Tag("fron".to_owned()),
        ] {
            assert!(!which.means(&key, &tags), "{which:?}");
        }
        assert_eq!(Which::Url("news".to_owned()).normal(), None);
    }
}
