//! The application as users name it: `module`, `module:attribute`, `module:factory()`, `module:factory('literal')`.

use super::definition::Key;
use super::error::{ConfigError, Problem};
use super::reader::Reader;
use std::ffi::OsStr;
use std::path::Path;

/// Reads the application, which has to be given.
pub(super) fn read(reader: &mut Reader<'_>) -> String {
    let Some(given) = reader.one(Key::App) else {
        let hint = "name it: monoceros mysite.wsgi, monoceros main:app, or app = \"main:app\" under [app] in \
                    monoceros.toml; monoceros.welcome is one to try the server with";
        reader.errors.push(ConfigError::new(Problem::MissingApplication).hint(hint));
        return String::new();
    };
    let text = given.text.trim();
    if !is_application(text) {
        reader.invalid(Key::App, given, hint(text));
    }
    text.to_owned()
}

/// Whether this can name an application. What stands between the parentheses of a call is read by the worker, which has
/// Python's own parser and takes literals only.
pub fn is_application(text: &str) -> bool {
    match text.split_once(':') {
        None => is_dotted_name(text),
        Some((module, attribute)) => {
            let call = attribute.split_once('(').filter(|(_, rest)| rest.ends_with(')'));
            is_dotted_name(module) && is_dotted_name(call.map_or(attribute, |(factory, _)| factory))
        }
    }
}

fn is_dotted_name(text: &str) -> bool {
    text.split('.').all(|name| {
        let mut characters = name.chars();
        characters.next().is_some_and(|first| first == '_' || first.is_alphabetic())
            && characters.all(|character| character == '_' || character.is_alphanumeric())
    })
}

fn hint(text: &str) -> Option<String> {
    let (path, attribute) = text.split_once(':').map_or((text, "app"), |(path, attribute)| (path, attribute));
    if path.contains('/') || Path::new(path).extension() == Some(OsStr::new("py")) {
        let module = path.trim_start_matches("./").trim_end_matches(".py").replace('/', ".");
        let candidate = format!("{module}:{attribute}");
        return is_application(&candidate)
            .then(|| format!("name the module, not its file: {candidate}; --chdir changes the directory"));
    }
    if attribute.contains('(') {
        return Some(
            "write a call with literal arguments, in quotes for the shell: \"main:create_app('production')\""
                .to_owned(),
        );
    }
    path.contains('-').then(|| "a Python module has no dash in its name".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_can_be_an_application() {
        for text in [
            "main",
            "mysite.wsgi",
            "mysite.wsgi:application",
            "a:b.c",
            "a:make()",
            "_x:_y",
            "größe:app",
            "a:b.c('x:y', debug=True)",
        ] {
            assert!(is_application(text), "{text}");
        }
        for text in [
            "", ":", "a:", ":a", "a..b", ".a", "main.py:", "a/b:c", "a:b(1", "a:(1)", "a:b(1).c", "a()", "a b", "-",
            "8000", "a:80", "a:b:c",
        ] {
            assert!(!is_application(text), "{text}");
        }
    }

    #[test]
    fn says_what_was_probably_meant() {
        let cases = [
            ("src/main.py:app", Some("src.main:app")),
            ("./main.py:", None),
            ("my-site:app", Some("dash")),
            ("main:make(1", Some("literal")),
            ("8000", None),
        ];
        for (text, word) in cases {
            let hint = hint(text);
            assert_eq!(hint.is_some(), word.is_some(), "{text}: {hint:?}");
            assert!(word.is_none_or(|word| hint.is_some_and(|hint| hint.contains(word))), "{text}");
        }
    }
}
