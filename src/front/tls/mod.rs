//! TLS termination: certificates, SNI, ALPN, tickets.

mod certificate;
mod development;

pub use certificate::{CertificateError, CertificateWarning};
pub use development::{DevelopmentCertificateError, development_certificate};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
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
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// Everything read and checked, with what is allowed but worth a line in the log.
#[derive(Debug)]
pub struct Loaded {
    pub config: Arc<ServerConfig>,
    pub warnings: Vec<CertificateWarning>,
}

/// Reads all certificates and keys and builds the TLS configuration; all errors are reported at once.
/// `now` decides only about the warnings for certificates out of date.
pub fn load(settings: &Settings, now: SystemTime) -> Result<Loaded, Vec<TlsError>> {
    if settings.certificates.is_empty() {
        return Err(vec![TlsError::NoCertificates]);
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let (mut loaded, mut errors, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    for files in &settings.certificates {
        match certificate::load(files, &provider, now) {
            Ok(one) => {
                warnings.extend(one.warning.clone());
                loaded.push(one);
            }
            Err(error) => errors.push(TlsError::Certificate(error)),
        }
    }
    let Some(resolver) = errors.is_empty().then(|| Resolver::new(loaded)).flatten() else {
        return Err(errors);
    };
    let versions: &[&rustls::SupportedProtocolVersion] = match settings.min_version {
        Version::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        Version::Tls13 => &[&rustls::version::TLS13],
    };
    let build = || -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Its keys change every six hours and the previous ones stay valid: a ticket never outlives half a day.
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        config.session_storage = ServerSessionMemoryCache::new(CACHED_SESSIONS);
        Ok(config)
    };
    match build() {
        Ok(config) => Ok(Loaded { config: Arc::new(config), warnings }),
        Err(error) => Err(vec![error.into()]),
    }
}

/// Chooses the certificate by the name the client asks for.
#[derive(Debug)]
struct Resolver {
    default: Vec<Arc<CertifiedKey>>,
    /// Under each name the certificates in the order of the settings: an RSA one may stand behind an ECDSA one.
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// `*.example.org` stands under `example.org`; a wildcard covers exactly one label (RFC 9525 §6.3).
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Resolver {
    /// `None` without any certificate.
    fn new(certificates: Vec<certificate::Certificate>) -> Option<Self> {
        let default = certificates.first()?;
        let mut resolver =
            Self { default: vec![Arc::clone(&default.key)], exact: HashMap::new(), wildcard: HashMap::new() };
        for certificate in certificates {
            for name in certificate.names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut resolver.wildcard, parent.to_owned()),
                    None => (&mut resolver.exact, name),
                };
                names.entry(name).or_default().push(Arc::clone(&certificate.key));
            }
        }
        Some(resolver)
    }

    fn candidates(&self, server_name: Option<&str>) -> &[Arc<CertifiedKey>] {
        let Some(name) = server_name.map(|name| name.trim_end_matches('.').to_ascii_lowercase()) else {
            return &self.default;
        };
        let parent = || name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        self.exact.get(&name).or_else(parent).unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = self.candidates(hello.server_name());
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        // With none that fits, the first: the handshake then fails with the right alert.
        candidates.iter().find(fits).or(candidates.first()).cloned()
    }
}
