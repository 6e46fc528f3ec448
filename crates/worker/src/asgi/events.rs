//! Reading the messages that an application passes to `send`.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView, PyString};

/// One message of the application. A key whose value is `None` counts as absent.
pub(super) struct Event<'py>(Bound<'py, PyDict>);

impl<'py> Event<'py> {
    pub(super) fn new(message: &Bound<'py, PyAny>) -> PyResult<Self> {
        match message.cast::<PyDict>() {
            Ok(dict) => Ok(Self(dict.clone())),
            Err(_) => Err(PyTypeError::new_err(format!("send() takes a dict, not {}", message.get_type()))),
        }
    }

    pub(super) fn kind(&self) -> PyResult<Bound<'py, PyString>> {
        let kind = self.0.get_item(intern!(self.0.py(), "type"))?;
        let kind = kind.ok_or_else(|| PyValueError::new_err("the message passed to send() has no \"type\""))?;
        kind.cast_into().map_err(|_| PyTypeError::new_err("the \"type\" of a message must be a str"))
    }

    pub(super) fn get(&self, key: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.0.get_item(key)?.filter(|value| !value.is_none()))
    }

    pub(super) fn flag(&self, key: &Bound<'py, PyString>) -> PyResult<bool> {
        self.get(key)?.map_or(Ok(false), |value| value.is_truthy())
    }

    /// A body: `bytes`, or something with the same content (`bytearray`, `memoryview`).
    pub(super) fn bytes(&self, key: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let Some(value) = self.get(key)? else { return Ok(None) };
        let value = match value.cast_into::<PyBytes>() {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(error) => error.into_inner(),
        };
        if value.is_instance_of::<PyByteArray>() || value.is_instance_of::<PyMemoryView>() {
            let bytes = value.py().get_type::<PyBytes>().call1((value,))?;
            return Ok(Some(bytes.cast_into()?));
        }
        Err(PyTypeError::new_err(format!("\"{key}\" must be bytes, not {}", value.get_type())))
    }

    pub(super) fn text(&self, key: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyString>>> {
        let Some(value) = self.get(key)? else { return Ok(None) };
        value.cast_into().map(Some).map_err(|_| PyTypeError::new_err(format!("\"{key}\" must be a str")))
    }

    /// A number within `range`, or `default` where the key is absent.
    pub(super) fn number(
        &self,
        key: &Bound<'py, PyString>,
        default: Option<u16>,
        range: std::ops::RangeInclusive<u16>,
    ) -> PyResult<u16> {
        let number = match (self.get(key)?, default) {
            (Some(value), _) => value.extract::<u16>().ok(),
            (None, Some(default)) => Some(default),
            (None, None) => return Err(PyValueError::new_err(format!("the message has no \"{key}\""))),
        };
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            PyValueError::new_err(format!("\"{key}\" must be an int from {} to {}", range.start(), range.end()))
        })
    }
}
