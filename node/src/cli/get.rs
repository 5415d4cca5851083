//! `quorate get`: one value raw, several numbered, none is exit code 7.

use bytes::Bytes;
use quorate_client::Read;
use serde_json::{Map, Value, json};

use super::args::{GetArgs, Global};
use super::data::{bytes_of, read_level};
use super::exit::{Exit, Problem};
use super::is_json;
use super::output::{note, print, print_json, stdout_is_terminal, texts, with_key};
use super::session::{connect_within, unread};
use super::signals::{StopSignals, unless_stopped};

/// Reads the key.
///
/// # Errors
/// A [`Problem`] if the level could not be met.
pub(super) async fn run(args: GetArgs, global: Global) -> Result<Exit, Problem> {
    let level = read_level(&args.data)?;
    let mut signals = StopSignals::listen()?;
    let key = bytes_of(args.key);
    let read = async {
        let (client, left) = connect_within(&global, args.data.deadline).await?;
        let keyspace = client.keyspace(&args.data.keyspace);
        let get = keyspace.get(key.clone()).level(level);
        get.deadline(left).await.map_err(|e| unread(&e))
    };
    let read = unless_stopped(&mut signals, read).await;
    let interrupted = || Problem::new(Exit::Failed, "INTERRUPTED", "interrupted");
    let read = read.ok_or_else(interrupted)??;
    if is_json(global.output) {
        print_json(&document(&args.data.keyspace, &key, &read))?;
    } else {
        print(&text(read.values(), stdout_is_terminal()))?;
        if read.values().len() > 1 {
            note("concurrent values; the next put or delete without --blind settles them");
        }
    }
    Ok(if read.values().is_empty() {
        Exit::NotFound
    } else {
        Exit::Ok
    })
}

fn document(keyspace: &str, key: &Bytes, read: &Read) -> Value {
    let (siblings, b64) = texts(read.values().iter().map(|value| &value[..]));
    let mut document = Map::new();
    document.insert("schema".to_owned(), json!("get/v1"));
    document.insert("keyspace".to_owned(), json!(keyspace));
    with_key(&mut document, key);
    document.insert("siblings".to_owned(), json!(siblings));
    document.insert("b64".to_owned(), json!(b64));
    // An lww keyspace has no contexts.
    let context = read.context();
    let context = (!context.as_bytes().is_empty()).then(|| context.to_string());
    document.insert("context".to_owned(), json!(context));
    if let Some(stamp) = read.stamp() {
        document.insert("stamp".to_owned(), json!(stamp.to_string()));
    }
    document.insert("replicas".to_owned(), json!(read.replicas()));
    Value::Object(document)
}

/// One value byte for byte; on a terminal its line is ended, which its bytes may not do.
fn text(values: &[Bytes], is_terminal: bool) -> Vec<u8> {
    if let [value] = values {
        let mut text = value.to_vec();
        if is_terminal && !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        return text;
    }
    let mut text = Vec::new();
    for (number, value) in (1..).zip(values) {
        text.extend_from_slice(format!("{number}) ").as_bytes());
        text.extend_from_slice(value);
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_raw_and_several_are_numbered() {
        let value = |text: &'static str| Bytes::from_static(text.as_bytes());
        let cases = [
            (vec![], false, ""),
            (vec![value("a")], false, "a"),
            (vec![value("a")], true, "a\n"),
            (vec![value("a\n")], true, "a\n"),
            (vec![value("a"), value("b")], false, "1) a\n2) b\n"),
        ];
        for (values, terminal, want) in cases {
            assert_eq!(text(&values, terminal), want.as_bytes(), "{values:?}");
        }
    }
}
