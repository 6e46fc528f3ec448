//! The control socket of this process: when it is opened, and when it takes the place of its predecessor's.

use super::Stage;
use super::commands::Commands;
use super::problem::StartProblem;
use crate::control::server::Control;
use crate::control::{Settings, place};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// An open socket.
pub(super) struct Opened {
    control: Control,
    /// The name that it takes when this process serves; another one answers there until then.
    name: Option<PathBuf>,
    /// The name that it has while this process leaves because another one has taken its place.
    leaving: Option<PathBuf>,
}

/// Opens the socket. Where no place was named, a server without one is better than none.
pub(super) fn open(settings: &Settings, has_predecessor: bool) -> Result<Option<Opened>, StartProblem> {
    match settings {
        Settings::Off => Ok(None),
        Settings::At(path) => {
            let (place, name) = if has_predecessor { (aside(path), Some(path.clone())) } else { (path.clone(), None) };
            let control =
                Control::bind(&place).map_err(|source| StartProblem::Control { path: path.clone(), source })?;
            Ok(Some(Opened { control, name, leaving: None }))
        }
        Settings::Automatic => {
            let pid = std::process::id();
            let opened = place::prepare(&place::directories()).and_then(|directory| {
                let control = Control::bind(&place::socket_in(&directory, pid))?;
                Ok(Opened { control, name: None, leaving: Some(place::leaving_in(&directory, pid)) })
            });
            Ok(opened.inspect_err(|error| tracing::warn!("there is no control socket: {error}")).ok())
        }
    }
}

/// A name beside the one that is wanted.
fn aside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{}", std::process::id()));
    name.into()
}

impl Opened {
    /// Serves for ever; under its right name as soon as the server serves.
    pub(super) async fn serve(
        mut self,
        mut stages: watch::Receiver<Stage>,
        mut replaced: watch::Receiver<bool>,
        commands: Commands,
    ) {
        if let Some(name) = &self.name {
            // A vanished sender means that the program ends.
            let _ = stages.wait_for(|stage| *stage != Stage::Waiting).await;
            if let Err(error) = self.control.rename(name) {
                tracing::warn!("the control socket cannot take its place at {}: {error}", name.display());
            }
        }
        let commands = Arc::new(commands);
        tokio::select! {
            () = self.control.serve(Arc::clone(&commands)) => {}
            _ = replaced.wait_for(|replaced| *replaced) => {}
        }
        if let Some(Err(error)) = self.leaving.as_ref().map(|name| self.control.rename(name)) {
            tracing::debug!("the control socket keeps its name: {error}");
        }
        self.control.serve(commands).await;
    }
}
