//! Reads certificates again when their files change, and tells when one is about to end.
//!
//! Events only say when to look. Watched are the directories and not the files: certbot puts links in place of links,
//! Kubernetes swaps one link to a directory, and others rename a new file over the old one.

use super::certificate::seconds;
use super::shelf::{News, Shelf};
use super::{CertificateFiles, Tls};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime};

/// So long nothing may happen before files count as complete.
const QUIET: Duration = Duration::from_millis(200);
/// But no change is waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(5);
/// A key that does not fit is given this time to follow its certificate.
const GRACE: Duration = Duration::from_secs(2);
/// How often to look where no event tells: some file systems have none.
const INTERVAL: Duration = Duration::from_secs(30);
/// How often the end of a certificate is announced.
const REMINDER: Duration = Duration::from_hours(24);
/// As many links in one path as Linux follows.
const LINKS_MAX: usize = 40;

/// Goes on until it is dropped.
#[derive(Debug)]
pub struct Watch {
    end: Sender<Told>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Look,
    End,
}

impl Watch {
    /// Watches from now on, on a thread of its own.
    pub fn begin(tls: &Tls) -> Self {
        let (end, told) = mpsc::channel();
        let (events, shelf) = (end.clone(), Arc::clone(&tls.shelf));
        let started = std::thread::Builder::new().name("certificates".to_owned()).spawn(move || {
            let mut eye = Eye::open(events);
            eye.cover(&shelf.files());
            follow(&shelf, &mut eye, &told);
        });
        if let Err(error) = started {
            tracing::error!("changes of certificates are not noticed: {error}");
        }
        Self { end }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The thread may have failed to start.
        let _ = self.end.send(Told::End);
    }
}

fn follow(shelf: &Shelf, eye: &mut Eye, told: &Receiver<Told>) {
    let mut reminded = Instant::now();
    // What has changed since the files were read.
    let mut heard = Some(Told::Look);
    loop {
        if heard == Some(Told::End) || settle(told, PATIENCE) == Some(Told::End) {
            return;
        }
        let mut changes = shelf.look();
        if changes.iter().any(|changed| !changed.is_usable()) {
            if told.recv_timeout(GRACE) == Ok(Told::End) || settle(told, PATIENCE) == Some(Told::End) {
                return;
            }
            changes = shelf.look();
        }
        if !changes.is_empty() {
            shelf.adopt(changes).iter().for_each(say);
        }
        eye.cover(&shelf.files());
        if reminded.elapsed() >= REMINDER {
            reminded = Instant::now();
            for warning in shelf.warnings(seconds(SystemTime::now())) {
                tracing::warn!("{warning}");
            }
        }
        heard = match told.recv_timeout(INTERVAL) {
            Ok(told) => Some(told),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Told::End),
        };
    }
}

/// Waits until nothing has been heard for a while.
fn settle(told: &Receiver<Told>, patience: Duration) -> Option<Told> {
    let begun = Instant::now();
    while begun.elapsed() < patience {
        match told.recv_timeout(QUIET) {
            Ok(Told::Look) => {}
            Ok(Told::End) => return Some(Told::End),
            Err(_) => break,
        }
    }
    None
}

fn say(news: &News) {
    match news {
        News::InUse(certificate) => tracing::info!("{}", certificate.announcement()),
        News::Refused { before, error } => {
            let (label, end) = (&before.label, before.not_after);
            let reason = error.to_string().replace("\n  hint: ", "; ");
            tracing::warn!("the certificate for {label} stays the one that is valid until {end}: {reason}");
        }
    }
}

/// How changes come to our knowledge.
struct Eye {
    watcher: Option<RecommendedWatcher>,
    covered: BTreeSet<PathBuf>,
}

impl Eye {
    fn open(events: Sender<Told>) -> Self {
        let opened = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading is no change.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                let _ = events.send(Told::Look);
            }
        });
        let watcher = opened.inspect_err(|error| tracing::debug!("certificates are looked at now and then: {error}"));
        Self { watcher: watcher.ok(), covered: BTreeSet::new() }
    }

    /// Watches the directories of these files and no others.
    fn cover(&mut self, files: &[CertificateFiles]) {
        let Some(watcher) = &mut self.watcher else { return };
        let mut wanted = BTreeSet::new();
        for file in files.iter().flat_map(|files| [&files.certificate, &files.key]) {
            directories(file, &mut wanted);
        }
        for directory in &wanted {
            // Again even if it is covered: another one may have taken its place.
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                tracing::debug!("{} is not watched: {error}", directory.display());
            }
        }
        for directory in self.covered.difference(&wanted) {
            // The kernel forgets what is gone by itself.
            let _ = watcher.unwatch(directory);
        }
        self.covered = wanted;
    }
}

/// The directories in which something decides what `file` is: that of the file itself, and that of every link on the way.
fn directories(file: &Path, into: &mut BTreeSet<PathBuf>) {
    let own = |path: &Path| path.components().map(|part| part.as_os_str().to_owned()).collect::<Vec<OsString>>();
    let mut rest = VecDeque::from(own(file));
    let (mut here, mut links) = (PathBuf::new(), 0);
    while let Some(part) = rest.pop_front() {
        let mut next = here.clone();
        match Path::new(&part).components().next() {
            Some(Component::ParentDir) => drop(next.pop()),
            Some(Component::CurDir) | None => {}
            // The root too: it replaces what is there.
            Some(_) => next.push(&part),
        }
        match fs::read_link(&next) {
            Ok(target) if links < LINKS_MAX => {
                links += 1;
                into.insert(here.clone());
                own(&target).into_iter().rev().for_each(|part| rest.push_front(part));
            }
            // The last one there is.
            _ if rest.is_empty() || !next.exists() => {
                into.insert(here);
                return;
            }
            _ => here = next,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed preparation is a failed test")]
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_directory_that_decides() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for directory in ["archive/site", "live/site", "mount/..1", "real"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        for file in ["archive/site/cert1.pem", "mount/..1/tls.crt", "real/plain.pem"] {
            fs::write(root.join(file), "").unwrap();
        }
        symlink("../../archive/site/cert1.pem", root.join("live/site/cert.pem")).unwrap();
        symlink("..1", root.join("mount/..data")).unwrap();
        symlink("..data/tls.crt", root.join("mount/tls.crt")).unwrap();
        symlink(root.join("real"), root.join("current")).unwrap();
        symlink("circle", root.join("circle")).unwrap();
        let rows: [(&str, &[&str]); 6] = [
            ("real/plain.pem", &["real"]),
            ("live/site/cert.pem", &["archive/site", "live/site"]),
            ("mount/tls.crt", &["mount", "mount/..1"]),
            ("current/plain.pem", &["", "real"]),
            ("real/absent/cert.pem", &["real"]),
            ("circle", &[""]),
        ];
        for (file, expected) in rows {
            let mut found = BTreeSet::new();
            directories(&root.join(file), &mut found);
            // Above our own directory the machine may have links too.
            let found: Vec<&Path> = found.iter().filter_map(|path| path.strip_prefix(&root).ok()).collect();
            assert_eq!(found, expected.iter().map(Path::new).collect::<Vec<_>>(), "{file}");
        }
    }
}
