//! Addresses to listen on, as users write them.

use crate::front::{BindAddress, Purpose};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Longest path of a Unix socket, in bytes: `sun_path` of Linux less its closing zero.
const UNIX_PATH_MAX: usize = 107;

/// An address as written, with `http://` or `https://` taken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub address: BindAddress,
    /// What the prefix asked for; without one it depends on the certificates.
    pub scheme: Option<Scheme>,
}

/// The prefix of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Written {
    /// What is spoken there. Unix sockets are usually for a proxy on the same machine, so they are plain unless the
    /// prefix says otherwise.
    pub fn purpose(&self, has_certificates: bool) -> Purpose {
        match (self.scheme, &self.address) {
            (Some(Scheme::Http), _) => Purpose::Http,
            (Some(Scheme::Https), _) => Purpose::Https,
            (None, BindAddress::Unix(_)) => Purpose::Http,
            (None, BindAddress::Tcp(_) | BindAddress::Descriptor(_)) if has_certificates => Purpose::Https,
            (None, BindAddress::Tcp(_) | BindAddress::Descriptor(_)) => Purpose::Http,
        }
    }
}

/// Reads an address. An empty host is every IPv4 address, as in gunicorn; `localhost` is `127.0.0.1`; other names are
/// not looked up. The path of a Unix socket is taken as it stands.
pub fn parse(text: &str) -> Option<Written> {
    let text = text.trim();
    let (scheme, rest) = if let Some(rest) = text.strip_prefix("https://") {
        (Some(Scheme::Https), rest)
    } else if let Some(rest) = text.strip_prefix("http://") {
        (Some(Scheme::Http), rest)
    } else {
        (None, text)
    };
    let address = if let Some(path) = rest.strip_prefix("unix:") {
        // `unix:///run/x` is a URL with an empty host, `unix:/run/x` and `unix:run/x` are plain paths.
        let path = path.strip_prefix("//").unwrap_or(path);
        let fits = !path.is_empty() && path.len() <= UNIX_PATH_MAX && !path.contains('\0');
        BindAddress::Unix(fits.then(|| PathBuf::from(path))?)
    } else if let Some(number) = rest.strip_prefix("fd://") {
        BindAddress::Descriptor(digits(number)?.parse().ok()?)
    } else {
        BindAddress::Tcp(parse_tcp(rest.strip_suffix('/').unwrap_or(rest), scheme)?)
    };
    Some(Written { address, scheme })
}

fn parse_tcp(text: &str, scheme: Option<Scheme>) -> Option<SocketAddr> {
    if let Some(port) = digits(text) {
        return Some(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port.parse().ok()?));
    }
    let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let (host, after) = bracketed.split_once(']')?;
        let host = IpAddr::V6(host.parse::<Ipv6Addr>().ok()?);
        (host, after.is_empty().then_some(None).or_else(|| after.strip_prefix(':').map(Some))?)
    } else {
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        let host = match host {
            "" if port.is_none() => return None,
            "" | "*" => Ipv4Addr::UNSPECIFIED,
            "localhost" => Ipv4Addr::LOCALHOST,
            _ => host.parse().ok()?,
        };
        (IpAddr::V4(host), port)
    };
    let port = match (port, scheme) {
        (Some(port), _) => digits(port)?.parse().ok()?,
        (None, Some(Scheme::Http)) => 80,
        (None, Some(Scheme::Https)) => 443,
        (None, None) => return None,
    };
    Some(SocketAddr::new(host, port))
}

fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

/// Writes an address in the form that [`parse`] reads.
pub fn show(address: &BindAddress) -> String {
    match address {
        BindAddress::Tcp(address) => address.to_string(),
        BindAddress::Unix(path) => format!("unix:{}", path.display()),
        BindAddress::Descriptor(number) => format!("fd://{number}"),
    }
}

/// Puts a relative path of a Unix socket under `directory`.
pub fn absolute(address: BindAddress, directory: &Path) -> BindAddress {
    match address {
        BindAddress::Unix(path) => BindAddress::Unix(directory.join(path)),
        other => other,
    }
}

/// What is probably wrong with an address that [`parse`] refuses.
pub fn hint(text: &str) -> Option<&'static str> {
    let rest = text.trim().trim_start_matches("https://").trim_start_matches("http://");
    if let Some(path) = rest.strip_prefix("unix:") {
        return (path.len() > UNIX_PATH_MAX).then_some("the path of a Unix socket has at most 107 bytes");
    }
    if rest.starts_with('/') {
        return Some("write unix: before the path of a Unix socket");
    }
    if rest.parse::<Ipv6Addr>().is_ok() || (rest.matches(':').count() > 1 && !rest.starts_with('[')) {
        return Some("write an IPv6 address in brackets: [::1]:8000");
    }
    if rest.parse::<Ipv4Addr>().is_ok() || rest == "localhost" {
        return Some("add the port, such as 127.0.0.1:8000");
    }
    let host = rest.split(':').next().unwrap_or_default();
    let is_name = host.starts_with(|first: char| first.is_ascii_alphabetic());
    is_name.then_some("names are not looked up: give the IP address, or 0.0.0.0 for all")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_users_write() {
        let tcp = |text: &str| text.parse().ok().map(BindAddress::Tcp);
        let unix = |path: &str| Some(BindAddress::Unix(path.into()));
        let fd = |number| Some(BindAddress::Descriptor(number));
        let (plain, tls) = (Some(Scheme::Http), Some(Scheme::Https));
        let cases = [
            ("127.0.0.1:8000", tcp("127.0.0.1:8000"), None),
            (":8000", tcp("0.0.0.0:8000"), None),
            ("*:8000", tcp("0.0.0.0:8000"), None),
            ("8000", tcp("0.0.0.0:8000"), None),
            ("localhost:0", tcp("127.0.0.1:0"), None),
            ("[::]:443", tcp("[::]:443"), None),
            ("[::1]:443", tcp("[::1]:443"), None),
            ("http://:80", tcp("0.0.0.0:80"), plain),
            ("http://127.0.0.1", tcp("127.0.0.1:80"), plain),
            ("https://0.0.0.0/", tcp("0.0.0.0:443"), tls),
            ("https://[::]", tcp("[::]:443"), tls),
            ("https://8443", tcp("0.0.0.0:8443"), tls),
            ("unix:/run/app.sock", unix("/run/app.sock"), None),
            ("unix:///run/app.sock", unix("/run/app.sock"), None),
            ("unix:app.sock", unix("app.sock"), None),
            ("https://unix:/run/app.sock", unix("/run/app.sock"), tls),
            ("fd://3", fd(3), None),
            ("http://fd://3", fd(3), plain),
        ];
        for (text, address, scheme) in cases {
            assert!(address.is_some(), "the expectation for {text:?} is no address");
            assert_eq!(parse(text), address.map(|address| Written { address, scheme }), "{text:?}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        let long = format!("unix:/{}", "x".repeat(UNIX_PATH_MAX));
        let cases = [
            "",
            ":",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:65536",
            "127.0.0.1:+80",
            "example.org:80",
            "::1:80",
            "[::1",
            "[::1]80",
            "[127.0.0.1]:80",
            "unix:",
            "fd://",
            "fd://-1",
            "fd://99999999999",
            "ftp://x:21",
            "http://",
            "256.0.0.1:80",
            "/run/app.sock",
            long.as_str(),
            "https://http://:80",
        ];
        for text in cases {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn shows_what_it_can_read() {
        for text in ["127.0.0.1:8000", "[::]:443", "unix:/run/app.sock", "fd://3"] {
            assert_eq!(parse(text).map(|written| show(&written.address)).as_deref(), Some(text));
        }
    }

    #[test]
    fn the_scheme_decides_over_the_certificates() {
        let cases = [
            (":80", false, Purpose::Http),
            (":80", true, Purpose::Https),
            ("http://:80", true, Purpose::Http),
            ("https://:443", false, Purpose::Https),
            ("unix:/x", true, Purpose::Http),
            ("https://unix:/x", true, Purpose::Https),
            ("fd://3", true, Purpose::Https),
        ];
        for (text, has_certificates, purpose) in cases {
            assert_eq!(parse(text).map(|written| written.purpose(has_certificates)), Some(purpose), "{text}");
        }
    }

    #[test]
    fn says_what_is_probably_wrong() {
        let cases =
            [("127.0.0.1", "port"), ("/run/x.sock", "unix:"), ("::1", "brackets"), ("example.org:80", "looked up")];
        for (text, word) in cases {
            assert!(hint(text).is_some_and(|hint| hint.contains(word)), "{text}: {:?}", hint(text));
        }
        assert_eq!(hint(":99999"), None);
    }
}
