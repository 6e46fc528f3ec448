//! One certificate chain and its key: read, checked against each other, and explained when they do not fit.

use super::CertificateFiles;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What is wrong with a certificate or key file.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("cannot read {}: {source}", file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    #[error("{} holds no PEM certificate{}", file.display(), hint(*.looks))]
    NoCertificate { file: PathBuf, looks: Looks },
    #[error("certificate {position} in {} is broken: {reason}", file.display())]
    BrokenCertificate { file: PathBuf, position: usize, reason: String },
    #[error("{} holds no PEM private key{}", file.display(), hint(*.looks))]
    NoKey { file: PathBuf, looks: Looks },
    #[error("the key in {} is encrypted\n  hint: `openssl pkey -in {0} -out plain.key` writes it without its password", file.display())]
    EncryptedKey { file: PathBuf },
    #[error("the key in {} cannot be used: {reason}\n  hint: RSA from 2048 bits, ECDSA P-256/P-384/P-521 and Ed25519 work", file.display())]
    UnsupportedKey { file: PathBuf, reason: String },
    #[error("the key in {} does not belong to the certificate in {}\n  hint: the two may come from different renewals", key.display(), certificate.display())]
    KeyMismatch { certificate: PathBuf, key: PathBuf },
    #[error("the chain in {} is in the wrong order: the server's own certificate is number {position} and must be the first\n  hint: `cat server.pem intermediate.pem > chain.pem`", file.display())]
    ServerNotFirst { file: PathBuf, position: usize },
    #[error("the chain in {} is in the wrong order: certificate {position} is not the issuer of the one before it\n  hint: server certificate first, then each one's issuer", file.display())]
    BrokenChain { file: PathBuf, position: usize },
}

/// What a file without the expected PEM block contains instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looks {
    Empty,
    Certificate,
    Key,
    Binary,
    Other,
}

fn hint(looks: Looks) -> &'static str {
    match looks {
        Looks::Empty => ": it is empty",
        Looks::Certificate => ", but a certificate\n  hint: are the two files swapped?",
        Looks::Key => ", but a private key\n  hint: are the two files swapped?",
        Looks::Binary => {
            "\n  hint: it looks like DER; `openssl x509 -inform der` or `openssl pkey -inform der` converts it"
        }
        Looks::Other => "",
    }
}

/// Allowed, but the operator should know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateWarning {
    #[error("the certificate in {} expired {days} days ago: clients will refuse it", file.display())]
    Expired { file: PathBuf, days: u64 },
    #[error("the certificate in {} is not valid yet: is this machine's clock right?", file.display())]
    NotYetValid { file: PathBuf },
}

/// A usable certificate.
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    /// DNS names of the subject alternative names, in lower case.
    pub(super) names: Vec<String>,
    pub(super) warning: Option<CertificateWarning>,
    /// Seconds since 1970.
    pub(super) not_after: i64,
}

pub(super) fn load(
    files: &CertificateFiles,
    provider: &Arc<CryptoProvider>,
    now: SystemTime,
) -> Result<Certificate, CertificateError> {
    let chain = read_chain(&files.certificate)?;
    let key = read_key(&files.key)?;
    let parsed = chain
        .iter()
        .enumerate()
        .map(|(index, der)| parse(der, &files.certificate, index + 1))
        .collect::<Result<Vec<_>, _>>()?;
    let names = dns_names(&parsed[0]);
    let not_after = parsed[0].validity().not_after.timestamp();
    let warning = validity_warning(&parsed[0], &files.certificate, now);
    let order = first_out_of_order(&parsed);

    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| CertificateError::UnsupportedKey { file: files.key.clone(), reason: error.to_string() })?;
    let belongs = |certificate: &CertificateDer<'static>| {
        // A key that cannot tell its public half is believed.
        let outcome = CertifiedKey::new(vec![certificate.clone()], Arc::clone(&key)).keys_match();
        matches!(outcome, Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)))
    };
    match chain.iter().position(belongs) {
        Some(0) => {}
        Some(index) => {
            return Err(CertificateError::ServerNotFirst { file: files.certificate.clone(), position: index + 1 });
        }
        None => {
            return Err(CertificateError::KeyMismatch {
                certificate: files.certificate.clone(),
                key: files.key.clone(),
            });
        }
    }
    if let Some(index) = order {
        return Err(CertificateError::BrokenChain { file: files.certificate.clone(), position: index + 1 });
    }
    Ok(Certificate { key: Arc::new(CertifiedKey::new(chain, key)), names, warning, not_after })
}

fn read(file: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(file).map_err(|source| CertificateError::Unreadable { file: file.to_owned(), source })
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let bytes = read(file)?;
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        chain.push(certificate.map_err(|error| CertificateError::BrokenCertificate {
            file: file.to_owned(),
            position: chain.len() + 1,
            reason: error.to_string(),
        })?);
    }
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate { file: file.to_owned(), looks: look(&bytes) });
    }
    Ok(chain)
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let bytes = read(file)?;
    // PKCS #8 says it in the label, the older OpenSSL formats in a header line.
    let encrypted: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];
    if encrypted.iter().any(|mark| memchr::memmem::find(&bytes, mark).is_some()) {
        return Err(CertificateError::EncryptedKey { file: file.to_owned() });
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            CertificateError::NoKey { file: file.to_owned(), looks: look(&bytes) }
        }
        error => CertificateError::UnsupportedKey { file: file.to_owned(), reason: error.to_string() },
    })
}

fn look(bytes: &[u8]) -> Looks {
    let contains = |text: &[u8]| memchr::memmem::find(bytes, text).is_some();
    if bytes.iter().all(u8::is_ascii_whitespace) {
        Looks::Empty
    } else if contains(b"PRIVATE KEY-----") {
        Looks::Key
    } else if contains(b"BEGIN CERTIFICATE-----") {
        Looks::Certificate
    } else if bytes[0] == 0x30 {
        Looks::Binary
    } else {
        Looks::Other
    }
}

fn parse<'der>(
    der: &'der CertificateDer<'_>,
    file: &Path,
    position: usize,
) -> Result<X509Certificate<'der>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => {
            Err(CertificateError::BrokenCertificate { file: file.to_owned(), position, reason: error.to_string() })
        }
    }
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    names.collect()
}

fn validity_warning(certificate: &X509Certificate<'_>, file: &Path, now: SystemTime) -> Option<CertificateWarning> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs().cast_signed();
    let validity = certificate.validity();
    let late = now - validity.not_after.timestamp();
    if late > 0 {
        Some(CertificateWarning::Expired { file: file.to_owned(), days: late.unsigned_abs() / 86_400 })
    } else if now < validity.not_before.timestamp() {
        Some(CertificateWarning::NotYetValid { file: file.to_owned() })
    } else {
        None
    }
}

/// The first certificate that is not the issuer of the one before it. TLS 1.3 clients sort a chain themselves,
/// older ones fail on it: with a browser it works and with `curl` it does not.
fn first_out_of_order(chain: &[X509Certificate<'_>]) -> Option<usize> {
    (1..chain.len()).find(|&index| chain[index - 1].issuer() != chain[index].subject())
}
