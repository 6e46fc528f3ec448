//! Typed reading of combined options. Every mistake is noted and reading goes on, so that all are reported at once.

use super::combine::Combined;
use super::definition::{Default as Unset, Key, Kind};
use super::error::{ConfigError, Problem, similar};
use super::layer::{Given, Origin};
use super::table::definition;
use super::{DiskEntry, Obstacle, Surroundings, duration, size};
use crate::supervisor::Bounds;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Reads values and collects what is wrong with them. After a mistake it returns some value: nobody uses it, because a
/// configuration with a mistake becomes no settings.
pub(super) struct Reader<'a> {
    pub(super) combined: &'a Combined,
    pub(super) surroundings: &'a Surroundings<'a>,
    pub(super) errors: Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(combined: &'a Combined, surroundings: &'a Surroundings<'a>) -> Self {
        Self { combined, surroundings, errors: Vec::new() }
    }

    pub(super) fn all(&self, key: Key) -> &'a [Given] {
        self.combined.get(key)
    }

    /// The value of an option that is given once; an empty text counts as none, as it does in the environment.
    pub(super) fn one(&self, key: Key) -> Option<&'a Given> {
        self.combined.get(key).last().filter(|given| !given.text.is_empty())
    }

    /// Somebody has set it, whatever to.
    pub(super) fn is_given(&self, key: Key) -> bool {
        self.one(key).is_some_and(|given| given.origin != Origin::Default)
    }

    pub(super) fn switch(&mut self, key: Key) -> bool {
        let parse = |text: &str| match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        self.parsed(key, parse).unwrap_or_default()
    }

    /// A whole number. The bounds in the table are those of the type asked for, or tighter.
    pub(super) fn count<T: TryFrom<u64> + Default>(&mut self, key: Key) -> T {
        let Kind::Count { min, max } = definition(key).kind else { return T::default() };
        let parse = |text: &str| {
            let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())??;
            if (min..=max).contains(&number) { T::try_from(number).ok() } else { None }
        };
        self.parsed(key, parse).unwrap_or_default()
    }

    /// A number or a range of workers.
    pub(super) fn bounds(&mut self, key: Key) -> Bounds {
        let Kind::Range { min, max } = definition(key).kind else { return Bounds::exactly(1) };
        // A range may begin at zero.
        let is_within = |bounds: &Bounds| (min..=max).contains(&u64::from(bounds.most));
        self.parsed(key, |text| text.parse().ok().filter(is_within)).unwrap_or(Bounds::exactly(1))
    }

    pub(super) fn duration(&mut self, key: Key) -> Duration {
        let Kind::Duration { min, max } = definition(key).kind else { return Duration::ZERO };
        self.parsed(key, |text| duration::parse(text).filter(|time| (min..=max).contains(time))).unwrap_or_default()
    }

    pub(super) fn size<T: TryFrom<u64> + Default>(&mut self, key: Key) -> T {
        let Kind::Size { min, max } = definition(key).kind else { return T::default() };
        let parse = |text: &str| size::parse(text).filter(|bytes| (min..=max).contains(bytes));
        self.parsed(key, |text| T::try_from(parse(text)?).ok()).unwrap_or_default()
    }

    /// One of the words that the table lists; the empty text after a mistake.
    pub(super) fn word(&mut self, key: Key) -> &'static str {
        let Kind::Choice(words) = definition(key).kind else { return "" };
        let parse = |text: &str| words.iter().find(|word| word.eq_ignore_ascii_case(text)).copied();
        self.parsed(key, parse).unwrap_or_default()
    }

    /// A path against the directory in which the program was started, wherever the value comes from: one rule is easier
    /// to remember than one for each source.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        let path = self.surroundings.directory.join(text);
        // Without this `.` would stay visible in every message. `..` stays: it may follow a symbolic link.
        path.components().collect()
    }

    /// An existing directory that can be entered.
    pub(super) fn directory(&mut self, key: Key, given: &Given, text: &str) -> PathBuf {
        self.existing(key, given, text, DiskEntry::Directory)
    }

    /// An existing file that can be read.
    pub(super) fn file(&mut self, key: Key, given: &Given) -> PathBuf {
        self.existing(key, given, &given.text, DiskEntry::File)
    }

    fn existing(&mut self, key: Key, given: &Given, text: &str, wanted: DiskEntry) -> PathBuf {
        let path = self.path(text);
        let (option, shown) = (definition(key).name, path.clone());
        let problem = match (self.surroundings.disk.entry(&path), wanted) {
            (Ok(DiskEntry::File), DiskEntry::Directory) => Problem::NotADirectory { option, path: shown },
            (Ok(DiskEntry::Directory), DiskEntry::File) => Problem::NotAFile { option, path: shown },
            (Ok(_), _) => return path,
            (Err(Obstacle::Missing), _) => Problem::MissingPath { option, path: shown },
            (Err(Obstacle::Denied { barrier, user }), wanted) => Problem::Denied {
                option,
                may_not: if barrier == shown && wanted == DiskEntry::File { "read" } else { "enter" },
                path: shown,
                barrier,
                user,
            },
            (Err(Obstacle::Other { reason }), _) => Problem::Unreachable { option, path: shown, reason },
        };
        let puzzling = matches!(problem, Problem::MissingPath { .. }) && !Path::new(text).is_absolute();
        let hint = puzzling.then(|| format!("paths are relative to {}", self.surroundings.directory.display()));
        self.errors.push(ConfigError { hint, ..ConfigError::new(problem).at(&given.origin) });
        path
    }

    /// Notes that a value has the wrong form.
    pub(super) fn invalid(&mut self, key: Key, given: &Given, hint: Option<String>) {
        let option = definition(key);
        let (value, expected) = (given.text.clone(), option.kind.expected());
        let error = ConfigError::new(Problem::Invalid { option: option.name, value, expected }).at(&given.origin);
        self.errors.push(ConfigError { hint, ..error });
    }

    fn parsed<T>(&mut self, key: Key, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let given = self.combined.get(key).last()?;
        let value = parse(given.text.trim());
        if value.is_none() {
            self.invalid(key, given, hint_for_value(key, given.text.trim()));
        }
        value
    }
}

fn hint_for_value(key: Key, text: &str) -> Option<String> {
    let option = definition(key);
    match (option.kind, option.default) {
        (Kind::Choice(words), _) => similar(text, words.iter().copied()).map(|word| format!("did you mean {word}?")),
        (Kind::Range { .. }, _) if Bounds::guess(text).is_some_and(|guess| !guess.ends_with(text)) => {
            Bounds::guess(text)
        }
        (Kind::Count { .. } | Kind::Range { .. }, Unset::Computed(default)) => {
            Some(format!("leave it out for {default}"))
        }
        (Kind::Duration { .. }, _) if text.contains('.') => {
            Some("write a fraction of a second in ms: 1500ms".to_owned())
        }
        (Kind::Size { .. }, _) if text.contains('.') => {
            Some("write a fraction in the next smaller unit: 1536k".to_owned())
        }
        _ => None,
    }
}
