//! The addresses to listen on, together: which speak TLS, and where plain HTTP is sent.

use super::bind::{self, Written};
use super::definition::Key;
use super::error::{ConfigError, Problem};
use super::layer::Given;
use super::reader::Reader;
use crate::front::{Bind, BindAddress, Purpose};

/// Reads all addresses, the one that only redirects last.
pub(super) fn read(reader: &mut Reader<'_>, has_certificates: bool) -> Vec<Bind> {
    let mut binds = Vec::new();
    for given in reader.all(Key::Bind) {
        let Some(written) = address(reader, Key::Bind, given) else { continue };
        let purpose = written.purpose(has_certificates);
        if purpose == Purpose::Https && !has_certificates {
            let error = ConfigError::new(Problem::TlsWithoutCertificate { address: given.text.clone() });
            let hint = "give one with --tls-cert FILE --tls-key FILE, or --dev-cert for development";
            reader.errors.push(error.at(&given.origin).hint(hint));
        }
        add(reader, &mut binds, given, Bind { address: written.address, purpose });
    }
    if let Some(given) = reader.one(Key::RedirectHttp) {
        redirect(reader, &mut binds, given);
    }
    binds
}

/// The listeners for operators. Who asks there is on the same machine or in the same private network.
pub(super) fn read_admin(reader: &mut Reader<'_>, binds: &[Bind]) -> Vec<Bind> {
    let mut all = binds.to_vec();
    for given in reader.all(Key::AdminBind) {
        let Some(written) = address(reader, Key::AdminBind, given) else { continue };
        if written.purpose(false) == Purpose::Https {
            let hint = "it speaks plain HTTP: choose a loopback or private address, or a Unix socket";
            reader.invalid(Key::AdminBind, given, Some(hint.to_owned()));
            continue;
        }
        add(reader, &mut all, given, Bind { address: written.address, purpose: Purpose::Http });
    }
    all.split_off(binds.len())
}

fn redirect(reader: &mut Reader<'_>, binds: &mut Vec<Bind>, given: &Given) {
    let Some(written) = address(reader, Key::RedirectHttp, given) else { return };
    let Some(port) = tls_port(binds) else {
        let error = ConfigError::new(Problem::RedirectWithoutTls).at(&given.origin);
        reader.errors.push(error.hint("add --bind https://0.0.0.0:443 and a certificate"));
        return;
    };
    add(reader, binds, given, Bind { address: written.address, purpose: Purpose::RedirectToHttps { port } });
}

/// The port that browsers are sent to: that of the first TLS address; 443 where only an inherited socket speaks TLS.
fn tls_port(binds: &[Bind]) -> Option<u16> {
    let tls = || binds.iter().filter(|bind| bind.purpose == Purpose::Https);
    let port = tls().find_map(|bind| match bind.address {
        BindAddress::Tcp(address) => Some(address.port()),
        BindAddress::Unix(_) | BindAddress::Descriptor(_) => None,
    });
    port.or_else(|| tls().any(|bind| matches!(bind.address, BindAddress::Descriptor(_))).then_some(443))
}

fn address(reader: &mut Reader<'_>, key: Key, given: &Given) -> Option<Written> {
    let written = bind::parse(&given.text);
    if written.is_none() {
        reader.invalid(key, given, bind::hint(&given.text).map(str::to_owned));
    }
    written
        .map(|written| Written { address: bind::absolute(written.address, reader.surroundings.directory), ..written })
}

/// Adds an address. Port 0 may be given any number of times: the kernel chooses another port for each.
fn add(reader: &mut Reader<'_>, binds: &mut Vec<Bind>, given: &Given, bind: Bind) {
    let chosen_by_kernel = matches!(bind.address, BindAddress::Tcp(address) if address.port() == 0);
    if !chosen_by_kernel && binds.iter().any(|other| other.address == bind.address) {
        let address = bind::show(&bind.address);
        reader.errors.push(ConfigError::new(Problem::AddressTwice { address }).at(&given.origin));
    }
    binds.push(bind);
}
