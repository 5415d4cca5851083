//! Writes one record: reads what is there, supersedes it, and does so again while the outcome is
//! unknown and patience lasts.
//!
//! One operation of the SDK keeps its identity over all its attempts, so that a write that was
//! applied unseen is never a second value. Its deadline is therefore long; only when it has passed
//! the key is read again and a new write supersedes what the read saw.

use std::time::Duration;

use quorate_client::{Client, Code, Failure, Keyspace, Level, Outcome, Read};
use quorate_ring::KeyspaceMode;
use tokio::time::{Instant, sleep};

use super::record::ImportRecord;

/// Deadline of one write over all attempts of the SDK, unless `--deadline` is longer.
const WRITE_DEADLINE: Duration = Duration::from_secs(15);

/// Deadline of one read, unless `--deadline` is longer.
const READ_DEADLINE: Duration = Duration::from_secs(5);

/// Pause after a try that did not help, unless a node advises a longer one.
const PAUSE: Duration = Duration::from_millis(200);

/// How records are written.
#[derive(Debug, Clone)]
pub(super) struct How {
    pub(super) keyspace: String,
    /// `None` is the keyspace's own; so below.
    pub(super) read: Option<Level>,
    pub(super) write: Option<Level>,
    pub(super) deadline: Duration,
    pub(super) patience: Duration,
}

/// What became of a record.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) record: ImportRecord,
    pub(super) result: Result<(), Unapplied>,
}

/// Why a record was not confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unapplied {
    /// Certainly not applied, or unknown.
    pub(super) outcome: Outcome,
    pub(super) code: Code,
    pub(super) what: String,
}

/// Writes `record`.
pub(super) async fn apply(client: Client, how: How, record: ImportRecord) -> Applied {
    let keyspace = client.keyspace(&how.keyspace);
    let mode = client.topology().mode(&how.keyspace);
    let until = after(how.patience);
    let mut is_unknown = false;
    let result = loop {
        let failure = match once(&keyspace, mode, &how, &record).await {
            Ok(()) => break Ok(()),
            Err(failure) => failure,
        };
        is_unknown |= failure.outcome != Outcome::NotApplied;
        let pause = failure.retry_after.unwrap_or_default().max(PAUSE);
        if !failure.may_succeed_later() || after(pause) >= until {
            let outcome = if is_unknown {
                Outcome::Unknown
            } else {
                Outcome::NotApplied
            };
            break Err(Unapplied {
                outcome,
                code: failure.code,
                what: failure.to_string(),
            });
        }
        sleep(pause).await;
    };
    Applied { record, result }
}

async fn once(
    keyspace: &Keyspace,
    mode: Option<KeyspaceMode>,
    how: &How,
    record: &ImportRecord,
) -> Result<(), Box<Failure>> {
    // In an lww keyspace nothing is read first. A record of several values is refused there: what
    // is written after a context is of the wrong mode.
    if let (Some(KeyspaceMode::Lww), [value]) = (mode, record.values.as_slice()) {
        let put = keyspace.put_blind(record.key.clone(), value.clone());
        let put = put
            .level(how.write)
            .deadline(how.deadline.max(WRITE_DEADLINE));
        let written = put.await.map(drop);
        return written.map_err(|e| Box::new(e.failure().clone()));
    }
    let read: Read = keyspace
        .get(record.key.clone())
        .level(how.read)
        .deadline(how.deadline.max(READ_DEADLINE))
        .await
        .map_err(|e| Box::new(e.failure().clone()))?;
    // All of them come after what was read and not after each other, so they stay siblings.
    for value in &record.values {
        keyspace
            .put(record.key.clone(), value.clone())
            .after(&read)
            .level(how.write)
            .deadline(how.deadline.max(WRITE_DEADLINE))
            .await
            .map_err(|e| Box::new(e.failure().clone()))?;
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "patience of a command, outside of any node"
)]
fn after(span: Duration) -> Instant {
    Instant::now() + span
}
