//! Static files: `--static-dir` and its neighbours.

use super::definition::Key;
use super::duration;
use super::error::{ConfigError, Problem};
use super::reader::Reader;
use super::table::definition;
use crate::front::files::cache_control::{IMMUTABLE, Rule};
use crate::front::files::fallback::{Fallback, covers};
use crate::front::files::media_type::Custom;
use crate::front::files::open::Symlinks;
use crate::front::files::{Mount, Settings};
use http::HeaderValue;
use std::collections::BTreeSet;

/// The URL of a `--static-dir` that names none.
const STATIC_URL: &str = "/static";

pub(super) fn read(reader: &mut Reader<'_>) -> Settings {
    let mounts = mounts(reader, Key::StaticDir, static_directory);
    Settings {
        fallbacks: fallbacks(reader, &mounts),
        clean_urls: each(reader, Key::StaticCleanUrls, "begin it with a slash", mount_url),
        internal: mounts_internal(reader),
        mounts,
        precompressed: reader.switch(Key::StaticPrecompressed),
        cache: each(reader, Key::StaticCache, "for example *.css=1h or /assets/*=immutable", |text| {
            let (pattern, value) = text.rsplit_once('=')?;
            cache_rule(pattern.trim(), value.trim())
        }),
        types: each(reader, Key::StaticType, "for example .md=text/markdown", |text| {
            let (ending, media_type) = text.split_once('=')?;
            Custom::parse(ending.trim(), media_type.trim())
        }),
        symlinks: match reader.word(Key::StaticSymlinks) {
            "owner" => Symlinks::Owner,
            "off" => Symlinks::Off,
            _ => Symlinks::Inside,
        },
    }
}

fn mounts_internal(reader: &mut Reader<'_>) -> Vec<Mount> {
    mounts(reader, Key::InternalDir, |text| {
        let (url, directory) = text.split_once('=')?;
        Some((mount_url(url)?, directory)).filter(|_| !directory.is_empty())
    })
}

fn fallbacks(reader: &mut Reader<'_>, mounts: &[Mount]) -> Vec<Fallback> {
    let mut fallbacks = Vec::new();
    for given in reader.all(Key::StaticFallback) {
        let Some((url, file)) = given.text.split_once('=').and_then(|(url, file)| fallback(url.trim(), file.trim()))
        else {
            reader.invalid(Key::StaticFallback, given, Some("for example /=index.html".to_owned()));
            continue;
        };
        if !mounts.iter().any(|mount| covers(&mount.url, url.as_bytes())) {
            let hint = format!("no --static-dir serves {url}: add --static-dir {url}=DIR");
            reader.invalid(Key::StaticFallback, given, Some(hint));
        }
        fallbacks.push(Fallback { url, file });
    }
    fallbacks
}

fn fallback(url: &str, file: &str) -> Option<(String, Option<String>)> {
    let url = mount_url(url)?;
    if file == "app" {
        return Some((url, None));
    }
    let file = file.trim_start_matches("./");
    let is_inside = !file.is_empty() && !file.starts_with('/') && file.split('/').all(|part| part != "..");
    is_inside.then(|| (url, Some(file.to_owned())))
}

/// The directories that an option names, each at its URL.
fn mounts(reader: &mut Reader<'_>, key: Key, parse: impl Fn(&str) -> Option<(String, &str)>) -> Vec<Mount> {
    let mut urls = BTreeSet::new();
    let mut mounts = Vec::new();
    for given in reader.all(key) {
        let Some((url, directory)) = parse(&given.text) else {
            let hint = "begin the URL with a slash: /static=DIR; a directory with = in its name as ./DIR";
            reader.invalid(key, given, Some(hint.to_owned()));
            continue;
        };
        if !urls.insert(url.clone()) {
            let error = ConfigError::new(Problem::UrlTwice { url: url.clone() }).at(&given.origin);
            reader.errors.push(error.hint(format!("name another URL: --{} /media=DIR", definition(key).name)));
        }
        mounts.push(Mount { url, directory: reader.directory(key, given, directory) });
    }
    mounts
}

/// `DIR`, or `/url=DIR`. A path such as `./a=b` is a directory: it begins with a dot.
fn static_directory(text: &str) -> Option<(String, &str)> {
    let (url, directory) = match text.split_once('=') {
        Some((url, directory)) if url.starts_with('/') => (url, directory),
        Some(_) if !text.starts_with('.') => return None,
        _ => (STATIC_URL, text),
    };
    Some((mount_url(url)?, directory)).filter(|_| !directory.is_empty())
}

/// A path as it is after escapes are undone, without a slash at its end.
fn mount_url(url: &str) -> Option<String> {
    let is_path = url.starts_with('/')
        && !url.contains("//")
        && !url.contains(['?', '#', '%'])
        && url.split('/').all(|part| part != "..");
    let url = if url == "/" { url } else { url.trim_end_matches('/') };
    is_path.then(|| url.to_owned())
}

/// Reads the values of an option that may be given several times.
fn each<T>(reader: &mut Reader<'_>, key: Key, hint: &str, parse: impl Fn(&str) -> Option<T>) -> Vec<T> {
    let mut parsed = Vec::new();
    for given in reader.all(key) {
        match parse(&given.text) {
            Some(value) => parsed.push(value),
            None => reader.invalid(key, given, Some(hint.to_owned())),
        }
    }
    parsed
}

fn cache_rule(pattern: &str, value: &str) -> Option<Rule> {
    let value = match value {
        "immutable" => Some(IMMUTABLE),
        "no-cache" => Some(HeaderValue::from_static("no-cache")),
        "no-store" => Some(HeaderValue::from_static("no-store")),
        "none" => None,
        time => Some(HeaderValue::try_from(format!("max-age={}", duration::parse(time)?.as_secs())).ok()?),
    };
    (!pattern.is_empty()).then(|| Rule { pattern: pattern.to_owned(), value })
}
