//! A certificate for work on one's own machine.

use super::authority::Authority;
use super::{CertificateFiles, certificate};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::crypto::aws_lc_rs;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// No `*.localhost`: clients differ on whether a star may stand for a whole top-level domain, and some refuse the whole
/// certificate then. Names below localhost are asked for (`--dev-name`).
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const VALID_DAYS: i64 = 90;

/// Which certificate is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevelopmentCertificate {
    /// Where it is kept.
    pub directory: PathBuf,
    /// Names and addresses beside those of this machine.
    pub names: Vec<String>,
    /// The directory of the authority that signs it; it signs itself where there is none.
    pub authority: Option<PathBuf>,
}

/// Why no development certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum DevelopmentCertificateError {
    #[error("cannot write {}: {source}", file.display())]
    Write { file: PathBuf, source: io::Error },
    #[error("cannot read {}: {source}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("the authority for development certificates in {} is broken\n  hint: delete the directory and a new one is made; \
        browsers have to be told then: `monoceros trust install`", directory.display())]
    Authority { directory: PathBuf },
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("cannot tell the date: {0}")]
    Date(#[from] jiff::Error),
}

/// A certificate for this machine, valid for 90 days, in `localhost.pem` and `localhost-key.pem` (mode 0600) of its
/// directory, which is made if need be. One that does not end soon is used again. The authority is made with the
/// first one.
pub fn development_certificate(
    wanted: &DevelopmentCertificate,
) -> Result<CertificateFiles, DevelopmentCertificateError> {
    let directory = &wanted.directory;
    let files =
        CertificateFiles { certificate: directory.join("localhost.pem"), key: directory.join("localhost-key.pem") };
    let authority = match &wanted.authority {
        Some(place) => {
            let (authority, is_new) = Authority::open_or_make(place)?;
            if is_new {
                tracing::info!(
                    "an authority for development certificates was made in {}: `monoceros trust install` makes browsers \
                     on this machine accept it",
                    place.display()
                );
            }
            Some(authority)
        }
        None => None,
    };
    let names: BTreeSet<String> = NAMES
        .iter()
        .map(|name| (*name).to_owned())
        .chain(wanted.names.iter().map(|name| name.to_lowercase()))
        .collect();
    if is_good(&files, &names, authority.as_ref()) {
        return Ok(files);
    }
    let key = KeyPair::generate()?;
    let parameters = parameters(names)?;
    let certificate = match &authority {
        Some(authority) => authority.sign(&parameters, &key)?,
        None => parameters.self_signed(&key)?.pem(),
    };
    let made = std::fs::create_dir_all(directory);
    made.map_err(|source| DevelopmentCertificateError::Write { file: directory.clone(), source })?;
    write(&files.key, &key.serialize_pem(), 0o600)?;
    write(&files.certificate, &certificate, 0o644)?;
    Ok(files)
}

fn is_good(files: &CertificateFiles, names: &BTreeSet<String>, authority: Option<&Authority>) -> bool {
    let now = certificate::seconds(SystemTime::now());
    let Ok(loaded) = certificate::load(files, &Arc::new(aws_lc_rs::default_provider())) else { return false };
    let certificate = loaded.key.cert.first().and_then(|der| X509Certificate::from_der(der).ok());
    loaded.validity.warning(&files.certificate, "", now).is_none()
        && certificate.is_some_and(|(_, certificate)| {
            names_of(&certificate) == *names && authority.is_none_or(|authority| authority.is_issuer_of(&certificate))
        })
}

fn names_of(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension.iter().flat_map(|extension| &extension.value.general_names);
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    };
    names.filter_map(text).collect()
}

fn parameters(names: BTreeSet<String>) -> Result<CertificateParams, DevelopmentCertificateError> {
    let mut parameters = CertificateParams::new(Vec::from_iter(names))?;
    set_validity(&mut parameters, jiff::Span::new().days(VALID_DAYS))?;
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.use_authority_key_identifier_extension = true;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, "monoceros development certificate");
    Ok(parameters)
}

/// From yesterday on: the clock of whoever checks it may be a little behind.
pub(super) fn set_validity(
    parameters: &mut CertificateParams,
    span: jiff::Span,
) -> Result<(), DevelopmentCertificateError> {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let date = |date: jiff::civil::Date| {
        rcgen::date_time_ymd(date.year().into(), date.month().cast_unsigned(), date.day().cast_unsigned())
    };
    (parameters.not_before, parameters.not_after) = (date(today.yesterday()?), date(today.checked_add(span)?));
    Ok(())
}

/// Writes beside the file and renames: a reader sees the old one or the new one, and never with a wider mode.
fn write(file: &Path, content: &str, mode: u32) -> Result<(), DevelopmentCertificateError> {
    let fresh = file.with_extension("new");
    let attempt = || {
        let _ = std::fs::remove_file(&fresh);
        let mut output = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
        output.write_all(content.as_bytes())?;
        std::fs::rename(&fresh, file)
    };
    attempt().map_err(|source| DevelopmentCertificateError::Write { file: file.to_owned(), source })
}
