//! `quorate whereis`: the nodes that keep a key, and what each of them durably holds of it.

use bytes::Bytes;
use quorate_client::wire::{KEY_BYTES_MAX, LocalRecord};
use quorate_client::{Client, Code, NodeError, Owners};
use serde_json::{Map, Value, json};

use super::args::{Global, WhereisArgs};
use super::ask_nodes::ask_nodes;
use super::data::bytes_of;
use super::exit::{Exit, Problem};
use super::is_json;
use super::output::{Table, print, print_json};
use super::record_json::{key_document, with_record};
use super::session::{connect, unanswered};
use super::signals::{StopSignals, unless_stopped};

/// Names of the owners, each with what it answered.
type Copies = Vec<(String, Result<Option<LocalRecord>, NodeError>)>;

/// Locates the key and asks its owners.
///
/// # Errors
/// A [`Problem`] if no node can be reached or the keyspace does not exist.
pub(super) async fn run(args: WhereisArgs, global: Global) -> Result<Exit, Problem> {
    let mut signals = StopSignals::listen()?;
    let key = bytes_of(args.key);
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let what = format!(
            "the key has {} bytes, a key has 1 to {KEY_BYTES_MAX}",
            key.len()
        );
        let problem = Problem::new(Exit::Failed, Code::KeyInvalid.name(), what);
        return Err(problem.then("use another key"));
    }
    let asked = async {
        let client = connect(&global).await?;
        let owners = client.local_owners(&args.keyspace, &key).ok_or_else(|| {
            let what = format!("there is no keyspace `{}`", args.keyspace);
            Problem::new(Exit::Failed, "KEYSPACE_UNKNOWN", what)
                .then("`quorate status` lists the keyspaces")
        })?;
        let copies = ask_all(&client, &owners, &args.keyspace, &key).await;
        Ok::<_, Problem>((owners, copies))
    };
    let interrupted = || Problem::new(Exit::Failed, "INTERRUPTED", "interrupted");
    let asked = unless_stopped(&mut signals, asked).await;
    let (owners, copies) = asked.ok_or_else(interrupted)??;
    let refused = copies.iter().find_map(|(_, answer)| match answer {
        Err(error @ NodeError::Refused { .. }) => Some(unanswered(error)),
        Ok(_) | Err(_) => None,
    });
    if let Some(problem) = refused {
        return Err(problem);
    }
    let rows: Vec<Map<String, Value>> = copies.iter().map(copy).collect();
    if is_json(global.output) {
        print_json(&document(&args.keyspace, &key, &owners, rows))?;
    } else {
        print(text(&key, &owners, &rows).as_bytes())?;
    }
    Ok(Exit::Ok)
}

async fn ask_all(client: &Client, owners: &Owners, keyspace: &str, key: &Bytes) -> Copies {
    let ask = |client: Client, node: String| {
        let (keyspace, key) = (keyspace.to_owned(), key.clone());
        async move { client.read_local(&node, keyspace, key).await }
    };
    let answers = ask_nodes(client, &owners.primaries, ask).await;
    owners.primaries.iter().cloned().zip(answers).collect()
}

fn copy((node, answer): &(String, Result<Option<LocalRecord>, NodeError>)) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("node".to_owned(), json!(node));
    let (state, reason) = match answer {
        Ok(Some(record)) => match with_record(&mut row, &record.record) {
            Ok(()) => {
                let digest = xxhash_rust::xxh3::xxh3_128(&record.record);
                row.insert("digest".to_owned(), json!(format!("{digest:032x}")));
                ("holds", None)
            }
            Err(reason) => ("unreadable", Some(reason)),
        },
        Ok(None) => ("absent", None),
        Err(error) => ("unreached", Some(error.to_string())),
    };
    row.insert("state".to_owned(), json!(state));
    if let Some(reason) = reason {
        row.insert("reason".to_owned(), json!(reason));
    }
    row
}

fn document(keyspace: &str, key: &Bytes, owners: &Owners, rows: Vec<Map<String, Value>>) -> Value {
    let mut document = Map::new();
    document.insert("schema".to_owned(), json!("whereis/v1"));
    document.extend(key_document(keyspace, key));
    document.insert("token".to_owned(), json!(owners.token.to_string()));
    document.insert("vnode".to_owned(), json!(owners.vnode.0));
    document.insert("primaries".to_owned(), json!(owners.primaries));
    document.insert("fallbacks".to_owned(), json!(owners.fallbacks));
    document.insert(
        "copies".to_owned(),
        rows.into_iter().map(Value::Object).collect(),
    );
    Value::Object(document)
}

fn text(key: &Bytes, owners: &Owners, rows: &[Map<String, Value>]) -> String {
    let mut table = Table::new(&["node", "state", "siblings", "dots or stamp", "digest"]);
    let field = |row: &Map<String, Value>, name: &str| {
        row.get(name)
            .and_then(Value::as_str)
            .unwrap_or("-")
            .to_owned()
    };
    for row in rows {
        let siblings = row.get("siblings").and_then(Value::as_array);
        let dots = siblings
            .into_iter()
            .flatten()
            .filter_map(|one| one.get("dot").or_else(|| one.get("stamp"))?.as_str());
        let dots: Vec<&str> = dots.collect();
        table.row(vec![
            field(row, "node"),
            field(row, "state"),
            siblings.map_or_else(|| "-".to_owned(), |all| all.len().to_string()),
            if dots.is_empty() {
                "-".to_owned()
            } else {
                dots.join(" ")
            },
            field(row, "digest"),
        ]);
    }
    let is_unreached = |row: &&Map<String, Value>| field(row, "state") == "unreached";
    let unreached = rows.iter().filter(is_unreached);
    let unreached: Vec<String> = unreached.map(|row| field(row, "node")).collect();
    let reached = rows.iter().filter(|row| !is_unreached(row));
    let digests = reached.map(|row| (row.get("state"), row.get("digest")));
    let agree = digests
        .collect::<Vec<_>>()
        .windows(2)
        .all(|two| two.first() == two.last());
    let whom = if unreached.is_empty() {
        "all owners"
    } else {
        "the others"
    };
    let mut verdict = match unreached.as_slice() {
        [] => String::new(),
        [one] => format!("node {one} was not reached; "),
        several => format!("nodes {} were not reached; ", several.join(", ")),
    };
    if unreached.len() == rows.len() {
        verdict.push_str("nothing is known of what they hold");
    } else if agree {
        verdict.push_str(&format!("{whom} hold the same"));
    } else {
        verdict.push_str("owners differ; the next read at quorum repairs what it sees");
    }
    let fallbacks = if owners.fallbacks.is_empty() {
        "none".to_owned()
    } else {
        owners.fallbacks.join(", ")
    };
    format!(
        "key {}  token {}  vnode {}  fallbacks {fallbacks}\n\n{}\n{verdict}\n",
        key.escape_ascii(),
        owners.token,
        owners.vnode.0,
        table.text()
    )
}
