//! The environ of a request (PEP 3333): a copy of a template dictionary, completed from the request's head.

use super::FileWrapper;
use super::input;
use crate::sys::latin1;
use monoceros_wire::message::certificates;
use monoceros_wire::message::{BodySource, HttpVersion, Request};
use monoceros_wire::zygote::WorkerSettings;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use std::collections::HashMap;
use std::os::fd::OwnedFd;

/// Header names a thread remembers the environ key of. Clients may invent names without end.
const KEYS_MAX: usize = 512;
/// Longer names are rare and not remembered.
const KEY_LENGTH_MAX: usize = 64;

/// Builds environs for one thread.
pub(super) struct Environs {
    template: Py<PyDict>,
    /// The prefix as it appears in a decoded path.
    root_path: Vec<u8>,
    keys: HashMap<Box<[u8]>, Py<PyString>>,
    listener: Option<ListenerNames>,
    scratch: Vec<u8>,
}

/// The names of the listener the last request came in by; nearly always the same one.
struct ListenerNames {
    address: Box<[u8]>,
    port: u16,
    name: Py<PyString>,
    port_text: Py<PyString>,
}

/// What the environ says in `CONTENT_LENGTH`, or nothing: the length of the body as it is, whatever was announced.
fn body_length(request: &Request<'_>) -> Option<u64> {
    match request.facts.body {
        BodySource::Inline => Some(request.body.len() as u64),
        BodySource::File { length } => Some(length),
        BodySource::Empty | BodySource::Stream => None,
    }
}

impl Environs {
    pub(super) fn new(py: Python<'_>, settings: &WorkerSettings) -> PyResult<Self> {
        let template = PyDict::new(py);
        let root_path = settings.root_path.trim_end_matches('/').as_bytes().to_vec();
        template.set_item("REQUEST_METHOD", "GET")?;
        template.set_item("SCRIPT_NAME", latin1(py, &root_path)?)?;
        template.set_item("SERVER_PROTOCOL", "HTTP/1.1")?;
        template.set_item("SERVER_SOFTWARE", &settings.server_software)?;
        template.set_item("wsgi.version", PyTuple::new(py, [1, 0])?)?;
        template.set_item("wsgi.url_scheme", "http")?;
        template.set_item("wsgi.errors", py.import("sys")?.getattr("stderr")?)?;
        template.set_item("wsgi.multithread", settings.threads > 1)?;
        template.set_item("wsgi.multiprocess", settings.multiprocess)?;
        template.set_item("wsgi.run_once", false)?;
        template.set_item("wsgi.input_terminated", true)?;
        template.set_item("wsgi.file_wrapper", py.get_type::<FileWrapper>())?;
        let template = template.unbind();
        Ok(Self { template, root_path, keys: HashMap::new(), listener: None, scratch: Vec::new() })
    }

    /// The environ of one request; `file` is the body when it is a file.
    pub(super) fn build<'py>(
        &mut self,
        py: Python<'py>,
        request: &Request<'_>,
        file: Option<OwnedFd>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let facts = &request.facts;
        let environ = self.template.bind(py).copy()?;
        if facts.method != b"GET" {
            environ.set_item(intern!(py, "REQUEST_METHOD"), latin1(py, facts.method)?)?;
        }
        self.set_target(&environ, facts.path, facts.query)?;
        match facts.version {
            HttpVersion::Http11 => {}
            HttpVersion::Http10 => environ.set_item(intern!(py, "SERVER_PROTOCOL"), intern!(py, "HTTP/1.0"))?,
            HttpVersion::Http2 => environ.set_item(intern!(py, "SERVER_PROTOCOL"), intern!(py, "HTTP/2"))?,
        }
        if facts.is_https {
            environ.set_item(intern!(py, "wsgi.url_scheme"), intern!(py, "https"))?;
            environ.set_item(intern!(py, "HTTPS"), intern!(py, "on"))?;
        }
        if let Some(client) = facts.tls.and_then(|tls| tls.client) {
            let verified = if client.chain.is_empty() { intern!(py, "NONE") } else { intern!(py, "SUCCESS") };
            environ.set_item(intern!(py, "SSL_CLIENT_VERIFY"), verified)?;
            if let Some(own) = certificates(client.chain).next() {
                environ.set_item(intern!(py, "SSL_CLIENT_S_DN"), latin1(py, client.subject)?)?;
                environ.set_item(intern!(py, "SSL_CLIENT_CERT"), latin1(py, own)?)?;
            }
        }
        environ.set_item(intern!(py, "REMOTE_ADDR"), latin1(py, facts.client_address)?)?;
        if !facts.client_address.is_empty() {
            environ.set_item(intern!(py, "REMOTE_PORT"), facts.client_port.to_string())?;
        }
        self.set_fields(&environ, request)?;
        self.set_server(&environ, request)?;
        if let Some(length) = body_length(request) {
            environ.set_item(intern!(py, "CONTENT_LENGTH"), length.to_string())?;
        }
        environ.set_item(intern!(py, "wsgi.input"), input::open(py, request, file)?)?;
        Ok(environ)
    }

    /// `PATH_INFO`, `QUERY_STRING` and the target as received. A path below `root_path` loses that prefix; any other
    /// path stays whole, because a proxy before us may have removed the prefix already (as in uvicorn).
    fn set_target(&mut self, environ: &Bound<'_, PyDict>, path: &[u8], query: &[u8]) -> PyResult<()> {
        let py = environ.py();
        self.scratch.clear();
        let decoded = if memchr::memchr(b'%', path).is_some() {
            percent_decode(path, &mut self.scratch);
            &self.scratch[..]
        } else {
            path
        };
        let path_info = match decoded.strip_prefix(&self.root_path[..]) {
            Some(rest) if rest.is_empty() || rest.starts_with(b"/") => rest,
            _ => decoded,
        };
        environ.set_item(intern!(py, "PATH_INFO"), latin1(py, path_info)?)?;
        environ.set_item(intern!(py, "QUERY_STRING"), latin1(py, query)?)?;
        let target = if query.is_empty() { latin1(py, path)? } else { latin1(py, &[path, b"?", query].concat())? };
        environ.set_item(intern!(py, "RAW_URI"), &target)?;
        environ.set_item(intern!(py, "REQUEST_URI"), target)
    }

    fn set_fields(&mut self, environ: &Bound<'_, PyDict>, request: &Request<'_>) -> PyResult<()> {
        let py = environ.py();
        let mut expected = environ.len();
        for (name, value) in request.fields.clone() {
            if let Some(key) = self.key(py, name)? {
                environ.set_item(key, latin1(py, value)?)?;
                expected += 1;
            }
        }
        if environ.len() < expected { self.join_repeated(environ, request) } else { Ok(()) }
    }

    /// Some key was set twice: RFC 9110 §5.3 says how to join them, RFC 6265 §5.4 makes an exception for cookies.
    fn join_repeated(&mut self, environ: &Bound<'_, PyDict>, request: &Request<'_>) -> PyResult<()> {
        let py = environ.py();
        let mut joined: HashMap<&[u8], (usize, Vec<u8>)> = HashMap::new();
        for (name, value) in request.fields.clone() {
            let (count, text) = joined.entry(name).or_default();
            if *count > 0 {
                text.extend_from_slice(if name == b"cookie" { b"; " } else { b"," });
            }
            *count += 1;
            text.extend_from_slice(value);
        }
        for (name, (count, text)) in joined {
            // Of several equal lengths one is enough; the real length is set afterwards anyway.
            if count > 1
                && name != b"content-length"
                && let Some(key) = self.key(py, name)?
            {
                environ.set_item(key, latin1(py, &text)?)?;
            }
        }
        Ok(())
    }

    /// The environ key of a header name, or `None` when it has no place in an environ:
    /// - `proxy`: would become `HTTP_PROXY`, which HTTP clients take for their configuration (CVE-2016-5385)
    /// - `transfer-encoding`: the body has been decoded, its length is known
    /// - names with `_`: indistinguishable from the same name with `-`
    fn key<'py>(&mut self, py: Python<'py>, name: &[u8]) -> PyResult<Option<Bound<'py, PyString>>> {
        if let Some(key) = self.keys.get(name) {
            return Ok(Some(key.bind(py).clone()));
        }
        if matches!(name, b"proxy" | b"transfer-encoding") || name.contains(&b'_') {
            return Ok(None);
        }
        let prefix: &[u8] = if matches!(name, b"content-type" | b"content-length") { b"" } else { b"HTTP_" };
        let upper = name.iter().map(|&byte| if byte == b'-' { b'_' } else { byte.to_ascii_uppercase() });
        let key: Vec<u8> = prefix.iter().copied().chain(upper).collect();
        if name.len() > KEY_LENGTH_MAX || self.keys.len() >= KEYS_MAX {
            return latin1(py, &key).map(Some);
        }
        // Interned only when remembered: some versions of Python never free an interned string.
        let key = match std::str::from_utf8(&key) {
            Ok(text) => PyString::intern(py, text),
            Err(_) => latin1(py, &key)?,
        };
        self.keys.insert(name.into(), key.clone().unbind());
        Ok(Some(key))
    }

    /// `SERVER_NAME` and `SERVER_PORT`: the listener's address. Behind a Unix socket there is none, and PEP 3333
    /// forbids both to be empty, so there they come from `Host`.
    fn set_server(&mut self, environ: &Bound<'_, PyDict>, request: &Request<'_>) -> PyResult<()> {
        let py = environ.py();
        let facts = &request.facts;
        if facts.server_port == 0 {
            let host = request.fields.clone().find(|(name, _)| *name == b"host").map_or(&b""[..], |(_, value)| value);
            let (name, port) = split_host(host);
            let default_port: &[u8] = if facts.is_https { b"443" } else { b"80" };
            environ.set_item(intern!(py, "SERVER_NAME"), latin1(py, name.unwrap_or(b"localhost"))?)?;
            return environ.set_item(intern!(py, "SERVER_PORT"), latin1(py, port.unwrap_or(default_port))?);
        }
        let is_known = self
            .listener
            .as_ref()
            .is_some_and(|known| known.port == facts.server_port && *known.address == *facts.server_address);
        if !is_known {
            self.listener = Some(ListenerNames {
                address: facts.server_address.into(),
                port: facts.server_port,
                name: latin1(py, facts.server_address)?.unbind(),
                port_text: PyString::new(py, &facts.server_port.to_string()).unbind(),
            });
        }
        if let Some(known) = &self.listener {
            environ.set_item(intern!(py, "SERVER_NAME"), known.name.bind(py))?;
            environ.set_item(intern!(py, "SERVER_PORT"), known.port_text.bind(py))?;
        }
        Ok(())
    }
}

/// Host and port of a `Host` field, each where it is there. An IPv6 address keeps its brackets.
fn split_host(host: &[u8]) -> (Option<&[u8]>, Option<&[u8]>) {
    let (name, port) = match memchr::memrchr(b':', host) {
        Some(at) if !host.ends_with(b"]") => (&host[..at], &host[at + 1..]),
        _ => (host, &b""[..]),
    };
    ((!name.is_empty()).then_some(name), (!port.is_empty()).then_some(port))
}

/// Appends the decoded bytes of a path (RFC 3986 §2.1). What is not a valid escape stays as it is.
fn percent_decode(path: &[u8], into: &mut Vec<u8>) {
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%'
            && let [high, low, after @ ..] = after
            && let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low))
        {
            into.push(high << 4 | low);
            rest = after;
        } else {
            into.push(byte);
            rest = after;
        }
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}
