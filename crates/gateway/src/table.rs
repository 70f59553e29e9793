//! Hash tables that the snapshots of many revisions share.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// A hash table in shards, each copied when written while an older snapshot still holds it. Nine bytes an
/// entry: what an entry is found by stands in the entry.
pub(crate) struct Table<T> {
    shards: Arc<Vec<Arc<HashTable<Arc<T>>>>>,
    len: usize,
}

const SHARDS: usize = 1024;

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self { shards: Arc::clone(&self.shards), len: self.len }
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        // One empty shard in all places, until something is written there.
        Self { shards: Arc::new(vec![Arc::default(); SHARDS]), len: 0 }
    }
}

impl<T> Table<T> {
    pub(crate) fn find(&self, key: &(impl Hash + ?Sized), is: impl Fn(&T) -> bool) -> Option<&Arc<T>> {
        let hash = hash(key);
        self.shards[shard(hash)].find(hash, |entry| is(entry))
    }

    /// Every entry of a key.
    pub(crate) fn find_all(
        &self,
        key: &(impl Hash + ?Sized),
        is: impl Fn(&T) -> bool,
    ) -> impl Iterator<Item = &Arc<T>> {
        let hash = hash(key);
        self.shards[shard(hash)].iter_hash(hash).filter(move |entry| is(entry))
    }

    pub(crate) fn insert(&mut self, key: &(impl Hash + ?Sized), entry: Arc<T>, rehash: impl Fn(&T) -> u64) {
        let hash = hash(key);
        self.shard_mut(hash).insert_unique(hash, entry, |entry| rehash(entry));
        self.len += 1;
    }

    pub(crate) fn remove(&mut self, key: &(impl Hash + ?Sized), is: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let hash = hash(key);
        self.find(key, &is)?;
        let removed = self.shard_mut(hash).find_entry(hash, |entry| is(entry)).ok()?.remove().0;
        self.len -= 1;
        Some(removed)
    }

    fn shard_mut(&mut self, hash: u64) -> &mut HashTable<Arc<T>> {
        Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[shard(hash)])
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// The table inside a shard uses the low and the topmost bits of the hash; the shard is chosen by others.
fn shard(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

/// Seeded once per process, so that colliding keys cannot be prepared from outside.
pub(crate) fn hash(key: &(impl Hash + ?Sized)) -> u64 {
    static STATE: std::sync::LazyLock<FixedState> = std::sync::LazyLock::new(|| {
        FixedState::with_seed(std::collections::hash_map::RandomState::new().hash_one(0u64))
    });
    STATE.hash_one(key)
}
