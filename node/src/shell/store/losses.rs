//! What a node knows to have lost, on disk: it must not forget that it forgot (C2).
//!
//! The file is there, durably, before anything is taken that could make the log outgrow what peers
//! remember, and says that the node does not count until all has come back. One that cannot be read
//! says the same. An old copy of the directory may lack it: then the peers' memories tell, as they did
//! the first time.
//!
//! It holds the operator's word on lost disks of other nodes too (`cluster recover --lost`).
//!
//! Layout, little-endian: checksum `u64`, magic `u64`, format `u32`, lives `u32` and the incarnation
//! `u64` of each, nodes declared lost `u32` and the number `u32` and time `u64` of each (not in format 1), one byte
//! whether something is still missing, and why as text.
//!
//! Not here: how it comes back (`core::healing`), who notices (`core::continuity`, `open`).

use std::collections::{BTreeMap, BTreeSet};

use quorate_ring::{Incarnation, NodeId};

use super::bytes::{Fields, SEAL_BYTES, seal, unseal};
use super::error::OpenError;
use crate::core::input::{DeclaredLost, Losses};
use crate::shell::seam::{Disk, DiskError};

/// Name of the file.
pub(super) const LOSSES: &str = "losses";
const LOSSES_NEW: &str = "losses.new";

const MAGIC: u64 = u64::from_le_bytes(*b"QRTLOSES");
const FORMAT: u32 = 2;
/// Without nodes that are declared lost.
const FORMAT_WITHOUT_DECLARED: u32 = 1;
/// Longest file: a node that lost 8,000 lives.
const BYTES_MAX: usize = 64 << 10;
/// Longest reason that is kept.
const WHY_BYTES_MAX: usize = 400;

/// Reads what is known to be lost; nothing where there is no file.
pub(super) async fn read(disk: &dyn Disk) -> Result<Losses, OpenError> {
    let files = disk.list().await?;
    if !files.iter().any(|(name, _)| name == LOSSES) {
        return Ok(Losses::default());
    }
    let bytes = disk.read(LOSSES, 0, BYTES_MAX).await;
    match bytes.map(|bytes| decode(&bytes)) {
        Ok(Some(Content::Losses(losses))) => Ok(losses),
        Ok(Some(Content::OtherFormat(found))) => Err(OpenError::OtherFormat {
            file: LOSSES.to_owned(),
            found,
            supported: FORMAT,
        }),
        Ok(None) | Err(_) => Ok(Losses {
            why: Some("what this node knew to have lost is unreadable".to_owned()),
            ..Losses::default()
        }),
    }
}

/// Notes, durably, that something is lost, and which life came to more than is held of it.
///
/// # Errors
/// [`OpenError`] if the file is of another release, or cannot be written.
///
/// # Cancel safety
/// What was noted before stays.
pub async fn note_loss(
    disk: &dyn Disk,
    why: &str,
    life: Option<Incarnation>,
) -> Result<(), OpenError> {
    let mut losses = read(disk).await?;
    let mut why = why.to_owned();
    let end = (0..=WHY_BYTES_MAX)
        .rev()
        .find(|end| why.is_char_boundary(*end));
    why.truncate(end.unwrap_or(0));
    losses.why.get_or_insert(why);
    losses.lives.extend(life);
    Ok(write(disk, &losses).await?)
}

/// Notes, durably, that all has come back.
pub(super) async fn forget_why(disk: &dyn Disk) -> Result<(), DiskError> {
    let losses = Losses {
        why: None,
        ..read_again(disk).await?
    };
    write(disk, &losses).await
}

/// Notes, durably, which nodes' disks are declared lost.
pub(super) async fn note_declared(
    disk: &dyn Disk,
    declared: &DeclaredLost,
) -> Result<(), DiskError> {
    let losses = Losses {
        declared: declared.clone(),
        ..read_again(disk).await?
    };
    write(disk, &losses).await
}

async fn read_again(disk: &dyn Disk) -> Result<Losses, DiskError> {
    read(disk).await.map_err(|error| match error {
        OpenError::Disk(error) => error,
        // Written by this life or read by it: anything else is a disk that fails.
        error => DiskError::Io {
            name: LOSSES.to_owned(),
            reason: error.to_string(),
        },
    })
}

async fn write(disk: &dyn Disk, losses: &Losses) -> Result<(), DiskError> {
    let bytes = encode(losses);
    disk.create_zeroed(LOSSES_NEW, 0).await?;
    disk.write(LOSSES_NEW, 0, &bytes).await?;
    disk.sync(LOSSES_NEW).await?;
    disk.rename(LOSSES_NEW, LOSSES).await?;
    disk.sync_dir().await
}

fn encode(losses: &Losses) -> Vec<u8> {
    let Losses {
        why,
        lives,
        declared,
    } = losses;
    let mut bytes = vec![0; SEAL_BYTES];
    bytes.extend_from_slice(&MAGIC.to_le_bytes());
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    let count = u32::try_from(lives.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&count.to_le_bytes());
    for life in lives {
        bytes.extend_from_slice(&life.0.to_le_bytes());
    }
    let count = u32::try_from(declared.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&count.to_le_bytes());
    for (node, at) in declared {
        bytes.extend_from_slice(&node.0.to_le_bytes());
        bytes.extend_from_slice(&at.to_le_bytes());
    }
    bytes.push(u8::from(why.is_some()));
    bytes.extend_from_slice(why.as_deref().unwrap_or_default().as_bytes());
    seal(&mut bytes, MAGIC);
    bytes
}

enum Content {
    Losses(Losses),
    OtherFormat(u32),
}

/// `None` if it is not what was written.
fn decode(bytes: &[u8]) -> Option<Content> {
    let mut fields: Fields<'_> = unseal(bytes, MAGIC)?;
    if fields.u64()? != MAGIC {
        return None;
    }
    let format = fields.u32()?;
    if format != FORMAT && format != FORMAT_WITHOUT_DECLARED {
        return Some(Content::OtherFormat(format));
    }
    let count = fields.length()?;
    let mut lives = BTreeSet::new();
    for _ in 0..count {
        lives.insert(Incarnation(fields.u64()?));
    }
    let mut declared = BTreeMap::new();
    if format != FORMAT_WITHOUT_DECLARED {
        for _ in 0..fields.length()? {
            declared.insert(NodeId(fields.u32()?), fields.u64()?);
        }
    }
    let is_missing = fields.u8()? == 1;
    let why = String::from_utf8(fields.0.to_vec()).ok()?;
    Some(Content::Losses(Losses {
        why: is_missing.then_some(why),
        lives,
        declared,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_kept_and_a_damaged_file_is_none() {
        let lives = || [Incarnation(3), Incarnation(u64::MAX)].into();
        for why in [None, Some("its disk was lost".to_owned())] {
            let losses = Losses {
                why,
                lives: lives(),
                declared: [(NodeId(3), 17), (NodeId(9), u64::MAX)].into(),
            };
            let bytes = encode(&losses);
            assert!(matches!(decode(&bytes), Some(Content::Losses(read)) if read == losses));
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 4;
                assert!(decode(&flipped).is_none(), "byte {at}");
            }
        }
    }

    #[test]
    fn the_first_format_is_read() {
        let mut bytes = vec![0; SEAL_BYTES];
        bytes.extend_from_slice(&MAGIC.to_le_bytes());
        bytes.extend_from_slice(&FORMAT_WITHOUT_DECLARED.to_le_bytes());
        bytes.extend_from_slice(&1_u32.to_le_bytes());
        bytes.extend_from_slice(&7_u64.to_le_bytes());
        bytes.push(1);
        bytes.extend_from_slice(b"why");
        seal(&mut bytes, MAGIC);
        let losses = Losses {
            why: Some("why".to_owned()),
            lives: [Incarnation(7)].into(),
            declared: DeclaredLost::new(),
        };
        assert!(matches!(decode(&bytes), Some(Content::Losses(read)) if read == losses));
    }
}
