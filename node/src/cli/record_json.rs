//! A record as JSON: the same bytes for the same record, whichever node it comes from.

use bytes::Bytes;
use quorate_antientropy::{Context, Dot, KeyState, LwwWrite, Record, Sibling};
use serde_json::{Map, Value, json};

use super::output::{texts, with_key};

/// Adds siblings and context of a record in its canonical form to `document`.
///
/// # Errors
/// A sentence if the bytes are no record of this release.
pub(super) fn with_record(document: &mut Map<String, Value>, record: &Bytes) -> Result<(), String> {
    match KeyState::decode(record).map_err(|e| e.to_string())? {
        KeyState::Siblings(record) => with_siblings(document, &record),
        KeyState::Lww(newest) => with_newest(document, newest.as_ref()),
    }
    Ok(())
}

/// The write of an lww record, as the only sibling: it has a stamp and no dot.
fn with_newest(document: &mut Map<String, Value>, newest: Option<&LwwWrite>) {
    let (value, b64) = texts(
        newest
            .and_then(LwwWrite::stored_value)
            .map(|value| &value[..]),
    );
    let sibling = |write: &LwwWrite| {
        json!({
            "stamp": write.version().stamp.to_string(),
            "op": write.version().op_id.to_string(),
            "value": value.first(),
            "tombstone": write.stored_value().is_none(),
            "expiry": write.expiry().map(|expiry| expiry.to_string()),
        })
    };
    document.insert(
        "siblings".to_owned(),
        newest.map(sibling).into_iter().collect(),
    );
    if b64 {
        document.insert("b64".to_owned(), json!(true));
    }
}

fn with_siblings(document: &mut Map<String, Value>, record: &Record) {
    let values = record.siblings().iter().filter_map(Sibling::value);
    let (_, b64) = texts(values.map(|value| &value[..]).collect::<Vec<_>>());
    let siblings = record.siblings().iter().map(|sibling| one(sibling, b64));
    document.insert("siblings".to_owned(), siblings.collect());
    if b64 {
        document.insert("b64".to_owned(), json!(true));
    }
    document.insert("context".to_owned(), context(record.context()));
}

/// The start of a document: keyspace and key.
pub(super) fn key_document(keyspace: &str, key: &[u8]) -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("keyspace".to_owned(), json!(keyspace));
    with_key(&mut document, key);
    document
}

fn one(sibling: &Sibling, b64: bool) -> Value {
    let dots: Vec<String> = sibling.dots().map(|dot| dot.to_string()).collect();
    let value = sibling.value().map(|value| {
        if b64 {
            super::output::encode(value)
        } else {
            String::from_utf8_lossy(value).into_owned()
        }
    });
    json!({
        "dot": dots.first(),
        "dots": dots,
        "op": sibling.op_id().to_string(),
        "value": value,
        "tombstone": value.is_none(),
        "timestamp": sibling.timestamp().to_string(),
        "expiry": sibling.expiry().map(|expiry| expiry.to_string()),
    })
}

fn context(context: &Context) -> Value {
    let all = |dots: &[Dot]| dots.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({ "vector": all(context.vector()), "loose": all(context.loose()) })
}
