//! Pure: the signs by which another worker is asked after a request was entered (`--retry-on`).

use super::error::Cause;
use http::HeaderName;
use monoceros_wire::message::ResponseHead;

/// One sign, as it is written in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sign {
    /// `died`: the worker died in the application.
    Died,
    /// `timeout`: the application did not begin its answer within `--timeout`.
    Timeout,
    /// `error`: the application raised, or returned without an answer.
    Error,
    /// `503` or `5xx`: the application answered with a status from the first to the last of these.
    Status { first: u16, last: u16 },
    /// `header:NAME` or `header:NAME=VALUE`: the application answered with this field.
    Header { name: HeaderName, value: Option<String> },
}

impl Sign {
    /// Reads one sign; `None` for what is none. Only failures can be signs: statuses below 400 are good answers.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(field) = text.strip_prefix("header:") {
            let (name, value) = match field.split_once('=') {
                Some((name, value)) => (name, Some(value.trim().to_owned())),
                None => (field, None),
            };
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            return Some(Self::Header { name, value });
        }
        match text {
            "died" => Some(Self::Died),
            "timeout" => Some(Self::Timeout),
            "error" => Some(Self::Error),
            "4xx" => Some(Self::Status { first: 400, last: 499 }),
            "5xx" => Some(Self::Status { first: 500, last: 599 }),
            _ => {
                let status = text.parse().ok().filter(|status| (400..=599).contains(status))?;
                Some(Self::Status { first: status, last: status })
            }
        }
    }
}

/// All signs that count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signs {
    signs: Vec<Sign>,
    /// At least one of them is about an answer.
    looks_at_answers: bool,
}

impl Default for Signs {
    fn default() -> Self {
        Self::new(vec![Sign::Died])
    }
}

impl Signs {
    pub fn new(signs: Vec<Sign>) -> Self {
        let looks_at_answers = signs.iter().any(|sign| matches!(sign, Sign::Status { .. } | Sign::Header { .. }));
        Self { signs, looks_at_answers }
    }

    /// Whether this failure is one of them.
    pub fn include(&self, cause: Cause) -> bool {
        match cause {
            Cause::WorkerDied => self.signs.contains(&Sign::Died),
            Cause::Timeout => self.signs.contains(&Sign::Timeout),
            Cause::Raised | Cause::Incomplete => self.signs.contains(&Sign::Error),
            Cause::Unwanted(_) => self.looks_at_answers,
            Cause::Unsupported
            | Cause::QueueFull
            | Cause::QueueTimeout
            | Cause::Unavailable
            | Cause::BootFailed { .. }
            | Cause::TooLarge => false,
        }
    }

    /// Looks at the head of an answer. Costs one comparison where no sign is about answers.
    pub fn find_in(&self, head: &bytes::Bytes) -> Option<Cause> {
        if !self.looks_at_answers {
            return None;
        }
        // What cannot be read is reported by whoever makes a response of it.
        let head = ResponseHead::decode(head).ok()?;
        let mut fields = Vec::new();
        if self.signs.iter().any(|sign| matches!(sign, Sign::Header { .. })) {
            fields.extend(head.fields);
        }
        self.signs.iter().any(|sign| sign.is_in(head.status, &fields)).then_some(Cause::Unwanted(head.status))
    }
}

impl Sign {
    fn is_in(&self, status: u16, fields: &[(&[u8], &[u8])]) -> bool {
        match self {
            Self::Status { first, last } => (*first..=*last).contains(&status),
            Self::Header { name, value } => fields.iter().any(|(field, content)| {
                // WSGI applications write names as they like.
                field.eq_ignore_ascii_case(name.as_str().as_bytes())
                    && value.as_ref().is_none_or(|value| value.as_bytes() == content.trim_ascii())
            }),
            Self::Died | Self::Timeout | Self::Error => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed preparation is a failed test")]
    use super::*;
    use bytes::{Bytes, BytesMut};
    use monoceros_wire::message::encode_response;

    fn signs(texts: &[&str]) -> Signs {
        Signs::new(texts.iter().map(|text| Sign::parse(text).unwrap()).collect())
    }

    #[test]
    fn signs_are_read() {
        let header = |name: &'static str, value: Option<&str>| {
            Some(Sign::Header { name: HeaderName::from_static(name), value: value.map(str::to_owned) })
        };
        let rows = [
            ("died", Some(Sign::Died)),
            (" timeout ", Some(Sign::Timeout)),
            ("error", Some(Sign::Error)),
            ("503", Some(Sign::Status { first: 503, last: 503 })),
            ("429", Some(Sign::Status { first: 429, last: 429 })),
            ("5xx", Some(Sign::Status { first: 500, last: 599 })),
            ("4xx", Some(Sign::Status { first: 400, last: 499 })),
            ("header:X-Retry", header("x-retry", None)),
            ("header:X-Retry=1", header("x-retry", Some("1"))),
            ("header:", None),
            ("header:a b", None),
            ("200", None),
            ("600", None),
            ("http_503", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(Sign::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn failures_are_named() {
        let rows = [
            (&["died"][..], [true, false, false, false]),
            (&["timeout"], [false, true, false, false]),
            (&["error"], [false, false, true, true]),
            (&["503"], [false; 4]),
            (&[], [false; 4]),
        ];
        for (texts, expected) in rows {
            let causes = [Cause::WorkerDied, Cause::Timeout, Cause::Raised, Cause::Incomplete];
            assert_eq!(causes.map(|cause| signs(texts).include(cause)), expected, "{texts:?}");
        }
        for cause in [Cause::QueueFull, Cause::QueueTimeout, Cause::Unavailable, Cause::Unsupported, Cause::TooLarge] {
            assert!(!signs(&["died", "timeout", "error", "5xx", "4xx"]).include(cause), "{cause:?}");
        }
    }

    #[test]
    fn answers_are_looked_at() {
        let head = |status: u16, name: &str, value: &str| -> Bytes {
            let mut head = BytesMut::new();
            encode_response(&mut head, status, [(name.as_bytes(), value.as_bytes())]).unwrap();
            head.freeze()
        };
        let rows = [
            (&["503"][..], head(503, "a", "b"), Some(Cause::Unwanted(503))),
            (&["503"], head(502, "a", "b"), None),
            (&["5xx"], head(502, "a", "b"), Some(Cause::Unwanted(502))),
            (&["header:x-retry"], head(200, "X-Retry", ""), Some(Cause::Unwanted(200))),
            (&["header:x-retry=1"], head(200, "X-Retry", " 1"), Some(Cause::Unwanted(200))),
            (&["header:x-retry=1"], head(200, "X-Retry", "0"), None),
            (&["died", "timeout", "error"], head(503, "a", "b"), None),
        ];
        for (texts, head, expected) in rows {
            assert_eq!(signs(texts).find_in(&head), expected, "{texts:?}");
        }
    }
}
