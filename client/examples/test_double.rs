//! How a program tests itself without a cluster: the real client over a cluster in memory, with
//! siblings, unknown outcomes and broken nodes on request.
//!
//! In your `Cargo.toml`: `quorate-client = { .., features = ["testing"] }` under
//! `[dev-dependencies]`. This needs nothing to run.

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use quorate_client::testing::{FakeCluster, Fault};
use quorate_client::{Code, Keyspace, Outcome, WriteError, resolvers::Max};

/// The code under test: counts a visit, and says how many there were.
async fn visit(visits: &Keyspace) -> Result<u64, Box<dyn std::error::Error>> {
    let next = |count: Option<u64>| Some(count.unwrap_or(0) + 1);
    let updated = visits.update("visits", Max, next).await?;
    Ok(updated.value.unwrap_or(0))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = FakeCluster::new();
    let visits = cluster.client(1).keyspace("default");
    assert_eq!(visit(&visits).await?, 1);

    // Another writer left a sibling.
    visits.put_blind("visits", "41").await?;
    assert_eq!(visit(&visits).await?, 42);

    // One node is down, one is stuck: the third answers.
    cluster.break_node("1", Some(Fault::Down));
    cluster.break_node("2", Some(Fault::Stuck));
    assert_eq!(visit(&visits).await?, 43);

    // Every answer is lost: the outcome is unknown, and the error says so.
    cluster.break_all(Some(Fault::AnswerLost));
    let put = visits.put_blind("other", "1").attempts_max(2).await;
    let error: WriteError = put.expect_err("nobody answers");
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert_eq!(error.code(), Code::ConnectionLost);
    println!("{error}");
    println!("{} calls were made", cluster.calls().len());
    Ok(())
}
