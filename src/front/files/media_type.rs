//! The `Content-Type` of a file, by the ending of its name (nginx: `types`, `charset`). Pure.

use http::HeaderValue;

const UNKNOWN: &str = "application/octet-stream";

/// An ending of file names, with its dot, and the type of such files (`--static-type`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Custom {
    pub ending: String,
    pub media_type: HeaderValue,
}

impl Custom {
    /// Reads `.ending` and `type/subtype`, with parameters if wanted; text without a charset is UTF-8.
    pub fn parse(ending: &str, media_type: &str) -> Option<Self> {
        let is_token = |text: &str| {
            let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            !text.is_empty() && text.bytes().all(is_letter)
        };
        let is_ending = ending.len() > 1 && ending.starts_with('.') && !ending.contains('/');
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        let (kind, subtype) = essence.split_once('/')?;
        if !is_ending || !is_token(kind) || !is_token(subtype) {
            return None;
        }
        let text = is_text(essence) && essence == media_type;
        let media_type = if text { format!("{media_type}; charset=utf-8") } else { media_type.to_owned() };
        Some(Self { ending: ending.to_ascii_lowercase(), media_type: HeaderValue::try_from(media_type).ok()? })
    }

    fn fits(&self, name: &[u8]) -> bool {
        let start = name.len().checked_sub(self.ending.len());
        start.is_some_and(|start| name[start..].eq_ignore_ascii_case(self.ending.as_bytes()))
    }
}

/// The media type for a file name: the first of `custom` that fits, or what the registered types say, with
/// `charset=utf-8` where the type is text.
pub fn of_name(name: &[u8], custom: &[Custom]) -> HeaderValue {
    if let Some(custom) = custom.iter().find(|custom| custom.fits(name)) {
        return custom.media_type.clone();
    }
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

/// Whether an encoded form of the file makes sense: it is not compressed already, by its type or its name.
pub fn may_be_encoded(name: &[u8], media_type: &HeaderValue) -> bool {
    let media_type = media_type.to_str().unwrap_or_default();
    let (kind, subtype) = media_type.split_once('/').unwrap_or_default();
    let is_compressed = match kind {
        "image" => !(subtype.starts_with("svg+xml") || matches!(subtype, "bmp" | "x-icon" | "vnd.microsoft.icon")),
        "audio" | "video" => true,
        "font" => matches!(subtype, "woff" | "woff2"),
        "application" => matches!(
            subtype,
            "zip"
                | "gzip"
                | "zstd"
                | "x-bzip2"
                | "x-xz"
                | "x-7z-compressed"
                | "x-rar-compressed"
                | "vnd.rar"
                | "java-archive"
                | "font-woff"
                | "font-woff2"
        ),
        _ => false,
    };
    !is_compressed && ![&b".br"[..], b".zst", b".gz"].iter().any(|ending| name.ends_with(ending))
}

fn is_text(media_type: &str) -> bool {
    media_type.starts_with("text/")
        || media_type.ends_with("+json")
        || media_type.ends_with("+xml")
        || media_type == "application/xml"
}

#[cfg(test)]
mod tests {
    use super::{Custom, may_be_encoded, of_name};

    #[test]
    fn types_of_the_site() {
        let custom = [
            Custom::parse(".md", "text/markdown"),
            Custom::parse(".Map.JSON", "application/x-map"),
            Custom::parse(".html", "text/html; charset=latin-1"),
        ];
        let custom = custom.map(|custom| custom.unwrap_or_else(|| panic!("a type")));
        let cases: [(&[u8], &str); 6] = [
            (b"README.md", "text/markdown; charset=utf-8"),
            (b"a/READ.ME.MD", "text/markdown; charset=utf-8"),
            (b"x.map.json", "application/x-map"),
            (b"x.json", "application/json; charset=utf-8"),
            (b"x.html", "text/html; charset=latin-1"),
            (b"md", "application/octet-stream"),
        ];
        for (name, expected) in cases {
            assert_eq!(of_name(name, &custom), expected, "{}", name.escape_ascii());
        }
        for (ending, media_type) in [
            ("md", "text/x"),
            (".", "text/x"),
            (".md", "text"),
            (".md", "/x"),
            (".md", "a b/c"),
            (".a/b", "a/b"),
            (".md", "a/b;\n"),
        ] {
            assert_eq!(Custom::parse(ending, media_type), None, "{ending}={media_type}");
        }
    }

    #[test]
    fn what_is_compressed_already_is_never_encoded() {
        let cases: [(&[u8], bool); 16] = [
            (b"app.css", true),
            (b"app.js", true),
            (b"app.js.map", true),
            (b"page.html", true),
            (b"logo.svg", true),
            (b"favicon.ico", true),
            (b"module.wasm", true),
            (b"font.ttf", true),
            (b"data.bin", true),
            (b"photo.jpg", false),
            (b"film.mp4", false),
            (b"font.woff2", false),
            (b"archive.zip", false),
            (b"app.css.gz", false),
            (b"app.css.br", false),
            (b"app.css.zst", false),
        ];
        for (name, expected) in cases {
            assert_eq!(may_be_encoded(name, &of_name(name, &[])), expected, "{}", name.escape_ascii());
        }
    }

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
            assert_eq!(of_name(name, &[]), expected, "{}", name.escape_ascii());
        }
    }
}
