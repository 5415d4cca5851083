//! Two writers that do not know of each other leave two siblings; one who read both resolves them.
//!
//! Start a cluster with `quorate dev`, then run this.

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::collections::BTreeSet;

use quorate_client::{Client, Versions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::var("QUORATE_CLIENT");
    let client = Client::from_file(file.as_deref().unwrap_or("quorate-data/client.toml")).await?;
    let carts = client.keyspace("default");

    // Both writers read the same state, then write without knowing of each other.
    let seen = carts.get("cart").await?;
    carts.put("cart", "apples").after(&seen).await?;
    carts.put("cart", "bread").after(&seen).await?;

    let read = carts.get("cart").await?;
    match read.versions() {
        Versions::Absent => println!("no cart"),
        Versions::One(cart) => println!("one cart: {}", String::from_utf8_lossy(cart)),
        Versions::Siblings(siblings) => {
            println!("{} carts", siblings.count());
            let items: BTreeSet<_> = siblings
                .iter()
                .flat_map(|cart| cart.split(|byte| *byte == b',').map(<[u8]>::to_vec))
                .collect();
            let merged = Vec::from_iter(items).join(&b',');
            // After the read, so the new value supersedes exactly the carts that it merged.
            carts.put("cart", merged).after(&read).await?;
        }
    }
    let read = carts.get("cart").await?;
    println!("the cart: {:?}", read.value());
    client.close().await;
    Ok(())
}
