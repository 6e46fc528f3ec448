//! Our standard output and standard error, each written by a thread of its own: whoever reads them may stop reading, and
//! then nobody but that thread waits.
//!
//! Own lines are left out and counted when too many wait. What the workers print is not left out: there the worker waits,
//! as it would if it wrote by itself.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Own lines that may wait; more are left out.
const LINES_MAX: usize = 4096;
/// Pieces of the workers' output that may wait, up to 16 KiB each.
const PIECES_MAX: usize = 64;
/// Most bytes in one write.
const BATCH: usize = 64 << 10;
/// Pause before another attempt where the output is not blocking and has no room.
const ROOM_PAUSE: Duration = Duration::from_millis(10);

/// Where a line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    Stdout,
    Stderr,
}

static STDOUT: OnceLock<Queue> = OnceLock::new();
static STDERR: OnceLock<Queue> = OnceLock::new();

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// The permit is given back when the bytes are written.
    Output(Vec<u8>, OwnedSemaphorePermit),
    Flush(SyncSender<()>),
}

#[derive(Debug)]
struct Queue {
    messages: Sender<Message>,
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Shared {
    lines: AtomicUsize,
    dropped: AtomicU64,
}

impl OutputStream {
    fn queue(self) -> Option<&'static Queue> {
        match self {
            Self::Stdout => STDOUT.get(),
            Self::Stderr => STDERR.get(),
        }
    }

    fn write_now(self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut output = io::stdout().lock();
                write_patiently(&mut output, bytes)?;
                output.flush()
            }
            Self::Stderr => write_patiently(&mut io::stderr().lock(), bytes),
        }
    }

    /// Writes a line of our own. Never waits.
    pub fn line(self, bytes: Vec<u8>) {
        match self.queue() {
            Some(queue) => queue.line(bytes),
            // Nobody is left to tell when our own output is closed.
            None => drop(self.write_now(&bytes)),
        }
    }

    /// Writes what a worker printed; waits while too much of that is waiting.
    pub async fn output(self, bytes: Vec<u8>) {
        match self.queue() {
            Some(queue) => {
                let Ok(permit) = Arc::clone(&queue.permits).acquire_owned().await else { return };
                let _ = queue.messages.send(Message::Output(bytes, permit));
            }
            None => drop(self.write_now(&bytes)),
        }
    }

    /// Waits until everything before is written, but not longer than `patience`.
    pub fn flush(self, patience: Duration) {
        let Some(queue) = self.queue() else { return };
        let (done, written) = sync_channel(1);
        if queue.messages.send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(patience);
        }
    }
}

/// Also to an output that somebody has made non-blocking.
fn write_patiently(output: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(ROOM_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Starts the threads; without them everything is written at once. A second call changes nothing.
pub fn start() {
    for (stream, place) in [(OutputStream::Stdout, &STDOUT), (OutputStream::Stderr, &STDERR)] {
        place.get_or_init(|| Queue::start(move |bytes| stream.write_now(bytes)));
    }
}

impl Queue {
    fn start(write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static) -> Self {
        let (sender, messages) = channel();
        let shared = Arc::new(Shared::default());
        let writer = Writer { messages, shared: Arc::clone(&shared), write };
        // Without the thread nothing is ever written; a program that cannot start one will not get far.
        let _ = std::thread::Builder::new().name("log".to_owned()).spawn(move || writer.run());
        Self { messages: sender, shared, permits: Arc::new(Semaphore::new(PIECES_MAX)) }
    }

    fn line(&self, bytes: Vec<u8>) {
        if self.shared.lines.fetch_add(1, Ordering::Relaxed) >= LINES_MAX {
            self.shared.lines.fetch_sub(1, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let _ = self.messages.send(Message::Line(bytes));
    }
}

struct Writer<W> {
    messages: Receiver<Message>,
    shared: Arc<Shared>,
    write: W,
}

impl<W: FnMut(&[u8]) -> io::Result<()>> Writer<W> {
    fn run(mut self) {
        let mut batch = Vec::new();
        while let Ok(first) = self.messages.recv() {
            let mut waiting = Vec::new();
            let mut permits = Vec::new();
            let mut lines = 0;
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Line(bytes) => {
                        batch.extend_from_slice(&bytes);
                        lines += 1;
                    }
                    Message::Output(bytes, permit) => {
                        batch.extend_from_slice(&bytes);
                        permits.push(permit);
                    }
                    Message::Flush(done) => waiting.push(done),
                }
                next = if batch.len() < BATCH { self.messages.try_recv().ok() } else { None };
            }
            // Nobody is left to tell when our own output is closed.
            let _ = (self.write)(&batch);
            batch.clear();
            self.shared.lines.fetch_sub(lines, Ordering::Relaxed);
            drop(permits);
            let dropped = self.shared.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                let line =
                    format!("monoceros: {dropped} lines of the log were left out, they were not read fast enough\n");
                let _ = (self.write)(line.as_bytes());
            }
            for done in waiting {
                let _ = done.try_send(());
            }
        }
    }
}

/// Standard error as a place to write messages to.
#[derive(Debug, Clone, Copy, Default)]
pub struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        OutputStream::Stderr.line(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    type Written = Arc<Mutex<Vec<u8>>>;

    /// A queue whose output takes nothing before `gate` is opened.
    fn stuck() -> (Queue, Written, SyncSender<()>) {
        let written = Written::default();
        let (gate, opened) = sync_channel::<()>(1);
        let target = Arc::clone(&written);
        let mut is_open = false;
        let queue = Queue::start(move |bytes| {
            if !is_open {
                is_open = opened.recv().is_ok();
            }
            target.lock().map_err(|_| io::ErrorKind::Other)?.extend_from_slice(bytes);
            Ok(())
        });
        (queue, written, gate)
    }

    fn text(queue: &Queue, written: &Written) -> String {
        let (done, flushed) = sync_channel(1);
        assert!(queue.messages.send(Message::Flush(done)).is_ok());
        assert!(flushed.recv_timeout(Duration::from_secs(30)).is_ok());
        written.lock().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    #[test]
    fn lines_nobody_reads_are_counted_and_nobody_waits() {
        let (queue, written, gate) = stuck();
        for number in 0..LINES_MAX + 10 {
            queue.line(format!("{number}\n").into_bytes());
        }
        assert!(gate.send(()).is_ok());
        let text = text(&queue, &written);
        assert!(text.starts_with("0\n1\n2\n"));
        assert_eq!(text.lines().filter(|line| line.parse::<usize>().is_ok()).count(), LINES_MAX);
        assert!(text.contains("monoceros: 10 lines of the log were left out"), "{}", &text[text.len() - 100..]);
    }

    #[tokio::test]
    async fn output_of_workers_waits_and_is_whole() {
        let (queue, written, gate) = stuck();
        let mut permits = Vec::new();
        while let Ok(permit) = Arc::clone(&queue.permits).try_acquire_owned() {
            permits.push(permit);
        }
        assert_eq!(permits.len(), PIECES_MAX);
        for (number, permit) in permits.into_iter().enumerate() {
            let _ = queue.messages.send(Message::Output(format!("{number}\n").into_bytes(), permit));
        }
        assert!(Arc::clone(&queue.permits).try_acquire_owned().is_err(), "a further piece waits");
        assert!(gate.send(()).is_ok());
        assert_eq!(text(&queue, &written).lines().count(), PIECES_MAX);
        assert!(Arc::clone(&queue.permits).try_acquire_owned().is_ok());
    }
}
