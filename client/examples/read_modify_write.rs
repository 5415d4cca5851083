//! Changes a value step by step, each put after what the one before gave back, and shows what to
//! do when the outcome of a put is unknown.
//!
//! Start a cluster with `quorate dev`, then run this.

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use quorate_client::{Client, Keyspace, Read, Versions, WriteError};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::var("QUORATE_CLIENT");
    let client = Client::from_file(file.as_deref().unwrap_or("quorate-data/client.toml")).await?;
    let visits = client.keyspace("default");

    for _ in 0..3 {
        let count = visit(&visits).await?;
        println!("visit number {count}");
    }
    client.close().await;
    Ok(())
}

/// Counts one visit. Not a counter: two visitors at once leave siblings, of which the greatest
/// counts.
async fn visit(visits: &Keyspace) -> Result<u64, Box<dyn std::error::Error>> {
    loop {
        let read = visits.get("visits").await?;
        let next = greatest(&read) + 1;
        match visits.put("visits", next.to_string()).after(&read).await {
            Ok(_) => return Ok(next),
            // On no replica: the caller may simply call again.
            Err(error @ WriteError::NotApplied(_)) => return Err(error.into()),
            // Perhaps on some: only a read tells.
            Err(WriteError::Unknown(_)) => {
                if greatest(&visits.get("visits").await?) >= next {
                    return Ok(next);
                }
            }
        }
    }
}

fn greatest(read: &Read) -> u64 {
    let number = |value: &[u8]| std::str::from_utf8(value).ok()?.parse().ok();
    match read.versions() {
        Versions::Absent => 0,
        Versions::One(value) => number(value).unwrap_or(0),
        Versions::Siblings(siblings) => {
            let numbers = siblings.iter().filter_map(|value| number(value));
            numbers.max().unwrap_or(0)
        }
    }
}
