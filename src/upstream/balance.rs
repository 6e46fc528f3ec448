//! Pure: which worker gets the next request, and how many may be handed out ahead of time.

use std::time::Duration;

/// One worker at the moment of choosing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Requests it can run at the same time.
    pub slots: u32,
    /// Requests it holds, entered or not.
    pub in_flight: u32,
    /// Slots whose application goes on after its answer: they seem free and may not be.
    pub occupied: u32,
    /// Requests it may hold beyond its slots (see [`ahead`]).
    pub ahead: u32,
    /// Its link belongs to the asking front thread: no other thread has to be woken.
    pub is_near: bool,
}

/// Chooses among the workers that may take one more: one with a free slot before one that is only handed a request
/// ahead of time, then the one with the fewest, then the nearest. `None`: the request waits in the queue.
pub fn choose(candidates: impl IntoIterator<Item = Candidate>) -> Option<usize> {
    candidates
        .into_iter()
        .enumerate()
        .filter(|(_, candidate)| candidate.in_flight < candidate.slots.saturating_add(candidate.ahead))
        .min_by_key(|(_, candidate)| {
            let load = candidate.in_flight.saturating_add(candidate.occupied);
            (load >= candidate.slots, load, !candidate.is_near)
        })
        .map(|(index, _)| index)
}

/// Most requests handed out ahead of time, per slot.
pub const AHEAD_MAX: u32 = 16;

/// How many requests per slot to hand out ahead of time, so that a worker has the next one at hand when it finishes.
///
/// The gain is one round trip (some 50 µs) per request; the price is that a request may sit behind one that turns out
/// slow until it is recalled. So the allowance falls as the service time grows and ends where a round trip is below a
/// few per cent of it.
pub fn ahead(service: Duration) -> u32 {
    match service.as_micros() {
        0..=99 => AHEAD_MAX,
        100..=299 => 6,
        300..=799 => 2,
        800..=1999 => 1,
        _ => 0,
    }
}

/// How long a worker may make no progress before what it was handed ahead of time is recalled.
pub const RECALL_AFTER: Duration = Duration::from_millis(2);

/// How long before what it was handed within its slots is recalled, while another one could take it. Longer, because a
/// busy machine makes every worker pause for some milliseconds, and a worker has work with what it comes past in vain.
pub const RECALL_WITHIN_SLOTS_AFTER: Duration = Duration::from_millis(5);

/// One worker at the moment of deciding about a recall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Requests it can run at the same time; none when it may get nothing.
    pub slots: u32,
    /// Requests it holds, and slots whose application goes on after its answer.
    pub in_flight: u32,
    /// It has taken up nothing for [`RECALL_AFTER`] though something waits in it.
    pub is_slow: bool,
    /// For how long.
    pub waited: Duration,
}

impl Place {
    fn is_free(self) -> bool {
        !self.is_slow && self.in_flight < self.slots
    }
}

/// Whether to take back what the worker at `index` has not taken up: always what it got ahead of time, and the rest
/// when another one could take it. Otherwise it waits where it is, and costs nothing when the worker goes on.
pub fn is_worth_recalling(places: &[Place], index: usize) -> bool {
    let Some(own) = places.get(index).filter(|own| own.is_slow) else { return false };
    let is_ahead = own.in_flight > own.slots;
    let is_elsewhere = || places.iter().enumerate().any(|(other, place)| other != index && place.is_free());
    is_ahead || (own.waited > RECALL_WITHIN_SLOTS_AFTER && is_elsewhere())
}

/// A moving estimate of how long the application takes for a request.
///
/// One slow request among many fast ones must not end the hand-out ahead (that is what the recall is for), so a sample
/// counts at most as four times the estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceTime(Duration);

impl Default for ServiceTime {
    /// Nothing known: assume slow, hand nothing out ahead.
    fn default() -> Self {
        Self(Duration::from_millis(2))
    }
}

impl ServiceTime {
    pub fn observe(&mut self, sample: Duration) {
        let ceiling = self.0.max(Duration::from_micros(10)) * 4;
        self.0 = (self.0 * 7 + sample.min(ceiling)) / 8;
    }

    pub fn estimate(self) -> Duration {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(slots: u32, in_flight: u32, ahead: u32, is_near: bool) -> Candidate {
        Candidate { slots, in_flight, occupied: 0, ahead, is_near }
    }

    #[test]
    fn choices() {
        let rows: &[(&[Candidate], Option<usize>)] = &[
            (&[], None),
            (&[candidate(1, 0, 0, false)], Some(0)),
            (&[candidate(1, 1, 0, true)], None),
            (&[candidate(1, 1, 4, true)], Some(0)),
            // A free slot beats a place in line, even on another thread.
            (&[candidate(1, 1, 4, true), candidate(1, 0, 0, false)], Some(1)),
            // Equal load: the near one.
            (&[candidate(4, 1, 0, false), candidate(4, 1, 0, true)], Some(1)),
            // The shortest line.
            (&[candidate(1, 3, 4, true), candidate(1, 2, 4, false)], Some(1)),
            (&[candidate(1, 5, 4, true), candidate(1, 5, 4, false)], None),
            (&[candidate(0, 0, 0, true)], None),
            // An application that may go on after its answer: only if there is nobody else.
            (&[Candidate { occupied: 1, ..candidate(1, 0, 0, true) }, candidate(1, 0, 0, false)], Some(1)),
            (&[Candidate { occupied: 1, ..candidate(1, 0, 0, true) }, candidate(1, 1, 0, false)], Some(0)),
        ];
        for (candidates, expected) in rows {
            assert_eq!(choose(candidates.iter().copied()), *expected, "{candidates:?}");
        }
    }

    #[test]
    fn recalls() {
        let waited = Duration::from_millis(6);
        let place = |slots, in_flight, is_slow| Place { slots, in_flight, is_slow, waited };
        let short = Duration::from_millis(3);
        let rows: &[(&[Place], bool)] = &[
            (&[place(1, 2, false), place(1, 0, false)], false),
            // Handed ahead: in any case.
            (&[place(1, 2, true)], true),
            (&[place(1, 2, true), place(1, 1, false)], true),
            // Within its slots: when there is another place.
            (&[place(1, 1, true)], false),
            (&[place(1, 1, true), place(1, 1, false)], false),
            (&[place(1, 1, true), place(1, 0, true)], false),
            (&[place(1, 1, true), place(0, 0, false)], false),
            (&[place(100, 10, true), place(100, 99, false)], true),
            (&[Place { waited: short, ..place(100, 10, true) }, place(100, 99, false)], false),
            (&[Place { waited: short, ..place(1, 2, true) }], true),
        ];
        for (places, expected) in rows {
            assert_eq!(is_worth_recalling(places, 0), *expected, "{places:?}");
        }
        assert!(!is_worth_recalling(&[], 0));
    }

    #[test]
    fn allowance_falls_with_service_time() {
        let allowances: Vec<u32> = [0, 50, 150, 500, 1000, 5000].map(|us| ahead(Duration::from_micros(us))).to_vec();
        assert_eq!(allowances, [16, 16, 6, 2, 1, 0]);
    }

    #[test]
    fn one_slow_request_does_not_end_the_hand_out() {
        let mut service = ServiceTime::default();
        for _ in 0..50 {
            service.observe(Duration::from_micros(20));
        }
        assert_eq!(ahead(service.estimate()), AHEAD_MAX);
        service.observe(Duration::from_millis(100));
        assert!(ahead(service.estimate()) >= 6, "{service:?}");
        for _ in 0..50 {
            service.observe(Duration::from_millis(100));
        }
        assert_eq!(ahead(service.estimate()), 0);
    }
}
