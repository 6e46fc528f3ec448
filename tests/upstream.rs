//! The pool against workers that misbehave on demand: real sockets, real pages, no Python.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use bytes::Bytes;
use harness::worker::{MockWorker, RequestSeen};
use monoceros::roster::{self, Notice, Report, SupervisorEnd};
use monoceros::upstream::Settings;
use monoceros::upstream::error::{Cause, Reached};
use monoceros::upstream::exchange::Event;
use monoceros::upstream::pool::{self, Conversation, Pool};
use monoceros::upstream::request::{EncodedRequest, RequestBody};
use monoceros::upstream::timeouts::Timeouts;
use monoceros_wire::frame::Kind;
use monoceros_wire::message::{BodySource, HttpVersion, Interface, Protocol, RequestFacts, ResponseHead};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// Nothing here takes long; whoever waits for this long waits for ever.
const PATIENCE: Duration = Duration::from_secs(10);

struct World {
    pool: Arc<Pool>,
    supervisor: SupervisorEnd,
    next_worker: u32,
}

impl World {
    fn new(settings: Settings) -> Self {
        let (supervisor, upstream) = roster::pair();
        let pool = Pool::new(settings, upstream.reports.clone());
        pool::start(&pool, upstream, vec![Handle::current()]);
        Self { pool, supervisor, next_worker: 1 }
    }

    /// A worker that says it is ready, and of which the pool knows that.
    async fn join(&mut self, interface: Interface, slots: u32) -> MockWorker {
        let (worker, member) = MockWorker::new(self.next_worker, 64);
        self.next_worker += 1;
        self.supervisor.notices.send(Notice::Joined(member)).unwrap();
        worker.greet(interface, slots).await;
        match self.report().await {
            Report::Ready { worker: number, .. } => assert_eq!(number, worker.number),
            other => panic!("expected ready, got {other:?}"),
        }
        worker
    }

    /// The late request itself comes first, and once; then its worker is overdue for as long as it lasts.
    async fn expect_overdue(&mut self) {
        let late = self.report().await;
        assert!(matches!(&late, Report::Late { worker: 1, requests } if requests.len() == 1), "{late:?}");
        assert!(matches!(self.report().await, Report::Overdue { worker: 1 }));
    }

    async fn report(&mut self) -> Report {
        timeout(PATIENCE, self.supervisor.reports.recv()).await.expect("a report in time").unwrap()
    }

    fn get(&self, path: &str) -> Conversation {
        self.pool.send(request("GET", path, b"", true)).unwrap()
    }

    fn post(&self, path: &str) -> Conversation {
        self.pool.send(request("POST", path, b"body", false)).unwrap()
    }
}

fn request(method: &str, path: &str, body: &'static [u8], is_idempotent: bool) -> EncodedRequest {
    let facts = RequestFacts {
        protocol: Protocol::Http,
        version: HttpVersion::Http11,
        is_https: false,
        tls: None,
        body: if body.is_empty() { BodySource::Empty } else { BodySource::Inline },
        method: method.as_bytes(),
        path: path.as_bytes(),
        query: b"",
        client_address: b"127.0.0.1",
        client_port: 1,
        server_address: b"127.0.0.1",
        server_port: 2,
    };
    EncodedRequest::encode(&facts, [], RequestBody::Inline(Bytes::from_static(body)), is_idempotent).unwrap()
}

async fn next(conversation: &Conversation) -> Event {
    timeout(PATIENCE, conversation.next()).await.expect("an event in time")
}

/// Status and body of a complete answer.
async fn answer(conversation: &Conversation) -> (u16, Vec<u8>) {
    let Event::Head { payload, mut is_end, .. } = next(conversation).await else { panic!("no head") };
    let head = ResponseHead::decode(&payload).unwrap();
    let mut body = head.body.to_vec();
    while !is_end {
        match next(conversation).await {
            Event::Data { bytes, is_end: end } => {
                body.extend_from_slice(&bytes);
                is_end = end;
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    (head.status, body)
}

async fn failure(conversation: &Conversation) -> (Cause, Reached) {
    match next(conversation).await {
        Event::Failed(error) => (error.cause, error.reached),
        other => panic!("expected a failure, got {other:?}"),
    }
}

/// Time-outs that a test can wait for.
fn short_timeouts() -> Timeouts {
    Timeouts { answer: Duration::from_millis(60), ..Timeouts::default() }
}

fn settings() -> Settings {
    Settings::default()
}

#[tokio::test]
async fn requests_wait_for_the_first_worker_and_are_answered_in_order() {
    let mut world = World::new(settings());
    let first = world.get("/1");
    let second = world.post("/2");
    assert_eq!(world.pool.load().queued, 2);
    let mut worker = world.join(Interface::Wsgi, 1).await;
    for (path, conversation) in [("/1", &first), ("/2", &second)] {
        let seen = worker.request().await;
        assert_eq!(seen.path, path);
        worker.enter(&seen);
        worker.answer(&seen, 200, path.as_bytes()).await;
        assert_eq!(answer(conversation).await, (200, path.as_bytes().to_vec()));
    }
    assert_eq!(world.pool.load().in_flight, 0);
}

#[tokio::test]
async fn a_slow_worker_holds_only_the_request_it_has_entered() {
    let mut world = World::new(settings());
    let mut slow = world.join(Interface::Wsgi, 1).await;
    let mut fast = world.join(Interface::Wsgi, 1).await;
    // Both get quick requests first, so that the pool begins to hand out ahead of time.
    for _ in 0..40 {
        let conversations: Vec<_> = (0..2).map(|_| world.get("/quick")).collect();
        for worker in [&mut slow, &mut fast] {
            while let Some(seen) = worker.try_request() {
                worker.enter(&seen);
                worker.answer_after(&seen, 200, b"", Duration::from_micros(20)).await;
            }
        }
        for conversation in &conversations {
            loop {
                tokio::select! {
                    event = conversation.next() => { assert!(matches!(event, Event::Head { .. })); break }
                    seen = slow.request() => { slow.enter(&seen); slow.answer_after(&seen, 200, b"", Duration::from_micros(20)).await }
                    seen = fast.request() => { fast.enter(&seen); fast.answer_after(&seen, 200, b"", Duration::from_micros(20)).await }
                }
            }
        }
    }
    let conversations: Vec<_> = (0..20).map(|number| world.get(&format!("/{number}"))).collect();
    let stuck = slow.request().await;
    slow.enter(&stuck);
    // The other one answers everything else, including what was handed to the slow one ahead of time.
    let mut answered = 0;
    while answered < 19 {
        let seen = fast.request().await;
        if fast.enter(&seen) {
            fast.answer(&seen, 200, b"ok").await;
            answered += 1;
        }
    }
    slow.answer(&stuck, 200, b"slow").await;
    for conversation in &conversations {
        assert_eq!(answer(conversation).await.0, 200);
    }
}

#[tokio::test]
async fn a_post_that_was_not_entered_is_given_to_another_worker() {
    let mut world = World::new(settings());
    let mut first = world.join(Interface::Wsgi, 1).await;
    let conversation = world.post("/");
    let seen = first.request().await;
    first.die();
    assert_eq!(seen.path, "/");
    let mut second = world.join_after_loss(1, Interface::Wsgi).await;
    let again = second.request().await;
    assert_eq!((again.path.as_str(), &again.body[..]), ("/", &b"body"[..]));
    assert!(second.enter(&again));
    second.answer(&again, 201, b"done").await;
    assert_eq!(answer(&conversation).await, (201, b"done".to_vec()));
}

impl World {
    /// Waits until the loss of a worker is known, then adds another one.
    async fn join_after_loss(&mut self, lost: u32, interface: Interface) -> MockWorker {
        match self.report().await {
            Report::LinkLost { worker, .. } => assert_eq!(worker, lost),
            other => panic!("expected a loss, got {other:?}"),
        }
        self.join(interface, 1).await
    }
}

#[tokio::test]
async fn an_entered_get_is_repeated_once_and_an_entered_post_never() {
    let mut world = World::new(settings());
    let mut first = world.join(Interface::Wsgi, 1).await;
    let get = world.get("/get");
    let seen = first.request().await;
    assert!(first.enter(&seen));
    first.die();
    let mut second = world.join_after_loss(1, Interface::Wsgi).await;
    let seen = second.request().await;
    assert!(second.enter(&seen));
    second.die();
    assert_eq!(failure(&get).await, (Cause::WorkerDied, Reached::Entered));

    let mut third = world.join_after_loss(2, Interface::Wsgi).await;
    let post = world.post("/post");
    let seen = third.request().await;
    assert!(third.enter(&seen));
    third.die();
    assert_eq!(failure(&post).await, (Cause::WorkerDied, Reached::Entered));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_repeated() {
    let mut world = World::new(settings());
    let mut worker = world.join(Interface::Wsgi, 1).await;
    let conversation = world.get("/");
    let seen = worker.request().await;
    worker.enter(&seen);
    worker.head(&seen, 200, b"half", false).await;
    worker.die();
    assert!(matches!(next(&conversation).await, Event::Head { is_end: false, .. }));
    assert_eq!(failure(&conversation).await, (Cause::WorkerDied, Reached::Answering));
}

#[tokio::test]
async fn an_answer_in_the_socket_survives_the_death_of_its_worker() {
    let mut world = World::new(settings());
    let mut worker = world.join(Interface::Wsgi, 1).await;
    let conversation = world.post("/");
    let seen = worker.request().await;
    worker.enter(&seen);
    worker.answer(&seen, 200, b"last words").await;
    world.supervisor.notices.send(Notice::Gone(1)).unwrap();
    assert_eq!(answer(&conversation).await, (200, b"last words".to_vec()));
}

#[tokio::test]
async fn the_queue_has_an_end() {
    let mut world = World::new(Settings { queue_size: 2, ..settings() });
    let _waiting = [world.get("/1"), world.get("/2")];
    let error = world.pool.send(request("GET", "/3", b"", true)).unwrap_err();
    assert_eq!((error.cause, error.reached), (Cause::QueueFull, Reached::Queued));
    let mut worker = world.join(Interface::Wsgi, 1).await;
    let seen = worker.request().await;
    worker.enter(&seen);
    // A place in the queue is free again.
    let _third = world.get("/3");
    worker.answer(&seen, 200, b"").await;
}

#[tokio::test]
async fn nobody_waits_longer_than_the_queue_time_out() {
    let world = World::new(Settings { queue_timeout: Duration::from_millis(60), ..settings() });
    let conversation = world.get("/");
    assert_eq!(failure(&conversation).await, (Cause::QueueTimeout, Reached::Queued));
    assert_eq!(world.pool.load().queued, 0);
}

#[tokio::test]
async fn an_application_that_takes_too_long_is_reported_once() {
    let mut world = World::new(Settings { timeouts: short_timeouts(), ..settings() });
    let mut worker = world.join(Interface::Wsgi, 1).await;
    let conversation = world.get("/");
    let seen = worker.request().await;
    worker.enter(&seen);
    assert_eq!(failure(&conversation).await, (Cause::Timeout, Reached::Entered));
    world.expect_overdue().await;
    assert!(worker.is_cancelled(&seen));
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_is_never_computed() {
    let mut world = World::new(settings());
    let gone = world.get("/gone");
    let stays = world.get("/stays");
    drop(gone);
    let mut worker = world.join(Interface::Wsgi, 1).await;
    let seen = worker.request().await;
    assert_eq!(seen.path, "/stays");
    worker.enter(&seen);
    worker.answer(&seen, 200, b"").await;
    assert_eq!(answer(&stays).await.0, 200);
}

#[tokio::test]
async fn a_client_that_leaves_a_running_request_frees_the_slot_when_the_application_returns() {
    let mut world = World::new(settings());
    let mut worker = world.join(Interface::Wsgi, 1).await;
    let gone = world.get("/gone");
    let seen = worker.request().await;
    worker.enter(&seen);
    drop(gone);
    let stays = world.get("/stays");
    while !worker.is_cancelled(&seen) {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.pool.load().queued, 1, "the worker is still inside");
    worker.answer(&seen, 200, b"nobody reads this").await;
    let seen = worker.request().await;
    assert_eq!(seen.path, "/stays");
    worker.enter(&seen);
    worker.answer(&seen, 200, b"").await;
    assert_eq!(answer(&stays).await.0, 200);
}

#[tokio::test]
async fn a_slow_reader_does_not_hold_a_wsgi_worker() {
    let limits = Settings { response_memory: 64 << 10, ..settings() };
    let mut world = World::new(limits);
    let mut worker = world.join(Interface::Wsgi, 1).await;
    let conversation = world.get("/");
    let seen = worker.request().await;
    worker.enter(&seen);
    let piece: Vec<u8> = (0..50_000u32).map(|number| (number % 251) as u8).collect();
    worker.head(&seen, 200, b"", false).await;
    // Nothing is read on the other side, and the worker is done all the same: 5 MB went to memory and to the spool.
    for number in 0..100 {
        timeout(PATIENCE, worker.data(&seen, &piece, number == 99)).await.expect("the worker does not wait");
    }
    let (status, body) = answer(&conversation).await;
    assert_eq!((status, body.len()), (200, 5_000_000));
    assert!(body.chunks(50_000).all(|chunk| chunk == &piece[..]), "in order and unchanged");
}

#[tokio::test]
async fn a_slow_reader_stops_an_asgi_application() {
    let mut world = World::new(settings());
    let mut worker = world.join(Interface::Asgi, 10).await;
    let conversation = world.get("/");
    let seen = worker.request().await;
    worker.enter(&seen);
    worker.head(&seen, 200, b"", false).await;
    let piece = vec![0; 64 << 10];
    let mut sent = 0;
    while worker.credit(&seen) >= piece.len() as i64 {
        worker.data(&seen, &piece, false).await;
        sent += 1;
    }
    assert_eq!(sent, 16, "the window and not more");
    assert!(matches!(next(&conversation).await, Event::Head { .. }));
    for _ in 0..8 {
        assert!(matches!(next(&conversation).await, Event::Data { .. }));
    }
    assert!(timeout(PATIENCE, worker.wait_for_credit(&seen, piece.len() as i64)).await.is_ok());
}

#[tokio::test]
async fn a_drained_worker_gets_nothing_new_and_is_told_when_it_is_empty() {
    let mut world = World::new(settings());
    let mut worker = world.join(Interface::Wsgi, 1).await;
    let first = world.get("/first");
    let seen = worker.request().await;
    worker.enter(&seen);
    world.supervisor.notices.send(Notice::Drain(1)).unwrap();
    tokio::task::yield_now().await;
    let second = world.get("/second");
    worker.answer(&seen, 200, b"").await;
    assert_eq!(answer(&first).await.0, 200);
    worker.wait_for_drain().await;
    worker.die();
    let mut other = world.join_after_loss(1, Interface::Wsgi).await;
    let seen: RequestSeen = other.request().await;
    assert_eq!(seen.path, "/second");
    other.enter(&seen);
    other.answer(&seen, 200, b"").await;
    assert_eq!(answer(&second).await.0, 200);
}

#[tokio::test]
async fn an_application_that_returns_without_an_answer_is_a_failure_not_a_silence() {
    let mut world = World::new(settings());
    let mut worker = world.join(Interface::Asgi, 10).await;
    let conversation = world.get("/");
    let seen = worker.request().await;
    worker.enter(&seen);
    worker.done(&seen).await;
    assert_eq!(failure(&conversation).await.0, Cause::Incomplete);
}

#[tokio::test]
async fn whoever_sends_a_body_learns_that_the_answer_is_over() {
    let mut world = World::new(settings());
    let mut worker = world.join(Interface::Asgi, 10).await;
    let conversation = world.get("/");
    let sender = conversation.sender();
    let upload = tokio::spawn(async move {
        let piece = Bytes::from(vec![0; 64 << 10]);
        let mut sent = 0;
        while sender.send(Kind::Body, 0, 0, piece.clone()).await.is_ok() {
            sent += piece.len();
        }
        sent
    });
    let seen = worker.request().await;
    worker.enter(&seen);
    // It takes nothing of the body and refuses the request.
    worker.answer(&seen, 401, b"").await;
    let sent = timeout(PATIENCE, upload).await.expect("the sender ends").unwrap();
    assert!(sent <= monoceros_wire::REQUEST_WINDOW as usize, "{sent} bytes");
    assert_eq!(answer(&conversation).await.0, 401);
}

#[tokio::test]
async fn a_worker_that_hangs_is_reported_though_its_client_has_left() {
    let mut world = World::new(Settings { timeouts: short_timeouts(), ..settings() });
    let mut worker = world.join(Interface::Wsgi, 1).await;
    let conversation = world.get("/");
    let seen = worker.request().await;
    worker.enter(&seen);
    drop(conversation);
    world.expect_overdue().await;
}

#[tokio::test]
async fn a_worker_that_does_not_read_is_reported() {
    let mut world = World::new(Settings { timeouts: short_timeouts(), ..settings() });
    let _worker = world.join(Interface::Asgi, 10).await;
    let _conversation = world.get("/");
    assert!(matches!(world.report().await, Report::Stuck { worker: 1 }));
}

/// A time-out that tests wait for.
fn short() -> Settings {
    Settings { timeouts: short_timeouts(), ..settings() }
}

#[tokio::test]
async fn a_worker_that_does_not_read_is_reported_though_all_clients_have_left() {
    let mut world = World::new(short());
    let _worker = world.join(Interface::Asgi, 10).await;
    drop(world.get("/"));
    assert!(matches!(world.report().await, Report::Stuck { worker: 1 }));
    // What waits in it is not more than it was given before it was found out.
    let waiting: Vec<_> = (0..50).map(|_| world.get("/")).collect();
    assert_eq!((world.pool.load().in_flight, world.pool.load().queued), (0, 50));
    drop(waiting);
}

#[tokio::test]
async fn a_thread_that_hangs_in_its_answer_is_reported_when_its_client_has_left() {
    let mut world = World::new(short());
    let mut worker = world.join(Interface::Wsgi, 1).await;
    let conversation = world.get("/");
    let seen = worker.request().await;
    worker.enter(&seen);
    worker.head(&seen, 200, b"half", false).await;
    assert!(matches!(next(&conversation).await, Event::Head { .. }));
    drop(conversation);
    world.expect_overdue().await;
}

#[tokio::test]
async fn a_thread_that_hangs_after_its_answer_is_reported() {
    let mut world = World::new(short());
    let mut worker = world.join(Interface::Wsgi, 1).await;
    let conversation = world.get("/");
    let seen = worker.request().await;
    worker.enter(&seen);
    worker.head(&seen, 200, b"whole", true).await;
    assert_eq!(answer(&conversation).await.0, 200);
    world.expect_overdue().await;
}

#[tokio::test]
async fn tasks_that_go_on_without_a_client_are_reported_when_they_hold_half_of_the_slots() {
    let mut world = World::new(short());
    let mut worker = world.join(Interface::Asgi, 2).await;
    let conversation = world.get("/");
    let seen = worker.request().await;
    worker.enter(&seen);
    drop(conversation);
    assert!(matches!(world.report().await, Report::Leaking { worker: 1, lost: 1, slots: 2 }));
}

#[tokio::test]
async fn a_long_answer_is_nobodys_fault() {
    let mut world = World::new(short());
    let mut worker = world.join(Interface::Wsgi, 1).await;
    let download = world.get("/download");
    let seen = worker.request().await;
    worker.enter(&seen);
    worker.head(&seen, 200, b"half", false).await;
    let failed = world.get("/next");
    // Its own time in the application has not begun; nothing is reported about the worker.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(world.supervisor.reports.try_recv().is_err());
    worker.data(&seen, b"rest", true).await;
    assert_eq!(answer(&download).await, (200, b"halfrest".to_vec()));
    let seen = worker.request().await;
    worker.enter(&seen);
    worker.answer(&seen, 200, b"").await;
    assert_eq!(answer(&failed).await.0, 200);
}

#[tokio::test]
async fn what_a_blocked_event_loop_does_not_take_up_goes_to_another() {
    let mut world = World::new(settings());
    let mut blocked = world.join(Interface::Asgi, 10).await;
    let conversation = world.post("/");
    let seen = blocked.request().await;
    let mut other = world.join(Interface::Asgi, 10).await;
    let again = other.request().await;
    assert!(!blocked.enter(&seen), "it was taken back");
    assert!(other.enter(&again));
    other.answer(&again, 200, b"done").await;
    assert_eq!(answer(&conversation).await, (200, b"done".to_vec()));
}

#[tokio::test]
async fn a_worker_in_close_is_not_idle() {
    let mut world = World::new(settings());
    let mut first = world.join(Interface::Wsgi, 1).await;
    let closing = world.get("/closing");
    let seen = first.request().await;
    first.enter(&seen);
    first.head(&seen, 200, b"", true).await;
    assert_eq!(answer(&closing).await.0, 200);
    // Nobody else is there: it waits in the worker.
    let conversation = world.get("/next");
    assert_eq!(first.request().await.path, "/next");
    let mut second = world.join(Interface::Wsgi, 1).await;
    let again = second.request().await;
    second.enter(&again);
    second.answer(&again, 200, b"").await;
    assert_eq!(answer(&conversation).await.0, 200);
    // The second one is idle, and gets the next at once.
    let conversation = world.get("/third");
    let seen = second.request().await;
    second.enter(&seen);
    second.answer(&seen, 200, b"").await;
    assert_eq!(answer(&conversation).await.0, 200);
}

#[tokio::test]
async fn a_replay_that_finds_no_worker_is_a_502_and_waits_a_whole_queue_time_out() {
    let mut world = World::new(Settings { queue_timeout: Duration::from_millis(200), ..settings() });
    let mut worker = world.join(Interface::Wsgi, 1).await;
    let get = world.get("/get");
    let seen = worker.request().await;
    worker.enter(&seen);
    // In the application for longer than anything may wait in the queue.
    tokio::time::sleep(Duration::from_millis(300)).await;
    worker.die();
    let mut second = world.join_after_loss(1, Interface::Wsgi).await;
    let seen = second.request().await;
    assert_eq!(seen.path, "/get");
    second.enter(&seen);
    second.answer(&seen, 200, b"").await;
    assert_eq!(answer(&get).await.0, 200);

    let get = world.get("/again");
    let seen = second.request().await;
    second.enter(&seen);
    second.die();
    assert_eq!(failure(&get).await, (Cause::WorkerDied, Reached::Entered));
}

#[tokio::test]
async fn an_answer_before_a_broken_frame_counts() {
    let mut world = World::new(settings());
    let mut worker = world.join(Interface::Wsgi, 1).await;
    let conversation = world.post("/");
    let seen = worker.request().await;
    worker.enter(&seen);
    worker.answer_and_nonsense(&seen, 200, b"whole").await;
    assert_eq!(answer(&conversation).await, (200, b"whole".to_vec()));
    assert!(matches!(world.report().await, Report::LinkLost { worker: 1, .. }));
}
