//! Pure: how many workers to start and to let go. One rule serves start, crash, scaling, recycling and reload.
//!
//! *Fresh* workers are the ones wanted in the end; *stale* ones still serve and are to be replaced, because their code is
//! old or their time is over. New ones are started within the surge, and for each that serves a stale one goes: what
//! serves never falls below what is wanted on account of a replacement. Only where memory has no room for a new one, a
//! stale one goes first; the last one that serves does not, and then its successor starts beyond the budget.

/// Who is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Census {
    /// Workers asked for.
    pub(super) wanted: u32,
    /// Workers that may exist beyond that while some are replaced, without those that leave; at least one.
    pub(super) surge: u32,
    pub(super) fresh_booting: u32,
    pub(super) fresh_serving: u32,
    pub(super) stale_serving: u32,
    /// Workers that boot for a generation that is being tried.
    pub(super) scouts: u32,
    /// Workers that were told to go and whose process is still there.
    pub(super) leaving: u32,
    /// Further workers for which there is memory; `None` until one shows how much it needs.
    pub(super) memory: Option<u32>,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Moves {
    /// Workers to start.
    pub(super) fork: u32,
    /// Stale workers to let go.
    pub(super) drain_stale: u32,
    /// Fresh workers too many that do not serve yet.
    pub(super) shed_booting: u32,
    /// Fresh workers too many that serve.
    pub(super) shed_serving: u32,
    /// What memory has to do with it.
    pub(super) shortage: Option<Shortage>,
}

/// What the memory budget keeps from happening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shortage {
    /// A replacement does not fit beside those that serve: one of these goes first.
    LeaveFirst,
    /// Only one serves, which cannot go first: its replacement starts although it does not fit.
    Beyond,
    /// There are fewer workers than wanted, and no more fit.
    Fewer,
}

/// Whether a replacement may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    Now,
    /// Nobody else could serve: the budget does not matter.
    Beyond,
    /// When one that serves has gone.
    LeaveFirst,
    /// When what is under way is over.
    Later,
}

impl Census {
    fn serving(&self) -> u32 {
        self.fresh_serving + self.stale_serving
    }

    fn present(&self) -> u32 {
        self.fresh_booting + self.serving() + self.scouts
    }

    /// Workers that may still be started.
    fn room(&self) -> u32 {
        (self.wanted + self.surge.max(1)).saturating_sub(self.present())
    }

    /// Whether one that replaces another may start.
    pub(super) fn replacement(&self) -> Start {
        if self.room() == 0 {
            return Start::Later;
        }
        let is_one_booting = self.fresh_booting + self.scouts > 0;
        let Some(memory) = self.memory else {
            return if self.present() == 0 { Start::Now } else { Start::Later };
        };
        match self.serving() {
            _ if memory > 0 => Start::Now,
            // It will serve, or be gone.
            _ if is_one_booting => Start::Later,
            0 => Start::Beyond,
            // They take their memory along.
            _ if self.leaving > 0 => Start::Later,
            1 => Start::Beyond,
            _ => Start::LeaveFirst,
        }
    }
}

/// The rule.
pub(super) fn moves(census: Census) -> Moves {
    let Census { wanted, fresh_booting, fresh_serving, stale_serving, .. } = census;
    let fresh = fresh_booting + fresh_serving;
    let missing = wanted.saturating_sub(fresh);
    let excess = fresh.saturating_sub(wanted);
    let drain_stale = census.serving().saturating_sub(wanted).min(stale_serving);
    let shed_serving = excess.saturating_sub(fresh_booting);
    // After a step down there may be more than the surge allows.
    let too_many = (census.present() - drain_stale - excess).saturating_sub(wanted + census.surge.max(1));
    let shed_booting = (excess + too_many).min(fresh_booting);
    let moves = Moves { drain_stale, shed_booting, shed_serving, ..Moves::default() };
    if missing == 0 {
        return moves;
    }
    let is_replacement = stale_serving > 0 || census.serving() == 0;
    let (fork, shortage) = match census.replacement() {
        Start::Now => (missing.min(census.room()).min(census.memory.unwrap_or(1)), None),
        Start::Beyond if is_replacement => (1, Some(Shortage::Beyond)),
        Start::LeaveFirst if is_replacement => (0, Some(Shortage::LeaveFirst)),
        Start::Beyond | Start::LeaveFirst => (0, Some(Shortage::Fewer)),
        Start::Later => (0, None),
    };
    Moves { fork, shortage, ..moves }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: Option<u32> = Some(u32::MAX);

    fn census(wanted: u32, fresh_booting: u32, fresh_serving: u32, stale_serving: u32) -> Census {
        Census { wanted, surge: 1, fresh_booting, fresh_serving, stale_serving, scouts: 0, leaving: 0, memory: PLENTY }
    }

    fn surge(surge: u32, census: Census) -> Census {
        Census { surge, ..census }
    }

    /// With memory for so many more, while so many leave.
    fn tight(memory: u32, leaving: u32, census: Census) -> Census {
        Census { memory: Some(memory), leaving, ..census }
    }

    fn fork(count: u32) -> Moves {
        Moves { fork: count, ..Moves::default() }
    }

    fn short(shortage: Shortage) -> Moves {
        Moves { fork: u32::from(shortage == Shortage::Beyond), shortage: Some(shortage), ..Moves::default() }
    }

    #[test]
    fn table() {
        let rows = [
            ("start", census(4, 0, 0, 0), fork(4)),
            ("starting", census(4, 4, 0, 0), fork(0)),
            ("one crashed", census(4, 0, 3, 0), fork(1)),
            ("content", census(4, 0, 4, 0), fork(0)),
            ("reload begins", census(4, 0, 1, 4), Moves { drain_stale: 1, ..fork(0) }),
            ("a place for the next one", census(4, 0, 1, 3), fork(1)),
            ("it boots", census(4, 1, 1, 3), fork(0)),
            ("the last old one goes", census(4, 0, 4, 1), Moves { drain_stale: 1, ..fork(0) }),
            ("an old one crashed meanwhile", census(4, 1, 1, 2), fork(1)),
            ("one is recycled", census(4, 0, 3, 1), fork(1)),
            ("scaled up", census(6, 0, 4, 0), fork(2)),
            ("scaled down", census(2, 0, 4, 0), Moves { shed_serving: 2, ..fork(0) }),
            ("scaled down while booting", census(2, 1, 2, 0), Moves { shed_booting: 1, ..fork(0) }),
            ("scaled down with old ones", census(2, 0, 1, 4), Moves { drain_stale: 3, ..fork(0) }),
            ("scaled down in a reload", census(3, 4, 1, 2), Moves { shed_booting: 3, ..fork(0) }),
            (
                "nobody wanted",
                census(0, 1, 1, 1),
                Moves { drain_stale: 1, shed_booting: 1, shed_serving: 1, ..fork(0) },
            ),
            ("a larger surge", surge(3, census(4, 0, 1, 3)), fork(3)),
            ("not more than are missing", surge(9, census(4, 0, 1, 3)), fork(3)),
            ("a scout takes a place", Census { scouts: 1, ..census(4, 0, 3, 1) }, fork(0)),
            ("beside a scout", Census { scouts: 1, ..surge(2, census(4, 0, 3, 1)) }, fork(1)),
            ("who leaves takes none", Census { leaving: 3, ..census(4, 0, 3, 1) }, fork(1)),
        ];
        for (name, census, expected) in rows {
            assert_eq!(moves(census), expected, "{name}: {census:?}");
        }
    }

    #[test]
    fn within_a_budget() {
        let rows = [
            ("as many as fit", tight(2, 0, census(4, 0, 0, 0)), fork(2)),
            ("the first one alone", Census { memory: None, ..census(4, 0, 0, 0) }, fork(1)),
            ("not known yet", Census { memory: None, ..census(4, 0, 1, 0) }, fork(0)),
            ("not known yet in a reload", Census { memory: None, ..census(4, 0, 1, 3) }, fork(0)),
            ("at least one", tight(0, 0, census(4, 0, 0, 0)), short(Shortage::Beyond)),
            ("one crashed, others leave slowly", tight(0, 2, census(1, 0, 0, 0)), short(Shortage::Beyond)),
            ("fewer than wanted", tight(0, 0, census(4, 0, 2, 0)), short(Shortage::Fewer)),
            ("one of them would be the second", tight(0, 0, census(2, 0, 1, 0)), short(Shortage::Fewer)),
            ("they boot", tight(0, 0, census(4, 2, 1, 0)), fork(0)),
            ("one is recycled and fits", tight(1, 0, census(4, 0, 3, 1)), fork(1)),
            ("one is recycled and goes first", tight(0, 0, census(4, 0, 3, 1)), short(Shortage::LeaveFirst)),
            ("it goes", tight(0, 1, census(4, 0, 3, 0)), fork(0)),
            ("it has gone", tight(1, 0, census(4, 0, 3, 0)), fork(1)),
            ("a surge does not help", tight(0, 0, surge(3, census(4, 0, 1, 3))), short(Shortage::LeaveFirst)),
            ("memory for some of the surge", tight(2, 0, surge(3, census(4, 0, 1, 3))), fork(2)),
            ("the next one waits for who leaves", tight(0, 1, census(4, 0, 1, 2)), fork(0)),
            ("the next one waits for who boots", tight(0, 0, census(4, 1, 1, 2)), fork(0)),
            ("the only one stays until the end", tight(0, 0, census(1, 0, 0, 1)), short(Shortage::Beyond)),
            ("unless another makes room", tight(0, 1, census(1, 0, 0, 1)), fork(0)),
        ];
        for (name, census, expected) in rows {
            assert_eq!(moves(census), expected, "{name}: {census:?}");
        }
    }

    #[test]
    fn scouts() {
        let rows = [
            ("a reload", census(2, 0, 2, 0), Start::Now),
            ("a spare boots", census(2, 1, 1, 1), Start::Later),
            ("no memory", tight(0, 0, census(2, 0, 2, 0)), Start::LeaveFirst),
            ("one goes", tight(0, 1, census(2, 0, 1, 0)), Start::Later),
            ("one has gone", tight(1, 0, census(2, 0, 1, 0)), Start::Now),
            ("another took its place", tight(0, 0, census(2, 1, 1, 0)), Start::Later),
            ("the only one", tight(0, 0, census(1, 0, 1, 0)), Start::Beyond),
        ];
        for (name, census, expected) in rows {
            assert_eq!(census.replacement(), expected, "{name}: {census:?}");
        }
    }

    #[test]
    fn what_serves_never_falls_below_what_is_wanted() {
        for code in 0..6_u32.pow(4) * 2 * 3 {
            let [wanted, booting, fresh, stale] = [code % 6, code / 6 % 6, code / 36 % 6, code / 216 % 6];
            let (scouts, surge) = (code / 1296 % 2, 1 + code / 2592);
            let census = Census { surge, scouts, ..census(wanted, booting, fresh, stale) };
            let moves = moves(census);
            let left = fresh + stale - moves.drain_stale - moves.shed_serving;
            assert!(left >= wanted.min(fresh + stale), "{census:?}: {moves:?}");
            let all = left + scouts + booting - moves.shed_booting + moves.fork;
            assert!(moves.fork == 0 || all <= wanted + surge, "{census:?}: {moves:?}");
            // Without memory nothing is different but that fewer start.
            let poor = super::moves(Census { memory: Some(0), ..census });
            assert_eq!(poor.drain_stale, moves.drain_stale, "{census:?}");
            assert!(poor.fork == 0 || fresh + stale <= 1, "{census:?}: {poor:?}");
            assert!(poor.shortage != Some(Shortage::LeaveFirst) || fresh + stale > 1, "{census:?}: {poor:?}");
        }
    }
}
