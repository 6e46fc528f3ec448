//! Flags, environment, file and defaults become the `Settings` of each component.
//!
//! # Layout
//! - [`table`]: every option, once; flags, variables, keys of the file, help and reference are made from it
//! - [`definition`]: what a row of the table says
//! - [`layer`], [`file`]: one source of options, still as text, with the origin of each value
//! - [`combine`](combine()): which value of several wins
//! - `resolve`, `listening`, `certificates`, `failover`, `application`: text to settings, with all mistakes reported at once
//! - [`changes`]: which options have other values when the configuration is read again
//! - [`show`]: options in the form of the file
//! - [`bind`], [`duration`], [`size`]: the forms of single values
//! - [`error`]: what can be wrong
//! - [`Disk`]: what is asked about the disk
//! - [`reference`]: `docs/configuration.md` and `config/monoceros.toml`, written from the table
//!
//! Everything here is pure: the environment, the text of the file and a view of the disk are arguments.

pub mod application;
pub mod bind;
mod certificates;
pub mod changes;
pub mod combine;
pub mod definition;
mod disk;
pub mod duration;
pub mod error;
mod failover;
pub mod file;
mod files;
pub mod layer;
mod listening;
mod reader;
pub mod reference;
mod resolve;
pub mod show;
pub mod size;
mod sources;
pub mod table;
mod timeouts;

pub use disk::{Disk, DiskEntry, EmptyDisk, LocalDisk, Obstacle};

use crate::front::tls::DevelopmentCertificate;
use combine::{Combined, combine};
use definition::Key;
use error::{ConfigError, Warning};
use layer::{Environment, Given, Layer, Origin};
use std::path::{Path, PathBuf};

/// The settings of every component.
#[derive(Debug, Clone)]
pub struct Settings {
    pub front: crate::front::Settings,
    pub upstream: crate::upstream::Settings,
    pub supervisor: crate::supervisor::Settings,
    pub telemetry: crate::telemetry::Settings,
    pub control: crate::control::Settings,
    /// Make or reuse a certificate for this machine and add it to `front.tls`, whose list of certificates may be empty
    /// then (`--dev-cert`).
    pub development_certificate: Option<DevelopmentCertificate>,
}

/// The configuration file that is read when nothing names an application or another file.
pub const FILE_NAME: &str = "monoceros.toml";

/// Everything a configuration can come from.
#[derive(Debug, Default)]
pub struct Sources {
    /// From the command line.
    pub arguments: Layer,
    pub environment: Environment,
    /// Addresses of sockets that a service manager has opened, as a user would write them: served where none is named.
    pub activated: Vec<String>,
    /// The configuration file with its text.
    pub file: Option<(PathBuf, String)>,
}

/// What is around the program when it reads its configuration.
pub struct Surroundings<'a> {
    /// The working directory, absolute.
    pub directory: &'a Path,
    /// CPU cores that the program may use.
    pub cores: usize,
    /// Where this user's programs keep their data; some have no such place.
    pub data_directory: Option<&'a Path>,
    pub disk: &'a dyn Disk,
}

/// A configuration without mistakes.
#[derive(Debug)]
pub struct Resolved {
    pub settings: Settings,
    /// Every option with the value that counts and its origin.
    pub combined: Combined,
    pub warnings: Vec<Warning>,
}

/// Reads the configuration, or reports everything that is wrong with it, the file's mistakes first.
pub fn load(sources: &Sources, surroundings: &Surroundings<'_>) -> Result<Resolved, Vec<ConfigError>> {
    let (file, mut errors) = match &sources.file {
        Some((path, text)) => file::parse(path, text),
        None => (Layer::default(), Vec::new()),
    };
    let environment = layer::from_environment(&sources.environment);
    let activation = layer::from_activation(&sources.activated);
    let conventions = layer::from_conventions(&sources.environment);
    let mut combined = combine(&[&sources.arguments, &environment, &file, &activation, &conventions]);
    compute_defaults(&mut combined, surroundings.cores);
    match resolve::resolve(&combined, surroundings) {
        Ok((settings, mut warnings)) if errors.is_empty() => {
            warnings.extend(layer::suspicious_variables(&sources.environment));
            Ok(Resolved { settings, combined, warnings })
        }
        Ok(_) => Err(errors),
        // A file that is no TOML gave no values: what follows from their absence is no mistake of its own.
        Err(_) if errors.iter().any(|error| matches!(error.problem, error::Problem::Syntax { .. })) => Err(errors),
        Err(more) => {
            errors.extend(more);
            Err(errors)
        }
    }
}

/// Where a user's programs keep their data (XDG base directories).
pub fn data_directory(environment: &Environment) -> Option<PathBuf> {
    let absolute = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")))
}

/// Fills in the defaults that depend on the machine.
fn compute_defaults(combined: &mut Combined, cores: usize) {
    for (key, limit) in [(Key::Workers, table::WORKERS_MAX), (Key::FrontThreads, table::FRONT_THREADS_MAX)] {
        if combined.get(key).is_empty() {
            let text = (cores.max(1) as u64).min(limit).to_string();
            combined.set(key, vec![Given { text, origin: Origin::Default }]);
        }
    }
}
