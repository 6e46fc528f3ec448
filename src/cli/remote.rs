//! Commands for a running server: `monoceros status`, `stacks`, `reload`, `scale`, `restart-worker`, `upgrade`, `drain`,
//! `maintenance`, `stop`.

use super::report::{EXIT_CONFIGURATION, EXIT_FAILURE, Report};
use super::stacks;
use crate::config::duration;
use crate::control::client::{self, ControlError, Target};
use crate::control::place;
use crate::control::protocol::{Cache, Certificate, Command as Order, Mode, Number, Reply, Status};
use crate::supervisor::Bounds;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The commands and what they do.
pub(super) const COMMANDS: [(&str, &str); 10] = [
    ("status", "Show the workers of a running server and what they do"),
    ("stacks", "Show where the workers are: the Python stack of every thread and task"),
    ("reload", "Read the configuration again, load the application anew; mistakes change nothing"),
    ("scale", "From now on so many workers, or as many within a range as the load needs"),
    ("restart-worker", "Replace one worker, a new one first"),
    ("upgrade", "Replace the program by its new version, without refusing a connection"),
    ("drain", "Be not ready for balancers, but serve everything; `drain off` takes it back"),
    ("maintenance", "Let nobody in but those on the bypass list: everybody else gets 503 and a page"),
    ("cache", "Show what is in the cache of answers, or remove answers from it"),
    ("stop", "Stop gracefully"),
];

/// Whether the command line is one of these; an application of the same name is written with its attribute.
pub(super) fn is_meant(arguments: &[OsString]) -> bool {
    arguments.get(1).is_some_and(|first| COMMANDS.iter().any(|(name, _)| first == name))
}

/// Carries one out.
pub(super) fn run(arguments: &[OsString]) -> ExitCode {
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // A closed terminal is no reason to fail differently.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_CONFIGURATION));
        }
    };
    let Some((name, given)) = matches.subcommand() else { return ExitCode::from(EXIT_CONFIGURATION) };
    match send(name, given) {
        Ok(code) => code,
        Err(error) => {
            Report::standard_error().failure(&error, error.hint());
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn send(name: &str, given: &ArgMatches) -> Result<ExitCode, ControlError> {
    let target = match (given.get_one::<PathBuf>("control"), given.get_one::<u32>("pid")) {
        (Some(path), _) => Target::Socket(path.clone()),
        (None, Some(pid)) => Target::Process(*pid),
        (None, None) => Target::Only,
    };
    let number = |id: &str| given.try_get_one::<u32>(id).ok().flatten().copied().unwrap_or_default();
    let order = match name {
        "status" => Order::Status,
        "stacks" => Order::Stacks { worker: given.get_one::<u32>("worker").copied() },
        "reload" => Order::Reload,
        "scale" => Order::Scale {
            workers: match given.get_one::<Bounds>("workers") {
                Some(range) if range.is_range() => Number::Range(range.to_string()),
                workers => Number::Fixed(workers.map_or(0, |workers| workers.least)),
            },
        },
        "restart-worker" => Order::RestartWorker { worker: number("worker") },
        "upgrade" => Order::Upgrade,
        "drain" => Order::Drain {
            on: given.get_one::<String>("state").is_none_or(|state| state == "on"),
            stop_after: given.get_one::<Duration>("for").map(Duration::as_secs_f64),
        },
        "maintenance" => Order::Maintenance {
            mode: given.get_one::<String>("mode").map_or(Mode::Status, |mode| mode_named(mode)),
            retry_after: given.get_one::<Duration>("retry-after").map(Duration::as_secs),
            message: given.get_one::<String>("message").cloned(),
            bypass: given.get_many::<String>("bypass").into_iter().flatten().cloned().collect(),
        },
        "cache" => purge(given),
        _ => Order::Stop { quickly: given.get_flag("quickly") },
    };
    let socket = client::find(&target, &place::directories())?;
    let is_json = given.get_flag("json");
    let mut code = ExitCode::SUCCESS;
    client::send(&socket, &order, |reply| {
        if matches!(reply, Reply::Failed { .. }) {
            code = ExitCode::from(EXIT_FAILURE);
        }
        if is_json {
            print(&format!("{}\n", serde_json::to_string(reply).unwrap_or_default()));
        } else {
            show(reply);
        }
    })?;
    Ok(code)
}

fn show(reply: &Reply) {
    match reply {
        Reply::Progress { text } | Reply::Done { text } => print(&format!("{text}\n")),
        Reply::Status(status) => print(&table(status)),
        Reply::Cache(cache) => print(&format!("{}\n", cache_line(cache))),
        Reply::Stacks { workers } => print(&stacks::text(workers)),
        Reply::Failed { text, detail, hint } => {
            let mut report = Report::standard_error();
            if !detail.is_empty() {
                report.line(detail.trim_end());
            }
            report.line(&format!("error: {text}"));
            if !hint.is_empty() {
                report.line(&format!("hint: {hint}"));
            }
        }
    }
}

fn print(text: &str) {
    // Nobody is left to tell when standard output is closed.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn table(status: &Status) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "monoceros {}, process {}, up {}", status.version, status.pid, age(status.uptime));
    let _ = writeln!(text, "{} in {}, generation {}", status.app, status.directory, status.generation);
    for address in &status.listening {
        let _ = writeln!(text, "listening on {address}");
    }
    for Certificate { names, file, not_after } in &status.certificates {
        let _ = writeln!(text, "certificate for {names} until {not_after} ({file})");
    }
    let _ = writeln!(text, "{} open connections, {} requests wait for a worker\n", status.connections, status.queue);
    if status.maintenance {
        let _ = writeln!(text, "in maintenance: only those on the bypass list are let in\n");
    }
    if let Some(cache) = &status.cache {
        let _ = writeln!(text, "{}\n", cache_line(cache));
    }
    let _ = writeln!(text, "worker      pid  generation  state     busy         answered  memory  age");
    for worker in &status.workers {
        let _ = writeln!(
            text,
            "{:>6}  {:>7}  {:>10}  {:<8}  {:<9}  {:>10}  {:>6}  {}",
            worker.worker,
            worker.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            worker.generation,
            worker.state,
            format!("{} of {}", worker.in_flight, worker.slots),
            worker.answered,
            worker.rss.map_or_else(|| "-".to_owned(), |bytes| format!("{} MB", bytes >> 20)),
            age(worker.age),
        );
    }
    if let Some(memory) = status.memory {
        let megabytes = |bytes: u64| bytes.div_ceil(1 << 20);
        let (used, budget, one_more) = (megabytes(memory.used), memory.budget >> 20, megabytes(memory.one_more));
        let _ = writeln!(text, "\nmemory: {used} MB of {budget} MB in use, one more worker needs {one_more} MB");
    }
    if let Some(range) = &status.workers_range {
        let _ = writeln!(text, "\n{} workers of {range}, as the load needs", status.workers_wanted);
    }
    if let Some(line) = rest(status) {
        let _ = writeln!(text, "\n{line}");
    }
    let serving = status.workers.iter().filter(|worker| worker.state == "serving").count();
    if serving != status.workers_wanted as usize {
        let _ = writeln!(text, "\n{serving} serve, {} are wanted", status.workers_wanted);
    }
    text
}

/// Why there is no worker, and what brings one.
fn rest(status: &Status) -> Option<String> {
    let since = age(status.idle?);
    Some(match status.refuses_for {
        Some(time) => format!(
            "no worker: the last one could not start, see the log; a request in {} or later tries again",
            age(time.ceil())
        ),
        None => format!("no worker: idle for {since}, the next request starts one"),
    })
}

fn cache_line(cache: &Cache) -> String {
    let percent = (cache.hits * 100).checked_div(cache.hits + cache.misses).unwrap_or(0);
    let (used, size) = (cache.used.div_ceil(1 << 10), cache.size >> 10);
    let Cache { answers, hits, evicted, .. } = cache;
    format!("cache: {answers} answers, {used} of {size} KB, {hits} hits ({percent} %), {evicted} evicted")
}

/// `42s`, `3m 20s`, `5h 2m`, `12d 3h`.
fn age(seconds: f64) -> String {
    let seconds = seconds as u64;
    match seconds {
        0..=59 => format!("{seconds}s"),
        60..=3599 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn command() -> Command {
    let number = |id: &'static str, name: &'static str| {
        Arg::new(id).value_name(name).required(true).value_parser(value_parser!(u32))
    };
    let subcommands = COMMANDS.iter().map(|(name, about)| {
        let subcommand = Command::new(*name).about(*about).args(common());
        match *name {
            "scale" => subcommand.arg(
                Arg::new("workers")
                    .value_name("N")
                    .required(true)
                    .value_parser(|text: &str| {
                        text.parse::<Bounds>().map_err(|error| Bounds::guess(text).unwrap_or_else(|| error.to_string()))
                    })
                    .help("Number of workers, or a range such as 2..8 or 0..8"),
            ),
            "restart-worker" => subcommand.arg(number("worker", "N").help("Number of the worker, as in status")),
            "stacks" => subcommand.arg(number("worker", "WORKER").required(false).help("Only this one, as in status")),
            "drain" => subcommand.arg(Arg::new("state").value_parser(["on", "off"]).help("on if left out")).arg(
                Arg::new("for")
                    .long("for")
                    .value_name("TIME")
                    .value_parser(|text: &str| duration::parse(text).ok_or("a time such as 30s or 5m"))
                    .help("Stop gracefully after this time"),
            ),
            "maintenance" => subcommand.args(maintenance()),
            "cache" => subcommand.args(cache()),
            "stop" => subcommand.arg(
                Arg::new("quickly").long("quickly").action(ArgAction::SetTrue).help("Cut off what is still going on"),
            ),
            _ => subcommand,
        }
    });
    Command::new("monoceros").subcommands(subcommands).subcommand_required(true).max_term_width(100)
}

fn mode_named(name: &str) -> Mode {
    match name {
        "on" => Mode::On,
        "off" => Mode::Off,
        _ => Mode::Status,
    }
}

fn purge(given: &ArgMatches) -> Order {
    let text = |id: &str| given.get_one::<String>(id).cloned();
    Order::Cache { url: text("url"), prefix: text("prefix"), tag: text("tag"), all: given.get_flag("all") }
}

fn cache() -> [Arg; 5] {
    let text = |id: &'static str, name: &'static str| Arg::new(id).value_name(name).group("which");
    [
        Arg::new("action").value_name("status|purge").required(true).value_parser(["status", "purge"]),
        text("url", "URL").help("Remove the answers of this URL, or of this path on every host"),
        text("prefix", "URL").long("prefix").help("Remove what begins so: a URL, or a path on every host"),
        text("tag", "TAG").long("tag").help("Remove what the application has marked so (Cache-Tag, Surrogate-Key)"),
        Arg::new("all").long("all").group("which").action(ArgAction::SetTrue).help("Remove everything"),
    ]
}

fn maintenance() -> [Arg; 4] {
    let time = |text: &str| duration::parse(text).ok_or("expected a time such as 30s or 10m");
    [
        Arg::new("mode").value_name("on|off|status").required(true).value_parser(["on", "off", "status"]),
        Arg::new("retry-after")
            .long("retry-after")
            .value_name("TIME")
            .value_parser(time)
            .help("When clients may come back: the Retry-After of the answer; 5m if not given"),
        Arg::new("message").long("message").value_name("TEXT").help("What the page says"),
        Arg::new("bypass").long("bypass").value_name("RULE").action(ArgAction::Append).help(
            "Who is let in besides --maintenance-bypass: 10.0.0.0/8, /path, cookie:NAME=VALUE or header:NAME=VALUE",
        ),
    ]
}

/// Which server, and how to show its replies.
fn common() -> [Arg; 3] {
    [
        Arg::new("pid")
            .long("pid")
            .value_name("N")
            .value_parser(value_parser!(u32))
            .help("Process of the server, where several run"),
        Arg::new("control")
            .long("control")
            .value_name("PATH")
            .value_parser(value_parser!(PathBuf))
            .help("Its control socket (--control-socket of the server)"),
        Arg::new("json").long("json").action(ArgAction::SetTrue).help("One JSON object per line"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let rows = [(0.9, "0s"), (200.0, "3m 20s"), (18_120.0, "5h 2m"), (1_047_600.0, "12d 3h")];
        for (seconds, expected) in rows {
            assert_eq!(age(seconds), expected);
        }
    }

    #[test]
    fn the_commands_are_well_formed() {
        command().debug_assert();
        assert!(is_meant(&["monoceros".into(), "reload".into()]));
        assert!(!is_meant(&["monoceros".into(), "status:app".into()]));
    }
}
