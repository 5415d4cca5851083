//! Commands on data and health, on real processes: what they print and how they end.

use std::process::Output;
use std::time::Duration;

use quorate_tests::cluster::{Cluster, until};
use serde_json::Value;

fn run(cluster: &Cluster, arguments: &[&str]) -> Output {
    let mut command = cluster
        .command(arguments.iter().copied())
        .expect("a binary");
    command.output().expect("it starts")
}

fn document(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    let document = serde_json::from_str(&text);
    assert!(document.is_ok(), "{text}{said}");
    document.expect("it was looked at")
}

#[test]
fn many_keys_are_written_scanned_exported_imported_and_deleted() {
    let cluster = Cluster::run().expect("three nodes");
    let run = |arguments: &[&str]| run(&cluster, arguments);
    let healthy = run(&["health", "--wait", "--timeout", "20s", "-o", "json"]);
    assert_eq!(healthy.status.code(), Some(0));
    assert_eq!(document(&healthy)["healthy"], true);

    let written = run(&[
        "multi", "put", "ann", "1", "bob", "2", "eve", "3", "-o", "json",
    ]);
    assert_eq!(written.status.code(), Some(0), "{written:?}");
    let again = run(&["multi", "put", "bob", "4"]);
    assert_eq!(again.status.code(), Some(0));
    let read = run(&["multi", "get", "ann", "bob", "nobody", "-o", "json"]);
    let items = document(&read)["items"].clone();
    let siblings: Vec<String> = items
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| item["siblings"].to_string())
        .collect();
    assert_eq!(siblings, [r#"["1"]"#, r#"["4"]"#, "[]"]);
    let twice = run(&["multi", "get", "ann", "ann"]);
    assert_eq!(twice.status.code(), Some(2));

    let file = cluster.scratch().join("all.jsonl");
    let file = file.to_str().expect("a plain path");
    let exported = run(&["export", file]);
    assert_eq!(exported.status.code(), Some(0), "{exported:?}");
    let lines = std::fs::read_to_string(file).expect("it was written");
    let scanned = run(&["scan", "-o", "json"]);
    assert_eq!(lines, String::from_utf8_lossy(&scanned.stdout));
    assert_eq!(lines.lines().count(), 3);
    let resumed = run(&["export", file, "--resume"]);
    assert_eq!(
        resumed.status.code(),
        Some(2),
        "there is nothing to go on from"
    );

    // A failure before the first page leaves a file as it was, and says nothing of going on.
    let failed = run(&["export", file, "--keyspace", "nope"]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(!String::from_utf8_lossy(&failed.stderr).contains("--resume"));
    let kept = std::fs::read_to_string(file).expect("it is still there");
    assert_eq!(kept, lines);
    // A file that is shorter than what was written is not gone on with.
    let position = format!("{file}.export-position");
    let told = r#"{"keyspace":"default","position":null,"bytes":99999,"records":1}"#;
    std::fs::write(&position, told).expect("a file");
    let short = run(&["export", file, "--resume"]);
    assert_eq!(short.status.code(), Some(2), "{short:?}");
    assert!(String::from_utf8_lossy(&short.stderr).contains("99999 were written"));
    assert_eq!(std::fs::read_to_string(file).expect("untouched"), lines);
    std::fs::remove_file(&position).expect("it is there");

    let deleted = run(&["multi", "delete", "ann", "bob", "eve"]);
    assert_eq!(deleted.status.code(), Some(0));
    assert!(run(&["scan"]).stdout.is_empty());
    let imported = run(&["import", file]);
    assert_eq!(imported.status.code(), Some(0), "{imported:?}");
    let page = run(&["scan", "--prefix", "b"]);
    assert_eq!(
        String::from_utf8_lossy(&page.stdout).trim(),
        r#"{"key":"bob","value":"4"}"#
    );
    everything_is_counted_and_sound(&cluster);

    // A value that has expired still counts as a key until it is written again or purged.
    let hidden = run(&["multi", "put", "soon", "x", "gone", "y", "--ttl", "1ms"]);
    assert_eq!(hidden.status.code(), Some(0), "{hidden:?}");
    let read = run(&["multi", "get", "soon", "gone", "-o", "json"]);
    for item in document(&read)["items"].as_array().expect("a list") {
        assert_eq!(item["siblings"], serde_json::json!([]), "it has expired");
    }
}

/// After a write at `all` of three keys every node holds these, says so, and finds them in order.
fn everything_is_counted_and_sound(cluster: &Cluster) {
    let run = |arguments: &[&str]| run(cluster, arguments);
    let keys = ["ann", "1", "bob", "2", "eve", "3"];
    let everywhere = [&["multi", "put", "--consistency", "all"][..], &keys].concat();
    assert_eq!(run(&everywhere).status.code(), Some(0));
    let gone = ["multi", "delete", "--consistency", "all", "eve"];
    assert_eq!(run(&gone).status.code(), Some(0));
    let status = document(&run(&["status", "-o", "json"]));
    let keyspaces = status["keyspaces"].as_array().expect("a list");
    let default = keyspaces.iter().find(|k| k["name"] == "default");
    let default = default.expect("it is there");
    assert_eq!(
        (&default["keys"], &default["tombstones"]),
        (&2.into(), &1.into())
    );
    let verified = run(&["verify", "-o", "json"]);
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    let verified = document(&verified);
    assert_eq!(verified["sound"], true);
    for node in verified["nodes"].as_array().expect("a list") {
        assert_eq!(
            (&node["records"], &node["faults_total"]),
            (&3.into(), &0.into())
        );
    }
    let nobody = run(&["verify", "--node", "nobody"]);
    assert_eq!(nobody.status.code(), Some(2));
}

#[test]
fn health_tells_who_is_down_and_gives_up_waiting() {
    let mut cluster = Cluster::run().expect("three nodes");
    let written = ["multi", "put", "--consistency", "all", "a", "1", "b", "2"];
    assert_eq!(run(&cluster, &written).status.code(), Some(0));
    cluster.kill(&[2]).expect("it runs");
    let health = run(&cluster, &["health", "-o", "json"]);
    assert_eq!(health.status.code(), Some(3));
    assert!(
        document(&health)["reasons"][0]
            .to_string()
            .contains("node c")
    );
    let waited = run(&cluster, &["health", "--wait", "--timeout", "1s"]);
    assert_eq!(waited.status.code(), Some(4));
    // Once its peers have given the node up, the keys are counted without it.
    let counted = until(Duration::from_secs(10), "the keys are counted", || {
        let status = document(&run(&cluster, &["status", "-o", "json"]));
        let keyspaces = status["keyspaces"].as_array().cloned();
        let mut keyspaces = keyspaces.unwrap_or_default().into_iter();
        let default = keyspaces.find(|keyspace| keyspace["name"] == "default");
        Ok(default.and_then(|keyspace| keyspace["keys"].as_u64()))
    });
    assert_eq!(counted.expect("they are"), 2);
}
