//! The program.

use monoceros::cli::report::{EXIT_APPLICATION, EXIT_FAILURE, Report};
use monoceros::telemetry::OutputStream;
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

fn run() -> ExitCode {
    let outcome = match cli::read(std::env::args_os()) {
        cli::Command::Serve(settings) => app::run(*settings),
        cli::Command::Check(settings) => app::check(*settings),
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
