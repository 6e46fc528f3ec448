//! Watches the files of the application, and says when they have changed (`--reload`).
//!
//! Events only say *when* to look; what has changed is found by comparing two looks at the disk. So it does not matter how an
//! editor saves, and a file system without events is merely looked at more often.

mod snapshot;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use snapshot::Snapshot;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use tokio::sync::mpsc as channel;

/// What to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The Python files in and below them count.
    pub directories: Vec<PathBuf>,
    /// Further files; they need not exist yet.
    pub extra: Vec<PathBuf>,
    /// Names in the log are relative to it.
    pub base: PathBuf,
}

/// Files that are not what they were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    first: PathBuf,
    others: usize,
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.first.display();
        match self.others {
            0 => write!(formatter, "{name} has changed"),
            1 => write!(formatter, "{name} and 1 other file have changed"),
            others => write!(formatter, "{name} and {others} other files have changed"),
        }
    }
}

/// So long nothing may happen before a change counts as complete: a checkout touches many files.
const QUIET: Duration = Duration::from_millis(200);
/// But no change is waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often to look where no event tells.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Watches from now on, on a thread of its own. What changes after this call is noticed.
pub fn watch(settings: Settings) -> channel::UnboundedReceiver<Change> {
    let (changes, changed) = channel::unbounded_channel();
    let (events, heard) = mpsc::channel();
    let before = Snapshot::take(&settings.directories, &settings.extra);
    let mut eye = Eye::open(events, &settings.extra);
    eye.cover(&before.directories);
    let started = std::thread::Builder::new()
        .name("sources".to_owned())
        .spawn(move || follow(&settings, before, eye, &heard, &changes));
    if let Err(error) = started {
        tracing::error!("changes of the application are not noticed: {error}");
    }
    changed
}

fn follow(
    settings: &Settings,
    mut before: Snapshot,
    mut eye: Eye,
    heard: &Receiver<()>,
    changes: &channel::UnboundedSender<Change>,
) {
    // A directory may have been made between the look at the disk and the watch.
    let mut is_suspicious = true;
    loop {
        if !is_suspicious && !eye.wait(heard) {
            return;
        }
        let now = settled(settings, &mut eye, heard, &before);
        if let Some(change) = change(&settings.base, &before, &now)
            && changes.send(change).is_err()
        {
            return;
        }
        is_suspicious = false;
        before = now;
    }
}

/// Looks at the disk until it comes to rest.
fn settled(settings: &Settings, eye: &mut Eye, heard: &Receiver<()>, before: &Snapshot) -> Snapshot {
    let begun = Instant::now();
    let mut last = Snapshot::take(&settings.directories, &settings.extra);
    loop {
        let is_new = eye.cover(&last.directories);
        if !is_new && last == *before {
            // An event that means nothing, such as a compiled file.
            return last;
        }
        while heard.recv_timeout(QUIET).is_ok() && begun.elapsed() < PATIENCE {}
        let now = Snapshot::take(&settings.directories, &settings.extra);
        if now == last || begun.elapsed() >= PATIENCE {
            eye.cover(&now.directories);
            return now;
        }
        last = now;
    }
}

fn change(base: &Path, before: &Snapshot, now: &Snapshot) -> Option<Change> {
    let changed = before.differences(now);
    let first = changed.first()?;
    let first = first.strip_prefix(base).unwrap_or(first).to_owned();
    Some(Change { first, others: changed.len() - 1 })
}

/// How changes come to our knowledge.
enum Eye {
    /// The kernel tells (inotify).
    Events {
        watcher: RecommendedWatcher,
        covered: BTreeSet<PathBuf>,
        /// Directories of single files.
        extra: Vec<PathBuf>,
    },
    /// Nobody tells.
    Polling,
}

impl Eye {
    fn open(events: Sender<()>, extra: &[PathBuf]) -> Self {
        let opened = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading is no change.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                // Nobody listens any more only when the program ends.
                let _ = events.send(());
            }
        });
        let extra: BTreeSet<_> = extra.iter().filter_map(|file| file.parent()).map(Path::to_owned).collect();
        match opened {
            Ok(watcher) => Self::Events { watcher, covered: BTreeSet::new(), extra: extra.into_iter().collect() },
            Err(error) => Self::polling(&error),
        }
    }

    fn polling(error: &notify::Error) -> Self {
        let reason = match &error.kind {
            notify::ErrorKind::MaxFilesWatch => {
                "the limit of watched directories is reached (sysctl fs.inotify.max_user_watches)".to_owned()
            }
            _ => error.to_string(),
        };
        tracing::warn!("--reload: {reason}; files are looked at every second instead");
        Self::Polling
    }

    /// Watches these directories and no others. True when one of them was not watched before.
    fn cover(&mut self, directories: &BTreeSet<PathBuf>) -> bool {
        let Self::Events { watcher, covered, extra } = self else { return false };
        let wanted: BTreeSet<PathBuf> = directories.iter().chain(&*extra).cloned().collect();
        let mut is_new = false;
        for directory in &wanted {
            // One that was taken away and made again under the same name needs a new watch, and nobody tells which.
            match watcher.watch(directory, RecursiveMode::NonRecursive) {
                Ok(()) => is_new |= !covered.contains(directory),
                Err(error) if is_exhausted(&error) => {
                    *self = Self::polling(&error);
                    return true;
                }
                // Gone again, or closed to us: it is no part of what is watched.
                Err(error) => tracing::debug!("{} is not watched: {error}", directory.display()),
            }
        }
        for directory in covered.difference(&wanted) {
            // The kernel forgets what is gone by itself.
            let _ = watcher.unwatch(directory);
        }
        *covered = wanted;
        is_new
    }

    /// Waits until it is worth to look. False when nobody will ever tell.
    fn wait(&self, heard: &Receiver<()>) -> bool {
        match self {
            Self::Events { .. } => heard.recv().is_ok(),
            Self::Polling => match heard.recv_timeout(POLL_INTERVAL) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(POLL_INTERVAL);
                    true
                }
            },
        }
    }
}

/// There are no more watches, or no more descriptors.
fn is_exhausted(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => true,
        notify::ErrorKind::Io(error) => matches!(error.raw_os_error(), Some(12 | 23 | 24 | 28)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_noticed_where_nobody_tells() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().to_owned();
        let settings = Settings { directories: vec![root.clone()], extra: Vec::new(), base: root.clone() };
        let before = Snapshot::take(&settings.directories, &settings.extra);
        let (changes, mut changed) = channel::unbounded_channel();
        let (events, heard) = mpsc::channel();
        drop(events);
        std::thread::spawn(move || follow(&settings, before, Eye::Polling, &heard, &changes));
        std::fs::write(root.join("views.py"), "1").expect("a file");
        let change = changed.blocking_recv().expect("it is noticed");
        assert_eq!(change.to_string(), "views.py has changed");
    }
}
