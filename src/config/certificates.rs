//! Certificates and their keys: which belongs to which.

use super::definition::Key;
use super::error::{ConfigError, Problem};
use super::reader::Reader;
use crate::front::tls::{self, CertificateFiles, Version};
use std::path::PathBuf;

/// Where the certificate for development is kept, relative to the directory of the start.
const DEVELOPMENT_DIRECTORY: &str = "certs";

/// What the TLS options say together.
pub(super) struct Certificates {
    pub(super) settings: tls::Settings,
    /// Directory of the certificate for development, when it is asked for.
    pub(super) development: Option<PathBuf>,
}

/// Reads the TLS options; `None` when nothing asks for TLS.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Certificates> {
    let min_version = match reader.word(Key::TlsMinVersion) {
        "1.3" => Version::Tls13,
        _ => Version::Tls12,
    };
    let development = reader.switch(Key::DevCert).then(|| reader.path(DEVELOPMENT_DIRECTORY));
    let certificates = pair(reader);
    let asked = development.is_some() || !reader.all(Key::TlsCert).is_empty();
    asked.then_some(Certificates { settings: tls::Settings { certificates, min_version }, development })
}

fn pair(reader: &mut Reader<'_>) -> Vec<CertificateFiles> {
    let (certificates, keys) = (reader.all(Key::TlsCert), reader.all(Key::TlsKey));
    match (certificates, keys) {
        ([], [key, ..]) => {
            let error = ConfigError::new(Problem::KeyWithoutCertificate { key: reader.path(&key.text) });
            reader.errors.push(error.at(&key.origin).hint("give the certificate with --tls-cert FILE"));
            Vec::new()
        }
        (_, []) => certificates.iter().map(|given| combined_file(reader, given)).collect(),
        _ if certificates.len() == keys.len() => {
            let pairs = certificates.iter().zip(keys);
            pairs
                .map(|(certificate, key)| CertificateFiles {
                    certificate: reader.file(Key::TlsCert, certificate),
                    key: reader.file(Key::TlsKey, key),
                })
                .collect()
        }
        _ => {
            let problem = Problem::UnpairedKeys { certificates: certificates.len(), keys: keys.len() };
            let error = ConfigError::new(problem).hint("give one key for each certificate, in the same order");
            let origin = keys.last().map(|key| key.origin.clone());
            reader.errors.push(ConfigError { origin, ..error });
            Vec::new()
        }
    }
}

/// A certificate without a key of its own: its file has to hold both.
fn combined_file(reader: &mut Reader<'_>, given: &super::layer::Given) -> CertificateFiles {
    let before = reader.errors.len();
    let certificate = reader.file(Key::TlsCert, given);
    let exists = reader.errors.len() == before;
    if exists && !reader.surroundings.disk.holds_private_key(&certificate) {
        let error = ConfigError::new(Problem::CertificateWithoutKey { certificate: certificate.clone() });
        reader.errors.push(error.at(&given.origin).hint("give it with --tls-key FILE, or a PEM file that holds both"));
    }
    CertificateFiles { key: certificate.clone(), certificate }
}
