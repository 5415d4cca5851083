//! The data path of three nodes without a machine below it: three shards in one process, their
//! messages through the peers' wire format, their frames through the log's.
//!
//! What it costs is the part of an operation that is this project's own code. It is the same work
//! for the same arguments, so that instructions counted by a simulated processor are the same from
//! run to run, on any machine: a change of some in a hundred is a change of the code.
//!
//! Everything is durable as soon as a round ends, nothing is ever late, every key is known. Not
//! here: sockets, encryption, disks, the engine, the SDK.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::{Bytes, BytesMut};
use quorate_antientropy::{BucketDigests, DigestSecret, OpId};
use quorate_client::wire::FrameSplitter;
use quorate_node::core::hints::HintLimits;
use quorate_node::core::input::{Losses, RequestId, Volatile};
use quorate_node::core::message::{PeerMessage, ReadRequest, Reply, Request, WriteRequest};
use quorate_node::core::seal::SealKey;
use quorate_node::core::table::TableLimits;
use quorate_node::core::timeline::{Life, Timeline};
use quorate_node::core::{
    Effect, Effects, Input, Limits, LinkEvent, Now, Recovered, Shard, ShardConfig, StoreEvent,
};
use quorate_node::shell::link::{decode_frame, encode_frame};
use quorate_node::shell::store::Submission;
use quorate_ring::{
    ConsistencyLevel, Copies, Epoch, Incarnation, Keyspace, KeyspaceId, KeyspaceMode,
    KeyspaceOptions, Lsn, MonoTime, Node, NodeId, Topology, VnodeCount, Weight, Zone,
};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng};

use crate::clock::Clock;
use crate::keys::{Distribution, KeyDraw, key_of};
use crate::values::Values;

/// Nodes, and copies of every key.
const NODES: u32 = 3;

/// Requests that come in together, as under load.
const ROUND: usize = 64;

/// Simulated time from round to round.
const ROUND_MICROS: u64 = 500;

/// Longest frame.
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Quorum writes, each after its key's last token.
    Write,
    /// Quorum reads.
    Read,
    /// Reads of one replica.
    ReadOne,
}

/// Three shards and what is between them.
#[derive(Debug)]
pub struct CorePath {
    shards: BTreeMap<NodeId, PathNode>,
    /// Messages by sender and receiver.
    wire: BTreeMap<(NodeId, NodeId), Vec<PeerMessage>>,
    effects: Effects,
    /// Where frames are encoded, as a link does it.
    buffer: BytesMut,
    tokens: Vec<Option<Bytes>>,
    /// Keys of the requests under way.
    asked: BTreeMap<u64, u32>,
    keys: KeyDraw,
    values: Values,
    random: SmallRng,
    now_micros: u64,
    next_request: u64,
    answered: u64,
}

/// A shard, and how far its log goes.
#[derive(Debug)]
struct PathNode {
    shard: Shard,
    appended: Lsn,
    durable: Lsn,
    submission: Submission,
}

fn nodes_in_turn() -> impl Iterator<Item = NodeId> {
    (1..=NODES).cycle().map(NodeId)
}

fn topology() -> Result<Arc<Topology>> {
    let node = |number: u32| -> Result<Node> {
        Ok(Node {
            id: NodeId(number),
            name: format!("n{number}").parse()?,
            address: format!("127.0.0.1:{}", 7000 + number),
            zone: Zone::default(),
            weight: Weight::new(1.0)?,
        })
    };
    let keyspace = Keyspace {
        id: KeyspaceId(1),
        name: "default".parse()?,
        mode: KeyspaceMode::Siblings,
        options: KeyspaceOptions::default(),
        copies: Copies::new(3)?,
    };
    let epoch = Epoch {
        generation: 1,
        number: 1,
    };
    let vnodes = VnodeCount::new(256)?;
    let nodes = (1..=NODES).map(node).collect::<Result<_>>()?;
    Ok(Arc::new(Topology::new(
        epoch,
        vnodes,
        nodes,
        vec![keyspace],
    )?))
}

fn shard(me: NodeId, topology: &Arc<Topology>, now: Now) -> Result<PathNode> {
    let first = Lsn(1);
    let incarnation = Incarnation(u64::from(me.0));
    let life = Life { incarnation, first };
    let recovered = Recovered {
        timeline: Timeline::from_lives(vec![life]).context("one life is a timeline")?,
        incarnation,
        durable: first,
        applied: Lsn::ZERO,
        clean: true,
        volatile: Volatile::Whole,
        losses: Losses::default(),
        hints: Vec::new(),
        memories: BTreeMap::new(),
        records: Vec::new(),
        digests: BucketDigests::default(),
        log_bytes: 0,
    };
    let config = ShardConfig {
        me,
        cluster_id: [7; 16],
        topology: Arc::clone(topology),
        seal: SealKey::new([9; 32]),
        digest: DigestSecret { key: 1, record: 2 },
        table: TableLimits {
            generation_bytes: 64 << 20,
            generation_log_bytes: 128 << 20,
            cache_bytes: 1 << 30,
            digest_cache_bytes: 0,
        },
        limits: Limits::default(),
        exchange_interval: None,
        purge_rest: Duration::from_secs(60),
        spare_max: quorate_node::core::SPARE_MAX,
        hints: HintLimits::default(),
    };
    Ok(PathNode {
        shard: Shard::new(now, config, recovered),
        appended: first,
        durable: first,
        submission: Submission::default(),
    })
}

impl CorePath {
    /// Three connected nodes that hold `keys` keys with values of `value_bytes`.
    ///
    /// # Errors
    /// If a node refuses what it should not: a bug.
    pub fn new(keys: u32, value_bytes: usize, distribution: Distribution) -> Result<Self> {
        let mut random = SmallRng::seed_from_u64(1);
        let topology = topology()?;
        let mut path = Self {
            shards: BTreeMap::new(),
            wire: BTreeMap::new(),
            effects: Effects::new(),
            buffer: BytesMut::new(),
            tokens: vec![None; keys as usize],
            asked: BTreeMap::new(),
            keys: KeyDraw::new(distribution, keys),
            values: Values::new(value_bytes, &mut random),
            random,
            now_micros: 1,
            next_request: 0,
            answered: 0,
        };
        let ids: Vec<NodeId> = (1..=NODES).map(NodeId).collect();
        for me in &ids {
            let node = shard(*me, &topology, path.now())?;
            path.shards.insert(*me, node);
        }
        for me in &ids {
            for peer in ids.iter().copied().filter(|peer| peer != me) {
                path.step(*me, Input::Link(LinkEvent::Up { peer, link: 1 }))?;
            }
        }
        path.settle()?;
        let all: Vec<u32> = (0..keys).collect();
        for some in all.chunks(ROUND) {
            path.round(Kind::Write, some)?;
        }
        Ok(path)
    }

    /// Carries out about `operations` operations; how many it were.
    ///
    /// # Errors
    /// If one fails: a bug.
    pub fn run(&mut self, kind: Kind, operations: u64) -> Result<u64> {
        let before = self.answered;
        while self.answered - before < operations {
            let keys = self.draw();
            self.round(kind, &keys)?;
        }
        Ok(self.answered - before)
    }

    /// Carries out about `operations` writes; how many it were, and the time of their first steps
    /// alone: a coordinator takes the request, merges, appends and sends to the other replicas.
    ///
    /// # Errors
    /// If one fails: a bug.
    pub fn time_first_steps(&mut self, clock: Clock, operations: u64) -> Result<(u64, Duration)> {
        let (before, mut took) = (self.answered, Duration::ZERO);
        while self.answered - before < operations {
            let keys = self.draw();
            self.now_micros += ROUND_MICROS;
            let inputs: Vec<Input> = keys
                .iter()
                .map(|key| self.input(Kind::Write, *key))
                .collect();
            let from = clock.now();
            for (input, node) in inputs.into_iter().zip(nodes_in_turn()) {
                self.step(node, input)?;
            }
            took += clock.now() - from;
            self.end_round()?;
        }
        Ok((self.answered - before, took))
    }

    /// Keys of a round, each once: a key has one write under way.
    fn draw(&mut self) -> Vec<u32> {
        let mut keys: Vec<u32> = (0..ROUND)
            .map(|_| self.keys.draw(&mut self.random))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn now(&self) -> Now {
        Now {
            mono: MonoTime::from_micros(self.now_micros),
            wall_micros: 1_700_000_000_000_000 + self.now_micros,
        }
    }

    fn round(&mut self, kind: Kind, keys: &[u32]) -> Result<()> {
        self.now_micros += ROUND_MICROS;
        for (key, node) in keys.iter().zip(nodes_in_turn()) {
            let input = self.input(kind, *key);
            self.step(node, input)?;
        }
        self.end_round()
    }

    fn end_round(&mut self) -> Result<()> {
        self.settle()?;
        if self.asked.is_empty() {
            return Ok(());
        }
        bail!("{} requests had no answer", self.asked.len());
    }

    fn input(&mut self, kind: Kind, key: u32) -> Input {
        self.next_request += 1;
        let id = self.next_request;
        self.asked.insert(id, key);
        let now = self.now().mono;
        let read = |level| {
            Request::Read(ReadRequest {
                keyspace: "default".to_owned(),
                key: key_of(key),
                level,
            })
        };
        let request = match kind {
            Kind::Read => read(ConsistencyLevel::Quorum),
            Kind::ReadOne => read(ConsistencyLevel::One),
            Kind::Write => Request::Write(WriteRequest {
                keyspace: "default".to_owned(),
                key: key_of(key),
                value: Some(self.values.make(key, &mut self.random)),
                context: self.tokens.get(key as usize).cloned().flatten(),
                level: ConsistencyLevel::Quorum,
                op_id: OpId(u128::from(id).to_be_bytes()),
                flagged: false,
                age: Duration::ZERO,
                stamp: None,
                ttl_ms: None,
            }),
        };
        let from = RequestId { connection: 1, id };
        Input::Request {
            from,
            received: now,
            deadline: now + Duration::from_secs(2),
            request,
        }
    }

    /// Until nothing moves: what was appended becomes durable, what was sent arrives.
    fn settle(&mut self) -> Result<()> {
        loop {
            for me in (1..=NODES).map(NodeId) {
                self.sync(me)?;
            }
            let Some(((from, to), messages)) = self.wire.pop_first() else {
                return Ok(());
            };
            self.deliver(from, to, &messages)?;
        }
    }

    fn sync(&mut self, me: NodeId) -> Result<()> {
        let now = self.now();
        let node = self.shards.get_mut(&me).context("a node")?;
        if now.mono >= node.shard.next_deadline() {
            self.step(me, Input::Tick)?;
        }
        let node = self.shards.get_mut(&me).context("a node")?;
        if node.durable == node.appended {
            return Ok(());
        }
        drop(node.submission.take());
        node.durable = node.appended;
        let durable = StoreEvent::Durable(node.durable);
        self.step(me, Input::Store(durable))
    }

    fn deliver(&mut self, from: NodeId, to: NodeId, messages: &[PeerMessage]) -> Result<()> {
        let header = self.shards.get(&from).context("a node")?.shard.header();
        encode_frame(&mut self.buffer, header, messages)?;
        let encoded = self.buffer.split().freeze();
        let mut frames = Vec::new();
        FrameSplitter::new(FRAME_BYTES_MAX).split(encoded, &mut frames)?;
        for frame in &frames {
            let (header, messages) = decode_frame(frame)?;
            for message in messages {
                let input = Input::Peer {
                    from,
                    link: 1,
                    header,
                    message,
                };
                self.step(to, input)?;
            }
        }
        Ok(())
    }

    fn step(&mut self, me: NodeId, input: Input) -> Result<()> {
        let now = self.now();
        let mut effects = std::mem::take(&mut self.effects);
        let node = self.shards.get_mut(&me).context("a node")?;
        node.shard.step(now, input, &mut effects);
        for effect in effects.drain(..) {
            self.perform(me, effect)?;
        }
        self.effects = effects;
        Ok(())
    }

    fn perform(&mut self, me: NodeId, effect: Effect) -> Result<()> {
        let node = self.shards.get_mut(&me).context("a node")?;
        match effect {
            Effect::Reply { to, reply, .. } => return self.answered(to.id, reply),
            Effect::Send { to, message } => self.wire.entry((me, to)).or_default().push(message),
            Effect::Append { lsn, entry } => {
                node.submission.push(lsn, &entry);
                node.appended = lsn;
            }
            Effect::Load(key) => {
                let loaded = StoreEvent::Loaded(vec![(key, Ok(None))]);
                return self.step(me, Input::Store(loaded));
            }
            Effect::Ingest(generation) => {
                let applied = generation.applied;
                return self.step(me, Input::Store(StoreEvent::Ingested { applied }));
            }
            Effect::Stop(reason) => bail!("node {} stops: {reason:?}", me.0),
            Effect::Remember { .. }
            | Effect::CloseLink { .. }
            | Effect::Compared { .. }
            | Effect::Healed(_)
            | Effect::NoteLoss(_)
            | Effect::DeclareLost { .. }
            | Effect::NoteDoubt(_)
            | Effect::LossDeclared { .. }
            | Effect::Hint(_)
            | Effect::Count(_)
            | Effect::Scan(_) => {}
        }
        Ok(())
    }

    fn answered(&mut self, id: u64, reply: Reply) -> Result<()> {
        let key = self.asked.remove(&id).context("an answer to nothing")?;
        let context = match reply {
            Reply::Applied { context, .. } => context.context("a write without a token")?,
            Reply::Read {
                context, values, ..
            } => {
                let [value] = values.as_slice() else {
                    bail!("key {key} has {} values", values.len());
                };
                if !self.values.fits(key, value) {
                    bail!("key {key} has a value of another one");
                }
                context
            }
            other => bail!("key {key} got {other:?}"),
        };
        self.answered += 1;
        if let Some(token) = self.tokens.get_mut(key as usize) {
            *token = Some(context);
        }
        Ok(())
    }
}

/// A fixed piece of work like that of the path: look-ups, copies and allocations that do not fit a
/// cache, in memory that the process has already.
#[derive(Debug)]
pub struct FixedWork {
    held: BTreeMap<u64, Vec<u8>>,
    random: SmallRng,
}

impl FixedWork {
    const HELD: u64 = 20_000;
    const ROUNDS: u64 = 400_000;

    /// Takes its memory.
    #[must_use]
    pub fn new() -> Self {
        let mut work = Self {
            held: (0..Self::HELD).map(|key| (key, vec![7; 256])).collect(),
            random: SmallRng::seed_from_u64(2),
        };
        work.run();
        work
    }

    /// Does it once: some 50 ms.
    pub fn run(&mut self) {
        for _ in 0..Self::ROUNDS {
            let key = self.random.random_range(0..Self::HELD);
            let value = self.held.entry(key).or_default();
            let mut next = Vec::with_capacity(256);
            next.extend_from_slice(value.get(..16).unwrap_or(&[7; 16]));
            next.resize(256, 1);
            *value = std::hint::black_box(next);
        }
    }
}

impl Default for FixedWork {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_answered_with_what_was_written() {
        let mut path = CorePath::new(200, 64, Distribution::Zipf).expect("it is filled");
        for kind in [Kind::Write, Kind::Read, Kind::ReadOne] {
            let done = path.run(kind, 500).expect("all succeed");
            assert!((500..600).contains(&done), "{done}");
        }
        let timed = path.time_first_steps(Clock::start(), 100);
        let (done, took) = timed.expect("all succeed");
        assert!((100..200).contains(&done), "{done}");
        assert!(took > Duration::ZERO);
    }
}
