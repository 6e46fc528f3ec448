//! How long a client may keep a file: `Cache-Control` (RFC 9111 §5.2, RFC 8246) by the file's name. Pure.

use super::glob;
use http::HeaderValue;
use std::collections::HashSet;

/// For files whose name changes with their content: a year, the longest that caches are known to take seriously.
pub const IMMUTABLE: HeaderValue = HeaderValue::from_static("max-age=31536000, immutable");

/// One `--static-cache PATTERN=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// With a slash in it for the whole path under which a file is served, without for its name; see [`glob`].
    pub pattern: String,
    /// `None`: the header is not sent.
    pub value: Option<HeaderValue>,
}

/// What the header says of the file with this path, such as `/static/css/site.css`: what the first rule that fits says;
/// without one [`IMMUTABLE`] where the name is `hashed`, else nothing, as nginx does.
pub fn value(rules: &[Rule], path: &[u8], is_hashed: bool) -> Option<HeaderValue> {
    match rules.iter().find(|rule| glob::matches_path(rule.pattern.as_bytes(), path)) {
        Some(rule) => rule.value.clone(),
        None => is_hashed.then_some(IMMUTABLE),
    }
}

/// Whether the name looks like those of Django's `ManifestStaticFilesStorage` and of `WhiteNoise`:
/// `name.0123456789ab.ext`, the first twelve hexadecimal digits of the content's MD5.
pub fn is_hashed(name: &[u8]) -> bool {
    const DIGITS: usize = 12;
    let name = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
    let mut parts = name.rsplit(|byte| *byte == b'.');
    let is_hash =
        |part: &[u8]| part.len() == DIGITS && part.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    // An ending, the hash, and something before it.
    parts.next().is_some() && parts.next().is_some_and(is_hash) && parts.next().is_some_and(|stem| !stem.is_empty())
}

/// The hashed names that a build has listed, relative to the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest(HashSet<String>);

impl Manifest {
    /// Reads the manifest of Django (`staticfiles.json`), of Vite (`.vite/manifest.json`), or of webpack and its kin
    /// (`manifest.json`). `url` is where the directory is served: some of them list whole paths. `None` where no hashed
    /// name is listed, such as in the manifest of a web application, which has the same name as the last.
    pub fn parse(text: &[u8], url: &str) -> Option<Self> {
        let serde_json::Value::Object(entries) = serde_json::from_slice(text).ok()? else { return None };
        let is_django =
            entries.get("version").is_some() && entries.get("paths").is_some_and(serde_json::Value::is_object);
        let entries = match entries.get("paths").and_then(serde_json::Value::as_object) {
            Some(paths) if is_django => paths,
            _ => &entries,
        };
        let prefix = format!("{}/", url.trim_end_matches('/'));
        let below = |name: &str| {
            let name = name.strip_prefix(&prefix).unwrap_or(name);
            name.trim_start_matches("./").trim_start_matches('/').to_owned()
        };
        let mut names = HashSet::new();
        for (source, entry) in entries {
            match entry {
                serde_json::Value::String(name) if name != source && (is_django || has_hash(name)) => {
                    names.insert(below(name));
                }
                serde_json::Value::Object(entry) => {
                    let lists = ["css", "assets"].iter().filter_map(|key| entry.get(*key)?.as_array()).flatten();
                    let files = entry.get("file").into_iter().chain(lists).filter_map(serde_json::Value::as_str);
                    names.extend(files.filter(|name| has_hash(name)).map(below));
                }
                _ => {}
            }
        }
        (!names.is_empty()).then_some(Self(names))
    }

    pub fn lists(&self, name: &[u8]) -> bool {
        std::str::from_utf8(name).is_ok_and(|name| self.0.contains(name))
    }
}

/// Whether the name has at least eight letters and digits of a hash before its ending, after a dot, a dash or an
/// underscore. A build can be told to name its files without.
fn has_hash(name: &str) -> bool {
    const LETTERS_MIN: usize = 8;
    let name = name.rsplit('/').next().unwrap_or(name);
    let Some((stem, _)) = name.split_once('.').map(|_| name.rsplit_once('.').unwrap_or((name, ""))) else {
        return false;
    };
    // The hashes of Vite may have dashes and underscores in them.
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let Some(start) = stem.len().checked_sub(LETTERS_MIN + 1) else { return false };
    let (before, hash) = (&stem.as_bytes()[..=start], &stem.as_bytes()[start + 1..]);
    let long = stem.rsplit(['.', '-']).next().unwrap_or_default();
    let is_long =
        long.len() > LETTERS_MIN && long.len() < stem.len() && long.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_long || (matches!(before.last(), Some(b'.' | b'-' | b'_')) && hash.iter().all(|byte| is_letter(*byte)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn rules(rules: &[(&str, Option<&'static str>)]) -> Vec<Rule> {
        let rule = |(pattern, value): &(&str, Option<&'static str>)| Rule {
            pattern: (*pattern).to_owned(),
            value: value.map(HeaderValue::from_static),
        };
        rules.iter().map(rule).collect()
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let rules = rules(&[
            ("/static/vendor/*", Some("max-age=60")),
            ("*.css", Some("max-age=3600")),
            ("*.html", Some("no-cache")),
            ("/static/plain/*", None),
        ]);
        let immutable = IMMUTABLE;
        let immutable = immutable.to_str().unwrap();
        let cases = [
            ("/static/css/site.css", false, Some("max-age=3600")),
            ("/static/css/site.css", true, Some("max-age=3600")),
            ("/static/vendor/a/site.css", false, Some("max-age=60")),
            ("/static/index.html", false, Some("no-cache")),
            ("/static/app.js", false, None),
            ("/static/app.js", true, Some(immutable)),
            ("/static/plain/app.js", true, None),
        ];
        for (path, hashed, expected) in cases {
            let value = value(&rules, path.as_bytes(), hashed);
            assert_eq!(value.as_ref().map(|value| value.to_str().unwrap()), expected, "{path} {hashed}");
        }
    }

    #[test]
    fn names_with_the_hash_of_django() {
        let cases = [
            ("css/site.55e7cbb9ba48.css", true),
            ("js/jquery.min.0208b96062ba.js", true),
            ("site.55e7cbb9ba48", false),
            ("site.css", false),
            ("site.55e7cbb9ba4.css", false),
            ("site.55e7cbb9ba481.css", false),
            ("site.55E7CBB9BA48.css", false),
            ("site.zzzzcbb9ba48.css", false),
            (".55e7cbb9ba48.css", false),
            ("55e7cbb9ba48.css", false),
            ("site-BhX9a8sd.js", false),
            ("a.55e7cbb9ba48/site.css", false),
            ("", false),
        ];
        for (name, expected) in cases {
            assert_eq!(is_hashed(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn manifests_and_what_they_list() {
        let lists = |text: &str| {
            let Some(Manifest(names)) = Manifest::parse(text.as_bytes(), "/static") else { return Vec::new() };
            let mut names: Vec<String> = names.into_iter().collect();
            names.sort();
            names
        };
        let django = r#"{"paths": {"css/a.css": "css/a.55e7cbb9ba48.css", "same.txt": "same.txt"}, "version": "1.1", "hash": ""}"#;
        assert_eq!(lists(django), ["css/a.55e7cbb9ba48.css"]);
        let vite = r#"{"src/main.ts": {"file": "assets/main-BhX9a8sd.js", "src": "src/main.ts", "isEntry": true,
            "css": ["assets/main-5UjPu_-W.css"], "assets": ["assets/logo-DxB3jQ1_.svg", "assets/plain.svg"]},
            "_shared.js": {"file": "shared.js"}}"#;
        assert_eq!(lists(vite), ["assets/logo-DxB3jQ1_.svg", "assets/main-5UjPu_-W.css", "assets/main-BhX9a8sd.js"]);
        let webpack = r#"{"main.js": "/static/js/main.8f14e45fceea167a.js", "index.html": "/static/index.html"}"#;
        assert_eq!(lists(webpack), ["js/main.8f14e45fceea167a.js"]);
        let web_application = r#"{"name": "Shop", "short_name": "Shop", "icons": [{"src": "icon-192x192.png"}]}"#;
        for nothing in [web_application, "{}", "[]", "no JSON", r#"{"paths": 1, "version": 2}"#] {
            assert!(lists(nothing).is_empty(), "{nothing}");
        }
        let manifest = Manifest::parse(django.as_bytes(), "/").unwrap();
        assert!(manifest.lists(b"css/a.55e7cbb9ba48.css") && !manifest.lists(b"css/a.css") && !manifest.lists(b"\xff"));
    }
}
