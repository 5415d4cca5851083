//! The slow read on a real node: what nobody asks for and the disk has lost is found by it, told,
//! and comes back from the other nodes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quorate_client::{Client, WriteItem};
use quorate_node::core::generation::GenerationRows;
use quorate_node::shell::seam::Engine;
use quorate_node::shell::store::engine::{EngineConfig, FjallEngine};
use quorate_tests::cluster::{Cluster, NodeProcess, Stopwatch, dump_of};

const RECORDS: u32 = 2_000;
const VALUE_BYTES: usize = 2_048;
const KEYS_PER_REQUEST: u32 = 100;

/// Longest time until a node has back what it held.
const LONGEST: Duration = Duration::from_secs(60);

/// A table of the smallest size, so that records reach the engine. Nothing else may find what is
/// wrong: no exchange is made, and no record is read.
const SMALL_TABLE: [&str; 4] = ["--table-bytes", "1MiB", "--exchange-interval", "0s"];

/// The slow read takes two seconds.
const SLOW_READ: [&str; 2] = ["--scrub-interval", "2s"];
const NO_SLOW_READ: [&str; 2] = ["--scrub-interval", "0s"];

fn start(cluster: &mut Cluster, slow_read: [&str; 2]) {
    let folder = cluster.node_folder(2).expect("a node");
    let settings = SMALL_TABLE.into_iter().chain(slow_read);
    let process = NodeProcess::start(&folder, settings).expect("it starts");
    *cluster.node(2).expect("a node") = Some(process);
}

fn data_of_c(cluster: &Cluster) -> PathBuf {
    cluster.node_folder(2).expect("a node").join("data")
}

/// A cluster whose node c holds records in its engine, and is stopped.
async fn filled() -> (Cluster, Client) {
    let mut cluster = Cluster::create().expect("a cluster");
    cluster.start(0).expect("it starts");
    cluster.start(1).expect("it starts");
    start(&mut cluster, NO_SLOW_READ);
    cluster.wait_until_counting().expect("all count");
    let client = cluster.client().await.expect("a node answers");
    let value = vec![b'v'; VALUE_BYTES];
    for first in (0..RECORDS).step_by(KEYS_PER_REQUEST as usize) {
        let numbers = first..first + KEYS_PER_REQUEST;
        let puts =
            numbers.map(|number| WriteItem::put_blind(format!("key-{number}"), value.clone()));
        let written = client.keyspace("default").multi_put(puts.collect());
        for written in written.await.expect("they are taken") {
            written.expect("a quorum is up");
        }
    }
    let since = Stopwatch::start();
    // The table keeps what is newest; most of it must be in the engine.
    while client
        .status("c")
        .await
        .is_ok_and(|status| status.table_records > u64::from(RECORDS) / 2)
    {
        assert!(since.elapsed() < LONGEST, "the engine is not fed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.kill(&[2]).expect("it is killed");
    (cluster, client)
}

/// Node c finds out, sets its store aside, tells why, and gets everything back.
async fn is_found_and_healed(cluster: &mut Cluster, client: &Client, why: &str) {
    start(cluster, SLOW_READ);
    let (since, mut told) = (Stopwatch::start(), None);
    loop {
        // While it begins anew it does not answer.
        if let Ok(status) = client.status("c").await {
            told = told.or(status.lost_why.clone());
            if told.is_some() && status.lost_why.is_none() && status.copies_lacking == 0 {
                break;
            }
        }
        assert!(since.elapsed() < LONGEST, "it does not heal: {told:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let told = told.expect("it told what it lost");
    assert!(told.contains(why), "{told}");
    let said = fs::read_to_string(cluster.node_folder(2).expect("a node").join("log"));
    let said = said.expect("it wrote a log");
    assert!(said.contains("found by the slow read"), "{said}");
    let held = dump_of(client, "a").await.expect("it can be dumped");
    assert_eq!(held.len(), RECORDS as usize);
    let given_back = dump_of(client, "c").await.expect("it can be dumped");
    assert_eq!(given_back, held);
}

/// Flips a bit in the middle of the largest file below `folder`.
fn flip_in_largest(folder: &Path) {
    let (mut folders, mut largest) = (vec![folder.to_owned()], (0, PathBuf::new()));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("it is there") {
            let entry = entry.expect("an entry");
            let about = entry.metadata().expect("it is there");
            if about.is_dir() {
                folders.push(entry.path());
            } else if folder.ends_with("tables") && about.len() > largest.0 {
                largest = (about.len(), entry.path());
            }
        }
    }
    let (length, path) = largest;
    assert!(length > 100_000, "a table of the engine holds the records");
    let mut bytes = fs::read(&path).expect("it can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).expect("it can be written");
}

#[tokio::test]
async fn a_flipped_bit_in_a_table_is_found_by_the_slow_read_and_comes_back() {
    let (mut cluster, client) = filled().await;
    flip_in_largest(&data_of_c(&cluster).join("engine"));
    is_found_and_healed(&mut cluster, &client, "hecksum").await;
}

#[tokio::test]
async fn rows_that_vanished_without_a_wrong_checksum_are_found_and_come_back() {
    let (mut cluster, client) = filled().await;
    let config = EngineConfig::new(data_of_c(&cluster).join("engine"));
    let engine = FjallEngine::open(&config).expect("it opens");
    let checkpoint = engine.checkpoint().await.expect("it can be read");
    let checkpoint = checkpoint.expect("it was fed");
    // Of many vnodes, because each beginning anew costs: all of it must be found before the first.
    let rows = engine.scan(None, RECORDS as usize).await;
    let rows = rows.expect("it can be read");
    let mut gone = GenerationRows::default();
    for (key, _) in rows.into_iter().step_by(100) {
        gone.push(key, bytes::Bytes::new());
    }
    let taken = engine.ingest(Arc::new(gone), checkpoint).await;
    taken.expect("they are taken away");
    drop(engine);
    is_found_and_healed(&mut cluster, &client, "no checksum is wrong").await;
    let said = fs::read_to_string(cluster.node_folder(2).expect("a node").join("log"));
    let said = said.expect("it wrote a log");
    let lives = said.matches("the node begins anew").count();
    assert_eq!(lives, 1, "it found all of it at once: {said}");
}
