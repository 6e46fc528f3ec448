//! Commands from the control socket, carried out.

use super::reconfigure::Facts;
use super::signals::Wish;
use super::upgrade::Step;
use crate::config::table::{BYPASS_RULE, WORKERS_MAX};
use crate::control::protocol::{self, Certificate, Command, Memory, Mode, Number, Reply, Status, Worker};
use crate::control::server::Handler;
use crate::front::accept::Placement;
use crate::front::bypass::Bypass;
use crate::front::cache::Cache;
use crate::front::cache::key::Which;
use crate::front::health::Health;
use crate::front::maintenance::{MESSAGE, Notice};
use crate::front::tls::Described;
use crate::supervisor::{Bounds, Demand, Progress, Snapshot};
use crate::upstream::pool::Pool;
use arc_swap::ArcSwap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// When nobody says how long maintenance takes.
const RETRY_AFTER: Duration = Duration::from_mins(5);

type Replies = mpsc::UnboundedSender<Reply>;

/// Everything that commands are about.
pub(super) struct Commands {
    pub(super) wishes: mpsc::UnboundedSender<Wish>,
    pub(super) pool: Arc<Pool>,
    pub(super) placement: Arc<Placement>,
    pub(super) begun: Instant,
    pub(super) facts: Arc<ArcSwap<Facts>>,
    pub(super) health: Arc<Health>,
    pub(super) cache: Arc<Cache>,
    /// `drain --for`.
    pub(super) stop_later: Mutex<Option<JoinHandle<()>>>,
}

impl Handler for Commands {
    async fn handle(&self, command: Command, replies: Replies) {
        let last = match command {
            Command::Status => self.status().await,
            Command::Stacks { worker } => self.stacks(worker).await,
            Command::Reload => self.reload(&replies).await,
            Command::Scale { workers } => self.scale(&workers),
            Command::RestartWorker { worker } => self.restart(worker).await,
            Command::Upgrade => self.upgrade(&replies).await,
            Command::Drain { on, stop_after } => self.drain(on, stop_after),
            Command::Maintenance { mode, retry_after, message, bypass } => {
                self.maintain(mode, retry_after, message, &bypass)
            }
            Command::Cache { url, prefix, tag, all } => self.cache(url, prefix, tag, all),
            Command::Stop { quickly } => self.stop(quickly),
        };
        // Whoever asked may have gone.
        let _ = replies.send(last.unwrap_or_else(|failed| failed));
    }
}

/// The last reply, either way.
pub(super) type Last = Result<Reply, Reply>;

impl Commands {
    pub(super) fn wish(&self, wish: Wish) -> Result<(), Reply> {
        self.wishes.send(wish).map_err(|_| failed("the server has ended"))
    }

    async fn look(&self) -> Result<Snapshot, Reply> {
        let (reply, answer) = oneshot::channel();
        self.wish(Wish::Other(Demand::Look(reply)))?;
        answer.await.map_err(|_| failed("the server is ending"))
    }

    async fn status(&self) -> Last {
        let snapshot = self.look().await?;
        let load = self.pool.load();
        let members = self.pool.members();
        let rest = self.pool.rest().filter(|_| snapshot.wanted == 0);
        let facts = Facts::clone(&self.facts.load());
        let workers = snapshot.workers.into_iter().map(|view| {
            let member = members.iter().find(|member| member.worker == view.worker);
            Worker {
                worker: view.worker,
                pid: view.pid,
                generation: view.generation,
                state: match member {
                    Some(member) if member.is_ejected && view.state == "serving" => "ejected",
                    _ => view.state,
                }
                .to_owned(),
                age: view.age.as_secs_f64(),
                answered: view.answered,
                slots: member.map_or(0, |member| member.slots),
                in_flight: member.map_or(0, |member| member.in_flight),
                rss: view.pid.and_then(crate::sys::resident_memory),
            }
        });
        Ok(Reply::Status(Box::new(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            app: facts.app,
            directory: facts.directory,
            listening: facts.listening,
            certificates: self.placement.certificates().into_iter().map(certificate).collect(),
            uptime: self.begun.elapsed().as_secs_f64(),
            connections: self.placement.open(),
            generation: snapshot.generation,
            workers_wanted: snapshot.wanted,
            workers_range: snapshot.bounds.is_range().then(|| snapshot.bounds.to_string()),
            idle: rest.map(|rest| rest.duration.as_secs_f64()),
            refuses_for: rest.and_then(|rest| rest.refuses_for).map(|time| time.as_secs_f64()),
            memory: snapshot.memory.map(|memory| Memory {
                budget: memory.budget,
                used: memory.used,
                one_more: memory.one_more,
            }),
            maintenance: self.health.maintenance().notice().is_some(),
            queue: load.queued,
            cache: self.cache_load(),
            workers: workers.collect(),
        })))
    }

    async fn reload(&self, replies: &Replies) -> Last {
        let (watcher, mut progress) = mpsc::unbounded_channel();
        self.wish(Wish::Reload(Some(watcher)))?;
        while let Some(progress) = progress.recv().await {
            match progress {
                Progress::Step(text) => drop(replies.send(Reply::Progress { text })),
                Progress::Done { generation } => return Ok(done(format!("generation {generation} serves"))),
                Progress::Failed(failure) => {
                    return Err(Reply::Failed {
                        text: format!("nothing has changed: {}", failure.message),
                        detail: failure.traceback,
                        hint: failure.hint,
                    });
                }
            }
        }
        Err(failed("the server is ending"))
    }

    fn scale(&self, workers: &Number) -> Last {
        let workers = match workers {
            Number::Fixed(workers) => Bounds::exactly(*workers),
            Number::Range(text) => text.trim().parse().map_err(|_| match Bounds::guess(text) {
                Some(guess) => failed(&format!("{text:?} is neither a number nor a range: {guess}")),
                None => failed(&format!("{text:?} is neither a number nor a range such as 2..8")),
            })?,
        };
        if !workers.is_within(u32::try_from(WORKERS_MAX).unwrap_or(u32::MAX)) {
            return Err(failed(&format!(
                "the number of workers is from 1 to {WORKERS_MAX}; in a range that begins at 0 all go while nobody asks"
            )));
        }
        self.wish(Wish::Other(Demand::Scale(workers)))?;
        Ok(done(format!("workers wanted: {workers}")))
    }

    async fn restart(&self, worker: u32) -> Last {
        let snapshot = self.look().await?;
        match snapshot.workers.iter().find(|view| view.worker == worker) {
            None => Err(failed(&format!("there is no worker {worker}"))),
            Some(view) if view.state != "serving" => Err(failed(&format!("worker {worker} is {}", view.state))),
            Some(_) => {
                self.wish(Wish::Other(Demand::Restart(worker)))?;
                Ok(done(format!("worker {worker} goes as soon as a new one serves")))
            }
        }
    }

    async fn upgrade(&self, replies: &Replies) -> Last {
        let (watcher, mut steps) = mpsc::unbounded_channel();
        self.wish(Wish::Upgrade(Some(watcher)))?;
        while let Some(step) = steps.recv().await {
            match step {
                Step::Started { pid } => {
                    let text = format!("process {pid} starts");
                    drop(replies.send(Reply::Progress { text }));
                }
                Step::Done { pid } => return Ok(done(format!("process {pid} serves"))),
                Step::Failed(refusal) => {
                    return Err(Reply::Failed {
                        text: format!("nothing has changed: {}", refusal.summary),
                        detail: refusal.words,
                        hint: String::new(),
                    });
                }
            }
        }
        Err(failed("the server is ending"))
    }

    fn drain(&self, on: bool, stop_after: Option<f64>) -> Last {
        let delay = stop_after.map(Duration::try_from_secs_f64).transpose();
        let delay = delay.map_err(|_| failed("the time to stop after is not a time"))?;
        let stop = delay.map(|delay| {
            let wishes = self.wishes.clone();
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let _ = wishes.send(Wish::StopInTime);
            })
        });
        let before = std::mem::replace(&mut *self.stop_later.lock().unwrap_or_else(PoisonError::into_inner), stop);
        if let Some(before) = before {
            before.abort();
        }
        self.health.set_drained(on);
        let text = match (on, delay) {
            (true, None) => "not ready any more; everything is served until `monoceros stop`".to_owned(),
            (true, Some(delay)) => format!("not ready any more; everything is served, the server stops in {delay:?}"),
            (false, _) => "ready again".to_owned(),
        };
        tracing::info!("drain: {text}");
        Ok(done(text))
    }

    fn maintain(&self, mode: Mode, retry_after: Option<u64>, message: Option<String>, bypass: &[String]) -> Last {
        let maintenance = self.health.maintenance();
        match mode {
            Mode::On => {
                let retry_after = retry_after.map_or(RETRY_AFTER, Duration::from_secs);
                let rule = |text: &String| {
                    let expected = BYPASS_RULE.expected();
                    Bypass::parse(text).ok_or_else(|| failed(&format!("{text:?} lets nobody in; expected: {expected}")))
                };
                let bypass = bypass.iter().map(rule).collect::<Result<_, _>>()?;
                let message = message.unwrap_or_else(|| MESSAGE.to_owned());
                maintenance.begin(Notice { retry_after, message, bypass });
                tracing::warn!("maintenance: new requests get 503 until `monoceros maintenance off`");
                Ok(done("maintenance is on".to_owned()))
            }
            Mode::Off => {
                if maintenance.end() {
                    tracing::info!("maintenance has ended");
                }
                Ok(done("maintenance is off".to_owned()))
            }
            Mode::Status => Ok(done(match maintenance.notice() {
                Some(notice) => {
                    let seconds = notice.retry_after.as_secs();
                    format!("maintenance is on, Retry-After {seconds} s: {}", notice.message)
                }
                None => "maintenance is off".to_owned(),
            })),
        }
    }

    fn cache_load(&self) -> Option<protocol::Cache> {
        let load = self.cache.is_on().then(|| self.cache.load())?;
        Some(protocol::Cache {
            size: load.bound,
            used: load.memory,
            answers: load.answers,
            hits: load.hits,
            misses: load.misses,
            stored: load.stored,
            evicted: load.evicted,
        })
    }

    fn cache(&self, url: Option<String>, prefix: Option<String>, tag: Option<String>, all: bool) -> Last {
        let load = self.cache_load().ok_or_else(|| failed("there is no cache: start the server with --cache SIZE"))?;
        let wanted = [url.map(Which::Url), prefix.map(Which::Prefix), tag.map(Which::Tag), all.then_some(Which::All)];
        let mut wanted = wanted.into_iter().flatten();
        let which = match (wanted.next(), wanted.next()) {
            (None, _) => return Ok(Reply::Cache(load)),
            (Some(which), None) => which.normal().ok_or_else(|| {
                failed("that is no address: expected a URL such as https://example.org/news, or a path such as /news")
            })?,
            _ => return Err(failed("expected one of URL, --prefix, --tag and --all")),
        };
        let removed = match self.cache.purge(&which) {
            1 => "1 answer".to_owned(),
            count => format!("{count} answers"),
        };
        tracing::info!("cache: {removed} removed, {which}");
        Ok(done(format!("{removed} removed")))
    }

    fn stop(&self, quickly: bool) -> Last {
        self.wish(if quickly { Wish::StopQuickly } else { Wish::StopGracefully })?;
        Ok(done("stopping".to_owned()))
    }
}

fn certificate(described: Described) -> Certificate {
    let Described { label, file, not_after, .. } = described;
    Certificate { names: label, file: file.display().to_string(), not_after: not_after.timestamp() }
}

fn done(text: String) -> Reply {
    Reply::Done { text }
}

pub(super) fn failed(text: &str) -> Reply {
    Reply::Failed { text: text.to_owned(), detail: String::new(), hint: String::new() }
}
