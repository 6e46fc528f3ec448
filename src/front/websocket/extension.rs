//! Negotiation of permessage-deflate (RFC 7692 §7.1) from `Sec-WebSocket-Extensions` (RFC 6455 §9.1).

use std::fmt::Write as _;

const NAME: &str = "permessage-deflate";

/// The window of zlib, and what counts when nothing is said.
const WINDOW_BITS_MAX: u8 = 15;

/// The smallest window zlib compresses raw deflate with. An offer that demands 8 is passed over.
const SERVER_WINDOW_BITS_MIN: u8 = 9;

/// What both sides do when they compress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// The server starts every message with an empty window.
    pub server_no_context_takeover: bool,
    /// The client does.
    pub client_no_context_takeover: bool,
    /// Base-2 logarithm of the server's window, 9 to 15.
    pub server_max_window_bits: u8,
    /// Base-2 logarithm of the client's window, 8 to 15.
    pub client_max_window_bits: u8,
}

impl Default for Agreement {
    /// The offer without parameters.
    fn default() -> Self {
        Self {
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            server_max_window_bits: WINDOW_BITS_MAX,
            client_max_window_bits: WINDOW_BITS_MAX,
        }
    }
}

impl Agreement {
    /// Takes the first acceptable offer of permessage-deflate among the header's values, in the client's order of
    /// preference. What cannot be understood is passed over: the connection then goes without compression.
    pub fn negotiate<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        values.into_iter().flat_map(|value| split_outside_quotes(value, ',')).find_map(accept_offer)
    }

    /// The value of `Sec-WebSocket-Extensions` in the response.
    pub fn header_value(&self) -> String {
        let mut value = NAME.to_owned();
        if self.server_no_context_takeover {
            value.push_str("; server_no_context_takeover");
        }
        if self.client_no_context_takeover {
            value.push_str("; client_no_context_takeover");
        }
        // Writing to a string cannot fail.
        if self.server_max_window_bits < WINDOW_BITS_MAX {
            let _ = write!(value, "; server_max_window_bits={}", self.server_max_window_bits);
        }
        if self.client_max_window_bits < WINDOW_BITS_MAX {
            let _ = write!(value, "; client_max_window_bits={}", self.client_max_window_bits);
        }
        value
    }
}

/// An agreement when `offer` is one of permessage-deflate that this server can keep (RFC 7692 §5.1: unknown, repeated
/// or malformed parameters decline the offer).
fn accept_offer(offer: &str) -> Option<Agreement> {
    let mut parts = split_outside_quotes(offer, ';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(NAME) {
        return None;
    }
    let mut agreement = Agreement::default();
    let mut seen: Vec<String> = Vec::new();
    for parameter in parts {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name.trim(), Some(unquote(value.trim())?)),
            None => (parameter, None),
        };
        let name = name.to_ascii_lowercase();
        if seen.contains(&name) {
            return None;
        }
        match (name.as_str(), value) {
            ("server_no_context_takeover", None) => agreement.server_no_context_takeover = true,
            ("client_no_context_takeover", None) => agreement.client_no_context_takeover = true,
            ("server_max_window_bits", Some(value)) => {
                agreement.server_max_window_bits = window_bits(value).filter(|bits| *bits >= SERVER_WINDOW_BITS_MIN)?;
            }
            ("client_max_window_bits", Some(value)) => agreement.client_max_window_bits = window_bits(value)?,
            // The client only says that it would obey; nothing is asked of it.
            ("client_max_window_bits", None) => {}
            _ => return None,
        }
        seen.push(name);
    }
    Some(agreement)
}

/// 8 to 15, decimal, without leading zeros.
fn window_bits(value: &str) -> Option<u8> {
    match value {
        "8" => Some(8),
        "9" => Some(9),
        "10" => Some(10),
        "11" => Some(11),
        "12" => Some(12),
        "13" => Some(13),
        "14" => Some(14),
        "15" => Some(15),
        _ => None,
    }
}

/// The token inside a quoted string; `None` when a quote is left over. An escape would not make a token (RFC 6455
/// §9.1), so it is not undone.
fn unquote(value: &str) -> Option<&str> {
    let inner = match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => value,
    };
    (!inner.contains('"')).then_some(inner)
}

/// Splits at `separator`, except inside quoted strings.
fn split_outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |character| {
        if character == '"' {
            quoted = !quoted;
        }
        character == separator && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::Agreement;

    #[test]
    fn offers_and_answers() {
        let cases: &[(&str, Option<&str>)] = &[
            ("permessage-deflate", Some("permessage-deflate")),
            ("Permessage-Deflate", Some("permessage-deflate")),
            ("permessage-deflate; client_max_window_bits", Some("permessage-deflate")),
            ("permessage-deflate; client_max_window_bits=10", Some("permessage-deflate; client_max_window_bits=10")),
            ("permessage-deflate; client_max_window_bits=8", Some("permessage-deflate; client_max_window_bits=8")),
            ("permessage-deflate;server_max_window_bits=\"10\"", Some("permessage-deflate; server_max_window_bits=10")),
            ("permessage-deflate; server_max_window_bits = 9", Some("permessage-deflate; server_max_window_bits=9")),
            ("permessage-deflate; server_max_window_bits=15", Some("permessage-deflate")),
            (
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
                Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
            ),
            // The second offer is the fall-back of the first.
            (
                "permessage-deflate; server_max_window_bits=8, permessage-deflate; client_no_context_takeover",
                Some("permessage-deflate; client_no_context_takeover"),
            ),
            ("x-webkit-deflate-frame, permessage-deflate", Some("permessage-deflate")),
            ("foo; bar=\"a,permessage-deflate\", permessage-deflate", Some("permessage-deflate")),
            ("foo; bar=\"a, permessage-deflate\"", None),
            ("", None),
            ("permessage-bzip2", None),
            ("permessage-deflate; server_max_window_bits", None),
            ("permessage-deflate; server_max_window_bits=8", None),
            ("permessage-deflate; server_max_window_bits=16", None),
            ("permessage-deflate; server_max_window_bits=010", None),
            ("permessage-deflate; client_max_window_bits=7", None),
            ("permessage-deflate; client_max_window_bits=+9", None),
            ("permessage-deflate; client_max_window_bits=\"10", None),
            ("permessage-deflate; server_no_context_takeover=1", None),
            ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", None),
            ("permessage-deflate; made_up", None),
            ("permessage-deflate;", None),
        ];
        for (offer, expected) in cases {
            let answer = Agreement::negotiate([*offer]).map(|agreement| agreement.header_value());
            assert_eq!(answer.as_deref(), *expected, "{offer}");
        }
    }

    #[test]
    fn offers_on_several_header_lines_are_one_list() {
        let answer = Agreement::negotiate(["permessage-deflate; made_up", "permessage-deflate"]);
        assert_eq!(answer, Some(Agreement::default()));
    }
}
