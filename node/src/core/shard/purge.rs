//! Purge rounds: what this node does as the leader of one and as one who takes part.
//!
//! A step of a round first has its keys brought into memory; then all of it happens at one moment, so
//! that nothing comes between looking at a record and raising a number or taking the record away. An
//! answer goes when everything that it rests on is durable.
//!
//! Not here: what a round proves and which keys wait (`core::purge`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{Digest, DigestChange, Held, Holdings, HoldingsChange, KeyState};
use quorate_antientropy::{MergeResult, PurgeNumbers, RecordChange};
use quorate_ring::planted::{Bug, planted};
use quorate_ring::{Epoch, KeyspaceId, MonoTime, NodeId, VnodeId};

use super::super::clock_check::ClockTrust;
use super::super::continuity::Liveness;
use super::super::effect::{Effect, Effects, Entry, Event, StopReason};
use super::super::failure::Cause;
use super::super::input::Now;
use super::super::key::RecordKey;
use super::super::message::{
    OpNumber, PeerMessage, PurgeAsk, PurgeNumber, PurgeReply, PurgeRound, PurgeStep, Refusal,
    ReplicaStanding, ScanAsk,
};
use super::super::node_set::{NodeSet, Owners};
use super::super::purge::{CopyOf, Inherited, Led, Part, Phase, ROUND_KEYS_MAX, STEP_WITHIN};
use super::super::scan_page::{PageRange, RowContent, ScanRow};
use super::super::table::Lookup;
use super::super::vnode_set::VnodeSet;
use super::scan::{PAGE_BYTES_MAX, SCAN_RECORDS_MAX};
use super::scan_replica::Reader;
use super::{Ack, KEY_BYTES_MAX, Parked, Place, Shard};

/// Steps of peers whose keys may be on their way into memory at once.
const GATHERS_MAX: usize = 64;
/// A round that took as much as one takes is followed by the next one after this.
const AFTER_FULL_ROUND: Duration = Duration::from_millis(250);
/// After a start a node's vnodes are looked through for deleted keys this much later.
pub(super) const FIRST_LOOK_AFTER: Duration = Duration::from_secs(5);

/// Whose step waits for its keys to be in memory.
#[derive(Debug)]
enum Step {
    /// This node's, of a round that it leads and for which it does not know the digests yet.
    Digests,
    /// This node's, of a round that it leads.
    Own(PurgeStep),
    /// A peer's.
    Peer { to: NodeId, ask: PurgeAsk },
}

/// Keys on their way into memory.
#[derive(Debug)]
pub(super) struct Gather {
    step: Step,
    missing: usize,
}

impl Shard {
    /// The numbers under which this node reads and makes records of a place.
    pub(super) fn purge_numbers(&self, place: &Place) -> PurgeNumbers {
        self.numbers_of((place.keyspace, place.location.vnode))
    }

    /// The same of a copy: a number goes out only once it is durable, so that it is never given to another
    /// round after a crash; a floor holds at once.
    pub(super) fn numbers_of(&self, copy: CopyOf) -> PurgeNumbers {
        let newest = self.purges.numbers(copy);
        if newest == PurgeNumbers::default() {
            return newest;
        }
        PurgeNumbers {
            number: self.table.digests().numbers(copy.0, copy.1).number,
            floor: newest.floor,
        }
    }

    /// Whether this node may take, read and give records of a place.
    pub(super) fn knows_numbers(&self, place: &Place) -> bool {
        self.purges.knows((place.keyspace, place.location.vnode))
    }

    /// Whether a record that was read under `number` must be refused: it would change something, and
    /// what it would bring may have been purged (P1).
    pub(super) fn is_below_floor(
        &self,
        place: &Place,
        number: PurgeNumber,
        newest: Option<&Bytes>,
        incoming: &Bytes,
    ) -> bool {
        if self
            .purges
            .takes((place.keyspace, place.location.vnode), number)
        {
            return false;
        }
        let decode = |bytes: &Bytes| KeyState::decode_as(place.mode, bytes);
        let own = newest.map_or_else(|| Ok(KeyState::absent(place.mode)), decode);
        let (Ok(own), Ok(theirs)) = (own, decode(incoming)) else {
            // Who merges them tells what is wrong.
            return false;
        };
        !matches!(own.merge(&theirs), MergeResult::Unchanged)
    }

    /// A co-replica's floor is above this node's number: this node took part in the round and has
    /// forgotten it, and with that what was purged then.
    pub(super) fn note_floor(
        &self,
        copy: CopyOf,
        peer: NodeId,
        floor: PurgeNumber,
        effects: &mut Effects,
    ) {
        let has_forgotten = floor > self.purges.numbers(copy).number && self.purges.knows(copy);
        if !has_forgotten || planted(Bug::OutdatedCopyKept) {
            return;
        }
        effects.push(Effect::Stop(self.outdated(peer)));
    }

    /// Why this node must not go on with its store. It is set aside only if others can give back all of it.
    fn outdated(&self, peer: NodeId) -> StopReason {
        let reason = format!(
            "it is from before a round in which deleted keys were purged on node {peer} (an old copy \
             was restored?): what it holds of them must not come back"
        );
        let is_alone = |(keyspace, ..): (KeyspaceId, VnodeId, Holdings)| {
            let known = self.topology.keyspace(keyspace);
            known.is_some_and(|known| known.copies.get() == 1)
        };
        if self.table.digests().holdings().any(is_alone) {
            let reason = format!("{reason}. It is the only one that holds some keyspaces");
            return StopReason::Damaged { reason };
        }
        StopReason::EngineDamaged { reason }
    }

    /// A key that commits to `gone_at` may be purged some time.
    pub(super) fn note_gone(&mut self, place: &Place, gone_at: u64) {
        let vnode = place.location.vnode;
        if self.topology.owners(vnode, place.copies).first() != Some(&self.me) {
            return;
        }
        let (copy, now) = ((place.keyspace, vnode), self.last_step);
        if gone_at == 0 {
            self.purges.note_deleted(copy, place.key.user_key(), now);
        } else {
            let ahead = gone_at.saturating_sub(self.timestamp);
            self.purges
                .note_expiry(copy, now + Duration::from_micros(ahead), now);
        }
    }

    /// An owner told how it stands: with its numbers this node's copies may be read again, unless they are
    /// from before a round.
    pub(super) fn inherit_numbers(
        &mut self,
        peer: NodeId,
        standing: &ReplicaStanding,
        effects: &mut Effects,
    ) {
        let told: BTreeMap<CopyOf, PurgeNumbers> = standing
            .numbers
            .iter()
            .map(|(keyspace, vnode, numbers)| ((*keyspace, *vnode), *numbers))
            .collect();
        for copy in self.healing.wanted_from(peer) {
            let (keyspace, vnode) = copy;
            let lacks = standing.lacks.get(&keyspace);
            let is_whole = lacks.is_none_or(|vnodes| !vnodes.contains(vnode));
            let numbers = told.get(&copy).copied().unwrap_or_default();
            let holdings = self.table.digests().vnode(keyspace, vnode).holdings();
            let has_rows = holdings.keys > 0 || holdings.tombstones > 0;
            let copies = self.topology.keyspace(keyspace).map(|known| known.copies);
            let owners = copies.map_or(&[][..], |copies| self.topology.owners(vnode, copies));
            let others: Owners = owners
                .iter()
                .copied()
                .filter(|node| *node != self.me)
                .collect();
            let leads = owners.first() == Some(&self.me);
            let told = (peer, numbers, is_whole);
            match self.purges.inherit(copy, told, &others, has_rows) {
                Inherited::Known | Inherited::NotYet => {}
                Inherited::Raise(mut numbers) => {
                    if leads && numbers != PurgeNumbers::default() {
                        // The number of a round that was begun and lost is not used again.
                        numbers.number = numbers.number.next();
                    }
                    self.raise_numbers(copy, numbers, effects);
                }
                Inherited::Outdated => {
                    effects.push(Effect::Stop(self.outdated(peer)));
                    return;
                }
            }
        }
    }

    /// A co-replica lost something and begins to get it back from here.
    pub(super) fn leave_purges(&mut self, now: MonoTime, peer: NodeId) {
        let topology = Arc::clone(&self.topology);
        let shares = |(keyspace, vnode): CopyOf| {
            let known = topology.keyspace(keyspace);
            known.is_some_and(|known| topology.is_owner(vnode, known.copies, peer))
        };
        self.purges.leave_rounds(shares, now);
    }

    fn raise_numbers(&mut self, copy: CopyOf, numbers: PurgeNumbers, effects: &mut Effects) {
        let (keyspace, vnode) = copy;
        if numbers != self.purges.numbers(copy) {
            let lsn = self.table.appended().next();
            self.table.append_numbers(lsn, keyspace, vnode, numbers);
            let entry = Entry::Numbers {
                keyspace,
                vnode,
                numbers,
            };
            effects.push(Effect::Append { lsn, entry });
        }
        self.purges.raised(copy, numbers);
    }

    /// Begins what is due, ends what is late.
    pub(super) fn tick_purges(&mut self, now: Now, effects: &mut Effects) {
        if self.draining {
            return self.purges.end_all(now.mono);
        }
        for op in self.purges.due(now.mono) {
            match self.purges.led(op).map(|led| led.phase) {
                Some(Phase::Resting(_)) => self.begin_drop(now, op, effects),
                Some(Phase::Asking(_)) => {
                    effects.push(Effect::Count(Event::PurgeRoundFailed));
                    self.purges.end(op, now.mono);
                }
                None => {}
            }
        }
        if self.room() == 0 || !self.table.has_room() {
            return;
        }
        self.look_on(now, effects);
        self.begin_round(now, effects);
    }

    /// Reads the next page of a copy that may have deleted keys that are not remembered.
    fn look_on(&mut self, now: Now, effects: &mut Effects) {
        let from = match (self.purges.reading(), self.purge_look_from.take()) {
            // A page is on its way.
            (Some(_), None) => return,
            (Some(copy), Some(from)) => (copy, from),
            (None, _) => match self.purges.begin_look(now.mono) {
                Some(copy) => (copy, Bytes::new()),
                None => return,
            },
        };
        let ((keyspace, vnode), from) = from;
        let vnodes: VnodeSet = std::iter::once(vnode).collect();
        let op = self.next_number();
        let range = PageRange {
            keyspace,
            vnodes: vnodes.clone(),
            from,
            end: None,
            rows_max: SCAN_RECORDS_MAX,
            bytes_max: PAGE_BYTES_MAX,
        };
        let ask = ScanAsk {
            op,
            ask: 0,
            range,
            whole: vnodes,
            budget: STEP_WITHIN,
        };
        if self.read_page(now, Reader::Purge, ask, effects).is_err() {
            self.purges.end_look(false, now.mono);
        }
    }

    /// A page of the copy that is being looked through.
    pub(super) fn purge_page(&mut self, now: Now, (rows, until): (Vec<ScanRow>, Option<Bytes>)) {
        let Some(copy) = self.purges.reading() else {
            return;
        };
        let mode = self.topology.keyspace(copy.0).map(|keyspace| keyspace.mode);
        for ScanRow { key, content, .. } in rows {
            let (RowContent::Whole(record), Some(mode)) = (content, mode) else {
                continue;
            };
            let state = KeyState::decode_as(mode, &record).ok();
            match state.and_then(|state| state.gone_at()) {
                Some(at) if self.is_gone(now, at) => {
                    self.purges.note_deleted(copy, &key, now.mono);
                }
                Some(at) => {
                    let ahead = Duration::from_micros(at.saturating_sub(now.wall_micros));
                    self.purges.note_expiry(copy, now.mono + ahead, now.mono);
                }
                None => {}
            }
        }
        match until {
            Some(from) => self.purge_look_from = Some(from),
            None => self.purges.end_look(true, now.mono),
        }
    }

    fn is_gone(&self, now: Now, gone_at: u64) -> bool {
        gone_at == 0 || gone_at <= now.wall_micros && self.clocks.trust(now) == ClockTrust::Good
    }

    fn begin_round(&mut self, now: Now, effects: &mut Effects) {
        if now.mono < self.next_purge {
            return;
        }
        self.next_purge = now.mono + self.purges.gather_every();
        let copies = self.purges.waiting();
        let others = copies.map(|copy| (copy, self.others_up(now, copy)));
        let others: BTreeMap<CopyOf, Result<Owners, NodeId>> = others.collect();
        let parts = self.purges.gather(now.mono, &others);
        if parts.is_empty() {
            return;
        }
        let keys: usize = parts.iter().map(|(.., keys)| keys.len()).sum();
        if keys >= ROUND_KEYS_MAX {
            // There is more.
            self.next_purge = now.mono + AFTER_FULL_ROUND;
        }
        let part = |(copy, others, keys): (CopyOf, Owners, Vec<Bytes>)| Part {
            copy,
            number: PurgeNumber::default(),
            others,
            keys: keys.into_iter().map(|key| (key, Digest(0))).collect(),
        };
        let led = Led {
            phase: Phase::Asking(PurgeStep::Look),
            parts: parts.into_iter().map(part).collect(),
            asked: BTreeMap::new(),
            agreed: Vec::new(),
            waits_for: NodeSet::default(),
            lives: BTreeMap::new(),
            give_up_at: now.mono + STEP_WITHIN,
        };
        let op = self.next_number();
        let keys = self.keys_of(&led.parts);
        self.purges.lead(op, led);
        self.bring_in(now, op, keys, Step::Digests, effects);
    }

    /// The other owners of a copy whose rounds this node leads, if all of them can take part.
    ///
    /// # Errors
    /// Who cannot; this node, if it does not count itself.
    fn others_up(&self, now: Now, (keyspace, vnode): CopyOf) -> Result<Owners, NodeId> {
        let known = self.topology.keyspace(keyspace).ok_or(self.me)?;
        if !self.counts_for(keyspace, known.copies, vnode) || !self.purges.knows((keyspace, vnode))
        {
            return Err(self.me);
        }
        let owners = self.topology.owners(vnode, known.copies);
        let others = owners.iter().copied().filter(|node| *node != self.me);
        let is_up = |node: &NodeId| self.liveness(now, *node) == Liveness::Up;
        if planted(Bug::PurgesWithoutAll) {
            return Ok(others.filter(is_up).collect());
        }
        let others: Owners = others.collect();
        match others.iter().find(|node| !is_up(node)) {
            Some(down) => Err(*down),
            None => Ok(others),
        }
    }

    fn keys_of(&self, parts: &[Part]) -> Vec<RecordKey> {
        let keys = parts.iter().flat_map(|part| {
            let (keyspace, vnode) = part.copy;
            let key = move |(key, _): &(Bytes, Digest)| RecordKey::new(keyspace, vnode, key);
            part.keys.iter().map(key)
        });
        keys.collect()
    }

    /// Does a step once its keys are in memory.
    fn bring_in(
        &mut self,
        now: Now,
        op: OpNumber,
        keys: Vec<RecordKey>,
        step: Step,
        effects: &mut Effects,
    ) {
        let number = match &step {
            Step::Peer { .. } => self.next_number(),
            Step::Digests | Step::Own(_) => op,
        };
        let mut missing = 0;
        for key in keys {
            if self.table.newest(&key) != Lookup::MustLoad {
                continue;
            }
            // One that finds no room is not agreed on this time.
            if self
                .park(key, Parked::Purge { op: number }, effects)
                .is_ok()
            {
                missing += 1;
            }
        }
        let gather = Gather { step, missing };
        if missing == 0 {
            return self.gathered(now, number, gather.step, effects);
        }
        self.purge_gathers.insert(number, gather);
    }

    /// A key of a step is in memory, or will not be.
    pub(super) fn purge_key_in(&mut self, now: Now, op: OpNumber, effects: &mut Effects) {
        let Some(gather) = self.purge_gathers.get_mut(&op) else {
            return;
        };
        gather.missing -= 1;
        if gather.missing == 0
            && let Some(gather) = self.purge_gathers.remove(&op)
        {
            self.gathered(now, op, gather.step, effects);
        }
    }

    fn gathered(&mut self, now: Now, op: OpNumber, step: Step, effects: &mut Effects) {
        match step {
            Step::Digests => self.note_digests(now, op, effects),
            Step::Own(step) => self.own_part(now, op, step, effects),
            Step::Peer { to, ask } => {
                let agreed = self.take_part(now, to, ask.step, &ask.rounds, effects);
                let reply = PurgeReply {
                    op: ask.op,
                    step: ask.step,
                    result: Ok(agreed),
                };
                let ack = Ack::Purge { to, reply };
                self.when_logged(now, ack, effects);
            }
        }
    }

    /// Does `ack` once everything appended so far is on disk, whatever the keyspace's durability.
    fn when_logged(&mut self, now: Now, ack: Ack, effects: &mut Effects) {
        let durability = quorate_ring::Durability::Disk;
        self.when_durable(now, durability, ack, effects);
    }

    /// The keys of a round that begins are in memory: those that may go are asked about.
    fn note_digests(&mut self, now: Now, op: OpNumber, effects: &mut Effects) {
        let Some(led) = self.purges.led(op) else {
            return;
        };
        let mut parts = std::mem::take(&mut led.parts);
        for part in &mut parts {
            let keys = std::mem::take(&mut part.keys);
            for (key, _) in keys {
                match self.purgeable(now, part.copy, &key) {
                    Purgeable::Now(digest) => part.keys.push((key, digest)),
                    Purgeable::NotYet => {}
                    Purgeable::Never => self.purges.forget(part.copy, &key),
                }
            }
        }
        let (parts, gone): (Vec<Part>, Vec<Part>) =
            parts.into_iter().partition(|part| !part.keys.is_empty());
        for part in gone {
            self.purges.free(part.copy, now.mono);
        }
        if let Some(led) = self.purges.led(op) {
            led.parts = parts;
        }
        self.ask_round(now, op, PurgeStep::Look, effects);
    }

    /// Asks everybody for the next step of a round, this node first where its log must be ahead.
    fn ask_round(&mut self, now: Now, op: OpNumber, step: PurgeStep, effects: &mut Effects) {
        let me = self.me;
        let Some(led) = self.purges.led(op) else {
            return;
        };
        if led.parts.is_empty() {
            self.purges.end(op, now.mono);
            return;
        }
        led.ask(me, step, now.mono);
        // The others' numbers must not rise above what this node finds again after a crash.
        if step != PurgeStep::Join {
            self.ask_others(op, step, effects);
        }
        let keys = match self.purges.led(op) {
            Some(led) => {
                let parts = led.parts.clone();
                self.keys_of(&parts)
            }
            None => return,
        };
        self.bring_in(now, op, keys, Step::Own(step), effects);
    }

    fn ask_others(&mut self, op: OpNumber, step: PurgeStep, effects: &mut Effects) {
        let me = self.me;
        let Some(led) = self.purges.led(op) else {
            return;
        };
        for (to, places) in led.asked.iter().filter(|(to, _)| **to != me) {
            let rounds = places.iter().filter_map(|place| led.parts.get(*place));
            let message = PeerMessage::Purge(PurgeAsk {
                op,
                step,
                rounds: rounds.map(Part::round).collect(),
                budget: STEP_WITHIN,
            });
            effects.push(Effect::Send { to: *to, message });
        }
    }

    fn own_part(&mut self, now: Now, op: OpNumber, step: PurgeStep, effects: &mut Effects) {
        let Some(led) = self.purges.led(op) else {
            return;
        };
        let rounds: Vec<PurgeRound> = led.parts.iter().map(Part::round).collect();
        let agreed = self.take_part(now, self.me, step, &rounds, effects);
        let ack = Ack::OwnPurge { op, step, agreed };
        self.when_logged(now, ack, effects);
    }

    /// What this node did for a round of its own is durable.
    pub(super) fn own_part_durable(
        &mut self,
        now: Now,
        op: OpNumber,
        step: PurgeStep,
        agreed: Vec<Vec<u16>>,
        effects: &mut Effects,
    ) {
        if step == PurgeStep::Join {
            self.ask_others(op, step, effects);
        }
        self.round_answered(now, self.me, op, (step, agreed), effects);
    }

    fn round_answered(
        &mut self,
        now: Now,
        from: NodeId,
        op: OpNumber,
        (step, agreed): (PurgeStep, Vec<Vec<u16>>),
        effects: &mut Effects,
    ) {
        let life = self.continuity.life_of(from).map(|(life, _)| life);
        let Some(led) = self.purges.led(op) else {
            return;
        };
        if led.phase != Phase::Asking(step) {
            return;
        }
        let Some(is_last) = led.answered(from, agreed) else {
            return;
        };
        if step == PurgeStep::Join
            && let Some(life) = life
        {
            led.lives.insert(from, life);
        }
        if is_last {
            self.round_agreed(now, op, step, effects);
        }
    }

    /// All have answered a step.
    fn round_agreed(&mut self, now: Now, op: OpNumber, step: PurgeStep, effects: &mut Effects) {
        let until = now.mono + self.purges.rest();
        let Some(led) = self.purges.led(op) else {
            return;
        };
        let freed = led.keep_agreed();
        match step {
            PurgeStep::Look => {
                let copies: Vec<CopyOf> = led.parts.iter().map(|part| part.copy).collect();
                let numbers = copies
                    .iter()
                    .map(|copy| self.purges.numbers(*copy).number.next());
                let numbers: Vec<PurgeNumber> = numbers.collect();
                if let Some(led) = self.purges.led(op) {
                    for (part, number) in led.parts.iter_mut().zip(numbers) {
                        part.number = number;
                    }
                }
                self.free_all(now, freed);
                self.ask_round(now, op, PurgeStep::Join, effects);
            }
            PurgeStep::Join => {
                led.phase = Phase::Resting(until);
                let is_empty = led.parts.is_empty();
                self.free_all(now, freed);
                if is_empty {
                    self.purges.end(op, now.mono);
                }
            }
            PurgeStep::Drop => {
                self.free_all(now, freed);
                // What was dropped is forgotten when it is looked at for the next round: it may have come back
                // meanwhile from an owner that dropped it later.
                if self.purges.end(op, now.mono).is_some() {
                    effects.push(Effect::Count(Event::PurgeRound));
                }
            }
        }
    }

    fn free_all(&mut self, now: Now, copies: Vec<CopyOf>) {
        for copy in copies {
            self.purges.free(copy, now.mono);
        }
    }

    /// A round has rested: if everybody who joined has lived on since, what was agreed on goes.
    fn begin_drop(&mut self, now: Now, op: OpNumber, effects: &mut Effects) {
        let Some(led) = self.purges.led(op) else {
            return;
        };
        let lives = led.lives.clone();
        let parts = std::mem::take(&mut led.parts);
        let lived_on = |node: &NodeId| {
            let life = self.continuity.life_of(*node).map(|(life, _)| life);
            self.liveness(now, *node) == Liveness::Up
                && life.is_some()
                && life == lives.get(node).copied()
        };
        let goes_on = |part: &Part| {
            part.others.iter().all(lived_on) && self.others_up(now, part.copy).is_ok()
        };
        let (parts, given_up): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(goes_on);
        if !given_up.is_empty() {
            effects.push(Effect::Count(Event::PurgeRoundFailed));
        }
        self.free_all(now, given_up.into_iter().map(|part| part.copy).collect());
        if let Some(led) = self.purges.led(op) {
            led.parts = parts;
        }
        self.ask_round(now, op, PurgeStep::Drop, effects);
    }

    /// A leader asks.
    pub(super) fn peer_purge(
        &mut self,
        now: Now,
        from: NodeId,
        epoch: Epoch,
        ask: PurgeAsk,
        effects: &mut Effects,
    ) {
        let refused = if self.draining {
            Some(Cause::ShuttingDown)
        } else if epoch != self.topology.epoch() {
            Some(Cause::EpochMismatch)
        } else if self.purge_gathers.len() >= GATHERS_MAX {
            Some(Cause::Overloaded)
        } else {
            None
        };
        if let Some(cause) = refused {
            let floor = PurgeNumber::default();
            let reply = PurgeReply {
                op: ask.op,
                step: ask.step,
                result: Err(Refusal { cause, floor }),
            };
            let message = PeerMessage::PurgeReply(reply);
            effects.push(Effect::Send { to: from, message });
            return;
        }
        let keys = ask.rounds.iter().flat_map(|round| {
            let key = |(key, _): &(Bytes, Digest)| RecordKey::new(round.keyspace, round.vnode, key);
            let is_key = |(key, _): &&(Bytes, Digest)| (1..=KEY_BYTES_MAX).contains(&key.len());
            round.keys.iter().filter(is_key).map(key)
        });
        let keys: Vec<RecordKey> = keys.filter(|key| self.holds_key(key)).collect();
        let op = ask.op;
        self.bring_in(now, op, keys, Step::Peer { to: from, ask }, effects);
    }

    /// Whether a key is one of a copy of this node's, in its vnode.
    fn holds_key(&self, key: &RecordKey) -> bool {
        let Some(keyspace) = self.topology.keyspace(key.keyspace()) else {
            return false;
        };
        let vnode = self.topology.locate(keyspace.id, key.user_key()).vnode;
        vnode == key.vnode() && self.topology.is_owner(vnode, keyspace.copies, self.me)
    }

    /// A co-replica answered.
    pub(super) fn peer_purge_reply(
        &mut self,
        now: Now,
        from: NodeId,
        reply: PurgeReply,
        effects: &mut Effects,
    ) {
        let PurgeReply { op, step, result } = reply;
        match result {
            Ok(agreed) => self.round_answered(now, from, op, (step, agreed), effects),
            Err(_) => {
                let waits = |led: &mut Led| {
                    led.phase == Phase::Asking(step) && led.waits_for.contains(from)
                };
                if self.purges.led(op).is_some_and(waits) {
                    effects.push(Effect::Count(Event::PurgeRoundFailed));
                    self.purges.end(op, now.mono);
                }
            }
        }
    }

    /// This node's part in a step: of each round the places of the keys that it agrees on.
    fn take_part(
        &mut self,
        now: Now,
        leader: NodeId,
        step: PurgeStep,
        rounds: &[PurgeRound],
        effects: &mut Effects,
    ) -> Vec<Vec<u16>> {
        let mut agreed = Vec::with_capacity(rounds.len());
        for round in rounds {
            let copy = (round.keyspace, round.vnode);
            if !self.may_take_part(now, leader, step, round) {
                agreed.push(Vec::new());
                continue;
            }
            let keys = (0u16..).zip(&round.keys);
            let holds = |(_, (key, digest)): &(u16, &(Bytes, Digest))| {
                self.purgeable(now, copy, key) == Purgeable::Now(*digest)
            };
            let places: Vec<u16> = keys.filter(holds).map(|(place, _)| place).collect();
            if !places.is_empty() {
                let own = self.purges.numbers(copy);
                match step {
                    PurgeStep::Look => {}
                    PurgeStep::Join => {
                        let number = round.number;
                        self.raise_numbers(copy, PurgeNumbers { number, ..own }, effects);
                        self.purges.join(copy, leader, number, now.mono);
                    }
                    PurgeStep::Drop => {
                        let floor = round.number;
                        self.raise_numbers(copy, PurgeNumbers { floor, ..own }, effects);
                        for place in &places {
                            if let Some((key, _)) = round.keys.get(usize::from(*place)) {
                                self.erase(copy, key, effects);
                            }
                        }
                    }
                }
            }
            agreed.push(places);
        }
        agreed
    }

    fn may_take_part(&self, now: Now, leader: NodeId, step: PurgeStep, round: &PurgeRound) -> bool {
        let copy = (round.keyspace, round.vnode);
        let Some(keyspace) = self.topology.keyspace(round.keyspace) else {
            return false;
        };
        if u32::from(round.vnode.0) >= self.topology.vnode_count().get() {
            return false;
        }
        let owners = self.topology.owners(round.vnode, keyspace.copies);
        let is_placed = owners.first() == Some(&leader) && owners.contains(&self.me);
        let counts = self.counts_for(round.keyspace, keyspace.copies, round.vnode)
            && self.purges.knows(copy)
            && self.table.has_room();
        let fits = match step {
            PurgeStep::Look => true,
            PurgeStep::Join => round.number > self.purges.numbers(copy).number,
            PurgeStep::Drop => self.purges.may_drop(copy, leader, round.number, now.mono),
        };
        is_placed && counts && fits
    }

    /// Whether a key may be purged as far as this node is concerned; it must be in memory.
    fn purgeable(&self, now: Now, (keyspace, vnode): CopyOf, key: &Bytes) -> Purgeable {
        if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
            return Purgeable::NotYet;
        }
        let record_key = RecordKey::new(keyspace, vnode, key);
        let Some(known) = self
            .topology
            .keyspace(keyspace)
            .filter(|_| self.holds_key(&record_key))
        else {
            return Purgeable::NotYet;
        };
        let (Lookup::Known(newest), Lookup::Known(durable)) = (
            self.table.newest(&record_key),
            self.table.durable(&record_key),
        ) else {
            return Purgeable::NotYet;
        };
        if newest != durable {
            return Purgeable::NotYet;
        }
        let Some(record) = durable else {
            return Purgeable::Never;
        };
        let Ok(state) = KeyState::decode_as(known.mode, &record) else {
            return Purgeable::NotYet;
        };
        match state.gone_at() {
            Some(at) if self.is_gone(now, at) => {
                Purgeable::Now(Digest::of(self.digest, record_key.as_bytes(), &record))
            }
            // It expires later: then its vnode is looked through again.
            Some(_) | None => Purgeable::Never,
        }
    }

    /// Takes a record away that is in memory, durable and the key's newest.
    fn erase(&mut self, (keyspace, vnode): CopyOf, key: &Bytes, effects: &mut Effects) {
        let record_key = RecordKey::new(keyspace, vnode, key);
        let Lookup::Known(Some(old)) = self.table.newest(&record_key) else {
            return;
        };
        let mode = self.topology.keyspace(keyspace).map(|known| known.mode);
        let state = mode.and_then(|mode| KeyState::decode_as(mode, &old).ok());
        let held = Held {
            has_value: state.is_some_and(|state| state.has_value()),
            bytes: record_key.as_bytes().len() + old.len(),
        };
        let digest = Digest::of(self.digest, record_key.as_bytes(), &old);
        let change = RecordChange {
            digest: DigestChange::between(Some(digest), None),
            holdings: HoldingsChange::between(Some(held), None),
        };
        let bucket = self.topology.locate(keyspace, key).bucket;
        let lsn = self.table.appended().next();
        self.table
            .append(lsn, &record_key, bucket, change, Bytes::new());
        let entry = Entry::Record {
            key: record_key,
            bucket,
            change,
            record: Bytes::new(),
        };
        effects.push(Effect::Append { lsn, entry });
        effects.push(Effect::Count(Event::Purged));
        self.purges.note_purged((keyspace, vnode), self.counter);
    }
}

/// Whether a key may be purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purgeable {
    /// With this record.
    Now(Digest),
    /// It cannot be told, or its newest state is not durable.
    NotYet,
    /// It is gone already, or has a value.
    Never,
}
