//! A worker of the simulation: it speaks the wire and marks its page as a real one does; what its application does is
//! decided by the world.

use super::client::Number;
use crate::supervisor::state::GenerationNumber;
use bytes::{Bytes, BytesMut};
use monoceros_wire::frame::{FLAG_END, Frame, Kind, LINK, StreamId};
use monoceros_wire::inbound::Inbound;
use monoceros_wire::message::{Abort, Hello, Interface, Ready, Request, encode_response};
use monoceros_wire::page::Page;
use std::collections::VecDeque;
use std::sync::Arc;

/// A request in a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Held {
    pub(super) number: Number,
    pub(super) stream: StreamId,
    pub(super) cell: u32,
}

/// What a worker has learnt by reading.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    /// Running requests for which nobody waits any more.
    pub(super) cancelled: Vec<Held>,
}

/// See the module.
pub(super) struct Process {
    pub(super) generation: GenerationNumber,
    pub(super) interface: Interface,
    pub(super) slots: u32,
    pub(super) is_ready: bool,
    /// Reads nothing, does nothing.
    pub(super) is_hung: bool,
    is_drained: bool,
    pub(super) page: Arc<Page>,
    inbound: Inbound,
    queue: VecDeque<Held>,
    pub(super) running: Vec<Held>,
    /// In the socket, on the way to the front.
    pub(super) on_the_way: Vec<Frame>,
}

impl Process {
    pub(super) fn new(generation: GenerationNumber, interface: Interface, slots: u32, page: Arc<Page>) -> Self {
        Self {
            generation,
            interface,
            slots,
            is_ready: false,
            is_hung: false,
            is_drained: false,
            page,
            inbound: Inbound::default(),
            queue: VecDeque::new(),
            running: Vec::new(),
            on_the_way: Vec::new(),
        }
    }

    fn send(&mut self, stream: StreamId, kind: Kind, flags: u8, payload: impl Into<Bytes>) {
        self.on_the_way.push(Frame { stream, kind, flags, payload: payload.into(), descriptor: None });
    }

    pub(super) fn greet(&mut self) {
        self.is_ready = true;
        let (interface, slots) = (self.interface, self.slots);
        self.send(LINK, Kind::Hello, 0, Hello { version: monoceros_wire::VERSION, pid: 1 }.encode().to_vec());
        self.send(LINK, Kind::Ready, 0, Ready { interface, slots }.encode().to_vec());
    }

    /// Takes in what the front has sent.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Learnt {
        let mut learnt = Learnt::default();
        self.page.note_turn();
        self.inbound.feed(bytes, []);
        while let Some(frame) = self.inbound.next_frame().expect("the front sends frames") {
            match frame.kind {
                Kind::Request => {
                    let request = Request::decode(&frame.payload).expect("the front sends requests");
                    let number = Number::of_path(request.facts.path);
                    self.queue.push_back(Held { number, stream: frame.stream, cell: request.cell });
                }
                Kind::Cancel => {
                    self.queue.retain(|held| held.stream != frame.stream);
                    learnt.cancelled.extend(self.running.iter().filter(|held| held.stream == frame.stream));
                }
                Kind::Drain => self.is_drained = true,
                _ => {}
            }
        }
        learnt
    }

    /// Enters the next request if there is one and a slot is free. What was recalled is passed over.
    pub(super) fn enter(&mut self, now: u64) -> Option<Held> {
        while self.running.len() < self.slots as usize {
            let held = self.queue.pop_front()?;
            if self.page.enter(held.cell, held.stream, now, 1) {
                self.running.push(held);
                return Some(held);
            }
        }
        None
    }

    /// It was told to, and has nothing more to do.
    pub(super) fn may_leave(&self) -> bool {
        self.is_drained && self.running.is_empty() && self.queue.is_empty()
    }

    pub(super) fn answer(&mut self, held: Held, is_whole: bool) {
        let mut payload = BytesMut::new();
        encode_response(&mut payload, 200, []).expect("a short head");
        payload.extend_from_slice(held.number.body().as_bytes());
        self.send(held.stream, Kind::Head, if is_whole { FLAG_END } else { 0 }, payload.freeze());
    }

    pub(super) fn end_answer(&mut self, held: Held) {
        self.send(held.stream, Kind::Data, FLAG_END, Bytes::from_static(b"."));
    }

    pub(super) fn abort(&mut self, held: Held) {
        self.send(held.stream, Kind::Abort, 0, vec![Abort::Raised as u8]);
    }

    /// The application has returned.
    pub(super) fn finish(&mut self, held: Held, is_aborted: bool, service: u64) {
        self.page.record_service(held.cell, service);
        self.page.finish(held.cell, held.stream);
        self.running.retain(|other| *other != held);
        if self.interface == Interface::Asgi && !is_aborted {
            self.send(held.stream, Kind::Done, 0, Bytes::new());
        }
    }
}
