//! The response for an opened file: RFC 9110 §13 to §15. Only opened regular files come here, only with GET or HEAD.

use super::conditional::{self, Validators, Verdict};
use super::media_type;
use super::open::Opened;
use super::range::{self, Selection};
use super::send::{self, Piece};
use crate::front::body::Body;
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Answers with the file, a part of it, or the reason why neither is sent. `name` decides the media type.
pub fn respond(method: &Method, request: &HeaderMap, opened: Opened, name: &[u8], now: SystemTime) -> Response<Body> {
    let validators =
        Validators::new(opened.inode, opened.length, opened.modified_seconds, opened.modified_nanoseconds, now);
    let mut response = Response::new(Body::empty());
    set_validators(response.headers_mut(), &validators);
    let ranges = match conditional::evaluate(request, &validators, now) {
        Verdict::Send { ranges } => ranges,
        Verdict::NotModified => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        Verdict::PreconditionFailed => {
            *response.status_mut() = StatusCode::PRECONDITION_FAILED;
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            return response;
        }
    };
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // The type is decided by the name; a browser must not decide otherwise by the content.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // `Range` is defined for GET only (RFC 9110 §14.2).
    let selection = match request.get(RANGE) {
        Some(value) if ranges && method == Method::GET => range::select(value.as_bytes(), opened.length),
        _ => Selection::Whole,
    };
    match selection {
        Selection::Whole => whole(response, opened, name, method),
        Selection::Part(part) => one_part(response, opened, name, part),
        Selection::Parts(parts) => several_parts(response, opened, name, &parts),
        Selection::Unsatisfiable => unsatisfiable(response, opened.length),
    }
}

fn set_validators(headers: &mut HeaderMap, validators: &Validators) {
    // Both are plain ASCII by construction.
    if let Ok(etag) = HeaderValue::try_from(&validators.etag) {
        headers.insert(ETAG, etag);
    }
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(validators.last_modified));
    if let Ok(date) = HeaderValue::try_from(date) {
        headers.insert(LAST_MODIFIED, date);
    }
}

fn whole(mut response: Response<Body>, opened: Opened, name: &[u8], method: &Method) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, media_type::of_name(name));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(opened.length));
    if method == Method::GET {
        *response.body_mut() = send::file_body(opened.file.into(), 0, opened.length);
    }
    response
}

fn one_part(mut response: Response<Body>, opened: Opened, name: &[u8], part: Range<u64>) -> Response<Body> {
    let length = part.end - part.start;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, media_type::of_name(name));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if let Ok(value) = HeaderValue::try_from(content_range(&part, opened.length)) {
        headers.insert(CONTENT_RANGE, value);
    }
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    *response.body_mut() = send::file_body(opened.file.into(), part.start, length);
    response
}

/// RFC 9110 §15.3.7.2: the parts in a `multipart/byteranges`.
fn several_parts(mut response: Response<Body>, opened: Opened, name: &[u8], parts: &[Range<u64>]) -> Response<Body> {
    let media_type = media_type::of_name(name);
    let media_type = media_type.to_str().unwrap_or_default();
    let boundary = boundary();
    let mut pieces = Vec::with_capacity(parts.len() * 2 + 1);
    for (index, part) in parts.iter().enumerate() {
        let line_end = if index == 0 { "" } else { "\r\n" };
        let head = format!(
            "{line_end}--{boundary}\r\ncontent-type: {media_type}\r\ncontent-range: {}\r\n\r\n",
            content_range(part, opened.length)
        );
        pieces.push(Piece::Bytes(Bytes::from(head)));
        pieces.push(Piece::File(part.clone()));
    }
    pieces.push(Piece::Bytes(Bytes::from(format!("\r\n--{boundary}--\r\n"))));
    let length: u64 = pieces.iter().map(Piece::length).sum();
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(format!("multipart/byteranges; boundary={boundary}")) {
        headers.insert(CONTENT_TYPE, value);
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    *response.body_mut() = send::pieces_body(opened.file.into(), pieces);
    response
}

fn unsatisfiable(mut response: Response<Body>, length: u64) -> Response<Body> {
    *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    if let Ok(value) = HeaderValue::try_from(format!("bytes */{length}")) {
        headers.insert(CONTENT_RANGE, value);
    }
    response
}

fn content_range(part: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end - 1)
}

/// A boundary that a file's content does not have: 128 bits that nobody can foresee (keys of a fresh hasher).
fn boundary() -> String {
    format!("{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1))
}
