//! Levels, deadlines and retries under a name; and what a call went through.
//!
//! Start a cluster with `quorate dev`, then run this. `[profiles.NAME]` in `client.toml` does the
//! same without a line of code.

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::time::Duration;

use quorate_client::{Client, Level, Profile};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::var("QUORATE_CLIENT");
    let client = Client::from_file(file.as_deref().unwrap_or("quorate-data/client.toml")).await?;
    let hasty = Profile::default()
        .read_level(Level::One)
        .deadline(Duration::from_millis(200))
        .attempt_deadline(Duration::from_millis(50));
    client.set_profile("hasty", hasty)?;
    let pages = client.keyspace("default").profile("hasty")?;

    let read = pages.get("front").with_diagnostics().await?;
    if let Some(diagnostics) = read.diagnostics() {
        println!("{diagnostics}");
    }
    // Changed while the client runs; `pages` follows with its next call.
    client.set_profile("hasty", hasty.attempts_max(1))?;
    pages.get("front").await?;

    if let Err(error) = client.keyspace("default").profile("hastily") {
        println!("{error}");
    }
    client.close().await;
    Ok(())
}
