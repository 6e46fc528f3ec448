//! Pure: the name of a certificate's subject as text (RFC 4514), as nginx and the TLS extension of ASGI write it.

use std::fmt::Write as _;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Short names of attributes (RFC 4514 §3), and the one that everybody uses for addresses of mail.
const NAMES: [(&str, &str); 10] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// The most specific part first.
pub(super) fn rfc4514(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> =
        name.iter_rdn().map(|rdn| rdn.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let kind = attribute.attr_type().to_id_string();
    let name = NAMES.iter().find(|(id, _)| *id == kind).map(|(_, name)| *name);
    match (name, attribute.as_str()) {
        (Some(name), Ok(value)) => format!("{name}={}", escaped(value)),
        // RFC 4514 §2.4: what is no text is written in hexadecimal digits.
        (name, _) => {
            let mut text = format!("{}=#", name.unwrap_or(&kind));
            for byte in attribute.as_slice() {
                // Cannot fail: the target is a string.
                let _ = write!(text, "{byte:02x}");
            }
            text
        }
    }
}

/// RFC 4514 §2.4. Control characters too: the text goes into environments and logs.
fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut text = String::with_capacity(value.len());
    for (place, character) in value.chars().enumerate() {
        let is_special = matches!(character, '"' | '+' | ',' | ';' | '<' | '>' | '\\')
            || (place == 0 && matches!(character, ' ' | '#'))
            || (place == last && character == ' ');
        if character.is_control() {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                let _ = write!(text, "\\{byte:02X}");
            }
        } else {
            if is_special {
                text.push('\\');
            }
            text.push(character);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped() {
        let rows = [
            ("Alice", "Alice"),
            ("Example, Inc.", "Example\\, Inc."),
            ("a+b=c", "a\\+b=c"),
            ("#1", "\\#1"),
            (" a b ", "\\ a b\\ "),
            (" ", "\\ "),
            ("a\nb\0", "a\\0Ab\\00"),
            ("Zoë", "Zoë"),
            ("", ""),
        ];
        for (value, expected) in rows {
            assert_eq!(escaped(value), expected);
        }
    }
}
