//! The workloads of YCSB on the SDK's cluster in memory, which knows keyspaces of siblings only.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorate_bench::clock::Clock;
use quorate_bench::closed_loop::{LoopLimits, PhaseEnd, drive};
use quorate_bench::fill::{Fill, fill};
use quorate_bench::recorder::{End, Kind};
use quorate_bench::ycsb::{Data, DataSpec, Letter, Mix, read_back};
use quorate_client::Client;
use quorate_client::testing::{FakeCluster, Fault};
use quorate_ring::KeyspaceMode;

/// Few, so that operations meet.
const RECORDS: u32 = 50;

#[tokio::test]
async fn reads_inserts_and_scans_find_what_was_written() {
    let client = FakeCluster::new().client(1);
    let data = loaded(&client).await;
    for letter in [Letter::C, Letter::D, Letter::E] {
        let end = run(letter, &data, 2_000).await;
        let failures = end.recorder.failures();
        assert_eq!(end.recorder.done(), 2_000, "{letter:?} {failures:?}");
        for (kind, _) in letter.definition().shares {
            assert!(end.recorder.latency(*kind).is_some(), "{letter:?} {kind:?}");
        }
    }
}

#[tokio::test]
async fn read_modify_writes_leave_one_value_with_every_change() {
    let client = FakeCluster::new().client(1);
    let data = loaded(&client).await;
    let end = run(Letter::F, &data, 4_000).await;
    assert_eq!(end.recorder.failed(), 0, "{:?}", end.recorder.failures());
    let found = read_back(&data, Clock::start()).await.expect("it reads");
    assert!(found.is_clean(), "{found:?}");
    assert_eq!(found.keys, u64::from(RECORDS));
    for index in 0..RECORDS {
        let key = data.lock().expect("no worker panicked").key(index);
        let read = client.keyspace("default").get(key).await;
        assert_eq!(read.expect("it is there").values().len(), 1);
    }
}

#[tokio::test]
async fn a_change_that_is_lost_is_found() {
    let client = FakeCluster::new().client(1);
    let data = loaded(&client).await;
    run(Letter::F, &data, 500).await;
    let (key, old) = {
        let mut data = data.lock().expect("no worker panicked");
        let index = data.changed_keys().next().expect("some changed");
        (data.key(index), data.value(index))
    };
    let keyspace = client.keyspace("default");
    let read = keyspace.get(key.clone()).await.expect("it is there");
    let written = keyspace.put(key, old).after(&read).await;
    written.expect("it is written");
    let found = read_back(&data, Clock::start()).await.expect("it reads");
    assert!(!found.is_clean());
    let stale = found.recorder.failures().get(&(Kind::Read, End::Stale));
    assert_eq!(stale, Some(&1));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_expected_of_a_key_whose_insert_failed() {
    let cluster = FakeCluster::new();
    let data = loaded(&cluster.client(1)).await;
    cluster.break_all(Some(Fault::Down));
    let end = run(Letter::E, &data, 50).await;
    assert_eq!((end.recorder.done(), end.recorder.failed()), (0, 50));
    cluster.break_all(None);
    let end = run(Letter::D, &data, 1_000).await;
    assert_eq!(end.recorder.failed(), 0, "{:?}", end.recorder.failures());
    let end = run(Letter::E, &data, 1_000).await;
    assert_eq!(end.recorder.failed(), 0, "{:?}", end.recorder.failures());
}

async fn loaded(client: &Client) -> Arc<Mutex<Data>> {
    let data = Arc::new(Mutex::new(Data::new(DataSpec {
        keyspace: client.keyspace("default"),
        mode: KeyspaceMode::Siblings,
        records: RECORDS,
        seed: 3,
    })));
    let filled = fill(&data, Clock::start(), 8).await.expect("it fills");
    assert_eq!(filled.written, u64::from(RECORDS));
    data
}

async fn run(letter: Letter, data: &Arc<Mutex<Data>>, operations: u64) -> PhaseEnd {
    let mix = Mix::new(letter.definition(), Arc::clone(data));
    let limits = LoopLimits {
        label: letter.name().to_owned(),
        operations: Some(operations),
        in_flight: 16,
        time_max: Duration::from_secs(3_600),
    };
    let end = drive(Arc::new(mix), Clock::start(), limits).await;
    end.expect("it runs")
}
