//! A shopping cart that many change at once: read, settle, change, write, as one call.
//!
//! Start a cluster with `quorate dev`, then run this, perhaps several times at once.

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::collections::BTreeSet;

use quorate_client::{Client, Packed, resolvers::Union};

type Cart = Packed<BTreeSet<String>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::var("QUORATE_CLIENT");
    let client = Client::from_file(file.as_deref().unwrap_or("quorate-data/client.toml")).await?;
    let carts = client.keyspace("default");

    // Three at the same time: each one's item is there at the end, whoever wrote last.
    let add = |item: &str| {
        let item = item.to_owned();
        let put_in = move |cart: Option<Cart>| {
            let mut cart = cart.unwrap_or_default();
            cart.0.insert(item);
            Some(cart)
        };
        carts.update("example-cart", Union, put_in).run()
    };
    let (apples, bread, milk) = tokio::join!(add("apples"), add("bread"), add("milk"));
    for updated in [apples, bread, milk] {
        let updated = updated?;
        println!("{:?} after {} writes", updated.value, updated.writes);
    }
    client.close().await;
    Ok(())
}
