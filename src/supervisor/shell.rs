//! Performs what the machine decides: zygotes, orders, descriptors, words for the operator.

use super::output;
use super::say::say;
use super::stacks::{self, Asker, Question};
use super::state::{Action, Event, GenerationNumber, Jitter, Outcome, Retirement, Saying, Supervisor};
use super::weighing::Processes;
use super::zygote::{self, Zygote};
use super::{Bounds, Candidate, Failure, Milestone, Progress, Settings, Snapshot, Testimony, WorkerView};
use crate::roster::{Member, Notice, WarmUp, WorkerNumber};
use crate::telemetry::OutputStream;
use monoceros_wire::message::BootFailure;
use monoceros_wire::page::Page;
use monoceros_wire::zygote::{Command as Order, Event as News};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

const KILL: i32 = 9;
/// A worker breaks off what it is doing and ends in order; after two seconds it kills itself.
const HASTEN: i32 = 3;

/// A younger worker is not replaced on account of its memory.
const MEMORY_GRACE: Duration = Duration::from_secs(10);

/// For the zygotes to be gone, which are killed after a second.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Shell<M> {
    pub(super) settings: Settings,
    pub(super) python: PathBuf,
    pub(super) notices: mpsc::UnboundedSender<Notice>,
    pub(super) on_milestone: M,
    zygotes: BTreeMap<GenerationNumber, Running>,
    workers: BTreeMap<WorkerNumber, Employed>,
    news: mpsc::UnboundedSender<(GenerationNumber, zygote::News)>,
    /// Deaths for want of memory that the kernel has counted.
    out_of_memory: u64,
    jitter: Jitter,
    /// Who wants to know how a reload goes on; without a number until it has begun.
    watchers: Vec<(Option<GenerationNumber>, mpsc::UnboundedSender<Progress>)>,
    /// Settings that wait for their generation, and those of the generation that is being tried.
    waiting: Option<Box<Candidate>>,
    /// The newest generation of a reload.
    newest: GenerationNumber,
    tried: Option<(GenerationNumber, Box<Candidate>)>,
}

/// A zygote that was started and has not ended.
struct Running {
    zygote: Zygote,
    /// What it said before it ended.
    boot_failure: Option<BootFailure>,
}

/// A worker, seen from outside.
struct Employed {
    generation: GenerationNumber,
    page: Arc<Page>,
    pid: Option<u32>,
    /// Answers after which it is replaced.
    max_requests: u64,
    since: Instant,
    asker: Asker,
}

impl<M: FnMut(Milestone)> Shell<M> {
    pub(super) fn new(
        settings: Settings,
        python: PathBuf,
        notices: mpsc::UnboundedSender<Notice>,
        on_milestone: M,
    ) -> (Self, mpsc::UnboundedReceiver<(GenerationNumber, zygote::News)>) {
        let (news, received) = mpsc::unbounded_channel();
        let shell = Self {
            settings,
            python,
            notices,
            on_milestone,
            zygotes: BTreeMap::new(),
            workers: BTreeMap::new(),
            news,
            out_of_memory: crate::sys::memory_kills(),
            jitter: Jitter(u64::from(std::process::id())),
            watchers: Vec::new(),
            waiting: None,
            newest: 1,
            tried: None,
        };
        (shell, received)
    }

    pub(super) fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::StartZygote(generation) => return self.start_zygote(generation),
            Action::Fork { worker, generation } => {
                if let Err(error) = self.fork(worker, generation) {
                    return Some(Event::ForkFailed { worker, message: error.to_string() });
                }
            }
            Action::Wake => self.notify(Notice::Waking),
            Action::Refuse { pause } => self.notify(Notice::Refuse(pause)),
            Action::Drain(worker) => self.notify(Notice::Drain(worker)),
            Action::Forget(worker) => {
                self.workers.remove(&worker);
                self.notify(Notice::Gone(worker));
            }
            Action::Kill(worker) => self.signal(worker, KILL),
            Action::Hasten(worker) => self.signal(worker, HASTEN),
            Action::EndZygote(generation) => {
                if let Some(running) = self.zygotes.get_mut(&generation) {
                    running.zygote.end();
                }
            }
            Action::Say(saying) => {
                self.tell_watchers(&saying);
                let adopted = self.try_out(&saying);
                match saying {
                    Saying::Ready { interface } => (self.on_milestone)(Milestone::Ready(interface)),
                    Saying::ReloadBegun { .. } => (self.on_milestone)(Milestone::ReloadBegun),
                    Saying::ReloadDone { .. } | Saying::ReloadFailed { .. } => {
                        (self.on_milestone)(Milestone::ReloadEnded);
                    }
                    _ => {}
                }
                say(saying);
                return adopted;
            }
            // Taken by the loop.
            Action::Finish(_) => {}
        }
        None
    }

    /// Follows the settings that are tried. The event is that they hold from now on.
    fn try_out(&mut self, saying: &Saying) -> Option<Event> {
        match *saying {
            Saying::ReloadBegun { generation } => {
                self.newest = generation;
                self.tried = self.waiting.take().map(|candidate| (generation, candidate));
            }
            Saying::ReloadFailed { generation, .. } => {
                // One that was refused has never begun; one that is superseded has.
                self.waiting.take_if(|_| generation > self.newest);
                self.tried.take_if(|(tried, _)| *tried == generation);
            }
            Saying::Proven { generation } => {
                let (_, candidate) = self.tried.take_if(|(tried, _)| *tried == generation)?;
                let Candidate { settings, python, proven } = *candidate;
                let workers = (settings.workers != self.settings.workers).then_some(settings.workers);
                let policy = settings.policy();
                (self.settings, self.python) = (settings, python);
                // Whoever waited for it may have gone.
                let _ = proven.send(());
                return Some(Event::Adopt { policy, workers });
            }
            _ => {}
        }
        None
    }

    /// The settings and the interpreter of one generation.
    fn recipe(&self, generation: GenerationNumber) -> (&Settings, &Path) {
        match &self.tried {
            Some((tried, candidate)) if *tried == generation => (&candidate.settings, &candidate.python),
            _ => (&self.settings, &self.python),
        }
    }

    /// Has a worker asked where it is. The signal also makes it ask the threads of its late requests to return.
    pub(super) fn ask(&self, worker: WorkerNumber, question: Question) {
        if let Some(employed) = self.workers.get(&worker) {
            // The receiver lives as long as the sender.
            let _ = employed.asker.send(question);
        }
    }

    /// Asks all workers, or this one, side by side, and tells when the last one has answered.
    pub(super) fn tell_stacks(
        &self,
        machine: &Supervisor,
        worker: Option<WorkerNumber>,
        reply: oneshot::Sender<Vec<Testimony>>,
    ) {
        let views = self.views(machine).into_iter();
        let asked = views.filter(|view| worker.is_none_or(|worker| worker == view.worker)).map(|view| {
            let (told, answer) = oneshot::channel();
            // Before it listens to the signal, and at its very end, it would die of it.
            if !matches!(view.state, "booting" | "ending") {
                self.ask(view.worker, Question::Asked(told));
            }
            async move { Testimony { view, report: answer.await.ok() } }
        });
        let asked: Vec<_> = asked.collect();
        tokio::spawn(async move {
            // Whoever asked may have gone.
            let _ = reply.send(futures_util::future::join_all(asked).await);
        });
    }

    fn notify(&self, notice: Notice) {
        // The upstream is gone only when the program ends.
        let _ = self.notices.send(notice);
    }

    fn signal(&self, worker: WorkerNumber, signal: i32) {
        let generation = self.workers.get(&worker).map(|employed| employed.generation);
        if let Some(running) = generation.and_then(|generation| self.zygotes.get(&generation))
            && let Err(error) = running.zygote.send(&Order::Signal { worker, signal }, &[])
        {
            // Its end is noticed by the one who waits for it.
            tracing::debug!("the zygote does not take orders: {error}");
        }
    }

    fn start_zygote(&mut self, generation: GenerationNumber) -> Option<Event> {
        let (settings, python) = self.recipe(generation);
        match Zygote::start(python, settings, generation, self.news.clone()) {
            Ok((zygote, output)) => {
                if let Some(stdout) = output.stdout {
                    tokio::spawn(output::follow(None, OutputStream::Stdout, stdout));
                }
                if let Some(stderr) = output.stderr {
                    tokio::spawn(output::follow(None, OutputStream::Stderr, stderr));
                }
                self.zygotes.insert(generation, Running { zygote, boot_failure: None });
                None
            }
            Err(error) => {
                let status = format!("could not be started ({}: {error})", python.display());
                Some(Event::ZygoteEnded { generation, failure: None, status })
            }
        }
    }

    fn fork(&mut self, worker: WorkerNumber, generation: GenerationNumber) -> io::Result<()> {
        let Some(running) = self.zygotes.get(&generation) else { return Err(io::Error::other("the zygote is gone")) };
        let (ours, theirs) = monoceros_wire::sys::stream_pair()?;
        let (page, page_file) = Page::create(self.recipe(generation).0.cells())?;
        let page = Arc::new(page);
        let stdout = output::pipe_for(worker, OutputStream::Stdout)?;
        let stderr = output::pipe_for(worker, OutputStream::Stderr)?;
        let (asker, stacks) = stacks::attend(worker, running.zygote.orders())?;
        let descriptors = [theirs.as_fd(), page_file.as_fd(), stdout.as_fd(), stderr.as_fd(), stacks.as_fd()];
        running.zygote.send(&Order::Fork { worker }, &descriptors)?;
        let settings = self.recipe(generation).0;
        let recycling = settings.recycling;
        let warm_up = WarmUp { targets: settings.warm_up.clone(), timeout: settings.boot_timeout };
        let max_requests = match recycling.max_requests {
            0 => u64::MAX,
            least => least.saturating_add(self.jitter.below(recycling.max_requests_jitter.saturating_add(1))),
        };
        let since = Instant::now();
        let page_here = Arc::clone(&page);
        let employed = Employed { generation, page: page_here, pid: None, max_requests, since, asker };
        self.workers.insert(worker, employed);
        self.notify(Notice::Joined(Member { worker, socket: ours, page, warm_up }));
        Ok(())
    }

    /// What a zygote tells, as the machine understands it.
    pub(super) fn event_of(&mut self, generation: GenerationNumber, news: zygote::News) -> Option<Event> {
        let news = match news {
            zygote::News::Said(news) => news,
            zygote::News::Ended(status) => {
                let failure = self.zygotes.remove(&generation).and_then(|running| running.boot_failure);
                return Some(Event::ZygoteEnded { generation, failure, status });
            }
        };
        match news {
            News::Started { pid, python, .. } => {
                tracing::debug!("zygote {pid} runs Python {python}");
                None
            }
            News::Loaded => Some(Event::ZygoteLoaded { generation }),
            News::BootFailed { failure } => {
                // Its exit follows, and with it the event.
                if let Some(running) = self.zygotes.get_mut(&generation) {
                    running.boot_failure = Some(failure);
                }
                None
            }
            News::Forked { worker, pid } => {
                if let Some(employed) = self.workers.get_mut(&worker) {
                    employed.pid = Some(pid);
                }
                Some(Event::Forked { worker, pid })
            }
            News::ForkFailed { worker, message } => Some(Event::ForkFailed { worker, message }),
            News::Exited { worker, status, .. } => {
                let requests = self.workers.get(&worker).map_or(0, |employed| employed.page.answered());
                let kills = crate::sys::memory_kills();
                let out_of_memory = kills > std::mem::replace(&mut self.out_of_memory, kills);
                Some(Event::Exited { worker, status, requests, out_of_memory })
            }
        }
    }

    pub(super) fn watch_reload(
        &mut self,
        candidate: Option<Box<Candidate>>,
        watcher: Option<mpsc::UnboundedSender<Progress>>,
    ) {
        self.waiting = candidate;
        self.watchers.extend(watcher.map(|watcher| (None, watcher)));
    }

    fn tell_watchers(&mut self, saying: &Saying) {
        let (about, progress) = match saying {
            Saying::ReloadBegun { generation } => {
                for (number, _) in self.watchers.iter_mut().filter(|(number, _)| number.is_none()) {
                    *number = Some(*generation);
                }
                (*generation, Progress::Step(format!("generation {generation}: the application is loaded")))
            }
            Saying::WorkerReady { worker, .. } => {
                let Some(employed) = self.workers.get(worker) else { return };
                (employed.generation, Progress::Step(format!("worker {worker} serves")))
            }
            Saying::ReloadDone { generation } => (*generation, Progress::Done { generation: *generation }),
            Saying::ReloadFailed { generation, failure } | Saying::FirstLoadFailed { generation, failure } => {
                (*generation, Progress::Failed(failure.clone()))
            }
            _ => return,
        };
        // A reload that is superseded has begun.
        let is_refused = matches!(progress, Progress::Failed(_)) && about > self.newest;
        let is_over = !matches!(progress, Progress::Step(_));
        self.watchers.retain(|(number, watcher)| {
            // One that was refused has never begun.
            let is_concerned = *number == Some(about) || (is_refused && number.is_none());
            !(is_concerned && (watcher.send(progress.clone()).is_err() || is_over))
        });
    }

    pub(super) fn snapshot(&self, machine: &Supervisor, bounds: Bounds) -> Snapshot {
        Snapshot {
            generation: machine.target(),
            wanted: machine.wanted(),
            bounds,
            memory: machine.memory(),
            workers: self.views(machine),
        }
    }

    fn views(&self, machine: &Supervisor) -> Vec<WorkerView> {
        let view = |(worker, generation, state)| {
            let employed = self.workers.get(&worker);
            WorkerView {
                worker,
                pid: employed.and_then(|employed| employed.pid),
                generation,
                state,
                age: employed.map_or(Duration::ZERO, |employed| employed.since.elapsed()),
                answered: employed.map_or(0, |employed| employed.page.answered()),
            }
        };
        machine.workers().map(view).collect()
    }

    /// The processes of the workers that serve.
    pub(super) fn serving(&self, machine: &Supervisor) -> Vec<u32> {
        let serving = machine.workers().filter(|(_, _, state)| *state == "serving");
        serving.filter_map(|(worker, _, _)| self.workers.get(&worker)?.pid).collect()
    }

    pub(super) fn processes(&self) -> Processes {
        let workers = self.workers.iter().filter_map(|(worker, employed)| Some((*worker, employed.pid?)));
        Processes { zygotes: self.zygote_ids(), workers: workers.collect() }
    }

    /// Who has answered enough, or uses too much memory; also who is being replaced for it already.
    pub(super) fn look_at_vitals(&self) -> Vec<Event> {
        let max_rss = self.settings.recycling.max_rss;
        let mut events = Vec::new();
        for (worker, employed) in &self.workers {
            let answered = employed.page.answered();
            // One that needs more than that from the start must not be replaced again and again.
            let may_be_large = answered == 0 || employed.since.elapsed() < MEMORY_GRACE;
            let rss =
                if max_rss > 0 && !may_be_large { employed.pid.and_then(crate::sys::resident_memory) } else { None };
            let reason = match rss {
                _ if answered >= employed.max_requests => Retirement::Requests(answered),
                Some(rss) if rss > max_rss => Retirement::Memory(rss),
                _ => continue,
            };
            events.push(Event::Retire { worker: *worker, reason });
        }
        events
    }

    pub(super) fn zygote_ids(&self) -> Vec<u32> {
        self.zygotes.values().map(|running| running.zygote.id()).collect()
    }

    /// Waits for the zygotes, which were told to end.
    pub(super) async fn finish(
        mut self,
        outcome: Outcome,
        news: &mut mpsc::UnboundedReceiver<(GenerationNumber, zygote::News)>,
    ) -> Result<(), Failure> {
        let ended = async {
            while !self.zygotes.is_empty()
                && let Some((generation, news)) = news.recv().await
            {
                self.event_of(generation, news);
            }
        };
        // One that not even the kernel can end must not keep the program.
        let _ = tokio::time::timeout(END_TIMEOUT, ended).await;
        match outcome {
            Outcome::Stopped => Ok(()),
            Outcome::BootFailed(failure) => Err(Failure::Boot(failure)),
            Outcome::ZygoteFailed { status } => Err(Failure::Zygote { status }),
            Outcome::BootTimeout => Err(Failure::BootTimeout(self.settings.boot_timeout)),
        }
    }
}

impl Settings {
    /// Cells of a worker's page: what it may run at once, and what may be handed out ahead of time. Whether the
    /// application is WSGI or ASGI may not be known yet, so there are enough for both.
    fn cells(&self) -> usize {
        const SPARE: usize = 16;
        let wsgi = self.app.threads as usize * (1 + AHEAD_PER_THREAD);
        wsgi.max(self.app.concurrency as usize) + SPARE
    }
}

/// Cells beyond the one in use, per WSGI thread.
const AHEAD_PER_THREAD: usize = 16;
