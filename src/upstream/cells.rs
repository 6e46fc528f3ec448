//! The cells of one worker: which requests it holds, how far they are, and what it has not taken up yet.
//!
//! A cell is used again when nothing of its request is left in the worker. That is later than the end of the request
//! in two cases: it was recalled while its frame is on the way (*stale*), or the answer is complete and the application
//! has not returned (*ended*: the `close()` of a WSGI answer).

use super::error::Reached;
use super::exchange::Exchange;
use super::watch::{Allowance, Facts, Look, Verdict, judge};
use monoceros_wire::frame::StreamId;
use monoceros_wire::page::{Cell, Page, Phase};
use std::sync::Arc;

/// The cell is in the low bits of a stream id, so that a frame finds its request without a search.
const CELL_BITS: u32 = 12;
const CELL_MASK: u32 = (1 << CELL_BITS) - 1;
const _: () = assert!(monoceros_wire::CELLS_MAX == 1 << CELL_BITS, "a stream id has room for every cell");

#[derive(Debug, Default)]
struct Entry {
    /// Counts the uses of this cell; the high bits of the stream id.
    uses: u32,
    /// The how many-th request of the link this is. Frames arrive in this order.
    order: u64,
    exchange: Option<Arc<Exchange>>,
    /// When the request was handed over, in nanoseconds of the monotonic clock.
    handed_at: u64,
    /// When nobody waited for the application any more, else zero.
    left_at: u64,
    /// The last frame of the answer has come.
    is_ended: bool,
}

impl Entry {
    fn stream(&self, cell: u32) -> StreamId {
        self.uses << CELL_BITS | cell
    }
}

/// A request that a lost worker held.
#[derive(Debug)]
pub struct Orphan {
    pub exchange: Arc<Exchange>,
    /// When the application was called, on the monotonic clock; `None` if it never was.
    pub entered_at: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cells {
    page: Arc<Page>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// Requests handed over since the link exists.
    handed: u64,
    /// The worker has read the frames of this many.
    taken: u64,
    stale: Vec<u32>,
    ended: Vec<u32>,
}

impl Cells {
    pub(super) fn new(page: Arc<Page>) -> Self {
        let cells = page.cells() as u32;
        Self {
            page,
            entries: (0..cells).map(|_| Entry::default()).collect(),
            free: (0..cells).rev().collect(),
            handed: 0,
            taken: 0,
            stale: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// Gives a request a cell. `None` when there is none.
    pub(super) fn hand(&mut self, exchange: &Arc<Exchange>, now: u64) -> Option<(StreamId, u32)> {
        if self.free.is_empty() {
            self.release_returned();
            self.release_passed();
        }
        let cell = self.free.pop()?;
        self.handed += 1;
        let entry = &mut self.entries[cell as usize];
        // The top bits wrap around after a million uses of one cell; zero is never used, it would make stream 0.
        let uses = (entry.uses + 1) & (u32::MAX >> CELL_BITS);
        let uses = uses + u32::from(uses == 0);
        let (order, exchange) = (self.handed, Some(Arc::clone(exchange)));
        *entry = Entry { uses, order, exchange, handed_at: now, left_at: 0, is_ended: false };
        let stream = entry.stream(cell);
        self.page.hand(cell, stream);
        Some((stream, cell))
    }

    fn find(&mut self, stream: StreamId) -> Option<(u32, &mut Entry)> {
        let cell = stream & CELL_MASK;
        let entry = self.entries.get_mut(cell as usize)?;
        (entry.uses == stream >> CELL_BITS).then_some((cell, entry))
    }

    /// The request of a stream, while its answer is not complete.
    pub(super) fn exchange_of(&mut self, stream: StreamId) -> Option<Arc<Exchange>> {
        let (_, entry) = self.find(stream)?;
        if entry.is_ended { None } else { entry.exchange.clone() }
    }

    /// A frame of this stream has come, so the worker has read its request and all before it. True when that is news.
    pub(super) fn note_frame(&mut self, stream: StreamId) -> bool {
        let Some(order) = self.find(stream).map(|(_, entry)| entry.order) else { return false };
        let is_news = order > self.taken;
        self.taken = self.taken.max(order);
        is_news
    }

    /// Whether an application is at this stream now.
    pub(super) fn is_inside(&self, stream: StreamId) -> bool {
        self.read(stream).is_some_and(|cell| is_inside(&cell))
    }

    /// What the page says about a stream.
    pub(super) fn read(&self, stream: StreamId) -> Option<Cell> {
        self.page.read(stream & CELL_MASK).filter(|cell| cell.stream == stream)
    }

    /// Asks the thread of a request to return, and tells what the page says about it.
    pub(super) fn ask(&self, stream: StreamId) -> Option<Cell> {
        let cell = self.read(stream)?;
        self.page.ask(stream & CELL_MASK);
        Some(cell)
    }

    /// The worker is done with the stream, except that a WSGI application may not have returned.
    pub(super) fn end(&mut self, stream: StreamId, may_go_on: bool, now: u64) {
        let is_inside = may_go_on && self.read(stream).is_some_and(|cell| is_inside(&cell));
        let Some((cell, entry)) = self.find(stream) else { return };
        if is_inside {
            entry.is_ended = true;
            entry.left_at = now;
            self.ended.push(cell);
        } else {
            self.release(cell);
        }
    }

    /// Takes a request back. True when the worker has not entered it and never will.
    pub(super) fn recall(&mut self, stream: StreamId) -> bool {
        let Some((cell, _)) = self.find(stream).filter(|(_, entry)| entry.exchange.is_some()) else { return false };
        if !self.page.recall(cell, stream) {
            return false;
        }
        self.withdraw(cell);
        true
    }

    /// Takes back every request that was not entered and can go elsewhere, oldest first.
    pub(super) fn recall_all(&mut self) -> Vec<Arc<Exchange>> {
        let mut recalled = Vec::new();
        for cell in 0..self.entries.len() as u32 {
            let entry = &self.entries[cell as usize];
            let (stream, order) = (entry.stream(cell), entry.order);
            let Some(exchange) = entry.exchange.clone() else { continue };
            if exchange.take_back(|| self.page.recall(cell, stream)) {
                recalled.push((order, exchange));
                self.withdraw(cell);
            }
        }
        recalled.sort_by_key(|(order, _)| *order);
        recalled.into_iter().map(|(_, exchange)| exchange).collect()
    }

    /// Nobody waits for this answer any more. True when the worker must be told.
    pub(super) fn cancel(&mut self, stream: StreamId, now: u64) -> bool {
        let Some((cell, entry)) = self.find(stream).filter(|(_, entry)| entry.exchange.is_some() && !entry.is_ended)
        else {
            return false;
        };
        entry.left_at = now;
        self.page.cancel(cell, stream);
        true
    }

    /// A recalled request leaves its cell; the cell stays taken while the worker has not come past its frame. So what
    /// waits in a worker that reads nothing is never more than it has cells.
    fn withdraw(&mut self, cell: u32) {
        let entry = &mut self.entries[cell as usize];
        entry.exchange = None;
        if entry.order > self.taken {
            self.stale.push(cell);
        } else {
            self.release(cell);
        }
    }

    fn release(&mut self, cell: u32) {
        self.entries[cell as usize].exchange = None;
        self.page.free(cell);
        self.free.push(cell);
    }

    /// Whether a request of a client is here, or its application has not returned; a WebSocket too.
    pub(super) fn holds_clients(&self) -> bool {
        self.entries.iter().any(|entry| entry.exchange.as_ref().is_some_and(|exchange| !exchange.request.is_probe()))
    }

    /// Cells that are in use though their request is over.
    pub(super) fn lingering(&self) -> usize {
        self.stale.len() + self.ended.len()
    }

    /// Threads that are still in the application after the last byte of their answer.
    pub(super) fn occupied(&mut self) -> u32 {
        self.release_returned();
        self.ended.len() as u32
    }

    /// Applications that have returned after their answer free their cells. True when there were any.
    fn release_returned(&mut self) -> bool {
        let before = self.ended.len();
        for cell in std::mem::take(&mut self.ended) {
            if self.page.read(cell).is_some_and(|facts| is_inside(&facts)) {
                self.ended.push(cell);
            } else {
                self.release(cell);
            }
        }
        self.ended.len() < before
    }

    /// Recalled requests that the worker has come past free their cells. True when there were any.
    fn release_passed(&mut self) -> bool {
        let before = self.stale.len();
        for &cell in &self.stale {
            if self.page.read(cell).is_some_and(|facts| facts.phase == Phase::Passed) {
                self.taken = self.taken.max(self.entries[cell as usize].order);
            }
        }
        for cell in std::mem::take(&mut self.stale) {
            if self.entries[cell as usize].order > self.taken {
                self.stale.push(cell);
            } else {
                self.release(cell);
            }
        }
        self.stale.len() < before
    }

    /// Looks at every cell in use.
    pub(super) fn look(&mut self) -> Look {
        let mut look = Look { has_moved: self.release_returned(), ..Look::default() };
        let mut oldest = u64::MAX;
        for (cell, entry) in (0..).zip(&self.entries) {
            if entry.exchange.is_none() {
                continue;
            }
            let Some(facts) = self.page.read(cell) else { continue };
            if facts.phase == Phase::Handed {
                oldest = oldest.min(entry.handed_at);
            } else {
                self.taken = self.taken.max(entry.order);
                look.entered_at = look.entered_at.max(facts.entered_at);
                look.inside += u32::from(is_inside(&facts));
            }
        }
        look.has_moved |= self.release_passed();
        for &cell in &self.stale {
            oldest = oldest.min(self.entries[cell as usize].handed_at);
        }
        look.waiting_since = (oldest != u64::MAX).then_some(oldest);
        look
    }

    /// The requests that take too long.
    pub(super) fn judge(&self, is_asgi: bool, now: u64, pause: u64) -> Vec<(Arc<Exchange>, Verdict)> {
        let mut found = Vec::new();
        for (cell, entry) in (0..).zip(&self.entries) {
            let Some(exchange) = &entry.exchange else { continue };
            let Some(page) = self.page.read(cell) else { continue };
            let progress = exchange.progress();
            let facts = Facts {
                phase: page.phase,
                entered_at: page.entered_at,
                body_at: exchange.body_at(),
                left_at: entry.left_at,
                is_settled: progress.is_settled,
                reached: progress.reached,
                piece_at: progress.piece_at,
                is_client_behind: progress.is_client_behind,
                limit: exchange.limit,
                extended_to: page.extended_to,
            };
            match judge(facts, is_asgi, now, pause) {
                Verdict::Fine => {}
                verdict => found.push((Arc::clone(exchange), verdict)),
            }
        }
        found
    }

    /// How long the application may take for what has no answer yet; `None` if it holds nothing of the kind.
    pub(super) fn allowance(&self) -> Option<Allowance> {
        let allowance = |(cell, entry): (u32, &Entry)| {
            let exchange = entry.exchange.as_ref()?;
            let extended_to = self.page.read(cell).map_or(0, |page| page.extended_to);
            let has_begun = exchange.progress().reached >= Reached::Answering;
            (!has_begun).then_some(Allowance { limit: exchange.limit, extended_to })
        };
        (0..).zip(&self.entries).filter_map(allowance).reduce(Allowance::longest)
    }

    /// How many times the event loop has looked at the link.
    pub(super) fn turns(&self) -> u64 {
        self.page.turns()
    }

    /// The requests whose application was called and has not returned.
    pub(super) fn entered(&self) -> Vec<(Arc<Exchange>, Cell)> {
        let entered = |(cell, entry): (u32, &Entry)| {
            let exchange = entry.exchange.as_ref()?;
            let facts = self.page.read(cell).filter(is_inside)?;
            Some((Arc::clone(exchange), facts))
        };
        (0..).zip(&self.entries).filter_map(entered).collect()
    }

    /// The end of the link: everything that is held, oldest first.
    pub(super) fn close(&mut self) -> Vec<Orphan> {
        // What has had its whole answer and was left by the application is not held any more.
        self.release_returned();
        let mut orphans = Vec::new();
        for cell in 0..self.entries.len() as u32 {
            let entry = &mut self.entries[cell as usize];
            let Some(exchange) = entry.exchange.take() else { continue };
            let (stream, order) = (entry.stream(cell), entry.order);
            // The swap decides, not the death: even a worker that still runs can no longer enter what was recalled.
            let entered_at = if self.page.recall(cell, stream) { None } else { self.page.read(cell) };
            orphans.push((order, Orphan { exchange, entered_at: entered_at.map(|facts| facts.entered_at) }));
        }
        orphans.sort_by_key(|(order, _)| *order);
        orphans.into_iter().map(|(_, orphan)| orphan).collect()
    }
}

fn is_inside(cell: &Cell) -> bool {
    matches!(cell.phase, Phase::Entered | Phase::Cancelled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::exchange::SpoolLimits;
    use crate::upstream::request::{EncodedRequest, RequestBody};
    use bytes::Bytes;
    use monoceros_wire::message::{BodySource, HttpVersion, Protocol, RequestFacts};

    fn exchange() -> Arc<Exchange> {
        let facts = RequestFacts {
            protocol: Protocol::Http,
            version: HttpVersion::Http11,
            is_https: false,
            tls: None,
            body: BodySource::Empty,
            method: b"GET",
            path: b"/",
            query: b"",
            client_address: b"127.0.0.1",
            client_port: 1,
            server_address: b"127.0.0.1",
            server_port: 2,
        };
        let request = EncodedRequest::encode(&facts, [], RequestBody::Inline(Bytes::new()), true).expect("it is short");
        Arc::new(Exchange::new(request, 0, SpoolLimits { memory: 1, file: 1 }, std::time::Duration::ZERO))
    }

    #[test]
    fn a_lost_worker_held_only_what_the_application_had_not_left() -> std::io::Result<()> {
        let page = Arc::new(Page::create(4)?.0);
        let mut cells = Cells::new(Arc::clone(&page));
        let [returned, closing] = [(), ()].map(|()| {
            let (stream, cell) = cells.hand(&exchange(), 1).expect("there is room");
            assert!(page.enter(cell, stream, 2, 1));
            cells.end(stream, true, 3);
            (cell, stream)
        });
        // Nobody looks between the return and the death.
        page.finish(returned.0, returned.1);
        let held: Vec<Option<u64>> = cells.close().into_iter().map(|orphan| orphan.entered_at).collect();
        assert_eq!(held, [Some(2)], "only the one in close(): {closing:?}");
        Ok(())
    }
}
