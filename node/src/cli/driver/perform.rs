//! Carries one request of the driver out and words its reply.

use quorate_client::{Client, GetError, Outcome, Read, WriteError, Written};
use serde_json::{Map, Value, json};

use super::super::output::{encode, texts};
use super::request::{Request, What};

/// The reply: `ok` = applied or read, `fail` = not applied or a read that failed, `info` = unknown.
pub(super) async fn perform(client: Client, request: Request) -> Value {
    let Request {
        id,
        keyspace,
        key,
        level,
        deadline,
        b64,
        what,
    } = request;
    let keyspace = client.keyspace(keyspace);
    let mut reply = Map::new();
    reply.insert("id".to_owned(), id);
    let write = match what {
        What::Get => {
            let read = keyspace.get(key).level(level).deadline(deadline).await;
            match read {
                Ok(read) => tell_read(&mut reply, &read, b64),
                Err(error) => tell_unread(&mut reply, &error),
            }
            return Value::Object(reply);
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
    match write.level(level).deadline(deadline).await {
        Ok(written) => tell_written(&mut reply, &written),
        Err(error) => tell_unwritten(&mut reply, &error),
    }
    Value::Object(reply)
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
