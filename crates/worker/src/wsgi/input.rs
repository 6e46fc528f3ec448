//! `wsgi.input`: real Python `io` objects, so that every mix of `read`, `readline` and iteration is right.

use crate::sys;
use monoceros_wire::message::{BodySource, Request};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Bytes the buffered reader over a body file asks for at once.
const BUFFER: usize = 64 << 10;

static BYTES_IO: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static BUFFERED_READER: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// The input of one request. Takes the body's file out of the frame.
pub(super) fn open<'py>(py: Python<'py>, request: &Request<'_>, file: Option<OwnedFd>) -> PyResult<Bound<'py, PyAny>> {
    match (request.facts.body, file) {
        (BodySource::File { length }, Some(file)) => {
            let raw = Bound::new(py, BodyFile { file: Some(file), length, position: 0 })?;
            BUFFERED_READER.import(py, "io", "BufferedReader")?.call1((raw, BUFFER))
        }
        (BodySource::Inline, _) => BYTES_IO.import(py, "io", "BytesIO")?.call1((PyBytes::new(py, &request.body),)),
        _ => BYTES_IO.import(py, "io", "BytesIO")?.call0(),
    }
}

/// The file the front has collected a long body in, as a raw stream. It reads by position: the offset of the open file
/// is shared with the front and with any worker that had the request before. It ends where the body ends.
#[pyclass(module = "monoceros_worker")]
pub(super) struct BodyFile {
    /// `None` once closed.
    file: Option<OwnedFd>,
    length: u64,
    position: u64,
}

impl BodyFile {
    fn open_file(&self) -> PyResult<&OwnedFd> {
        self.file.as_ref().ok_or_else(|| PyValueError::new_err("I/O operation on closed file."))
    }

    /// Reads up to `wanted` bytes; fewer only at the end.
    fn take(&mut self, py: Python<'_>, wanted: u64) -> PyResult<Vec<u8>> {
        let file = self.open_file()?;
        let start = self.position;
        let mut bytes = vec![0; wanted.min(self.length.saturating_sub(start)) as usize];
        let filled = py.detach(|| read_at(file, &mut bytes, start))?;
        bytes.truncate(filled);
        self.position += filled as u64;
        Ok(bytes)
    }
}

fn read_at(file: &OwnedFd, bytes: &mut [u8], start: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::io::pread(file, &mut bytes[filled..], start + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}

/// The methods `io.BufferedReader` expects of a raw stream.
#[pymethods]
impl BodyFile {
    fn readinto(&mut self, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let py = buffer.py();
        let buffer = PyBuffer::<u8>::get(buffer)?;
        let bytes = self.take(py, buffer.len_bytes() as u64)?;
        sys::write_start(py, &buffer, &bytes)?;
        Ok(bytes.len())
    }

    #[pyo3(signature = (size = -1))]
    fn read<'py>(&mut self, py: Python<'py>, size: i64) -> PyResult<Bound<'py, PyBytes>> {
        let wanted = u64::try_from(size).unwrap_or(u64::MAX);
        Ok(PyBytes::new(py, &self.take(py, wanted)?))
    }

    fn readall<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.read(py, -1)
    }

    #[pyo3(signature = (offset, whence = 0))]
    fn seek(&mut self, offset: i64, whence: i32) -> PyResult<u64> {
        self.open_file()?;
        let base = match whence {
            0 => 0,
            1 => self.position,
            2 => self.length,
            _ => return Err(PyValueError::new_err("whence must be 0, 1 or 2")),
        };
        self.position =
            base.checked_add_signed(offset).ok_or_else(|| PyValueError::new_err("a position before the start"))?;
        Ok(self.position)
    }

    fn tell(&self) -> PyResult<u64> {
        self.open_file()?;
        Ok(self.position)
    }

    fn fileno(&self) -> PyResult<i32> {
        Ok(self.open_file()?.as_raw_fd())
    }

    fn close(&mut self) {
        self.file = None;
    }

    #[staticmethod]
    fn flush() {}

    #[getter]
    fn closed(&self) -> bool {
        self.file.is_none()
    }

    #[staticmethod]
    fn readable() -> bool {
        true
    }

    #[staticmethod]
    fn writable() -> bool {
        false
    }

    #[staticmethod]
    fn seekable() -> bool {
        true
    }

    #[staticmethod]
    fn isatty() -> bool {
        false
    }
}
