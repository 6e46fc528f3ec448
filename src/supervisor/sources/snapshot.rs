//! A look at the files of an application: which there are, and how old and how large they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What shows that a file is not the one it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    length: u64,
    inode: u64,
}

/// One look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Snapshot {
    /// Every directory that was looked into.
    pub(super) directories: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Stamp>,
}

impl Snapshot {
    /// Looks at the Python files in and below `directories`, and at the files `extra`. What cannot be read is not there.
    pub(super) fn take(directories: &[PathBuf], extra: &[PathBuf]) -> Self {
        let mut snapshot = Self::default();
        for directory in directories {
            snapshot.enter(directory);
        }
        for file in extra {
            snapshot.note(file);
        }
        snapshot
    }

    fn enter(&mut self, root: &Path) {
        let mut open = vec![root.to_owned()];
        while let Some(directory) = open.pop() {
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            let entries: Vec<_> = entries.flatten().collect();
            // A virtual environment (PEP 405).
            let is_foreign = directory != root && entries.iter().any(|entry| entry.file_name() == "pyvenv.cfg");
            if is_foreign || !self.directories.insert(directory) {
                continue;
            }
            for entry in entries {
                let (name, path) = (entry.file_name(), entry.path());
                // Links to directories are not followed: they may lead in a circle.
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_directory && !is_left_out(&name.to_string_lossy()) {
                    open.push(path);
                } else if !is_directory && is_source(&name.to_string_lossy()) {
                    self.note(&path);
                }
            }
        }
    }

    fn note(&mut self, file: &Path) {
        if let Ok(metadata) = fs::metadata(file) {
            let modified = (metadata.mtime(), metadata.mtime_nsec());
            let stamp = Stamp { modified, length: metadata.len(), inode: metadata.ino() };
            self.files.insert(file.to_owned(), stamp);
        }
    }

    /// Files that were changed, added or taken away on the way to `later`.
    pub(super) fn differences<'a>(&'a self, later: &'a Self) -> Vec<&'a Path> {
        let changed = later.files.iter().filter(|(path, stamp)| self.files.get(*path) != Some(stamp));
        let removed = self.files.iter().filter(|(path, _)| !later.files.contains_key(*path));
        let all: BTreeSet<&Path> = changed.chain(removed).map(|(path, _)| path.as_path()).collect();
        all.into_iter().collect()
    }
}

/// Directories whose files are nobody's code, or not this application's.
fn is_left_out(name: &str) -> bool {
    name.starts_with('.') || matches!(name, "__pycache__" | "node_modules" | "site-packages")
}

/// Files that a program consists of. Editors keep theirs under names with a dot in front.
fn is_source(name: &str) -> bool {
    !name.starts_with('.') && Path::new(name).extension().is_some_and(|extension| extension == "py")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(paths: &[&Path], root: &Path) -> Vec<String> {
        paths.iter().map(|path| path.strip_prefix(root).unwrap_or(path).display().to_string()).collect()
    }

    #[test]
    fn names_that_count() {
        let rows =
            [("views.py", true), (".#views.py", false), ("views.pyc", false), ("views.py~", false), ("py", false)];
        for (name, expected) in rows {
            assert_eq!(is_source(name), expected, "{name}");
        }
        let rows = [(".git", true), (".venv", true), ("node_modules", true), ("__pycache__", true), ("shop", false)];
        for (name, expected) in rows {
            assert_eq!(is_left_out(name), expected, "{name}");
        }
    }

    #[test]
    fn two_looks_are_compared() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path();
        for inner in ["shop/admin", "env/lib", ".git", "node_modules/x"] {
            fs::create_dir_all(root.join(inner)).expect("a directory");
            fs::write(root.join(inner).join("a.py"), "1").expect("a file");
        }
        fs::write(root.join("env/pyvenv.cfg"), "").expect("a file");
        fs::write(root.join("shop/old.py"), "1").expect("a file");
        let extra = [root.join("settings.toml")];
        let look = || Snapshot::take(&[root.to_owned(), root.join("shop")], &extra);
        let before = look();
        let seen: Vec<&Path> = before.files.keys().map(PathBuf::as_path).collect();
        assert_eq!(names(&seen, root), ["shop/admin/a.py", "shop/old.py"]);
        assert_eq!(before, look());
        fs::write(root.join("shop/admin/a.py"), "longer").expect("a file");
        fs::remove_file(root.join("shop/old.py")).expect("it is there");
        fs::write(root.join("shop/new.py"), "1").expect("a file");
        fs::write(root.join("settings.toml"), "1").expect("a file");
        fs::write(root.join("env/lib/a.py"), "longer").expect("a file");
        let now = look();
        assert_eq!(
            names(&before.differences(&now), root),
            ["settings.toml", "shop/admin/a.py", "shop/new.py", "shop/old.py"]
        );
        // The same file, put in place by renaming another one.
        fs::write(root.join("shop/fresh"), "1").expect("a file");
        fs::rename(root.join("shop/fresh"), root.join("shop/new.py")).expect("renamed");
        assert_eq!(names(&now.differences(&look()), root), ["shop/new.py"]);
    }
}
