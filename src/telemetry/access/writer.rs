//! The thread that writes the access log.

use super::line::{AccessRecord, write_line};
use super::{BATCH_TIME, QUEUE_RECORDS_MAX};
use crate::telemetry::clock::Clock;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant, SystemTime};

/// How often lines that were left out are reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What both sides of the queue look at.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) dropped: AtomicU64,
    pub(super) reopen: AtomicBool,
}

#[derive(Debug)]
pub(super) enum Message {
    Record(Box<AccessRecord>),
    /// Look at [`Shared`].
    Wake,
    /// Write everything before this and answer.
    Flush(SyncSender<()>),
}

/// Where the lines go.
pub(super) enum Sink {
    StandardOutput,
    File {
        file: File,
        path: PathBuf,
    },
    #[cfg(test)]
    Test(Box<dyn Write + Send>),
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::StandardOutput => {
                let mut output = io::stdout().lock();
                output.write_all(bytes)?;
                output.flush()
            }
            Self::File { file, .. } => file.write_all(bytes),
            #[cfg(test)]
            Self::Test(output) => output.write_all(bytes),
        }
    }

    fn reopen(&mut self) {
        if let Self::File { file, path } = self {
            match append(path) {
                Ok(new) => *file = new,
                Err(error) => tracing::error!("the old file stays in use: {error}"),
            }
        }
    }
}

/// Opens a file to write at its end. The error names the file.
pub(super) fn append(path: &Path) -> io::Result<File> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    OpenOptions::new().create(true).append(true).open(path).map_err(named)
}

/// The thread that formats and writes.
pub(super) struct WriterThread {
    pub(super) records: Receiver<Message>,
    pub(super) sink: Sink,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
}

impl WriterThread {
    pub(super) fn run(mut self) {
        let mut lines = Vec::new();
        let mut reported = Instant::now();
        let mut failing = false;
        loop {
            let first = match self.records.recv_timeout(REPORT_INTERVAL) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let waiting = self.collect(first, &mut lines);
            match self.sink.write(&lines) {
                Ok(()) => failing = false,
                Err(error) => {
                    let lost = memchr::memchr_iter(b'\n', &lines).count() as u64;
                    self.shared.dropped.fetch_add(lost, Ordering::Relaxed);
                    if !failing {
                        tracing::error!("the access log cannot be written: {error}");
                    }
                    failing = true;
                }
            }
            lines.clear();
            if self.shared.reopen.swap(false, Ordering::AcqRel) {
                self.sink.reopen();
            }
            for done in &waiting {
                let _ = done.try_send(());
            }
            if reported.elapsed() >= REPORT_INTERVAL {
                reported = Instant::now();
                report_dropped(&self.shared);
            }
            if waiting.is_empty() {
                std::thread::sleep(BATCH_TIME);
            }
        }
    }

    /// Formats everything that is in the queue. Returns those who wait for it to be written.
    fn collect(&mut self, first: Option<Message>, lines: &mut Vec<u8>) -> Vec<SyncSender<()>> {
        let mut waiting = Vec::new();
        let now = SystemTime::now();
        let mut next = first;
        // One queue full at most, so that a flood cannot keep this from writing.
        for _ in 0..QUEUE_RECORDS_MAX {
            let Some(message) = next.take().or_else(|| self.records.try_recv().ok()) else { break };
            match message {
                Message::Record(record) => write_line(lines, self.clock.at(now), &record),
                Message::Wake => {}
                Message::Flush(done) => waiting.push(done),
            }
        }
        waiting
    }
}

fn report_dropped(shared: &Shared) {
    let dropped = shared.dropped.swap(0, Ordering::Relaxed);
    if dropped > 0 {
        tracing::warn!("the access log did not keep up: {dropped} lines were left out");
    }
}
