//! Records as replicas see them: merged, encoded, decoded and digested.
//!
//! The record is that of a key with a value of 256 bytes that was written some times through two
//! coordinators.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quorate_antientropy::{
    Attempt, Context, Digest, DigestSecret, Dot, Minting, OpId, Put, Record, SeenOps,
};
use quorate_ring::{Actor, Incarnation, NodeId};

const SECRET: DigestSecret = DigestSecret { key: 1, record: 2 };

/// `record` after a write through `node`, by a client that has seen `context`.
fn written(record: &Record, node: u32, number: u64, context: Option<Context>) -> Record {
    let put = Put {
        op_id: OpId(u128::from(number).to_be_bytes()),
        attempt: Attempt::First,
        value: Some(Bytes::from(vec![7; 256])),
        context,
        seen: SeenOps::default(),
        dot: Dot {
            actor: Actor {
                node: NodeId(node),
                incarnation: Incarnation(u64::from(node) << 32 | 7),
            },
            counter: 1_000 + number,
        },
        minting: Minting::Primary,
        timestamp: 1_700_000_000_000_000 + number,
        expiry: None,
        now_wall: None,
    };
    record.put(put).expect("a new dot").record
}

/// After a write that has seen all.
fn superseded(record: &Record, node: u32, number: u64) -> Record {
    written(record, node, number, Some(record.context().clone()))
}

fn base() -> Record {
    let nodes = [1, 2, 1, 2];
    let numbered = (1..).zip(nodes);
    numbered.fold(Record::default(), |record, (number, node)| {
        superseded(&record, node, number)
    })
}

fn merge(criterion: &mut Criterion) {
    let old = base();
    let new = superseded(&old, 1, 10);
    let other = written(&old, 2, 11, None);
    let mut group = criterion.benchmark_group("merge");
    group.bench_function("superseding", |bench| {
        bench.iter(|| black_box(&old).merge(black_box(&new)));
    });
    group.bench_function("concurrent", |bench| {
        bench.iter(|| black_box(&new).merge(black_box(&other)));
    });
    group.bench_function("put_after_its_token", |bench| {
        bench.iter(|| superseded(black_box(&old), 1, 10));
    });
    group.finish();
}

fn format(criterion: &mut Criterion) {
    let record = base();
    let bytes = record.to_bytes();
    let mut group = criterion.benchmark_group("record");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("encode", |bench| {
        let mut out = Vec::with_capacity(bytes.len());
        bench.iter(|| {
            out.clear();
            black_box(&record).encode(&mut out);
        });
    });
    group.bench_function("decode", |bench| {
        bench.iter(|| Record::decode(black_box(&bytes)));
    });
    group.bench_function("digest", |bench| {
        bench.iter(|| Digest::of(SECRET, black_box(b"key-000000000001"), black_box(&bytes)));
    });
    group.finish();
}

criterion_group!(benches, merge, format);
criterion_main!(benches);
