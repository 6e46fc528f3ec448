//! What the disk says about a path: there, missing, or out of reach for this user.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The questions that reading a configuration asks about the disk.
pub trait Disk {
    /// What is at a path, symbolic links followed: a directory that can be entered or a file that can be read.
    fn entry(&self, path: &Path) -> Result<DiskEntry, Obstacle>;
    /// Whether a PEM file holds a private key.
    fn holds_private_key(&self, path: &Path) -> bool;
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskEntry {
    Directory,
    /// Also a device or a pipe.
    File,
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    Missing,
    /// The user may not enter this directory, or not read this file. It is the path itself or a directory above it.
    Denied {
        barrier: PathBuf,
        user: String,
    },
    Other {
        reason: String,
    },
}

/// The real disk.
#[derive(Debug, Clone, Copy)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn entry(&self, path: &Path) -> Result<DiskEntry, Obstacle> {
        look(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Obstacle::Missing,
            ErrorKind::PermissionDenied => Obstacle::Denied { barrier: barrier(path), user: user() },
            _ => Obstacle::Other { reason: error.to_string() },
        })
    }

    fn holds_private_key(&self, path: &Path) -> bool {
        // What cannot be read is reported as such, not as a missing key.
        std::fs::read(path).map_or(true, |bytes| memchr::memmem::find(&bytes, b"PRIVATE KEY-----").is_some())
    }
}

/// Asks by doing: capabilities and access lists count too, which mode bits do not tell.
fn look(path: &Path) -> io::Result<DiskEntry> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        enter(path)?;
        return Ok(DiskEntry::Directory);
    }
    // A pipe could not be read a second time.
    if metadata.is_file() {
        File::open(path)?;
    }
    Ok(DiskEntry::File)
}

fn enter(directory: &Path) -> io::Result<()> {
    std::fs::metadata(directory.join(".")).map(|_| ())
}

/// The first directory on the way that may not be entered, or the path itself.
fn barrier(path: &Path) -> PathBuf {
    let way: Vec<&Path> = path.ancestors().skip(1).collect();
    let is_closed =
        |directory: &&&Path| enter(directory).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    way.iter().rev().find(is_closed).map_or_else(|| path.to_owned(), |directory| (*directory).to_owned())
}

/// Who we are: the name where it is known.
fn user() -> String {
    let id = rustix::process::geteuid().as_raw();
    let known = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_of(id, &known).map_or_else(|| format!("with the number {id}"), str::to_owned)
}

/// The name of a user in the text of `/etc/passwd` (passwd(5)).
fn name_of(id: u32, known: &str) -> Option<&str> {
    known.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then_some(name)
    })
}

/// A disk without anything on it, for the fuzzer.
#[derive(Debug, Clone, Copy)]
pub struct EmptyDisk;

impl Disk for EmptyDisk {
    fn entry(&self, _: &Path) -> Result<DiskEntry, Obstacle> {
        Err(Obstacle::Missing)
    }

    fn holds_private_key(&self, _: &Path) -> bool {
        false
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn sees_files_and_directories() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x.pem");
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\n").unwrap();
        assert_eq!(LocalDisk.entry(directory.path()), Ok(DiskEntry::Directory));
        assert_eq!(LocalDisk.entry(&file), Ok(DiskEntry::File));
        assert_eq!(LocalDisk.entry(&directory.path().join("gone")), Err(Obstacle::Missing));
        assert_eq!(LocalDisk.entry(&file.join("below")), Err(Obstacle::Missing));
        let long = directory.path().join("x".repeat(300));
        assert!(matches!(LocalDisk.entry(&long), Err(Obstacle::Other { .. })));
        assert!(!LocalDisk.holds_private_key(&file));
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----\n").unwrap();
        assert!(LocalDisk.holds_private_key(&file));
    }

    #[test]
    fn what_is_closed_is_not_missing() {
        if rustix::process::geteuid().is_root() {
            return; // Root may enter everywhere; tests/system runs the program as somebody else.
        }
        let directory = tempfile::tempdir().unwrap();
        let (closed, below) = (directory.path().join("closed"), directory.path().join("closed/below/x.pem"));
        std::fs::create_dir_all(below.parent().unwrap()).unwrap();
        std::fs::write(&below, "").unwrap();
        std::fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
        for path in [&closed, &below] {
            let found = LocalDisk.entry(path);
            assert!(matches!(&found, Err(Obstacle::Denied { barrier, .. }) if *barrier == closed), "{found:?}");
        }
        std::fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
        std::fs::set_permissions(&below, Permissions::from_mode(0o000)).unwrap();
        let found = LocalDisk.entry(&below);
        assert!(matches!(&found, Err(Obstacle::Denied { barrier, .. }) if *barrier == below), "{found:?}");
    }

    #[test]
    fn users_have_names() {
        let known = "root:x:0:0:root:/root:/bin/sh\n\n# a comment\nwww-data:x:33:33::/var/www:/bin/false\n";
        assert_eq!((name_of(33, known), name_of(0, known), name_of(7, known)), (Some("www-data"), Some("root"), None));
    }
}
