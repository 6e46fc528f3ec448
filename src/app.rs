//! Builds the components, joins them, and defines the order in which they start and stop.

use crate::config::Settings;

/// Why the server could not start, or stopped serving.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the components are not joined yet")]
    NotJoined,
}

impl StartError {
    /// What the operator can do about it.
    pub fn hint(&self) -> Option<String> {
        None
    }

    /// Whether the application is at fault: it could not be loaded.
    pub fn is_application_failure(&self) -> bool {
        false
    }
}

/// Serves until asked to stop.
pub fn run(settings: Settings) -> Result<(), StartError> {
    drop(settings);
    Err(StartError::NotJoined)
}
