//! Where the workers are: what they tell about their threads and tasks, joined with the requests that these serve.

use super::commands::{Commands, Last, failed};
use super::signals::Wish;
use crate::control::protocol::{self, Reply, Stack, WorkerStacks};
use crate::roster::WorkerNumber;
use crate::supervisor::{self, Demand, Testimony};
use crate::upstream::running::RunningRequest;
use tokio::sync::oneshot;

impl Commands {
    pub(super) async fn stacks(&self, worker: Option<WorkerNumber>) -> Last {
        let before = self.pool.running_requests();
        let (reply, answer) = oneshot::channel();
        self.wish(Wish::Other(Demand::Stacks(worker, reply)))?;
        let told = answer.await.map_err(|_| failed("the server is ending"))?;
        if let Some(worker) = worker.filter(|_| told.is_empty()) {
            return Err(failed(&format!("there is no worker {worker}")));
        }
        // Whoever has come or gone meanwhile may not be what was running when the worker looked.
        let mut requests = self.pool.running_requests();
        requests.retain(|now| before.iter().any(|then| (then.worker, then.stream) == (now.worker, now.stream)));
        Ok(Reply::Stacks { workers: told.into_iter().map(|testimony| joined(testimony, &requests)).collect() })
    }
}

fn joined(testimony: Testimony, requests: &[RunningRequest]) -> WorkerStacks {
    let Testimony { view, report } = testimony;
    let note = match &report {
        None => Some(format!("it cannot be asked while it is {}", view.state)),
        Some(report) if report.is_dump() && report.threads.is_empty() => Some("it did not answer".to_owned()),
        Some(report) if report.is_dump() => {
            Some("its interpreter did not answer: there are files, lines and functions, but no tasks".to_owned())
        }
        Some(_) => None,
    };
    let report = report.unwrap_or_default();
    let own = || requests.iter().filter(|request| request.worker == view.worker);
    let threads = report.threads.into_iter().map(|thread| {
        let request = own().find(|request| !request.is_asgi && request.thread == thread.ident);
        let name = if thread.name.is_empty() { format!("{:#x}", thread.ident) } else { thread.name };
        stack(name, request, thread.stack)
    });
    let tasks = report.tasks.into_iter().map(|task| {
        let request = own().find(|request| request.is_asgi && request.stream == task.stream);
        stack(task.name, request, task.stack)
    });
    let (threads, tasks) = (threads.collect(), tasks.collect());
    WorkerStacks { worker: view.worker, pid: view.pid, state: view.state.to_owned(), note, threads, tasks }
}

fn stack(name: String, request: Option<&RunningRequest>, frames: Vec<supervisor::Frame>) -> Stack {
    let request = request.map(|request| {
        let (method, path) = request.label.split_once(' ').unwrap_or(("", &request.label));
        protocol::RunningRequest {
            method: method.to_owned(),
            path: path.to_owned(),
            id: request.id.clone(),
            since: request.duration.as_secs_f64(),
        }
    });
    let frames = frames.into_iter();
    let frames =
        frames.map(|(file, line, function, source)| protocol::Frame { file, line, function, source }).collect();
    Stack { name, request, frames }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::{StackReport, Task, Thread, WorkerView};
    use std::time::Duration;

    fn request(worker: WorkerNumber, is_asgi: bool, label: &str) -> RunningRequest {
        let duration = Duration::from_secs(2);
        RunningRequest { worker, stream: 7, thread: 11, is_asgi, label: label.to_owned(), id: None, duration }
    }

    fn paths(stacks: &[Stack]) -> Vec<Option<&str>> {
        stacks.iter().map(|stack| stack.request.as_ref().map(|request| request.path.as_str())).collect()
    }

    #[test]
    fn who_serves_what() {
        let view = |worker| WorkerView {
            worker,
            pid: Some(9),
            generation: 1,
            state: "serving",
            age: Duration::ZERO,
            answered: 0,
        };
        let report = StackReport {
            threads: vec![Thread { ident: 11, ..Thread::default() }, Thread { ident: 12, ..Thread::default() }],
            tasks: vec![Task { stream: 7, name: "t".to_owned(), stack: Vec::new() }],
            ..StackReport::default()
        };
        let requests = [request(1, false, "GET /wsgi"), request(2, true, "GET /asgi")];
        let of = |worker| joined(Testimony { view: view(worker), report: Some(report.clone()) }, &requests);
        assert_eq!(paths(&of(1).threads), [Some("/wsgi"), None]);
        assert_eq!(paths(&of(1).tasks), [None]);
        assert_eq!(paths(&of(2).threads), [None, None], "the thread of an event loop serves no request by itself");
        assert_eq!(paths(&of(2).tasks), [Some("/asgi")]);
        assert_eq!(of(1).threads[0].name, "0xb");
        let silent = joined(Testimony { view: view(1), report: None }, &requests);
        assert!(silent.note.is_some() && silent.threads.is_empty());
    }
}
