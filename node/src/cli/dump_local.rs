//! `quorate dump-local`: every record of one node's durable view, one JSON line each.
//!
//! Lines come in the order of (keyspace, key) and name no node, so that owners that agree print
//! the same bytes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::args::{DumpLocalArgs, Global};
use super::exit::{Exit, Problem};
use super::output::print;
use super::record_json::{key_document, with_record};
use super::session::{connect, unanswered};
use super::signals::{StopSignals, unless_stopped};

/// Prints the node's records.
///
/// # Errors
/// A [`Problem`] if the node cannot be reached or refuses.
pub(super) async fn run(args: DumpLocalArgs, global: Global) -> Result<Exit, Problem> {
    let mut signals = StopSignals::listen()?;
    let dumped = unless_stopped(&mut signals, dump(&args, &global)).await;
    let interrupted = || {
        Problem::new(
            Exit::Failed,
            "INTERRUPTED",
            "interrupted; lines are missing",
        )
    };
    dumped.ok_or_else(interrupted)??;
    Ok(Exit::Ok)
}

async fn dump(args: &DumpLocalArgs, global: &Global) -> Result<(), Problem> {
    let client = connect(global).await?;
    let topology = client.topology();
    let keyspaces = topology.ring().keyspaces().iter();
    let names: BTreeMap<u32, &str> = keyspaces.map(|k| (k.id.0, k.name.as_str())).collect();
    let mut pages = client.dump_local(&args.node).map_err(|e| unanswered(&e))?;
    while let Some(page) = pages.next_page().await.map_err(|e| unanswered(&e))? {
        let mut lines = Vec::new();
        for record in page {
            let unknown = record.keyspace.to_string();
            let keyspace = names.get(&record.keyspace).copied().unwrap_or(&unknown);
            let mut document = key_document(keyspace, &record.key);
            with_record(&mut document, &record.record).map_err(|reason| {
                let key = record.key.escape_ascii();
                Problem::new(
                    Exit::Failed,
                    "RECORD_UNREADABLE",
                    format!("the record of {keyspace}/{key} cannot be read: {reason}"),
                )
            })?;
            lines.extend_from_slice(Value::Object(document).to_string().as_bytes());
            lines.push(b'\n');
        }
        print(&lines)?;
    }
    Ok(())
}
