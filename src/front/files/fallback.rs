//! What a single-page application wants: paths that are no files are answered with one page. Pure.

use http::HeaderMap;
use http::header::ACCEPT;

/// One `--static-fallback URL=FILE` (nginx: `try_files`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// `/` or `/prefix` without a slash at the end.
    pub url: String,
    /// Relative to the directory of the mount that covers `url`; `None`: the application answers.
    pub file: Option<String>,
}

/// The fallback with the longest URL that covers the path (decoded, without a query).
pub fn covering<'a>(fallbacks: &'a [Fallback], path: &[u8]) -> Option<&'a Fallback> {
    let covering = fallbacks.iter().filter(|fallback| covers(&fallback.url, path));
    covering.max_by_key(|fallback| fallback.url.len())
}

/// Whether the path is the URL, or below it.
pub fn covers(url: &str, path: &[u8]) -> bool {
    let rest = path.strip_prefix(url.trim_end_matches('/').as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Whether a request is a browser's for a page: it says that it takes HTML, and its last name has no dot. A script or a
/// picture that is missing must be missing, or the browser would try to run a page.
pub fn is_for_page(request: &HeaderMap, path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    !name.contains(&b'.') && request.get_all(ACCEPT).iter().any(|value| takes_html(value.as_bytes()))
}

/// Whether the value of `Accept` names HTML (RFC 9110 §12.5.1). `*/*` is what programs say that fetch data.
fn takes_html(accept: &[u8]) -> bool {
    accept.split(|byte| *byte == b',').any(|element| {
        let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let media_type = parts.next().unwrap_or_default();
        let is_html = media_type.eq_ignore_ascii_case(b"text/html");
        let is_zero = |weight: &[u8]| {
            let value = weight.strip_prefix(b"q=").or_else(|| weight.strip_prefix(b"Q="));
            value.is_some_and(|value| value.iter().all(|byte| matches!(byte, b'0' | b'.')))
        };
        (is_html || media_type.eq_ignore_ascii_case(b"application/xhtml+xml")) && !parts.any(is_zero)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn requests_for_pages_and_others() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        let cases = [
            ("/about", browser, true),
            ("/about/", browser, true),
            ("/", browser, true),
            ("/v1.2/about", browser, true),
            ("/about", "application/xhtml+xml", true),
            ("/about", "TEXT/HTML;q=0.5", true),
            ("/app.js", browser, false),
            ("/about.html", browser, false),
            ("/about", "*/*", false),
            ("/about", "application/json", false),
            ("/about", "text/html;q=0", false),
            ("/about", "text/html;q=0.0, */*", false),
            ("/about", "", false),
        ];
        for (path, accept, expected) in cases {
            let mut request = HeaderMap::new();
            request.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(is_for_page(&request, path.as_bytes()), expected, "{path} {accept}");
        }
        assert!(!is_for_page(&HeaderMap::new(), b"/about"));
    }

    #[test]
    fn the_longest_url_counts() {
        let fallback = |url: &str, file: Option<&str>| Fallback { url: url.to_owned(), file: file.map(str::to_owned) };
        let fallbacks = [fallback("/", Some("index.html")), fallback("/api", None), fallback("/admin", Some("a.html"))];
        let cases = [("/about", 0), ("/", 0), ("/api", 1), ("/api/items", 1), ("/apis", 0), ("/admin/users/", 2)];
        for (path, expected) in cases {
            assert_eq!(covering(&fallbacks, path.as_bytes()), Some(&fallbacks[expected]), "{path}");
        }
        assert_eq!(covering(&fallbacks[1..], b"/about"), None);
    }
}
