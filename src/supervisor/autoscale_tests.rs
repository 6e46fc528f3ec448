//! Tables for the decisions, and a queue with workers that follow them over simulated hours.

use super::*;
use crate::supervisor::state::Jitter;

const RANGE: Bounds = Bounds { least: 1, most: 8 };
const WINDOW: Duration = Duration::from_secs(60);
const PACE: Pace = Pace { down_after: WINDOW, idle_timeout: Duration::from_secs(300) };
const QUARTER: Duration = Duration::from_millis(250);

fn seen(arrived: u32, service: u64, busy: u32, queued: u32, waited: u64) -> Observation {
    let (service, waited) = (Duration::from_millis(service) * arrived, Duration::from_millis(waited));
    let is_used = arrived + busy + queued > 0;
    Observation::Pool(Measurement { span: QUARTER, arrived, answered: arrived, service, busy, queued, waited, is_used })
}

/// One whose workers serve.
fn warm(now: Instant, bounds: Bounds, slots: u32) -> Autoscale {
    let mut autoscale = Autoscale::new(now, bounds, PACE);
    autoscale.note_worker(now, slots, None);
    autoscale
}

/// What becomes of `wanted` workers when the same is seen for a time.
fn after(time: Duration, slots: u32, wanted: u32, seen: Observation) -> (u32, Option<(Duration, Reason)>) {
    let begin = Instant::now();
    let mut autoscale = warm(begin, RANGE, slots);
    let mut now = begin;
    while now < begin + time {
        now += QUARTER;
        if let Some((workers, reason)) = autoscale.step(now, wanted, seen) {
            return (workers, Some((now - begin, reason)));
        }
    }
    (wanted, None)
}

#[test]
fn up_when_requests_wait() {
    let second = Duration::from_secs(1);
    let rows = [
        // What, slots, workers, what is seen, how many it becomes.
        ("nobody waits", 1, 1, seen(2, 100, 1, 0, 10), 1),
        ("one more is enough", 1, 1, seen(3, 100, 1, 2, 100), 2),
        ("far too few, as far as is known by then", 1, 1, seen(10, 200, 1, 5, 400), 5),
        ("nothing is answered: as long as others have waited", 1, 2, seen(0, 0, 2, 3, 900), 5),
        ("those that boot count", 1, 2, seen(3, 100, 1, 2, 300), 2),
        ("there are no more", 1, 8, seen(50, 200, 8, 100, 900), 8),
        ("threads", 4, 1, seen(20, 100, 4, 2, 300), 2),
    ];
    for (what, slots, workers, seen, expected) in rows {
        let (became, change) = after(second, slots, workers, seen);
        assert_eq!(became, expected, "{what}: {change:?}");
        assert!(change.is_none_or(|(time, reason)| time <= second && matches!(reason, Reason::Waited(_))), "{what}");
    }
}

#[test]
fn a_short_wait_starts_nobody() {
    let begin = Instant::now();
    let mut autoscale = warm(begin, RANGE, 1);
    for turn in 1..200 {
        let wait = if turn % 3 == 0 { 20 } else { 200 };
        assert_eq!(autoscale.step(begin + QUARTER * turn, 1, seen(3, 100, 1, 1, wait)), None, "{turn}");
    }
}

#[test]
fn up_when_the_processor_is_used_up() {
    let rows = [
        // Slots, workers, processors, how many it becomes.
        (1000, 1, 0.7, 1),
        (1000, 1, 0.95, 2),
        (1000, 2, 1.9, 3),
        (1000, 2, 1.5, 2),
        (8, 2, 7.0, 8),
        // With one slot, it is seen by those who wait.
        (1, 1, 1.0, 1),
    ];
    for (slots, workers, used, expected) in rows {
        let (became, _) = after(Duration::from_secs(3), slots, workers, Observation::Cpu(used));
        assert_eq!(became, expected, "{workers} workers with {slots} slots use {used}");
    }
    let begin = Instant::now();
    let mut autoscale = warm(begin, RANGE, 1000);
    for (second, used) in [0.1, 2.0, 0.1, 2.0].into_iter().enumerate() {
        let now = begin + Duration::from_secs(second as u64 + 1);
        assert_eq!(autoscale.step(now, 1, Observation::Cpu(used)), None, "a moment of work is none");
    }
}

#[test]
fn down_when_one_fewer_was_enough_for_the_whole_window() {
    let rows = [
        ("nothing to do", 1, 3, Observation::Nothing, 2),
        ("little to do", 1, 3, seen(1, 100, 1, 0, 0), 2),
        ("two are needed", 1, 3, seen(3, 200, 2, 0, 0), 3),
        ("long requests", 1, 3, seen(0, 0, 2, 0, 0), 3),
        ("the last one stays", 1, 1, Observation::Nothing, 1),
        ("many slots, little processor", 1000, 3, Observation::Cpu(0.2), 2),
        ("many slots, much processor", 1000, 3, Observation::Cpu(1.7), 3),
    ];
    for (what, slots, workers, seen, expected) in rows {
        let (became, change) = after(Duration::from_secs(70), slots, workers, seen);
        assert_eq!(became, expected, "{what}: {change:?}");
        if let Some((time, reason)) = change {
            assert!(time >= WINDOW, "{what}: after {time:?}");
            assert_eq!(reason, Reason::Idle(WINDOW), "{what}");
        }
    }
}

const FROM_ZERO: Bounds = Bounds { least: 0, most: 8 };

#[test]
fn all_go_when_nothing_was_used_for_so_long() {
    let probes = Observation::Pool(Measurement { span: QUARTER, answered: 1, busy: 1, ..Measurement::default() });
    let rows = [
        // What, the range, what is seen, after how many seconds none is wanted.
        ("nothing at all", FROM_ZERO, Observation::Nothing, Some(300)),
        ("only our own probes", FROM_ZERO, probes, Some(300)),
        ("a request now and then", FROM_ZERO, seen(1, 10, 0, 0, 0), None),
        ("an open WebSocket", FROM_ZERO, seen(0, 0, 1, 0, 0), None),
        ("a range from one", RANGE, Observation::Nothing, None),
    ];
    for (what, bounds, seen, expected) in rows {
        let begin = Instant::now();
        let mut autoscale = warm(begin, bounds, 1000);
        let mut turns = (1..=4 * 400).map(|turn| begin + QUARTER * turn);
        let gone = turns.find(|now| autoscale.step(*now, 1, seen) == Some((0, Reason::Unused(PACE.idle_timeout))));
        assert_eq!(gone.map(|now| (now - begin).as_secs()), expected, "{what}");
    }
}

#[test]
fn the_time_begins_anew_with_each_use_and_not_before_somebody_serves() {
    let begin = Instant::now();
    let at = |seconds| begin + Duration::from_secs(seconds);
    let mut autoscale = Autoscale::new(begin, FROM_ZERO, PACE);
    assert_eq!((autoscale.idle_at(), autoscale.step(at(9000), 1, Observation::Nothing)), (None, None), "it boots");
    autoscale.note_worker(at(9000), 1, None);
    assert_eq!(autoscale.idle_at(), Some(at(9300)));
    assert_eq!(autoscale.step(at(9299), 1, seen(1, 10, 1, 0, 0)), None);
    assert_eq!(autoscale.idle_at(), None, "it runs");
    assert_eq!(autoscale.step(at(9400), 1, Observation::Pool(Measurement::default())), None);
    // A replacement that begins to serve is no use.
    autoscale.note_worker(at(9500), 1, None);
    assert_eq!(autoscale.idle_at(), Some(at(9599)));
    // However many there are.
    assert!(autoscale.step(at(9599), 1, Observation::Nothing).is_some_and(|(workers, _)| workers == 0));
    // Those that wait for the boot, however long, call for no further ones.
    for second in 9600..9700 {
        assert_eq!(autoscale.step(at(second), u32::from(second > 9601), seen(5, 100, 0, 50, 9000)), None);
    }
    autoscale.note_worker(at(9700), 1, None);
    assert_eq!(autoscale.step(at(9700), 1, seen(9, 100, 1, 9, 400)), None);
    let up = autoscale.step(at(9701), 1, seen(9, 100, 1, 9, 400));
    assert!(up.is_some_and(|(workers, _)| (2..8).contains(&workers)), "{up:?}");
}

#[test]
fn a_short_peak_keeps_the_workers_for_a_window() {
    let begin = Instant::now();
    let mut autoscale = warm(begin, RANGE, 1);
    let mut downs = Vec::new();
    for turn in 1..=600 {
        let now = begin + QUARTER * turn;
        let is_peak = (160..200).contains(&turn);
        if autoscale.step(now, 3, if is_peak { seen(4, 200, 3, 0, 0) } else { Observation::Nothing }).is_some() {
            downs.push((now - begin).as_secs());
        }
    }
    assert!(downs.first().is_some_and(|second| (105..115).contains(second)), "{downs:?}");
}

#[test]
fn never_outside_the_bounds() {
    let bounds = Bounds { least: 2, most: 5 };
    let begin = Instant::now();
    let mut autoscale = Autoscale::new(begin, bounds, Pace { down_after: Duration::from_secs(2), ..PACE });
    autoscale.note_worker(begin, 1, None);
    let (mut jitter, mut wanted) = (Jitter(7), 2);
    for turn in 1..20_000 {
        let random = |most: u64, jitter: &mut Jitter| jitter.below(most) as u32;
        let (arrived, busy, queued) =
            (random(30, &mut jitter), random(wanted.into(), &mut jitter) + 1, random(20, &mut jitter));
        let seen = match jitter.below(3) {
            0 => Observation::Nothing,
            1 => Observation::Cpu(jitter.below(90) as f64 / 10.0),
            _ => seen(arrived, jitter.below(900), busy, queued, jitter.below(400)),
        };
        if let Some((workers, _)) = autoscale.step(begin + QUARTER * turn, wanted, seen) {
            assert!((bounds.least..=bounds.most).contains(&workers) && workers != wanted);
            wanted = workers;
        }
    }
}

/// One queue, workers with one slot each, requests of one length on average; a step is ten milliseconds.
struct World {
    now: Instant,
    autoscale: Autoscale,
    jitter: Jitter,
    /// When each serving worker is free; when each of the others has booted.
    serving: Vec<Instant>,
    booting: Vec<Instant>,
    queue: VecDeque<Instant>,
    seen: Measurement,
    changes: Vec<(Duration, u32, Reason)>,
    begun: Instant,
    longest_wait: Duration,
}

const STEP: Duration = Duration::from_millis(10);
const BOOT: Duration = Duration::from_secs(2);

impl World {
    fn new(seed: u64, workers: u32) -> Self {
        let now = Instant::now();
        let mut autoscale = warm(now, RANGE, 1);
        autoscale.note_worker(now, 1, Some(BOOT));
        Self {
            now,
            autoscale,
            jitter: Jitter(seed),
            serving: vec![now; workers as usize],
            booting: Vec::new(),
            queue: VecDeque::new(),
            seen: Measurement::default(),
            changes: Vec::new(),
            begun: now,
            longest_wait: Duration::ZERO,
        }
    }

    fn wanted(&self) -> u32 {
        (self.serving.len() + self.booting.len()) as u32
    }

    /// `rate` requests per second of `service` each.
    fn run(&mut self, time: Duration, rate: f64, service: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        while self.now < end {
            self.now += STEP;
            steps += 1;
            // At random, as clients who know nothing of each other.
            if (self.jitter.below(1_000_000) as f64) < rate * STEP.as_secs_f64() * 1e6 {
                self.queue.push_back(self.now);
                self.seen.arrived += 1;
            }
            self.work(service);
            if steps % 25 == 0 {
                self.report();
            }
        }
    }

    fn work(&mut self, service: Duration) {
        let now = self.now;
        self.serving.extend(self.booting.extract_if(.., |ready| *ready <= now));
        for free_at in self.serving.iter_mut().filter(|free_at| **free_at <= now) {
            let Some(arrived) = self.queue.pop_front() else { break };
            let length = service / 2 + service.mul_f64(self.jitter.below(1000) as f64 / 1000.0);
            *free_at = now + length;
            self.seen.waited = self.seen.waited.max(now - arrived);
            self.seen.answered += 1;
            self.seen.service += length;
        }
    }

    fn report(&mut self) {
        let longest = self.queue.front().map_or(Duration::ZERO, |arrived| self.now - *arrived);
        let mut seen = std::mem::take(&mut self.seen);
        seen.waited = seen.waited.max(longest);
        seen.busy = self.serving.iter().filter(|free_at| **free_at > self.now).count() as u32;
        (seen.queued, seen.span) = (self.queue.len() as u32, QUARTER);
        self.longest_wait = self.longest_wait.max(seen.waited);
        let wanted = self.wanted();
        let Some((workers, reason)) = self.autoscale.step(self.now, wanted, Observation::Pool(seen)) else { return };
        self.changes.push((self.now - self.begun, workers, reason));
        for _ in wanted..workers {
            self.booting.push(self.now + BOOT);
        }
        for _ in workers..wanted {
            self.serving.pop();
        }
    }
}

#[test]
fn constant_load_is_not_followed_by_oscillation() {
    let hour = Duration::from_secs(3600);
    for (rate, service, enough) in [(5.0, 100, 1..=2), (9.0, 200, 3..=5), (20.0, 200, 5..=8), (40.0, 100, 5..=8)] {
        for seed in 1..=2 {
            let mut world = World::new(seed, 1);
            let service = Duration::from_millis(service);
            world.run(hour / 12, rate, service);
            let settled = world.changes.len();
            world.run(hour, rate, service);
            let later = &world.changes[settled..];
            // A handful in an hour: random arrivals are not quite constant.
            assert!(later.len() <= 12, "{rate} per second, seed {seed}: {later:?}");
            assert!(enough.contains(&world.wanted()), "{rate} per second: {:?}", world.changes);
        }
    }
}

#[test]
fn a_rush_is_met_within_seconds_and_forgotten_within_minutes() {
    let service = Duration::from_millis(200);
    for seed in 1..=5 {
        let mut world = World::new(seed, 1);
        world.run(Duration::from_secs(120), 0.5, service);
        world.changes.clear();
        world.begun = world.now;
        world.longest_wait = Duration::ZERO;
        world.run(Duration::from_secs(60), 20.0, service);
        let (first, up, _) = world.changes[0];
        assert!(first <= Duration::from_millis(1500) && up >= 2, "seed {seed}: {:?}", world.changes);
        assert!((5..=8).contains(&world.wanted()), "seed {seed}: {:?}", world.changes);
        assert!(world.longest_wait < Duration::from_secs(6), "seed {seed}: {:?}", world.longest_wait);
        let at_peak = world.wanted();
        world.changes.clear();
        world.run(Duration::from_secs(60 * 20), 0.5, service);
        assert_eq!(world.wanted(), 1, "seed {seed}: {:?}", world.changes);
        let steps: Vec<u32> = world.changes.iter().map(|(_, workers, _)| *workers).collect();
        let expected: Vec<u32> = (1..at_peak).rev().collect();
        assert!(steps.starts_with(&expected), "one at a time: seed {seed}: {steps:?}");
        // Two requests that met may have called for one more.
        assert!(steps[expected.len()..].iter().all(|workers| *workers <= 2), "seed {seed}: {steps:?}");
    }
}
