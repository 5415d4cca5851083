//! Five real nodes, two owners of a key killed: what a sloppy quorum takes, what the others refuse,
//! and where the write is when the owners are back.

use std::process::Output;
use std::time::Duration;

use quorate_tests::cluster::{Cluster, until};
use serde_json::Value;

/// Longest time until owners are known to be down, or have what they missed.
const LONGEST: Duration = Duration::from_secs(30);

fn run(cluster: &Cluster, arguments: &[&str]) -> Output {
    let mut command = cluster
        .command(arguments.iter().copied())
        .expect("a binary");
    command.output().expect("it starts")
}

/// Places of the nodes that own a key, and of the others.
fn owners_and_others(cluster: &Cluster, key: &str) -> (Vec<usize>, Vec<usize>) {
    let told = run(cluster, &["whereis", key, "-o", "json"]);
    let document: Value = serde_json::from_slice(&told.stdout).expect("a document");
    let text = document["primaries"].to_string();
    let is_owner =
        |node: &usize| text.contains(&format!("\"{}\"", ["a", "b", "c", "d", "e"][*node]));
    (0..5).partition(is_owner)
}

/// Keys that wait on a node for others because sloppy writes counted them, over all nodes that
/// answer.
fn counted(cluster: &Cluster) -> u64 {
    let told = run(cluster, &["hints", "-o", "json"]);
    let document: Value = serde_json::from_slice(&told.stdout).expect("a document");
    let nodes = document["nodes"].as_array().cloned().unwrap_or_default();
    let hints = nodes
        .iter()
        .flat_map(|node| node["hints"].as_array().cloned().unwrap_or_default());
    let hints = hints.filter(|hint| hint["counted"] == true);
    hints.filter_map(|hint| hint["keys"].as_u64()).sum()
}

#[test]
fn a_sloppy_quorum_takes_writes_without_two_owners_and_hands_them_over() {
    let mut cluster = Cluster::run_of(5).expect("five nodes");
    let (owners, others) = owners_and_others(&cluster, "k");
    assert_eq!((owners.len(), others.len()), (3, 2));
    cluster.kill(&owners[1..]).expect("two owners die");
    let put = |cluster: &Cluster, value: &str, level: &str| {
        let arguments = ["put", "k", value, "--blind", "--consistency", level];
        run(cluster, &arguments).status.code()
    };
    // Unknown while they are only silent, not applied once they are known to be down.
    let refused = put(&cluster, "strict", "quorum");
    assert!(matches!(refused, Some(1 | 5)), "{refused:?}");
    assert_eq!(put(&cluster, "sloppy", "quorum+sloppy"), Some(0));
    assert!(counted(&cluster) > 0, "somebody stands in");
    let read = run(&cluster, &["get", "k", "--consistency", "quorum+sloppy"]);
    assert!(String::from_utf8_lossy(&read.stdout).contains("sloppy"));

    // Whoever stands in dies too, and comes back with what it holds.
    cluster.kill(&others).expect("they die");
    others
        .iter()
        .for_each(|node| cluster.start(*node).expect("it starts"));
    until(LONGEST, "the fallback tells what it holds", || {
        Ok((counted(&cluster) > 0).then_some(()))
    })
    .expect("nothing is forgotten");

    // The owner that has it dies before any other has heard of it: the fallback's is the only copy.
    cluster.kill(&owners[..1]).expect("the last owner dies");
    cluster.start(owners[1]).expect("it starts");
    cluster.start(owners[2]).expect("it starts");
    until(LONGEST, "the value is at a quorum of the owners", || {
        let read = run(&cluster, &["get", "k", "--consistency", "quorum"]);
        let text = String::from_utf8_lossy(&read.stdout).into_owned();
        Ok(text.contains("sloppy").then_some(()))
    })
    .expect("it is handed over");
    cluster.start(owners[0]).expect("it starts");
    until(LONGEST, "no hint is left", || {
        Ok((counted(&cluster) == 0).then_some(()))
    })
    .expect("all owners have it");
}
