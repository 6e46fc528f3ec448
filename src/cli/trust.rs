//! `monoceros trust`: the authority for development certificates, and who on this machine accepts it.

use super::report::{EXIT_CONFIGURATION, EXIT_FAILURE, Report};
use crate::config;
use crate::front::tls::authority::{Authority, directory_in};
use crate::trust::{Done, Outcome, Wish, carry_out};
use clap::{Arg, Command};
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

const NAME: &str = "trust";

pub(super) fn is_meant(arguments: &[OsString]) -> bool {
    arguments.get(1).map(OsString::as_os_str) == Some(OsStr::new(NAME))
}

fn command() -> Command {
    let step = |name: &'static str, about: &'static str| Command::new(name).about(about);
    Command::new("monoceros trust")
        .about("The authority for development certificates (--dev-cert), and who on this machine accepts it")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand(step("install", "Make the system and the browsers of this user accept it; made if there is none"))
        .subcommand(step("uninstall", "Make them accept it no longer; its files stay"))
        .subcommand(
            step("print", "Print its certificate (PEM), for other devices")
                .arg(Arg::new("path").long("path").action(clap::ArgAction::SetTrue).help("Print the name of its file")),
        )
}

/// Carries it out.
pub(super) fn run(arguments: &[OsString]) -> ExitCode {
    let matches = match command().try_get_matches_from(&arguments[1..]) {
        Ok(matches) => matches,
        Err(error) => {
            // A closed terminal is no reason to fail differently.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_CONFIGURATION));
        }
    };
    let environment = super::environment();
    let fail = |text: &str| {
        Report::standard_error().failure(&std::io::Error::other(text.to_owned()), None);
        ExitCode::from(EXIT_FAILURE)
    };
    let Some(directory) = config::data_directory(&environment).map(|data| directory_in(&data)) else {
        return fail("there is no place for an authority: neither XDG_DATA_HOME nor HOME is set");
    };
    let wish = match matches.subcommand() {
        Some(("install", _)) => Some(Wish::Install),
        Some(("uninstall", _)) => Some(Wish::Uninstall),
        _ => None,
    };
    let authority = match wish {
        Some(Wish::Uninstall) => match Authority::open(&directory) {
            Ok(Some(authority)) => Ok(authority),
            Ok(None) => return fail(&format!("there is no authority in {}", directory.display())),
            Err(error) => Err(error),
        },
        _ => Authority::open_or_make(&directory).map(|(authority, _)| authority),
    };
    let authority = match authority {
        Ok(authority) => authority,
        Err(error) => return fail(&error.to_string()),
    };
    let Some(wish) = wish else {
        let only_path = matches.subcommand().is_some_and(|(_, print)| print.get_flag("path"));
        let text = if only_path { format!("{}\n", authority.file.display()) } else { authority.pem().to_owned() };
        return write(&text, true);
    };
    let outcomes = carry_out(wish, &authority, environment.get("HOME").map(PathBuf::from).as_deref());
    let is_done = outcomes.iter().any(|outcome| matches!(outcome.result, Done::Changed | Done::Nothing));
    write(&describe(wish, &outcomes), is_done)
}

fn write(text: &str, is_success: bool) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) if is_success => ExitCode::SUCCESS,
        _ => ExitCode::from(EXIT_FAILURE),
    }
}

fn describe(wish: Wish, outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    let (done, nothing) = match wish {
        Wish::Install => ("accepts it now", "accepts it already"),
        Wish::Uninstall => ("accepts it no longer", "does not accept it"),
    };
    for Outcome { store, result } in outcomes {
        // Writing to a string cannot fail.
        let _ = match result {
            Done::Changed => writeln!(text, "{store}: {done}"),
            Done::Nothing => writeln!(text, "{store}: {nothing}"),
            Done::Failed(reason) => writeln!(text, "{store}: failed: {reason}"),
            Done::ByHand { reason, commands } => {
                let commands = commands.join("\n    ");
                writeln!(text, "{store}: left to you, because {reason}:\n    {commands}")
            }
        };
    }
    if wish == Wish::Install && outcomes.iter().any(|outcome| outcome.result == Done::Changed) {
        text.push_str("Start browsers that are open anew.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told() {
        let outcome = |store: &str, result| Outcome { store: store.to_owned(), result };
        let by_hand =
            Done::ByHand { reason: "only root may change it".to_owned(), commands: vec!["sudo cp".to_owned()] };
        let outcomes = [
            outcome("A", Done::Changed),
            outcome("B", Done::Nothing),
            outcome("C", by_hand),
            outcome("D", Done::Failed("no room".to_owned())),
        ];
        assert_eq!(
            describe(Wish::Install, &outcomes),
            "A: accepts it now\nB: accepts it already\nC: left to you, because only root may change it:\n    sudo cp\n\
             D: failed: no room\nStart browsers that are open anew.\n"
        );
        assert_eq!(describe(Wish::Uninstall, &outcomes[..2]), "A: accepts it no longer\nB: does not accept it\n");
    }
}
