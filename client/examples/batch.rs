//! Many keys in few requests, each with an outcome of its own.
//!
//! Start a cluster with `quorate dev`, then run this.

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use quorate_client::{Client, Outcome, WriteItem};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::var("QUORATE_CLIENT");
    let client = Client::from_file(file.as_deref().unwrap_or("quorate-data/client.toml")).await?;
    let users = client.keyspace("default");

    let names = ["ann", "bob", "eve"];
    let keys = || names.iter().map(|name| format!("example-batch/{name}"));
    let mut writes = Vec::new();
    for (key, read) in keys().zip(users.multi_get(keys()).await?) {
        // Each write supersedes what its key holds, and nothing else.
        writes.push(WriteItem::put(key, "seen", &read?));
    }
    for (key, written) in keys().zip(users.multi_put(writes).await?) {
        match written {
            Ok(_) => println!("{key}: written"),
            Err(error) if error.outcome() == Outcome::NotApplied => println!("{key}: not: {error}"),
            Err(error) => println!("{key}: perhaps: {error}"),
        }
    }
    client.close().await;
    Ok(())
}
