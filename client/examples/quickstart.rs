//! Writes a key and reads it back. Start a cluster with `quorate dev`, then run this.

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use quorate_client::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::var("QUORATE_CLIENT");
    let client = Client::from_file(file.as_deref().unwrap_or("quorate-data/client.toml")).await?;
    let greetings = client.keyspace("default");

    let seen = greetings.get("hello").await?;
    greetings.put("hello", "world").after(&seen).await?;

    let read = greetings.get("hello").await?;
    println!("hello {:?}", read.value());
    client.close().await;
    Ok(())
}
