//! The command line as clap sees it, made from the table of options.

use crate::config::application::is_application;
use crate::config::definition::{Arity, Default, Definition, Key, Kind};
use crate::config::layer::{Given, Layer, Origin};
use crate::config::table::{GROUPS, options};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  monoceros mysite.wsgi --static-dir /static=staticfiles    Django
  monoceros main:app --interface asgi -w 4                  FastAPI, Starlette
  monoceros 'shop:create_app()' -b unix:/run/shop.sock      Flask factory on a Unix socket
  monoceros main:app -b 0.0.0.0:443 --redirect-http --tls-cert site.pem --tls-key site.key
  monoceros check --config monoceros.toml                   check, and print every value
  monoceros reload                                          load the code anew in the server that runs here

Each option is also a variable (--max-body: MONOCEROS_MAX_BODY) and a key of the configuration file
(limits.max_body). The command line wins over the environment, the environment over the file.
Switches have an opposite: --no-preload. Lists in variables are separated by commas.
The settings of nginx and gunicorn that they stand for: docs/configuration.md

Exit status: 0 stopped as asked, 1 failed to start or to serve, 2 mistake in the command line or the
configuration, 4 the application could not be loaded.";

const PRINT: &str = "print";

/// What to do with the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Serve,
    /// Print the settings, then try what only a start can tell.
    Check,
    /// Only print the settings (`check --print`).
    Print,
}

/// The command line as given.
#[derive(Debug)]
pub(super) struct Invocation {
    pub(super) action: Action,
    pub(super) layer: Layer,
    pub(super) config_file: Option<PathBuf>,
}

/// Reads the command line. The error also stands for `--help` and `--version`.
pub(super) fn parse(arguments: &[OsString]) -> Result<Invocation, clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    let (action, deepest) = match matches.subcommand() {
        Some((_, check)) if check.get_flag(PRINT) => (Action::Print, check),
        Some((_, check)) => (Action::Check, check),
        None => (Action::Serve, &matches),
    };
    let mut layer = Layer::default();
    for option in options() {
        if let Some(texts) = given(option, deepest).or_else(|| given(option, &matches)) {
            layer.set(option.key, texts);
        }
    }
    return_swallowed_application(&mut layer);
    Ok(Invocation { action, layer, config_file: deepest.get_one::<PathBuf>("config").cloned() })
}

fn from_flag(text: String, flag: String) -> Given {
    Given { text, origin: Origin::Flag(flag) }
}

fn given(option: &Definition, matches: &ArgMatches) -> Option<Vec<Given>> {
    let on_command_line = |id: &str| {
        let known = matches.try_contains_id(id).is_ok_and(|known| known);
        known && matches.value_source(id) == Some(ValueSource::CommandLine)
    };
    if let Kind::Switch(opposite) = option.kind {
        let off = on_command_line(opposite).then(|| from_flag("false".to_owned(), format!("--{opposite}")));
        let on = || on_command_line(option.name).then(|| from_flag("true".to_owned(), option.flag()));
        return off.or_else(on).map(|given| vec![given]);
    }
    let texts = || matches.get_many::<String>(option.name).into_iter().flatten();
    on_command_line(option.name).then(|| texts().map(|text| from_flag(text.clone(), option.flag())).collect())
}

/// In `monoceros --redirect-http main:app` clap takes the application for the address. Nothing can be both, so it is given
/// back. A log file can look like a module: one that ends in `.log` is none.
fn return_swallowed_application(layer: &mut Layer) {
    if layer.has(Key::App) {
        return;
    }
    for option in options() {
        let Arity::OneOr(bare) = option.arity else { continue };
        let Some([given]) = layer.get(option.key) else { continue };
        if is_application(&given.text) && Path::new(&given.text).extension() != Some(OsStr::new("log")) {
            let application = given.text.clone();
            layer.set(option.key, vec![from_flag(bare.to_owned(), option.flag())]);
            layer.set(Key::App, vec![from_flag(application, "APP".to_owned())]);
            return;
        }
    }
}

/// The whole command line.
pub fn command() -> Command {
    let check = Command::new("check")
        .about("Print every setting with its origin, then check that certificates and application can be loaded")
        .arg(application())
        .arg(Arg::new(PRINT).long("print").action(ArgAction::SetTrue).help("Only print the settings"))
        .args_override_self(true)
        .max_term_width(100);
    let config = Arg::new("config")
        .long("config")
        .short('c')
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .global(true)
        .help("Configuration file; without it and without APP, monoceros.toml in this directory is read");
    Command::new("monoceros")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Web server for Python applications: TLS, static files and supervised WSGI and ASGI workers")
        .override_usage(
            "monoceros [OPTIONS] APP\n       monoceros check [OPTIONS] [APP]\n       \
             monoceros status|reload|scale|restart-worker|stop [OPTIONS]",
        )
        .arg(application())
        .arg(config)
        .args(options().flat_map(flags))
        .subcommand(check)
        .disable_help_subcommand(true)
        .args_override_self(true)
        .max_term_width(100)
        .after_help(EXAMPLES)
}

fn application() -> Arg {
    let meaning = options().find(|option| option.key == Key::App).map(|option| option.meaning);
    Arg::new("app").value_name("APP").help(meaning.unwrap_or_default())
}

/// The flags of one option: one, or two for a switch.
fn flags(option: &'static Definition) -> Vec<Arg> {
    if option.key == Key::App {
        return Vec::new();
    }
    let mut flag =
        Arg::new(option.name).long(option.name).global(true).help(help(option)).help_heading(heading(option));
    // Hidden: the help names each option once, the reference names the aliases too.
    flag = flag.aliases(option.aliases);
    if let Some(short) = option.short {
        flag = flag.short(short);
    }
    if let Kind::Switch(opposite) = option.kind {
        let flag = flag.action(ArgAction::SetTrue).overrides_with(opposite);
        let off = Arg::new(opposite).long(opposite).global(true).hide(true).action(ArgAction::SetTrue);
        return vec![flag, off.overrides_with(option.name)];
    }
    let flag = flag.value_name(option.value_name).allow_negative_numbers(true);
    vec![match option.arity {
        Arity::One => flag.action(ArgAction::Set),
        Arity::Many => flag.action(ArgAction::Append),
        Arity::OneOr(bare) => flag.action(ArgAction::Set).num_args(0..=1).default_missing_value(bare),
    }]
}

fn heading(option: &Definition) -> Option<&'static str> {
    let holds = |group: &&crate::config::table::Group| group.options.iter().any(|other| other.key == option.key);
    GROUPS.iter().find(holds).map(|group| group.heading)
}

fn help(option: &Definition) -> String {
    match (option.kind, option.default) {
        (Kind::Switch(_), _) | (_, Default::Absent) => option.meaning.to_owned(),
        (_, Default::Value(default)) => format!("{} [default: {default}]", option.meaning),
        (_, Default::Computed(default)) => format!("{} [default: {default}]", option.meaning),
    }
}
