//! A worker written in Rust that does exactly what a test wants, and nothing by itself.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a failed unwrap is a failed test; not every test uses everything"
)]

use bytes::Bytes;
use monoceros::roster::{Member, WarmUp};
use monoceros_wire::frame::{FLAG_END, Frame, Kind, LINK, StreamId};
use monoceros_wire::inbound::Inbound;
use monoceros_wire::message::{self, Hello, Interface, Ready, Request, encode_response};
use monoceros_wire::outbound::Outbound;
use monoceros_wire::page::Page;
use monoceros_wire::sys;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// A request as the worker got it.
#[derive(Debug, Clone)]
pub struct RequestSeen {
    pub stream: StreamId,
    pub cell: u32,
    pub method: String,
    pub path: String,
    pub body: Bytes,
}

pub struct MockWorker {
    pub number: u32,
    page: Page,
    socket: Option<AsyncFd<OwnedFd>>,
    inbound: Inbound,
    requests: VecDeque<RequestSeen>,
    credits: HashMap<StreamId, i64>,
    drained: bool,
}

impl MockWorker {
    pub fn new(number: u32, cells: usize) -> (Self, Member) {
        let (ours, theirs) = sys::stream_pair().unwrap();
        let (page, file) = Page::create(cells).unwrap();
        sys::set_nonblocking(&theirs, true).unwrap();
        let worker = Self {
            number,
            page: Page::open(file.as_fd()).unwrap(),
            socket: Some(monoceros::sys::readiness::watch(theirs).unwrap()),
            inbound: Inbound::default(),
            requests: VecDeque::new(),
            credits: HashMap::new(),
            drained: false,
        };
        (worker, Member { worker: number, socket: ours, page: std::sync::Arc::new(page), warm_up: WarmUp::default() })
    }

    pub async fn greet(&self, interface: Interface, slots: u32) {
        self.send(LINK, Kind::Hello, 0, &Hello { version: monoceros_wire::VERSION, pid: 1 }.encode()).await;
        self.send(LINK, Kind::Ready, 0, &Ready { interface, slots }.encode()).await;
    }

    async fn send(&self, stream: StreamId, kind: Kind, flags: u8, payload: &[u8]) {
        let mut outbound = Outbound::default();
        outbound.push(stream, kind, flags, payload);
        let socket = self.socket.as_ref().expect("alive");
        while !outbound.is_empty() {
            let mut guard = socket.writable().await.unwrap();
            match outbound.send(socket.get_ref().as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                sent => drop(sent.unwrap()),
            }
        }
    }

    fn absorb(&mut self, frame: &Frame) {
        match frame.kind {
            Kind::Request => {
                let request = Request::decode(&frame.payload).unwrap();
                self.credits.insert(frame.stream, i64::from(monoceros_wire::RESPONSE_WINDOW));
                self.requests.push_back(RequestSeen {
                    stream: frame.stream,
                    cell: request.cell,
                    method: String::from_utf8_lossy(request.facts.method).into_owned(),
                    path: String::from_utf8_lossy(request.facts.path).into_owned(),
                    body: request.body,
                });
            }
            Kind::Window => {
                let amount = message::decode_amount(&frame.payload).unwrap();
                *self.credits.entry(frame.stream).or_default() += i64::from(amount);
            }
            Kind::Drain => self.drained = true,
            _ => {}
        }
    }

    /// Takes note of what is in the socket now; false when there is nothing more.
    fn receive(&mut self) -> bool {
        let socket = self.socket.as_ref().expect("alive");
        let received = self.inbound.receive(socket.get_ref().as_fd());
        while let Some(frame) = self.inbound.next_frame().unwrap() {
            self.absorb(&frame);
        }
        matches!(received, Ok(1..))
    }

    /// Waits for something to arrive.
    async fn arrival(&mut self) {
        if let Some(socket) = &self.socket {
            let mut guard = socket.readable().await.unwrap();
            guard.clear_ready();
        }
        while self.receive() {}
    }

    pub fn try_request(&mut self) -> Option<RequestSeen> {
        while self.receive() {}
        self.requests.pop_front()
    }

    /// The next request, not entered yet.
    pub async fn request(&mut self) -> RequestSeen {
        loop {
            if let Some(seen) = self.try_request() {
                return seen;
            }
            self.arrival().await;
        }
    }

    /// What a worker does right before it calls the application.
    pub fn enter(&self, seen: &RequestSeen) -> bool {
        self.page.enter(seen.cell, seen.stream, sys::monotonic_now(), 1)
    }

    pub fn is_cancelled(&self, seen: &RequestSeen) -> bool {
        self.page.is_cancelled(seen.cell, seen.stream)
    }

    /// A whole answer; then the application returns.
    pub async fn answer(&mut self, seen: &RequestSeen, status: u16, body: &[u8]) {
        self.head(seen, status, body, true).await;
        self.finish(seen);
    }

    /// An answer and what is no frame, in one write.
    pub async fn answer_and_nonsense(&mut self, seen: &RequestSeen, status: u16, body: &[u8]) {
        let mut payload = bytes::BytesMut::new();
        encode_response(&mut payload, status, []).unwrap();
        payload.extend_from_slice(body);
        let mut outbound = Outbound::default();
        outbound.push(seen.stream, Kind::Head, FLAG_END, &payload);
        let bytes = [outbound.bytes(), &[0xff; 12]].concat();
        let socket = self.socket.as_ref().expect("alive");
        socket.writable().await.unwrap().retain_ready();
        assert_eq!(sys::send(socket.get_ref().as_fd(), &bytes, &[]).unwrap(), bytes.len());
    }

    /// What a worker does when the application has returned.
    pub fn finish(&self, seen: &RequestSeen) {
        self.page.finish(seen.cell, seen.stream);
    }

    pub async fn answer_after(&mut self, seen: &RequestSeen, status: u16, body: &[u8], service: Duration) {
        self.page.record_service(seen.cell, service.as_nanos() as u64);
        self.answer(seen, status, body).await;
    }

    pub async fn head(&mut self, seen: &RequestSeen, status: u16, body: &[u8], is_end: bool) {
        let mut payload = bytes::BytesMut::new();
        encode_response(&mut payload, status, []).unwrap();
        payload.extend_from_slice(body);
        self.spend(seen, body.len());
        self.send(seen.stream, Kind::Head, u8::from(is_end) * FLAG_END, &payload).await;
    }

    /// Sends body bytes as soon as the window allows.
    pub async fn data(&mut self, seen: &RequestSeen, bytes: &[u8], is_end: bool) {
        self.wait_for_credit(seen, bytes.len() as i64).await;
        self.spend(seen, bytes.len());
        self.send(seen.stream, Kind::Data, u8::from(is_end) * FLAG_END, bytes).await;
        if is_end {
            self.finish(seen);
        }
    }

    fn spend(&mut self, seen: &RequestSeen, bytes: usize) {
        *self.credits.entry(seen.stream).or_default() -= bytes as i64;
    }

    pub fn credit(&mut self, seen: &RequestSeen) -> i64 {
        while self.receive() {}
        self.credits.get(&seen.stream).copied().unwrap_or_default()
    }

    pub async fn wait_for_credit(&mut self, seen: &RequestSeen, wanted: i64) {
        while self.credit(seen) < wanted {
            self.arrival().await;
        }
    }

    pub async fn wait_for_drain(&mut self) {
        while !self.drained {
            self.arrival().await;
        }
    }

    /// The application has returned.
    pub async fn done(&self, seen: &RequestSeen) {
        self.send(seen.stream, Kind::Done, 0, &[]).await;
    }

    /// As SIGKILL would: the socket closes, what was not entered stays so.
    pub fn die(&mut self) {
        self.socket = None;
    }
}
