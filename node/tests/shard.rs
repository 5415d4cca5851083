//! The shard alone: three of them, a network and a log that do only what a test says.
//!
//! What needs time, chance or a disk is tested in the simulator; here are the shortest runs of the
//! rules that the core itself keeps.

#![expect(
    clippy::panic,
    reason = "helpers of tests end a test that went another way"
)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{
    BucketDigests, Digest, DigestChange, DigestSecret, Holdings, NodeHash, OpId, Record,
    SumsCorrection,
};
use quorate_node::core::effect::{Event, StopReason};
use quorate_node::core::exchange::{CompareRefused, Compared, Purpose};
use quorate_node::core::failure::{Cause, Effectiveness};
use quorate_node::core::healing::Healed;
use quorate_node::core::hints::{HintChange, HintLimits};
use quorate_node::core::input::{
    Contradiction, DeclaredLost, Input, LinkEvent, Losses, Now, Recovered, RequestId, StoreEvent,
};
use quorate_node::core::key::RecordKey;
use quorate_node::core::message::{
    ExchangeAnswer, ExchangeReply, Forward, HeldRecord, OpNumber, PeerMessage, PurgeNumber,
    PurgeStep, ReadRecordReply, ReadRequest, Refusal, Reply, Request, ResolveRequest, ScanPart,
    ScanReply, ScanRequest, SessionReadRequest, Wanted, WriteRequest,
};
use quorate_node::core::scan_page::{PagePart, RowContent, ScanRow};
use quorate_node::core::seal::SealKey;
use quorate_node::core::shard::DeclareRefused;
use quorate_node::core::table::TableLimits;
use quorate_node::core::timeline::{Life, Memory, Timeline};
use quorate_node::core::{Effect, Limits, Shard, ShardConfig};
use quorate_ring::{
    ConsistencyLevel, Copies, Epoch, Incarnation, Keyspace, KeyspaceId, KeyspaceMode, Lsn,
    MonoTime, Node, NodeId, Topology, VnodeCount, VnodeId, Weight, Zone,
};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
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
    let keyspace = |id: u32, name: &str, copies: u8| Keyspace {
        id: KeyspaceId(id),
        name: name.parse().expect("a name"),
        mode: KeyspaceMode::Siblings,
        options: quorate_ring::KeyspaceOptions::default(),
        copies: Copies::new(copies).expect("some copies"),
    };
    let keyspaces = vec![keyspace(1, "default", 3), keyspace(2, "single", 1)];
    let vnodes = VnodeCount::new(8).expect("a power of two");
    let epoch = Epoch {
        generation: 1,
        number: 1,
    };
    let nodes = vec![node(1), node(2), node(3)];
    Arc::new(Topology::new(epoch, vnodes, nodes, keyspaces).expect("a topology"))
}

fn config(me: NodeId, limits: Limits) -> ShardConfig {
    ShardConfig {
        me,
        cluster_id: [7; 16],
        topology: topology(),
        seal: SealKey::new([9; 32]),
        digest: DigestSecret { key: 1, record: 2 },
        table: ROOMY,
        limits,
        exchange_interval: None,
        hints: HintLimits {
            bytes_max: 0,
            ..HintLimits::default()
        },
        purge_rest: PURGE_REST,
        spare_max: 0,
    }
}

fn recovered(lives: &[(u64, u64)], memories: &[(NodeId, Memory)]) -> Recovered {
    let lives: Vec<Life> = lives
        .iter()
        .map(|&(incarnation, first)| Life {
            incarnation: Incarnation(incarnation),
            first: Lsn(first),
        })
        .collect();
    let present = *lives.last().expect("one life");
    Recovered {
        timeline: Timeline::from_lives(lives).expect("a timeline"),
        incarnation: present.incarnation,
        durable: present.first,
        applied: Lsn::ZERO,
        clean: false,
        volatile: quorate_node::core::input::Volatile::Lost,
        losses: Losses::default(),
        hints: Vec::new(),
        memories: memories.iter().copied().collect(),
        records: Vec::new(),
        digests: BucketDigests::default(),
        log_bytes: 0,
    }
}

/// Everything stays in memory.
const ROOMY: TableLimits = TableLimits {
    generation_bytes: 1 << 20,
    generation_log_bytes: 1 << 20,
    cache_bytes: 64 << 20,
    digest_cache_bytes: 0,
};

/// What is durable is in the engine at once, and of it only the digest in memory.
const TIGHT: TableLimits = TableLimits {
    generation_bytes: 1,
    generation_log_bytes: 1,
    cache_bytes: 0,
    digest_cache_bytes: 4 << 10,
};

/// Three shards; messages and syncs happen when a test lets them.
struct Lab {
    now: u64,
    shards: BTreeMap<NodeId, Shard>,
    wire: VecDeque<(NodeId, NodeId, PeerMessage)>,
    appended: BTreeMap<NodeId, Lsn>,
    replies: Vec<(u64, Reply)>,
    stopped: BTreeMap<NodeId, StopReason>,
    cut: Vec<NodeId>,
    sync_by_itself: Vec<NodeId>,
    ingested: Vec<Lsn>,
    counted: Vec<Event>,
    /// Alters messages on their way.
    tamper: Option<Tamper>,
    next_request: u64,
    /// By how much every wall clock is ahead, in microseconds.
    wall_ahead: u64,
    limits: Limits,
    exchange_interval: Option<Duration>,
    compared: Vec<(u64, Result<Compared, CompareRefused>)>,
    healed: Vec<(NodeId, Healed)>,
    noted: Vec<(NodeId, String)>,
    /// Copies in doubt, as they were kept.
    doubts: Vec<(NodeId, u32)>,
    topology: Arc<Topology>,
    declared: Vec<(NodeId, DeclaredLost)>,
    answered: Vec<Result<(), DeclareRefused>>,
    /// No word of an operator is kept.
    no_room: bool,
    hint_bytes_max: usize,
    hint_changes: Vec<(NodeId, HintChange)>,
    table: TableLimits,
    /// What each node's engine holds.
    engines: BTreeMap<NodeId, BTreeMap<RecordKey, Bytes>>,
    /// The engine is read only when time passes.
    slow_store: bool,
    read: VecDeque<(NodeId, Input)>,
}

/// Sees to whom a message goes.
type Tamper = Box<dyn FnMut(NodeId, &mut PeerMessage)>;

impl Lab {
    fn unconnected() -> Self {
        Self::with_limits(Limits::default())
    }

    fn with_limits(limits: Limits) -> Self {
        Self::with(limits, ROOMY)
    }

    fn with(limits: Limits, table: TableLimits) -> Self {
        let mut lab = Self {
            limits,
            table,
            engines: BTreeMap::new(),
            exchange_interval: None,
            compared: Vec::new(),
            healed: Vec::new(),
            noted: Vec::new(),
            doubts: Vec::new(),
            topology: topology(),
            declared: Vec::new(),
            answered: Vec::new(),
            no_room: false,
            hint_bytes_max: 0,
            hint_changes: Vec::new(),
            slow_store: false,
            read: VecDeque::new(),
            now: 0,
            shards: BTreeMap::new(),
            wire: VecDeque::new(),
            appended: BTreeMap::new(),
            replies: Vec::new(),
            stopped: BTreeMap::new(),
            cut: Vec::new(),
            sync_by_itself: vec![A, B, C],
            ingested: Vec::new(),
            counted: Vec::new(),
            tamper: None,
            next_request: 0,
            wall_ahead: 0,
        };
        for node in [A, B, C] {
            lab.start(node, &[(u64::from(node.0) * 100, 1)], &[]);
        }
        lab
    }

    /// All three connected, greeted and counting.
    fn ready() -> Self {
        let mut lab = Self::unconnected();
        lab.connect(&[A, B, C]);
        lab
    }

    fn start(&mut self, node: NodeId, lives: &[(u64, u64)], memories: &[(NodeId, Memory)]) {
        let recovered = recovered(lives, memories);
        self.start_with(node, recovered);
    }

    fn start_with(&mut self, node: NodeId, recovered: Recovered) {
        self.appended.insert(node, recovered.durable);
        let config = ShardConfig {
            exchange_interval: self.exchange_interval,
            hints: HintLimits {
                bytes_max: self.hint_bytes_max,
                ..HintLimits::default()
            },
            topology: Arc::clone(&self.topology),
            table: self.table,
            ..config(node, self.limits)
        };
        let shard = Shard::new(self.clock(), config, recovered);
        self.shards.insert(node, shard);
    }

    fn clock(&self) -> Now {
        Now {
            mono: MonoTime::from_micros(self.now),
            wall_micros: 1_000_000 + self.now + self.wall_ahead,
        }
    }

    fn connect(&mut self, nodes: &[NodeId]) {
        for from in nodes {
            for to in nodes.iter().filter(|to| *to != from) {
                self.step(*from, Input::Link(LinkEvent::Up { peer: *to, link: 1 }));
            }
        }
        self.run();
    }

    fn step(&mut self, node: NodeId, input: Input) {
        let now = self.clock();
        let mut effects = Vec::new();
        self.shards
            .get_mut(&node)
            .expect("a node")
            .step(now, input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Reply { to, reply, .. } => self.replies.push((to.id, reply)),
                Effect::Send { to, message } => self.wire.push_back((node, to, message)),
                Effect::Append { lsn, .. } => {
                    self.appended.insert(node, lsn);
                }
                Effect::Load(key) => {
                    let engine = self.engines.entry(node).or_default();
                    let record = engine.get(&key).cloned();
                    let loaded = StoreEvent::Loaded(vec![(key, Ok(record))]);
                    self.store_answers(node, loaded);
                }
                Effect::Stop(reason) => {
                    self.stopped.insert(node, reason);
                }
                Effect::Ingest(generation) => {
                    self.ingested.push(generation.applied);
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
                    self.store_answers(node, StoreEvent::Scanned { number, page });
                }
                Effect::Count(event) => self.counted.push(event),
                Effect::Compared { number, result } => self.compared.push((number, result)),
                Effect::NoteLoss(why) => self.noted.push((node, why)),
                Effect::NoteDoubt(copies) => self.doubts.push((node, copies)),
                Effect::Healed(healed) => self.healed.push((node, healed)),
                Effect::DeclareLost { lost, number } => {
                    self.declared.push((node, lost.clone()));
                    let Some(number) = number else {
                        continue;
                    };
                    let noted = StoreEvent::LossNoted {
                        number,
                        lost,
                        is_durable: !self.no_room,
                    };
                    self.step(node, Input::Store(noted));
                }
                Effect::LossDeclared { result, .. } => self.answered.push(result),
                Effect::Hint(change) => self.hint_changes.push((node, change)),
                Effect::Remember { .. } | Effect::CloseLink { .. } => {}
            }
        }
    }

    fn store_answers(&mut self, node: NodeId, event: StoreEvent) {
        if self.slow_store {
            self.read.push_back((node, Input::Store(event)));
        } else {
            self.step(node, Input::Store(event));
        }
    }

    /// The engine of a node answers the first question that waits there.
    fn answer_one(&mut self) {
        let (node, answer) = self.read.pop_front().expect("a node reads its engine");
        self.step(node, answer);
        self.run();
    }

    /// Delivers and syncs until nothing moves.
    fn run(&mut self) {
        loop {
            for node in self.sync_by_itself.clone() {
                self.sync(node);
            }
            let Some((from, to, mut message)) = self.wire.pop_front() else {
                break;
            };
            if let Some(tamper) = &mut self.tamper {
                tamper(to, &mut message);
            }
            if self.cut.contains(&from) || self.cut.contains(&to) {
                continue;
            }
            let header = self.shards[&from].header();
            self.step(
                to,
                Input::Peer {
                    from,
                    link: 1,
                    header,
                    message,
                },
            );
        }
    }

    fn sync(&mut self, node: NodeId) {
        let appended = self.appended[&node];
        if self.shards[&node].table().durable_lsn() < appended {
            self.step(node, Input::Store(StoreEvent::Durable(appended)));
        }
    }

    fn pass(&mut self, millis: u64) {
        for _ in 0..millis / 10 {
            self.now += 10_000;
            for (node, answer) in std::mem::take(&mut self.read) {
                self.step(node, answer);
            }
            for node in [A, B, C] {
                self.step(node, Input::Tick);
            }
            self.run();
        }
    }

    fn ask(&mut self, node: NodeId, request: Request) -> u64 {
        self.next_request += 1;
        let id = self.next_request;
        let deadline = self.clock().mono + Duration::from_secs(2);
        let from = RequestId {
            connection: u64::from(node.0),
            id,
        };
        self.step(
            node,
            Input::Request {
                from,
                received: self.clock().mono,
                deadline,
                request,
            },
        );
        id
    }

    fn reply(&self, id: u64) -> Option<&Reply> {
        self.replies
            .iter()
            .find(|(of, _)| *of == id)
            .map(|(_, reply)| reply)
    }

    fn values(&mut self, node: NodeId, level: ConsistencyLevel) -> Vec<Bytes> {
        let id = self.ask(node, get(level));
        self.run();
        if self.reply(id).is_none() {
            // A replica does not answer: the others are asked.
            self.pass(100);
        }
        match self.reply(id) {
            Some(Reply::Read { values, .. }) => values.clone(),
            other => panic!("the read got {other:?}"),
        }
    }
}

impl Lab {
    /// An operator tells a node that disks are lost.
    fn declare_lost(&mut self, node: NodeId, lost: &[NodeId]) -> Result<(), DeclareRefused> {
        let nodes = lost.to_vec();
        self.step(node, Input::DeclareLost { number: 1, nodes });
        self.run();
        self.answered.pop().expect("an answer")
    }
}

fn put(value: &'static str, op: u8, context: Option<Bytes>) -> Request {
    put_at(value, op, context, ConsistencyLevel::Quorum)
}

fn put_at(value: &'static str, op: u8, context: Option<Bytes>, level: ConsistencyLevel) -> Request {
    Request::Write(WriteRequest {
        keyspace: "default".into(),
        key: Bytes::from_static(b"k"),
        value: Some(Bytes::from_static(value.as_bytes())),
        context,
        level,
        op_id: OpId([op; 16]),
        flagged: false,
        age: Duration::ZERO,
        stamp: None,
        ttl_ms: None,
    })
}

fn retry(mut request: Request) -> Request {
    if let Request::Write(write) = &mut request {
        write.flagged = true;
        write.age = Duration::from_millis(100);
    }
    request
}

/// In the keyspace of one copy.
fn single(mut request: Request) -> Request {
    match &mut request {
        Request::Write(write) => write.keyspace = "single".into(),
        Request::Read(read) => read.keyspace = "single".into(),
        Request::Resolve(resolve) => resolve.keyspace = "single".into(),
        Request::SessionRead(session) => session.read.keyspace = "single".into(),
    }
    request
}

fn get(level: ConsistencyLevel) -> Request {
    Request::Read(ReadRequest {
        keyspace: "default".into(),
        key: Bytes::from_static(b"k"),
        level,
    })
}

fn get_covering(level: ConsistencyLevel, covers: Vec<Bytes>) -> Request {
    Request::SessionRead(SessionReadRequest {
        read: ReadRequest {
            keyspace: "default".into(),
            key: Bytes::from_static(b"k"),
            level,
        },
        covers,
    })
}

fn resolve(op: u8) -> Request {
    Request::Resolve(ResolveRequest {
        keyspace: "default".into(),
        key: Bytes::from_static(b"k"),
        level: ConsistencyLevel::Quorum,
        op_id: OpId([op; 16]),
    })
}

fn context(reply: Option<&Reply>) -> Bytes {
    match reply {
        Some(
            Reply::Applied {
                context: Some(context),
                ..
            }
            | Reply::Read { context, .. },
        ) => context.clone(),
        other => panic!("no context in {other:?}"),
    }
}

fn is_applied(reply: Option<&Reply>) -> bool {
    matches!(reply, Some(Reply::Applied { .. }))
}

fn failure(reply: Option<&Reply>) -> (Cause, Effectiveness) {
    match reply {
        Some(Reply::Failed(failure)) => (failure.cause, failure.effect),
        other => panic!("no failure: {other:?}"),
    }
}

#[test]
fn a_put_is_read_back_and_a_put_with_its_context_supersedes_it() {
    let mut lab = Lab::ready();
    let first = lab.ask(A, put("v1", 1, None));
    lab.run();
    assert!(is_applied(lab.reply(first)));
    let seen = context(lab.reply(first));
    let second = lab.ask(B, put("v2", 2, Some(seen)));
    lab.run();
    assert!(is_applied(lab.reply(second)));
    for node in [A, B, C] {
        assert_eq!(
            lab.values(node, ConsistencyLevel::Quorum),
            [Bytes::from_static(b"v2")]
        );
    }
}

#[test]
fn blind_puts_at_two_coordinators_stay_siblings() {
    let mut lab = Lab::ready();
    lab.ask(A, put("x", 1, None));
    lab.ask(B, put("y", 2, None));
    lab.run();
    let mut values = lab.values(C, ConsistencyLevel::Quorum);
    values.sort();
    assert_eq!(values, [Bytes::from_static(b"x"), Bytes::from_static(b"y")]);
}

#[test]
fn nothing_is_acknowledged_before_the_sync() {
    let mut lab = Lab::ready();
    lab.sync_by_itself.clear();
    let id = lab.ask(A, put("v", 1, None));
    lab.run();
    assert_eq!(lab.reply(id), None, "sent to all, durable nowhere");
    lab.sync(B);
    lab.run();
    assert_eq!(lab.reply(id), None, "one copy is not W = 2");
    lab.sync(C);
    lab.run();
    assert!(is_applied(lab.reply(id)), "two other replicas are enough");
}

#[test]
fn reads_show_the_durable_view_and_never_wait_for_a_sync() {
    let mut lab = Lab::ready();
    lab.sync_by_itself.clear();
    lab.ask(A, put("v", 1, None));
    lab.run();
    assert!(lab.values(A, ConsistencyLevel::Quorum).is_empty());
}

/// What replicas tell of the record that they are asked for.
fn told(lab: &mut Lab) -> Rc<RefCell<Vec<HeldRecord>>> {
    let told = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&told);
    lab.tamper = Some(Box::new(move |_, message| {
        if let PeerMessage::ReadReply(ReadRecordReply {
            result: Ok(held), ..
        }) = message
        {
            seen.borrow_mut().push(held.record.clone());
        }
    }));
    told
}

#[test]
fn a_replica_that_holds_what_the_coordinator_holds_spares_its_bytes() {
    let mut lab = Lab::ready();
    lab.ask(A, put("v", 1, None));
    lab.run();
    let told = told(&mut lab);
    assert_eq!(lab.values(A, ConsistencyLevel::All), ["v"]);
    assert_eq!(*told.borrow(), [HeldRecord::AsKnown, HeldRecord::AsKnown]);
    // One that missed a write is told it, though it asks about what it has.
    lab.cut = vec![C];
    lab.ask(A, put("w", 2, None));
    lab.run();
    lab.cut.clear();
    told.borrow_mut().clear();
    let values = lab.values(C, ConsistencyLevel::Quorum);
    assert!(values.contains(&Bytes::from_static(b"w")), "{values:?}");
    assert!(matches!(told.borrow()[0], HeldRecord::Whole(_)));
}

/// Three nodes whose engines hold *v1*, and whose memories its digest; and what its writer saw.
fn lab_with_a_record_that_left() -> (Lab, Bytes) {
    let mut lab = Lab::with(Limits::default(), TIGHT);
    lab.connect(&[A, B, C]);
    let first = lab.ask(A, put("v1", 1, None));
    lab.pass(100);
    let seen = context(lab.reply(first));
    lab.counted.clear();
    (lab, seen)
}

#[test]
fn what_was_made_on_a_record_that_left_memory_is_taken_without_a_look() {
    let (mut lab, seen) = lab_with_a_record_that_left();
    lab.sync_by_itself.clear();
    let second = lab.ask(A, put("v2", 2, Some(seen)));
    lab.run();
    let loads = |lab: &Lab| [lab.count(Event::EngineLoad), lab.count(Event::LoadSpared)];
    assert_eq!(loads(&lab), [1, 2], "only the coordinator's own");
    // Who reads meanwhile is shown what is durable, and that is in the engine alone.
    assert_eq!(lab.values(B, ConsistencyLevel::One), ["v1"]);
    assert_eq!(loads(&lab), [2, 2]);
    lab.sync_by_itself = vec![A, B, C];
    lab.pass(100);
    assert!(is_applied(lab.reply(second)));
    for node in [A, B, C] {
        assert_eq!(lab.values(node, ConsistencyLevel::One), ["v2"]);
        let of = |node: NodeId| lab.shards[&node].table().digests();
        assert_eq!(of(node), of(A), "sums and holdings");
    }
}

#[test]
fn of_a_record_that_left_memory_a_quorum_read_loads_one_copy() {
    let (mut lab, _) = lab_with_a_record_that_left();
    lab.slow_store = true;
    let read = lab.ask(A, get(ConsistencyLevel::Quorum));
    lab.run();
    assert_eq!(lab.reply(read), None, "no record is here");
    lab.answer_one();
    let Some(Reply::Read { values, .. }) = lab.reply(read) else {
        panic!("it got {:?}", lab.reply(read));
    };
    assert_eq!(*values, ["v1"]);
    assert_eq!(lab.count(Event::EngineLoad), 1);
    assert_eq!(lab.count(Event::LoadSpared), 1);
}

/// B says that it holds what A is loading; before A has loaded it, both take a newer one.
#[test]
fn a_record_that_changes_while_it_is_loaded_is_asked_for_anew() {
    let (mut lab, seen) = lab_with_a_record_that_left();
    lab.slow_store = true;
    let write = lab.ask(C, put("v2", 2, Some(seen)));
    let read = lab.ask(A, get(ConsistencyLevel::Quorum));
    lab.run();
    // C has loaded its record and writes.
    lab.answer_one();
    assert!(is_applied(lab.reply(write)));
    lab.pass(100);
    let Some(Reply::Read { values, .. }) = lab.reply(read) else {
        panic!("it got {:?}", lab.reply(read));
    };
    assert_eq!(*values, ["v2"]);
    assert_eq!(lab.count(Event::PeerMessageRefused), 0);
}

#[test]
fn a_replica_that_was_asked_about_nothing_and_says_it_holds_that_is_not_believed() {
    let mut lab = Lab::ready();
    lab.cut = vec![A];
    lab.ask(B, put("v", 1, None));
    lab.run();
    lab.cut.clear();
    let mut left = 1;
    lab.tamper = Some(Box::new(move |_, message| {
        if let PeerMessage::ReadReply(ReadRecordReply {
            result: Ok(held), ..
        }) = message
            && left > 0
        {
            left -= 1;
            held.record = HeldRecord::AsKnown;
        }
    }));
    assert_eq!(
        lab.values(A, ConsistencyLevel::Quorum),
        ["v"],
        "of the third"
    );
    assert!(lab.counted.contains(&Event::PeerMessageRefused));
}

/// V8 of the counterexamples.
#[test]
fn a_duplicate_is_applied_only_with_w() {
    let mut lab = Lab::ready();
    lab.cut = vec![B, C];
    let first = lab.ask(A, put("v", 1, None));
    lab.run();
    assert_eq!(lab.reply(first), None);
    let again = lab.ask(A, retry(put("v", 1, None)));
    lab.run();
    assert_eq!(
        lab.reply(again),
        None,
        "one copy, though the op id is known"
    );
    lab.cut.clear();
    let third = lab.ask(A, retry(put("v", 1, None)));
    lab.run();
    assert!(is_applied(lab.reply(third)));
    assert_eq!(
        lab.values(B, ConsistencyLevel::Quorum).len(),
        1,
        "one write, one sibling"
    );
}

/// L10 of the counterexamples.
#[test]
fn an_input_that_changes_nothing_waits_for_the_state_it_met() {
    let mut lab = Lab::ready();
    lab.sync_by_itself.clear();
    let first = lab.ask(A, put("v", 1, None));
    let hedge = lab.ask(A, put("v", 1, None));
    lab.run();
    assert_eq!((lab.reply(first), lab.reply(hedge)), (None, None));
    lab.sync(A);
    lab.sync(B);
    lab.run();
    assert!(is_applied(lab.reply(first)) && is_applied(lab.reply(hedge)));
}

/// C6 of the counterexamples.
#[test]
fn a_lone_node_acknowledges_no_write_but_answers_reads_at_one() {
    let mut lab = Lab::unconnected();
    lab.pass(500);
    let write = lab.ask(A, put_at("v", 1, None, ConsistencyLevel::One));
    assert_eq!(
        failure(lab.reply(write)),
        (Cause::NotReady, Effectiveness::NotApplied)
    );
    assert!(lab.values(A, ConsistencyLevel::One).is_empty());
}

#[test]
fn a_node_counts_once_one_was_heard_and_the_rest_was_silent_for_a_second() {
    let mut lab = Lab::unconnected();
    lab.connect(&[A, B]);
    let early = lab.ask(A, put("v", 1, None));
    lab.run();
    assert_eq!(lab.reply(early), None, "C may still contradict");
    lab.pass(1_100);
    assert!(
        is_applied(lab.reply(early)),
        "asked again within the deadline"
    );
}

#[test]
fn a_level_that_cannot_be_met_fails_at_once_as_not_applied() {
    let mut lab = Lab::ready();
    lab.cut = vec![C];
    lab.pass(1_500);
    let id = lab.ask(A, put_at("v", 1, None, ConsistencyLevel::All));
    assert_eq!(
        failure(lab.reply(id)),
        (Cause::Unavailable, Effectiveness::NotApplied)
    );
    let id = lab.ask(A, put("v", 2, None));
    lab.run();
    assert!(
        is_applied(lab.reply(id)),
        "quorum goes on with one node down"
    );
}

/// C1 of the counterexamples: the log was rolled back and has outgrown the memory.
#[test]
fn a_node_that_forgot_stops_when_a_peer_remembers() {
    let mut lab = Lab::unconnected();
    let memory = Memory {
        incarnation: Incarnation(200),
        durable: Lsn(1500),
    };
    lab.start(A, &[(100, 1)], &[(B, memory)]);
    lab.start(B, &[(200, 1), (201, 1001)], &[]);
    lab.appended.insert(B, Lsn(1600));
    lab.sync(B);
    lab.connect(&[A, B]);
    assert_eq!(
        lab.stopped.get(&B),
        Some(&StopReason::Forgot { peer: A, memory })
    );
}

/// A node that starts with an empty disk and knows it; the other two hold what it acknowledged.
fn lab_with_a_lost_disk() -> Lab {
    let mut lab = Lab::ready();
    lab.pass(100);
    let id = lab.ask(A, put("v", 1, None));
    lab.run();
    assert!(is_applied(lab.reply(id)));
    let life = Incarnation(u64::from(A.0) * 100);
    let mut empty = recovered(&[(150, 1)], &[]);
    empty.losses = Losses {
        why: Some("its disk was lost".to_owned()),
        lives: [life].into(),
        // Of its only copies nothing can come back.
        declared: [(A, 1)].into(),
        ..Losses::default()
    };
    empty.timeline = empty.timeline.with_lost(empty.losses.lives.clone());
    // Its old life is no neighbour of the new one.
    lab.cut = vec![A];
    lab.pass(1_100);
    lab.start_with(A, empty);
    lab
}

fn reconnect(lab: &mut Lab, node: NodeId, peers: &[NodeId]) {
    for peer in peers {
        let (there, here) = (*peer, node);
        lab.step(
            there,
            Input::Link(LinkEvent::Down {
                peer: here,
                link: 1,
            }),
        );
        lab.step(
            there,
            Input::Link(LinkEvent::Up {
                peer: here,
                link: 1,
            }),
        );
        lab.step(
            here,
            Input::Link(LinkEvent::Up {
                peer: there,
                link: 1,
            }),
        );
    }
    lab.run();
}

/// C4: of a write at W two of three owners know; one of them lost it, so both others are needed.
#[test]
fn c4_a_node_that_lost_its_disk_counts_once_both_others_gave_it_back() {
    let mut lab = lab_with_a_lost_disk();
    lab.cut = vec![C];
    reconnect(&mut lab, A, &[B]);
    lab.pass(20_000);
    assert_eq!(lab.values(A, ConsistencyLevel::One), ["v"], "B answers");
    let lacking = |lab: &Lab| {
        let status = lab.shards[&A].status(lab.clock());
        (status.copies_lacking > 0, status.lost_why.is_some())
    };
    assert_eq!(lacking(&lab), (true, true), "B alone is not enough");
    let id = lab.ask(B, put("w", 2, None));
    lab.pass(3_000);
    assert!(!is_applied(lab.reply(id)), "A does not count for W");
    lab.cut.clear();
    reconnect(&mut lab, C, &[A, B]);
    lab.pass(20_000);
    assert_eq!(lacking(&lab), (false, false));
    let disk_and_memory = Healed {
        disk: true,
        memory: true,
        but_only_copies: false,
    };
    assert!(lab.healed.contains(&(A, disk_and_memory)));
    lab.cut = vec![B, C];
    assert_eq!(
        lab.values(A, ConsistencyLevel::One),
        ["v", "w"],
        "by itself"
    );
}

/// A disk that will not come back is waited for no more once an operator says so, and what that may
/// cost is told, until it is heard again.
#[test]
fn c4_a_node_waits_for_no_disk_that_was_declared_lost() {
    let mut lab = lab_with_a_lost_disk();
    let lacking = |lab: &Lab| lab.shards[&A].status(lab.clock()).copies_lacking;
    let doubt = lab.shards[&A].status(lab.clock()).copies_in_doubt;
    lab.cut = vec![C];
    reconnect(&mut lab, A, &[B]);
    let up = lab.declare_lost(A, &[B]);
    assert_eq!(up, Err(DeclareRefused::Up(B)), "its disk is there");
    let unknown = lab.declare_lost(A, &[C, NodeId(9)]);
    assert_eq!(unknown, Err(DeclareRefused::Unknown(NodeId(9))));
    lab.no_room = true;
    assert_eq!(lab.declare_lost(A, &[C]), Err(DeclareRefused::DiskFull));
    lab.no_room = false;
    lab.pass(5_000);
    assert!(lacking(&lab) > 0, "C is waited for");
    assert_eq!(lab.declare_lost(A, &[C]), Ok(()));
    assert_eq!(lab.declared.last().map(|(_, lost)| lost.len()), Some(2));
    lab.pass(5_000);
    let status = lab.shards[&A].status(lab.clock());
    assert_eq!((status.copies_lacking, status.lost_why), (0, None));
    assert!(status.copies_in_doubt > doubt, "what only C held is lost");
    let lost: Vec<&NodeId> = status.declared_lost.keys().collect();
    assert_eq!(lost, [&C], "its own is healed");
    let whole = lab.declare_lost(A, &[A]);
    assert_eq!(whole, Err(DeclareRefused::Up(A)), "it lacks nothing");
    // C comes back: what it holds is waited for after all.
    lab.cut.clear();
    reconnect(&mut lab, C, &[A, B]);
    assert!(lacking(&lab) > 0, "what C holds is to be had");
    // On disk, too: a life that ends now must not count before it was compared with C.
    assert!(
        matches!(lab.noted.last(), Some((node, why)) if *node == A && why.contains("heard again"))
    );
    let still = lab.shards[&A].status(lab.clock()).copies_in_doubt;
    assert!(still > doubt, "nor is it whole yet");
    lab.pass(20_000);
    let status = lab.shards[&A].status(lab.clock());
    assert!(status.declared_lost.is_empty());
    assert_eq!((status.copies_lacking, status.copies_in_doubt), (0, doubt));
    assert!(
        lab.healed
            .iter()
            .filter(|(node, healed)| *node == A && healed.disk)
            .count()
            > 1
    );
    // Silent for a while, and heard again on the connection that it had.
    lab.cut = vec![C];
    lab.pass(1_500);
    assert_eq!(lab.declare_lost(A, &[C]), Ok(()));
    lab.cut.clear();
    lab.pass(500);
    assert_eq!(lab.declared.last(), Some(&(A, DeclaredLost::new())));
}

/// Of a keyspace with one copy nobody can give anything back: it is not shown as empty.
#[test]
fn an_only_copy_that_was_lost_is_not_read_before_an_operator_gives_it_up() {
    let mut lab = Lab::ready();
    let topology = Arc::clone(lab.shards[&A].topology());
    let vnode = topology.locate(KeyspaceId(2), b"k").vnode;
    let owner = topology.owners(vnode, Copies::new(1).expect("1"))[0];
    let mut empty = recovered(&[(950, 1)], &[]);
    empty.losses = Losses {
        why: Some("its disk was lost".to_owned()),
        lives: [Incarnation(u64::from(owner.0) * 100)].into(),
        ..Losses::default()
    };
    empty.timeline = empty.timeline.with_lost(empty.losses.lives.clone());
    lab.cut = vec![owner];
    lab.pass(1_100);
    lab.start_with(owner, empty);
    lab.cut.clear();
    let others: Vec<NodeId> = [A, B, C]
        .into_iter()
        .filter(|node| *node != owner)
        .collect();
    reconnect(&mut lab, owner, &others);
    lab.pass(10_000);
    let of_shared = Healed {
        disk: true,
        memory: true,
        but_only_copies: true,
    };
    assert_eq!(lab.healed.last(), Some(&(owner, of_shared)));
    let single = || {
        Request::Read(ReadRequest {
            keyspace: "single".into(),
            key: Bytes::from_static(b"k"),
            level: ConsistencyLevel::One,
        })
    };
    let read = lab.ask(owner, single());
    lab.pass(2_500);
    let reply = lab.reply(read);
    let is_lost =
        matches!(&reply, Some(Reply::Failed(failure)) if failure.cause == Cause::CopyLost);
    assert!(is_lost, "{reply:?}");
    let status = lab.shards[&owner].status(lab.clock());
    assert!(status.only_copies_lacking > 0);
    assert_eq!(status.copies_lacking, status.only_copies_lacking);
    assert_eq!(lab.declare_lost(owner, &[owner]), Ok(()));
    let of_all = Healed {
        disk: true,
        memory: false,
        but_only_copies: false,
    };
    assert_eq!(lab.healed.last(), Some(&(owner, of_all)));
    let read = lab.ask(owner, single());
    lab.pass(500);
    let reply = lab.reply(read);
    assert!(matches!(reply, Some(Reply::Read { .. })), "{reply:?}");
    let status = lab.shards[&owner].status(lab.clock());
    assert_eq!(status.copies_lacking, 0);
    let doubt = status.copies_in_doubt;
    assert!(doubt > 0);
    let kept = lab.doubts.last().copied();
    assert_eq!(kept, Some((owner, u32::try_from(doubt).expect("few"))));
    // The next life says it too, until an operator knows.
    let durable = lab.shards[&owner].table().durable_lsn();
    let life = lab.shards[&owner].header().incarnation.0;
    let mut again = recovered(&[(life, 1), (life + 1, durable.0 + 1)], &[]);
    again.losses.in_doubt = u32::try_from(doubt).expect("few");
    lab.start_with(owner, again);
    assert_eq!(
        lab.shards[&owner].status(lab.clock()).copies_in_doubt,
        doubt
    );
    lab.step(owner, Input::AcceptLosses);
    assert_eq!(lab.shards[&owner].status(lab.clock()).copies_in_doubt, 0);
    assert_eq!(lab.doubts.last(), Some(&(owner, 0)));
}

/// C5: what an owner took from memory is not in its digests before it is durable there.
#[test]
fn c5_a_node_that_lost_its_disk_waits_for_what_the_others_have_not_synced() {
    let mut lab = lab_with_a_lost_disk();
    lab.cut = vec![A, C];
    lab.sync_by_itself = vec![A, C];
    lab.ask(B, put_at("late", 2, None, ConsistencyLevel::One));
    lab.cut.clear();
    reconnect(&mut lab, C, &[B]);
    reconnect(&mut lab, A, &[B, C]);
    lab.pass(10_000);
    assert!(lab.shards[&A].status(lab.clock()).copies_lacking > 0);
    lab.sync_by_itself = vec![A, B, C];
    lab.pass(20_000);
    assert_eq!(lab.shards[&A].status(lab.clock()).copies_lacking, 0);
}

/// Who takes a life for lost that is heard at this moment runs beside it under its name.
#[test]
fn a_node_whose_lost_life_is_alive_is_not_greeted() {
    let mut lab = Lab::ready();
    lab.pass(100);
    let life = Incarnation(u64::from(A.0) * 100);
    let mut copied = recovered(&[(150, 1)], &[]);
    copied.timeline = copied.timeline.with_lost([life].into());
    lab.start_with(A, copied);
    reconnect(&mut lab, A, &[B]);
    let sees = |lab: &Lab| {
        let peers = lab.shards[&B].status(lab.clock()).peers;
        peers.iter().any(|(node, up, _)| *node == A && *up)
    };
    assert!(!sees(&lab));
    lab.pass(1_100);
    reconnect(&mut lab, A, &[B]);
    assert!(sees(&lab), "the other one has fallen silent");
}

#[test]
fn what_a_node_missed_is_brought_to_it_when_it_is_back_and_not_read() {
    let mut lab = Lab::with_limits(Limits::default());
    lab.hint_bytes_max = 1 << 20;
    for node in [A, B, C] {
        lab.start(node, &[(u64::from(node.0) * 100 + 1, 1)], &[]);
    }
    lab.connect(&[A, B, C]);
    lab.cut = vec![C];
    lab.pass(1_100);
    for (op, value) in [(1, "v"), (2, "w")] {
        let id = lab.ask(A, put(value, op, None));
        lab.pass(1_200);
        assert!(is_applied(lab.reply(id)));
    }
    let hints = |lab: &Lab| lab.shards[&A].status(lab.clock()).hints;
    let waiting: Vec<_> = hints(&lab).iter().map(|of| (of.target, of.keys)).collect();
    assert_eq!(waiting, [(C, 1)], "one key, though it was written twice");
    lab.cut.clear();
    reconnect(&mut lab, C, &[A, B]);
    // Its acknowledgement is lost: the record is sent again.
    lab.cut = vec![C];
    lab.pass(20);
    lab.cut.clear();
    lab.pass(3_000);
    assert_eq!(hints(&lab), []);
    let changes: Vec<_> = lab
        .hint_changes
        .iter()
        .map(|(node, change)| {
            assert_eq!(*node, A);
            matches!(change, HintChange::Missed(to, _) if *to == C)
        })
        .collect();
    assert_eq!(changes, [true, false]);
    lab.cut = vec![A, B];
    assert_eq!(lab.values(C, ConsistencyLevel::One), ["v", "w"]);
}

#[test]
fn a_quorum_read_repairs_before_it_answers() {
    let mut lab = Lab::ready();
    lab.cut = vec![B, C];
    lab.ask(A, put_at("v", 1, None, ConsistencyLevel::One));
    lab.run();
    lab.cut.clear();
    lab.sync_by_itself = vec![A];
    let read = lab.ask(A, get(ConsistencyLevel::Quorum));
    lab.run();
    assert_eq!(lab.reply(read), None, "only A holds it durably");
    lab.sync_by_itself = vec![A, B, C];
    lab.run();
    assert!(matches!(lab.reply(read), Some(Reply::Read { values, .. }) if values.len() == 1));
    lab.cut = vec![A];
    assert_eq!(
        lab.values(B, ConsistencyLevel::Quorum).len(),
        1,
        "no later read sees less"
    );
}

#[test]
fn contexts_of_another_key_or_altered_are_refused() {
    let mut lab = Lab::ready();
    let id = lab.ask(A, put("v", 1, None));
    lab.run();
    let sealed = context(lab.reply(id));
    let mut altered = sealed.to_vec();
    *altered.last_mut().expect("a token") ^= 1;
    let id = lab.ask(A, put("w", 2, Some(altered.into())));
    assert_eq!(
        failure(lab.reply(id)),
        (Cause::ContextInvalid, Effectiveness::NotApplied)
    );
    let mut other = put("w", 3, Some(sealed));
    if let Request::Write(write) = &mut other {
        write.key = Bytes::from_static(b"another");
    }
    let id = lab.ask(A, other);
    assert_eq!(
        failure(lab.reply(id)),
        (Cause::ContextInvalid, Effectiveness::NotApplied)
    );
}

#[test]
fn a_link_that_comes_back_is_sent_what_is_still_wanted() {
    let mut lab = Lab::ready();
    lab.cut = vec![B, C];
    let id = lab.ask(A, put("v", 1, None));
    lab.run();
    lab.cut.clear();
    lab.step(A, Input::Link(LinkEvent::Down { peer: B, link: 1 }));
    lab.step(A, Input::Link(LinkEvent::Up { peer: B, link: 1 }));
    lab.step(B, Input::Link(LinkEvent::Down { peer: A, link: 1 }));
    lab.step(B, Input::Link(LinkEvent::Up { peer: A, link: 1 }));
    lab.run();
    assert!(is_applied(lab.reply(id)));
}

/// A put was tried twice and has a dot at A and a twin at B; its value was read from A alone and
/// superseded at C, which never held it. The token names the operation, so that no quorum shows the
/// twin beside what superseded it.
#[test]
fn a_twin_of_what_was_seen_does_not_stand_beside_its_superseder() {
    let mut lab = Lab::ready();
    lab.cut = vec![B, C];
    lab.ask(A, put("old", 1, None));
    lab.run();
    let read = lab.ask(A, get(ConsistencyLevel::One));
    lab.run();
    let seen = context(lab.reply(read));
    lab.cut = vec![A, C];
    lab.ask(B, retry(put("old", 1, None)));
    lab.run();
    lab.cut = vec![A, B];
    let newer = lab.ask(C, put_at("new", 2, Some(seen), ConsistencyLevel::One));
    lab.run();
    assert!(is_applied(lab.reply(newer)));
    lab.cut = vec![A];
    assert_eq!(
        lab.values(B, ConsistencyLevel::Quorum),
        [Bytes::from_static(b"new")]
    );
}

/// V6: the first attempt is at A and B, where it was superseded and the superseder read; a retry is
/// at C alone. Only C knows that there were two attempts, and nothing that the reader saw was
/// written by that operation.
#[test]
fn a_twin_of_what_was_superseded_before_the_read_does_not_stand_beside_the_next_put() {
    let mut lab = Lab::ready();
    lab.cut = vec![C];
    let first = lab.ask(A, put("old", 1, None));
    lab.run();
    let seen = context(lab.reply(first));
    lab.ask(A, put("new", 2, Some(seen)));
    lab.run();
    let read = lab.ask(A, get(ConsistencyLevel::Quorum));
    lab.run();
    lab.pass(100);
    let seen = context(lab.reply(read));
    lab.cut = vec![A, B];
    lab.ask(C, retry(put("old", 1, None)));
    lab.run();
    // C cannot know what was seen there, at no level.
    let alone = put_at("newest", 3, Some(seen.clone()), ConsistencyLevel::One);
    let newest = lab.ask(C, alone.clone());
    lab.run();
    lab.pass(2_100);
    assert_eq!(
        failure(lab.reply(newest)),
        (Cause::ContextAhead, Effectiveness::NotApplied)
    );
    lab.cut.clear();
    lab.connect(&[A, B, C]);
    let newest = lab.ask(C, alone);
    lab.run();
    assert!(is_applied(lab.reply(newest)));
    assert_eq!(
        lab.values(C, ConsistencyLevel::One),
        [Bytes::from_static(b"newest")]
    );
}

/// A read that meets a copy which cannot be brought up to date takes the one that holds everything
/// for it, whose disk need not have room for that.
#[test]
fn reads_go_on_while_all_disks_are_full_and_one_copy_is_behind() {
    let mut lab = Lab::ready();
    lab.cut = vec![C];
    let write = lab.ask(A, put("new", 1, None));
    lab.run();
    assert!(is_applied(lab.reply(write)));
    for node in [A, B, C] {
        let full = Input::DiskSpace {
            free_bytes: 0,
            total_bytes: 1_000,
        };
        lab.step(node, full);
    }
    lab.cut.clear();
    for asked in [A, B, C] {
        for _ in 0..4 {
            assert_eq!(
                lab.values(asked, ConsistencyLevel::Quorum),
                [Bytes::from_static(b"new")]
            );
        }
    }
}

/// The token of a quorum operation has no operations: who does not know its dots finds them at any
/// owner of the majority that does, and takes over what that one knows.
#[test]
fn a_write_after_what_its_coordinator_does_not_know_looks_for_it_first() {
    let mut lab = Lab::ready();
    lab.cut = vec![C];
    let first = lab.ask(A, put("old", 1, None));
    lab.run();
    let seen = context(lab.reply(first));
    lab.cut.clear();
    let second = lab.ask(C, put("new", 2, Some(seen)));
    lab.run();
    assert!(is_applied(lab.reply(second)));
    assert!(lab.counted.contains(&Event::WriteLookedFurther));
    // It knows the first one as A and B do: a late attempt of it mints nothing.
    let late = lab.ask(C, retry(put("old", 1, None)));
    lab.run();
    assert!(is_applied(lab.reply(late)));
    for node in [A, B, C] {
        assert_eq!(
            lab.values(node, ConsistencyLevel::One),
            [Bytes::from_static(b"new")]
        );
    }
}

/// Who owns the key in the keyspace of one copy, and who does not.
fn owner_and_other() -> (NodeId, NodeId) {
    let topology = topology();
    let copies = Copies::new(1).expect("one copy");
    let vnode = topology.locate(KeyspaceId(2), b"k").vnode;
    let owner = *topology.owners(vnode, copies).first().expect("an owner");
    let other = [A, B, C].into_iter().find(|node| *node != owner);
    (owner, other.expect("three nodes"))
}

/// More overwrites than the lists keep, each after what its client has read, within a second.
fn overwrite_often(lab: &mut Lab, owner: NodeId) {
    for op in 100..=180 {
        let read = lab.ask(owner, single(get(ConsistencyLevel::One)));
        lab.run();
        let seen = context(lab.reply(read));
        let put = single(put_at("new", op, Some(seen), ConsistencyLevel::One));
        let write = lab.ask(owner, put);
        lab.run();
        assert!(is_applied(lab.reply(write)));
        lab.pass(10);
    }
}

fn single_values(lab: &mut Lab, node: NodeId) -> Vec<Bytes> {
    let id = lab.ask(node, single(get(ConsistencyLevel::One)));
    lab.run();
    match lab.reply(id) {
        Some(Reply::Read { values, .. }) => values.clone(),
        other => panic!("the read got {other:?}"),
    }
}

/// The simulator's seed 1796007778051: after a wall clock that was half an hour ahead, hybrid
/// timestamps stood still but for a microsecond with each write, and every list was taken for
/// younger than the attempts that came.
#[test]
fn a_hot_key_takes_writes_while_its_timestamps_are_ahead_of_the_clock() {
    let (owner, _) = owner_and_other();
    let mut lab = Lab::ready();
    lab.pass(500);
    lab.wall_ahead = 1_800_000_000;
    overwrite_often(&mut lab, owner);
    lab.wall_ahead = 0;
    overwrite_often(&mut lab, owner);
    for op in 200..240 {
        lab.pass(10);
        let read = lab.ask(owner, single(get(ConsistencyLevel::One)));
        lab.run();
        let seen = context(lab.reply(read));
        let mut put = single(put_at("new", op, Some(seen), ConsistencyLevel::One));
        put.grow_older(Duration::from_millis(50));
        let write = lab.ask(owner, put);
        lab.run();
        assert!(is_applied(lab.reply(write)), "{:?}", lab.reply(write));
    }
}

/// The simulator's seed 317: a retry was handed to the owner over a slow link and arrived after its
/// op id had been evicted. It must not take itself for younger than the ids that are listed.
#[test]
fn a_forwarded_retry_that_was_long_on_its_way_mints_nothing() {
    let (owner, other) = owner_and_other();
    let mut lab = Lab::ready();
    lab.pass(500);
    let first = lab.ask(owner, single(put_at("old", 1, None, ConsistencyLevel::One)));
    lab.run();
    assert!(is_applied(lab.reply(first)));
    let late = lab.ask(
        other,
        retry(single(put_at("old", 1, None, ConsistencyLevel::One))),
    );
    let held = std::mem::take(&mut lab.wire);
    assert!(held.iter().any(|(_, to, message)| *to == owner
        && matches!(message, PeerMessage::Forward(forward) if forward.sent_after.is_some())));
    overwrite_often(&mut lab, owner);
    lab.wire = held;
    lab.run();
    assert_eq!(
        failure(lab.reply(late)),
        (Cause::AttemptTooOld, Effectiveness::Unknown)
    );
    assert_eq!(single_values(&mut lab, owner), [Bytes::from_static(b"new")]);
}

#[test]
fn a_retry_that_waited_for_the_loop_mints_nothing() {
    let (owner, _) = owner_and_other();
    let mut lab = Lab::ready();
    lab.pass(500);
    let received = lab.clock().mono;
    lab.ask(owner, single(put_at("old", 1, None, ConsistencyLevel::One)));
    lab.run();
    overwrite_often(&mut lab, owner);
    late_retry_mints_nothing(&mut lab, owner, received, Duration::ZERO);
}

/// The process was stopped while the retry was in the system's buffers, where nobody counts its
/// age.
#[test]
fn a_retry_that_waited_for_a_stopped_process_mints_nothing() {
    let (owner, _) = owner_and_other();
    let mut lab = Lab::ready();
    lab.pass(500);
    lab.ask(owner, single(put_at("old", 1, None, ConsistencyLevel::One)));
    lab.run();
    overwrite_often(&mut lab, owner);
    lab.now += 2_500_000;
    let received = lab.clock().mono;
    late_retry_mints_nothing(&mut lab, owner, received, Duration::from_millis(800));
}

/// The retry is 100 ms old and `held` more when it is sent.
fn late_retry_mints_nothing(lab: &mut Lab, owner: NodeId, received: MonoTime, held: Duration) {
    let (connection, id) = (1, 9_999);
    let mut request = retry(single(put_at("old", 1, None, ConsistencyLevel::One)));
    request.grow_older(held);
    let input = Input::Request {
        from: RequestId { connection, id },
        received,
        deadline: lab.clock().mono + Duration::from_secs(2),
        request,
    };
    lab.step(owner, input);
    lab.run();
    assert_eq!(
        failure(lab.reply(id)),
        (Cause::AttemptTooOld, Effectiveness::Unknown)
    );
    assert_eq!(single_values(lab, owner), [Bytes::from_static(b"new")]);
}

#[test]
fn a_forwarded_write_in_time_is_minted() {
    let (owner, other) = owner_and_other();
    let mut lab = Lab::ready();
    lab.pass(500);
    overwrite_often(&mut lab, owner);
    let id = lab.ask(
        other,
        single(put_at("more", 1, None, ConsistencyLevel::One)),
    );
    lab.run();
    assert!(is_applied(lab.reply(id)));
    assert_eq!(single_values(&mut lab, owner).len(), 2);
}

/// L9 of the counterexamples: the key is in every batch, so there is always a state in flight.
#[test]
fn the_durable_view_of_a_hot_key_moves_batch_by_batch() {
    let mut lab = Lab::ready();
    lab.sync_by_itself = vec![];
    lab.cut = vec![B, C];
    let start = lab.appended[&A];
    for op in 1..=4 {
        lab.ask(A, put_at("v", op, None, ConsistencyLevel::One));
    }
    assert_eq!(lab.appended[&A], Lsn(start.0 + 4), "four states in flight");
    for durable in 1..=4 {
        let lsn = Lsn(start.0 + durable);
        lab.step(A, Input::Store(StoreEvent::Durable(lsn)));
        let seen = lab.values(A, ConsistencyLevel::One).len() as u64;
        assert_eq!(seen, durable, "exactly what is durable is shown");
        lab.ask(
            A,
            put_at(
                "w",
                10 + u8::try_from(durable).expect("small"),
                None,
                ConsistencyLevel::One,
            ),
        );
    }
}

/// Found by seed 4: the table was frozen only after a commit, and without room no commit came.
#[test]
fn a_node_that_starts_with_a_long_log_feeds_the_engine_and_takes_writes() {
    let mut lab = Lab::unconnected();
    let mut long = recovered(&[(100, 1), (101, 3)], &[]);
    let key = RecordKey::new(KeyspaceId(1), VnodeId(0), b"old");
    long.records = vec![(key, quorate_antientropy::Record::default().to_bytes())];
    long.log_bytes = 4 << 20;
    lab.start_with(A, long);
    lab.connect(&[A, B, C]);
    lab.pass(100);
    assert_eq!(lab.ingested, [Lsn(3)]);
    let id = lab.ask(A, put("v1", 1, None));
    lab.run();
    assert!(is_applied(lab.reply(id)), "{:?}", lab.reply(id));
}

/// A write that its coordinator alone holds is *unknown*; resolving it at another node finds it,
/// makes it durable on W and says *applied*.
#[test]
fn an_unknown_write_is_resolved_as_applied_once_w_hold_it() {
    let mut lab = Lab::ready();
    lab.cut = vec![B, C];
    let write = lab.ask(A, put("v", 1, None));
    lab.run();
    lab.pass(2_000);
    assert_eq!(failure(lab.reply(write)).1, Effectiveness::Unknown);
    lab.cut.clear();
    for node in [A, B, C] {
        for peer in [A, B, C].into_iter().filter(|peer| *peer != node) {
            lab.step(node, Input::Link(LinkEvent::Down { peer, link: 1 }));
        }
    }
    lab.connect(&[A, B, C]);
    lab.pass(1_500);
    lab.sync_by_itself = vec![A];
    let question = lab.ask(B, resolve(1));
    lab.run();
    assert_eq!(lab.reply(question), None, "A alone holds it durably");
    lab.sync_by_itself = vec![A, B, C];
    lab.run();
    assert!(is_applied(lab.reply(question)));
    lab.cut = vec![A];
    assert_eq!(lab.values(B, ConsistencyLevel::Quorum).len(), 1);
}

#[test]
fn a_write_that_nobody_knows_stays_unknown_and_is_never_not_applied() {
    let mut lab = Lab::ready();
    let other = lab.ask(A, put("v", 1, None));
    lab.run();
    assert!(is_applied(lab.reply(other)));
    let question = lab.ask(C, resolve(9));
    lab.run();
    assert_eq!(
        failure(lab.reply(question)),
        (Cause::OperationNotSeen, Effectiveness::Unknown)
    );
}

#[test]
fn a_superseded_write_is_resolved_as_applied() {
    let mut lab = Lab::ready();
    let first = lab.ask(A, put("v1", 1, None));
    lab.run();
    let seen = context(lab.reply(first));
    lab.ask(B, put("v2", 2, Some(seen)));
    lab.run();
    let question = lab.ask(C, resolve(1));
    lab.run();
    match lab.reply(question) {
        Some(Reply::Applied {
            context,
            acks,
            superseded_by: None,
        }) => {
            assert_eq!(*context, None, "nothing to come after: read the key");
            assert!(*acks >= 2);
        }
        other => panic!("the question got {other:?}"),
    }
}

/// A put at `one` that only A holds: a session's read at `one` at another node finds it there, and
/// fails rather than answer without it.
#[test]
fn a_read_of_a_session_covers_what_the_session_has_seen() {
    let mut lab = Lab::ready();
    lab.cut = vec![B, C];
    let write = lab.ask(A, put_at("v", 1, None, ConsistencyLevel::One));
    lab.run();
    let seen = context(lab.reply(write));
    lab.pass(1_100);
    lab.cut.clear();
    for node in [A, B, C] {
        for peer in [A, B, C].into_iter().filter(|peer| *peer != node) {
            lab.step(node, Input::Link(LinkEvent::Down { peer, link: 1 }));
        }
    }
    lab.connect(&[B, C]);
    let read = lab.ask(B, get_covering(ConsistencyLevel::One, vec![seen.clone()]));
    lab.run();
    lab.pass(1_500);
    assert_eq!(lab.reply(read), None, "neither B nor C has seen it");
    lab.pass(1_000);
    assert_eq!(
        failure(lab.reply(read)),
        (Cause::SessionBehind, Effectiveness::NotApplied)
    );
    lab.connect(&[A, B, C]);
    lab.pass(1_500);
    let read = lab.ask(B, get_covering(ConsistencyLevel::One, vec![seen.clone()]));
    lab.run();
    assert!(
        matches!(lab.reply(read), Some(Reply::Read { values, .. }) if values.len() == 1),
        "B asks further until it is covered"
    );
}

#[test]
fn a_sessions_token_of_another_key_is_refused() {
    let mut lab = Lab::ready();
    let mut other = put("v", 1, None);
    if let Request::Write(write) = &mut other {
        write.key = Bytes::from_static(b"another");
    }
    let write = lab.ask(A, other);
    lab.run();
    let seen = context(lab.reply(write));
    let read = lab.ask(A, get_covering(ConsistencyLevel::One, vec![seen]));
    lab.run();
    assert_eq!(
        failure(lab.reply(read)),
        (Cause::ContextInvalid, Effectiveness::NotApplied)
    );
}

impl Lab {
    fn scan(&mut self, node: NodeId, request: ScanRequest) -> Reply {
        let id = self.begin_scan(node, request);
        self.run();
        if self.reply(id).is_none() {
            // A replica does not answer: another one is asked.
            self.pass(500);
        }
        self.reply(id).cloned().expect("the page is made")
    }

    fn begin_scan(&mut self, node: NodeId, request: ScanRequest) -> u64 {
        self.next_request += 1;
        let id = self.next_request;
        let deadline = self.clock().mono + Duration::from_secs(2);
        let from = RequestId {
            connection: u64::from(node.0),
            id,
        };
        let input = Input::Scan {
            from,
            received: self.clock().mono,
            deadline,
            request,
        };
        self.step(node, input);
        id
    }

    fn batch(&mut self, node: NodeId, items: Vec<Request>) -> Reply {
        self.next_request += 1;
        let id = self.next_request;
        let received = self.clock().mono;
        let asked = Input::Batch {
            from: RequestId { connection: 1, id },
            received,
            deadline: received + Duration::from_secs(2),
            items,
        };
        self.step(node, asked);
        self.run();
        self.reply(id).cloned().expect("an answer")
    }

    /// Keys and values of a whole scan, page by page, each page at another node.
    fn scan_all(&mut self, request: &ScanRequest) -> Vec<(String, Vec<String>)> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let (mut found, mut token) = (Vec::new(), None);
        for node in [A, B, C].into_iter().cycle().take(100) {
            let request = ScanRequest {
                token,
                ..request.clone()
            };
            match self.scan(node, request) {
                Reply::Page { records, next } => {
                    let rows = records.iter();
                    found.extend(rows.map(|r| (text(&r.key), r.values.iter().map(text).collect())));
                    token = next;
                }
                other => panic!("the page got {other:?}"),
            }
            if token.is_none() {
                return found;
            }
        }
        panic!("the scan does not end: {found:?}");
    }

    fn fill(&mut self, count: u8) {
        for number in 0..count {
            let id = self.ask(A, put_key(number, "v", number));
            self.run();
            assert!(matches!(self.reply(id), Some(Reply::Applied { .. })));
        }
    }
}

fn put_key(number: u8, value: &str, op: u8) -> Request {
    Request::Write(WriteRequest {
        keyspace: "default".into(),
        key: Bytes::from(format!("key-{number:03}")),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        context: None,
        level: ConsistencyLevel::Quorum,
        op_id: OpId([op; 16]),
        flagged: false,
        age: Duration::ZERO,
        stamp: None,
        ttl_ms: None,
    })
}

fn whole_scan(limit: usize) -> ScanRequest {
    ScanRequest {
        keyspace: "default".into(),
        start: Bytes::new(),
        end: None,
        token: None,
        limit,
        level: ConsistencyLevel::Quorum,
    }
}

fn rows(numbers: impl Iterator<Item = u8>) -> Vec<(String, Vec<String>)> {
    let row = |number| (format!("key-{number:03}"), vec!["v".to_owned()]);
    numbers.map(row).collect()
}

#[test]
fn a_scan_shows_every_key_once_and_in_order_whatever_its_pages() {
    let mut lab = Lab::ready();
    lab.fill(40);
    for limit in [1, 3, 39, 40, 41, 1000] {
        assert_eq!(lab.scan_all(&whole_scan(limit)), rows(0..40), "{limit}");
    }
    let range = ScanRequest {
        start: Bytes::from_static(b"key-007"),
        end: Some(Bytes::from_static(b"key-030")),
        ..whole_scan(5)
    };
    assert_eq!(lab.scan_all(&range), rows(7..30));
}

#[test]
fn a_scan_at_quorum_shows_what_only_two_replicas_hold_and_repairs_the_third() {
    let mut lab = Lab::ready();
    lab.cut.push(C);
    lab.fill(10);
    lab.cut.clear();
    // C coordinates: its own copies are missing, one other replica decides.
    let Reply::Page { records, next } = lab.scan(C, whole_scan(100)) else {
        panic!("no page");
    };
    assert_eq!((records.len(), next), (10, None));
    lab.run();
    let one = ScanRequest {
        level: ConsistencyLevel::One,
        ..whole_scan(100)
    };
    let Reply::Page { records, .. } = lab.scan(C, one) else {
        panic!("no page");
    };
    assert_eq!(records.len(), 10, "the scan repaired what it found missing");
}

#[test]
fn a_scan_goes_on_while_a_replica_is_away() {
    let mut lab = Lab::ready();
    lab.fill(20);
    lab.cut.push(B);
    let Reply::Page { records, .. } = lab.scan(A, whole_scan(100)) else {
        panic!("no page");
    };
    assert_eq!(records.len(), 20);
}

/// Alters the parts of pages that come, the first one only or all of them.
fn tamper_parts(most: usize, alter: impl Fn(&mut ScanPart) + 'static) -> Tamper {
    let mut left = most;
    Box::new(move |_, message| {
        if let PeerMessage::ScanReply(ScanReply {
            result: Ok(part), ..
        }) = message
            && left > 0
        {
            left -= 1;
            alter(part);
        }
    })
}

#[test]
fn a_part_that_answers_no_question_is_refused_and_another_replica_asked() {
    let row = |part: &ScanPart| part.rows.last().cloned().expect("a row");
    type Alter = Box<dyn Fn(&mut ScanPart)>;
    let cases: [(&str, Alter); 7] = [
        ("out of order", Box::new(|part| part.rows.reverse())),
        (
            "a key twice",
            Box::new(move |part| part.rows.push(row(part))),
        ),
        (
            "in front of the range",
            Box::new(|part| part.rows[0].key = Bytes::from_static(b"key")),
        ),
        (
            "behind the range",
            Box::new(|part| part.rows.last_mut().expect("a row").key = "key-9".into()),
        ),
        (
            "behind its own bound",
            Box::new(|part| part.until = Some("key-003".into())),
        ),
        (
            "no further",
            Box::new(|part| {
                part.rows.clear();
                part.until = Some("key-000".into());
            }),
        ),
        (
            "in another vnode",
            Box::new(|part| part.rows[0].vnode.0 ^= 1),
        ),
    ];
    for (name, alter) in cases {
        let mut lab = Lab::ready();
        lab.fill(20);
        lab.counted.clear();
        lab.tamper = Some(tamper_parts(1, alter));
        let range = ScanRequest {
            start: "key-000".into(),
            end: Some("key-9".into()),
            ..whole_scan(100)
        };
        assert_eq!(lab.scan_all(&range), rows(0..20), "{name}");
        let refused = lab.counted.iter();
        let refused = refused.filter(|event| **event == Event::PeerMessageRefused);
        assert_eq!(refused.count(), 1, "{name}");
    }
}

#[test]
fn a_record_of_a_peer_that_cannot_be_read_is_asked_for_by_a_get() {
    let mut lab = Lab::ready();
    let (owner, other) = owner_and_other();
    let id = lab.ask(owner, single(put_at("v", 1, None, ConsistencyLevel::One)));
    lab.run();
    assert!(is_applied(lab.reply(id)));
    lab.tamper = Some(tamper_parts(usize::MAX, |part| {
        for row in &mut part.rows {
            row.content = RowContent::Whole(Bytes::from_static(b"no record"));
        }
    }));
    let request = ScanRequest {
        keyspace: "single".into(),
        level: ConsistencyLevel::One,
        ..whole_scan(100)
    };
    let found = lab.scan(other, request);
    let Reply::Page { records, next } = found else {
        panic!("no page but {found:?}");
    };
    assert_eq!((records.len(), next), (1, None));
    assert_eq!(records[0].values, ["v"]);
    assert!(lab.stopped.is_empty(), "{:?}", lab.stopped);
}

/// What replicas tell of a page is little, what gets of its keys find is much.
#[test]
fn a_page_starts_no_more_gets_once_they_have_found_enough() {
    let mut lab = Lab::ready();
    let large: &'static str = Box::leak("v".repeat(9_000).into_boxed_str());
    lab.cut = vec![A];
    for number in 0..100 {
        lab.ask(B, put_key(number, large, number));
    }
    lab.run();
    lab.cut.clear();
    let read = Rc::new(RefCell::new(BTreeSet::new()));
    let seen = Rc::clone(&read);
    let digest = RowContent::Digest(Digest(1));
    let key = |number| Bytes::from(format!("key-{number:03}"));
    let row = move |number| ScanRow {
        vnode: topology().locate(KeyspaceId(1), &key(number)).vnode,
        key: key(number),
        content: digest.clone(),
    };
    lab.tamper = Some(Box::new(move |_, message| match message {
        PeerMessage::ScanReply(ScanReply {
            result: Ok(part), ..
        }) => {
            part.rows = (0..100).map(&row).collect();
            part.until = None;
        }
        PeerMessage::Read(ask) => {
            seen.borrow_mut().insert(ask.key.clone());
        }
        _ => {}
    }));
    let Reply::Page { records, next } = lab.scan(A, whole_scan(100)) else {
        panic!("no page");
    };
    assert_eq!(records.len(), 30, "of 9 kB each: 256 KiB are a page");
    assert!(next.is_some());
    let read = read.borrow().len();
    assert!(read <= 64 + 30, "{read} keys were read");
}

#[test]
fn a_scan_that_cannot_be_is_refused() {
    let mut lab = Lab::ready();
    lab.fill(3);
    let Reply::Page { next, .. } = lab.scan(A, whole_scan(1)) else {
        panic!("no page");
    };
    let token = next.expect("more follows");
    let altered = [&token[..token.len() - 1], b"x"].concat();
    let long = Bytes::from(vec![b'a'; 1025]);
    let base = || whole_scan(10);
    let cases = [
        (
            Cause::KeyspaceUnknown,
            ScanRequest {
                keyspace: "no".into(),
                ..base()
            },
        ),
        (
            Cause::RangeInvalid,
            ScanRequest {
                start: long.clone(),
                ..base()
            },
        ),
        (
            Cause::RangeInvalid,
            ScanRequest {
                end: Some(long),
                ..base()
            },
        ),
        (
            Cause::RangeInvalid,
            ScanRequest {
                start: Bytes::from_static(b"b"),
                end: Some(Bytes::from_static(b"a")),
                ..base()
            },
        ),
        (
            Cause::LevelImpossible,
            ScanRequest {
                level: ConsistencyLevel::Read(4),
                ..base()
            },
        ),
        (
            Cause::ScanTokenInvalid,
            ScanRequest {
                token: Some(altered.into()),
                ..base()
            },
        ),
        (
            Cause::ScanTokenInvalid,
            ScanRequest {
                start: Bytes::from_static(b"a"),
                token: Some(token),
                ..base()
            },
        ),
    ];
    for (want, request) in cases {
        let Reply::Failed(failure) = lab.scan(B, request.clone()) else {
            panic!("{request:?} was not refused");
        };
        assert_eq!(failure.cause, want, "{request:?}");
    }
}

/// Seed 1059 of the simulator: a client tried in vain to get a batch through an idle node.
#[test]
fn a_batch_is_admitted_whole() {
    let mut lab = Lab::with_limits(Limits {
        requests_max: 2,
        ..Limits::default()
    });
    lab.connect(&[A, B, C]);
    let items = (0..5).map(|key| put_key(key, "v", key)).collect();
    let Reply::Batch(replies) = lab.batch(A, items) else {
        panic!("no batch");
    };
    let applied = |reply: &Reply| matches!(reply, Reply::Applied { .. });
    assert!(replies.iter().all(applied), "{replies:?}");
}

#[test]
fn what_other_nodes_forward_leaves_clients_their_share() {
    let mut lab = Lab::with_limits(Limits {
        requests_max: 2,
        ..Limits::default()
    });
    lab.connect(&[A, B, C]);
    // Nothing that A coordinates ends.
    lab.sync_by_itself.clear();
    for op in 0..3 {
        let forward = PeerMessage::Forward(Forward {
            op: OpNumber(op),
            request: put_key(100 + u8::try_from(op).expect("small"), "v", 1),
            budget: Duration::from_secs(1),
            sent_after: Some(lab.clock().mono),
        });
        lab.wire.push_back((B, A, forward));
    }
    lab.run();
    let share = lab.ask(A, put_key(1, "v", 2));
    lab.run();
    assert_eq!(lab.reply(share), None, "it is under way");
    let beyond = lab.ask(A, put_key(2, "v", 3));
    lab.run();
    let overloaded =
        |reply: &Reply| matches!(reply, Reply::Failed(f) if f.cause == Cause::Overloaded);
    let told = lab.reply(beyond);
    assert!(told.is_some_and(overloaded), "{told:?}");
}

#[test]
fn the_items_of_a_batch_have_outcomes_of_their_own() {
    let mut lab = Lab::ready();
    let bad = Request::Read(ReadRequest {
        keyspace: "no".into(),
        key: Bytes::from_static(b"k"),
        level: ConsistencyLevel::Quorum,
    });
    let items = vec![put_key(1, "v", 1), bad, get(ConsistencyLevel::Quorum)];
    let Reply::Batch(replies) = lab.batch(A, items) else {
        panic!("no batch");
    };
    assert!(matches!(replies[0], Reply::Applied { .. }), "{replies:?}");
    assert!(matches!(&replies[1], Reply::Failed(f) if f.cause == Cause::KeyspaceUnknown));
    assert!(matches!(&replies[2], Reply::Read { values, .. } if values.is_empty()));
    let cases = [
        (Cause::BatchTooLarge, vec![]),
        (
            Cause::BatchTooLarge,
            (0..1001).map(|_| put_key(1, "v", 1)).collect(),
        ),
        (
            Cause::BatchItemRepeated,
            vec![put_key(1, "v", 2), put_key(1, "w", 3)],
        ),
    ];
    for (want, items) in cases {
        let reply = lab.batch(A, items);
        assert!(
            matches!(&reply, Reply::Failed(f) if f.cause == want),
            "{reply:?}"
        );
    }
    assert!(lab.shards[&A].is_idle());
}

#[test]
fn the_answer_to_a_batch_is_bounded_and_what_did_not_fit_can_be_asked_for_again() {
    let mut lab = Lab::ready();
    let large: &'static str = Box::leak("v".repeat(900_000).into_boxed_str());
    for number in 0..5 {
        let id = lab.ask(A, put_key(number, large, number));
        lab.run();
        assert!(matches!(lab.reply(id), Some(Reply::Applied { .. })));
    }
    let mut wanted: Vec<u8> = (0..5).collect();
    let mut rounds = Vec::new();
    while !wanted.is_empty() && rounds.len() < 5 {
        let read = |number: &u8| {
            Request::Read(ReadRequest {
                keyspace: "default".into(),
                key: Bytes::from(format!("key-{number:03}")),
                level: ConsistencyLevel::Quorum,
            })
        };
        let items = wanted.iter().map(read).collect();
        let Reply::Batch(replies) = lab.batch(A, items) else {
            panic!("no batch");
        };
        let full =
            |reply: &Reply| matches!(reply, Reply::Failed(f) if f.cause == Cause::BatchAnswerFull);
        let left = wanted.iter().zip(&replies).filter(|(_, reply)| full(reply));
        let left: Vec<u8> = left.map(|(number, _)| *number).collect();
        rounds.push(wanted.len() - left.len());
        wanted = left;
    }
    assert_eq!(rounds, [2, 2, 1], "read in each round");
}

const EXCHANGE_INTERVAL: Option<Duration> = Some(Duration::from_secs(10));

impl Lab {
    /// Three nodes that compare their copies that often; C holds nothing of 40 keys that A and B
    /// hold.
    fn with_a_lagging_node(exchange_interval: Option<Duration>) -> Self {
        let mut lab = Self::unconnected();
        lab.exchange_interval = exchange_interval;
        for node in [A, B, C] {
            lab.start(node, &[(u64::from(node.0) * 100, 1)], &[]);
        }
        lab.connect(&[A, B, C]);
        lab.cut = vec![C];
        for number in 0..40 {
            let put = lab.ask(A, put_key(number, "v", number + 1));
            lab.run();
            assert!(is_applied(lab.reply(put)));
        }
        assert!(!lab.agree());
        lab.cut.clear();
        lab
    }

    /// Whether all nodes hold the same.
    fn agree(&self) -> bool {
        let digests = |node| self.shards[&node].table().digests();
        digests(A) == digests(B) && digests(B) == digests(C)
    }

    fn count(&self, event: Event) -> usize {
        self.counted
            .iter()
            .filter(|counted| **counted == event)
            .count()
    }
}

#[test]
fn what_a_node_missed_reaches_it_without_a_read_and_once() {
    let mut lab = Lab::with_a_lagging_node(EXCHANGE_INTERVAL);
    lab.pass(15_000);
    assert!(lab.agree());
    assert_eq!(lab.count(Event::ExchangeHealed), 40, "no key twice");
    assert_eq!(lab.count(Event::ExchangeFailed), 0);
    let done = lab.count(Event::ExchangeDone);
    // Every pair by one of its nodes, however often.
    assert!(done >= 3, "{done}");
    let statuses = lab.shards.values().map(|shard| shard.status(lab.clock()));
    let pairs: Vec<_> = statuses.flat_map(|status| status.pairs).collect();
    assert_eq!(pairs.len(), 3);
    let interval_ms = 10_000;
    let ages = pairs
        .iter()
        .map(|pair| pair.age_ms.expect("it was compared"));
    assert!(ages.max() < Some(interval_ms + 2_000), "{pairs:?}");
}

#[test]
fn both_sides_are_brought_together_where_both_are_newer() {
    let mut lab = Lab::with_a_lagging_node(EXCHANGE_INTERVAL);
    lab.cut = vec![A, B];
    let lone = Request::Write(WriteRequest {
        level: ConsistencyLevel::One,
        ..match put_key(3, "beside", 90) {
            Request::Write(write) => write,
            _ => panic!("a put"),
        }
    });
    let put = lab.ask(C, lone);
    lab.run();
    assert!(is_applied(lab.reply(put)));
    lab.cut.clear();
    lab.pass(15_000);
    assert!(lab.agree());
    let values = lab.scan_all(&whole_scan(100));
    let (_, siblings) = &values[3];
    assert_eq!(siblings.len(), 2, "{siblings:?}");
}

#[test]
fn answers_that_fit_no_question_end_the_exchange_and_harm_nothing() {
    let lies: [fn(&mut ExchangeAnswer); 4] = [
        |answer| {
            if let ExchangeAnswer::Trees(told) = answer {
                told.pop();
            }
        },
        |answer| {
            if let ExchangeAnswer::Trees(told) = answer {
                told.iter_mut().for_each(|hashes| hashes.push(NodeHash(1)));
            }
        },
        // A row of no such bucket; and a page that gets nowhere.
        |answer| {
            if let ExchangeAnswer::Rows(page) = answer {
                page.rows
                    .iter_mut()
                    .for_each(|row| row.key = "elsewhere".into());
                page.until = Some("~".into());
            }
        },
        |answer| {
            if let ExchangeAnswer::Rows(page) = answer {
                page.rows.clear();
                page.until = Some(Bytes::new());
            }
        },
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let mut lab = Lab::with_a_lagging_node(EXCHANGE_INTERVAL);
        lab.tamper = Some(Box::new(move |_, message| {
            if let PeerMessage::ExchangeReply(ExchangeReply {
                result: Ok(answer), ..
            }) = message
            {
                lie(answer);
            }
        }));
        lab.pass(15_000);
        assert!(
            lab.counted.contains(&Event::PeerMessageRefused),
            "lie {number}"
        );
        assert!(lab.counted.contains(&Event::ExchangeFailed), "lie {number}");
        lab.tamper = None;
        lab.pass(15_000);
        assert!(lab.agree(), "lie {number}");
    }
}

#[test]
fn an_exchange_whose_peer_falls_silent_ends_and_is_made_again() {
    let mut lab = Lab::with_a_lagging_node(EXCHANGE_INTERVAL);
    lab.tamper = Some(Box::new(|_, message| {
        if let PeerMessage::ExchangeReply(reply) = message {
            // An answer to no question: as if it had never come.
            reply.ask += 1_000;
        }
    }));
    lab.pass(25_000);
    assert!(lab.count(Event::ExchangeFailed) > 0);
    assert_eq!(lab.count(Event::ExchangeDone), 0);
    lab.tamper = None;
    lab.pass(25_000);
    assert!(lab.agree());
}

#[test]
fn an_operator_learns_exactly_what_differs_and_has_it_brought_together() {
    let mut lab = Lab::with_a_lagging_node(None);
    let mut next_number = 0;
    let mut compare = |lab: &mut Lab, purpose| {
        let (mut next, mut keys) = (Some(VnodeId(0)), 0);
        while let Some(first) = next {
            next_number += 1;
            lab.step(
                A,
                Input::Compare {
                    number: next_number,
                    peer: C,
                    purpose,
                    first,
                },
            );
            lab.run();
            let mut waited = 0;
            let is_told = |lab: &Lab| lab.compared.last().is_some_and(|(n, _)| *n == next_number);
            while !is_told(lab) {
                waited += 10;
                assert!(waited < 10_000, "no answer");
                lab.pass(10);
            }
            let (_, told) = lab.compared.pop().expect("it was told");
            let told = told.expect("C is up");
            keys += told.tally.keys;
            next = told.next;
        }
        keys
    };
    assert_eq!(compare(&mut lab, Purpose::Look), 40);
    assert!(!lab.agree());
    assert_eq!(compare(&mut lab, Purpose::Heal), 40);
    assert!(lab.agree());
    assert_eq!(compare(&mut lab, Purpose::Look), 0);
    lab.step(
        A,
        Input::Compare {
            number: 99,
            peer: NodeId(77),
            purpose: Purpose::Heal,
            first: VnodeId(0),
        },
    );
    assert_eq!(lab.compared, [(99, Err(CompareRefused::NotUp))]);
}

#[test]
fn rows_that_are_put_off_are_asked_for_again_and_the_exchange_goes_on() {
    let mut lab = Lab::with_a_lagging_node(EXCHANGE_INTERVAL);
    let mut refusals = 0;
    lab.tamper = Some(Box::new(move |_, message| {
        if let PeerMessage::ExchangeReply(reply) = message
            && let Ok(ExchangeAnswer::Rows(_)) = reply.result
            && refusals < 3
        {
            refusals += 1;
            reply.result = Err(Refusal {
                cause: Cause::Overloaded,
                floor: PurgeNumber::default(),
            });
        }
    }));
    lab.pass(15_000);
    assert!(lab.agree());
    assert_eq!(lab.count(Event::ExchangeFailed), 0);
    assert_eq!(lab.count(Event::PeerMessageRefused), 0);
}

#[test]
fn an_own_page_that_comes_after_its_question_was_put_off_harms_nothing() {
    let mut lab = Lab::with_a_lagging_node(EXCHANGE_INTERVAL);
    lab.slow_store = true;
    lab.tamper = Some(Box::new(|_, message| {
        if let PeerMessage::ExchangeReply(reply) = message
            && let Ok(ExchangeAnswer::Rows(_)) = reply.result
        {
            reply.result = Err(Refusal {
                cause: Cause::Overloaded,
                floor: PurgeNumber::default(),
            });
        }
    }));
    lab.pass(15_000);
    assert_eq!(lab.count(Event::ExchangeFailed), 0);
    assert_eq!(lab.count(Event::PeerMessageRefused), 0);
    lab.tamper = None;
    lab.pass(15_000);
    assert!(lab.agree());
}

const DEFAULT: KeyspaceId = KeyspaceId(1);

impl Lab {
    /// The vnode of the key that [`put`] writes.
    fn vnode(&self) -> VnodeId {
        self.shards[&A].topology().locate(DEFAULT, b"k").vnode
    }

    /// Deletes it after everything that A shows.
    fn delete(&mut self, op: u8) -> Bytes {
        let read = self.ask(A, get(ConsistencyLevel::Quorum));
        self.run();
        let context = context(self.reply(read));
        let delete = match put("", op, Some(context)) {
            Request::Write(write) => Request::Write(WriteRequest {
                value: None,
                ..write
            }),
            _ => panic!("a put"),
        };
        let id = self.ask(A, delete);
        self.run();
        if self.reply(id).is_none() {
            self.pass(100);
        }
        assert!(is_applied(self.reply(id)));
        self::context(self.reply(id))
    }

    /// Who leads the rounds of that vnode, and one who takes part in them.
    fn leader_and_other(&self) -> (NodeId, NodeId) {
        let topology = self.shards[&A].topology();
        let leader = topology.owners(self.vnode(), Copies::new(3).expect("3"))[0];
        (leader, if leader == C { B } else { C })
    }

    /// Number of another key of that vnode, for [`put_key`].
    fn neighbour(&self) -> u8 {
        let vnode = |number: &u8| {
            let key = format!("key-{number:03}");
            let topology = self.shards[&A].topology();
            topology.locate(DEFAULT, key.as_bytes()).vnode
        };
        let mut numbers = 0u8..=255;
        let number = numbers.find(|number| vnode(number) == self.vnode());
        number.expect("a key of the same vnode")
    }

    /// Keys and tombstones that each node holds.
    fn held(&self) -> Vec<(u64, u64)> {
        let of = |shard: &Shard| {
            let vnode = shard.table().digests().vnode(DEFAULT, self.vnode());
            (vnode.holdings().keys, vnode.holdings().tombstones)
        };
        self.shards.values().map(of).collect()
    }

    fn floors(&self) -> Vec<u64> {
        let of = |shard: &Shard| {
            shard
                .table()
                .digests()
                .numbers(DEFAULT, self.vnode())
                .floor
                .0
        };
        self.shards.values().map(of).collect()
    }

    /// A key that was written, deleted and purged; and the first message that brought it to C.
    fn with_a_purged_key() -> (Self, PeerMessage, Bytes) {
        let mut lab = Self::ready();
        let seen = Rc::new(RefCell::new(None));
        let keep = Rc::clone(&seen);
        lab.tamper = Some(Box::new(move |to, message| {
            if to == C && matches!(message, PeerMessage::Replicate(_)) {
                keep.borrow_mut().get_or_insert_with(|| message.clone());
            }
        }));
        let id = lab.ask(A, put("v", 1, None));
        lab.run();
        assert!(is_applied(lab.reply(id)));
        lab.tamper = None;
        let context = lab.delete(2);
        assert_eq!(lab.held(), [(0, 1); 3]);
        lab.pass(20_000);
        assert_eq!(lab.held(), [(0, 0); 3]);
        let late = seen.borrow_mut().take().expect("it was sent");
        (lab, late, context)
    }

    /// What `node` has of the vnode on disk, for a start from that.
    fn disk_of(&self, node: NodeId) -> (Vec<(RecordKey, Bytes)>, BucketDigests) {
        let table = self.shards[&node].table();
        let records = table.durable_after(&RecordKey::before(DEFAULT, self.vnode()), 100);
        (records, table.digests().clone())
    }
}

#[test]
fn a_deleted_key_leaves_nothing_once_all_owners_held_its_tombstone_long_enough() {
    let (mut lab, _, _) = Lab::with_a_purged_key();
    assert_eq!(lab.floors(), [1; 3]);
    assert_eq!(lab.count(Event::Purged), 3);
    assert!(lab.agree());
    assert_eq!(lab.values(B, ConsistencyLevel::Quorum), [] as [Bytes; 0]);
    let id = lab.ask(B, put("again", 3, None));
    lab.run();
    assert!(is_applied(lab.reply(id)));
    assert_eq!(lab.values(C, ConsistencyLevel::Quorum), ["again"]);
    lab.pass(40_000);
    assert_eq!(lab.held(), [(1, 0); 3], "what is not deleted stays");
}

#[test]
fn p6_nothing_is_purged_before_the_time_in_which_operations_are_tried_again() {
    let mut lab = Lab::ready();
    let id = lab.ask(A, put("v", 1, None));
    lab.run();
    assert!(is_applied(lab.reply(id)));
    lab.delete(2);
    lab.pass(9_900);
    assert_eq!(lab.held(), [(0, 1); 3]);
}

#[test]
fn a_key_that_is_deleted_while_a_round_of_its_vnode_rests_does_not_wait_for_its_end() {
    let mut lab = Lab::ready();
    let id = lab.ask(A, put("v", 1, None));
    lab.run();
    assert!(is_applied(lab.reply(id)));
    lab.delete(2);
    lab.pass(6_000);
    let neighbour = lab.neighbour();
    let Request::Write(write) = put_key(neighbour, "", 3) else {
        panic!("a put");
    };
    let delete = Request::Write(WriteRequest {
        value: None,
        ..write
    });
    let id = lab.ask(A, delete);
    lab.run();
    assert!(is_applied(lab.reply(id)));
    // The first round began in the first second, the other one begins in the seventh; each rests
    // for 12.5 s.
    lab.pass(8_500);
    assert_eq!((lab.held(), lab.floors()), (vec![(0, 1); 3], vec![1; 3]));
    lab.pass(6_500);
    assert_eq!((lab.held(), lab.floors()), (vec![(0, 0); 3], vec![2; 3]));
    assert_eq!(lab.count(Event::PurgeRoundFailed), 0);
}

/// A floor never falls, also when rounds of a vnode end in another order than they began: what was
/// read under the earlier one's number would be taken once more.
#[test]
fn p1_an_earlier_round_that_drops_later_lets_nothing_come_back() {
    let mut lab = Lab::ready();
    let id = lab.ask(A, put("v", 1, None));
    lab.run();
    assert!(is_applied(lab.reply(id)));
    let (leader, other) = lab.leader_and_other();
    lab.delete(2);
    lab.pass(6_000);
    // Of another key, under the number of the round that rests; and the first question to drop
    // something.
    let late = Rc::new(RefCell::new(None));
    let held_back = Rc::new(RefCell::new(None));
    let (late_seen, held_back_seen) = (Rc::clone(&late), Rc::clone(&held_back));
    lab.tamper = Some(Box::new(move |to, message| {
        let copy = message.clone();
        match message {
            PeerMessage::Replicate(_) if to == other => {
                late_seen.borrow_mut().get_or_insert(copy);
            }
            PeerMessage::Purge(ask)
                if to == other
                    && ask.step == PurgeStep::Drop
                    && held_back_seen.borrow().is_none() =>
            {
                *held_back_seen.borrow_mut() = Some(copy);
                ask.rounds.clear();
            }
            _ => {}
        }
    }));
    let neighbour = lab.neighbour();
    let id = lab.ask(leader, put_key(neighbour, "v", 3));
    lab.run();
    assert!(is_applied(lab.reply(id)));
    let seen = context(lab.reply(id));
    let Request::Write(write) = put_key(neighbour, "", 4) else {
        panic!("a put");
    };
    let delete = Request::Write(WriteRequest {
        value: None,
        context: Some(seen),
        ..write
    });
    let id = lab.ask(leader, delete);
    lab.run();
    assert!(is_applied(lab.reply(id)));
    lab.pass(15_500);
    assert_eq!(lab.floors(), [2; 3], "the later round is over");
    let arrives = |lab: &mut Lab, message: PeerMessage| {
        let header = lab.shards[&leader].header();
        let input = Input::Peer {
            from: leader,
            link: 1,
            header,
            message,
        };
        lab.step(other, input);
        lab.run();
    };
    arrives(&mut lab, held_back.take().expect("a question"));
    assert_eq!(lab.count(Event::BelowFloorRefused), 0);
    arrives(&mut lab, late.take().expect("a record"));
    assert_eq!(lab.count(Event::BelowFloorRefused), 1);
    assert_eq!((lab.held(), lab.floors()), (vec![(0, 0); 3], vec![2; 3]));
}

#[test]
fn m6_an_owner_that_is_away_blocks_purging_and_status_names_it() {
    let mut lab = Lab::ready();
    let id = lab.ask(A, put("v", 1, None));
    lab.run();
    assert!(is_applied(lab.reply(id)));
    let (leader, away) = lab.leader_and_other();
    lab.cut = vec![away];
    lab.pass(1_500);
    lab.delete(2);
    lab.pass(40_000);
    let status = lab.shards[&leader].status(lab.clock()).purge;
    assert_eq!((status.waiting, status.blocked_by), (1, vec![away]));
    assert!(status.oldest_ms > Some(30_000));
    let tombstones = lab.held().iter().filter(|held| held.1 == 1).count();
    assert_eq!((tombstones, lab.count(Event::Purged)), (2, 0));
    lab.cut.clear();
    let others: Vec<NodeId> = [A, B, C].into_iter().filter(|node| *node != away).collect();
    reconnect(&mut lab, away, &others);
    assert_eq!(
        lab.values(away, ConsistencyLevel::All),
        [] as [Bytes; 0],
        "it is repaired"
    );
    lab.pass(30_000);
    assert_eq!(lab.held(), [(0, 0); 3]);
}

#[test]
fn p1_a_record_from_before_a_purge_changes_nothing_afterwards() {
    let (mut lab, late, _) = Lab::with_a_purged_key();
    let header = lab.shards[&A].header();
    let arrives = |lab: &mut Lab| {
        let message = late.clone();
        let input = Input::Peer {
            from: A,
            link: 1,
            header,
            message,
        };
        lab.step(C, input);
        lab.run();
    };
    arrives(&mut lab);
    assert_eq!(lab.held(), [(0, 0); 3]);
    let id = lab.ask(B, put("again", 3, None));
    lab.run();
    assert!(is_applied(lab.reply(id)));
    // The key is held again, by a record whose context knows nothing of what is late.
    arrives(&mut lab);
    assert_eq!(lab.values(C, ConsistencyLevel::All), ["again"]);
    assert_eq!(lab.count(Event::BelowFloorRefused), 2);
}

#[test]
fn what_was_seen_before_a_purge_may_be_read_and_written_after_it() {
    let (mut lab, _, context) = Lab::with_a_purged_key();
    let read = lab.ask(
        B,
        get_covering(ConsistencyLevel::One, vec![context.clone()]),
    );
    lab.pass(200);
    let values = match lab.reply(read) {
        Some(Reply::Read { values, .. }) => values.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(values, [] as [Bytes; 0]);
    let id = lab.ask(C, put("after", 3, Some(context)));
    lab.pass(200);
    assert!(is_applied(lab.reply(id)), "{:?}", lab.reply(id));
    assert_eq!(lab.values(A, ConsistencyLevel::All), ["after"]);
}

#[test]
fn a_round_is_given_up_if_an_owner_began_anew_after_it_had_joined() {
    let mut lab = Lab::ready();
    let id = lab.ask(A, put("v", 1, None));
    lab.run();
    assert!(is_applied(lab.reply(id)));
    let (_, other) = lab.leader_and_other();
    lab.delete(2);
    lab.pass(6_000);
    let (records, digests) = lab.disk_of(other);
    assert_eq!(
        digests.numbers(DEFAULT, lab.vnode()).number.0,
        1,
        "it has joined"
    );
    let durable = lab.shards[&other].table().durable_lsn();
    let old = u64::from(other.0) * 100;
    let mut again = recovered(&[(old, 1), (old + 1, durable.0 + 1)], &[]);
    again.volatile = quorate_node::core::input::Volatile::Whole;
    (again.records, again.digests) = (records, digests);
    lab.start_with(other, again);
    let others: Vec<NodeId> = [A, B, C]
        .into_iter()
        .filter(|node| *node != other)
        .collect();
    reconnect(&mut lab, other, &others);
    assert_eq!(lab.count(Event::PurgeRoundFailed), 1, "at once");
    lab.pass(9_000);
    assert_eq!(lab.held(), [(0, 1); 3]);
    // Not after the rest of the round that came to nothing.
    lab.pass(12_000);
    assert_eq!((lab.held(), lab.floors()), (vec![(0, 0); 3], vec![2; 3]));
}

/// P11: a copy from before the purge holds what was deleted, and nobody else knows that it was.
#[test]
fn p11_an_old_copy_is_not_read_and_does_not_come_back_after_a_purge() {
    let mut lab = Lab::ready();
    let id = lab.ask(A, put("v", 1, None));
    lab.run();
    assert!(is_applied(lab.reply(id)));
    let (records, digests) = lab.disk_of(B);
    lab.delete(2);
    lab.pass(20_000);
    assert_eq!(lab.held(), [(0, 0); 3]);
    let mut old = recovered(&[(250, 5)], &[]);
    old.losses = Losses {
        why: Some("an old copy was restored".to_owned()),
        lives: [Incarnation(200)].into(),
        ..Losses::default()
    };
    old.timeline = old.timeline.with_lost(old.losses.lives.clone());
    (old.records, old.digests) = (records, digests);
    lab.cut = vec![B];
    lab.pass(1_500);
    lab.start_with(B, old);
    lab.cut = vec![A, C];
    let read = lab.ask(B, get(ConsistencyLevel::One));
    lab.pass(2_500);
    assert!(
        !matches!(lab.reply(read), Some(Reply::Read { .. })),
        "not even by itself"
    );
    lab.cut.clear();
    reconnect(&mut lab, B, &[A, C]);
    lab.pass(3_000);
    let stopped = lab.stopped.get(&B);
    assert!(
        matches!(stopped, Some(StopReason::EngineDamaged { .. })),
        "{stopped:?}"
    );
    assert_eq!(lab.held()[0], (0, 0));
    assert_eq!(lab.held()[2], (0, 0));
}

/// P4: who begins with an empty disk takes over the numbers before its first row.
#[test]
fn p4_a_node_that_lost_its_disk_inherits_the_numbers_and_takes_part_again() {
    let (mut lab, _, _) = Lab::with_a_purged_key();
    let mut empty = recovered(&[(150, 1)], &[]);
    empty.losses = Losses {
        why: Some("its disk was lost".to_owned()),
        lives: [Incarnation(100)].into(),
        ..Losses::default()
    };
    empty.timeline = empty.timeline.with_lost(empty.losses.lives.clone());
    lab.cut = vec![A];
    lab.pass(1_500);
    lab.start_with(A, empty);
    lab.cut.clear();
    reconnect(&mut lab, A, &[B, C]);
    lab.pass(10_000);
    assert_eq!(lab.floors(), [1; 3]);
    let id = lab.ask(A, put("again", 3, None));
    lab.run();
    assert!(is_applied(lab.reply(id)));
    lab.delete(4);
    lab.pass(30_000);
    assert_eq!((lab.held(), lab.floors()), (vec![(0, 0); 3], vec![2; 3]));
}

impl Lab {
    /// `node` begins a new life from its own disk.
    fn restart(&mut self, node: NodeId) {
        let (records, digests) = self.disk_of(node);
        let durable = self.shards[&node].table().durable_lsn();
        let old = u64::from(node.0) * 100;
        let mut again = recovered(&[(old, 1), (old + 50, durable.0 + 1)], &[]);
        again.volatile = quorate_node::core::input::Volatile::Whole;
        (again.records, again.digests) = (records, digests);
        self.start_with(node, again);
        let others = [A, B, C].into_iter().filter(|other| *other != node);
        let others: Vec<NodeId> = others.collect();
        reconnect(self, node, &others);
    }

    /// Every node's record of the key.
    fn records(&self) -> Vec<Record> {
        let of = |node| {
            let (records, _) = self.disk_of(node);
            let (_, bytes) = records.first().expect("one key");
            Record::decode(bytes).expect("its own")
        };
        [A, B, C].map(of).to_vec()
    }

    /// The lives that each node's record has entries of.
    fn lives_named(&self) -> Vec<Vec<u64>> {
        let named = |record: Record| {
            let entries = record.context().vector().iter();
            entries.map(|entry| entry.actor.incarnation.0).collect()
        };
        self.records().into_iter().map(named).collect()
    }

    fn flagged(&self) -> Vec<usize> {
        let count = |record: Record| record.flagged().entries().len();
        self.records().into_iter().map(count).collect()
    }

    /// What a quorum read at `node` is told to come after.
    fn context_at(&mut self, node: NodeId) -> Bytes {
        let read = self.ask(node, get(ConsistencyLevel::Quorum));
        self.run();
        context(self.reply(read))
    }

    fn write(&mut self, node: NodeId, request: Request) {
        let id = self.ask(node, request);
        self.run();
        assert!(is_applied(self.reply(id)), "{:?}", self.reply(id));
    }

    /// A write of A's, the message that brought it to C, and what its client was told; then A began
    /// a new life and B wrote over it.
    fn with_an_ended_life() -> (Self, PeerMessage, Bytes) {
        let mut lab = Self::ready();
        let seen = Rc::new(RefCell::new(None));
        let keep = Rc::clone(&seen);
        lab.tamper = Some(Box::new(move |to, message| {
            if to == C && matches!(message, PeerMessage::Replicate(_)) {
                keep.borrow_mut().get_or_insert_with(|| message.clone());
            }
        }));
        let id = lab.ask(A, put("old", 1, None));
        lab.run();
        let token = context(lab.reply(id));
        lab.tamper = None;
        lab.restart(A);
        let seen_by_b = lab.context_at(B);
        lab.write(B, put("new", 2, Some(seen_by_b)));
        assert_eq!(lab.lives_named(), vec![vec![100, 200]; 3]);
        let late = seen.borrow_mut().take().expect("it was sent");
        (lab, late, token)
    }

    /// A message of `from` arrives.
    fn arrives(&mut self, from: NodeId, to: NodeId, message: PeerMessage) {
        let header = self.shards[&from].header();
        let input = Input::Peer {
            from,
            link: 1,
            header,
            message,
        };
        self.step(to, input);
        self.run();
    }
}

/// P7: what an ended life wrote is superseded, and the record that says so forgets it in a round:
/// what comes from before that round is refused.
#[test]
fn p7_an_ended_life_is_left_out_of_a_record_and_what_it_wrote_stays_away() {
    let (mut lab, late, _) = Lab::with_an_ended_life();
    lab.pass(9_900);
    assert_eq!(lab.lives_named(), vec![vec![100, 200]; 3], "too early");
    lab.pass(10_000);
    assert_eq!(lab.lives_named(), vec![vec![200]; 3]);
    assert_eq!(lab.count(Event::Pruned), 3);
    assert_eq!(lab.floors(), [1; 3]);
    assert!(lab.agree());
    lab.arrives(A, C, late);
    assert_eq!(lab.count(Event::BelowFloorRefused), 1);
    assert_eq!(lab.values(C, ConsistencyLevel::All), ["new"]);
    lab.pass(100_000);
    assert_eq!(lab.count(Event::Pruned), 3, "that is all");
}

/// P7: a record of an owner that has not dropped yet comes to one that has.
#[test]
fn p7_who_drops_later_brings_nothing_back() {
    let (mut lab, _, _) = Lab::with_an_ended_life();
    lab.pass(6_000);
    let sent = Rc::new(RefCell::new(None));
    let keep = Rc::clone(&sent);
    lab.tamper = Some(Box::new(move |to, message| {
        if to == C && matches!(message, PeerMessage::Replicate(_)) {
            keep.borrow_mut().get_or_insert_with(|| message.clone());
        }
    }));
    let seen = lab.context_at(B);
    lab.write(B, put("newer", 3, Some(seen)));
    lab.tamper = None;
    while lab.count(Event::Pruned) < 3 {
        assert_eq!(lab.lives_named()[0], [100, 200]);
        lab.pass(10);
    }
    let again = sent.borrow_mut().take().expect("it was sent");
    match &again {
        PeerMessage::Replicate(message) => assert_eq!(message.number, PurgeNumber(1)),
        other => panic!("{other:?}"),
    }
    lab.arrives(B, C, again);
    assert_eq!(lab.count(Event::BelowFloorRefused), 0);
    assert_eq!(lab.lives_named(), vec![vec![200]; 3]);
    assert!(lab.agree());
}

#[test]
fn a_key_that_is_written_all_the_time_is_pruned_too() {
    let (mut lab, _, _) = Lab::with_an_ended_life();
    for turn in 0..200_u8 {
        let node = [A, B, C][usize::from(turn) % 3];
        let seen = lab.context_at(node);
        lab.write(node, put("again", 3 + turn, Some(seen)));
        lab.pass(100);
    }
    assert_eq!(lab.lives_named(), vec![vec![150, 200, 300]; 3]);
}

#[test]
fn what_was_seen_of_an_ended_life_may_be_read_and_written_after_while_an_owner_is_away() {
    let (mut lab, _, token) = Lab::with_an_ended_life();
    lab.pass(60_000);
    assert_eq!(lab.lives_named(), vec![vec![200]; 3]);
    lab.cut = vec![C];
    lab.pass(1_500);
    let read = lab.ask(A, get_covering(ConsistencyLevel::One, vec![token.clone()]));
    lab.pass(200);
    let values = match lab.reply(read) {
        Some(Reply::Read { values, .. }) => values.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(values, ["new"]);
    let id = lab.ask(B, put("after", 3, Some(token)));
    lab.pass(200);
    assert!(is_applied(lab.reply(id)), "{:?}", lab.reply(id));
    let mut both = lab.values(A, ConsistencyLevel::Quorum);
    both.sort();
    assert_eq!(both, ["after", "new"], "it had not seen the newer one");
}

#[test]
fn an_ended_life_whose_value_stands_keeps_its_entry() {
    let mut lab = Lab::ready();
    lab.write(A, put("stands", 1, None));
    lab.restart(A);
    lab.write(B, put("beside", 2, None));
    lab.pass(80_000);
    assert_eq!(lab.lives_named(), vec![vec![100, 200]; 3]);
    assert_eq!(lab.count(Event::Pruned), 0);
    assert_eq!(lab.floors(), [0; 3]);
}

/// P12: nobody forgets that an operation was tried twice before it cannot be tried any more, and
/// then all do.
#[test]
fn p12_flagged_operations_are_forgotten_by_all_and_not_while_they_may_be_tried() {
    let mut lab = Lab::ready();
    lab.write(A, put("v", 1, None));
    lab.write(B, retry(put("v", 1, None)));
    let seen = lab.context_at(B);
    lab.write(B, put("over", 2, Some(seen)));
    assert_eq!(lab.flagged(), [1; 3]);
    lab.pass(9_900);
    assert_eq!(lab.flagged(), [1; 3]);
    lab.cut = vec![C];
    lab.pass(20_000);
    assert_eq!(lab.flagged(), [1; 3], "one of the owners is away");
    lab.cut.clear();
    reconnect(&mut lab, C, &[A, B]);
    lab.pass(20_000);
    assert_eq!(lab.flagged(), [0; 3]);
    let mut late = retry(put("v", 1, None));
    if let Request::Write(write) = &mut late {
        write.age = Duration::from_secs(45);
    }
    let id = lab.ask(A, late);
    lab.run();
    assert!(is_applied(lab.reply(id)), "it is listed as superseded");
    assert_eq!(lab.values(C, ConsistencyLevel::All), ["over"]);
}

/// A co-replica of a release that does not know the second list agrees on nothing in it.
#[test]
fn nothing_is_pruned_with_an_owner_that_does_not_know_how() {
    let (mut lab, _, _) = Lab::with_an_ended_life();
    lab.tamper = Some(Box::new(|to, message| {
        if let PeerMessage::Purge(ask) = message
            && to == C
        {
            let is_known = |(_, wanted): &(Bytes, Wanted)| matches!(wanted, Wanted::Gone(_));
            ask.rounds
                .iter_mut()
                .for_each(|round| round.keys.retain(is_known));
        }
    }));
    lab.pass(60_000);
    assert_eq!(lab.lives_named(), vec![vec![100, 200]; 3]);
    assert_eq!((lab.count(Event::Pruned), lab.floors()), (0, vec![0; 3]));
}

#[test]
fn a_value_that_expired_is_purged_some_time_later() {
    let mut lab = Lab::ready();
    lab.pass(500);
    let expiring = match put("v", 1, None) {
        Request::Write(write) => Request::Write(WriteRequest {
            ttl_ms: Some(2_000),
            ..write
        }),
        _ => panic!("a put"),
    };
    let id = lab.ask(A, expiring);
    lab.run();
    assert!(is_applied(lab.reply(id)), "{:?}", lab.reply(id));
    lab.pass(30_000);
    assert_eq!(
        lab.held(),
        [(1, 0); 3],
        "its vnode is not looked through so soon"
    );
    lab.pass(600_000);
    assert_eq!(lab.held(), [(0, 0); 3]);
}

/// An answer to the first question that arrives again must not pass for one to the second: a round
/// would drop what an owner has not joined for.
#[test]
fn an_answer_that_comes_twice_is_not_taken_for_one_to_the_next_step() {
    let mut lab = Lab::ready();
    let id = lab.ask(A, put("v", 1, None));
    lab.run();
    assert!(is_applied(lab.reply(id)));
    let (leader, other) = lab.leader_and_other();
    // The other owner is never asked to join, and each of its answers arrives twice.
    let looks = Rc::new(RefCell::new(Vec::new()));
    let keep = Rc::clone(&looks);
    lab.tamper = Some(Box::new(move |to, message| match message {
        PeerMessage::Purge(ask) if to == other && ask.step != PurgeStep::Look => {
            ask.rounds.clear();
        }
        PeerMessage::PurgeReply(reply) if to == leader && reply.step == PurgeStep::Look => {
            keep.borrow_mut().push(reply.clone());
        }
        _ => {}
    }));
    lab.delete(2);
    for _ in 0..300 {
        lab.pass(100);
        let header = lab.shards[&other].header();
        for reply in looks.borrow_mut().drain(..) {
            let input = Input::Peer {
                from: other,
                link: 1,
                header,
                message: PeerMessage::PurgeReply(reply),
            };
            lab.step(leader, input);
        }
    }
    assert_eq!((lab.held(), lab.floors()), (vec![(0, 1); 3], vec![0; 3]));
    assert!(lab.stopped.is_empty());
}

impl Lab {
    /// Three nodes without a keyspace of which each vnode has one copy, that hold some keys and
    /// agree.
    fn without_only_copies() -> Self {
        let mut lab = Self::unconnected();
        let whole = topology();
        let keyspaces = whole.keyspaces().iter();
        let keyspaces = keyspaces.filter(|keyspace| keyspace.copies.get() > 1);
        lab.topology = Arc::new(
            Topology::new(
                whole.epoch(),
                whole.vnode_count(),
                whole.nodes().to_vec(),
                keyspaces.cloned().collect(),
            )
            .expect("a topology"),
        );
        lab.exchange_interval = EXCHANGE_INTERVAL;
        for node in [A, B, C] {
            lab.start(node, &[(u64::from(node.0) * 100, 1)], &[]);
        }
        lab.connect(&[A, B, C]);
        for number in 0..20 {
            let put = lab.ask(A, put_key(number, "v", number + 1));
            lab.run();
            assert!(is_applied(lab.reply(put)));
        }
        lab.pass(3_000);
        assert!(lab.agree());
        lab
    }

    /// All rows of a node and its sums.
    fn rows_of(&self, node: NodeId) -> (Vec<(RecordKey, Bytes)>, BucketDigests) {
        let table = self.shards[&node].table();
        let vnodes = self.topology.vnode_count().vnodes();
        let rows = vnodes
            .flat_map(|vnode| table.durable_after(&RecordKey::before(DEFAULT, vnode), 100))
            .collect();
        (rows, table.digests().clone())
    }

    /// `node` begins a life after `lives` with these rows and sums.
    fn begin_life(
        &mut self,
        node: NodeId,
        lives: &mut Vec<(u64, u64)>,
        (records, digests): (Vec<(RecordKey, Bytes)>, BucketDigests),
        losses: Losses,
    ) {
        let durable = self.shards[&node].table().durable_lsn();
        lives.push((u64::from(node.0) * 100 + lives.len() as u64, durable.0 + 1));
        let mut again = recovered(lives, &[]);
        (again.records, again.digests, again.losses) = (records, digests, losses);
        self.start_with(node, again);
        let others: Vec<NodeId> = [A, B, C].into_iter().filter(|id| *id != node).collect();
        reconnect(self, node, &others);
    }
}

#[test]
fn a_row_that_vanished_unnoticed_comes_back_once_it_is_found() {
    let mut lab = Lab::without_only_copies();
    let (mut rows, sums) = lab.rows_of(B);
    let (key, record) = rows.remove(7);
    let mut lives = vec![(200, 1)];
    lab.begin_life(B, &mut lives, (rows, sums), Losses::default());
    lab.pass(10_000);
    assert!(lab.agree(), "no exchange sees it");
    assert_eq!(lab.rows_of(B).0.len(), 19);
    let location = lab.topology.locate(DEFAULT, key.user_key());
    let secret = config(B, lab.limits).digest;
    let digest = Digest::of(secret, key.as_bytes(), &record);
    let bytes = (key.as_bytes().len() + record.len()) as u64;
    let found = || {
        Input::Contradicted(vec![Contradiction {
            keyspace: DEFAULT,
            vnode: location.vnode,
            correction: SumsCorrection {
                buckets: vec![(location.bucket, DigestChange::between(Some(digest), None))],
                holdings: Holdings {
                    keys: u64::MAX,
                    tombstones: 0,
                    bytes: bytes.wrapping_neg(),
                },
            },
        }])
    };
    // Without the others it would not get anything back.
    lab.cut = vec![C];
    lab.pass(1_500);
    lab.step(B, found());
    lab.run();
    assert_eq!((lab.noted.len(), lab.stopped.len()), (0, 0));
    lab.cut.clear();
    lab.pass(3_000);
    lab.step(B, found());
    assert!(lab.stopped.is_empty(), "the sums are not on disk yet");
    lab.run();
    let [(noted, why)] = &lab.noted[..] else {
        panic!("{:?}", lab.noted);
    };
    assert_eq!(*noted, B);
    let stopped = lab.stopped.remove(&B).expect("it begins anew");
    assert_eq!(stopped.to_string(), *why);
    assert!(!lab.agree(), "the sums tell what is there");
    let losses = Losses {
        why: Some(why.clone()),
        ..Losses::default()
    };
    let left = lab.rows_of(B);
    lab.begin_life(B, &mut lives, left, losses);
    let lacking = lab.shards[&B].status(lab.clock()).copies_lacking;
    assert_eq!(lacking, 8, "it does not count before");
    lab.pass(10_000);
    assert!(lab.agree());
    assert_eq!(lab.rows_of(B), lab.rows_of(A));
    let healed = |(node, healed): &(NodeId, Healed)| *node == B && healed.disk;
    assert!(lab.healed.iter().any(healed));
}
