//! Hints on disk: a file to which every change is appended, so that a node that was restarted still
//! knows what others missed.
//!
//! Changes wait up to a quarter of a second and are written and synced together, beside the log and
//! not in it: a hint is made a second after its write anyway, and what a crash takes of the newest
//! ones an exchange finds. The file is written anew, from what is live, when most of it is not.
//! What cannot be read of it ends it: hints promise nothing. A full disk keeps hints in memory
//! only.
//!
//! Layout, little-endian: per change a checksum `u64` seeded with the store's id, length of the
//! rest `u16`, kind `u8`, target `u32`, key.
//!
//! Not here: what hints mean (`core::hints`).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quorate_ring::NodeId;

use super::bytes::{Fields, SEAL_BYTES, seal, unseal};
use super::committer::Events;
use super::identity::StoreId;
use super::queue::{Queue, QueueRefused};
use crate::core::hints::HintChange;
use crate::core::input::{StoreEvent, StoreFailure};
use crate::core::key::RecordKey;
use crate::shell::seam::{Clock, Disk, DiskError};

const HINTS: &str = "hints";
const HINTS_NEW: &str = "hints.new";

const SEED: u64 = u64::from_le_bytes(*b"QRTHINTS");
const MISSED: u8 = 1;
const ENDED: u8 = 2;

/// Bytes in front of a change's content: checksum and length.
const HEAD_BYTES: usize = SEAL_BYTES + 2;

/// Changes are gathered for this long.
const GATHER: Duration = Duration::from_millis(250);

/// The file is written anew when it is longer than this and than twice what is live.
const REWRITE_BYTES: u64 = 4 << 20;

/// Longest file that is read.
const BYTES_MAX: usize = 1 << 30;

/// Changes that may wait.
pub(super) const CHANGES_MAX: usize = 1 << 20;

pub(super) type Hint = (NodeId, RecordKey);

/// Reads the hints that are live; also tells where the next change goes, if all of the file could
/// be read.
pub(super) async fn read(
    disk: &dyn Disk,
    store: StoreId,
) -> Result<(BTreeSet<Hint>, Option<u64>), DiskError> {
    let files = disk.list().await?;
    let length = files.iter().find(|(name, _)| name == HINTS);
    let Some((_, length)) = length else {
        return Ok((BTreeSet::new(), None));
    };
    let length = usize::try_from(*length).unwrap_or(BYTES_MAX).min(BYTES_MAX);
    let bytes = match disk.read(HINTS, 0, length).await {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::warn!(
                %error,
                "the file of hints cannot be read: what other nodes missed and only it told is not \
                 brought to them as hints; the next exchange of each pair of nodes (`quorate repair` at \
                 once) finds it"
            );
            return Ok((BTreeSet::new(), None));
        }
    };
    let (mut live, mut rest) = (BTreeSet::new(), &bytes[..]);
    while let Some((change, after)) = decode(rest, seed(store)) {
        apply(&mut live, change);
        rest = after;
    }
    if !rest.is_empty() {
        tracing::warn!(
            hints = live.len(),
            bytes_lost = rest.len(),
            "the file of hints is damaged or torn at its end: what other nodes missed and only the lost \
             bytes told is not brought to them as hints; the next exchange of each pair of nodes \
             (`quorate repair` at once) finds it"
        );
    }
    // Behind a torn change others may stand that would be read again.
    Ok((live, rest.is_empty().then_some(bytes.len() as u64)))
}

fn seed(store: StoreId) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "any part of a random number will do"
    )]
    let low = store.0 as u64;
    SEED ^ low
}

fn apply(live: &mut BTreeSet<Hint>, change: HintChange) {
    match change {
        HintChange::Missed(node, key) => {
            live.insert((node, key));
        }
        HintChange::Ended(node, key) => {
            live.remove(&(node, key));
        }
    }
}

fn encode(bytes: &mut Vec<u8>, kind: u8, node: NodeId, key: &RecordKey, seed: u64) {
    let begin = bytes.len();
    let key = key.as_bytes();
    let length = u16::try_from(5 + key.len()).expect("keys are at most 1 KiB");
    bytes.resize(begin + SEAL_BYTES, 0);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(&node.0.to_le_bytes());
    bytes.extend_from_slice(key);
    seal(&mut bytes[begin..], seed);
}

/// The first change, and what follows; `None` if there is none that can be read.
fn decode(bytes: &[u8], seed: u64) -> Option<(HintChange, &[u8])> {
    let mut head = Fields(bytes.get(SEAL_BYTES..)?);
    let length = usize::from(head.u16()?);
    let (change, rest) = bytes.split_at_checked(HEAD_BYTES + length)?;
    let mut fields = unseal(change, seed)?;
    fields.u16()?;
    let kind = fields.u8()?;
    let node = NodeId(fields.u32()?);
    let key = RecordKey::from_bytes(fields.0)?;
    let change = match kind {
        MISSED => HintChange::Missed(node, key),
        ENDED => HintChange::Ended(node, key),
        _ => return None,
    };
    Some((change, rest))
}

/// Way to the file of hints; bounded in changes.
#[derive(Debug, Clone)]
pub struct HintQueue {
    pub(super) queue: Arc<Queue<HintChange>>,
}

impl HintQueue {
    /// Hands a change over.
    ///
    /// # Errors
    /// The change comes back with the reason if too many wait or the store is closed.
    pub fn push(&self, change: HintChange) -> Result<(), (HintChange, QueueRefused)> {
        self.queue.push(change, 1)
    }
}

/// Writes changes of hints.
pub(super) struct HintLog {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) queue: Arc<Queue<HintChange>>,
    pub(super) events: Events,
    pub(super) store: StoreId,
    pub(super) live: BTreeSet<Hint>,
    /// Where the next change goes; `None` before the file was made in this life.
    pub(super) offset: Option<u64>,
}

impl HintLog {
    /// Writes until the queue is closed and empty.
    pub(super) async fn run(mut self) {
        while let Some(changes) = self.queue.take().await {
            let written = self.write(changes).await;
            match written {
                // The next change finds room or not; what is lost an exchange finds.
                Ok(()) | Err(DiskError::Full { .. }) => {}
                Err(error) => {
                    self.queue.close();
                    let failure = StoreFailure::Log(error.to_string());
                    return (self.events)(StoreEvent::Failed(failure));
                }
            }
            if !self.queue.is_closed() {
                self.clock.sleep_until(self.clock.now() + GATHER).await;
            }
        }
    }

    async fn write(
        &mut self,
        changes: impl IntoIterator<Item = HintChange>,
    ) -> Result<(), DiskError> {
        let mut bytes = Vec::new();
        for change in changes {
            let (kind, node, key) = match &change {
                HintChange::Missed(node, key) => (MISSED, *node, key),
                HintChange::Ended(node, key) => (ENDED, *node, key),
            };
            encode(&mut bytes, kind, node, key, seed(self.store));
            apply(&mut self.live, change);
        }
        match self.offset {
            Some(offset) if offset <= REWRITE_BYTES || offset <= 2 * self.live_bytes() => {
                // Only a change that is on disk moves the end: else a torn one would hide the next.
                self.disk.write(HINTS, offset, &bytes).await?;
                self.disk.sync(HINTS).await?;
                self.offset = Some(offset + bytes.len() as u64);
            }
            Some(_) | None => self.rewrite().await?,
        }
        Ok(())
    }

    fn live_bytes(&self) -> u64 {
        let bytes = self
            .live
            .iter()
            .map(|(_, key)| HEAD_BYTES + 5 + key.as_bytes().len());
        bytes.sum::<usize>() as u64
    }

    /// Puts a file with what is live in the place of the present one.
    async fn rewrite(&mut self) -> Result<(), DiskError> {
        let mut bytes = Vec::new();
        for (node, key) in &self.live {
            encode(&mut bytes, MISSED, *node, key, seed(self.store));
        }
        self.disk.create_zeroed(HINTS_NEW, 0).await?;
        self.disk.write(HINTS_NEW, 0, &bytes).await?;
        self.disk.sync(HINTS_NEW).await?;
        self.disk.rename(HINTS_NEW, HINTS).await?;
        self.disk.sync_dir().await?;
        self.offset = Some(bytes.len() as u64);
        Ok(())
    }
}

impl fmt::Debug for HintLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HintLog")
            .field("live", &self.live.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use quorate_ring::{KeyspaceId, VnodeId};

    use super::*;

    fn key(name: &str) -> RecordKey {
        RecordKey::new(KeyspaceId(1), VnodeId(2), name.as_bytes())
    }

    #[test]
    fn changes_come_back_up_to_the_first_that_is_damaged() {
        let mut bytes = Vec::new();
        for name in ["a", "b", "c"] {
            encode(&mut bytes, MISSED, NodeId(3), &key(name), 7);
        }
        let all = |bytes: &[u8]| {
            let (mut live, mut rest) = (BTreeSet::new(), bytes);
            while let Some((change, after)) = decode(rest, 7) {
                apply(&mut live, change);
                rest = after;
            }
            live.len()
        };
        assert_eq!(all(&bytes), 3);
        let each = bytes.len() / 3;
        for at in each..2 * each {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert_eq!(all(&flipped), 1, "byte {at}");
        }
        encode(&mut bytes, ENDED, NodeId(3), &key("b"), 7);
        assert_eq!(all(&bytes), 2);
        assert!(decode(&bytes, 8).is_none(), "another store's");
    }
}
