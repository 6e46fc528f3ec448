//! What an option is: its names on the command line, in the environment and in the file, what it takes, its default.

use std::time::Duration;

/// Names one option everywhere inside the program. [`super::table`] has its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    App,
    Interface,
    Factory,
    Chdir,
    PythonPath,
    Python,
    Env,
    Preload,
    Reload,
    ReloadDir,
    ReloadExtra,
    Loop,
    Lifespan,
    RootPath,
    Workers,
    ScaleDownAfter,
    IdleTimeout,
    Threads,
    WorkerConcurrency,
    Timeout,
    StallTimeout,
    RouteTimeout,
    PauseTimeout,
    GracefulTimeout,
    BootTimeout,
    WarmUp,
    DrainTimeout,
    MaxRequests,
    MaxRequestsJitter,
    MaxRss,
    MaxLifetime,
    Surge,
    MemoryBudget,
    QueueSize,
    QueueTimeout,
    QueueFairness,
    Retries,
    CheckPath,
    CheckInterval,
    CheckTimeout,
    CheckRise,
    CheckFall,
    RetryOn,
    RetryTimeout,
    RetryBudget,
    RetryNonIdempotent,
    StreamRequest,
    Bind,
    RedirectHttp,
    AdminBind,
    HealthPath,
    DrainDelay,
    TlsCert,
    TlsKey,
    TlsMinVersion,
    TlsCiphers,
    Hsts,
    TlsClientCa,
    TlsClientAuth,
    TlsClientCrl,
    DevCert,
    DevName,
    Backlog,
    FrontThreads,
    StaticDir,
    StaticPrecompressed,
    StaticCache,
    StaticType,
    StaticSymlinks,
    StaticFallback,
    StaticCleanUrls,
    InternalDir,
    Cache,
    CacheMaxObject,
    CacheWait,
    CacheStaleIfError,
    CachePurgeOnReload,
    ErrorPages,
    MaintenanceBypass,
    MaxBody,
    MaxHeaderSize,
    MaxHeaders,
    MaxTargetSize,
    HandshakeTimeout,
    HeaderTimeout,
    BodyTimeout,
    SendTimeout,
    KeepAlive,
    KeepAliveRequests,
    Http2Streams,
    BodyBuffer,
    ResponseBuffer,
    MaxResponseFile,
    ControlSocket,
    LogLevel,
    AccessLog,
}

/// What the text of a value has to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`; on the command line its bare name, or this name for `false`.
    Switch(&'static str),
    /// A whole number within these bounds.
    Count { min: u64, max: u64 },
    /// A whole number within these bounds, or two of them: `2..8`.
    Range { min: u64, max: u64 },
    /// A length of time within these bounds; zero is allowed where `min` is zero.
    Duration { min: Duration, max: Duration },
    /// A number of bytes within these bounds; zero is allowed where `min` is zero.
    Size { min: u64, max: u64 },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Anything; the text says what is expected, and `resolve` reads it.
    Text(&'static str),
}

/// How often an option may be given, and whether it may stand without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// Once; where it is given twice on the command line, the last one counts.
    One,
    /// Any number of times; a list in the file.
    Many,
    /// Once; on the command line and in the environment the bare name means this value.
    OneOr(&'static str),
}

/// The value that counts when nobody gives one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// There is none: the feature is off, or the value has to be given.
    Absent,
    /// Written as a user would write it.
    Value(&'static str),
    /// Known only when the program runs; described in words.
    Computed(&'static str),
}

/// One option: a row of the table from which the flags, the variables, the keys of the file, the help and the reference
/// are made.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Definition {
    pub key: Key,
    /// Section and key in the file, such as `server.workers`.
    pub path: &'static str,
    /// Name of the flag without its dashes; also the option's name in messages.
    pub name: &'static str,
    /// Flags of gunicorn and uvicorn that mean exactly the same, without their dashes; they work here too.
    pub aliases: &'static [&'static str],
    /// One-letter flag.
    pub short: Option<char>,
    /// How the help calls the value.
    pub value_name: &'static str,
    pub kind: Kind,
    pub arity: Arity,
    pub default: Default,
    /// One sentence without a full stop.
    pub meaning: &'static str,
    /// The settings of nginx and gunicorn that it stands for.
    pub peer: &'static str,
    /// A value for the example file where there is no default to show.
    pub example: &'static str,
}

impl Definition {
    /// An option that is given once.
    pub const fn new(key: Key, path: &'static str, name: &'static str, value_name: &'static str, kind: Kind) -> Self {
        let default = Default::Absent;
        Self {
            key,
            path,
            name,
            aliases: &[],
            short: None,
            value_name,
            kind,
            arity: Arity::One,
            default,
            meaning: "",
            peer: "",
            example: "",
        }
    }

    pub const fn meaning(self, meaning: &'static str) -> Self {
        Self { meaning, ..self }
    }

    pub const fn peer(self, peer: &'static str) -> Self {
        Self { peer, ..self }
    }

    pub const fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }

    pub const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    pub const fn aliases(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    pub const fn many(self) -> Self {
        Self { arity: Arity::Many, ..self }
    }

    pub const fn bare(self, value: &'static str) -> Self {
        Self { arity: Arity::OneOr(value), ..self }
    }

    pub const fn default(self, value: &'static str) -> Self {
        Self { default: Default::Value(value), ..self }
    }

    pub const fn computed(self, description: &'static str) -> Self {
        Self { default: Default::Computed(description), ..self }
    }

    /// Name of the environment variable: `MONOCEROS_` and the flag in capitals.
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    /// How the option is called on the command line: `--workers`, or `APP`.
    pub fn flag(&self) -> String {
        if self.key == Key::App { "APP".to_owned() } else { format!("--{}", self.name) }
    }

    /// Section of the file.
    pub fn section(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(section, _)| section)
    }

    /// Key inside the section of the file.
    pub fn file_key(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(_, key)| key)
    }
}

/// All our environment variables begin with it.
pub const VARIABLE_PREFIX: &str = "MONOCEROS_";

impl Kind {
    /// The form of a value in words, for an error message: "expected: …".
    pub fn expected(&self) -> String {
        match self {
            Self::Switch(_) => "true or false".to_owned(),
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::Range { min, max } => format!("a whole number from {min} to {max}, or a range such as 2..8 or 0..8"),
            Self::Duration { min, max } => format!(
                "a time such as 30, 30s, 1m30s or 500ms, from {} to {}",
                super::duration::show(*min),
                super::duration::show(*max)
            ),
            Self::Size { min, max } => format!(
                "a size in bytes such as 65536, 64k or 1MB, from {} to {}",
                super::size::show(*min),
                super::size::show(*max)
            ),
            Self::Choice(words) => super::error::alternatives(words),
            Self::Text(expected) => (*expected).to_owned(),
        }
    }
}
