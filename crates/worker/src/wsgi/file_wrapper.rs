//! `wsgi.file_wrapper`: a file that the front sends by itself, so that the worker is free at once.

use crate::sys;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use rustix::fs::FileType;
use std::os::fd::{OwnedFd, RawFd};

/// Wraps a file-like object: `wsgi.file_wrapper(filelike, block_size=8192)`. Returned as the iterable of a response, a
/// real file goes to the front as a descriptor; anything else is iterated in blocks.
#[pyclass(module = "monoceros_worker", frozen)]
pub(crate) struct FileWrapper {
    #[pyo3(get)]
    filelike: Py<PyAny>,
    #[pyo3(get)]
    block_size: usize,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, block_size = 8192))]
    fn new(filelike: Py<PyAny>, block_size: usize) -> Self {
        Self { filelike, block_size: block_size.max(1) }
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let block = self.filelike.bind(py).call_method1(intern!(py, "read"), (self.block_size,))?;
        Ok(block.is_truthy()?.then_some(block))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.filelike.bind(py).getattr_opt(intern!(py, "close"))? {
            Some(close) => close.call0().map(|_| ()),
            None => Ok(()),
        }
    }
}

/// A file the front can send: where it starts and how much there is.
pub(super) struct FileBody {
    pub(super) descriptor: OwnedFd,
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl FileWrapper {
    /// The file behind the wrapper, if its bytes are what reading it would give. `GzipFile` and the like also have a
    /// `fileno()`, that of their compressed file, so only the plain classes of `io` count, and the one level of
    /// wrapping that Django's `File` and `tempfile` put around them. Any other object with a `file` may read from it
    /// what it likes.
    pub(super) fn file(&self, py: Python<'_>) -> PyResult<Option<FileBody>> {
        let filelike = self.filelike.bind(py);
        let inner = if passes_reads_on(filelike)? { filelike.getattr(intern!(py, "file"))? } else { filelike.clone() };
        if !is_plain_file(&inner)? {
            return Ok(None);
        }
        // What was written to the file and is still in Python's buffer is not yet in the file.
        inner.call_method0(intern!(py, "flush"))?;
        let Ok(number) = inner.call_method0(intern!(py, "fileno")).and_then(|number| number.extract::<RawFd>()) else {
            return Ok(None);
        };
        let Ok(offset) = inner.call_method0(intern!(py, "tell")).and_then(|offset| offset.extract::<u64>()) else {
            return Ok(None);
        };
        let Ok(descriptor) = sys::duplicate(number) else { return Ok(None) };
        let Ok(facts) = rustix::fs::fstat(&descriptor) else { return Ok(None) };
        if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let length = u64::try_from(facts.st_size).unwrap_or(0).saturating_sub(offset);
        Ok(Some(FileBody { descriptor, offset, length }))
    }
}

static FILE_IO: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static TEMPORARY_FILE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static BUFFERED_READER: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static BUFFERED_RANDOM: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// Whether the object reads from its `file` and changes nothing: what `tempfile.NamedTemporaryFile` returns, or a
/// `File` of Django with Django's own methods.
fn passes_reads_on(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = object.py();
    if object.is_exact_instance(TEMPORARY_FILE.import(py, "tempfile", "_TemporaryFileWrapper")?) {
        return Ok(true);
    }
    // Where nobody has imported Django there is no such object.
    let modules = py.import("sys")?.getattr(intern!(py, "modules"))?.cast_into::<PyDict>()?;
    let Some(django) = modules.get_item(intern!(py, "django.core.files.base"))? else { return Ok(false) };
    let file = django.getattr(intern!(py, "File"))?;
    if !object.is_instance(&file)? {
        return Ok(false);
    }
    let kind = object.get_type();
    for method in [intern!(py, "read"), intern!(py, "chunks"), intern!(py, "__iter__")] {
        if !kind.getattr(method)?.is(file.getattr(method)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the object is what `open(path, "rb")` returns (buffered or not, also for update).
fn is_plain_file(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = object.py();
    let file_io = FILE_IO.import(py, "io", "FileIO")?;
    if object.is_exact_instance(file_io) {
        return Ok(true);
    }
    if object.is_exact_instance(BUFFERED_READER.import(py, "io", "BufferedReader")?)
        || object.is_exact_instance(BUFFERED_RANDOM.import(py, "io", "BufferedRandom")?)
    {
        return Ok(object.getattr(intern!(py, "raw"))?.is_exact_instance(file_io));
    }
    Ok(false)
}
