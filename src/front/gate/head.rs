//! The strict scanner of one HTTP/1 request head (RFC 9112 §2–§6), line by line.

use super::raw::Limits;
use super::{Refusal, TOKEN, host, is_token, is_value, trim};

/// What a request line may have besides its target: the longest method and the version are far shorter.
const REQUEST_LINE_EXTRA: usize = 64;

/// How far a head was scanned. Small, so that resetting it for every request costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// Offset of the first line not scanned yet.
    scanned: usize,
    /// From there, so many bytes were searched for a line end.
    searched: usize,
    has_leading_line: bool,
    has_request_line: bool,
    facts: Facts,
}

/// What decides about the framing, gathered from the lines.
#[derive(Debug, Clone, Default)]
struct Facts {
    fields: usize,
    content_length: Option<u64>,
    chunked: bool,
    http_10: bool,
    get: bool,
    upgrade_websocket: bool,
    connection_upgrade: bool,
}

/// How the message goes on behind its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    None,
    Length(u64),
    Chunked,
    /// A WebSocket may begin.
    Upgrade,
}

/// How far a scan came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadProgress {
    Incomplete,
    Complete { length: usize, body: Body },
    Refused(Refusal),
}

impl Head {
    /// Nothing of it was seen yet.
    pub fn is_untouched(&self) -> bool {
        self.scanned == 0 && self.searched == 0
    }

    /// Scans a window that starts where the head starts, and that is only ever longer the next time.
    pub fn scan(&mut self, window: &[u8], limits: &Limits) -> HeadProgress {
        loop {
            match self.next_line(window, limits) {
                Ok(Step::Again) => {}
                Ok(Step::Incomplete) => return HeadProgress::Incomplete,
                Ok(Step::Complete(body)) => return HeadProgress::Complete { length: self.scanned, body },
                Err(refusal) => return HeadProgress::Refused(refusal),
            }
        }
    }

    fn next_line(&mut self, window: &[u8], limits: &Limits) -> Result<Step, Refusal> {
        let rest = &window[self.scanned..];
        if !self.has_request_line
            && let Some(&first) = rest.first()
            && !(TOKEN[first as usize] || first == b'\r' || first == b'\n')
        {
            // Binary noise, a TLS hello for one, need not be waited out until a line end comes by.
            return Err(Refusal::RequestLine);
        }
        let end = memchr::memchr(b'\n', &rest[self.searched..]).map(|found| self.searched + found);
        self.check_length(end.map_or(rest.len(), |end| end + 1), limits)?;
        let Some(end) = end else {
            self.searched = rest.len();
            return Ok(Step::Incomplete);
        };
        let Some(line) = rest[..end].strip_suffix(b"\r") else {
            return Err(Refusal::BareLineFeed);
        };
        self.scanned += end + 1;
        self.searched = 0;
        if self.has_request_line {
            return if line.is_empty() { self.facts.body().map(Step::Complete) } else { self.field(line, limits) };
        }
        if line.is_empty() {
            // RFC 9112 §2.2: one empty line left over from an old client's previous body is forgiven.
            if self.has_leading_line {
                return Err(Refusal::EmptyLines);
            }
            self.has_leading_line = true;
            return Ok(Step::Again);
        }
        self.has_request_line = true;
        self.facts.request_line(line, limits)?;
        Ok(Step::Again)
    }

    /// Checked before anything else of a line, whether it is complete or not: so it does not matter how it arrives.
    fn check_length(&self, line: usize, limits: &Limits) -> Result<(), Refusal> {
        if !self.has_request_line && line > limits.target_bytes + REQUEST_LINE_EXTRA {
            return Err(Refusal::TargetTooLong { limit: limits.target_bytes });
        }
        if self.scanned + line > limits.header_bytes {
            return Err(Refusal::HeadTooLong { limit: limits.header_bytes });
        }
        Ok(())
    }

    fn field(&mut self, line: &[u8], limits: &Limits) -> Result<Step, Refusal> {
        self.facts.fields += 1;
        if self.facts.fields > limits.header_fields {
            return Err(Refusal::TooManyFields { limit: limits.header_fields });
        }
        self.facts.field(line)?;
        Ok(Step::Again)
    }
}

enum Step {
    Again,
    Incomplete,
    Complete(Body),
}

impl Facts {
    fn request_line(&mut self, line: &[u8], limits: &Limits) -> Result<(), Refusal> {
        let mut parts = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(if line.contains(&b'\r') { Refusal::BareCarriageReturn } else { Refusal::RequestLine });
        };
        if !is_token(method) {
            return Err(Refusal::Method);
        }
        if target.len() > limits.target_bytes {
            return Err(Refusal::TargetTooLong { limit: limits.target_bytes });
        }
        match version {
            b"HTTP/1.1" => {}
            b"HTTP/1.0" => self.http_10 = true,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
                return Err(Refusal::Version);
            }
            _ => return Err(Refusal::RequestLine),
        }
        self.get = method == b"GET";
        if method == b"CONNECT" {
            // Its target is an authority, which hyper would open a tunnel for.
            return Err(Refusal::MethodNotAllowed { method: "CONNECT" });
        }
        check_target(target)
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if matches!(line, [b' ' | b'\t', ..]) {
            return Err(Refusal::FoldedField);
        }
        let colon = memchr::memchr(b':', line).ok_or(Refusal::FieldWithoutColon)?;
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        if !is_token(name) {
            return Err(Refusal::FieldName);
        }
        if !is_value(value) {
            return Err(if value.contains(&b'\r') { Refusal::BareCarriageReturn } else { Refusal::FieldValue });
        }
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade_websocket |= has_element(value, b"websocket");
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.connection_upgrade |= has_element(value, b"upgrade");
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = decimal(value).ok_or(Refusal::ContentLength)?;
                if self.content_length.replace(length).is_some() {
                    return Err(Refusal::ContentLengthTwice);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked {
                    return Err(Refusal::TransferEncodingTwice);
                }
                check_transfer_encoding(value)?;
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn body(&self) -> Result<Body, Refusal> {
        match (self.chunked, self.content_length) {
            (true, _) if self.http_10 => Err(Refusal::TransferEncodingInHttp10),
            (true, Some(_)) => Err(Refusal::TwoLengths),
            (true, None) => Ok(Body::Chunked),
            (false, Some(length)) if length > 0 => Ok(Body::Length(length)),
            (false, _) if self.get && !self.http_10 && self.upgrade_websocket && self.connection_upgrade => {
                Ok(Body::Upgrade)
            }
            (false, _) => Ok(Body::None),
        }
    }
}

/// RFC 9112 §3.2: origin-form, absolute-form or asterisk; every byte visible ASCII, and none that a URI cannot hold.
fn check_target(target: &[u8]) -> Result<(), Refusal> {
    let path = match target {
        b"*" => return Ok(()),
        [b'/', ..] => target,
        _ => after_authority(target)?,
    };
    let query = memchr::memchr(b'?', path).unwrap_or(path.len());
    for (index, &byte) in path.iter().enumerate() {
        let allowed = match byte {
            b'#' => return Err(Refusal::Fragment),
            // What hyper's URI type has no place for; browsers encode these.
            b'<' | b'>' => false,
            b'`' => index > query,
            b'"' => index < query,
            _ => byte.is_ascii_graphic(),
        };
        if !allowed {
            return Err(Refusal::TargetCharacter);
        }
    }
    Ok(())
}

/// The path of an absolute-form target, once its scheme and authority are found in order.
fn after_authority(target: &[u8]) -> Result<&[u8], Refusal> {
    let scheme_length = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.len() > scheme.len() && target[..scheme.len()].eq_ignore_ascii_case(scheme))
        .ok_or(Refusal::TargetForm)?
        .len();
    let rest = &target[scheme_length..];
    let end = memchr::memchr3(b'/', b'?', b'#', rest).unwrap_or(rest.len());
    if !host::is_valid(&rest[..end]) {
        return Err(Refusal::HostInvalid);
    }
    Ok(&rest[end..])
}

/// A decimal number of at most 18 digits, which always fits: 1*DIGIT and nothing else.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// Only the one element `chunked` is understood.
fn check_transfer_encoding(value: &[u8]) -> Result<(), Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let codings = || value.split(|&byte| byte == b',').map(trim);
    let malformed = codings().any(|coding| !is_token(coding));
    let misplaced =
        codings().filter(|coding| chunked(coding)).count() > 0 && !codings().next_back().is_some_and(chunked);
    let repeated = codings().filter(|coding| chunked(coding)).count() > 1;
    Err(if malformed || misplaced || repeated { Refusal::TransferEncoding } else { Refusal::TransferCoding })
}

/// Whether a comma-separated list holds the word, in any case.
pub(super) fn has_element(list: &[u8], word: &[u8]) -> bool {
    list.split(|&byte| byte == b',').any(|element| trim(element).eq_ignore_ascii_case(word))
}
