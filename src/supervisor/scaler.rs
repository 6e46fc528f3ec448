//! Moves the number of workers: as somebody asks, or within a range as [`autoscale`](super::autoscale) finds.

use super::autoscale::{Autoscale, Observation, Pace};
use super::bounds::Bounds;
use super::state::Event;
use super::{Demand, Settings};
use crate::roster::{Measurement, Notice, WorkerNumber};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often to look at the time and at the processor use of the workers.
pub(super) const PULSE: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Scaler {
    bounds: Bounds,
    pace: Pace,
    /// While there is a range.
    autoscale: Option<Autoscale>,
    /// All workers were sent away, until somebody asks for some.
    is_away: bool,
    /// What the others know about [`Self::is_on_demand`].
    told_on_demand: bool,
    has_served: bool,
    is_stopping: bool,
    notices: mpsc::UnboundedSender<Notice>,
    slots: u32,
    boot_time: Option<Duration>,
    /// When those that boot were forked.
    forked: BTreeMap<WorkerNumber, Instant>,
    /// Processor time at the last look, by process.
    cpu: (Instant, BTreeMap<u32, Duration>),
}

impl Scaler {
    pub(super) fn new(settings: &Settings, notices: mpsc::UnboundedSender<Notice>) -> Self {
        let mut scaler = Self {
            bounds: settings.workers,
            pace: settings.pace(),
            autoscale: None,
            is_away: false,
            told_on_demand: false,
            has_served: false,
            is_stopping: false,
            notices,
            slots: 1,
            boot_time: None,
            forked: BTreeMap::new(),
            cpu: (Instant::now(), BTreeMap::new()),
        };
        scaler.set(settings.workers);
        scaler
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The number may move by itself now.
    pub(super) fn is_active(&self) -> bool {
        self.autoscale.is_some() && !self.is_away && !self.is_stopping
    }

    /// There may be no worker until a request calls one.
    fn is_on_demand(&self) -> bool {
        self.bounds.begins_at_zero() && !self.is_away
    }

    /// Whether that has changed; the pool is told here.
    pub(super) fn change(&mut self) -> Option<Event> {
        let is_on = self.is_on_demand();
        let is_news = std::mem::replace(&mut self.told_on_demand, is_on) != is_on;
        is_news.then(|| {
            // The upstream is gone only when the program ends.
            let _ = self.notices.send(Notice::OnDemand(is_on));
            Event::OnDemand(is_on)
        })
    }

    /// When [`Self::look_at_idleness`] is due.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.autoscale.as_ref().filter(|_| self.is_active())?.idle_at()
    }

    fn set(&mut self, bounds: Bounds) {
        self.bounds = bounds;
        let now = Instant::now();
        if let Some(autoscale) = self.autoscale.as_mut().filter(|_| bounds.is_range()) {
            return autoscale.set_bounds(now, bounds, self.pace);
        }
        let before = self.autoscale.is_some();
        self.autoscale = bounds.is_range().then(|| Autoscale::new(now, bounds, self.pace));
        if let Some(autoscale) = self.autoscale.as_mut().filter(|_| self.has_served) {
            autoscale.note_worker(now, self.slots, self.boot_time);
        }
        if before != self.autoscale.is_some() {
            // The upstream is gone only when the program ends.
            let _ = self.notices.send(Notice::Measure(!before));
        }
    }

    /// Takes note of what happens to the workers.
    pub(super) fn note(&mut self, event: &Event, settings: &Settings) {
        match event {
            Event::Forked { worker, .. } => drop(self.forked.insert(*worker, Instant::now())),
            Event::Ready { worker, slots, .. } => {
                (self.slots, self.has_served) = (*slots, true);
                self.boot_time = self.forked.remove(worker).map(|at| at.elapsed()).or(self.boot_time);
                if let Some(autoscale) = &mut self.autoscale {
                    autoscale.note_worker(Instant::now(), self.slots, self.boot_time);
                }
            }
            Event::Exited { worker, .. } => drop(self.forked.remove(worker)),
            Event::Adopt { workers, .. } => {
                self.pace = settings.pace();
                self.set(workers.unwrap_or(self.bounds));
            }
            Event::Scale { workers: 0, .. } => {
                if let Some(autoscale) = &mut self.autoscale {
                    autoscale.note_none();
                }
            }
            Event::StopGracefully | Event::StopQuickly => self.is_stopping = true,
            _ => {}
        }
    }

    /// What somebody wants of the number of workers. `wanted` is how many there should be now.
    pub(super) fn obey(&mut self, demand: &Demand, wanted: u32, settings: &Settings) -> Option<Event> {
        let was_away = self.is_away;
        let bounds = match demand {
            Demand::SendAway => {
                self.is_away = true;
                return Some(Event::Scale { workers: 0, reason: None });
            }
            Demand::Scale(bounds) => *bounds,
            // They come back with a reload (gunicorn: `HUP` after `WINCH`).
            Demand::Reload(_) | Demand::Reconfigure(..) if was_away => settings.workers,
            Demand::OneMore | Demand::OneLess if was_away && self.bounds.is_range() => self.bounds,
            Demand::OneMore | Demand::OneLess if was_away => Bounds::exactly(1),
            Demand::OneMore => self.bounds.raised(),
            Demand::OneLess => self.bounds.lowered(),
            _ => return None,
        };
        let workers = match demand {
            Demand::OneMore => wanted + 1,
            Demand::OneLess => wanted.saturating_sub(1),
            _ => wanted,
        };
        self.is_away = false;
        self.set(bounds);
        Some(Event::Scale { workers: bounds.clamp(workers), reason: None })
    }

    pub(super) fn measured(&mut self, seen: Measurement, wanted: u32) -> Option<Event> {
        self.step(wanted, Observation::Pool(seen))
    }

    /// Looks at the clock alone.
    pub(super) fn look_at_idleness(&mut self, wanted: u32) -> Option<Event> {
        self.step(wanted, Observation::Nothing)
    }

    /// Looks at the clock, and at the processor use of the workers where that says more than their slots.
    pub(super) fn look(&mut self, serving: &[u32], wanted: u32) -> Option<Event> {
        let asks = self.autoscale.as_ref().is_some_and(Autoscale::asks_for_cpu);
        if !asks {
            return self.step(wanted, Observation::Nothing);
        }
        let now = Instant::now();
        let times = serving.iter().filter_map(|pid| Some((*pid, crate::sys::cpu_time(*pid)?)));
        let (at, before) = std::mem::replace(&mut self.cpu, (now, times.collect()));
        let used = |(pid, time): (&u32, &Duration)| Some(time.saturating_sub(*before.get(pid)?));
        let used: Duration = self.cpu.1.iter().filter_map(used).sum();
        let used = used.as_secs_f64() / now.duration_since(at).as_secs_f64().max(0.001);
        // Workers that get in each other's way are no reason for more of them.
        let processors = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
        let used = used.min(processors);
        self.step(wanted, Observation::Cpu(used))
    }

    fn step(&mut self, wanted: u32, seen: Observation) -> Option<Event> {
        if !self.is_active() {
            return None;
        }
        let (workers, reason) = self.autoscale.as_mut()?.step(Instant::now(), wanted, seen)?;
        Some(Event::Scale { workers, reason: Some(reason) })
    }
}
