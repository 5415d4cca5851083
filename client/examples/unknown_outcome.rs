//! What to do when nobody knows whether a write was applied: ask, and ask again.
//!
//! Start a cluster with `quorate dev` and run this while you stop and start nodes.

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::time::Duration;

use quorate_client::{Client, Resolution, WriteError};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::var("QUORATE_CLIENT");
    let client = Client::from_file(file.as_deref().unwrap_or("quorate-data/client.toml")).await?;
    let orders = client.keyspace("default");

    for number in 0..200 {
        let key = format!("order-{number}");
        let seen = orders.get(key.clone()).await?;
        let put = orders.put(key, "paid").after(&seen);
        // Too short a time on purpose, and no retries.
        let put = put.deadline(Duration::from_millis(3)).attempts_max(1);
        let error = match put.await {
            Ok(_) => continue,
            Err(error @ WriteError::NotApplied(_)) => {
                println!("{number}: {error}");
                continue;
            }
            Err(error) => error,
        };
        let Some(question) = client.resolve(&error) else {
            continue;
        };
        match question.await {
            Resolution::Applied(written) => {
                println!("{number}: applied on {} replicas", written.acks());
            }
            Resolution::Unknown(failure) => println!("{number}: {failure}"),
        }
    }
    client.close().await;
    Ok(())
}
