//! Loads the application. The work is importing, inspecting and explaining Python, so it is written in Python
//! (`load.py`); this file is its typed face. `welcome.py` is an application of our own.

use monoceros_wire::message::{BootFailure, Interface};
use monoceros_wire::zygote::{InterfaceChoice, TRACEBACK_MAX, WorkerSettings};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyModule;

/// Names the application that comes with the program, for trying a server before there is another.
const WELCOME: &str = "monoceros.welcome";

/// An application that can be served.
#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) object: Py<PyAny>,
    pub(crate) interface: Interface,
}

/// Puts `settings.python_path` before `sys.path` and loads the application the settings name.
pub(crate) fn load(py: Python<'_>, settings: &WorkerSettings) -> Result<Application, BootFailure> {
    if settings.app == WELCOME {
        return welcome(py).map_err(|error| unexpected(py, &error));
    }
    let choice = interface_name(settings.interface);
    loader(py)
        .and_then(|module| {
            module.call_method1("load", (&settings.app, choice, settings.factory, settings.python_path.clone()))
        })
        .and_then(|result| outcome(&result))
        .unwrap_or_else(|error| Err(unexpected(py, &error)))
}

/// Finds out which interface an object speaks, without loading anything.
pub(crate) fn adopt(py: Python<'_>, app: Bound<'_, PyAny>, settings: &WorkerSettings) -> PyResult<Application> {
    let result = loader(py)?.call_method1("adopt", (app, interface_name(settings.interface)))?;
    outcome(&result)?.map_err(|failure| PyRuntimeError::new_err(format!("{} {}", failure.message, failure.hint)))
}

/// The application that comes with the program.
fn welcome(py: Python<'_>) -> PyResult<Application> {
    let code = const { c_text(concat!(include_str!("welcome.py"), "\0")) };
    let module = PyModule::from_code(py, code, c"<monoceros>", c"monoceros_welcome")?;
    module.add("PAGE", include_str!("../../../static/welcome.html"))?;
    Ok(Application { object: module.getattr("app")?.unbind(), interface: Interface::Wsgi })
}

fn loader(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    PyModule::from_code(py, const { c_text(concat!(include_str!("load.py"), "\0")) }, c"<monoceros>", c"monoceros_load")
}

/// The text of an included file as a C string; a NUL inside it would fail the build.
pub(crate) const fn c_text(text: &str) -> &std::ffi::CStr {
    match std::ffi::CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("it contains a NUL"),
    }
}

fn interface_name(choice: InterfaceChoice) -> &'static str {
    match choice {
        InterfaceChoice::Auto => "auto",
        InterfaceChoice::Wsgi => "wsgi",
        InterfaceChoice::Asgi => "asgi",
    }
}

/// `load.py` returns `(object, interface)` or `(stage, message, hint, traceback)`.
fn outcome(result: &Bound<'_, PyAny>) -> PyResult<Result<Application, BootFailure>> {
    if let Ok((object, interface)) = result.extract::<(Py<PyAny>, String)>() {
        let interface = if interface == "asgi" { Interface::Asgi } else { Interface::Wsgi };
        return Ok(Ok(Application { object, interface }));
    }
    let (stage, message, hint, traceback) = result.extract::<(String, String, String, String)>()?;
    Ok(Err(BootFailure { stage, message, hint, traceback: truncate_middle(&traceback) }))
}

/// Our own loader failed: that is our fault, and still must reach the supervisor as words.
fn unexpected(py: Python<'_>, error: &PyErr) -> BootFailure {
    let traceback = error.traceback(py).and_then(|traceback| traceback.format().ok()).unwrap_or_default();
    BootFailure {
        stage: "import".to_owned(),
        message: format!("the loader itself failed: {error}"),
        hint: "please report this as a bug of monoceros".to_owned(),
        traceback: truncate_middle(&traceback),
    }
}

/// Keeps head (where it began) and tail (the exception itself) of a text longer than [`TRACEBACK_MAX`].
fn truncate_middle(text: &str) -> String {
    const MARK: &str = "\n[… the middle of this traceback is left out …]\n";
    if text.len() <= TRACEBACK_MAX {
        return text.to_owned();
    }
    let half = (TRACEBACK_MAX - MARK.len()) / 2;
    let head = text.floor_char_boundary(half);
    let tail = text.ceil_char_boundary(text.len() - half);
    format!("{}{MARK}{}", &text[..head], &text[tail..])
}
