//! The head of an answer as HTTP/2 wants it.

use super::date;
use crate::front::reply::OF_THE_CONNECTION;
use http::header::{CONTENT_LENGTH, DATE, Entry};
use http::{HeaderValue, Method, StatusCode, response};
use http_body::SizeHint;

/// Completes a head. The result is whether the body follows.
pub(super) fn finish(head: &mut response::Parts, method: &Method, is_empty: bool, size: &SizeHint) -> bool {
    // What is not an application's answer may have them; h2 refuses to send them.
    for name in &OF_THE_CONNECTION {
        head.headers.remove(name);
    }
    if let Entry::Vacant(date) = head.headers.entry(DATE) {
        date.insert(date::now());
    }
    if head.status == StatusCode::NO_CONTENT {
        // RFC 9110 §8.6.
        head.headers.remove(CONTENT_LENGTH);
    }
    let has_content = !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if is_empty || !has_content {
        return false;
    }
    if let Some(length) = size.exact()
        && let Entry::Vacant(entry) = head.headers.entry(CONTENT_LENGTH)
    {
        entry.insert(HeaderValue::from(length));
    }
    *method != Method::HEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;
    use http::header::CONNECTION;

    #[test]
    fn lengths_and_bodies() {
        let sized = SizeHint::with_exact(5);
        let open = SizeHint::default();
        // Method, status, announced by the application, is empty, size → announced, is sent.
        let cases = [
            (Method::GET, 200, None, false, &sized, Some("5"), true),
            (Method::GET, 200, None, false, &open, None, true),
            (Method::GET, 200, Some("7"), false, &sized, Some("7"), true),
            (Method::GET, 200, None, true, &sized, None, false),
            (Method::HEAD, 200, None, false, &sized, Some("5"), false),
            (Method::HEAD, 200, Some("7"), true, &open, Some("7"), false),
            (Method::GET, 204, Some("5"), false, &sized, None, false),
            (Method::GET, 304, Some("5"), false, &sized, Some("5"), false),
            (Method::GET, 304, None, false, &sized, None, false),
        ];
        for (number, (method, status, announced, is_empty, size, expected, sent)) in cases.into_iter().enumerate() {
            let (mut head, ()) = Response::new(()).into_parts();
            head.status = StatusCode::from_u16(status).unwrap_or_default();
            if let Some(announced) = announced {
                head.headers.insert(CONTENT_LENGTH, HeaderValue::from_static(announced));
            }
            head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
            assert_eq!(finish(&mut head, &method, is_empty, size), sent, "{number}");
            assert_eq!(head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()), expected, "{number}");
            assert!(head.headers.contains_key(DATE) && !head.headers.contains_key(CONNECTION), "{number}");
        }
    }
}
