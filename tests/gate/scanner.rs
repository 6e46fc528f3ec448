//! The scanner of HTTP/1 bytes without sockets: the cut of the bytes does not matter, and hyper agrees with it.

use super::echo::limits;
use super::rows::ROWS;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use monoceros::front::gate::raw::{Limits, Scanner, Verdict};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What a scan of the whole came to: verdict at the end, bytes passed, heads.
fn scan(bytes: &[u8], cut: usize) -> (Verdict, usize, u64) {
    let mut scanner = Scanner::new(Limits::from(&limits()));
    let mut passed = 0;
    let mut verdict = Verdict::More;
    let mut end = 0;
    while end < bytes.len() {
        end = (end + cut).min(bytes.len());
        let scan = scanner.scan(&bytes[passed..end]);
        passed += scan.passed;
        verdict = scan.verdict;
        assert!(passed <= end);
        if verdict != Verdict::More {
            break;
        }
    }
    (verdict, passed, scanner.heads())
}

#[test]
fn the_cut_of_the_bytes_does_not_matter() {
    for (name, bytes, _) in ROWS {
        let whole = scan(bytes, bytes.len());
        for cut in 1..bytes.len() {
            assert_eq!(scan(bytes, cut), whole, "{name} in pieces of {cut}");
        }
    }
}

/// Lengths of the bodies hyper finds in the bytes, without any gate.
async fn hyper_bodies(bytes: &[u8]) -> Vec<usize> {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let (mut client, server) = tokio::io::duplex(1 << 16);
    let found = Arc::clone(&bodies);
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let found = Arc::clone(&found);
        async move {
            if let Ok(body) = request.into_body().collect().await {
                found.lock().unwrap().push(body.to_bytes().len());
            }
            Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from_static(b"ok"))))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.half_close(true).timer(hyper_util::rt::TokioTimer::new());
    let connection = builder.serve_connection(hyper_util::rt::TokioIo::new(server), service);
    let talk = async {
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).await.unwrap();
    };
    let _ = tokio::join!(connection, talk);
    Arc::try_unwrap(bodies).unwrap().into_inner().unwrap()
}

#[tokio::test]
async fn what_the_scanner_accepts_hyper_frames_the_same() {
    let next = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    for (name, bytes, _) in ROWS {
        let followed = [bytes, &next[..]].concat();
        let (verdict, passed, heads) = scan(&followed, followed.len());
        if verdict != Verdict::More || passed < followed.len() {
            continue;
        }
        let bodies = hyper_bodies(&followed).await;
        assert_eq!(bodies.len() as u64, heads, "{name}: hyper finds other requests");
        assert_eq!(bodies.last(), Some(&0), "{name}: hyper took the next request for a body");
    }
}

/// No target byte that passes the scanner may be one that hyper's parser refuses: it would answer itself.
#[tokio::test]
async fn every_byte_of_a_target_that_passes_is_one_hyper_takes() {
    for position in ["path", "query", "name", "value", "method"] {
        for byte in 0..=255_u8 {
            let one: &[u8] = &[byte];
            let bytes = match position {
                "path" => [b"GET /a", one, b"b HTTP/1.1\r\nHost: a\r\n\r\n"].concat(),
                "query" => [b"GET /a?", one, b"b HTTP/1.1\r\nHost: a\r\n\r\n"].concat(),
                "name" => [b"GET / HTTP/1.1\r\nHost: a\r\nX", one, b": b\r\n\r\n"].concat(),
                "value" => [b"GET / HTTP/1.1\r\nHost: a\r\nX: a", one, b"b\r\n\r\n"].concat(),
                _ => [b"GE", one, b"T / HTTP/1.1\r\nHost: a\r\n\r\n"].concat(),
            };
            let (verdict, passed, heads) = scan(&bytes, bytes.len());
            if verdict == Verdict::More && passed == bytes.len() {
                assert_eq!(hyper_bodies(&bytes).await.len() as u64, heads, "{position} with {byte:#x}");
            }
        }
    }
}
