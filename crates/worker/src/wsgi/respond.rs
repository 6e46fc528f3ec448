//! From what the application returned to a response.

use super::exchange::{Exchange, Failure};
use super::file_wrapper::FileWrapper;
use monoceros_wire::DATA_CHUNK_MAX;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyString, PyTuple};

/// Sends the body the application returned. `close()` is the caller's duty.
pub(super) fn respond(exchange: &Bound<'_, Exchange>, body: &Bound<'_, PyAny>) -> Result<(), Failure> {
    if let Ok(list) = body.cast_exact::<PyList>() {
        return match list.len() {
            0 => exchange.borrow_mut().send(body.py(), &[], true),
            1 => send_only(exchange, &list.get_item(0)?),
            _ => send_pieces(exchange, list.to_tuple().as_borrowed()),
        };
    }
    if let Ok(tuple) = body.cast_exact::<PyTuple>() {
        return match tuple.len() {
            0 => exchange.borrow_mut().send(body.py(), &[], true),
            1 => send_only(exchange, &tuple.get_item(0)?),
            _ => send_pieces(exchange, tuple.as_borrowed()),
        };
    }
    if body.is_instance_of::<PyBytes>() || body.is_instance_of::<PyString>() || body.is_instance_of::<PyByteArray>() {
        let name = body.get_type().name()?;
        return Err(PyTypeError::new_err(format!("the application returned {name}, not an iterable of bytes")).into());
    }
    if let Ok(wrapper) = body.cast_exact::<FileWrapper>()
        && let Some(file) = wrapper.get().file(body.py())?
        && exchange.borrow_mut().send_file(body.py(), file)?
    {
        return Ok(());
    }
    stream(exchange, body)
}

/// The common case: the whole body is one piece, and the response one frame.
fn send_only(exchange: &Bound<'_, Exchange>, piece: &Bound<'_, PyAny>) -> Result<(), Failure> {
    exchange.borrow_mut().send(piece.py(), bytes_of(piece)?, true)
}

/// Several pieces that are all there: their total length is known, and small ones leave together.
fn send_pieces(exchange: &Bound<'_, Exchange>, pieces: Borrowed<'_, '_, PyTuple>) -> Result<(), Failure> {
    let py = pieces.py();
    let mut total = 0;
    for piece in pieces.iter_borrowed() {
        total += bytes_of(&piece)?.len();
    }
    let mut exchange = exchange.borrow_mut();
    if total <= DATA_CHUNK_MAX {
        let mut joined = Vec::with_capacity(total);
        for piece in pieces.iter_borrowed() {
            joined.extend_from_slice(bytes_of(&piece)?);
        }
        return exchange.send(py, &joined, true);
    }
    if !exchange.is_bodyless()
        && let Some(head) = exchange.head_mut()
    {
        head.announce(total as u64);
    }
    for piece in pieces.iter_borrowed() {
        exchange.send(py, bytes_of(&piece)?, false)?;
    }
    finish(py, &mut exchange)
}

/// Any other iterable: each piece leaves before the next is asked for, as PEP 3333 demands.
fn stream(exchange: &Bound<'_, Exchange>, body: &Bound<'_, PyAny>) -> Result<(), Failure> {
    let py = body.py();
    // PEP 3333 allows to conclude the length when there is only one piece; many frameworks return such objects.
    let is_single = has_one_piece(exchange, body)?;
    for piece in body.try_iter()? {
        let piece = piece?;
        let bytes = bytes_of(&piece)?;
        let mut exchange = exchange.borrow_mut();
        let had_ended = exchange.is_ended();
        if !bytes.is_empty() {
            exchange.send(py, bytes, is_single)?;
        }
        if had_ended {
            // The rest of the iteration only lets the application finish; one that wants to go on is stopped.
            if bytes.is_empty() {
                continue;
            }
            break;
        }
        // A HEAD request needs no more of the body than it takes to get the head.
        if exchange.is_bodyless() && exchange.head_mut().is_some() {
            break;
        }
        if !exchange.is_ended() && exchange.is_cancelled() {
            return Err(Failure::Cancelled);
        }
    }
    finish(py, &mut exchange.borrow_mut())
}

fn has_one_piece(exchange: &Bound<'_, Exchange>, body: &Bound<'_, PyAny>) -> PyResult<bool> {
    let announces = exchange.borrow_mut().head_mut().is_some_and(|head| head.content_length.is_some());
    Ok(!announces && body.hasattr(intern!(body.py(), "__len__"))? && body.len()? == 1)
}

fn finish(py: Python<'_>, exchange: &mut Exchange) -> Result<(), Failure> {
    if exchange.is_ended() { Ok(()) } else { exchange.send(py, &[], true) }
}

fn bytes_of<'a>(piece: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    if let Ok(bytes) = piece.cast::<PyBytes>() {
        return Ok(bytes.as_bytes());
    }
    let name = piece.get_type().name()?;
    Err(PyTypeError::new_err(format!("the application's iterable yielded {name}, not bytes")))
}
