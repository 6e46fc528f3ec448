//! The program.

use monoceros::cli::report::{EXIT_APPLICATION, EXIT_FAILURE, Report};
use monoceros::telemetry::{self, Level, OutputStream, log};
use monoceros::{app, cli};
use std::process::ExitCode;
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
    let outcome = match cli::read(std::env::args_os()) {
        cli::Command::Serve(settings) => app::run(*settings),
        cli::Command::Check(settings) => {
            log::start(&check_log(settings.telemetry.clone()));
            app::check(*settings)
        }
        cli::Command::Exit(code) => return code,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut report = Report::standard_error();
            for problem in &error.problems {
                if let Some(traceback) = problem.traceback() {
                    report.line(traceback.trim_end());
                }
                report.failure(problem, problem.hint().as_deref());
            }
            ExitCode::from(if error.is_application_failure() { EXIT_APPLICATION } else { EXIT_FAILURE })
        }
    }
}
