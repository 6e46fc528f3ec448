//! The page: both mappings see the same cells, and exactly one side wins.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use monoceros_wire::page::{Page, Phase};
use monoceros_wire::sys;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};

fn both(cells: usize) -> (Page, Page) {
    let (front, file) = Page::create(cells).unwrap();
    let worker = Page::open(file.as_fd()).unwrap();
    (front, worker)
}

#[test]
fn an_application_can_ask_for_time_while_it_runs_and_never_gets_less() {
    let (page, _file) = Page::create(2).unwrap();
    page.hand(1, 7);
    assert!(!page.extend(1, 7, 100), "not entered");
    assert!(page.enter(1, 7, 10, 1));
    assert!(page.extend(1, 7, 100) && page.extend(1, 7, 50) && !page.extend(1, 8, 500) && !page.extend(9, 7, 500));
    assert_eq!(page.read(1).unwrap().extended_to, 100);
    page.finish(1, 7);
    assert!(!page.extend(1, 7, 500), "it is over");
    page.hand(1, 9);
    assert_eq!(page.read(1).unwrap().extended_to, 0, "the next request starts anew");
}

#[test]
fn the_life_of_a_request() {
    let (front, worker) = both(3);
    assert_eq!((front.cells(), worker.cells()), (3, 3));
    front.hand(2, 77);
    assert_eq!(worker.read(2).unwrap().phase, Phase::Handed);
    assert!(worker.enter(2, 77, 123, 9));
    let cell = front.read(2).unwrap();
    assert_eq!((cell.stream, cell.phase, cell.entered_at, cell.thread), (77, Phase::Entered, 123, 9));
    assert!(!front.recall(2, 77), "entered requests cannot be taken back");
    assert!(!worker.is_cancelled(2, 77));
    assert!(front.cancel(2, 77));
    assert!(worker.is_cancelled(2, 77));
    worker.record_service(2, 4242);
    assert_eq!(front.read(2).unwrap().service, 4242);
    front.free(2);
    front.hand(2, 78);
    let cell = front.read(2).unwrap();
    assert_eq!((cell.stream, cell.phase, cell.entered_at, cell.service), (78, Phase::Handed, 0, 0));
}

#[test]
fn a_recalled_request_cannot_be_entered_even_when_its_cell_is_used_again() {
    let (front, worker) = both(1);
    front.hand(0, 1);
    assert!(front.recall(0, 1));
    assert!(!worker.enter(0, 1, 1, 1));
    front.free(0);
    front.hand(0, 2);
    assert!(!worker.enter(0, 1, 1, 1), "the old request");
    assert!(worker.enter(0, 2, 1, 1), "the new one");
}

#[test]
fn a_thread_is_asked_once_and_only_while_it_is_inside() {
    let (front, worker) = both(2);
    front.hand(1, 5);
    front.ask(1);
    assert!(worker.take_asked().is_empty(), "not entered");
    assert!(worker.enter(1, 5, 1, 9));
    assert_eq!(worker.entered_by(9), Some((1, 5)));
    assert_eq!(worker.take_asked(), [9]);
    assert!(worker.take_asked().is_empty());
    front.ask(1);
    front.cancel(1, 5);
    assert_eq!(worker.entered_by(9), Some((1, 5)), "its client has left");
    worker.finish(1, 5);
    assert!(worker.take_asked().is_empty(), "it has returned");
    assert_eq!(worker.entered_by(9), None);
}

#[test]
fn cells_that_do_not_exist_are_harmless() {
    let (front, worker) = both(1);
    front.hand(9, 1);
    assert!(front.read(9).is_none());
    assert!(!worker.enter(9, 1, 1, 1));
    assert!(!front.recall(u32::MAX, 1));
    assert!(worker.is_cancelled(9, 1));
}

#[test]
fn of_recall_and_enter_exactly_one_wins() {
    let (front, worker) = both(1);
    let entered = AtomicUsize::new(0);
    let recalled = AtomicUsize::new(0);
    for stream in 1..2000 {
        front.hand(0, stream);
        std::thread::scope(|scope| {
            scope.spawn(|| entered.fetch_add(usize::from(worker.enter(0, stream, 1, 1)), Ordering::Relaxed));
            recalled.fetch_add(usize::from(front.recall(0, stream)), Ordering::Relaxed);
        });
        front.free(0);
    }
    assert_eq!(entered.into_inner() + recalled.into_inner(), 1999);
}

#[test]
fn foreign_files_are_refused() {
    let plain = rustix::fs::memfd_create("plain", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&plain, 4096).unwrap();
    assert!(Page::open(plain.as_fd()).is_err(), "not sealed");
    assert!(Page::open(sys::memory_file("zeroes", 4096).unwrap().as_fd()).is_err(), "no magic");
    assert!(Page::open(sys::memory_file("short", 8).unwrap().as_fd()).is_err(), "too short");
}
