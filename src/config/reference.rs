//! The reference of all options, written from the table: `docs/configuration.md` and `config/monoceros.toml`.
//!
//! `tests/config.rs` fails when one of the two files differs from what is written here.

use super::definition::{Arity, Default, Definition, Kind};
use super::show::{sections, toml_value};
use super::table::{GROUPS, options};
use std::fmt::Write as _;

const INTRODUCTION: &str = include_str!("reference.md");

/// `docs/configuration.md`.
pub fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    for group in GROUPS {
        let _ = writeln!(text, "\n### {}\n", group.heading);
        text.push_str("| Flag | Variable | Key | Default | Meaning |\n|---|---|---|---|---|\n");
        for option in group.options {
            text.push_str(&row(option));
        }
    }
    text
}

fn row(option: &Definition) -> String {
    let short = option.short.map_or_else(String::new, |short| format!("`-{short}`, "));
    let value = match (option.value_name, option.arity) {
        ("" | "APP", _) => String::new(),
        (name, Arity::OneOr(_)) => format!(" [{name}]"),
        (name, _) => format!(" {name}"),
    };
    let mut meaning = option.meaning.to_owned();
    if !option.peer.is_empty() {
        let _ = write!(meaning, " ({})", option.peer);
    }
    if let Some(bounds) = bounds(option) {
        let _ = write!(meaning, "; {bounds}");
    }
    for (place, alias) in option.aliases.iter().enumerate() {
        let _ = write!(meaning, "{} `--{alias}`", if place == 0 { "; also" } else { "," });
    }
    format!(
        "| {short}`{}{value}` | `{}` | `{}` | {} | {} |\n",
        option.flag(),
        option.variable(),
        option.path,
        default(option),
        meaning.replace('|', "\\|")
    )
}

fn default(option: &Definition) -> String {
    match option.default {
        Default::Absent => "–".to_owned(),
        Default::Value(text) => format!("`{text}`"),
        Default::Computed(text) => text.to_owned(),
    }
}

/// The smallest and the largest value of a number.
fn bounds(option: &Definition) -> Option<String> {
    let (min, max) = match option.kind {
        Kind::Count { min, max } | Kind::Range { min, max } => (min.to_string(), max.to_string()),
        Kind::Duration { min, max } => (super::duration::show(min), super::duration::show(max)),
        Kind::Size { min, max } => (super::size::show(min), super::size::show(max)),
        Kind::Switch(_) | Kind::Choice(_) | Kind::Text(_) => return None,
    };
    Some(format!("{min} to {max}"))
}

/// `config/monoceros.toml`: every key with its default, or with an example, commented out.
pub fn example_file() -> String {
    let mut text = String::from(
        "# Every option of monoceros with its default. Copy what you change; the rest may stay away.\n\
         # Made from the table of options: see docs/configuration.md.\n",
    );
    for section in sections() {
        let _ = writeln!(text, "\n[{section}]");
        for option in options().filter(|option| option.section() == section) {
            text.push_str(&entry(option));
        }
    }
    text
}

fn entry(option: &Definition) -> String {
    let peer = if option.peer.is_empty() { String::new() } else { format!(" ({})", option.peer) };
    let (value, note) = match option.default {
        Default::Value(default) => (default, String::new()),
        Default::Computed(default) => (option.example, format!("; default: {default}")),
        Default::Absent => (option.example, "; not set unless given".to_owned()),
    };
    format!(
        "\n# {}{peer}{note}.\n# {} = {}\n",
        option.meaning,
        option.file_key(),
        toml_value(option, &[value.to_owned()])
    )
}
