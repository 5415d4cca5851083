//! Frames: a put and its answer between client and node, and a record between nodes.

use std::hint::black_box;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::{
    BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use quorate_antientropy::Digest;
use quorate_client::wire::{
    Applied, ContextToken, FrameSplitter, Level, OpId, Put, RawFrame, Request, Response,
    decode_request, decode_response, encode_request, encode_response,
};
use quorate_node::core::message::{
    Base, OpNumber, Payload, PeerHeader, PeerMessage, PurgeNumber, Replicate,
};
use quorate_node::shell::link::{decode_frame, encode_frame};
use quorate_ring::{Epoch, Incarnation, KeyspaceId, Lsn};

/// Longest frame.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// A token as it is after some writes of a key.
fn token() -> ContextToken {
    ContextToken(Bytes::from(vec![9; 60]))
}

fn put() -> Request {
    Request::Put(Put {
        keyspace: "default".to_owned(),
        key: Bytes::from_static(b"key-000000000001"),
        value: Bytes::from(vec![7; 256]),
        context: Some(token()),
        level: Level::Quorum,
        op_id: OpId([3; 16]),
        attempt: 1,
        age_ms: 0,
        stamp: None,
        ttl_ms: None,
    })
}

fn applied() -> Response {
    Response::Applied(Applied {
        context: Some(token()),
        acks: 2,
        superseded_by: None,
    })
}

fn header() -> PeerHeader {
    PeerHeader {
        epoch: Epoch {
            generation: 1,
            number: 2,
        },
        incarnation: Incarnation(7 << 32),
        durable: Lsn(70_000),
    }
}

fn replicate() -> PeerMessage {
    PeerMessage::Replicate(Replicate {
        op: OpNumber(7),
        keyspace: KeyspaceId(1),
        key: Bytes::from_static(b"key-000000000001"),
        payload: Payload::Whole(Bytes::from(vec![7; 330])),
        number: PurgeNumber(2),
        budget: Duration::from_secs(2),
        base: Some(Base {
            digest: Digest(u128::MAX / 3),
            has_value: true,
        }),
        as_fallback: false,
    })
}

/// The one frame in `bytes`.
fn frame(bytes: BytesMut) -> RawFrame {
    let mut frames = Vec::new();
    let mut splitter = FrameSplitter::new(FRAME_BYTES_MAX);
    splitter
        .split(bytes.freeze(), &mut frames)
        .expect("a frame");
    frames.pop().expect("one frame")
}

/// Encodes again and again into one buffer, as an outbox does.
fn encodes(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut encode: impl FnMut(&mut BytesMut),
) {
    let mut out = BytesMut::with_capacity(4_096);
    group.bench_function(name, |bench| {
        bench.iter(|| {
            out.clear();
            encode(&mut out);
        });
    });
}

fn client(criterion: &mut Criterion) {
    let (request, response) = (put(), applied());
    let mut group = criterion.benchmark_group("client_wire");
    encodes(&mut group, "encode_put", |out| {
        encode_request(out, 7, 2_000, black_box(&request)).expect("encodes");
    });
    encodes(&mut group, "encode_put_reply", |out| {
        encode_response(out, 7, black_box(&response)).expect("encodes");
    });
    let mut out = BytesMut::new();
    encode_request(&mut out, 7, 2_000, &request).expect("encodes");
    let request = frame(out);
    group.bench_function("decode_put", |bench| {
        bench.iter(|| decode_request(black_box(&request)));
    });
    let mut out = BytesMut::new();
    encode_response(&mut out, 7, &response).expect("encodes");
    let response = frame(out);
    group.bench_function("decode_put_reply", |bench| {
        bench.iter(|| decode_response(black_box(&response)));
    });
    group.finish();
}

fn peer(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("peer_wire");
    for count in [1, 64] {
        let messages = vec![replicate(); count];
        encodes(&mut group, &format!("encode_replicate_{count}"), |out| {
            encode_frame(out, header(), black_box(&messages)).expect("encodes");
        });
        let mut out = BytesMut::new();
        encode_frame(&mut out, header(), &messages).expect("encodes");
        let frame = frame(out);
        group.bench_function(format!("decode_replicate_{count}"), |bench| {
            bench.iter(|| decode_frame(black_box(&frame)));
        });
    }
    group.finish();
}

criterion_group!(benches, client, peer);
criterion_main!(benches);
