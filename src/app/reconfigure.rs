//! A running server reads its configuration again: all of it holds, or nothing has changed.
//!
//! What is new is opened first: certificates, directories, the access log, addresses. Then a worker has to load the
//! application with the new settings. Only when it serves does everything else change, at once.

use super::ground::{self, Ground, Present, addresses, collect};
use super::problem::StartError;
use crate::cli::report::Explain;
use crate::config::changes::{self, Change};
use crate::config::combine::Combined;
use crate::config::error::ConfigError;
use crate::config::{Resolved, Settings};
use crate::front::accept::Placement;
use crate::front::cache::Cache;
use crate::front::health::Health;
use crate::front::listener::{Listeners, Plan};
use crate::front::site::Site;
use crate::front::tls::{Tls, Watch};
use crate::telemetry::access::AccessLog;
use crate::telemetry::log;
use crate::upstream::pool::Pool;
use arc_swap::ArcSwap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Reads the configuration as at the start: the same command line, the same environment, the file as it is now.
pub type Reread = Arc<dyn Fn() -> Result<Resolved, Vec<ConfigError>> + Send + Sync>;

/// What is told about the server.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) app: String,
    pub(super) directory: String,
    pub(super) listening: Vec<String>,
}

impl Facts {
    pub(super) fn new(settings: &Settings, clients: &Listeners) -> Self {
        Self {
            app: settings.supervisor.app.app.clone(),
            directory: settings.supervisor.chdir.display().to_string(),
            listening: addresses(clients).collect(),
        }
    }
}

/// What runs, as far as it can be replaced.
pub(super) struct Running {
    pub(super) settings: Settings,
    pub(super) combined: Combined,
    pub(super) python: (PathBuf, String),
    pub(super) access: AccessLog,
    pub(super) tls: Option<Arc<Tls>>,
    /// Certificates are read again when their files change.
    pub(super) certificates: Option<Watch>,
    pub(super) site: Arc<Site>,
    pub(super) pool: Arc<Pool>,
    pub(super) health: Arc<Health>,
    pub(super) cache: Arc<Cache>,
    /// Of clients and of operators.
    pub(super) placements: (Arc<Placement>, Arc<Placement>),
    pub(super) facts: Arc<ArcSwap<Facts>>,
}

/// Everything that is to hold.
pub(super) struct Next {
    pub(super) settings: Settings,
    combined: Combined,
    pub(super) ground: Ground,
    /// Nothing where the addresses could not be had any more.
    plans: Option<(Plan, Plan)>,
    changes: Vec<Change>,
}

/// Why nothing changes.
pub(super) struct Refusal {
    pub(super) summary: &'static str,
    /// Every mistake.
    pub(super) mistakes: String,
}

impl Refusal {
    pub(super) fn new(summary: &'static str) -> Self {
        Self { summary, mistakes: String::new() }
    }

    /// It could not even be read.
    pub(super) fn unread(mistakes: String) -> Self {
        Self { summary: "there are mistakes in the configuration", mistakes }
    }
}

/// A configuration that was read, with all that it needs but the addresses.
pub(super) struct Read {
    settings: Settings,
    combined: Combined,
    ground: Option<Ground>,
    problems: StartError,
}

impl Running {
    /// Reads the configuration and opens what is new.
    pub(super) fn read(&self, reread: &Reread) -> JoinHandle<Result<Read, Refusal>> {
        let reread = Arc::clone(reread);
        let (settings, python, access) = (self.settings.clone(), self.python.clone(), self.access.clone());
        let tls = self.tls.clone();
        tokio::task::spawn_blocking(move || {
            let read = reread().map_err(|errors| Refusal::unread(errors.as_slice().plain()))?;
            let Resolved { settings: mut next, combined, warnings } = read;
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            // They hold for the life of the process.
            next.front.threads = settings.front.threads;
            next.control = settings.control;
            next.supervisor.sources.clone_from(&settings.supervisor.sources);
            let same_python = (&next.supervisor.python, &next.supervisor.chdir)
                == (&settings.supervisor.python, &settings.supervisor.chdir);
            let same_access = next.telemetry.access_log == settings.telemetry.access_log;
            let (python, access) = (same_python.then_some(python), same_access.then_some(access));
            let present = Present { python, access, tls };
            let mut problems = Vec::new();
            let ground = ground::open(&mut next, present, &mut problems);
            Ok(Read { settings: next, combined, ground, problems: StartError { problems } })
        })
    }

    /// Binds what is new in it.
    pub(super) fn plan(&self, read: Read, (clients, operators): (&Listeners, &Listeners)) -> Result<Next, Refusal> {
        let Read { settings, mut combined, ground, problems: StartError { mut problems } } = read;
        let front = &settings.front;
        let clients = collect(clients.plan(&front.binds, front.backlog), &mut problems);
        let operators = collect(operators.plan(&front.admin_binds, front.backlog), &mut problems);
        match (ground, clients, operators) {
            (Some(ground), Some(clients), Some(operators)) => {
                let changes = changes::changes(&self.combined, &combined);
                changes::keep_until_restart(&self.combined, &mut combined);
                Ok(Next { settings, combined, ground, plans: Some((clients, operators)), changes })
            }
            _ => {
                Err(Refusal { summary: "the configuration cannot be used", mistakes: StartError { problems }.plain() })
            }
        }
    }

    /// From now on it holds.
    pub(super) fn adopt(&mut self, next: Next, (clients, operators): (&mut Listeners, &mut Listeners)) {
        for line in next.lines() {
            tracing::info!("{line}");
        }
        let Next { settings, combined, ground, plans, .. } = next;
        let front = &settings.front;
        log::set_level(settings.telemetry.level);
        self.adopt_tls(ground.tls.clone());
        self.placements.0.set_terms(&front.limits, ground.tls.as_ref());
        self.placements.1.set_terms(&front.limits, None);
        self.pool.set_settings(settings.upstream.clone());
        self.access = ground.access.clone();
        let (pool, health) = (Arc::clone(&self.pool), Arc::clone(&self.health));
        self.cache.set_settings(&settings.front.cache);
        let files = (ground.files, ground.error_pages);
        self.site.replace(super::pipeline(&settings, files, pool, ground.access, health, &self.cache));
        match self.open(plans) {
            Ok(plans) => {
                clients.adopt(plans.0);
                operators.adopt(plans.1);
            }
            Err(error) => tracing::error!("the listening addresses stay as they were: {error}"),
        }
        self.facts.store(Arc::new(Facts::new(&settings, clients)));
        self.python = ground.python;
        self.settings = settings;
        self.combined = combined;
    }
}

impl Running {
    fn adopt_tls(&mut self, tls: Option<Arc<Tls>>) {
        if let (Some(tls), Some(before)) = (&tls, &self.tls) {
            for line in tls.news_since(before) {
                tracing::info!("{line}");
            }
        }
        self.certificates = tls.as_deref().map(Watch::begin);
        self.tls = tls;
    }

    /// Has the front threads accept from new listeners.
    fn open(&self, plans: Option<(Plan, Plan)>) -> io::Result<(Plan, Plan)> {
        let plans = plans.ok_or(io::ErrorKind::AddrInUse)?;
        self.placements.0.accept_from(plans.0.unopened())?;
        self.placements.1.accept_from(plans.1.unopened())?;
        Ok(plans)
    }
}

impl Next {
    /// Closes what was bound for it and is not accepted from yet.
    pub(super) fn release(&mut self) {
        self.plans = None;
    }

    /// Binds it again.
    pub(super) fn plan_again(&mut self, (clients, operators): (&Listeners, &Listeners)) {
        let front = &self.settings.front;
        self.plans = self.plans.take().or_else(|| {
            Some((
                clients.plan(&front.binds, front.backlog).ok()?,
                operators.plan(&front.admin_binds, front.backlog).ok()?,
            ))
        });
    }

    /// What changes, for the operator; nothing where nothing does.
    pub(super) fn lines(&self) -> Vec<String> {
        let (later, now): (Vec<_>, Vec<_>) = self.changes.iter().partition(|change| change.needs_restart());
        let line = |label: &str, changes: Vec<&Change>| {
            let list: Vec<String> = changes.into_iter().map(Change::to_string).collect();
            (!list.is_empty()).then(|| format!("{label}: {}", list.join("; ")))
        };
        [line("configuration", now), line("needs a restart", later)].into_iter().flatten().collect()
    }
}
