//! The machine, driven by events alone.

use super::*;

fn policy(workers: u32) -> Policy {
    Policy { workers, boot_timeout: Duration::from_secs(60), graceful_timeout: Duration::from_secs(30) }
}

fn failure() -> BootFailure {
    BootFailure {
        stage: "import".to_owned(),
        message: "no module".to_owned(),
        hint: String::new(),
        traceback: String::new(),
    }
}

/// A supervisor whose workers all serve.
fn serving(workers: u32, now: Instant) -> Supervisor {
    let mut supervisor = Supervisor::new(policy(workers));
    assert_eq!(supervisor.step(now, Event::Start), [Action::StartZygote]);
    let forks = supervisor.step(now, Event::ZygoteLoaded);
    assert_eq!(forks, (1..=workers).map(Action::Fork).collect::<Vec<_>>());
    for worker in 1..=workers {
        supervisor.step(now, Event::Forked { worker, pid: 100 + worker });
        supervisor.step(now, Event::Ready { worker, interface: Interface::Wsgi, slots: 1 });
    }
    assert_eq!(supervisor.serving(), workers as usize);
    supervisor
}

#[test]
fn the_first_ready_worker_is_announced_once() {
    let now = Instant::now();
    let mut supervisor = Supervisor::new(policy(2));
    supervisor.step(now, Event::Start);
    supervisor.step(now, Event::ZygoteLoaded);
    let ready = |worker| Event::Ready { worker, interface: Interface::Asgi, slots: 9 };
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
    let actions = supervisor.step(now, Event::Exited { worker: 1, status: ExitStatus::Signal(9) });
    assert!(actions.contains(&Action::Fork(3)) || supervisor.workers.contains_key(&3), "{actions:?}");
    assert!(actions.contains(&Action::Forget(1)), "{actions:?}");
}

#[test]
fn a_lost_link_is_replaced_before_the_exit_is_known() {
    let now = Instant::now();
    let mut supervisor = serving(1, now);
    let actions = supervisor.step(now, Event::LinkLost { worker: 1, reason: LINK_ENDED.to_owned() });
    assert_eq!(actions, [Action::Kill(1), Action::Fork(2)]);
}

#[test]
fn boot_failure_before_anything_served_ends_the_program() {
    let now = Instant::now();
    let mut supervisor = Supervisor::new(policy(2));
    supervisor.step(now, Event::Start);
    supervisor.step(now, Event::ZygoteLoaded);
    let actions = supervisor.step(now, Event::BootFailed { worker: 1, failure: failure() });
    assert_eq!(
        actions,
        [Action::Kill(1), Action::Kill(2), Action::EndZygote, Action::Finish(Outcome::BootFailed(failure()))]
    );
    assert_eq!(supervisor.step(now, Event::Tick), []);
}

#[test]
fn boot_failure_later_pauses_longer_each_time_and_never_ends_the_others() {
    let now = Instant::now();
    let mut supervisor = serving(2, now);
    supervisor.step(now, Event::Exited { worker: 1, status: ExitStatus::Signal(9) });
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
        supervisor.step(at, Event::Exited { worker, status: ExitStatus::Code(4) });
        at = supervisor.wake_at().expect("a pause is planned");
        assert_eq!(supervisor.step(at, Event::Tick), [Action::Fork(worker + 1)]);
    }
    assert_eq!(pauses, [250, 500, 1000, 2000].map(Duration::from_millis));
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
fn graceful_stop_drains_then_kills() {
    let now = Instant::now();
    let mut supervisor = serving(2, now);
    assert_eq!(supervisor.step(now, Event::StopGracefully), [Action::Drain(1), Action::Drain(2)]);
    supervisor.step(now, Event::Exited { worker: 1, status: ExitStatus::Code(0) });
    let late = supervisor.wake_at().expect("the grace ends");
    let actions = supervisor.step(late, Event::Tick);
    assert!(actions.contains(&Action::Kill(2)), "{actions:?}");
    let actions = supervisor.step(late, Event::Exited { worker: 2, status: ExitStatus::Signal(9) });
    assert_eq!(actions, [Action::Forget(2), Action::EndZygote, Action::Finish(Outcome::Stopped)]);
}

#[test]
fn asked_twice_stops_now() {
    let now = Instant::now();
    let mut supervisor = serving(1, now);
    supervisor.step(now, Event::StopGracefully);
    assert_eq!(supervisor.step(now, Event::StopGracefully), [Action::Kill(1)]);
}

#[test]
fn a_lost_zygote_is_started_again() {
    let now = Instant::now();
    let mut supervisor = serving(2, now);
    let actions = supervisor.step(now, Event::ZygoteEnded { failure: None, status: "was killed".to_owned() });
    assert!(actions.contains(&Action::Forget(1)) && actions.contains(&Action::Forget(2)), "{actions:?}");
    let at = supervisor.wake_at().expect("a pause is planned");
    assert_eq!(supervisor.step(at, Event::Tick), [Action::StartZygote]);
}

#[test]
fn overdue_kills_a_wsgi_worker_and_replaces_it() {
    let now = Instant::now();
    let mut supervisor = serving(1, now);
    let actions = supervisor.step(now, Event::Overdue { worker: 1 });
    assert!(actions.contains(&Action::Kill(1)) && actions.contains(&Action::Fork(2)), "{actions:?}");
}
