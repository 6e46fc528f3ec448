//! What only raw calls can do: Python strings from Latin-1 bytes, writing to Python's buffers, and descriptors that
//! arrive as plain numbers.
#![expect(unsafe_code, reason = "PyUnicode_DecodeLatin1, partial buffers and raw descriptors have no safe wrapper")]

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A string with one character per byte, as PEP 3333 wants all of CGI's values.
pub(crate) fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    // SAFETY: the pointer and length describe a live slice (at most isize::MAX bytes), which is only read; the result
    // is a new reference to a string, or null with an exception set.
    unsafe {
        let text = ffi::PyUnicode_DecodeLatin1(bytes.as_ptr().cast(), bytes.len().cast_signed(), std::ptr::null());
        Ok(Bound::from_owned_ptr_or_err(py, text)?.cast_into_unchecked())
    }
}

/// Copies `bytes` to the start of a writable Python buffer, and leaves the rest of it alone.
pub(crate) fn write_start(_py: Python<'_>, buffer: &PyBuffer<u8>, bytes: &[u8]) -> PyResult<()> {
    if buffer.readonly() || !buffer.is_c_contiguous() || buffer.len_bytes() < bytes.len() {
        return Err(PyValueError::new_err("not a writable, contiguous buffer that is large enough"));
    }
    // SAFETY: the buffer is writable, contiguous and at least as long as `bytes`, it stays exported for this call, and
    // being attached keeps Python code from touching it meanwhile. `bytes` is ours, so the two do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.buf_ptr().cast::<u8>(), bytes.len()) };
    Ok(())
}

/// Another descriptor of the same open file, close-on-exec. `descriptor` belongs to a Python object that the caller
/// keeps alive; a number that is not open is an error.
pub(crate) fn duplicate(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: not -1, and borrowed only for this call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    Ok(rustix::io::fcntl_dupfd_cloexec(borrowed, 3)?)
}

/// The calling thread, as `threading.get_ident()` names it.
pub(crate) fn thread_ident(py: Python<'_>) -> PyResult<u64> {
    py.import("threading")?.call_method0("get_ident")?.extract()
}

/// Raises an exception in another thread, when it next runs Python code.
pub(crate) fn raise_in_thread(thread: u64, exception: &Bound<'_, PyAny>) {
    // SAFETY: being attached is all it needs; the exception is borrowed and kept by the callee.
    unsafe { ffi::PyThreadState_SetAsyncExc(thread.cast_signed(), exception.as_ptr()) };
}

/// Takes back what [`raise_in_thread`] has left with a thread that did not come to it. The caller is attached.
pub(crate) fn withdraw_exception(thread: u64) {
    // SAFETY: as above; null means "none".
    unsafe { ffi::PyThreadState_SetAsyncExc(thread.cast_signed(), std::ptr::null_mut()) };
}

/// Takes a descriptor over from Python code, which gave its number away on purpose.
pub(crate) fn adopt(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: not -1; the caller of `run_zygote` or `run_worker` hands ownership over.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    rustix::io::fcntl_setfd(&owned, rustix::io::FdFlags::CLOEXEC)?;
    Ok(owned)
}
