//! Every flag of gunicorn and uvicorn is ours, an alias of ours, or has an answer.

use super::super::arguments;
use super::*;

/// Every flag of gunicorn 27.0.1 (`gunicorn/config.py`).
const GUNICORN: &[&str] = &[
    "-c",
    "--config",
    "-b",
    "--bind",
    "--backlog",
    "-w",
    "--workers",
    "-k",
    "--worker-class",
    "--threads",
    "--worker-connections",
    "--max-requests",
    "--max-requests-jitter",
    "-t",
    "--timeout",
    "--graceful-timeout",
    "--keep-alive",
    "--limit-request-line",
    "--limit-request-fields",
    "--limit-request-field_size",
    "--reload",
    "--reload-engine",
    "--reload-extra-file",
    "--spew",
    "--check-config",
    "--print-config",
    "--preload",
    "--no-sendfile",
    "--reuse-port",
    "--chdir",
    "-D",
    "--daemon",
    "-e",
    "--env",
    "-p",
    "--pid",
    "--worker-tmp-dir",
    "-u",
    "--user",
    "-g",
    "--group",
    "-m",
    "--umask",
    "--initgroups",
    "--forwarded-allow-ips",
    "--access-logfile",
    "--disable-redirect-access-to-syslog",
    "--access-logformat",
    "--error-logfile",
    "--log-file",
    "--log-level",
    "--capture-output",
    "--logger-class",
    "--log-config",
    "--log-config-json",
    "--log-syslog-to",
    "--log-syslog",
    "--log-syslog-prefix",
    "--log-syslog-facility",
    "-R",
    "--enable-stdio-inheritance",
    "--statsd-host",
    "--dogstatsd-tags",
    "--statsd-prefix",
    "--enable-backlog-metric",
    "-n",
    "--name",
    "--pythonpath",
    "--paste",
    "--paster",
    "--proxy-protocol",
    "--proxy-allow-from",
    "--protocol",
    "--uwsgi-allow-from",
    "--keyfile",
    "--certfile",
    "--ssl-version",
    "--cert-reqs",
    "--ca-certs",
    "--suppress-ragged-eofs",
    "--do-handshake-on-connect",
    "--ciphers",
    "--http-protocols",
    "--http2-cleartext",
    "--http2-max-concurrent-streams",
    "--http2-initial-window-size",
    "--http2-max-frame-size",
    "--http2-max-header-list-size",
    "--paste-global",
    "--permit-obsolete-folding",
    "--strip-header-spaces",
    "--permit-unconventional-http-method",
    "--permit-unconventional-http-version",
    "--casefold-http-method",
    "--forwarder-headers",
    "--header-map",
    "--asgi-loop",
    "--asgi-lifespan",
    "--asgi-disconnect-grace-period",
    "--websocket-max-message-size",
    "--http-parser",
    "--root-path",
    "--dirty-app",
    "--dirty-workers",
    "--dirty-timeout",
    "--dirty-threads",
    "--dirty-graceful-timeout",
    "--control-socket",
    "--control-socket-mode",
    "--no-control-socket",
    "-v",
    "--version",
    "-h",
    "--help",
];

/// Every flag of uvicorn 0.54.0 (`uvicorn/main.py`).
const UVICORN: &[&str] = &[
    "--access-log",
    "--app-dir",
    "--backlog",
    "--date-header",
    "--env-file",
    "--factory",
    "--fd",
    "--forwarded-allow-ips",
    "--h11-max-incomplete-event-size",
    "--header",
    "--host",
    "--http",
    "--http2",
    "--interface",
    "--lifespan",
    "--limit-concurrency",
    "--limit-max-requests",
    "--limit-max-requests-jitter",
    "--log-config",
    "--log-level",
    "--loop",
    "--no-access-log",
    "--no-date-header",
    "--no-proxy-headers",
    "--no-server-header",
    "--no-use-colors",
    "--port",
    "--proxy-headers",
    "--reload",
    "--reload-delay",
    "--reload-dir",
    "--reload-exclude",
    "--reload-include",
    "--reset-contextvars",
    "--root-path",
    "--server-header",
    "--ssl-ca-certs",
    "--ssl-cert-reqs",
    "--ssl-certfile",
    "--ssl-ciphers",
    "--ssl-keyfile",
    "--ssl-keyfile-password",
    "--ssl-version",
    "--timeout-graceful-shutdown",
    "--timeout-keep-alive",
    "--timeout-worker-healthcheck",
    "--uds",
    "--use-colors",
    "--version",
    "--workers",
    "--ws",
    "--ws-max-queue",
    "--ws-max-size",
    "--ws-per-message-deflate",
    "--ws-ping-interval",
    "--ws-ping-timeout",
];

fn is_ours(flag: &str) -> bool {
    let command = arguments::command();
    let is_built_in = ["--help", "-h", "--version"].contains(&flag);
    let short = flag.strip_prefix('-').and_then(|rest| rest.parse::<char>().ok());
    is_built_in
        || command.get_arguments().any(|argument| match short {
            Some(short) => argument.get_short() == Some(short),
            None => argument
                .get_long_and_visible_aliases()
                .into_iter()
                .flatten()
                .chain(argument.get_all_aliases().into_iter().flatten())
                .any(|long| flag.strip_prefix("--") == Some(long)),
        })
}

#[test]
fn every_flag_of_the_others_has_an_answer() {
    for flag in GUNICORN.iter().chain(UVICORN) {
        let answers = FOREIGN.iter().filter(|foreign| foreign.flags.contains(flag)).count();
        let expected = usize::from(!is_ours(flag));
        assert_eq!(answers, expected, "{flag} is ours: {}", is_ours(flag));
    }
}

#[test]
fn the_table_names_nothing_else() {
    for foreign in FOREIGN {
        for flag in foreign.flags {
            let (gunicorn, uvicorn) = (GUNICORN.contains(flag), UVICORN.contains(flag));
            let server = foreign.server;
            assert!(gunicorn && server.contains("gunicorn") || uvicorn && server.contains("uvicorn"), "{flag}");
        }
        let advice = foreign.advice;
        assert!(!advice.ends_with('.') && !advice.contains('\n') && !advice.contains("  "), "{advice}");
    }
}

#[test]
fn advice_names_only_flags_that_exist() {
    let is_end = |character: char| !character.is_ascii_alphanumeric() && character != '-';
    for foreign in FOREIGN {
        for (start, _) in foreign.advice.match_indices("--") {
            let rest = &foreign.advice[start..];
            let flag = &rest[..rest.find(is_end).unwrap_or(rest.len())];
            assert!(is_ours(flag) || flag == "--print", "{flag} in: {}", foreign.advice);
        }
    }
}

/// The flags that are found in a command line.
fn found(line: &str) -> Vec<String> {
    let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    let Err(error) = arguments::parse(&arguments) else { return Vec::new() };
    in_command_line(&error, &arguments).into_iter().map(|(flag, _)| flag.to_owned()).collect()
}

#[test]
fn finds_all_of_them_at_once() {
    let cases: &[(&str, &[&str])] = &[
        ("monoceros main:app --reload-delay", &["--reload-delay"]),
        ("monoceros main:app --reload-delay=1", &["--reload-delay"]),
        ("monoceros check main:app --reload-delay", &["--reload-delay"]),
        ("monoceros -k gevent -w 4 main:app -D", &["-k", "-D"]),
        ("monoceros -kgevent main:app", &["-k"]),
        ("monoceros main:app --host 0.0.0.0 --port 80", &["--host"]),
        ("monoceros main:app --wrokers 4", &[]),
        ("monoceros main:app --wrokers 4 --reload-delay", &[]),
        ("monoceros main:app --certfile a --keyfile b", &[]),
        ("monoceros main:app --help --reload-delay", &[]),
        ("monoceros main:app two", &[]),
    ];
    for (line, flags) in cases {
        assert_eq!(found(line), *flags, "{line}");
    }
}
