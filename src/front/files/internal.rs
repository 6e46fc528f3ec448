//! Files that the application has sent: it answers with `X-Accel-Redirect` (nginx) or `X-Sendfile` (Apache, lighttpd), and
//! the front sends the file in place of the answer's body.
//!
//! SECURITY: an application may pass on an answer that it got from somewhere else, with these fields in it. So they are
//! obeyed only where there is a directory for it (`--internal-dir`), and reach nothing but such directories and those that
//! are public anyway.

use super::conditional::Validators;
use super::open::{self, Opened};
use super::path::{self, Resolution};
use super::respond::{self, Content, Source};
use super::root::Root;
use super::{Files, Outcome, media_type};
use crate::front::body::Body;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

const X_ACCEL_REDIRECT: HeaderName = HeaderName::from_static("x-accel-redirect");
const X_SENDFILE: HeaderName = HeaderName::from_static("x-sendfile");

/// Sends the file that an application has opened. A 200 to GET can become a part, or a 304, unless the application has
/// dealt with parts by itself. Its validators count if it has any; else those of the file, if that has a name: what was made
/// for this one answer is never asked for again.
pub fn with_file(mut response: Response<Body>, request: (&Method, &HeaderMap), content: Content) -> Response<Body> {
    let is_plain = response.status() == StatusCode::OK
        && request.0 == Method::GET
        && !response.headers().contains_key(CONTENT_RANGE);
    let now = SystemTime::now();
    let mut validators = Validators::of_answer(response.headers());
    if validators == Validators::default()
        && let Source::File(file, 0) = &content.source
        && let Ok(status) = rustix::fs::fstat(file)
        && status.st_nlink > 0
        && status.st_size as u64 == content.length
    {
        let (seconds, nanoseconds) = (status.st_mtime, status.st_mtime_nsec as u32);
        validators = Validators::of_file(status.st_ino, content.length, seconds, nanoseconds, now);
    }
    if is_plain {
        return respond::complete(response, request, &validators, content, now);
    }
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(content.length));
    *response.body_mut() = content.whole();
    response
}

/// What describes the body that is not sent, and what is for us alone.
static OF_THE_BODY: [HeaderName; 9] = [
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_ENCODING,
    ETAG,
    LAST_MODIFIED,
    HeaderName::from_static("x-accel-buffering"),
    HeaderName::from_static("x-accel-charset"),
    HeaderName::from_static("x-accel-expires"),
    HeaderName::from_static("x-accel-limit-rate"),
];

impl Files {
    /// The answer of an application as it goes out: with the file that it names in place of its body, or as it is.
    pub fn instead_of_body(&self, mut response: Response<Body>, request: (&Method, &HeaderMap)) -> Outcome {
        let headers = response.headers_mut();
        if self.internal.is_empty() {
            if (headers.contains_key(X_ACCEL_REDIRECT) || headers.contains_key(X_SENDFILE))
                && !self.told.swap(true, Ordering::Relaxed)
            {
                tracing::warn!(
                    "the application sends X-Accel-Redirect or X-Sendfile, which is passed on: there is no --internal-dir"
                );
            }
            return Outcome::Response(response);
        }
        let (url, file) = (headers.remove(X_ACCEL_REDIRECT), headers.remove(X_SENDFILE));
        let found = match (&url, &file) {
            (Some(url), _) => self.by_url(url),
            (None, Some(file)) => self.by_path(file),
            (None, None) => return Outcome::Response(response),
        };
        if matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Outcome::Response(response);
        }
        match found {
            Some((_, name, Ok(opened))) if opened.is_file() => {
                Outcome::Response(self.in_place(response, request, opened, &name))
            }
            Some((root, name, result)) => {
                let error = result.err();
                if root.may_complain() {
                    let path = root.path.join(std::ffi::OsStr::from_bytes(&name));
                    let why = error.as_ref().map_or_else(|| "no file".to_owned(), ToString::to_string);
                    tracing::warn!("the application wants {} to be sent: {why}", path.display());
                }
                match error {
                    Some(error) if open::is_forbidden(&error) => Outcome::Forbidden,
                    Some(error) if !open::is_absence(&error) => Outcome::Failed(error),
                    _ => Outcome::NotFound,
                }
            }
            None => {
                if let Some(named) = url.or(file)
                    && self.internal[0].may_complain()
                {
                    let named = named.as_bytes().escape_ascii();
                    tracing::warn!("the application wants {named} to be sent, which is in no --internal-dir");
                }
                Outcome::NotFound
            }
        }
    }

    /// The directory, the name in it, and what is there.
    fn by_url(&self, url: &HeaderValue) -> Option<(&Root, Vec<u8>, io::Result<Opened>)> {
        let url = url.to_str().ok()?;
        let url = url.split_once('?').map_or(url, |(path, _)| path);
        let (root, target) = match path::resolve(url, &self.internal_urls) {
            Resolution::Covered { mount, target } => (&self.internal[mount], target),
            Resolution::Refused { .. } => return None,
            Resolution::NotCovered => match path::resolve(url, &self.urls) {
                Resolution::Covered { mount, target } => (&self.roots[mount], target),
                _ => return None,
            },
        };
        let name = target.relative();
        Some((root, name.to_vec(), root.find(|place| place.directory.open_below(name))))
    }

    /// The same by a path on the disk: the one that was configured, or the one that it leads to.
    fn by_path(&self, path: &HeaderValue) -> Option<(&Root, Vec<u8>, io::Result<Opened>)> {
        let path = Path::new(std::ffi::OsStr::from_bytes(path.as_bytes()));
        self.internal.iter().find_map(|root| {
            let name = match path.strip_prefix(&root.path) {
                Ok(name) => name,
                Err(_) => path.strip_prefix(root.path.canonicalize().ok()?).ok()?,
            };
            let name = name.as_os_str().as_bytes();
            path::is_shown(name).then(|| (root, name.to_vec(), root.find(|place| place.directory.open_below(name))))
        })
    }

    /// Keeps what the application says besides its body. nginx keeps less: `Content-Type`, `Content-Disposition`,
    /// `Set-Cookie`, `Cache-Control`, `Expires` and `Accept-Ranges`.
    fn in_place(
        &self,
        response: Response<Body>,
        (method, request): (&Method, &HeaderMap),
        opened: Opened,
        name: &[u8],
    ) -> Response<Body> {
        let (mut head, _) = response.into_parts();
        for name in &OF_THE_BODY {
            head.headers.remove(name);
        }
        if !head.headers.contains_key(CONTENT_TYPE) {
            head.headers.insert(CONTENT_TYPE, media_type::of_name(name, &self.settings.types));
        }
        // A framework that has cut its own file into parts has not sent any; it is done here.
        if head.status == StatusCode::PARTIAL_CONTENT {
            head.status = StatusCode::OK;
        }
        let is_plain = head.status == StatusCode::OK && (method == Method::GET || method == Method::HEAD);
        let mut response = Response::from_parts(head, Body::empty());
        let now = SystemTime::now();
        let validators =
            Validators::of_file(opened.inode, opened.length, opened.modified_seconds, opened.modified_nanoseconds, now);
        let content = Content { length: opened.length, source: Source::File(opened.file.into(), 0) };
        if is_plain {
            return respond::complete(response, (method, request), &validators, content, now);
        }
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(content.length));
        if method != Method::HEAD {
            *response.body_mut() = content.whole();
        }
        response
    }
}
