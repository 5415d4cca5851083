//! Sloppy quorums: five shards of which three own the key, a network and a log that do only what a
//! test says. Here are the shortest runs of the rules for those that stand in for owners.

#![expect(
    clippy::panic,
    reason = "helpers of tests end a test that went another way"
)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{BucketDigests, DigestSecret, KeyState, OpId};
use quorate_node::core::effect::Event;
use quorate_node::core::failure::{Cause, Effectiveness};
use quorate_node::core::guests::GuestStatus;
use quorate_node::core::hints::HintLimits;
use quorate_node::core::input::{Input, LinkEvent, Losses, Now, Recovered, RequestId, StoreEvent};
use quorate_node::core::key::RecordKey;
use quorate_node::core::message::{
    PeerMessage, ReadRequest, Reply, Request, SessionReadRequest, WriteRequest,
};
use quorate_node::core::scan_page::PagePart;
use quorate_node::core::seal::SealKey;
use quorate_node::core::table::{Lookup, TableLimits};
use quorate_node::core::timeline::{Life, Timeline};
use quorate_node::core::{Effect, Limits, Shard, ShardConfig};
use quorate_ring::ConsistencyLevel::{One, Quorum};
use quorate_ring::{
    ConsistencyLevel, Copies, Epoch, Incarnation, Keyspace, KeyspaceId, KeyspaceMode, Lsn,
    MonoTime, Node, NodeId, Topology, VnodeCount, VnodeId, Weight, Zone,
};

const DEFAULT: KeyspaceId = KeyspaceId(1);
/// How long purge rounds rest in these tests.
const PURGE_REST: Duration = Duration::from_secs(10);

fn topology() -> Arc<Topology> {
    let node = |id: u32| Node {
        id: NodeId(id),
        name: format!("n{id}").parse().expect("a name"),
        address: format!("127.0.0.1:{}", 7000 + id),
        weight: Weight::ONE,
        zone: Zone::default(),
    };
    let keyspace = Keyspace {
        id: DEFAULT,
        name: "default".parse().expect("a name"),
        mode: KeyspaceMode::Siblings,
        options: quorate_ring::KeyspaceOptions::default(),
        copies: three(),
    };
    let vnodes = VnodeCount::new(8).expect("a power of two");
    let epoch = Epoch {
        generation: 1,
        number: 1,
    };
    let nodes = (1..=5).map(node).collect();
    Arc::new(Topology::new(epoch, vnodes, nodes, vec![keyspace]).expect("a topology"))
}

fn three() -> Copies {
    Copies::new(3).expect("three copies")
}

/// A value for which a small fallback has no room.
const LONG: &str = match std::str::from_utf8(&[b'x'; 600]) {
    Ok(text) => text,
    Err(_) => "",
};

/// What a node's disk holds.
#[derive(Default)]
struct Disk {
    records: Vec<(RecordKey, Bytes)>,
    digests: BucketDigests,
}

/// Five shards; messages happen when a test lets them, everything is durable at once.
struct Lab {
    now: u64,
    /// The owners of the key, then those that stand in for them.
    owners: Vec<NodeId>,
    fallbacks: Vec<NodeId>,
    vnode: VnodeId,
    shards: BTreeMap<NodeId, Shard>,
    wire: VecDeque<(NodeId, NodeId, PeerMessage)>,
    /// Who hears nobody and is not heard.
    cut: Vec<NodeId>,
    replies: Vec<(u64, Reply)>,
    counted: Vec<(NodeId, Event)>,
    /// Messages that asked a fallback to hold something.
    asked: Vec<(NodeId, NodeId, PeerMessage)>,
    next_request: u64,
    lives: u64,
    limits: Limits,
    table: TableLimits,
    /// What each node's engine holds.
    engines: BTreeMap<NodeId, BTreeMap<RecordKey, Bytes>>,
    /// A message takes until the next tick.
    is_slow: bool,
}

/// Everything stays in memory.
const ROOMY: TableLimits = TableLimits {
    generation_bytes: 1 << 20,
    generation_log_bytes: 1 << 20,
    cache_bytes: 64 << 20,
    digest_cache_bytes: 0,
};

/// A record is in the engine alone soon after it was taken.
const TIGHT: TableLimits = TableLimits {
    generation_bytes: 4_096,
    generation_log_bytes: 1,
    cache_bytes: 0,
    digest_cache_bytes: 0,
};

impl Lab {
    /// All five connected, greeted and counting.
    fn ready(limits: Limits) -> Self {
        Self::ready_with(limits, ROOMY)
    }

    fn ready_with(limits: Limits, table: TableLimits) -> Self {
        let topology = topology();
        let vnode = topology.locate(DEFAULT, b"k").vnode;
        let list = topology.preference_list(vnode, three());
        let mut lab = Self {
            now: 0,
            owners: list.primaries().to_vec(),
            fallbacks: list.fallbacks().to_vec(),
            vnode,
            shards: BTreeMap::new(),
            wire: VecDeque::new(),
            cut: Vec::new(),
            replies: Vec::new(),
            counted: Vec::new(),
            asked: Vec::new(),
            next_request: 0,
            lives: 0,
            limits,
            table,
            engines: BTreeMap::new(),
            is_slow: false,
        };
        for node in lab.nodes() {
            lab.start(node, Disk::default(), Losses::default());
        }
        for node in lab.nodes() {
            lab.connect(node);
        }
        lab.pass(1_200);
        lab
    }

    fn nodes(&self) -> Vec<NodeId> {
        (1..=5).map(NodeId).collect()
    }

    fn clock(&self) -> Now {
        Now {
            mono: MonoTime::from_micros(self.now),
            wall_micros: 1_000_000 + self.now,
        }
    }

    /// A new life of a node on this disk. What others remember of earlier ones is part of it.
    fn start(&mut self, node: NodeId, disk: Disk, losses: Losses) {
        let before = self.shards.get(&node);
        let first = before.map_or(Lsn(1), |shard| shard.table().durable_lsn().next());
        let earlier = before.map(|shard| shard.header().incarnation);
        self.lives += 1;
        let present = Incarnation(self.lives);
        let lives = earlier.map(|incarnation| Life {
            incarnation,
            first: Lsn(1),
        });
        let lives = lives.into_iter().chain([Life {
            incarnation: present,
            first,
        }]);
        let recovered = Recovered {
            timeline: Timeline::from_lives(lives.collect()).expect("a timeline"),
            incarnation: present,
            durable: first,
            applied: Lsn::ZERO,
            clean: false,
            volatile: quorate_node::core::input::Volatile::Whole,
            losses,
            hints: Vec::new(),
            memories: BTreeMap::new(),
            records: disk.records,
            digests: disk.digests,
            log_bytes: 0,
        };
        let config = ShardConfig {
            me: node,
            cluster_id: [7; 16],
            topology: topology(),
            seal: SealKey::new([9; 32]),
            digest: DigestSecret { key: 1, record: 2 },
            table: self.table,
            limits: self.limits,
            exchange_interval: None,
            hints: HintLimits {
                bytes_max: 0,
                ..HintLimits::default()
            },
            purge_rest: PURGE_REST,
            spare_max: 16,
        };
        let shard = Shard::new(self.clock(), config, recovered);
        self.shards.insert(node, shard);
    }

    /// What a node's disk holds of the key's vnode.
    fn disk_of(&self, node: NodeId) -> Disk {
        let table = self.shards[&node].table();
        Disk {
            records: table.durable_after(&RecordKey::before(DEFAULT, self.vnode), 100),
            digests: table.digests().clone(),
        }
    }

    /// The node's process ends and begins again on its disk.
    fn restart(&mut self, node: NodeId) {
        let disk = self.disk_of(node);
        self.start(node, disk, Losses::default());
        self.connect(node);
    }

    /// Links between a node and all others end, and come again.
    fn connect(&mut self, node: NodeId) {
        for other in self.nodes().into_iter().filter(|other| *other != node) {
            for (here, there) in [(node, other), (other, node)] {
                let (down, up) = (
                    LinkEvent::Down {
                        peer: there,
                        link: 1,
                    },
                    LinkEvent::Up {
                        peer: there,
                        link: 1,
                    },
                );
                self.step(here, Input::Link(down));
                self.step(here, Input::Link(up));
            }
        }
        self.run();
    }

    /// From now on these are cut off, and known to be down.
    fn cut(&mut self, nodes: &[NodeId]) {
        self.cut = nodes.to_vec();
        self.pass(1_200);
    }

    /// Everybody reaches everybody again.
    fn heal(&mut self) {
        for node in std::mem::take(&mut self.cut) {
            self.connect(node);
        }
        self.pass(3_000);
    }

    fn step(&mut self, node: NodeId, input: Input) {
        let now = self.clock();
        let mut effects = Vec::new();
        let shard = self.shards.get_mut(&node).expect("a node");
        shard.step(now, input, &mut effects);
        let mut durable = None;
        for effect in effects {
            match effect {
                Effect::Reply { to, reply, .. } => self.replies.push((to.id, reply)),
                Effect::Send { to, message } => self.wire.push_back((node, to, message)),
                Effect::Append { lsn, .. } => durable = Some(lsn),
                Effect::Load(key) => {
                    let engine = self.engines.entry(node).or_default();
                    let record = engine.get(&key).cloned();
                    let loaded = StoreEvent::Loaded(vec![(key, Ok(record))]);
                    self.step(node, Input::Store(loaded));
                }
                Effect::Ingest(generation) => {
                    let engine = self.engines.entry(node).or_default();
                    for (key, record) in generation.rows.in_order() {
                        if record.is_empty() {
                            engine.remove(key);
                        } else {
                            engine.insert(key.clone(), record.clone());
                        }
                    }
                    let applied = generation.applied;
                    self.step(node, Input::Store(StoreEvent::Ingested { applied }));
                }
                Effect::Scan(read) => {
                    let number = read.number;
                    let page = Ok(read.finish(PagePart::default()));
                    self.step(node, Input::Store(StoreEvent::Scanned { number, page }));
                }
                Effect::Count(event) => self.counted.push((node, event)),
                Effect::Stop(reason) => panic!("node {node} stopped: {reason}"),
                Effect::NoteLoss(why) => panic!("node {node} takes something for lost: {why}"),
                Effect::Compared { .. }
                | Effect::Healed(_)
                | Effect::DeclareLost { .. }
                | Effect::NoteDoubt(_)
                | Effect::LossDeclared { .. }
                | Effect::Hint(_)
                | Effect::Remember { .. }
                | Effect::CloseLink { .. } => {}
            }
        }
        if let Some(lsn) = durable {
            self.step(node, Input::Store(StoreEvent::Durable(lsn)));
        }
    }

    fn run(&mut self) {
        let mut budget = if self.is_slow {
            self.wire.len()
        } else {
            usize::MAX
        };
        while budget > 0
            && let Some((from, to, message)) = self.wire.pop_front()
        {
            budget -= 1;
            if let PeerMessage::Replicate(replicate) = &message
                && replicate.as_fallback
            {
                self.asked.push((from, to, message.clone()));
            }
            if !self.cut.contains(&from) && !self.cut.contains(&to) {
                self.arrive(from, to, message);
            }
        }
    }

    fn arrive(&mut self, from: NodeId, to: NodeId, message: PeerMessage) {
        let header = self.shards[&from].header();
        let input = Input::Peer {
            from,
            link: 1,
            header,
            message,
        };
        self.step(to, input);
    }

    fn pass(&mut self, millis: u64) {
        for _ in 0..millis / 10 {
            self.now += 10_000;
            for node in self.nodes() {
                self.step(node, Input::Tick);
            }
            self.run();
        }
    }

    /// Asks a node and waits for its answer.
    fn ask(&mut self, node: NodeId, request: Request) -> Reply {
        self.next_request += 1;
        let id = self.next_request;
        let received = self.clock().mono;
        let input = Input::Request {
            from: RequestId {
                connection: u64::from(node.0),
                id,
            },
            received,
            deadline: received + Duration::from_secs(2),
            request,
        };
        self.step(node, input);
        self.run();
        for _ in 0..300 {
            if let Some((_, reply)) = self.replies.iter().find(|(of, _)| *of == id) {
                return reply.clone();
            }
            self.pass(10);
        }
        panic!("no answer");
    }

    fn put(&mut self, node: NodeId, value: &'static str, op: u8, level: ConsistencyLevel) -> Reply {
        self.ask(node, put(b"k", Some(value), op, None, level))
    }

    fn values(&mut self, node: NodeId, level: ConsistencyLevel) -> Vec<Bytes> {
        match self.ask(node, get(b"k", level)) {
            Reply::Read { values, .. } => values,
            other => panic!("the read got {other:?}"),
        }
    }

    fn guests(&self, node: NodeId) -> GuestStatus {
        self.shards[&node].status(self.clock()).guests
    }

    /// Whether a node holds anything of the key.
    fn holds(&self, node: NodeId) -> bool {
        let key = RecordKey::new(DEFAULT, self.vnode, b"k");
        matches!(
            self.shards[&node].table().durable(&key),
            Lookup::Known(Some(_))
        )
    }

    fn count(&self, node: NodeId, event: Event) -> usize {
        let of = self.counted.iter();
        of.filter(|counted| **counted == (node, event)).count()
    }
}

fn put(
    key: &'static [u8],
    value: Option<&'static str>,
    op: u8,
    context: Option<Bytes>,
    level: ConsistencyLevel,
) -> Request {
    Request::Write(WriteRequest {
        keyspace: "default".into(),
        key: Bytes::from_static(key),
        value: value.map(|value| Bytes::from_static(value.as_bytes())),
        context,
        level,
        op_id: OpId([op; 16]),
        flagged: false,
        age: Duration::ZERO,
        stamp: None,
        ttl_ms: None,
    })
}

fn get(key: &'static [u8], level: ConsistencyLevel) -> Request {
    Request::Read(ReadRequest {
        keyspace: "default".into(),
        key: Bytes::from_static(key),
        level,
    })
}

fn context(reply: &Reply) -> Bytes {
    match reply {
        Reply::Applied {
            context: Some(context),
            ..
        }
        | Reply::Read { context, .. } => context.clone(),
        other => panic!("no context in {other:?}"),
    }
}

fn is_applied(reply: &Reply) -> bool {
    matches!(reply, Reply::Applied { .. })
}

fn failure(reply: &Reply) -> (Cause, Effectiveness) {
    match reply {
        Reply::Failed(failure) => (failure.cause, failure.effect),
        other => panic!("no failure but {other:?}"),
    }
}

fn sloppy() -> ConsistencyLevel {
    Quorum.sloppy()
}

#[test]
fn two_primaries_are_stood_in_for_and_get_the_write_when_they_are_back() {
    let mut lab = Lab::ready(Limits::default());
    let (owners, fallbacks) = (lab.owners.clone(), lab.fallbacks.clone());
    lab.cut(&owners[1..]);
    let refused = lab.put(owners[0], "strict", 1, Quorum);
    assert_eq!(
        failure(&refused),
        (Cause::Unavailable, Effectiveness::NotApplied)
    );
    assert!(is_applied(&lab.put(owners[0], "v", 2, sloppy())));
    assert_eq!(lab.guests(fallbacks[0]).records, 1);
    assert_eq!(lab.guests(fallbacks[1]).records, 0, "one was enough");
    assert_eq!(lab.values(owners[0], sloppy()), ["v"]);
    let read = lab.ask(owners[0], get(b"k", Quorum));
    assert_eq!(failure(&read).0, Cause::Unavailable, "no fallback counts");
    lab.heal();
    assert_eq!(lab.guests(fallbacks[0]), GuestStatus::default());
    assert!(!lab.holds(fallbacks[0]));
    lab.cut(&[owners[0]]);
    assert_eq!(
        lab.values(owners[1], Quorum),
        ["v"],
        "without its coordinator"
    );
}

#[test]
fn who_finds_no_owner_up_is_told_how_many_the_level_needs() {
    let mut lab = Lab::ready(Limits::default());
    let (owners, asked) = (lab.owners.clone(), lab.fallbacks[0]);
    lab.cut(&owners);
    let read = get(b"k", Quorum);
    let one = get(b"k", ConsistencyLevel::One);
    let write = put(b"k", Some("v"), 1, None, ConsistencyLevel::All);
    for (request, needed) in [(read, 2), (one, 1), (write, 3)] {
        let Reply::Failed(failure) = lab.ask(asked, request) else {
            panic!("it has no owner");
        };
        let told = (failure.cause, failure.effect, failure.required);
        let want = (Cause::Unavailable, Effectiveness::NotApplied, needed);
        assert_eq!(told, want);
    }
    let never = lab.ask(asked, get(b"k", ConsistencyLevel::Read(4)));
    assert_eq!(failure(&never).0, Cause::LevelImpossible);
}

#[test]
fn a_primary_that_is_late_is_stood_in_for() {
    let mut lab = Lab::ready(Limits::default());
    let owners = lab.owners.clone();
    // They are not known to be down yet.
    lab.cut = owners[1..].to_vec();
    let before = lab.now;
    assert!(is_applied(&lab.put(owners[0], "v", 1, sloppy())));
    assert!(lab.now - before < 300_000, "long before they are down");
    assert_eq!(lab.guests(lab.fallbacks[0]).records, 1);
}

/// V4: with its second dot the fallback must not claim the first one, which it has forgotten.
#[test]
fn v4_a_fallback_coordinates_while_all_primaries_are_down_and_claims_no_vector() {
    let mut lab = Lab::ready(Limits::default());
    let (owners, fallbacks) = (lab.owners.clone(), lab.fallbacks.clone());
    for (op, value) in [(1, "v"), (2, "w")] {
        lab.cut(&owners);
        assert!(is_applied(&lab.put(fallbacks[0], value, op, sloppy())));
        assert!(lab.holds(fallbacks[1]), "W is two");
        lab.heal();
        assert!(!lab.holds(fallbacks[0]) && !lab.holds(fallbacks[1]));
    }
    assert_eq!(lab.values(owners[0], Quorum), ["v", "w"]);
    let key = RecordKey::new(DEFAULT, lab.vnode, b"k");
    let Lookup::Known(Some(record)) = lab.shards[&owners[0]].table().durable(&key) else {
        panic!("it holds the key");
    };
    let state = KeyState::decode_as(KeyspaceMode::Siblings, &record).expect("a record");
    let KeyState::Siblings(record) = state else {
        panic!("of siblings");
    };
    assert_eq!(record.context().vector(), [], "only primaries claim");
    assert_eq!(record.context().loose().len(), 2);
}

#[test]
fn a_write_goes_on_from_what_a_sloppy_read_showed() {
    let mut lab = Lab::ready(Limits::default());
    let (owners, fallbacks) = (lab.owners.clone(), lab.fallbacks.clone());
    lab.cut(&owners);
    let first = lab.put(fallbacks[0], "v", 1, sloppy());
    assert!(is_applied(&first));
    let read = lab.ask(fallbacks[1], get(b"k", sloppy()));
    let seen = context(&read);
    let session = Request::SessionRead(SessionReadRequest {
        read: ReadRequest {
            keyspace: "default".into(),
            key: Bytes::from_static(b"k"),
            level: One.sloppy(),
        },
        covers: vec![context(&first)],
    });
    let read = lab.ask(fallbacks[1], session);
    assert!(matches!(&read, Reply::Read { values, .. } if *values == ["v"]));
    let second = put(b"k", Some("w"), 2, Some(seen), sloppy());
    assert!(is_applied(&lab.ask(fallbacks[1], second)));
    lab.heal();
    assert_eq!(lab.values(owners[0], Quorum), ["w"]);
}

/// P9: neither a restart nor time ends what a fallback holds.
#[test]
fn p9_what_a_fallback_holds_outlives_its_process_and_waits_for_every_owner() {
    let mut lab = Lab::ready(Limits::default());
    let (owners, fallbacks) = (lab.owners.clone(), lab.fallbacks.clone());
    lab.cut(&owners[1..]);
    assert!(is_applied(&lab.put(owners[0], "v", 1, sloppy())));
    lab.restart(fallbacks[0]);
    lab.pass(60_000);
    assert_eq!(lab.guests(fallbacks[0]).records, 1);
    let waits: Vec<NodeId> = lab
        .guests(fallbacks[0])
        .targets
        .iter()
        .map(|t| t.target)
        .collect();
    assert_eq!(waits.len(), 2, "the owner that is up has it: {waits:?}");
    // The coordinator's disk is lost for good before anybody else has the write.
    lab.cut = vec![owners[0], owners[2]];
    lab.connect(owners[1]);
    lab.pass(3_000);
    assert_eq!(lab.values(owners[1], One), ["v"]);
    assert_eq!(
        lab.guests(fallbacks[0]).records,
        1,
        "one does not have it yet"
    );
    lab.heal();
    assert_eq!(lab.guests(fallbacks[0]), GuestStatus::default());
}

/// P9: over its bound a fallback refuses, and lets nothing go.
#[test]
fn p9_a_full_fallback_refuses_and_keeps_what_it_has() {
    let mut lab = Lab::ready(Limits {
        guest_bytes_max: 1_000,
        ..Limits::default()
    });
    let (owners, fallbacks) = (lab.owners.clone(), lab.fallbacks.clone());
    lab.cut(&owners[1..]);
    assert!(is_applied(&lab.put(owners[0], "v", 1, sloppy())));
    let other = put(b"k", Some(LONG), 2, None, ConsistencyLevel::All.sloppy());
    let refused = lab.ask(owners[0], other);
    assert_eq!(
        failure(&refused),
        (Cause::QuorumNotReached, Effectiveness::Unknown)
    );
    assert!(lab.count(fallbacks[0], Event::GuestRefused) > 0);
    assert_eq!(lab.guests(fallbacks[0]).records, 1);
    lab.cut(&owners);
    let refused = lab.put(fallbacks[0], "w", 3, One.sloppy());
    assert_eq!(
        failure(&refused),
        (Cause::GuestsFull, Effectiveness::NotApplied)
    );
    lab.heal();
    assert!(
        lab.values(owners[1], Quorum)
            .contains(&Bytes::from_static(b"v"))
    );
}

impl Lab {
    /// Deletes the key after everything that a node shows.
    fn delete(&mut self, node: NodeId, op: u8) {
        let read = self.ask(node, get(b"k", Quorum));
        let delete = put(b"k", None, op, Some(context(&read)), ConsistencyLevel::All);
        assert!(is_applied(&self.ask(node, delete)));
    }

    fn floors(&self) -> Vec<u64> {
        let floor = |node: &NodeId| {
            let digests = self.shards[node].table().digests();
            digests.numbers(DEFAULT, self.vnode).floor.0
        };
        self.owners.iter().map(floor).collect()
    }
}

/// P10: a fallback that holds something of the vnode keeps purge rounds from it, also while it is
/// away, so that no owner ever refuses what it acknowledged.
#[test]
fn p10_nothing_is_purged_while_a_fallback_holds_something_of_the_vnode() {
    let mut lab = Lab::ready(Limits::default());
    let (owners, fallbacks) = (lab.owners.clone(), lab.fallbacks.clone());
    assert!(is_applied(&lab.put(owners[0], "old", 1, Quorum)));
    lab.cut(&owners);
    let blind = lab.put(fallbacks[0], "v", 2, One.sloppy());
    assert!(is_applied(&blind));
    lab.cut = vec![fallbacks[0]];
    owners.iter().for_each(|owner| lab.connect(*owner));
    lab.pass(1_200);
    lab.delete(owners[0], 3);
    lab.pass(40_000);
    assert_eq!(lab.floors(), [0; 3], "it is waited for");
    let purge = lab.shards[&owners[0]].status(lab.clock()).purge;
    assert_eq!((purge.waiting, purge.blocked_by), (1, vec![fallbacks[0]]));
    lab.heal();
    assert_eq!(lab.guests(fallbacks[0]), GuestStatus::default());
    assert_eq!(lab.values(owners[0], Quorum), ["v"], "it was acknowledged");
    lab.delete(owners[0], 4);
    lab.pass(40_000);
    assert!(lab.floors().iter().all(|floor| *floor > 0));
    assert_eq!(lab.values(owners[0], Quorum), [] as [Bytes; 0]);
}

/// P10: what was read before a round does not come back through a fallback that joined it.
#[test]
fn p10_a_fallback_takes_nothing_from_before_a_round_that_it_joined() {
    let mut lab = Lab::ready(Limits::default());
    let owners = lab.owners.clone();
    lab.cut(&owners[1..]);
    assert!(is_applied(&lab.put(owners[0], "v", 1, sloppy())));
    let (from, to, late) = lab.asked.pop().expect("a fallback was asked");
    lab.heal();
    lab.delete(owners[0], 2);
    lab.pass(30_000);
    assert_eq!(lab.floors(), [1; 3]);
    lab.arrive(from, to, late);
    lab.run();
    assert_eq!(lab.count(to, Event::BelowFloorRefused), 1);
    assert_eq!(lab.guests(to), GuestStatus::default());
    lab.pass(3_000);
    assert_eq!(lab.values(owners[1], Quorum), [] as [Bytes; 0]);
}

/// A session at a strict level that saw what a fallback took finds it there before it is handed
/// over, and is not kept waiting for it once it was deleted and purged.
#[test]
fn a_strict_session_finds_what_a_fallback_took_and_does_not_wait_for_what_was_purged() {
    let mut lab = Lab::ready(Limits::default());
    let (owners, fallbacks) = (lab.owners.clone(), lab.fallbacks.clone());
    lab.cut(&owners);
    let first = lab.put(fallbacks[0], "v", 1, sloppy());
    assert!(is_applied(&first));
    let read = || {
        Request::SessionRead(SessionReadRequest {
            read: ReadRequest {
                keyspace: "default".into(),
                key: Bytes::from_static(b"k"),
                level: Quorum,
            },
            covers: vec![context(&first)],
        })
    };
    // The owners are back, and know nothing of it at this moment.
    for node in std::mem::take(&mut lab.cut) {
        lab.connect(node);
    }
    assert!(!lab.holds(owners[0]));
    let found = lab.ask(owners[0], read());
    assert!(matches!(&found, Reply::Read { values, .. } if *values == ["v"]));
    lab.pass(3_000);
    assert_eq!(lab.guests(fallbacks[0]), GuestStatus::default());
    lab.delete(owners[0], 2);
    lab.pass(40_000);
    assert_eq!(lab.floors(), [1; 3]);
    let gone = lab.ask(owners[0], read());
    assert!(
        matches!(&gone, Reply::Read { values, .. } if values.is_empty()),
        "{gone:?}"
    );
}

/// A fallback may hold an attempt of what is deleted meanwhile: it must be told before anything
/// goes.
#[test]
fn p10_what_a_fallback_took_while_a_round_rested_ends_the_round() {
    let mut lab = Lab::ready(Limits::default());
    let (owners, fallbacks) = (lab.owners.clone(), lab.fallbacks.clone());
    assert!(is_applied(&lab.put(owners[0], "old", 1, Quorum)));
    lab.delete(owners[0], 2);
    lab.pass(6_000);
    // All have joined. Now the fallback takes a write that no owner hears of before the round's
    // end.
    lab.cut = owners.clone();
    lab.pass(1_200);
    assert!(is_applied(&lab.put(fallbacks[0], "v", 3, One.sloppy())));
    lab.heal();
    lab.pass(60_000);
    assert_eq!(lab.values(owners[0], Quorum), ["v"]);
}

/// A node that lost its disk may have forgotten a round: it holds nothing before an owner told it.
#[test]
fn a_fallback_that_lost_its_disk_waits_for_an_owners_word() {
    let mut lab = Lab::ready(Limits::default());
    let (owners, fallbacks) = (lab.owners.clone(), lab.fallbacks.clone());
    let lost = Losses {
        lives: [Incarnation(77)].into(),
        ..Losses::default()
    };
    let disk = lab.disk_of(fallbacks[0]);
    lab.start(fallbacks[0], disk, lost);
    lab.connect(fallbacks[0]);
    lab.pass(1_200);
    lab.cut(&owners);
    let refused = lab.put(fallbacks[0], "v", 1, One.sloppy());
    assert!(
        !is_applied(&refused) || lab.holds(fallbacks[1]),
        "the other one"
    );
    assert!(!lab.holds(fallbacks[0]));
    lab.heal();
    lab.cut(&owners[1..]);
    assert!(is_applied(&lab.put(owners[0], "w", 2, sloppy())));
    assert!(lab.holds(fallbacks[0]), "an owner asked it");
    lab.heal();
    assert_eq!(lab.guests(fallbacks[0]), GuestStatus::default());
}

/// What all owners have is loaded to be taken away: what it was belongs to the change of the sums.
#[test]
fn a_guest_that_left_memory_goes_once_all_owners_have_it() {
    let mut lab = Lab::ready_with(Limits::default(), TIGHT);
    let (owners, fallbacks) = (lab.owners.clone(), lab.fallbacks.clone());
    lab.cut(&owners[1..]);
    assert!(is_applied(&lab.put(owners[0], "v", 1, sloppy())));
    lab.pass(100);
    let key = RecordKey::new(DEFAULT, lab.vnode, b"k");
    let newest = lab.shards[&fallbacks[0]].table().newest(&key);
    assert_eq!(newest, Lookup::MustLoad, "the engine alone has it");
    assert_eq!(lab.guests(fallbacks[0]).records, 1);
    // Between a delivery and its answer it leaves memory again.
    lab.is_slow = true;
    lab.heal();
    lab.pass(3_000);
    assert_eq!(lab.guests(fallbacks[0]), GuestStatus::default());
    let taken = lab.count(fallbacks[0], Event::GuestTaken);
    let delivered = lab.count(fallbacks[0], Event::GuestDelivered);
    assert_eq!((taken, delivered), (1, 3), "each owner was told once");
    lab.is_slow = false;
    assert_eq!(lab.values(owners[1], Quorum), ["v"]);
    assert!(!lab.engines[&fallbacks[0]].contains_key(&key));
    let held = lab.shards[&fallbacks[0]].status(lab.clock()).holdings;
    assert!(held.is_empty(), "it counts nothing: {held:?}");
}

/// What a node says that it holds is what a dump of it shows, guests with the rest; over all nodes
/// a record counts once.
#[test]
fn what_a_fallback_holds_counts_as_held_by_it_and_in_no_total() {
    let mut lab = Lab::ready(Limits::default());
    let (owners, fallbacks) = (lab.owners.clone(), lab.fallbacks.clone());
    lab.cut(&owners[1..]);
    assert!(is_applied(&lab.put(owners[0], "v", 1, sloppy())));
    let held = |lab: &Lab, node| {
        let status = lab.shards[&node].status(lab.clock());
        let sums = status.holdings.iter();
        sums.fold((0, 0), |(all, first), keyspace| {
            (all + keyspace.all.keys, first + keyspace.first.keys)
        })
    };
    let dumped = lab.disk_of(fallbacks[0]).records.len();
    assert_eq!((dumped, held(&lab, fallbacks[0])), (1, (1, 0)));
    let total: u64 = lab.nodes().iter().map(|node| held(&lab, *node).1).sum();
    assert_eq!(total, 1, "the owner that is up counts it");
    lab.heal();
    assert_eq!(held(&lab, fallbacks[0]), (0, 0));
}

/// The last rule of P10: an old copy of a fallback's disk holds what was handed over, deleted and
/// purged. The owners refuse it, and as it reached all of them before the round began nothing
/// acknowledged rests on it.
#[test]
fn p10_what_an_old_copy_of_a_fallback_holds_below_the_floor_is_let_go() {
    let mut lab = Lab::ready(Limits::default());
    let (owners, fallbacks) = (lab.owners.clone(), lab.fallbacks.clone());
    lab.cut(&owners[1..]);
    assert!(is_applied(&lab.put(owners[0], "v", 1, sloppy())));
    let old = lab.disk_of(fallbacks[0]);
    lab.heal();
    lab.delete(owners[0], 2);
    lab.pass(30_000);
    assert_eq!(lab.floors(), [1; 3]);

    let lost = Losses {
        lives: [Incarnation(77)].into(),
        ..Losses::default()
    };
    lab.start(fallbacks[0], old, lost);
    assert!(lab.guests(fallbacks[0]).bytes > 0, "it is there again");
    lab.connect(fallbacks[0]);
    lab.pass(10_000);
    assert!(lab.count(fallbacks[0], Event::GuestOutdated) > 0);
    assert_eq!(lab.guests(fallbacks[0]), GuestStatus::default());
    assert!(!lab.holds(fallbacks[0]));
    assert_eq!(lab.values(owners[1], Quorum), [] as [Bytes; 0]);

    // The next round tells it the number, and it stands in again.
    lab.put(owners[0], "w", 3, Quorum);
    lab.delete(owners[0], 4);
    lab.pass(40_000);
    assert_eq!(lab.floors(), [2; 3]);
    lab.cut(&owners[1..]);
    assert!(is_applied(&lab.put(owners[0], "x", 5, sloppy())));
    lab.heal();
    assert_eq!(lab.values(owners[1], Quorum), ["x"]);
}

/// A fallback that never forgot lets nothing go, whatever an owner says.
#[test]
fn p9_a_fallback_that_remembers_keeps_what_an_owner_refuses() {
    let mut lab = Lab::ready(Limits::default());
    let (owners, fallbacks) = (lab.owners.clone(), lab.fallbacks.clone());
    lab.cut(&owners[1..]);
    assert!(is_applied(&lab.put(owners[0], "v", 1, sloppy())));
    let old = lab.disk_of(fallbacks[0]);
    lab.heal();
    lab.delete(owners[0], 2);
    lab.pass(30_000);
    lab.start(fallbacks[0], old, Losses::default());
    lab.connect(fallbacks[0]);
    lab.pass(10_000);
    assert_eq!(lab.count(fallbacks[0], Event::GuestOutdated), 0);
    assert_eq!(lab.guests(fallbacks[0]).records, 1);
}
