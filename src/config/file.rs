//! The configuration file: TOML text to a layer, with the line and the column of every value.

use super::definition::{Arity, Definition, Key, Kind};
use super::error::{ConfigError, Problem, similar};
use super::layer::{Given, Layer, Origin};
use super::table::options;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Reads a configuration file. Everything that can be read is, so that all mistakes are reported together.
pub fn parse(path: &Path, text: &str) -> (Layer, Vec<ConfigError>) {
    let mut reader = Reader { path, text, layer: Layer::default(), errors: Vec::new() };
    let (document, mistakes) = DeTable::parse_recoverable(text);
    for mistake in mistakes {
        let message = mistake.message().lines().collect::<Vec<_>>().join(", ");
        let error = ConfigError::new(Problem::Syntax { message });
        reader.errors.push(error.at(&reader.origin(mistake.span().unwrap_or(0..0))));
    }
    // After a syntax error the rest is guesswork of the parser: more messages would only hide the cause.
    if reader.errors.is_empty() {
        reader.document(document.get_ref());
    }
    (reader.layer, reader.errors)
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    layer: Layer,
    errors: Vec<ConfigError>,
}

impl Reader<'_> {
    fn document(&mut self, document: &DeTable<'_>) {
        for (name, value) in document {
            match value.get_ref() {
                DeValue::Table(section) if is_section(name.get_ref()) => self.section(name.get_ref(), section),
                _ => self.outside(name, value.get_ref()),
            }
        }
    }

    /// Something at the top of the file that is no section of ours.
    fn outside(&mut self, name: &Spanned<impl AsRef<str>>, value: &DeValue<'_>) {
        let written = name.get_ref().as_ref();
        let problem = if is_section(written) {
            Problem::SectionExpected { name: written.to_owned() }
        } else if value.is_table() {
            Problem::UnknownSection { name: written.to_owned() }
        } else {
            Problem::UnknownKey { key: written.to_owned() }
        };
        let hint = match &problem {
            Problem::SectionExpected { name } => Some(format!("write [{name}] on a line of its own")),
            Problem::UnknownSection { .. } => {
                similar(written, options().map(Definition::section)).map(|section| format!("did you mean [{section}]?"))
            }
            _ => options()
                .find(|option| option.file_key() == written || option.name.replace('-', "_") == written)
                .map(|option| format!("{} belongs into the section [{}]", option.file_key(), option.section())),
        };
        self.report(problem, name.span(), hint);
    }

    fn section(&mut self, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let path = format!("{section}.{}", name.get_ref());
            match options().find(|option| option.path == path) {
                Some(option) => self.value(option, value),
                None => {
                    let hint = hint_for_key(section, name.get_ref());
                    self.report(Problem::UnknownKey { key: path }, name.span(), hint);
                }
            }
        }
    }

    fn value(&mut self, option: &'static Definition, value: &Spanned<DeValue<'_>>) {
        let elements: Vec<&Spanned<DeValue<'_>>> = match (value.get_ref(), option.arity) {
            (DeValue::Array(elements), Arity::Many) => elements.iter().collect(),
            (DeValue::Boolean(false), Arity::OneOr(_)) => Vec::new(),
            _ => vec![value],
        };
        let mut values = Vec::new();
        for element in elements {
            match text_of(option, element.get_ref()) {
                Some(text) => values.push(Given { text, origin: self.origin(element.span()) }),
                None => self.wrong_type(option, element),
            }
        }
        self.layer.set(option.key, values);
    }

    fn wrong_type(&mut self, option: &Definition, value: &Spanned<DeValue<'_>>) {
        let found = match value.get_ref() {
            DeValue::Array(_) => "a list",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Integer(_) => "a number",
            DeValue::String(_) => "a text",
            DeValue::Table(_) => "a table",
        };
        let problem = Problem::WrongType { key: option.path.to_owned(), found, expected: option.kind.expected() };
        let hint = matches!(value.get_ref(), DeValue::String(_)).then(|| "write it without quotes".to_owned());
        self.report(problem, value.span(), hint);
    }

    fn report(&mut self, problem: Problem, span: Range<usize>, hint: Option<String>) {
        self.errors.push(ConfigError { problem, origin: Some(self.origin(span)), hint });
    }

    fn origin(&self, span: Range<usize>) -> Origin {
        let before = &self.text[..self.text.floor_char_boundary(span.start)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Origin::File {
            path: self.path.to_owned(),
            line: before.bytes().filter(|&byte| byte == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

fn is_section(name: &str) -> bool {
    options().any(|option| option.section() == name)
}

/// The text a value stands for, if it is of a type the option takes. Numbers may be written without quotes.
fn text_of(option: &Definition, value: &DeValue<'_>) -> Option<String> {
    match (value, option.kind) {
        (DeValue::Boolean(switch), Kind::Switch(_)) => Some(switch.to_string()),
        (_, Kind::Switch(_)) => None,
        (DeValue::String(text), _) => Some(text.to_string()),
        (DeValue::Integer(number), Kind::Count { .. } | Kind::Duration { .. } | Kind::Size { .. }) => {
            Some(i64::from_str_radix(number.as_str(), number.radix()).ok()?.to_string())
        }
        // `min_version = 1.3` and `bind = 8000` read well without quotes and can only mean one thing.
        (DeValue::Float(number), Kind::Choice(words)) if words.contains(&number.as_str()) => {
            Some(number.as_str().to_owned())
        }
        (DeValue::Integer(number), _) if option.key == Key::Bind => Some(number.as_str().to_owned()),
        (DeValue::Boolean(true), _) => match option.arity {
            Arity::OneOr(bare) => Some(bare.to_owned()),
            Arity::One | Arity::Many => None,
        },
        _ => None,
    }
}

/// A key that exists in another section, or a similar one in this section.
fn hint_for_key(section: &str, key: &str) -> Option<String> {
    let same = |option: &&Definition| option.file_key() == key || option.name.replace('-', "_") == key;
    if let Some(option) = options().find(same) {
        return Some(format!("did you mean {} in the section [{}]?", option.file_key(), option.section()));
    }
    let keys = options().filter(|option| option.section() == section).map(Definition::file_key);
    let close = similar(key, keys).map(|close| format!("did you mean {close}?"));
    close.or_else(|| {
        let close = similar(key, options().map(Definition::file_key))?;
        let option = options().find(|option| option.file_key() == close)?;
        Some(format!("did you mean {close} in the section [{}]?", option.section()))
    })
}
