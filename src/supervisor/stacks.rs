//! Asks a worker where it is, and writes into the log where a late request was.

use super::stack_report::{StackReport, dumped, told};
use super::zygote::Orders;
use crate::roster::{LateRequest, WorkerNumber};
use monoceros_wire::zygote::{Command as Order, SIGNAL_DUMP, SIGNAL_STACKS};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
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

/// Late requests to explain, for the task that asks their worker. It ends when this is dropped.
pub(super) type Explainer = mpsc::UnboundedSender<Vec<LateRequest>>;

/// Begins to look after one worker; the returned end of the pipe is for it.
pub(super) fn attend(worker: WorkerNumber, orders: Orders) -> io::Result<(Explainer, OwnedFd)> {
    let (receiver, sender) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    monoceros_wire::sys::set_nonblocking(&receiver, true)?;
    let pipe = pipe::Receiver::from_owned_fd(receiver)?;
    let (explainer, mut wanted) = mpsc::unbounded_channel::<Vec<LateRequest>>();
    tokio::spawn(async move {
        let mut witness = Witness { worker, orders, pipe };
        while let Some(mut requests) = wanted.recv().await {
            while let Ok(more) = wanted.try_recv() {
                requests.extend(more);
            }
            let report = witness.ask().await;
            for (number, request) in requests.iter().enumerate() {
                explain(worker, request, &report, number < SHOWN_MAX);
            }
        }
    });
    Ok((explainer, sender))
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
    let LateRequest { label, id, duration, is_answered, .. } = request;
    let id = id.as_ref().map(|id| format!(" (request {id})")).unwrap_or_default();
    let end = if *is_answered { "answered 504" } else { "its client had left" };
    let lines = if is_shown { report.of(request) } else { Vec::new() };
    let colon = if lines.is_empty() { "; where it is could not be found out" } else { ":" };
    let colon = if is_shown { colon } else { "" };
    tracing::error!("late: {label}{id} in worker {worker} for {:.1} s, {end}{colon}", duration.as_secs_f64());
    for line in lines {
        tracing::error!("  {line}");
    }
}
