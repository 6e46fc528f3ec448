//! The status and header fields an application gives to `start_response`, checked and ready to be sent.

use crate::fields::{is_control, is_token, parse_length, trim};
use monoceros_wire::message::Field;
use monoceros_wire::{HEAD_MAX, HEADERS_MAX};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};
use std::sync::atomic::{AtomicU8, Ordering};

/// The head of a response.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) status: u16,
    /// What the application announced, if anything.
    pub(super) content_length: Option<u64>,
    /// Names (lower case) and values, one after the other.
    text: Vec<u8>,
    /// Where each name and each value ends in `text`.
    ends: Vec<(u32, u32)>,
    /// Which of [`HOP_BY_HOP`] were dropped for the first time, one bit each.
    newly_dropped: u8,
    /// The front is to send a file in place of the body: `X-Accel-Redirect` or `X-Sendfile`.
    names_file: bool,
}

/// Fields about the connection to the client, which the front owns (RFC 9110 §7.6.1). PEP 3333 forbids applications to
/// send them; those that do mean no harm, so the field is dropped and not the response.
const HOP_BY_HOP: [&str; 7] =
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// Which of [`HOP_BY_HOP`] this process has dropped before: once in the log is enough.
static DROPPED: AtomicU8 = AtomicU8::new(0);

impl Head {
    /// Checks what was given to `start_response`.
    pub(super) fn parse(status: &Bound<'_, PyAny>, fields: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self { status: parse_status(status)?, ..Self::default() }.with_fields(fields)
    }

    /// Checks the fields of an informational response, a list of `(name, value)` tuples.
    pub(super) fn parse_hint(fields: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self { status: 103, ..Self::default() }.with_fields(fields)
    }

    fn with_fields(mut self, fields: &Bound<'_, PyAny>) -> PyResult<Self> {
        let head = &mut self;
        if let Ok(list) = fields.cast::<PyList>() {
            for field in list {
                head.add(&field)?;
            }
        } else {
            for field in fields.try_iter()? {
                head.add(&field?)?;
            }
        }
        if head.names_file && head.content_length.is_some() {
            head.forget_length();
        }
        // Room for one more field, a Content-Length of ours.
        if head.ends.len() >= HEADERS_MAX || head.text.len() + 4 * head.ends.len() + 64 > HEAD_MAX {
            return Err(PyValueError::new_err("too many header fields"));
        }
        Ok(self)
    }

    /// Drops the announced length: it is the file's (Flask says so), and no such body follows.
    fn forget_length(&mut self) {
        let mut kept = Self { text: Vec::with_capacity(self.text.len()), ..Self::default() };
        for (name, value) in self.fields().filter(|(name, _)| *name != b"content-length") {
            kept.push(name, value);
        }
        (self.text, self.ends, self.content_length) = (kept.text, kept.ends, None);
    }

    /// The fields as they are sent.
    pub(super) fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        let mut start = 0;
        self.ends.iter().map(move |&(name_end, value_end)| {
            let field = (&self.text[start..name_end as usize], &self.text[name_end as usize..value_end as usize]);
            start = value_end as usize;
            field
        })
    }

    /// Announces the length of the body, where the application has not.
    pub(super) fn announce(&mut self, length: u64) {
        if self.content_length.is_none() {
            self.content_length = Some(length);
            self.push(b"content-length", length.to_string().as_bytes());
        }
    }

    /// Whether a response with this status has no body (RFC 9110 §6.4.1).
    pub(super) fn is_bodyless(&self) -> bool {
        matches!(self.status, 204 | 304)
    }

    /// Fields that were dropped because they belong to the connection, the first time they were.
    pub(super) fn newly_dropped(&self) -> impl Iterator<Item = &'static str> + use<> {
        let dropped = self.newly_dropped;
        HOP_BY_HOP.into_iter().enumerate().filter(move |(index, _)| dropped & 1 << index != 0).map(|(_, name)| name)
    }

    fn add(&mut self, field: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(pair) = field.cast::<PyTuple>() else {
            return Err(PyTypeError::new_err(format!("a header field must be a (name, value) tuple, not {field:?}")));
        };
        if pair.len() != 2 {
            return Err(PyTypeError::new_err(format!("a header field must be a (name, value) tuple, not {field:?}")));
        }
        let (start, count) = (self.text.len(), self.ends.len());
        let name = pair.get_borrowed_item(0)?;
        append_latin1(&mut self.text, &name, "the name of a header field")?;
        let name_end = self.text.len();
        self.text[start..].make_ascii_lowercase();
        if start == name_end || !self.text[start..].iter().all(|&byte| is_token(byte)) {
            return Err(PyValueError::new_err(format!("{name:?} is not a valid name of a header field")));
        }
        let value = pair.get_borrowed_item(1)?;
        append_latin1(&mut self.text, &value, "the value of a header field")?;
        if self.text[name_end..].iter().any(|&byte| is_control(byte)) {
            return Err(PyValueError::new_err(format!(
                "the value of {name:?} has a control character in it: {value:?}"
            )));
        }
        self.trim_value(name_end);
        if self.text.len() - name_end > usize::from(u16::MAX) || name_end - start > usize::from(u16::MAX) {
            return Err(PyValueError::new_err(format!("the header field {name:?} is too long")));
        }
        self.ends.push((name_end as u32, self.text.len() as u32));
        if !self.keeps(start, name_end)? {
            self.text.truncate(start);
            self.ends.truncate(count);
        }
        Ok(())
    }

    /// Removes whitespace around a value.
    fn trim_value(&mut self, start: usize) {
        let (length, kept) = (self.text.len() - start, trim(&self.text[start..]).len());
        if kept < length {
            let leading = self.text[start..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            self.text.drain(start..start + leading.min(length - kept));
            self.text.truncate(start + kept);
        }
    }

    /// Looks at the fields that have a meaning for us; false drops the field.
    fn keeps(&mut self, start: usize, name_end: usize) -> PyResult<bool> {
        let (name, value) = (&self.text[start..name_end], &self.text[name_end..]);
        if name == b"x-sendfile" || name == b"x-accel-redirect" {
            self.names_file = true;
            return Ok(true);
        }
        if name == b"content-length" {
            let length = parse_length(value)
                .ok_or_else(|| PyValueError::new_err(format!("invalid Content-Length {}", value.escape_ascii())))?;
            // RFC 9110 §8.6 forbids it there; some frameworks add a zero to everything.
            if self.status == 204 {
                return Ok(false);
            }
            return match self.content_length.replace(length) {
                None => Ok(true),
                Some(earlier) if earlier == length => Ok(false),
                Some(_) => Err(PyValueError::new_err("two different values of Content-Length")),
            };
        }
        let Some(index) = HOP_BY_HOP.iter().position(|hop| hop.as_bytes() == name) else { return Ok(true) };
        if DROPPED.fetch_or(1 << index, Ordering::Relaxed) & 1 << index == 0 {
            self.newly_dropped |= 1 << index;
        }
        Ok(false)
    }

    fn push(&mut self, name: &[u8], value: &[u8]) {
        self.text.extend_from_slice(name);
        let name_end = self.text.len() as u32;
        self.text.extend_from_slice(value);
        self.ends.push((name_end, self.text.len() as u32));
    }
}

/// `"200 OK"`: three digits, then nothing or a space and a reason. The reason is for the eyes of HTTP/1.1's readers
/// only; the front writes the registered one.
fn parse_status(status: &Bound<'_, PyAny>) -> PyResult<u16> {
    let mut text = Vec::with_capacity(16);
    append_latin1(&mut text, status, "the status")?;
    let invalid = || PyValueError::new_err(format!("invalid status {status:?}, expected one like '200 OK'"));
    if text.iter().any(|&byte| is_control(byte)) || text.get(3).is_some_and(|&byte| byte != b' ') {
        return Err(invalid());
    }
    match *text.as_slice() {
        [a @ b'2'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => {
            Ok(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
        }
        [b'1', ..] => Err(PyValueError::new_err(format!(
            "{status:?} is an informational status; use environ['wsgi.early_hints'] to send hints"
        ))),
        _ => Err(invalid()),
    }
}

/// Appends a native string, one byte per character.
fn append_latin1(into: &mut Vec<u8>, value: &Bound<'_, PyAny>, what: &str) -> PyResult<()> {
    let Ok(string) = value.cast::<PyString>() else {
        return Err(PyTypeError::new_err(format!("{what} must be a str, not {}", value.get_type().name()?)));
    };
    let outside = || PyValueError::new_err(format!("{what} has a character outside Latin-1: {value:?}"));
    let text = string.to_str().map_err(|_| outside())?;
    if text.is_ascii() {
        into.extend_from_slice(text.as_bytes());
        return Ok(());
    }
    for character in text.chars() {
        into.push(u8::try_from(character).map_err(|_| outside())?);
    }
    Ok(())
}
