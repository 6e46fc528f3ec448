//! What can be wrong with a configuration: what, where, what was expected, and what to do about it.

use super::layer::Origin;
use std::path::{Path, PathBuf};

/// One mistake in the configuration. It is always the user's to mend, so it says where and how.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct ConfigError {
    pub problem: Problem,
    /// Who gave the value; `None` when the trouble is that nobody did.
    pub origin: Option<Origin>,
    pub hint: Option<String>,
}

impl ConfigError {
    pub fn new(problem: Problem) -> Self {
        Self { problem, origin: None, hint: None }
    }

    pub fn at(self, origin: &Origin) -> Self {
        Self { origin: Some(origin.clone()), ..self }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// What would have been right, where a value has the wrong form.
    pub fn expected(&self) -> Option<&str> {
        match &self.problem {
            Problem::Invalid { expected, .. } | Problem::WrongType { expected, .. } => Some(expected),
            _ => None,
        }
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("cannot read the configuration file {}: {reason}", path.display())]
    FileUnreadable { path: PathBuf, reason: String },
    #[error("the configuration file is not valid TOML: {message}")]
    Syntax { message: String },
    #[error("unknown section [{name}]")]
    UnknownSection { name: String },
    #[error("{name} is a section, not a value")]
    SectionExpected { name: String },
    #[error("unknown key {key}")]
    UnknownKey { key: String },
    #[error("{key} cannot be {found}")]
    WrongType { key: String, found: &'static str, expected: String },
    #[error("invalid value for {option}: \"{}\"", escaped(value))]
    Invalid { option: &'static str, value: String, expected: String },
    #[error("no application was given")]
    MissingApplication,
    #[error("{option}: {} does not exist", path.display())]
    MissingPath { option: &'static str, path: PathBuf },
    #[error("{option}: permission denied for {}: user {user} may not {may_not} {}", path.display(), this(path, barrier))]
    Denied { option: &'static str, path: PathBuf, may_not: &'static str, barrier: PathBuf, user: String },
    #[error("{option}: {} cannot be reached: {reason}", path.display())]
    Unreachable { option: &'static str, path: PathBuf, reason: String },
    #[error("{option}: {} is not a directory", path.display())]
    NotADirectory { option: &'static str, path: PathBuf },
    #[error("{option}: {} is a directory, not a file", path.display())]
    NotAFile { option: &'static str, path: PathBuf },
    #[error("the certificate {} has no private key", certificate.display())]
    CertificateWithoutKey { certificate: PathBuf },
    #[error("the private key {} has no certificate", key.display())]
    KeyWithoutCertificate { key: PathBuf },
    #[error("{} without a private key in {}, but {} given", counted(*certificates, "certificate"), if *certificates == 1 { "its file" } else { "their files" }, counted(*keys, "key"))]
    UnpairedKeys { certificates: usize, keys: usize },
    #[error("{address} asks for TLS, but there is no certificate")]
    TlsWithoutCertificate { address: String },
    #[error("redirect-http has no TLS address to redirect to")]
    RedirectWithoutTls,
    #[error("the address {address} is given twice")]
    AddressTwice { address: String },
    #[error("two directories for the URL {url}")]
    UrlTwice { url: String },
    #[error("max-target-size {target} is larger than max-header-size {header}, of which it is a part")]
    TargetAboveHeader { target: String, header: String },
}

/// Something that deserves a line in the log but does not stop the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    #[error("the environment variable {name} is unknown; did you mean {similar}?")]
    SimilarVariable { name: String, similar: String },
    #[error("{option} has no effect without --reload")]
    WithoutReload { option: String },
    #[error("--idle-timeout has no effect: all workers go only where --workers begins at zero, as in 0..4")]
    WithoutZero,
    #[error("certificates are configured, but no address speaks TLS")]
    UnusedCertificates,
}

/// What may not be entered or read, named once.
fn this(path: &Path, barrier: &Path) -> String {
    if path == barrier { "it".to_owned() } else { barrier.display().to_string() }
}

/// A value inside double quotes: what could control a terminal is written as an escape.
fn escaped(value: &str) -> String {
    value.split('\'').map(|part| part.escape_debug().to_string()).collect::<Vec<_>>().join("'")
}

/// `1 key`, `2 keys`.
fn counted(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// "a, b or c".
pub fn alternatives(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The name that was probably meant: at most a third of its letters differ.
pub fn similar<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3).min(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_probable_word() {
        let known = ["workers", "threads", "worker_concurrency", "bind"];
        let cases = [
            ("wrokers", Some("workers")),
            ("worker", Some("workers")),
            ("thread", Some("threads")),
            ("bnid", Some("bind")),
            ("plugins", None),
            ("", None),
        ];
        for (written, expected) in cases {
            assert_eq!(similar(written, known.into_iter()), expected, "{written}");
        }
    }
}
