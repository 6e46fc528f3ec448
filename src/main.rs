//! The program.

use monoceros::app::{Inheritance, Origin, Predecessor, Program};
use monoceros::cli::report::{EXIT_APPLICATION, EXIT_CONFIGURATION, EXIT_FAILURE, Explain, Report};
use monoceros::telemetry::{self, Level, OutputStream, log};
use monoceros::{app, cli};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// For the last lines, where somebody has stopped reading them.
const LAST_WORDS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let code = run();
    OutputStream::Stderr.flush(LAST_WORDS);
    OutputStream::Stdout.flush(LAST_WORDS);
    code
}

/// A check warns as a start does, but the story of the one worker that it starts is not worth telling.
fn check_log(settings: telemetry::Settings) -> telemetry::Settings {
    let level = if settings.level == Level::Info { Level::Warn } else { settings.level };
    telemetry::Settings { level, ..settings }
}

fn run() -> ExitCode {
    let program = Program::of_this_process();
    let inheritance = match Inheritance::receive() {
        Ok(inheritance) => inheritance,
        Err(error) => {
            Report::standard_error().failure(&error, None);
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    let predecessor = inheritance.predecessor.clone();
    let activated = inheritance.binds();
    let outcome = match cli::read(std::env::args_os(), &activated) {
        cli::Command::Serve(resolved) => {
            let reread = Arc::new(move || cli::read_again(std::env::args_os(), &activated));
            app::run(*resolved, Origin { program, inheritance, reread })
        }
        cli::Command::Check(settings) => {
            log::start(&check_log(settings.telemetry.clone()));
            app::check(*settings)
        }
        cli::Command::Refused(errors) => {
            return refused(errors.as_slice(), &predecessor, EXIT_CONFIGURATION);
        }
        cli::Command::Exit(code) => return code,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = if error.is_application_failure() { EXIT_APPLICATION } else { EXIT_FAILURE };
            refused(&error, &predecessor, code)
        }
    }
}

/// Says why there is no server, also to the one that it was to replace.
fn refused(reason: &(impl Explain + ?Sized), predecessor: &Predecessor, code: u8) -> ExitCode {
    reason.explain(&mut Report::standard_error());
    predecessor.disappoint(reason.plain().trim_end());
    ExitCode::from(code)
}
