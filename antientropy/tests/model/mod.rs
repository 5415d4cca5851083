//! One key, three primaries and a fallback, against an explicit causal history.
//!
//! Every operation has the set of operations that its client had seen. Steps are drawn by
//! proptest; each node has a newest and a durable state, frames leave before the sync, and may be
//! lost, doubled and reordered. Nothing here looks at dots to know what happened before what.
//!
//! Where records are pruned every node has a number and a floor, as in `node::core::purge`, and
//! every frame the number under which it was read; a frame below the floor changes nothing.
#![allow(dead_code, unreachable_pub, reason = "each test target uses a part")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{
    Attempt, AttemptVerdict, Context, Dot, Minting, OpId, Prunable, Put, PutApplied, Record,
    SeenOps,
};
use quorate_ring::{Actor, Incarnation, NodeId};

pub const PRIMARIES: usize = 3;
pub const FALLBACK: usize = 3;
const W: usize = 2;

pub type Step = (u8, u8, u8, u8);
pub type OpIndex = usize;
type AttemptIndex = usize;

pub fn op_id(op: OpIndex) -> OpId {
    // Spread, so that the order of ids is not the order of operations.
    let mixed = (op as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    OpId(mixed.to_be_bytes())
}

pub fn actor(node: u32, incarnation: u64) -> Actor {
    Actor {
        node: NodeId(node),
        incarnation: Incarnation(incarnation),
    }
}

pub fn dot(node: u32, counter: u64) -> Dot {
    Dot {
        actor: actor(node, 1),
        counter,
    }
}

/// A blind first attempt by a primary, to be changed with struct update syntax.
pub fn put(op: OpIndex, dot: Dot) -> Put {
    Put {
        op_id: op_id(op),
        attempt: Attempt::First,
        value: Some(Bytes::from(format!("v{op}"))),
        context: None,
        dot,
        minting: Minting::Primary,
        timestamp: 1_000 + op as u64,
        expiry: None,
        seen: SeenOps::new(),
        now_wall: Some(0),
    }
}

pub fn live(record: &Record) -> BTreeSet<OpId> {
    record
        .siblings()
        .iter()
        .map(|sibling| sibling.op_id())
        .collect()
}

pub fn ops(list: &[OpIndex]) -> BTreeSet<OpId> {
    list.iter().map(|op| op_id(*op)).collect()
}

#[derive(Debug, Clone)]
struct Node {
    newest: Record,
    durable: Record,
    incarnation: u64,
    counter: u64,
    /// Attempts to be acknowledged by the next sync.
    unsynced: BTreeSet<AttemptIndex>,
    /// Of the newest round that it joined; durable before it is told.
    number: u64,
    /// Of the newest round in which it left something out; and the durable one.
    floor: u64,
    durable_floor: u64,
    /// What it left out, and leaves out of what comes.
    left_out: Prunable,
}

/// A round of all primaries under way.
#[derive(Debug, Clone)]
struct Round {
    number: u64,
    pruned: Prunable,
    /// Who has still to leave it out.
    waits_for: BTreeSet<usize>,
}

/// What becomes of records that are crowded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pruning {
    /// They stay.
    Never,
    /// All primaries agree on what is left out, in numbered rounds.
    InRounds,
    /// P7, P12: each primary leaves out what it need not remember itself.
    ByThemselves,
}

/// What a client's token tells.
#[derive(Debug, Clone)]
struct Token {
    context: Context,
    /// Of a context that a record on a majority knows, no operations are told: who comes after it
    /// and does not know it reads a majority first.
    ops: SeenOps,
    is_held: bool,
}

impl Token {
    fn held(context: Context) -> Self {
        Self {
            context,
            ops: SeenOps::new(),
            is_held: true,
        }
    }
}

#[derive(Debug, Clone)]
struct Op {
    token: Option<Token>,
    past: BTreeSet<OpIndex>,
    first_attempt: u64,
    dots: usize,
}

/// One attempt: its acknowledgements are of the record that it replicated.
#[derive(Debug, Clone)]
struct Tried {
    op: OpIndex,
    acks: BTreeSet<usize>,
    reply: Option<Token>,
    /// Whether the reply covers the operation itself: not if it was superseded already, for then
    /// the coordinator no longer knows its dots.
    reply_covers_op: bool,
}

/// What may happen beside the usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// Reads of one replica, whose answer may be on that replica alone.
    ReadsAtOne,
    /// A replica loses its record. Not together with reads at one: a dot that a client read there
    /// may then be on no disk at all, and nobody can know which operation it was of.
    Damage,
}

#[derive(Debug, Clone)]
pub struct World {
    extra: Extra,
    pruning: Pruning,
    round: Option<Round>,
    rounds: u64,
    nodes: Vec<Node>,
    /// To whom, what, under which number it was read, of which attempt.
    frames: Vec<(usize, Record, u64, Option<AttemptIndex>)>,
    ops: Vec<Op>,
    attempts: Vec<Tried>,
    acked: BTreeSet<OpIndex>,
    /// Tokens that clients hold, with what they have seen.
    clients: Vec<(Token, BTreeSet<OpIndex>)>,
    time: u64,
    incarnations: u64,
    /// States that were reached, for the laws.
    pub reached: Vec<Record>,
    /// What took effect, so that a test can see that it tests something.
    pub seen: BTreeMap<&'static str, usize>,
}

impl World {
    pub fn new(extra: Extra) -> Self {
        let node = |index: usize| Node {
            newest: Record::default(),
            durable: Record::default(),
            incarnation: index as u64 + 1,
            counter: 0,
            unsynced: BTreeSet::new(),
            number: 0,
            floor: 0,
            durable_floor: 0,
            left_out: Prunable::default(),
        };
        Self {
            extra,
            pruning: Pruning::Never,
            round: None,
            rounds: 0,
            nodes: (0..=FALLBACK).map(node).collect(),
            frames: Vec::new(),
            ops: Vec::new(),
            attempts: Vec::new(),
            acked: BTreeSet::new(),
            clients: Vec::new(),
            time: 1_000_000,
            incarnations: 100,
            reached: vec![Record::default()],
            seen: BTreeMap::new(),
        }
    }

    /// The same in which records are pruned.
    pub fn with_pruning(extra: Extra, pruning: Pruning) -> Self {
        Self {
            pruning,
            ..Self::new(extra)
        }
    }

    pub fn run(extra: Extra, steps: &[Step]) -> Self {
        let mut world = Self::new(extra);
        for step in steps {
            world.step(*step);
        }
        world
    }

    fn note(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub fn step(&mut self, (kind, a, b, c): Step) {
        self.time += 1 + u64::from(c);
        let primary = usize::from(a) % PRIMARIES;
        let kinds = match self.pruning {
            Pruning::Never => 16,
            Pruning::InRounds | Pruning::ByThemselves => 20,
        };
        match kind % kinds {
            16 if self.pruning == Pruning::ByThemselves => self.prune_alone(primary),
            16 if self.round.is_none() => self.begin_round(primary),
            16..=19 => self.leave_out(primary),
            0 | 1 => self.new_op(usize::from(a) % (FALLBACK + 1), b, c),
            2 => self.new_op(primary, b, c),
            3 | 4 if !self.ops.is_empty() => {
                // Retries and hedges: mostly of recent operations.
                let back = usize::from(b) % self.ops.len().min(6);
                let op = self.ops.len() - 1 - back;
                self.attempt(usize::from(a) % (FALLBACK + 1), op, Attempt::Later);
            }
            5..=7 if !self.frames.is_empty() => {
                let at = usize::from(a) * 7 % self.frames.len();
                let (to, record, number, op) = self.frames.swap_remove(at);
                if b.is_multiple_of(8) {
                    self.frames.push((to, record.clone(), number, op));
                }
                if b % 5 == 1 {
                    self.note("frame lost");
                } else {
                    self.deliver(to, &record, number, op);
                }
            }
            8..=10 => self.sync(primary),
            11 => {
                let other = usize::from(b) % PRIMARIES;
                if primary != other || self.extra == Extra::ReadsAtOne {
                    self.read(primary, other);
                }
            }
            12 => self.crash(primary),
            13 if c.is_multiple_of(4) && self.extra == Extra::Damage => self.damage(primary),
            14 => {
                let other = usize::from(b) % PRIMARIES;
                let Node { newest, number, .. } = self.nodes[other].clone();
                self.deliver(primary, &newest, number, None);
            }
            15 => self.hand_over(primary),
            _ => self.sync(primary),
        }
    }

    fn new_op(&mut self, node: usize, b: u8, c: u8) {
        let client = if b.is_multiple_of(4) || self.clients.is_empty() {
            None
        } else {
            // Mostly a recent context.
            let back = usize::from(c) % self.clients.len().min(5);
            Some(self.clients[self.clients.len() - 1 - back].clone())
        };
        let (token, past) = client.map_or((None, BTreeSet::new()), |(t, p)| (Some(t), p));
        self.ops.push(Op {
            token,
            past,
            first_attempt: self.time,
            dots: 0,
        });
        // A first attempt may be lost on its way: then the retry is what arrives.
        if b % 16 != 15 {
            self.attempt(node, self.ops.len() - 1, Attempt::First);
        }
    }

    fn attempt(&mut self, node: usize, op: OpIndex, attempt: Attempt) {
        let age = Duration::from_micros(self.time - self.ops[op].first_attempt);
        let verdict = |world: &Self| {
            let held = &world.nodes[node].newest;
            held.attempt_verdict(world.time, op_id(op), age)
        };
        // A known operation is a duplicate, whatever its token names.
        if verdict(self) == AttemptVerdict::Fresh
            && let Some(token) = self.ops[op].token.clone().filter(|token| token.is_held)
        {
            self.look_further(node, &token.context);
        }
        let found = verdict(self);
        let held = &self.nodes[node].newest;
        let reply = match found {
            AttemptVerdict::TooOld => return self.note("too old"),
            AttemptVerdict::Duplicate => {
                *self.seen.entry("duplicate").or_default() += 1;
                if let Some(noted) = held.note_duplicate(op_id(op), attempt) {
                    self.nodes[node].newest = noted;
                }
                let client = self.ops[op].token.clone().map(|token| token.context);
                self.nodes[node]
                    .newest
                    .duplicate_reply_context(op_id(op), client)
            }
            AttemptVerdict::Fresh => self.mint(node, op, attempt),
        };
        // It is handed out once W replicas have acknowledged.
        let reply = reply.map(Token::held);
        let tried = self.attempts.len();
        let reply_covers_op = self.nodes[node].newest.sibling(op_id(op)).is_some();
        self.attempts.push(Tried {
            op,
            acks: BTreeSet::new(),
            reply,
            reply_covers_op,
        });

        self.reached.push(self.nodes[node].newest.clone());
        self.nodes[node].unsynced.insert(tried);

        let Node { newest, number, .. } = self.nodes[node].clone();
        for to in (0..PRIMARIES).filter(|to| *to != node) {
            self.frames.push((to, newest.clone(), number, Some(tried)));
        }
    }

    /// What a majority of the primaries holds durably, whichever it is, knows what a quorum read
    /// showed or a quorum write made.
    fn look_further(&mut self, node: usize, context: &Context) {
        if self.nodes[node].newest.context().covers_context(context) {
            return;
        }
        self.note("looked further");
        let silent = usize::try_from(self.time).expect("small") % PRIMARIES;
        let asked = (0..PRIMARIES).filter(|primary| *primary != silent);
        let number = asked.clone().map(|primary| self.nodes[primary].number);
        let number = number.min().unwrap_or(0);
        let found = asked.fold(Record::default(), |found, primary| {
            found.merged(&self.nodes[primary].durable)
        });
        let known = if self.rounds == 0 {
            found.context().clone()
        } else {
            // What is not known any more of an ended life was pruned.
            let pruned = context.part_of(|actor| self.has_ended(actor));
            found.context().join(&pruned)
        };
        assert!(
            known.covers_context(context),
            "a majority does not know what a majority held"
        );
        self.deliver(node, &found, number, None);
    }

    fn mint(&mut self, node: usize, op: OpIndex, attempt: Attempt) -> Option<Context> {
        let state = &mut self.nodes[node];
        state.counter += 1 + (op as u64 % 3);
        let minted = Dot {
            actor: actor(u32::try_from(node).expect("four nodes"), state.incarnation),
            counter: state.counter,
        };
        let minting = if node == FALLBACK {
            Minting::Fallback
        } else {
            Minting::Primary
        };
        let token = self.ops[op].token.clone();
        let put = Put {
            attempt,
            context: token.as_ref().map(|token| token.context.clone()),
            seen: token.map_or(SeenOps::new(), |token| token.ops),
            minting,
            timestamp: self.time,
            value: (op % 5 != 4).then(|| Bytes::from(format!("v{op}"))),
            ..put(op, minted)
        };
        let PutApplied {
            record,
            reply_context,
        } = state.newest.put(put).expect("a fresh put");
        // What lets a replica that holds the same take the new record unmerged.
        assert_eq!(state.newest.merged(&record), record);
        state.newest = record;

        self.ops[op].dots += 1;
        if self.ops[op].dots == 2 {
            self.note("twin minted");
        }
        reply_context
    }

    fn deliver(&mut self, to: usize, record: &Record, number: u64, attempt: Option<AttemptIndex>) {
        self.reached.push(record.clone());
        let node = &self.nodes[to];
        if number < node.floor && !node.newest.holds_all_of(record) {
            return self.note("refused");
        }
        let mut record = record.clone();
        record.prune(&node.left_out);
        let merged = node.newest.merged(&record);
        self.nodes[to].newest = merged;
        self.nodes[to].unsynced.extend(attempt);
        self.reached.push(self.nodes[to].newest.clone());
    }

    fn sync(&mut self, node: usize) {
        self.nodes[node].durable = self.nodes[node].newest.clone();
        self.nodes[node].durable_floor = self.nodes[node].floor;
        for attempt in std::mem::take(&mut self.nodes[node].unsynced) {
            let tried = &mut self.attempts[attempt];
            tried.acks.insert(node);
            if tried.acks.len() < W {
                continue;
            }
            self.acked.insert(tried.op);
            if let Some(reply) = tried.reply.take() {
                let mut seen = self.ops[tried.op].past.clone();
                if tried.reply_covers_op {
                    seen.insert(tried.op);
                }
                self.clients.push((reply, seen));
                self.note("acked");
            }
        }
    }

    /// At two nodes: what was read is durably on both before the answer. At one: as it is.
    fn read(&mut self, node: usize, other: usize) {
        let numbers = [node, other].map(|replica| self.nodes[replica].number);
        let floors = [node, other].map(|replica| self.nodes[replica].floor);
        let (number, floor) = (numbers[0].min(numbers[1]), floors[0].max(floors[1]));
        if number < floor {
            // One is below the other's floor: it is asked again.
            return;
        }
        let merged = self.nodes[node].durable.merged(&self.nodes[other].durable);
        if node != other {
            for replica in [node, other] {
                self.deliver(replica, &merged, number, None);
                if self.pruning == Pruning::Never {
                    self.nodes[replica].durable = self.nodes[replica].durable.merged(&merged);
                } else {
                    // A log has no state that is durable without what came before it: the floor.
                    self.sync(replica);
                }
            }
        }
        let shown = live(&merged);
        let mut seen = BTreeSet::new();
        for (op, state) in self.ops.iter().enumerate() {
            if shown.contains(&op_id(op)) {
                seen.insert(op);
                seen.extend(&state.past);
            }
        }
        let token = if node == other {
            Token {
                context: merged.context().clone(),
                ops: merged.seen_ops(),
                is_held: false,
            }
        } else {
            Token::held(merged.context().clone())
        };
        self.clients.push((token, seen));
        self.note("read");
    }

    fn has_ended(&self, actor: Actor) -> bool {
        let node = usize::try_from(actor.node.0).expect("four nodes");
        self.nodes[node].incarnation != actor.incarnation.0
    }

    /// All primaries join a round about what `leader` need not remember.
    fn begin_round(&mut self, leader: usize) {
        let record = &self.nodes[leader].newest;
        let pruned = record.prunable(|actor| self.has_ended(actor));
        let remembers = |node: &Node| node.newest.remembers(&pruned);
        if pruned.is_empty() || !self.nodes.iter().take(PRIMARIES).all(remembers) {
            return;
        }
        self.rounds += 1;
        for primary in 0..PRIMARIES {
            self.sync(primary);
            self.nodes[primary].number = self.rounds;
        }
        self.round = Some(Round {
            number: self.rounds,
            pruned,
            waits_for: (0..PRIMARIES).collect(),
        });
        // Nothing is left out before every attempt is too old to be tried.
        self.time += 60_000_000;
        self.note("joined");
    }

    /// One primary does what it has joined for.
    fn leave_out(&mut self, primary: usize) {
        let Some(round) = &mut self.round else { return };
        if !round.waits_for.remove(&primary) {
            return;
        }
        let state = &mut self.nodes[primary];
        state.floor = round.number;
        state.newest.prune(&round.pruned);
        state.left_out = round.pruned.clone();
        if round.waits_for.is_empty() {
            self.round = None;
            self.note("pruned");
        }
        self.reached.push(self.nodes[primary].newest.clone());
    }

    fn prune_alone(&mut self, primary: usize) {
        let record = &self.nodes[primary].newest;
        let pruned = record.prunable(|actor| self.has_ended(actor));
        self.nodes[primary].newest.prune(&pruned);
    }

    fn crash(&mut self, node: usize) {
        self.incarnations += 1;
        if self
            .round
            .as_ref()
            .is_some_and(|r| r.waits_for.contains(&node))
        {
            self.round = None;
        }
        let state = &mut self.nodes[node];
        state.left_out = Prunable::default();
        state.floor = state.durable_floor;
        state.newest = state.durable.clone();
        state.incarnation = self.incarnations;
        state.counter = 0;
        state.unsynced.clear();
        self.note("crash");
    }

    /// The record is lost while the node runs, and filled from what the others have durably.
    fn damage(&mut self, node: usize) {
        let others = (0..PRIMARIES).filter(|other| *other != node);
        let filled = others.fold(Record::default(), |held, other| {
            held.merged(&self.nodes[other].durable)
        });
        self.nodes[node].durable = filled;
        // It inherits the highest numbers before its first row, and nobody goes on in a round with
        // it.
        self.round = None;
        let number = self.nodes.iter().map(|node| node.number).max();
        let floor = self.nodes.iter().map(|node| node.floor).max();
        self.nodes[node].number = number.unwrap_or(0);
        self.nodes[node].durable_floor = floor.unwrap_or(0);
        self.crash(node);
        for tried in &mut self.attempts {
            tried.acks.remove(&node);
        }
        self.note("damage");
    }

    /// The fallback gives its record to a primary and forgets it; its actor goes on.
    fn hand_over(&mut self, to: usize) {
        // It takes part in no round, so that its number stays what it was.
        let record = std::mem::take(&mut self.nodes[FALLBACK].newest);
        self.nodes[FALLBACK].unsynced.clear();
        self.deliver(to, &record, 0, None);
        self.note("handed over");
    }

    /// Exchanges until nothing changes; returns what all hold.
    ///
    /// # Panics
    /// If that takes more rounds than there is to learn, or if equal states have other bytes.
    pub fn converge(&mut self) -> Record {
        for node in &mut self.nodes {
            node.left_out = Prunable::default();
        }
        for _round in 0..8 {
            for from in 0..=FALLBACK {
                for to in 0..=FALLBACK {
                    let Node { newest, number, .. } = self.nodes[from].clone();
                    self.deliver(to, &newest, number, None);
                }
            }
        }
        // What a fallback still has from before a round nobody takes any more.
        let judged = if self.rounds == 0 {
            FALLBACK
        } else {
            PRIMARIES - 1
        };
        let bytes: BTreeSet<Bytes> = self
            .nodes
            .iter()
            .take(judged + 1)
            .map(|node| node.newest.to_bytes())
            .collect();
        assert_eq!(bytes.len(), 1, "replicas did not converge");
        self.nodes[0].newest.clone()
    }

    /// Every acknowledged operation is there, or one that had seen it is.
    pub fn assert_nothing_acknowledged_is_lost(&self, held: &Record) {
        let shown = live(held);
        for op in &self.acked {
            let present = shown.contains(&op_id(*op));
            let dominated = self
                .ops
                .iter()
                .enumerate()
                .any(|(later, state)| state.past.contains(op) && shown.contains(&op_id(later)));
            assert!(present || dominated, "acknowledged operation {op} is lost");
        }
    }

    /// No operation stands beside one that had seen it. With `but_twins`, operations with two
    /// dots may: their id may have been evicted.
    pub fn assert_nothing_dominated_is_back(&self, held: &Record, but_twins: bool) {
        let shown = live(held);
        for (later, state) in self.ops.iter().enumerate() {
            for op in state.past.iter().filter(|_| shown.contains(&op_id(later))) {
                let excused = but_twins && self.ops[*op].dots > 1;
                let back = shown.contains(&op_id(*op)) && !excused;
                assert!(
                    !back,
                    "operation {op} is back beside {later}, which had seen it"
                );
            }
        }
    }

    pub fn assert_nothing_single_is_back_anywhere(&self) {
        for node in &self.nodes {
            self.assert_nothing_dominated_is_back(&node.newest, true);
        }
    }
}
