//! One request as one line of the access log.

use http::{HeaderValue, Method, StatusCode, Uri, Version};
use std::fmt;
use std::io::Write as _;
use std::time::Duration;

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

/// Adds the line of one request.
pub(super) fn write_line(output: &mut Vec<u8>, time: &str, record: &AccessRecord) {
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
