//! Pure: how many workers are needed, from what the pool and the processor have measured.
//!
//! Up quickly, and only when it hurts: requests have waited for half a second, or the processor is used up. Then the
//! answer is an absolute need, so that workers that still boot count already. Down slowly, one at a time: when the highest
//! need of a whole window would have fitted one fewer. A step down that had to be taken back makes the next ones rarer.
//!
//! In a range that begins at zero all go when nothing was used for long; the first one comes when a request calls it,
//! which is decided elsewhere, and until it serves nothing is concluded from waiting.

use super::bounds::Bounds;
use crate::roster::Measurement;
use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// A shorter wait is none.
const WAIT: Duration = Duration::from_millis(50);
/// So long requests have to wait before a worker is started.
const WAIT_FOR: Duration = Duration::from_millis(500);
/// After so long without a word from the pool nobody waits any more: it speaks four times a second.
const SILENCE: Duration = Duration::from_millis(700);
/// Slots that are busy for a larger part of the time make requests wait.
const SLOTS_USE: f64 = 0.85;
/// The same for processors, of which a worker can use one.
const CPU_USE: f64 = 0.8;
/// The load of this time counts when it grows.
const RECENT: Duration = Duration::from_secs(2);
/// The load of this time counts when it falls.
const LATELY: Duration = Duration::from_secs(5);
/// Parts of the window, each with its highest need.
const PARTS: u32 = 16;
/// Most windows that a step down has to wait.
const PATIENCE_MAX: u32 = 16;

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Observation {
    Pool(Measurement),
    /// Processors that the serving workers needed since the last look, together.
    Cpu(f64),
    /// Only time has passed.
    Nothing,
}

/// Why the number changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Waited(Duration),
    /// Tenths of a processor.
    Cpu(u32),
    /// One fewer would have been enough for so long.
    Idle(Duration),
    /// Nothing of any client was there for so long.
    Unused(Duration),
    /// A request waits and there is no worker.
    Called,
}

/// How slowly workers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// So long one fewer must have been enough.
    pub down_after: Duration,
    /// So long nothing must have run, waited or been connected before the last one goes.
    pub idle_timeout: Duration,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waited(time) => write!(formatter, "requests waited {} ms", time.as_millis()),
            Self::Cpu(tenths) => write!(formatter, "they needed {}.{} CPUs", tenths / 10, tenths % 10),
            Self::Idle(time) => write!(formatter, "one fewer would have been enough for {time:.0?}"),
            Self::Unused(time) => write!(formatter, "nothing to do for {time:.0?}; the next request starts one"),
            Self::Called => formatter.write_str("a request waits for it"),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Autoscale {
    bounds: Bounds,
    pace: Pace,
    /// Nobody has served yet, or not since there was nobody.
    is_cold: bool,
    /// Something of a client is there, and the last time it was.
    is_used: bool,
    used_at: Instant,
    /// Slots of one worker.
    slots: u32,
    /// From fork to "ready".
    boot_time: Duration,
    /// Of [`LATELY`].
    measured: VecDeque<(Instant, Measurement)>,
    waiting_since: Option<Instant>,
    /// The last two looks.
    cpu: [f64; 2],
    /// The number at the last step, and since when.
    wanted: u32,
    since: Instant,
    /// The highest needs, in workers, by the part of the window.
    peaks: VecDeque<(Instant, f64)>,
    last_down: Option<Instant>,
    /// Windows that a step down waits.
    patience: u32,
}

impl Autoscale {
    pub fn new(now: Instant, bounds: Bounds, pace: Pace) -> Self {
        Self {
            bounds,
            pace,
            is_cold: true,
            is_used: false,
            used_at: now,
            slots: 1,
            boot_time: Duration::from_secs(1),
            measured: VecDeque::new(),
            waiting_since: None,
            cpu: [0.0; 2],
            wanted: 0,
            since: now,
            peaks: VecDeque::new(),
            last_down: None,
            patience: 1,
        }
    }

    pub fn set_bounds(&mut self, now: Instant, bounds: Bounds, pace: Pace) {
        (self.bounds, self.pace) = (bounds, pace);
        // What was used before may not be known.
        self.used_at = now;
    }

    /// A worker serves, and what it is like.
    pub fn note_worker(&mut self, now: Instant, slots: u32, boot_time: Option<Duration>) {
        self.slots = slots.max(1);
        self.boot_time = boot_time.unwrap_or(self.boot_time);
        if std::mem::take(&mut self.is_cold) {
            self.used_at = now;
            self.waiting_since = None;
        }
    }

    /// There is no worker any more.
    pub fn note_none(&mut self) {
        self.is_cold = true;
    }

    /// When all workers are to go, if nothing comes before.
    pub fn idle_at(&self) -> Option<Instant> {
        let may_go = self.bounds.begins_at_zero() && !self.is_cold && !self.is_used;
        may_go.then(|| self.used_at + self.pace.idle_timeout)
    }

    /// Whether the processor says something that the slots do not: a worker with many slots is seldom out of them.
    pub fn asks_for_cpu(&self) -> bool {
        self.slots > 1
    }

    /// How many workers there should be instead of `wanted`, and why. Nothing when that is right.
    pub fn step(&mut self, now: Instant, wanted: u32, seen: Observation) -> Option<(u32, Reason)> {
        if wanted != self.wanted {
            // Somebody else has changed it, or it has just begun.
            self.restart(now, wanted);
        }
        self.note(now, seen);
        if wanted == 0 {
            self.note_none();
        }
        if self.is_cold {
            // Waiting for a boot says nothing about the load.
            return None;
        }
        if self.idle_at().is_some_and(|at| now >= at) {
            self.note_none();
            self.restart(now, 0);
            return Some((0, Reason::Unused(self.pace.idle_timeout)));
        }
        let (need, reason) = self.rising_need(now);
        let target = self.bounds.clamp(whole(need));
        if target > wanted {
            if self.last_down.is_some_and(|at| now.duration_since(at) < self.window() * 2) {
                self.patience = (self.patience * 2).min(PATIENCE_MAX);
            }
            self.restart(now, target);
            return Some((target, reason));
        }
        self.note_peak(now);
        let fits = wanted.saturating_sub(1);
        let is_proven = now.duration_since(self.since) >= self.window();
        let peak = self.peaks.iter().map(|(_, need)| *need).fold(0.0, f64::max);
        if is_proven && fits >= self.bounds.least.max(1) && peak <= f64::from(fits) {
            let window = self.window();
            if self.last_down.is_some_and(|at| now.duration_since(at) > window * 16) {
                self.patience = (self.patience / 2).max(1);
            }
            self.last_down = Some(now);
            self.restart(now, fits);
            return Some((fits, Reason::Idle(window)));
        }
        None
    }

    /// A step down is proven by this time.
    fn window(&self) -> Duration {
        self.pace.down_after * self.patience
    }

    fn restart(&mut self, now: Instant, wanted: u32) {
        (self.wanted, self.since) = (wanted, now);
        self.peaks.clear();
    }

    fn note(&mut self, now: Instant, seen: Observation) {
        match seen {
            Observation::Pool(measurement) => {
                self.measured.push_back((now, measurement));
                self.is_used = measurement.is_used;
                if self.is_used {
                    self.used_at = now;
                }
                if measurement.waited < WAIT {
                    self.waiting_since = None;
                } else {
                    self.waiting_since = self.waiting_since.or(Some(now));
                }
            }
            Observation::Cpu(used) => self.cpu = [self.cpu[1], used],
            Observation::Nothing => {}
        }
        while self.measured.front().is_some_and(|(at, _)| now.duration_since(*at) > LATELY) {
            self.measured.pop_front();
        }
        if self.measured.back().is_none_or(|(at, _)| now.duration_since(*at) > SILENCE) {
            self.waiting_since = None;
        }
    }

    /// Workers needed now, if the present ones are not enough.
    fn rising_need(&self, now: Instant) -> (f64, Reason) {
        // Two looks, so that a moment of work is none.
        let used = self.cpu[0].min(self.cpu[1]);
        let by_cpu = if self.asks_for_cpu() { used / CPU_USE } else { 0.0 };
        let for_cpu = (by_cpu, Reason::Cpu((used * 10.0).round() as u32));
        let is_waiting = self.waiting_since.is_some_and(|since| now.duration_since(since) >= WAIT_FOR);
        let Some((_, last)) = self.measured.back().filter(|_| is_waiting) else { return for_cpu };
        let load = Load::of(&self.measured, now, RECENT);
        // Where nothing was answered, those inside take at least as long as others have waited for them.
        let service = load.service.unwrap_or(last.waited.as_secs_f64());
        let arriving = load.arrivals * service / SLOTS_USE;
        let busy = load.busy / load.known.max(0.001);
        // What waits already should be gone about when the new ones can serve.
        let waiting = f64::from(last.queued) * service / self.boot_time.as_secs_f64().max(1.0);
        let by_slots = (arriving.max(busy) + waiting) / f64::from(self.slots);
        if by_slots > by_cpu { (by_slots, Reason::Waited(last.waited)) } else { for_cpu }
    }

    /// Workers that the load of the last time needed.
    fn note_peak(&mut self, now: Instant) {
        let span = LATELY.min(self.window());
        let load = Load::of(&self.measured, now, span);
        let arriving = load.arrivals * load.service.unwrap_or_default();
        let by_slots = arriving.max(load.busy / span.as_secs_f64()) / SLOTS_USE / f64::from(self.slots);
        let by_cpu = if self.asks_for_cpu() { self.cpu[1] / CPU_USE } else { 0.0 };
        let need = by_slots.max(by_cpu);
        let (window, part) = (self.window(), self.window() / PARTS);
        match self.peaks.back_mut() {
            Some((at, peak)) if now.duration_since(*at) < part => *peak = peak.max(need),
            _ => self.peaks.push_back((now, need)),
        }
        while self.peaks.front().is_some_and(|(at, _)| now.duration_since(*at) > window + part) {
            self.peaks.pop_front();
        }
    }
}

/// The load of some time.
struct Load {
    /// Requests per second.
    arrivals: f64,
    /// Seconds that the application took for one, where any was answered.
    service: Option<f64>,
    /// Seconds that slots were in use, of all slots together.
    busy: f64,
    /// Seconds of which that is known.
    known: f64,
}

impl Load {
    fn of(measured: &VecDeque<(Instant, Measurement)>, now: Instant, span: Duration) -> Self {
        let (mut arrived, mut answered, mut service, mut busy, mut known) = (0, 0, 0.0, 0.0, 0.0);
        // Each measurement stands for the time before it, which is short: the pool speaks as long as it has work.
        for (_, seen) in measured.iter().rev().take_while(|(at, _)| now.duration_since(*at) < span) {
            arrived += seen.arrived;
            answered += seen.answered;
            service += seen.service.as_secs_f64();
            busy += f64::from(seen.busy) * seen.span.as_secs_f64();
            known += seen.span.as_secs_f64();
        }
        Self {
            arrivals: f64::from(arrived) / span.as_secs_f64(),
            service: (answered > 0).then(|| service / f64::from(answered)),
            busy,
            known,
        }
    }
}

/// Workers for a need.
fn whole(need: f64) -> u32 {
    // A hair above is not one more.
    (need - 0.01).max(0.0).ceil() as u32
}

#[cfg(test)]
#[path = "autoscale_tests.rs"]
mod tests;
