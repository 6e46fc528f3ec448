//! What workers print, line by line, with their number in front.

use crate::telemetry::{OutputStream, worker_output};
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::unix::pipe;

/// Longest line passed on whole, in bytes; a longer one is cut into several.
const LINE_MAX: usize = 16 << 10;

/// Passes lines on until the other end is closed by everybody who holds it.
pub(super) async fn follow(worker: Option<u32>, stream: OutputStream, from: impl AsyncRead + Unpin) {
    let mut reader = BufReader::with_capacity(LINE_MAX, from);
    let mut line = Vec::new();
    while read_line(&mut reader, &mut line).await {
        worker_output(worker, stream, &String::from_utf8_lossy(&line));
        line.clear();
    }
    if !line.is_empty() {
        worker_output(worker, stream, &String::from_utf8_lossy(&line));
    }
}

/// Reads to the end of a line, or to the limit: a worker that prints without end cannot make this process grow. False at
/// the end of the output, with what is left in `line`.
async fn read_line(reader: &mut BufReader<impl AsyncRead + Unpin>, line: &mut Vec<u8>) -> bool {
    while line.len() < LINE_MAX {
        let chunk = match reader.fill_buf().await {
            Ok([]) | Err(_) => return false,
            Ok(chunk) => chunk,
        };
        let length = chunk.len();
        if let Some(end) = memchr::memchr(b'\n', chunk) {
            line.extend_from_slice(&chunk[..end]);
            reader.consume(end + 1);
            return true;
        }
        line.extend_from_slice(chunk);
        reader.consume(length);
    }
    true
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
