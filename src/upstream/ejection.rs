//! Pure: what the answers to health checks say about a worker.

/// Answers in a row that it takes. At least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Good ones, to come back.
    pub rise: u32,
    /// Bad ones, to be ejected.
    pub fall: u32,
}

/// How a worker stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    ejected_at: Option<u64>,
    /// Answers in a row that speak against how it stands.
    against: u32,
    is_given_up: bool,
}

/// What an answer has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It gets no more requests.
    Ejected,
    /// It gets requests again.
    Returned,
}

/// A worker that is ejected for more than so many intervals does not come back by itself.
pub const GIVEN_UP_AFTER: u32 = 12;

impl Standing {
    pub fn is_ejected(&self) -> bool {
        self.ejected_at.is_some()
    }

    /// Takes note of an answer at `now`, in nanoseconds.
    pub fn note(&mut self, is_good: bool, thresholds: Thresholds, now: u64) -> Option<Change> {
        if is_good != self.is_ejected() {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let (enough, change) =
            if is_good { (thresholds.rise, Change::Returned) } else { (thresholds.fall, Change::Ejected) };
        if self.against < enough {
            return None;
        }
        *self = Self { ejected_at: (!is_good).then_some(now), ..Self::default() };
        Some(change)
    }

    /// Whether to put another one in its place: true once, when it is ejected for too long. `interval` is in nanoseconds.
    pub fn give_up(&mut self, now: u64, interval: u64) -> bool {
        let limit = interval.saturating_mul(u64::from(GIVEN_UP_AFTER));
        let is_due = self.ejected_at.is_some_and(|at| now.saturating_sub(at) > limit);
        is_due && !std::mem::replace(&mut self.is_given_up, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rise_and_fall() {
        let limits = |rise, fall| Thresholds { rise, fall };
        // Good and bad answers, and what each changes.
        let rows = [
            (limits(1, 1), "+-+-", " ERE"),
            (limits(2, 3), "+++", "   "),
            (limits(2, 3), "--+--", "     "),
            (limits(2, 3), "---", "  E"),
            (limits(2, 3), "------", "  E   "),
            (limits(2, 3), "---+-+-++", "  E     R"),
            (limits(2, 3), "---++--+---", "  E R     E"),
            (limits(3, 1), "-+++-", "E  RE"),
        ];
        for (thresholds, answers, expected) in rows {
            let mut standing = Standing::default();
            let changes: String = answers
                .chars()
                .map(|answer| match standing.note(answer == '+', thresholds, 1) {
                    None => ' ',
                    Some(Change::Ejected) => 'E',
                    Some(Change::Returned) => 'R',
                })
                .collect();
            assert_eq!(changes, expected, "{thresholds:?} {answers}");
            assert_eq!(standing.is_ejected(), changes.trim_end().ends_with('E'), "{answers}");
        }
    }

    #[test]
    fn whoever_is_ejected_for_long_is_given_up_once() {
        const INTERVAL: u64 = 100;
        let once = Thresholds { rise: 1, fall: 1 };
        let mut standing = Standing::default();
        assert!(!standing.give_up(1_000_000, INTERVAL), "it serves");
        standing.note(false, once, 5000);
        assert!(!standing.give_up(5000 + 1200, INTERVAL));
        assert!(standing.give_up(5000 + 1201, INTERVAL));
        assert!(!standing.give_up(5000 + 9999, INTERVAL), "once");
        standing.note(true, once, 20_000);
        standing.note(false, once, 30_000);
        assert!(!standing.give_up(30_100, INTERVAL));
        assert!(standing.give_up(40_000, INTERVAL));
    }
}
