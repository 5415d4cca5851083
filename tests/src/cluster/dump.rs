//! What a node holds, read over its admin interface.

use anyhow::Result;
use quorate_client::Client;
use quorate_client::wire::LocalRecord;

/// Every record of a node, as it holds it, in the order in which it tells them.
///
/// # Errors
/// If there is no such node, or it does not answer.
pub async fn dump_of(client: &Client, node: &str) -> Result<Vec<LocalRecord>> {
    let mut pages = client.dump_local(node)?;
    let mut records = Vec::new();
    while let Some(page) = pages.next_page().await? {
        records.extend(page);
    }
    Ok(records)
}
