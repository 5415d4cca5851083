//! Real nodes whose disk is lost, replaced by an old copy, or damaged: each comes back by itself,
//! counts for nothing before it has back what it acknowledged, and then holds what the others hold.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_client::Client;
use quorate_tests::cluster::{Cluster, Stopwatch, dump_of};
use quorate_tests::faults::copy_folder;

const RECORDS: u32 = 400;

/// Longest time until a node has back what it held.
const LONGEST: Duration = Duration::from_secs(60);

fn key(number: u32) -> String {
    format!("key-{number}")
}

/// Writes every key, after what it holds.
async fn write_all(client: &Client, value: &'static str) {
    let keyspace = client.keyspace("default");
    for number in 0..RECORDS {
        let read = keyspace.get(key(number)).await.expect("a quorum is up");
        let put = keyspace.put(key(number), value).after(&read).await;
        put.expect("a quorum is up");
    }
}

/// Node c counts again, by itself, and then holds what a holds, though nobody reads any key.
async fn heals(client: &Client) {
    let since = Stopwatch::start();
    loop {
        // While it begins anew it does not answer.
        if let Ok(status) = client.status("c").await
            && status.copies_lacking == 0
            && status.vnodes_counting == status.vnodes_owned
        {
            assert_eq!(status.lost_why, None);
            break;
        }
        assert!(since.elapsed() < LONGEST, "it does not count");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let held = dump_of(client, "a").await.expect("it can be dumped");
    assert_eq!(held.len(), RECORDS as usize);
    let given_back = dump_of(client, "c").await.expect("it can be dumped");
    assert_eq!(given_back, held);
}

fn data_of_c(cluster: &Cluster) -> PathBuf {
    cluster.node_folder(2).expect("a node").join("data")
}

fn set_aside(data: &Path) -> bool {
    let mut entries = fs::read_dir(data).expect("it is there");
    entries.any(|entry| {
        let name = entry.expect("an entry").file_name();
        name.to_string_lossy().starts_with("damaged-")
    })
}

/// Flips a bit in the middle one of the places at which `text` stands in a file of `folder`.
fn flip_at(folder: &Path, prefix: &str, text: &[u8]) {
    for entry in fs::read_dir(folder).expect("it is there") {
        let entry = entry.expect("an entry");
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        let mut bytes = fs::read(entry.path()).expect("it can be read");
        let places: Vec<usize> = bytes
            .windows(text.len())
            .enumerate()
            .filter(|(_, window)| *window == text)
            .map(|(place, _)| place)
            .collect();
        if let Some(place) = places.get(places.len() / 2) {
            bytes[*place] ^= 1;
            return fs::write(entry.path(), bytes).expect("it can be written");
        }
    }
    unreachable!("no file holds the text");
}

#[tokio::test]
async fn a_node_that_lost_its_disk_gets_back_what_it_held() {
    let mut cluster = Cluster::run().expect("a cluster runs");
    let client = cluster.client().await.expect("a node answers");
    write_all(&client, "kept").await;
    cluster.kill(&[2]).expect("it is killed");
    fs::remove_dir_all(data_of_c(&cluster)).expect("it is there");
    cluster.start(2).expect("it starts without its data");
    heals(&client).await;
    // And once more: it must not be worn out by the first time.
    write_all(&client, "newer").await;
    cluster.kill(&[2]).expect("it is killed");
    fs::remove_dir_all(data_of_c(&cluster)).expect("it is there");
    cluster.start(2).expect("it starts without its data");
    heals(&client).await;
}

#[tokio::test]
async fn a_node_whose_disk_is_an_old_copy_finds_out_and_gets_back_what_it_lacks() {
    let mut cluster = Cluster::run().expect("a cluster runs");
    let client = cluster.client().await.expect("a node answers");
    write_all(&client, "old").await;
    let (data, copy) = (data_of_c(&cluster), cluster.scratch().join("copy"));
    cluster.kill(&[2]).expect("it is killed");
    copy_folder(&data, &copy).expect("it is copied");
    cluster.start(2).expect("it comes back");
    cluster.wait_until_counting().expect("it counts");
    write_all(&client, "new").await;
    cluster.kill(&[2]).expect("it is killed");
    fs::remove_dir_all(&data).expect("it is there");
    fs::rename(&copy, &data).expect("the copy takes its place");
    cluster.start(2).expect("it starts");
    heals(&client).await;
    assert!(!set_aside(&data), "what the copy holds is good");
}

#[tokio::test]
async fn a_flipped_bit_in_the_middle_of_the_log_sets_the_store_aside() {
    let mut cluster = Cluster::run().expect("a cluster runs");
    let client = cluster.client().await.expect("a node answers");
    write_all(&client, "acknowledged").await;
    cluster.kill(&[2]).expect("it is killed");
    let data = data_of_c(&cluster);
    flip_at(&data, "log-", b"acknowledged");
    cluster.start(2).expect("it starts");
    heals(&client).await;
    assert!(set_aside(&data));
}

/// The exit code of a command, and what it printed.
fn run(cluster: &Cluster, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = cluster
        .command(arguments.iter().copied())
        .expect("it is built");
    let output = command.output().expect("it runs");
    let printed = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&printed).into_owned(),
    )
}

#[tokio::test]
async fn a_node_waits_for_no_disk_that_an_operator_declared_lost() {
    let mut cluster = Cluster::run().expect("a cluster runs");
    let client = cluster.client().await.expect("a node answers");
    write_all(&client, "kept").await;
    let recover = ["cluster", "recover", "--lost", "b"];
    let (code, printed) = run(&cluster, &recover);
    assert_eq!(code, Some(6), "b is up and whole: {printed}");
    let (code, printed) = run(&cluster, &["cluster", "recover", "--lost", "z"]);
    assert_eq!(code, Some(2), "there is no z: {printed}");
    // The disks of both are gone, and b does not come back.
    cluster.kill(&[1, 2]).expect("they are killed");
    fs::remove_dir_all(data_of_c(&cluster)).expect("it is there");
    cluster.start(2).expect("it starts without its data");
    let since = Stopwatch::start();
    let (code, printed) = loop {
        let (code, printed) = run(&cluster, &recover);
        if code == Some(0) || since.elapsed() > LONGEST {
            break (code, printed);
        }
        // c has not begun yet, or a takes b for up until it has been silent for a second.
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(code, Some(0), "{printed}");
    heals(&client).await;
    let status = client.status("c").await.expect("it is up");
    assert_eq!(status.declared_lost.len(), 1);
    assert!(status.copies_in_doubt > 0, "what only b held is lost");
    let (code, printed) = run(&cluster, &["status"]);
    assert_eq!(code, Some(3), "{printed}");
    assert!(printed.contains("possible loss"), "{printed}");
    // b had not lost its disk after all: it is taken as before.
    cluster.start(1).expect("it comes back");
    let since = Stopwatch::start();
    while !client
        .status("c")
        .await
        .expect("it is up")
        .declared_lost
        .is_empty()
    {
        assert!(since.elapsed() < LONGEST, "b is still taken as lost");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.wait_until_counting().expect("all count");
}
