//! Stored answers in memory, within a bound; what was not used for the longest time goes first.

use super::key::{Key, Which};
use super::stored::Stored;
use super::vary::Selection;
use http::HeaderMap;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Threads meet in one of them only when they ask for neighbours at the same moment.
const SHARDS: usize = 16;
/// Answers of one URL, for different requests (`Vary`).
pub(super) const VARIANTS_MAX: usize = 32;
/// See [`Store::mark_passing`].
const PASSING_PLACES: usize = 8192;
/// See [`Store::era`].
const ERAS: usize = 256;

/// What is stored of one URL.
#[derive(Debug, Default)]
struct Resource {
    /// The one that was used last is first.
    variants: Vec<(Selection, Arc<Stored>)>,
    weight: usize,
    /// Its place in the order of use.
    used: u64,
}

#[derive(Debug, Default)]
struct Shard {
    resources: HashMap<Key, Resource>,
    /// Keys by their last use.
    order: BTreeMap<u64, Key>,
    uses: u64,
}

/// What is found for a request.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) stored: Option<Arc<Stored>>,
    /// Something is stored of the URL.
    pub(super) has_others: bool,
    /// What the request says in the fields that select.
    pub(super) selecting: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Store {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    bytes: AtomicUsize,
    bound: AtomicUsize,
    evicted: AtomicU64,
    passing: Vec<AtomicU64>,
    eras: Vec<AtomicU64>,
}

impl Store {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            bytes: AtomicUsize::new(0),
            bound: AtomicUsize::new(bound),
            evicted: AtomicU64::new(0),
            passing: (0..PASSING_PLACES).map(|_| AtomicU64::new(0)).collect(),
            eras: (0..ERAS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn hash(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key)
    }

    fn shard(&self, index: usize) -> MutexGuard<'_, Shard> {
        // A panic while this lock is held leaves at worst a wrong count of bytes.
        self.shards[index % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn bound(&self) -> usize {
        self.bound.load(Ordering::Relaxed)
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Answers that are stored.
    pub(super) fn len(&self) -> usize {
        let variants = |shard: &Shard| shard.resources.values().map(|resource| resource.variants.len()).sum::<usize>();
        (0..SHARDS).map(|index| variants(&self.shard(index))).sum()
    }

    pub(super) fn set_bound(&self, bound: usize) {
        self.bound.store(bound, Ordering::Relaxed);
        self.shrink(0);
    }

    /// The answer for a request, which is used now.
    pub(super) fn find(&self, key: &Key, request: &HeaderMap) -> Found {
        let mut shard = self.shard(self.hash(key) as usize);
        let shard = &mut *shard;
        let Some(resource) = shard.resources.get_mut(key) else { return Found::default() };
        let place = resource.variants.iter().position(|(selection, _)| selection.matches(request));
        let Some(place) = place else {
            let selecting = resource.variants.first().map(|(selection, _)| selection.values_of(request));
            return Found { stored: None, has_others: true, selecting: selecting.unwrap_or_default() };
        };
        resource.variants[..=place].rotate_right(1);
        let (selection, stored) = &resource.variants[0];
        let found =
            Found { stored: Some(Arc::clone(stored)), has_others: true, selecting: selection.values_of(request) };
        shard.uses += 1;
        if let Some(key) = shard.order.remove(&resource.used) {
            shard.order.insert(shard.uses, key);
        }
        resource.used = shard.uses;
        found
    }

    /// Stores an answer in place of those that the same request would get. `era` is of the time before it was asked for:
    /// false where the answer was made void meanwhile.
    pub(super) fn insert(
        &self,
        key: &Key,
        selection: Selection,
        request: &HeaderMap,
        stored: Stored,
        era: u64,
    ) -> bool {
        let hash = self.hash(key);
        if stored.weight() > self.bound() {
            return false;
        }
        let mut guard = self.shard(hash as usize);
        if self.era(key) != era {
            return false;
        }
        let shard = &mut *guard;
        shard.uses += 1;
        let resource = shard.resources.entry(key.clone()).or_default();
        shard.order.remove(&resource.used);
        shard.order.insert(shard.uses, key.clone());
        resource.used = shard.uses;
        let before = resource.weight;
        resource.variants.retain(|(old, _)| !old.matches(request));
        resource.variants.insert(0, (selection, Arc::new(stored)));
        resource.variants.truncate(VARIANTS_MAX);
        resource.weight = weight_of(key, &resource.variants);
        self.bytes.fetch_add(resource.weight, Ordering::Relaxed);
        self.bytes.fetch_sub(before, Ordering::Relaxed);
        drop(guard);
        self.passing[hash as usize / SHARDS % PASSING_PLACES].store(0, Ordering::Relaxed);
        if self.bytes() > self.bound() {
            self.shrink(hash as usize % SHARDS);
        }
        true
    }

    /// Lets go of the least used until everything is within the bound again, beginning with the neighbours of a key. The
    /// last one of a shard stays while another shard has more than one.
    fn shrink(&self, first: usize) {
        for spared in [1, 0] {
            for index in first..first + SHARDS {
                let mut guard = self.shard(index);
                let shard = &mut *guard;
                while self.bytes() > self.bound() && shard.order.len() > spared {
                    let Some((_, key)) = shard.order.pop_first() else { break };
                    self.forget(shard.resources.remove(&key));
                    self.evicted.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn forget(&self, resource: Option<Resource>) {
        self.bytes.fetch_sub(resource.map_or(0, |resource| resource.weight), Ordering::Relaxed);
    }

    /// Counts what has made answers of this URL void. What was asked for in an earlier era is not stored.
    pub(super) fn era(&self, key: &Key) -> u64 {
        self.eras[self.hash(key) as usize / SHARDS % ERAS].load(Ordering::Acquire)
    }

    /// Nothing of this URL is used again (RFC 9111 §4.4).
    pub(super) fn invalidate(&self, key: &Key) -> bool {
        let hash = self.hash(key) as usize;
        self.eras[hash / SHARDS % ERAS].fetch_add(1, Ordering::AcqRel);
        let mut shard = self.shard(hash);
        let resource = shard.resources.remove(key);
        let was_there = resource.is_some();
        if let Some(resource) = &resource {
            shard.order.remove(&resource.used);
        }
        self.forget(resource);
        was_there
    }

    /// Removes answers and returns how many.
    pub(super) fn purge(&self, which: &Which) -> usize {
        for era in &self.eras {
            era.fetch_add(1, Ordering::AcqRel);
        }
        let mut count = 0;
        for index in 0..SHARDS {
            let mut shard = self.shard(index);
            let Shard { resources, order, .. } = &mut *shard;
            resources.retain(|key, resource| {
                let (variants, before) = (resource.variants.len(), resource.weight);
                resource.variants.retain(|(_, stored)| {
                    let tags = if matches!(which, Which::Tag(_)) { stored.tags() } else { Vec::new() };
                    !which.means(key, &tags)
                });
                count += variants - resource.variants.len();
                resource.weight = weight_of(key, &resource.variants);
                self.bytes.fetch_sub(before - resource.weight, Ordering::Relaxed);
                if resource.variants.is_empty() {
                    order.remove(&resource.used);
                }
                !resource.variants.is_empty()
            });
        }
        count
    }

    /// Answers of this URL are not stored: for so many seconds nobody waits for another one that asks for it. A place is
    /// shared by many keys; what is forgotten costs a wait, what is mistaken for another costs a question.
    pub(super) fn mark_passing(&self, key: &Key, until: u64) {
        let hash = self.hash(key);
        let place = hash as usize / SHARDS % PASSING_PLACES;
        self.passing[place].store(hash & !0xff_ffff | until & 0xff_ffff, Ordering::Relaxed);
    }

    /// See [`Store::mark_passing`]; times in seconds.
    pub(super) fn is_passing(&self, key: &Key, now: u64) -> bool {
        let hash = self.hash(key);
        let mark = self.passing[hash as usize / SHARDS % PASSING_PLACES].load(Ordering::Relaxed);
        mark != 0 && mark >> 24 == hash >> 24 && mark & 0xff_ffff > now & 0xff_ffff
    }
}

/// In bytes; nothing where nothing is left.
fn weight_of(key: &Key, variants: &[(Selection, Arc<Stored>)]) -> usize {
    let weights: usize = variants.iter().map(|(selection, stored)| selection.weight() + stored.weight()).sum();
    if variants.is_empty() { 0 } else { 2 * key.as_str().len() + weights }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
