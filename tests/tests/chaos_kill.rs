//! Kills of real processes, in a size that runs in seconds. `kill_all` and `import_debian` in
//! `src/bin` are the same with the numbers that are promised.

use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use quorate_tests::cluster::{Cluster, Stopwatch, dump_of, http_get};
use quorate_tests::scenario::import::import_that_loses_a_node;
use quorate_tests::scenario::kill_all::{KillAllPlan, kill_all};
use quorate_tests::scenario::packages::Records;
use quorate_tests::scenario::scan::{ScanPlan, scan_interrupted};

#[tokio::test]
async fn acknowledged_writes_survive_kills_of_all_nodes() {
    let plan = KillAllPlan {
        rounds: 3,
        writes: 400,
        seed: 1,
    };
    let figures = kill_all(plan).await.expect("nothing is lost");
    assert!(figures.acknowledged >= 1_200, "{figures:?}");
    assert!(
        figures.overwrites * 5 >= figures.acknowledged * 2,
        "{figures:?}"
    );
}

#[tokio::test]
async fn a_scan_that_clients_and_nodes_do_not_survive_yields_exactly_the_records() {
    let plan = ScanPlan {
        records: 20_000,
        interruptions: 4,
    };
    let figures = scan_interrupted(plan, |file, position| {
        let mut scanner = Command::new(env!("CARGO_BIN_EXE_scan_interrupted"));
        scanner.arg("--scanner").arg(file);
        if let Some(position) = position {
            scanner.args(["--position", position]);
        }
        Ok(scanner)
    });
    let figures = figures.await.expect("exactly the records");
    assert_eq!((figures.clients_killed, figures.nodes_killed), (2, 2));
}

#[tokio::test]
async fn an_import_loses_no_record_when_a_node_is_killed() {
    let mut records = Records::default();
    for number in 0..12_000 {
        let key = Bytes::from(format!("package-{} 1.{}", number % 11_000, number % 7));
        let value = format!(
            "Package: {number}\nDescription: {:x>200}\n \u{fc}",
            number % 13
        );
        records.push(key, value.into());
    }
    records.push("bytes 1".into(), Bytes::from_static(b"\xff\x00\n\xfe"));
    let figures = import_that_loses_a_node(&records)
        .await
        .expect("nothing is lost");
    assert!(figures.killed_at >= 6_000, "{figures:?}");
}

#[tokio::test]
async fn a_stopped_node_ends_in_order_and_comes_back_with_its_data() {
    let mut cluster = Cluster::run().expect("a cluster runs");
    let client = cluster.client().await.expect("a node answers");
    let keyspace = client.keyspace("default");
    keyspace.put_blind("k", "v").await.expect("it is written");
    for node in 0..3 {
        let pid_file = cluster.node_folder(node).expect("a node").join("pid");
        assert!(pid_file.exists());
        let mut process = cluster.node(node).expect("a node").take().expect("it runs");
        let status = process.stop(Duration::from_secs(20)).expect("it stops");
        assert_eq!(status.code(), Some(0), "{}", process.said());
        assert!(!pid_file.exists(), "a node that has stopped leaves no pid");
    }
    cluster.start_all().expect("all come back");
    let read = keyspace
        .get("k")
        .deadline(Duration::from_secs(10))
        .await
        .expect("it is there");
    assert_eq!(read.value().map(|value| &value[..]), Some(&b"v"[..]));
}

#[test]
fn a_node_alone_listens_and_says_that_it_does_not_count() {
    let mut cluster = Cluster::create().expect("files are made");
    cluster.start(0).expect("it starts");
    let port = cluster.first_port() + 100;
    let ready = quorate_tests::cluster::until(Duration::from_secs(20), "it listens", || {
        Ok(http_get(port, "/readyz")
            .ok()
            .filter(|answer| answer.status == 200))
    });
    let body = ready.expect("a node alone is ready").body;
    assert!(body.contains("\"counts\":false"), "{body}");
}

#[tokio::test]
async fn a_node_that_was_away_gets_what_it_missed_without_a_read() {
    let mut cluster = Cluster::run().expect("a cluster runs");
    let client = cluster.client().await.expect("a node answers");
    let keyspace = client.keyspace("default");
    let key = |number: u32| format!("key-{number}");
    for number in 0..300 {
        let put = keyspace.put_blind(key(number), "before").await;
        put.expect("it is written");
    }
    cluster.kill(&[2]).expect("it is killed");
    for number in 100..400 {
        let read = keyspace.get(key(number)).await.expect("a quorum is up");
        if number % 10 == 0 {
            let delete = keyspace.delete(key(number)).after(&read).await;
            delete.expect("it is deleted");
        } else {
            let put = keyspace.put(key(number), "after").after(&read).await;
            put.expect("it is written");
        }
    }
    let held = dump_of(&client, "a").await.expect("it can be dumped");
    assert_eq!(held.len(), 400);
    cluster.start(2).expect("it comes back");
    cluster.wait_until_counting().expect("it counts");
    let since = Stopwatch::start();
    while dump_of(&client, "c").await.expect("it can be dumped") != held {
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "copies still differ"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let status = client.status("c").await.expect("it answers");
    let keyspace = status
        .keyspaces
        .iter()
        .find(|held| held.keyspace == "default");
    let keyspace = keyspace.expect("it holds records");
    assert_eq!((keyspace.keys, keyspace.tombstones), (370, 30));
}
