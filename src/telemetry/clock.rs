//! The time at the beginning of a log line: `2026-11-23 22:00:00`, in the zone of the machine.

use std::time::{SystemTime, UNIX_EPOCH};

/// Formats the time once per second and lends out the text in between.
#[derive(Debug, Default)]
pub struct Clock {
    second: Option<u64>,
    text: String,
}

impl Clock {
    /// The given time as text.
    pub fn at(&mut self, time: SystemTime) -> &str {
        let second = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.second != Some(second) {
            self.second = Some(second);
            let timestamp = i64::try_from(second).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
            let zoned = timestamp.unwrap_or(jiff::Timestamp::MAX).to_zoned(jiff::tz::TimeZone::system());
            self.text = zoned.strftime("%Y-%m-%d %H:%M:%S").to_string();
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn text_changes_with_the_second_only() {
        let mut clock = Clock::default();
        let start = UNIX_EPOCH + Duration::from_secs(1_795_471_201);
        let first = clock.at(start).to_owned();
        assert_eq!(first.len(), "2026-11-23 22:00:00".len());
        assert_eq!(clock.at(start + Duration::from_millis(999)), first);
        assert_eq!(clock.at(start + Duration::from_secs(1))[..18], first[..18]);
        assert_ne!(clock.at(start + Duration::from_secs(1)), first);
    }
}
