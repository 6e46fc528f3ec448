//! Tests of the access log: the form of a line, what a hostile client can do to it, and a disk that hangs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::line::write_line;
use super::*;
use http::{HeaderValue, Method, Request, Version};
use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};

fn parts(target: &str) -> Parts {
    Request::get(target).header("user-agent", "test/1").body(()).unwrap().into_parts().0
}

fn record(target: &str) -> AccessRecord {
    AccessRecord {
        client: "192.0.2.7".to_owned(),
        method: Method::GET,
        target: target.parse().unwrap(),
        version: Version::HTTP_11,
        status: Some(StatusCode::OK),
        bytes: 5120,
        duration: Duration::from_micros(3_449),
        worker: Some(2),
        queued: Some(Duration::from_micros(100)),
        user_agent: Some(HeaderValue::from_static("Mozilla/5.0")),
    }
}

fn line(record: &AccessRecord) -> String {
    let mut output = Vec::new();
    write_line(&mut output, "2026-11-23 22:00:00", record);
    String::from_utf8(output).unwrap()
}

#[test]
fn a_line_has_everything_in_its_place() {
    assert_eq!(
        line(&record("/news?page=2")),
        "2026-11-23 22:00:00 192.0.2.7 \"GET /news?page=2 HTTP/1.1\" 200 5120 3.4ms worker=2 queue=0.1ms \"Mozilla/5.0\"\n"
    );
    let bare = AccessRecord { status: None, worker: None, queued: None, user_agent: None, ..record("/") };
    assert_eq!(line(&bare), "2026-11-23 22:00:00 192.0.2.7 \"GET / HTTP/1.1\" - 5120 3.4ms\n");
}

#[test]
fn a_client_cannot_forge_lines_or_fields() {
    let agent = HeaderValue::from_bytes(b"a\" 200 9 \\ \t\xff\xc3\xa4").unwrap();
    let hostile = AccessRecord { user_agent: Some(agent), client: "unix:\n\x1b[31m".to_owned(), ..record("/") };
    let line = line(&hostile);
    assert!(line.ends_with("\"a\\x22 200 9 \\x5C \\x09\\xFF\\xC3\\xA4\"\n"), "{line}");
    assert!(line.contains(" unix:\\x0A\\x1B[31m "), "{line}");
    assert_eq!(line.matches('\n').count(), 1);
    assert!(line.is_ascii());
}

#[test]
fn a_long_user_agent_is_cut() {
    let agent = HeaderValue::from_str(&"x".repeat(5000)).unwrap();
    assert!(line(&AccessRecord { user_agent: Some(agent), ..record("/") }).len() < 400);
}

#[test]
fn an_entry_is_noted_when_it_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let log =
        AccessLog::open(&Settings { level: super::super::Level::Info, access_log: Destination::File(path.clone()) })
            .unwrap();
    let mut entry = log.begin(&"198.51.100.1", &parts("/a")).unwrap();
    entry.answered(StatusCode::NOT_FOUND, None, None);
    entry.sent(3);
    entry.sent(4);
    drop(entry);
    drop(log.begin(&"198.51.100.2", &parts("/left")));
    log.close();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("198.51.100.1 \"GET /a HTTP/1.1\" 404 7 "), "{text}");
    assert!(text.contains("198.51.100.2 \"GET /left HTTP/1.1\" - 0 "), "{text}");

    let rotated = directory.path().join("access.log.1");
    std::fs::rename(&path, &rotated).unwrap();
    log.reopen();
    log.close();
    log.record(record("/after"));
    log.close();
    assert!(std::fs::read_to_string(&path).unwrap().contains("/after"));
    assert!(!std::fs::read_to_string(&rotated).unwrap().contains("/after"));
}

#[test]
fn off_means_nothing_is_followed() {
    let log = AccessLog::default();
    assert!(log.begin(&"x", &parts("/")).is_none());
    log.record(record("/"));
    log.reopen();
    log.close();
}

/// An output that hangs until the other end of a channel is dropped.
struct Hanging {
    entered: Sender<()>,
    release: Receiver<()>,
}

impl Write for Hanging {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.entered.send(());
        let _ = self.release.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_disk_that_hangs_costs_lines_not_time() {
    let (entered, hangs) = channel();
    let (let_go, release) = channel();
    let log = AccessLog::start(Sink::Test(Box::new(Hanging { entered, release }))).unwrap();
    log.record(record("/first"));
    hangs.recv().unwrap();
    for _ in 0..QUEUE_RECORDS_MAX + 10 {
        log.record(record("/"));
    }
    let dropped = log.writer.as_ref().unwrap().shared.dropped.load(Ordering::Relaxed);
    assert_eq!(dropped, 10);
    drop(let_go);
}
