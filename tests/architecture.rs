//! The walls of ARCHITECTURE.md, kept by a test: who may import whom, which files are pure, where `unsafe` is.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

/// A folder or file under `src/`, and the parts of the crate it must not name.
const WALLS: &[(&str, &[&str])] = &[
    ("front", &["supervisor", "config", "cli", "app"]),
    ("upstream", &["front", "supervisor", "config", "cli", "app"]),
    ("supervisor", &["front", "upstream", "config", "cli", "app"]),
    ("telemetry", &["front", "upstream", "supervisor", "config", "cli", "app", "roster"]),
    ("roster.rs", &["front", "upstream", "supervisor", "config", "cli", "app", "telemetry"]),
    ("sys", &["front", "upstream", "supervisor", "config", "cli", "app", "telemetry", "roster"]),
    ("config", &["app"]),
    ("control", &["front", "upstream", "supervisor", "config", "cli", "app", "roster"]),
];

/// Decisions without I/O: nothing here may look at a clock, a socket or a file.
const PURE: &[&str] = &[
    "upstream/balance.rs",
    "upstream/budget.rs",
    "upstream/ejection.rs",
    "upstream/failover.rs",
    "upstream/fairness.rs",
    "upstream/gauge.rs",
    "upstream/on_demand.rs",
    "upstream/signs.rs",
    "upstream/stall.rs",
    "upstream/timeouts.rs",
    "upstream/watch.rs",
    "supervisor/autoscale.rs",
    "supervisor/bounds.rs",
    "supervisor/state",
    "supervisor/stack_report.rs",
    "cli/stacks.rs",
    "front/bypass.rs",
    "front/cache/dictionary.rs",
    "front/cache/directives.rs",
    "front/cache/key.rs",
    "front/cache/preconditions.rs",
    "front/cache/rules.rs",
    "front/cache/status.rs",
    "front/cache/vary.rs",
    "front/gate",
    "front/tls/choice.rs",
    "front/tls/rules.rs",
    "front/negotiate.rs",
    "front/files/cache_control.rs",
    "front/files/fallback.rs",
    "front/files/glob.rs",
    "front/files/media_type.rs",
    "front/tls/subject.rs",
    "front/files/path.rs",
    "front/files/range.rs",
    "front/files/conditional.rs",
    "front/websocket/codec.rs",
    "front/websocket/handshake.rs",
];

const IMPURE: &[&str] =
    &["tokio::", "std::fs", "std::net", "std::env", "Instant::now", "SystemTime::now", "rustix::", "std::process"];

/// Files over this many lines are asking to be split.
const LINES_MAX: usize = 600;

fn sources(under: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![under.to_path_buf()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Code lines with their numbers, without comments and without the unit tests at the end of a file.
fn code_lines(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line.to_owned()))
        .collect()
}

fn is_test(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| ["tests", "simulation"].iter().any(|end| stem.to_string_lossy().ends_with(end)))
}

#[test]
fn nobody_reaches_over_a_wall() {
    let mut breaches = Vec::new();
    for (part, forbidden) in WALLS {
        for path in sources(&root().join("src").join(part)) {
            for (number, line) in code_lines(&path) {
                for other in *forbidden {
                    if line.contains(&format!("crate::{other}::")) || line.contains(&format!("crate::{other};")) {
                        breaches.push(format!("{}:{number}: {part} must not use {other}", path.display()));
                    }
                }
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn decisions_are_pure() {
    let mut breaches = Vec::new();
    for part in PURE {
        let files = sources(&root().join("src").join(part));
        assert!(!files.is_empty(), "{part} has moved: change the list");
        for path in files.into_iter().filter(|path| !is_test(path)) {
            for (number, line) in code_lines(&path) {
                for word in IMPURE {
                    if line.contains(word) {
                        breaches.push(format!("{}:{number}: {word} in a pure module", path.display()));
                    }
                }
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn unsafe_code_lives_in_sys() {
    let mut breaches = Vec::new();
    for folder in ["src", "crates/wire/src"] {
        for path in sources(&root().join(folder)) {
            let is_sys = path.components().any(|part| part.as_os_str() == "sys") || path.ends_with("sys.rs");
            for (number, line) in code_lines(&path) {
                if !is_sys && (line.contains("unsafe {") || line.contains("unsafe impl") || line.contains("unsafe fn"))
                {
                    breaches.push(format!("{}:{number}", path.display()));
                }
            }
        }
    }
    assert!(breaches.is_empty(), "unsafe outside sys: {}", breaches.join("\n"));
}

#[test]
fn the_wire_knows_neither_tokio_nor_python() {
    let manifest = fs::read_to_string(root().join("crates/wire/Cargo.toml")).unwrap();
    for word in ["tokio", "pyo3", "hyper"] {
        assert!(!manifest.contains(word), "crates/wire depends on {word}");
    }
    let manifest = fs::read_to_string(root().join("crates/worker/Cargo.toml")).unwrap();
    for word in ["tokio", "hyper", "monoceros = "] {
        assert!(!manifest.contains(word), "crates/worker depends on {word}");
    }
}

#[test]
fn every_file_says_what_it_is_and_none_is_too_long() {
    let mut breaches = Vec::new();
    for folder in ["src", "crates/wire/src", "crates/worker/src"] {
        for path in sources(&root().join(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            if !text.starts_with("//!") {
                breaches.push(format!("{} has no //! line at its top", path.display()));
            }
            let lines = code_lines(&path).len();
            if lines > LINES_MAX {
                breaches.push(format!("{} has {lines} lines of code", path.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn the_map_names_every_module() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut missing = Vec::new();
    for path in sources(&root().join("src")) {
        let relative = path.strip_prefix(root().join("src")).unwrap();
        let name = if relative.ends_with("mod.rs") { relative.parent().unwrap() } else { relative };
        let file = name.file_name().unwrap().to_string_lossy();
        if !is_test(&path) && !map.contains(file.as_ref()) {
            missing.push(name.display().to_string());
        }
    }
    assert!(missing.is_empty(), "ARCHITECTURE.md does not mention {}", missing.join(", "));
}
