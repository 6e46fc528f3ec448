//! Why the server could not start, or stopped serving.

use crate::front::error_pages::PageError;
use crate::front::files::FileSetupError;
use crate::front::listener::BindError;
use crate::front::tls::{self, TlsError};
use crate::supervisor;
use crate::supervisor::python::PythonError;
use std::io;
use std::path::PathBuf;

/// One thing that keeps the server from starting.
#[derive(Debug, thiserror::Error)]
pub enum StartProblem {
    #[error(transparent)]
    Python(#[from] PythonError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("no development certificate: {0}")]
    DevelopmentCertificate(#[from] tls::DevelopmentCertificateError),
    #[error(transparent)]
    Files(#[from] FileSetupError),
    #[error(transparent)]
    ErrorPages(#[from] PageError),
    #[error("the access log cannot be opened: {0}")]
    AccessLog(#[source] io::Error),
    #[error("the control socket cannot be made at {}: {source}", path.display())]
    Control { path: PathBuf, source: io::Error },
    #[error("no temporary file can be made in {}: {source}", directory.display())]
    TemporaryFiles { directory: PathBuf, source: io::Error },
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error("what the server to be replaced hands over cannot be taken: {0}")]
    Inheritance(#[source] io::Error),
    #[error("the server to be replaced has ended, or is ending")]
    PredecessorGone,
    #[error(transparent)]
    Workers(#[from] supervisor::Failure),
}

/// Why the server could not start, or stopped serving: everything that was found wrong at once.
#[derive(Debug)]
pub struct StartError {
    pub problems: Vec<StartProblem>,
}

impl StartError {
    /// Whether the application is at fault: it could not be loaded.
    pub fn is_application_failure(&self) -> bool {
        matches!(self.problems.as_slice(), [StartProblem::Workers(_)])
    }
}

impl<P: Into<StartProblem>> From<P> for StartError {
    fn from(problem: P) -> Self {
        Self { problems: vec![problem.into()] }
    }
}

impl StartProblem {
    /// What the operator can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Python(error) => Some(error.hint().to_owned()),
            Self::TemporaryFiles { .. } => {
                Some("TMPDIR names the directory for large bodies: it has to exist and to be writable".to_owned())
            }
            Self::Workers(supervisor::Failure::Boot(failure)) => {
                Some(failure.hint.clone()).filter(|hint| !hint.is_empty())
            }
            Self::Workers(supervisor::Failure::BootTimeout(_)) => {
                Some("raise --boot-timeout, or find out what the application waits for while it is imported".to_owned())
            }
            _ => None,
        }
    }

    /// The application's traceback, where it is the application's fault.
    pub fn traceback(&self) -> Option<&str> {
        match self {
            Self::Workers(supervisor::Failure::Boot(failure)) => {
                Some(failure.traceback.as_str()).filter(|text| !text.is_empty())
            }
            _ => None,
        }
    }
}
