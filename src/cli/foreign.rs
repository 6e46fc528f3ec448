//! Flags of gunicorn and uvicorn that are none of ours: what to use here, or why it is not needed.
//!
//! Those that mean exactly the same as one of ours are its aliases in [`crate::config::table`]. What is here would
//! otherwise get a guess of clap's by its spelling, such as `--preload` for `--reload`.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;

/// Flags of other servers that have one answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Foreign {
    /// Long flags, and short ones of a single letter, with their dashes.
    pub(super) flags: &'static [&'static str],
    /// Whose flags they are.
    pub(super) server: &'static str,
    /// What to do here. One line.
    pub(super) advice: &'static str,
}

/// The flags of other servers in a command line that clap has refused because of an unknown one; nothing when that one is
/// simply unknown.
pub(super) fn in_command_line<'a>(error: &clap::Error, arguments: &'a [OsString]) -> Vec<(&'a str, &'static Foreign)> {
    let unknown = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(unknown)) if error.kind() == ErrorKind::UnknownArgument => unknown,
        _ => return Vec::new(),
    };
    let Some(first) = find(unknown) else { return Vec::new() };
    let mut found: Vec<(&str, &Foreign)> = Vec::new();
    let texts = arguments.iter().filter_map(|argument| argument.to_str()).take_while(|argument| *argument != "--");
    for (name, foreign) in texts.filter_map(|text| Some((name(text), find(text)?))) {
        if !found.iter().any(|(_, other)| *other == foreign) {
            found.push((name, foreign));
        }
    }
    // One that stands in a group of short flags is not seen by this search, only by clap.
    if found.is_empty() { vec![(first.flags[0], first)] } else { found }
}

fn find(argument: &str) -> Option<&'static Foreign> {
    let name = name(argument);
    FOREIGN.iter().find(|foreign| foreign.flags.contains(&name))
}

/// The flag without its value: `--bind=:80` and `-b:80` too.
fn name(argument: &str) -> &str {
    if argument.starts_with("--") {
        return argument.split_once('=').map_or(argument, |(name, _)| name);
    }
    let end = argument.char_indices().nth(2).map_or(argument.len(), |(index, _)| index);
    if argument.starts_with('-') { &argument[..end] } else { argument }
}

const fn gunicorn(flags: &'static [&'static str], advice: &'static str) -> Foreign {
    Foreign { flags, server: "gunicorn", advice }
}

const fn uvicorn(flags: &'static [&'static str], advice: &'static str) -> Foreign {
    Foreign { flags, server: "uvicorn", advice }
}

const fn both(flags: &'static [&'static str], advice: &'static str) -> Foreign {
    Foreign { flags, server: "gunicorn and uvicorn", advice }
}

const FOREIGN: &[Foreign] = &[
    // What runs, and how often
    gunicorn(
        &["--reload-engine"],
        "not needed: the kernel tells of changes, and where it does not, files are looked at",
    ),
    uvicorn(
        &["--reload-include", "--reload-exclude"],
        "Python files count, and each file named by --reload-extra FILE; virtual environments and hidden directories do not",
    ),
    uvicorn(&["--reload-delay"], "not needed: a reload begins when nothing more has changed for a moment"),
    gunicorn(
        &["-k", "--worker-class"],
        "leave it out: WSGI and ASGI are recognised (--interface says which one), threads are --threads N, the event loop \
         is --loop; there are no gevent or eventlet workers",
    ),
    gunicorn(
        &["--worker-connections"],
        "concurrent requests of an ASGI worker are --worker-concurrency N, those of a WSGI worker --threads N; idle \
         connections hold no worker",
    ),
    uvicorn(
        &["--limit-concurrency"],
        "requests over --worker-concurrency wait in a queue: --queue-size and --queue-timeout say when one gets 503",
    ),
    uvicorn(
        &["--timeout-worker-healthcheck"],
        "not needed: a worker that dies is seen at once, an application that is too slow by --timeout",
    ),
    gunicorn(&["--worker-tmp-dir"], "not needed: there are no heartbeat files"),
    gunicorn(
        &["--asgi-disconnect-grace-period"],
        "there is no such limit: the application sees the disconnect and decides itself",
    ),
    gunicorn(
        &["--dirty-app", "--dirty-workers", "--dirty-timeout", "--dirty-threads", "--dirty-graceful-timeout"],
        "there are no workers for background tasks: use a task queue such as Celery or RQ",
    ),
    uvicorn(&["--env-file"], "give each variable with --env NAME=VALUE, or EnvironmentFile= in the systemd unit"),
    uvicorn(&["--reset-contextvars"], "not needed: each request begins in a context of its own"),
    gunicorn(&["--paste", "--paster", "--paste-global"], "name a module that loads the PasteDeploy file: main:app"),
    gunicorn(&["--spew"], "use a tracer of Python, such as python -m trace"),
    // The process
    gunicorn(
        &["-D", "--daemon"],
        "leave it out and let a supervisor start monoceros: docs/deploy.md has a systemd unit",
    ),
    gunicorn(&["-p", "--pid"], "there is no PID file: systemd and containers know the process they have started"),
    gunicorn(
        &["-u", "--user", "-g", "--group", "--initgroups"],
        "start monoceros as that user: User= and Group= in the systemd unit, with \
         AmbientCapabilities=CAP_NET_BIND_SERVICE for ports 80 and 443",
    ),
    gunicorn(&["-m", "--umask"], "set it before the start: UMask= in the systemd unit, or umask in the shell"),
    gunicorn(&["-n", "--name"], "process titles cannot be chosen"),
    gunicorn(
        &["--control-socket-mode", "--no-control-socket"],
        "only its owner may use the control socket; --control-socket off leaves it out",
    ),
    gunicorn(&["--check-config"], "write: monoceros check APP …"),
    gunicorn(&["--print-config"], "write: monoceros check --print APP …"),
    gunicorn(&["-v"], "write --version"),
    // Listening
    uvicorn(&["--host", "--port"], "both are one option: --bind HOST:PORT, such as --bind 0.0.0.0:8000"),
    uvicorn(&["--uds"], "write --bind unix:PATH"),
    uvicorn(&["--fd"], "write --bind fd://NUMBER"),
    gunicorn(&["--reuse-port"], "not needed: the workers do not accept connections, the front does for all of them"),
    gunicorn(
        &["--proxy-protocol", "--proxy-allow-from"],
        "the PROXY protocol is not spoken yet: let clients connect to monoceros directly",
    ),
    gunicorn(&["--protocol", "--uwsgi-allow-from"], "monoceros speaks HTTP: let clients connect to it directly"),
    both(
        &["--forwarded-allow-ips", "--proxy-headers", "--no-proxy-headers", "--forwarder-headers"],
        "not needed where clients connect to monoceros: the application sees their address and scheme; behind another \
         proxy the application gets its headers and has to read them itself (Werkzeug: ProxyFix)",
    ),
    // HTTP
    gunicorn(
        &["--limit-request-line"],
        "write --max-target-size SIZE: the path with its query alone, without method and version",
    ),
    gunicorn(
        &["--limit-request-field_size", "--http2-max-header-list-size"],
        "write --max-header-size SIZE: all header fields of a request together",
    ),
    uvicorn(&["--h11-max-incomplete-event-size"], "write --max-header-size SIZE"),
    gunicorn(&["--http-protocols"], "leave it out: HTTP/2 and HTTP/1.1 are both spoken"),
    uvicorn(&["--http2"], "leave it out: HTTP/2 and HTTP/1.1 are both spoken"),
    gunicorn(&["--http2-cleartext"], "leave it out: browsers speak HTTP/2 over TLS only, and that needs no flag"),
    gunicorn(&["--http2-initial-window-size", "--http2-max-frame-size"], "leave it out: it cannot be set"),
    gunicorn(&["--http-parser"], "leave it out: there is one parser"),
    uvicorn(&["--http"], "leave it out: there is one parser, for HTTP/1.1 and HTTP/2"),
    gunicorn(
        &[
            "--permit-obsolete-folding",
            "--strip-header-spaces",
            "--permit-unconventional-http-method",
            "--permit-unconventional-http-version",
            "--casefold-http-method",
            "--header-map",
        ],
        "leave it out: ambiguous requests are refused, docs/http-strictness.md says which and why",
    ),
    gunicorn(&["--no-sendfile"], "leave it out: it cannot be set"),
    uvicorn(&["--header"], "set it in the application: a middleware can add a header to every answer"),
    uvicorn(
        &["--server-header", "--no-server-header"],
        "leave it out: monoceros adds no Server header, the application may",
    ),
    uvicorn(&["--date-header", "--no-date-header"], "leave it out: every answer has a Date header"),
    // WebSocket
    uvicorn(&["--ws"], "leave it out: WebSocket is always there for ASGI applications"),
    uvicorn(&["--ws-max-size"], "it cannot be set: messages of clients may have 16 MB"),
    gunicorn(&["--websocket-max-message-size"], "it cannot be set: messages of clients may have 16 MB"),
    uvicorn(&["--ws-max-queue"], "leave it out: a client that sends faster than the application reads has to wait"),
    uvicorn(
        &["--ws-ping-interval", "--ws-ping-timeout"],
        "it cannot be set: a silent client is pinged after 20 s, and given up 20 s later",
    ),
    uvicorn(&["--ws-per-message-deflate"], "leave it out: permessage-deflate is used when the client offers it"),
    // TLS
    uvicorn(
        &["--ssl-keyfile-password"],
        "write the key without its password: openssl pkey -in key.pem -out plain.pem, and make that file readable for the \
         server's user only",
    ),
    both(&["--ssl-version"], "write --tls-min-version 1.2 or 1.3"),
    gunicorn(
        &["--ciphers"],
        "leave it out, or write --tls-ciphers modern: only ciphers that are safe today are offered",
    ),
    uvicorn(
        &["--ssl-ciphers"],
        "leave it out, or write --tls-ciphers modern: only ciphers that are safe today are offered",
    ),
    gunicorn(
        &["--cert-reqs", "--ca-certs"],
        "write --tls-client-ca FILE, with --tls-client-auth optional if it may be missing",
    ),
    uvicorn(
        &["--ssl-cert-reqs", "--ssl-ca-certs"],
        "write --tls-client-ca FILE, with --tls-client-auth optional if it may be missing",
    ),
    gunicorn(&["--suppress-ragged-eofs", "--do-handshake-on-connect"], "leave it out: it is a setting of Python's ssl"),
    // Logs
    gunicorn(
        &["--error-logfile", "--log-file"],
        "the log goes to standard error: 2>> FILE in the shell, StandardError= in the systemd unit",
    ),
    gunicorn(&["--access-logformat"], "the format of the access log cannot be chosen"),
    uvicorn(&["--no-access-log"], "leave it out: there is an access log only with --access-log"),
    gunicorn(&["--capture-output"], "leave it out: what workers print is always in the log, with their number"),
    both(
        &["--log-config", "--log-config-json", "--logger-class"],
        "monoceros does not set up Python's logging: the application does, and what it logs to standard error is in the \
         log",
    ),
    gunicorn(
        &[
            "--log-syslog",
            "--log-syslog-to",
            "--log-syslog-prefix",
            "--log-syslog-facility",
            "--disable-redirect-access-to-syslog",
        ],
        "the log goes to standard error: systemd passes it to the journal and to syslog, others with | logger",
    ),
    gunicorn(&["-R", "--enable-stdio-inheritance"], "leave it out: monoceros does not detach from its terminal"),
    gunicorn(
        &["--statsd-host", "--statsd-prefix", "--dogstatsd-tags", "--enable-backlog-metric"],
        "there are no metrics yet; --access-log has the times of every request",
    ),
    uvicorn(&["--use-colors", "--no-use-colors"], "colours are used on a terminal; NO_COLOR=1 turns them off"),
];

#[cfg(test)]
#[path = "foreign_tests.rs"]
mod tests;
