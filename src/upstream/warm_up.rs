//! What a new worker has to answer before it gets requests (`--warm-up`).

use super::link::Link;
use super::pool::{MemberEntry, MemberState, Pool};
use super::probe::Outcome;
use crate::roster::{Report, WarmUp};
use monoceros_wire::message::{BootFailure, Ready};
use std::sync::Arc;
use std::time::Duration;

/// So long before the supervisor gives the worker up, so that the reason can be told.
const MARGIN: Duration = Duration::from_millis(250);

impl Pool {
    /// Asks a worker that has loaded the application; it serves when every answer was good.
    pub(super) async fn warm_up(self: Arc<Self>, link: Arc<Link>, ready: Ready, warm_up: WarmUp, joined_at: u64) {
        let limit = warm_up.timeout.saturating_sub(MARGIN);
        for target in &warm_up.targets {
            let spent = Duration::from_nanos(self.now().saturating_sub(joined_at));
            match self.probe(&link, target, limit.saturating_sub(spent)).await {
                good if good.is_good() => {}
                // The end of its link is told by the link.
                Outcome::Gone => return,
                bad => {
                    let how = match bad {
                        Outcome::Late { .. } => {
                            format!("was not answered within {:?} (--boot-timeout)", warm_up.timeout)
                        }
                        other => other.to_string(),
                    };
                    let failure = BootFailure {
                        stage: "warm-up".to_owned(),
                        message: format!("the warm-up request GET {target} {how}"),
                        hint: "a new worker serves only when it answers every --warm-up request with a status from 200 to 399; \
                               the lines of the worker above may say more"
                            .to_owned(),
                        traceback: String::new(),
                    };
                    return self.report(Report::Unfit { worker: link.worker(), failure });
                }
            }
        }
        let mut state = self.lock();
        let is_it = |member: &MemberEntry| Arc::ptr_eq(&member.link, &link) && member.state == MemberState::WarmingUp;
        if state.members.iter().any(is_it) {
            let now = self.now();
            self.begin_to_serve(&mut state, &link, ready, now);
            state.settle(now);
        }
    }
}
