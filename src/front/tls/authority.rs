//! A certificate authority of one's own: browsers of this machine that trust it accept every certificate for development.
//!
//! It is made once and kept in the user's data directory. It can vouch only for names that lead to this machine or a
//! private network: whoever gets hold of its key cannot pose as a site of the internet.

use super::development::{DevelopmentCertificateError, set_validity};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, GeneralSubtree, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

const CERTIFICATE: &str = "authority.pem";
const KEY: &str = "authority-key.pem";
const VALID_YEARS: i64 = 10;

/// What it may vouch for, and everything below: RFC 6761, RFC 6762, RFC 8375, and what routers at home use.
const DOMAINS: [&str; 7] = ["localhost", "test", "local", "internal", "home.arpa", "lan", "home"];

/// Networks: this machine, private (RFC 1918, RFC 4193), link-local.
const NETWORKS: [(IpAddr, u8); 8] = [
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12),
    (IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    (IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
];

/// See the module.
#[derive(Debug)]
pub struct Authority {
    /// Its certificate, PEM: what a browser has to be given.
    pub file: PathBuf,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    /// Names its key in the certificates that it signs.
    key_identifier: Vec<u8>,
}

/// The directory of the authority in a user's data directory (`$XDG_DATA_HOME`, else `~/.local/share`).
pub fn directory_in(data: &Path) -> PathBuf {
    data.join("monoceros").join("authority")
}

/// The certificate in the directory, whether or not it is there.
pub fn certificate_in(directory: &Path) -> PathBuf {
    directory.join(CERTIFICATE)
}

impl Authority {
    /// The authority in the directory; made if there is none. The flag says that it was.
    pub fn open_or_make(directory: &Path) -> Result<(Self, bool), DevelopmentCertificateError> {
        match Self::open(directory)? {
            Some(authority) => Ok((authority, false)),
            None => make(directory).map(|authority| (authority, true)),
        }
    }

    /// `None` if there is none.
    pub fn open(directory: &Path) -> Result<Option<Self>, DevelopmentCertificateError> {
        let file = certificate_in(directory);
        let read = |file: &Path| match fs::read_to_string(file) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DevelopmentCertificateError::Read { file: file.to_owned(), source }),
        };
        let (Some(pem), Some(key)) = (read(&file)?, read(&directory.join(KEY))?) else { return Ok(None) };
        Self::from_pem(file, pem, &key).map(Some)
    }

    fn from_pem(file: PathBuf, pem: String, key: &str) -> Result<Self, DevelopmentCertificateError> {
        let broken =
            |_| DevelopmentCertificateError::Authority { directory: file.parent().unwrap_or(&file).to_owned() };
        let issuer = Issuer::from_ca_cert_pem(&pem, KeyPair::from_pem(key).map_err(broken)?).map_err(broken)?;
        let key_identifier = CertificateDer::from_pem_slice(pem.as_bytes()).ok().and_then(|der| key_identifier(&der));
        let key_identifier = key_identifier.ok_or(rcgen::Error::CouldNotParseCertificate).map_err(broken)?;
        Ok(Self { file, pem, issuer, key_identifier })
    }

    /// Its certificate as text.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    pub(super) fn sign(&self, parameters: &CertificateParams, key: &KeyPair) -> Result<String, rcgen::Error> {
        Ok(parameters.signed_by(key, &self.issuer)?.pem())
    }

    /// Whether it has signed a certificate, as far as its words tell.
    pub(super) fn is_issuer_of(&self, certificate: &X509Certificate<'_>) -> bool {
        certificate.extensions().iter().any(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(identifier) => {
                identifier.key_identifier.as_ref().is_some_and(|identifier| identifier.0 == self.key_identifier)
            }
            _ => false,
        })
    }
}

/// Whether it may vouch for a name or an address.
pub fn may_vouch_for(name: &str) -> bool {
    if let Ok(address) = name.parse::<IpAddr>() {
        return NETWORKS.iter().any(|(network, length)| is_within(address, *network, *length));
    }
    let name = name.to_ascii_lowercase();
    DOMAINS.iter().any(|domain| name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

fn is_within(address: IpAddr, network: IpAddr, length: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (address.to_bits() ^ network.to_bits()).leading_zeros() >= u32::from(length)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            (address.to_bits() ^ network.to_bits()).leading_zeros() >= u32::from(length)
        }
        _ => false,
    }
}

fn key_identifier(der: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
        _ => None,
    })
}

/// Certificate and key come to their place together: whoever makes one at the same time finds both, or neither.
fn make(directory: &Path) -> Result<Authority, DevelopmentCertificateError> {
    let key = KeyPair::generate()?;
    let pem = parameters()?.self_signed(&key)?.pem();
    let fresh = directory.with_extension(format!("new-{}", std::process::id()));
    let failed = |source| DevelopmentCertificateError::Write { file: directory.to_owned(), source };
    let put = || -> io::Result<()> {
        if let Some(parent) = directory.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        fs::DirBuilder::new().mode(0o700).create(&fresh)?;
        for (name, text) in [(CERTIFICATE, &pem), (KEY, &key.serialize_pem())] {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh.join(name))?;
            file.write_all(text.as_bytes())?;
        }
        // One without its key, or the other way round, is of no use to anybody.
        let is_half = directory.is_dir() && !(directory.join(CERTIFICATE).exists() && directory.join(KEY).exists());
        if is_half {
            fs::remove_dir_all(directory)?;
        }
        fs::rename(&fresh, directory)
    };
    let made = put();
    if made.is_err() {
        // Nothing of it is left, whatever happened.
        let _ = fs::remove_dir_all(&fresh);
    }
    match (made, Authority::open(directory)?) {
        (_, Some(authority)) => Ok(authority),
        (Err(source), None) => Err(failed(source)),
        (Ok(()), None) => Err(failed(io::ErrorKind::NotFound.into())),
    }
}

fn parameters() -> Result<CertificateParams, DevelopmentCertificateError> {
    let mut parameters = CertificateParams::default();
    set_validity(&mut parameters, jiff::Span::new().years(VALID_YEARS))?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let domains = DOMAINS.iter().map(|domain| GeneralSubtree::DnsName((*domain).to_owned()));
    let networks = NETWORKS
        .iter()
        .map(|(network, length)| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(*network, *length)));
    parameters.name_constraints =
        Some(NameConstraints { permitted_subtrees: domains.chain(networks).collect(), excluded_subtrees: Vec::new() });
    let name = match std::env::var("USER").or_else(|_| std::env::var("LOGNAME")) {
        Ok(user) if !user.is_empty() => format!("monoceros development authority of {user}"),
        _ => "monoceros development authority".to_owned(),
    };
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::OrganizationName, "monoceros development");
    parameters.distinguished_name.push(DnType::CommonName, name);
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_internet_are_out_of_reach() {
        let yes = [
            "localhost",
            "shop.localhost",
            "a.b.TEST",
            "nas.local",
            "10.0.0.5",
            "127.0.0.1",
            "192.168.7.1",
            "172.31.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
        ];
        let no = ["example.com", "localhost.com", "notlocalhost", "8.8.8.8", "172.32.0.1", "2001:db8::1", ""];
        for name in yes {
            assert!(may_vouch_for(name), "{name}");
        }
        for name in no {
            assert!(!may_vouch_for(name), "{name}");
        }
    }

    #[test]
    fn it_is_made_once() -> Result<(), DevelopmentCertificateError> {
        let place = tempfile::tempdir().expect("a directory");
        let directory = directory_in(place.path());
        assert!(Authority::open(&directory)?.is_none());
        let (first, is_new) = Authority::open_or_make(&directory)?;
        assert!(is_new);
        let (second, is_new) = Authority::open_or_make(&directory)?;
        assert!(!is_new && first.pem() == second.pem());
        // Half of it is no authority.
        fs::remove_file(directory.join(KEY)).expect("it is there");
        let (third, is_new) = Authority::open_or_make(&directory)?;
        assert!(is_new && third.pem() != first.pem());
        fs::write(certificate_in(&directory), "nonsense").expect("written");
        let error = Authority::open(&directory).expect_err("it is broken").to_string();
        assert!(error.contains("delete"), "{error}");
        Ok(())
    }
}
