//! Writes of an lww keyspace: one stamp for all attempts, again above a higher one, or told.

use super::*;
use crate::client::IfSuperseded;
use crate::wire::{KeyspaceInfo, Stamp};

/// A client that knows the keyspace `lww`, whose puts expire after 5 s, and reads of which ask one
/// replica.
fn scripted(steps: impl IntoIterator<Item = Step>) -> (Arc<Script>, Client) {
    let (script, _) = Script::new(steps);
    let mut info = topology(3);
    info.keyspaces.push(KeyspaceInfo {
        id: 2,
        name: "lww".to_owned(),
        mode: "lww".to_owned(),
        copies: 3,
        read_level: crate::wire::Level::One,
        ttl_ms: 5_000,
        ..KeyspaceInfo::default()
    });
    let client = Client::with_transport(Arc::clone(&script) as _, info, 1);
    (script, client.expect("a good topology"))
}

fn superseded(stamp: u64, feed: u64) -> Step {
    answer(Response::Applied(Applied {
        context: None,
        acks: 2,
        superseded_by: Some(Stamp { stamp, feed }),
    }))
}

fn stamps(script: &Script) -> Vec<u64> {
    let puts = script.puts();
    puts.iter().map(|put| put.stamp.expect("stamped")).collect()
}

/// V11.
#[tokio::test(start_paused = true)]
async fn every_attempt_of_a_write_carries_one_stamp() {
    let (script, client) = scripted([lost(), quorum_missed(), not_sent(), applied()]);
    let written = client.keyspace("lww").put_blind("k", "v").await;
    let written = written.expect("the fourth was applied");
    let stamps = stamps(&script);
    assert_eq!(stamps.len(), 4);
    assert!(stamps.iter().all(|stamp| Some(*stamp) == written.stamp()));
    assert!(!written.is_superseded());
}

#[tokio::test(start_paused = true)]
async fn a_superseded_write_is_written_again_as_a_new_operation_above_what_it_met() {
    let far = u64::MAX / 2;
    let (script, client) = scripted([superseded(far, 1), applied()]);
    let written = client.keyspace("lww").put_blind("k", "v").await;
    let written = written.expect("applied");
    assert_eq!((written.attempts(), written.stamp()), (2, Some(far + 1)));
    assert!(!written.is_superseded());
    let puts = script.puts();
    assert_ne!(puts[0].op_id, puts[1].op_id);
    assert!(puts.iter().all(|put| put.attempt == 1));
    // The clock followed no farther than it was fed.
    client
        .keyspace("lww")
        .put_blind("k", "v")
        .await
        .expect("applied");
    assert!(stamps(&script)[2] < far);
}

#[tokio::test(start_paused = true)]
async fn a_superseded_write_that_cannot_be_written_again_stays_applied() {
    for second in [refused(Code::StampAhead), quorum_missed()] {
        let steps = std::iter::once(superseded(u64::MAX / 2, 1));
        let (_, client) = scripted(steps.chain(std::iter::repeat_n(second, 200)));
        let put = client.keyspace("lww").put_blind("k", "v");
        let written = put.deadline(300 * MS).await.expect("the first was applied");
        assert!(written.is_superseded());
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_may_be_told_instead() {
    let (script, client) = scripted([superseded(u64::MAX / 2, 1)]);
    let put = client.keyspace("lww").put_blind("k", "v");
    let written = put.if_superseded(IfSuperseded::Tell).await;
    assert!(written.expect("applied").is_superseded());
    assert_eq!(script.puts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_after_a_read_is_above_what_was_read() {
    let read = |stamp| {
        answer(Response::Read(Read {
            values: Vec::new(),
            context: ContextToken(vec![].into()),
            replicas: 1,
            stamp: Some(Stamp { stamp, feed: stamp }),
        }))
    };
    let (script, client) = scripted([read(u64::MAX / 2), applied()]);
    let lww = client.keyspace("lww");
    assert_eq!(
        lww.get("k").await.expect("read").stamp(),
        Some(u64::MAX / 2)
    );
    lww.put_blind("k", "v").await.expect("applied");
    assert_eq!(stamps(&script), [u64::MAX / 2 + 1]);
}

#[tokio::test(start_paused = true)]
async fn what_is_of_another_mode_or_no_ttl_is_refused_before_anything_is_asked() {
    let (script, client) = scripted([]);
    let context = crate::Context::from_bytes(vec![1]).expect("a context");
    let put = client.keyspace("lww").put("k", "v").after(context);
    let error = put.await.expect_err("a context");
    assert_eq!(
        (error.code(), error.outcome()),
        (Code::WrongMode, Outcome::NotApplied)
    );
    for ttl in [Duration::ZERO, Duration::from_secs(u64::MAX / 1_000)] {
        let put = client.keyspace("default").put_blind("k", "v").ttl(ttl);
        let error = put.await.expect_err("no TTL");
        assert_eq!(
            (error.code(), error.outcome()),
            (Code::TtlInvalid, Outcome::NotApplied)
        );
    }
    assert!(script.nodes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_names_no_level_has_that_of_its_keyspace() {
    let (script, client) = scripted([]);
    drop(client.keyspace("lww").get("k").deadline(10 * MS).await);
    drop(client.keyspace("default").get("k").deadline(10 * MS).await);
    let calls = lock(&script.calls);
    let level = |keyspace: &str| {
        calls.iter().find_map(|call| match &call.request {
            Request::Get(get) if get.keyspace == keyspace => Some(get.level),
            _ => None,
        })
    };
    assert_eq!(level("lww"), Some(crate::wire::Level::One));
    assert_eq!(level("default"), Some(crate::wire::Level::Quorum));
}
