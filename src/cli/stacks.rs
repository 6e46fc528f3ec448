//! Pure: the stacks of the workers as text.

use crate::control::protocol::{Stack, WorkerStacks};
use std::fmt::Write as _;

/// What `monoceros stacks` shows.
pub(super) fn text(workers: &[WorkerStacks]) -> String {
    if workers.is_empty() {
        return "there is no worker\n".to_owned();
    }
    let mut text = String::new();
    for worker in workers {
        // Writing to a string cannot fail.
        let pid = worker.pid.map_or_else(String::new, |pid| format!(", process {pid}"));
        let _ = writeln!(text, "worker {}{pid}, {}", worker.worker, worker.state);
        if let Some(note) = &worker.note {
            let _ = writeln!(text, "  ({note})");
        }
        for (kind, stacks) in [("task", &worker.tasks), ("thread", &worker.threads)] {
            for stack in stacks {
                push(&mut text, kind, stack);
            }
        }
        text.push('\n');
    }
    text
}

fn push(text: &mut String, kind: &str, stack: &Stack) {
    let _ = match &stack.request {
        Some(request) => {
            let id = request.id.as_ref().map(|id| format!(" (request {id})")).unwrap_or_default();
            let (method, path, since) = (&request.method, &request.path, request.since);
            writeln!(text, "  {method} {path}{id} for {since:.1} s, {kind} {}", stack.name)
        }
        None => writeln!(text, "  {kind} {}", stack.name),
    };
    if stack.frames.is_empty() {
        text.push_str("    (runs no Python code)\n");
    }
    for frame in &stack.frames {
        let _ = writeln!(text, "    File \"{}\", line {}, in {}", frame.file, frame.line, frame.function);
        if !frame.source.is_empty() {
            let _ = writeln!(text, "      {}", frame.source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::{Frame, RunningRequest};

    #[test]
    fn a_worker_with_a_request_and_an_idle_thread() {
        let request = RunningRequest {
            method: "GET".to_owned(),
            path: "/report".to_owned(),
            id: Some("7f3a".to_owned()),
            since: 12.34,
        };
        let frame = Frame {
            file: "/srv/views.py".to_owned(),
            line: 41,
            function: "report".to_owned(),
            source: "rows = fetch(query)".to_owned(),
        };
        let threads = vec![
            Stack { name: "MainThread".to_owned(), request: Some(request), frames: vec![frame] },
            Stack { name: "worker-1".to_owned(), request: None, frames: Vec::new() },
        ];
        let worker = WorkerStacks {
            worker: 3,
            pid: Some(4802),
            state: "serving".to_owned(),
            note: None,
            threads,
            tasks: Vec::new(),
        };
        let expected = "worker 3, process 4802, serving\n  GET /report (request 7f3a) for 12.3 s, thread MainThread\n    \
            File \"/srv/views.py\", line 41, in report\n      rows = fetch(query)\n  thread worker-1\n    \
            (runs no Python code)\n\n";
        assert_eq!(text(&[worker]), expected);
    }
}
