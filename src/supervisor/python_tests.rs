//! Tests of the search for an interpreter, with small shell scripts in the role of Python.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use tempfile::TempDir;

/// A directory to search in, with the scripts that a test puts there.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a shell script. Another process writes it: a file that this one has open for writing cannot be executed, and
    /// a test in another thread may just be forking.
    fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod 755 \"$0\"";
        assert!(Command::new("/bin/sh").arg("-c").arg(write).arg(&path).arg(body).status().unwrap().success());
        path
    }

    fn python(&self, name: &str, version: &str) -> PathBuf {
        self.script(name, &answering(version, "", "cpython"))
    }

    fn search<'a>(&'a self, search_path: &'a Path) -> Search<'a> {
        Search { requested: None, chdir: self.0.path(), virtualenv: None, search_path: Some(search_path.as_os_str()) }
    }
}

fn answering(version: &str, abi_flags: &str, implementation: &str) -> String {
    format!(
        "echo noise of a .pth file; echo 'monoceros-probe {{\"version\": [{}], \"prefix\": \"/p\", \"abi_flags\": \"{abi_flags}\", \"implementation\": \"{implementation}\"}}'",
        version.replace('.', ", ")
    )
}

#[test]
fn the_order_is_kept() {
    let place = Place::new();
    let bin = place.path("bin");
    let on_path = place.python("bin/python3", "3.11.0");
    let virtualenv = place.path("active");
    let active = place.python("active/bin/python", "3.12.0");
    let requested = place.python("special/python", "3.13.0");
    let found = |search: &Search<'_>| find_in(search).map(|found| (found.path, found.source)).unwrap();

    let mut search = place.search(&bin);
    assert_eq!(found(&search), (on_path.clone(), Source::SearchPath));
    let project = place.python(".venv/bin/python", "3.14.0");
    assert_eq!(found(&search), (project, Source::ProjectVirtualenv));
    search.virtualenv = Some(virtualenv.as_os_str());
    assert_eq!(found(&search), (active, Source::ActiveVirtualenv));
    search.requested = Some(&requested);
    assert_eq!(found(&search), (requested.clone(), Source::Requested));
    search.requested = Some(Path::new("python3"));
    assert_eq!(found(&search), (on_path, Source::Requested));
}

#[test]
fn what_does_not_fit_is_said_plainly() {
    let place = Place::new();
    let nothing = place.path("nothing");
    let cases = [
        (answering("3.9.18", "", "cpython"), "monoceros needs Python 3.11 or newer; PYTHON is 3.9.18"),
        (answering("2.7.18", "", "cpython"), "monoceros needs Python 3.11 or newer; PYTHON is 2.7.18"),
        (answering("3.11.13", "", "pypy"), "monoceros needs CPython; PYTHON is pypy"),
        (
            answering("3.14.0", "t", "cpython"),
            "monoceros needs a CPython with the GIL; PYTHON is the free-threaded build of 3.14.0",
        ),
        ("echo hello".to_owned(), "PYTHON did not tell its version: it ended with exit status: 0"),
        (
            "echo first >&2; echo 'No module named encodings' >&2; exit 1".to_owned(),
            "PYTHON did not tell its version: it ended with exit status: 1 and said: No module named encodings",
        ),
    ];
    for (place_in_list, (script, message)) in cases.into_iter().enumerate() {
        let path = place.script(&format!("{place_in_list}/python"), &script);
        let error = find_in(&Search { requested: Some(&path), ..place.search(&nothing) }).unwrap_err();
        assert_eq!(error.to_string(), message.replace("PYTHON", path.to_str().unwrap()));
        assert!(error.hint().contains("--python"));
    }
}

#[test]
fn what_is_not_there_is_said_plainly() {
    let place = Place::new();
    let nothing = place.path("nothing");
    let message =
        |search: &Search<'_>| find_in(search).unwrap_err().to_string().replace(place.0.path().to_str().unwrap(), "DIR");
    let mut search = place.search(&nothing);
    assert_eq!(
        message(&search),
        "no Python interpreter was found: no active virtualenv, no DIR/.venv, no python3 on the PATH"
    );
    let text = place.path("text");
    std::fs::write(&text, "not a program").unwrap();
    search.requested = Some(&text);
    assert_eq!(message(&search), "DIR/text is not executable (--python)");
    search.requested = Some(Path::new("python3.99"));
    assert_eq!(message(&search), "python3.99 was not found on the PATH (--python)");
    search.requested = Some(&nothing);
    assert_eq!(message(&search), "DIR/nothing does not exist (--python)");
    let virtualenv = place.path("venv");
    std::fs::create_dir(&virtualenv).unwrap();
    search.requested = Some(&virtualenv);
    assert_eq!(message(&search), "DIR/venv is a directory (--python)");
    place.python("venv/bin/python", "3.12.0");
    assert_eq!(message(&search), "DIR/venv is a directory (--python); did you mean DIR/venv/bin/python?");
    search.requested = None;
    search.virtualenv = Some(nothing.as_os_str());
    assert_eq!(message(&search), "DIR/nothing/bin/python does not exist (active virtualenv)");
    search.virtualenv = Some(OsStr::new(""));
    std::fs::create_dir_all(place.path(".venv/bin")).unwrap();
    std::os::unix::fs::symlink("/removed/python3.12", place.path(".venv/bin/python")).unwrap();
    assert_eq!(message(&search), "DIR/.venv/bin/python does not exist (.venv beside the application)");
}

#[test]
fn what_is_out_of_reach_is_not_missing() {
    let place = Place::new();
    let nothing = place.path("nothing");
    // A loop of links fails for root too, as a directory that may not be entered does for others.
    std::fs::create_dir(place.path(".venv")).unwrap();
    std::os::unix::fs::symlink("bin", place.path(".venv/bin")).unwrap();
    let error = find_in(&place.search(&nothing)).unwrap_err();
    assert!(matches!(error, PythonError::Unreachable { origin: Source::ProjectVirtualenv, .. }), "{error}");
    assert!(error.hint().contains("namei"));
    let path = place.path(".venv/bin/python");
    let error = find_in(&Search { requested: Some(&path), ..place.search(&nothing) }).unwrap_err();
    assert!(matches!(error, PythonError::Unreachable { origin: Source::Requested, .. }), "{error}");
}

#[test]
fn a_program_that_never_answers_is_given_up() {
    let place = Place::new();
    let path = place.script("python", "exec sleep 600");
    let error = probe(&path, Duration::from_millis(100)).unwrap_err();
    assert!(matches!(error, PythonError::TimedOut { .. }), "{error}");
}

#[test]
fn the_machines_own_python_answers() {
    let Some(python) = on_path(Path::new("python3"), std::env::var_os("PATH").as_deref()) else {
        return; // No Python on this machine: the other tests have covered what can be covered.
    };
    let answer = probe(&python, PROBE_TIMEOUT).unwrap();
    assert_eq!(answer.version.0, 3);
    assert!(answer.prefix.is_absolute());
}
