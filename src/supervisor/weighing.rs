//! Measures the memory of workers and zygotes, where there is a budget for it.

use super::state::Memory;
use crate::roster::WorkerNumber;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Between two measurements.
const INTERVAL: Duration = Duration::from_secs(1);
/// The kernel looks at every page of a process, which takes a while for large ones: so many times that while is without.
const REST: u32 = 50;

/// See the module.
pub(super) struct Weighing {
    due: Instant,
    begun: Instant,
    running: Option<JoinHandle<Memory>>,
    /// Something has happened since it began.
    is_outdated: bool,
}

impl Weighing {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { due: now, begun: now, running: None, is_outdated: false }
    }

    /// What was measured so far is worth nothing: measure at once.
    pub(super) fn begin_anew(&mut self) {
        self.is_outdated = true;
    }

    /// Measures the processes when it is time. It may be dropped and called again; nothing is lost.
    pub(super) async fn next(&mut self, processes: impl Fn() -> Processes) -> Memory {
        loop {
            let running = if let Some(running) = &mut self.running {
                running
            } else {
                if !self.is_outdated {
                    tokio::time::sleep_until(self.due.into()).await;
                }
                self.is_outdated = false;
                self.begun = Instant::now();
                let processes = processes();
                self.running.insert(tokio::task::spawn_blocking(move || processes.measure()))
            };
            let memory = running.await.unwrap_or_default();
            self.running = None;
            self.due = (self.begun + INTERVAL).max(Instant::now() + self.begun.elapsed() * REST);
            if !self.is_outdated {
                return memory;
            }
        }
    }
}

/// The processes of workers and zygotes.
pub(super) struct Processes {
    pub(super) zygotes: Vec<u32>,
    pub(super) workers: Vec<(WorkerNumber, u32)>,
}

impl Processes {
    fn measure(self) -> Memory {
        let size = |pid| crate::sys::proportional_memory(pid).or_else(|| crate::sys::resident_memory(pid));
        let workers = self.workers.into_iter().filter_map(|(worker, pid)| Some((worker, size(pid)?)));
        Memory { workers: workers.collect(), zygotes: self.zygotes.into_iter().filter_map(size).sum() }
    }
}
