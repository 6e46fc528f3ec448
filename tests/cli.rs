//! The program as its user meets it: everything it prints before it serves, compared as a whole.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A directory of its own for each test, and the program run in it with an empty environment.
struct World {
    directory: TempDir,
    variables: Vec<(&'static str, &'static str)>,
}

/// What the program printed, with the directory written as `DIR`.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl World {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    fn file(self, name: &str, text: &str) -> Self {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn variable(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.push((name, value));
        self
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let output = Command::new(env!("CARGO_BIN_EXE_monoceros"))
            .args(arguments)
            .current_dir(self.directory.path())
            .env_clear()
            .env("COLUMNS", "100")
            .envs(self.variables.iter().copied())
            .output()
            .unwrap();
        // The program sees its directory with symbolic links resolved.
        let directory = self.directory.path().canonicalize().unwrap();
        let text =
            |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().replace(directory.to_str().unwrap(), "DIR");
        Outcome { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Runs `check --print`, which has to succeed, and returns the lines of one option: its value and its origin.
    fn effective(&self, key: &str, arguments: &[&str]) -> Vec<String> {
        let outcome = self.run(&[&["check", "--print"], arguments].concat());
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        let lines = outcome.stdout.lines().filter(|line| line.starts_with(&format!("{key} = ")));
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }
}

/// The command line is wrong: nothing on standard output, this on standard error, exit code 2.
#[track_caller]
fn refused(outcome: &Outcome, message: &str) {
    assert_eq!(outcome.stderr, message);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""));
}

#[test]
fn version() {
    let outcome = World::new().run(&["--version"]);
    let expected = concat!("monoceros ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), expected));
}

#[test]
fn help_is_grouped_and_fits_the_terminal() {
    let outcome = World::new().run(&["--help"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    let headings: Vec<_> =
        outcome.stdout.lines().filter(|line| line.ends_with(':') && !line.starts_with(' ')).collect();
    let expected = [
        "Commands:",
        "Arguments:",
        "Options:",
        "Application:",
        "Workers:",
        "Listening and TLS:",
        "Static files:",
        "Response cache:",
        "Error pages and maintenance:",
        "Limits and time-outs:",
        "Logging:",
        "Examples:",
    ];
    assert_eq!(headings, expected);
    for line in outcome.stdout.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    assert_eq!(outcome, World::new().run(&["-h"]));
}

#[test]
fn nothing_to_serve() {
    refused(
        &World::new().run(&[]),
        "\
error: no application was given
hint: name it: monoceros mysite.wsgi, monoceros main:app, or app = \"main:app\" under [app] in monoceros.toml; monoceros.welcome is one to try the server with
For more information, try 'monoceros --help'.
",
    );
}

#[test]
fn an_unknown_flag() {
    refused(
        &World::new().run(&["main:app", "--wrokers", "3"]),
        "\
error: unexpected argument '--wrokers' found

  tip: a similar argument exists: '--workers'

Usage: monoceros [OPTIONS] APP
       monoceros check [OPTIONS] [APP]
       monoceros status|reload|scale|restart-worker|stop [OPTIONS]

For more information, try '--help'.
",
    );
}

#[test]
fn flags_of_other_servers() {
    refused(
        &World::new().run(&["main:app", "--host=0.0.0.0", "--port", "80", "--reload-delay=1", "-k", "uvicorn.workers.UvicornWorker"]),
        "\
error: --host is a flag of uvicorn, not of monoceros
hint: both are one option: --bind HOST:PORT, such as --bind 0.0.0.0:8000

error: --reload-delay is a flag of uvicorn, not of monoceros
hint: not needed: a reload begins when nothing more has changed for a moment

error: -k is a flag of gunicorn, not of monoceros
hint: leave it out: WSGI and ASGI are recognised (--interface says which one), threads are --threads N, the event loop is --loop; there are no gevent or eventlet workers

For more information, try 'monoceros --help'.
",
    );
    let world = World::new().file("both.pem", "-----BEGIN PRIVATE KEY-----");
    assert_eq!(
        world.effective("cert", &["main:app", "--certfile", "both.pem", "--ssl-certfile", "both.pem"]),
        ["cert = [\"both.pem\", \"both.pem\"] # --tls-cert on the command line"]
    );
    assert_eq!(
        world.effective("keep_alive", &["main:app", "--timeout-keep-alive", "5"]),
        ["keep_alive = \"5\" # --keep-alive on the command line"]
    );
    assert_eq!(
        world.effective("access_log", &["main:app", "--access-logfile", "-"]),
        ["access_log = \"-\" # --access-log on the command line"]
    );
}

#[test]
fn a_factory_may_have_arguments() {
    let world = World::new();
    let call = "main:create_app('production', debug=True)";
    assert_eq!(world.effective("app", &[call]), [format!("app = \"{call}\" # APP on the command line")]);
    refused(
        &world.run(&["main:create_app('production'"]),
        "\
error: invalid value for app: \"main:create_app('production'\"
  at APP on the command line
  expected module, module:attribute or module:factory()
hint: write a call with literal arguments, in quotes for the shell: \"main:create_app('production')\"
",
    );
}

#[test]
fn mistakes_on_the_command_line() {
    refused(
        &World::new().file("site.pem", "CERTIFICATE").run(&[
            "./src/main.py:app",
            "-w",
            "0",
            "-t",
            "1.5s",
            "--max-body",
            "1.5MB",
            "-b",
            "::1:80",
            "-b",
            "/run/x.sock",
            "--tls-cert",
            "site.pem",
            "--static-dir",
            "gone",
            "--static-dir",
            "/media=site.pem",
            "--loop",
            "uvlop",
            "--max-headers",
            "-5",
            "-e",
            "KEY",
        ]),
        "\
error: the certificate DIR/site.pem has no private key
  at --tls-cert on the command line
hint: give it with --tls-key FILE, or a PEM file that holds both

error: invalid value for workers: \"0\"
  at --workers on the command line
  expected a whole number from 1 to 1024, or a range such as 2..8 or 0..8
hint: leave it out for one per CPU core

error: invalid value for app: \"./src/main.py:app\"
  at APP on the command line
  expected module, module:attribute or module:factory()
hint: name the module, not its file: src.main:app; --chdir changes the directory

error: invalid value for loop: \"uvlop\"
  at --loop on the command line
  expected auto, asyncio or uvloop
hint: did you mean uvloop?

error: invalid value for env: \"KEY\"
  at --env on the command line
  expected NAME=VALUE

error: invalid value for bind: \"::1:80\"
  at --bind on the command line
  expected host:port, :port, [ipv6]:port, unix:/path or fd://number, with http:// or https:// before it if wanted
hint: write an IPv6 address in brackets: [::1]:8000

error: invalid value for bind: \"/run/x.sock\"
  at --bind on the command line
  expected host:port, :port, [ipv6]:port, unix:/path or fd://number, with http:// or https:// before it if wanted
hint: write unix: before the path of a Unix socket

error: invalid value for max-headers: \"-5\"
  at --max-headers on the command line
  expected a whole number from 16 to 1000

error: invalid value for max-body: \"1.5MB\"
  at --max-body on the command line
  expected a size in bytes such as 65536, 64k or 1MB, from 0 to 1TB
hint: write a fraction in the next smaller unit: 1536k

error: static-dir: DIR/gone does not exist
  at --static-dir on the command line
hint: paths are relative to DIR

error: static-dir: DIR/site.pem is not a directory
  at --static-dir on the command line

error: invalid value for timeout: \"1.5s\"
  at --timeout on the command line
  expected a time such as 30, 30s, 1m30s or 500ms, from 0 to 1d
hint: write a fraction of a second in ms: 1500ms

12 mistakes in the configuration
",
    );
}

#[test]
fn tls_without_its_parts() {
    let world = World::new().file("site.key", "PRIVATE KEY");
    refused(
        &world.run(&["a", "-b", "https://:443"]),
        "\
error: https://:443 asks for TLS, but there is no certificate
  at --bind on the command line
hint: give one with --tls-cert FILE --tls-key FILE, or --dev-cert for development
",
    );
    refused(
        &world.run(&["a", "--tls-key", "site.key"]),
        "\
error: the private key DIR/site.key has no certificate
  at --tls-key on the command line
hint: give the certificate with --tls-cert FILE
",
    );
    refused(
        &world.run(&["a", "--redirect-http"]),
        "\
error: redirect-http has no TLS address to redirect to
  at --redirect-http on the command line
hint: add --bind https://0.0.0.0:443 and a certificate
",
    );
    refused(
        &world.run(&["a", "--dev-cert", "-b", ":80", "--redirect-http"]),
        "\
error: the address 0.0.0.0:80 is given twice
  at --redirect-http on the command line
",
    );
}

#[test]
fn mistakes_in_the_file() {
    let world = World::new().file(
        "monoceros.toml",
        "[server]\nwrokers = 4\nbind = [\":80\", true]\n\n[sever]\n\n[limits]\nmax_body = \"huge\"\nworkers = 2\n",
    );
    refused(
        &world.run(&[]),
        "\
error: unknown key server.wrokers
  at monoceros.toml:2:1
hint: did you mean workers?

error: server.bind cannot be true or false
  at monoceros.toml:3:16
  expected host:port, :port, [ipv6]:port, unix:/path or fd://number, with http:// or https:// before it if wanted

error: unknown section [sever]
  at monoceros.toml:5:2
hint: did you mean [server]?

error: unknown key limits.workers
  at monoceros.toml:9:1
hint: did you mean workers in the section [server]?

error: no application was given
hint: name it: monoceros mysite.wsgi, monoceros main:app, or app = \"main:app\" under [app] in monoceros.toml; monoceros.welcome is one to try the server with

error: invalid value for max-body: \"huge\"
  at monoceros.toml:8:12
  expected a size in bytes such as 65536, 64k or 1MB, from 0 to 1TB

6 mistakes in the configuration
",
    );
    refused(
        &World::new().run(&["--config", "gone.toml"]),
        "error: cannot read the configuration file gone.toml: No such file or directory (os error 2)\n",
    );
    let outcome = World::new().file("monoceros.toml", "[app]\napp = \n").run(&[]);
    assert!(outcome.stderr.starts_with("error: the configuration file is not valid TOML: "), "{outcome:?}");
    assert!(outcome.stderr.ends_with("  at monoceros.toml:2:7\n"), "{outcome:?}");
    assert_eq!(outcome.code, Some(2));
}

#[test]
fn the_file_counts_only_when_no_application_is_named() {
    let world = World::new()
        .file("monoceros.toml", "[app]\napp = 'from_file'\n[server]\nworkers = 7\n")
        .file("etc/other.toml", "[app]\napp = 'other'\n");
    assert_eq!(world.effective("app", &[]), ["app = \"from_file\" # monoceros.toml:2:7"]);
    assert_eq!(world.effective("workers", &[]), ["workers = 7 # monoceros.toml:4:11"]);
    assert_ne!(world.effective("workers", &["named"]), ["workers = 7 # monoceros.toml:4:11"]);
    let both = ["named", "--config", "monoceros.toml"];
    assert_eq!(world.effective("workers", &both), ["workers = 7 # monoceros.toml:4:11"]);
    assert_eq!(world.effective("app", &both), ["app = \"named\" # APP on the command line"]);
    let world = world.variable("MONOCEROS_CONFIG", "etc/other.toml");
    assert_eq!(world.effective("app", &[]), ["app = \"other\" # etc/other.toml:2:7"]);
    let world = world.variable("MONOCEROS_APP", "variable");
    assert_eq!(world.effective("app", &[]), ["app = \"variable\" # environment variable MONOCEROS_APP"]);
}

#[test]
fn application_and_subcommand_stand_in_any_order() {
    let world = World::new();
    let app = ["app = \"main:app\" # APP on the command line"];
    for arguments in [&["main:app", "-w", "4"][..], &["-w", "4", "main:app"], &["-w", "1", "main:app", "-w", "4"]] {
        assert_eq!(world.effective("app", arguments), app);
        assert_eq!(world.effective("workers", arguments), ["workers = 4 # --workers on the command line"]);
    }
    for arguments in [
        &["-w", "4", "check", "--print", "main:app"][..],
        &["main:app", "check", "-w", "4", "--print"],
        &["-w4", "main:app", "check", "--print"],
    ] {
        let outcome = world.run(arguments);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(
            outcome.stdout.contains("workers = 4 ") && outcome.stdout.contains("app = \"main:app\" "),
            "{outcome:?}"
        );
    }
    assert_eq!(world.effective("app", &["check:app"]), ["app = \"check:app\" # APP on the command line"]);
}

#[test]
fn switches_and_bare_flags() {
    let world = World::new().variable("MONOCEROS_PRELOAD", "yes");
    let preload = |arguments: &[&str]| world.effective("preload", arguments);
    assert_eq!(preload(&["a"]), ["preload = true # environment variable MONOCEROS_PRELOAD"]);
    assert_eq!(preload(&["a", "--preload"]), ["preload = true # --preload on the command line"]);
    assert_eq!(preload(&["a", "--no-preload"]), ["preload = false # --no-preload on the command line"]);
    assert_eq!(preload(&["a", "--no-preload", "--preload"]), ["preload = true # --preload on the command line"]);

    let log = |arguments: &[&str]| {
        (world.effective("app", arguments).join(""), world.effective("access_log", arguments).join(""))
    };
    let expected = |app: &str, log: &str| {
        (
            format!("app = \"{app}\" # APP on the command line"),
            format!("access_log = \"{log}\" # --access-log on the command line"),
        )
    };
    assert_eq!(log(&["main:app", "--access-log"]), expected("main:app", "-"));
    assert_eq!(log(&["--access-log", "main:app"]), expected("main:app", "-"));
    assert_eq!(log(&["--access-log", "-", "main:app"]), expected("main:app", "-"));
    assert_eq!(log(&["--access-log", "access.log", "main:app"]), expected("main:app", "access.log"));
    assert_eq!(
        world.effective("redirect_http", &["--dev-cert", "--redirect-http", "main:app"]),
        ["redirect_http = \":80\" # --redirect-http on the command line"]
    );
}

#[test]
fn a_valid_configuration_is_described() {
    let world = World::new().file("static/x.css", "").file(
        "monoceros.toml",
        "[app]\napp = 'mysite.wsgi'\nenv = ['TOKEN=hunter2']\n[server]\nworkers = 1\n[static]\ndir = 'static'\n",
    );
    let arguments = ["check", "--dev-cert", "--redirect-http", ":8080", "-b", "localhost:8443", "--front-threads", "1"];
    let outcome = world.run(&arguments);
    // The settings are fine and printed; what only a start can tell is wrong here, as this world has no Python.
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.starts_with("error: no Python interpreter was found"), "{}", outcome.stderr);
    let (values, consequences) = outcome.stdout.rsplit_once("\n\n").unwrap();
    assert!(values.starts_with("# The configuration is valid.\n\n[app]\napp = \"mysite.wsgi\""), "{values}");
    assert!(!values.contains("hunter2"), "{values}");
    assert_eq!(
        consequences,
        "\
# listens on 127.0.0.1:8443 for HTTPS
# listens on 0.0.0.0:8080 and redirects to HTTPS on port 8443
# serves /static from DIR/static
# runs mysite.wsgi in 1 worker process from DIR
"
    );
}

#[test]
fn warnings_do_not_stop_a_check() {
    let world = World::new().variable("MONOCEROS_WORKER", "3").file("both.pem", "-----BEGIN PRIVATE KEY-----");
    let outcome = world.run(&["check", "--print", "a", "--tls-cert", "both.pem", "-b", "http://:80"]);
    assert_eq!(
        (outcome.code, outcome.stderr.as_str()),
        (
            Some(0),
            "warning: certificates are configured, but no address speaks TLS\n\
             warning: the environment variable MONOCEROS_WORKER is unknown; did you mean MONOCEROS_WORKERS?\n"
        )
    );
}

#[test]
fn the_examples_pass_the_check() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let example = |name: &str| std::fs::read_to_string(examples.join(name)).unwrap();
    for name in ["flask.toml", "fastapi.toml", "dev.toml"] {
        let world = World::new().file("monoceros.toml", &example(name)).file("shop/static/x.css", "");
        let outcome = world.run(&["check", "--print"]);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{name}");
    }
}
