//! What the workers of the simulation do, and what becomes of them.

use super::worker::Held;
use super::world::{Happening, MICROSECOND, MILLISECOND, REQUEST_TIMEOUT, RETRIES, Way, World};
use crate::roster::WorkerNumber;
use crate::supervisor::state::{Event, GenerationNumber};
use monoceros_wire::message::Interface;

impl World {
    pub(super) fn turn(&mut self, number: WorkerNumber) {
        self.turning.remove(&number);
        let now = self.nanoseconds();
        let Some(mut process) = self.workers.remove(&number) else { return };
        if !process.is_hung {
            let bytes = self.pool.sent_to(number);
            for held in process.read(&bytes).cancelled {
                // A coroutine that hears of it mostly ends.
                if process.interface == Interface::Asgi && self.random.below(10) < 7 {
                    let goes = Happening::Goes { worker: number, held, how: Way::Raises, since: now };
                    self.plan_within(MICROSECOND, 20 * MILLISECOND, goes);
                }
            }
            while let Some(held) = process.enter(now) {
                self.entered(number, held);
            }
        }
        let leaves = process.may_leave() && !process.is_hung;
        self.workers.insert(number, process);
        if leaves {
            self.plan_within(MICROSECOND, MILLISECOND, Happening::Dies { worker: number, signal: 0 });
        }
    }

    pub(super) fn entered(&mut self, worker: WorkerNumber, held: Held) {
        let now = self.nanoseconds();
        self.note(|| format!("{:?} is entered in worker {worker}", held.number));
        let asked = &mut self.asked[held.number.0];
        asked.entered.push(worker);
        asked.entered_at = now;
        let most = if asked.is_post { 1 } else { 1 + RETRIES as usize };
        assert!(asked.entered.len() <= most, "{:?} ran {} times", held.number, asked.entered.len());
        assert_eq!(asked.outcome, None, "{:?} runs though nobody waits", held.number);
        let (how, most) = match self.random.below(1000) {
            _ if self.is_calm => (Way::Answers, MILLISECOND),
            0..8 => (Way::KillsTheWorker, 50 * MILLISECOND),
            // For ever, or longer than anybody waits.
            8..14 => (Way::Answers, 100 * REQUEST_TIMEOUT),
            14..60 => (Way::Raises, 5 * MILLISECOND),
            60..160 => (Way::BeginsToAnswer, 20 * MILLISECOND),
            160..260 => (Way::Answers, 100 * MILLISECOND),
            _ => (Way::Answers, MILLISECOND / 2),
        };
        self.plan_within(20 * MICROSECOND, most, Happening::Goes { worker, held, how, since: now });
    }

    pub(super) fn go(&mut self, worker: WorkerNumber, held: Held, how: Way, since: u64) {
        let now = self.nanoseconds();
        let Some(process) = self.workers.get_mut(&worker) else { return };
        if process.is_hung || !process.running.contains(&held) {
            return;
        }
        match how {
            Way::Answers => process.answer(held, true),
            Way::BeginsToAnswer => process.answer(held, false),
            Way::EndsItsAnswer => process.end_answer(held),
            Way::Raises => {
                self.asked[held.number.0].has_raised = true;
                process.abort(held);
            }
            Way::KillsTheWorker => return self.die(worker, 11),
        }
        if how == Way::BeginsToAnswer {
            let goes = Happening::Goes { worker, held, how: Way::EndsItsAnswer, since };
            self.plan_within(20 * MICROSECOND, 30 * MILLISECOND, goes);
        } else {
            process.finish(held, how == Way::Raises, now - since);
            self.plan_turn(worker);
        }
        self.plan_delivery(worker);
    }

    pub(super) fn plan_turn(&mut self, worker: WorkerNumber) {
        if self.turning.insert(worker) {
            self.plan_within(5 * MICROSECOND, 100 * MICROSECOND, Happening::Turns(worker));
        }
    }

    pub(super) fn plan_delivery(&mut self, worker: WorkerNumber) {
        if self.delivering.insert(worker) {
            self.plan_within(5 * MICROSECOND, 50 * MICROSECOND, Happening::Delivers(worker));
        }
    }

    pub(super) fn deliver(&mut self, worker: WorkerNumber) {
        self.delivering.remove(&worker);
        let process = self.workers.get_mut(&worker).or_else(|| self.last_words.get_mut(&worker));
        if let Some(frames) = process.map(|process| std::mem::take(&mut process.on_the_way)) {
            self.pool.receive(worker, frames);
        }
    }

    /// The process ends; what it has sent is still in its socket.
    pub(super) fn die(&mut self, worker: WorkerNumber, signal: i32) {
        let Some(process) = self.workers.remove(&worker) else { return };
        self.note(|| format!("worker {worker} dies ({signal})"));
        self.ever_died.insert(worker);
        let requests = process.page.answered();
        self.last_words.insert(worker, process);
        self.plan_within(MICROSECOND, 300 * MICROSECOND, Happening::LinkEnds(worker));
        self.plan_within(MICROSECOND, 3 * MILLISECOND, Happening::Reaped { worker, signal, requests });
    }

    pub(super) fn zygote_dies(&mut self, generation: GenerationNumber) {
        if !self.zygotes.remove(&generation) {
            return;
        }
        let own = self.workers.iter().filter(|(_, process)| process.generation == generation);
        for worker in own.map(|(worker, _)| *worker).collect::<Vec<_>>() {
            if let Some(process) = self.workers.remove(&worker) {
                self.ever_died.insert(worker);
                self.last_words.insert(worker, process);
                self.plan_within(MICROSECOND, 300 * MICROSECOND, Happening::LinkEnds(worker));
            }
        }
        self.tell(Event::ZygoteEnded { generation, failure: None, status: "was killed".to_owned() });
    }
}
