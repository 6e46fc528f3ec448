//! Header fields as applications give them: checked, lower-cased, encoded for the link.

use crate::fields::{is_control, is_token, parse_length, trim};
use bytes::BytesMut;
use monoceros_wire::message::encode_response;
use monoceros_wire::{HEAD_MAX, HEADERS_MAX};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

/// A head ready to be sent.
pub(super) struct Head {
    /// Payload of the frame.
    pub(super) encoded: BytesMut,
    /// The value of `Content-Length`, if there is one.
    pub(super) content_length: Option<u64>,
}

/// What a head is for decides which fields the application may set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Response,
    /// The fields of the handshake itself are the front's.
    Acceptance,
}

impl Purpose {
    /// Fields of the connection, not of the message (RFC 9110 section 7.6.1): the front decides about them. A name
    /// that begins with a colon is a pseudo-header of HTTP/2.
    fn drops(self, name: &[u8]) -> bool {
        match name {
            [b':', ..] | b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
                true
            }
            b"sec-websocket-accept" | b"sec-websocket-extensions" | b"sec-websocket-protocol" => {
                self == Self::Acceptance
            }
            _ => false,
        }
    }
}

type Pair<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>);

/// Encodes a head from an iterable of `[name, value]` pairs of bytes and `extra` pairs before them.
pub(super) fn encode_head(
    py: Python<'_>,
    purpose: Purpose,
    status: u16,
    extra: &[(&[u8], &[u8])],
    headers: Option<&Bound<'_, PyAny>>,
) -> PyResult<Head> {
    let mut content_length = None;
    let mut pairs: Vec<Pair<'_>> = Vec::with_capacity(16);
    if let Some(headers) = headers {
        for item in headers.try_iter()? {
            let (name, value) = split_pair(&item?)?;
            let name = checked_name(py, name)?;
            if purpose.drops(name.as_bytes()) {
                continue;
            }
            let value = checked_value(py, &name, value)?;
            if name.as_bytes() == b"content-length" {
                let length = checked_length(value.as_bytes())?;
                match content_length.replace(length) {
                    None => {}
                    Some(earlier) if earlier == length => continue,
                    Some(_) => return Err(PyValueError::new_err("two different values of Content-Length")),
                }
            }
            pairs.push((name, value));
        }
    }
    let mut encoded = BytesMut::with_capacity(256);
    let own = extra.iter().copied();
    let given = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    encode_response(&mut encoded, status, own.chain(given))
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    if pairs.len() + extra.len() > HEADERS_MAX || encoded.len() > HEAD_MAX {
        return Err(PyValueError::new_err(format!(
            "the header fields exceed {HEADERS_MAX} fields or {HEAD_MAX} bytes: {} fields, {} bytes",
            pairs.len(),
            encoded.len()
        )));
    }
    Ok(Head { encoded, content_length })
}

fn split_pair<'py>(item: &Bound<'py, PyAny>) -> PyResult<Pair<'py>> {
    let (name, value) = if let Ok(pair) = item.cast::<PyTuple>() {
        (pair.get_item(0)?, pair.get_item(1)?)
    } else {
        (item.get_item(0)?, item.get_item(1)?)
    };
    let name = name.cast_into::<PyBytes>().map_err(|error| not_bytes("name", &error.into_inner()))?;
    let value = value.cast_into::<PyBytes>().map_err(|error| not_bytes("value", &error.into_inner()))?;
    Ok((name, value))
}

fn not_bytes(what: &str, value: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("a header {what} must be bytes, not {}: {value}", value.get_type()))
}

/// The name in lower case. RFC 9110 section 5.6.2: a token.
fn checked_name<'py>(py: Python<'py>, name: Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = name.as_bytes();
    let pseudo = usize::from(bytes.first() == Some(&b':'));
    if bytes.len() <= pseudo || !bytes[pseudo..].iter().copied().all(is_token) {
        return Err(PyValueError::new_err(format!("invalid header name {:?}", String::from_utf8_lossy(bytes))));
    }
    if bytes.iter().any(u8::is_ascii_uppercase) {
        return Ok(PyBytes::new(py, &bytes.to_ascii_lowercase()));
    }
    Ok(name)
}

/// The value without whitespace around it. RFC 9110 section 5.5: no control characters.
fn checked_value<'py>(
    py: Python<'py>,
    name: &Bound<'py, PyBytes>,
    value: Bound<'py, PyBytes>,
) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = value.as_bytes();
    if bytes.iter().copied().any(is_control) {
        return Err(PyValueError::new_err(format!(
            "the value of header {} has a control character in it: \"{}\"",
            String::from_utf8_lossy(name.as_bytes()),
            bytes.escape_ascii()
        )));
    }
    let trimmed = trim(bytes);
    if trimmed.len() < bytes.len() {
        return Ok(PyBytes::new(py, trimmed));
    }
    Ok(value)
}

fn checked_length(value: &[u8]) -> PyResult<u64> {
    parse_length(value).ok_or_else(|| PyValueError::new_err(format!("invalid Content-Length {}", value.escape_ascii())))
}
