//! The access log: one line per request, written by a thread of its own.
//!
//! ```text
//! 2026-11-23 22:00:00 192.0.2.7 "GET /news?page=2 HTTP/2.0" 200 5120 3.4ms worker=2 queue=0.1ms "Mozilla/5.0 …"
//! ```
//! The request path pays for a few reference counts and one bounded channel; when the disk does not keep up, lines are
//! left out and counted, and nobody waits.

use super::clock::Clock;
use super::{AccessLog as Destination, Settings};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Uri, Version};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

/// Records that may wait for the writer; more are left out.
const QUEUE_RECORDS_MAX: usize = 16 << 10;
/// The writer wakes up at most once in this time, so that a busy server pays one system call for many lines.
const BATCH_TIME: Duration = Duration::from_millis(10);
/// How long [`AccessLog::close`] waits for the disk.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often lines that were left out are reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Longest user agent that is written, in bytes.
const USER_AGENT_MAX: usize = 256;

/// What is known about one request when it is over.
#[derive(Debug, Clone)]
pub struct AccessRecord {
    /// Address of the client without its port.
    pub client: String,
    pub method: Method,
    pub target: Uri,
    pub version: Version,
    /// None when the client left before there was an answer.
    pub status: Option<StatusCode>,
    /// Body bytes handed to the connection.
    pub bytes: u64,
    /// From the request's head to the last byte of the answer.
    pub duration: Duration,
    /// The worker that answered; none for static files and for answers of the front itself.
    pub worker: Option<u32>,
    /// Time spent waiting for a worker.
    pub queued: Option<Duration>,
    pub user_agent: Option<HeaderValue>,
}

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

/// What both sides of the queue look at.
#[derive(Debug, Default)]
struct Shared {
    dropped: AtomicU64,
    reopen: AtomicBool,
}

#[derive(Debug)]
enum Message {
    Record(Box<AccessRecord>),
    /// Look at [`Shared`].
    Wake,
    /// Write everything before this and answer.
    Flush(SyncSender<()>),
}

impl AccessLog {
    /// Opens the destination and starts the writer; does nothing when the access log is off.
    pub fn open(settings: &Settings) -> io::Result<Self> {
        let output = match &settings.access_log {
            Destination::Off => return Ok(Self::default()),
            Destination::StandardOutput => Output::StandardOutput,
            Destination::File(path) => Output::File { file: append(path)?, path: path.clone() },
        };
        Self::start(output)
    }

    fn start(output: Output) -> io::Result<Self> {
        let (queue, records) = sync_channel(QUEUE_RECORDS_MAX);
        let shared = Arc::new(Shared::default());
        let thread = WriterThread { records, output, shared: Arc::clone(&shared), clock: Clock::default() };
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

enum Output {
    StandardOutput,
    File {
        file: File,
        path: PathBuf,
    },
    #[cfg(test)]
    Test(Box<dyn Write + Send>),
}

impl Output {
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
                Err(error) => tracing::error!("access log {} cannot be opened again: {error}", path.display()),
            }
        }
    }
}

fn append(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

struct WriterThread {
    records: Receiver<Message>,
    output: Output,
    shared: Arc<Shared>,
    clock: Clock,
}

impl WriterThread {
    fn run(mut self) {
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
            match self.output.write(&lines) {
                Ok(()) => failing = false,
                Err(error) => {
                    let lost = lines.iter().filter(|&&byte| byte == b'\n').count() as u64;
                    self.shared.dropped.fetch_add(lost, Ordering::Relaxed);
                    if !failing {
                        tracing::error!("the access log cannot be written: {error}");
                    }
                    failing = true;
                }
            }
            lines.clear();
            if self.shared.reopen.swap(false, Ordering::AcqRel) {
                self.output.reopen();
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

fn write_line(output: &mut Vec<u8>, time: &str, record: &AccessRecord) {
    // Writing into a vector cannot fail.
    let _ = write!(output, "{time} ");
    escape(output, record.client.as_bytes());
    let _ = write!(output, " \"{} ", record.method);
    let target = record.target.path_and_query().map_or_else(|| record.target.path(), |target| target.as_str());
    escape(output, target.as_bytes());
    let _ = write!(output, " {:?}\" ", record.version);
    let _ = match record.status {
        Some(status) => write!(output, "{}", status.as_u16()),
        None => write!(output, "-"),
    };
    let _ = write!(output, " {} {}ms", record.bytes, Milliseconds(record.duration));
    if let Some(worker) = record.worker {
        let _ = write!(output, " worker={worker}");
    }
    if let Some(queued) = record.queued {
        let _ = write!(output, " queue={}ms", Milliseconds(queued));
    }
    if let Some(agent) = &record.user_agent {
        let agent = agent.as_bytes();
        output.extend_from_slice(b" \"");
        escape(output, &agent[..agent.len().min(USER_AGENT_MAX)]);
        output.push(b'"');
    }
    output.push(b'\n');
}

/// Milliseconds with one digit after the point.
struct Milliseconds(Duration);

impl fmt::Display for Milliseconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.as_micros() / 100;
        write!(formatter, "{}.{}", tenths / 10, tenths % 10)
    }
}

/// Writes text that came from a client so that it can neither end its field nor its line (nginx: `log_format` escapes
/// the same bytes in the same way).
fn escape(output: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f..=0xff => {
                let _ = write!(output, "\\x{byte:02X}");
            }
            _ => output.push(byte),
        }
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
