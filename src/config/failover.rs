//! When another worker is asked: `--retries`, `--retry-on` and their neighbours.

use super::definition::Key;
use super::layer::Given;
use super::reader::Reader;
use crate::upstream::failover::Policy;
use crate::upstream::signs::{Sign, Signs};

pub(super) fn read(reader: &mut Reader<'_>) -> Policy {
    Policy {
        retries: reader.count(Key::Retries),
        timeout: reader.duration(Key::RetryTimeout),
        signs: signs(reader),
        non_idempotent: reader.switch(Key::RetryNonIdempotent),
        budget: reader.count(Key::RetryBudget),
    }
}

/// Each value is a sign, or several with commas between them.
fn signs(reader: &mut Reader<'_>) -> Signs {
    let given = reader.all(Key::RetryOn);
    if let [only] = given
        && only.text.trim() == "never"
    {
        return Signs::new(Vec::new());
    }
    let mut signs = Vec::new();
    for given in given {
        for text in given.text.split(',').map(str::trim) {
            if let Some(sign) = Sign::parse(text) {
                signs.push(sign);
            } else {
                let value = Given { text: text.to_owned(), origin: given.origin.clone() };
                reader.invalid(Key::RetryOn, &value, hint(text));
            }
        }
    }
    Signs::new(signs)
}

/// For those who bring it from nginx or `HAProxy`.
fn hint(text: &str) -> Option<String> {
    let sign = match text {
        "off" | "none" => "never",
        "http_500" | "http_502" | "http_503" | "http_504" | "http_403" | "http_404" | "http_429" => &text[5..],
        "invalid_header" | "junk-response" | "empty-response" => "error",
        "response-timeout" => "timeout",
        "conn-failure" => "died",
        "non_idempotent" => return Some("use --retry-non-idempotent".to_owned()),
        "never" => return Some("never stands alone".to_owned()),
        _ => return None,
    };
    Some(format!("here it is {sign}"))
}
