//! Pure: who is let in while the server is in maintenance (`--maintenance-bypass`).

use super::Address;
use core::net::IpAddr;
use http::header::COOKIE;
use http::request::Parts;
use http::{HeaderName, HeaderValue};

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bypass {
    /// `10.0.0.0/8`, `::1`: clients with these addresses.
    Network { address: IpAddr, prefix: u8 },
    /// `/path`: this path and what is below it.
    Path(String),
    /// `cookie:NAME=VALUE`.
    Cookie { name: String, value: String },
    /// `header:NAME=VALUE`.
    Header { name: HeaderName, value: String },
}

impl Bypass {
    /// Reads one rule; `None` for what is none.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let pair = |text: &str| -> Option<(String, String)> {
            let (name, value) = text.split_once('=')?;
            (!name.is_empty() && !value.is_empty()).then(|| (name.to_owned(), value.to_owned()))
        };
        if text.starts_with('/') && !text.contains(['?', '#']) {
            return Some(Self::Path(text.trim_end_matches('/').to_owned()));
        }
        if let Some(cookie) = text.strip_prefix("cookie:") {
            let (name, value) = pair(cookie)?;
            return Some(Self::Cookie { name, value });
        }
        if let Some(header) = text.strip_prefix("header:") {
            let (name, value) = pair(header)?;
            return Some(Self::Header { name: HeaderName::from_bytes(name.as_bytes()).ok()?, value });
        }
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(longest);
        (prefix <= longest).then_some(Self::Network { address, prefix })
    }

    /// Whether this rule lets a request in.
    pub fn lets_in(&self, peer: &Address, request: &Parts) -> bool {
        match self {
            Self::Network { address, prefix } => match peer {
                Address::Tcp(socket) => is_in(socket.ip().to_canonical(), *address, *prefix),
                Address::Unix(_) => false,
            },
            Self::Path(path) => request
                .uri
                .path()
                .strip_prefix(path.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Self::Cookie { name, value } => request.headers.get_all(COOKIE).iter().any(|field| {
                let pairs = field.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
                pairs
                    .filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
                    .any(|given| is_secret(given, value))
            }),
            Self::Header { name, value } => {
                request.headers.get_all(name).iter().map(HeaderValue::as_bytes).any(|given| is_secret(given, value))
            }
        }
    }
}

/// Compares without telling by its time where the first difference is.
fn is_secret(given: &[u8], secret: &str) -> bool {
    let secret = secret.as_bytes();
    given.len() == secret.len() && given.iter().zip(secret).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

fn is_in(client: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let (client, network, length) = match (client, network) {
        (IpAddr::V4(client), IpAddr::V4(network)) => (u128::from(client.to_bits()), u128::from(network.to_bits()), 32),
        (IpAddr::V6(client), IpAddr::V6(network)) => (client.to_bits(), network.to_bits(), 128),
        _ => return false,
    };
    // A shift by the whole width is none.
    (client ^ network).checked_shr(length - u32::from(prefix)).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed preparation is a failed test")]
    use super::*;
    use http::Request;

    #[test]
    fn rules_are_read_or_refused() {
        for text in
            ["10.0.0.0/8", "::1", "2001:db8::/32", "0.0.0.0/0", "/health", "cookie:a=b", "header:X-Pass=s3cret=1"]
        {
            assert!(Bypass::parse(text).is_some(), "{text}");
        }
        for text in
            ["", "10.0.0.0/33", "10.0.0", "localhost", "cookie:a", "cookie:=b", "header:a b=c", "header:a=", "/a?b"]
        {
            assert_eq!(Bypass::parse(text), None, "{text}");
        }
    }

    #[test]
    fn who_is_let_in() {
        let request = |path: &str| {
            let head = Request::get(path).header("cookie", "x=1; pass=open").header("x-pass", "open").body(()).unwrap();
            head.into_parts().0
        };
        let rows = [
            ("10.0.0.0/8", "10.1.2.3:1", "/", true),
            ("10.0.0.0/8", "11.1.2.3:1", "/", false),
            ("10.0.0.0/8", "[::ffff:10.1.2.3]:1", "/", true),
            ("0.0.0.0/0", "11.1.2.3:1", "/", true),
            ("10.1.2.3", "10.1.2.3:1", "/", true),
            ("10.1.2.3", "10.1.2.4:1", "/", false),
            ("2001:db8::/32", "[2001:db8::7]:1", "/", true),
            ("2001:db8::/32", "[2001:db9::7]:1", "/", false),
            ("0.0.0.0/0", "[2001:db9::7]:1", "/", false),
            ("/health", "10.1.2.3:1", "/health", true),
            ("/health/", "10.1.2.3:1", "/health/db", true),
            ("/health", "10.1.2.3:1", "/healthy", false),
            ("cookie:pass=open", "10.1.2.3:1", "/", true),
            ("cookie:pass=shut", "10.1.2.3:1", "/", false),
            ("cookie:pass=ope", "10.1.2.3:1", "/", false),
            ("cookie:as=open", "10.1.2.3:1", "/", false),
            ("header:X-Pass=open", "10.1.2.3:1", "/", true),
            ("header:X-Pass=shut", "10.1.2.3:1", "/", false),
        ];
        for (rule, peer, path, expected) in rows {
            let peer = Address::Tcp(peer.parse().unwrap());
            assert_eq!(Bypass::parse(rule).unwrap().lets_in(&peer, &request(path)), expected, "{rule} {peer} {path}");
        }
        assert!(!Bypass::parse("0.0.0.0/0").unwrap().lets_in(&Address::Unix(None), &request("/")));
    }
}
