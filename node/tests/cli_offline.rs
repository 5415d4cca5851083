//! The built binary, as far as it needs no cluster: exit codes, documents, files.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn quorate(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(arguments)
        .current_dir(dir)
        .env_remove("QUORATE_CLIENT")
        .env_remove("QUORATE_CONFIG")
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The one JSON document on standard output, whose schema is checked.
fn document(output: &Output, schema: &str) -> Value {
    let text = stdout(output);
    let document: Value = serde_json::from_str(&text).expect("one JSON document");
    assert_eq!(document["schema"], schema, "{text}");
    document
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn create(dir: &Path, out: &str) -> Output {
    let node = |name: &str, port: u16| format!("{name}=127.0.0.1:{port}");
    let (a, b) = (node("a", 17_401), node("b", 17_402));
    quorate(
        dir,
        &[
            "cluster", "create", "--out", out, "--node", &a, "--node", &b, "-o", "json",
        ],
    )
}

#[test]
fn what_cannot_be_understood_is_exit_code_2_and_says_why() {
    let dir = folder();
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage"),
        (&["danse"], "unrecognized"),
        (&["dev", "--nodes", "0"], "1..=99"),
        (&["dev", "--base-port", "0"], "1..=65535"),
        (&["dev", "--base-port", "70000"], "70000"),
        (&["dev", "--base-port", "65500"], "out of range"),
        (&["put", "k", "v", "--ttl", "0s"], "1 ms to ten years"),
        (&["put", "k", "v", "--deadline", "2"], "no duration"),
        (
            &["put", "k", "v", "--blind", "--context", "x"],
            "cannot be used with",
        ),
        (
            &["get", "k", "--consistency", "most"],
            "no consistency level",
        ),
        (&["get", "k", "--consistency", "local-quorum"], "later work"),
        (&["get", "k", "--consistency", "each-quorum"], "later work"),
        (
            &["put", "k", "v", "--consistency", "local-quorum+sloppy"],
            "later work",
        ),
        (&["get", "k", "--consistency", "w=2"], "w= is for writes"),
        (
            &["put", "k", "v", "--consistency", "r=2"],
            "r= is for reads",
        ),
        (
            &["scan", "--consistency", "quorum+sloppy"],
            "+sloppy is not for scans",
        ),
        (
            &["export", "f", "--consistency", "r=1+sloppy"],
            "+sloppy is not for scans",
        ),
        (&["get", "k"], "no client file"),
        (&["status", "--client", "missing.toml"], "missing.toml"),
        (
            &["import", "-", "--resume", "--client", "x"],
            "needs a file",
        ),
        (&["serve", "--config", "missing.toml"], "missing.toml"),
        (&["cluster", "create", "--out", "c"], "--node"),
        (
            &["cluster", "create", "--out", "c", "--node", "a=h:0"],
            "1 to 65535",
        ),
        (
            &["cluster", "create", "--out", "c", "--node", "A=h:1"],
            "no node id",
        ),
        (
            &[
                "cluster", "create", "--out", "c", "--node", "a=h:1", "--node", "a=h:2",
            ],
            "there twice",
        ),
        (
            &[
                "cluster",
                "create",
                "--out",
                "c",
                "--node",
                "a=h:1",
                "--keyspace",
                "k,mode=strong",
            ],
            "later work",
        ),
        (
            &[
                "cluster",
                "create",
                "--out",
                "c",
                "--node",
                "a=h:1",
                "--keyspace",
                "k,n=2",
            ],
            "only 1 nodes",
        ),
        (
            &[
                "cluster", "create", "--out", "c", "--node", "a=h:1", "--vnodes", "12",
            ],
            "power of two",
        ),
        (&["ring", "distribution", "--nodes", "a=0"], "above 0"),
        (
            &["ring", "distribution", "--nodes", "a=1", "--n", "2"],
            "only 1 nodes",
        ),
        (
            &["ring", "plan", "--nodes", "a=1", "--remove", "b"],
            "no node `b`",
        ),
        (&["certs", "client", "--role", "king", "--out", "x"], "king"),
    ];
    for (arguments, want) in cases {
        let output = quorate(dir.path(), arguments);
        assert_eq!(code(&output), 2, "{arguments:?}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(want),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(stdout(&output).is_empty(), "{arguments:?}");
    }
    assert!(
        !dir.path().join("c").exists(),
        "a refused creation leaves nothing"
    );
}

#[test]
fn help_and_version_are_answers() {
    let dir = folder();
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["put", "--help"],
        &["serve", "--help"],
        &["cluster", "create", "--help"],
    ] {
        let output = quorate(dir.path(), arguments);
        assert_eq!(code(&output), 0, "{arguments:?}");
        assert!(!stdout(&output).is_empty(), "{arguments:?}");
    }
}

#[test]
fn an_error_is_a_document_where_json_is_asked_for() {
    let dir = folder();
    let output = quorate(dir.path(), &["get", "k", "-o", "json"]);
    let error: Value = serde_json::from_slice(&output.stderr).expect("a document");
    assert_eq!(error["schema"], "error/v1");
    assert_eq!(error["code"], "CLIENT_FILE_MISSING");
    assert_eq!(error["exit"], 2);
}

#[test]
fn a_created_cluster_is_complete_and_keeps_its_secrets() {
    let dir = folder();
    let created = document(&create(dir.path(), "c"), "cluster-create/v1");
    assert_eq!(created["nodes"].as_array().map(Vec::len), Some(2));
    let root = dir.path().join("c");
    for file in [
        "cluster.toml",
        "client.toml",
        "client.crt",
        "node-ca.crt",
        "client-ca.crt",
    ] {
        assert!(root.join(file).exists(), "{file}");
    }
    for node in ["a", "b"] {
        for file in [
            "quorate.toml",
            "cluster.toml",
            "node.crt",
            "node-ca.crt",
            "client-ca.crt",
            "first-start",
        ] {
            assert!(root.join(node).join(file).exists(), "{node}/{file}");
        }
        assert!(
            !root.join(node).join("node-ca.key").exists(),
            "authorities stay at home"
        );
    }
    for secret in [
        "secrets.toml",
        "node-ca.key",
        "client-ca.key",
        "client.key",
        "a/node.key",
    ] {
        let found = std::fs::metadata(root.join(secret)).expect(secret);
        assert_eq!(found.permissions().mode() & 0o777, 0o600, "{secret}");
    }
    let again = create(dir.path(), "c");
    assert_eq!(code(&again), 6, "{}", stderr(&again));
}

#[test]
fn a_client_certificate_can_be_made_and_shown() {
    let dir = folder();
    create(dir.path(), "c");
    let made = quorate(
        dir.path(),
        &[
            "certs", "client", "--role", "data", "--dir", "c", "--out", "app", "-o", "json",
        ],
    );
    assert_eq!(document(&made, "certs-client/v1")["role"], "data");
    let shown = quorate(
        dir.path(),
        &["certs", "show", "app/client.crt", "-o", "json"],
    );
    let shown = document(&shown, "certs/v1");
    let name = shown["certificates"][0]["names"][0]
        .as_str()
        .unwrap_or_default();
    assert!(name.starts_with("data.client."), "{shown}");
    assert_eq!(shown["certificates"][0]["valid"], true);
}

#[test]
fn a_client_file_whose_nodes_are_down_is_exit_code_1_with_every_seed() {
    let dir = folder();
    create(dir.path(), "c");
    let output = quorate(dir.path(), &["status", "--client", "c/client.toml"]);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    for seed in ["127.0.0.1:17401", "127.0.0.1:17402"] {
        assert!(stderr(&output).contains(seed), "{}", stderr(&output));
    }
}

#[test]
fn a_node_does_not_start_with_a_configuration_that_cannot_be() {
    let dir = folder();
    create(dir.path(), "c");
    let config = dir.path().join("c/a/quorate.toml");
    let good = std::fs::read_to_string(&config).expect("created");
    let cases = [
        ("colour = 1\n", 2, "no key `colour`"),
        ("data_dri = \"x\"\n", 2, "did you mean `data_dir`"),
        ("log_level = \"loud\"\n", 2, "use error, warn"),
        ("listen = \"nowhere\"\n", 2, "IP:PORT"),
        ("log_bytes_max = \"1MiB\"\n", 2, "two segments"),
        ("mtu_bytes_max = 9000\n", 2, "1200 to 6500"),
        (
            "background_latency_target = \"0s\"\n",
            2,
            "`0s` is out of range; it must be from 1ms to 10s",
        ),
        (
            "background_latency_target = \"11s\"\n",
            2,
            "`background_latency_target` from",
        ),
    ];
    for (line, want_code, want) in cases {
        std::fs::write(&config, format!("{good}{line}")).expect("writable");
        let output = quorate(dir.path(), &["serve", "--config", "c/a/quorate.toml"]);
        assert_eq!(code(&output), want_code, "{line}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(want),
            "{line}: {}",
            stderr(&output)
        );
    }
    std::fs::write(&config, &good).expect("writable");
    let foreign = quorate(
        dir.path(),
        &["serve", "--config", "c/a/quorate.toml", "--node", "z"],
    );
    assert_eq!(code(&foreign), 6, "{}", stderr(&foreign));
    let secrets = dir.path().join("c/a/secrets.toml");
    std::fs::set_permissions(&secrets, PermissionsExt::from_mode(0o644)).expect("own file");
    let open = quorate(dir.path(), &["serve", "--config", "c/a/quorate.toml"]);
    assert_eq!(code(&open), 6, "{}", stderr(&open));
}

#[test]
fn a_taken_port_is_exit_code_1() {
    let dir = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:18501").expect("a free port");
    let output = quorate(
        dir.path(),
        &[
            "dev",
            "--nodes",
            "1",
            "--base-port",
            "18400",
            "--data-dir",
            "d",
        ],
    );
    drop(taken);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("127.0.0.1:18501"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn dev_refuses_other_nodes_or_ports_than_its_directory_has() {
    let dir = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:18601").expect("a free port");
    let base = ["dev", "--base-port", "18500", "--data-dir", "d", "--nodes"];
    let first = quorate(dir.path(), &[&base[..], &["1"]].concat());
    drop(taken);
    assert_eq!(code(&first), 1, "{}", stderr(&first));
    let other = quorate(dir.path(), &[&base[..], &["2"]].concat());
    assert_eq!(code(&other), 2, "{}", stderr(&other));
    assert!(
        stderr(&other).contains("1 nodes on base port 18500"),
        "{}",
        stderr(&other)
    );
    let other = quorate(
        dir.path(),
        &["dev", "--data-dir", "d", "--base-port", "18501"],
    );
    assert_eq!(code(&other), 2, "{}", stderr(&other));
}

#[test]
fn dev_ends_with_its_logs_once_no_node_is_left() {
    let dir = folder();
    let mut dev = Command::new(env!("CARGO_BIN_EXE_quorate"));
    dev.args(["dev", "--nodes", "2", "--base-port", "18700"])
        .args(["--data-dir", "d"])
        .current_dir(dir.path())
        .env("QUORATE_BACKGROUND_RATE_MAX", "1")
        .stdin(Stdio::null());
    let output = dev.output().expect("the binary starts");
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let told = stderr(&output);
    assert!(told.contains("[NODES_ENDED]"), "{told}");
    for log in ["d/node1/log", "d/node2/log"] {
        assert!(
            told.contains(log) && dir.path().join(log).exists(),
            "{told}"
        );
    }
}

#[test]
fn the_ring_answers_offline() {
    let dir = folder();
    let weighted = quorate(
        dir.path(),
        &[
            "ring",
            "distribution",
            "--nodes",
            "a=1,b=2,c=0.5",
            "--n",
            "1",
            "--keys",
            "10000",
            "-o",
            "json",
        ],
    );
    let weighted = document(&weighted, "ring-distribution/v1");
    let nodes = weighted["reports"][0]["nodes"].as_array().expect("nodes");
    let keys: u64 = nodes.iter().filter_map(|node| node["keys"].as_u64()).sum();
    assert_eq!((nodes.len(), keys), (3, 10_000));
    let zones = "a=1@x,b=1@x,c=1@y,d=1@y,e=1@z,f=1@z";
    let zoned = quorate(
        dir.path(),
        &["ring", "distribution", "--nodes", zones, "--n", "3"],
    );
    assert_eq!(code(&zoned), 0, "{}", stderr(&zoned));
    let plan = quorate(
        dir.path(),
        &[
            "ring",
            "plan",
            "--nodes",
            "a=1,b=1,c=1",
            "--n",
            "3",
            "--add",
            "d=1",
            "-o",
            "json",
        ],
    );
    let plan = document(&plan, "ring-plan/v1");
    assert!(
        plan["moves"].as_u64() >= plan["moves_least"].as_u64(),
        "{plan}"
    );
    let show = quorate(
        dir.path(),
        &["ring", "show", "--nodes", "a=1,b=1", "-o", "json"],
    );
    let show = document(&show, "ring/v1");
    assert_eq!(
        show["assignments"][0]["vnodes"].as_array().map(Vec::len),
        Some(256)
    );
    create(dir.path(), "c");
    let file = quorate(
        dir.path(),
        &["ring", "show", "--cluster-file", "c/cluster.toml"],
    );
    assert_eq!(code(&file), 0, "{}", stderr(&file));
}

#[test]
fn explain_knows_every_code_by_name_and_number_and_names_the_nearest() {
    let dir = folder();
    let all = quorate(dir.path(), &["explain", "-o", "json"]);
    let all = document(&all, "codes/v1");
    let all = all["codes"].as_array().expect("a list");
    assert!(all.len() > 30);
    for entry in all {
        let name = entry["code"].as_str().expect("a name");
        let number = entry["number"].to_string();
        assert!(
            entry["meaning"]
                .as_str()
                .is_some_and(|text| text.ends_with('.')),
            "{entry}"
        );
        for asked in [name, number.as_str()] {
            let one = quorate(dir.path(), &["explain", asked, "-o", "json"]);
            assert_eq!(document(&one, "code/v1")["code"], name);
        }
    }
    let misspelt = quorate(dir.path(), &["explain", "QUORUM_NOT_REACHD"]);
    assert_eq!(code(&misspelt), 2);
    assert!(stderr(&misspelt).contains("did you mean QUORUM_NOT_REACHED?"));
    assert_eq!(code(&quorate(dir.path(), &["explain", "0"])), 2);
}

#[test]
fn config_check_tells_everything_that_is_wrong_and_dump_where_values_come_from() {
    let dir = folder();
    assert_eq!(code(&create(dir.path(), "c")), 0);
    let file = dir.path().join("c/a/quorate.toml");
    let file_text = std::fs::read_to_string(&file).expect("it was made");
    let file = file.to_str().expect("a plain path");
    let good = quorate(
        dir.path(),
        &["config", "check", "--config", file, "-o", "json"],
    );
    assert_eq!(code(&good), 0, "{}", stderr(&good));
    assert_eq!(document(&good, "config-check/v1")["good"], true);

    let bad = format!(
        "{file_text}\nloglevel = \"x\"\nrequests_in_flight_max = \"many\"\nlog_level = 7\n"
    );
    std::fs::write(file, bad).expect("writable");
    let found = quorate(
        dir.path(),
        &["config", "check", "--config", file, "-o", "json"],
    );
    assert_eq!(code(&found), 2);
    let text = document(&found, "config-check/v1")["problems"].to_string();
    assert!(
        text.contains("loglevel") && text.contains("log_level"),
        "{text}"
    );

    std::fs::write(file, format!("{file_text}\nrequests_in_flight_max = 99\n")).expect("writable");
    let dumped = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["config", "dump", "--origin", "--config", file, "-o", "json"])
        .env("QUORATE_LOG_LEVEL", "debug")
        .output()
        .expect("the binary starts");
    let dumped = document(&dumped, "config/v1");
    let key = |name: &str| {
        let keys = dumped["keys"].as_array().expect("a list");
        let key = keys.iter().find(|key| key["key"] == name);
        key.expect("every key is listed").clone()
    };
    assert_eq!(key("requests_in_flight_max")["value"], "99");
    assert!(
        key("requests_in_flight_max")["origin"]
            .to_string()
            .contains("quorate.toml")
    );
    assert_eq!(key("log_level")["value"], "debug");
    assert!(
        key("log_level")["origin"]
            .to_string()
            .contains("environment")
    );
}

#[test]
fn every_shell_gets_a_script_of_completions() {
    let dir = folder();
    for shell in ["bash", "zsh", "fish"] {
        let script = quorate(dir.path(), &["completions", shell]);
        assert_eq!(code(&script), 0);
        assert!(stdout(&script).contains("whereis"), "{shell}");
    }
    assert_eq!(code(&quorate(dir.path(), &["completions", "dosh"])), 2);
}
