//! Command line, subcommands, and how errors look on a terminal.
//!
//! The flags are made from the table of options in [`crate::config::table`]; clap fills in no defaults, so that a flag
//! that was not given leaves room for the environment and the file.

mod arguments;
mod check;
mod foreign;
mod remote;
pub mod report;
mod stacks;
mod trust;

pub use arguments::command;

use crate::config::error::{ConfigError, Problem};
use crate::config::layer::{CONFIG_VARIABLE, Environment, Layer};
use crate::config::{self, FILE_NAME, LocalDisk, Resolved, Settings, Sources, Surroundings};
use arguments::{Action, Invocation};
use report::{EXIT_CONFIGURATION, Report};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What the command line comes to.
#[derive(Debug)]
pub enum Command {
    /// Serve with these settings.
    Serve(Box<Resolved>),
    /// The settings were printed; check what only a start can tell.
    Check(Box<Settings>),
    /// There are mistakes in the configuration.
    Refused(Vec<ConfigError>),
    /// Everything is done, or nothing can be.
    Exit(ExitCode),
}

/// Reads the command line, the environment and the configuration file, with the addresses of sockets that a service manager
/// has opened, and does what does not need a server.
pub fn read(arguments: impl IntoIterator<Item = OsString>, activated: &[String]) -> Command {
    let mut report = Report::standard_error();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if remote::is_meant(&arguments) {
        return Command::Exit(remote::run(&arguments));
    }
    if trust::is_meant(&arguments) {
        return Command::Exit(trust::run(&arguments));
    }
    let invocation = match arguments::parse(&arguments) {
        Ok(invocation) => invocation,
        Err(error) => {
            let foreign = foreign::in_command_line(&error, &arguments);
            if !foreign.is_empty() {
                report.foreign(&foreign);
                return Command::Exit(ExitCode::from(EXIT_CONFIGURATION));
            }
            // A closed terminal is no reason to fail differently.
            let _ = error.print();
            return Command::Exit(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_CONFIGURATION)));
        }
    };
    let action = invocation.action;
    let resolved = match load(invocation, activated) {
        Ok(resolved) => resolved,
        Err(errors) => return Command::Refused(errors),
    };
    for warning in &resolved.warnings {
        report.warning(warning);
    }
    match action {
        Action::Serve => Command::Serve(Box::new(resolved)),
        Action::Check | Action::Print => {
            let written = std::io::stdout().write_all(check::describe(&resolved).as_bytes());
            match (written, action) {
                (Err(_), _) => Command::Exit(ExitCode::FAILURE),
                (Ok(()), Action::Check) => Command::Check(Box::new(resolved.settings)),
                (Ok(()), _) => Command::Exit(ExitCode::SUCCESS),
            }
        }
    }
}

/// Reads them again while the server runs.
pub fn read_again(
    arguments: impl IntoIterator<Item = OsString>,
    activated: &[String],
) -> Result<Resolved, Vec<ConfigError>> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let Ok(invocation) = arguments::parse(&arguments) else {
        // It was parsed at the start.
        return Err(vec![ConfigError::new(Problem::MissingApplication)]);
    };
    load(invocation, activated)
}

fn load(invocation: Invocation, activated: &[String]) -> Result<Resolved, Vec<ConfigError>> {
    let environment = environment();
    let directory = std::env::current_dir().map_err(|error| unreadable(Path::new("."), &error))?;
    let file = match configuration_file(&invocation, &environment, &directory) {
        None => None,
        Some(path) => match std::fs::read_to_string(directory.join(&path)) {
            Ok(text) => Some((path, text)),
            Err(error) => return Err(unreadable(&path, &error)),
        },
    };
    let data = config::data_directory(&environment);
    let sources = Sources { arguments: invocation.layer, environment, activated: activated.to_vec(), file };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    config::load(
        &sources,
        &Surroundings { directory: &directory, cores, data_directory: data.as_deref(), disk: &LocalDisk },
    )
}

/// Names and values that are not UTF-8 cannot be ours; `vars` would panic on them.
fn environment() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn unreadable(path: &Path, error: &std::io::Error) -> Vec<ConfigError> {
    let problem = Problem::FileUnreadable { path: path.to_owned(), reason: error.to_string() };
    vec![ConfigError::new(problem)]
}

/// The configuration file to read. `monoceros.toml` in the working directory counts only when no application is named:
/// a command line that says what to serve should not change its meaning with the directory it is run in.
fn configuration_file(invocation: &Invocation, environment: &Environment, directory: &Path) -> Option<PathBuf> {
    let variable = || environment.get(CONFIG_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    invocation.config_file.clone().or_else(variable).or_else(|| {
        let named = names_application(&invocation.layer, environment);
        (!named && directory.join(FILE_NAME).is_file()).then(|| PathBuf::from(FILE_NAME))
    })
}

fn names_application(layer: &Layer, environment: &Environment) -> bool {
    let app = config::definition::Key::App;
    layer.has(app) || config::layer::from_environment(environment).has(app)
}
