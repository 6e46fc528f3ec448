//! Pure: how much memory the workers use, and for how many more there is room.

use super::{Supervisor, Worker, WorkerState};
use crate::roster::WorkerNumber;
use std::collections::BTreeMap;

/// Memory in use, in bytes, as somebody has measured it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    pub zygotes: u64,
    pub workers: BTreeMap<WorkerNumber, u64>,
}

/// Use and budget at one moment, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryUse {
    pub budget: u64,
    /// What all workers and zygotes use; for workers that boot at least what they will probably need.
    pub used: u64,
    /// What one more worker will probably need: as much as the largest one that serves. Zero: not known yet.
    pub one_more: u64,
}

/// What the machine knows about memory.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    measured: Memory,
    /// Of the largest worker; `None` until one was measured.
    largest: Option<u64>,
    /// Said already that more is used than the budget allows.
    is_exceeded: bool,
    /// Said already that there are fewer workers than wanted.
    pub(super) is_short: bool,
    /// Said already that the load needs more workers than there is memory for.
    pub(super) has_refused: bool,
}

impl Supervisor {
    /// Whether the workers have just begun to use more than they should.
    pub(super) fn note_memory(&mut self, measured: Memory) -> Option<MemoryUse> {
        let mut serving = self.workers.iter().filter(|(_, worker)| worker.is_serving()).peekable();
        if serving.peek().is_some() {
            let sizes = serving.filter_map(|(number, _)| measured.workers.get(number));
            // Where they cannot be measured they must not be kept from starting.
            self.ledger.largest = Some(sizes.max().copied().unwrap_or(0));
        }
        self.ledger.measured = measured;
        let memory = self.memory()?;
        let was_exceeded = std::mem::replace(&mut self.ledger.is_exceeded, memory.used > memory.budget);
        (self.ledger.is_exceeded && !was_exceeded).then_some(memory)
    }

    /// Use and budget, where there is a budget.
    pub fn memory(&self) -> Option<MemoryUse> {
        let budget = Some(self.policy.memory_budget).filter(|budget| *budget > 0)?;
        let one_more = self.ledger.largest.unwrap_or(0);
        let need = |(number, worker): (&WorkerNumber, &Worker)| {
            let measured = self.ledger.measured.workers.get(number).copied();
            match worker.state {
                WorkerState::Gone => 0,
                WorkerState::Booting { .. } => measured.unwrap_or(0).max(one_more),
                _ => measured.unwrap_or(one_more),
            }
        };
        let used = self.ledger.measured.zygotes + self.workers.iter().map(need).sum::<u64>();
        Some(MemoryUse { budget, used, one_more })
    }

    /// Further workers for which there is memory. `None`: how much one needs is not known yet.
    pub(super) fn memory_room(&self) -> Option<u32> {
        let Some(MemoryUse { budget, used, one_more }) = self.memory() else { return Some(u32::MAX) };
        let room = budget.saturating_sub(used).checked_div(self.ledger.largest.map(|_| one_more)?);
        Some(room.and_then(|room| u32::try_from(room).ok()).unwrap_or(u32::MAX))
    }

    /// The largest of some workers that serve: the one whose end makes most room.
    pub(super) fn largest(&self, which: impl Fn(&Worker) -> bool) -> Option<WorkerNumber> {
        let serving = self.workers.iter().filter(|(_, worker)| worker.is_serving() && which(worker));
        let size = |number: &WorkerNumber| self.ledger.measured.workers.get(number).copied().unwrap_or(0);
        // Of equal ones the oldest.
        serving.map(|(number, _)| *number).rev().max_by_key(size)
    }
}
