//! What is opened and checked before anything runs with a configuration: at the start, and when it is read again.

use super::problem::{StartError, StartProblem};
use crate::config::Settings;
use crate::front::error_pages::ErrorPages;
use crate::front::files::Files;
use crate::front::inherited::Inherited;
use crate::front::listener::Listeners;
use crate::front::tls::{self, Tls};
use crate::front::{Address, Audience, Bind, Purpose};
use crate::supervisor::python::{self, Interpreter};
use crate::telemetry::access::AccessLog;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// Everything but the listeners.
pub(super) struct Ground {
    /// Which interpreter, and how it is described.
    pub(super) python: (PathBuf, String),
    pub(super) files: Files,
    pub(super) error_pages: ErrorPages,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) access: AccessLog,
}

/// What is open already and need not be opened again.
#[derive(Default)]
pub(super) struct Present {
    pub(super) python: Option<(PathBuf, String)>,
    pub(super) access: Option<AccessLog>,
    /// Read again all the same; but clients can resume their sessions.
    pub(super) tls: Option<Arc<Tls>>,
}

/// Opens everything that can be wrong, and collects all that is. With problems there is nothing.
pub(super) fn open(settings: &mut Settings, present: Present, problems: &mut Vec<StartProblem>) -> Option<Ground> {
    let python = match present.python {
        Some(python) => Some(python),
        None => collect(find_python(settings).map_err(|error| vec![error]), problems),
    };
    if let Some(wanted) = &settings.development_certificate {
        let files = tls::development_certificate(wanted).map_err(|error| vec![error]);
        if let (Some(files), Some(tls)) = (collect(files, problems), &mut settings.front.tls) {
            tls.certificates.push(files);
        }
    }
    let tls = match &settings.front.tls {
        // Nothing to load: its absence was reported above.
        Some(tls) if tls.certificates.is_empty() && !problems.is_empty() => None,
        Some(tls) => collect(tls::load(tls, present.tls.as_deref(), SystemTime::now()), problems),
        None => None,
    };
    let files = collect(Files::open(&settings.front.files), problems);
    let error_pages = match &settings.front.error_pages {
        Some(directory) => collect(ErrorPages::read(directory), problems),
        None => Some(ErrorPages::default()),
    };
    let temporary = crate::sys::unnamed_file()
        .map_err(|source| vec![StartProblem::TemporaryFiles { directory: std::env::temp_dir(), source }]);
    collect(temporary, problems);
    let access = match present.access {
        Some(access) => Some(access),
        None => collect(
            AccessLog::open(&settings.telemetry).map_err(|error| vec![StartProblem::AccessLog(error)]),
            problems,
        ),
    };
    for warning in tls.iter().flat_map(|tls| &tls.warnings) {
        tracing::warn!("{warning}");
    }
    match (python, files, error_pages, access) {
        (Some(python), Some(files), Some(error_pages), Some(access)) if problems.is_empty() => {
            Some(Ground { python, files, error_pages, tls: tls.map(|loaded| loaded.tls), access })
        }
        _ => None,
    }
}

/// The same with the listeners, for clients and for operators; what was inherited and fits is taken out of `inherited`.
pub(super) fn prepare(
    settings: &mut Settings,
    inherited: &mut Vec<Inherited>,
) -> Result<(Ground, (Listeners, Listeners)), StartError> {
    let mut problems = Vec::new();
    let ground = open(settings, Present::default(), &mut problems);
    let mut bind =
        |binds: &[Bind], audience| Listeners::take_or_bind(binds, audience, settings.front.backlog, inherited);
    let clients = collect(bind(&settings.front.binds, Audience::Clients), &mut problems);
    let operators = collect(bind(&settings.front.admin_binds, Audience::Operators), &mut problems);
    match (ground, clients, operators) {
        (Some(ground), Some(clients), Some(operators)) => Ok((ground, (clients, operators))),
        _ => Err(StartError { problems }),
    }
}

fn find_python(settings: &Settings) -> Result<(PathBuf, String), python::PythonError> {
    let found: Interpreter = python::find(settings.supervisor.python.as_deref(), &settings.supervisor.chdir)?;
    let description = found.to_string();
    Ok((found.path, description))
}

pub(super) fn collect<T, P: Into<StartProblem>>(
    result: Result<T, Vec<P>>,
    problems: &mut Vec<StartProblem>,
) -> Option<T> {
    result.map_err(|errors| problems.extend(errors.into_iter().map(Into::into))).ok()
}

/// Says what listens where, and who will answer.
pub(super) fn announce(ground: &Ground, (clients, operators): (&Listeners, &Listeners), settings: &Settings) {
    for address in addresses(clients) {
        tracing::info!("listening on {address}");
    }
    for address in addresses(operators) {
        tracing::info!("for operators: {address}/-/status");
    }
    let workers = settings.supervisor.workers;
    let count = workers.at_the_start();
    let plural = if count == 1 { "" } else { "s" };
    let range = if workers.is_range() { format!(" of {workers}") } else { String::new() };
    tracing::info!("starting {count} worker{plural}{range} with {}", ground.python.1);
}

/// Says what the service manager has opened.
pub(super) fn announce_activation(sockets: &[Inherited]) {
    for (socket, name) in sockets.iter().filter_map(|socket| Some((socket, socket.name()?))) {
        let address = listening(socket.address(), Purpose::Http);
        tracing::info!("the service manager has opened {} ({name})", address.trim_start_matches("http://"));
    }
}

/// Says which of its sockets no address of the configuration fits: nobody will answer there.
pub(super) fn warn_of_unused(sockets: &[Inherited]) {
    for (socket, name) in sockets.iter().filter_map(|socket| Some((socket, socket.name()?))) {
        let address = listening(socket.address(), Purpose::Http);
        let address = address.trim_start_matches("http://");
        tracing::warn!(
            "nobody answers on {address} ({name}): the service manager has opened it, but --bind does not name it"
        );
    }
}

/// As users write them.
pub(super) fn addresses(listeners: &Listeners) -> impl Iterator<Item = String> {
    listeners.addresses().map(|(address, purpose)| listening(address, purpose))
}

fn listening(address: &Address, purpose: Purpose) -> String {
    let redirects = if matches!(purpose, Purpose::RedirectToHttps { .. }) { " (redirects to https)" } else { "" };
    let scheme = if purpose == Purpose::Https { "https" } else { "http" };
    match address {
        Address::Tcp(socket) => format!("{scheme}://{socket}{redirects}"),
        Address::Unix(path) => {
            let path = path.as_deref().map_or_else(String::new, |path| path.display().to_string());
            format!("unix:{path}{redirects}")
        }
    }
}
