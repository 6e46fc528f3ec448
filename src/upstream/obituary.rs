//! What the log tells about the requests that were in the application when its worker died.

use super::error::Cause;
use super::exchange::Fate;
use crate::roster::WorkerNumber;
use std::fmt::Write;
use std::time::Duration;

/// More are only counted.
const TOLD_MAX: usize = 10;

/// One request that was in the application.
#[derive(Debug)]
pub(super) struct Inside {
    /// Method and path.
    pub(super) label: String,
    /// Since it was entered.
    pub(super) duration: Duration,
    pub(super) end: End,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    GivenToAnother,
    /// Its answer had begun.
    CutOff,
    Ended(Fate),
}

impl End {
    fn text(self) -> &'static str {
        match self {
            Self::GivenToAnother | Self::Ended(Fate::MovedOn) => "given to another worker",
            Self::CutOff => "its answer is cut off",
            Self::Ended(Fate::Answered) => "had its whole answer",
            Self::Ended(Fate::Abandoned) => "its client had left",
            Self::Ended(Fate::Failed(Cause::Timeout)) => "answered 504",
            Self::Ended(Fate::Failed(
                Cause::QueueFull | Cause::QueueTimeout | Cause::Unavailable | Cause::BootFailed { .. },
            )) => "answered 503",
            Self::Ended(Fate::Failed(_) | Fate::Open) => "answered 502",
        }
    }
}

/// One line about a lost worker; `None` when no request was in the application.
pub(super) fn line(worker: WorkerNumber, inside: &[Inside]) -> Option<String> {
    let requests = match inside.len() {
        0 => return None,
        1 => "1 request".to_owned(),
        many => format!("{many} requests"),
    };
    let mut line = format!("worker {worker} was lost with {requests} in the application");
    for (number, request) in inside.iter().take(TOLD_MAX).enumerate() {
        let separator = if number == 0 { ':' } else { ';' };
        let Inside { label, duration, end } = request;
        let _ = write!(line, "{separator} {label} (for {:.1} s): {}", duration.as_secs_f64(), end.text());
    }
    if inside.len() > TOLD_MAX {
        let _ = write!(line, "; and {} more", inside.len() - TOLD_MAX);
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(label: &str, end: End) -> Inside {
        Inside { label: label.to_owned(), duration: Duration::from_millis(3240), end }
    }

    #[test]
    fn a_line_names_what_was_inside_and_what_became_of_it() {
        assert_eq!(line(3, &[]), None);
        let requests = [
            inside("GET /a", End::GivenToAnother),
            inside("POST /b", End::Ended(Fate::Failed(Cause::WorkerDied))),
            inside("GET /c", End::Ended(Fate::Failed(Cause::Timeout))),
        ];
        assert_eq!(
            line(3, &requests).as_deref(),
            Some(
                "worker 3 was lost with 3 requests in the application: GET /a (for 3.2 s): given to another worker; \
                 POST /b (for 3.2 s): answered 502; GET /c (for 3.2 s): answered 504"
            )
        );
    }

    #[test]
    fn many_are_counted() {
        let requests: Vec<_> = (0..12).map(|_| inside("GET /", End::CutOff)).collect();
        let line = line(1, &requests).unwrap_or_default();
        assert!(line.ends_with("; and 2 more"), "{line}");
        assert_eq!(line.matches("cut off").count(), 10);
    }
}
