//! Pure: what holds for the requests of one TLS connection, beyond what holds for every request.

use super::choice::Choice;
use crate::front::gate::host;
use http::header::{HOST, STRICT_TRANSPORT_SECURITY};
use http::{HeaderMap, HeaderValue};
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Browsers shall come over TLS only (RFC 6797).
    pub(super) hsts: Option<HeaderValue>,
    /// The name the client asked for, and the certificates there were then, where there are several.
    pub(super) names: Option<(String, Arc<Choice>)>,
}

impl Rules {
    /// The request is for a host with another certificate than the one this client has seen (RFC 9110 §7.4). Browsers do
    /// that when they reuse a connection for another name; they ask again on a new one.
    pub(crate) fn is_misdirected(&self, headers: &HeaderMap) -> bool {
        let Some((server_name, choice)) = &self.names else { return false };
        let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()).map(host::name) else { return false };
        !host.eq_ignore_ascii_case(server_name) && choice.is_elsewhere(server_name, host)
    }

    /// What the application says itself counts.
    pub(crate) fn complete(&self, headers: &mut HeaderMap) {
        if let Some(hsts) = &self.hsts {
            headers.entry(STRICT_TRANSPORT_SECURITY).or_insert_with(|| hsts.clone());
        }
    }
}

/// The header for a number of seconds, with `includeSubDomains` and `preload` after it if wanted. `Err`: what to write instead.
pub fn hsts(text: &str) -> Result<HeaderValue, &'static str> {
    const LEAST_FOR_PRELOAD: u64 = 31_536_000;
    let mut parts = text.split(';').map(str::trim);
    let age = parts.next().unwrap_or_default();
    let age = age.strip_prefix("max-age=").unwrap_or(age);
    if age.is_empty() || !age.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("begin with a number of seconds: a year is 31536000");
    }
    let Ok(seconds) = age.parse::<u64>() else { return Err("a year is 31536000") };
    let (mut subdomains, mut preload) = (false, false);
    for part in parts {
        match part {
            _ if part.eq_ignore_ascii_case("includeSubDomains") => subdomains = true,
            _ if part.eq_ignore_ascii_case("preload") => preload = true,
            _ => return Err("after the seconds come includeSubDomains and preload: 31536000; includeSubDomains"),
        }
    }
    if preload && (!subdomains || seconds < LEAST_FOR_PRELOAD) {
        return Err("browsers preload no less than 31536000; includeSubDomains; preload");
    }
    let mut text = format!("max-age={seconds}");
    for (_, part) in [(subdomains, "; includeSubDomains"), (preload, "; preload")].iter().filter(|(wanted, _)| *wanted)
    {
        text.push_str(part);
    }
    HeaderValue::try_from(text).map_err(|_| "a year is 31536000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_other_certificates() {
        let certificates = [["a.test".to_owned()], ["b.test".to_owned()], ["*.c.test".to_owned()]];
        let choice = Arc::new(Choice::new(certificates.iter().map(<[String; 1]>::as_slice)));
        let rows = [
            ("a.test", "a.test", false),
            ("a.test", "A.test:8443", false),
            ("a.test", "b.test", true),
            ("a.test", "x.c.test", true),
            ("x.c.test", "y.c.test", false),
            ("unknown.test", "a.test", false),
            ("unknown.test", "b.test", true),
            // Nobody's name: the application decides.
            ("a.test", "127.0.0.1", false),
            ("b.test", "unknown.test", false),
        ];
        for (server_name, host, expected) in rows {
            let rules = Rules { hsts: None, names: Some((server_name.to_owned(), Arc::clone(&choice))) };
            let headers = [(HOST, HeaderValue::from_static(host))].into_iter().collect();
            assert_eq!(rules.is_misdirected(&headers), expected, "{host} on a connection to {server_name}");
        }
    }

    #[test]
    fn headers_of_hsts() {
        let rows = [
            ("0", Some("max-age=0")),
            ("31536000", Some("max-age=31536000")),
            ("max-age=60;INCLUDESUBDOMAINS", Some("max-age=60; includeSubDomains")),
            ("31536000; includeSubDomains; preload", Some("max-age=31536000; includeSubDomains; preload")),
            ("60; includeSubDomains; preload", None),
            ("31536000; preload", None),
            ("1 year", None),
            ("60; subdomains", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(hsts(text).ok().as_ref().and_then(|value| value.to_str().ok()), expected, "{text}");
        }
    }
}
