//! The clients of the simulation: who has asked what, how often it ran, and what came of it.

use super::world::{Happening, MILLISECOND, PAUSE_TIMEOUT, REQUEST_TIMEOUT, World};
use crate::roster::WorkerNumber;
use crate::upstream::error::{Cause, Reached};
use crate::upstream::exchange::Event;
use crate::upstream::pool::Conversation;
use crate::upstream::request::{EncodedRequest, RequestBody};
use bytes::Bytes;
use monoceros_wire::message::{BodySource, HttpVersion, Protocol, RequestFacts, ResponseHead};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Which request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number(pub(super) usize);

impl Number {
    pub(super) fn of_path(path: &[u8]) -> Self {
        let digits = std::str::from_utf8(path).ok().and_then(|path| path.strip_prefix('/'));
        Self(digits.and_then(|digits| digits.parse().ok()).expect("a path of the simulation"))
    }

    /// What the right answer to it says.
    pub(super) fn body(self) -> String {
        format!("answer {}", self.0)
    }

    pub(super) fn encode(self, is_post: bool) -> EncodedRequest {
        let path = format!("/{}", self.0);
        let facts = RequestFacts {
            protocol: Protocol::Http,
            version: HttpVersion::Http11,
            is_https: false,
            tls: None,
            body: BodySource::Empty,
            method: if is_post { b"POST" } else { b"GET" },
            path: path.as_bytes(),
            query: b"",
            client_address: b"127.0.0.1",
            client_port: 1,
            server_address: b"127.0.0.1",
            server_port: 2,
        };
        EncodedRequest::encode(&facts, [], RequestBody::Inline(Bytes::new()), !is_post).expect("a short request")
    }
}

/// How it ended for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    Failed(Cause),
    /// The answer broke after its head.
    Cut,
    /// The client did not wait for it.
    Left,
}

/// One request and its story.
pub(super) struct Asked {
    pub(super) is_post: bool,
    conversation: Option<Conversation>,
    has_head: bool,
    /// The workers whose application was called, in order.
    pub(super) entered: Vec<WorkerNumber>,
    /// The application has raised.
    pub(super) has_raised: bool,
    pub(super) entered_at: u64,
    pub(super) outcome: Option<Outcome>,
}

impl Asked {
    pub(super) fn new(is_post: bool, conversation: Option<Conversation>) -> Self {
        Self {
            is_post,
            conversation,
            has_head: false,
            entered: Vec::new(),
            has_raised: false,
            entered_at: 0,
            outcome: None,
        }
    }

    pub(super) fn leave(&mut self) {
        if self.outcome.is_none() {
            self.outcome = Some(Outcome::Left);
            self.conversation = None;
        }
    }

    /// Looks whether something has come; the reason of a failure is the second value.
    pub(super) fn look(&mut self, number: Number) -> Option<(Outcome, Reached)> {
        let mut context = Context::from_waker(Waker::noop());
        while let Some(conversation) = &self.conversation {
            let Poll::Ready(event) = conversation.poll_next(&mut context) else { return None };
            let (outcome, reached) = match event {
                Event::Head { payload, is_end, .. } => {
                    let head = ResponseHead::decode(&payload).expect("a head");
                    assert!(!self.has_head, "{number:?} got a second answer");
                    assert_eq!((head.status, &head.body[..]), (200, number.body().as_bytes()), "{number:?}");
                    self.has_head = true;
                    if !is_end {
                        continue;
                    }
                    (Outcome::Answered, Reached::Answering)
                }
                Event::Data { is_end, .. } => {
                    assert!(self.has_head && is_end, "{number:?}: a piece out of order");
                    (Outcome::Answered, Reached::Answering)
                }
                Event::Failed(error) if self.has_head => (Outcome::Cut, error.reached),
                Event::Failed(error) => (Outcome::Failed(error.cause), error.reached),
                other => panic!("{number:?}: {other:?}"),
            };
            self.outcome = Some(outcome);
            self.conversation = None;
            return Some((outcome, reached));
        }
        None
    }
}

/// What came of all requests.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Sums {
    pub(super) asked: usize,
    pub(super) answered: usize,
    pub(super) replayed: usize,
    /// 502, 504, 500, 503.
    pub(super) failed: [usize; 4],
    pub(super) cut: usize,
    pub(super) left: usize,
}

impl World {
    pub(super) fn ask(&mut self, is_post: bool) {
        let number = Number(self.asked.len());
        self.note(|| format!("{number:?} arrives{}", if is_post { " (POST)" } else { "" }));
        match self.pool.pool.send(number.encode(is_post)) {
            Ok(conversation) => {
                self.asked.push(Asked::new(is_post, Some(conversation)));
                self.open.insert(number);
                if self.chance(60) {
                    self.plan_within(Duration::ZERO, 50 * MILLISECOND, Happening::Leaves(number));
                }
            }
            Err(error) => {
                assert!(
                    matches!(error.cause, Cause::QueueFull | Cause::Unavailable | Cause::BootFailed { .. }),
                    "{error}"
                );
                let mut asked = Asked::new(is_post, None);
                asked.outcome = Some(Outcome::Failed(error.cause));
                self.asked.push(asked);
            }
        }
    }

    pub(super) fn look_at_answers(&mut self) {
        for number in self.open.iter().copied().collect::<Vec<_>>() {
            let Some((outcome, reached)) = self.asked[number.0].look(number) else { continue };
            self.open.remove(&number);
            self.note(|| format!("{number:?}: {outcome:?}"));
            self.check(number, outcome, reached);
        }
    }

    /// Whether what the client is told is true.
    pub(super) fn check(&self, number: Number, outcome: Outcome, reached: Reached) {
        let asked = &self.asked[number.0];
        let last = asked.entered.last();
        let has_died = last.is_some_and(|worker| self.ever_died.contains(worker));
        match outcome {
            Outcome::Answered => assert!(last.is_some(), "{number:?} was answered by nobody"),
            Outcome::Cut => {
                let has_paused = self.nanoseconds() - asked.entered_at > PAUSE_TIMEOUT.as_nanos() as u64;
                assert!(has_died || has_paused, "{number:?} was cut off, and its worker lives");
            }
            Outcome::Left => {}
            Outcome::Failed(cause) => match cause {
                Cause::WorkerDied => {
                    assert!(has_died, "{number:?} got 502, and its worker lives");
                    assert_eq!(reached, Reached::Entered, "{number:?}");
                }
                Cause::Timeout => {
                    let took = self.nanoseconds() - asked.entered_at;
                    assert!(last.is_some() && took > REQUEST_TIMEOUT.as_nanos() as u64, "{number:?} got 504 too early");
                }
                Cause::BootFailed { .. } => {
                    assert!(self.on_demand, "{number:?} was refused where workers are there for all");
                    assert_eq!(last, None, "{number:?} got 503 and was executed");
                }
                Cause::QueueFull | Cause::QueueTimeout | Cause::Unavailable => {
                    assert_eq!(last, None, "{number:?} got 503 and was executed");
                }
                Cause::Raised | Cause::Incomplete => assert!(asked.has_raised, "{number:?} got 500"),
                Cause::Unsupported | Cause::TooLarge | Cause::Unwanted(_) => panic!("{number:?}: {cause:?}"),
            },
        }
    }

    pub(super) fn arrivals(&mut self, count: u64, within: Duration) {
        for _ in 0..count {
            let is_post = self.random.below(2) == 0;
            self.plan_within(Duration::ZERO, within, Happening::Arrives { is_post });
        }
    }

    pub(super) fn sums(&self) -> Sums {
        let mut sums = Sums { asked: self.asked.len(), ..Sums::default() };
        for asked in &self.asked {
            sums.replayed += usize::from(asked.entered.len() > 1);
            match asked.outcome {
                Some(Outcome::Answered) => sums.answered += 1,
                Some(Outcome::Cut) => sums.cut += 1,
                Some(Outcome::Left) => sums.left += 1,
                Some(Outcome::Failed(cause)) => {
                    sums.failed[match cause {
                        Cause::WorkerDied => 0,
                        Cause::Timeout => 1,
                        Cause::Raised | Cause::Incomplete => 2,
                        _ => 3,
                    }] += 1;
                }
                None => {}
            }
        }
        sums
    }
}
