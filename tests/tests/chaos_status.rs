//! What an operator sees of a dead node, and how soon, on real processes.

use std::time::Duration;

use quorate_tests::cluster::{Cluster, Stopwatch, until};
use serde_json::Value;

/// Time for the others to call a killed node down.
const NOTICED_TIME_MAX: Duration = Duration::from_secs(20);
/// An answer must not wait for the timeout of 2 s that a silent node costs; most of this is the
/// start of the process and three handshakes on a busy machine.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(1_500);

struct Answer {
    exit: Option<i32>,
    document: Value,
    took: Duration,
}

fn ask(cluster: &Cluster, arguments: &[&str]) -> Answer {
    let mut command = cluster
        .command(arguments.iter().copied().chain(["-o", "json"]))
        .expect("a command");
    let watch = Stopwatch::start();
    let output = command.output().expect("it runs");
    let took = watch.elapsed();
    let document = serde_json::from_slice(&output.stdout).expect("a document");
    Answer {
        exit: output.status.code(),
        document,
        took,
    }
}

/// Whether every node but `c` says that it has not heard `c`.
fn is_noticed(status: &Value) -> bool {
    let nodes = status["nodes"].as_array().into_iter().flatten();
    let mut peers = nodes
        .filter(|node| node["id"] != "c")
        .flat_map(|node| node["peers"].as_array().into_iter().flatten())
        .filter(|peer| peer["id"] == "c");
    peers.all(|peer| peer["up"] == false && peer["silent_ms"].as_u64() > Some(1_000))
}

#[test]
fn a_dead_node_does_not_hold_up_who_asks_for_it() {
    let mut cluster = Cluster::run().expect("a cluster runs");
    let put = cluster.command(["put", "k", "v"]).expect("a command");
    assert!({ put }.status().expect("it runs").success());
    cluster.kill(&[2]).expect("it runs");
    until(NOTICED_TIME_MAX, "the others miss node c", || {
        let status = ask(&cluster, &["status"]);
        Ok(is_noticed(&status.document).then_some(()))
    })
    .expect("they notice");

    let status = ask(&cluster, &["status"]);
    assert_eq!(status.exit, Some(3));
    let states: Vec<&Value> = status.document["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .map(|node| &node["state"])
        .collect();
    assert_eq!(states, ["up", "up", "down"]);
    assert!(
        status.took < ANSWER_TIME_MAX,
        "status took {:?}",
        status.took
    );

    let whereis = ask(&cluster, &["whereis", "k"]);
    assert_eq!(whereis.exit, Some(0));
    let copies = whereis.document["copies"].as_array().expect("copies");
    let of_c = copies.iter().find(|copy| copy["node"] == "c");
    assert_eq!(
        of_c.map(|copy| &copy["state"]),
        Some(&Value::from("unreached"))
    );
    let holding = copies.iter().filter(|copy| copy["state"] == "holds");
    assert_eq!(holding.count(), 2);
    assert!(
        whereis.took < ANSWER_TIME_MAX,
        "whereis took {:?}",
        whereis.took
    );
}
