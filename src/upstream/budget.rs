//! Pure: how many requests may be tried again, so that a failing application is not asked twice as often as a healthy
//! one (Envoy: `retry_budget`, with the same numbers).

/// Over so many seconds, the current one included.
pub const PERIOD: u64 = 10;
/// So many are always allowed, else a quiet site would never try again.
pub const ALWAYS: u32 = 3;

const SECOND: u64 = 1_000_000_000;

#[derive(Debug, Clone, Copy, Default)]
struct Second {
    requests: u32,
    retries: u32,
}

/// What was asked and tried again in the last seconds. Times are nanoseconds of the monotonic clock.
#[derive(Debug, Default)]
pub struct Budget {
    seconds: [Second; PERIOD as usize],
    /// The second of the last change.
    current: u64,
    /// When it was last said that nothing is left.
    told_at: Option<u64>,
}

/// Whether one more try may be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spending {
    Granted,
    /// `is_news`: it was not refused before within this period.
    Refused {
        is_news: bool,
    },
}

impl Budget {
    /// A request has come.
    pub fn note_request(&mut self, now: u64) {
        let second = self.at(now);
        second.requests = second.requests.saturating_add(1);
    }

    /// Asks for one more try of a request that was entered. `percent` is how many there may be for each hundred requests.
    pub fn spend(&mut self, percent: u32, now: u64) -> Spending {
        self.at(now);
        let (requests, retries) = self.seconds.iter().fold((0, 0), |(requests, retries), second| {
            (requests + u64::from(second.requests), retries + u64::from(second.retries))
        });
        let allowed = (requests * u64::from(percent) / 100).max(u64::from(ALWAYS));
        if retries < allowed {
            let second = self.at(now);
            second.retries = second.retries.saturating_add(1);
            return Spending::Granted;
        }
        let is_news = self.told_at.is_none_or(|told_at| now.saturating_sub(told_at) >= PERIOD * SECOND);
        if is_news {
            self.told_at = Some(now);
        }
        Spending::Refused { is_news }
    }

    /// The entry of this second; those of the seconds since the last change are emptied.
    fn at(&mut self, now: u64) -> &mut Second {
        let second = (now / SECOND).max(self.current);
        for passed in (self.current + 1..=second).rev().take(PERIOD as usize) {
            self.seconds[(passed % PERIOD) as usize] = Second::default();
        }
        self.current = second;
        &mut self.seconds[(second % PERIOD) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `wanted` tries are granted at `second`.
    fn granted(budget: &mut Budget, percent: u32, wanted: u32, second: u64) -> u32 {
        (0..wanted).filter(|_| budget.spend(percent, second * SECOND) == Spending::Granted).count() as u32
    }

    #[test]
    fn a_part_of_the_requests_and_never_less_than_three() {
        // Requests of the last seconds, per cent, tries granted of 1000.
        for (requests, percent, expected) in
            [(0, 20, 3), (10, 20, 3), (20, 20, 4), (100, 20, 20), (100, 1, 3), (500, 100, 500)]
        {
            let mut budget = Budget::default();
            for number in 0..requests {
                budget.note_request(100 * SECOND + number);
            }
            assert_eq!(granted(&mut budget, percent, 1000, 100), expected, "{requests} requests, {percent} %");
        }
    }

    #[test]
    fn what_is_ten_seconds_old_counts_no_more() {
        let mut budget = Budget::default();
        (0..100).for_each(|_| budget.note_request(100 * SECOND));
        assert_eq!(granted(&mut budget, 20, 5, 100), 5);
        assert_eq!(granted(&mut budget, 20, 100, 109), 15);
        // Second 100 has left the period, with its requests and its tries; the 15 of second 109 are still there.
        assert_eq!(granted(&mut budget, 20, 100, 110), 0);
        assert_eq!(granted(&mut budget, 20, 100, 119), 3);
        assert_eq!(granted(&mut budget, 20, 100, 1_000_000), 3);
    }

    #[test]
    fn its_end_is_news_once_per_period() {
        let mut budget = Budget::default();
        assert_eq!(granted(&mut budget, 20, 3, 5), 3);
        let rows = [(5, true), (6, false), (14, false)];
        for (second, is_news) in rows {
            assert_eq!(budget.spend(20, second * SECOND), Spending::Refused { is_news }, "{second}");
        }
        assert_eq!(granted(&mut budget, 20, 3, 16), 3);
        assert_eq!(budget.spend(20, 16 * SECOND), Spending::Refused { is_news: true });
    }
}
