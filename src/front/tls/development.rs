//! A self-signed certificate for work on one's own machine.

use super::{CertificateFiles, certificate};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::crypto::aws_lc_rs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const VALID_DAYS: i64 = 90;

/// Why no development certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum DevelopmentCertificateError {
    #[error("cannot write {}: {source}", file.display())]
    Write { file: PathBuf, source: io::Error },
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("cannot tell the date: {0}")]
    Date(#[from] jiff::Error),
}

/// A certificate for `localhost`, `127.0.0.1` and `::1`, valid for 90 days, in `localhost.pem` and `localhost-key.pem`
/// (mode 0600) of the directory, which is made if need be. One that does not end soon is used again, so that a browser asks
/// for its exception only once.
pub fn development_certificate(directory: &Path) -> Result<CertificateFiles, DevelopmentCertificateError> {
    let files =
        CertificateFiles { certificate: directory.join("localhost.pem"), key: directory.join("localhost-key.pem") };
    if is_good(&files) {
        return Ok(files);
    }
    let key = KeyPair::generate()?;
    let certificate = parameters()?.self_signed(&key)?;
    let made = std::fs::create_dir_all(directory);
    made.map_err(|source| DevelopmentCertificateError::Write { file: directory.to_owned(), source })?;
    write(&files.key, &key.serialize_pem(), 0o600)?;
    write(&files.certificate, &certificate.pem(), 0o644)?;
    Ok(files)
}

fn is_good(files: &CertificateFiles) -> bool {
    let now = certificate::seconds(SystemTime::now());
    let loaded = certificate::load(files, &Arc::new(aws_lc_rs::default_provider()));
    loaded.is_ok_and(|certificate| certificate.validity.warning(&files.certificate, "", now).is_none())
}

fn parameters() -> Result<CertificateParams, DevelopmentCertificateError> {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    // One day back: the machine that tests may run a little behind.
    let (start, end) = (today.yesterday()?, today.checked_add(jiff::Span::new().days(VALID_DAYS))?);
    let mut parameters = CertificateParams::new(NAMES.map(str::to_owned).to_vec())?;
    let date = |date: jiff::civil::Date| {
        rcgen::date_time_ymd(date.year().into(), date.month().cast_unsigned(), date.day().cast_unsigned())
    };
    parameters.not_before = date(start);
    parameters.not_after = date(end);
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, "monoceros development certificate");
    Ok(parameters)
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
