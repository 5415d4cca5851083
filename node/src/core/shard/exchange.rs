//! Anti-entropy: comparing this node's copies with those of co-replicas, and bringing together what
//! differs.
//!
//! Each pair of nodes is compared by one of the two, at an interval, and soon after a connection
//! came up: who was away lacks what hints did not bring. A node begins one exchange at a time. What
//! the pairs' last exchanges found, and how long ago, is published.
//!
//! Not here: the walk (`core::exchange`), the other side of an exchange (`exchange_replica`),
//! exchanges by which a node that forgot comes to count again (`refill`), the gets that heal
//! (`read`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::NodeHash;
use quorate_ring::{KeyspaceId, MonoTime, NodeId, VnodeId};

use super::super::budget::{Kind, RECORD_COST, TREE_COST};
use super::super::continuity::Liveness;
use super::super::effect::{Effect, Effects, Event};
use super::super::exchange::{
    ANSWER_WITHIN, CompareRefused, Compared, ExchangeMachine, Purpose, Step, Tally,
};
use super::super::failure::{Cause, Failure};
use super::super::input::Now;
use super::super::message::{
    ExchangeAnswer, ExchangeAsk, ExchangeReply, ExchangeWanted, OpNumber, PeerMessage, Refusal,
    Reply, RowPage,
};
use super::super::tree_cache::TreeCache;
use super::exchange_replica::Gathering;
use super::read::Asking;
use super::refill::Refill;
use super::{Origin, Shard};

/// A pair is compared so long after a connection came up: what was on its way has arrived.
const AFTER_LINK_UP: Duration = Duration::from_secs(1);

/// Nodes that would all compare themselves with one that came back take turns: what the first one
/// brought, the others need not bring.
const TURN: Duration = Duration::from_secs(2);
const TURNS: usize = 4;

/// Hints bring what a node missed with fewer bytes: its exchanges wait so long for them.
const HINTS_FIRST: Duration = Duration::from_secs(20);

/// A pair whose exchange failed is compared again after this, or after the interval if less.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Comparisons that operators asked for and that wait.
const ASKED_MAX: usize = 4;

/// Vnodes of one answer to an operator.
const VNODES_PER_ANSWER: usize = 256;

/// Time for the get that heals a key.
const HEAL_WITHIN: Duration = Duration::from_secs(2);

/// After this time an exchange ends with the vnode that it is at, however much is left, so that
/// other pairs have their turn. Not within a vnode: its rows would be read from the beginning the
/// next time, and with little in the budget no turn would ever come to their end. A vnode in which
/// nothing moves for as long ends it too, and so does the longest turn, whatever a peer makes of
/// its rows.
const TURN_MAX: Duration = Duration::from_secs(60);

/// However large a vnode is: at the budget's floor alone some GiB were read by then.
const TURN_LONGEST: Duration = Duration::from_secs(1_800);

/// The same for one that an operator asked for: before the SDK stops waiting.
const ASKED_WITHIN: Duration = Duration::from_secs(240);

/// What a shard knows of exchanges.
#[derive(Debug)]
pub(super) struct Exchanges {
    /// How often a pair is compared; `None` = never by itself.
    interval: Option<Duration>,
    /// The nodes with which this one begins exchanges.
    pairs: BTreeMap<NodeId, Pair>,
    pub(super) current: Option<Exchange>,
    /// Comparisons that operators asked for; they come first.
    asked: VecDeque<Asked>,
    pub(super) trees: TreeCache,
    /// When owners are asked again that could not give this node back what it forgot.
    pub(super) refills_due: BTreeMap<NodeId, MonoTime>,
    /// Rows that are read on once the budget lets them.
    pub(super) gatherings: VecDeque<Gathering>,
    /// The peer that last asked for rows, and when.
    pub(super) rows_told: Option<(NodeId, MonoTime)>,
}

/// A comparison that an operator asked for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    number: u64,
    peer: NodeId,
    purpose: Purpose,
    first: VnodeId,
}

#[derive(Debug)]
struct Pair {
    due: MonoTime,
    /// When the last exchange that was completed began, and what it found.
    last: Option<(MonoTime, Tally)>,
}

#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) peer: NodeId,
    op: OpNumber,
    ask: u32,
    began: MonoTime,
    pub(super) machine: ExchangeMachine,
    /// What it gives back to this node, which forgot it.
    pub(super) refill: Option<Refill>,
    /// Who asked for it, and the vnode that follows; `None` if it was due.
    asked: Option<(u64, Option<VnodeId>)>,
}

/// How a pair of co-replicas stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairStatus {
    /// The other node.
    pub peer: NodeId,
    /// How long ago the last completed exchange began, in milliseconds.
    pub age_ms: Option<u64>,
    /// What it found.
    pub found: Tally,
}

impl Exchanges {
    /// Nothing was compared yet.
    pub(super) fn new(
        now: MonoTime,
        interval: Option<Duration>,
        me: NodeId,
        others: impl Iterator<Item = NodeId>,
    ) -> Self {
        let pair = |peer| {
            let due = interval.map_or(now, |interval| now + interval);
            (peer, Pair { due, last: None })
        };
        Self {
            interval,
            pairs: others
                .filter(|peer| interval.is_some() && begins(me, *peer))
                .map(pair)
                .collect(),
            current: None,
            asked: VecDeque::new(),
            trees: TreeCache::default(),
            refills_due: BTreeMap::new(),
            gatherings: VecDeque::new(),
            rows_told: None,
        }
    }

    /// How the pairs stand that this node compares.
    pub(super) fn status(&self, now: MonoTime) -> Vec<PairStatus> {
        let of = |(peer, pair): (&NodeId, &Pair)| PairStatus {
            peer: *peer,
            age_ms: pair
                .last
                .map(|(began, _)| u64::try_from(now.since(began).as_millis()).unwrap_or(u64::MAX)),
            found: pair.last.map(|(_, tally)| tally).unwrap_or_default(),
        };
        self.pairs.iter().map(of).collect()
    }

    /// Whether that is the question whose answer is awaited, of `peer` if one is named.
    pub(super) fn is_current(&self, peer: Option<NodeId>, op: OpNumber, ask: u32) -> bool {
        self.current.as_ref().is_some_and(|current| {
            let is_peer = peer.is_none_or(|peer| peer == current.peer);
            is_peer && current.op == op && current.ask == ask && current.machine.is_waiting()
        })
    }

    /// The pair with `peer` is not due before this.
    pub(super) fn put_off(&mut self, peer: NodeId, until: MonoTime) {
        if let Some(pair) = self.pairs.get_mut(&peer) {
            pair.due = pair.due.max(until);
        }
    }

    /// Rows cannot be told now: the answers to the present question are not wanted any more.
    fn postpone(&mut self, now: MonoTime) {
        if let Some(current) = &mut self.current {
            current.machine.postpone_rows(now);
            current.ask += 1;
        }
    }
}

/// Which of two nodes begins their exchanges: every node does with about half of the others.
const fn begins(me: NodeId, peer: NodeId) -> bool {
    let is_lower = me.0 < peer.0;
    if (me.0 ^ peer.0) & 1 == 0 {
        is_lower
    } else {
        !is_lower
    }
}

impl Shard {
    /// A connection to a node came up.
    pub(super) fn exchange_soon(&mut self, now: MonoTime, peer: NodeId) {
        let nodes = self.topology.nodes().iter();
        let turn = nodes.filter(|node| node.id < self.me).count() % TURNS;
        let soon = now + AFTER_LINK_UP + TURN * u32::try_from(turn).unwrap_or(0);
        if let Some(pair) = self.exchanges.pairs.get_mut(&peer) {
            pair.due = pair.due.min(soon);
        }
    }

    /// Begins what is due, ends what is late.
    pub(super) fn tick_exchanges(&mut self, now: Now, effects: &mut Effects) {
        self.gather_on(now, effects);
        if self.draining {
            return self.drop_exchanges(now, effects);
        }
        if let Some(current) = &self.exchanges.current {
            let took = now.mono.since(current.began);
            let stands_for = match current.machine.stands_in_a_vnode_since() {
                Some(since) => now.mono.since(since),
                None => took,
            };
            let is_over = match current.asked {
                Some(_) => took >= ASKED_WITHIN,
                None => took >= TURN_LONGEST || took >= TURN_MAX && stands_for >= TURN_MAX,
            };
            if self.liveness(now, current.peer) != Liveness::Up {
                return self.fail_exchange(now, CompareRefused::NotUp, effects);
            }
            if is_over || current.machine.is_late(now.mono) {
                return self.fail_exchange(now, CompareRefused::Late, effects);
            }
            if current.machine.fails() || !self.is_refill_sound() {
                return self.fail_exchange(now, CompareRefused::Failed, effects);
            }
            return self.go_on(now, effects);
        }
        if let Some(asked) = self.exchanges.asked.pop_front() {
            return self.begin_asked(now, asked, effects);
        }
        // What is merged must be kept.
        if self.disk_full || self.begin_refill(now, effects) || self.exchanges.interval.is_none() {
            return;
        }
        let due = self.exchanges.pairs.iter();
        let due = due.filter(|(peer, pair)| {
            let wait = if self.hints.wait_for(**peer) {
                HINTS_FIRST
            } else {
                Duration::ZERO
            };
            pair.due + wait <= now.mono && self.liveness(now, **peer) == Liveness::Up
        });
        let next = due.min_by_key(|(_, pair)| pair.due).map(|(peer, _)| *peer);
        if let Some(peer) = next {
            let vnodes = self.vnodes_with(peer, VnodeId(0), usize::MAX).0;
            let machine = ExchangeMachine::new(Purpose::Heal, vnodes);
            self.begin_exchange(now, peer, machine, None, None, effects);
        }
    }

    /// An operator asks for a comparison.
    pub(super) fn compare(
        &mut self,
        now: Now,
        (number, peer): (u64, NodeId),
        (purpose, first): (Purpose, VnodeId),
        effects: &mut Effects,
    ) {
        if self.draining || self.exchanges.asked.len() >= ASKED_MAX {
            let result = Err(CompareRefused::Busy);
            effects.push(Effect::Compared { number, result });
            return;
        }
        self.exchanges.asked.push_back(Asked {
            number,
            peer,
            purpose,
            first,
        });
        self.tick_exchanges(now, effects);
    }

    /// The node stops: ends what it began and answers who waits.
    fn drop_exchanges(&mut self, now: Now, effects: &mut Effects) {
        self.fail_exchange(now, CompareRefused::Busy, effects);
        for Asked { number, .. } in std::mem::take(&mut self.exchanges.asked) {
            let result = Err(CompareRefused::Busy);
            effects.push(Effect::Compared { number, result });
        }
    }

    fn begin_asked(&mut self, now: Now, asked: Asked, effects: &mut Effects) {
        let Asked {
            number,
            peer,
            purpose,
            first,
        } = asked;
        if peer == self.me || self.liveness(now, peer) != Liveness::Up {
            let result = Err(CompareRefused::NotUp);
            effects.push(Effect::Compared { number, result });
            return;
        }
        let (vnodes, next) = self.vnodes_with(peer, first, VNODES_PER_ANSWER);
        let machine = ExchangeMachine::new(purpose, vnodes);
        self.begin_exchange(now, peer, machine, Some((number, next)), None, effects);
    }

    pub(super) fn begin_exchange(
        &mut self,
        now: Now,
        peer: NodeId,
        machine: ExchangeMachine,
        asked: Option<(u64, Option<VnodeId>)>,
        refill: Option<Refill>,
        effects: &mut Effects,
    ) {
        let exchange = Exchange {
            peer,
            op: self.next_number(),
            ask: 0,
            began: now.mono,
            machine,
            refill,
            asked,
        };
        self.exchanges.current = Some(exchange);
        self.go_on(now, effects);
    }

    /// Every (keyspace, vnode) of which this node and `peer` both have a copy, from `first` on in
    /// at most so many vnodes; and the vnode that follows.
    fn vnodes_with(
        &self,
        peer: NodeId,
        first: VnodeId,
        most: usize,
    ) -> (Vec<(KeyspaceId, VnodeId)>, Option<VnodeId>) {
        let mut common = Vec::new();
        let vnodes = self.topology.vnode_count().vnodes();
        let mut vnodes = vnodes.skip_while(|vnode| *vnode < first);
        for vnode in vnodes.by_ref().take(most) {
            for keyspace in self.topology.keyspaces() {
                let owns = |node| self.topology.is_owner(vnode, keyspace.copies, node);
                if owns(self.me) && owns(peer) {
                    common.push((keyspace.id, vnode));
                }
            }
        }
        (common, vnodes.next())
    }

    /// Carries out what the exchange wants now, if the budget lets it; else it waits for the next
    /// tick.
    fn go_on(&mut self, now: Now, effects: &mut Effects) {
        if !self.table.has_room() {
            // What a key's copies come to could not be kept: the engine is being fed.
            return;
        }
        let kind = self.exchange_kind();
        if self.exchanges.current.is_none() || !self.budget.may(now.mono, kind) {
            return;
        }
        let mut steps = Vec::new();
        if let Some(current) = &mut self.exchanges.current {
            let bytes = self.budget.left(kind);
            current.machine.go_on(now.mono, bytes, &mut steps);
        }
        self.perform_exchange(now, steps, effects);
    }

    /// What the exchange under way is for.
    pub(super) fn exchange_kind(&self) -> Kind {
        match &self.exchanges.current {
            Some(current) if current.refill.is_some() => Kind::Refill,
            Some(_) | None => Kind::Exchange,
        }
    }

    fn perform_exchange(&mut self, now: Now, steps: Vec<Step>, effects: &mut Effects) {
        for step in steps {
            match step {
                Step::Standing => {
                    self.ask_exchange(ExchangeWanted::Standing, effects);
                }
                Step::Trees(questions) => {
                    let cost = TREE_COST * questions.len() as u64;
                    self.budget.charge(now.mono, self.exchange_kind(), cost);
                    self.ask_exchange(ExchangeWanted::Trees(questions), effects);
                }
                Step::Rows(question) => {
                    let Some((op, ask)) =
                        self.ask_exchange(ExchangeWanted::Rows(question.clone()), effects)
                    else {
                        continue;
                    };
                    let me = self.me;
                    let reader = (me, ANSWER_WITHIN);
                    let read = self.read_rows_of(now, reader, (op, ask), question, effects);
                    match read {
                        Ok(()) => {}
                        Err(Cause::Overloaded) => self.exchanges.postpone(now.mono),
                        Err(_) => self.fail_exchange(now, CompareRefused::Failed, effects),
                    }
                }
                Step::Heal(keyspace, key, bytes) => {
                    // Looked up here and there, and brought to whoever lacks it.
                    let cost = 2 * RECORD_COST + bytes;
                    self.budget.charge(now.mono, self.exchange_kind(), cost);
                    self.heal(now, keyspace, &key, effects);
                }
                Step::Filled(keyspace, vnode) => self.filled((keyspace, vnode), effects),
                Step::End(tally) => self.end_exchange(now, tally, effects),
            }
        }
    }

    fn ask_exchange(
        &mut self,
        wanted: ExchangeWanted,
        effects: &mut Effects,
    ) -> Option<(OpNumber, u32)> {
        let current = self.exchanges.current.as_mut()?;
        current.ask += 1;
        let (op, ask) = (current.op, current.ask);
        let message = PeerMessage::Exchange(ExchangeAsk {
            op,
            ask,
            wanted,
            budget: ANSWER_WITHIN,
        });
        let to = current.peer;
        effects.push(Effect::Send { to, message });
        Some((op, ask))
    }

    pub(super) fn rows_read(
        &mut self,
        now: Now,
        is_own: bool,
        page: RowPage,
        effects: &mut Effects,
    ) {
        let read = match &mut self.exchanges.current {
            Some(current) => current.machine.rows_read(is_own, page),
            None => Ok(()),
        };
        match read {
            Ok(()) => self.go_on(now, effects),
            Err(_) => self.refuse_answer(now, effects),
        }
    }

    /// Reads a key from all owners that are up, which brings them together.
    fn heal(&mut self, now: Now, keyspace: KeyspaceId, key: &Bytes, effects: &mut Effects) {
        let (Some(current), Some(keyspace)) =
            (&self.exchanges.current, self.topology.keyspace(keyspace))
        else {
            return;
        };
        let origin = Origin::Exchange { op: current.op };
        let place = self.place(keyspace, key);
        let owners = self.owners(&place);
        let up = owners
            .iter()
            .filter(|node| self.liveness(now, **node) == Liveness::Up);
        // What others lack too must not keep this node from counting.
        let only = current.refill.as_ref().map(|_| current.peer);
        let up = up.filter(|node| only.is_none_or(|only| **node == self.me || **node == only));
        let copies = u8::try_from(up.count()).unwrap_or(u8::MAX);
        if copies < 2 {
            // The peer has just gone: the next tick ends the exchange.
            let gone = Reply::Failed(Failure::refused(Cause::Unavailable));
            return self.own_replies.push_back((origin, gone));
        }
        let asking = Asking {
            origin,
            deadline: now.mono + HEAL_WITHIN,
            place,
        };
        self.compare_copies(now, asking, (copies, only), effects);
    }

    /// The get of a key that differed has ended.
    pub(super) fn key_healed(
        &mut self,
        now: Now,
        op: OpNumber,
        reply: &Reply,
        effects: &mut Effects,
    ) {
        let is_healed = matches!(reply, Reply::Read { .. });
        let event = if is_healed {
            Event::ExchangeHealed
        } else {
            Event::ExchangeHealFailed
        };
        effects.push(Effect::Count(event));
        if let Some(current) = self.exchanges.current.as_mut().filter(|c| c.op == op) {
            current.machine.healed(is_healed);
            self.go_on(now, effects);
        }
    }

    fn end_exchange(&mut self, now: Now, tally: Tally, effects: &mut Effects) {
        let Some(Exchange {
            peer,
            began,
            asked,
            refill,
            ..
        }) = self.exchanges.current.take()
        else {
            return;
        };
        effects.push(Effect::Count(Event::ExchangeDone));
        if refill.is_some() {
            return self.refill_ended(now.mono, peer);
        }
        if let Some((number, next)) = asked {
            let result = Ok(Compared { tally, next });
            effects.push(Effect::Compared { number, result });
            return;
        }
        let rest = self.exchanges.interval.unwrap_or(AFTER_FAILURE);
        if let Some(pair) = self.exchanges.pairs.get_mut(&peer) {
            // What could not be healed is looked at again soon.
            let is_whole = tally.failed == 0;
            if is_whole {
                pair.last = Some((began, tally));
            }
            pair.due = now.mono
                + if is_whole {
                    rest
                } else {
                    rest.min(AFTER_FAILURE)
                };
        }
    }

    fn fail_exchange(&mut self, now: Now, why: CompareRefused, effects: &mut Effects) {
        let current = self.exchanges.current.take();
        let Some(Exchange {
            peer,
            asked,
            refill,
            ..
        }) = current
        else {
            return;
        };
        effects.push(Effect::Count(Event::ExchangeFailed));
        if refill.is_some() {
            return self.refill_ended(now.mono, peer);
        }
        if let Some((number, _)) = asked {
            let result = Err(why);
            effects.push(Effect::Compared { number, result });
            return;
        }
        let rest = self.exchanges.interval.unwrap_or(AFTER_FAILURE);
        if let Some(pair) = self.exchanges.pairs.get_mut(&peer) {
            pair.due = now.mono + rest.min(AFTER_FAILURE);
        }
    }

    /// The peer's answer is none to the question.
    fn refuse_answer(&mut self, now: Now, effects: &mut Effects) {
        effects.push(Effect::Count(Event::PeerMessageRefused));
        self.fail_exchange(now, CompareRefused::Failed, effects);
    }

    /// The other side of an exchange answered.
    pub(super) fn peer_exchange_reply(
        &mut self,
        now: Now,
        from: NodeId,
        reply: ExchangeReply,
        effects: &mut Effects,
    ) {
        let ExchangeReply { op, ask, result } = reply;
        // Frames may come late, and twice.
        if !self.exchanges.is_current(Some(from), op, ask) {
            return;
        }
        let current = self.exchanges.current.as_ref();
        match result {
            Ok(ExchangeAnswer::Trees(told)) => self.trees_told(now, &told, effects),
            Ok(ExchangeAnswer::Standing(standing)) => {
                self.inherit_numbers(from, &standing, effects);
                let current = self.exchanges.current.as_mut();
                match current.map(|current| current.machine.standing_told(standing)) {
                    Some(Ok(())) if self.is_refill_sound() => self.go_on(now, effects),
                    Some(Ok(())) => self.fail_exchange(now, CompareRefused::Failed, effects),
                    Some(Err(_)) | None => self.refuse_answer(now, effects),
                }
            }
            Ok(ExchangeAnswer::Rows(page)) => {
                let question = current.and_then(|current| current.machine.row_question());
                let fits = question.is_some_and(|question| {
                    page.answers(question, |key| {
                        let location = self.topology.locate(question.keyspace, key);
                        (location.vnode, location.bucket)
                    })
                });
                if fits {
                    self.rows_read(now, false, page, effects);
                } else {
                    self.refuse_answer(now, effects);
                }
            }
            Err(Refusal {
                cause: Cause::Overloaded,
                ..
            }) => match &self.exchanges.current {
                Some(current) if current.machine.row_question().is_some() => {
                    self.exchanges.postpone(now.mono);
                }
                Some(_) | None => self.fail_exchange(now, CompareRefused::Failed, effects),
            },
            Err(_) => self.fail_exchange(now, CompareRefused::Failed, effects),
        }
    }

    fn trees_told(&mut self, now: Now, told: &[Vec<NodeHash>], effects: &mut Effects) {
        let current = self.exchanges.current.as_ref();
        let questions = current.map(|current| current.machine.tree_questions());
        let held = self.answer_trees(&questions.unwrap_or_default());
        let (Ok(held), Some(current)) = (held, &mut self.exchanges.current) else {
            return self.fail_exchange(now, CompareRefused::Failed, effects);
        };
        match current.machine.trees_told(now.mono, &held, told) {
            Ok(()) => self.go_on(now, effects),
            Err(_) => self.refuse_answer(now, effects),
        }
    }
}
