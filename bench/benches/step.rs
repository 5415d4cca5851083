//! The shard's step: what a request costs three nodes' state machines with their formats between
//! them, and nothing below (`core_path`).
//!
//! `put_first_step` is one step: the coordinator takes a put, merges it, appends and sends. In the
//! others one operation is all steps of it: the request, the message to each other node and its
//! answer, and each log's *durable*, in rounds of 64 as under load.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use quorate_bench::clock::Clock;
use quorate_bench::core_path::{CorePath, Kind};
use quorate_bench::keys::Distribution;

/// Loaded keys.
const KEYS: u32 = 10_000;

fn step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step");
    let clock = Clock::start();
    let mut path = CorePath::new(KEYS, 256, Distribution::Zipf).expect("it is filled");
    group.bench_function("put_first_step", |bench| {
        bench.iter_custom(|operations| {
            let timed = path.time_first_steps(clock, operations);
            let (done, took) = timed.expect("all succeed");
            per(took, operations, done)
        });
    });
    let kinds = [
        ("quorum_write", Kind::Write),
        ("quorum_read", Kind::Read),
        ("read_one", Kind::ReadOne),
    ];
    for (name, kind) in kinds {
        group.bench_function(name, |bench| {
            bench.iter_custom(|operations| {
                let from = clock.now();
                let done = path.run(kind, operations).expect("all succeed");
                per(clock.now() - from, operations, done)
            });
        });
    }
    group.finish();
}

/// The path carries out whole rounds: the time of `asked` operations out of that of `done`.
#[expect(clippy::cast_precision_loss, reason = "counts of operations")]
fn per(took: Duration, asked: u64, done: u64) -> Duration {
    took.mul_f64(asked as f64 / done.max(1) as f64)
}

criterion_group!(benches, step);
criterion_main!(benches);
