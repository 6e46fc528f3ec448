//! Sessions over an in-memory connection, with tokio's clock standing still.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

/// Both ends of a running session.
struct Fixture {
    client: DuplexStream,
    from_client: mpsc::Receiver<FromClient>,
    to_client: mpsc::Sender<ToClient>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    session: JoinHandle<Instant>,
}

/// Starts a session whose connection holds `pipe` bytes in each direction, and whose worker holds one message.
fn start(pipe: usize, settings: Settings) -> Fixture {
    let (client, server) = tokio::io::duplex(pipe);
    let (to_worker, from_client) = mpsc::channel(1);
    let (to_client, from_worker) = mpsc::channel(64);
    let (stop, stopping) = tokio::sync::oneshot::channel();
    // Dropped with the fixture, it must not stop the session.
    let stopping = async move {
        if stopping.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let session = tokio::spawn(async move { run(server, to_worker, from_worker, &settings, None, stopping).await });
    Fixture { client, from_client, to_client, stop: Some(stop), session }
}

/// A short, masked, final frame. A mask of zeros leaves the payload readable.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

fn text(data: &'static str) -> FromClient {
    FromClient::Message { text: true, data: Bytes::from_static(data.as_bytes()) }
}

fn closed(code: u16, reason: &str) -> FromClient {
    FromClient::Closed { code, reason: reason.to_owned() }
}

impl Fixture {
    async fn expect(&mut self, expected: &[u8]) {
        let mut bytes = vec![0; expected.len()];
        self.client.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes, expected);
    }

    async fn expect_end(&mut self) {
        assert_eq!(self.client.read(&mut [0; 16]).await.unwrap(), 0, "the connection is still open");
    }
}

#[tokio::test(start_paused = true)]
async fn messages_pass_both_ways_and_the_client_closes() {
    let mut f = start(4096, Settings::default());
    f.client.write_all(&frame(1, b"hello")).await.unwrap();
    assert_eq!(f.from_client.recv().await, Some(text("hello")));
    f.to_client.send(ToClient::Message { text: false, data: Bytes::from_static(&[1, 2]) }).await.unwrap();
    f.expect(&[0x82, 2, 1, 2]).await;
    f.client.write_all(&frame(8, &[0x03, 0xe8, b'b', b'y', b'e'])).await.unwrap();
    f.expect(&[0x88, 2, 0x03, 0xe8]).await;
    f.expect_end().await;
    assert_eq!(f.from_client.recv().await, Some(closed(1000, "bye")));
    drop(f.client);
    f.session.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn many_messages_of_the_worker_become_one_write() {
    let mut f = start(4096, Settings::default());
    for byte in 0..10 {
        f.to_client.send(ToClient::Message { text: false, data: vec![byte].into() }).await.unwrap();
    }
    let mut bytes = [0; 64];
    let length = f.client.read(&mut bytes).await.unwrap();
    assert_eq!(length, 30, "ten frames of three bytes in one read");
}

#[tokio::test(start_paused = true)]
async fn the_server_closes_and_waits_for_the_answer() {
    let mut f = start(4096, Settings::default());
    f.to_client.send(ToClient::Close { code: 1012, reason: "restart".into() }).await.unwrap();
    f.expect(b"\x88\x09\x03\xf4restart").await;
    // A message that crosses the close frame is not delivered any more.
    f.client.write_all(&frame(1, b"late")).await.unwrap();
    f.client.write_all(&frame(8, &[0x03, 0xf4])).await.unwrap();
    f.expect_end().await;
    assert_eq!(f.from_client.recv().await, Some(closed(1012, "")));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_answers_a_close_is_cut_after_the_timeout() {
    let mut f = start(4096, Settings::default());
    let begin = Instant::now();
    f.to_client.send(ToClient::Close { code: 1000, reason: String::new() }).await.unwrap();
    assert_eq!(f.from_client.recv().await, Some(closed(1006, "")));
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_secs(10) && waited < Duration::from_secs(11), "{waited:?}");
    f.session.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lost_worker_is_told_to_the_client_as_1011() {
    let mut f = start(4096, Settings::default());
    drop(f.to_client);
    let mut head = [0; 4];
    f.client.read_exact(&mut head).await.unwrap();
    assert_eq!(head, [0x88, 2, 0x03, 0xf3]);
    drop(f.client);
    f.session.await.unwrap();
    assert_eq!(f.from_client.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_just_ends_is_1006() {
    let mut f = start(4096, Settings::default());
    f.client.write_all(&frame(1, b"last words")).await.unwrap();
    drop(f.client);
    assert_eq!(f.from_client.recv().await, Some(text("last words")));
    assert_eq!(f.from_client.recv().await, Some(closed(1006, "")));
    f.session.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_also_while_the_worker_is_slow() {
    let mut f = start(4096, Settings::default());
    f.client.write_all(&frame(9, b"one")).await.unwrap();
    f.expect(b"\x8a\x03one").await;
    // Of pings that arrive together the last one may be the only one answered.
    f.client.write_all(&[frame(9, b"two"), frame(9, b"three")].concat()).await.unwrap();
    f.expect(b"\x8a\x05three").await;
}

#[tokio::test(start_paused = true)]
async fn protocol_errors_close_with_their_code() {
    let too_big = [&[0x82, 0xfe, 0xff, 0xff, 0, 0, 0, 0][..], &[0; 32]].concat();
    let cases: [(&[u8], u16); 4] = [
        (b"\x81\x05hello", 1002),
        (b"GET / HTTP/1.1\r\n", 1002),
        (&[0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),
        (&too_big, 1009),
    ];
    for (input, code) in cases {
        let mut f = start(4096, Settings { max_message_bytes: 1000, ..Settings::default() });
        f.client.write_all(input).await.unwrap();
        let mut head = [0; 4];
        f.client.read_exact(&mut head).await.unwrap();
        assert_eq!((head[0], u16::from_be_bytes([head[2], head[3]])), (0x88, code), "{input:?}");
        let Some(FromClient::Closed { code: told, .. }) = f.from_client.recv().await else { panic!("no end") };
        assert_eq!(told, code);
        drop(f.client);
        f.session.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_pinged_and_then_given_up() {
    let mut f = start(4096, Settings::default());
    let begin = Instant::now();
    f.expect(&[0x89, 0]).await;
    assert_eq!(begin.elapsed().as_secs(), 20);
    f.client.write_all(&frame(10, b"")).await.unwrap();
    // The answer was heard: another silence, another ping.
    f.expect(&[0x89, 0]).await;
    assert_eq!(begin.elapsed().as_secs(), 40);
    assert_eq!(f.from_client.recv().await, Some(closed(1006, "")));
    assert_eq!(begin.elapsed().as_secs(), 60);
    f.expect_end().await;
}

#[tokio::test(start_paused = true)]
async fn no_ping_is_sent_when_pings_are_off() {
    let f = start(4096, Settings { ping_interval: None, ..Settings::default() });
    let mut client = f.client;
    let silence = timeout(Duration::from_hours(24), client.read(&mut [0; 16])).await;
    assert!(silence.is_err(), "something was sent: {silence:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_worker_holds_the_client_back_and_is_not_blamed_on_it() {
    let mut f = start(64, Settings::default());
    let flood = async {
        for _ in 0..10_000 {
            f.client.write_all(&frame(1, b"0123456789")).await.unwrap();
        }
    };
    // Far beyond the time for an answer to a ping: the session does not read, so it must not conclude anything.
    assert!(timeout(Duration::from_mins(5), flood).await.is_err(), "everything was taken from the client");
    let mut received = 0;
    while let Ok(Some(message)) = timeout(Duration::from_secs(1), f.from_client.recv()).await {
        assert_eq!(message, text("0123456789"));
        received += 1;
    }
    assert!((1..2000).contains(&received), "{received} messages were buffered");
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_holds_the_worker_back() {
    let f = start(64, Settings { ping_interval: None, ..Settings::default() });
    let flood = async {
        for _ in 0..100_000 {
            f.to_client.send(ToClient::Message { text: false, data: vec![0; 1000].into() }).await.unwrap();
        }
    };
    assert!(timeout(Duration::from_mins(1), flood).await.is_err(), "everything was taken from the worker");
}

#[tokio::test(start_paused = true)]
async fn both_sides_may_send_a_lot_before_they_read() {
    let mut f = start(64, Settings::default());
    let data = Bytes::from(vec![7; 1 << 20]);
    f.to_client.send(ToClient::Message { text: false, data: data.clone() }).await.unwrap();
    // The client reads nothing before all of this is taken, and the server must not wait for it to.
    for _ in 0..1000 {
        f.client.write_all(&frame(1, b"0123456789")).await.unwrap();
        assert_eq!(f.from_client.recv().await, Some(text("0123456789")));
    }
    f.expect(&[0x82, 127, 0, 0, 0, 0, 0, 0x10, 0, 0]).await;
    f.expect(&data).await;
}

/// A worker that never pauses.
struct Flood;

impl FromWorker for Flood {
    async fn receive(&mut self) -> ToClient {
        // As a channel does: the task's turn ends some time.
        tokio::task::coop::consume_budget().await;
        ToClient::Message { text: false, data: Bytes::from_static(&[0; 1000]) }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_heard_through_a_flood_of_messages_to_it() {
    let (mut client, server) = tokio::io::duplex(4096);
    let (to_worker, mut from_client) = mpsc::channel(1);
    let settings = Settings::default();
    // What is written is taken at once, so that neither writing nor the worker ever pauses.
    let connection = tokio::io::join(server, tokio::io::sink());
    let session =
        tokio::spawn(async move { run(connection, to_worker, Flood, &settings, None, std::future::pending()).await });
    client.write_all(&frame(1, b"stop")).await.unwrap();
    assert_eq!(from_client.recv().await, Some(text("stop")));
    client.write_all(&frame(8, &[0x03, 0xe8])).await.unwrap();
    assert_eq!(from_client.recv().await, Some(closed(1000, "")));
    session.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_the_server_is_told_to_both_sides_as_1012() {
    let mut f = start(4096, Settings::default());
    f.client.write_all(&frame(1, b"hello")).await.unwrap();
    assert_eq!(f.from_client.recv().await, Some(text("hello")));
    f.stop.take().unwrap().send(()).unwrap();
    f.expect(b"\x88\x02\x03\xf4").await;
    f.expect_end().await;
    assert_eq!(f.from_client.recv().await, Some(closed(1012, "")));
    // A client that says nothing more does not delay it.
    let begin = Instant::now();
    f.session.await.unwrap();
    assert!(begin.elapsed() <= LINGER, "{:?}", begin.elapsed());
}

/// An application that sends now and then, and never receives.
struct Ticker;

impl FromWorker for Ticker {
    async fn receive(&mut self) -> ToClient {
        tokio::time::sleep(Duration::from_millis(200)).await;
        ToClient::Message { text: true, data: Bytes::from_static(b"tick") }
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_that_only_sends_does_not_keep_the_session_of_a_client_that_is_gone() {
    let (mut client, server) = tokio::io::duplex(4096);
    // Nobody receives from it: the first message fills it.
    let (to_worker, _inbox) = mpsc::channel(1);
    let settings = Settings::default();
    let connection = tokio::io::join(server, tokio::io::sink());
    let stopping = std::future::pending();
    let session = tokio::spawn(async move { run(connection, to_worker, Ticker, &settings, None, stopping).await });
    client.write_all(&frame(1, b"one")).await.unwrap();
    drop(client);
    let begin = Instant::now();
    timeout(Duration::from_secs(60), session).await.expect("the session ends").unwrap();
    assert!(begin.elapsed() <= Duration::from_secs(11), "{:?}", begin.elapsed());
}
