//! Pure: counts what the supervisor needs to know for the number of workers. There is a gauge only while somebody asks.

use crate::roster::Measurement;
use std::time::Duration;

/// Between reports.
const PERIOD: Duration = Duration::from_millis(250);
/// What takes longer counts as this much: slots that are in use for long are seen as such.
const SERVICE_MAX: Duration = Duration::from_secs(5);

/// Counts since the last report. Times are nanoseconds of the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    seen: Measurement,
    /// Of the last report, or of the first news after a rest.
    since: Option<u64>,
    /// It will be news when that is over.
    was_busy: bool,
}

impl Gauge {
    pub(super) fn note_arrival(&mut self, now: u64) {
        self.since.get_or_insert(now);
        self.seen.arrived += 1;
    }

    pub(super) fn note_answers(&mut self, service_times: &[Duration]) {
        self.seen.answered += service_times.len() as u32;
        self.seen.service += service_times.iter().map(|time| SERVICE_MAX.min(*time)).sum::<Duration>();
    }

    pub(super) fn note_wait(&mut self, wait: u64) {
        self.seen.waited = self.seen.waited.max(Duration::from_nanos(wait));
    }

    /// Something has not been reported.
    pub(super) fn has_news(&self) -> bool {
        self.was_busy || self.seen.arrived > 0 || self.seen.answered > 0
    }

    /// A request has come since the last report.
    pub(super) fn has_arrivals(&self) -> bool {
        self.seen.arrived > 0
    }

    pub(super) fn is_due(&self, now: u64) -> bool {
        self.since.is_none_or(|since| now.saturating_sub(since) >= PERIOD.as_nanos() as u64)
    }

    /// The report that is due, if there is anything to tell. `longest` is the wait of whoever waits longest now.
    /// `is_used`: something of a client is there.
    pub(super) fn report(
        &mut self,
        now: u64,
        busy: u32,
        queued: u32,
        longest: u64,
        is_used: bool,
    ) -> Option<Measurement> {
        if !self.has_news() && busy == 0 && queued == 0 && !is_used {
            self.since = None;
            return None;
        }
        self.note_wait(longest);
        let span = Duration::from_nanos(self.since.map_or(0, |since| now.saturating_sub(since)));
        // A rest that begins now is not measured.
        self.since = (busy > 0 || queued > 0).then_some(now);
        self.was_busy = busy > 0 || queued > 0 || is_used;
        Some(Measurement { span, busy, queued, is_used, ..std::mem::take(&mut self.seen) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: u64 = 1_000_000;

    #[test]
    fn a_report_in_a_quarter_of_a_second_while_there_is_something_to_tell() {
        let mut gauge = Gauge::default();
        assert_eq!(gauge.report(0, 0, 0, 0, false), None);
        gauge.note_arrival(1000 * MILLISECOND);
        assert!(!gauge.is_due(1249 * MILLISECOND));
        assert!(gauge.is_due(1250 * MILLISECOND));
        gauge.note_wait(7 * MILLISECOND);
        let seen = gauge.report(1250 * MILLISECOND, 1, 2, 9 * MILLISECOND, true).unwrap_or_default();
        let waited = Duration::from_millis(9);
        let expected = Measurement {
            span: PERIOD,
            arrived: 1,
            busy: 1,
            queued: 2,
            waited,
            is_used: true,
            ..Measurement::default()
        };
        assert_eq!(seen, expected);
        // Its end is news, and the last.
        gauge.note_answers(&[Duration::from_millis(300), Duration::from_secs(60)]);
        let seen = gauge.report(1600 * MILLISECOND, 0, 0, 0, false).unwrap_or_default();
        assert_eq!((seen.answered, seen.service), (2, Duration::from_millis(5300)));
        assert!(!gauge.has_news());
        gauge.note_arrival(9000 * MILLISECOND);
        assert!(!gauge.is_due(9100 * MILLISECOND));
    }
}
