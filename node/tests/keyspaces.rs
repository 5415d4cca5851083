//! Keyspaces of all modes and durabilities, on three shards whose network, log and wall clocks do
//! only what a test says: the shortest runs of V11, V12 and C7, and what each mode refuses.

#![expect(
    clippy::panic,
    reason = "helpers of tests end a test that went another way"
)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{BucketDigests, DigestSecret, OpId};
use quorate_node::core::failure::{Cause, Effectiveness};
use quorate_node::core::hints::HintLimits;
use quorate_node::core::input::{
    Input, LinkEvent, Losses, Now, Recovered, RequestId, StoreEvent, Volatile,
};
use quorate_node::core::message::{
    PeerMessage, ReadRequest, Reply, Request, ScanRequest, WriteRequest,
};
use quorate_node::core::scan_page::PagePart;
use quorate_node::core::seal::SealKey;
use quorate_node::core::table::TableLimits;
use quorate_node::core::timeline::{Life, Timeline};
use quorate_node::core::{Effect, Limits, Shard, ShardConfig};
use quorate_ring::{
    ConsistencyLevel, Copies, Durability, Epoch, Incarnation, Keyspace, KeyspaceId, KeyspaceMode,
    KeyspaceOptions, Lsn, MonoTime, Node, NodeId, Topology, Ttl, VnodeCount, Weight, Zone,
};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
/// Wall time at the start, in microseconds.
const WALL: u64 = 1_700_000_000_000_000;
const SECOND: u64 = 1_000_000;
const HOUR: i64 = 3_600_000_000;

fn topology() -> Arc<Topology> {
    let node = |id: u32| Node {
        id: NodeId(id),
        name: format!("n{id}").parse().expect("a name"),
        address: format!("127.0.0.1:{}", 7000 + id),
        weight: Weight::ONE,
        zone: Zone::default(),
    };
    let keyspace = |id, name: &str, mode, options| Keyspace {
        id: KeyspaceId(id),
        name: name.parse().expect("a name"),
        mode,
        copies: Copies::DEFAULT,
        options,
    };
    let usual = KeyspaceOptions::default();
    let memory = KeyspaceOptions {
        durability: Durability::Memory,
        ..usual
    };
    let short = KeyspaceOptions {
        ttl: Some(Ttl::from_millis(5_000).expect("a TTL")),
        ..usual
    };
    let keyspaces = vec![
        keyspace(1, "default", KeyspaceMode::Siblings, usual),
        keyspace(2, "lww", KeyspaceMode::Lww, usual),
        keyspace(3, "memory", KeyspaceMode::Siblings, memory),
        keyspace(4, "short", KeyspaceMode::Siblings, short),
    ];
    let epoch = Epoch {
        generation: 1,
        number: 1,
    };
    let vnodes = VnodeCount::new(8).expect("a power of two");
    let nodes = vec![node(1), node(2), node(3)];
    Arc::new(Topology::new(epoch, vnodes, nodes, keyspaces).expect("a topology"))
}

struct Lab {
    now: u64,
    skews: BTreeMap<NodeId, i64>,
    shards: BTreeMap<NodeId, Shard>,
    wire: VecDeque<(NodeId, NodeId, PeerMessage)>,
    appended: BTreeMap<NodeId, Lsn>,
    replies: BTreeMap<u64, Reply>,
    cut: Vec<NodeId>,
    syncs: bool,
    next_request: u64,
}

impl Lab {
    fn with(volatile: impl Fn(NodeId) -> Volatile) -> Self {
        let mut lab = Self {
            now: SECOND,
            skews: BTreeMap::new(),
            shards: BTreeMap::new(),
            wire: VecDeque::new(),
            appended: BTreeMap::new(),
            replies: BTreeMap::new(),
            cut: Vec::new(),
            syncs: true,
            next_request: 0,
        };
        for node in [A, B, C] {
            let life = Life {
                incarnation: Incarnation(u64::from(node.0) * 100),
                first: Lsn(1),
            };
            let recovered = Recovered {
                timeline: Timeline::from_lives(vec![life]).expect("a timeline"),
                incarnation: life.incarnation,
                durable: life.first,
                applied: Lsn::ZERO,
                clean: false,
                volatile: volatile(node),
                losses: Losses::default(),
                hints: Vec::new(),
                memories: BTreeMap::new(),
                records: Vec::new(),
                digests: BucketDigests::default(),
                log_bytes: 0,
            };
            let config = ShardConfig {
                me: node,
                cluster_id: [7; 16],
                topology: topology(),
                seal: SealKey::new([9; 32]),
                digest: DigestSecret { key: 1, record: 2 },
                table: TableLimits {
                    generation_bytes: 1 << 20,
                    generation_log_bytes: 1 << 20,
                    cache_bytes: 1 << 20,
                    digest_cache_bytes: 0,
                },
                limits: Limits::default(),
                exchange_interval: None,
                purge_rest: std::time::Duration::from_secs(60),
                spare_max: 16,
                hints: HintLimits {
                    bytes_max: 0,
                    ..HintLimits::default()
                },
            };
            lab.appended.insert(node, recovered.durable);
            let shard = Shard::new(lab.clock(node), config, recovered);
            lab.shards.insert(node, shard);
        }
        for from in [A, B, C] {
            for peer in [A, B, C].into_iter().filter(|to| *to != from) {
                lab.step(from, Input::Link(LinkEvent::Up { peer, link: 1 }));
            }
        }
        lab.run();
        lab
    }

    fn ready() -> Self {
        Self::with(|_| Volatile::Whole)
    }

    fn clock(&self, node: NodeId) -> Now {
        let skew = self.skews.get(&node).copied().unwrap_or(0);
        Now {
            mono: MonoTime::from_micros(self.now),
            wall_micros: (WALL + self.now).saturating_add_signed(skew),
        }
    }

    fn step(&mut self, node: NodeId, input: Input) {
        let now = self.clock(node);
        let mut effects = Vec::new();
        let shard = self.shards.get_mut(&node).expect("a node");
        shard.step(now, input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Reply { to, reply, .. } => {
                    self.replies.insert(to.id, reply);
                }
                Effect::Send { to, message } => self.wire.push_back((node, to, message)),
                Effect::Append { lsn, .. } => {
                    self.appended.insert(node, lsn);
                }
                Effect::Load(key) => {
                    let loaded = StoreEvent::Loaded(vec![(key, Ok(None))]);
                    self.step(node, Input::Store(loaded));
                }
                Effect::Scan(read) => {
                    let number = read.number;
                    let page = Ok(read.finish(PagePart::default()));
                    self.step(node, Input::Store(StoreEvent::Scanned { number, page }));
                }
                Effect::Stop(reason) => panic!("{node} stops: {reason}"),
                Effect::Ingest(_)
                | Effect::Remember { .. }
                | Effect::CloseLink { .. }
                | Effect::Compared { .. }
                | Effect::Healed(_)
                | Effect::NoteLoss(_)
                | Effect::DeclareLost { .. }
                | Effect::NoteDoubt(_)
                | Effect::LossDeclared { .. }
                | Effect::Hint(_)
                | Effect::Count(_) => {}
            }
        }
    }

    /// Delivers and syncs until nothing moves.
    fn run(&mut self) {
        loop {
            let syncs = self.syncs;
            for node in [A, B, C].into_iter().filter(|_| syncs) {
                let appended = self.appended[&node];
                if self.shards[&node].table().durable_lsn() < appended {
                    self.step(node, Input::Store(StoreEvent::Durable(appended)));
                }
            }
            let Some((from, to, message)) = self.wire.pop_front() else {
                break;
            };
            if self.cut.contains(&from) || self.cut.contains(&to) {
                continue;
            }
            let header = self.shards[&from].header();
            let heard = Input::Peer {
                from,
                link: 1,
                header,
                message,
            };
            self.step(to, heard);
        }
    }

    fn pass(&mut self, millis: u64) {
        for _ in 0..millis / 10 {
            self.now += 10_000;
            for node in [A, B, C] {
                self.step(node, Input::Tick);
            }
            self.run();
        }
    }

    fn ask(&mut self, node: NodeId, request: Request) -> u64 {
        self.next_request += 1;
        let id = self.next_request;
        let asked = Input::Request {
            from: RequestId { connection: 1, id },
            received: self.clock(node).mono,
            deadline: self.clock(node).mono + Duration::from_secs(2),
            request,
        };
        self.step(node, asked);
        self.run();
        id
    }

    fn reply(&self, id: u64) -> &Reply {
        self.replies.get(&id).expect("an answer")
    }

    /// Asks and gives the answer.
    fn told(&mut self, node: NodeId, request: Request) -> Reply {
        let id = self.ask(node, request);
        if !self.replies.contains_key(&id) {
            // A replica does not answer: the others are asked.
            self.pass(100);
        }
        self.reply(id).clone()
    }

    fn values(&mut self, node: NodeId, keyspace: &str) -> Vec<Bytes> {
        match self.told(node, get(keyspace, ConsistencyLevel::Quorum)) {
            Reply::Read { values, .. } => values,
            other => panic!("the read got {other:?}"),
        }
    }
}

fn write(keyspace: &str, op: u8, value: &'static str) -> WriteRequest {
    WriteRequest {
        keyspace: keyspace.into(),
        key: Bytes::from_static(b"k"),
        value: (!value.is_empty()).then(|| Bytes::from_static(value.as_bytes())),
        context: None,
        level: ConsistencyLevel::Quorum,
        op_id: OpId([op; 16]),
        flagged: false,
        age: Duration::ZERO,
        stamp: None,
        ttl_ms: None,
    }
}

/// A write of the lww keyspace, stamped `ahead` microseconds after the start.
fn stamped(op: u8, value: &'static str, ahead: u64) -> Request {
    Request::Write(WriteRequest {
        stamp: Some(WALL + ahead),
        ..write("lww", op, value)
    })
}

fn get(keyspace: &str, level: ConsistencyLevel) -> Request {
    Request::Read(ReadRequest {
        keyspace: keyspace.into(),
        key: Bytes::from_static(b"k"),
        level,
    })
}

/// Stamps above which a write of the lww keyspace was told to be, relative to the start.
fn superseded_by(reply: &Reply) -> Option<u64> {
    match reply {
        Reply::Applied { superseded_by, .. } => superseded_by.map(|told| told.stamp - WALL),
        other => panic!("not applied: {other:?}"),
    }
}

fn refused(reply: &Reply) -> (Cause, Effectiveness) {
    match reply {
        Reply::Failed(failure) => (failure.cause, failure.effect),
        other => panic!("no failure: {other:?}"),
    }
}

fn is_applied(reply: &Reply) -> bool {
    matches!(reply, Reply::Applied { .. })
}

#[test]
fn of_two_writes_the_higher_stamp_stays_and_the_lower_is_told() {
    let mut lab = Lab::ready();
    assert_eq!(superseded_by(&lab.told(A, stamped(1, "new", 20))), None);
    assert_eq!(superseded_by(&lab.told(B, stamped(2, "old", 10))), Some(20));
    assert_eq!(superseded_by(&lab.told(C, stamped(3, "", 30))), None);
    assert!(lab.values(A, "lww").is_empty(), "a stamped tombstone");
    assert_eq!(
        superseded_by(&lab.told(A, stamped(4, "late", 25))),
        Some(30)
    );
    assert!(lab.values(B, "lww").is_empty());
}

/// P6: an attempt that was held for long may have been applied, deleted and purged meanwhile, so
/// that nothing is left to tell that it is old.
#[test]
fn p6_an_lww_attempt_older_than_any_may_be_is_unknown_and_leaves_nothing() {
    let mut lab = Lab::ready();
    let held_for = |age| {
        Request::Write(WriteRequest {
            stamp: Some(WALL + 10),
            age,
            flagged: true,
            ..write("lww", 1, "late")
        })
    };
    let late = lab.told(A, held_for(Duration::from_secs(31)));
    let unknown = (Cause::AttemptTooOld, Effectiveness::Unknown);
    assert_eq!(refused(&late), unknown);
    assert!(lab.values(B, "lww").is_empty());
    assert!(is_applied(&lab.told(A, held_for(Duration::from_secs(29)))));
    // Where it is known it is a duplicate, however old.
    assert!(is_applied(&lab.told(A, held_for(Duration::from_secs(31)))));
}

/// V11: the retry of a superseded write, at a node that never saw it, is as old as its first
/// attempt.
#[test]
fn v11_a_retry_keeps_its_stamp_and_does_not_come_back() {
    let mut lab = Lab::ready();
    lab.cut = vec![B, C];
    lab.ask(A, stamped(1, "x", 10));
    lab.cut = vec![A];
    assert_eq!(superseded_by(&lab.told(B, stamped(2, "y", 20))), None);
    assert_eq!(lab.values(C, "lww"), ["y"]);
    assert_eq!(superseded_by(&lab.told(C, stamped(1, "x", 10))), Some(20));
    assert_eq!(lab.values(B, "lww"), ["y"]);
    lab.cut.clear();
    assert_eq!(lab.values(A, "lww"), ["y"]);
}

/// V11: what the coordinator does not hold, a replica of the quorum does.
#[test]
fn v11_a_replica_that_holds_a_higher_stamp_tells_the_coordinator() {
    let mut lab = Lab::ready();
    lab.cut = vec![C];
    assert_eq!(superseded_by(&lab.told(A, stamped(1, "new", 20))), None);
    lab.cut = vec![A];
    assert_eq!(superseded_by(&lab.told(C, stamped(2, "old", 10))), Some(20));
}

#[test]
fn an_attempt_that_meets_itself_is_applied_with_w_and_not_superseded() {
    let mut lab = Lab::ready();
    for node in [A, B, A] {
        assert_eq!(superseded_by(&lab.told(node, stamped(1, "x", 10))), None);
    }
    lab.cut = vec![B, C];
    let alone = lab.ask(A, stamped(1, "x", 10));
    assert!(!lab.replies.contains_key(&alone), "one copy is not W");
}

#[test]
fn a_stamp_over_half_a_second_ahead_of_the_nodes_clock_is_not_applied() {
    let mut lab = Lab::ready();
    let near = stamped(1, "near", SECOND + 499_000);
    assert!(is_applied(&lab.told(A, near)));
    let far = stamped(2, "far", SECOND + 501_000);
    let want = (Cause::StampAhead, Effectiveness::NotApplied);
    assert_eq!(refused(&lab.told(A, far.clone())), want);
    assert_eq!(lab.values(A, "lww"), ["near"]);
    lab.skews.insert(B, HOUR);
    assert!(is_applied(&lab.told(B, far)), "its clock says otherwise");
}

#[test]
fn what_a_reply_feeds_is_no_farther_ahead_than_a_stamp_may_be() {
    let mut lab = Lab::ready();
    lab.skews.insert(B, HOUR);
    lab.told(B, stamped(1, "wild", 3_000 * SECOND));
    match lab.told(A, stamped(2, "x", 10)) {
        Reply::Applied {
            superseded_by: Some(told),
            ..
        } => {
            assert_eq!(told.stamp, WALL + 3_000 * SECOND);
            assert_eq!(told.feed, WALL + SECOND + 500_000);
        }
        other => panic!("{other:?}"),
    }
}

/// W14.
#[test]
fn an_operation_of_another_mode_is_not_applied() {
    let mut lab = Lab::ready();
    let context = match lab.told(A, Request::Write(write("default", 1, "v"))) {
        Reply::Applied { context, .. } => context,
        other => panic!("{other:?}"),
    };
    let with_context = WriteRequest {
        context,
        stamp: Some(WALL),
        ..write("lww", 2, "x")
    };
    let with_stamp = WriteRequest {
        stamp: Some(WALL),
        ..write("default", 3, "x")
    };
    let without_stamp = write("lww", 4, "x");
    for wrong in [with_context, with_stamp, without_stamp] {
        let told = lab.told(B, Request::Write(wrong));
        assert_eq!(
            refused(&told),
            (Cause::WrongMode, Effectiveness::NotApplied)
        );
    }
    assert!(lab.values(A, "lww").is_empty());
    assert_eq!(lab.values(A, "default"), ["v"]);
}

#[test]
fn a_value_is_hidden_after_its_ttl_and_the_next_put_supersedes_it() {
    let mut lab = Lab::ready();
    let short = WriteRequest {
        ttl_ms: Some(1_000),
        ..write("default", 1, "short")
    };
    assert!(is_applied(&lab.told(A, Request::Write(short))));
    lab.pass(900);
    assert_eq!(lab.values(B, "default"), ["short"]);
    lab.pass(200);
    assert!(lab.values(B, "default").is_empty());
    lab.told(C, Request::Write(write("default", 2, "next")));
    assert_eq!(lab.values(A, "default"), ["next"]);
}

#[test]
fn a_keyspaces_ttl_is_that_of_puts_that_name_none() {
    let mut lab = Lab::ready();
    lab.told(A, Request::Write(write("short", 1, "v")));
    let longer = WriteRequest {
        ttl_ms: Some(60_000),
        ..write("short", 2, "w")
    };
    lab.told(A, Request::Write(longer));
    lab.pass(5_100);
    assert_eq!(lab.values(B, "short"), ["w"]);
}

#[test]
fn in_an_lww_keyspace_the_ttl_counts_from_the_stamp() {
    let mut lab = Lab::ready();
    let write = WriteRequest {
        stamp: Some(WALL + SECOND - 900_000),
        ttl_ms: Some(1_000),
        ..write("lww", 1, "v")
    };
    lab.told(A, Request::Write(write));
    assert_eq!(lab.values(B, "lww"), ["v"]);
    lab.pass(150);
    assert!(lab.values(B, "lww").is_empty());
    assert_eq!(
        superseded_by(&lab.told(C, stamped(2, "older", 1))),
        Some(100_000)
    );
}

#[test]
fn a_ttl_of_nothing_or_over_ten_years_is_not_applied() {
    let mut lab = Lab::ready();
    for ttl_ms in [0, Ttl::MILLIS_MAX + 1, u64::MAX] {
        let put = WriteRequest {
            ttl_ms: Some(ttl_ms),
            ..write("default", 1, "v")
        };
        let told = lab.told(A, Request::Write(put));
        assert_eq!(
            refused(&told),
            (Cause::TtlInvalid, Effectiveness::NotApplied)
        );
    }
    assert!(lab.values(A, "default").is_empty());
}

/// A node whose clock is ten years off takes no TTL and no stamp of its own time, hides and drops
/// nothing of the others', and goes on with everything else.
#[test]
fn a_clock_ten_years_off_does_no_harm() {
    const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR;
    for skew in [TEN_YEARS, -TEN_YEARS] {
        let mut lab = Lab::ready();
        let short_lived = WriteRequest {
            ttl_ms: Some(60_000),
            ..write("default", 1, "live")
        };
        assert!(is_applied(
            &lab.told(A, Request::Write(short_lived.clone()))
        ));
        lab.skews.insert(C, skew);
        let again = WriteRequest {
            op_id: OpId([3; 16]),
            ..short_lived
        };
        let want = (Cause::ClockOff, Effectiveness::NotApplied);
        assert_eq!(refused(&lab.told(C, Request::Write(again))), want);
        assert!(is_applied(
            &lab.told(C, Request::Write(write("default", 2, "plain")))
        ));
        assert_eq!(lab.values(C, "default"), ["live", "plain"]);
        assert_eq!(lab.values(A, "default"), ["live", "plain"]);
        // A client's clock that is as far ahead is refused by nodes that are right.
        if skew > 0 {
            let ahead = u64::try_from(skew).expect("ahead");
            let stamp = stamped(4, "future", ahead);
            let want = (Cause::StampAhead, Effectiveness::NotApplied);
            assert_eq!(refused(&lab.told(A, stamp)), want);
        }
    }
}

/// V12: a node whose clock is an hour ahead drops nothing for having expired, hides nothing that
/// the others still show, and takes no TTL; from the moment of the jump.
#[test]
fn v12_expiry_does_not_act_by_a_clock_that_is_far_off() {
    for skew in [HOUR, -HOUR] {
        let mut lab = Lab::ready();
        let half_an_hour = WriteRequest {
            ttl_ms: Some(1_800_000),
            ..write("default", 1, "live")
        };
        assert!(is_applied(
            &lab.told(A, Request::Write(half_an_hour.clone()))
        ));
        lab.skews.insert(C, skew);
        lab.told(C, Request::Write(write("default", 2, "blind")));
        assert_eq!(lab.values(A, "default"), ["live", "blind"]);
        assert_eq!(lab.values(C, "default"), ["live", "blind"]);
        let again = WriteRequest {
            op_id: OpId([3; 16]),
            ..half_an_hour
        };
        let want = (Cause::ClockOff, Effectiveness::NotApplied);
        assert_eq!(refused(&lab.told(C, Request::Write(again.clone()))), want);
        assert!(
            is_applied(&lab.told(A, Request::Write(again))),
            "two clocks are right"
        );
        lab.pass(3_000);
        assert_eq!(lab.values(C, "default").len(), 3);
    }
}

#[test]
fn in_memory_a_write_is_acknowledged_and_read_before_any_sync() {
    let mut lab = Lab::ready();
    lab.syncs = false;
    assert!(is_applied(
        &lab.told(A, Request::Write(write("memory", 1, "v")))
    ));
    assert_eq!(lab.values(B, "memory"), ["v"]);
    let durable = lab.ask(A, Request::Write(write("default", 2, "v")));
    assert!(!lab.replies.contains_key(&durable));
}

/// C7: peers cannot remember what was only in memory, so a node that did not stop cleanly says
/// itself that it does not count, at any level, and for memory only.
#[test]
fn c7_a_node_that_may_have_forgotten_counts_for_no_memory_keyspace() {
    let lost = |node| {
        if node == A {
            Volatile::Lost
        } else {
            Volatile::Whole
        }
    };
    let mut lab = Lab::with(lost);
    lab.cut = vec![C];
    let write_there = lab.ask(B, Request::Write(write("memory", 1, "v")));
    assert!(
        !lab.replies.contains_key(&write_there),
        "A does not count for W"
    );
    let one = lab.ask(A, get("memory", ConsistencyLevel::One));
    lab.pass(100);
    assert!(
        matches!(lab.reply(one), Reply::Read { .. }),
        "B answers for A"
    );
    lab.cut = vec![B, C];
    let alone = lab.ask(A, get("memory", ConsistencyLevel::One));
    lab.pass(100);
    assert!(
        !lab.replies.contains_key(&alone),
        "A alone answers at no level"
    );
    let on_disk = lab.ask(A, get("default", ConsistencyLevel::One));
    assert!(matches!(lab.reply(on_disk), Reply::Read { .. }));
    let status = lab.shards[&A].status(lab.clock(A));
    assert!(!status.memory_whole);
    lab.cut.clear();
    lab.pass(20_000);
    let status = lab.shards[&A].status(lab.clock(A));
    assert!(status.memory_whole, "it was compared with both others");
    lab.cut = vec![B, C];
    let alone = lab.ask(A, get("memory", ConsistencyLevel::One));
    assert!(matches!(lab.reply(alone), Reply::Read { .. }));
}

/// The values of a whole keyspace, in a page that `node` makes.
fn scanned(lab: &mut Lab, node: NodeId, keyspace: &str) -> Vec<(Bytes, Vec<Bytes>)> {
    lab.next_request += 1;
    let id = lab.next_request;
    let asked = Input::Scan {
        from: RequestId { connection: 1, id },
        received: lab.clock(node).mono,
        deadline: lab.clock(node).mono + Duration::from_secs(2),
        request: ScanRequest {
            keyspace: keyspace.into(),
            start: Bytes::new(),
            end: None,
            token: None,
            limit: 100,
            level: ConsistencyLevel::Quorum,
        },
    };
    lab.step(node, asked);
    lab.run();
    match lab.reply(id) {
        Reply::Page {
            records,
            next: None,
        } => {
            let rows = records
                .iter()
                .map(|row| (row.key.clone(), row.values.clone()));
            rows.collect()
        }
        other => panic!("the page got {other:?}"),
    }
}

#[test]
fn a_scan_shows_what_gets_of_its_keyspace_show_in_every_mode_and_durability() {
    let mut lab = Lab::ready();
    lab.ask(A, stamped(1, "one", 10));
    lab.ask(B, stamped(2, "two", 20));
    lab.ask(C, Request::Write(write("short", 3, "gone soon")));
    let row = |value: &'static str| {
        let value = Bytes::from_static(value.as_bytes());
        vec![(Bytes::from_static(b"k"), vec![value])]
    };
    assert_eq!(scanned(&mut lab, C, "lww"), row("two"));
    assert_eq!(scanned(&mut lab, A, "short"), row("gone soon"));
    lab.now += 6 * SECOND;
    assert_eq!(scanned(&mut lab, A, "short"), []);
    // Acknowledged before any sync, so a scan shows it before any sync too.
    lab.syncs = false;
    let put = lab.ask(A, Request::Write(write("memory", 4, "in flight")));
    assert!(matches!(lab.reply(put), Reply::Applied { .. }));
    assert_eq!(scanned(&mut lab, B, "memory"), row("in flight"));
}
