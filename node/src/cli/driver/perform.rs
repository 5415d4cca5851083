//! Carries one request of the driver out and words its reply.

use std::future::IntoFuture;
use std::time::Duration;

use quorate_client::{Client, GetError, Keyspace, Outcome, Read, WriteError, WriteItem, Written};
use serde_json::{Map, Value, json};

use super::super::output::{encode, texts};
use super::request::{Item, Levels, Request, What, Work};

/// The reply: `ok` = applied or read, `fail` = not applied or a read that failed, `info` = unknown.
/// A batch is `ok` when it was carried out; each of its items has a reply of its own.
pub(super) async fn perform(client: Client, request: Request) -> Value {
    let Request {
        id,
        keyspace,
        levels,
        deadline,
        work,
    } = request;
    let keyspace = client.keyspace(keyspace);
    let mut reply = Map::new();
    reply.insert("id".to_owned(), id);
    match work {
        Work::One(item) => perform_one(&keyspace, levels, deadline, item, &mut reply).await,
        Work::Batch(items) => perform_all(&keyspace, levels, deadline, items, &mut reply).await,
    }
    Value::Object(reply)
}

async fn perform_one(
    keyspace: &Keyspace,
    levels: Levels,
    deadline: Duration,
    item: Item,
    reply: &mut Map<String, Value>,
) {
    let Item { key, b64, what } = item;
    let write = match what {
        What::Get => {
            let get = keyspace.get(key).level(levels.read).deadline(deadline);
            return match get.await {
                Ok(read) => tell_read(reply, &read, b64),
                Err(error) => tell_unread(reply, &error),
            };
        }
        What::Put {
            value,
            context,
            ttl,
        } => {
            let put = match context {
                Some(context) => keyspace.put(key, value).after(context),
                None => keyspace.put_blind(key, value),
            };
            match ttl {
                Some(ttl) => put.ttl(ttl),
                None => put,
            }
        }
        What::Delete {
            context: Some(context),
        } => keyspace.delete(key).after(context),
        What::Delete { context: None } => keyspace.delete_blind(key),
    };
    match write.level(levels.write).deadline(deadline).await {
        Ok(written) => tell_written(reply, &written),
        Err(error) => tell_unwritten(reply, &error),
    }
}

/// Reads and writes go out side by side: no key is in both.
async fn perform_all(
    keyspace: &Keyspace,
    levels: Levels,
    deadline: Duration,
    items: Vec<Item>,
    reply: &mut Map<String, Value>,
) {
    let shapes: Vec<(bool, bool)> = items
        .iter()
        .map(|item| (item.is_read(), item.b64))
        .collect();
    let (mut keys, mut writes) = (Vec::new(), Vec::new());
    for Item { key, what, .. } in items {
        match what {
            What::Get => keys.push(key),
            What::Put {
                value,
                context,
                ttl,
            } => {
                let put = match context {
                    Some(context) => WriteItem::put(key, value, context),
                    None => WriteItem::put_blind(key, value),
                };
                writes.push(match ttl {
                    Some(ttl) => put.ttl(ttl),
                    None => put,
                });
            }
            What::Delete {
                context: Some(context),
            } => writes.push(WriteItem::delete(key, context)),
            What::Delete { context: None } => writes.push(WriteItem::delete_blind(key)),
        }
    }
    let reads = keyspace.multi_get(keys).level(levels.read);
    let writes = keyspace.multi_put(writes).level(levels.write);
    let (reads, writes) = tokio::join!(
        reads.deadline(deadline).into_future(),
        writes.deadline(deadline).into_future()
    );
    let (reads, writes) = match (reads, writes) {
        (Ok(reads), Ok(writes)) => (reads, writes),
        (Err(error), _) | (_, Err(error)) => {
            reply.insert("t".to_owned(), json!("fail"));
            reply.insert("err".to_owned(), json!(error.code().name()));
            reply.insert("why".to_owned(), json!(error.to_string()));
            return;
        }
    };
    let (mut reads, mut writes) = (reads.into_iter(), writes.into_iter());
    let tell = |(is_read, b64): (bool, bool)| {
        let mut told = Map::new();
        if is_read {
            match reads.next()? {
                Ok(read) => tell_read(&mut told, &read, b64),
                Err(error) => tell_unread(&mut told, &error),
            }
        } else {
            match writes.next()? {
                Ok(written) => tell_written(&mut told, &written),
                Err(error) => tell_unwritten(&mut told, &error),
            }
        }
        Some(Value::Object(told))
    };
    let told: Vec<Value> = shapes.into_iter().filter_map(tell).collect();
    reply.insert("t".to_owned(), json!("ok"));
    reply.insert("items".to_owned(), Value::Array(told));
}

fn tell_read(reply: &mut Map<String, Value>, read: &Read, b64: bool) {
    let values = read.values().iter().map(|value| &value[..]);
    let (siblings, b64) = if b64 {
        (values.map(encode).collect(), true)
    } else {
        texts(values)
    };
    reply.insert("t".to_owned(), json!("ok"));
    reply.insert("sib".to_owned(), json!(siblings));
    // An lww keyspace has no contexts.
    let context = read.context();
    let context = (!context.as_bytes().is_empty()).then(|| context.to_string());
    reply.insert("ctx".to_owned(), json!(context));
    if b64 {
        reply.insert("b64".to_owned(), json!(true));
    }
}

fn tell_unread(reply: &mut Map<String, Value>, error: &GetError) {
    reply.insert("t".to_owned(), json!("fail"));
    reply.insert("err".to_owned(), json!(error.code().name()));
}

fn tell_written(reply: &mut Map<String, Value>, written: &Written) {
    let context = written.context().map(ToString::to_string);
    reply.insert("t".to_owned(), json!("ok"));
    reply.insert("ctx".to_owned(), json!(context));
    if written.is_superseded() {
        reply.insert("superseded".to_owned(), json!(true));
    }
}

fn tell_unwritten(reply: &mut Map<String, Value>, error: &WriteError) {
    let kind = match error.outcome() {
        Outcome::NotApplied => "fail",
        Outcome::Unknown | Outcome::Applied => "info",
    };
    reply.insert("t".to_owned(), json!(kind));
    reply.insert("err".to_owned(), json!(error.code().name()));
}
