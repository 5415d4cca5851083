//! The operator's word on lost disks (`cluster recover --lost`), on disk.
//!
//! It is good for one loss: the file names the lost lives that were known when the word was given,
//! and counts for nothing beside others. So it does not outlive a store that is set aside, an old
//! copy that was restored, or a race between this write and the note of a later loss.
//!
//! Layout, little-endian: checksum `u64`, magic `u64`, format `u32`, fingerprint of the lost lives
//! `u64`, nodes `u32` and the number `u32` and time `u64` of each. A file that is damaged is none,
//! which is told: the operator says it again.
//!
//! Not here: what it changes (`core::healing`).

use quorate_ring::NodeId;
use xxhash_rust::xxh3::xxh3_64;

use super::bytes::{Fields, SEAL_BYTES, seal, unseal};
use crate::core::input::{DeclaredLost, Losses};
use crate::shell::seam::{Disk, DiskError};

const DECLARED: &str = "declared-lost";
const DECLARED_NEW: &str = "declared-lost.new";

const MAGIC: u64 = u64::from_le_bytes(*b"QRTDECLR");
const FORMAT: u32 = 1;
/// Longest file: 5,000 nodes.
const BYTES_MAX: usize = 64 << 10;

/// For which loss a word is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ForLoss(u64);

impl ForLoss {
    /// The loss as it is known now.
    pub(super) fn of(losses: &Losses) -> Self {
        let lives = losses.lives.iter();
        let bytes: Vec<u8> = lives.flat_map(|life| life.0.to_le_bytes()).collect();
        Self(xxh3_64(&bytes))
    }
}

/// Reads what was declared for this loss.
pub(super) async fn read(disk: &dyn Disk, loss: ForLoss) -> Result<DeclaredLost, DiskError> {
    let files = disk.list().await?;
    if !files.iter().any(|(name, _)| name == DECLARED) {
        return Ok(DeclaredLost::new());
    }
    let bytes = disk.read(DECLARED, 0, BYTES_MAX).await?;
    Ok(decode(&bytes, loss).unwrap_or_else(|Damaged| {
        tracing::warn!(
            "the file `declared-lost` is damaged: which disks the operator declared lost is not known any \
             more, and this node may wait for what only they held; if it does, as `quorate status` tells, \
             say it again with `quorate cluster recover --lost NODE`"
        );
        DeclaredLost::new()
    }))
}

/// Notes, durably, that these disks are declared lost, and no others.
pub(super) async fn write(
    disk: &dyn Disk,
    loss: ForLoss,
    declared: &DeclaredLost,
) -> Result<(), DiskError> {
    let bytes = encode(declared, loss);
    disk.create_zeroed(DECLARED_NEW, 0).await?;
    disk.write(DECLARED_NEW, 0, &bytes).await?;
    disk.sync(DECLARED_NEW).await?;
    disk.rename(DECLARED_NEW, DECLARED).await?;
    disk.sync_dir().await
}

fn encode(declared: &DeclaredLost, ForLoss(loss): ForLoss) -> Vec<u8> {
    let mut bytes = vec![0; SEAL_BYTES];
    bytes.extend_from_slice(&MAGIC.to_le_bytes());
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&loss.to_le_bytes());
    let count = u32::try_from(declared.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&count.to_le_bytes());
    for (node, at) in declared {
        bytes.extend_from_slice(&node.0.to_le_bytes());
        bytes.extend_from_slice(&at.to_le_bytes());
    }
    seal(&mut bytes, MAGIC);
    bytes
}

/// The file is not as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Damaged;

/// Nothing is declared by a file that was written for another loss.
fn decode(bytes: &[u8], loss: ForLoss) -> Result<DeclaredLost, Damaged> {
    let (written_for, declared) = fields(bytes).ok_or(Damaged)?;
    Ok(if written_for == loss {
        declared
    } else {
        DeclaredLost::new()
    })
}

fn fields(bytes: &[u8]) -> Option<(ForLoss, DeclaredLost)> {
    let mut fields: Fields<'_> = unseal(bytes, MAGIC)?;
    if (fields.u64()?, fields.u32()?) != (MAGIC, FORMAT) {
        return None;
    }
    let loss = ForLoss(fields.u64()?);
    let mut declared = DeclaredLost::new();
    for _ in 0..fields.length()? {
        declared.insert(NodeId(fields.u32()?), fields.u64()?);
    }
    fields.is_empty().then_some((loss, declared))
}

#[cfg(test)]
mod tests {
    use quorate_ring::Incarnation;

    use super::*;

    #[test]
    fn a_word_is_good_for_one_loss_and_a_damaged_file_is_none() {
        let lives = |lives: &[u64]| Losses {
            lives: lives.iter().copied().map(Incarnation).collect(),
            ..Losses::default()
        };
        let [first, later] = [lives(&[3]), lives(&[3, 9])].map(|lost| ForLoss::of(&lost));
        let declared: DeclaredLost = [(NodeId(3), 17), (NodeId(9), u64::MAX)].into();
        let bytes = encode(&declared, first);
        assert_eq!(decode(&bytes, first), Ok(declared));
        assert_eq!(decode(&bytes, later), Ok(DeclaredLost::new()));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert_eq!(decode(&flipped, first), Err(Damaged), "byte {at}");
        }
    }
}
