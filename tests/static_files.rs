//! Static files over real directories: what is served, what is refused, and how.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use http_body_util::BodyExt as _;
use monoceros::front::body::{Body, BodyError};
use monoceros::front::files::cache_control::{IMMUTABLE, Rule};
use monoceros::front::files::media_type::Custom;
use monoceros::front::files::{FileSetupError, Files, Mount, Outcome, Settings};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

const STYLE: &str = "body { color: black }";
const DIGITS: &str = "0123456789";

/// A site with a mount at `/static` and, if asked for, one at `/`.
struct Site {
    place: TempDir,
    files: Files,
}

fn mount(url: &str, directory: &Path) -> Mount {
    Mount { url: url.to_owned(), directory: directory.to_owned() }
}

impl Site {
    fn new() -> Self {
        Self::with(&["/static"])
    }

    fn with(urls: &[&str]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        fs::create_dir_all(root.join("sub/empty")).unwrap();
        fs::create_dir_all(root.join(".well-known")).unwrap();
        fs::create_dir_all(root.join(".git")).unwrap();
        for (name, content) in [
            ("style.css", STYLE),
            ("digits.txt", DIGITS),
            ("empty.txt", ""),
            ("a b%.txt", "strange name"),
            (".env", "SECRET=1"),
            (".git/config", "hidden"),
            (".well-known/security.txt", "Contact: us"),
            ("sub/index.html", "<p>sub"),
            ("sub/page.html", "<p>page"),
        ] {
            fs::write(root.join(name), content).unwrap();
        }
        fs::write(root.join("large.bin"), pattern(1_000_000)).unwrap();
        fs::write(place.path().join("secret.txt"), "outside").unwrap();
        symlink("/etc/passwd", root.join("passwd")).unwrap();
        symlink("/etc", root.join("etc")).unwrap();
        symlink("../secret.txt", root.join("up.txt")).unwrap();
        symlink("..", root.join("parent")).unwrap();
        symlink("style.css", root.join("alias.css")).unwrap();
        symlink("nowhere", root.join("dangling.txt")).unwrap();
        mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let mounts = urls.iter().map(|url| mount(url, &root)).collect();
        let files = Files::open(&Settings { mounts, ..Settings::default() }).unwrap();
        Self { place, files }
    }

    fn answer(&self, method: &Method, target: &str, fields: &[(&str, &str)]) -> Outcome {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        self.files.answer(method, target, &headers)
    }

    fn get(&self, target: &str, fields: &[(&str, &str)]) -> Response<Body> {
        match self.answer(&Method::GET, target, fields) {
            Outcome::Response(response) => response,
            other => panic!("{target}: {other:?}"),
        }
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8).collect()
}

fn field<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

async fn content(response: Response<Body>) -> Vec<u8> {
    response.into_body().collect().await.unwrap().to_bytes().to_vec()
}

/// A word for an outcome: the status, or the variant.
fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Response(response) => response.status().as_u16().to_string(),
        Outcome::NotFound => "not found".to_owned(),
        Outcome::MethodNotAllowed => "not allowed".to_owned(),
        Outcome::NotMine => "not mine".to_owned(),
        Outcome::Forbidden => "forbidden".to_owned(),
        Outcome::Failed(error) => format!("failed: {error}"),
    }
}

#[tokio::test]
async fn a_file_and_its_header() {
    let site = Site::new();
    let response = site.get("/static/style.css?v=3", &[]);
    assert_eq!(response.status(), 200);
    assert_eq!(field(&response, "content-type"), Some("text/css; charset=utf-8"));
    assert_eq!(field(&response, "content-length"), Some("21"));
    assert_eq!(field(&response, "accept-ranges"), Some("bytes"));
    assert_eq!(field(&response, "x-content-type-options"), Some("nosniff"));
    assert!(field(&response, "last-modified").unwrap().ends_with(" GMT"));
    let etag = field(&response, "etag").unwrap();
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 2, "{etag}");
    assert_eq!(content(response).await, STYLE.as_bytes());

    let large = site.get("/static/large.bin", &[]);
    assert_eq!(field(&large, "content-length"), Some("1000000"));
    assert_eq!(field(&large, "content-type"), Some("application/octet-stream"));
    assert!(content(large).await == pattern(1_000_000));

    let empty = site.get("/static/empty.txt", &[]);
    assert_eq!(field(&empty, "content-length"), Some("0"));
    assert_eq!(content(empty).await, b"");
}

#[test]
fn paths_and_their_outcome() {
    let site = Site::new();
    let below_root = Site::with(&["/"]);
    // Path below the mount, outcome at `/static`, outcome at `/`.
    let cases = [
        ("/style.css", "200", "200"),
        ("/a%20b%25.txt", "200", "200"),
        ("//style.css", "200", "200"),
        ("/alias.css", "200", "200"),
        ("/sub/", "200", "200"),
        ("/sub", "301", "301"),
        ("/.well-known/security.txt", "200", "200"),
        ("/missing.css", "not found", "not mine"),
        ("/style.css/", "not found", "not mine"),
        ("/style.css/more", "not found", "not mine"),
        ("/sub/empty", "not found", "not mine"),
        ("/sub/empty/", "not found", "not mine"),
        ("/", "not found", "not mine"),
        // Attempts to get out.
        ("/../secret.txt", "not found", "not mine"),
        ("/sub/../../secret.txt", "not found", "not mine"),
        ("/%2e%2e/secret.txt", "not found", "not mine"),
        ("/%2E%2E%2Fsecret.txt", "not found", "not mine"),
        ("/..%2fsecret.txt", "not found", "not mine"),
        ("/..%5csecret.txt", "not found", "not mine"),
        ("/..\\secret.txt", "not found", "not mine"),
        ("/%252e%252e/secret.txt", "not found", "not mine"),
        ("//etc/passwd", "not found", "not mine"),
        ("/passwd", "not found", "not mine"),
        ("/etc/passwd", "not found", "not mine"),
        ("/up.txt", "not found", "not mine"),
        ("/parent/secret.txt", "not found", "not mine"),
        ("/parent/root/style.css", "not found", "not mine"),
        ("/dangling.txt", "not found", "not mine"),
        ("/style.css%00.txt", "not found", "not mine"),
        ("/sub%2findex.html", "not found", "not mine"),
        ("/%zz", "not found", "not mine"),
        // What is no file to show.
        ("/fifo", "not found", "not mine"),
        ("/.env", "not found", "not mine"),
        ("/%2eenv", "not found", "not mine"),
        ("/.git/config", "not found", "not mine"),
    ];
    for (path, in_static, in_root) in cases {
        let target = format!("/static{path}");
        assert_eq!(word(&site.answer(&Method::GET, &target, &[])), in_static, "{target}");
        assert_eq!(word(&below_root.answer(&Method::GET, path, &[])), in_root, "{path}");
    }
    let long = format!("/static/{}", "x".repeat(5000));
    assert_eq!(word(&site.answer(&Method::GET, &long, &[])), "not found");
    for other in ["/", "/statics/style.css", "/Static/style.css", "/app", "*"] {
        assert_eq!(word(&site.answer(&Method::GET, other, &[])), "not mine", "{other}");
    }
}

#[tokio::test]
async fn directories_lead_to_their_index() {
    let site = Site::with(&["/static", "/"]);
    let location = |target: &str| {
        let response = site.get(target, &[]);
        assert_eq!(response.status(), 301, "{target}");
        field(&response, "location").unwrap().to_owned()
    };
    assert_eq!(location("/static/sub"), "/static/sub/");
    assert_eq!(location("/static/sub?a=1&b=2"), "/static/sub/?a=1&b=2");
    assert_eq!(location("/static/s%75b"), "/static/s%75b/");
    assert_eq!(location("//sub"), "/sub/", "never to another host");
    assert_eq!(location("///sub"), "/sub/");
    let index = site.get("/static/sub/", &[]);
    assert_eq!(field(&index, "content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(content(index).await, b"<p>sub");

    fs::write(site.place.path().join("root/index.html"), "<p>home").unwrap();
    assert_eq!(content(site.get("/", &[])).await, b"<p>home");
    assert_eq!(content(site.get("/static/", &[])).await, b"<p>home");
    assert_eq!(location("/static"), "/static/");
}

#[test]
fn only_get_and_head() {
    let site = Site::with(&["/static", "/"]);
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH, Method::TRACE] {
        let outcome = site.answer(&method, "/static/style.css", &[]);
        assert_eq!(word(&outcome), "not allowed", "{method}");
        assert_eq!(word(&site.answer(&method, "/style.css", &[])), "not mine", "{method}");
    }
}

#[tokio::test]
async fn head_says_what_get_says() {
    let site = Site::new();
    for target in ["/static/style.css", "/static/large.bin", "/static/empty.txt", "/static/sub"] {
        let Outcome::Response(head) = site.answer(&Method::HEAD, target, &[]) else { panic!("{target}") };
        let get = site.get(target, &[]);
        assert_eq!((head.status(), head.headers()), (get.status(), get.headers()), "{target}");
        assert_eq!(content(head).await, b"", "{target}");
    }
    let Outcome::Response(head) = site.answer(&Method::HEAD, "/static/digits.txt", &[("range", "bytes=0-1")]) else {
        panic!("no answer")
    };
    assert_eq!((head.status().as_u16(), field(&head, "content-length")), (200, Some("10")));
}

#[tokio::test]
async fn parts_of_a_file() {
    let site = Site::new();
    let cases = [
        ("bytes=0-3", 206, Some("bytes 0-3/10"), "0123"),
        ("bytes=4-", 206, Some("bytes 4-9/10"), "456789"),
        ("bytes=-2", 206, Some("bytes 8-9/10"), "89"),
        ("bytes=0-999", 206, Some("bytes 0-9/10"), DIGITS),
        ("bytes=0-1,2-3", 206, Some("bytes 0-3/10"), "0123"),
        ("bytes=10-", 416, Some("bytes */10"), ""),
        ("bytes=-0", 416, Some("bytes */10"), ""),
        ("bytes=3-1", 200, None, DIGITS),
        ("chapters=1-2", 200, None, DIGITS),
    ];
    for (range, status, content_range, body) in cases {
        let response = site.get("/static/digits.txt", &[("range", range)]);
        assert_eq!(response.status(), status, "{range}");
        assert_eq!(field(&response, "content-range"), content_range, "{range}");
        assert_eq!(field(&response, "content-length"), Some(body.len().to_string().as_str()), "{range}");
        assert_eq!(content(response).await, body.as_bytes(), "{range}");
    }
    let middle = site.get("/static/large.bin", &[("range", "bytes=100000-899999")]);
    assert!(content(middle).await == pattern(1_000_000)[100_000..900_000]);
}

#[tokio::test]
async fn several_parts_of_a_file() {
    let site = Site::new();
    let response = site.get("/static/digits.txt", &[("range", "bytes=0-1, -3")]);
    assert_eq!(response.status(), 206);
    assert_eq!(field(&response, "content-range"), None);
    let media_type = field(&response, "content-type").unwrap().to_owned();
    let boundary = media_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let length = field(&response, "content-length").unwrap().parse::<usize>().unwrap();
    let body = content(response).await;
    assert_eq!(body.len(), length);
    let part = |range: &str, data: &str| {
        format!(
            "--{boundary}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-range: bytes {range}/10\r\n\r\n{data}\r\n"
        )
    };
    let expected = format!("{}{}--{boundary}--\r\n", part("0-1", "01"), part("7-9", "789"));
    assert_eq!(String::from_utf8(body).unwrap(), expected);
}

#[tokio::test]
async fn preconditions_of_a_real_file() {
    let site = Site::new();
    let file = site.place.path().join("root/digits.txt");
    let modified = SystemTime::now() - Duration::from_hours(1);
    fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    let first = site.get("/static/digits.txt", &[]);
    let etag = field(&first, "etag").unwrap();
    let date = field(&first, "last-modified").unwrap();
    assert_eq!(date, httpdate::fmt_http_date(modified));
    let status = |fields: &[(&str, &str)]| site.get("/static/digits.txt", fields).status().as_u16();
    assert_eq!(status(&[("if-none-match", etag)]), 304);
    assert_eq!(status(&[("if-modified-since", date)]), 304);
    assert_eq!(status(&[("if-none-match", "\"other\""), ("if-modified-since", date)]), 200);
    assert_eq!(status(&[("if-match", etag)]), 200);
    assert_eq!(status(&[("if-match", "\"other\"")]), 412);
    assert_eq!(status(&[("range", "bytes=0-0"), ("if-range", etag)]), 206);
    assert_eq!(status(&[("range", "bytes=0-0"), ("if-range", date)]), 206);
    assert_eq!(status(&[("range", "bytes=0-0"), ("if-range", "\"other\"")]), 200);
    assert_eq!(status(&[("range", "bytes=99-"), ("if-none-match", etag)]), 304, "before the range");

    let unchanged = site.get("/static/digits.txt", &[("if-none-match", etag)]);
    assert_eq!(field(&unchanged, "etag"), Some(etag));
    assert_eq!(field(&unchanged, "last-modified"), Some(date));
    assert_eq!(field(&unchanged, "content-type"), None);
    assert_eq!(field(&unchanged, "content-length"), None);
    assert_eq!(content(unchanged).await, b"");

    fs::write(&file, "9876543210").unwrap();
    assert_eq!(status(&[("if-none-match", etag)]), 200, "the same length, another time");
    assert_eq!(status(&[("if-modified-since", date)]), 200);
    assert_eq!(status(&[("if-unmodified-since", date)]), 412);
    assert_eq!(status(&[("range", "bytes=0-0"), ("if-range", etag)]), 200);
}

#[tokio::test]
async fn a_file_cut_while_it_is_sent_breaks_the_connection_off() {
    let site = Site::new();
    let mut body = site.get("/static/large.bin", &[]).into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let file = fs::File::options().write(true).open(site.place.path().join("root/large.bin")).unwrap();
    file.set_len(first.len() as u64 + 10).unwrap();
    let mut received = first.len();
    let error = loop {
        match body.frame().await.expect("an end without an error would be a lie") {
            Ok(frame) => received += frame.into_data().unwrap().len(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, BodyError::FileShrank));
    assert_eq!(received, first.len() + 10);
}

/// Files with encoded siblings; the content of a sibling is its name.
fn encoded(settings: Settings) -> Site {
    let place = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let (hour, second) = (Duration::from_hours(1), Duration::from_secs(1));
    let write = |name: &str, age: Duration| {
        fs::write(place.path().join(name), name).unwrap();
        let file = fs::File::options().write(true).open(place.path().join(name)).unwrap();
        file.set_modified(now - age).unwrap();
    };
    for name in ["all.css", "all.css.br", "all.css.zst", "all.css.gz", "one.js", "one.js.gz", "none.txt", "photo.jpg"] {
        write(name, hour);
    }
    write("photo.jpg.br", hour);
    write("stale.css", hour);
    write("stale.css.br", hour * 2);
    write("stale.css.gz", hour + second);
    write("only.css.gz", hour);
    fs::create_dir(place.path().join("none.txt.br")).unwrap();
    symlink("/etc/passwd", place.path().join("none.txt.gz")).unwrap();
    let mounts = vec![mount("/static", place.path())];
    Site { files: Files::open(&Settings { mounts, ..settings }).unwrap(), place }
}

#[tokio::test]
async fn encoded_siblings_are_sent_to_those_who_take_them() {
    let site = encoded(Settings::default());
    let browser = "gzip, deflate, br, zstd";
    // File, Accept-Encoding, Content-Encoding and content of the answer, whether it varies.
    let cases = [
        ("all.css", browser, Some("br"), "all.css.br", true),
        ("all.css", "gzip, zstd", Some("zstd"), "all.css.zst", true),
        ("all.css", "gzip", Some("gzip"), "all.css.gz", true),
        ("all.css", "br;q=0.1, gzip", Some("gzip"), "all.css.gz", true),
        ("all.css", "identity, br;q=0.5", None, "all.css", true),
        ("all.css", "br;q=0", None, "all.css", true),
        ("all.css", "", None, "all.css", true),
        ("one.js", browser, Some("gzip"), "one.js.gz", true),
        ("one.js", "br", None, "one.js", true),
        // A directory and a link to the outside are no siblings.
        ("none.txt", browser, None, "none.txt", true),
        // A second may be the tool's; an hour is another state of the file.
        ("stale.css", browser, Some("gzip"), "stale.css.gz", true),
        // What is compressed already is not looked for.
        ("photo.jpg", browser, None, "photo.jpg", false),
        ("all.css.gz", browser, None, "all.css.gz", false),
    ];
    for (name, accepted, encoding, body, varies) in cases {
        let target = format!("/static/{name}");
        let response = site.get(&target, &[("accept-encoding", accepted)]);
        assert_eq!(response.status(), 200, "{name} {accepted}");
        assert_eq!(field(&response, "content-encoding"), encoding, "{name} {accepted}");
        assert_eq!(field(&response, "vary"), varies.then_some("accept-encoding"), "{name} {accepted}");
        assert_eq!(field(&response, "content-length"), Some(body.len().to_string().as_str()), "{name} {accepted}");
        assert_eq!(field(&response, "content-type"), field(&site.get(&target, &[]), "content-type"), "{name}");
        assert_eq!(content(response).await, body.as_bytes(), "{name} {accepted}");
    }
    let only = site.answer(&Method::GET, "/static/only.css", &[("accept-encoding", browser)]);
    assert_eq!(word(&only), "not found", "a sibling without its file");
    let off = encoded(Settings { precompressed: false, ..Settings::default() });
    let response = off.get("/static/all.css", &[("accept-encoding", browser)]);
    assert_eq!((field(&response, "content-encoding"), field(&response, "vary")), (None, None));
}

#[tokio::test]
async fn each_encoding_has_its_own_validators_and_parts() {
    let site = encoded(Settings::default());
    let get = |accepted: &str, fields: &[(&str, &str)]| {
        site.get("/static/all.css", &[&[("accept-encoding", accepted)], fields].concat())
    };
    let tag = |accepted: &str| field(&get(accepted, &[]), "etag").unwrap().to_owned();
    let (plain, brotli, gzip) = (tag("identity"), tag("br"), tag("gzip"));
    assert!(plain != brotli && brotli != gzip && plain != gzip);
    let unchanged = get("br", &[("if-none-match", &brotli)]);
    assert_eq!((unchanged.status().as_u16(), field(&unchanged, "vary")), (304, Some("accept-encoding")));
    assert_eq!(field(&unchanged, "content-encoding"), None);
    assert_eq!(get("br", &[("if-none-match", &plain)]).status(), 200);
    assert_eq!(get("gzip", &[("if-none-match", &brotli)]).status(), 200);
    assert_eq!(get("br", &[("if-match", &plain)]).status(), 412);
    // A part is one of the encoded bytes, and only of those that the client has a part of.
    let part = get("br", &[("range", "bytes=-3"), ("if-range", &brotli)]);
    assert_eq!((part.status().as_u16(), field(&part, "content-range")), (206, Some("bytes 7-9/10")));
    assert_eq!(field(&part, "content-encoding"), Some("br"));
    assert_eq!(content(part).await, b".br");
    let whole = get("br", &[("range", "bytes=-3"), ("if-range", &plain)]);
    assert_eq!((whole.status().as_u16(), field(&whole, "content-encoding")), (200, Some("br")));
    let part = get("identity", &[("range", "bytes=0-2"), ("if-range", &plain)]);
    assert_eq!(field(&part, "content-encoding"), None);
    assert_eq!(content(part).await, b"all");
}

#[test]
fn how_long_files_may_be_kept() {
    let place = tempfile::tempdir().unwrap();
    let hashed = ["a.55e7cbb9ba48.css", "a.55e7cbb9ba48.txt", "listed.0208b96062ba.css"];
    for name in [&hashed[..], &["a.css", "page.html", "a.js", "main-BhX9a8sd.js"]].concat() {
        fs::write(place.path().join(name), name).unwrap();
    }
    let rule = |pattern: &str, value: Option<&'static str>| Rule {
        pattern: pattern.to_owned(),
        value: value.map(HeaderValue::from_static),
    };
    let cache = vec![rule("/static/*.html", Some("no-cache")), rule("*.txt", None), rule("a.css", Some("max-age=60"))];
    let mounts = vec![mount("/static", place.path())];
    let settings =
        Settings { mounts, cache, types: vec![Custom::parse(".js", "text/x").unwrap()], ..Settings::default() };
    let open = || Site { files: Files::open(&settings).unwrap(), place: tempfile::tempdir().unwrap() };
    let immutable = IMMUTABLE;
    let immutable = Some(immutable.to_str().unwrap());
    let site = open();
    let header = |site: &Site, name: &str| {
        let response = site.get(&format!("/static/{name}"), &[("if-none-match", "*")]);
        assert_eq!(response.status(), 304);
        field(&response, "cache-control").map(str::to_owned)
    };
    let cases = [
        ("page.html", Some("no-cache")),
        ("a.css", Some("max-age=60")),
        ("a.js", None),
        ("a.55e7cbb9ba48.txt", None),
        ("a.55e7cbb9ba48.css", immutable),
        ("main-BhX9a8sd.js", None),
    ];
    for (name, expected) in cases {
        assert_eq!(header(&site, name).as_deref(), expected, "{name}");
    }
    assert_eq!(field(&site.get("/static/a.js", &[]), "content-type"), Some("text/x; charset=utf-8"));
    // A refusal must not be kept for a year.
    let refusal = site.get("/static/a.55e7cbb9ba48.css", &[("range", "bytes=99-")]);
    assert_eq!((refusal.status().as_u16(), field(&refusal, "cache-control")), (416, None));
    // With a manifest, what it lists and nothing else.
    let manifest = r#"{"paths": {"listed.css": "listed.0208b96062ba.css"}, "version": "1.1", "hash": ""}"#;
    fs::write(place.path().join("staticfiles.json"), manifest).unwrap();
    let site = open();
    assert_eq!(header(&site, "listed.0208b96062ba.css").as_deref(), immutable);
    assert_eq!(header(&site, "a.55e7cbb9ba48.css"), None);
    // A new one is read within a second.
    let vite = r#"{"main.ts": {"file": "main-BhX9a8sd.js"}}"#;
    fs::remove_file(place.path().join("staticfiles.json")).unwrap();
    fs::create_dir(place.path().join(".vite")).unwrap();
    fs::write(place.path().join(".vite/manifest.json"), vite).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while header(&site, "main-BhX9a8sd.js").as_deref() != immutable {
        assert!(Instant::now() < deadline, "the new manifest is not read");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(header(&site, "listed.0208b96062ba.css"), None);
}

#[tokio::test]
async fn the_longest_url_wins() {
    let place = tempfile::tempdir().unwrap();
    let mut mounts = Vec::new();
    for (url, name) in [("/", "root"), ("/a", "a"), ("/a/b", "ab")] {
        let directory = place.path().join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("f"), url).unwrap();
        mounts.push(mount(url, &directory));
    }
    let site = Site { files: Files::open(&Settings { mounts, ..Settings::default() }).unwrap(), place };
    for (target, url) in [("/f", "/"), ("/a/f", "/a"), ("/a/b/f", "/a/b")] {
        assert_eq!(content(site.get(target, &[])).await, url.as_bytes(), "{target}");
    }
    assert_eq!(word(&site.answer(&Method::GET, "/a/b/missing", &[])), "not found", "no fall-back to a shorter one");
    assert_eq!(word(&site.answer(&Method::GET, "/ab/f", &[])), "not mine");
}

#[test]
fn settings_that_cannot_be_used() {
    let place = tempfile::tempdir().unwrap();
    let good = place.path();
    let file = good.join("file");
    fs::write(&file, "").unwrap();
    let mounts = vec![
        mount("/ok", good),
        mount("/ok", good),
        mount("no-slash", good),
        mount("/end/", good),
        mount("", good),
        mount("/missing", &good.join("missing")),
        mount("/file", &file),
    ];
    let errors = Files::open(&Settings { mounts, ..Settings::default() }).unwrap_err();
    let count = |matches: fn(&FileSetupError) -> bool| errors.iter().filter(|error| matches(error)).count();
    assert_eq!(count(|error| matches!(error, FileSetupError::Url { .. })), 3, "{errors:?}");
    assert_eq!(count(|error| matches!(error, FileSetupError::Duplicate { .. })), 1);
    assert_eq!(count(|error| matches!(error, FileSetupError::Missing { .. })), 1);
    assert_eq!(count(|error| matches!(error, FileSetupError::NotADirectory { .. })), 1);
    let missing = errors.iter().find(|error| matches!(error, FileSetupError::Missing { .. })).unwrap().to_string();
    assert_eq!(
        missing,
        format!("static files at \"/missing\": there is no directory {}", good.join("missing").display())
    );
}

#[tokio::test]
async fn a_directory_that_is_replaced_is_served_anew() {
    let place = tempfile::tempdir().unwrap();
    let (built, current) = (place.path().join("dist"), place.path().join("current"));
    let build = |text: &str| {
        fs::create_dir(&built).unwrap();
        fs::write(built.join("f"), text).unwrap();
    };
    build("one");
    for release in ["1", "2"] {
        fs::create_dir(place.path().join(release)).unwrap();
        fs::write(place.path().join(release).join("f"), release).unwrap();
    }
    symlink("1", &current).unwrap();
    let mounts = vec![mount("/dist", &built), mount("/current", &current)];
    let site = Site { files: Files::open(&Settings { mounts, ..Settings::default() }).unwrap(), place };
    assert_eq!(content(site.get("/dist/f", &[])).await, b"one");
    assert_eq!(content(site.get("/current/f", &[])).await, b"1");
    fs::remove_dir_all(&built).unwrap();
    build("two");
    fs::remove_file(&current).unwrap();
    symlink("2", &current).unwrap();
    // The old directories may be used for a moment: looking costs a system call.
    for (target, expected) in [("/dist/f", &b"two"[..]), ("/current/f", b"2")] {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let found = match site.answer(&Method::GET, target, &[]) {
                Outcome::Response(response) => content(response).await,
                other => word(&other).into_bytes(),
            };
            if found == expected {
                break;
            }
            assert!(Instant::now() < deadline, "{target} is still {:?}", String::from_utf8_lossy(&found));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
