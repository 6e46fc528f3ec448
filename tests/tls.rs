//! TLS over real sockets, with the client of the same library: names, protocols, resumption, and what is said when files
//! are wrong.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[allow(dead_code, reason = "the tests of the gate use all of it")]
#[path = "gate/echo.rs"]
mod echo;

use echo::Front;
use monoceros::front::tls::{
    self, CertificateError, CertificateFiles, CertificateWarning, Loaded, Settings, TlsError, Version,
};
use monoceros::front::{Purpose, limits};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme, StreamOwned};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Trusts everybody: which certificate came is what is tested.
#[derive(Debug)]
struct TrustAll;

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn client(version: &'static rustls::SupportedProtocolVersion, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAll))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn connect(front: &Front, config: &Arc<ClientConfig>, name: &'static str) -> std::io::Result<Stream> {
    let socket = TcpStream::connect(front.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let session = ClientConnection::new(Arc::clone(config), name.try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(session, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Asks once and reads to the end.
fn get(stream: &mut Stream) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn self_signed(directory: &Path, names: &[&str]) -> CertificateFiles {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let file = names[0].replace('*', "any");
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    write(directory, &file, &certificate.pem(), &key.serialize_pem())
}

fn write(directory: &Path, name: &str, certificate: &str, key: &str) -> CertificateFiles {
    let files = CertificateFiles {
        certificate: directory.join(format!("{name}.pem")),
        key: directory.join(format!("{name}-key.pem")),
    };
    fs::write(&files.certificate, certificate).unwrap();
    fs::write(&files.key, key).unwrap();
    files
}

fn load(certificates: Vec<CertificateFiles>, min_version: Version) -> Result<Loaded, Vec<TlsError>> {
    tls::load(&Settings { certificates, min_version, hsts: None, clients: None }, None, SystemTime::now())
}

fn start(certificates: Vec<CertificateFiles>, min_version: Version) -> Front {
    let loaded = load(certificates, min_version).unwrap();
    Front::start_with(&limits::Settings::default(), Purpose::Https, Some(&loaded.tls), 1)
}

#[test]
fn the_name_chooses_the_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let files = [
        self_signed(directory.path(), &["default.example"]),
        self_signed(directory.path(), &["*.b.example", "b.example"]),
        self_signed(directory.path(), &["x.b.example"]),
    ];
    let expected: Vec<Vec<u8>> =
        files.iter().map(|files| CertificateDer::from_pem_file(&files.certificate).unwrap().to_vec()).collect();
    let front = start(files.to_vec(), Version::Tls12);
    let config = client(&rustls::version::TLS13, &[]);
    for (name, index) in [
        ("default.example", 0),
        ("unknown.example", 0),
        ("127.0.0.1", 0),
        ("b.example", 1),
        ("any.b.example", 1),
        ("ANY.B.EXAMPLE", 1),
        ("x.b.example", 2),
        ("two.labels.b.example", 0),
    ] {
        let stream = connect(&front, &config, name).unwrap();
        assert_eq!(stream.conn.peer_certificates().unwrap()[0].as_ref(), expected[index], "{name}");
    }
}

#[test]
fn protocols_and_versions() {
    let directory = tempfile::tempdir().unwrap();
    let front = start(vec![self_signed(directory.path(), &["localhost"])], Version::Tls12);
    for (offered, chosen) in
        [(&[&b"h2"[..], b"http/1.1"][..], Some(&b"h2"[..])), (&[b"http/1.1"], Some(b"http/1.1")), (&[], None)]
    {
        let stream = connect(&front, &client(&rustls::version::TLS13, offered), "localhost").unwrap();
        assert_eq!(stream.conn.alpn_protocol(), chosen);
    }
    for (version, told) in [
        (&rustls::version::TLS12, "tls=303 Some(\"localhost\")"),
        (&rustls::version::TLS13, "tls=304 Some(\"localhost\")"),
    ] {
        let mut stream = connect(&front, &client(version, &[]), "localhost").unwrap();
        let answer = get(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(told), "{answer}");
    }
    let strict = start(vec![self_signed(directory.path(), &["localhost"])], Version::Tls13);
    assert!(connect(&strict, &client(&rustls::version::TLS12, &[]), "localhost").is_err());
    assert!(connect(&strict, &client(&rustls::version::TLS13, &[]), "localhost").is_ok());
}

#[test]
fn sessions_are_resumed() {
    let directory = tempfile::tempdir().unwrap();
    let front = start(vec![self_signed(directory.path(), &["localhost"])], Version::Tls12);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = client(version, &[]);
        let kind = |_| {
            let mut stream = connect(&front, &config, "localhost").unwrap();
            get(&mut stream);
            stream.conn.handshake_kind().unwrap()
        };
        assert_eq!([1, 2].map(kind), [HandshakeKind::Full, HandshakeKind::Resumed], "{version:?}");
    }
}

#[test]
fn http_to_the_https_port_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let front = start(vec![self_signed(directory.path(), &["localhost"])], Version::Tls12);
    let mut socket = TcpStream::connect(front.address).unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 ") && body.contains("https://"), "{answer}");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
    // And the port still serves.
    assert!(connect(&front, &client(&rustls::version::TLS13, &[]), "localhost").is_ok());
}

#[test]
fn a_handshake_that_does_not_come_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let loaded = load(vec![self_signed(directory.path(), &["localhost"])], Version::Tls12).unwrap();
    let limits = limits::Settings { handshake_timeout: Duration::from_millis(200), ..limits::Settings::default() };
    let front = Front::start_with(&limits, Purpose::Https, Some(&loaded.tls), 1);
    for begun in [&b""[..], b"\x16\x03\x01"] {
        let mut socket = TcpStream::connect(front.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.write_all(begun).unwrap();
        // To the end: an alert may come first, and a reset is an end too.
        let mut rest = Vec::new();
        let outcome = socket.read_to_end(&mut rest).map_err(|error| error.kind());
        assert!(matches!(outcome, Ok(_) | Err(std::io::ErrorKind::ConnectionReset)), "{outcome:?}");
    }
}

#[test]
fn wrong_files_are_explained_and_all_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let good = self_signed(directory, &["good"]);
    let other = self_signed(directory, &["other"]);
    let (certificate, key) = (fs::read_to_string(&good.certificate).unwrap(), fs::read_to_string(&good.key).unwrap());

    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "authority");
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, &authority_key);
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["leaf".to_owned()]).unwrap().signed_by(&leaf_key, &issuer).unwrap();
    let chain = |parts: &[&str], name: &str| write(directory, name, &parts.concat(), &leaf_key.serialize_pem());
    let (leaf, authority) = (leaf.pem(), authority_certificate.pem());
    assert!(load(vec![chain(&[&leaf, &authority], "right-chain")], Version::Tls12).is_ok());

    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let cases: Vec<(CertificateFiles, &str)> = vec![
        (CertificateFiles { certificate: directory.join("absent"), key: good.key.clone() }, "cannot read"),
        (write(directory, "empty", "", &key), "it is empty"),
        (write(directory, "swapped", &key, &certificate), "are the two files swapped?"),
        (write(directory, "no-key", &certificate, "nothing"), "no PEM private key"),
        (
            write(directory, "broken", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &key),
            "certificate 1 in",
        ),
        (write(directory, "encrypted", &certificate, encrypted), "openssl pkey"),
        (CertificateFiles { certificate: good.certificate.clone(), key: other.key.clone() }, "does not belong to"),
        (chain(&[&authority, &leaf], "wrong-order"), "is number 2 and must be the first"),
        (chain(&[&leaf, &certificate], "broken-chain"), "is not the issuer of the one before it"),
    ];
    let (files, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let errors = load(files, Version::Tls12).unwrap_err();
    assert_eq!(errors.len(), expected.len(), "{errors:?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains(directory.to_str().unwrap()), "{error}: names no file");
    }
    assert!(matches!(errors[0], TlsError::Certificate(CertificateError::Unreadable { .. })));
    assert!(matches!(load(Vec::new(), Version::Tls12).unwrap_err()[..], [TlsError::NoCertificates]));
}

#[test]
fn a_certificate_out_of_date_is_only_warned_about() {
    let directory = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(vec!["old".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2001, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let files = write(directory.path(), "old", &parameters.self_signed(&key).unwrap().pem(), &key.serialize_pem());
    let loaded = load(vec![files.clone()], Version::Tls12).unwrap();
    assert!(matches!(loaded.warnings[..], [CertificateWarning::Expired { days, .. }] if days > 9000));
    let before = SystemTime::UNIX_EPOCH + Duration::from_secs(3600);
    let loaded = tls::load(
        &Settings { certificates: vec![files], min_version: Version::Tls12, hsts: None, clients: None },
        None,
        before,
    )
    .unwrap();
    assert!(matches!(loaded.warnings[..], [CertificateWarning::NotYetValid { .. }]));
}

/// The content of one DER element, and what follows it.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (start, length) = match der[1] {
        short @ ..0x80 => (2, usize::from(short)),
        long => {
            let digits = usize::from(long & 0x7F);
            (2 + digits, der[2..2 + digits].iter().fold(0, |length, &digit| length << 8 | usize::from(digit)))
        }
    };
    (&der[start..start + length], &der[start + length..])
}

/// The older format, which is inside PKCS #8 (RFC 5958 §2) as an octet string.
fn older_format(pkcs8: &[u8], label: &str) -> String {
    use base64::Engine as _;
    let (sequence, _) = element(pkcs8);
    let (_version, rest) = element(sequence);
    let (_algorithm, rest) = element(rest);
    let text = base64::engine::general_purpose::STANDARD.encode(element(rest).0);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

#[test]
fn all_key_formats() {
    let directory = tempfile::tempdir().unwrap();
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let elliptic = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let edwards = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    for (name, key, text) in [
        ("pkcs1", &rsa, older_format(rsa.serialized_der(), "RSA PRIVATE KEY")),
        ("pkcs8", &rsa, rsa.serialize_pem()),
        ("sec1", &elliptic, older_format(elliptic.serialized_der(), "EC PRIVATE KEY")),
        ("ed25519", &edwards, edwards.serialize_pem()),
    ] {
        let certificate = CertificateParams::new(vec!["test".to_owned()]).unwrap().self_signed(key).unwrap();
        let loaded = load(vec![write(directory.path(), name, &certificate.pem(), &text)], Version::Tls12);
        assert!(loaded.is_ok(), "{name}: {:?}", loaded.unwrap_err());
    }
}

#[test]
fn the_development_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("certificates");
    let wanted = tls::DevelopmentCertificate { directory: place.clone(), names: Vec::new(), authority: None };
    let files = tls::development_certificate(&wanted).unwrap();
    assert_eq!(fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
    let first = fs::read(&files.certificate).unwrap();
    assert_eq!(tls::development_certificate(&wanted).unwrap(), files);
    assert_eq!(fs::read(&files.certificate).unwrap(), first, "a good certificate is kept");
    assert!(load(vec![files.clone()], Version::Tls12).unwrap().warnings.is_empty());

    fs::write(&files.certificate, "damaged").unwrap();
    tls::development_certificate(&wanted).unwrap();
    assert_ne!(fs::read(&files.certificate).unwrap(), first);
    let front = start(vec![files.clone()], Version::Tls12);

    // A client that trusts this certificate and nothing else accepts it under each of its names.
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    for name in ["localhost", "127.0.0.1", "::1"] {
        connect(&front, &config, name).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert!(connect(&front, &config, "example.org").is_err());
}

#[test]
fn a_development_certificate_of_an_authority() {
    let directory = tempfile::tempdir().unwrap();
    let authority = tls::authority::directory_in(directory.path());
    let wanted = |names: &[&str], authority: &Path| tls::DevelopmentCertificate {
        directory: directory.path().join("certificates"),
        names: names.iter().map(|&name| name.to_owned()).collect(),
        authority: Some(authority.to_owned()),
    };
    let make = |names, authority| {
        let files = tls::development_certificate(&wanted(names, authority)).unwrap();
        let text = fs::read(&files.certificate).unwrap();
        (files, text)
    };
    let names: &[&str] = &["Laptop.local", "shop.localhost", "192.168.1.5"];
    let (files, first) = make(names, &authority);
    assert_eq!(make(names, &authority).1, first, "a good certificate is kept");
    let key = authority.join("authority-key.pem");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);

    // A client that trusts the authority and nothing else.
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(tls::authority::certificate_in(&authority)).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let front = start(vec![files], Version::Tls12);
    for name in ["localhost", "shop.localhost", "127.0.0.1", "::1", "laptop.local", "192.168.1.5"] {
        connect(&front, &config, name).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert!(connect(&front, &config, "other.local").is_err());

    // Other names and another authority need another certificate.
    assert_ne!(make(&[], &authority).1, first);
    let (_, second) = make(names, &authority);
    assert_ne!(make(names, &directory.path().join("another")).1, second);
}
