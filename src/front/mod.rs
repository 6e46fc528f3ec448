//! From the client's socket to the decision who answers.

pub mod accept;
pub mod admin;
pub mod body;
pub mod bypass;
pub mod cache;
mod connection;
mod descriptors;
pub mod drain;
pub mod error_pages;
mod exchange;
pub mod files;
mod forward;
pub mod gate;
pub mod health;
mod hints;
mod http2;
pub mod incoming;
pub mod inherited;
mod inspect;
pub mod intake;
pub mod limits;
pub mod listener;
pub mod maintenance;
pub mod negotiate;
pub mod pipeline;
pub mod redirect;
mod reply;
pub mod rescue;
pub mod site;
pub mod tls;
mod transport;
mod tunnel;
pub mod upgrade;
pub mod websocket;

use body::Body;
use http::{Request, Response};
use incoming::Incoming;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Settings of everything that faces clients.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen, in the order given.
    pub binds: Vec<Bind>,
    /// Front threads, one single-threaded runtime each (nginx: `worker_processes`).
    pub threads: usize,
    /// Pending connections the kernel keeps per listener (gunicorn: `backlog`).
    pub backlog: u32,
    /// Certificates; needed when a bind speaks TLS.
    pub tls: Option<tls::Settings>,
    pub limits: limits::Settings,
    pub files: files::Settings,
    pub cache: cache::Settings,
    /// Where operators ask (`--admin-bind`); plain HTTP.
    pub admin_binds: Vec<Bind>,
    /// The path under which clients may ask for `live` and `ready`, without a slash at its end.
    pub health_path: Option<String>,
    /// Directory with pages for failures.
    pub error_pages: Option<PathBuf>,
    /// Who is let in during maintenance.
    pub maintenance_bypass: Vec<bypass::Bypass>,
    /// From "not ready any more" to the end of accepting.
    pub drain_delay: std::time::Duration,
}

/// One address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    pub address: BindAddress,
    pub purpose: Purpose,
}

/// Whom a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Audience {
    Clients,
    Operators,
}

/// What is listened on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BindAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// A listening socket inherited from the parent process, by number.
    Descriptor(i32),
}

/// What is spoken on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Http,
    Https,
    /// Answers every request with a redirect to the HTTPS listener on this port (`--redirect-http`).
    RedirectToHttps {
        port: u16,
    },
}

/// What is known about a client's connection as a whole.
#[derive(Debug)]
pub struct ConnectionInfo {
    pub peer: Address,
    /// The address the client connected to.
    pub local: Address,
    pub tls: Option<TlsInfo>,
}

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    /// The listener's path; `None` for an unnamed client.
    Unix(Option<PathBuf>),
}

/// What the TLS handshake agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsInfo {
    /// `0x0303` or `0x0304`.
    pub version: u16,
    pub cipher_suite: u16,
    /// The name the client asked for.
    pub server_name: Option<String>,
    /// Where clients are asked for certificates.
    pub client: Option<tls::ClientCertificate>,
}

/// Answers requests. The connection code is generic over it, so that it is tested without an application behind it.
pub trait Answer: Send + Sync + 'static {
    /// Answers one request. Always answers: a failure becomes a response in [`rescue`].
    fn answer(
        self: Arc<Self>,
        connection: Arc<ConnectionInfo>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send;

    /// Takes note of a request that was refused, or sent elsewhere, before it got here.
    fn turned_away(&self, _connection: &ConnectionInfo, _request: &http::request::Parts, _status: http::StatusCode) {}
}

impl std::fmt::Display for Address {
    /// Without the port: what an access log wants to say about a client.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(socket) => socket.ip().to_canonical().fmt(formatter),
            Self::Unix(_) => formatter.write_str("unix"),
        }
    }
}
