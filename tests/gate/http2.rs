//! HTTP/2 as raw frames, made by hand: no client library would send these.

use super::echo::{Front, limits};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ENHANCE_YOUR_CALM: u32 = 0xB;

/// How a stream, or its connection, ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Answered(u16, String),
    Reset,
    /// The connection, with this error code in its GOAWAY.
    Ended(Option<u32>),
}

struct Client {
    stream: TcpStream,
}

/// Literal fields without indexing (RFC 7541 §6.2.2), as they are.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            bytes.push(text.len() as u8);
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// The status at the start of a header block: indexed, or three digits, plain or in Huffman code (RFC 7541 §5.2).
fn status(block: &[u8]) -> u16 {
    match *block {
        // A dynamic table size update stands first.
        [first, ..] if first >> 5 == 0b001 => status(&block[1..]),
        [first @ 0x88..=0x8E, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(first - 0x88)],
        [0x08 | 0x48, 3, a, b, c, ..] => {
            [a, b, c].iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'))
        }
        [0x08 | 0x48, length, ref rest @ ..] if length & 0x80 != 0 => {
            let mut bits = rest.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
            let mut digit = || {
                let five = (0..5).fold(0, |code, _| code << 1 | bits.next().unwrap());
                if five < 3 { five } else { (five << 1 | bits.next().unwrap()) - 0b1_1001 + 3 }
            };
            digit() * 100 + digit() * 10 + digit()
        }
        _ => panic!("a status as {block:x?}"),
    }
}

impl Client {
    fn connect(front: &Front) -> Self {
        let stream = TcpStream::connect(front.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut client = Self { stream };
        client.stream.write_all(PREFACE).unwrap();
        client.send(SETTINGS, 0, 0, b"");
        client
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        // A connection that was closed meanwhile is noticed by reading.
        let _ = self.stream.write_all(&frame);
    }

    /// The next frame; `None` at the end.
    fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut header = [0; 9];
        match self.stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => return None,
            Err(error) => panic!("{error}"),
        }
        let mut payload = vec![0; u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize];
        self.stream.read_exact(&mut payload).ok()?;
        Some((header[3], header[4], u32::from_be_bytes([header[5], header[6], header[7], header[8]]), payload))
    }

    fn outcome(&mut self, wanted: u32) -> Outcome {
        let mut code = None;
        let mut answer = None;
        loop {
            let Some((kind, flags, stream, payload)) = self.frame() else { return Outcome::Ended(code) };
            match kind {
                GOAWAY => code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap())),
                RST_STREAM if stream == wanted && answer.is_none() => return Outcome::Reset,
                HEADERS if stream == wanted => answer = Some((status(&payload), String::new())),
                DATA if stream == wanted => {
                    if let Some((_, text)) = &mut answer {
                        text.push_str(&String::from_utf8_lossy(&payload));
                    }
                }
                _ => continue,
            }
            if stream == wanted
                && flags & END_STREAM != 0
                && let Some((status, text)) = answer.take()
            {
                return Outcome::Answered(status, text);
            }
        }
    }
}

fn ask(front: &Front, fields: &[(&str, &str)]) -> Outcome {
    let mut client = Client::connect(front);
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields));
    client.outcome(1)
}

/// `:method: GET`, `:scheme: http`, `:path: /` and these.
fn get(front: &Front, fields: &[(&str, &str)]) -> Outcome {
    ask(front, &[&[(":method", "GET"), (":scheme", "http"), (":path", "/")], fields].concat())
}

#[test]
fn refused_with_a_status() {
    let front = Front::start(&limits());
    let rows: &[(&str, &[(&str, &str)])] = &[
        ("host is not the authority", &[(":authority", "a"), ("host", "b")]),
        ("two hosts", &[("host", "a"), ("host", "b")]),
        ("two equal hosts", &[("host", "a"), ("host", "a")]),
        ("authority and two hosts", &[(":authority", "a"), ("host", "a"), ("host", "a")]),
        ("neither host nor authority", &[]),
        ("user information", &[(":authority", "u@a")]),
        ("comma in host", &[("host", "a,b")]),
    ];
    for (name, fields) in rows {
        let outcome = get(&front, fields);
        assert!(matches!(outcome, Outcome::Answered(400, _)), "{name}: {outcome:?}");
    }
    for (name, method, path, expected) in [
        ("TRACE", "TRACE", "/", 405),
        ("lower-case method", "get", "/", 400),
        ("above the root", "GET", "/../etc", 400),
        ("%00", "GET", "/%00", 400),
        ("%zz", "GET", "/%zz", 400),
        ("GET *", "GET", "*", 400),
    ] {
        let fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "a")];
        let outcome = ask(&front, &fields);
        assert!(matches!(outcome, Outcome::Answered(status, _) if status == expected), "{name}: {outcome:?}");
    }
    assert!(matches!(ask(&front, &[(":method", "CONNECT"), (":authority", "a:443")]), Outcome::Answered(405, _)));
    let other =
        [(":method", "CONNECT"), (":protocol", "other"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
    assert!(matches!(ask(&front, &other), Outcome::Answered(501, _)));
}

#[test]
fn stopped_by_the_protocol() {
    let front = Front::start(&limits());
    let rows: &[(&str, &[(&str, &str)])] = &[
        ("space in the authority", &[(":authority", "a b")]),
        ("slash in the authority", &[(":authority", "a/x")]),
        ("transfer-encoding", &[(":authority", "a"), ("transfer-encoding", "chunked")]),
        ("connection", &[(":authority", "a"), ("connection", "close")]),
        ("upgrade", &[(":authority", "a"), ("upgrade", "h2c")]),
        ("te: gzip", &[(":authority", "a"), ("te", "gzip")]),
        ("upper-case name", &[(":authority", "a"), ("X", "y")]),
        ("colon in a name", &[(":authority", "a"), ("x:y", "z")]),
        ("empty name", &[(":authority", "a"), ("", "z")]),
        ("line end in a name", &[(":authority", "a"), ("x\r\ny", "z")]),
        ("line end in a value", &[(":authority", "a"), ("x", "y\r\nz: w")]),
        ("line feed in a value", &[(":authority", "a"), ("x", "y\nz")]),
        ("NUL in a value", &[(":authority", "a"), ("x", "y\0z")]),
        ("two paths", &[(":path", "/x"), (":authority", "a")]),
        ("unknown pseudo-header", &[(":authority", "a"), (":other", "x")]),
        ("content-length against no body", &[(":authority", "a"), ("content-length", "5")]),
        ("two content-lengths", &[(":authority", "a"), ("content-length", "0"), ("content-length", "1")]),
        ("content-length +2", &[(":authority", "a"), ("content-length", "+2")]),
    ];
    for (name, fields) in rows {
        let outcome = get(&front, fields);
        assert!(
            matches!(outcome, Outcome::Reset | Outcome::Ended(_) | Outcome::Answered(400, _)),
            "{name}: {outcome:?}"
        );
    }
    for path in ["", "p", "/a b", "/a\r\nx: y", "http://a/"] {
        let outcome = ask(&front, &[(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "a")]);
        assert!(
            matches!(outcome, Outcome::Reset | Outcome::Ended(_) | Outcome::Answered(400, _)),
            "{path}: {outcome:?}"
        );
    }
    for fields in [
        &[(":method", "G T"), (":scheme", "http"), (":path", "/"), (":authority", "a")][..],
        &[(":scheme", "http"), (":path", "/"), (":authority", "a")],
        &[(":method", "GET"), (":path", "/"), (":authority", "a")],
    ] {
        let outcome = ask(&front, fields);
        assert!(
            matches!(outcome, Outcome::Reset | Outcome::Ended(_) | Outcome::Answered(400, _)),
            "{fields:?}: {outcome:?}"
        );
    }
}

#[test]
fn passed_in_one_form() {
    let front = Front::start(&limits());
    let fields = [
        (":authority", "a"),
        ("host", "A"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("x", " spaced\t"),
        ("x_real_ip", "1.2.3.4"),
        ("te", "trailers"),
    ];
    let Outcome::Answered(200, text) = get(&front, &fields) else { panic!("not answered") };
    assert!(text.starts_with("GET /\n"), "{text}");
    assert!(text.contains("cookie: a=1; b=2\n") && text.contains("x: spaced\n"), "{text}");
    assert!(!text.contains("1.2.3.4") && !text.contains("te:"), "{text}");
    let Outcome::Answered(200, text) = get(&front, &[(":authority", "example.org:8080")]) else {
        panic!("not answered")
    };
    assert!(text.contains("host: example.org:8080\n"), "{text}");
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/a/../b?q"), (":authority", "a")];
    let Outcome::Answered(200, text) = ask(&front, &fields) else { panic!("not answered") };
    assert!(text.starts_with("GET /b?q\n"), "{text}");
}

/// A known deviation: h2's URI type cuts the fragment off before anybody can see it. It is never handed on.
#[test]
fn a_fragment_is_cut_off() {
    let front = Front::start(&limits());
    let outcome = ask(&front, &[(":method", "GET"), (":scheme", "http"), (":path", "/a#b"), (":authority", "a")]);
    assert!(matches!(outcome, Outcome::Answered(200, text) if text.starts_with("GET /a\n")));
}

/// Sends one of many frames; the number counts them.
type Flood<'front> = &'front dyn Fn(&mut Client, u32);

#[test]
fn floods_are_calmed() {
    let front = Front::start(&limits());
    let request = block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")]);
    let rapid_reset = |client: &mut Client, number: u32| {
        let stream = number * 2 + 1;
        client.send(HEADERS, END_HEADERS | END_STREAM, stream, &request);
        client.send(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    };
    let ping = |client: &mut Client, _| client.send(PING, 0, 0, &[0; 8]);
    let settings = |client: &mut Client, _| client.send(SETTINGS, 0, 0, b"");
    let empty = |client: &mut Client, number| {
        if number == 0 {
            client.send(HEADERS, END_HEADERS, 1, &request);
        }
        client.send(DATA, 0, 1, b"");
    };
    let priority = |client: &mut Client, _| client.send(2, 0, 1, &[0, 0, 0, 0, 1]);
    let continuation = |client: &mut Client, number| {
        if number == 0 {
            client.send(HEADERS, 0, 1, &request);
        }
        client.send(9, 0, 1, &block(&[("x", "y")]));
    };
    let floods: [(&str, Flood<'_>); 6] = [
        ("rapid reset", &rapid_reset),
        ("ping", &ping),
        ("settings", &settings),
        ("empty data", &empty),
        ("priority", &priority),
        ("continuation", &continuation),
    ];
    for (name, flood) in floods {
        let mut client = Client::connect(&front);
        for number in 0..2000 {
            flood(&mut client, number);
        }
        assert_eq!(client.outcome(u32::MAX), Outcome::Ended(Some(ENHANCE_YOUR_CALM)), "{name}");
    }
}

#[test]
fn idle_connections_and_stalled_windows_end() {
    let short = Duration::from_millis(300);
    let front = Front::start(&monoceros::front::limits::Settings {
        keep_alive_timeout: short,
        send_timeout: short,
        header_timeout: short,
        ..limits()
    });
    let request = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
    let mut idle = Client::connect(&front);
    idle.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(&request));
    assert!(matches!(idle.outcome(1), Outcome::Answered(200, _)));
    assert_eq!(idle.outcome(3), Outcome::Ended(Some(0)), "an idle connection gets a GOAWAY without an error");
    // 16 MiB are to come and 64 KiB fit into the window, which is never opened again.
    let mut stalled = Client::connect(&front);
    stalled.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[&request[..], &[("x-test", "large")]].concat()));
    assert!(matches!(stalled.outcome(1), Outcome::Ended(_)));
    let mut half = Client::connect(&front);
    half.send(HEADERS, END_STREAM, 1, &block(&request));
    assert!(matches!(half.outcome(1), Outcome::Ended(_)), "a header block without an end");
}

#[test]
fn a_drain_says_goodbye() {
    let front = Front::start(&limits());
    let mut client = Client::connect(&front);
    client.send(
        HEADERS,
        END_HEADERS,
        1,
        &block(&[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")]),
    );
    // The acknowledged ping says that the request before it was read.
    client.send(PING, 0, 0, b"received");
    while client.frame().is_some_and(|(kind, flags, ..)| !(kind == PING && flags == 1)) {}
    front.drain.begin(Duration::from_secs(20));
    while client.frame().is_some_and(|(kind, ..)| kind != GOAWAY) {}
    client.send(DATA, END_STREAM, 1, b"done");
    assert!(matches!(client.outcome(1), Outcome::Answered(200, text) if text.contains("body=done\n")));
}
