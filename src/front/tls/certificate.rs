//! One certificate chain and its key: read, checked against each other, and explained when they do not fit.

use super::CertificateFiles;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const DAY: i64 = 86_400;

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
    #[error("the certificate in {} expired {} ago: clients will refuse it", file.display(), in_days(*.days))]
    Expired { file: PathBuf, days: u64 },
    #[error("the certificate in {} is not valid yet: is this machine's clock right?", file.display())]
    NotYetValid { file: PathBuf },
    #[error("the certificate for {label} in {} ends in {}, on {end}: is it going to be renewed?", file.display(), in_days(*.days))]
    EndsSoon { file: PathBuf, label: String, days: u64, end: Moment },
}

fn in_days(days: u64) -> String {
    if days == 1 { "1 day".to_owned() } else { format!("{days} days") }
}

/// From when to when a certificate is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

impl Validity {
    /// Days before the end that are worth a warning; a third of the life of a certificate that lives shorter.
    const SOON_DAYS: i64 = 14;

    /// So long before its end a certificate should have been renewed.
    fn margin(self) -> i64 {
        ((self.not_after - self.not_before) / 3).clamp(0, Self::SOON_DAYS * DAY)
    }

    pub(super) fn warning(self, file: &Path, label: &str, now: i64) -> Option<CertificateWarning> {
        let (left, file) = (self.not_after - now, file.to_owned());
        if left < 0 {
            Some(CertificateWarning::Expired { file, days: (left / DAY).unsigned_abs() })
        } else if now < self.not_before {
            Some(CertificateWarning::NotYetValid { file })
        } else if left < self.margin() {
            let days = (left / DAY).unsigned_abs();
            Some(CertificateWarning::EndsSoon { file, label: label.to_owned(), days, end: Moment(self.not_after) })
        } else {
            None
        }
    }
}

/// Seconds since 1970, shown as a date: `2026-12-24 23:59 UTC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub i64);

impl Moment {
    /// As other programs read it (RFC 3339).
    pub fn timestamp(self) -> String {
        jiff::Timestamp::from_second(self.0).unwrap_or(jiff::Timestamp::MAX).to_string()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.0) {
            Ok(moment) => write!(formatter, "{} UTC", moment.strftime("%Y-%m-%d %H:%M")),
            // Certificates may name the year 9999 and more (RFC 5280 §4.1.2.5): no end.
            Err(_) => formatter.write_str("the end of time"),
        }
    }
}

pub(super) fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs().cast_signed()
}

/// A usable certificate.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    /// DNS names of the subject alternative names, in lower case.
    pub(super) names: Vec<String>,
    /// For whom it is, as the log says it.
    pub(super) label: String,
    pub(super) validity: Validity,
}

impl Certificate {
    /// The server's own certificate, DER.
    pub(super) fn leaf(&self) -> &[u8] {
        self.key.cert.first().map_or(&[], |leaf| leaf.as_ref())
    }
}

pub(super) fn load(files: &CertificateFiles, provider: &Arc<CryptoProvider>) -> Result<Certificate, CertificateError> {
    let chain = read_chain(&files.certificate)?;
    let key = read_key(&files.key)?;
    let parsed = chain
        .iter()
        .enumerate()
        .map(|(index, der)| parse(der, &files.certificate, index + 1))
        .collect::<Result<Vec<_>, _>>()?;
    let names = dns_names(&parsed[0]);
    let label = label(&parsed[0], &names);
    let validity = parsed[0].validity();
    let validity = Validity { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() };
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
    Ok(Certificate { key: Arc::new(CertifiedKey::new(chain, key)), names, label, validity })
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
            reason: pem_reason(error),
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
        pem::Error::NoItemsFound => CertificateError::NoKey { file: file.to_owned(), looks: look(&bytes) },
        error => CertificateError::UnsupportedKey { file: file.to_owned(), reason: pem_reason(error) },
    })
}

fn pem_reason(error: pem::Error) -> String {
    match error {
        // It would show its mark as a list of numbers.
        pem::Error::MissingSectionEnd { .. } => "its end is missing".to_owned(),
        error => error.to_string(),
    }
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

/// A few of its names; without one an address, or what the subject is called.
fn label(certificate: &X509Certificate<'_>, names: &[String]) -> String {
    const SHOWN: usize = 3;
    match names {
        [] => {
            let address = certificate.subject_alternative_name().ok().flatten().and_then(|extension| {
                extension.value.general_names.iter().find_map(|name| match name {
                    GeneralName::IPAddress(bytes) => address(bytes),
                    _ => None,
                })
            });
            let common_name = || {
                let mut names = certificate.subject().iter_common_name();
                names.next().and_then(|name| name.as_str().ok()).map(str::to_owned)
            };
            address.map(|address| address.to_string()).or_else(common_name).unwrap_or_else(|| "nobody".to_owned())
        }
        few if few.len() <= SHOWN => few.join(", "),
        many => format!("{} and {} more", many[..SHOWN].join(", "), many.len() - SHOWN),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    four().or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

/// The first certificate that is not the issuer of the one before it. TLS 1.3 clients sort a chain themselves,
/// older ones fail on it: with a browser it works and with `curl` it does not.
fn first_out_of_order(chain: &[X509Certificate<'_>]) -> Option<usize> {
    (1..chain.len()).find(|&index| chain[index - 1].issuer() != chain[index].subject())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_announced_in_time() {
        let ninety = Validity { not_before: 0, not_after: 90 * DAY };
        let week = Validity { not_before: 0, not_after: 6 * DAY };
        let rows = [
            (ninety, 0, ""),
            (ninety, 75 * DAY, ""),
            (ninety, 77 * DAY, "for a in f ends in 13 days, on 1970-04-01 00:00 UTC"),
            (ninety, 90 * DAY, "ends in 0 days"),
            (ninety, 92 * DAY, "in f expired 2 days ago"),
            (ninety, -1, "not valid yet"),
            // One that lives for six days is not worth a warning all its life.
            (week, DAY, ""),
            (week, 5 * DAY, "ends in 1 day,"),
        ];
        for (validity, now, expected) in rows {
            let text = validity.warning(Path::new("f"), "a", now).map(|warning| warning.to_string());
            match text {
                Some(text) => assert!(!expected.is_empty() && text.contains(expected), "{now}: {text}"),
                None => assert_eq!(expected, "", "{now}"),
            }
        }
    }
}
