//! Deleted keys that wait for a round: remembered up to a bound, looked for beyond it, gathered for the
//! next round.
//!
//! Not here: what becomes of a round (`led`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::Digest;
use quorate_ring::{MonoTime, NodeId};

use super::super::node_set::Owners;
use super::{CopyOf, Purges};

/// Keys of all rounds that one message may name.
pub const ROUND_KEYS_MAX: usize = 1_024;
/// Bytes of their keys, about.
const ROUND_BYTES_MAX: usize = 256 * 1024;
/// Deleted keys that are remembered; of more their vnodes are read again.
const WAITING_KEYS_MAX: usize = 65_536;
/// Rounds that a node leads at once: what rests takes memory and nothing else.
const LED_MAX: usize = 256;
/// A vnode whose round came to nothing is tried again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// A vnode in which values expire is read again no sooner than this.
const LOOK_REST: Duration = Duration::from_secs(600);

/// Deleted keys of one copy.
#[derive(Debug)]
pub(super) struct Deleted {
    keys: BTreeSet<Bytes>,
    /// Since when some wait.
    since: MonoTime,
    /// When the copy is read for keys that are not remembered.
    look_at: Option<MonoTime>,
    /// A round is about it, or it is being read.
    busy: bool,
    again_at: MonoTime,
}

impl Purges {
    fn deleted(&mut self, copy: CopyOf, now: MonoTime) -> &mut Deleted {
        self.waiting.entry(copy).or_insert_with(|| Deleted {
            keys: BTreeSet::new(),
            since: now,
            look_at: None,
            busy: false,
            again_at: now,
        })
    }

    /// A key of a copy whose rounds this node leads has been deleted.
    pub fn note_deleted(&mut self, copy: CopyOf, key: &[u8], now: MonoTime) {
        if self.keys >= WAITING_KEYS_MAX {
            let deleted = self.deleted(copy, now);
            deleted.look_at.get_or_insert(now);
            return;
        }
        let deleted = self.deleted(copy, now);
        if !deleted.keys.contains(key) {
            if deleted.keys.is_empty() {
                deleted.since = now;
            }
            deleted.keys.insert(Bytes::copy_from_slice(key));
            self.keys += 1;
        }
    }

    /// Keys of a copy may have been deleted, or expire, that are not remembered: it is read at `at`.
    pub fn look(&mut self, copy: CopyOf, at: MonoTime, now: MonoTime) {
        let deleted = self.deleted(copy, now);
        deleted.look_at = Some(deleted.look_at.map_or(at, |known| known.min(at)));
    }

    /// A value of a copy expires at `at`.
    pub fn note_expiry(&mut self, copy: CopyOf, at: MonoTime, now: MonoTime) {
        self.look(copy, at.max(now + LOOK_REST), now);
    }

    /// The next copy to be read, which is being read from now on.
    pub fn begin_look(&mut self, now: MonoTime) -> Option<CopyOf> {
        if self.reading.is_some() || self.keys >= WAITING_KEYS_MAX {
            return None;
        }
        let is_due = |(_, deleted): &(&CopyOf, &mut Deleted)| {
            deleted.look_at.is_some_and(|at| at <= now) && !deleted.busy
        };
        let (copy, deleted) = self.waiting.iter_mut().find(is_due)?;
        deleted.look_at = None;
        deleted.busy = true;
        self.reading = Some(*copy);
        Some(*copy)
    }

    /// The copy that is being read.
    #[must_use]
    pub const fn reading(&self) -> Option<CopyOf> {
        self.reading
    }

    /// The reading of a copy ended, or could not go on.
    pub fn end_look(&mut self, is_whole: bool, now: MonoTime) {
        let Some(copy) = self.reading.take() else {
            return;
        };
        let deleted = self.deleted(copy, now);
        deleted.busy = false;
        if !is_whole {
            deleted.look_at = Some(now + AGAIN_AFTER);
        }
        self.forget_empty(copy);
    }

    fn forget_empty(&mut self, copy: CopyOf) {
        let is_empty = |d: &&mut Deleted| d.keys.is_empty() && d.look_at.is_none() && !d.busy;
        if self.waiting.get_mut(&copy).as_ref().is_some_and(is_empty) {
            self.waiting.remove(&copy);
        }
    }

    /// A key does not wait any more: it is gone, or not a deleted one.
    pub fn forget(&mut self, copy: CopyOf, key: &[u8]) {
        if let Some(deleted) = self.waiting.get_mut(&copy)
            && deleted.keys.remove(key)
        {
            self.keys -= 1;
        }
    }

    /// Copies of which deleted keys wait.
    pub fn waiting(&self) -> impl Iterator<Item = CopyOf> + '_ {
        let with_keys = self
            .waiting
            .iter()
            .filter(|(_, deleted)| !deleted.keys.is_empty());
        with_keys.map(|(copy, _)| *copy)
    }

    /// For how long the oldest of them has waited.
    pub(super) fn oldest_waits(&self, now: MonoTime) -> Option<Duration> {
        let with_keys = self.waiting.values().filter(|d| !d.keys.is_empty());
        with_keys.map(|deleted| now.since(deleted.since)).max()
    }

    /// What waits and could be purged now, as one round's parts; empty if there is nothing. `others` gives
    /// the other owners of a copy, or who of them is down. Keys come without digests.
    pub fn gather(
        &mut self,
        now: MonoTime,
        others: &BTreeMap<CopyOf, Result<Owners, NodeId>>,
    ) -> Vec<(CopyOf, Owners, Vec<Bytes>)> {
        self.blocked_by.clear();
        let mut parts = Vec::new();
        let (mut keys, mut bytes) = (0, 0);
        for (copy, deleted) in &mut self.waiting {
            if deleted.busy || deleted.keys.is_empty() {
                continue;
            }
            let owners = match others.get(copy) {
                Some(Ok(owners)) => owners.clone(),
                Some(Err(down)) => {
                    self.blocked_by.insert(*down);
                    continue;
                }
                None => continue,
            };
            let full = keys >= ROUND_KEYS_MAX || bytes >= ROUND_BYTES_MAX;
            if deleted.again_at > now || full || self.led.len() >= LED_MAX {
                continue;
            }
            let mut taken = Vec::new();
            for key in &deleted.keys {
                if keys >= ROUND_KEYS_MAX || bytes >= ROUND_BYTES_MAX {
                    break;
                }
                keys += 1;
                bytes += key.len() + size_of::<Digest>();
                taken.push(key.clone());
            }
            deleted.busy = true;
            parts.push((*copy, owners, taken));
        }
        parts
    }

    /// How often what waits is gathered for a round.
    #[must_use]
    pub fn gather_every(&self) -> Duration {
        self.rest / 12
    }

    /// A copy is not part of a round any more.
    pub fn free(&mut self, copy: CopyOf, now: MonoTime) {
        let deleted = self.deleted(copy, now);
        deleted.busy = false;
        deleted.again_at = now + AGAIN_AFTER;
        self.forget_empty(copy);
    }
}

#[cfg(test)]
mod tests {
    use quorate_ring::{KeyspaceId, VnodeId};

    use super::*;

    const COPY: CopyOf = (KeyspaceId(1), VnodeId(4));

    #[test]
    fn deleted_keys_are_remembered_up_to_a_bound_and_looked_for_beyond_it() {
        let mut purges = Purges::new(Duration::from_secs(1), [], BTreeSet::new());
        let now = MonoTime::ZERO;
        for number in 0..=WAITING_KEYS_MAX {
            purges.note_deleted(COPY, &number.to_le_bytes(), now);
        }
        assert_eq!(purges.keys, WAITING_KEYS_MAX);
        assert_eq!(purges.begin_look(now), None, "there is no room for more");
        let others = [(COPY, Ok(Owners::new()))].into();
        let parts = purges.gather(now, &others);
        assert_eq!(
            parts.iter().map(|(.., keys)| keys.len()).sum::<usize>(),
            ROUND_KEYS_MAX
        );
        assert!(
            purges.gather(now, &others).is_empty(),
            "one round of a copy at a time"
        );
        for (copy, _, keys) in parts {
            keys.iter().for_each(|key| purges.forget(copy, key));
            purges.free(copy, now);
        }
        assert_eq!(purges.begin_look(now), Some(COPY));
    }
}
