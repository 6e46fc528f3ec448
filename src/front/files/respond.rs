//! The answer that sends a file, a part of it, or the reason why neither is sent: RFC 9110 §13 to §15. Only answers to GET
//! and HEAD come here.

use super::conditional::{self, Validators, Verdict};
use super::range::{self, Selection};
use super::send::{self, Piece};
use crate::front::body::Body;
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    ETAG, EXPIRES, Entry, LAST_MODIFIED, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The bytes of a representation, from its first to its last.
#[derive(Debug)]
pub struct Content {
    pub source: Source,
    /// In bytes.
    pub length: u64,
}

/// Where the bytes are.
#[derive(Debug)]
pub enum Source {
    /// In a file, from this offset on.
    File(OwnedFd, u64),
    Memory(Bytes),
}

/// Completes an answer whose header fields describe the whole representation: sends all of it or a part, or says that the
/// client has it (304), that it is not what the client wants to have it from (412), or that it has no such part (416).
pub fn complete(
    mut response: Response<Body>,
    (method, request): (&Method, &HeaderMap),
    validators: &Validators,
    content: Content,
    now: SystemTime,
) -> Response<Body> {
    set_validators(response.headers_mut(), validators);
    let ranges = match conditional::evaluate(request, validators, now) {
        Verdict::Send { ranges } => ranges,
        Verdict::NotModified => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            remove_all(response.headers_mut(), &OF_THE_CONTENT);
            return response;
        }
        Verdict::PreconditionFailed => return empty(response, StatusCode::PRECONDITION_FAILED),
    };
    // An application may refuse to have its file cut into parts.
    let may_cut = response.headers().get(ACCEPT_RANGES).is_none_or(|value| value != "none");
    if may_cut {
        response.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    // `Range` is defined for GET only (RFC 9110 §14.2).
    let selection = match request.get(RANGE) {
        Some(value) if ranges && may_cut && method == Method::GET => range::select(value.as_bytes(), content.length),
        _ => Selection::Whole,
    };
    match selection {
        Selection::Whole => {
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(content.length));
            if method == Method::GET {
                *response.body_mut() = content.whole();
            }
            response
        }
        Selection::Part(part) => one_part(response, content, part),
        Selection::Parts(parts) => several_parts(response, content, &parts),
        Selection::Unsatisfiable => {
            if let Ok(value) = HeaderValue::try_from(format!("bytes */{}", content.length)) {
                response.headers_mut().insert(CONTENT_RANGE, value);
            }
            empty(response, StatusCode::RANGE_NOT_SATISFIABLE)
        }
    }
}

/// What a 304 leaves out: it has no content (RFC 9110 §15.4.5).
static OF_THE_CONTENT: [HeaderName; 5] =
    [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_DISPOSITION, X_CONTENT_TYPE_OPTIONS];

/// What speaks of the representation and would be a lie beside a refusal; a refusal must not be kept either.
static OF_THE_REPRESENTATION: [HeaderName; 5] =
    [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_DISPOSITION, CACHE_CONTROL, EXPIRES];

fn remove_all(headers: &mut HeaderMap, names: &[HeaderName]) {
    for name in names {
        headers.remove(name);
    }
}

fn empty(mut response: Response<Body>, status: StatusCode) -> Response<Body> {
    *response.status_mut() = status;
    remove_all(response.headers_mut(), &OF_THE_REPRESENTATION);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

/// Those that are not there yet.
fn set_validators(headers: &mut HeaderMap, validators: &Validators) {
    if let (Some(etag), Entry::Vacant(place)) = (&validators.etag, headers.entry(ETAG)) {
        place.insert(etag.clone());
    }
    if let (Some(seconds), Entry::Vacant(place)) = (validators.last_modified, headers.entry(LAST_MODIFIED)) {
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
        if let Ok(date) = HeaderValue::try_from(date) {
            place.insert(date);
        }
    }
}

fn one_part(mut response: Response<Body>, content: Content, part: Range<u64>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(part.end - part.start));
    if let Ok(value) = HeaderValue::try_from(content_range(&part, content.length)) {
        headers.insert(CONTENT_RANGE, value);
    }
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    *response.body_mut() = content.part(part);
    response
}

/// RFC 9110 §15.3.7.2: the parts in a `multipart/byteranges`.
fn several_parts(mut response: Response<Body>, content: Content, parts: &[Range<u64>]) -> Response<Body> {
    let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.map_or_else(String::new, |value| format!("content-type: {value}\r\n"));
    let boundary = boundary();
    let mut pieces = Vec::with_capacity(parts.len() * 2 + 1);
    for (index, part) in parts.iter().enumerate() {
        let line_end = if index == 0 { "" } else { "\r\n" };
        let range = content_range(part, content.length);
        let head = format!("{line_end}--{boundary}\r\n{media_type}content-range: {range}\r\n\r\n");
        pieces.push(Piece::Bytes(Bytes::from(head)));
        pieces.push(content.piece(part));
    }
    pieces.push(Piece::Bytes(Bytes::from(format!("\r\n--{boundary}--\r\n"))));
    let length: u64 = pieces.iter().map(Piece::length).sum();
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(format!("multipart/byteranges; boundary={boundary}")) {
        headers.insert(CONTENT_TYPE, value);
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    *response.body_mut() = match content.source {
        Source::File(file, _) => send::pieces_body(file, pieces),
        Source::Memory(_) => Body::full(joined(pieces)),
    };
    response
}

/// Pieces that are all in memory.
fn joined(pieces: Vec<Piece>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        if let Piece::Bytes(piece) = piece {
            bytes.extend_from_slice(&piece);
        }
    }
    bytes
}

impl Content {
    /// All of it.
    pub fn whole(self) -> Body {
        let length = self.length;
        self.part(0..length)
    }

    fn part(self, part: Range<u64>) -> Body {
        match self.source {
            Source::File(file, offset) => send::file_body(file, offset + part.start, part.end - part.start),
            Source::Memory(bytes) => Body::full(bytes.slice(part.start as usize..part.end as usize)),
        }
    }

    fn piece(&self, part: &Range<u64>) -> Piece {
        match &self.source {
            Source::File(_, offset) => Piece::File(offset + part.start..offset + part.end),
            Source::Memory(bytes) => Piece::Bytes(bytes.slice(part.start as usize..part.end as usize)),
        }
    }
}

fn content_range(part: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end - 1)
}

/// A boundary that a file's content does not have: 128 bits that nobody can foresee (keys of a fresh hasher).
fn boundary() -> String {
    format!("{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1))
}
