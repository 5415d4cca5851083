//! What a node and its clients refuse, on real processes: each with a code, an exit code and a
//! sentence, and nothing lost.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use quorate_tests::cluster::{Cluster, NodeProcess};

/// Time for a node to refuse.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(20);

/// Starts the node in `folder`, which must end with `exit` and name `code`.
fn check_refused(folder: &Path, more: &[&str], exit: i32, code: &str) {
    let arguments = more.iter().copied().chain(["-o", "json"]);
    let mut process = NodeProcess::start(folder, arguments).expect("it starts");
    let status = process.wait(REFUSAL_TIME_MAX).expect("it refuses");
    let said = process.said();
    assert_eq!(status.code(), Some(exit), "{said}");
    assert!(
        said.contains(&format!("\"{code}\"")),
        "no {code} in: {said}"
    );
}

fn check_ended(output: &Output, exit: i32, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{said}");
    assert!(said.contains(words), "no {words} in: {said}");
}

#[test]
fn a_taken_port_is_a_failure_that_names_it() {
    let cluster = Cluster::create().expect("files are made");
    let folder = cluster.node_folder(0).expect("a node");
    let port = cluster.first_port();
    let quic = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
    check_refused(&folder, &[], 1, "PORT_TAKEN");
    drop(quic);
    let _http = TcpListener::bind((Ipv4Addr::LOCALHOST, port + 100)).expect("it is free");
    check_refused(&folder, &[], 1, "PORT_TAKEN");
}

#[test]
fn a_directory_of_another_node_is_refused_and_stays_as_it_is() {
    let mut cluster = Cluster::run().expect("a cluster runs");
    let data = cluster.node_folder(0).expect("a node").join("data");
    cluster.kill(&[0, 1]).expect("they run");
    let foreign = data.to_str().expect("a path of text").to_owned();
    let folder = cluster.node_folder(1).expect("a node");
    check_refused(&folder, &["--data-dir", &foreign], 6, "DIRECTORY_FOREIGN");
    cluster.start_all().expect("both come back");
}

#[test]
fn a_second_process_of_a_node_is_refused_while_the_first_goes_on() {
    let mut cluster = Cluster::run().expect("a cluster runs");
    let folder = cluster.node_folder(0).expect("a node");
    let base = cluster.first_port() + 50;
    let (quic, http) = (
        format!("127.0.0.1:{base}"),
        format!("127.0.0.1:{}", base + 1),
    );
    let elsewhere = ["--listen", &quic, "--http-listen", &http];
    check_refused(&folder, &elsewhere, 6, "DIRECTORY_LOCKED");
    cluster.wait_until_counting().expect("the first goes on");
    let pid = std::fs::read_to_string(folder.join("pid"));
    assert!(pid.is_ok(), "the pid of the first is still there");
}

#[test]
fn certificates_of_others_do_not_make_a_node() {
    let cluster = Cluster::create().expect("files are made");
    let other = Cluster::create().expect("files are made");
    let folder = cluster.node_folder(0).expect("a node");
    let file = |of: &Cluster, name: &str| of.path().join(name);
    let pairs = [
        ("a client's", &cluster, "client.crt", "client.key"),
        ("another node's", &cluster, "b/node.crt", "b/node.key"),
        ("another cluster's", &other, "a/node.crt", "a/node.key"),
        ("one that is not there", &cluster, "no.crt", "a/node.key"),
        ("one of another key", &cluster, "a/node.crt", "b/node.key"),
    ];
    for (number, (_whose, of, certificate, key)) in pairs.into_iter().enumerate() {
        let tls = cluster.scratch().join(format!("tls-{number}"));
        std::fs::create_dir_all(&tls).expect("a folder");
        for authority in ["node-ca.crt", "client-ca.crt"] {
            std::fs::copy(folder.join(authority), tls.join(authority)).expect("it is there");
        }
        if file(of, certificate).exists() {
            std::fs::copy(file(of, certificate), tls.join("node.crt")).expect("it is there");
        }
        std::fs::copy(file(of, key), tls.join("node.key")).expect("it is there");
        let more = ["--tls-dir", tls.to_str().expect("a path of text")];
        check_refused(&folder, &more, 6, "CERTIFICATE_REFUSED");
    }
    assert!(
        folder.join("first-start").exists(),
        "the mark of the first start is not used up"
    );
}

#[test]
fn a_client_of_the_role_data_reads_and_writes_and_administers_nothing() {
    let cluster = Cluster::run().expect("a cluster runs");
    let out = cluster.scratch().join("data-client");
    let made = cluster
        .command(["certs", "client", "--role", "data", "--dir"])
        .expect("a command")
        .arg(cluster.path())
        .arg("--out")
        .arg(&out)
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{made:?}");
    let run = |arguments: &[&str]| {
        let mut command = cluster
            .command(arguments.iter().copied())
            .expect("a command");
        let command = command.env("QUORATE_CLIENT", out.join("client.toml"));
        command.output().expect("it runs")
    };
    assert!(run(&["put", "k", "v"]).status.success());
    assert_eq!(run(&["get", "k"]).stdout, b"v");
    check_ended(
        &run(&["dump-local", "--node", "a", "-o", "json"]),
        6,
        "ROLE_REFUSED",
    );
}

#[test]
fn a_client_of_another_cluster_is_refused() {
    let cluster = Cluster::run().expect("a cluster runs");
    let other = Cluster::create().expect("files are made");
    // The other cluster's certificates with this cluster's addresses.
    let text = std::fs::read_to_string(other.path().join("client.toml")).expect("it is there");
    let mut moved = text;
    for node in 0..3 {
        let (from, to) = (other.first_port() + node, cluster.first_port() + node);
        moved = moved.replace(&format!(":{from}"), &format!(":{to}"));
    }
    std::fs::write(other.path().join("client.toml"), moved).expect("it can be written");
    let output = other
        .command(["get", "k"])
        .expect("a command")
        .output()
        .expect("it runs");
    check_ended(&output, 6, "");
    let output = cluster
        .command(["get", "k"])
        .expect("a command")
        .output()
        .expect("it runs");
    assert_eq!(
        output.status.code(),
        Some(7),
        "the cluster still serves its own clients"
    );
}

#[test]
fn a_cluster_that_does_not_run_is_a_failure_that_names_each_seed() {
    let cluster = Cluster::create().expect("files are made");
    let output = cluster
        .command(["get", "k"])
        .expect("a command")
        .output()
        .expect("it runs");
    check_ended(&output, 1, "");
    let said = String::from_utf8_lossy(&output.stderr);
    for port in cluster.first_port()..cluster.first_port() + 3 {
        assert!(said.contains(&format!(":{port}")), "{said}");
    }
}
