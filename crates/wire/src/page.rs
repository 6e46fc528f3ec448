//! The page shared with one worker.
//!
//! Each request handed to a worker owns one **cell**. The cell's word is `stream id << 32 | phase` and moves only by
//! compare-and-swap, so front and worker always agree, without a system call, on the one question that decides about a
//! replay: *was the application entered?*
//!
//! ```text
//!            front                 worker                  worker
//!  Free ───────────────▶ Handed ───────────▶ Entered ───────────────▶ Finished
//!                          │                    │
//!                    front │ (recall)     front │ (client gone)
//!                          ▼                    ▼
//!                       Recalled            Cancelled ──────────▶ Finished
//!                          │ worker
//!                          ▼
//!                        Passed
//! ```
//! A recalled request is the front's again, whatever the worker does: the worker's swap `Handed → Entered` fails and it
//! drops the request silently. By `Recalled → Passed` the front sees that the worker has come past the frame of it. The
//! stream id in the word makes a reused cell harmless.

use crate::CELLS_MAX;
use crate::frame::StreamId;
use crate::sys::Mapping;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

const HEADER_WORDS: usize = 8;
const CELL_WORDS: usize = 6;
/// The word of the header that counts what the worker has answered.
const ANSWERED: usize = 2;
/// The word of the header that counts how many times an event loop has looked at the link.
const TURNS: usize = 3;
/// The word of a cell that is not zero while the thread that runs it is to be asked to return.
const ASKED: usize = 4;
/// The word of a cell with the time until which its application has asked for more, else zero.
const EXTENDED_TO: usize = 5;
const MAGIC: u64 = 0x6d6f_6e6f_6365_7273 ^ crate::VERSION as u64;

/// What happened to a request so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    Free = 0,
    /// Sent to the worker, the application was not called.
    Handed = 1,
    /// The application was called: from here on only idempotent requests may be replayed.
    Entered = 2,
    /// Taken back by the front before it was entered.
    Recalled = 3,
    /// Entered, and nobody waits for the answer any more.
    Cancelled = 4,
    /// The application returned.
    Finished = 5,
    /// Taken back, and the worker has come past the frame that handed it over.
    Passed = 6,
}

impl Phase {
    fn from_word(word: u64) -> Self {
        match word & 0xff {
            1 => Self::Handed,
            2 => Self::Entered,
            3 => Self::Recalled,
            4 => Self::Cancelled,
            5 => Self::Finished,
            6 => Self::Passed,
            _ => Self::Free,
        }
    }
}

fn is_inside(phase: Phase) -> bool {
    matches!(phase, Phase::Entered | Phase::Cancelled)
}

fn word(stream: StreamId, phase: Phase) -> u64 {
    u64::from(stream) << 32 | phase as u64
}

/// One cell as read at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    pub stream: StreamId,
    pub phase: Phase,
    /// `CLOCK_MONOTONIC` in nanoseconds when the application was entered, else zero.
    pub entered_at: u64,
    /// The thread that runs it, as `threading.get_ident()` names it, else zero.
    pub thread: u64,
    /// How long the application took in nanoseconds, else zero.
    pub service: u64,
    /// The application has asked for time until then, on the clock of `entered_at`, else zero.
    pub extended_to: u64,
}

/// The mapped page. Both sides hold one over the same memory file.
#[derive(Debug)]
pub struct Page {
    mapping: Mapping,
    cells: usize,
}

impl Page {
    /// Makes a page with `cells` cells (at most [`CELLS_MAX`]) and the memory file to hand to the worker.
    pub fn create(cells: usize) -> io::Result<(Self, OwnedFd)> {
        let cells = cells.clamp(1, CELLS_MAX);
        let bytes = (HEADER_WORDS + cells * CELL_WORDS) * 8;
        let file = crate::sys::memory_file("monoceros-page", bytes as u64)?;
        let page = Self { mapping: Mapping::shared(std::os::fd::AsFd::as_fd(&file), bytes)?, cells };
        page.words()[1].store(cells as u64, Ordering::Relaxed);
        page.words()[0].store(MAGIC, Ordering::Release);
        Ok((page, file))
    }

    /// Maps a page made by the other side.
    pub fn open(file: BorrowedFd<'_>) -> io::Result<Self> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not a monoceros page of this version");
        let bytes = usize::try_from(crate::sys::file_length(file)?).map_err(|_| invalid())?;
        if bytes < (HEADER_WORDS + CELL_WORDS) * 8 {
            return Err(invalid());
        }
        let mapping = Mapping::shared(file, bytes)?;
        let words = mapping.words();
        let cells = usize::try_from(words[1].load(Ordering::Relaxed)).map_err(|_| invalid())?;
        if words[0].load(Ordering::Acquire) != MAGIC
            || cells > CELLS_MAX
            || words.len() != HEADER_WORDS + cells * CELL_WORDS
        {
            return Err(invalid());
        }
        Ok(Self { mapping, cells })
    }

    pub fn cells(&self) -> usize {
        self.cells
    }

    fn words(&self) -> &[AtomicU64] {
        self.mapping.words()
    }

    fn cell(&self, index: u32) -> Option<&[AtomicU64]> {
        let start = HEADER_WORDS + index as usize * CELL_WORDS;
        self.words().get(start..start + CELL_WORDS)
    }

    /// Reads a cell; `None` when there is no such cell.
    pub fn read(&self, index: u32) -> Option<Cell> {
        let cell = self.cell(index)?;
        let state = cell[0].load(Ordering::Acquire);
        Some(Cell {
            stream: (state >> 32) as StreamId,
            phase: Phase::from_word(state),
            entered_at: cell[1].load(Ordering::Relaxed),
            thread: cell[2].load(Ordering::Relaxed),
            service: cell[3].load(Ordering::Acquire),
            extended_to: cell[EXTENDED_TO].load(Ordering::Relaxed),
        })
    }

    /// Front: the cell now belongs to `stream`, before the request frame is sent.
    pub fn hand(&self, index: u32, stream: StreamId) {
        if let Some(cell) = self.cell(index) {
            cell[1].store(0, Ordering::Relaxed);
            cell[2].store(0, Ordering::Relaxed);
            cell[3].store(0, Ordering::Relaxed);
            cell[ASKED].store(0, Ordering::Relaxed);
            cell[EXTENDED_TO].store(0, Ordering::Relaxed);
            cell[0].store(word(stream, Phase::Handed), Ordering::Release);
        }
    }

    /// Front: takes a request back. True when the worker can no longer enter it.
    pub fn recall(&self, index: u32, stream: StreamId) -> bool {
        self.swap(index, stream, Phase::Handed, Phase::Recalled)
    }

    /// Front: nobody waits for this answer any more.
    pub fn cancel(&self, index: u32, stream: StreamId) -> bool {
        self.swap(index, stream, Phase::Entered, Phase::Cancelled)
    }

    /// Front: the exchange is over, the cell may be used again.
    pub fn free(&self, index: u32) {
        if let Some(cell) = self.cell(index) {
            cell[0].store(0, Ordering::Release);
        }
    }

    /// Worker: about to call the application. False when the front has taken the request back: drop it. The time
    /// and the thread are stored first, so whoever sees `Entered` sees them too.
    pub fn enter(&self, index: u32, stream: StreamId, now: u64, thread: u64) -> bool {
        let Some(cell) = self.cell(index) else { return false };
        if cell[0].load(Ordering::Acquire) == word(stream, Phase::Handed) {
            cell[1].store(now, Ordering::Relaxed);
            cell[2].store(thread, Ordering::Relaxed);
            if self.swap(index, stream, Phase::Handed, Phase::Entered) {
                return true;
            }
        }
        self.swap(index, stream, Phase::Recalled, Phase::Passed);
        false
    }

    /// Worker: whether anybody still waits for the answer.
    pub fn is_cancelled(&self, index: u32, stream: StreamId) -> bool {
        self.cell(index).is_none_or(|cell| cell[0].load(Ordering::Relaxed) != word(stream, Phase::Entered))
    }

    /// Worker: the application of this request asks for time until then; it never gets less than it had. False when the
    /// request is over.
    pub fn extend(&self, index: u32, stream: StreamId, until: u64) -> bool {
        let Some(cell) = self.cell(index) else { return false };
        let state = cell[0].load(Ordering::Acquire);
        if (state >> 32) as StreamId != stream || !is_inside(Phase::from_word(state)) {
            return false;
        }
        cell[EXTENDED_TO].fetch_max(until, Ordering::Relaxed);
        true
    }

    /// Front: the application is to be asked to return; the worker looks at this when it gets a signal.
    pub fn ask(&self, index: u32) {
        if let Some(cell) = self.cell(index) {
            cell[ASKED].store(1, Ordering::Release);
        }
    }

    /// Worker: the threads that are to be asked to return; each is told once.
    pub fn take_asked(&self) -> Vec<u64> {
        let mut threads = Vec::new();
        for cell in self.all() {
            let is_inside = is_inside(Phase::from_word(cell[0].load(Ordering::Acquire)));
            if is_inside && cell[ASKED].swap(0, Ordering::AcqRel) != 0 {
                threads.push(cell[2].load(Ordering::Relaxed));
            }
        }
        threads
    }

    /// Worker: the request that this thread is in, as cell and stream.
    pub fn entered_by(&self, thread: u64) -> Option<(u32, StreamId)> {
        (0..).zip(self.all()).find_map(|(index, cell)| {
            let state = cell[0].load(Ordering::Acquire);
            let is_its = is_inside(Phase::from_word(state)) && cell[2].load(Ordering::Relaxed) == thread;
            is_its.then_some((index, (state >> 32) as StreamId))
        })
    }

    fn all(&self) -> impl Iterator<Item = &[AtomicU64]> {
        self.words().get(HEADER_WORDS..).unwrap_or_default().chunks_exact(CELL_WORDS)
    }

    /// Worker: how long the application took, in nanoseconds; stored before the last frame of the answer is sent, so
    /// that the front learns it without counting the time its own threads were busy.
    pub fn record_service(&self, index: u32, nanoseconds: u64) {
        if let Some(cell) = self.cell(index) {
            cell[3].store(nanoseconds, Ordering::Release);
        }
    }

    /// How many times the application has returned in this worker.
    pub fn answered(&self) -> u64 {
        self.words()[ANSWERED].load(Ordering::Relaxed)
    }

    /// How many times the event loop of this worker has looked at its link.
    pub fn turns(&self) -> u64 {
        self.words()[TURNS].load(Ordering::Relaxed)
    }

    /// Worker: the event loop looks at its link.
    pub fn note_turn(&self) {
        // Nobody else writes it.
        self.words()[TURNS].store(self.turns().wrapping_add(1), Ordering::Relaxed);
    }

    /// Worker: the application has returned, whether or not anybody still waited.
    pub fn finish(&self, index: u32, stream: StreamId) {
        self.words()[ANSWERED].fetch_add(1, Ordering::Relaxed);
        if !self.swap(index, stream, Phase::Entered, Phase::Finished) {
            self.swap(index, stream, Phase::Cancelled, Phase::Finished);
        }
    }

    fn swap(&self, index: u32, stream: StreamId, from: Phase, to: Phase) -> bool {
        self.cell(index).is_some_and(|cell| {
            cell[0].compare_exchange(word(stream, from), word(stream, to), Ordering::AcqRel, Ordering::Acquire).is_ok()
        })
    }
}
