//! What lies at a path below a mount's directory.

use super::cache_control;
use super::media_type::{self, Custom};
use super::open::{Directory, Opened};
use super::path::Target;
use super::root::Place;
use crate::front::negotiate::{Accepted, Coding};
use http::HeaderValue;
use std::borrow::Cow;
use std::io;

/// The file that stands for its directory (nginx: `index`).
const INDEX: &[u8] = b"index.html";

/// A sibling may be so much older than its file, in seconds. Tools that write both do not do it in any certain order, and
/// archives keep times to two seconds.
const SIBLING_AGE_MAX: i64 = 2;

/// What lies at a path.
pub(super) enum Found<'a> {
    File(FoundFile<'a>),
    /// A directory that has an index; links in the index need the slash.
    DirectoryWithoutSlash,
    Nothing,
}

/// A regular file.
pub(super) struct FoundFile<'a> {
    /// Encoded with `coding`.
    pub(super) opened: Opened,
    /// The name of the file that is not encoded, relative to the directory.
    pub(super) name: Cow<'a, [u8]>,
    pub(super) media_type: HeaderValue,
    pub(super) coding: Coding,
    /// Whether another client may get another coding.
    pub(super) is_negotiable: bool,
    /// Whether the name changes when the content does.
    pub(super) is_hashed: bool,
}

/// What is wanted of a file.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) types: &'a [Custom],
    /// The codings in which it may be sent; `None` where it is never sent encoded.
    pub(super) codings: Option<Accepted>,
    /// Whether `/about` may be `about.html`.
    pub(super) clean: bool,
}

pub(super) fn find<'a>(place: &Place, target: &'a Target<'_>, wanted: Wanted<'_>) -> io::Result<Found<'a>> {
    let (directory, relative) = (&place.directory, target.relative());
    if target.is_directory() {
        let index = [relative, INDEX].concat();
        let opened = directory.open_below(&index)?;
        return Ok(if opened.is_file() {
            Found::File(represent(place, opened, index.into(), wanted))
        } else {
            Found::Nothing
        });
    }
    let opened = match directory.open_below(relative) {
        Ok(opened) if opened.is_file() => {
            return Ok(Found::File(represent(place, opened, relative.into(), wanted)));
        }
        other => other,
    };
    if wanted.clean && !relative.is_empty() {
        let page = [relative, b".html"].concat();
        match directory.open_below(&page) {
            Ok(page_file) if page_file.is_file() => {
                return Ok(Found::File(represent(place, page_file, page.into(), wanted)));
            }
            _ => {}
        }
    }
    let opened = opened?;
    if !opened.is_directory() {
        return Ok(Found::Nothing);
    }
    // Without an index there is nothing to redirect to: there are no listings.
    let separator: &[u8] = if relative.is_empty() { b"" } else { b"/" };
    let index = directory.open_below(&[relative, separator, INDEX].concat())?;
    Ok(if index.is_file() { Found::DirectoryWithoutSlash } else { Found::Nothing })
}

/// The file with this name and no other.
pub(super) fn find_file<'a>(place: &Place, name: &'a str, wanted: Wanted<'_>) -> io::Result<Found<'a>> {
    let opened = place.directory.open_below(name.as_bytes())?;
    let is_file = opened.is_file();
    Ok(if is_file { Found::File(represent(place, opened, name.as_bytes().into(), wanted)) } else { Found::Nothing })
}

/// The file, or its sibling with the coding that the client likes best.
fn represent<'a>(place: &Place, opened: Opened, name: Cow<'a, [u8]>, wanted: Wanted<'_>) -> FoundFile<'a> {
    let media_type = media_type::of_name(&name, wanted.types);
    let codings = wanted.codings.filter(|_| media_type::may_be_encoded(&name, &media_type));
    let is_negotiable = codings.is_some();
    let sibling = codings.and_then(|codings| sibling(&place.directory, &opened, &name, codings));
    let (opened, coding) = sibling.unwrap_or((opened, Coding::Identity));
    // A list is certain, a look at the name is not.
    let is_hashed = match &place.manifest {
        Some(manifest) => manifest.lists(&name),
        None => cache_control::is_hashed(&name),
    };
    FoundFile { opened, name, media_type, coding, is_negotiable, is_hashed }
}

/// The best encoded sibling. One that is older than its file was made of another state of it. Trouble with a sibling is no
/// trouble with the file.
fn sibling(directory: &Directory, plain: &Opened, name: &[u8], codings: Accepted) -> Option<(Opened, Coding)> {
    for coding in codings.in_order() {
        let ending: &[u8] = match coding {
            Coding::Identity => return None,
            Coding::Brotli => b".br",
            Coding::Zstd => b".zst",
            Coding::Gzip => b".gz",
        };
        if let Ok(sibling) = directory.open_below(&[name, ending].concat())
            && sibling.is_file()
            && sibling.modified_seconds.saturating_add(SIBLING_AGE_MAX) >= plain.modified_seconds
        {
            return Some((sibling, coding));
        }
    }
    None
}
