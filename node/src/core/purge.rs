//! Purging deleted keys on proof, never on a timer: which keys wait for it, which rounds this node leads,
//! and which numbers its copies are at (DESIGN 7).
//!
//! A tombstone may go once every copy of the key holds exactly the same record and nothing that is older
//! can come back. A round, led by the first owner of a vnode, proves both:
//! 1. *look*: which keys have the very record of the leader on all owners, durably and as their newest;
//! 2. *join*: the same again, and each owner raises its number of the vnode, durably, above all that were;
//! 3. it rests for twice the time in which an operation may be tried again, so that no attempt is left
//!    that could mint anew what was deleted (P6, P12);
//! 4. *drop*: each owner that joined in its present life, and whose record is still that one, takes it
//!    away and raises its floor to the round's number.
//!
//! Why nothing comes back. Every owner held the tombstone *before* its number rose, and a state only
//! grows, so whatever it read under the round's number or a later one includes the tombstone. What was
//! read under less is refused by whoever is at that floor, if it would change anything (P1, P3). So
//! neither step needs the operations under way to end first: a straggler is refused, and its coordinator
//! delivers by a hint what it holds *now*. An owner that forgot must hold no row from before the numbers of
//! its co-replicas (P4, P5, P11): see [`Inherited`].
//!
//! Not here: the messages and the store (`shard::purge`), who is up (`continuity`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{Digest, PurgeNumber, PurgeNumbers};
use quorate_ring::planted::{Bug, planted};
use quorate_ring::{Incarnation, KeyspaceId, MonoTime, NodeId, VnodeId};

use super::message::{OpNumber, PurgeRound, PurgeStep};
use super::node_set::{NodeSet, Owners};

/// Keys of all rounds that one message may name.
pub const ROUND_KEYS_MAX: usize = 1_024;
/// Bytes of their keys, about.
const ROUND_BYTES_MAX: usize = 256 * 1024;
/// Deleted keys that are remembered; of more their vnodes are read again.
const WAITING_KEYS_MAX: usize = 65_536;
/// Rounds that a node leads at once: what rests takes memory and nothing else.
const LED_MAX: usize = 256;
/// Each of the first three steps must be answered within this time.
pub const STEP_WITHIN: Duration = Duration::from_secs(10);
/// A vnode whose round came to nothing is tried again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// A vnode in which values expire is read again no sooner than this.
const LOOK_REST: Duration = Duration::from_secs(600);

/// A vnode of a keyspace, of which this node has a copy.
pub type CopyOf = (KeyspaceId, VnodeId);

/// What a copy's numbers become once a co-replica told its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inherited {
    /// Nothing changes.
    Known,
    /// Other owners must tell theirs first.
    NotYet,
    /// They rise to these.
    Raise(PurgeNumbers),
    /// The copy holds rows from before a round that its co-replicas took part in: what was purged may be
    /// among them, and would come back as if it were new. Nothing of it may be read or given away.
    Outdated,
}

/// What other owners told of a copy's numbers, and whether they count for it.
type Heard = BTreeMap<NodeId, (PurgeNumbers, bool)>;

/// Deleted keys of one copy.
#[derive(Debug)]
struct Deleted {
    keys: BTreeSet<Bytes>,
    /// Since when some wait.
    since: MonoTime,
    /// When the copy is read for keys that are not remembered.
    look_at: Option<MonoTime>,
    /// A round is about it, or it is being read.
    busy: bool,
    again_at: MonoTime,
}

/// A part of a round of which this node is the leader.
#[derive(Debug, Clone)]
pub struct Part {
    /// The copy.
    pub copy: CopyOf,
    /// The round's number; 0 until this node has joined it.
    pub number: PurgeNumber,
    /// Its other owners.
    pub others: Owners,
    /// Keys that all have agreed on so far.
    pub keys: Vec<(Bytes, Digest)>,
}

impl Part {
    /// As a co-replica is asked about it.
    #[must_use]
    pub fn round(&self) -> PurgeRound {
        PurgeRound {
            keyspace: self.copy.0,
            vnode: self.copy.1,
            number: self.number,
            keys: self.keys.clone(),
        }
    }
}

/// How far a led round is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// This node's own keys are being looked at, or those of the others.
    Asking(PurgeStep),
    /// All have joined; nothing happens before this moment.
    Resting(MonoTime),
}

/// A round under way that this node leads, of several vnodes together.
#[derive(Debug)]
pub struct Led {
    /// How far it is.
    pub phase: Phase,
    /// One per vnode of a keyspace.
    pub parts: Vec<Part>,
    /// Places of the parts that each peer was asked about, in the order of the question.
    pub asked: BTreeMap<NodeId, Vec<usize>>,
    /// Of each part, the places of the keys that all who answered agreed on.
    pub agreed: Vec<BTreeSet<u16>>,
    /// Who has not answered the present step; this node too.
    pub waits_for: NodeSet,
    /// In which life each of the others joined.
    pub lives: BTreeMap<NodeId, Incarnation>,
    /// When a step that was not answered ends it.
    pub give_up_at: MonoTime,
}

/// A round that this node takes part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Joined {
    leader: NodeId,
    number: PurgeNumber,
    at: MonoTime,
}

/// What `status` tells of deleted keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PurgeStatus {
    /// Deleted keys of the vnodes whose rounds this node leads.
    pub waiting: u64,
    /// How long the oldest of them has waited since this node came to know of it, in milliseconds.
    pub oldest_ms: Option<u64>,
    /// Nodes without which they cannot be purged, because they are down.
    pub blocked_by: Vec<NodeId>,
    /// Keys that this node has purged since it started.
    pub purged: u64,
}

/// A node's part in purging.
#[derive(Debug)]
pub struct Purges {
    /// How long a round rests between join and drop.
    rest: Duration,
    numbers: BTreeMap<CopyOf, PurgeNumbers>,
    /// Copies of which this node may have forgotten the numbers.
    unknown: BTreeMap<CopyOf, Heard>,
    waiting: BTreeMap<CopyOf, Deleted>,
    keys: usize,
    led: BTreeMap<OpNumber, Led>,
    joined: BTreeMap<CopyOf, Joined>,
    /// The copy that is being read.
    reading: Option<CopyOf>,
    blocked_by: BTreeSet<NodeId>,
    purged: u64,
    /// Counter of this node's newest dot in this life when it last purged a key of a copy.
    minted: BTreeMap<CopyOf, u64>,
}

impl Purges {
    /// At the start: `numbers` as the log has them, `unknown` the copies of which acknowledged writes,
    /// and so perhaps numbers, were lost.
    #[must_use]
    pub fn new(
        rest: Duration,
        numbers: impl IntoIterator<Item = (CopyOf, PurgeNumbers)>,
        unknown: BTreeSet<CopyOf>,
    ) -> Self {
        Self {
            rest,
            numbers: numbers.into_iter().collect(),
            unknown: unknown
                .into_iter()
                .map(|copy| (copy, Heard::new()))
                .collect(),
            waiting: BTreeMap::new(),
            keys: 0,
            led: BTreeMap::new(),
            joined: BTreeMap::new(),
            reading: None,
            blocked_by: BTreeSet::new(),
            purged: 0,
            minted: BTreeMap::new(),
        }
    }

    /// The newest numbers of a copy.
    #[must_use]
    pub fn numbers(&self, copy: CopyOf) -> PurgeNumbers {
        if self.numbers.is_empty() {
            return PurgeNumbers::default();
        }
        self.numbers.get(&copy).copied().unwrap_or_default()
    }

    /// All of them that are not 0.
    pub fn all_numbers(&self) -> impl Iterator<Item = (CopyOf, PurgeNumbers)> + '_ {
        self.numbers.iter().map(|(copy, numbers)| (*copy, *numbers))
    }

    /// Whether this node knows the numbers of its copy; until it does it takes, reads and gives nothing.
    #[must_use]
    pub fn knows(&self, copy: CopyOf) -> bool {
        self.unknown.is_empty() || !self.unknown.contains_key(&copy)
    }

    /// An owner of a copy that this node lost something of told its numbers, and takes no part any more in
    /// a round that was under way (see [`Purges::leave_rounds`]). `is_whole` tells whether it counts for the
    /// copy, `others` are all other owners, `has_rows` whether this node's copy holds any.
    ///
    /// A round drops something only once all owners have joined it. So whoever is whole has a number at least as
    /// high as any floor, and rows under that number are no older than what any floor is about.
    /// Rows under a lower number wait until every other owner told its floor.
    pub fn inherit(
        &mut self,
        copy: CopyOf,
        (from, told, is_whole): (NodeId, PurgeNumbers, bool),
        others: &Owners,
        has_rows: bool,
    ) -> Inherited {
        let own = self.numbers(copy);
        if planted(Bug::OutdatedCopyKept) {
            return Inherited::Raise(own.highest(told));
        }
        let Some(heard) = self.unknown.get_mut(&copy) else {
            // An owner that was not heard before: it may have dropped what this node has since got from another.
            return match told {
                _ if has_rows && told.floor > own.number => Inherited::Outdated,
                _ if has_rows && told.number > own.number => Inherited::Known,
                _ if own.highest(told) == own => Inherited::Known,
                _ => Inherited::Raise(own.highest(told)),
            };
        };
        heard.insert(from, (told, is_whole));
        let all_told = others.iter().all(|node| heard.contains_key(node));
        let one_is_whole = heard.values().any(|(_, is_whole)| *is_whole);
        let highest = heard
            .values()
            .fold(own, |all, (told, _)| all.highest(*told));
        let is_behind = has_rows && own.number < highest.number;
        if all_told && has_rows && highest.floor > own.number {
            Inherited::Outdated
        } else if all_told || one_is_whole && !is_behind {
            Inherited::Raise(highest)
        } else {
            Inherited::NotYet
        }
    }

    /// This node goes on in no round about these copies, as leader or otherwise: one of their owners lost
    /// something, perhaps that it had joined.
    pub fn leave_rounds(&mut self, copies: impl Fn(CopyOf) -> bool, now: MonoTime) {
        self.joined.retain(|copy, _| !copies(*copy));
        let mut freed = Vec::new();
        for led in self.led.values_mut() {
            let (gone, kept): (Vec<Part>, Vec<Part>) = std::mem::take(&mut led.parts)
                .into_iter()
                .partition(|part| copies(part.copy));
            // What is being asked is answered by places: such a round ends as a whole.
            if gone.is_empty() {
                led.parts = kept;
                continue;
            }
            freed.extend(gone.into_iter().chain(kept).map(|part| part.copy));
        }
        self.led.retain(|_, led| !led.parts.is_empty());
        for copy in freed {
            self.free(copy, now);
        }
    }

    /// The numbers of a copy are these from now on, and known.
    pub fn raised(&mut self, copy: CopyOf, numbers: PurgeNumbers) {
        self.unknown.remove(&copy);
        if numbers != PurgeNumbers::default() {
            self.numbers.insert(copy, numbers);
        }
    }

    /// Whether what was read under `number` may change a copy.
    #[must_use]
    pub fn takes(&self, copy: CopyOf, number: PurgeNumber) -> bool {
        number >= self.numbers(copy).floor || planted(Bug::LateRecordTaken)
    }

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

    /// A round begins.
    pub fn lead(&mut self, op: OpNumber, led: Led) {
        self.led.insert(op, led);
    }

    /// A round that this node leads.
    pub fn led(&mut self, op: OpNumber) -> Option<&mut Led> {
        self.led.get_mut(&op)
    }

    /// Rounds for which it is time: to go on, or to give up.
    #[must_use]
    pub fn due(&self, now: MonoTime) -> Vec<OpNumber> {
        let is_due = |(_, led): &(&OpNumber, &Led)| match led.phase {
            Phase::Asking(_) => led.give_up_at <= now,
            Phase::Resting(until) => until <= now,
        };
        self.led.iter().filter(is_due).map(|(op, _)| *op).collect()
    }

    /// A round is over; its vnodes may have another one. Gives what it was.
    pub fn end(&mut self, op: OpNumber, now: MonoTime) -> Option<Led> {
        let led = self.led.remove(&op)?;
        for part in &led.parts {
            self.free(part.copy, now);
        }
        Some(led)
    }

    /// A copy is not part of a round any more.
    pub fn free(&mut self, copy: CopyOf, now: MonoTime) {
        let deleted = self.deleted(copy, now);
        deleted.busy = false;
        deleted.again_at = now + AGAIN_AFTER;
        self.forget_empty(copy);
    }

    /// Everything that this node leads is given up.
    pub fn end_all(&mut self, now: MonoTime) {
        let ops: Vec<OpNumber> = self.led.keys().copied().collect();
        for op in ops {
            self.end(op, now);
        }
    }

    /// How long the leader lets a round rest: longer than it must, because each of the others measures by
    /// its own clock and refuses to drop anything sooner.
    #[must_use]
    pub fn rest(&self) -> Duration {
        self.rest + self.rest / 4
    }

    /// How often what waits is gathered for a round.
    #[must_use]
    pub fn gather_every(&self) -> Duration {
        self.rest / 12
    }

    /// This node takes part in a round from now on.
    pub fn join(&mut self, copy: CopyOf, leader: NodeId, number: PurgeNumber, at: MonoTime) {
        let joined = Joined { leader, number, at };
        self.joined.insert(copy, joined);
    }

    /// Whether this node joined the round in this life, long enough ago by its own clock.
    #[must_use]
    pub fn may_drop(
        &self,
        copy: CopyOf,
        leader: NodeId,
        number: PurgeNumber,
        now: MonoTime,
    ) -> bool {
        self.joined.get(&copy).is_some_and(|joined| {
            joined.leader == leader && joined.number == number && now.since(joined.at) >= self.rest
        })
    }

    /// A key of a copy was purged here; `minted` is the counter of this node's newest dot.
    pub fn note_purged(&mut self, copy: CopyOf, minted: u64) {
        self.purged += 1;
        self.minted.insert(copy, minted);
    }

    /// Dots of this node's present life up to this counter may be missing from its own records of a copy,
    /// because they were purged: another owner that has not purged them yet may still show them.
    #[must_use]
    pub fn minted_before(&self, copy: CopyOf) -> u64 {
        self.minted.get(&copy).copied().unwrap_or_default()
    }

    /// For `status`; `waiting` is what the copies hold whose rounds this node leads.
    #[must_use]
    pub fn status(&self, now: MonoTime, waiting: u64) -> PurgeStatus {
        let with_keys = self.waiting.values().filter(|d| !d.keys.is_empty());
        let oldest = with_keys.map(|deleted| now.since(deleted.since)).max();
        PurgeStatus {
            waiting,
            oldest_ms: oldest.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            blocked_by: self.blocked_by.iter().copied().collect(),
            purged: self.purged,
        }
    }
}

impl Led {
    /// `from` answered the present step: of each part that it was asked about, in order, the places of the
    /// keys that it agrees on. Gives whether all have answered now; `None` if the answer is to nothing.
    pub fn answered(&mut self, from: NodeId, agreed: Vec<Vec<u16>>) -> Option<bool> {
        if !self.waits_for.contains(from) {
            return None;
        }
        let asked = self.asked.get(&from)?;
        if asked.len() != agreed.len() {
            return None;
        }
        for (place, agreed) in asked.iter().zip(agreed) {
            let agreed: BTreeSet<u16> = agreed.into_iter().collect();
            if let Some(all) = self.agreed.get_mut(*place) {
                all.retain(|key| agreed.contains(key));
            }
        }
        self.waits_for.remove(from);
        Some(self.waits_for.is_empty())
    }

    /// Keeps the keys that all agreed on, asks about these next. Gives the copies of which none is left.
    pub fn keep_agreed(&mut self) -> Vec<CopyOf> {
        for (part, agreed) in self.parts.iter_mut().zip(&self.agreed) {
            let mut place = 0u16..;
            part.keys
                .retain(|_| place.next().is_some_and(|place| agreed.contains(&place)));
        }
        let (kept, gone) = std::mem::take(&mut self.parts)
            .into_iter()
            .partition(|part| !part.keys.is_empty());
        self.parts = kept;
        let gone: Vec<Part> = gone;
        gone.into_iter().map(|part| part.copy).collect()
    }

    /// The next step: everybody is asked about all keys that are left.
    pub fn ask(&mut self, me: NodeId, step: PurgeStep, now: MonoTime) {
        self.phase = Phase::Asking(step);
        self.give_up_at = now + STEP_WITHIN;
        self.asked.clear();
        let all = |part: &Part| (0..u16::try_from(part.keys.len()).unwrap_or(u16::MAX)).collect();
        self.agreed = self.parts.iter().map(all).collect();
        for (place, part) in self.parts.iter().enumerate() {
            self.asked.entry(me).or_default().push(place);
            for other in &part.others {
                self.asked.entry(*other).or_default().push(place);
            }
        }
        self.waits_for = self.asked.keys().copied().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);
    const COPY: CopyOf = (KeyspaceId(1), VnodeId(4));

    const fn numbers(number: u64, floor: u64) -> PurgeNumbers {
        PurgeNumbers {
            number: PurgeNumber(number),
            floor: PurgeNumber(floor),
        }
    }

    /// What a node with `own` numbers, and with rows or without, makes of what B and then C tell.
    fn told(own: PurgeNumbers, has_rows: bool, tell: [(PurgeNumbers, bool); 2]) -> [Inherited; 2] {
        let others: Owners = [B, C].into_iter().collect();
        let rest = Duration::from_secs(10);
        let mut purges = Purges::new(rest, [(COPY, own)], [COPY].into());
        assert!(!purges.knows(COPY));
        let mut from = [B, C].into_iter();
        tell.map(|(told, is_whole)| {
            let from = from.next().expect("two");
            let inherited = purges.inherit(COPY, (from, told, is_whole), &others, has_rows);
            if let Inherited::Raise(numbers) = inherited {
                purges.raised(COPY, numbers);
                assert!(purges.knows(COPY));
            }
            inherited
        })
    }

    #[test]
    fn an_empty_copy_takes_the_numbers_of_the_first_whole_owner_and_every_higher_one() {
        let tell = [(numbers(5, 0), true), (numbers(5, 5), true)];
        let raised = [numbers(5, 0), numbers(5, 5)].map(Inherited::Raise);
        assert_eq!(told(numbers(0, 0), false, tell), raised);
        let lost_too = [(numbers(5, 0), false), (numbers(5, 5), true)];
        let waits = [Inherited::NotYet, Inherited::Raise(numbers(5, 5))];
        assert_eq!(told(numbers(0, 0), false, lost_too), waits);
    }

    #[test]
    fn rows_under_a_lower_number_wait_for_every_owners_floor() {
        let tell = |floor| [(numbers(5, 0), true), (numbers(5, floor), true)];
        let outdated = [Inherited::NotYet, Inherited::Outdated];
        assert_eq!(told(numbers(4, 0), true, tell(5)), outdated);
        let only_joined = [Inherited::NotYet, Inherited::Raise(numbers(5, 3))];
        assert_eq!(told(numbers(4, 0), true, tell(3)), only_joined);
        let took_part = [
            Inherited::Raise(numbers(5, 0)),
            Inherited::Raise(numbers(5, 5)),
        ];
        let tell = [(numbers(5, 0), true), (numbers(5, 5), true)];
        assert_eq!(told(numbers(5, 0), false, tell), took_part);
    }

    #[test]
    fn where_all_lost_something_the_highest_floor_decides() {
        let tell = [(numbers(2, 1), false), (numbers(5, 5), false)];
        let outdated = [Inherited::NotYet, Inherited::Outdated];
        assert_eq!(told(numbers(4, 2), true, tell), outdated);
        let goes_on = [Inherited::NotYet, Inherited::Raise(numbers(6, 5))];
        assert_eq!(told(numbers(6, 2), true, tell), goes_on);
    }

    #[test]
    fn a_node_leaves_the_rounds_of_a_copy_of_which_an_owner_lost_something() {
        let mut purges = Purges::new(Duration::from_secs(1), [], BTreeSet::new());
        let (now, later) = (MonoTime::ZERO, MonoTime::ZERO + Duration::from_secs(2));
        purges.join(COPY, B, PurgeNumber(3), now);
        assert!(!purges.may_drop(COPY, B, PurgeNumber(3), now), "too early");
        assert!(!purges.may_drop(COPY, C, PurgeNumber(3), later));
        assert!(purges.may_drop(COPY, B, PurgeNumber(3), later));
        purges.leave_rounds(|copy| copy == COPY, later);
        assert!(!purges.may_drop(COPY, B, PurgeNumber(3), later));
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
