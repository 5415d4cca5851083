//! `quorate whereis`: the nodes that keep a key, and what each of them durably holds of it; also
//! what fallbacks hold in place of owners.

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

/// Names of nodes, each with what it answered.
type Answers = Vec<(String, Result<Option<LocalRecord>, NodeError>)>;

/// What one node holds, as it is shown.
type Row = Map<String, Value>;

/// What the nodes hold that may hold the key.
struct Copies {
    of_owners: Vec<Row>,
    /// What fallbacks hold of it in place of owners.
    of_fallbacks: Vec<Row>,
}

/// Locates the key and asks its owners and fallbacks.
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
        let answers = ask_all(&client, &owners, &args.keyspace, &key).await;
        Ok::<_, Problem>((owners, answers))
    };
    let interrupted = || Problem::new(Exit::Failed, "INTERRUPTED", "interrupted");
    let asked = unless_stopped(&mut signals, asked).await;
    let (owners, answers) = asked.ok_or_else(interrupted)??;
    // What a fallback refuses for a while says nothing of the owners.
    let is_told =
        |index: usize, code: Code| index < owners.primaries.len() || code == Code::RoleRefused;
    let mut refusals = answers.iter().enumerate();
    let refused = refusals.find_map(|(index, (_, answer))| match answer {
        Err(error @ NodeError::Refused { code, .. }) if is_told(index, *code) => {
            Some(unanswered(error))
        }
        Ok(_) | Err(_) => None,
    });
    if let Some(problem) = refused {
        return Err(problem);
    }
    let mut of_owners: Vec<Row> = answers.iter().map(copy).collect();
    let of_fallbacks = of_owners.split_off(owners.primaries.len());
    let copies = Copies {
        of_owners,
        of_fallbacks,
    };
    if is_json(global.output) {
        print_json(&document(&args.keyspace, &key, &owners, copies))?;
    } else {
        print(text(&key, &owners, &copies).as_bytes())?;
    }
    Ok(Exit::Ok)
}

async fn ask_all(client: &Client, owners: &Owners, keyspace: &str, key: &Bytes) -> Answers {
    let ask = |client: Client, node: String| {
        let (keyspace, key) = (keyspace.to_owned(), key.clone());
        async move { client.read_local(&node, keyspace, key).await }
    };
    let nodes = [&owners.primaries[..], &owners.fallbacks[..]].concat();
    let answers = ask_nodes(client, &nodes, ask).await;
    nodes.into_iter().zip(answers).collect()
}

fn copy((node, answer): &(String, Result<Option<LocalRecord>, NodeError>)) -> Row {
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

fn document(keyspace: &str, key: &Bytes, owners: &Owners, copies: Copies) -> Value {
    let rows = |rows: Vec<Row>| -> Value { rows.into_iter().map(Value::Object).collect() };
    let mut document = Map::new();
    document.insert("schema".to_owned(), json!("whereis/v1"));
    document.extend(key_document(keyspace, key));
    document.insert("token".to_owned(), json!(owners.token.to_string()));
    document.insert("vnode".to_owned(), json!(owners.vnode.0));
    document.insert("primaries".to_owned(), json!(owners.primaries));
    document.insert("fallbacks".to_owned(), json!(owners.fallbacks));
    document.insert("copies".to_owned(), rows(copies.of_owners));
    document.insert("fallback_copies".to_owned(), rows(copies.of_fallbacks));
    Value::Object(document)
}

fn text(key: &Bytes, owners: &Owners, copies: &Copies) -> String {
    let Copies {
        of_owners,
        of_fallbacks,
    } = copies;
    let mut table = Table::new(&["node", "state", "siblings", "dots or stamp", "digest"]);
    // A fallback that holds nothing is as it should be.
    let standing_in: Vec<&Row> = of_fallbacks
        .iter()
        .filter(|row| !["absent", "unreached"].contains(&field(row, "state")))
        .collect();
    for row in of_owners.iter().chain(standing_in.iter().copied()) {
        let siblings = row.get("siblings").and_then(Value::as_array);
        let dots = siblings
            .into_iter()
            .flatten()
            .filter_map(|one| one.get("dot").or_else(|| one.get("stamp"))?.as_str());
        let dots: Vec<&str> = dots.collect();
        table.row(vec![
            field(row, "node").to_owned(),
            field(row, "state").to_owned(),
            siblings.map_or_else(|| "-".to_owned(), |all| all.len().to_string()),
            if dots.is_empty() {
                "-".to_owned()
            } else {
                dots.join(" ")
            },
            field(row, "digest").to_owned(),
        ]);
    }
    let fallbacks = if owners.fallbacks.is_empty() {
        "none".to_owned()
    } else {
        owners.fallbacks.join(", ")
    };
    let mut text = format!(
        "key {}  token {}  vnode {}  fallbacks {fallbacks}\n\n{}\n{}\n",
        key.escape_ascii(),
        owners.token,
        owners.vnode.0,
        table.text(),
        verdict(of_owners)
    );
    let names: Vec<&str> = standing_in.iter().map(|row| field(row, "node")).collect();
    match names.as_slice() {
        [] => {}
        [one] => text.push_str(&format!(
            "node {one} is no owner: it holds the key in place of owners, until they have it; a read with \
             +sloppy finds it there\n"
        )),
        several => text.push_str(&format!(
            "nodes {} are no owners: they hold the key in place of owners, until they have it; a read with \
             +sloppy finds it there\n",
            several.join(", ")
        )),
    }
    text
}

fn field<'a>(row: &'a Row, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or("-")
}

/// Whether the owners hold the same, as far as they were reached.
fn verdict(rows: &[Row]) -> String {
    let is_unreached = |row: &&Row| field(row, "state") == "unreached";
    let unreached = rows.iter().filter(is_unreached);
    let unreached: Vec<&str> = unreached.map(|row| field(row, "node")).collect();
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
        verdict.push_str("nothing is known of what the owners hold");
    } else if agree {
        verdict.push_str(&format!("{whom} hold the same"));
    } else {
        verdict.push_str("owners differ; the next read at quorum repairs what it sees");
    }
    verdict
}

#[cfg(test)]
mod tests {
    use quorate_ring::{Token, VnodeId};

    use super::*;

    fn row(node: &str, state: &str) -> Row {
        [("node", node), ("state", state)]
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .into_iter()
            .collect()
    }

    #[test]
    fn what_fallbacks_hold_is_shown_though_no_owner_is_reached() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let owners = Owners {
            token: Token(7),
            vnode: VnodeId(3),
            primaries: names(&["a", "b", "c"]),
            fallbacks: names(&["d", "e"]),
        };
        let unreached = ["a", "b", "c"].map(|node| row(node, "unreached"));
        let mut copies = Copies {
            of_owners: unreached.to_vec(),
            of_fallbacks: vec![row("d", "holds"), row("e", "absent")],
        };
        let shown = text(&Bytes::from_static(b"k"), &owners, &copies);
        let unknown =
            "nothing is known of what the owners hold\nnode d is no owner: it holds the key";
        assert!(shown.contains(unknown), "{shown}");
        assert!(!shown.contains("\ne "), "{shown}");
        copies.of_fallbacks = vec![row("d", "absent"), row("e", "unreached")];
        let shown = text(&Bytes::from_static(b"k"), &owners, &copies);
        assert!(!shown.contains("no owner:"), "{shown}");
        let document = document("default", &Bytes::from_static(b"k"), &owners, copies);
        assert_eq!(document["fallback_copies"][1]["state"], "unreached");
        assert_eq!(document["copies"].as_array().map(Vec::len), Some(3));
    }
}
