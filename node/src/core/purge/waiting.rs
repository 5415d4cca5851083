//! Keys that wait for a round, because they were deleted or because their records are crowded with
//! what nobody needs: remembered up to a bound, looked for beyond it, gathered for the next round.
//!
//! A round rests for more than a minute, so that keys and not vnodes are in one: what finds no
//! place in it goes into one of the next, and so does what it refuses because an owner does not
//! hold it yet. Vnodes have their turns one after the other.
//!
//! Not here: what becomes of a round (`led`).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::Digest;
use quorate_ring::{MonoTime, NodeId};

use super::super::message::Wanted;
use super::keys::{AGAIN_AFTER, Keys};
use super::{CopyOf, Members, Purges};

/// Keys of all rounds that one message may name.
pub const ROUND_KEYS_MAX: usize = 1_024;
/// Bytes of their keys, about.
const ROUND_BYTES_MAX: usize = 256 * 1024;
/// Keys of one round of whose records something is left out: each is written anew on all owners,
/// and there is no hurry.
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
/// A vnode in which values expire is read again no sooner than this.
const LOOK_REST: Duration = Duration::from_secs(600);
/// One with more deleted keys than there is room for is read again after this: by then rounds have
/// made room for many of them.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Keys of one copy that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    deleted: Keys,
    crowded: Keys,
    /// When the copy is read for keys that are not remembered.
    look_at: Option<MonoTime>,
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

    fn take(&mut self, keys: &mut Keys, now: MonoTime) -> Vec<Bytes> {
        keys.take(now, |key| {
            let has_room = !self.is_full();
            if has_room {
                self.keys += 1;
                self.bytes += key.len() + size_of::<Digest>();
            }
            has_room
        })
    }

    fn take_crowded(&mut self, keys: &mut Keys, now: MonoTime) -> Vec<Bytes> {
        keys.take(now, |key| {
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
    fn waits(&mut self, copy: CopyOf) -> &mut Waiting {
        self.waiting.entry(copy).or_default()
    }

    /// A key of a copy whose rounds this node leads has been deleted.
    pub fn note_deleted(&mut self, copy: CopyOf, key: &[u8], now: MonoTime) {
        if self.keys >= WAITING_KEYS_MAX {
            let again = now + LOOK_AGAIN_AFTER;
            self.waits(copy).look_at.get_or_insert(again);
            return;
        }
        let is_new = self.waits(copy).deleted.insert(key, now);
        self.keys += usize::from(is_new);
    }

    /// The record of a key of a copy whose rounds this node leads is crowded.
    pub fn note_crowded(&mut self, copy: CopyOf, key: &[u8], now: MonoTime) {
        // What finds no place is met again by the next write, or after the next start of an owner.
        if self.crowded_keys >= CROWDED_KEYS_MAX {
            return;
        }
        let is_new = self.waits(copy).crowded.insert(key, now);
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

    /// Keys of a copy may have been deleted, or expire, that are not remembered: it is read at
    /// `at`.
    pub fn look(&mut self, copy: CopyOf, at: MonoTime) {
        let waits = self.waits(copy);
        waits.look_at = Some(waits.look_at.map_or(at, |known| known.min(at)));
    }

    /// A value of a copy expires at `at`.
    pub fn note_expiry(&mut self, copy: CopyOf, at: MonoTime, now: MonoTime) {
        self.look(copy, at.max(now + LOOK_REST));
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
            self.waits(copy).look_at = Some(now + AGAIN_AFTER);
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
        let oldest = self
            .waiting
            .values()
            .filter_map(|waits| waits.deleted.oldest());
        oldest.min().map(|since| now.since(since))
    }

    /// What waits and could be purged now, as one round's parts; empty if there is nothing. And
    /// whether there may be more. `others` gives the other members of a copy, or who of them is
    /// down.
    pub fn gather(
        &mut self,
        now: MonoTime,
        others: &BTreeMap<CopyOf, Result<Members, NodeId>>,
    ) -> (Vec<Gathered>, bool) {
        self.blocked_by.clear();
        let mut parts = Vec::new();
        let mut load = Load::default();
        // Behind the copy that had its turn last, then round to it.
        let (behind, before): (Vec<CopyOf>, Vec<CopyOf>) = self
            .waiting
            .keys()
            .partition(|copy| Some(**copy) > self.gathered_last);
        for copy in behind.into_iter().chain(before) {
            let Some(waits) = self.waiting.get_mut(&copy) else {
                continue;
            };
            let members = match others.get(&copy) {
                Some(Ok(members)) => members.clone(),
                Some(Err(down)) => {
                    if !waits.deleted.is_empty() {
                        self.blocked_by.insert(*down);
                    }
                    continue;
                }
                None => continue,
            };
            if load.is_full() || self.led.len() >= LED_MAX {
                continue;
            }
            let gathered = Gathered {
                copy,
                members,
                deleted: load.take(&mut waits.deleted, now),
                crowded: load.take_crowded(&mut waits.crowded, now),
            };
            if gathered.deleted.is_empty() && gathered.crowded.is_empty() {
                continue;
            }
            self.gathered_last = Some(copy);
            parts.push(gathered);
        }
        (parts, load.is_full())
    }

    /// How often what waits is gathered for a round.
    #[must_use]
    pub fn gather_every(&self) -> Duration {
        self.rest / 12
    }

    /// No round is about these keys of a copy any more; those that were `refused`, at this moment,
    /// are not tried again at once.
    pub fn give_back<'a>(
        &mut self,
        copy: CopyOf,
        keys: impl IntoIterator<Item = &'a (Bytes, Wanted)>,
        refused: Option<MonoTime>,
    ) {
        if let Some(waits) = self.waiting.get_mut(&copy) {
            for (key, wanted) in keys {
                match wanted {
                    Wanted::Gone(_) => waits.deleted.give_back(key, refused),
                    Wanted::Less(_) => waits.crowded.give_back(key, refused),
                }
            }
        }
        self.forget_empty(copy);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
        let later = now + LOOK_AGAIN_AFTER;
        assert_eq!(purges.begin_look(later), None, "there is no room for more");
        let (parts, has_more) = purges.gather(now, &[(COPY, Ok(Members::default()))].into());
        let keys = parts.iter().map(|part| part.deleted.len()).sum::<usize>();
        assert_eq!((keys, has_more), (ROUND_KEYS_MAX, true));
        for Gathered { copy, deleted, .. } in parts {
            deleted.iter().for_each(|key| purges.forget(copy, key));
            purges.give_back(copy, &gone(deleted), None);
        }
        assert_eq!(purges.begin_look(now), None, "not at once");
        assert_eq!(purges.begin_look(later), Some(COPY));
    }

    #[test]
    fn a_copy_with_many_keys_that_are_refused_takes_no_other_ones_turn() {
        let mut purges = Purges::new(Duration::from_secs(1), [], BTreeSet::new());
        let other: CopyOf = (KeyspaceId(1), VnodeId(5));
        let mut now = MonoTime::ZERO;
        for number in 0..PRUNED_KEYS_MAX {
            purges.note_crowded(COPY, &number.to_le_bytes(), now);
        }
        purges.note_crowded(other, b"behind it", now);
        let members = [COPY, other].map(|copy| (copy, Ok(Members::default())));
        let mut taken = Vec::new();
        for _ in 0..2 {
            let (parts, _) = purges.gather(now, &members.clone().into());
            for Gathered { copy, crowded, .. } in parts {
                taken.push((copy, crowded.len()));
                let less = |key| (key, Wanted::Less(Prunable::default()));
                let crowded: Vec<_> = crowded.into_iter().map(less).collect();
                purges.give_back(copy, &crowded, Some(now));
            }
            now = now + AGAIN_AFTER;
        }
        let rest = PRUNED_KEYS_MAX - 1;
        assert_eq!(taken, [(COPY, PRUNED_KEYS_MAX), (other, 1), (COPY, rest)]);
    }

    #[test]
    fn keys_of_one_copy_may_be_in_several_rounds_and_each_in_one() {
        let mut purges = Purges::new(Duration::from_secs(1), [], BTreeSet::new());
        let now = MonoTime::ZERO;
        let others = [(COPY, Ok(Members::default()))].into();
        let deleted_of_next = |purges: &mut Purges, now| {
            let (parts, _) = purges.gather(now, &others);
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
        let (parts, _) = purges.gather(now, &[(COPY, Ok(Members::default()))].into());
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
        assert!(purges.gather(now, &others).0.is_empty());
        assert!(purges.status(now, 0).blocked_by.is_empty());
        purges.note_deleted(COPY, b"deleted", now);
        assert!(purges.gather(now, &others).0.is_empty());
        assert_eq!(purges.status(now, 1).blocked_by, [away]);
    }
}
