//! TODO

pub(crate) fn serve(
    _py: pyo3::Python<'_>,
    _app: pyo3::Bound<'_, pyo3::PyAny>,
    _socket: std::os::fd::OwnedFd,
    _page: monoceros_wire::page::Page,
    _settings: &monoceros_wire::zygote::WorkerSettings,
) -> pyo3::PyResult<i32> {
    Ok(0)
}
