//! The scope of a request or WebSocket, built from its head.

use super::stream::lock;
use monoceros_wire::message::{Fields, HttpVersion, Protocol, Request, TlsFacts, certificates};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use std::sync::Mutex;

/// Version of the HTTP message format. Since 2.4 `send` raises `OSError` after a disconnect, and ours does; but of a
/// server that says so, frameworks expect to learn nothing else (Starlette then no longer listens for `http.disconnect`
/// while it streams), and a stream that has nothing to send would outlive its client.
const HTTP_VERSION: &str = "2.3";
/// Version of the WebSocket message format: `websocket.disconnect` has a reason (2.5).
const WEBSOCKET_VERSION: &str = "2.5";

/// Makes scopes. `path` is the whole path as received, decoded; it contains `root_path`.
pub(super) struct ScopeFactory {
    http_versions: Py<PyDict>,
    websocket_versions: Py<PyDict>,
    root_path: Py<PyString>,
    http_extensions: Py<PyDict>,
    websocket_extensions: Py<PyDict>,
    state: Py<PyDict>,
    /// The listener of the last request: there are few, and mostly one.
    server: Mutex<Option<LastServer>>,
}

struct LastServer {
    address: Box<[u8]>,
    port: u16,
    value: Py<PyTuple>,
}

impl ScopeFactory {
    /// `state` is the lifespan's: each scope gets a shallow copy of it.
    pub(super) fn new(py: Python<'_>, root_path: &str, state: Py<PyDict>) -> PyResult<Self> {
        let extensions = |names: &[&str]| -> PyResult<Py<PyDict>> {
            let extensions = PyDict::new(py);
            for name in names {
                extensions.set_item(name, PyDict::new(py))?;
            }
            Ok(extensions.unbind())
        };
        Ok(Self {
            http_versions: versions(py, HTTP_VERSION)?.unbind(),
            websocket_versions: versions(py, WEBSOCKET_VERSION)?.unbind(),
            root_path: PyString::new(py, root_path).unbind(),
            http_extensions: extensions(&[
                "http.response.pathsend",
                "http.response.early_hint",
                "http.response.trailers",
            ])?,
            websocket_extensions: extensions(&["websocket.http.response"])?,
            state,
            server: Mutex::new(None),
        })
    }

    pub(super) fn build<'py>(&self, py: Python<'py>, request: &Request<'_>) -> PyResult<Bound<'py, PyDict>> {
        let facts = &request.facts;
        let is_http = facts.protocol == Protocol::Http;
        let scope = PyDict::new(py);
        scope.set_item(intern!(py, "type"), if is_http { intern!(py, "http") } else { intern!(py, "websocket") })?;
        let versions = if is_http { &self.http_versions } else { &self.websocket_versions };
        scope.set_item(intern!(py, "asgi"), versions.bind(py).copy()?)?;
        scope.set_item(
            intern!(py, "http_version"),
            match facts.version {
                HttpVersion::Http10 => intern!(py, "1.0"),
                HttpVersion::Http11 => intern!(py, "1.1"),
                HttpVersion::Http2 => intern!(py, "2"),
            },
        )?;
        scope.set_item(
            intern!(py, "scheme"),
            match (is_http, facts.is_https) {
                (true, false) => intern!(py, "http"),
                (true, true) => intern!(py, "https"),
                (false, false) => intern!(py, "ws"),
                (false, true) => intern!(py, "wss"),
            },
        )?;
        scope.set_item(intern!(py, "path"), decode_path(py, facts.path))?;
        scope.set_item(intern!(py, "raw_path"), PyBytes::new(py, facts.path))?;
        scope.set_item(intern!(py, "query_string"), PyBytes::new(py, facts.query))?;
        scope.set_item(intern!(py, "root_path"), &self.root_path)?;
        scope.set_item(intern!(py, "headers"), headers(py, request.fields.clone())?)?;
        scope.set_item(intern!(py, "client"), client(py, facts.client_address, facts.client_port)?)?;
        scope.set_item(intern!(py, "server"), self.server(py, facts.server_address, facts.server_port)?)?;
        scope.set_item(intern!(py, "state"), self.state.bind(py).copy()?)?;
        let extensions = if is_http { &self.http_extensions } else { &self.websocket_extensions };
        let extensions = extensions.bind(py).copy()?;
        if let Some(tls) = facts.tls {
            extensions.set_item(intern!(py, "tls"), tls_extension(py, tls)?)?;
        }
        scope.set_item(intern!(py, "extensions"), extensions)?;
        if is_http {
            scope.set_item(intern!(py, "method"), method(py, facts.method))?;
        } else {
            scope.set_item(intern!(py, "subprotocols"), subprotocols(py, request.fields.clone())?)?;
        }
        Ok(scope)
    }

    /// `(host, port)` of the listener, or `(path, None)` for a Unix socket.
    fn server<'py>(&self, py: Python<'py>, address: &[u8], port: u16) -> PyResult<Bound<'py, PyTuple>> {
        if let Some(last) = &*lock(&self.server)
            && *last.address == *address
            && last.port == port
        {
            return Ok(last.value.bind(py).clone());
        }
        let is_unix = address.first() == Some(&b'/') || address.first() == Some(&b'@');
        let value = (text(py, address), (!is_unix).then_some(port)).into_pyobject(py)?;
        let last = LastServer { address: address.into(), port, value: value.clone().unbind() };
        let before = lock(&self.server).replace(last);
        drop(before);
        Ok(value)
    }
}

/// The `asgi` entry of a scope.
pub(super) fn versions<'py>(py: Python<'py>, spec_version: &str) -> PyResult<Bound<'py, PyDict>> {
    let versions = PyDict::new(py);
    versions.set_item("version", "3.0")?;
    versions.set_item("spec_version", spec_version)?;
    Ok(versions)
}

fn headers<'py>(py: Python<'py>, fields: Fields<'_>) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for (name, value) in fields {
        list.append((PyBytes::new(py, name), PyBytes::new(py, value)))?;
    }
    Ok(list)
}

fn client<'py>(py: Python<'py>, address: &[u8], port: u16) -> PyResult<Option<Bound<'py, PyTuple>>> {
    if address.is_empty() {
        return Ok(None);
    }
    (text(py, address), port).into_pyobject(py).map(Some)
}

fn method<'py>(py: Python<'py>, method: &[u8]) -> Bound<'py, PyString> {
    match method {
        b"GET" => intern!(py, "GET").clone(),
        b"POST" => intern!(py, "POST").clone(),
        b"HEAD" => intern!(py, "HEAD").clone(),
        b"PUT" => intern!(py, "PUT").clone(),
        b"PATCH" => intern!(py, "PATCH").clone(),
        b"DELETE" => intern!(py, "DELETE").clone(),
        b"OPTIONS" => intern!(py, "OPTIONS").clone(),
        other => text(py, other),
    }
}

fn text<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    PyString::new(py, &String::from_utf8_lossy(bytes))
}

/// The path with its escapes decoded. Bytes that are no UTF-8 become U+FFFD: `raw_path` has them as they came.
fn decode_path<'py>(py: Python<'py>, raw: &[u8]) -> Bound<'py, PyString> {
    if memchr::memchr(b'%', raw).is_none() {
        return text(py, raw);
    }
    text(py, &percent_decode(raw))
}

/// Decodes `%XX`; a percent sign without two hexadecimal digits stays as it is.
fn percent_decode(raw: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        if let (b'%', Some(high), Some(low)) = (byte, digit(raw.get(at + 1)), digit(raw.get(at + 2))) {
            decoded.push((high << 4 | low) as u8);
            at += 3;
        } else {
            decoded.push(byte);
            at += 1;
        }
    }
    decoded
}

/// What the client offers in `Sec-WebSocket-Protocol`, in its order (RFC 6455 section 11.3.4).
fn subprotocols<'py>(py: Python<'py>, fields: Fields<'_>) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for (_, value) in fields.filter(|(name, _)| *name == b"sec-websocket-protocol") {
        for name in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|name| !name.is_empty()) {
            list.append(text(py, name))?;
        }
    }
    Ok(list)
}

/// ASGI TLS extension 0.2. Which certificate of the server was shown is not known here.
fn tls_extension<'py>(py: Python<'py>, tls: TlsFacts<'_>) -> PyResult<Bound<'py, PyDict>> {
    let chain = PyList::empty(py);
    let client = tls.client.filter(|client| !client.chain.is_empty());
    for certificate in client.iter().flat_map(|client| certificates(client.chain)) {
        chain.append(text(py, certificate))?;
    }
    let extension = PyDict::new(py);
    extension.set_item(intern!(py, "server_cert"), py.None())?;
    extension.set_item(intern!(py, "client_cert_chain"), chain)?;
    extension.set_item(intern!(py, "client_cert_name"), client.map(|client| text(py, client.subject)))?;
    extension.set_item(intern!(py, "client_cert_error"), py.None())?;
    extension.set_item(intern!(py, "tls_version"), tls.version)?;
    extension.set_item(intern!(py, "cipher_suite"), tls.cipher_suite)?;
    Ok(extension)
}
