//! `quorate delete`: reads at the level and supersedes what it saw, unless told otherwise.
//!
//! Where the read found nothing there is nothing to supersede, and no tombstone is written. In an
//! lww keyspace nothing is read: a stamped tombstone is written.

use serde_json::{Map, Value, json};

use super::args::{DeleteArgs, Global};
use super::data::{Seen, bytes_of, see, tell_written, write_level};
use super::exit::{Exit, Problem};
use super::is_json;
use super::output::{print_json, with_key};
use super::put::{stopped_before, stopped_during};
use super::session::{connect_within, unwritten};
use super::signals::{StopSignals, unless_stopped};

/// Deletes the key.
///
/// # Errors
/// A [`Problem`] that says what became of the delete.
pub(super) async fn run(mut args: DeleteArgs, global: Global) -> Result<Exit, Problem> {
    let level = write_level(&args.data)?;
    let mut signals = StopSignals::listen()?;
    let key = bytes_of(args.key);
    let seen = async {
        let (client, left) = connect_within(&global, args.data.deadline).await?;
        args.data.deadline = left;
        let seen = see(&client, &key, &args.data, &args.seen).await?;
        Ok::<_, Problem>((client, seen))
    };
    let seen = unless_stopped(&mut signals, seen).await;
    let (client, seen) = seen.ok_or_else(stopped_before)??;
    let keyspace = client.keyspace(&args.data.keyspace);
    let delete = match seen {
        Seen::After {
            is_absent: true,
            context,
        } => {
            if is_json(global.output) {
                let mut document = Map::new();
                document.insert("schema".to_owned(), json!("delete/v1"));
                document.insert("keyspace".to_owned(), json!(args.data.keyspace));
                with_key(&mut document, &key);
                document.insert("outcome".to_owned(), json!("applied"));
                document.insert("acks".to_owned(), json!(0));
                document.insert("context".to_owned(), json!(context.to_string()));
                print_json(&Value::Object(document))?;
            }
            return Ok(Exit::Ok);
        }
        Seen::Blind => keyspace.delete_blind(key.clone()),
        Seen::After { context, .. } => keyspace.delete(key.clone()).after(context),
    };
    let delete = delete.level(level).deadline(args.data.deadline);
    let written = unless_stopped(&mut signals, delete.into_future()).await;
    let written = written
        .ok_or_else(stopped_during)?
        .map_err(|e| unwritten(&e))?;
    tell_written("delete/v1", &key, &args.data, &written, &global)?;
    Ok(Exit::Ok)
}
