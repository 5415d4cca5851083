//! Purging deleted keys on proof, never on a timer: which keys wait for it, which rounds this node
//! leads, and which numbers its copies are at (DESIGN 7).
//!
//! A tombstone may go once every copy of the key holds exactly the same record and nothing that is
//! older can come back. A round, led by the first owner of a vnode, proves both:
//! 1. *look*: which keys have the very record of the leader on all owners, durably and as their
//!    newest;
//! 2. *join*: the same again, and each owner raises its number of the vnode, durably, above all
//!    that were;
//! 3. it rests for twice the time in which an operation may be tried again, so that no attempt is
//!    left that could mint anew what was deleted (P6, P12);
//! 4. *drop*: each owner that joined in its present life, and whose record is still that one, takes
//!    it away and raises its floor to the round's number.
//!
//! Why nothing comes back. Every owner held the tombstone *before* its number rose, and a state
//! only grows, so whatever it read under the round's number or a later one includes the tombstone.
//! What was read under less is refused by whoever is at that floor, if it would change anything
//! (P1, P3). So neither step needs the operations under way to end first: a straggler is refused,
//! and its coordinator delivers by a hint what it holds *now*.
//!
//! Nothing of this asks that a vnode has one round at a time. Each has its own number and its own
//! keys and rests by itself; an owner joins strictly upwards, so that who is at a number has joined
//! each lower round or never will; and a floor never falls. So a key that an owner did not hold yet
//! waits for the next round and not for the end of this one. A key is in one round at most for one
//! reason; should one be pruned while another round is to purge it, its record is not the one of
//! that round any more.
//!
//! A fallback holds no such record, and what it acknowledged must not be refused. So whoever may
//! stand in for an owner takes part too (P10). It joins only while it holds nothing of the vnode;
//! and after the rest, before anything goes, it is asked once more: if it again holds nothing, it
//! raises its own floor. What it took before, also an attempt of what was deleted, has then reached
//! every owner, whose record is not the round's any more if that changed it; what it takes later
//! was read or minted under the round's number. So all that it ever delivers is above every floor.
//!
//! An owner that forgot must hold no row from before the numbers of its co-replicas (P4, P5, P11):
//! see [`Inherited`].
//!
//! The same rounds prune the records of keys that stay: entries of a context that no living actor
//! raises any more, and flagged operations (see [`Prunable`]). Asked is not for a certain record
//! but whether each owner's remembers all of that and has no sibling of it. Once that is so it
//! stays so, and is durable before the number rises; therefore a key that is written all the time
//! is pruned too, and what is read under the round's number or a later one brings nothing back.
//! (Should a key be purged in between, then because all held a tombstone that covers what is left
//! out.) That an actor has ended is no part of the proof: it only tells what does not come again by
//! itself.
//!
//! Not here: the messages and the store (`shard::purge`), who is up (`continuity`).

mod keys;
mod led;
mod pruned;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use quorate_antientropy::{Prunable, PurgeNumber, PurgeNumbers};
use quorate_ring::planted::{Bug, planted};
use quorate_ring::{KeyspaceId, MonoTime, NodeId, Topology, VnodeId};

use super::key::RecordKey;
use super::message::OpNumber;
use super::node_set::Owners;

pub use led::{KeysOf, Led, Members, Part, Phase, STEP_WITHIN};
pub use pruned::Pruned;
use waiting::Waiting;
pub use waiting::{Gathered, PRUNED_PER_KEY_MAX, ROUND_KEYS_MAX};

/// A vnode of a keyspace, of which this node has a copy.
pub type CopyOf = (KeyspaceId, VnodeId);

/// Whether `node` leads the rounds of a copy: its first owner does.
#[must_use]
pub fn leads(topology: &Topology, node: NodeId, (keyspace, vnode): CopyOf) -> bool {
    let known = topology.keyspace(keyspace);
    let owners = known.map(|known| topology.owners(vnode, known.copies));
    owners.and_then(<[NodeId]>::first) == Some(&node)
}

/// Rounds of one copy that a node takes part in; of more, the oldest come to nothing.
const JOINED_MAX: usize = 512;

/// What a copy's numbers become once a co-replica told its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inherited {
    /// Nothing changes.
    Known,
    /// Other owners must tell theirs first.
    NotYet,
    /// They rise to these.
    Raise(PurgeNumbers),
    /// The copy holds rows from before a round that its co-replicas took part in: what was purged
    /// may be among them, and would come back as if it were new. Nothing of it may be read or given
    /// away.
    Outdated,
}

/// What other owners told of a copy's numbers, and whether they count for it.
type Heard = BTreeMap<NodeId, (PurgeNumbers, bool)>;

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
    /// Records of keys that stay, out of which it has left something since then.
    pub pruned: u64,
}

/// A node's part in purging.
#[derive(Debug)]
pub struct Purges {
    /// How long a round rests between join and drop.
    rest: Duration,
    numbers: BTreeMap<CopyOf, PurgeNumbers>,
    /// Copies of which this node may have forgotten the numbers.
    unknown: BTreeMap<CopyOf, Heard>,
    waiting: BTreeMap<CopyOf, Waiting>,
    keys: usize,
    crowded_keys: usize,
    /// The copy that had its turn last in a round.
    gathered_last: Option<CopyOf>,
    led: BTreeMap<OpNumber, Led>,
    /// The newest number that this node gave to a round of a copy in this life.
    given: BTreeMap<CopyOf, PurgeNumber>,
    /// Rounds of a copy that this node takes part in, in the order in which it joined.
    joined: BTreeMap<CopyOf, VecDeque<Joined>>,
    /// The copy that is being read.
    reading: Option<CopyOf>,
    blocked_by: BTreeSet<NodeId>,
    purged: u64,
    /// Counter of this node's newest dot in this life when it last purged a key of a copy.
    minted: BTreeMap<CopyOf, u64>,
    pruned: Pruned,
    prunes: u64,
}

impl Purges {
    /// At the start: `numbers` as the log has them, `unknown` the copies of which acknowledged
    /// writes, and so perhaps numbers, were lost.
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
            crowded_keys: 0,
            gathered_last: None,
            led: BTreeMap::new(),
            given: BTreeMap::new(),
            joined: BTreeMap::new(),
            reading: None,
            blocked_by: BTreeSet::new(),
            purged: 0,
            minted: BTreeMap::new(),
            pruned: Pruned::default(),
            prunes: 0,
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

    /// Whether this node knows the numbers of its copy; until it does it takes, reads and gives
    /// nothing.
    #[must_use]
    pub fn knows(&self, copy: CopyOf) -> bool {
        self.unknown.is_empty() || !self.unknown.contains_key(&copy)
    }

    /// An owner of a copy that this node lost something of told its numbers, and takes no part any
    /// more in a round that was under way (see [`Purges::leave_rounds`]). `is_whole` tells whether
    /// it counts for the copy, `others` are all other owners but those whose disks are declared
    /// lost, `has_rows` whether this node's copy holds any.
    ///
    /// A round drops something only once all owners have joined it. So whoever is whole has a
    /// number at least as high as any floor, and rows under that number are no older than what any
    /// floor is about. Rows under a lower number wait until every other owner told its floor.
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
            // An owner that was not heard before: it may have dropped what this node has since got
            // from another.
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

    /// This node goes on in no round about these copies, as leader or otherwise: one of their
    /// owners lost something, perhaps that it had joined.
    pub fn leave_rounds(&mut self, copies: impl Fn(CopyOf) -> bool, now: MonoTime) {
        self.joined.retain(|copy, _| !copies(*copy));
        // What is being asked is answered by places: such a round ends as a whole.
        let is_left = |led: &Led| led.parts.iter().any(|part| copies(part.copy));
        let left = self.led.iter().filter(|(_, led)| is_left(led));
        let left: Vec<OpNumber> = left.map(|(op, _)| *op).collect();
        for op in left {
            self.give_up(op, now);
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

    /// When a copy is read for crowded records after one of its owners began a new life, which
    /// ended its actor: not at once, because others may follow.
    #[must_use]
    pub fn look_after(&self) -> Duration {
        self.rest * 5
    }

    /// How long the leader lets a round rest: longer than it must, because each of the others
    /// measures by its own clock and refuses to drop anything sooner.
    #[must_use]
    pub fn rest(&self) -> Duration {
        self.rest + self.rest / 4
    }

    /// This node takes part in a round from now on.
    pub fn join(&mut self, copy: CopyOf, leader: NodeId, number: PurgeNumber, at: MonoTime) {
        // A leader goes on after its rest, and each step is answered in time or is the last.
        let ends_within = self.rest * 2 + STEP_WITHIN * 4;
        let joined = self.joined.entry(copy).or_default();
        let is_over = |joined: &Joined| at.since(joined.at) >= ends_within;
        while joined.len() >= JOINED_MAX || joined.front().is_some_and(is_over) {
            joined.pop_front();
        }
        joined.push_back(Joined { leader, number, at });
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
        let is_it = |joined: &Joined| {
            joined.leader == leader && joined.number == number && now.since(joined.at) >= self.rest
        };
        let mut joined = self.joined.get(&copy).into_iter().flatten();
        joined.any(is_it)
    }

    /// A key of a copy was purged here; `minted` is the counter of this node's newest dot.
    pub fn note_purged(&mut self, copy: CopyOf, minted: u64) {
        self.purged += 1;
        self.minted.insert(copy, minted);
    }

    /// This was left out of a key's record here.
    pub fn note_pruned(&mut self, now: MonoTime, key: RecordKey, pruned: Prunable) {
        self.prunes += 1;
        self.pruned.note(now, key, pruned);
    }

    /// What was left out of a key's record a moment ago, and must be left out of what still comes.
    #[must_use]
    pub fn pruned_of(&self, key: &RecordKey) -> Option<&Prunable> {
        self.pruned.of(key)
    }

    /// What was left out some time ago does not come any more.
    pub fn forget_pruned(&mut self, now: MonoTime) {
        self.pruned.expire(now);
    }

    /// Dots of this node's present life up to this counter may be missing from its own records of a
    /// copy, because they were purged: another owner that has not purged them yet may still show
    /// them.
    #[must_use]
    pub fn minted_before(&self, copy: CopyOf) -> u64 {
        self.minted.get(&copy).copied().unwrap_or_default()
    }

    /// For `status`; `waiting` is what the copies hold whose rounds this node leads.
    #[must_use]
    pub fn status(&self, now: MonoTime, waiting: u64) -> PurgeStatus {
        let oldest = self.oldest_waits(now);
        PurgeStatus {
            waiting,
            oldest_ms: oldest.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            blocked_by: self.blocked_by.iter().copied().collect(),
            purged: self.purged,
            pruned: self.prunes,
        }
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
    fn a_node_takes_part_in_several_rounds_of_a_copy_and_each_rests_by_itself() {
        let mut purges = Purges::new(Duration::from_secs(10), [], BTreeSet::new());
        let at = |seconds| MonoTime::ZERO + Duration::from_secs(seconds);
        let given = [(); 3].map(|()| purges.give_number(COPY));
        assert_eq!(given, [1, 2, 3].map(PurgeNumber), "before any was joined");
        let may_drop = |purges: &Purges, seconds| {
            given.map(|number| purges.may_drop(COPY, B, number, at(seconds)))
        };
        purges.join(COPY, B, PurgeNumber(1), at(0));
        purges.join(COPY, B, PurgeNumber(2), at(5));
        assert_eq!(may_drop(&purges, 9), [false, false, false]);
        assert_eq!(may_drop(&purges, 10), [true, false, false]);
        assert_eq!(may_drop(&purges, 15), [true, true, false]);
        purges.join(COPY, B, PurgeNumber(3), at(60));
        assert_eq!(may_drop(&purges, 70), [false, true, true], "long over");
        purges.raised(COPY, numbers(7, 2));
        assert_eq!(purges.give_number(COPY), PurgeNumber(8));
        for number in 0..600 {
            purges.join(COPY, B, PurgeNumber(number), at(70));
        }
        assert_eq!(
            purges.joined.get(&COPY).map(VecDeque::len),
            Some(JOINED_MAX)
        );
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
}
