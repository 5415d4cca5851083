//! Fill and closed loop on the SDK's cluster in memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorate_bench::clock::Clock;
use quorate_bench::closed_loop::{self, Phase};
use quorate_bench::fill;
use quorate_bench::keys::{Distribution, key_of};
use quorate_bench::recorder::Kind;
use quorate_bench::workload::{Workload, WorkloadSpec};
use quorate_client::testing::{FakeCluster, Fault};
use quorate_client::{Client, Level};

const KEYS: u32 = 50;

#[tokio::test]
async fn loaded_keys_keep_one_value_under_overwrites() {
    let client = FakeCluster::new().client(1);
    let workload = workload(&client);
    let clock = Clock::start();
    let filled = fill::fill(&workload, clock, 8).await.expect("it fills");
    assert_eq!((filled.written, filled.keys), (50, 50));
    let end = closed_loop::run(&workload, clock, &mix(16))
        .await
        .expect("it runs");
    assert_eq!((end.recorder.done(), end.recorder.failed()), (2_000, 0));
    assert!(end.recorder.latency(Kind::Read).is_some());
    assert!(end.recorder.latency(Kind::Write).is_some());
    for index in 0..KEYS {
        let read = client
            .keyspace("default")
            .get(key_of(index))
            .await
            .expect("it is there");
        assert_eq!(read.values().len(), 1);
    }
}

#[tokio::test]
async fn a_second_fill_writes_only_what_is_missing() {
    let client = FakeCluster::new().client(1);
    let clock = Clock::start();
    fill::fill(&workload(&client), clock, 8)
        .await
        .expect("it fills");
    let seen = client
        .keyspace("default")
        .get(key_of(7))
        .await
        .expect("it is there");
    client
        .keyspace("default")
        .delete(key_of(7))
        .after(&seen)
        .await
        .expect("it deletes");
    let again = workload(&client);
    let filled = fill::fill(&again, clock, 8).await.expect("it fills");
    assert_eq!(filled.written, 1);
    let known = again.lock().expect("no worker panicked").tokens.known();
    assert_eq!(known, 50);
}

#[tokio::test]
async fn more_in_flight_than_keys_never_writes_a_key_twice_at_once() {
    let client = FakeCluster::new().client(1);
    let workload = workload(&client);
    let clock = Clock::start();
    fill::fill(&workload, clock, 8).await.expect("it fills");
    let end = closed_loop::run(&workload, clock, &mix(100))
        .await
        .expect("it runs");
    assert_eq!(end.recorder.failed(), 0, "{:?}", end.recorder.failures());
}

#[tokio::test(start_paused = true)]
async fn failures_are_counted_and_the_loop_goes_on() {
    let cluster = FakeCluster::new();
    let client = cluster.client(1);
    let workload = workload(&client);
    let clock = Clock::start();
    fill::fill(&workload, clock, 8).await.expect("it fills");
    for node in ["1", "2", "3"] {
        cluster.break_node(node, Some(Fault::Down));
    }
    let end = closed_loop::run(
        &workload,
        clock,
        &Phase {
            operations: 5,
            ..mix(2)
        },
    )
    .await;
    let end = end.expect("it runs");
    assert_eq!((end.recorder.done(), end.recorder.failed()), (0, 5));
}

fn workload(client: &Client) -> Arc<Mutex<Workload>> {
    let spec = WorkloadSpec {
        keys: KEYS,
        value_bytes: 32,
        distribution: Distribution::Uniform,
        level: Level::Quorum,
        deadline: Duration::from_secs(1),
        seed: 3,
    };
    Arc::new(Mutex::new(Workload::new(
        spec,
        vec![client.keyspace("default")],
    )))
}

fn mix(in_flight: u32) -> Phase {
    Phase {
        label: "mix".to_owned(),
        operations: 2_000,
        in_flight,
        reads_percent: 50,
        time_max: Duration::from_secs(60),
    }
}
