//! Certificates and their keys: which belongs to which.

use super::definition::Key;
use super::error::{ConfigError, Problem};
use super::layer::Given;
use super::reader::Reader;
use crate::front::tls::{self, CertificateFiles, ClientSettings, DevelopmentCertificate, Version, authority};

/// Where the certificate for development is kept, relative to the directory of the start.
const DEVELOPMENT_DIRECTORY: &str = "certs";

/// What the TLS options say together.
pub(super) struct Certificates {
    pub(super) settings: tls::Settings,
    /// The certificate for development, when it is asked for.
    pub(super) development: Option<DevelopmentCertificate>,
}

/// Reads the TLS options; `None` when nothing asks for TLS.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Certificates> {
    let min_version = min_version(reader);
    let clients = clients(reader);
    let hsts = reader.one(Key::Hsts).and_then(|given| {
        let parsed = tls::hsts(&given.text);
        parsed.map_err(|hint| reader.invalid(Key::Hsts, given, Some(hint.to_owned()))).ok()
    });
    let development = development(reader);
    let certificates = pair(reader);
    let asked = development.is_some() || !reader.all(Key::TlsCert).is_empty();
    asked.then_some(Certificates { settings: tls::Settings { certificates, min_version, hsts, clients }, development })
}

fn clients(reader: &mut Reader<'_>) -> Option<ClientSettings> {
    let mode = reader.word(Key::TlsClientAuth);
    let mut file = |key| reader.one(key).map(|given| reader.file(key, given));
    let (authorities, revoked) = (file(Key::TlsClientCa), file(Key::TlsClientCrl));
    if let (None, Some(given)) = (&authorities, reader.one(Key::TlsClientCrl)) {
        reader.invalid(Key::TlsClientCrl, given, Some("it says nothing without --tls-client-ca FILE".to_owned()));
    }
    if let (None, Some(given)) = (&authorities, reader.one(Key::TlsClientAuth))
        && mode != "off"
    {
        reader.invalid(Key::TlsClientAuth, given, Some("name who signs with --tls-client-ca FILE".to_owned()));
    }
    let authorities = authorities.filter(|_| mode != "off")?;
    Some(ClientSettings { authorities, revoked, is_required: mode != "optional" })
}

/// The modern policy is nothing but TLS 1.3.
fn min_version(reader: &mut Reader<'_>) -> Version {
    let is_modern = reader.word(Key::TlsCiphers) == "modern";
    if reader.word(Key::TlsMinVersion) == "1.3" || is_modern { Version::Tls13 } else { Version::Tls12 }
}

/// The certificate for development, if it is asked for.
fn development(reader: &mut Reader<'_>) -> Option<DevelopmentCertificate> {
    let mut names = Vec::new();
    for given in reader.all(Key::DevName) {
        if authority::may_vouch_for(&given.text) {
            names.push(given.text.clone());
        } else {
            let hint = "it may only name this machine or a private network: names below .local, .test, .internal, .lan, \
                        .home, private addresses";
            reader.invalid(Key::DevName, given, Some(hint.to_owned()));
        }
    }
    reader.switch(Key::DevCert).then(|| DevelopmentCertificate {
        directory: reader.path(DEVELOPMENT_DIRECTORY),
        names,
        authority: reader.surroundings.data_directory.map(authority::directory_in),
    })
}

/// Which key belongs to which certificate: one for each, in order; or one for each certificate whose own file holds none.
fn pair(reader: &mut Reader<'_>) -> Vec<CertificateFiles> {
    let (certificates, keys) = (reader.all(Key::TlsCert), reader.all(Key::TlsKey));
    if let ([], [key, ..]) = (certificates, keys) {
        let error = ConfigError::new(Problem::KeyWithoutCertificate { key: reader.path(&key.text) });
        reader.errors.push(error.at(&key.origin).hint("give the certificate with --tls-cert FILE"));
        return Vec::new();
    }
    let holds_key = |given: &Given| {
        let path = reader.path(&given.text);
        // A file that cannot be read is reported as such, not as one without a key.
        reader.surroundings.disk.entry(&path).is_err() || reader.surroundings.disk.holds_private_key(&path)
    };
    let in_pairs = keys.len() == certificates.len();
    let needing: Vec<&Given> = certificates.iter().filter(|given| in_pairs || !holds_key(given)).collect();
    match keys.last() {
        Some(last) if needing.len() != keys.len() => {
            let problem = Problem::UnpairedKeys { certificates: needing.len(), keys: keys.len() };
            let hint = "give one key for each certificate whose file holds none, in the same order";
            reader.errors.push(ConfigError::new(problem).at(&last.origin).hint(hint));
            return Vec::new();
        }
        _ => {}
    }
    let mut keys = keys.iter();
    let pairs = certificates.iter().map(|given| {
        let certificate = reader.file(Key::TlsCert, given);
        if !needing.contains(&given) {
            return CertificateFiles { key: certificate.clone(), certificate };
        }
        let Some(key) = keys.next() else {
            let error = ConfigError::new(Problem::CertificateWithoutKey { certificate: certificate.clone() });
            let hint = "give it with --tls-key FILE, or a PEM file that holds both";
            reader.errors.push(error.at(&given.origin).hint(hint));
            return CertificateFiles { key: certificate.clone(), certificate };
        };
        CertificateFiles { certificate, key: reader.file(Key::TlsKey, key) }
    });
    pairs.collect()
}
