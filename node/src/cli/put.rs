//! `quorate put`: reads at the level and supersedes what it saw, unless told otherwise. In an lww
//! keyspace nothing is read: the stamp decides.

use super::args::{Global, PutArgs};
use super::data::{Seen, bytes_of, see, tell_written, value_of, write_level};
use super::exit::{Exit, Problem};
use super::session::{connect_within, unwritten};
use super::signals::{StopSignals, unless_stopped};

/// Writes the value.
///
/// # Errors
/// A [`Problem`] that says what became of the write.
pub(super) async fn run(mut args: PutArgs, global: Global) -> Result<Exit, Problem> {
    let level = write_level(&args.data)?;
    let mut signals = StopSignals::listen()?;
    let value = value_of(args.value)?;
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
    let put = match seen {
        Seen::Blind => keyspace.put_blind(key.clone(), value),
        Seen::After { context, .. } => keyspace.put(key.clone(), value).after(context),
    };
    let mut put = put.level(level).deadline(args.data.deadline);
    if let Some(ttl) = args.ttl {
        put = put.ttl(ttl.duration());
    }
    let written = unless_stopped(&mut signals, put.into_future()).await;
    let written = written
        .ok_or_else(stopped_during)?
        .map_err(|e| unwritten(&e))?;
    tell_written("put/v1", &key, &args.data, &written, &global)?;
    Ok(Exit::Ok)
}

/// A signal came before anything was written.
pub(super) fn stopped_before() -> Problem {
    Problem::new(
        Exit::Failed,
        "INTERRUPTED",
        "interrupted; nothing was written",
    )
}

/// A signal came while a write was under way.
pub(super) fn stopped_during() -> Problem {
    Problem::new(
        Exit::Unknown,
        "INTERRUPTED",
        "interrupted while the write was under way",
    )
    .then("read the key to see whether it was applied")
}
