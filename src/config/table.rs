//! The table of all options, in the order of the help.

use super::definition::{Definition, Key, Kind};
use std::time::Duration;

/// Options that belong together, under one heading of the help and of the reference.
#[derive(Debug)]
pub struct Group {
    pub heading: &'static str,
    pub options: &'static [Definition],
}

/// Every option there is.
pub const GROUPS: &[Group] = &[
    Group { heading: "Application", options: APPLICATION },
    Group { heading: "Workers", options: WORKERS },
    Group { heading: "Listening and TLS", options: LISTENING },
    Group { heading: "Static files", options: STATIC_FILES },
    Group { heading: "Response cache", options: CACHE },
    Group { heading: "Error pages and maintenance", options: ERROR_PAGES },
    Group { heading: "Limits and time-outs", options: LIMITS },
    Group { heading: "Logging", options: LOGGING },
];

/// All options, in the order of the help.
pub fn options() -> impl Iterator<Item = &'static Definition> {
    GROUPS.iter().flat_map(|group| group.options)
}

/// The row of one option.
pub fn definition(key: Key) -> &'static Definition {
    options().find(|option| option.key == key).unwrap_or(&APPLICATION[0])
}

/// Most worker processes.
pub const WORKERS_MAX: u64 = 1024;
/// Most threads of one WSGI worker.
pub const THREADS_MAX: u64 = 1024;
/// Most concurrent requests of one ASGI worker. The page shared with a worker has some cells more, for requests that
/// were handed over ahead of time.
pub const CONCURRENCY_MAX: u64 = monoceros_wire::CELLS_MAX as u64 - 96;
/// Largest request head. The encoded head that a worker receives has addresses and forwarded headers on top.
pub const HEADER_SIZE_MAX: u64 = monoceros_wire::HEAD_MAX as u64 / 2;
/// Most header fields of a request; the front adds its own.
pub const HEADERS_MAX: u64 = monoceros_wire::HEADERS_MAX as u64 - 24;

/// Most threads of the front.
pub const FRONT_THREADS_MAX: u64 = 256;

const SECOND: Duration = Duration::from_secs(1);
/// Shortest time between things that are done again and again.
const TENTH: Duration = Duration::from_millis(100);
const DAY: Duration = Duration::from_hours(24);
/// Shortest time-out that is not zero.
const MOMENT: Duration = Duration::from_millis(1);
const TERABYTE: u64 = 1 << 40;

const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max }
}

const fn time(min: Duration) -> Kind {
    Kind::Duration { min, max: DAY }
}

const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max }
}

const fn option(key: Key, path: &'static str, name: &'static str, value_name: &'static str, kind: Kind) -> Definition {
    Definition::new(key, path, name, value_name, kind)
}

const fn switch(key: Key, path: &'static str, name: &'static str, opposite: &'static str) -> Definition {
    Definition::new(key, path, name, "", Kind::Switch(opposite)).default("false")
}

const APPLICATION_FORM: Kind = Kind::Text("module, module:attribute or module:factory()");
const DIRECTORY: Kind = Kind::Text("an existing directory");
const PEM_FILE: Kind = Kind::Text("an existing PEM file");
const CLIENT_AUTH: Kind = Kind::Choice(&["required", "optional", "off"]);
const HSTS_FORM: Kind = Kind::Text("seconds, then ; includeSubDomains and ; preload if wanted");
const REQUEST_TARGET: Kind = Kind::Text("a path that begins with a slash, with a query if wanted");
const PATH_PREFIX: Kind = Kind::Text("a path that begins with a slash");

/// Who is let in during maintenance.
pub const BYPASS_RULE: Kind =
    Kind::Text("an address such as 10.0.0.0/8 or ::1, a path such as /health, cookie:NAME=VALUE or header:NAME=VALUE");

/// What takes the place of a file that is not there.
const FALLBACK: Kind = Kind::Text(
    "a URL under a --static-dir and a file relative to that directory, or the word app: /=index.html, /api=app",
);

/// What clients are told about keeping a file.
const CACHE_RULE: Kind =
    Kind::Text("a pattern and how long: *.css=1h, /assets/*=immutable, *.html=no-cache, *.json=no-store, *.txt=none");

/// What makes another worker try.
const RETRY_SIGN: Kind = Kind::Text(
    "died, timeout, error, a status from 400 to 599, 4xx, 5xx, header:NAME, header:NAME=VALUE, or never by itself",
);

/// What an address to listen on looks like.
pub const ADDRESS_FORM: Kind = Kind::Text(
    "host:port, :port, [ipv6]:port, unix:/path or fd://number, with http:// or https:// before it if wanted",
);

const APPLICATION: &[Definition] = &[
    option(Key::App, "app.app", "app", "APP", APPLICATION_FORM)
        .example("mysite.wsgi:application")
        .meaning("The application: module, module:attribute or module:factory()"),
    option(Key::Interface, "app.interface", "interface", "KIND", Kind::Choice(&["auto", "wsgi", "asgi"]))
        .default("auto")
        .meaning("What the application speaks: auto, wsgi or asgi"),
    switch(Key::Factory, "app.factory", "factory", "no-factory")
        .meaning("Call the attribute without arguments to get the application"),
    option(Key::Chdir, "app.chdir", "chdir", "DIR", DIRECTORY)
        .default(".")
        .meaning("Directory in which the workers run and import")
        .peer("gunicorn: chdir"),
    option(Key::PythonPath, "app.pythonpath", "pythonpath", "DIR", DIRECTORY)
        .many()
        .example("lib")
        .aliases(&["app-dir"])
        .meaning("Directory put before sys.path; repeatable")
        .peer("gunicorn: pythonpath"),
    option(Key::Python, "app.python", "python", "FILE", Kind::Text("the path or the name of a Python program"))
        .computed("active virtualenv, .venv, python3")
        .example(".venv/bin/python")
        .meaning("Python interpreter"),
    option(Key::Env, "app.env", "env", "NAME=VALUE", Kind::Text("NAME=VALUE"))
        .short('e')
        .many()
        .example("DJANGO_SETTINGS_MODULE=mysite.settings")
        .meaning("Environment variable for the workers; repeatable")
        .peer("gunicorn: raw_env"),
    switch(Key::Preload, "app.preload", "preload", "no-preload")
        .meaning("Import the application once and fork the workers from it")
        .peer("gunicorn: preload_app"),
    switch(Key::Reload, "app.reload", "reload", "no-reload")
        .meaning("Reload when a Python file in or below --chdir or --pythonpath has changed")
        .peer("gunicorn: reload"),
    option(Key::ReloadDir, "app.reload_dir", "reload-dir", "DIR", DIRECTORY)
        .many()
        .example("shop")
        .meaning("With --reload: look in and below this directory instead; repeatable"),
    option(Key::ReloadExtra, "app.reload_extra", "reload-extra", "FILE", Kind::Text("the path of a file"))
        .many()
        .example("settings.yaml")
        .aliases(&["reload-extra-file"])
        .meaning("With --reload: look at this file too, whatever it is; repeatable")
        .peer("gunicorn: reload_extra_files"),
    option(Key::Loop, "app.loop", "loop", "KIND", Kind::Choice(&["auto", "asyncio", "uvloop"]))
        .default("auto")
        .aliases(&["asgi-loop"])
        .meaning("Event loop of ASGI workers: auto, asyncio or uvloop"),
    option(Key::Lifespan, "app.lifespan", "lifespan", "MODE", Kind::Choice(&["auto", "on", "off"]))
        .default("auto")
        .aliases(&["asgi-lifespan"])
        .meaning("ASGI lifespan: auto, on or off"),
    option(Key::RootPath, "app.root_path", "root-path", "PATH", PATH_PREFIX)
        .example("/shop")
        .meaning("Path under which the application is mounted (SCRIPT_NAME, ASGI root_path)"),
];

const WORKERS: &[Definition] = &[
    option(Key::Workers, "server.workers", "workers", "N", Kind::Range { min: 1, max: WORKERS_MAX })
        .short('w')
        .computed("one per CPU core")
        .example("4")
        .meaning("Worker processes; in a range such as 2..8 as many as the load needs, in 0..8 none while nobody asks")
        .peer("gunicorn: workers"),
    option(Key::ScaleDownAfter, "server.scale_down_after", "scale-down-after", "TIME", time(MOMENT))
        .default("60s")
        .meaning("With a range of workers: let one go when one fewer would have been enough for so long"),
    option(Key::IdleTimeout, "server.idle_timeout", "idle-timeout", "TIME", time(Duration::from_secs(1)))
        .default("5m")
        .meaning("With --workers 0..N: let the last worker go when nothing was asked for, and no WebSocket open, for so long"),
    option(Key::Threads, "server.threads", "threads", "N", count(1, THREADS_MAX))
        .default("1")
        .meaning("Threads of a WSGI worker: its concurrent requests")
        .peer("gunicorn: threads"),
    option(Key::WorkerConcurrency, "server.worker_concurrency", "worker-concurrency", "N", count(1, CONCURRENCY_MAX))
        .default("1000")
        .meaning("Concurrent requests and WebSockets of an ASGI worker")
        .peer("gunicorn: worker_connections"),
    option(Key::Timeout, "upstream.timeout", "timeout", "TIME", time(Duration::ZERO))
        .short('t')
        .default("60s")
        .meaning("Time for the application to begin its answer, then 504; 0 is no limit")
        .peer("gunicorn: timeout"),
    option(Key::StallTimeout, "upstream.stall_timeout", "stall-timeout", "TIME", time(Duration::ZERO))
        .default("1s")
        .meaning("The log shows what blocks an event loop (ASGI) for longer than this; 0 is never"),
    option(
        Key::RouteTimeout,
        "upstream.route_timeout",
        "route-timeout",
        "PATH=TIME",
        Kind::Text("a path and a time: PATH=TIME"),
    )
    .many()
    .example("/report=5m")
    .meaning("The same for paths at or below PATH, the longest PATH counts; repeatable"),
    option(Key::PauseTimeout, "upstream.pause_timeout", "pause-timeout", "TIME", time(Duration::ZERO))
        .computed("60s for WSGI, none for ASGI")
        .example("60s")
        .meaning("Longest pause within an answer, then it is cut off; 0 is no limit")
        .peer("nginx: proxy_read_timeout"),
    option(Key::GracefulTimeout, "server.graceful_timeout", "graceful-timeout", "TIME", time(Duration::ZERO))
        .default("30s")
        .aliases(&["timeout-graceful-shutdown"])
        .meaning("Time for requests in progress when stopping")
        .peer("gunicorn: graceful_timeout"),
    option(Key::BootTimeout, "server.boot_timeout", "boot-timeout", "TIME", time(SECOND))
        .default("60s")
        .meaning("Time for a worker to import the application and get ready"),
    option(Key::WarmUp, "server.warm_up", "warm-up", "PATH", REQUEST_TARGET)
        .many()
        .example("/")
        .meaning("Request that a new worker has to answer well (2xx, 3xx) before it serves; repeatable"),
    option(Key::DrainTimeout, "server.drain_timeout", "drain-timeout", "TIME", time(Duration::ZERO))
        .default("30s")
        .meaning("Time for requests in progress in a worker that is replaced"),
    option(Key::MaxRequests, "server.max_requests", "max-requests", "N", count(0, u64::MAX >> 1))
        .default("0")
        .aliases(&["limit-max-requests"])
        .meaning("Replace a worker after so many requests, a new one first; 0 is never")
        .peer("gunicorn: max_requests"),
    option(Key::MaxRequestsJitter, "server.max_requests_jitter", "max-requests-jitter", "N", count(0, u64::MAX >> 1))
        .default("0")
        .aliases(&["limit-max-requests-jitter"])
        .meaning("Up to so many requests more, at random, so that workers are not replaced all at once")
        .peer("gunicorn: max_requests_jitter"),
    option(Key::MaxRss, "server.max_rss", "max-rss", "SIZE", size(0, u64::MAX >> 1))
        .default("0")
        .meaning("Replace a worker that uses more memory than this, a new one first; 0 is no limit"),
    option(Key::MaxLifetime, "server.max_lifetime", "max-lifetime", "TIME", time(Duration::ZERO))
        .default("0")
        .meaning("Replace a worker that has served this long, and at random up to a tenth longer; 0 is never"),
    option(Key::Surge, "server.surge", "surge", "N", count(1, WORKERS_MAX))
        .default("1")
        .meaning("Most workers beyond the wanted ones while some are replaced: so many start at a time"),
    option(Key::MemoryBudget, "server.memory_budget", "memory-budget", "SIZE", size(0, u64::MAX >> 1))
        .default("0")
        .meaning("Memory of all workers together: where no more fit, an old one leaves before a new one starts; 0 is no limit"),
    option(Key::QueueSize, "upstream.queue_size", "queue-size", "N", count(1, 1 << 20))
        .default("1024")
        .meaning("Requests that may wait for a worker; one more gets 503"),
    option(Key::QueueTimeout, "upstream.queue_timeout", "queue-timeout", "TIME", time(MOMENT))
        .default("10s")
        .meaning("Longest wait for a worker, then 503"),
    switch(Key::QueueFairness, "upstream.queue_fairness", "queue-fairness", "no-queue-fairness")
        .default("true")
        .meaning("Clients take turns in the queue; when it is full, the one with the most makes room"),
    option(Key::Retries, "upstream.retries", "retries", "N", count(0, 16))
        .default("1")
        .meaning("Attempts on another worker when that is safe")
        .peer("nginx: proxy_next_upstream_tries"),
    option(Key::RetryOn, "upstream.retry_on", "retry-on", "SIGN", RETRY_SIGN)
        .many()
        .default("died")
        .meaning("By what another worker is asked, after the application was entered; repeatable")
        .peer("nginx: proxy_next_upstream"),
    option(Key::RetryTimeout, "upstream.retry_timeout", "retry-timeout", "TIME", time(Duration::ZERO))
        .default("0")
        .meaning("So long after the arrival of a request no further attempt begins; 0 is no limit")
        .peer("nginx: proxy_next_upstream_timeout"),
    option(Key::RetryBudget, "upstream.retry_budget", "retry-budget", "PERCENT", count(1, 100))
        .default("20")
        .meaning("Most further attempts, of the requests of the last 10 s; three are always allowed"),
    switch(Key::RetryNonIdempotent, "upstream.retry_non_idempotent", "retry-non-idempotent", "no-retry-non-idempotent")
        .meaning("Ask another worker after a status or a header field of --retry-on for POST and PATCH too")
        .peer("nginx: proxy_next_upstream non_idempotent"),
    option(Key::CheckPath, "health.check_path", "check-path", "PATH", REQUEST_TARGET)
        .example("/health")
        .meaning("Ask every worker for this path now and then; one that fails gets no requests")
        .peer("nginx: health_check uri"),
    option(Key::CheckInterval, "health.check_interval", "check-interval", "TIME", time(TENTH))
        .default("5s")
        .meaning("Time between two health checks of a worker")
        .peer("nginx: health_check interval"),
    option(Key::CheckTimeout, "health.check_timeout", "check-timeout", "TIME", time(TENTH))
        .default("5s")
        .meaning("Time for the whole answer to a health check"),
    option(Key::CheckRise, "health.check_rise", "check-rise", "N", count(1, 1000))
        .default("2")
        .meaning("Good answers in a row until a worker gets requests again")
        .peer("nginx: health_check passes"),
    option(Key::CheckFall, "health.check_fall", "check-fall", "N", count(1, 1000))
        .default("3")
        .meaning("Bad answers in a row until a worker gets no more requests")
        .peer("nginx: health_check fails"),
    option(Key::StreamRequest, "upstream.stream_request", "stream-request", "PATH", PATH_PREFIX)
        .many()
        .example("/upload")
        .meaning("Path prefix whose request bodies go to an ASGI application unbuffered; repeatable")
        .peer("nginx: proxy_request_buffering off"),
];

const LISTENING: &[Definition] = &[
    option(Key::Bind, "server.bind", "bind", "ADDRESS", ADDRESS_FORM)
        .short('b')
        .many()
        .default("127.0.0.1:8000")
        .meaning("Address to listen on; repeatable; TLS when there is a certificate, but not on a Unix socket")
        .peer("gunicorn: bind"),
    option(Key::RedirectHttp, "server.redirect_http", "redirect-http", "ADDRESS", ADDRESS_FORM)
        .bare(":80")
        .example(":80")
        .meaning("Redirect plain HTTP on this address, :80 if none is named, to the TLS address"),
    option(Key::AdminBind, "server.admin_bind", "admin-bind", "ADDRESS", Kind::Text("HOST:PORT or unix:PATH"))
        .many()
        .example("127.0.0.1:9000")
        .meaning("Plain HTTP for operators: /-/live, /-/ready, /-/status; may be given several times"),
    option(Key::HealthPath, "server.health_path", "health-path", "PATH", Kind::Text("a path that begins with a slash"))
        .example("/-")
        .meaning("Clients may ask for PATH/live and PATH/ready; the front answers, not the application"),
    option(Key::DrainDelay, "server.drain_delay", "drain-delay", "TIME", time(Duration::ZERO))
        .default("0")
        .meaning("When stopping, be not ready for this long before connections are no longer taken"),
    option(Key::TlsCert, "tls.cert", "tls-cert", "FILE", PEM_FILE)
        .many()
        .example("certs/site.pem")
        .aliases(&["certfile", "ssl-certfile"])
        .meaning("Certificate chain, PEM; repeatable; may hold its key too")
        .peer("nginx: ssl_certificate"),
    option(Key::TlsKey, "tls.key", "tls-key", "FILE", PEM_FILE)
        .many()
        .example("certs/site.key")
        .aliases(&["keyfile", "ssl-keyfile"])
        .meaning("Private key of the certificate at the same place in order")
        .peer("nginx: ssl_certificate_key"),
    option(Key::TlsMinVersion, "tls.min_version", "tls-min-version", "VERSION", Kind::Choice(&["1.2", "1.3"]))
        .default("1.2")
        .meaning("Oldest TLS version: 1.2 or 1.3")
        .peer("nginx: ssl_protocols"),
    option(Key::TlsCiphers, "tls.ciphers", "tls-ciphers", "POLICY", Kind::Choice(&["intermediate", "modern"]))
        .default("intermediate")
        .meaning("Policy of Mozilla's guide: intermediate, without its ciphers for very old clients, or modern, TLS 1.3 only")
        .peer("nginx: ssl_ciphers"),
    option(Key::Hsts, "tls.hsts", "hsts", "SECONDS", HSTS_FORM)
        .bare("31536000")
        .example("31536000; includeSubDomains")
        .meaning("Tell browsers to come over TLS only, for a year if no time is given; hard to take back")
        .peer("nginx: add_header Strict-Transport-Security"),
    option(Key::TlsClientCa, "tls.client_ca", "tls-client-ca", "FILE", PEM_FILE)
        .example("certs/clients.pem")
        .meaning("Ask clients for certificates that these authorities have signed")
        .peer("nginx: ssl_client_certificate"),
    option(Key::TlsClientAuth, "tls.client_auth", "tls-client-auth", "MODE", CLIENT_AUTH)
        .computed("required with --tls-client-ca")
        .example("optional")
        .meaning("With --tls-client-ca: required, optional, or off; the application learns who it is")
        .peer("nginx: ssl_verify_client"),
    option(Key::TlsClientCrl, "tls.client_crl", "tls-client-crl", "FILE", PEM_FILE)
        .example("certs/revoked.pem")
        .meaning("With --tls-client-ca: revocation lists; a certificate whose authority has none in it is refused")
        .peer("nginx: ssl_crl"),
    switch(Key::DevCert, "tls.dev_cert", "dev-cert", "no-dev-cert")
        .meaning("Serve TLS with a certificate for localhost, made and kept in certs/; see monoceros trust"),
    option(Key::DevName, "tls.dev_name", "dev-name", "NAME", Kind::Text("a name or an address of a private network"))
        .many()
        .example("laptop.local")
        .meaning("A further name or address in the certificate of --dev-cert; repeatable"),
    option(Key::Backlog, "server.backlog", "backlog", "N", count(1, 65_535))
        .default("2048")
        .meaning("Connections the kernel keeps until they are accepted")
        .peer("gunicorn: backlog"),
    option(Key::FrontThreads, "server.front_threads", "front-threads", "N", count(1, FRONT_THREADS_MAX))
        .computed("one per CPU core")
        .example("2")
        .meaning("Threads that talk to clients")
        .peer("nginx: worker_processes"),
];

const STATIC_FILES: &[Definition] = &[
    option(Key::StaticDir, "static.dir", "static-dir", "[URL=]DIR", Kind::Text("DIR, or /url=DIR"))
        .many()
        .example("/static=staticfiles")
        .meaning("Serve the files of DIR under URL, /static if none is named; repeatable")
        .peer("nginx: location, alias"),
    switch(Key::StaticPrecompressed, "static.precompressed", "static-precompressed", "no-static-precompressed")
        .default("true")
        .meaning("Send FILE.br, FILE.zst or FILE.gz in place of FILE to clients that take it")
        .peer("nginx: gzip_static"),
    option(Key::StaticCache, "static.cache", "static-cache", "PATTERN=VALUE", CACHE_RULE)
        .many()
        .example("*.css=1h")
        .meaning("Cache-Control of files that fit PATTERN, the first that fits counts; repeatable")
        .peer("nginx: expires"),
    option(
        Key::StaticType,
        "static.type",
        "static-type",
        ".EXT=TYPE",
        Kind::Text("an ending and its type: .ext=type/subtype"),
    )
    .many()
    .example(".glb=model/gltf-binary")
    .meaning("Content-Type of files with this ending; repeatable")
    .peer("nginx: types"),
    option(
        Key::StaticSymlinks,
        "static.symlinks",
        "static-symlinks",
        "POLICY",
        Kind::Choice(&["inside", "owner", "off"]),
    )
    .default("inside")
    .meaning("Follow links that stay inside the directory, links to what their owner owns, or none")
    .peer("nginx: disable_symlinks"),
    option(Key::StaticFallback, "static.fallback", "static-fallback", "URL=FILE", FALLBACK)
        .many()
        .example("/=index.html")
        .meaning("Send FILE to browsers that ask for a page under URL which is no file; repeatable")
        .peer("nginx: try_files"),
    option(Key::StaticCleanUrls, "static.clean_urls", "static-clean-urls", "URL", PATH_PREFIX)
        .many()
        .example("/docs")
        .meaning("Under URL, /about is also the file about.html; repeatable")
        .peer("nginx: try_files $uri $uri.html"),
    option(Key::InternalDir, "static.internal_dir", "internal-dir", "URL=DIR", Kind::Text("/url=DIR"))
        .many()
        .example("/protected=/srv/private")
        .meaning("Files that only the application can have sent, by X-Accel-Redirect or X-Sendfile; repeatable")
        .peer("nginx: internal"),
];

const CACHE: &[Definition] = &[
    option(Key::Cache, "cache.size", "cache", "SIZE", size(0, TERABYTE))
        .default("0")
        .meaning("Memory for answers of the application that may be used again; 0 is no cache")
        .peer("nginx: proxy_cache"),
    option(Key::CacheMaxObject, "cache.max_object", "cache-max-object", "SIZE", size(1 << 10, 1 << 30))
        .default("1MB")
        .meaning("Longest answer that is stored"),
    option(Key::CacheWait, "cache.wait", "cache-wait", "TIME", time(Duration::ZERO))
        .default("5s")
        .meaning("How long a request waits for the same answer to another one, then it asks by itself")
        .peer("nginx: proxy_cache_lock_timeout"),
    option(Key::CacheStaleIfError, "cache.stale_if_error", "cache-stale-if-error", "TIME", time(Duration::ZERO))
        .default("60s")
        .meaning("Instead of an error an answer is used again that is stale for less than this; 0 is never")
        .peer("nginx: proxy_cache_use_stale"),
    switch(Key::CachePurgeOnReload, "cache.purge_on_reload", "cache-purge-on-reload", "no-cache-purge-on-reload")
        .meaning("Empty the cache when the application was loaded anew"),
];

const ERROR_PAGES: &[Definition] = &[
    option(Key::ErrorPages, "server.error_pages", "error-pages", "DIR", DIRECTORY)
        .example("error_pages")
        .meaning("Pages for failures: 503.html, 5xx.html, 4xx.html, error.html, maintenance.html")
        .peer("nginx: error_page"),
    option(Key::MaintenanceBypass, "server.maintenance_bypass", "maintenance-bypass", "RULE", BYPASS_RULE)
        .many()
        .example("10.0.0.0/8")
        .meaning("Who is let in during maintenance; repeatable"),
];

const LIMITS: &[Definition] = &[
    option(Key::MaxBody, "limits.max_body", "max-body", "SIZE", size(0, TERABYTE))
        .default("1MB")
        .meaning("Largest request body, then 413; 0 is no limit")
        .peer("nginx: client_max_body_size"),
    option(Key::MaxHeaderSize, "limits.max_header_size", "max-header-size", "SIZE", size(8 << 10, HEADER_SIZE_MAX))
        .default("32k")
        .meaning("Largest request head, then 431")
        .peer("nginx: large_client_header_buffers"),
    option(Key::MaxHeaders, "limits.max_headers", "max-headers", "N", count(16, HEADERS_MAX))
        .default("128")
        .aliases(&["limit-request-fields"])
        .meaning("Most header fields of a request, then 431")
        .peer("nginx: max_headers"),
    option(Key::MaxTargetSize, "limits.max_target_size", "max-target-size", "SIZE", size(256, HEADER_SIZE_MAX))
        .default("8k")
        .meaning("Longest request target (path and query), then 414")
        .peer("gunicorn: limit_request_line"),
    option(Key::HandshakeTimeout, "limits.handshake_timeout", "handshake-timeout", "TIME", time(MOMENT))
        .default("15s")
        .meaning("Time for the TLS handshake"),
    option(Key::HeaderTimeout, "limits.header_timeout", "header-timeout", "TIME", time(MOMENT))
        .default("60s")
        .meaning("Time for a whole request head")
        .peer("nginx: client_header_timeout"),
    option(Key::BodyTimeout, "limits.body_timeout", "body-timeout", "TIME", time(MOMENT))
        .default("60s")
        .meaning("Time between two reads of a request body")
        .peer("nginx: client_body_timeout"),
    option(Key::SendTimeout, "limits.send_timeout", "send-timeout", "TIME", time(MOMENT))
        .default("60s")
        .meaning("Time between two writes of a response")
        .peer("nginx: send_timeout"),
    option(Key::KeepAlive, "limits.keep_alive", "keep-alive", "TIME", time(MOMENT))
        .default("75s")
        .aliases(&["timeout-keep-alive"])
        .meaning("Time an idle connection is kept")
        .peer("nginx: keepalive_timeout; gunicorn: keepalive"),
    option(Key::KeepAliveRequests, "limits.keep_alive_requests", "keep-alive-requests", "N", count(1, u32::MAX as u64))
        .default("1000")
        .meaning("Requests on one connection")
        .peer("nginx: keepalive_requests"),
    option(Key::Http2Streams, "limits.http2_streams", "http2-streams", "N", count(1, 4096))
        .default("128")
        .aliases(&["http2-max-concurrent-streams"])
        .meaning("Concurrent requests on one HTTP/2 connection")
        .peer("nginx: http2_max_concurrent_streams"),
    option(
        Key::BodyBuffer,
        "upstream.body_buffer",
        "body-buffer",
        "SIZE",
        size(0, monoceros_wire::BODY_INLINE_MAX as u64),
    )
    .default("64k")
    .meaning("Longer request bodies wait in a temporary file")
    .peer("nginx: client_body_buffer_size"),
    option(Key::ResponseBuffer, "upstream.response_buffer", "response-buffer", "SIZE", size(64 << 10, 1 << 30))
        .default("1MB")
        .meaning("Response bytes kept in memory for a slow client, then in a file")
        .peer("nginx: proxy_buffers"),
    option(Key::MaxResponseFile, "upstream.max_response_file", "max-response-file", "SIZE", size(0, TERABYTE))
        .default("1GB")
        .meaning("Longest response taken off a worker for a slow client")
        .peer("nginx: proxy_max_temp_file_size"),
];

const LOGGING: &[Definition] = &[
    option(Key::ControlSocket, "server.control_socket", "control-socket", "PATH", Kind::Text("a path, or \"off\""))
        .computed("in /run/monoceros, or in the user's runtime directory")
        .example("/run/site/control.sock")
        .meaning("Socket for monoceros status, reload and other commands; off is none")
        .peer("gunicorn: control_socket"),
    option(
        Key::LogLevel,
        "log.level",
        "log-level",
        "LEVEL",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
    )
    .default("info")
    .meaning("How much is logged: error, warn, info, debug or trace")
    .peer("gunicorn: loglevel"),
    option(Key::AccessLog, "log.access_log", "access-log", "FILE", Kind::Text("a file, or - for standard output"))
        .bare("-")
        .example("-")
        .aliases(&["access-logfile"])
        .meaning("One line per request into this file, or - for standard output")
        .peer("gunicorn: accesslog"),
];
