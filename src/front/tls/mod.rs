//! TLS termination: certificates, SNI, ALPN, tickets.

pub mod authority;
mod certificate;
mod choice;
mod client;
mod development;
mod rules;
mod shelf;
mod subject;
mod watch;

pub use certificate::{CertificateError, CertificateWarning, Moment};
pub use client::{ClientCertificate, ClientSettings, ClientSettingsError};
pub use development::{DevelopmentCertificate, DevelopmentCertificateError, development_certificate};
pub(super) use rules::Rules;
pub use rules::hsts;
pub use shelf::Described;
pub use watch::Watch;

use http::HeaderValue;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use shelf::Shelf;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// Sessions of TLS 1.2 clients without tickets, in memory, oldest first out (`HAProxy` keeps 20 000).
const CACHED_SESSIONS: usize = 4096;

/// Settings of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// At least one; the first one serves clients that send no name, or an unknown one.
    pub certificates: Vec<CertificateFiles>,
    pub min_version: Version,
    /// What browsers are told about coming again ([`hsts`]).
    pub hsts: Option<HeaderValue>,
    /// Where clients are asked for certificates.
    pub clients: Option<ClientSettings>,
}

/// A certificate chain with its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    #[default]
    Tls12,
    Tls13,
}

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("a TLS listener needs a certificate\n  hint: --tls-cert and --tls-key, or a development certificate")]
    NoCertificates,
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Clients(#[from] ClientSettingsError),
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// What is offered to clients. The certificates can be replaced while it is in use.
#[derive(Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
    shelf: Arc<Shelf>,
    hsts: Option<HeaderValue>,
    asks_clients: bool,
}

/// Everything read and checked, with what is allowed but worth a line in the log.
#[derive(Debug)]
pub struct Loaded {
    pub tls: Arc<Tls>,
    pub warnings: Vec<CertificateWarning>,
}

/// Reads all certificates and keys and builds the TLS configuration; all errors are reported at once.
/// Clients of `before` can resume their sessions. `now` decides only about the warnings for certificates out of date.
pub fn load(settings: &Settings, before: Option<&Tls>, now: SystemTime) -> Result<Loaded, Vec<TlsError>> {
    if settings.certificates.is_empty() {
        return Err(vec![TlsError::NoCertificates]);
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let clients = settings.clients.as_ref().map(|clients| client::verifier(clients, &provider)).transpose();
    let (shelf, clients) = match (Shelf::fill(&settings.certificates, &provider), clients) {
        (Ok(shelf), Ok(clients)) => (Arc::new(shelf), clients),
        (shelf, clients) => {
            let errors = shelf.err().unwrap_or_default().into_iter().map(TlsError::from);
            return Err(errors.chain(clients.err().map(TlsError::from)).collect());
        }
    };
    // Who resumes a session is not checked again: after a change of who is let in, everybody is.
    let before = before.filter(|before| !before.asks_clients && clients.is_none());
    let asks_clients = clients.is_some();
    let versions: &[&rustls::SupportedProtocolVersion] = match settings.min_version {
        Version::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        Version::Tls13 => &[&rustls::version::TLS13],
    };
    let build = || -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(clients.unwrap_or_else(WebPkiClientVerifier::no_client_auth))
            .with_cert_resolver(Arc::clone(&shelf) as _);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if let Some(before) = before {
            config.ticketer = Arc::clone(&before.config.ticketer);
            config.session_storage = Arc::clone(&before.config.session_storage);
        } else {
            // Its keys change every six hours and the previous ones stay valid: a ticket never outlives half a day.
            config.ticketer = aws_lc_rs::Ticketer::new()?;
            config.session_storage = ServerSessionMemoryCache::new(CACHED_SESSIONS);
        }
        Ok(config)
    };
    let config = Arc::new(build().map_err(|error| vec![error.into()])?);
    let warnings = shelf.warnings(certificate::seconds(now));
    Ok(Loaded { tls: Arc::new(Tls { config, shelf, hsts: settings.hsts.clone(), asks_clients }), warnings })
}

impl Tls {
    pub(super) fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    pub(super) fn asks_clients(&self) -> bool {
        self.asks_clients
    }

    /// What holds for the requests of a client that has asked for this name; mostly nothing does. Who has named nobody
    /// may ask for every host: there is no other name it could have seen a certificate for.
    pub(super) fn rules(&self, server_name: Option<&str>) -> Option<Arc<Rules>> {
        let names = server_name.and_then(|name| Some((name.to_owned(), self.shelf.choice()?)));
        (names.is_some() || self.hsts.is_some()).then(|| Arc::new(Rules { hsts: self.hsts.clone(), names }))
    }

    /// The certificates in use.
    pub fn certificates(&self) -> Vec<Described> {
        self.shelf.described()
    }

    /// What is in use here and was not in use there, for the operator.
    pub fn news_since(&self, before: &Self) -> Vec<String> {
        let known = before.certificates();
        let new = self.certificates().into_iter().filter(|one| !known.contains(one));
        new.map(|one| one.announcement()).collect()
    }
}
