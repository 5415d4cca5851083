//! The planted bugs of the SDK do what their names say. In a process of their own, because a bug is
//! planted in a whole process.

#![cfg(feature = "planted-bugs")]

use std::time::Duration;

use quorate_client::testing::{FakeCluster, Fault};
use quorate_client::{Outcome, outcome::OutcomeTally};
use quorate_ring::planted::{Bug, plant};

async fn values_after_lost_answers() -> usize {
    let cluster = FakeCluster::new();
    let keyspace = cluster.client(1).keyspace("default");
    let all = ["1", "2", "3"];
    all.iter()
        .for_each(|node| cluster.break_node(node, Some(Fault::AnswerLost)));
    let put = keyspace
        .put_blind("k", "v")
        .deadline(Duration::from_millis(100));
    put.await.expect_err("every answer is lost");
    all.iter().for_each(|node| cluster.break_node(node, None));
    keyspace
        .get("k")
        .await
        .expect("all nodes answer")
        .values()
        .len()
}

/// Every write is done by a node whose answer is late, and so by the hedge too.
async fn values_after_hedges() -> usize {
    let cluster = FakeCluster::new();
    let keyspace = cluster.client(1).keyspace("default");
    cluster.break_node("1", Some(Fault::Late));
    for _ in 0..8 {
        keyspace
            .put_blind("k", "v")
            .await
            .expect("two nodes answer");
    }
    let calls = cluster.calls().len();
    assert!(calls > 8, "a hedge went out");
    let read = keyspace.get("k").await.expect("two nodes answer");
    read.values().len()
}

#[tokio::test(start_paused = true)]
async fn each_bug_shows() {
    assert_eq!(values_after_lost_answers().await, 1);
    plant(Some(Bug::RetryForgetsOpId));
    assert!(values_after_lost_answers().await > 1);

    plant(None);
    assert_eq!(values_after_hedges().await, 8);
    plant(Some(Bug::HedgeForgetsOpId));
    assert!(values_after_hedges().await > 8);

    plant(Some(Bug::OutcomeOfLastAttempt));
    let mut tally = OutcomeTally::default();
    tally.add(Outcome::Unknown);
    tally.add(Outcome::NotApplied);
    assert_eq!(tally.outcome(), Outcome::NotApplied);
    plant(None);
    assert_eq!(tally.outcome(), Outcome::Unknown);
}
