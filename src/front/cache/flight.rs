//! One request asks the application, the others for the same wait for its answer (nginx: `proxy_cache_lock`).

use super::key::Key;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// How it ended for the one that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Landing {
    /// The answer is stored.
    Stored,
    /// It is not stored, or there was none: everybody asks by himself.
    Void,
    /// Its client has left: somebody else has to ask.
    Gone,
}

/// A URL, and what selects one of its answers.
type Route = (Key, Vec<u8>);

/// The flights in the air.
#[derive(Debug, Default)]
pub(super) struct Flights {
    open: Mutex<HashMap<Route, watch::Receiver<Option<Landing>>>>,
}

/// What a request is to do.
#[derive(Debug)]
pub(super) enum Boarding {
    Lead(Leader),
    Follow(watch::Receiver<Option<Landing>>),
}

/// The one that asks. Whatever becomes of it, the others learn it.
#[derive(Debug)]
pub(super) struct Leader {
    flights: Arc<Flights>,
    route: Route,
    landing: watch::Sender<Option<Landing>>,
}

impl Flights {
    pub(super) fn board(self: &Arc<Self>, key: &Key, selecting: Vec<u8>) -> Boarding {
        let route = (key.clone(), selecting);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = open.get(&route) {
            return Boarding::Follow(flight.clone());
        }
        let (landing, flight) = watch::channel(None);
        open.insert(route.clone(), flight);
        Boarding::Lead(Leader { flights: Arc::clone(self), route, landing })
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Leader {
    /// Tells those who wait, where somebody leads.
    pub(super) fn land(leader: Option<Self>, landing: Landing) {
        if let Some(leader) = leader {
            leader.settle(landing);
        }
    }

    fn settle(&self, landing: Landing) {
        let mut open = self.flights.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.landing.borrow().is_none() {
            open.remove(&self.route);
            self.landing.send_replace(Some(landing));
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.settle(Landing::Gone);
    }
}

/// Waits for the end of another's flight.
pub(super) async fn landed(mut flight: watch::Receiver<Option<Landing>>) -> Landing {
    match flight.wait_for(Option::is_some).await {
        Ok(landing) => landing.unwrap_or(Landing::Gone),
        Err(_) => Landing::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_others_learn_how_it_ended() {
        let flights = Arc::new(Flights::default());
        let key = Key::new(false, "a", "/");
        for landing in [Landing::Stored, Landing::Void, Landing::Gone] {
            let Boarding::Lead(leader) = flights.board(&key, Vec::new()) else { panic!("nobody else is there") };
            let Boarding::Follow(flight) = flights.board(&key, Vec::new()) else { panic!("one leads") };
            assert!(matches!(flights.board(&key, vec![1]), Boarding::Lead(_)), "another answer of the same URL");
            if landing == Landing::Gone {
                drop(leader);
            } else {
                Leader::land(Some(leader), landing);
            }
            assert_eq!(landed(flight).await, landing);
            assert!(flights.is_empty());
        }
    }
}
