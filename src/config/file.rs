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
        let error = error.at(&reader.origin(mistake.span().unwrap_or(0..0)));
        reader.errors.push(ConfigError { hint: hint_for_program(path), ..error });
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
            if let Some(option) = options().find(|option| option.path == path) {
                self.value(option, value);
            } else {
                let hint = hint_for_key(section, name.get_ref());
                self.report(Problem::UnknownKey { key: path }, name.span(), hint);
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
            line: memchr::memchr_iter(b'\n', before.as_bytes()).count() + 1,
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
        (
            DeValue::Integer(number),
            Kind::Count { .. } | Kind::Range { .. } | Kind::Duration { .. } | Kind::Size { .. },
        ) => Some(i64::from_str_radix(number.as_str(), number.radix()).ok()?.to_string()),
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

/// For `gunicorn.conf.py`.
fn hint_for_program(path: &Path) -> Option<String> {
    let is_python = path.extension().is_some_and(|extension| extension == "py");
    is_python.then(|| {
        "a file of settings in Python is not read: write a TOML file, docs/configuration.md has the keys".to_owned()
    })
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

/// Reads any text and checks what has to hold for all of them; for the fuzzer.
pub fn exercise(text: &str) {
    let (layer, errors) = parse(Path::new("fuzz.toml"), text);
    let lines = text.lines().count().max(1) + 1;
    for origin in errors.iter().filter_map(|error| error.origin.as_ref()) {
        assert!(matches!(origin, Origin::File { line, .. } if *line <= lines), "{origin} of {lines} lines");
    }
    for option in options() {
        for given in layer.get(option.key).unwrap_or_default() {
            assert!(matches!(given.origin, Origin::File { line, .. } if line <= lines), "{}", given.origin);
        }
    }
    let sources = super::Sources { file: Some(("fuzz.toml".into(), text.to_owned())), ..Default::default() };
    let surroundings =
        super::Surroundings { directory: Path::new("/fuzz"), cores: 2, data_directory: None, disk: &super::EmptyDisk };
    let _ = super::load(&sources, &surroundings);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<(String, usize, usize, Option<String>)> {
        let (_, errors) = parse(Path::new("m.toml"), text);
        let place = |error: ConfigError| match error.origin {
            Some(Origin::File { line, column, .. }) => (error.problem.to_string(), line, column, error.hint),
            other => panic!("no place in the file: {other:?}"),
        };
        errors.into_iter().map(place).collect()
    }

    #[test]
    fn reads_values_with_their_places() {
        let text = "[server]\nworkers = 4\nbind = [\":80\",\n  \":443\"]\n[limits]\nmax_body = 0x10\nbody_timeout = \"1m\"\n\
                    [app]\npreload = true\n[log]\naccess_log = true\n[tls]\nmin_version = 1.3\n";
        let (layer, errors) = parse(Path::new("m.toml"), text);
        assert_eq!(errors, []);
        let given = |key| -> Vec<(String, String)> {
            let given = layer.get(key).unwrap_or_default().iter();
            given.map(|given| (given.text.clone(), given.origin.to_string())).collect()
        };
        let one = |text: &str, place: &str| vec![(text.to_owned(), place.to_owned())];
        assert_eq!(given(Key::Workers), one("4", "m.toml:2:11"));
        assert_eq!(given(Key::Bind), [one(":80", "m.toml:3:9"), one(":443", "m.toml:4:3")].concat());
        assert_eq!(given(Key::MaxBody), one("16", "m.toml:6:12"));
        assert_eq!(given(Key::BodyTimeout), one("1m", "m.toml:7:16"));
        assert_eq!(given(Key::Preload), one("true", "m.toml:9:11"));
        assert_eq!(given(Key::AccessLog), one("-", "m.toml:11:14"));
        assert_eq!(given(Key::TlsMinVersion), one("1.3", "m.toml:13:15"));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let cases = [
            ("[server]\nwrokers = 4", "unknown key server.wrokers", 2, 1, Some("did you mean workers?")),
            (
                "[server]\nmax_body = 4",
                "unknown key server.max_body",
                2,
                1,
                Some("did you mean max_body in the section [limits]?"),
            ),
            (
                "[tls]\ntls_cert = 'x'",
                "unknown key tls.tls_cert",
                2,
                1,
                Some("did you mean cert in the section [tls]?"),
            ),
            ("[sever]\n", "unknown section [sever]", 1, 2, Some("did you mean [server]?")),
            ("[plugins]\n", "unknown section [plugins]", 1, 2, None),
            ("workers = 4", "unknown key workers", 1, 1, Some("workers belongs into the section [server]")),
            ("server = 4", "server is a section, not a value", 1, 1, Some("write [server] on a line of its own")),
            ("[server]\nworkers = true", "server.workers cannot be true or false", 2, 11, None),
            ("[server]\nworkers = [1]", "server.workers cannot be a list", 2, 11, None),
            ("[server]\nworkers = 1.5", "server.workers cannot be a number with a fraction", 2, 11, None),
            ("[server]\nbind = [\":1\", true]", "server.bind cannot be true or false", 2, 15, None),
            ("[app]\npreload = \"true\"", "app.preload cannot be a text", 2, 11, Some("write it without quotes")),
            ("[app]\nenv = {A = 1}", "app.env cannot be a table", 2, 7, None),
            ("# größe\n[app]\nloop = 'ä' # ö\nfactory = 1", "app.factory cannot be a number", 4, 11, None),
        ];
        for (text, message, line, column, hint) in cases {
            assert_eq!(errors(text), [(message.to_owned(), line, column, hint.map(str::to_owned))], "{text}");
        }
    }

    #[test]
    fn a_syntax_error_has_its_place() {
        let errors = errors("[server]\nworkers = = 4\n[plugins]\n");
        assert!(errors[0].0.starts_with("the configuration file is not valid TOML: "), "{errors:?}");
        assert_eq!(errors[0].1, 2);
        assert!(!errors.iter().any(|error| error.0.contains("plugins")), "{errors:?}");
        assert_eq!(errors[0].3, None);
        let (_, errors) = parse(Path::new("gunicorn.conf.py"), "import os\nworkers = os.cpu_count()\n");
        assert!(errors[0].hint.as_ref().is_some_and(|hint| hint.contains("TOML")), "{errors:?}");
    }

    #[test]
    fn any_text_is_read_without_panic() {
        for text in [
            "",
            "\u{feff}[app]",
            "[",
            "a.b.c = 1",
            "[[server]]\nworkers=1",
            "[server]\nworkers=99999999999999999999",
            "\"\" = 1",
            "[app]\napp = \"\\u0000\"",
            "[server]\nbind = [[\":1\"]]",
            "x = \"ü",
        ] {
            exercise(text);
        }
    }
}
