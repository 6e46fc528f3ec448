//! Options in the form of the configuration file.

use super::combine::Combined;
use super::definition::{Arity, Definition, Key, Kind};
use super::layer::Given;
use super::table::options;
use std::fmt::Write as _;

/// Column at which the origins begin; longer lines push theirs to the right.
const ORIGIN_COLUMN: usize = 44;

/// Writes every option with its value and, in a comment, who gave it. The text is itself a configuration file that means
/// the same, except for the values of variables: they may be secrets.
pub fn effective(combined: &Combined) -> String {
    let mut text = String::new();
    for section in sections() {
        let _ = writeln!(text, "[{section}]");
        for option in options().filter(|option| option.section() == section) {
            let given = combined.get(option.key);
            let line = match given {
                [] => format!("# {} is not set", option.file_key()),
                _ => format!("{} = {}", option.file_key(), value(option, given)),
            };
            match given.last() {
                Some(last) => {
                    let _ = writeln!(text, "{line:<ORIGIN_COLUMN$} # {}", last.origin);
                }
                None => text.push_str(&(line + "\n")),
            }
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Sections of the file, in the order in which the table first names them.
pub fn sections() -> Vec<&'static str> {
    let mut sections = Vec::new();
    for option in options() {
        if !sections.contains(&option.section()) {
            sections.push(option.section());
        }
    }
    sections
}

fn value(option: &Definition, given: &[Given]) -> String {
    let texts = given.iter().map(|given| match (option.key, given.text.split_once('=')) {
        (Key::Env, Some((name, _))) => format!("{name}=…"),
        _ => given.text.clone(),
    });
    toml_value(option, &texts.collect::<Vec<_>>())
}

/// A value of an option as TOML: numbers and switches bare, everything else quoted, lists in brackets.
pub fn toml_value(option: &Definition, texts: &[String]) -> String {
    let single = |text: &String| match option.kind {
        Kind::Switch(_) => text.clone(),
        Kind::Count { .. } | Kind::Range { .. } => {
            text.trim().parse::<u64>().map_or_else(|_| quoted(text), |number| number.to_string())
        }
        _ => quoted(text),
    };
    match option.arity {
        Arity::Many => format!("[{}]", texts.iter().map(single).collect::<Vec<_>>().join(", ")),
        Arity::One | Arity::OneOr(_) => texts.last().map(single).unwrap_or_default(),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
