//! What workers print, line by line, with their number in front.

use crate::telemetry::{OutputStream, worker_output};
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::unix::pipe;

/// Longest line passed on whole, in bytes; a longer one is cut into several.
const LINE_MAX: usize = 16 << 10;

/// Passes lines on until the other end is closed by everybody who holds it.
pub async fn follow(worker: Option<u32>, stream: OutputStream, from: impl AsyncRead + Unpin) {
    let mut reader = BufReader::with_capacity(LINE_MAX, from);
    loop {
        let chunk = match reader.fill_buf().await {
            Ok([]) | Err(_) => return,
            Ok(chunk) => chunk,
        };
        // A line that fills the whole buffer is passed on as it is: a worker that prints without end cannot make
        // this process grow.
        let mut line = Vec::new();
        let length = chunk.len();
        match chunk.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                line.extend_from_slice(&chunk[..end]);
                reader.consume(end + 1);
            }
            None => {
                line.extend_from_slice(chunk);
                reader.consume(length);
                if !read_rest_of_line(&mut reader, &mut line).await {
                    worker_output(worker, stream, &String::from_utf8_lossy(&line));
                    return;
                }
            }
        }
        worker_output(worker, stream, &String::from_utf8_lossy(&line));
    }
}

/// Extends `line` to its end or to the limit. False at the end of the output.
async fn read_rest_of_line(reader: &mut BufReader<impl AsyncRead + Unpin>, line: &mut Vec<u8>) -> bool {
    while line.len() < LINE_MAX {
        let chunk = match reader.fill_buf().await {
            Ok([]) | Err(_) => return false,
            Ok(chunk) => chunk,
        };
        let length = chunk.len();
        if let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
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
pub fn pipe_for(worker: u32, stream: OutputStream) -> io::Result<OwnedFd> {
    let (sender, receiver) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map(|(read, write)| (write, read))?;
    monoceros_wire::sys::set_nonblocking(&receiver, true)?;
    let receiver = pipe::Receiver::from_owned_fd(receiver)?;
    tokio::spawn(follow(Some(worker), stream, receiver));
    Ok(sender)
}
