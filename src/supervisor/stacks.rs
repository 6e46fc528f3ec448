//! Asks a worker where it is: for the log, when a request is late or an event loop is blocked, and for whoever asks.

use super::stack_report::{StackReport, dumped, told};
use super::zygote::Orders;
use crate::roster::{LateEnd, LateRequest, WorkerNumber};
use monoceros_wire::zygote::{Command as Order, SIGNAL_DUMP, SIGNAL_STACKS};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// For the interpreter to get to the signal. After it the dump is taken, which does not need the interpreter.
const ANSWER_TIME: Duration = Duration::from_millis(800);
/// For the dump, which is written at once.
const DUMP_TIME: Duration = Duration::from_millis(600);
/// A dump has no end; it is over when nothing has come for this long.
const DUMP_PAUSE: Duration = Duration::from_millis(100);
/// Longest report that is read, in bytes.
const REPORT_MAX: usize = 4 << 20;
/// Requests whose stacks are shown at a time; of more only the line is.
const SHOWN_MAX: usize = 10;

/// Why a worker is asked.
pub(super) enum Question {
    /// These requests are late.
    Late(Vec<LateRequest>),
    /// Its event loop is blocked, with so many requests in flight. `turns` tells later whether it still is.
    Stalled { duration: Duration, requests: u32, turns: u64 },
    /// It is so no longer, after so long. There is nothing to ask; it comes behind the words about the stall.
    Resumed { duration: Duration },
    /// Somebody wants to know.
    Asked(oneshot::Sender<StackReport>),
}

/// Questions for the task that asks one worker. It ends when this is dropped.
pub(super) type Asker = mpsc::UnboundedSender<Question>;

/// Begins to look after one worker; the returned end of the pipe is for it.
pub(super) fn attend(worker: WorkerNumber, orders: Orders) -> io::Result<(Asker, OwnedFd)> {
    let (receiver, sender) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    monoceros_wire::sys::set_nonblocking(&receiver, true)?;
    let pipe = pipe::Receiver::from_owned_fd(receiver)?;
    let (asker, mut questions) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut witness = Witness { worker, orders, pipe };
        while let Some(question) = questions.recv().await {
            let mut batch = vec![question];
            // One answer is for all that have come meanwhile.
            batch.extend(std::iter::from_fn(|| questions.try_recv().ok()));
            let must_ask = batch.iter().any(|question| !matches!(question, Question::Resumed { .. }));
            let report = if must_ask { witness.ask().await } else { StackReport::default() };
            answer(worker, batch, &report);
        }
    });
    Ok((asker, sender))
}

fn answer(worker: WorkerNumber, questions: Vec<Question>, report: &StackReport) {
    let mut explained = 0;
    for question in questions {
        match question {
            Question::Late(requests) => {
                for request in requests {
                    explain(worker, &request, report, explained < SHOWN_MAX);
                    explained += 1;
                }
            }
            Question::Stalled { duration, requests, turns } => tell_stall(worker, duration, requests, turns, report),
            Question::Resumed { duration } => {
                tracing::info!("the event loop of worker {worker} goes on after {:.1} s", duration.as_secs_f64());
            }
            Question::Asked(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(report.clone());
            }
        }
    }
}

fn tell_stall(worker: WorkerNumber, duration: Duration, requests: u32, turns: u64, report: &StackReport) {
    let lines = report.of_stall(turns);
    let end = if lines.is_empty() { "; what blocks it could not be found out" } else { ":" };
    let (duration, s) = (duration.as_secs_f64(), if requests == 1 { "" } else { "s" });
    tracing::warn!(
        "stall: the event loop of worker {worker} is blocked for {duration:.1} s, with {requests} request{s} in it{end}"
    );
    for line in lines {
        tracing::warn!("  {line}");
    }
}

struct Witness {
    worker: WorkerNumber,
    orders: Orders,
    pipe: pipe::Receiver,
}

impl Witness {
    async fn ask(&mut self) -> StackReport {
        // What came too late for the last one.
        let mut stale = [0; 4096];
        while matches!(self.pipe.try_read(&mut stale), Ok(1..)) {}
        let mut text = Vec::new();
        self.signal(SIGNAL_STACKS);
        let answer = async {
            while matches!(self.pipe.read_buf(&mut text).await, Ok(1..)) && text.len() < REPORT_MAX {
                if let Some(report) = told(&text) {
                    return Some(report);
                }
            }
            None
        };
        if let Ok(Some(report)) = timeout(ANSWER_TIME, answer).await {
            return report;
        }
        self.signal(SIGNAL_DUMP);
        let mut dump = Vec::new();
        let _ = timeout(DUMP_TIME, self.pipe.read_buf(&mut dump)).await;
        while dump.len() < REPORT_MAX && matches!(timeout(DUMP_PAUSE, self.pipe.read_buf(&mut dump)).await, Ok(Ok(1..)))
        {
        }
        told(&dump).unwrap_or_else(|| dumped(&dump))
    }

    fn signal(&self, signal: i32) {
        // Its end is noticed by the one who waits for it.
        let _ = self.orders.send(&Order::Signal { worker: self.worker, signal }, &[]);
    }
}

fn explain(worker: WorkerNumber, request: &LateRequest, report: &StackReport, is_shown: bool) {
    let LateRequest { label, id, duration, end, .. } = request;
    let id = id.as_ref().map(|id| format!(" (request {id})")).unwrap_or_default();
    let end = match end {
        LateEnd::Answered => "answered 504",
        LateEnd::CutOff => "its answer paused too long and is cut off",
        LateEnd::HadLeft => "its client had left",
    };
    let lines = if is_shown { report.of(request) } else { Vec::new() };
    let colon = if lines.is_empty() { "; where it is could not be found out" } else { ":" };
    let colon = if is_shown { colon } else { "" };
    tracing::error!("late: {label}{id} in worker {worker} for {:.1} s, {end}{colon}", duration.as_secs_f64());
    for line in lines {
        tracing::error!("  {line}");
    }
}
