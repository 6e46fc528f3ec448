//! The configuration as a whole: defaults, precedence, all mistakes at once, and the files that are made from the table.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use http::HeaderValue;
use monoceros::config::definition::{Default as Unset, Key, Kind};
use monoceros::config::error::ConfigError;
use monoceros::config::layer::{Environment, Given, Layer, Origin};
use monoceros::config::table::options;
use monoceros::config::{
    self, Disk, DiskEntry, Obstacle, Resolved, Settings, Sources, Surroundings, file, reference, show,
};
use monoceros::front::files::cache_control::IMMUTABLE;
use monoceros::front::files::open::Symlinks;
use monoceros::front::{BindAddress, Purpose, files, limits};
use monoceros::{telemetry, upstream};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is on the disk: directories end with a slash.
struct PaperDisk(&'static [&'static str]);

impl Disk for PaperDisk {
    fn entry(&self, path: &Path) -> Result<DiskEntry, Obstacle> {
        let path = path.to_str().unwrap();
        if path.starts_with("/srv/closed") {
            return Err(Obstacle::Denied { barrier: "/srv/closed".into(), user: "www-data".to_owned() });
        }
        let directory = self.0.iter().any(|entry| entry.strip_suffix('/') == Some(path));
        let file = || self.0.contains(&path).then_some(DiskEntry::File).ok_or(Obstacle::Missing);
        if directory { Ok(DiskEntry::Directory) } else { file() }
    }

    fn holds_private_key(&self, path: &Path) -> bool {
        path.to_str().is_some_and(|path| path.contains("both"))
    }
}

const DISK: PaperDisk =
    PaperDisk(&["/srv/", "/srv/static/", "/srv/site.pem", "/srv/site.key", "/srv/both.pem", "/srv/other.pem"]);

fn arguments(pairs: &[(Key, &[&str])]) -> Layer {
    let mut layer = Layer::default();
    for (key, texts) in pairs {
        let origin = || Origin::Flag(options().find(|option| option.key == *key).unwrap().flag());
        let given = |text: &&str| Given { text: (*text).to_owned(), origin: origin() };
        layer.set(*key, texts.iter().map(given).collect());
    }
    layer
}

fn load(arguments: Layer, environment: &[(&str, &str)], file: Option<&str>) -> Result<Resolved, Vec<ConfigError>> {
    let environment: Environment =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let file = file.map(|text| (PathBuf::from("monoceros.toml"), text.to_owned()));
    let surroundings = Surroundings {
        directory: Path::new("/srv"),
        cores: 6,
        data_directory: Some(Path::new("/home/me/.local/share")),
        disk: &DISK,
    };
    config::load(&Sources { arguments, environment, file, ..Sources::default() }, &surroundings)
}

fn settings(pairs: &[(Key, &[&str])]) -> Settings {
    let mut layer = arguments(pairs);
    layer.set(Key::App, vec![Given { text: "main:app".to_owned(), origin: Origin::Default }]);
    load(layer, &[], None).unwrap().settings
}

fn messages(errors: &[ConfigError]) -> Vec<String> {
    let place = |error: &ConfigError| error.origin.as_ref().map_or_else(String::new, |origin| format!(" [{origin}]"));
    errors.iter().map(|error| format!("{}{}", error.problem, place(error))).collect()
}

#[test]
fn defaults_are_those_of_the_components() {
    let settings = settings(&[]);
    assert_eq!(settings.front.limits, limits::Settings::default());
    assert_eq!(settings.front.files, files::Settings::default());
    assert_eq!(settings.upstream, upstream::Settings::default());
    assert_eq!(settings.telemetry.level, telemetry::Level::default());
    assert_eq!(settings.telemetry.access_log, telemetry::AccessLog::default());
    assert_eq!((settings.supervisor.workers.most, settings.front.threads), (6, 6));
    assert_eq!(settings.supervisor.chdir, Path::new("/srv"));
    assert!(settings.front.tls.is_none() && settings.development_certificate.is_none());
    let [bind] = settings.front.binds.as_slice() else { panic!("one address: {:?}", settings.front.binds) };
    assert_eq!((bind.address.clone(), bind.purpose), (BindAddress::Tcp(([127, 0, 0, 1], 8000).into()), Purpose::Http));
}

#[test]
fn each_source_wins_over_the_ones_below_it() {
    let file = "[server]\nworkers = 3\n[app]\napp = 'a'\n";
    let workers = |flag: bool, variable: bool, in_file: bool, convention: bool| {
        let flags = if flag { arguments(&[(Key::Workers, &["5"])]) } else { Layer::default() };
        let mut environment = vec![("MONOCEROS_APP", "a")];
        environment.extend(variable.then_some(("MONOCEROS_WORKERS", "4")));
        environment.extend(convention.then_some(("WEB_CONCURRENCY", "2")));
        let resolved = load(flags, &environment, in_file.then_some(file)).unwrap();
        (resolved.settings.supervisor.workers.most, resolved.combined.get(Key::Workers)[0].origin.to_string())
    };
    let cases = [
        ((true, true, true, true), (5, "--workers on the command line")),
        ((false, true, true, true), (4, "environment variable MONOCEROS_WORKERS")),
        ((false, false, true, true), (3, "monoceros.toml:2:11")),
        ((false, false, false, true), (2, "environment variable WEB_CONCURRENCY")),
        ((false, false, false, false), (6, "default")),
    ];
    for ((flag, variable, in_file, convention), (number, origin)) in cases {
        assert_eq!(workers(flag, variable, in_file, convention), (number, origin.to_owned()));
    }
}

#[test]
fn workers_are_a_number_or_a_range() {
    let wrong_order = Some("the smaller number comes first: 2..8");
    let rows = [
        ("4", Ok((4, 4))),
        ("2..8", Ok((2, 8))),
        ("8..2", Err(wrong_order)),
        ("2-8", Err(Some("write 2..8"))),
        ("0..8", Ok((0, 8))),
        ("0..0", Err(Some("leave it out for one per CPU core"))),
        ("2..2000", Err(Some("leave it out for one per CPU core"))),
        ("many", Err(Some("leave it out for one per CPU core"))),
    ];
    for (text, expected) in rows {
        let found = load(arguments(&[(Key::App, &["a"]), (Key::Workers, &[text])]), &[], None);
        let found = found.map(|resolved| resolved.settings.supervisor.workers).map(|it| (it.least, it.most));
        let hint = found.as_ref().err().and_then(|errors| errors[0].hint.clone());
        assert_eq!(found.as_ref().map_err(|_| hint.as_deref()), expected.as_ref().map_err(|hint| *hint), "{text}");
    }
    let in_file = load(Layer::default(), &[], Some("[server]\nworkers = '2..3'\n[app]\napp = 'a'\n")).unwrap();
    assert_eq!(in_file.settings.supervisor.workers.to_string(), "2..3");
}

#[test]
fn the_time_of_idleness_needs_a_range_from_zero() {
    for (workers, expected) in [("0..4", 0), ("1..4", 1), ("4", 1)] {
        let flags = arguments(&[(Key::App, &["a"]), (Key::Workers, &[workers]), (Key::IdleTimeout, &["1h"])]);
        let resolved = load(flags, &[], None).unwrap();
        assert_eq!(resolved.settings.supervisor.idle_timeout, Duration::from_secs(3600));
        assert_eq!(resolved.warnings.len(), expected, "{workers}: {:?}", resolved.warnings);
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let flags = arguments(&[
        (Key::Bind, &["1.2.3", "https://:443", ":80", ":80"]),
        (Key::Workers, &["0"]),
        (Key::StaticDir, &["missing", "static=static", "/media=site.pem", "/media=static"]),
        (Key::StaticCache, &["*.css", "*.css=forever", "=1h"]),
        (Key::StaticType, &["md=text/markdown", ".md=text"]),
        (Key::StaticFallback, &["index.html", "/other=index.html", "/media=../index.html"]),
        (Key::InternalDir, &["static", "/a=static", "/a=static"]),
        (Key::TlsKey, &["site.key"]),
        (Key::Timeout, &["1.5s"]),
        (Key::Env, &["=x"]),
        (Key::MaxTargetSize, &["64k"]),
    ]);
    let file = "[server]\nworkres = 4\n[limits]\nmax_body = 'huge'\n";
    let errors = load(flags, &[("MONOCEROS_LOOP", "uvlop")], Some(file)).unwrap_err();
    let expected = [
        "unknown key server.workres [monoceros.toml:2:1]",
        "the private key /srv/site.key has no certificate [--tls-key on the command line]",
        "invalid value for workers: \"0\" [--workers on the command line]",
        "no application was given",
        "invalid value for loop: \"uvlop\" [environment variable MONOCEROS_LOOP]",
        "invalid value for env: \"=x\" [--env on the command line]",
        "invalid value for bind: \"1.2.3\" [--bind on the command line]",
        "https://:443 asks for TLS, but there is no certificate [--bind on the command line]",
        "the address 0.0.0.0:80 is given twice [--bind on the command line]",
        "invalid value for max-body: \"huge\" [monoceros.toml:4:12]",
        "max-target-size 64k is larger than max-header-size 32k, of which it is a part [--max-target-size on the command line]",
        "static-dir: /srv/missing does not exist [--static-dir on the command line]",
        "invalid value for static-dir: \"static=static\" [--static-dir on the command line]",
        "static-dir: /srv/site.pem is not a directory [--static-dir on the command line]",
        "two directories for the URL /media [--static-dir on the command line]",
        "invalid value for static-fallback: \"index.html\" [--static-fallback on the command line]",
        "invalid value for static-fallback: \"/other=index.html\" [--static-fallback on the command line]",
        "invalid value for static-fallback: \"/media=../index.html\" [--static-fallback on the command line]",
        "invalid value for internal-dir: \"static\" [--internal-dir on the command line]",
        "two directories for the URL /a [--internal-dir on the command line]",
        "invalid value for static-cache: \"*.css\" [--static-cache on the command line]",
        "invalid value for static-cache: \"*.css=forever\" [--static-cache on the command line]",
        "invalid value for static-cache: \"=1h\" [--static-cache on the command line]",
        "invalid value for static-type: \"md=text/markdown\" [--static-type on the command line]",
        "invalid value for static-type: \".md=text\" [--static-type on the command line]",
        "invalid value for timeout: \"1.5s\" [--timeout on the command line]",
    ];
    assert_eq!(messages(&errors), expected);
}

#[test]
fn numbers_keep_their_bounds() {
    for option in options() {
        let Some(bounds) = bounds(option.kind) else { continue };
        let accepts = |text: &str| {
            // The head and the target in it belong together; what is tested here is each one's own bound.
            let mut layer = arguments(&[(Key::App, &["a"]), (Key::MaxHeaderSize, &["64k"])]);
            if option.key == Key::MaxHeaderSize {
                layer = arguments(&[(Key::App, &["a"]), (Key::MaxTargetSize, &["1k"])]);
            }
            layer.set(option.key, vec![Given { text: text.to_owned(), origin: Origin::Default }]);
            load(layer, &[], None).is_ok()
        };
        for inside in &bounds.inside {
            assert!(accepts(inside), "{} {inside}", option.name);
        }
        for outside in &bounds.outside {
            assert!(!accepts(outside), "{} {outside}", option.name);
        }
    }
}

#[test]
fn every_option_is_looked_at() {
    // Any text names a program, and any text names a file that can be made.
    let takes_anything = [Key::Python, Key::AccessLog, Key::ControlSocket, Key::ReloadExtra];
    for option in options().filter(|option| !takes_anything.contains(&option.key)) {
        let flags = arguments(&[(option.key, &["no such thing"])]);
        let errors = load(flags, &[("MONOCEROS_APP", "a")], None).unwrap_err();
        let named = |error: &ConfigError| error.problem.to_string().contains(option.name) || option.key == Key::TlsKey;
        assert!(errors.iter().any(named), "{}: {errors:?}", option.name);
    }
}

/// The smallest and the largest value, and the values just outside.
struct Bounds {
    inside: [String; 2],
    outside: Vec<String>,
}

fn bounds(kind: Kind) -> Option<Bounds> {
    let (min, max, unit) = match kind {
        Kind::Count { min, max } | Kind::Range { min, max } | Kind::Size { min, max } => (min, max, ""),
        Kind::Duration { min, max } => (min.as_millis() as u64, max.as_millis() as u64, "ms"),
        Kind::Switch(_) | Kind::Choice(_) | Kind::Text(_) => return None,
    };
    let text = |number: u64| format!("{number}{unit}");
    let below = min.checked_sub(1).map(text);
    Some(Bounds { inside: [text(min), text(max)], outside: below.into_iter().chain([text(max + 1)]).collect() })
}

#[test]
fn certificates_and_keys_belong_together() {
    let paths = |pairs: &[(Key, &[&str])]| -> Vec<(PathBuf, PathBuf)> {
        let certificates = settings(pairs).front.tls.unwrap().certificates;
        certificates.into_iter().map(|files| (files.certificate, files.key)).collect()
    };
    let pair = |certificate: &str, key: &str| (PathBuf::from(certificate), PathBuf::from(key));
    assert_eq!(
        paths(&[(Key::TlsCert, &["site.pem"]), (Key::TlsKey, &["site.key"])]),
        [pair("/srv/site.pem", "/srv/site.key")]
    );
    let both = pair("/srv/both.pem", "/srv/both.pem");
    assert_eq!(paths(&[(Key::TlsCert, &["both.pem"])]), std::slice::from_ref(&both));
    // A file that holds its key needs no other, wherever it stands in the list.
    let site = pair("/srv/site.pem", "/srv/site.key");
    let one_key: (Key, &[&str]) = (Key::TlsKey, &["site.key"]);
    assert_eq!(paths(&[(Key::TlsCert, &["both.pem", "site.pem"]), one_key]), [both.clone(), site.clone()]);
    assert_eq!(paths(&[(Key::TlsCert, &["site.pem", "both.pem"]), one_key]), [site.clone(), both.clone()]);
    // As many keys as certificates are pairs, whatever else is in the files.
    assert_eq!(
        paths(&[(Key::TlsCert, &["both.pem", "site.pem"]), (Key::TlsKey, &["site.key", "site.key"])]),
        [pair("/srv/both.pem", "/srv/site.key"), site]
    );

    let errors =
        |pairs: &[(Key, &[&str])]| messages(&load(arguments(pairs), &[("MONOCEROS_APP", "a")], None).unwrap_err());
    assert_eq!(
        errors(&[(Key::TlsCert, &["site.pem"])]),
        ["the certificate /srv/site.pem has no private key [--tls-cert on the command line]"]
    );
    assert_eq!(
        errors(&[(Key::TlsCert, &["site.pem", "other.pem"]), (Key::TlsKey, &["site.key"])]),
        ["2 certificates without a private key in their files, but 1 key given [--tls-key on the command line]"]
    );
    assert_eq!(
        errors(&[(Key::TlsCert, &["both.pem", "site.pem"]), (Key::TlsKey, &["site.key", "site.key", "site.key"])]),
        ["1 certificate without a private key in its file, but 3 keys given [--tls-key on the command line]"]
    );
    assert_eq!(
        errors(&[(Key::TlsCert, &["gone.pem"])]),
        ["tls-cert: /srv/gone.pem does not exist [--tls-cert on the command line]"]
    );
    assert_eq!(
        errors(&[(Key::RedirectHttp, &[":80"])]),
        ["redirect-http has no TLS address to redirect to [--redirect-http on the command line]"]
    );
}

#[test]
fn what_may_not_be_read_is_not_said_to_be_missing() {
    let flags = arguments(&[
        (Key::TlsCert, &["closed/site.pem"]),
        (Key::TlsKey, &["closed"]),
        (Key::Chdir, &["closed"]),
        (Key::PythonPath, &["closed/lib"]),
        (Key::StaticDir, &["closed/static"]),
    ]);
    let errors = load(flags, &[("MONOCEROS_APP", "a")], None).unwrap_err();
    let expected = [
        "tls-cert: permission denied for /srv/closed/site.pem: user www-data may not enter /srv/closed",
        "tls-key: permission denied for /srv/closed: user www-data may not read it",
        "chdir: permission denied for /srv/closed: user www-data may not enter it",
        "pythonpath: permission denied for /srv/closed/lib: user www-data may not enter /srv/closed",
        "static-dir: permission denied for /srv/closed/static: user www-data may not enter /srv/closed",
    ];
    assert_eq!(errors.iter().map(|error| error.problem.to_string()).collect::<Vec<_>>(), expected);
}

#[test]
fn a_certificate_turns_addresses_to_tls() {
    let purposes = |binds: &[&str], redirect: &str| -> Vec<Purpose> {
        let pairs: &[(Key, &[&str])] =
            &[(Key::DevCert, &["true"]), (Key::Bind, binds), (Key::RedirectHttp, &[redirect])];
        settings(pairs).front.binds.iter().map(|bind| bind.purpose).collect()
    };
    assert_eq!(
        purposes(&[":8443", "unix:x", "http://:8080", "fd://3"], "127.0.0.1:80"),
        [Purpose::Https, Purpose::Http, Purpose::Http, Purpose::Https, Purpose::RedirectToHttps { port: 8443 }]
    );
    assert_eq!(purposes(&["fd://3"], ":80"), [Purpose::Https, Purpose::RedirectToHttps { port: 443 }]);
    let development = settings(&[(Key::DevCert, &["true"])]);
    let certificate = development.development_certificate.expect("it is wanted");
    assert_eq!(certificate.directory, Path::new("/srv/certs"));
    assert_eq!(certificate.authority.as_deref(), Some(Path::new("/home/me/.local/share/monoceros/authority")));
    assert_eq!(development.front.tls.unwrap().certificates, []);
}

#[test]
fn values_become_what_the_components_want() {
    let settings = settings(&[
        (Key::StaticDir, &["static", "/=static", "/media/=./static"]),
        (Key::StaticCache, &["/a=b/*.css=1m30s", "*.js=immutable", "*=none"]),
        (Key::StaticType, &[".HTML=text/html; charset=latin-1"]),
        (Key::StaticSymlinks, &["owner"]),
        (Key::StaticFallback, &["/=./index.html", "/static/api=app"]),
        (Key::StaticCleanUrls, &["/docs/"]),
        (Key::InternalDir, &["/protected/=static"]),
        (Key::StaticPrecompressed, &["false"]),
        (Key::StreamRequest, &["/upload/", "/"]),
        (Key::RootPath, &["/shop/"]),
        (Key::Python, &["python3.12"]),
        (Key::Env, &["A=b=c", "EMPTY="]),
        (Key::Timeout, &["0"]),
        (Key::MaxBody, &["0"]),
        (Key::AccessLog, &["log/access.log"]),
        (Key::Bind, &["unix:app.sock"]),
    ]);
    let mounts: Vec<_> = settings.front.files.mounts.iter().map(|mount| mount.url.as_str()).collect();
    assert_eq!(mounts, ["/static", "/", "/media"]);
    assert!(settings.front.files.mounts.iter().all(|mount| mount.directory == Path::new("/srv/static")));
    let files = &settings.front.files;
    let rules: Vec<_> = files.cache.iter().map(|rule| (&rule.pattern[..], rule.value.as_ref())).collect();
    let (time, immutable) = (HeaderValue::from_static("max-age=90"), IMMUTABLE);
    assert_eq!(rules, [("/a=b/*.css", Some(&time)), ("*.js", Some(&immutable)), ("*", None)]);
    assert_eq!((&files.types[0].ending[..], files.types.len()), (".html", 1));
    let fallbacks: Vec<_> = files.fallbacks.iter().map(|it| (&it.url[..], it.file.as_deref())).collect();
    assert_eq!(fallbacks, [("/", Some("index.html")), ("/static/api", None)]);
    assert_eq!((&files.clean_urls[..], &files.internal[0].url[..]), (&["/docs".to_owned()][..], "/protected"));
    assert_eq!((files.symlinks, files.precompressed), (Symlinks::Owner, false));
    assert_eq!(settings.upstream.stream_request, ["/upload", "/"]);
    assert_eq!(settings.supervisor.app.root_path, "/shop");
    assert_eq!(settings.supervisor.python.as_deref(), Some(Path::new("python3.12")));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(settings.supervisor.environment, [pair("A", "b=c"), pair("EMPTY", "")]);
    assert_eq!((settings.upstream.timeouts.answer, settings.front.limits.body_bytes), (Duration::ZERO, 0));
    assert_eq!(settings.telemetry.access_log, telemetry::AccessLog::File("/srv/log/access.log".into()));
    assert_eq!(settings.front.binds[0].address, BindAddress::Unix("/srv/app.sock".into()));
    assert!(settings.supervisor.app.multiprocess);
}

#[test]
fn hosters_conventions_fill_in() {
    let resolved = load(Layer::default(), &[("PORT", "5000"), ("MONOCEROS_APP", "a")], None).unwrap();
    assert_eq!(resolved.settings.front.binds[0].address, BindAddress::Tcp(([0, 0, 0, 0], 5000).into()));
    let errors = load(Layer::default(), &[("PORT", "http"), ("MONOCEROS_APP", "a")], None).unwrap_err();
    assert_eq!(messages(&errors), ["invalid value for bind: \"0.0.0.0:http\" [environment variable PORT]"]);
}

#[test]
fn what_check_prints_means_the_same() {
    let flags = arguments(&[
        (Key::App, &["main:app"]),
        (Key::Bind, &[":1", "unix:/x"]),
        (Key::Preload, &["true"]),
        (Key::TlsMinVersion, &["1.3"]),
        (Key::AccessLog, &["/tmp/\"quoted\" log"]),
    ]);
    let first = load(flags, &[], None).unwrap();
    let text = show::effective(&first.combined);
    let second = load(Layer::default(), &[], Some(&text)).unwrap();
    assert_eq!(format!("{:?}", first.settings), format!("{:?}", second.settings), "{text}");
}

#[test]
fn check_shows_no_secrets() {
    let flags = arguments(&[(Key::App, &["a"]), (Key::Env, &["TOKEN=hunter2"])]);
    let text = show::effective(&load(flags, &[], None).unwrap().combined);
    assert!(text.contains("TOKEN=…") && !text.contains("hunter2"), "{text}");
}

#[test]
fn every_name_is_used_once() {
    let mut names = BTreeSet::new();
    for option in options() {
        for name in [option.flag(), option.variable(), option.path.to_owned()] {
            assert!(names.insert(name.clone()), "{name} names two options");
        }
        for alias in option.aliases {
            assert!(names.insert(format!("--{alias}")), "{alias} names two options");
        }
        assert!(option.short.is_none_or(|short| names.insert(short.to_string())), "{:?}", option.short);
        let shown = matches!(option.default, Unset::Value(_)) || !option.example.is_empty();
        assert!(shown && !option.meaning.is_empty() && !option.meaning.ends_with('.'), "{}", option.name);
    }
}

/// The command line accepts exactly the options of the table.
#[test]
fn the_flags_are_those_of_the_table() {
    let command = monoceros::cli::command();
    let flags: BTreeSet<_> = command.get_arguments().filter_map(|flag| flag.get_long()).collect();
    let named = options().filter(|option| option.key != Key::App).map(|option| option.name);
    let opposites = options().filter_map(|option| match option.kind {
        Kind::Switch(opposite) => Some(opposite),
        _ => None,
    });
    assert_eq!(flags, named.chain(opposites).chain(["config"]).collect());
}

/// Compares a file of the repository with what the table says, or writes it when asked to.
fn keep_in_step(path: &str, expected: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("REGENERATE").is_some() {
        std::fs::write(&file, expected).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    let same = found.lines().zip(expected.lines()).take_while(|(found, expected)| found == expected).count();
    assert!(
        found == expected,
        "{path}:{} is not what the table of options says; run\n  REGENERATE=1 cargo test --test config",
        same + 1
    );
}

#[test]
fn the_reference_is_made_from_the_table() {
    keep_in_step("docs/configuration.md", &reference::markdown());
}

#[test]
fn the_example_file_is_made_from_the_table() {
    keep_in_step("config/monoceros.toml", &reference::example_file());
}

#[test]
fn the_example_file_names_every_key_with_its_default() {
    let text = reference::example_file();
    let (untouched, errors) = file::parse(Path::new("monoceros.toml"), &text);
    assert_eq!((untouched, errors), (Layer::default(), vec![]), "as it stands it says nothing");

    let is_key = |line: &str| options().any(|option| line.starts_with(&format!("# {} = ", option.file_key())));
    let uncommented: Vec<_> = text.lines().map(|line| if is_key(line) { &line[2..] } else { line }).collect();
    let (layer, errors) = file::parse(Path::new("monoceros.toml"), &uncommented.join("\n"));
    assert_eq!(errors, []);
    for option in options() {
        let [given] = layer.get(option.key).unwrap_or_default() else { panic!("{} is missing", option.path) };
        if let Unset::Value(default) = option.default {
            assert_eq!(given.text, default, "{}", option.path);
        }
    }
}

#[test]
fn the_examples_are_valid() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for name in ["django.toml", "flask.toml", "fastapi.toml", "dev.toml"] {
        let text = std::fs::read_to_string(examples.join(name)).unwrap();
        let surroundings =
            Surroundings { directory: Path::new("/srv"), cores: 2, data_directory: None, disk: &FullDisk };
        let sources = Sources { file: Some((name.into(), text)), ..Sources::default() };
        let resolved = config::load(&sources, &surroundings);
        assert!(resolved.as_ref().is_ok_and(|resolved| resolved.warnings.is_empty()), "{name}: {resolved:?}");
    }
}

/// Everything exists: what is called like a file is one.
struct FullDisk;

impl Disk for FullDisk {
    fn entry(&self, path: &Path) -> Result<DiskEntry, Obstacle> {
        Ok(if path.extension().is_some() { DiskEntry::File } else { DiskEntry::Directory })
    }

    fn holds_private_key(&self, _: &Path) -> bool {
        false
    }
}
