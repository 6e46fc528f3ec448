//! One source of options, still as text: the command line, the environment, the file, or the conventions of hosters.

use super::definition::{Arity, Definition, Key, Kind, VARIABLE_PREFIX};
use super::error::{Warning, similar};
use super::table::{definition, options};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Who gave a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// As on the command line: `--workers` or `APP`.
    Flag(String),
    /// Name of the environment variable.
    Variable(String),
    /// Line and column count from one, columns in characters.
    File {
        path: PathBuf,
        line: usize,
        column: usize,
    },
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(formatter, "{name} on the command line"),
            Self::Variable(name) => write!(formatter, "environment variable {name}"),
            Self::File { path, line, column } => write!(formatter, "{}:{line}:{column}", path.display()),
            Self::Default => write!(formatter, "default"),
        }
    }
}

/// One value as it was written, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub text: String,
    pub origin: Origin,
}

/// The options of one source. An option that is absent here was not given; an empty list was given, and is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layer {
    values: BTreeMap<Key, Vec<Given>>,
}

impl Layer {
    /// Puts all values of an option, in place of those it had.
    pub fn set(&mut self, key: Key, values: Vec<Given>) {
        self.values.insert(key, values);
    }

    pub fn get(&self, key: Key) -> Option<&[Given]> {
        self.values.get(&key).map(Vec::as_slice)
    }

    pub fn has(&self, key: Key) -> bool {
        self.values.contains_key(&key)
    }
}

/// Environment variables, as `main` collects them and tests write them.
pub type Environment = BTreeMap<String, String>;

/// Reads the `MONOCEROS_*` variables. An empty variable counts as not set, as container files often leave them empty.
pub fn from_environment(environment: &Environment) -> Layer {
    let mut layer = Layer::default();
    for option in options() {
        let variable = option.variable();
        let Some(text) = environment.get(&variable).filter(|text| !text.trim().is_empty()) else { continue };
        let given = |text: &str| Given { text: text.to_owned(), origin: Origin::Variable(variable.clone()) };
        layer.set(option.key, variable_values(option, text).into_iter().map(given).collect());
    }
    layer
}

fn variable_values<'a>(option: &Definition, text: &'a str) -> Vec<&'a str> {
    match option.arity {
        // A value with a comma in it can still be given: one value per line.
        Arity::Many => {
            let separator = if text.contains('\n') { '\n' } else { ',' };
            text.split(separator).map(str::trim).filter(|part| !part.is_empty()).collect()
        }
        Arity::One if matches!(option.kind, Kind::Switch(_)) => vec![switch_word(text)],
        Arity::OneOr(bare) => match switch_word(text) {
            "true" => vec![bare],
            "false" => Vec::new(),
            value => vec![value],
        },
        Arity::One => vec![text.trim()],
    }
}

/// The words that people write for a switch in the environment; others are left for the error message.
fn switch_word(text: &str) -> &str {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => "true",
        "0" | "false" | "no" | "off" => "false",
        _ => text.trim(),
    }
}

/// The addresses of sockets that a service manager has opened.
pub fn from_activation(addresses: &[String]) -> Layer {
    let mut layer = Layer::default();
    let given = |text: &String| Given { text: text.clone(), origin: Origin::Variable("LISTEN_FDS".to_owned()) };
    if !addresses.is_empty() {
        layer.set(Key::Bind, addresses.iter().map(given).collect());
    }
    layer
}

/// Reads the variables that hosters set and gunicorn knows: `WEB_CONCURRENCY` and `PORT`. They rank just above the
/// defaults, below the configuration file.
pub fn from_conventions(environment: &Environment) -> Layer {
    let mut layer = Layer::default();
    let mut take = |variable: &str, key: Key, text: &dyn Fn(&str) -> String| {
        if let Some(value) = environment.get(variable).filter(|value| !value.trim().is_empty()) {
            let origin = Origin::Variable(variable.to_owned());
            layer.set(key, vec![Given { text: text(value.trim()), origin }]);
        }
    };
    take("WEB_CONCURRENCY", Key::Workers, &str::to_owned);
    take("PORT", Key::Bind, &|port| format!("0.0.0.0:{port}"));
    layer
}

/// Finds variables that look like a misspelt one of ours. Other unknown names are silent: Kubernetes invents
/// `MONOCEROS_SERVICE_HOST` and the like for a service of our name.
pub fn suspicious_variables(environment: &Environment) -> Vec<Warning> {
    let known: Vec<String> = options().map(Definition::variable).chain([CONFIG_VARIABLE.to_owned()]).collect();
    let ours = environment.keys().filter(|name| name.starts_with(VARIABLE_PREFIX) && !known.contains(name));
    ours.filter_map(|name| {
        let close = similar(&name[VARIABLE_PREFIX.len()..], known.iter().map(|known| &known[VARIABLE_PREFIX.len()..]))?;
        Some(Warning::SimilarVariable { name: name.clone(), similar: format!("{VARIABLE_PREFIX}{close}") })
    })
    .collect()
}

/// The variable that names the configuration file.
pub const CONFIG_VARIABLE: &str = "MONOCEROS_CONFIG";

/// The values of an option that nobody gave.
pub fn default_values(key: Key) -> Vec<Given> {
    match definition(key).default {
        super::definition::Default::Value(text) => {
            vec![Given { text: text.to_owned(), origin: Origin::Default }]
        }
        super::definition::Default::Absent | super::definition::Default::Computed(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn texts(layer: &Layer, key: Key) -> Option<Vec<&str>> {
        Some(layer.get(key)?.iter().map(|given| given.text.as_str()).collect())
    }

    #[test]
    fn reads_each_form_of_variable() {
        let layer = from_environment(&environment(&[
            ("MONOCEROS_WORKERS", " 4 "),
            ("MONOCEROS_BIND", ":80, :443"),
            ("MONOCEROS_ENV", "A=1,2\nB=3"),
            ("MONOCEROS_PRELOAD", "Yes"),
            ("MONOCEROS_FACTORY", "0"),
            ("MONOCEROS_REDIRECT_HTTP", "1"),
            ("MONOCEROS_ACCESS_LOG", "/var/log/access.log"),
            ("MONOCEROS_TIMEOUT", ""),
        ]));
        assert_eq!(texts(&layer, Key::Workers), Some(vec!["4"]));
        assert_eq!(texts(&layer, Key::Bind), Some(vec![":80", ":443"]));
        assert_eq!(texts(&layer, Key::Env), Some(vec!["A=1,2", "B=3"]));
        assert_eq!(texts(&layer, Key::Preload), Some(vec!["true"]));
        assert_eq!(texts(&layer, Key::Factory), Some(vec!["false"]));
        assert_eq!(texts(&layer, Key::RedirectHttp), Some(vec![":80"]));
        assert_eq!(texts(&layer, Key::AccessLog), Some(vec!["/var/log/access.log"]));
        assert_eq!(texts(&layer, Key::Timeout), None, "an empty variable is not set");
    }

    #[test]
    fn warns_of_misspelt_variables_only() {
        let warnings = suspicious_variables(&environment(&[
            ("MONOCEROS_WORKER", "4"),
            ("MONOCEROS_WORKERS", "4"),
            ("MONOCEROS_CONFIG", "x.toml"),
            ("MONOCEROS_PORT_8000_TCP_ADDR", "10.0.0.1"),
            ("MONOCEROS_SERVICE_HOST", "10.0.0.1"),
        ]));
        let expected =
            Warning::SimilarVariable { name: "MONOCEROS_WORKER".to_owned(), similar: "MONOCEROS_WORKERS".to_owned() };
        assert_eq!(warnings, [expected]);
    }

    #[test]
    fn knows_what_hosters_set() {
        let layer = from_conventions(&environment(&[("PORT", "5000"), ("WEB_CONCURRENCY", "3")]));
        assert_eq!(texts(&layer, Key::Bind), Some(vec!["0.0.0.0:5000"]));
        assert_eq!(texts(&layer, Key::Workers), Some(vec!["3"]));
    }
}
