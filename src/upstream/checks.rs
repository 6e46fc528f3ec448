//! Active health checks (`--check-path`): every worker is asked now and then, and gets nothing while it fails.

use super::ejection::{Change, Standing, Thresholds};
use super::link::Link;
use super::pool::{MemberEntry, MemberState, Pool, State};
use super::probe::Outcome;
use crate::roster::Report;
use monoceros_wire::frame::StreamId;
use std::sync::Arc;
use std::time::Duration;

/// What is asked, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// A path, which may have a query.
    pub target: String,
    pub interval: Duration,
    /// Longest time until the end of the answer.
    pub timeout: Duration,
    pub thresholds: Thresholds,
}

impl Pool {
    /// Checks all workers, for ever.
    pub(super) async fn watch_health(self: Arc<Self>) {
        loop {
            let Some(check) = self.settings().check.clone() else {
                self.lock().pardon_all();
                self.settings_changed.notified().await;
                continue;
            };
            if tokio::time::timeout(check.interval, self.settings_changed.notified()).await.is_err() {
                let links = self.lock().links_to_check();
                futures_util::future::join_all(links.iter().map(|link| self.check(link, &check))).await;
            }
        }
    }

    async fn check(self: &Arc<Self>, link: &Arc<Link>, check: &Check) {
        let asked_at = self.now();
        // An application that is still at the last one needs no further one to hang in.
        let lost = self.lock().lost_check(link);
        let outcome = match lost {
            Some(_) => Outcome::Late { limit: check.timeout, inside: lost },
            None => self.probe(link, &check.target, check.timeout).await,
        };
        let now = self.now();
        let mut state = self.lock();
        let is_it = |member: &&mut MemberEntry| Arc::ptr_eq(&member.link, link) && member.state == MemberState::Serving;
        let Some(member) = state.members.iter_mut().find(is_it) else { return };
        // A busy worker that goes on is not a sick one.
        let is_merely_busy = matches!(outcome, Outcome::Late { inside: None, .. }) && member.progress_at > asked_at;
        if outcome == Outcome::Gone || is_merely_busy {
            return;
        }
        member.lost_check = if let Outcome::Late { inside, .. } = outcome { inside } else { None };
        let change = member.standing.note(outcome.is_good(), check.thresholds, now);
        let (worker, target) = (link.worker(), &check.target);
        match change {
            Some(Change::Ejected) => {
                let count = check.thresholds.fall;
                tracing::warn!(
                    "worker {worker} gets no more requests: GET {target} failed {count} times in a row (--check-path), \
                     the last one {outcome}"
                );
                if state.review() {
                    state.take_back(link, now);
                } else {
                    tracing::warn!("every worker fails GET {target}: they get requests all the same");
                }
            }
            Some(Change::Returned) => {
                tracing::info!("worker {worker} gets requests again: GET {target} was answered well");
                state.review();
                state.settle(now);
            }
            None if state.gives_up(link, now, check.interval) => self.report(Report::Sick { worker }),
            None => {}
        }
    }
}

impl State {
    /// Those that serve and have a free slot: who is busy is not asked, except with the last check.
    fn links_to_check(&self) -> Vec<Arc<Link>> {
        let serving = self.members.iter().filter(|member| member.state == MemberState::Serving);
        let is_free = |member: &&MemberEntry| {
            member.in_flight + member.link.occupied() < member.slots || member.lost_check().is_some()
        };
        serving.filter(is_free).map(|member| Arc::clone(&member.link)).collect()
    }

    fn lost_check(&self, link: &Arc<Link>) -> Option<StreamId> {
        self.members.iter().find(|member| Arc::ptr_eq(&member.link, link))?.lost_check()
    }

    /// Whoever fails gets nothing, while somebody else serves. True when that is so.
    pub(super) fn review(&mut self) -> bool {
        let serves = |member: &MemberEntry| member.state == MemberState::Serving;
        let is_help = self.members.iter().any(|member| serves(member) && !member.standing.is_ejected());
        for member in &mut self.members {
            member.is_barred = is_help && member.standing.is_ejected();
        }
        is_help
    }

    /// Nobody is checked any more.
    fn pardon_all(&mut self) {
        for member in &mut self.members {
            member.standing = Standing::default();
        }
        self.review();
    }

    /// If all fail, it is not the worker that is sick but something they all need: a new one would fail as well.
    fn gives_up(&mut self, link: &Arc<Link>, now: u64, interval: Duration) -> bool {
        let member = self.members.iter_mut().find(|member| Arc::ptr_eq(&member.link, link) && member.is_barred);
        member.is_some_and(|member| member.standing.give_up(now, interval.as_nanos() as u64))
    }

    /// What it has not entered goes to others.
    fn take_back(&mut self, link: &Arc<Link>, now: u64) {
        let Some(member) = self.members.iter_mut().find(|member| Arc::ptr_eq(&member.link, link)) else { return };
        let recalled = member.link.recall_all();
        member.in_flight = member.in_flight.saturating_sub(recalled.len() as u32);
        self.queue.put_first(recalled);
        self.settle(now);
    }
}

impl MemberEntry {
    /// The check that its application does not come to the end of.
    fn lost_check(&self) -> Option<StreamId> {
        self.lost_check.filter(|stream| self.link.is_inside(*stream))
    }
}
