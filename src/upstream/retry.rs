//! Requests that are given to another worker: after a death, and by the other signs of `--retry-on`.

use super::balance::Candidate;
use super::budget::{ALWAYS, PERIOD, Spending};
use super::cells::Orphan;
use super::error::{Cause, Reached};
use super::exchange::{Event, Exchange};
use super::failover::{self, Decision, Policy};
use super::obituary::End;
use super::pool::{Pool, State};
use super::sweep::Rhythm;
use crate::roster::WorkerNumber;
use std::sync::Arc;
use std::time::Duration;

/// A worker that takes up nothing for so long is none to wait for. A busy machine makes every worker pause for a while.
const STUCK_AFTER: Duration = Duration::from_secs(1);

impl Pool {
    /// Decides about a request whose worker is gone, and does what is decided, except that it does not queue it again.
    pub(super) fn bury(&self, state: &mut State, orphan: &Orphan, now: u64) -> End {
        let exchange = &orphan.exchange;
        if exchange.is_settled() {
            return End::Ended(exchange.fate());
        }
        let reached = match (exchange.reached(), orphan.entered_at) {
            (Reached::Answering, _) => Reached::Answering,
            (_, Some(_)) => Reached::Entered,
            (_, None) => Reached::Handed,
        };
        let settings = self.settings();
        let policy = &settings.failover;
        let decision = failover::decide(Cause::WorkerDied, reached, exchange.traits(now), policy);
        let may_retry = decision == Decision::Retry && !state.is_closed;
        let is_paid = may_retry && (reached < Reached::Entered || state.spend(policy, now));
        if is_paid && exchange.unbind_after_death(reached) {
            exchange.queue_again(now);
            return End::GivenToAnother;
        }
        if reached == Reached::Entered {
            exchange.set_entered();
        }
        // It was not executed, and would have been given to another worker if the server were not stopping.
        let is_untouched = decision == Decision::Retry && reached == Reached::Handed && state.is_closed;
        exchange.fail(if is_untouched { Cause::Unavailable } else { Cause::WorkerDied });
        if reached == Reached::Answering { End::CutOff } else { End::Ended(exchange.fate()) }
    }

    /// The first thing that the application, or its end, has to say about a request, and of which the client has seen
    /// nothing: if it is a sign, and another worker serves, the request goes there, and whatever follows here goes nowhere.
    pub(super) fn reconsider(&self, exchange: &Arc<Exchange>, event: &Event) -> Option<Arc<Exchange>> {
        let settings = self.settings();
        let policy = &settings.failover;
        let cause = match event {
            Event::Head { payload, .. } => policy.signs.find_in(payload)?,
            // A death was decided about when it was seen.
            Event::Failed(error) if matches!(error.cause, Cause::Timeout | Cause::Raised | Cause::Incomplete) => {
                error.cause
            }
            _ => return None,
        };
        let now = self.now();
        let decision = failover::decide(cause, Reached::Entered, exchange.traits(now), policy);
        // The pieces of a streamed body go where the first one went.
        if decision != Decision::Retry || exchange.request.is_streamed() {
            return None;
        }
        let mut state = self.lock();
        let worker = exchange.last_worker();
        if state.is_closed || !state.others_serve(worker) || !state.spend(policy, now) {
            return None;
        }
        let again = Arc::new(exchange.again(cause, now));
        if !exchange.is_settled() {
            state.abandon(exchange, now);
        }
        state.queue.put_first(vec![Arc::clone(&again)]);
        state.settle(now);
        state.hasten(Rhythm::Slow);
        drop(state);
        let (label, worker) = (exchange.request.label(), worker.unwrap_or_default());
        tracing::info!("{label}: given to another worker, because {} worker {worker} (--retry-on)", said(cause));
        Some(again)
    }
}

/// What a sign was, up to the name of the worker.
fn said(cause: Cause) -> String {
    match cause {
        Cause::Unwanted(status) => format!("it was answered {status} by"),
        Cause::Timeout => "it took too long in".to_owned(),
        _ => "the application failed in".to_owned(),
    }
}

impl State {
    /// Whether a request that comes now is the next one. Those in the queue that wait for one certain worker less than
    /// the others do not keep it from that one.
    pub(super) fn is_next(&self) -> bool {
        self.queue.holds_only(|waiting| waiting.avoids.is_some())
    }

    /// The worker that this request is not to have: as long as another one serves.
    pub(super) fn avoided(&self, exchange: &Exchange) -> Option<WorkerNumber> {
        exchange.avoids.filter(|_| self.others_serve(exchange.avoids))
    }

    fn others_serve(&self, than: Option<WorkerNumber>) -> bool {
        self.members.iter().any(|member| {
            let is_other = Some(member.link.worker()) != than;
            is_other && member.may_get() && member.waited < STUCK_AFTER
        })
    }

    /// One more try of a request that was entered, if there may be one.
    fn spend(&mut self, policy: &Policy, now: u64) -> bool {
        match self.budget.spend(policy.budget, now) {
            Spending::Granted => true,
            Spending::Refused { is_news } => {
                if is_news {
                    tracing::warn!(
                        "too many requests had to be tried again in the last {PERIOD} s (more than {} %, and more than \
                         {ALWAYS}): the next failures are answered as they are (--retry-budget)",
                        policy.budget
                    );
                }
                false
            }
        }
    }
}

impl Candidate {
    /// Gets nothing if it is to be avoided.
    pub(super) fn unless(self, is_avoided: bool) -> Self {
        if is_avoided { Self { slots: 0, ahead: 0, ..self } } else { self }
    }
}
