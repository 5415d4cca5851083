//! All keys with a prefix in key order, as a stream, and page by page with a place to go on from.
//!
//! Start a cluster with `quorate dev`, then run this.

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::pin::pin;

use futures_util::TryStreamExt as _;
use quorate_client::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::var("QUORATE_CLIENT");
    let client = Client::from_file(file.as_deref().unwrap_or("quorate-data/client.toml")).await?;
    let users = client.keyspace("default");
    for name in ["ann", "bob", "eve"] {
        users.put_blind(format!("example-scan/{name}"), "1").await?;
    }

    let mut records = pin!(users.scan().prefix("example-scan/").records());
    while let Some(record) = records.try_next().await? {
        println!(
            "{}: {} values",
            record.key.escape_ascii(),
            record.values.len()
        );
    }

    // A page at a time: the position is text, and any process can go on from it.
    let mut pages = users.scan().prefix("example-scan/").page_records(2).pages();
    let first = pages.next_page().await?;
    if let Some(position) = first.and_then(|page| page.next) {
        let saved = position.to_string();
        let rest = users.scan().prefix("example-scan/").resume(saved.parse()?);
        let page = rest.pages().next_page().await?;
        println!(
            "{} behind the first two",
            page.map_or(0, |page| page.records.len())
        );
    }
    client.close().await;
    Ok(())
}
