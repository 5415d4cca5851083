//! A session reads its own writes at level `one`, here and in another process.
//!
//! Start a cluster with `quorate dev`, then run this.

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use quorate_client::{Client, Level, SessionToken};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::var("QUORATE_CLIENT");
    let client = Client::from_file(file.as_deref().unwrap_or("quorate-data/client.toml")).await?;
    let session = client.session();
    let posts = client.keyspace("default").in_session(&session);

    let seen = posts.get("post").await?;
    posts.put("post", "hello").after(&seen).await?;
    // One replica is asked; if it has not seen the write yet, the next ones are.
    let read = posts.get("post").level(Level::One).await?;
    println!("{:?} from {} replicas", read.value(), read.replicas());

    // As a cookie, say, to whichever server answers the next request.
    let cookie = session.token()?.to_string();
    println!("the session is {} characters long", cookie.len());
    let token: SessionToken = cookie.parse()?;
    let there = client.resume_session(&token)?;
    let posts = client.keyspace("default").in_session(&there);
    println!("{:?}", posts.get("post").level(Level::One).await?.value());
    client.close().await;
    Ok(())
}
