//! Combined options to the settings of each component: parsed once here, never looked at as text again.

use super::certificates::{self, Certificates};
use super::combine::Combined;
use super::definition::Key;
use super::error::{ConfigError, Problem, Warning};
use super::layer::Given;
use super::reader::Reader;
use super::{Settings, Surroundings, application, failover, files, listening, size, sources, timeouts};
use crate::control;
use crate::front::bypass::Bypass;
use crate::front::{self, limits};
use crate::supervisor;
use crate::telemetry::{self, AccessLog, Level};
use crate::upstream;
use crate::upstream::checks::Check;
use crate::upstream::ejection::Thresholds;
use monoceros_wire::zygote::{InterfaceChoice, LifespanChoice, LoopChoice, WorkerSettings};
use std::path::PathBuf;

/// Reads everything, or reports everything that is wrong.
pub(super) fn resolve(
    combined: &Combined,
    surroundings: &Surroundings<'_>,
) -> Result<(Settings, Vec<Warning>), Vec<ConfigError>> {
    let mut reader = Reader::new(combined, surroundings);
    let certificates = certificates::read(&mut reader);
    let supervisor = supervisor(&mut reader);
    let (front, mut warnings) = front(&mut reader, certificates.as_ref());
    let settings = Settings {
        front,
        upstream: upstream(&mut reader),
        supervisor,
        telemetry: telemetry(&mut reader),
        control: match reader.one(Key::ControlSocket) {
            None => control::Settings::Automatic,
            Some(given) if given.text == "off" => control::Settings::Off,
            Some(given) => control::Settings::At(reader.path(&given.text)),
        },
        development_certificate: certificates.and_then(|certificates| certificates.development),
    };
    warnings.extend(sources::unused(&reader));
    if reader.is_given(Key::IdleTimeout) && !settings.supervisor.workers.begins_at_zero() {
        warnings.push(Warning::WithoutZero);
    }
    if reader.errors.is_empty() { Ok((settings, warnings)) } else { Err(reader.errors) }
}

fn supervisor(reader: &mut Reader<'_>) -> supervisor::Settings {
    let workers = reader.bounds(Key::Workers);
    let chdir = match reader.one(Key::Chdir) {
        Some(given) => reader.directory(Key::Chdir, given, &given.text),
        None => reader.surroundings.directory.to_owned(),
    };
    supervisor::Settings {
        sources: sources::read(reader, &chdir),
        app: worker(reader, workers),
        workers,
        scale_down_after: reader.duration(Key::ScaleDownAfter),
        idle_timeout: reader.duration(Key::IdleTimeout),
        python: reader.one(Key::Python).map(|given| python(reader, given)),
        chdir,
        environment: reader.all(Key::Env).iter().filter_map(|given| variable(reader, given)).collect(),
        boot_timeout: reader.duration(Key::BootTimeout),
        warm_up: reader.all(Key::WarmUp).iter().filter_map(|given| target(reader, Key::WarmUp, given)).collect(),
        graceful_timeout: reader.duration(Key::GracefulTimeout),
        recycling: supervisor::Recycling {
            drain_timeout: reader.duration(Key::DrainTimeout),
            max_requests: reader.count(Key::MaxRequests),
            max_requests_jitter: reader.count(Key::MaxRequestsJitter),
            max_rss: reader.size(Key::MaxRss),
            max_lifetime: reader.duration(Key::MaxLifetime),
        },
        surge: reader.count(Key::Surge),
        memory_budget: reader.size(Key::MemoryBudget),
    }
}

fn worker(reader: &mut Reader<'_>, workers: supervisor::Bounds) -> WorkerSettings {
    let python_path = reader
        .all(Key::PythonPath)
        .iter()
        .map(|given| reader.directory(Key::PythonPath, given, &given.text).to_string_lossy().into_owned());
    WorkerSettings {
        python_path: python_path.collect(),
        app: application::read(reader),
        interface: match reader.word(Key::Interface) {
            "wsgi" => InterfaceChoice::Wsgi,
            "asgi" => InterfaceChoice::Asgi,
            _ => InterfaceChoice::Auto,
        },
        factory: reader.switch(Key::Factory),
        threads: reader.count(Key::Threads),
        concurrency: reader.count(Key::WorkerConcurrency),
        preload: reader.switch(Key::Preload),
        event_loop: match reader.word(Key::Loop) {
            "asyncio" => LoopChoice::Asyncio,
            "uvloop" => LoopChoice::Uvloop,
            _ => LoopChoice::Auto,
        },
        lifespan: match reader.word(Key::Lifespan) {
            "on" => LifespanChoice::On,
            "off" => LifespanChoice::Off,
            _ => LifespanChoice::Auto,
        },
        root_path: reader.one(Key::RootPath).and_then(|given| prefix(reader, Key::RootPath, given)).unwrap_or_default(),
        server_software: concat!("monoceros/", env!("CARGO_PKG_VERSION")).to_owned(),
        multiprocess: workers.most > 1,
    }
}

/// A bare name is searched for on the PATH later, everything else is a path.
fn python(reader: &Reader<'_>, given: &Given) -> PathBuf {
    if given.text.contains('/') { reader.path(&given.text) } else { PathBuf::from(&given.text) }
}

fn variable(reader: &mut Reader<'_>, given: &Given) -> Option<(String, String)> {
    match given.text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !given.text.contains('\0') => {
            Some((name.to_owned(), value.to_owned()))
        }
        _ => {
            reader.invalid(Key::Env, given, None);
            None
        }
    }
}

/// A path that begins with a slash, without one at its end; `/` becomes the empty text.
fn prefix(reader: &mut Reader<'_>, key: Key, given: &Given) -> Option<String> {
    let text = given.text.trim();
    if text.starts_with('/') && !text.contains(['?', '#', '\0']) {
        return Some(text.trim_end_matches('/').to_owned());
    }
    reader.invalid(key, given, None);
    None
}

/// What a request line may ask for: a path, with a query if wanted.
fn target(reader: &mut Reader<'_>, key: Key, given: &Given) -> Option<String> {
    let text = given.text.trim();
    if text.starts_with('/') && !text.contains('#') && text.parse::<http::uri::PathAndQuery>().is_ok() {
        return Some(text.to_owned());
    }
    reader.invalid(key, given, None);
    None
}

fn front(reader: &mut Reader<'_>, certificates: Option<&Certificates>) -> (front::Settings, Vec<Warning>) {
    let binds = listening::read(reader, certificates.is_some());
    let uses_tls = binds.iter().any(|bind| bind.purpose == front::Purpose::Https);
    let unused = certificates.is_some() && !uses_tls && reader.errors.is_empty();
    let settings = front::Settings {
        admin_binds: listening::read_admin(reader, &binds),
        health_path: reader.one(Key::HealthPath).and_then(|given| prefix(reader, Key::HealthPath, given)),
        drain_delay: reader.duration(Key::DrainDelay),
        error_pages: reader.one(Key::ErrorPages).map(|given| reader.directory(Key::ErrorPages, given, &given.text)),
        maintenance_bypass: maintenance_bypass(reader),
        binds,
        threads: reader.count(Key::FrontThreads),
        backlog: reader.count(Key::Backlog),
        tls: certificates.map(|certificates| certificates.settings.clone()),
        limits: limits(reader),
        files: files::read(reader),
        cache: cache(reader),
    };
    (settings, unused.then_some(Warning::UnusedCertificates).into_iter().collect())
}

fn cache(reader: &mut Reader<'_>) -> front::cache::Settings {
    front::cache::Settings {
        memory: reader.size(Key::Cache),
        largest: reader.size(Key::CacheMaxObject),
        wait: reader.duration(Key::CacheWait),
        stale_if_error: reader.duration(Key::CacheStaleIfError),
        purge_on_reload: reader.switch(Key::CachePurgeOnReload),
    }
}

fn maintenance_bypass(reader: &mut Reader<'_>) -> Vec<Bypass> {
    let given = reader.all(Key::MaintenanceBypass).iter();
    let rule = |given: &Given| {
        let rule = Bypass::parse(&given.text);
        if rule.is_none() {
            reader.invalid(Key::MaintenanceBypass, given, None);
        }
        rule
    };
    given.filter_map(rule).collect()
}

fn limits(reader: &mut Reader<'_>) -> limits::Settings {
    let settings = limits::Settings {
        handshake_timeout: reader.duration(Key::HandshakeTimeout),
        header_timeout: reader.duration(Key::HeaderTimeout),
        body_timeout: reader.duration(Key::BodyTimeout),
        send_timeout: reader.duration(Key::SendTimeout),
        keep_alive_timeout: reader.duration(Key::KeepAlive),
        keep_alive_requests: reader.count(Key::KeepAliveRequests),
        header_bytes: reader.size(Key::MaxHeaderSize),
        target_bytes: reader.size(Key::MaxTargetSize),
        header_fields: reader.count(Key::MaxHeaders),
        body_bytes: reader.size(Key::MaxBody),
        http2_streams: reader.count(Key::Http2Streams),
    };
    if settings.header_bytes > 0 && settings.target_bytes > settings.header_bytes {
        let target = size::show(settings.target_bytes as u64);
        let header = size::show(settings.header_bytes as u64);
        let error = ConfigError::new(Problem::TargetAboveHeader { target, header });
        reader
            .errors
            .push(ConfigError { origin: reader.one(Key::MaxTargetSize).map(|given| given.origin.clone()), ..error });
    }
    settings
}

fn upstream(reader: &mut Reader<'_>) -> upstream::Settings {
    upstream::Settings {
        queue_size: reader.count(Key::QueueSize),
        queue_timeout: reader.duration(Key::QueueTimeout),
        queue_fairness: reader.switch(Key::QueueFairness),
        stall_timeout: reader.duration(Key::StallTimeout),
        timeouts: timeouts::read(reader),
        failover: failover::read(reader),
        check: check(reader),
        response_memory: reader.size(Key::ResponseBuffer),
        response_file_max: reader.size(Key::MaxResponseFile),
        body_memory: reader.size(Key::BodyBuffer),
        stream_request: stream_request(reader),
    }
}

fn check(reader: &mut Reader<'_>) -> Option<Check> {
    let (interval, timeout) = (reader.duration(Key::CheckInterval), reader.duration(Key::CheckTimeout));
    let thresholds = Thresholds { rise: reader.count(Key::CheckRise), fall: reader.count(Key::CheckFall) };
    let target = reader.one(Key::CheckPath).and_then(|given| target(reader, Key::CheckPath, given))?;
    Some(Check { target, interval, timeout, thresholds })
}

fn stream_request(reader: &mut Reader<'_>) -> Vec<String> {
    let given = reader.all(Key::StreamRequest).iter();
    let prefixes = given.filter_map(|given| prefix(reader, Key::StreamRequest, given));
    prefixes.map(|prefix| if prefix.is_empty() { "/".to_owned() } else { prefix }).collect()
}

fn telemetry(reader: &mut Reader<'_>) -> telemetry::Settings {
    telemetry::Settings {
        level: match reader.word(Key::LogLevel) {
            "error" => Level::Error,
            "warn" => Level::Warn,
            "debug" => Level::Debug,
            "trace" => Level::Trace,
            _ => Level::Info,
        },
        access_log: match reader.one(Key::AccessLog) {
            None => AccessLog::Off,
            Some(given) if given.text == "-" => AccessLog::StandardOutput,
            Some(given) => AccessLog::File(reader.path(&given.text)),
        },
    }
}
