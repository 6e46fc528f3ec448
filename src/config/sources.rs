//! Which files `--reload` looks at.

use super::definition::Key;
use super::error::Warning;
use super::reader::Reader;
use super::table::definition;
use crate::supervisor::sources::Settings;
use std::path::Path;

/// Nothing without `--reload`.
pub(super) fn read(reader: &mut Reader<'_>, chdir: &Path) -> Option<Settings> {
    let key = if reader.all(Key::ReloadDir).is_empty() { Key::PythonPath } else { Key::ReloadDir };
    let own = (key == Key::PythonPath).then(|| chdir.to_owned());
    // Mistakes in the paths of imports are reported where those are read.
    let known = reader.errors.len();
    let given = reader.all(key).iter().map(|given| reader.directory(key, given, &given.text));
    let directories = own.into_iter().chain(given.collect::<Vec<_>>()).collect();
    if key == Key::PythonPath {
        reader.errors.truncate(known);
    }
    let extra = reader.all(Key::ReloadExtra).iter().map(|given| reader.path(&given.text)).collect();
    reader.switch(Key::Reload).then(|| Settings { directories, extra, base: chdir.to_owned() })
}

/// Options that do nothing.
pub(super) fn unused(reader: &Reader<'_>) -> Vec<Warning> {
    if reader.one(Key::Reload).is_some_and(|given| given.text == "true") {
        return Vec::new();
    }
    let given = [Key::ReloadDir, Key::ReloadExtra].into_iter().filter(|key| !reader.all(*key).is_empty());
    given.map(|key| Warning::WithoutReload { option: definition(key).flag() }).collect()
}
