//! Certificates of clients (mutual TLS): whom they are checked against, and what the application learns of them.

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Which certificates clients have to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// Who has signed them, PEM.
    pub authorities: PathBuf,
    /// Which of them do not count any more, PEM.
    pub revoked: Option<PathBuf>,
    /// Without one nobody is let in.
    pub is_required: bool,
}

/// Why clients could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum ClientSettingsError {
    #[error("{} cannot be used: {reason}", file.display())]
    Unusable { file: PathBuf, reason: String },
    #[error("{} holds no PEM {what}", file.display())]
    Nothing { file: PathBuf, what: &'static str },
    #[error("clients cannot be checked: {0}")]
    Verifier(#[from] VerifierBuilderError),
}

/// The certificate of a client that has proven to be its owner.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientCertificate {
    /// Its subject (RFC 4514).
    pub subject: String,
    /// The certificate, then what the client has sent to prove its origin; PEM. Empty: the client has shown none.
    pub chain: String,
}

pub(super) fn verifier(
    settings: &ClientSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, ClientSettingsError> {
    let mut roots = RootCertStore::empty();
    for authority in read::<CertificateDer<'static>>(&settings.authorities, "certificate")? {
        let unusable = |error: rustls::Error| unusable(&settings.authorities, &error);
        roots.add(authority).map_err(unusable)?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if let Some(file) = &settings.revoked {
        let lists = read::<CertificateRevocationListDer<'static>>(file, "revocation list")?;
        // Lists of intermediate authorities are seldom at hand.
        builder = builder.with_crls(lists).only_check_end_entity_revocation();
    }
    if !settings.is_required {
        builder = builder.allow_unauthenticated();
    }
    Ok(builder.build()?)
}

fn read<T: PemObject>(file: &Path, what: &'static str) -> Result<Vec<T>, ClientSettingsError> {
    let bytes = std::fs::read(file).map_err(|error| unusable(file, &error))?;
    let found: Vec<T> = T::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|error| unusable(file, &error))?;
    if found.is_empty() { Err(ClientSettingsError::Nothing { file: file.to_owned(), what }) } else { Ok(found) }
}

fn unusable(file: &Path, reason: &dyn std::fmt::Display) -> ClientSettingsError {
    ClientSettingsError::Unusable { file: file.to_owned(), reason: reason.to_string() }
}

impl ClientCertificate {
    /// What goes to the application with every request: of a chain that is longer, only the certificate.
    const CHAIN_MAX: usize = 24 << 10;

    /// From what a client has shown, its own certificate first.
    pub(crate) fn of(shown: &[CertificateDer<'_>]) -> Self {
        let Some(leaf) = shown.first() else { return Self::default() };
        let parsed = X509Certificate::from_der(leaf);
        let subject = parsed.map(|(_, certificate)| super::subject::rfc4514(certificate.subject()));
        let own = pem(leaf);
        let whole: String = shown.iter().map(|one| pem(one)).collect();
        Self { subject: subject.unwrap_or_default(), chain: if whole.len() > Self::CHAIN_MAX { own } else { whole } }
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for start in (0..text.len()).step_by(64) {
        pem.push_str(&text[start..text.len().min(start + 64)]);
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
