//! Pure: whose turn it is among those who wait, and who has to go when no more may.
//!
//! Clients take turns, each with its oldest request; so what one client waits for does not depend on how much another one
//! asks. What belongs to no known client takes turns by itself: among such, it is first come, first served.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A place in the round.
#[derive(Debug)]
enum Turn<C, T> {
    /// The oldest of this client.
    Client(C),
    Alone(T),
}

/// Things that wait, of clients `C`.
#[derive(Debug)]
pub struct Turns<C, T> {
    /// Had their turn before.
    first: VecDeque<T>,
    round: VecDeque<Turn<C, T>>,
    /// What the clients in the round wait for, oldest first; never empty.
    waiting: HashMap<C, VecDeque<T>>,
    length: usize,
}

impl<C, T> Default for Turns<C, T> {
    fn default() -> Self {
        Self { first: VecDeque::new(), round: VecDeque::new(), waiting: HashMap::new(), length: 0 }
    }
}

impl<C: Copy + Eq + Hash, T> Turns<C, T> {
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// One more at the end: of its client, or of the round.
    pub fn push(&mut self, client: Option<C>, item: T) {
        self.length += 1;
        let Some(client) = client else { return self.round.push_back(Turn::Alone(item)) };
        let own = self.waiting.entry(client).or_default();
        if own.is_empty() {
            self.round.push_back(Turn::Client(client));
        }
        own.push_back(item);
    }

    /// What had its turn, and has to wait after all, goes before everything else.
    pub fn push_first(&mut self, item: T) {
        self.length += 1;
        self.first.push_front(item);
    }

    /// Whether nobody is in the round, and all that had its turn is of this kind.
    pub fn hold_only_first(&self, is_it: impl Fn(&T) -> bool) -> bool {
        self.round.is_empty() && self.first.iter().all(is_it)
    }

    /// What [`Self::pop`] would take.
    pub fn first(&self) -> Option<&T> {
        self.first.front().or_else(|| match self.round.front()? {
            Turn::Alone(item) => Some(item),
            Turn::Client(client) => self.waiting.get(client)?.front(),
        })
    }

    /// The next in turn.
    pub fn pop(&mut self) -> Option<T> {
        let item = self.first.pop_front().or_else(|| self.next_of_the_round())?;
        self.length -= 1;
        Some(item)
    }

    fn next_of_the_round(&mut self) -> Option<T> {
        let client = match self.round.pop_front()? {
            Turn::Alone(item) => return Some(item),
            Turn::Client(client) => client,
        };
        let own = self.waiting.get_mut(&client)?;
        let item = own.pop_front();
        if own.is_empty() {
            self.waiting.remove(&client);
        } else {
            self.round.push_back(Turn::Client(client));
        }
        item
    }

    /// Makes room for one of `client` where no more may wait: takes the newest of the client with the most, unless that
    /// would leave it with fewer than `client` has then. `None`: whoever comes has to go.
    pub fn displace(&mut self, client: Option<C>) -> Option<T> {
        let own = client.and_then(|client| self.waiting.get(&client)).map_or(0, VecDeque::len);
        let (_, most) = self.waiting.iter_mut().max_by_key(|(_, waiting)| waiting.len())?;
        if most.len() < own + 2 {
            return None;
        }
        self.length -= 1;
        // At least one is left, so its place in the round stays.
        most.pop_back()
    }

    /// Removes whatever is not to be kept.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.first.retain(&mut keep);
        let waiting = &mut self.waiting;
        self.round.retain(|turn| match turn {
            Turn::Alone(item) => keep(item),
            Turn::Client(client) => {
                let Some(own) = waiting.get_mut(client) else { return false };
                own.retain(&mut keep);
                if own.is_empty() {
                    waiting.remove(client);
                    return false;
                }
                true
            }
        });
        let alone = self.round.iter().filter(|turn| matches!(turn, Turn::Alone(_))).count();
        self.length = self.first.len() + alone + self.waiting.values().map(VecDeque::len).sum::<usize>();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed preparation is a failed test")]
    use super::*;

    /// The how many-th of which client. Client 0 is nobody in particular.
    type Item = (u32, u32);

    fn filled(items: &[Item]) -> Turns<u32, Item> {
        let mut turns = Turns::default();
        for &(client, number) in items {
            turns.push((client > 0).then_some(client), (client, number));
        }
        turns
    }

    fn drained(mut turns: Turns<u32, Item>) -> Vec<Item> {
        let next = |turns: &mut Turns<u32, Item>| {
            let first = turns.first().copied();
            assert_eq!(turns.pop(), first);
            first
        };
        let items: Vec<_> = std::iter::from_fn(|| next(&mut turns)).collect();
        assert!(turns.is_empty() && turns.round.is_empty() && turns.waiting.is_empty());
        items
    }

    #[test]
    fn clients_take_turns_and_keep_their_order() {
        let rows: &[(&[Item], &[Item])] = &[
            (&[(1, 0), (1, 1), (1, 2)], &[(1, 0), (1, 1), (1, 2)]),
            (&[(1, 0), (1, 1), (1, 2), (2, 0)], &[(1, 0), (2, 0), (1, 1), (1, 2)]),
            (&[(1, 0), (1, 1), (2, 0), (3, 0), (2, 1)], &[(1, 0), (2, 0), (3, 0), (1, 1), (2, 1)]),
            (&[(0, 0), (0, 1), (0, 2)], &[(0, 0), (0, 1), (0, 2)]),
            (&[(1, 0), (1, 1), (1, 2), (0, 0), (0, 1)], &[(1, 0), (0, 0), (0, 1), (1, 1), (1, 2)]),
        ];
        for (items, expected) in rows {
            assert_eq!(drained(filled(items)), *expected, "{items:?}");
        }
    }

    #[test]
    fn what_had_its_turn_goes_first() {
        let mut turns = filled(&[(1, 0), (1, 1), (2, 0)]);
        let item = turns.pop().unwrap();
        turns.push_first(item);
        turns.push_first((3, 0));
        assert_eq!(turns.len(), 4);
        assert_eq!(drained(turns), [(3, 0), (1, 0), (2, 0), (1, 1)]);
    }

    #[test]
    fn the_newest_of_whoever_holds_the_most_has_to_go() {
        let rows: &[(&[Item], u32, Option<Item>)] = &[
            // One client fills the queue: it is refused itself, and makes room for others.
            (&[(1, 0), (1, 1), (1, 2)], 1, None),
            (&[(1, 0), (1, 1), (1, 2)], 2, Some((1, 2))),
            (&[(1, 0), (1, 1), (1, 2)], 0, Some((1, 2))),
            // Room is made until both have the same.
            (&[(1, 0), (1, 1), (1, 2), (2, 0)], 2, Some((1, 2))),
            (&[(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)], 2, None),
            (&[(1, 0), (1, 1), (2, 0), (2, 1)], 1, None),
            // Nobody holds more than one.
            (&[(1, 0), (2, 0)], 3, None),
            (&[(0, 0), (0, 1), (0, 2)], 1, None),
            (&[], 1, None),
        ];
        for (items, client, expected) in rows {
            let mut turns = filled(items);
            assert_eq!(turns.displace((*client > 0).then_some(*client)), *expected, "{items:?} {client}");
            assert_eq!(drained(turns).len(), items.len() - usize::from(expected.is_some()));
        }
    }

    #[test]
    fn what_leaves_takes_no_turn() {
        let mut turns = filled(&[(1, 0), (1, 1), (2, 0), (0, 0), (0, 1), (3, 0)]);
        turns.push_first((4, 0));
        turns.retain(|item| ![(1, 0), (2, 0), (0, 0), (4, 0)].contains(item));
        assert_eq!(turns.len(), 3);
        assert_eq!(drained(turns), [(1, 1), (0, 1), (3, 0)]);
    }

    /// One client asks a hundred times as often as each of nine others, ten times as much as is served. In every step one
    /// request is served.
    #[test]
    fn one_client_that_asks_a_hundred_times_as_much_keeps_nobody_waiting() {
        const SIZE: usize = 100;
        const OTHERS: u64 = 9;
        let mut turns: Turns<u64, (u64, u64)> = Turns::default();
        let (mut longest, mut served, mut refused) = (0, 0, 0);
        for now in 0..10_000_u64 {
            let greedy = std::iter::repeat_n(0, 10);
            // Each of the others once in ten steps.
            let others = (1..=OTHERS).filter(|client| now % 10 == *client);
            for client in greedy.chain(others) {
                if turns.len() < SIZE {
                    turns.push(Some(client), (client, now));
                } else if let Some((loser, _)) = turns.displace(Some(client)) {
                    assert_eq!(loser, 0, "a modest client lost its place");
                    turns.push(Some(client), (client, now));
                } else {
                    refused += u64::from(client > 0);
                }
            }
            assert!(turns.len() <= SIZE);
            if let Some((client, since)) = turns.pop()
                && client > 0
            {
                served += 1;
                longest = longest.max(now - since);
            }
        }
        assert_eq!(refused, 0);
        assert!(served >= 10_000 / 10 * OTHERS - OTHERS, "{served}");
        // A round is at most ten turns.
        assert!(longest <= 10, "{longest}");
    }
}
