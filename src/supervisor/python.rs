//! Finds the Python interpreter for the workers and checks that it can load the worker extension.
//!
//! The order is: `--python`, the activated virtualenv, `.venv` beside the application, `python3` on the PATH. The first
//! one that is there is asked for its version; one that does not fit is an error, not a reason to go on searching:
//! serving from another interpreter than the one the user sees would be worse.

use serde::Deserialize;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The oldest version whose stable ABI has the buffer interface that the extension uses.
const OLDEST: (u32, u32) = (3, 11);
/// An interpreter answers within milliseconds; one on a network file system may take its time once.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// `site` and `.pth` files may print lines of their own before the answer.
const MARK: &str = "monoceros-probe ";
/// Must also run on the old versions that are to be recognised.
const PROBE: &str = "\
import sys, json
implementation = getattr(sys, 'implementation', None)
sys.stdout.write('\\nmonoceros-probe ' + json.dumps({
    'version': list(sys.version_info[:3]),
    'prefix': sys.prefix,
    'abi_flags': getattr(sys, 'abiflags', ''),
    'implementation': getattr(implementation, 'name', 'cpython'),
}) + '\\n')
";

/// The interpreter that runs the workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// As found, symbolic links not followed: the place of the link is what makes a virtualenv.
    pub path: PathBuf,
    pub version: Version,
    /// `sys.prefix`: the virtualenv, or the installation.
    pub prefix: PathBuf,
    pub source: Source,
}

impl fmt::Display for Interpreter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Python {} ({}, {})", self.version, self.path.display(), self.source)
    }
}

/// `sys.version_info` up to the micro version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Version(pub u32, pub u32, pub u32);

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Why this interpreter and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Requested,
    ActiveVirtualenv,
    ProjectVirtualenv,
    SearchPath,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Requested => "--python",
            Self::ActiveVirtualenv => "active virtualenv",
            Self::ProjectVirtualenv => ".venv beside the application",
            Self::SearchPath => "PATH",
        })
    }
}

/// Why no worker can be started. Always for the operator to mend.
#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    #[error("no Python interpreter was found: no active virtualenv, no {}/.venv, no python3 on the PATH", chdir.display())]
    NoneFound { chdir: PathBuf },
    #[error("{} does not exist ({origin})", path.display())]
    Missing { path: PathBuf, origin: Source },
    #[error("{} was not found on the PATH (--python)", name.display())]
    NotOnPath { name: PathBuf },
    #[error("{} cannot be reached ({origin})", path.display())]
    Unreachable { path: PathBuf, origin: Source, source: io::Error },
    #[error("{} is a directory ({origin}){}", path.display(), meant(inside.as_deref()))]
    Directory { path: PathBuf, origin: Source, inside: Option<PathBuf> },
    #[error("{} is not executable ({origin})", path.display())]
    NotExecutable { path: PathBuf, origin: Source },
    #[error("{} cannot be run", path.display())]
    Unrunnable { path: PathBuf, source: io::Error },
    #[error("{} did not tell its version within {} s", path.display(), PROBE_TIMEOUT.as_secs())]
    TimedOut { path: PathBuf },
    #[error("{} did not tell its version: it ended with {status}{}", path.display(), quoted(said))]
    NoAnswer { path: PathBuf, status: ExitStatus, said: String },
    #[error("monoceros needs Python {}.{} or newer; {} is {version}", OLDEST.0, OLDEST.1, path.display())]
    TooOld { path: PathBuf, version: Version },
    #[error("monoceros needs CPython; {} is {implementation}", path.display())]
    OtherImplementation { path: PathBuf, implementation: String },
    #[error("monoceros needs a CPython with the GIL; {} is the free-threaded build of {version}", path.display())]
    FreeThreaded { path: PathBuf, version: Version },
}

impl PythonError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoneFound { .. } => "install Python 3.11 or newer, activate a virtualenv, or pass --python",
            Self::Missing { origin: Source::Requested, .. } | Self::NotOnPath { .. } | Self::Directory { .. } => {
                "pass the path of a Python program: --python .venv/bin/python"
            }
            Self::Missing { .. } => "make the virtualenv anew, or pass --python",
            Self::Unreachable { .. } => {
                "this user may not enter a directory on the way, or the interpreter that the virtualenv was made from lies \
                 in the home of another one: `namei -l` with the path shows it"
            }
            Self::NotExecutable { .. } | Self::Unrunnable { .. } | Self::TimedOut { .. } | Self::NoAnswer { .. } => {
                "see whether it starts by itself, or pass another one with --python"
            }
            Self::TooOld { .. } | Self::OtherImplementation { .. } | Self::FreeThreaded { .. } => {
                "activate a virtualenv or pass --python"
            }
        }
    }
}

fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(" and said: {said}") }
}

fn meant(inside: Option<&Path>) -> String {
    inside.map_or_else(String::new, |program| format!("; did you mean {}?", program.display()))
}

/// Where to look.
#[derive(Debug)]
pub struct Search<'a> {
    /// `--python`: a path, or a name to look up on the PATH.
    pub requested: Option<&'a Path>,
    /// The directory of the application, which may hold `.venv`.
    pub chdir: &'a Path,
    /// `$VIRTUAL_ENV`.
    pub virtualenv: Option<&'a OsStr>,
    /// `$PATH`.
    pub search_path: Option<&'a OsStr>,
}

/// Finds the interpreter with this process's environment, and asks it for its version.
pub fn find(requested: Option<&Path>, chdir: &Path) -> Result<Interpreter, PythonError> {
    let (virtualenv, search_path) = (std::env::var_os("VIRTUAL_ENV"), std::env::var_os("PATH"));
    find_in(&Search { requested, chdir, virtualenv: virtualenv.as_deref(), search_path: search_path.as_deref() })
}

/// Finds the interpreter, and asks it for its version. Blocks for as long as that takes, 10 s at most.
pub fn find_in(search: &Search<'_>) -> Result<Interpreter, PythonError> {
    let (path, source) = choose(search)?;
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => {
            let inside = Some(path.join("bin/python")).filter(|program| is_executable(program));
            return Err(PythonError::Directory { path, origin: source, inside });
        }
        Ok(_) => {}
        Err(error) if is_absence(&error) => return Err(PythonError::Missing { path, origin: source }),
        Err(error) => return Err(PythonError::Unreachable { path, origin: source, source: error }),
    }
    if !is_executable(&path) {
        return Err(PythonError::NotExecutable { path, origin: source });
    }
    let answer = probe(&path, PROBE_TIMEOUT)?;
    judge(path, source, answer)
}

fn choose(search: &Search<'_>) -> Result<(PathBuf, Source), PythonError> {
    if let Some(requested) = search.requested {
        let path = if requested.components().count() > 1 {
            requested.to_owned()
        } else {
            on_path(requested, search.search_path)
                .ok_or_else(|| PythonError::NotOnPath { name: requested.to_owned() })?
        };
        return Ok((path, Source::Requested));
    }
    if let Some(virtualenv) = search.virtualenv.filter(|virtualenv| !virtualenv.is_empty()) {
        return Ok((Path::new(virtualenv).join("bin/python"), Source::ActiveVirtualenv));
    }
    let project = search.chdir.join(".venv/bin/python");
    // A link that leads nowhere counts: it is a virtualenv whose interpreter was removed, and that is said then. So does
    // one that this user may not see.
    if project.symlink_metadata().map_or_else(|error| !is_absence(&error), |_| true) {
        return Ok((project, Source::ProjectVirtualenv));
    }
    let found = ["python3", "python"].iter().find_map(|name| on_path(Path::new(name), search.search_path));
    found
        .map(|path| (path, Source::SearchPath))
        .ok_or_else(|| PythonError::NoneFound { chdir: search.chdir.to_owned() })
}

fn on_path(name: &Path, search_path: Option<&OsStr>) -> Option<PathBuf> {
    std::env::split_paths(search_path?).map(|directory| directory.join(name)).find(|path| is_executable(path))
}

/// Whether nothing is there; otherwise it is out of reach.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// What an interpreter says about itself.
#[derive(Debug, Clone, Deserialize)]
struct Answer {
    version: Version,
    prefix: PathBuf,
    abi_flags: String,
    implementation: String,
}

fn judge(path: PathBuf, source: Source, answer: Answer) -> Result<Interpreter, PythonError> {
    let version = answer.version;
    if !answer.implementation.eq_ignore_ascii_case("cpython") {
        return Err(PythonError::OtherImplementation { path, implementation: answer.implementation });
    }
    if (version.0, version.1) < OLDEST {
        return Err(PythonError::TooOld { path, version });
    }
    // Free-threaded builds have an ABI of their own and cannot load an abi3 extension.
    if answer.abi_flags.contains('t') {
        return Err(PythonError::FreeThreaded { path, version });
    }
    Ok(Interpreter { path, version, prefix: answer.prefix, source })
}

fn probe(path: &Path, timeout: Duration) -> Result<Answer, PythonError> {
    let deadline = Instant::now() + timeout;
    let unrunnable = |source| PythonError::Unrunnable { path: path.to_owned(), source };
    // Isolated: neither a json.py in this directory nor PYTHONPATH may answer in place of the interpreter.
    let mut child = Command::new(path)
        .args(["-I", "-c", PROBE])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(unrunnable)?;
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let outputs = within(&stdout, deadline).zip(within(&stderr, deadline));
    let status = outputs.is_some().then(|| wait(&mut child, deadline).map_err(unrunnable)).transpose()?.flatten();
    let (Some((stdout, stderr)), Some(status)) = (outputs, status) else {
        // It may have ended just now; then there is nothing to kill, and waiting is short in both cases.
        let _ = child.kill();
        let _ = child.wait();
        return Err(PythonError::TimedOut { path: path.to_owned() });
    };
    let answer = stdout.lines().find_map(|line| serde_json::from_str(line.strip_prefix(MARK)?).ok());
    answer.ok_or_else(|| {
        let said = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned();
        PythonError::NoAnswer { path: path.to_owned(), status, said }
    })
}

/// Reads an output to its end on a thread of its own, so that neither a full pipe nor a silent program can block.
fn collect(output: Option<impl Read + Send + 'static>) -> Receiver<String> {
    /// An answer is a few hundred bytes; a program that is no Python may print without end.
    const OUTPUT_MAX: u64 = 64 << 10;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(output) = output {
            // What could be read before an error is all there is.
            let _ = output.take(OUTPUT_MAX).read_to_end(&mut bytes);
        }
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

fn within(output: &Receiver<String>, deadline: Instant) -> Option<String> {
    output.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
}

/// Its outputs are closed, so it ends in a moment, if it ends.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        match child.try_wait()? {
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            status => return Ok(status),
        }
    }
}

#[cfg(test)]
#[path = "python_tests.rs"]
mod tests;
