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
}

/// Opens the socket. Where no place was named, a server without one is better than none.
pub(super) fn open(settings: &Settings, has_predecessor: bool) -> Result<Option<Opened>, StartProblem> {
    match settings {
        Settings::Off => Ok(None),
        Settings::At(path) => {
            let (place, name) = if has_predecessor { (aside(path), Some(path.clone())) } else { (path.clone(), None) };
            let control =
                Control::bind(&place).map_err(|source| StartProblem::Control { path: path.clone(), source })?;
            Ok(Some(Opened { control, name }))
        }
        Settings::Automatic => {
            let opened = place::prepare(&place::directories())
                .and_then(|directory| Control::bind(&place::socket_in(&directory, std::process::id())));
            let opened = opened.inspect_err(|error| tracing::warn!("there is no control socket: {error}"));
            Ok(opened.ok().map(|control| Opened { control, name: None }))
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
    pub(super) async fn serve(mut self, mut stages: watch::Receiver<Stage>, commands: Commands) {
        if let Some(name) = &self.name {
            // A vanished sender means that the program ends.
            let _ = stages.wait_for(|stage| *stage != Stage::Waiting).await;
            if let Err(error) = self.control.rename(name) {
                tracing::warn!("the control socket cannot take its place at {}: {error}", name.display());
            }
        }
        self.control.serve(Arc::new(commands)).await;
    }
}
