//! Pages of the site for failures (`--error-pages`), in place of the built-in one.

use http::StatusCode;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Longest page. It goes out as it is with every failure.
pub const PAGE_MAX: u64 = 256 << 10;

/// What a page may say about the failure.
const PLACEHOLDERS: [&str; 3] = ["status", "title", "detail"];

/// The name of the page for maintenance; it has the ending `.html` like the others.
pub const MAINTENANCE: &str = "maintenance";

/// What is wrong with a page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    #[error("--error-pages: {path} cannot be read: {error}")]
    Read { path: PathBuf, error: io::Error },
    #[error("--error-pages: {path} is longer than {} KiB", PAGE_MAX >> 10)]
    TooLong { path: PathBuf },
    #[error("--error-pages: {path} is not UTF-8")]
    NotUtf8 { path: PathBuf },
    #[error(
        "--error-pages: {path} has the unknown placeholder {{{{{name}}}}}; there are {{{{status}}}}, {{{{title}}}} and \
         {{{{detail}}}}"
    )]
    Placeholder { path: PathBuf, name: String },
    #[error(
        "--error-pages: {path} is the page for no failure; pages are called 503.html, 5xx.html, 4xx.html, error.html or \
         maintenance.html"
    )]
    Name { path: PathBuf },
    #[error("--error-pages: there is no page in {directory}")]
    None { directory: PathBuf },
}

/// The pages that there are, by their names without the ending.
#[derive(Debug, Default)]
pub struct ErrorPages(BTreeMap<String, String>);

impl ErrorPages {
    /// Reads the pages of a directory, or reports everything that is wrong with them. Other files do not matter.
    pub fn read(directory: &Path) -> Result<Self, Vec<PageError>> {
        let unreadable = |error| vec![PageError::Read { path: directory.to_owned(), error }];
        let mut names: Vec<_> = fs::read_dir(directory)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.file_name())).collect())
            .map_err(unreadable)?;
        names.sort();
        let (mut pages, mut errors) = (BTreeMap::new(), Vec::new());
        for name in names {
            let path = directory.join(&name);
            let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".html")) else { continue };
            match read_page(&path, stem) {
                Ok(page) => drop(pages.insert(stem.to_owned(), page)),
                Err(error) => errors.push(error),
            }
        }
        if pages.is_empty() && errors.is_empty() {
            errors.push(PageError::None { directory: directory.to_owned() });
        }
        if errors.is_empty() { Ok(Self(pages)) } else { Err(errors) }
    }

    /// The page for a status: its own, that of its class, the one for all.
    pub fn for_status(&self, status: StatusCode) -> Option<&str> {
        let class = if status.is_server_error() { "5xx" } else { "4xx" };
        [status.as_str(), class, "error"].into_iter().find_map(|name| self.get(name))
    }

    /// The page for maintenance; where there is none, that of the status 503.
    pub fn for_maintenance(&self) -> Option<&str> {
        self.get(MAINTENANCE).or_else(|| self.for_status(StatusCode::SERVICE_UNAVAILABLE))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

fn read_page(path: &Path, stem: &str) -> Result<String, PageError> {
    let owned = || path.to_owned();
    if !is_name(stem) {
        return Err(PageError::Name { path: owned() });
    }
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(PAGE_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| PageError::Read { path: owned(), error })?;
    if bytes.len() as u64 > PAGE_MAX {
        return Err(PageError::TooLong { path: owned() });
    }
    let page = String::from_utf8(bytes).map_err(|_| PageError::NotUtf8 { path: owned() })?;
    match unknown_placeholder(&page) {
        Some(name) => Err(PageError::Placeholder { path: owned(), name: name.to_owned() }),
        None => Ok(page),
    }
}

fn is_name(stem: &str) -> bool {
    let is_status = stem.len() == 3 && stem.parse().is_ok_and(|status: u16| (400..=599).contains(&status));
    is_status || ["4xx", "5xx", "error", MAINTENANCE].contains(&stem)
}

/// Braces around a word that means nothing: most likely misspelt.
fn unknown_placeholder(page: &str) -> Option<&str> {
    let mut between = page.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0));
    between.find(|name| {
        let is_word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        is_word && !PLACEHOLDERS.contains(name)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed preparation is a failed test")]
    use super::*;

    fn pages(names: &[&str]) -> ErrorPages {
        ErrorPages(names.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect())
    }

    #[test]
    fn the_most_fitting_page_is_chosen() {
        let rows: [(&[&str], u16, Option<&str>); 7] = [
            (&["503", "5xx", "error"], 503, Some("503")),
            (&["503", "5xx", "error"], 502, Some("5xx")),
            (&["503", "5xx", "error"], 404, Some("error")),
            (&["4xx"], 404, Some("4xx")),
            (&["4xx"], 500, None),
            (&["maintenance"], 503, None),
            (&[], 500, None),
        ];
        for (names, status, expected) in rows {
            assert_eq!(pages(names).for_status(StatusCode::from_u16(status).unwrap()), expected, "{names:?} {status}");
        }
        assert_eq!(pages(&["maintenance", "503"]).for_maintenance(), Some("maintenance"));
        assert_eq!(pages(&["5xx"]).for_maintenance(), Some("5xx"));
    }

    #[test]
    fn names_and_placeholders() {
        for name in ["400", "599", "4xx", "5xx", "error", "maintenance"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["200", "600", "50x", "+50", "index", ""] {
            assert!(!is_name(name), "{name}");
        }
        assert_eq!(unknown_placeholder("{{status}} {{title}} {{detail}} {{ x }} a{{b"), None);
        assert_eq!(unknown_placeholder("{{status}} {{code}}"), Some("code"));
    }
}
