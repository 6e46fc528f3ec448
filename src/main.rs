//! The program.

use monoceros::cli::report::{EXIT_APPLICATION, EXIT_FAILURE, Report};
use monoceros::{app, cli};
use std::process::ExitCode;

fn main() -> ExitCode {
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
