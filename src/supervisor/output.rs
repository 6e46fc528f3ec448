//! What workers print, line by line, with their number in front.

use crate::telemetry::{OutputStream, worker_output};
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;

/// Longest line passed on whole, in bytes; a longer one is cut into several.
const LINE_MAX: usize = 16 << 10;

/// Passes lines on until the other end is closed by everybody who holds it.
pub(super) async fn follow(worker: Option<u32>, stream: OutputStream, mut from: impl AsyncRead + Unpin) {
    let mut pending = Vec::with_capacity(LINE_MAX);
    loop {
        let is_over = !matches!(from.read_buf(&mut pending).await, Ok(1..));
        // A line that fills the buffer is passed on as it is: a worker that prints without end cannot make this
        // process grow.
        let end = match memchr::memrchr(b'\n', &pending) {
            _ if is_over || pending.len() >= LINE_MAX => pending.len(),
            Some(newline) => newline + 1,
            None => 0,
        };
        let lines: Vec<u8> = pending.drain(..end).collect();
        if !lines.is_empty() {
            // Whoever reads our output may have stopped reading: then the worker waits, and nobody else.
            worker_output(worker, stream, &lines).await;
        }
        if is_over {
            return;
        }
    }
}

/// A pipe whose lines are passed on; the returned end is for the worker.
pub(super) fn pipe_for(worker: u32, stream: OutputStream) -> io::Result<OwnedFd> {
    let (sender, receiver) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map(|(read, write)| (write, read))?;
    monoceros_wire::sys::set_nonblocking(&receiver, true)?;
    let receiver = pipe::Receiver::from_owned_fd(receiver)?;
    tokio::spawn(follow(Some(worker), stream, receiver));
    Ok(sender)
}
