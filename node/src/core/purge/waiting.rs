//! Keys that wait for a round, because they were deleted or because their records are crowded with what
//! nobody needs: remembered up to a bound, looked for beyond it, gathered for the next round.
//!
//! Not here: what becomes of a round (`led`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::Digest;
use quorate_ring::{MonoTime, NodeId};

use super::{CopyOf, Members, Purges};

/// Keys of all rounds that one message may name.
pub const ROUND_KEYS_MAX: usize = 1_024;
/// Bytes of their keys, about.
const ROUND_BYTES_MAX: usize = 256 * 1024;
/// Keys of one round of whose records something is left out: each is written anew on all owners, and there is
/// no hurry.
const PRUNED_KEYS_MAX: usize = 256;
/// What one round leaves out of a record, at most; the next one goes on.
pub const PRUNED_PER_KEY_MAX: usize = 64;
/// Bytes of what is left out of a record, about.
const PRUNED_BYTES: usize = 128;
/// Keys that are remembered; of more their vnodes are read again.
const WAITING_KEYS_MAX: usize = 65_536;

/// Keys with crowded records that are remembered: they must not take the places of deleted ones.
const CROWDED_KEYS_MAX: usize = 8_192;
/// Rounds that a node leads at once: what rests takes memory and nothing else.
const LED_MAX: usize = 256;
/// A vnode whose round came to nothing is tried again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// A vnode in which values expire is read again no sooner than this.
const LOOK_REST: Duration = Duration::from_secs(600);

/// Keys of one copy that wait.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Deleted ones.
    keys: BTreeSet<Bytes>,
    /// Those whose records are crowded.
    crowded: BTreeSet<Bytes>,
    /// Since when deleted ones wait.
    since: MonoTime,
    /// When the copy is read for keys that are not remembered.
    look_at: Option<MonoTime>,
    /// A round is about it, or it is being read.
    busy: bool,
    again_at: MonoTime,
}

/// Keys of one copy that the next round is about.
#[derive(Debug)]
pub struct Gathered {
    /// The copy.
    pub copy: CopyOf,
    /// Who beside this node must take part.
    pub members: Members,
    /// Deleted keys.
    pub deleted: Vec<Bytes>,
    /// Keys with crowded records.
    pub crowded: Vec<Bytes>,
}

/// How much a round has taken up so far.
#[derive(Debug, Default)]
struct Load {
    keys: usize,
    pruned_keys: usize,
    bytes: usize,
}

impl Load {
    const fn is_full(&self) -> bool {
        self.keys >= ROUND_KEYS_MAX || self.bytes >= ROUND_BYTES_MAX
    }

    fn take(&mut self, keys: &BTreeSet<Bytes>) -> Vec<Bytes> {
        let mut taken = Vec::new();
        for key in keys {
            if self.is_full() {
                break;
            }
            self.keys += 1;
            self.bytes += key.len() + size_of::<Digest>();
            taken.push(key.clone());
        }
        taken
    }

    fn take_crowded(&mut self, keys: &BTreeSet<Bytes>) -> Vec<Bytes> {
        let mut taken = Vec::new();
        for key in keys {
            if self.is_full() || self.pruned_keys >= PRUNED_KEYS_MAX {
                break;
            }
            self.keys += 1;
            self.pruned_keys += 1;
            self.bytes += key.len() + PRUNED_BYTES;
            taken.push(key.clone());
        }
        taken
    }
}

impl Purges {
    fn waits(&mut self, copy: CopyOf, now: MonoTime) -> &mut Waiting {
        self.waiting.entry(copy).or_insert_with(|| Waiting {
            keys: BTreeSet::new(),
            crowded: BTreeSet::new(),
            since: now,
            look_at: None,
            busy: false,
            again_at: now,
        })
    }

    /// A key of a copy whose rounds this node leads has been deleted.
    pub fn note_deleted(&mut self, copy: CopyOf, key: &[u8], now: MonoTime) {
        if self.keys >= WAITING_KEYS_MAX {
            let deleted = self.waits(copy, now);
            deleted.look_at.get_or_insert(now);
            return;
        }
        let deleted = self.waits(copy, now);
        if !deleted.keys.contains(key) {
            if deleted.keys.is_empty() {
                deleted.since = now;
            }
            deleted.keys.insert(Bytes::copy_from_slice(key));
            self.keys += 1;
        }
    }

    /// The record of a key of a copy whose rounds this node leads is crowded.
    pub fn note_crowded(&mut self, copy: CopyOf, key: &[u8], now: MonoTime) {
        // What finds no place is met again by the next write, or after the next start of an owner.
        if self.crowded_keys >= CROWDED_KEYS_MAX {
            return;
        }
        let waits = self.waits(copy, now);
        if !waits.crowded.contains(key) {
            waits.crowded.insert(Bytes::copy_from_slice(key));
            self.crowded_keys += 1;
        }
    }

    /// A key's record is not crowded any more, or it is gone.
    pub fn forget_crowded(&mut self, copy: CopyOf, key: &[u8]) {
        if let Some(waits) = self.waiting.get_mut(&copy)
            && waits.crowded.remove(key)
        {
            self.crowded_keys -= 1;
        }
    }

    /// Keys of a copy may have been deleted, or expire, that are not remembered: it is read at `at`.
    pub fn look(&mut self, copy: CopyOf, at: MonoTime, now: MonoTime) {
        let deleted = self.waits(copy, now);
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
        let is_due = |(_, deleted): &(&CopyOf, &mut Waiting)| {
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
        let deleted = self.waits(copy, now);
        deleted.busy = false;
        if !is_whole {
            deleted.look_at = Some(now + AGAIN_AFTER);
        }
        self.forget_empty(copy);
    }

    fn forget_empty(&mut self, copy: CopyOf) {
        let is_empty = |waits: &Waiting| {
            let has_keys = !waits.keys.is_empty() || !waits.crowded.is_empty();
            !has_keys && waits.look_at.is_none() && !waits.busy
        };
        if self.waiting.get(&copy).is_some_and(is_empty) {
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

    /// Copies of which keys wait.
    pub fn waiting(&self) -> impl Iterator<Item = CopyOf> + '_ {
        let has_keys = |waits: &Waiting| !waits.keys.is_empty() || !waits.crowded.is_empty();
        let with_keys = self
            .waiting
            .iter()
            .filter(move |(_, waits)| has_keys(waits));
        with_keys.map(|(copy, _)| *copy)
    }

    /// For how long the oldest of them has waited.
    pub(super) fn oldest_waits(&self, now: MonoTime) -> Option<Duration> {
        let with_keys = self.waiting.values().filter(|d| !d.keys.is_empty());
        with_keys.map(|deleted| now.since(deleted.since)).max()
    }

    /// What waits and could be purged now, as one round's parts; empty if there is nothing. `others` gives
    /// the other members of a copy, or who of them is down.
    pub fn gather(
        &mut self,
        now: MonoTime,
        others: &BTreeMap<CopyOf, Result<Members, NodeId>>,
    ) -> Vec<Gathered> {
        self.blocked_by.clear();
        let mut parts = Vec::new();
        let mut load = Load::default();
        for (copy, waits) in &mut self.waiting {
            if waits.busy || waits.keys.is_empty() && waits.crowded.is_empty() {
                continue;
            }
            let members = match others.get(copy) {
                Some(Ok(members)) => members.clone(),
                Some(Err(down)) => {
                    if !waits.keys.is_empty() {
                        self.blocked_by.insert(*down);
                    }
                    continue;
                }
                None => continue,
            };
            if waits.again_at > now || load.is_full() || self.led.len() >= LED_MAX {
                continue;
            }
            let gathered = Gathered {
                copy: *copy,
                members,
                deleted: load.take(&waits.keys),
                crowded: load.take_crowded(&waits.crowded),
            };
            if gathered.deleted.is_empty() && gathered.crowded.is_empty() {
                continue;
            }
            waits.busy = true;
            parts.push(gathered);
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
        let deleted = self.waits(copy, now);
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
        let others = [(COPY, Ok(Members::default()))].into();
        let parts = purges.gather(now, &others);
        assert_eq!(
            parts.iter().map(|part| part.deleted.len()).sum::<usize>(),
            ROUND_KEYS_MAX
        );
        assert!(
            purges.gather(now, &others).is_empty(),
            "one round of a copy at a time"
        );
        for Gathered { copy, deleted, .. } in parts {
            deleted.iter().for_each(|key| purges.forget(copy, key));
            purges.free(copy, now);
        }
        assert_eq!(purges.begin_look(now), Some(COPY));
    }

    #[test]
    fn of_crowded_records_a_round_takes_a_few_and_a_deleted_key_goes_before_them() {
        let mut purges = Purges::new(Duration::from_secs(1), [], BTreeSet::new());
        let now = MonoTime::ZERO;
        for number in 0..=PRUNED_KEYS_MAX {
            purges.note_crowded(COPY, &number.to_le_bytes(), now);
            purges.note_crowded(COPY, &number.to_le_bytes(), now);
        }
        purges.note_deleted(COPY, b"deleted", now);
        assert_eq!(purges.keys + purges.crowded_keys, PRUNED_KEYS_MAX + 2);
        let parts = purges.gather(now, &[(COPY, Ok(Members::default()))].into());
        let counts = |part: &Gathered| (part.deleted.len(), part.crowded.len());
        let counts: Vec<_> = parts.iter().map(counts).collect();
        assert_eq!(counts, [(1, PRUNED_KEYS_MAX)]);
        for Gathered { copy, crowded, .. } in parts {
            crowded
                .iter()
                .for_each(|key| purges.forget_crowded(copy, key));
            purges.free(copy, now);
        }
        assert_eq!(purges.keys + purges.crowded_keys, 2);
    }

    #[test]
    fn an_owner_that_is_away_is_named_for_deleted_keys_alone() {
        let mut purges = Purges::new(Duration::from_secs(1), [], BTreeSet::new());
        let (now, away) = (MonoTime::ZERO, NodeId(3));
        let others = [(COPY, Err(away))].into();
        purges.note_crowded(COPY, b"crowded", now);
        assert!(purges.gather(now, &others).is_empty());
        assert!(purges.status(now, 0).blocked_by.is_empty());
        purges.note_deleted(COPY, b"deleted", now);
        assert!(purges.gather(now, &others).is_empty());
        assert_eq!(purges.status(now, 1).blocked_by, [away]);
    }
}
