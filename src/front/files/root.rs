//! The directory of a mount, opened again when another one has taken its place: a build that deletes its output first, or
//! a symlink that is switched to a new release.

use super::cache_control::Manifest;
use super::open::{Directory, Opened, Symlinks};
use arc_swap::ArcSwap;
use rustix::fs::Stat;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How old the last look may be while files are found. One `stat` a second is not worth saving.
const LOOK_AFTER_HIT: Duration = Duration::from_secs(1);

/// And while one is not found: a new directory should not be missed for a second, nor every request of the application
/// behind a mount at `/` cost a `stat`.
const LOOK_AFTER_MISS: Duration = Duration::from_millis(20);

/// How often it is said that files cannot be read.
const COMPLAIN_EVERY: Duration = Duration::from_secs(1);

/// Where builds list the names that they have given to files, relative to the directory. The first that there is counts.
const MANIFESTS: [&[u8]; 3] = [b"staticfiles.json", b".vite/manifest.json", b"manifest.json"];

/// A manifest is not longer, in bytes.
const MANIFEST_MAX: u64 = 16 << 20;

/// The directory of a mount.
#[derive(Debug)]
pub struct Root {
    pub path: PathBuf,
    /// Where it is served.
    pub url: String,
    symlinks: Symlinks,
    place: ArcSwap<Place>,
    begun: Instant,
    looked: Occasion,
    complained: Occasion,
}

/// The directory as it is now.
#[derive(Debug)]
pub struct Place {
    pub directory: Directory,
    pub manifest: Option<Manifest>,
    /// What the manifest was read from.
    manifest_state: Option<FileState>,
    /// Device and inode. They are not given to another directory while this one is open.
    identity: (u64, u64),
}

/// Which of the manifests, and its state: inode, length and time of modification.
type FileState = (usize, u64, u64, i64, u32);

impl Root {
    pub fn open(path: PathBuf, url: String, symlinks: Symlinks) -> io::Result<Self> {
        let place = Place::open(&path, &url, symlinks)?;
        Ok(Self {
            path,
            url,
            symlinks,
            place: ArcSwap::from_pointee(place),
            begun: Instant::now(),
            looked: Occasion::default(),
            complained: Occasion::default(),
        })
    }

    /// Looks something up in the directory; again in the one that took its place, if it is missing.
    pub fn find<T>(&self, find: impl Fn(&Place) -> io::Result<T>) -> io::Result<T> {
        self.look(LOOK_AFTER_HIT);
        let found = find(&self.place.load());
        match &found {
            Err(error) if is_missing(error) && self.look(LOOK_AFTER_MISS) => find(&self.place.load()),
            _ => found,
        }
    }

    /// Whether it is time to say once more that something cannot be read.
    pub fn may_complain(&self) -> bool {
        self.complained.has_come(self.begun.elapsed(), COMPLAIN_EVERY)
    }

    /// Opens what lies at the path now, if the last look is `age` old and it is another directory.
    fn look(&self, age: Duration) -> bool {
        if !self.looked.has_come(self.begun.elapsed(), age) {
            return false;
        }
        let known = self.place.load();
        // Where nothing is, or nothing that can be opened, the old directory stays: what it has is better than nothing.
        let is_new = match rustix::fs::stat(&self.path) {
            Ok(status) => identity(&status) != known.identity,
            Err(_) => false,
        };
        if !is_new && Manifest::find(&known.directory).map(|(_, state)| state) == known.manifest_state {
            return false;
        }
        match Place::open(&self.path, &self.url, self.symlinks) {
            Ok(place) => {
                self.place.store(Arc::new(place));
                true
            }
            Err(error) => {
                tracing::warn!("the new {} cannot be opened: {error}", self.path.display());
                false
            }
        }
    }
}

impl Place {
    fn open(path: &Path, url: &str, symlinks: Symlinks) -> io::Result<Self> {
        let directory = Directory::open(path, symlinks)?;
        let identity = identity(&directory.status()?);
        let (manifest, manifest_state) = match Manifest::find(&directory) {
            Some((opened, state)) => (Manifest::read(opened, url), Some(state)),
            None => (None, None),
        };
        Ok(Self { directory, manifest, manifest_state, identity })
    }
}

impl Manifest {
    fn find(directory: &Directory) -> Option<(Opened, FileState)> {
        let found = MANIFESTS.iter().enumerate().find_map(|(index, name)| {
            let opened = directory.open_below(name).ok()?;
            opened.is_file().then_some((index, opened))
        });
        found.map(|(index, opened)| {
            let state = (index, opened.inode, opened.length, opened.modified_seconds, opened.modified_nanoseconds);
            (opened, state)
        })
    }

    fn read(opened: Opened, url: &str) -> Option<Self> {
        let mut text = Vec::new();
        opened.file.take(MANIFEST_MAX).read_to_end(&mut text).ok()?;
        Self::parse(&text, url)
    }
}

/// What a deleted directory answers, here and on NFS.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle)
}

fn identity(status: &Stat) -> (u64, u64) {
    (status.st_dev, status.st_ino)
}

/// Something that is done by one thread at a time, and not too often.
#[derive(Debug, Default)]
struct Occasion {
    /// Milliseconds, plus one; zero is never.
    last: AtomicU64,
}

impl Occasion {
    /// Whether the last time is `pause` ago; then it is this time.
    fn has_come(&self, now: Duration, pause: Duration) -> bool {
        let now = now.as_millis() as u64 + 1;
        let last = self.last.load(Ordering::Relaxed);
        let is_due = last == 0 || now.saturating_sub(last) >= pause.as_millis() as u64;
        is_due && self.last.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_occasion_comes_once_per_pause() {
        let occasion = Occasion::default();
        let pause = Duration::from_millis(20);
        for (now, expected) in [(0, true), (0, false), (19, false), (20, true), (39, false), (100, true)] {
            assert_eq!(occasion.has_come(Duration::from_millis(now), pause), expected, "{now}");
        }
    }
}
