//! TLS termination: certificates, SNI, ALPN, tickets.

use std::path::PathBuf;

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
