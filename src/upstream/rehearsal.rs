//! A pool whose time passes only when it is told so, and whose links end in memory: for simulations.

use super::Settings;
use super::link::{Link, Turn};
use super::pool::Pool;
use super::sweep::Rhythm;
use crate::roster::{Report, WorkerNumber};
use futures_util::FutureExt as _;
use monoceros_wire::frame::Frame;
use monoceros_wire::page::Page;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

thread_local! {
    /// What time it is, in nanoseconds; one simulation per thread.
    static NOW: Cell<u64> = const { Cell::new(0) };
}

/// See the module.
pub(crate) struct Rehearsal {
    pub(crate) pool: Arc<Pool>,
    reports: mpsc::UnboundedReceiver<Report>,
    links: BTreeMap<WorkerNumber, Arc<Link>>,
}

impl Rehearsal {
    pub(crate) fn new(settings: Settings) -> Self {
        let (sender, reports) = mpsc::unbounded_channel();
        Self { pool: Pool::with_clock(settings, sender, || NOW.get()), reports, links: BTreeMap::new() }
    }

    pub(crate) fn set_time(nanoseconds: u64) {
        NOW.set(nanoseconds);
    }

    /// What the pool has to say to the supervisor.
    pub(crate) fn reports(&mut self) -> Vec<Report> {
        std::iter::from_fn(|| self.reports.try_recv().ok()).collect()
    }

    /// A worker was forked.
    pub(crate) fn join(&mut self, worker: WorkerNumber, page: Arc<Page>) {
        let link = Arc::new(Link::new(page, worker, 0));
        self.pool.admit(Arc::clone(&link), None);
        self.links.insert(worker, link);
    }

    /// There may be no worker until a request calls one.
    pub(crate) fn set_on_demand(&self) {
        self.pool.lock().on_demand.set(true);
    }

    pub(crate) fn wake(&self) {
        self.pool.lock().on_demand.note_waking();
    }

    pub(crate) fn refuse(&self, pause: Duration) {
        self.pool.refuse(pause);
    }

    pub(crate) fn drain(&self, worker: WorkerNumber) {
        self.pool.drain(worker);
    }

    /// The bytes that have left for a worker since the last call.
    pub(crate) fn sent_to(&self, worker: WorkerNumber) -> Vec<u8> {
        self.links.get(&worker).map_or_else(Vec::new, |link| link.take_outbound())
    }

    /// Whether something has left for a worker.
    pub(crate) fn has_news_for(&self, worker: WorkerNumber) -> bool {
        self.links.get(&worker).is_some_and(|link| link.has_outbound())
    }

    /// Frames of a worker have come.
    pub(crate) fn receive(&self, worker: WorkerNumber, mut frames: Vec<Frame>) {
        let Some(link) = self.links.get(&worker) else { return };
        let mut turn = Turn::default();
        let fault = link.absorb(&mut frames, &mut turn, NOW.get());
        self.pool.turn(link, &turn, NOW.get());
        assert!(fault.is_ok(), "worker {worker}: {fault:?}");
    }

    /// The link of a worker has ended.
    pub(crate) fn lose(&mut self, worker: WorkerNumber, reason: &str) {
        if let Some(link) = self.links.remove(&worker) {
            self.pool.lose(&link);
            self.pool.report(Report::LinkLost { worker, reason: reason.to_owned() });
        }
    }

    /// The housekeeping of the pool. Returns when it is due again, if nothing happens before.
    pub(crate) fn sweep(&self) -> Option<Duration> {
        match self.pool.sweep(NOW.get()) {
            Rhythm::Rest => None,
            Rhythm::Slow => Some(Duration::from_millis(50)),
            Rhythm::Quick => Some(Duration::from_millis(2)),
        }
    }

    /// Whether the pool wants its housekeeping done earlier.
    pub(crate) fn wants_a_sweep(&self) -> bool {
        self.pool.ticker.notified().now_or_never().is_some()
    }
}
