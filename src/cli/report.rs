//! Errors and hints as the user sees them, and the exit codes.
//!
//! ```text
//! error: invalid value for workers: "0"
//!   at --workers on the command line
//!   expected a whole number from 1 to 1024, or a range such as 2..8
//! hint: leave it out for one per CPU core
//! ```

use super::foreign::Foreign;
use crate::app::StartError;
use crate::config::error::{ConfigError, Problem, Warning};
use crate::telemetry::log::colours_wanted;
use crate::telemetry::output::StandardError;
use std::error::Error;
use std::io::Write;

/// The server failed to start, or failed while it served.
pub const EXIT_FAILURE: u8 = 1;
/// A mistake in the command line or in the configuration (clap's code for usage errors).
pub const EXIT_CONFIGURATION: u8 = 2;
/// The application could not be loaded (gunicorn: `APP_LOAD_ERROR`; also the exit code of such a worker).
pub const EXIT_APPLICATION: u8 = monoceros_wire::zygote::EXIT_APP_LOAD as u8;

const RED: &str = "31";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// Writes messages for people.
pub struct Report<W> {
    output: W,
    colours: bool,
}

/// What can be written for people.
pub trait Explain {
    fn explain<W: Write>(&self, report: &mut Report<W>);

    /// As text without colours, for those who are not at this terminal.
    fn plain(&self) -> String {
        let mut text = Vec::new();
        self.explain(&mut Report::new(&mut text, false));
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Explain for [ConfigError] {
    fn explain<W: Write>(&self, report: &mut Report<W>) {
        report.configuration(self);
    }
}

impl Explain for StartError {
    fn explain<W: Write>(&self, report: &mut Report<W>) {
        for problem in &self.problems {
            if let Some(traceback) = problem.traceback() {
                report.line(traceback.trim_end());
            }
            report.failure(problem, problem.hint().as_deref());
        }
    }
}

impl Report<StandardError> {
    /// To standard error; in colours where they are wanted.
    pub fn standard_error() -> Self {
        Self::new(StandardError, colours_wanted(&std::io::stderr()))
    }
}

impl<W: Write> Report<W> {
    pub fn new(output: W, colours: bool) -> Self {
        Self { output, colours }
    }

    /// All mistakes of a configuration, each as a paragraph of its own.
    pub fn configuration(&mut self, errors: &[ConfigError]) {
        for (place, error) in errors.iter().enumerate() {
            if place > 0 {
                self.line("");
            }
            self.labelled("error", RED, &error.problem.to_string());
            if let Some(origin) = &error.origin {
                self.line(&format!("  at {origin}"));
            }
            if let Some(expected) = error.expected() {
                self.line(&format!("  expected {expected}"));
            }
            if let Some(hint) = &error.hint {
                self.labelled("hint", CYAN, hint);
            }
        }
        if let [ConfigError { problem: Problem::MissingApplication, .. }] = errors {
            self.line("For more information, try 'monoceros --help'.");
        }
        if errors.len() > 1 {
            self.line(&format!("\n{} mistakes in the configuration", errors.len()));
        }
    }

    /// A failure of the server with its causes.
    pub fn failure(&mut self, error: &dyn Error, hint: Option<&str>) {
        let message = error.to_string();
        self.labelled("error", RED, &message);
        let mut shown = message;
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Transparent errors repeat their cause.
            if !shown.contains(&text) {
                self.line(&format!("  caused by: {text}"));
            }
            shown = text;
            source = cause.source();
        }
        if let Some(hint) = hint {
            self.labelled("hint", CYAN, hint);
        }
    }

    /// Flags of other servers, each with what to do here.
    pub(super) fn foreign(&mut self, flags: &[(&str, &Foreign)]) {
        for (flag, foreign) in flags {
            self.labelled("error", RED, &format!("{flag} is a flag of {}, not of monoceros", foreign.server));
            self.labelled("hint", CYAN, foreign.advice);
            self.line("");
        }
        self.line("For more information, try 'monoceros --help'.");
    }

    pub fn warning(&mut self, warning: &Warning) {
        self.labelled("warning", YELLOW, &warning.to_string());
    }

    /// A line as it is.
    pub fn line(&mut self, text: &str) {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(self.output, "{text}");
    }

    fn labelled(&mut self, label: &str, colour: &str, text: &str) {
        if self.colours {
            self.line(&format!("\x1b[1;{colour}m{label}:\x1b[0m {text}"));
        } else {
            self.line(&format!("{label}: {text}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(colours: bool, act: impl FnOnce(&mut Report<&mut Vec<u8>>)) -> String {
        let mut output = Vec::new();
        act(&mut Report::new(&mut output, colours));
        String::from_utf8_lossy(&output).into_owned()
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot listen on 127.0.0.1:80")]
    struct Listen(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error(transparent)]
    struct Start(Listen);

    #[test]
    fn a_failure_shows_its_causes_once() {
        let error = Start(Listen(std::io::Error::other("permission denied")));
        assert_eq!(
            written(false, |report| report.failure(&error, Some("ports below 1024 belong to root"))),
            "error: cannot listen on 127.0.0.1:80\n  caused by: permission denied\nhint: ports below 1024 belong to root\n"
        );
    }

    #[test]
    fn only_labels_have_colours() {
        let errors = [ConfigError::new(Problem::MissingApplication).hint("name it")];
        assert_eq!(
            written(true, |report| report.configuration(&errors)),
            "\x1b[1;31merror:\x1b[0m no application was given\n\x1b[1;36mhint:\x1b[0m name it\nFor more information, try 'monoceros --help'.\n"
        );
    }

    #[test]
    fn what_a_user_wrote_cannot_control_the_terminal() {
        let value = "\x1b[2J\n".to_owned();
        let problem = Problem::Invalid { option: "bind", value, expected: "an address".to_owned() };
        let text = written(false, |report| report.configuration(&[ConfigError::new(problem)]));
        assert_eq!(text, "error: invalid value for bind: \"\\u{1b}[2J\\n\"\n  expected an address\n");
    }
}
