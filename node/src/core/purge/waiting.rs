//! Keys that wait for a round, because they were deleted or because their records are crowded with what
//! nobody needs: remembered up to a bound, looked for beyond it, gathered for the next round.
//!
//! A round rests for more than a minute, so that keys and not vnodes are in one: what it left behind, because
//! an owner did not hold it yet, goes into the next round a moment later.
//!
//! Not here: what becomes of a round (`led`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::Digest;
use quorate_ring::{MonoTime, NodeId};

use super::super::message::Wanted;
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
/// Keys that a round did not agree on are tried again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// A vnode in which values expire is read again no sooner than this.
const LOOK_REST: Duration = Duration::from_secs(600);

/// Keys of one copy that wait for one reason. No key is in both sets.
#[derive(Debug, Default)]
struct Keys {
    /// No round is about these.
    free: BTreeSet<Bytes>,
    /// A round is about each of these.
    taken: BTreeSet<Bytes>,
}

impl Keys {
    fn is_empty(&self) -> bool {
        self.free.is_empty() && self.taken.is_empty()
    }

    /// Gives whether it is new.
    fn insert(&mut self, key: &[u8]) -> bool {
        !self.taken.contains(key)
            && !self.free.contains(key)
            && self.free.insert(Bytes::copy_from_slice(key))
    }

    /// Gives whether it was there.
    fn remove(&mut self, key: &[u8]) -> bool {
        self.free.remove(key) || self.taken.remove(key)
    }

    /// The first keys of which `has_room` says that they may be taken.
    fn take(&mut self, mut has_room: impl FnMut(&Bytes) -> bool) -> Vec<Bytes> {
        let taken: Vec<Bytes> = self
            .free
            .iter()
            .take_while(|key| has_room(key))
            .cloned()
            .collect();
        for key in &taken {
            self.free.remove(key);
        }
        self.taken.extend(taken.iter().cloned());
        taken
    }

    /// Gives whether it still waits.
    fn give_back(&mut self, key: &Bytes) -> bool {
        let key = self.taken.take(key);
        key.is_some_and(|key| self.free.insert(key))
    }
}

/// Keys of one copy that wait.
#[derive(Debug)]
pub(super) struct Waiting {
    deleted: Keys,
    crowded: Keys,
    /// Since when deleted ones wait.
    since: MonoTime,
    /// When the copy is read for keys that are not remembered.
    look_at: Option<MonoTime>,
    /// No round takes keys of it before.
    again_at: MonoTime,
}

impl Waiting {
    fn has_keys(&self) -> bool {
        !self.deleted.is_empty() || !self.crowded.is_empty()
    }
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

    fn take(&mut self, keys: &mut Keys) -> Vec<Bytes> {
        keys.take(|key| {
            let has_room = !self.is_full();
            if has_room {
                self.keys += 1;
                self.bytes += key.len() + size_of::<Digest>();
            }
            has_room
        })
    }

    fn take_crowded(&mut self, keys: &mut Keys) -> Vec<Bytes> {
        keys.take(|key| {
            let has_room = !self.is_full() && self.pruned_keys < PRUNED_KEYS_MAX;
            if has_room {
                self.keys += 1;
                self.pruned_keys += 1;
                self.bytes += key.len() + PRUNED_BYTES;
            }
            has_room
        })
    }
}

impl Purges {
    fn waits(&mut self, copy: CopyOf, now: MonoTime) -> &mut Waiting {
        self.waiting.entry(copy).or_insert_with(|| Waiting {
            deleted: Keys::default(),
            crowded: Keys::default(),
            since: now,
            look_at: None,
            again_at: now,
        })
    }

    /// A key of a copy whose rounds this node leads has been deleted.
    pub fn note_deleted(&mut self, copy: CopyOf, key: &[u8], now: MonoTime) {
        if self.keys >= WAITING_KEYS_MAX {
            self.waits(copy, now).look_at.get_or_insert(now);
            return;
        }
        let waits = self.waits(copy, now);
        if waits.deleted.is_empty() {
            waits.since = now;
        }
        self.keys += usize::from(waits.deleted.insert(key));
    }

    /// The record of a key of a copy whose rounds this node leads is crowded.
    pub fn note_crowded(&mut self, copy: CopyOf, key: &[u8], now: MonoTime) {
        // What finds no place is met again by the next write, or after the next start of an owner.
        if self.crowded_keys >= CROWDED_KEYS_MAX {
            return;
        }
        let is_new = self.waits(copy, now).crowded.insert(key);
        self.crowded_keys += usize::from(is_new);
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
        let waits = self.waits(copy, now);
        waits.look_at = Some(waits.look_at.map_or(at, |known| known.min(at)));
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
        let is_due =
            |(_, waits): &(&CopyOf, &mut Waiting)| waits.look_at.is_some_and(|at| at <= now);
        let (copy, waits) = self.waiting.iter_mut().find(is_due)?;
        waits.look_at = None;
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
        if !is_whole {
            self.waits(copy, now).look_at = Some(now + AGAIN_AFTER);
        }
        self.forget_empty(copy);
    }

    fn forget_empty(&mut self, copy: CopyOf) {
        let is_empty = |waits: &Waiting| !waits.has_keys() && waits.look_at.is_none();
        if self.waiting.get(&copy).is_some_and(is_empty) {
            self.waiting.remove(&copy);
        }
    }

    /// A key does not wait any more: it is gone, or not a deleted one.
    pub fn forget(&mut self, copy: CopyOf, key: &[u8]) {
        if let Some(waits) = self.waiting.get_mut(&copy)
            && waits.deleted.remove(key)
        {
            self.keys -= 1;
        }
    }

    /// Copies of which keys wait.
    pub fn waiting(&self) -> impl Iterator<Item = CopyOf> + '_ {
        let with_keys = self.waiting.iter().filter(|(_, waits)| waits.has_keys());
        with_keys.map(|(copy, _)| *copy)
    }

    /// For how long the oldest of them has waited.
    pub(super) fn oldest_waits(&self, now: MonoTime) -> Option<Duration> {
        let with_keys = self.waiting.values().filter(|w| !w.deleted.is_empty());
        with_keys.map(|waits| now.since(waits.since)).max()
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
            let members = match others.get(copy) {
                Some(Ok(members)) => members.clone(),
                Some(Err(down)) => {
                    if !waits.deleted.is_empty() {
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
                deleted: load.take(&mut waits.deleted),
                crowded: load.take_crowded(&mut waits.crowded),
            };
            if gathered.deleted.is_empty() && gathered.crowded.is_empty() {
                continue;
            }
            parts.push(gathered);
        }
        parts
    }

    /// How often what waits is gathered for a round.
    #[must_use]
    pub fn gather_every(&self) -> Duration {
        self.rest / 12
    }

    /// No round is about these keys of a copy any more; where one `failed` they are not tried again at once.
    pub fn give_back<'a>(
        &mut self,
        copy: CopyOf,
        keys: impl IntoIterator<Item = &'a (Bytes, Wanted)>,
        failed: Option<MonoTime>,
    ) {
        if let Some(waits) = self.waiting.get_mut(&copy) {
            for (key, wanted) in keys {
                let waits_on = match wanted {
                    Wanted::Gone(_) => waits.deleted.give_back(key),
                    Wanted::Less(_) => waits.crowded.give_back(key),
                };
                if let Some(now) = failed.filter(|_| waits_on) {
                    waits.again_at = now + AGAIN_AFTER;
                }
            }
        }
        self.forget_empty(copy);
    }
}

#[cfg(test)]
mod tests {
    use quorate_antientropy::Prunable;
    use quorate_ring::{KeyspaceId, VnodeId};

    use super::*;

    const COPY: CopyOf = (KeyspaceId(1), VnodeId(4));

    fn gone(keys: impl IntoIterator<Item = Bytes>) -> Vec<(Bytes, Wanted)> {
        let gone = |key| (key, Wanted::Gone(Digest(0)));
        keys.into_iter().map(gone).collect()
    }

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
        for Gathered { copy, deleted, .. } in parts {
            deleted.iter().for_each(|key| purges.forget(copy, key));
            purges.give_back(copy, &gone(deleted), None);
        }
        assert_eq!(purges.begin_look(now), Some(COPY));
    }

    #[test]
    fn keys_of_one_copy_may_be_in_several_rounds_and_each_in_one() {
        let mut purges = Purges::new(Duration::from_secs(1), [], BTreeSet::new());
        let now = MonoTime::ZERO;
        let others = [(COPY, Ok(Members::default()))].into();
        let deleted_of_next = |purges: &mut Purges, now| {
            let parts = purges.gather(now, &others);
            let keys = parts.into_iter().flat_map(|part| part.deleted);
            keys.collect::<Vec<Bytes>>()
        };
        purges.note_deleted(COPY, b"a", now);
        purges.note_deleted(COPY, b"b", now);
        assert_eq!(deleted_of_next(&mut purges, now), ["a", "b"]);
        // Deleted once more while a round is about it.
        purges.note_deleted(COPY, b"a", now);
        purges.note_deleted(COPY, b"c", now);
        assert_eq!(
            deleted_of_next(&mut purges, now),
            ["c"],
            "while the other one rests"
        );
        purges.give_back(COPY, &gone(["b".into()]), Some(now));
        assert!(deleted_of_next(&mut purges, now).is_empty(), "not at once");
        let later = now + AGAIN_AFTER;
        assert_eq!(deleted_of_next(&mut purges, later), ["b"]);
        purges.forget(COPY, b"a");
        assert_eq!(purges.keys, 2);
        purges.give_back(COPY, &gone(["a".into(), "c".into()]), None);
        assert_eq!(
            deleted_of_next(&mut purges, later),
            ["c"],
            "it was forgotten"
        );
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
            let less = |key| (key, Wanted::Less(Prunable::default()));
            let crowded: Vec<_> = crowded.into_iter().map(less).collect();
            purges.give_back(copy, &crowded, None);
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
