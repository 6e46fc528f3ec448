//! Pure: how many workers to start and to let go. One rule serves start, crash, scaling, recycling and reload.
//!
//! *Fresh* workers are the ones wanted in the end; *stale* ones still serve and are to be replaced, because their code is
//! old or their time is over. New ones are started within the budget, and for each that serves a stale one goes: what
//! serves never falls below what is wanted on account of a replacement.

/// Who is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Census {
    /// Workers asked for.
    pub(super) wanted: u32,
    /// Workers that may exist beyond that while some are replaced; at least one.
    pub(super) surge: u32,
    pub(super) fresh_booting: u32,
    pub(super) fresh_serving: u32,
    pub(super) stale_serving: u32,
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
}

/// The rule.
pub(super) fn moves(census: Census) -> Moves {
    let Census { wanted, surge, fresh_booting, fresh_serving, stale_serving } = census;
    let fresh = fresh_booting + fresh_serving;
    let room = (wanted + surge.max(1)).saturating_sub(fresh + stale_serving);
    let excess = fresh.saturating_sub(wanted);
    let shed_booting = excess.min(fresh_booting);
    Moves {
        fork: wanted.saturating_sub(fresh).min(room),
        drain_stale: (fresh_serving + stale_serving).saturating_sub(wanted).min(stale_serving),
        shed_booting,
        shed_serving: excess - shed_booting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(wanted: u32, fresh_booting: u32, fresh_serving: u32, stale_serving: u32) -> Census {
        Census { wanted, surge: 1, fresh_booting, fresh_serving, stale_serving }
    }

    fn fork(count: u32) -> Moves {
        Moves { fork: count, ..Moves::default() }
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
            ("nobody wanted", census(0, 1, 1, 1), Moves { drain_stale: 1, shed_booting: 1, shed_serving: 1, fork: 0 }),
        ];
        for (name, census, expected) in rows {
            assert_eq!(moves(census), expected, "{name}: {census:?}");
        }
    }

    #[test]
    fn what_serves_never_falls_below_what_is_wanted() {
        for code in 0..6_u32.pow(4) {
            let [wanted, booting, fresh, stale] = [code % 6, code / 6 % 6, code / 36 % 6, code / 216];
            let moves = moves(census(wanted, booting, fresh, stale));
            let left = fresh + stale - moves.drain_stale - moves.shed_serving;
            assert!(left >= wanted.min(fresh + stale), "{wanted} {booting} {fresh} {stale}: {moves:?}");
            let all = booting + fresh + stale + moves.fork;
            assert!(moves.fork == 0 || all <= wanted + 1, "{wanted} {booting} {fresh} {stale}: {moves:?}");
        }
    }
}
