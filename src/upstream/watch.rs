//! Pure: what the state of a cell says about the worker that holds it.

use super::error::Reached;
use monoceros_wire::page::Phase;
use std::time::Duration;

/// What is known of a request that a worker holds. Times are nanoseconds of the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    pub phase: Phase,
    /// When the application was entered.
    pub entered_at: u64,
    /// When the last piece of a streamed body was passed on, else zero.
    pub body_at: u64,
    /// When nobody waited for the application any more: its client had left, was told 504, or has the whole answer.
    /// Zero while somebody waits.
    pub left_at: u64,
    /// The answer is over for the front, or nobody waits for it.
    pub is_settled: bool,
    pub reached: Reached,
    /// When the last piece of the answer came, else zero; zero too for what may be silent, a `WebSocket`.
    pub piece_at: u64,
    /// Something of the answer waits for the client: the application may be waiting for that.
    pub is_client_behind: bool,
    /// How long the application may take, in nanoseconds; zero is no limit.
    pub limit: u64,
    /// The application asked for time until then (`monoceros.extend_deadline`), else zero.
    pub extended_to: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    /// The answer has not begun in time, and its client is to be told.
    Late,
    /// Nothing more of an answer has come for too long.
    Paused,
    /// A slot is held by an application that nobody waits for, for longer than the time-out.
    Overstays,
}

/// Judges a request of a worker. `pause` is how long its answer may pause; zero is no limit.
pub fn judge(facts: Facts, is_asgi: bool, now: u64, pause: u64) -> Verdict {
    let is_longer = |since: u64, limit: u64| limit > 0 && now.saturating_sub(since) > limit && now > facts.extended_to;
    let is_over = |since: u64| is_longer(since, facts.limit);
    let is_inside = matches!(facts.phase, Phase::Entered | Phase::Cancelled);
    // What comes in piece by piece cannot be answered before it is there.
    let begun_at = facts.entered_at.max(facts.body_at);
    let has_begun = facts.reached >= Reached::Answering;
    if !is_inside {
        Verdict::Fine
    } else if !facts.is_settled {
        let is_silent = facts.piece_at > 0 && !facts.is_client_behind;
        match has_begun {
            false if is_over(begun_at) => Verdict::Late,
            true if is_silent && is_longer(facts.piece_at, pause) => Verdict::Paused,
            _ => Verdict::Fine,
        }
    } else if is_asgi {
        // What an application does after its answer is its own business; what it does after it was told that its
        // client has left is not.
        let is_told = facts.phase == Phase::Cancelled;
        if is_told && is_over(facts.left_at) { Verdict::Overstays } else { Verdict::Fine }
    } else {
        // A thread that has begun no answer hangs since it was entered, whether or not its client still waits.
        let since = if has_begun { facts.left_at } else { begun_at };
        if since > 0 && is_over(since) { Verdict::Overstays } else { Verdict::Fine }
    }
}

/// How long an application may take. Nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Zero is no limit.
    pub limit: u64,
    /// It asked for time until then, else zero.
    pub extended_to: u64,
}

impl Allowance {
    /// It began `since` and has had its time, and `grace` more.
    pub fn is_used_up(self, since: u64, now: u64, grace: Duration) -> bool {
        let until = since.saturating_add(self.limit).max(self.extended_to);
        self.limit > 0 && now >= until.saturating_add(grace.as_nanos() as u64)
    }

    /// Of two requests in one event loop: who may take long may block the other.
    #[must_use]
    pub fn longest(self, other: Self) -> Self {
        let limit = if self.limit == 0 || other.limit == 0 { 0 } else { self.limit.max(other.limit) };
        Self { limit, extended_to: self.extended_to.max(other.extended_to) }
    }
}

/// What one look at a worker's cells has shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// When the oldest request was handed over that the worker has not taken up, recalled ones included.
    pub waiting_since: Option<u64>,
    /// The last time a request was entered, of those that are still there.
    pub entered_at: u64,
    /// Something happened of which no time is known: a recalled request was passed over, an application has returned.
    pub has_moved: bool,
    /// Applications that were entered and have not returned.
    pub inside: u32,
}

impl Look {
    /// For how long the worker has taken up nothing though something waits in it. `progress_at` is when it last did.
    pub fn waited(&self, now: u64, progress_at: u64) -> u64 {
        self.waiting_since.map_or(0, |since| now.saturating_sub(since.max(progress_at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 100;

    fn entered() -> Facts {
        Facts {
            phase: Phase::Entered,
            entered_at: 1000,
            body_at: 0,
            left_at: 0,
            is_settled: false,
            reached: Reached::Handed,
            piece_at: 0,
            is_client_behind: false,
            limit: LIMIT,
            extended_to: 0,
        }
    }

    #[test]
    fn every_way_to_take_too_long() {
        use Verdict::{Fine, Late, Overstays};
        let left = Facts { phase: Phase::Cancelled, is_settled: true, left_at: 1050, ..entered() };
        let answering = Facts { reached: Reached::Answering, ..entered() };
        let rows = [
            // What, WSGI or ASGI, when, WSGI's verdict, ASGI's.
            ("in time", entered(), 1100, Fine, Fine),
            ("late", entered(), 1101, Late, Late),
            ("its body still comes", Facts { body_at: 1050, ..entered() }, 1101, Fine, Fine),
            ("its body has stopped", Facts { body_at: 1050, ..entered() }, 1151, Late, Late),
            ("not entered", Facts { phase: Phase::Handed, entered_at: 0, ..entered() }, 9999, Fine, Fine),
            ("has returned", Facts { phase: Phase::Finished, ..entered() }, 9999, Fine, Fine),
            ("a long download", answering, 9999, Fine, Fine),
            ("its client has left", left, 1101, Overstays, Fine),
            ("its client has left long ago", left, 1151, Overstays, Overstays),
            ("left in the middle", Facts { reached: Reached::Answering, ..left }, 1150, Fine, Fine),
            ("left in the middle, long ago", Facts { reached: Reached::Answering, ..left }, 1151, Overstays, Overstays),
            ("in close()", Facts { is_settled: true, left_at: 1050, ..answering }, 1150, Fine, Fine),
            ("in close() for ever", Facts { is_settled: true, left_at: 1050, ..answering }, 1151, Overstays, Fine),
        ];
        for (what, facts, now, wsgi, asgi) in rows {
            assert_eq!(judge(facts, false, now, 0), wsgi, "{what} (WSGI)");
            assert_eq!(judge(facts, true, now, 0), asgi, "{what} (ASGI)");
            let without = Facts { limit: 0, ..facts };
            assert_eq!(judge(without, false, now, 0), Fine, "{what}, without a limit");
            let extended = Facts { extended_to: now, ..facts };
            assert_eq!(judge(extended, false, now, 0), Fine, "{what}, with more time");
        }
    }

    #[test]
    fn an_answer_may_pause_for_so_long() {
        let answering = Facts { reached: Reached::Answering, piece_at: 5000, ..entered() };
        let rows = [
            ("in time", answering, 5050, Verdict::Fine),
            ("too long", answering, 5051, Verdict::Paused),
            ("the client is slow", Facts { is_client_behind: true, ..answering }, 9999, Verdict::Fine),
            ("a WebSocket", Facts { piece_at: 0, ..answering }, 9999, Verdict::Fine),
            ("asked for time", Facts { extended_to: 6000, ..answering }, 6000, Verdict::Fine),
            ("that is over, too", Facts { extended_to: 6000, ..answering }, 6001, Verdict::Paused),
            ("has returned", Facts { phase: Phase::Finished, ..answering }, 9999, Verdict::Fine),
        ];
        for (what, facts, now, expected) in rows {
            assert_eq!(judge(facts, false, now, 50), expected, "{what}");
            assert_eq!(judge(facts, true, now, 0), Verdict::Fine, "{what}, without a limit");
        }
    }

    #[test]
    fn the_longest_allowance_of_an_event_loop_counts() {
        let of = |limit, extended_to| Allowance { limit, extended_to };
        for (one, other, expected) in
            [(of(60, 0), of(5, 0), of(60, 0)), (of(60, 0), of(0, 0), of(0, 0)), (of(60, 900), of(70, 800), of(70, 900))]
        {
            assert_eq!(one.longest(other), expected);
            assert_eq!(other.longest(one), expected);
        }
    }

    #[test]
    fn a_worker_waits_only_while_something_waits_for_it() {
        assert_eq!(Look::default().waited(5000, 0), 0);
        let look = Look { waiting_since: Some(1000), ..Look::default() };
        assert_eq!(look.waited(5000, 0), 4000);
        assert_eq!(look.waited(5000, 4990), 10);
        assert_eq!(look.waited(500, 0), 0);
    }
}
