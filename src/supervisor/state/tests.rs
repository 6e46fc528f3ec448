//! The machine, driven by events alone.

use super::*;
use monoceros_wire::message::BootFailure;
use monoceros_wire::zygote::ExitStatus;

fn policy(workers: u32) -> Policy {
    Policy {
        workers,
        surge: 1,
        memory_budget: 0,
        boot_timeout: Duration::from_secs(60),
        graceful_timeout: Duration::from_secs(30),
        drain_timeout: Duration::from_secs(20),
        max_lifetime: Duration::ZERO,
        lifetime_jitter: Duration::ZERO,
        waits_for_change: false,
        seed: 0,
    }
}

fn failure() -> BootFailure {
    BootFailure {
        stage: "import".to_owned(),
        message: "no module".to_owned(),
        hint: String::new(),
        traceback: String::new(),
    }
}

fn fork(worker: WorkerNumber) -> Action {
    Action::Fork { worker, generation: 1 }
}

fn exited(worker: WorkerNumber, status: ExitStatus) -> Event {
    Event::Exited { worker, status, requests: 1, out_of_memory: false }
}

fn ready(worker: WorkerNumber) -> Event {
    Event::Ready { worker, interface: Interface::Wsgi, slots: 1 }
}

fn acts(actions: &[Action]) -> Vec<Action> {
    actions.iter().filter(|action| !matches!(action, Action::Say(_))).cloned().collect()
}

/// A supervisor whose workers all serve.
fn serving(workers: u32, now: Instant) -> Supervisor {
    serving_with(policy(workers), now)
}

fn serving_with(policy: Policy, now: Instant) -> Supervisor {
    let mut supervisor = Supervisor::new(policy);
    assert_eq!(supervisor.step(now, Event::Start), [Action::StartZygote(1)]);
    let forks = supervisor.step(now, Event::ZygoteLoaded { generation: 1 });
    assert_eq!(forks, (1..=policy.workers).map(fork).collect::<Vec<_>>());
    for worker in 1..=policy.workers {
        supervisor.step(now, Event::Forked { worker, pid: 100 + worker });
        supervisor.step(now, ready(worker));
    }
    assert_eq!(supervisor.serving(), policy.workers as usize);
    supervisor
}

#[test]
fn the_first_ready_worker_is_announced_once() {
    let now = Instant::now();
    let mut supervisor = Supervisor::new(policy(2));
    supervisor.step(now, Event::Start);
    supervisor.step(now, Event::ZygoteLoaded { generation: 1 });
    let said = |actions: &[Action]| {
        actions.iter().filter(|action| matches!(action, Action::Say(Saying::Ready { .. }))).count()
    };
    assert_eq!(said(&supervisor.step(now, ready(2))), 1);
    assert_eq!(said(&supervisor.step(now, ready(1))), 0);
}

#[test]
fn a_worker_that_served_is_replaced_at_once_with_a_new_number() {
    let now = Instant::now();
    let mut supervisor = serving(2, now);
    supervisor.step(now, Event::LinkLost { worker: 1, reason: LINK_ENDED.to_owned() });
    let actions = supervisor.step(now, exited(1, ExitStatus::Signal(9)));
    assert!(actions.contains(&fork(3)) || supervisor.workers.contains_key(&3), "{actions:?}");
    assert!(actions.contains(&Action::Forget(1)), "{actions:?}");
}

#[test]
fn a_lost_link_is_replaced_before_the_exit_is_known() {
    let now = Instant::now();
    let mut supervisor = serving(1, now);
    let actions = supervisor.step(now, Event::LinkLost { worker: 1, reason: LINK_ENDED.to_owned() });
    assert_eq!(actions, [Action::Kill(1), fork(2)]);
}

#[test]
fn boot_failure_before_anything_served_ends_the_program() {
    let now = Instant::now();
    let mut supervisor = Supervisor::new(policy(2));
    supervisor.step(now, Event::Start);
    supervisor.step(now, Event::ZygoteLoaded { generation: 1 });
    let actions = supervisor.step(now, Event::BootFailed { worker: 1, failure: failure() });
    assert_eq!(
        actions,
        [Action::Kill(1), Action::Kill(2), Action::EndZygote(1), Action::Finish(Outcome::BootFailed(failure()))]
    );
    assert_eq!(supervisor.step(now, Event::Tick), []);
}

#[test]
fn a_first_load_that_fails_waits_for_a_change_if_one_is_watched_for() {
    let now = Instant::now();
    let mut supervisor = Supervisor::new(Policy { waits_for_change: true, ..policy(2) });
    supervisor.step(now, Event::Start);
    supervisor.step(now, Event::ZygoteLoaded { generation: 1 });
    let actions = supervisor.step(now, Event::BootFailed { worker: 1, failure: failure() });
    let told = Action::Say(Saying::FirstLoadFailed { generation: 1, failure: failure() });
    assert_eq!(actions, [Action::Kill(1), Action::Kill(2), told]);
    // The other worker has the same to say.
    assert_eq!(supervisor.step(now, Event::BootFailed { worker: 2, failure: failure() }), []);
    for worker in [1, 2] {
        let actions = supervisor.step(now, exited(worker, ExitStatus::Signal(9)));
        assert!(!actions.iter().any(|action| matches!(action, Action::Fork { .. } | Action::Say(_))), "{actions:?}");
    }
    assert_eq!(supervisor.wake_at(now), None);
    let actions = supervisor.step(now, Event::Reload);
    assert!(actions.contains(&Action::StartZygote(2)), "{actions:?}");
    let actions = supervisor.step(now, Event::ZygoteLoaded { generation: 2 });
    let forks = acts(&actions).into_iter().filter(|action| matches!(action, Action::Fork { generation: 2, .. }));
    assert_eq!(forks.count(), 2, "{actions:?}");
    let said = [3, 4].map(|worker| supervisor.step(now, ready(worker))).concat();
    assert!(said.contains(&Action::Say(Saying::Ready { interface: Interface::Wsgi })), "{said:?}");
    assert!(said.contains(&Action::Say(Saying::ReloadDone { generation: 2 })), "{said:?}");
    assert_eq!(supervisor.serving(), 2);
}

#[test]
fn boot_failure_later_pauses_longer_each_time_and_never_ends_the_others() {
    let now = Instant::now();
    let mut supervisor = serving(2, now);
    supervisor.step(now, exited(1, ExitStatus::Signal(9)));
    let mut pauses = Vec::new();
    let mut at = now;
    for worker in 3..7 {
        let actions = supervisor.step(at, Event::BootFailed { worker, failure: failure() });
        for action in actions {
            match action {
                Action::Say(Saying::WorkerBootFailed { next, .. }) => pauses.push(next),
                Action::Finish(outcome) => panic!("ended: {outcome:?}"),
                _ => {}
            }
        }
        supervisor.step(at, exited(worker, ExitStatus::Code(4)));
        at = supervisor.wake_at(at).expect("a pause is planned");
        assert_eq!(supervisor.step(at, Event::Tick), [fork(worker + 1)]);
    }
    for (pause, least) in pauses.into_iter().zip([250, 500, 1000, 2000].map(Duration::from_millis)) {
        assert!(pause >= least && pause <= least * 5 / 4, "{pause:?}");
    }
    assert_eq!(supervisor.serving(), 1);
}

#[test]
fn a_boot_that_takes_too_long_is_killed() {
    let now = Instant::now();
    let mut supervisor = serving(1, now);
    supervisor.step(now, Event::LinkLost { worker: 1, reason: LINK_ENDED.to_owned() });
    let late = now + Duration::from_secs(60);
    let actions = supervisor.step(late, Event::Tick);
    assert!(actions.contains(&Action::Kill(2)), "{actions:?}");
}

#[test]
fn graceful_stop_drains_then_hastens_then_kills() {
    let now = Instant::now();
    let mut supervisor = serving(2, now);
    assert_eq!(supervisor.step(now, Event::StopGracefully), [Action::Drain(1), Action::Drain(2)]);
    supervisor.step(now, exited(1, ExitStatus::Code(0)));
    let late = supervisor.wake_at(now).expect("the grace ends");
    assert_eq!(acts(&supervisor.step(late, Event::Tick)), [Action::Hasten(2)]);
    let later = supervisor.wake_at(late).expect("patience ends");
    assert_eq!(acts(&supervisor.step(later, Event::Tick)), [Action::Kill(2)]);
    let actions = supervisor.step(later, exited(2, ExitStatus::Signal(9)));
    assert_eq!(actions, [Action::Forget(2), Action::EndZygote(1), Action::Finish(Outcome::Stopped)]);
}

#[test]
fn asked_twice_hurries_and_asked_three_times_kills() {
    let now = Instant::now();
    let mut supervisor = serving(1, now);
    supervisor.step(now, Event::StopGracefully);
    assert_eq!(supervisor.step(now, Event::StopGracefully), [Action::Hasten(1)]);
    assert_eq!(supervisor.step(now, Event::StopQuickly), [Action::Kill(1)]);
}

#[test]
fn a_lost_zygote_is_started_again() {
    let now = Instant::now();
    let mut supervisor = serving(2, now);
    let actions =
        supervisor.step(now, Event::ZygoteEnded { generation: 1, failure: None, status: "was killed".to_owned() });
    assert!(actions.contains(&Action::Forget(1)) && actions.contains(&Action::Forget(2)), "{actions:?}");
    let at = supervisor.wake_at(now).expect("a pause is planned");
    assert_eq!(supervisor.step(at, Event::Tick), [Action::StartZygote(1)]);
    supervisor.step(at, Event::ZygoteLoaded { generation: 1 });
    // One that had worked for a while is replaced at once.
    let later = at + Duration::from_secs(60);
    let ended = Event::ZygoteEnded { generation: 1, failure: None, status: "was killed".to_owned() };
    assert!(supervisor.step(later, ended).contains(&Action::StartZygote(1)));
}

#[test]
fn a_wsgi_worker_is_asked_first_then_killed_and_replaced() {
    let now = Instant::now();
    let mut supervisor = serving(1, now);
    let asked = [Action::Say(Saying::Overdue { worker: 1 })];
    assert_eq!(supervisor.step(now, Event::Overdue { worker: 1 }), asked);
    let later = now + Duration::from_secs(1);
    assert_eq!(supervisor.step(later, Event::Overdue { worker: 1 }), [], "it is asked once");
    assert_eq!(supervisor.step(later, Event::Returned { worker: 1 }), [Action::Say(Saying::Returned { worker: 1 })]);
    assert_eq!(supervisor.step(now + RETURN_GRACE, Event::Tick), [], "it has returned");
    let again = now + Duration::from_secs(60);
    assert_eq!(supervisor.step(again, Event::Overdue { worker: 1 }), asked);
    assert_eq!(supervisor.wake_at(again), Some(again + RETURN_GRACE));
    let actions = supervisor.step(again + RETURN_GRACE, Event::Tick);
    assert!(actions.contains(&Action::Kill(1)) && actions.contains(&fork(2)), "{actions:?}");
}

#[test]
fn a_reload_moves_one_for_one() {
    let now = Instant::now();
    let mut supervisor = serving(2, now);
    assert_eq!(acts(&supervisor.step(now, Event::Reload)), [Action::StartZygote(2)]);
    let scout = supervisor.step(now, Event::ZygoteLoaded { generation: 2 });
    assert_eq!(scout, [Action::Fork { worker: 3, generation: 2 }]);
    let actions = acts(&supervisor.step(now, ready(3)));
    assert_eq!(actions, [Action::Drain(1), Action::Fork { worker: 4, generation: 2 }]);
    let actions = supervisor.step(now, ready(4));
    assert!(actions.contains(&Action::Drain(2)), "{actions:?}");
    assert!(actions.contains(&Action::Say(Saying::ReloadDone { generation: 2 })), "{actions:?}");
    supervisor.step(now, Event::LinkLost { worker: 1, reason: LINK_ENDED.to_owned() });
    let drained = |worker| Event::Exited { worker, status: ExitStatus::Code(0), requests: 0, out_of_memory: false };
    assert_eq!(supervisor.step(now, drained(1)), [Action::Forget(1)]);
    assert_eq!(supervisor.step(now, drained(2)), [Action::Forget(2), Action::EndZygote(1)]);
}

#[test]
fn with_a_surge_several_boot_at_a_time() {
    let now = Instant::now();
    let mut supervisor = serving_with(Policy { surge: 2, ..policy(4) }, now);
    supervisor.step(now, Event::Reload);
    let fork = |worker| Action::Fork { worker, generation: 2 };
    assert_eq!(supervisor.step(now, Event::ZygoteLoaded { generation: 2 }), [fork(5)], "one tries the code");
    assert_eq!(acts(&supervisor.step(now, ready(5))), [Action::Drain(1), fork(6), fork(7)]);
    assert_eq!(acts(&supervisor.step(now, ready(7))), [Action::Drain(2), fork(8)]);
    assert_eq!(acts(&supervisor.step(now, ready(6))), [Action::Drain(3)]);
    let actions = supervisor.step(now, ready(8));
    assert!(actions.contains(&Action::Say(Saying::ReloadDone { generation: 2 })), "{actions:?}");
}

const MEGABYTE: u64 = 1 << 20;

fn weighed(sizes: &[(WorkerNumber, u64)]) -> Event {
    let workers = sizes.iter().map(|(worker, megabytes)| (*worker, megabytes * MEGABYTE)).collect();
    Event::Memory(Memory { zygotes: MEGABYTE, workers })
}

fn says(actions: &[Action]) -> Vec<&Saying> {
    let is_about_memory = |saying: &&Saying| {
        use Saying::{BeyondBudget, BudgetExceeded, FewerThanWanted, LeavesFirst};
        matches!(saying, LeavesFirst { .. } | BeyondBudget { .. } | FewerThanWanted { .. } | BudgetExceeded { .. })
    };
    let sayings =
        actions.iter().filter_map(|action| if let Action::Say(saying) = action { Some(saying) } else { None });
    sayings.filter(is_about_memory).collect()
}

/// A supervisor with a budget, whose first worker serves and has these megabytes.
fn weighed_first(workers: u32, budget: u64, size: u64, now: Instant) -> (Supervisor, Vec<Action>) {
    let mut supervisor = Supervisor::new(Policy { memory_budget: budget * MEGABYTE, ..policy(workers) });
    supervisor.step(now, Event::Start);
    let first = supervisor.step(now, Event::ZygoteLoaded { generation: 1 });
    assert_eq!(first, [fork(1)], "the first one shows how much one needs");
    assert_eq!(supervisor.step(now, weighed(&[(1, 1)])), [], "it is not complete yet");
    assert_eq!(acts(&supervisor.step(now, ready(1))), []);
    let actions = supervisor.step(now, weighed(&[(1, size)]));
    (supervisor, actions)
}

#[test]
fn a_tight_budget_replaces_worker_by_worker() {
    let now = Instant::now();
    let (mut supervisor, actions) = weighed_first(2, 100, 40, now);
    assert_eq!(actions, [fork(2)]);
    supervisor.step(now, ready(2));
    assert_eq!(supervisor.step(now, weighed(&[(1, 35), (2, 40)])), []);
    supervisor.step(now, Event::Reload);
    let actions = supervisor.step(now, Event::ZygoteLoaded { generation: 2 });
    assert!(matches!(says(&actions)[..], [Saying::LeavesFirst { worker: 2, .. }]), "the largest: {actions:?}");
    assert_eq!(acts(&actions), [Action::Drain(2)]);
    assert_eq!(supervisor.step(now, weighed(&[(1, 35), (2, 40)])), [], "it still has its memory");
    let actions = supervisor.step(now, exited(2, ExitStatus::Code(0)));
    assert_eq!(actions, [Action::Forget(2), Action::Fork { worker: 3, generation: 2 }]);
    // The new one serves beside the old one, which has to leave for the next.
    let actions = supervisor.step(now, ready(3));
    assert!(matches!(says(&actions)[..], [Saying::LeavesFirst { worker: 1, .. }]), "{actions:?}");
    let actions = supervisor.step(now, exited(1, ExitStatus::Code(0)));
    assert!(actions.contains(&Action::Fork { worker: 4, generation: 2 }), "{actions:?}");
    let actions = supervisor.step(now, ready(4));
    assert!(actions.contains(&Action::Say(Saying::ReloadDone { generation: 2 })), "{actions:?}");
}

#[test]
fn one_serves_whatever_the_budget() {
    let now = Instant::now();
    let (mut supervisor, actions) = weighed_first(3, 10, 40, now);
    assert!(
        matches!(
            says(&actions)[..],
            [Saying::BudgetExceeded { .. }, Saying::FewerThanWanted { there: 1, wanted: 3, .. }]
        ),
        "{actions:?}"
    );
    assert_eq!(supervisor.step(now, weighed(&[(1, 41)])), [], "it is said once");
    supervisor.step(now, Event::Reload);
    let actions = supervisor.step(now, Event::ZygoteLoaded { generation: 2 });
    assert!(matches!(says(&actions)[..], [Saying::BeyondBudget { .. }]), "the last one does not go first: {actions:?}");
    // Then it goes, and nobody comes.
    assert_eq!(acts(&supervisor.step(now, ready(2))), [Action::Drain(1)]);
    let actions = supervisor.step(now, exited(1, ExitStatus::Code(0)));
    assert!(actions.contains(&Action::Say(Saying::ReloadDone { generation: 2 })), "{actions:?}");
    assert_eq!(supervisor.workers.len(), 1);
    supervisor.step(now, exited(2, ExitStatus::Signal(9)));
    assert_eq!(supervisor.workers.values().filter(|worker| worker.is_booting()).count(), 1);
}

#[test]
fn the_load_starts_no_more_than_fit() {
    let now = Instant::now();
    let (mut supervisor, _) = weighed_first(1, 100, 30, now);
    let scale = || Event::Scale { workers: 6, reason: Some(Reason::Waited(Duration::from_secs(1))) };
    let actions = supervisor.step(now, scale());
    assert_eq!((acts(&actions), supervisor.wanted()), (vec![fork(2), fork(3)], 3));
    assert!(matches!(says(&actions)[..], [Saying::FewerThanWanted { there: 3, wanted: 6, .. }]), "{actions:?}");
    assert_eq!(supervisor.step(now, scale()), [], "it is said once");
}

#[test]
fn a_worker_that_does_not_warm_up_is_killed_and_changes_nothing() {
    let now = Instant::now();
    let mut supervisor = serving(2, now);
    supervisor.step(now, Event::Reload);
    supervisor.step(now, Event::ZygoteLoaded { generation: 2 });
    let actions = supervisor.step(now, Event::Unfit { worker: 3, failure: failure() });
    assert!(actions.contains(&Action::Kill(3)), "{actions:?}");
    assert!(actions.contains(&Action::Say(Saying::ReloadFailed { generation: 2, failure: failure() })), "{actions:?}");
    supervisor.step(now, exited(3, ExitStatus::Signal(9)));
    assert_eq!((supervisor.serving(), supervisor.target()), (2, 1));
    // One that takes the place of a crashed one is killed too, and the next try comes after a pause.
    supervisor.step(now, exited(1, ExitStatus::Signal(11)));
    let actions = supervisor.step(now, Event::Unfit { worker: 4, failure: failure() });
    assert!(actions.contains(&Action::Kill(4)), "{actions:?}");
    assert!(!actions.iter().any(|action| matches!(action, Action::Fork { .. })), "{actions:?}");
    // What serves is fit.
    assert_eq!(supervisor.step(now, Event::Unfit { worker: 2, failure: failure() }), []);
}

#[test]
fn a_reload_onto_broken_code_changes_nothing() {
    let now = Instant::now();
    let mut supervisor = serving(2, now);
    supervisor.step(now, Event::Reload);
    supervisor.step(now, Event::ZygoteLoaded { generation: 2 });
    let actions = supervisor.step(now, Event::BootFailed { worker: 3, failure: failure() });
    let told = Action::Say(Saying::ReloadFailed { generation: 2, failure: failure() });
    assert_eq!(actions, [Action::Kill(3), told]);
    let actions = supervisor.step(now, exited(3, ExitStatus::Code(4)));
    assert_eq!(actions, [Action::Forget(3), Action::EndZygote(2)]);
    assert_eq!((supervisor.serving(), supervisor.target()), (2, 1));
    // What crashes afterwards is replaced from the code that works.
    let actions = supervisor.step(now, exited(1, ExitStatus::Signal(11)));
    assert!(actions.contains(&fork(4)), "{actions:?}");
}

#[test]
fn with_preload_the_zygote_tells_that_the_code_is_broken() {
    let now = Instant::now();
    let mut supervisor = serving(1, now);
    supervisor.step(now, Event::Reload);
    let ended = Event::ZygoteEnded { generation: 2, failure: Some(failure()), status: "exited".to_owned() };
    let actions = supervisor.step(now, ended);
    assert_eq!(actions, [Action::Say(Saying::ReloadFailed { generation: 2, failure: failure() })]);
    assert_eq!(supervisor.wake_at(now), None, "no further attempt");
}

#[test]
fn an_import_that_hangs_ends_the_reload() {
    let now = Instant::now();
    let mut supervisor = serving(1, now);
    supervisor.step(now, Event::Reload);
    let late = supervisor.wake_at(now).expect("the boot time-out");
    let actions = supervisor.step(late, Event::Tick);
    assert!(actions.contains(&Action::EndZygote(2)), "{actions:?}");
    assert!(matches!(actions.last(), Some(Action::Say(Saying::ReloadFailed { generation: 2, .. }))), "{actions:?}");
}

#[test]
fn a_reload_while_another_runs_replaces_it() {
    let now = Instant::now();
    let mut supervisor = serving(1, now);
    supervisor.step(now, Event::Reload);
    let actions = supervisor.step(now, Event::Reload);
    assert!(matches!(actions[0], Action::Say(Saying::ReloadFailed { generation: 2, .. })), "{actions:?}");
    assert!(actions.contains(&Action::Say(Saying::ReloadBegun { generation: 3 })), "{actions:?}");
    assert!(actions.contains(&Action::EndZygote(2)) && actions.contains(&Action::StartZygote(3)), "{actions:?}");
}

#[test]
fn a_worker_that_has_served_its_time_is_replaced_first() {
    let now = Instant::now();
    let mut supervisor = serving_with(Policy { max_lifetime: Duration::from_secs(100), ..policy(1) }, now);
    let due = supervisor.wake_at(now).expect("a lifetime");
    assert_eq!(acts(&supervisor.step(due, Event::Tick)), [fork(2)]);
    assert_eq!(acts(&supervisor.step(due, ready(2))), [Action::Drain(1)]);
    let late = supervisor.wake_at(due).expect("the drain ends");
    assert_eq!(acts(&supervisor.step(late, Event::Tick)), [Action::Hasten(1)]);
    let later = supervisor.wake_at(late).expect("patience ends");
    assert_eq!(acts(&supervisor.step(later, Event::Tick)), [Action::Kill(1)]);
}

#[test]
fn scaling() {
    let now = Instant::now();
    let mut supervisor = serving(2, now);
    let actions = supervisor.step(now, Event::Scale { workers: 4, reason: None });
    assert_eq!(actions, [Action::Say(Saying::Scaled { from: 2, to: 4, reason: None }), fork(3), fork(4)]);
    supervisor.step(now, ready(3));
    let actions = acts(&supervisor.step(now, Event::Scale { workers: 2, reason: None }));
    assert_eq!(actions, [Action::Drain(1), Action::Kill(4)]);
}

#[test]
fn workers_that_die_in_infancy_make_a_pause() {
    let now = Instant::now();
    let mut supervisor = serving(1, now);
    let died = Event::Exited { worker: 1, status: ExitStatus::Code(1), requests: 0, out_of_memory: false };
    assert_eq!(acts(&supervisor.step(now, died)), [Action::Forget(1)]);
    let at = supervisor.wake_at(now).expect("a pause");
    assert_eq!(supervisor.step(at, Event::Tick), [fork(2)]);
    // Somebody kills workers: that says nothing about the code, and the next one may live.
    let killed = Event::Exited { worker: 2, status: ExitStatus::Signal(9), requests: 0, out_of_memory: false };
    assert_eq!(acts(&supervisor.step(at, killed)), [Action::Forget(2), fork(3)]);
    let starved = Event::Exited { worker: 3, status: ExitStatus::Signal(9), requests: 0, out_of_memory: true };
    assert_eq!(acts(&supervisor.step(at, starved)), [Action::Forget(3)]);
}

#[test]
fn what_the_application_says_about_its_failure_may_come_after_its_end() {
    let now = Instant::now();
    let mut supervisor = Supervisor::new(policy(2));
    supervisor.step(now, Event::Start);
    supervisor.step(now, Event::ZygoteLoaded { generation: 1 });
    for worker in 1..=2 {
        let died = Event::Exited { worker, status: ExitStatus::Code(4), requests: 0, out_of_memory: false };
        assert_eq!(acts(&supervisor.step(now, died))[0], Action::Forget(worker));
    }
    let actions = supervisor.step(now, Event::BootFailed { worker: 1, failure: failure() });
    assert_eq!(actions.last(), Some(&Action::Finish(Outcome::BootFailed(failure()))));
}

/// One whose only worker has gone because nobody asked for anything.
fn resting(now: Instant) -> Supervisor {
    let mut supervisor = serving(1, now);
    supervisor.step(now, Event::OnDemand(true));
    let idle = Event::Scale { workers: 0, reason: Some(Reason::Unused(Duration::from_secs(300))) };
    assert_eq!(acts(&supervisor.step(now, idle)), [Action::Drain(1)]);
    assert_eq!(supervisor.step(now, exited(1, ExitStatus::Code(0))), [Action::Forget(1)]);
    assert_eq!(supervisor.wake_at(now), None);
    supervisor
}

#[test]
fn a_request_calls_the_first_worker_once() {
    let now = Instant::now();
    let mut supervisor = resting(now);
    assert_eq!(acts(&supervisor.step(now, Event::Called)), [Action::Wake, fork(2)]);
    assert_eq!(supervisor.step(now, Event::Called), []);
    supervisor.step(now, ready(2));
    assert_eq!((supervisor.serving(), supervisor.wanted()), (1, 1));
    // Who was sent away is not called.
    supervisor.step(now, Event::OnDemand(false));
    supervisor.step(now, Event::Scale { workers: 0, reason: None });
    assert_eq!(supervisor.step(now, Event::Called), []);
    // Nor where there is always one.
    assert_eq!(serving(1, now).step(now, Event::Called), []);
}

#[test]
fn who_waits_for_a_boot_that_fails_is_told_and_a_later_one_tries_again() {
    let now = Instant::now();
    let mut supervisor = resting(now);
    supervisor.step(now, Event::Called);
    let actions = supervisor.step(now, Event::BootFailed { worker: 2, failure: failure() });
    let Some(Action::Refuse { pause }) = actions.last() else { panic!("{actions:?}") };
    assert!(*pause >= Duration::from_millis(250) && *pause <= Duration::from_millis(320), "{pause:?}");
    assert!(actions.contains(&Action::Say(Saying::NobodyCame { pause: *pause })), "{actions:?}");
    supervisor.step(now, exited(2, ExitStatus::Code(4)));
    assert_eq!(supervisor.step(now, Event::Called), [Action::Refuse { pause: *pause }]);
    assert_eq!(supervisor.step(now + *pause, Event::Tick), [], "nobody asks");
    assert_eq!(acts(&supervisor.step(now + *pause, Event::Called)), [Action::Wake, fork(3)]);
    // A boot that hangs is a failure, too.
    let late = supervisor.wake_at(now + *pause).expect("the boot time-out");
    let actions = supervisor.step(late, Event::Tick);
    assert!(matches!(actions.last(), Some(Action::Refuse { .. })), "{actions:?}");
}

#[test]
fn a_reload_without_workers_proves_the_code() {
    let now = Instant::now();
    let mut supervisor = resting(now);
    assert_eq!(acts(&supervisor.step(now, Event::Reload)), [Action::StartZygote(2)]);
    assert_eq!(
        supervisor.step(now, Event::ZygoteLoaded { generation: 2 }),
        [Action::Fork { worker: 2, generation: 2 }]
    );
    let actions = supervisor.step(now, Event::BootFailed { worker: 2, failure: failure() });
    let told = Action::Say(Saying::ReloadFailed { generation: 2, failure: failure() });
    assert_eq!(actions, [Action::Kill(2), told]);
    supervisor.step(now, exited(2, ExitStatus::Code(4)));
    assert_eq!((supervisor.target(), supervisor.wanted()), (1, 0));
    supervisor.step(now, Event::Reload);
    supervisor.step(now, Event::ZygoteLoaded { generation: 3 });
    let actions = supervisor.step(now, ready(3));
    assert!(actions.contains(&Action::Say(Saying::ReloadDone { generation: 3 })), "{actions:?}");
    assert_eq!((supervisor.serving(), supervisor.wanted()), (1, 1), "it stays until it is idle");
}
