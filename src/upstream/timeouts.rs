//! Pure: how long an application may take for a request.

use std::time::Duration;

/// Limits of the application. Zero is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// From the call of the application to the beginning of its answer → 504 (gunicorn: `timeout`).
    pub answer: Duration,
    /// The same for paths below a prefix, which has no slash at its end; the longest prefix counts.
    pub routes: Vec<(String, Duration)>,
    /// Between two pieces of an answer (nginx: `proxy_read_timeout`). `None`: [`WSGI_PAUSE`] for WSGI, no limit for ASGI.
    pub pause: Option<Duration>,
}

/// A thread that has stopped in the middle of its answer cannot be told from one that hangs, and keeps its slot. An event
/// loop that hangs is found by itself, and a task that is silent costs nothing.
pub const WSGI_PAUSE: Duration = Duration::from_secs(60);

impl Default for Timeouts {
    fn default() -> Self {
        Self { answer: Duration::from_secs(60), routes: Vec::new(), pause: None }
    }
}

impl Timeouts {
    /// Of a path without its query.
    pub fn answer_of(&self, path: &[u8]) -> Duration {
        let below = |prefix: &str| {
            path.strip_prefix(prefix.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        let routes = self.routes.iter().filter(|(prefix, _)| below(prefix));
        routes.max_by_key(|(prefix, _)| prefix.len()).map_or(self.answer, |(_, limit)| *limit)
    }

    /// Between two pieces of an answer.
    pub fn pause_of(&self, is_asgi: bool) -> Duration {
        self.pause.unwrap_or(if is_asgi { Duration::ZERO } else { WSGI_PAUSE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_of_whole_segments_counts() {
        let seconds = Duration::from_secs;
        let routes = [("/report", 300), ("/report/quick", 5), ("/stream", 0)];
        let routes = routes.map(|(prefix, limit)| (prefix.to_owned(), seconds(limit))).to_vec();
        let timeouts = Timeouts { answer: seconds(60), routes, pause: None };
        let rows: [(&[u8], u64); 8] = [
            (b"/", 60),
            (b"/report", 300),
            (b"/report/", 300),
            (b"/report/2026", 300),
            (b"/reports", 60),
            (b"/report/quick/1", 5),
            (b"/stream/x", 0),
            (b"/a/report", 60),
        ];
        for (path, expected) in rows {
            assert_eq!(timeouts.answer_of(path), seconds(expected), "{}", path.escape_ascii());
        }
        let all = Timeouts { routes: vec![(String::new(), seconds(7))], ..timeouts };
        assert_eq!(all.answer_of(b"/anything"), seconds(7));
    }

    #[test]
    fn only_threads_have_a_limit_for_pauses_by_themselves() {
        assert_eq!(Timeouts::default().pause_of(false), WSGI_PAUSE);
        assert_eq!(Timeouts::default().pause_of(true), Duration::ZERO);
        let chosen = Timeouts { pause: Some(Duration::from_secs(3)), ..Timeouts::default() };
        assert_eq!(chosen.pause_of(true), Duration::from_secs(3));
    }
}
