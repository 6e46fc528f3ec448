//! Time and endings of HTTP/1 connections. Where nothing may happen for a while, the test has to wait for that while.

use super::echo::{Front, limits};
use super::http1::Client;
use monoceros::front::limits::Settings;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(300);

#[test]
fn an_answer_that_is_not_taken_yet_is_no_idle_connection() {
    let front = Front::start(&Settings { keep_alive_timeout: SHORT, ..limits() });
    for connection in ["keep-alive", "close"] {
        let mut client = Client::connect(&front);
        client
            .send(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\nX-Test: large\r\n\r\n").as_bytes());
        std::thread::sleep(4 * SHORT);
        assert_eq!(client.reply(false).unwrap().body.len(), 16 << 20, "{connection}");
        assert!(client.ends());
    }
}

#[test]
fn a_client_that_always_has_half_a_head_under_way_is_not_slow() {
    let front = Front::start(&Settings { header_timeout: SHORT, ..limits() });
    let mut client = Client::connect(&front);
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (beginning, end) = request.split_at(10);
    client.send(beginning);
    let begun = Instant::now();
    while begun.elapsed() < 4 * SHORT {
        client.send(&[end, beginning].concat());
        assert_eq!(client.reply(false).unwrap().status, 200);
        std::thread::sleep(SHORT / 10);
    }
    // Half a head with nothing behind it is.
    assert_eq!(client.reply(false).unwrap().status, 408);
}

#[test]
fn half_a_preface_gets_the_time_of_one_head() {
    let front = Front::start(&Settings { header_timeout: Duration::from_secs(1), ..limits() });
    let mut client = Client::connect(&front);
    client.send(b"PRI * HTTP");
    let begun = Instant::now();
    assert_eq!(client.reply(false).unwrap().status, 408);
    assert!(begun.elapsed() < Duration::from_millis(1900), "{:?}", begun.elapsed());
}

#[test]
fn an_upgrade_in_two_pieces_may_be_accepted_late() {
    let front = Front::start(&Settings { header_timeout: SHORT, ..limits() });
    let mut client = Client::connect(&front);
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upg");
    // Two reads, as far as a test can tell.
    std::thread::sleep(SHORT / 3);
    client.send(b"rade\r\nUpgrade: websocket\r\nX-Test: late-tunnel\r\n\r\n");
    assert_eq!(client.reply(false).unwrap().status, 101);
    client.send(b"hello");
    assert_eq!(client.exactly(5), b"hello", "something else was fed into the tunnel");
}

#[test]
fn a_tunnel_on_the_last_request_of_a_connection_is_an_upgrade() {
    let front = Front::start(&Settings { keep_alive_requests: 1, ..limits() });
    let mut client = Client::connect(&front);
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Test: tunnel\r\n\r\n");
    let head = client.reply(false).unwrap().head;
    assert!(head.contains("connection: upgrade\r\n") && !head.contains("close"), "{head}");
    client.send(b"hello");
    assert_eq!(client.exactly(5), b"hello");
}

#[test]
fn an_answer_that_fails_is_cut_after_what_there_was_of_it() {
    let front = Front::start(&limits());
    for reused in [false, true] {
        let mut client = Client::connect(&front);
        if reused {
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.reply(false).unwrap().status, 200);
        }
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nX-Test: failing\r\nContent-Length: 0\r\n\r\n");
        let answer = client.rest();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "reused: {reused}: {answer:?}");
        assert!(answer.ends_with("\r\n\r\n4\r\npart\r\n"), "{answer:?}");
    }
}
