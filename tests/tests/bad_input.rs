//! What a client may get wrong, on three real nodes: each gets a code, a sentence and its end in
//! time, and what was written before is still there.
//!
//! A clock ten years off is in node/tests/keyspaces.rs, where clocks can be turned. What nodes
//! refuse of peers, disks and configuration is in chaos_refusals.rs.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::io::Write;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use quorate_client::{
    BatchError, Client, Code, Keyspace, Outcome, ProfileError, Rejected, ScanPosition, UpdateError,
    WriteItem,
};
use quorate_tests::cluster::Cluster;
use serde_json::{Value, json};
use tokio::time::timeout;

/// No refusal takes longer.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(5);

/// Waits for an answer that must come in time.
async fn soon<F: IntoFuture>(call: F) -> F::Output {
    let answer = timeout(REFUSAL_TIME_MAX, call.into_future()).await;
    answer.expect("a refusal takes no time")
}

fn check_said(error: &impl std::fmt::Display, words: &str) {
    let said = error.to_string();
    assert!(said.contains(words), "no `{words}` in: {said}");
}

#[tokio::test]
async fn everything_that_is_asked_wrongly_is_explained_and_nothing_is_lost() {
    let cluster = Cluster::run().expect("three nodes");
    let client = cluster.client().await.expect("a client");
    let keyspace = client.keyspace("default");
    for number in 0..40 {
        let put = keyspace.put_blind(format!("kept {number:02}"), format!("{number}"));
        put.await.expect("it is written");
    }
    check_ttl(&keyspace).await;
    check_scans(&client).await;
    check_batches(&keyspace).await;
    check_profiles(&client).await;
    check_resolvers(&keyspace).await;
    check_command_line(&cluster);
    check_driver(&cluster);

    let mut pages = keyspace.scan().prefix("kept").pages();
    let mut found = BTreeMap::new();
    while let Some(page) = pages.next_page().await.expect("it is read") {
        for record in page.records {
            found.insert(record.key, record.values);
        }
    }
    assert_eq!(found.len(), 40, "nothing is lost");
    assert!(found.values().all(|values| values.len() == 1));
    let missing = keyspace.get("refused").await.expect("it is read");
    assert!(missing.values().is_empty(), "nothing refused was applied");
    client.close().await;
}

async fn check_ttl(keyspace: &Keyspace) {
    let ten_years = Duration::from_secs(3_650 * 24 * 3_600);
    for ttl in [Duration::ZERO, ten_years + Duration::from_millis(1)] {
        let put = keyspace.put_blind("refused", "v").ttl(ttl);
        let error = soon(put).await.expect_err("no such TTL");
        assert_eq!(
            (error.code(), error.outcome()),
            (Code::TtlInvalid, Outcome::NotApplied)
        );
        check_said(&error, "ten years");
        let items = vec![WriteItem::put_blind("refused", "v").ttl(ttl)];
        let mut ends = soon(keyspace.multi_put(items)).await.expect("a batch");
        let error = ends.remove(0).expect_err("no such TTL");
        assert_eq!(
            (error.code(), error.outcome()),
            (Code::TtlInvalid, Outcome::NotApplied)
        );
    }
}

async fn check_scans(client: &Client) {
    let keyspace = client.keyspace("default");
    let mut pages = keyspace.scan().prefix("kept").page_records(5).pages();
    soon(pages.next_page()).await.expect("it is read");
    let position = pages.position().expect("more follows").clone();

    let refused = |error: quorate_client::GetError, code| {
        assert_eq!(error.code(), code, "{error}");
        check_said(&error, "scan");
    };
    let other = client.keyspace("lww").scan().prefix("kept");
    let mut other = other.resume(position.clone()).pages();
    let error = soon(other.next_page()).await.expect_err("another keyspace");
    refused(error, Code::ScanTokenInvalid);
    let other = keyspace.scan().prefix("kep").resume(position.clone());
    let error = soon(other.pages().next_page())
        .await
        .expect_err("another range");
    refused(error, Code::ScanTokenInvalid);

    let text = position.to_string();
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(&text).expect("as it says");
    for place in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[place] ^= 1;
        let altered = BASE64_URL_SAFE_NO_PAD.encode(&altered);
        let altered = altered.parse::<ScanPosition>().expect("it looks like one");
        let scan = keyspace.scan().prefix("kept").resume(altered);
        let error = soon(scan.pages().next_page()).await.expect_err("altered");
        refused(error, Code::ScanTokenInvalid);
    }
    assert!("!".parse::<ScanPosition>().is_err());

    let long = keyspace.scan().prefix(vec![b'k'; 1_025]);
    let error = soon(long.pages().next_page()).await.expect_err("too long");
    assert_eq!(error.code(), Code::RangeInvalid);
    check_said(&error, "1024");

    let mut rest = keyspace.scan().prefix("kept").resume(position).pages();
    let mut count = 5;
    while let Some(page) = rest
        .next_page()
        .await
        .expect("the true one is as good as before")
    {
        count += page.records.len();
    }
    assert_eq!(count, 40);
}

async fn check_batches(keyspace: &Keyspace) {
    let many = (0..1_001).map(|number| WriteItem::put_blind(format!("refused {number}"), "v"));
    let error = soon(keyspace.multi_put(many.collect())).await;
    let error = error.expect_err("too many");
    assert_eq!(error, BatchError::TooLarge { items: 1_001 });
    check_said(&error, "split it");
    let keys = (0..1_001).map(|number| format!("kept {number}"));
    let error = soon(keyspace.multi_get(keys)).await.expect_err("too many");
    assert_eq!(error.code(), Code::BatchTooLarge);

    let put = || WriteItem::put_blind("refused", "v");
    let twice = vec![put(), WriteItem::put_blind("other", "v"), put()];
    let error = soon(keyspace.multi_put(twice)).await.expect_err("twice");
    let want = BatchError::Repeated {
        first: 0,
        second: 2,
    };
    assert_eq!(error, want);
    check_said(&error, "name each key once");
    assert!(
        keyspace
            .get("other")
            .await
            .expect("read")
            .values()
            .is_empty()
    );
    let error = soon(keyspace.multi_get(["kept 00", "kept 00"])).await;
    assert_eq!(error.expect_err("twice").code(), Code::BatchItemRepeated);
}

async fn check_profiles(client: &Client) {
    let error = client.keyspace("default").profile("fastest");
    let error = error.expect_err("nobody made it");
    assert!(matches!(error, ProfileError::Unknown { .. }));
    check_said(&error, "client.toml");
}

async fn check_resolvers(keyspace: &Keyspace) {
    for value in ["1", "2"] {
        keyspace
            .put_blind("siblings", value)
            .await
            .expect("written");
    }
    let same = |value: Option<u64>| value;
    let refuses = |_: Vec<u64>| Err(Rejected::new("no rule for these"));
    let error = soon(keyspace.update("siblings", refuses, same).run()).await;
    let error = error.expect_err("the resolver refuses");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    check_said(&error, "no rule for these");

    let (release, released) = mpsc::sync_channel::<()>(1);
    let released = Mutex::new(released);
    let never_ends = move |_: Vec<u64>| -> Result<u64, Rejected> {
        let released = released.lock().expect("nobody else");
        released.recv().map_err(|_| Rejected::new("released"))?;
        Ok(1)
    };
    let update = keyspace.update("siblings", never_ends, same);
    let error = soon(update.deadline(Duration::from_millis(200)).run()).await;
    let error = error.expect_err("it never ends");
    assert!(
        matches!(error, UpdateError::ResolverStuck { .. }),
        "{error}"
    );
    assert_eq!(error.outcome(), Outcome::NotApplied);
    drop(release);
    let siblings = keyspace.get("siblings").await.expect("read");
    assert_eq!(siblings.values().len(), 2, "as they were");
}

fn check_command_line(cluster: &Cluster) {
    let long = "k".repeat(1_025);
    let cases: [(&[&str], &str); 5] = [
        (&["put", "refused", "v", "--ttl", "0s"], "ttl"),
        (&["put", "refused", "v", "--ttl", "3651d"], "ten years"),
        (&["scan", "--prefix", &long], "1024"),
        (&["scan", "--resume", "bm90IG9uZQ"], "scan"),
        (&["multi", "put", "refused", "1", "refused", "2"], "once"),
    ];
    for (arguments, words) in cases {
        let mut command = cluster
            .command(arguments.iter().copied())
            .expect("a binary");
        let output = command.output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert!(
            matches!(output.status.code(), Some(1 | 2)),
            "{arguments:?}: {output:?}"
        );
        assert!(said.contains(words), "no `{words}` in: {said}");
    }
}

fn check_driver(cluster: &Cluster) {
    let many: Vec<Value> = (0..1_001)
        .map(|number| json!({ "f": "get", "k": format!("kept {number}") }))
        .collect();
    let lines = [
        json!({ "id": 1, "f": "batch", "items": many }),
        json!({ "id": 2, "f": "batch", "items": [
            { "f": "get", "k": "kept 00" },
            { "f": "put", "k": "kept 00", "v": "x" },
        ]}),
        json!({ "id": 3, "f": "batch" }),
        json!({ "id": 4, "f": "batch", "items": [
            { "f": "put", "k": "driven", "v": "1" },
            { "f": "get", "k": "kept 07" },
            { "f": "del", "k": "nothing" },
        ]}),
    ];
    let told = driven(cluster, &lines);
    assert_eq!(told[&1]["err"], "BATCH_TOO_LARGE");
    assert_eq!(told[&2]["err"], "BATCH_ITEM_REPEATED");
    assert_eq!(told[&3]["err"], "REQUEST_INVALID");
    assert_eq!(told[&4]["t"], "ok");
    let items = told[&4]["items"].as_array().expect("a list");
    let outcomes: Vec<&Value> = items.iter().map(|item| &item["t"]).collect();
    assert_eq!(outcomes, ["ok", "ok", "ok"]);
    assert_eq!(items[1]["sib"], json!(["7"]));
    let read = driven(cluster, &[json!({ "id": 5, "f": "get", "k": "driven" })]);
    assert_eq!(read[&5]["sib"], json!(["1"]));
}

/// What the driver replies to the lines, by their ids.
fn driven(cluster: &Cluster, lines: &[Value]) -> BTreeMap<u64, Value> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let mut command = cluster.command(["driver"]).expect("a binary");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut driver = command.spawn().expect("it starts");
    let mut input = driver.stdin.take().expect("a pipe");
    input.write_all(text.as_bytes()).expect("it reads");
    drop(input);
    let output = driver.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let replies = String::from_utf8_lossy(&output.stdout);
    let replies = replies.lines().map(|line| {
        let reply: Value = serde_json::from_str(line).expect("JSON");
        (reply["id"].as_u64().expect("a number"), reply)
    });
    replies.collect()
}
