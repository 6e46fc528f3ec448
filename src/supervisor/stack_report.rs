//! Pure: what a worker told about its stacks, in its own words or in those of `faulthandler`, and which of them belong to a
//! request.

use crate::roster::LateRequest;
use serde::Deserialize;

/// One line of a stack: file, line, function, source.
pub type Frame = (String, u32, String, String);

/// What a worker told. Stacks have their outermost line first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct StackReport {
    pub threads: Vec<Thread>,
    pub tasks: Vec<Task>,
    /// How many times the event loop had looked at its link; `None` in the words of `faulthandler`.
    #[serde(default)]
    pub turns: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Thread {
    /// As `threading.get_ident()` names it.
    pub ident: u64,
    #[serde(default)]
    pub name: String,
    pub is_main: bool,
    pub stack: Vec<Frame>,
}

/// An asyncio task of a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Task {
    pub stream: u32,
    #[serde(default)]
    pub name: String,
    pub stack: Vec<Frame>,
}

/// The last whole line of JSON in what came out of the pipe.
pub(super) fn told(text: &[u8]) -> Option<StackReport> {
    let (whole, _) = text.split_at(memchr::memrchr(b'\n', text)? + 1);
    let lines = whole.split(|byte| *byte == b'\n').rev();
    lines.filter_map(|line| serde_json::from_slice::<StackReport>(line).ok()).map(StackReport::without_boot).next()
}

/// What `faulthandler` wrote: threads with the innermost line first, the main thread last.
pub(super) fn dumped(text: &[u8]) -> StackReport {
    let text = String::from_utf8_lossy(text);
    let mut threads: Vec<Thread> = Vec::new();
    for line in text.lines() {
        let head = line.strip_prefix("Current thread 0x").or_else(|| line.strip_prefix("Thread 0x"));
        if let Some(ident) = head.and_then(|rest| u64::from_str_radix(rest.split([' ', ':']).next()?, 16).ok()) {
            threads.push(Thread { ident, ..Thread::default() });
        } else if let Some(frame) = frame(line.trim())
            && let Some(thread) = threads.last_mut()
        {
            thread.stack.insert(0, frame);
        }
    }
    if let Some(main) = threads.last_mut() {
        main.is_main = true;
    }
    StackReport { threads, ..StackReport::default() }.without_boot()
}

/// `File "/srv/app.py", line 3 in view`
fn frame(line: &str) -> Option<Frame> {
    let (file, rest) = line.strip_prefix("File \"")?.rsplit_once("\", line ")?;
    let (number, function) = rest.split_once(" in ")?;
    Some((file.to_owned(), number.parse().ok()?, function.to_owned(), String::new()))
}

impl StackReport {
    /// The script that started the worker stands under everything in its main thread, and tells nobody anything.
    fn without_boot(mut self) -> Self {
        for thread in self.threads.iter_mut().filter(|thread| thread.is_main) {
            if thread.stack.first().is_some_and(|(file, _, function, _)| file == "<string>" && function == "<module>") {
                thread.stack.remove(0);
            }
        }
        self
    }

    /// The stack of a request as lines of a traceback, with a title each; empty where it is not among them.
    pub(super) fn of(&self, request: &LateRequest) -> Vec<String> {
        let mut lines = Vec::new();
        if request.is_asgi {
            for task in self.tasks.iter().filter(|task| task.stream == request.stream) {
                push(&mut lines, "its task", &task.stack);
            }
            // What the loop's own thread does is what keeps all tasks waiting.
            lines.extend(self.of_event_loop());
        } else {
            for thread in self.threads.iter().filter(|thread| thread.ident == request.thread) {
                push(&mut lines, "its thread", &thread.stack);
            }
        }
        lines
    }

    fn of_event_loop(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for thread in self.threads.iter().filter(|thread| thread.is_main) {
            push(&mut lines, "the event loop", &thread.stack);
        }
        lines
    }

    /// What blocks the event loop, in such lines; empty if it had turned meanwhile and is somewhere else.
    pub(super) fn of_stall(&self, turns: u64) -> Vec<String> {
        if self.turns.is_some_and(|now| now != turns) { Vec::new() } else { self.of_event_loop() }
    }

    /// Its interpreter did not get to answer: there are threads, but no tasks, and no names.
    pub fn is_dump(&self) -> bool {
        self.turns.is_none()
    }
}

fn push(lines: &mut Vec<String>, title: &str, stack: &[Frame]) {
    if stack.is_empty() {
        return;
    }
    lines.push(format!("{title}, most recent call last:"));
    for (file, number, function, source) in stack {
        lines.push(format!("  File \"{file}\", line {number}, in {function}"));
        if !source.is_empty() {
            lines.push(format!("    {source}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roster::LateEnd;
    use std::time::Duration;

    fn late(is_asgi: bool) -> LateRequest {
        LateRequest {
            label: "GET /".to_owned(),
            id: None,
            duration: Duration::ZERO,
            stream: 7,
            thread: 0x7f01,
            is_asgi,
            end: LateEnd::Answered,
        }
    }

    #[test]
    fn a_dump_has_the_stack_of_each_thread() {
        let text = b"Thread 0x0000000000007f01 (most recent call first):\n  File \"/a b.py\", line 3 in inner\n  \
            File \"/a b.py\", line 9 in outer\n\nCurrent thread 0x0000000000007f02 [main] (most recent call first):\n  \
            File \"/m.py\", line 1 in <module>\n  File \"<string>\", line 36 in <module>\n";
        let report = dumped(text);
        let lines = report.of(&late(false));
        let expected = [
            "its thread, most recent call last:",
            "  File \"/a b.py\", line 9, in outer",
            "  File \"/a b.py\", line 3, in inner",
        ];
        assert_eq!(lines, expected);
        assert_eq!(
            report.of(&late(true)),
            ["the event loop, most recent call last:", "  File \"/m.py\", line 1, in <module>"]
        );
        assert_eq!(dumped(b"\xff nonsense"), StackReport::default());
    }

    #[test]
    fn the_workers_own_words_are_found_behind_a_dump() {
        assert_eq!(told(b"Thread 0x1\n{\"threads\": ["), None, "not whole");
        let text = br#"Thread 0x1
{"threads":[{"ident":32513,"name":"x","is_main":true,"stack":[]}],"tasks":[{"stream":7,"name":"t","stack":[["/a.py",1,"f","await g()"]]}]}
"#;
        let lines = told(text).unwrap_or_default().of(&late(true));
        assert_eq!(lines, ["its task, most recent call last:", "  File \"/a.py\", line 1, in f", "    await g()"]);
    }

    #[test]
    fn a_stack_is_of_a_stall_only_while_the_loop_has_not_turned() {
        let text = br#"{"threads":[{"ident":1,"name":"MainThread","is_main":true,"stack":[["<string>",36,"<module>",""],["/a.py",1,"f",""]]}],"tasks":[],"turns":7}
"#;
        let report = told(text).unwrap_or_default();
        let expected = ["the event loop, most recent call last:", "  File \"/a.py\", line 1, in f"];
        assert_eq!(report.of_stall(7), expected);
        assert_eq!(report.of_stall(6), [""; 0]);
        let dump = dumped(b"Thread 0x1\n  File \"/a.py\", line 1 in f\n");
        assert_eq!(dump.of_stall(6), expected, "it was taken because the interpreter did not answer");
        assert!(dump.is_dump() && !report.is_dump());
    }
}
