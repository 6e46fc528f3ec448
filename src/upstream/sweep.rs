//! The pool's housekeeping: deadlines, and requests that sit in a worker which does not take them up.
//!
//! Deadlines are swept, not armed: there is no timer per request.

use super::balance::{Place, RECALL_AFTER, is_worth_recalling};
use super::error::Cause;
use super::exchange::{Binding, Exchange};
use super::pool::{MemberEntry, MemberState, Pool, State};
use super::stall::{Limits, Sign};
use super::timeouts::Timeouts;
use super::watch::{Allowance, Look, Verdict};
use crate::roster::{LateEnd, LateRequest, Measurement, Report};
use monoceros_wire::frame::{Kind, LINK};
use std::sync::Arc;
use std::time::Duration;

/// How often deadlines are looked at while requests are on their way.
const DEADLINE_TICK: Duration = Duration::from_millis(50);

/// How often the pool is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rhythm {
    /// Nothing is on its way.
    #[default]
    Rest,
    /// For the deadlines.
    Slow,
    /// Something was handed over and not taken up.
    Quick,
}

impl Pool {
    /// Looks after deadlines and recalls, for ever.
    pub(super) async fn tick(self: Arc<Self>) {
        loop {
            match self.sweep(self.now()) {
                Rhythm::Rest => self.ticker.notified().await,
                Rhythm::Quick => tokio::time::sleep(RECALL_AFTER).await,
                Rhythm::Slow => {
                    // Whoever hands something over calls earlier.
                    let _ = tokio::time::timeout(DEADLINE_TICK, self.ticker.notified()).await;
                }
            }
        }
    }

    /// One look at everything. Returns how soon to look again.
    pub(super) fn sweep(&self, now: u64) -> Rhythm {
        let mut state = self.lock();
        let is_waiting = state.recall_from_slow(now);
        state.settle(now);
        if now >= state.deadlines_at {
            state.deadlines_at = now + DEADLINE_TICK.as_nanos() as u64;
            self.end_waiting(&mut state, now);
            self.end_overdue(&mut state, now);
            self.watch_event_loops(&mut state, now);
            self.call_if_empty(&state, now);
        }
        if let Some(measurement) = state.measure(now) {
            self.report(Report::Measured(measurement));
        }
        let is_busy = !state.queue.is_empty() || state.members.iter().any(MemberEntry::is_busy);
        // Whoever is slow may go on without a word to us.
        let is_held_up = !state.queue.is_empty() && state.members.iter().any(|member| member.is_slow);
        let has_news = state.gauge.as_ref().is_some_and(|gauge| gauge.has_news());
        state.rhythm = match (is_waiting || is_held_up, is_busy || has_news) {
            (true, _) => Rhythm::Quick,
            (false, true) => Rhythm::Slow,
            (false, false) => Rhythm::Rest,
        };
        state.rhythm
    }

    /// Ends what has waited too long for a worker.
    fn end_waiting(&self, state: &mut State, now: u64) {
        let limit = self.settings().queue_timeout.as_nanos() as u64;
        let counts = state.on_demand.counts() || state.members.iter().any(MemberEntry::is_serving);
        if limit > 0 && counts {
            let State { queue, on_demand, .. } = state;
            queue.expire(now, limit, |queued_at| on_demand.waits_since(queued_at));
        }
    }

    /// Tells the clients of requests that take too long, and the supervisor about their workers. Under the pool's lock,
    /// so that no request has moved on meanwhile.
    fn end_overdue(&self, state: &mut State, now: u64) {
        let settings = self.settings();
        let mut recalled = Vec::new();
        // What warms up has the time of `--boot-timeout`.
        let is_subject = |member: &&mut MemberEntry| member.is_busy() && member.state != MemberState::WarmingUp;
        for member in state.members.iter_mut().filter(is_subject) {
            recalled.extend(self.end_overdue_of(member, now, &settings.timeouts));
        }
        for exchange in &recalled {
            exchange.queue_again(now);
        }
        recalled.sort_by_key(|exchange| exchange.born);
        state.queue.put_first(recalled);
    }

    /// Finds event loops that do not turn.
    fn watch_event_loops(&self, state: &mut State, now: u64) {
        let settings = self.settings();
        for member in state.members.iter_mut().filter(|member| member.link.is_asgi()) {
            let (worker, requests) = (member.link.worker(), member.in_flight);
            // What warms up may load for long: nobody waits for it.
            let is_idle = requests == 0 || member.state == MemberState::WarmingUp;
            if is_idle && !member.pulse.is_stalled() {
                member.pulse.rest();
                continue;
            }
            let turns = member.link.turns();
            let timeout = settings.timeouts.answer.as_nanos() as u64;
            let allowance = member.link.allowance().unwrap_or(Allowance { limit: timeout, extended_to: 0 });
            let limits = Limits { stall: settings.stall_timeout, allowance };
            match member.pulse.feel(turns, now, limits) {
                Sign::Nothing => {}
                Sign::Ping => member.link.send(LINK, Kind::Ping, 0, &[]),
                Sign::Stalled { duration } => self.report(Report::Stalled { worker, duration, requests, turns }),
                Sign::Resumed { duration } => self.report(Report::Resumed { worker, duration }),
                Sign::Stuck => self.report(Report::Stuck { worker }),
            }
        }
    }

    /// Returns what the worker had not entered, if it may be about to be killed.
    fn end_overdue_of(&self, member: &mut MemberEntry, now: u64, timeouts: &Timeouts) -> Vec<Arc<Exchange>> {
        let (worker, is_asgi) = (member.link.worker(), member.link.is_asgi());
        let was_overdue = std::mem::take(&mut member.is_overdue);
        let (mut lost, mut late) = (0, Vec::new());
        let pause = timeouts.pause_of(is_asgi).as_nanos() as u64;
        for (exchange, verdict) in member.link.judge(now, pause) {
            let end = match verdict {
                Verdict::Fine => continue,
                Verdict::Overstays if is_asgi => {
                    lost += 1;
                    continue;
                }
                Verdict::Late => LateEnd::Answered,
                Verdict::Paused => LateEnd::CutOff,
                Verdict::Overstays => LateEnd::HadLeft,
            };
            member.is_overdue = true;
            if end != LateEnd::HadLeft {
                exchange.set_entered();
                exchange.fail(Cause::Timeout);
            }
            let Some(binding) = exchange.binding() else { continue };
            if exchange.note_late() {
                late.extend(describe(&exchange, &binding, end, now));
            }
            if end != LateEnd::HadLeft {
                binding.link.cancel(&binding, now);
            }
        }
        if !late.is_empty() {
            self.report(Report::Late { worker, requests: late });
        }
        if member.is_overdue {
            self.report(Report::Overdue { worker });
        } else if was_overdue && !is_asgi {
            self.report(Report::Returned { worker });
        }
        if lost > 0 && lost * 2 >= member.slots {
            self.report(Report::Leaking { worker, lost, slots: member.slots });
        }
        // A thread that is in the application takes nothing; there must be one that could.
        let look = member.link.look();
        let limit = timeouts.answer.as_nanos() as u64;
        if limit > 0 && look.inside < member.slots && look.waited(now, member.progress_at) > limit {
            self.report(Report::Stuck { worker });
        }
        if is_asgi || !member.is_overdue {
            return Vec::new();
        }
        let recalled = member.link.recall_all();
        member.in_flight = member.in_flight.saturating_sub(recalled.len() as u32);
        recalled
    }
}

/// What the log shall know about a late request. Its thread is marked in the page as one that is to be asked to return.
fn describe(exchange: &Exchange, binding: &Binding, end: LateEnd, now: u64) -> Option<LateRequest> {
    let cell = binding.link.ask(binding)?;
    Some(LateRequest {
        label: exchange.request.label(),
        id: exchange.request.id(),
        duration: Duration::from_nanos(now.saturating_sub(cell.entered_at)),
        stream: binding.stream,
        thread: cell.thread,
        is_asgi: binding.link.is_asgi(),
        end,
    })
}

impl State {
    /// What is due to be reported.
    fn measure(&mut self, now: u64) -> Option<Measurement> {
        let gauge = self.gauge.as_mut().filter(|gauge| gauge.is_due(now))?;
        let serving = self.members.iter().filter(|member| member.state == MemberState::Serving);
        let busy = serving.map(|member| member.in_flight.min(member.slots)).sum();
        let longest =
            self.queue.waiting_since().map_or(0, |since| now.saturating_sub(self.on_demand.waits_since(since)));
        let holds = |member: &MemberEntry| member.is_busy() && member.link.holds_clients();
        let is_used = self.on_demand.is_on()
            && (gauge.has_arrivals() || !self.queue.is_empty() || self.members.iter().any(holds));
        gauge.report(now, busy, self.queue.len() as u32, longest, is_used)
    }

    /// Takes back what sits in a worker that does not take it up. True when something waits in a worker.
    fn recall_from_slow(&mut self, now: u64) -> bool {
        let mut is_waiting = false;
        for member in &mut self.members {
            let look = if member.is_busy() { member.link.look() } else { Look::default() };
            member.observe(&look, now);
            is_waiting |= look.waiting_since.is_some();
        }
        if !is_waiting {
            return false;
        }
        let mut recalled = Vec::new();
        let places: Vec<Place> = self.members.iter().map(MemberEntry::place).collect();
        for index in 0..self.members.len() {
            let member = &mut self.members[index];
            if is_worth_recalling(&places, index) {
                let taken = member.link.recall_all();
                member.in_flight = member.in_flight.saturating_sub(taken.len() as u32);
                recalled.extend(taken);
            }
        }
        recalled.sort_by_key(|exchange| exchange.born);
        self.queue.put_first(recalled);
        true
    }
}

impl MemberEntry {
    /// Something of a request is in the worker.
    fn is_busy(&self) -> bool {
        self.in_flight > 0 || self.link.has_lingering() || self.is_overdue || self.pulse.is_stalled()
    }

    fn place(&self) -> Place {
        let slots = if self.may_get() { self.slots } else { 0 };
        Place { slots, in_flight: self.in_flight + self.link.occupied(), is_slow: self.is_slow, waited: self.waited }
    }

    /// Takes note of a look: whoever takes up nothing gets nothing more until it does.
    fn observe(&mut self, look: &Look, now: u64) {
        if look.has_moved {
            self.progress_at = now;
        }
        self.progress_at = self.progress_at.max(look.entered_at);
        self.waited = Duration::from_nanos(look.waited(now, self.progress_at));
        if self.waited > RECALL_AFTER {
            self.is_slow = true;
            self.slow_since = now;
        } else if self.progress_at > self.slow_since || (look.waiting_since.is_none() && look.inside < self.slots) {
            // It went on, or nothing of ours is left in it and a slot is free: it gets another chance.
            self.is_slow = false;
        }
    }
}
