//! Round trips of every message between nodes, and what hostile bytes get.

use proptest::prelude::*;

use super::*;
use std::collections::BTreeSet;
use std::time::Duration;

use quorate_antientropy::PurgeNumbers;
use quorate_antientropy::{
    Context, Delta, Digest, Dot, Mint, NodeHash, OpId, Prunable, Question, Sibling,
};
use quorate_ring::{
    Actor, BucketId, ConsistencyLevel, Epoch, Incarnation, KeyspaceId, Lsn, MonoTime, NodeId,
    VnodeId,
};

use crate::core::message::{
    Base, ClockEcho, ClockProbe, ExchangeAnswer, ExchangeAsk, ExchangeReply, ExchangeRow,
    ExchangeWanted, Forward, ForwardReply, Held, HeldRecord, Hello, KeepAlive, OpNumber, Payload,
    PurgeAsk, PurgeNumber, PurgeReply, PurgeRound, PurgeStep, ReadRecord, ReadRecordReply,
    ReadRequest, Refusal, ReplicaStanding, Replicate, ReplicateReply, Reply, Request,
    ResolveRequest, RowPage, RowQuestion, ScanAsk, ScanPart, ScanReply, SessionReadRequest,
    StampTold, Stored, TreeQuestion, Wanted, WriteRequest,
};
use crate::core::scan_page::{PageRange, RowContent, ScanRow};
use crate::core::timeline::{Life, Memory, Timeline};
use crate::core::vnode_set::VnodeSet;
use crate::core::{Cause, Effectiveness, Failure, ReplicaPart};

fn header() -> PeerHeader {
    PeerHeader {
        epoch: Epoch {
            generation: 1,
            number: 2,
        },
        incarnation: Incarnation(u64::MAX),
        durable: Lsn(70_000),
    }
}

/// One or more messages of each kind.
fn messages() -> Vec<PeerMessage> {
    let (op, keyspace, budget) = (OpNumber(7), KeyspaceId(1), Duration::from_micros(1_999_999));
    let key = || Bytes::from_static(b"key");
    let memories = || {
        let memory = Memory {
            incarnation: Incarnation(5),
            durable: Lsn(6),
        };
        vec![(NodeId(3), memory)]
    };
    let life = |incarnation, first| Life {
        incarnation: Incarnation(incarnation),
        first: Lsn(first),
    };
    let timeline = Timeline::from_lives(vec![life(9, 1), life(4, 10)]).expect("rises");
    let timeline = timeline.with_lost([Incarnation(8)].into());
    let hello = Hello {
        cluster_id: [3; 16],
        from: NodeId(1),
        to: NodeId(2),
        timeline,
        memories: memories(),
        sent: MonoTime::from_micros(70),
    };
    let dot = |counter| Dot {
        actor: Actor {
            node: NodeId(1),
            incarnation: Incarnation(9),
        },
        counter,
    };
    let mint = Mint {
        dot: dot(3),
        timestamp: 4,
        expiry: Some(5),
        flagged: true,
    };
    let mut context = Context::new();
    context.add_dot_loose(dot(1));
    let delta = Delta {
        sibling: Sibling::new(OpId([8; 16]), Some(key()), mint),
        client_context: Some(context),
        expired: vec![dot(2)],
        previous: Some(dot(1)),
    };
    let replicate = |payload| {
        let number = PurgeNumber(2);
        PeerMessage::Replicate(Replicate {
            op,
            keyspace,
            key: key(),
            payload,
            number,
            budget,
            base: Some(Base {
                digest: Digest(3),
                has_value: true,
            }),
            as_fallback: true,
        })
    };
    let refusal = Refusal {
        cause: Cause::BelowFloor,
        floor: PurgeNumber(9),
    };
    let stored = Stored {
        lsn: Lsn(8),
        counts: true,
        newer: Some(9),
    };
    let held = Held {
        record: HeldRecord::Whole(key()),
        number: PurgeNumber(1),
        floor: PurgeNumber(2),
        counts: false,
    };
    let write = WriteRequest {
        keyspace: "default".into(),
        key: key(),
        value: None,
        context: Some(key()),
        level: ConsistencyLevel::Write(2),
        op_id: OpId([1; 16]),
        flagged: true,
        age: Duration::from_millis(12),
        stamp: Some(1_750_000_000_000_000),
        ttl_ms: Some(13),
    };
    let level = ConsistencyLevel::All;
    let read = ReadRequest {
        keyspace: "default".into(),
        key: key(),
        level,
    };
    let failure = Failure {
        cause: Cause::QuorumNotReached,
        effect: Effectiveness::Unknown,
        acks: 1,
        required: 2,
        replicas: vec![(NodeId(2), ReplicaPart::Silent)],
        retry_after_ms: 3,
        limit: 4,
    };
    let replicate_reply = |result| PeerMessage::ReplicateReply(ReplicateReply { op, result });
    let read_reply = |result| PeerMessage::ReadReply(ReadRecordReply { op, result });
    let forward = |request| {
        PeerMessage::Forward(Forward {
            op,
            request,
            budget,
            sent_after: Some(MonoTime::from_micros(80)),
        })
    };
    let forward_reply = |reply| PeerMessage::ForwardReply(ForwardReply { op, reply });
    let vnodes: VnodeSet = [VnodeId(0), VnodeId(300)].into_iter().collect();
    let scan_ask = PeerMessage::Scan(ScanAsk {
        op,
        ask: 3,
        range: PageRange {
            keyspace,
            vnodes: vnodes.clone(),
            from: Bytes::new(),
            end: Some(key()),
            rows_max: 1000,
            bytes_max: 70_000,
        },
        whole: VnodeSet::default(),
        budget,
    });
    let row = |content| ScanRow {
        vnode: VnodeId(300),
        key: key(),
        content,
    };
    let part = ScanPart {
        rows: vec![
            row(RowContent::Whole(key())),
            row(RowContent::Digest(Digest(u128::MAX - 7))),
        ],
        until: Some(key()),
        uncounted: vnodes,
    };
    let scan_reply = |result| PeerMessage::ScanReply(ScanReply { op, ask: 3, result });
    let exchange = |wanted| {
        PeerMessage::Exchange(ExchangeAsk {
            op,
            ask: 4,
            wanted,
            budget,
        })
    };
    let tree = |question| TreeQuestion {
        keyspace,
        vnode: VnodeId(300),
        question,
    };
    let trees = [
        tree(Question::Root),
        tree(Question::Subtrees),
        tree(Question::Groups([0, 7].into())),
        tree(Question::Leaves([0, 31].into())),
        tree(Question::Buckets([BucketId(0), BucketId(1_023)].into())),
    ];
    let rows = RowQuestion {
        keyspace,
        vnode: VnodeId(300),
        buckets: [BucketId(0), BucketId(1023)].into(),
        from: key(),
    };
    let standing = ReplicaStanding {
        appended: Lsn(9),
        lacks: [(keyspace, [VnodeId(3)].into_iter().collect())].into(),
        numbers: vec![(
            keyspace,
            VnodeId(4),
            PurgeNumbers {
                number: PurgeNumber(8),
                floor: PurgeNumber(7),
            },
        )],
    };
    let dot_of = |node, counter| Dot {
        actor: Actor {
            node: NodeId(node),
            incarnation: Incarnation(1 << 40),
        },
        counter,
    };
    let pruned = Prunable {
        entries: vec![dot_of(1, 900), dot_of(2, 3)],
        loose: vec![dot_of(3, 4)],
        flagged: vec![OpId([7; 16])],
    };
    let purge = |step| {
        PeerMessage::Purge(PurgeAsk {
            op,
            step,
            rounds: vec![PurgeRound {
                keyspace,
                vnode: VnodeId(300),
                number: PurgeNumber(9),
                keys: vec![
                    (key(), Wanted::Gone(Digest(1 << 98))),
                    (key(), Wanted::Less(pruned.clone())),
                ],
            }],
            budget,
        })
    };
    let exchange_reply = |result| PeerMessage::ExchangeReply(ExchangeReply { op, ask: 4, result });
    let page = RowPage {
        rows: vec![ExchangeRow {
            key: key(),
            digest: Digest(1 << 99),
            bytes: 7,
        }],
        until: Some(key()),
    };
    let told = vec![
        vec![NodeHash(1)],
        vec![],
        vec![NodeHash(u128::MAX), NodeHash(2)],
    ];
    vec![
        PeerMessage::Hello(hello),
        PeerMessage::KeepAlive(KeepAlive {
            memories: memories(),
            sent: MonoTime::from_micros(90),
        }),
        PeerMessage::Clock(ClockProbe {
            sent_us: 1,
            wall_us: 1_750_000_000_000_000,
            echo: Some(ClockEcho {
                sent_us: 2,
                held_us: 3,
            }),
            is_urgent: true,
        }),
        replicate(Payload::Whole(key())),
        replicate(Payload::Delta(Box::new(delta))),
        replicate_reply(Ok(stored)),
        replicate_reply(Err(refusal)),
        PeerMessage::Read(ReadRecord {
            op,
            keyspace,
            key: key(),
            budget,
            known: Some(Digest(1 << 100 | 7)),
            as_fallback: true,
        }),
        read_reply(Ok(Held {
            record: HeldRecord::AsKnown,
            ..held.clone()
        })),
        read_reply(Ok(held)),
        read_reply(Err(refusal)),
        forward(Request::Write(write)),
        forward(Request::Read(read.clone())),
        forward(Request::Resolve(ResolveRequest {
            keyspace: "default".into(),
            key: key(),
            level: ConsistencyLevel::Quorum,
            op_id: OpId([2; 16]),
        })),
        forward(Request::SessionRead(SessionReadRequest {
            read,
            covers: vec![key(), key()],
        })),
        forward_reply(Reply::Applied {
            context: None,
            acks: 3,
            superseded_by: Some(StampTold { stamp: 7, feed: 6 }),
        }),
        forward_reply(Reply::Read {
            values: vec![key(), key()],
            context: key(),
            replicas: 2,
            stamp: None,
        }),
        forward_reply(Reply::Failed(failure)),
        scan_ask,
        scan_reply(Ok(part)),
        scan_reply(Err(refusal)),
        exchange(ExchangeWanted::Trees(trees.into())),
        exchange(ExchangeWanted::Rows(rows)),
        exchange(ExchangeWanted::Standing),
        exchange_reply(Ok(ExchangeAnswer::Trees(told))),
        exchange_reply(Ok(ExchangeAnswer::Rows(page))),
        exchange_reply(Ok(ExchangeAnswer::Standing(standing))),
        exchange_reply(Err(refusal)),
        purge(PurgeStep::Look),
        purge(PurgeStep::Join),
        purge(PurgeStep::Drained),
        purge(PurgeStep::Drop),
        PeerMessage::PurgeReply(PurgeReply {
            op,
            step: PurgeStep::Join,
            result: Ok(vec![vec![0, 7], vec![]]),
        }),
        PeerMessage::PurgeReply(PurgeReply {
            op,
            step: PurgeStep::Drop,
            result: Err(refusal),
        }),
    ]
}

fn encoded() -> BytesMut {
    let mut out = BytesMut::new();
    let bytes = encode_frame(&mut out, header(), &messages()).expect("encodes");
    assert_eq!(bytes, out.len());
    out
}

fn cut(bytes: Bytes) -> Result<Vec<RawFrame>, FrameError> {
    let mut frames = Vec::new();
    FrameSplitter::new(1 << 20).split(bytes, &mut frames)?;
    Ok(frames)
}

#[test]
fn every_message_comes_back_as_it_was() {
    let frames = cut(encoded().freeze()).expect("a frame");
    let read: Vec<_> = frames.iter().map(decode_frame).collect();
    assert_eq!(read, [Ok((header(), messages()))]);
}

/// The bytes of a released format never change. Written once with `QUORATE_WRITE_FIXTURES=1`.
#[test]
fn bytes_are_those_of_the_fixture() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/peer/every_message.bin"
    );
    if std::env::var_os("QUORATE_WRITE_FIXTURES").is_some() {
        std::fs::write(path, encoded()).expect("the folder is there");
    }
    assert_eq!(std::fs::read(path).expect(path), encoded());
}

/// A release that did not know the newest fields is still understood.
#[test]
fn bytes_of_an_earlier_release_are_read() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/peer/first/every_message.bin"
    );
    let bytes = std::fs::read(path).expect(path);
    let frames = cut(Bytes::from(bytes)).expect("a frame");
    let (_, read) = decode_frame(&frames[0]).expect("it is read");
    let mut expected = messages();
    expected.retain(|message| match message {
        PeerMessage::ReadReply(reply) => !reply
            .result
            .as_ref()
            .is_ok_and(|held| held.record == HeldRecord::AsKnown),
        PeerMessage::Exchange(_)
        | PeerMessage::ExchangeReply(_)
        | PeerMessage::Purge(_)
        | PeerMessage::PurgeReply(_) => false,
        _ => true,
    });
    for message in &mut expected {
        if let PeerMessage::Read(read) = message {
            read.known = None;
            read.as_fallback = false;
        }
        if let PeerMessage::Replicate(replicate) = message {
            replicate.base = None;
            replicate.as_fallback = false;
        }
        if let PeerMessage::Hello(hello) = message {
            hello.timeline = hello.timeline.clone().with_lost(BTreeSet::new());
        }
    }
    assert_eq!(read, expected);
}

#[test]
fn a_frame_without_its_header_first_is_refused() {
    let mut body = BytesMut::new();
    let keep_alive = KeepAlive {
        memories: Vec::new(),
        sent: MonoTime::ZERO,
    };
    put_message(&mut body, &PeerMessage::KeepAlive(keep_alive)).expect("encodes");
    let frame = RawFrame {
        kind: PEER_FRAME,
        body: body.freeze(),
    };
    assert_eq!(
        decode_frame(&frame),
        Err(FrameError::Fields {
            kind: kind::KEEP_ALIVE
        })
    );
    let frame = RawFrame {
        kind: PEER_FRAME,
        body: Bytes::new(),
    };
    assert_eq!(decode_frame(&frame), Err(FrameError::Empty));
    let frame = RawFrame {
        kind: 9,
        body: Bytes::new(),
    };
    assert_eq!(
        decode_frame(&frame),
        Err(FrameError::UnknownKind { kind: 9, id: None })
    );
}

proptest! {
    /// Altered and shortened frames are refused or read, never a panic.
    #[test]
    fn altered_frames_never_panic(
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6),
        cut_at in any::<usize>(),
    ) {
        let mut bytes = encoded();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(1 + cut_at % (2 * bytes.len()));
        for frame in cut(bytes.freeze()).unwrap_or_default() {
            drop(decode_frame(&frame));
        }
    }

    /// A body of random bytes never panics.
    #[test]
    fn random_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(decode_frame(&RawFrame { kind: PEER_FRAME, body: body.into() }));
    }
}
