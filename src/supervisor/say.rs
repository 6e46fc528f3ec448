//! What the operator is told about the workers.

use super::state::{MemoryUse, Retirement, Saying};
use crate::roster::WorkerNumber;

/// Writes it to the log.
pub(super) fn say(saying: Saying) {
    match saying {
        Saying::Ready { .. } | Saying::Proven { .. } => {}
        Saying::WorkerReady { worker, pid } => tracing::info!("worker {worker} ready (pid {pid})"),
        Saying::WorkerGone { worker, how, next: None } => tracing::warn!("worker {worker} {how}; it is replaced"),
        Saying::WorkerGone { worker, how, next: Some(pause) } => {
            tracing::error!("worker {worker} {how} before it could serve; next try in {pause:.1?}");
        }
        Saying::WorkerBootFailed { failure, next } => {
            tracing::error!("a new worker could not load the application: {}; next try in {next:.1?}", failure.message);
            traceback(&failure.traceback);
        }
        Saying::BootTimeout { worker } => tracing::error!("worker {worker} was not ready in time and is killed"),
        Saying::Overdue { worker } => {
            tracing::warn!("worker {worker} did not answer in time (--timeout); its late threads are asked to return");
        }
        Saying::Returned { worker } => {
            tracing::info!("worker {worker} goes on serving: its late threads have returned");
        }
        Saying::Unreturned { worker } => {
            tracing::error!(
                "worker {worker} is killed and replaced: a late thread did not return when it was asked to"
            );
        }
        Saying::Stuck { worker } => {
            tracing::error!(
                "worker {worker} does not take up requests, or its event loop is blocked for too long; it is killed and \
                 what it held goes to others"
            );
        }
        Saying::Retired { worker, reason } => say_why(worker, reason),
        Saying::DrainOver { worker } => {
            tracing::warn!(
                "worker {worker} did not finish in time (--drain-timeout); what it still does is broken off"
            );
        }
        Saying::GraceOver { workers } => {
            let what = if workers == 1 { "1 worker" } else { &format!("{workers} workers") };
            tracing::warn!("{what} did not finish in time (--graceful-timeout); what still runs is broken off");
        }
        Saying::ZygoteLate { next } => {
            tracing::error!("the application was not imported in time (--boot-timeout); next try in {next:.1?}");
        }
        Saying::ZygoteGone { status, next } if next.is_zero() => {
            tracing::error!("the zygote {status}, and its workers with it; a new one starts");
        }
        Saying::ZygoteGone { status, next } => tracing::error!("the zygote {status}; a new one starts in {next:.1?}"),
        Saying::ForkFailed { message, next } => {
            tracing::error!("no worker could be forked: {message}; next try in {next:.1?}");
        }
        Saying::Scaled { from, to, reason: None } => tracing::info!("workers: {to} instead of {from}"),
        Saying::Scaled { from, to, reason: Some(reason) } => {
            tracing::info!("workers: {to} instead of {from} ({reason})");
        }
        Saying::NobodyCame { pause } => {
            tracing::error!("no worker: requests get 503; one that comes in {pause:.1?} or later tries again");
        }
        Saying::LeavesFirst { worker, memory } => {
            tracing::warn!("no memory for a spare ({}): worker {worker} leaves first", words(memory));
        }
        Saying::BeyondBudget { memory } => tracing::warn!(
            "no memory for another worker ({}), but without it nobody would serve: it starts nevertheless",
            words(memory)
        ),
        Saying::FewerThanWanted { there, wanted, memory } => {
            tracing::warn!("no memory for more workers ({}): {there} instead of {wanted}", words(memory));
        }
        Saying::BudgetExceeded { memory } => tracing::warn!(
            "the workers use {} MB, more than --memory-budget allows ({} MB): no more are started, but one always serves",
            memory.used >> 20,
            memory.budget >> 20
        ),
        Saying::FirstLoadFailed { failure, .. } => {
            tracing::error!("the application cannot be loaded: {}", failure.message);
            traceback(&failure.traceback);
            if !failure.hint.is_empty() {
                tracing::error!("hint: {}", failure.hint);
            }
            tracing::info!("waiting for a change of its files (--reload)");
        }
        Saying::ReloadBegun { generation } => {
            tracing::info!("reload: the application is loaded anew (generation {generation})");
        }
        Saying::ReloadDone { generation } => tracing::info!("reload: generation {generation} serves"),
        Saying::ReloadFailed { generation, failure } => {
            tracing::error!("reload: generation {generation} is given up, nothing changes: {}", failure.message);
            traceback(&failure.traceback);
            if !failure.hint.is_empty() {
                tracing::error!("hint: {}", failure.hint);
            }
        }
    }
}

/// Why a healthy worker is replaced.
fn say_why(worker: WorkerNumber, reason: Retirement) {
    match reason {
        Retirement::Requests(count) => tracing::info!("worker {worker} is replaced after {count} requests"),
        Retirement::Memory(bytes) => tracing::info!("worker {worker} is replaced: it uses {} MB", bytes >> 20),
        Retirement::Lifetime => tracing::info!("worker {worker} is replaced: its lifetime is over"),
        Retirement::Leaking => tracing::error!(
            "worker {worker} is replaced: requests whose clients have left do not end and hold its slots"
        ),
        Retirement::Sick => {
            tracing::error!("worker {worker} is replaced: it goes on failing its health checks (--check-path)");
        }
        Retirement::Asked => tracing::info!("worker {worker} is replaced, as asked"),
    }
}

fn words(memory: MemoryUse) -> String {
    let MemoryUse { budget, used, one_more } = memory;
    let megabytes = |bytes: u64| bytes.div_ceil(1 << 20);
    format!("{} MB of {} MB in use, one needs {} MB", megabytes(used), budget >> 20, megabytes(one_more))
}

fn traceback(text: &str) {
    for line in text.lines() {
        tracing::error!("  {line}");
    }
}
