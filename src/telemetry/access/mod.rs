//! The access log: one line per request, written by a thread of its own.
//!
//! ```text
//! 2026-11-23 22:00:00 192.0.2.7 "GET /news?page=2 HTTP/2.0" 200 5120 3.4ms worker=2 queue=0.1ms "Mozilla/5.0 …"
//! ```
//! The request path pays for a few reference counts and one bounded channel; when the disk does not keep up, lines are
//! left out and counted, and nobody waits.

mod line;
mod writer;

pub use line::AccessRecord;

use super::clock::Clock;
use super::{AccessLog as Destination, Settings};
use http::StatusCode;
use http::request::Parts;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use writer::{Message, Shared, Sink, WriterThread, append};

/// Records that may wait for the writer; more are left out.
const QUEUE_RECORDS_MAX: usize = 16 << 10;
/// The writer wakes up at most once in this time, so that a busy server pays one system call for many lines.
const BATCH_TIME: Duration = Duration::from_millis(10);
/// How long [`AccessLog::close`] waits for the disk.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Where requests are noted. Cheap to clone; all clones write to the same place.
#[derive(Debug, Clone, Default)]
pub struct AccessLog {
    writer: Option<Arc<Writer>>,
}

#[derive(Debug)]
struct Writer {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
}

impl AccessLog {
    /// Opens the destination and starts the writer; does nothing when the access log is off. The error names
    /// the file.
    pub fn open(settings: &Settings) -> io::Result<Self> {
        let sink = match &settings.access_log {
            Destination::Off => return Ok(Self::default()),
            Destination::StandardOutput => Sink::StandardOutput,
            Destination::File(path) => Sink::File { file: append(path)?, path: path.clone() },
        };
        Self::start(sink)
    }

    fn start(sink: Sink) -> io::Result<Self> {
        let (queue, records) = sync_channel(QUEUE_RECORDS_MAX);
        let shared = Arc::new(Shared::default());
        let thread = WriterThread { records, sink, shared: Arc::clone(&shared), clock: Clock::default() };
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || thread.run())?;
        Ok(Self { writer: Some(Arc::new(Writer { queue, shared })) })
    }

    pub fn is_on(&self) -> bool {
        self.writer.is_some()
    }

    /// Begins to follow a request. `None` when the access log is off: nothing is copied then.
    pub fn begin(&self, client: &impl fmt::Display, request: &Parts) -> Option<AccessEntry> {
        let writer = self.writer.as_ref()?;
        let record = AccessRecord {
            client: client.to_string(),
            method: request.method.clone(),
            target: request.uri.clone(),
            version: request.version,
            status: None,
            bytes: 0,
            duration: Duration::ZERO,
            worker: None,
            queued: None,
            user_agent: request.headers.get(http::header::USER_AGENT).cloned(),
        };
        Some(AccessEntry { started: Instant::now(), record: Some(Box::new(record)), writer: Arc::clone(writer) })
    }

    /// Notes a request that is over. Never waits.
    pub fn record(&self, record: AccessRecord) {
        if let Some(writer) = &self.writer {
            writer.put(Box::new(record));
        }
    }

    /// Opens the file again under its name, for log rotation (`SIGUSR1` of nginx and gunicorn). What was noted before
    /// still goes to the old file.
    pub fn reopen(&self) {
        let Some(writer) = &self.writer else { return };
        writer.shared.reopen.store(true, Ordering::Release);
        // A full queue needs no waking.
        let _ = writer.queue.try_send(Message::Wake);
    }

    /// Writes everything noted so far, for the end of the program. Gives up when the disk does not answer in time.
    pub fn close(&self) {
        let Some(writer) = &self.writer else { return };
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        let (done, written) = sync_channel(1);
        let mut message = Message::Flush(done);
        loop {
            match writer.queue.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => {
                    message = back;
                    std::thread::sleep(BATCH_TIME);
                }
                Err(_) => return,
            }
        }
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

impl Writer {
    fn put(&self, record: Box<AccessRecord>) {
        if self.queue.try_send(Message::Record(record)).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A request that is being answered. It is noted when this is dropped, so a client that leaves early is noted too: keep it
/// with the body of the response, for example in [`Counted`].
#[derive(Debug)]
pub struct AccessEntry {
    started: Instant,
    record: Option<Box<AccessRecord>>,
    writer: Arc<Writer>,
}

impl AccessEntry {
    /// The answer has a head.
    pub fn answered(&mut self, status: StatusCode, worker: Option<u32>, queued: Option<Duration>) {
        if let Some(record) = &mut self.record {
            (record.status, record.worker, record.queued) = (Some(status), worker, queued);
        }
    }

    /// So many more bytes of the body were handed to the connection.
    pub fn sent(&mut self, bytes: u64) {
        if let Some(record) = &mut self.record {
            record.bytes += bytes;
        }
    }
}

impl Drop for AccessEntry {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.duration = self.started.elapsed();
            self.writer.put(record);
        }
    }
}

/// A response body that counts its bytes for the access log.
#[derive(Debug)]
pub struct Counted<B> {
    body: B,
    entry: AccessEntry,
}

impl<B> Counted<B> {
    pub fn new(body: B, entry: AccessEntry) -> Self {
        Self { body, entry }
    }

    /// The body that is counted.
    pub fn body_mut(&mut self) -> &mut B {
        &mut self.body
    }
}

impl<B: http_body::Body<Data: bytes::Buf> + Unpin> http_body::Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<B::Data>, B::Error>>> {
        let frame = std::task::ready!(std::pin::Pin::new(&mut self.body).poll_frame(context));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            let bytes = bytes::Buf::remaining(data) as u64;
            self.entry.sent(bytes);
        }
        std::task::Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
