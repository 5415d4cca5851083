//! `quorate multi get|put|delete`: many keys in one call, each with an outcome of its own.
//!
//! Put and delete read all keys first and supersede what they saw, as `put` does for one; in an lww
//! keyspace nothing is read. The exit code is the worst of the items: 5 if any is unknown, 1 if any
//! failed.

use bytes::Bytes;
use quorate_client::{Keyspace, Outcome, WriteItem};
use quorate_ring::{KeyspaceMode, Ttl};
use serde_json::{Map, Value, json};

use super::args::{DataOptions, Global, MultiArgs, MultiCommand};
use super::data::{bytes_of, read_level, value_of, write_level};
use super::exit::{Exit, Problem};
use super::is_json;
use super::output::{print, print_json, texts, with_key};
use super::session::connect;
use super::signals::{StopSignals, unless_stopped};

/// What became of one item.
struct Item {
    key: Bytes,
    values: Option<Vec<Bytes>>,
    failure: Option<(Exit, String)>,
}

/// Carries out the batch.
///
/// # Errors
/// A [`Problem`] if no node can be reached or the batch is refused as a whole.
pub(super) async fn run(args: MultiArgs, global: Global) -> Result<Exit, Problem> {
    let mut signals = StopSignals::listen()?;
    let carried = unless_stopped(&mut signals, carry_out(args, &global)).await;
    let interrupted = || {
        let what = "interrupted; writes that were under way may have been applied";
        Problem::new(Exit::Unknown, "INTERRUPTED", what)
    };
    let items = carried.ok_or_else(interrupted)??;
    if is_json(global.output) {
        let items: Vec<Value> = items.iter().map(document).collect();
        print_json(&json!({ "schema": "multi/v1", "items": items }))?;
    } else {
        let text: String = items.iter().map(line).collect();
        print(text.as_bytes())?;
    }
    let ends = items.iter().filter_map(|item| item.failure.as_ref());
    let ends: Vec<Exit> = ends.map(|(exit, _)| *exit).collect();
    Ok(match ends.as_slice() {
        [] => Exit::Ok,
        ends if ends.contains(&Exit::Unknown) => Exit::Unknown,
        _ => Exit::Failed,
    })
}

async fn carry_out(args: MultiArgs, global: &Global) -> Result<Vec<Item>, Problem> {
    let (data, ttl, pairs) = match args.command {
        MultiCommand::Get { keys, data } => {
            let client = connect(global).await?;
            let keys: Vec<Bytes> = keys.into_iter().map(bytes_of).collect();
            return get(&client.keyspace(&data.keyspace), keys, &data).await;
        }
        MultiCommand::Put { pairs, data, ttl } => {
            // Standard input can be read once.
            if pairs
                .iter()
                .skip(1)
                .step_by(2)
                .filter(|value| *value == "-")
                .count()
                > 1
            {
                return Err(Problem::usage("only one value can be - for standard input"));
            }
            let mut read = Vec::new();
            let mut pairs = pairs.into_iter();
            while let Some(key) = pairs.next() {
                let value = pairs.next().ok_or_else(|| {
                    Problem::usage("each key needs a value: multi put KEY VALUE [KEY VALUE]..")
                })?;
                read.push((bytes_of(key), Some(value_of(value)?)));
            }
            (data, ttl, read)
        }
        MultiCommand::Delete { keys, data } => {
            let keys = keys.into_iter().map(|key| (bytes_of(key), None));
            (data, None, keys.collect())
        }
    };
    write(global, pairs, ttl, &data).await
}

async fn get(
    keyspace: &Keyspace,
    keys: Vec<Bytes>,
    data: &DataOptions,
) -> Result<Vec<Item>, Problem> {
    let batch = keyspace.multi_get(keys.clone()).level(read_level(data)?);
    let reads = batch.deadline(data.deadline).await;
    let reads = reads.map_err(|error| Problem::usage(error.to_string()))?;
    let items = keys.into_iter().zip(reads);
    let items = items.map(|(key, read)| match read {
        Ok(read) => Item {
            key,
            values: Some(read.values().to_vec()),
            failure: None,
        },
        Err(error) => Item {
            key,
            values: None,
            failure: Some((Exit::Failed, error.to_string())),
        },
    });
    Ok(items.collect())
}

async fn write(
    global: &Global,
    pairs: Vec<(Bytes, Option<Bytes>)>,
    ttl: Option<Ttl>,
    data: &DataOptions,
) -> Result<Vec<Item>, Problem> {
    let level = write_level(data)?;
    let client = connect(global).await?;
    let keyspace = client.keyspace(&data.keyspace);
    let is_lww = client.topology().mode(&data.keyspace) == Some(KeyspaceMode::Lww);
    let keys: Vec<Bytes> = pairs.iter().map(|(key, _)| key.clone()).collect();
    let mut items: Vec<Item> = Vec::new();
    let mut good = Vec::new();
    if is_lww {
        good.extend(pairs.into_iter().map(|(key, value)| match value {
            Some(value) => WriteItem::put_blind(key, value),
            None => WriteItem::delete_blind(key),
        }));
    } else {
        let before = data.consistency.unwrap_or_default().before_write();
        let seen = keyspace.multi_get(keys.clone()).level(before);
        let seen = seen.deadline(data.deadline).await;
        let seen = seen.map_err(|error| Problem::usage(error.to_string()))?;
        for ((key, value), seen) in pairs.into_iter().zip(seen) {
            match (seen, value) {
                (Ok(seen), Some(value)) => good.push(WriteItem::put(key, value, &seen)),
                (Ok(seen), None) => good.push(WriteItem::delete(key, &seen)),
                (Err(error), _) => items.push(Item {
                    key,
                    values: None,
                    failure: Some((Exit::Failed, format!("not written: {error}"))),
                }),
            }
        }
    }
    let with_ttl = |item: WriteItem| match ttl {
        Some(ttl) => item.ttl(ttl.duration()),
        None => item,
    };
    let good = good.into_iter().map(with_ttl).collect();
    let failed: Vec<Bytes> = items.iter().map(|item| item.key.clone()).collect();
    let batch = keyspace.multi_put(good).level(level);
    let written = batch.deadline(data.deadline).await;
    let written = written.map_err(|error| Problem::usage(error.to_string()))?;
    let asked = keys.into_iter().filter(|key| !failed.contains(key));
    for (key, written) in asked.zip(written) {
        let failure = written.err().map(|error| {
            let exit = match error.outcome() {
                Outcome::NotApplied => Exit::Failed,
                Outcome::Applied | Outcome::Unknown => Exit::Unknown,
            };
            (exit, error.to_string())
        });
        items.push(Item {
            key,
            values: None,
            failure,
        });
    }
    Ok(items)
}

fn document(item: &Item) -> Value {
    let mut document = Map::new();
    with_key(&mut document, &item.key);
    if let Some(values) = &item.values {
        let (siblings, b64) = texts(values.iter().map(|value| &value[..]));
        document.insert("siblings".to_owned(), json!(siblings));
        document.insert("b64".to_owned(), json!(b64));
    }
    let outcome = match &item.failure {
        None => "ok",
        Some((Exit::Unknown, _)) => "unknown",
        Some(_) => "failed",
    };
    document.insert("outcome".to_owned(), json!(outcome));
    if let Some((_, error)) = &item.failure {
        document.insert("error".to_owned(), json!(error));
    }
    Value::Object(document)
}

fn line(item: &Item) -> String {
    let key = item.key.escape_ascii();
    match (&item.failure, &item.values) {
        (Some((_, error)), _) => format!("{key}: {error}\n"),
        (None, None) => format!("{key}: ok\n"),
        (None, Some(values)) if values.is_empty() => format!("{key}: not found\n"),
        (None, Some(values)) => {
            let values = values.iter().map(|value| value.escape_ascii().to_string());
            format!("{key}: {}\n", values.collect::<Vec<_>>().join(" | "))
        }
    }
}
