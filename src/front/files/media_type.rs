//! The `Content-Type` of a file, by the ending of its name (nginx: `types`, `charset`). Pure.

use http::HeaderValue;

/// The media type for a file name, with `charset=utf-8` where the type is text.
pub fn of_name(name: &[u8]) -> HeaderValue {
    const UNKNOWN: &str = "application/octet-stream";
    let file_name = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
    let ending = memchr::memrchr(b'.', file_name).and_then(|dot| std::str::from_utf8(&file_name[dot + 1..]).ok());
    let media_type = ending.and_then(|ending| mime_guess::from_ext(ending).first_raw()).unwrap_or(UNKNOWN);
    // What nearly every request is for needs no allocation.
    HeaderValue::from_static(match media_type {
        "text/html" => "text/html; charset=utf-8",
        "text/css" => "text/css; charset=utf-8",
        // RFC 9239: the second is the old name of the first.
        "text/javascript" | "application/javascript" => "text/javascript; charset=utf-8",
        "application/json" => "application/json; charset=utf-8",
        "image/svg+xml" => "image/svg+xml; charset=utf-8",
        "text/plain" => "text/plain; charset=utf-8",
        other if is_text(other) => {
            return HeaderValue::try_from(format!("{other}; charset=utf-8"))
                .unwrap_or_else(|_| HeaderValue::from_static(UNKNOWN));
        }
        other => other,
    })
}

fn is_text(media_type: &str) -> bool {
    media_type.starts_with("text/")
        || media_type.ends_with("+json")
        || media_type.ends_with("+xml")
        || media_type == "application/xml"
}

#[cfg(test)]
mod tests {
    use super::of_name;

    #[test]
    fn names_and_their_types() {
        let cases: [(&[u8], &str); 18] = [
            (b"index.html", "text/html; charset=utf-8"),
            (b"INDEX.HTML", "text/html; charset=utf-8"),
            (b"a/b.d/app.css", "text/css; charset=utf-8"),
            (b"app.min.js", "text/javascript; charset=utf-8"),
            (b"app.mjs", "text/javascript; charset=utf-8"),
            (b"data.json", "application/json; charset=utf-8"),
            (b"logo.svg", "image/svg+xml; charset=utf-8"),
            (b"feed.xml", "text/xml; charset=utf-8"),
            (b"table.csv", "text/csv; charset=utf-8"),
            (b"app.webmanifest", "application/manifest+json; charset=utf-8"),
            (b"photo.jpg", "image/jpeg"),
            (b"font.woff2", "font/woff2"),
            (b"module.wasm", "application/wasm"),
            (b"archive.tar.gz", "application/gzip"),
            (b"a.d/README", "application/octet-stream"),
            (b"name.", "application/octet-stream"),
            (b"name.unknown-ending", "application/octet-stream"),
            (b"name.\xff", "application/octet-stream"),
        ];
        for (name, expected) in cases {
            assert_eq!(of_name(name), expected, "{}", name.escape_ascii());
        }
    }
}
