//! Guests: records that this node holds in place of owners that could not be had, until the owners
//! have them.
//!
//! A fallback of a sloppy write is no owner of the key. What it acknowledged is data, so it lies
//! where all records lie, under the key's vnode, in the log before the acknowledgement leaves.
//! Which of a node's records are guests follows from the topology alone: those of vnodes that it
//! does not own. So nothing beside the records must survive a crash, and who owns them follows the
//! map.
//!
//! - A guest goes to every owner, and goes away once each of them has acknowledged it durably and
//!   counts; one that begins a new life meanwhile is asked again.
//! - None is ever let go for its age or for want of room; over the bound no new one is taken (P9).
//! - With none left of a vnode this node may join a purge round of it (P10): then whatever it takes
//!   later was read or made under that round's number.
//! - A node that lost its disk once may have forgotten such a number. It holds no guest of a vnode
//!   before an owner told it the number in this life, and never beside what it found there at its
//!   start.
//!
//! Not here: the records and messages (`shard::guests`), the order and the pace (`hints`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_ring::{Lsn, MonoTime, NodeId};

use super::hints::{Delivery, HintLimits, Hints, TargetStatus};
use super::key::RecordKey;
use super::node_set::{NodeSet, Owners};
use super::purge::CopyOf;

/// What a guest costs beside its key and record, in bytes, about.
const GUEST_OVERHEAD_BYTES: usize = 512;

/// No guest is let go.
const NO_BOUND: HintLimits = HintLimits {
    bytes_max: usize::MAX,
    age_max: Duration::MAX,
};

/// One record held for others.
#[derive(Debug)]
struct Guest {
    bytes: usize,
    since: MonoTime,
    /// Owners that have not acknowledged it.
    waits_for: NodeSet,
}

/// How guests stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GuestStatus {
    /// Records held for others.
    pub records: u64,
    /// What they cost, about.
    pub bytes: u64,
    /// For whom; a record waits for each owner that does not have it.
    pub targets: Vec<TargetStatus>,
}

/// All guests of a node.
#[derive(Debug)]
pub struct Guests {
    bytes_max: usize,
    records: BTreeMap<RecordKey, Guest>,
    bytes: usize,
    /// Copies that hold guests since before the start, and have not been looked through: their
    /// bytes.
    unread: BTreeMap<CopyOf, usize>,
    deliveries: Hints,
    /// Keys that all owners have, and that found no room to be taken away.
    left: BTreeSet<RecordKey>,
    /// Of which copies an owner told the number; `None` if this node never forgot any.
    told: Option<BTreeSet<CopyOf>>,
}

impl Guests {
    /// At the start: `found` are the copies of others' vnodes that hold something, with its bytes.
    #[must_use]
    pub fn new(
        now: MonoTime,
        bytes_max: usize,
        found: impl IntoIterator<Item = (CopyOf, usize)>,
        has_lost: bool,
    ) -> Self {
        Self {
            bytes_max,
            records: BTreeMap::new(),
            bytes: 0,
            unread: found.into_iter().collect(),
            deliveries: Hints::new(now, NO_BOUND, []),
            left: BTreeSet::new(),
            told: has_lost.then(BTreeSet::new),
        }
    }

    /// Whether a record of so many bytes may be held, in place of the one that is.
    #[must_use]
    pub fn has_room(&self, key: &RecordKey, bytes: usize) -> bool {
        let held = self.records.get(key).map_or(0, |guest| guest.bytes);
        let unread: usize = self.unread.values().sum();
        self.bytes + unread + cost(key, bytes) <= self.bytes_max.saturating_add(held)
    }

    /// Whether this node knows the purge number of a copy, and may hold guests of it.
    #[must_use]
    pub fn knows(&self, copy: CopyOf) -> bool {
        self.told.as_ref().is_none_or(|told| told.contains(&copy))
    }

    /// The number of a copy is known from now on.
    pub fn tell(&mut self, copy: CopyOf) {
        if let Some(told) = &mut self.told {
            told.insert(copy);
        }
    }

    /// Whether nothing of a copy is held.
    #[must_use]
    pub fn is_drained(&self, copy: CopyOf) -> bool {
        let from = RecordKey::before(copy.0, copy.1);
        let first = self.records.range(from..).next();
        let holds = first.is_some_and(|(key, _)| (key.keyspace(), key.vnode()) == copy);
        !holds && !self.unread.contains_key(&copy)
    }

    /// The newest record of a key, which has a number up to `appended`, is held for all its owners.
    pub fn note(
        &mut self,
        now: MonoTime,
        key: &RecordKey,
        bytes: usize,
        owners: &Owners,
        appended: Lsn,
    ) {
        let bytes = cost(key, bytes);
        let since = self.records.get(key).map_or(now, |guest| guest.since);
        let guest = Guest {
            bytes,
            since,
            waits_for: owners.iter().copied().collect(),
        };
        let old = self.records.insert(key.clone(), guest);
        self.bytes = self.bytes + bytes - old.map_or(0, |guest| guest.bytes);
        for owner in owners {
            self.deliveries.missed(now, *owner, key, appended);
        }
    }

    /// One that was found at the start; what has been noted since is newer.
    pub fn found(&mut self, now: MonoTime, key: &RecordKey, bytes: usize, owners: &Owners) {
        if !self.records.contains_key(key) {
            self.note(now, key, bytes, owners, Lsn::ZERO);
        }
    }

    /// The next copy to be looked through.
    #[must_use]
    pub fn to_read(&self) -> Option<CopyOf> {
        self.unread.keys().next().copied()
    }

    /// A copy has been looked through.
    pub fn was_read(&mut self, copy: CopyOf) {
        self.unread.remove(&copy);
    }

    /// Owners for which something waits.
    pub fn targets(&self) -> Vec<NodeId> {
        self.deliveries.targets().collect()
    }

    /// What may be sent to `node` now, which is up; `durable` is what is durable here.
    pub fn next(&mut self, now: MonoTime, node: NodeId, durable: Lsn) -> Option<Delivery> {
        self.deliveries.next(now, node, durable)
    }

    /// What was sent did not arrive, was refused, or is held by one that does not count.
    pub fn failed(&mut self, now: MonoTime, delivery: Delivery) {
        self.deliveries.failed(now, delivery);
    }

    /// An owner has what was sent, durably. True if every owner has the newest record now.
    pub fn delivered(&mut self, delivery: &Delivery, took: Duration) -> bool {
        if !self.deliveries.delivered(delivery, took) {
            return false;
        }
        if let Some(guest) = self.records.get_mut(&delivery.key) {
            guest.waits_for.remove(delivery.target);
        }
        self.may_go(&delivery.key)
    }

    /// There was nothing to deliver: the key is not held.
    pub fn nothing_to_deliver(&mut self, delivery: &Delivery) {
        self.deliveries.nothing_to_deliver(delivery);
        self.gone(&delivery.key);
    }

    /// No owner needs the record of a key: it waits for none.
    pub fn waits_no_more(&mut self, key: &RecordKey) {
        if let Some(guest) = self.records.get_mut(key) {
            for owner in std::mem::take(&mut guest.waits_for).iter() {
                self.deliveries.no_more(owner, key);
            }
        }
    }

    /// Whether a key that is held waits for no owner.
    #[must_use]
    pub fn may_go(&self, key: &RecordKey) -> bool {
        let guest = self.records.get(key);
        guest.is_some_and(|guest| guest.waits_for.is_empty())
    }

    /// A key that waits for no owner could not be taken away for want of room.
    pub fn stays(&mut self, key: RecordKey) {
        self.left.insert(key);
    }

    /// Keys that could not be taken away when they might; they are not told again.
    pub fn take_left(&mut self) -> BTreeSet<RecordKey> {
        std::mem::take(&mut self.left)
    }

    /// A node began a new life: it may not have what it acknowledged.
    pub fn began_anew(&mut self, now: MonoTime, node: NodeId, owns: impl Fn(&RecordKey) -> bool) {
        for (key, guest) in self.records.iter_mut().filter(|(key, _)| owns(key)) {
            if guest.waits_for.insert(node) {
                self.deliveries.missed(now, node, key, Lsn::ZERO);
            }
        }
    }

    /// A key is held no more.
    pub fn gone(&mut self, key: &RecordKey) {
        if let Some(guest) = self.records.remove(key) {
            self.bytes -= guest.bytes;
            for owner in guest.waits_for.iter() {
                self.deliveries.no_more(owner, key);
            }
        }
    }

    /// Keys that have been held since before `until`.
    pub fn older_than(&self, until: MonoTime) -> Vec<RecordKey> {
        let old = self.records.iter().filter(|(_, guest)| guest.since < until);
        old.map(|(key, _)| key.clone()).collect()
    }

    /// For `status`.
    #[must_use]
    pub fn status(&self, now: MonoTime) -> GuestStatus {
        let unread: usize = self.unread.values().sum();
        GuestStatus {
            records: self.records.len() as u64,
            bytes: (self.bytes + unread) as u64,
            targets: self.deliveries.status(now),
        }
    }
}

fn cost(key: &RecordKey, bytes: usize) -> usize {
    key.as_bytes().len() + bytes + GUEST_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use quorate_ring::{KeyspaceId, VnodeId};

    use super::*;

    const COPY: CopyOf = (KeyspaceId(1), VnodeId(3));
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);
    const T0: MonoTime = MonoTime::ZERO;
    const TOOK: Duration = Duration::from_millis(1);

    fn key(text: &str) -> RecordKey {
        RecordKey::new(COPY.0, COPY.1, text.as_bytes())
    }

    fn owners() -> Owners {
        [B, C].into_iter().collect()
    }

    fn guests() -> Guests {
        Guests::new(T0, 1 << 20, [], false)
    }

    #[test]
    fn p9_a_guest_stays_until_every_owner_has_its_newest_record() {
        let mut guests = guests();
        guests.note(T0, &key("k"), 10, &owners(), Lsn(1));
        let to_b = guests.next(T0, B, Lsn(1)).expect("it waits for B");
        guests.note(T0, &key("k"), 20, &owners(), Lsn(2));
        assert!(!guests.delivered(&to_b, TOOK), "that was the older one");
        let to_b = guests.next(T0, B, Lsn(2)).expect("the newer one");
        assert!(!guests.delivered(&to_b, TOOK), "C does not have it");
        let much_later = T0 + Duration::from_secs(1 << 30);
        assert_eq!(guests.status(much_later).records, 1, "age is no reason");
        let to_c = guests.next(much_later, C, Lsn(2)).expect("it waits for C");
        assert!(guests.delivered(&to_c, TOOK), "now all have it");
        guests.gone(&key("k"));
        assert_eq!(guests.status(T0), GuestStatus::default());
    }

    #[test]
    fn an_owner_that_begins_a_new_life_gets_it_again() {
        let mut guests = guests();
        guests.note(T0, &key("k"), 10, &owners(), Lsn(1));
        let to_b = guests.next(T0, B, Lsn(1)).expect("it waits for B");
        guests.delivered(&to_b, TOOK);
        guests.began_anew(T0, B, |_| true);
        let to_c = guests.next(T0, C, Lsn(1)).expect("it waits for C");
        assert!(!guests.delivered(&to_c, TOOK));
        let to_b = guests.next(T0, B, Lsn(1)).expect("it waits for B again");
        assert!(guests.delivered(&to_b, TOOK));
    }

    #[test]
    fn what_is_not_there_takes_no_place_of_what_is_delivered() {
        let mut guests = guests();
        for number in 0..100 {
            guests.note(T0, &key(&format!("{number}")), 10, &owners(), Lsn(1));
            let delivery = guests.next(T0, B, Lsn(1)).expect("there is a place");
            guests.nothing_to_deliver(&delivery);
        }
        assert_eq!(guests.status(T0), GuestStatus::default());
    }

    #[test]
    fn a_guest_may_go_when_it_waits_for_nobody_and_that_may_change() {
        let mut guests = guests();
        guests.note(T0, &key("k"), 10, &owners(), Lsn(1));
        assert!(!guests.may_go(&key("k")));
        guests.waits_no_more(&key("k"));
        assert!(guests.may_go(&key("k")));
        assert_eq!(guests.next(T0, B, Lsn(1)), None);
        guests.stays(key("k"));
        assert_eq!(guests.take_left(), [key("k")].into());
        assert_eq!(guests.take_left(), [].into());
        guests.began_anew(T0, B, |_| true);
        assert!(!guests.may_go(&key("k")), "B is asked again");
        assert!(!guests.may_go(&key("other")), "it is not held");
    }

    #[test]
    fn over_the_bound_no_guest_is_taken_and_none_is_let_go() {
        let room = 2 * cost(&key("a"), 100);
        let mut guests = Guests::new(T0, room, [], false);
        for name in ["a", "b"] {
            assert!(guests.has_room(&key(name), 100));
            guests.note(T0, &key(name), 100, &owners(), Lsn(1));
        }
        assert!(!guests.has_room(&key("c"), 1));
        assert!(guests.has_room(&key("a"), 100), "in its own place");
        assert!(!guests.has_room(&key("a"), 101));
        assert_eq!(guests.status(T0).records, 2);
    }

    #[test]
    fn p10_a_copy_is_drained_when_nothing_of_it_is_held_or_unread() {
        let mut guests = Guests::new(T0, 1 << 20, [(COPY, 100)], false);
        assert!(!guests.is_drained(COPY), "it was not looked through");
        guests.found(T0, &key("k"), 10, &owners());
        guests.was_read(COPY);
        assert!(!guests.is_drained(COPY));
        assert!(guests.is_drained((COPY.0, VnodeId(2))));
        assert!(guests.is_drained((COPY.0, VnodeId(4))));
        guests.gone(&key("k"));
        assert!(guests.is_drained(COPY));
    }

    #[test]
    fn a_node_that_forgot_knows_a_copys_number_only_when_told() {
        let mut lost = Guests::new(T0, 1 << 20, [], true);
        assert!(guests().knows(COPY) && !lost.knows(COPY));
        lost.tell(COPY);
        assert!(lost.knows(COPY) && !lost.knows((COPY.0, VnodeId(4))));
    }
}
