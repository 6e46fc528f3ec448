//! HTTP/1.1 as raw bytes.

use super::echo::{Front, limits};
use super::rows::{Expected, ROWS};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Longer than anything here takes; reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

/// One response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Client {
    pub(crate) fn connect(front: &Front) -> Self {
        let stream = TcpStream::connect(front.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Everything until the connection ends.
    pub(crate) fn rest(&mut self) -> String {
        while self.read_more() > 0 {}
        String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned()
    }

    /// Exactly so many bytes.
    pub(crate) fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            assert_ne!(self.read_more(), 0, "the connection ended after {:?}", String::from_utf8_lossy(&self.read));
        }
        self.read.drain(..count).collect()
    }

    fn read_more(&mut self) -> usize {
        let mut bytes = [0; 16384];
        let count = match self.stream.read(&mut bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("{error}; so far {:?}", String::from_utf8_lossy(&self.read)),
        };
        self.read.extend_from_slice(&bytes[..count]);
        count
    }

    /// The next response; `None` when the connection was closed without one.
    pub(crate) fn reply(&mut self, to_head: bool) -> Option<Reply> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if self.read_more() == 0 {
                assert!(self.read.is_empty(), "cut off: {:?}", String::from_utf8_lossy(&self.read));
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.read[..end]).into_owned();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
        let length = if to_head { 0 } else { length };
        while self.read.len() < end + length {
            assert_ne!(self.read_more(), 0, "the body is cut off");
        }
        let body = String::from_utf8_lossy(&self.read[end..end + length]).into_owned();
        self.read.drain(..end + length);
        Some(Reply { status: head[9..12].parse().unwrap(), head, body })
    }

    /// The connection ends, with nothing more on it.
    pub(crate) fn ends(&mut self) -> bool {
        self.read_more() == 0 && self.read.is_empty()
    }
}

#[test]
fn every_row_is_answered_as_it_should_be() {
    let front = Front::start(&limits());
    for (name, bytes, expected) in ROWS {
        let mut client = Client::connect(&front);
        client.send(bytes);
        // If anything of it were taken for a request of its own, this would be answered too.
        client.send(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
        let reply = client.reply(false).unwrap_or_else(|| panic!("{name}: closed without an answer"));
        match expected {
            Expected::Refused(status) => {
                assert_eq!(reply.status, *status, "{name}: {}", reply.body);
                assert!(reply.head.contains("connection: close"), "{name}: {}", reply.head);
                assert!(client.ends(), "{name}: goes on after a refusal");
            }
            Expected::Passed(part) => {
                assert_eq!(reply.status, 200, "{name}: {}", reply.body);
                assert!(reply.body.contains(part), "{name}: {}", reply.body);
                assert!(client.reply(false).unwrap().body.starts_with("GET /next\n"), "{name}");
            }
            Expected::Without(part) => {
                assert_eq!(reply.status, 200, "{name}: {}", reply.body);
                assert!(!reply.body.contains(part), "{name}: {}", reply.body);
                assert!(client.reply(false).unwrap().body.starts_with("GET /next\n"), "{name}");
            }
        }
    }
}

#[test]
fn byte_by_byte_is_no_different() {
    let front = Front::start(&limits());
    for (name, status) in [
        ("bare carriage return in a value", 400),
        ("chunk data without a line end", 400),
        ("plain chunk extension", 200),
        ("HTTP/1.2", 505),
    ] {
        let (_, bytes, _) = ROWS.iter().find(|row| row.0 == name).unwrap();
        let mut client = Client::connect(&front);
        for byte in *bytes {
            client.send(&[*byte]);
        }
        assert_eq!(client.reply(false).unwrap().status, status, "{name}");
    }
}

#[test]
fn limits_of_the_head() {
    let front = Front::start(&limits());
    let long = "x".repeat(1024);
    for (name, head, status) in [
        ("target", format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        ("endless target", format!("GET /{}", long.repeat(3)), 414),
        ("one header", format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", long.repeat(8)), 431),
        ("endless header", format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", long.repeat(9)), 431),
        ("many headers", format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(20)), 431),
        ("as many as may be", format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(19)), 200),
        ("as long as may be", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", &long[1..]), 200),
    ] {
        let mut client = Client::connect(&front);
        client.send(head.as_bytes());
        assert_eq!(client.reply(false).unwrap().status, status, "{name}");
    }
}

#[test]
fn requests_before_a_refused_one_are_answered_first() {
    let front = Front::start(&limits());
    let mut client = Client::connect(&front);
    client.send(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiGET /3#x HTTP/1.1\r\nHost: a\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.reply(false).unwrap().body.starts_with("GET /1\n"));
    assert!(client.reply(false).unwrap().body.contains("body=hi\n"));
    assert_eq!(client.reply(false).unwrap().status, 400);
    assert!(client.ends());
}

#[test]
fn a_refused_head_request_gets_no_body_and_a_browser_gets_a_page() {
    let front = Front::start(&limits());
    let mut client = Client::connect(&front);
    client.send(b"HEAD /#x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.reply(true).unwrap().status, 400);
    assert!(client.ends());
    let mut client = Client::connect(&front);
    client.send(b"GET /#x HTTP/1.1\r\nAccept: text/html\r\nHost: a\r\n\r\n");
    let reply = client.reply(false).unwrap();
    assert!(reply.head.contains("text/html") && reply.body.contains("<h1>Bad Request</h1>"), "{reply:?}");
}

#[test]
fn an_unread_body_is_never_taken_for_a_request() {
    let front = Front::start(&limits());
    let mut client = Client::connect(&front);
    let body = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let head =
        format!("POST / HTTP/1.1\r\nHost: a\r\nX-Test: early\r\nContent-Length: {}\r\n\r\n", body.len() + 100_000);
    client.send(head.as_bytes());
    client.send(body);
    assert_eq!(client.reply(false).unwrap().status, 200);
    // What was announced and not sent is not waited for: the connection ends, or takes the rest as the body it is.
    let _ = client.stream.write_all(&vec![b'x'; 100_000]);
    let _ = client.stream.write_all(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    if let Some(reply) = client.reply(false) {
        assert!(reply.body.starts_with("GET /next\n"), "{}", reply.body);
    }
}

#[test]
fn tunnel_bytes_wait_for_the_answer() {
    let front = Front::start(&limits());
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nHost: a\r\n";
    // Accepted: what came early belongs to the tunnel.
    let mut client = Client::connect(&front);
    client.send(format!("GET / HTTP/1.1\r\n{upgrade}X-Test: tunnel\r\n\r\nGET /early HTTP/1.1\r\n").as_bytes());
    assert_eq!(client.reply(false).unwrap().status, 101);
    let early = b"GET /early HTTP/1.1\r\n";
    while client.read.len() < early.len() {
        assert_ne!(client.read_more(), 0);
    }
    assert_eq!(client.read, early);
    client.read.clear();
    client.send(b"\x00\x01\x02");
    client.read_more();
    assert_eq!(client.read, b"\x00\x01\x02");
    // Declined: it is the next request, and goes through the gate.
    for (next, status) in
        [("GET /early HTTP/1.1\r\nHost: a\r\n\r\n", 200), ("GET /early HTTP/1.1\nHost: a\r\n\r\n", 400)]
    {
        let mut client = Client::connect(&front);
        client.send(format!("GET / HTTP/1.1\r\n{upgrade}\r\n{next}").as_bytes());
        assert_eq!(client.reply(false).unwrap().status, 200);
        assert_eq!(client.reply(false).unwrap().status, status);
    }
    // Never asked for: an answer of 101 is ours to stop.
    let mut client = Client::connect(&front);
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Test: tunnel\r\nUpgrade: other\r\nConnection: upgrade\r\n\r\n");
    assert_eq!(client.reply(false).unwrap().status, 500);
}

#[test]
fn time_outs() {
    let short = Duration::from_millis(300);
    let front = Front::start(&monoceros::front::limits::Settings {
        header_timeout: short,
        keep_alive_timeout: short,
        send_timeout: short,
        ..limits()
    });
    let begun = Instant::now();
    let mut silent = Client::connect(&front);
    assert!(silent.ends(), "a silent client is not answered");
    let mut slow = Client::connect(&front);
    slow.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ");
    let reply = slow.reply(false).unwrap();
    assert_eq!(reply.status, 408);
    assert!(slow.ends());
    let mut idle = Client::connect(&front);
    idle.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(idle.reply(false).unwrap().status, 200);
    assert!(idle.ends(), "an idle client is not answered");
    let mut taking_nothing = Client::connect(&front);
    taking_nothing.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Test: large\r\n\r\n");
    while front.placement.open() > 0 {
        assert!(begun.elapsed() < PATIENCE, "a client that takes nothing holds its connection");
        std::thread::yield_now();
    }
    assert!(begun.elapsed() >= 4 * short);
}

#[test]
fn a_connection_ends_after_its_requests() {
    let front = Front::start(&monoceros::front::limits::Settings { keep_alive_requests: 2, ..limits() });
    let mut client = Client::connect(&front);
    client.send(
        b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert!(!client.reply(false).unwrap().head.contains("connection: close"));
    assert!(client.reply(false).unwrap().head.contains("connection: close"));
    assert!(client.ends());
}

#[test]
fn http10_keeps_alive_only_when_asked() {
    let front = Front::start(&limits());
    let mut client = Client::connect(&front);
    client.send(b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(client.reply(false).unwrap().head.contains("connection: keep-alive"));
    client.send(b"GET /2 HTTP/1.0\r\n\r\n");
    assert!(client.reply(false).unwrap().body.starts_with("GET /2\n"));
    assert!(client.ends());
}

#[test]
fn a_drain_lets_the_running_request_finish() {
    let front = Front::start(&limits());
    let mut running = Client::connect(&front);
    running.send(b"POST /running HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    // 100: the request is inside. It has no length and no body.
    assert_eq!(running.reply(true).unwrap().status, 100);
    let mut idle = Client::connect(&front);
    idle.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(idle.reply(false).unwrap().status, 200);
    front.drain.begin(PATIENCE);
    assert!(idle.ends(), "an idle connection holds up the drain");
    running.send(b"done");
    let reply = running.reply(false).unwrap();
    assert!(reply.body.contains("body=done\n") && reply.head.contains("connection: close"), "{reply:?}");
    assert!(running.ends());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, front.drain.finished()).await }).unwrap();
    assert!(TcpStream::connect(front.address).is_err() || front.placement.open() == 0);
}

#[test]
fn few_connections_are_spread_over_the_threads() {
    let front = Front::start_with(&limits(), monoceros::front::Purpose::Http, None, 2);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(&front)).collect();
    for client in &mut clients {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.reply(false).unwrap().status, 200);
    }
    assert_eq!(front.placement.open_per_thread(), [4, 4]);
}

#[test]
fn a_redirecting_listener() {
    let front = Front::start_with(&limits(), monoceros::front::Purpose::RedirectToHttps { port: 8443 }, None, 1);
    let mut client = Client::connect(&front);
    client.send(b"GET /a?b HTTP/1.1\r\nHost: example.org:8080\r\n\r\n");
    let reply = client.reply(false).unwrap();
    assert_eq!(reply.status, 308);
    assert!(reply.head.contains("location: https://example.org:8443/a?b\r\n"), "{}", reply.head);
    let mut client = Client::connect(&front);
    client.send(b"GET /a HTTP/1.1\r\nHost: evil/@example.org\r\n\r\n");
    assert_eq!(client.reply(false).unwrap().status, 400);
}
