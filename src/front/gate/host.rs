//! Host and authority (RFC 9110 §7.2, RFC 3986 §3.2).

/// Whether it is `host`, `host:port`, `[v6]` or `[v6]:port`, with a host made of the characters that names and
/// addresses are made of. No user information, no percent-encoding, nothing that a log or a redirect could be fooled by.
pub fn is_valid(authority: &[u8]) -> bool {
    let (host, port) = split(authority);
    let host_valid = match host {
        [b'[', address @ .., b']'] => is_ipv6(address),
        _ => !host.is_empty() && host.iter().all(|&byte| is_name_byte(byte)),
    };
    host_valid && port.is_none_or(is_port)
}

/// Underscores are not host names by the book, but containers are called so.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn is_ipv6(address: &[u8]) -> bool {
    std::str::from_utf8(address).is_ok_and(|text| text.parse::<core::net::Ipv6Addr>().is_ok())
}

/// An empty port is allowed (RFC 3986 §3.2.3) and means the default one.
fn is_port(port: &[u8]) -> bool {
    port.is_empty() || std::str::from_utf8(port).is_ok_and(|text| !text.starts_with('+') && text.parse::<u16>().is_ok())
}

/// Host and port text. A bracketed address keeps its brackets.
fn split(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let after_address = memchr::memrchr(b']', authority).unwrap_or(0);
    match memchr::memchr(b':', &authority[after_address..]) {
        Some(colon) => (&authority[..after_address + colon], Some(&authority[after_address + colon + 1..])),
        None => (authority, None),
    }
}

/// The host of a valid authority, without its port.
pub fn name(authority: &str) -> &str {
    let length = split(authority.as_bytes()).0.len();
    &authority[..length]
}

/// Whether two valid authorities name the same place, where `default_port` is the scheme's.
pub fn is_same(one: &str, other: &str, default_port: u16) -> bool {
    let port = |authority: &str| match split(authority.as_bytes()).1 {
        None | Some(b"") => default_port,
        Some(digits) => std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).unwrap_or(default_port),
    };
    name(one).eq_ignore_ascii_case(name(other)) && port(one) == port(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        for valid in ["a", "example.org", "example.org:80", "my_app:8000", "127.0.0.1", "[::1]", "[::1]:8443", "a:"] {
            assert!(is_valid(valid.as_bytes()), "{valid}");
        }
        let invalid = [
            "", ":80", "a@b", "a/b", "a,b", "a b", "a:b", "a:65536", "a:+1", "a:1:2", "[::1", "[::g]", "::1", "a%41",
            "é", "[::1]x", "[]", "a\\b", "a?b", "a#b",
        ];
        for invalid in invalid {
            assert!(!is_valid(invalid.as_bytes()), "{invalid}");
        }
    }

    #[test]
    fn same_place() {
        assert!(is_same("a", "A:80", 80));
        assert!(is_same("[::1]:443", "[::1]", 443));
        assert!(!is_same("a", "a:81", 80));
        assert!(!is_same("a", "b", 80));
        assert_eq!(name("[::1]:8443"), "[::1]");
    }
}
