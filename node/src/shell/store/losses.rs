//! What a node knows to have lost, on disk: it must not forget that it forgot (C2).
//!
//! The file is there, durably, before anything is taken that could make the log outgrow what peers
//! remember, and says that the node does not count until all has come back. One that cannot be read
//! says the same. An old copy of the directory may lack it: then the peers' memories tell, as they
//! did the first time.
//!
//! Layout, little-endian: checksum `u64`, magic `u64`, format `u32`, lives `u32` and the
//! incarnation `u64` of each, copies in doubt `u32` (not in format 1), one byte (0: nothing is
//! missing, 1: something is, 2: only copies that no other node has), and why as text.
//!
//! Not here: how it comes back (`core::healing`), who notices (`core::continuity`, `open`).

use std::collections::BTreeSet;

use quorate_ring::Incarnation;

use super::bytes::{Fields, SEAL_BYTES, seal, unseal};
use super::error::OpenError;
use crate::core::input::Losses;
use crate::shell::seam::{Disk, DiskError};

/// Name of the file.
pub(super) const LOSSES: &str = "losses";
const LOSSES_NEW: &str = "losses.new";

const MAGIC: u64 = u64::from_le_bytes(*b"QRTLOSES");
const FORMAT: u32 = 2;
/// It knew no copies in doubt.
const FORMAT_BEFORE: u32 = 1;
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
    losses.only_copies = false;
    losses.lives.extend(life);
    Ok(write(disk, &losses).await?)
}

/// What this life wrote or read.
async fn read_again(disk: &dyn Disk) -> Result<Losses, DiskError> {
    read(disk).await.map_err(|error| match error {
        OpenError::Disk(error) => error,
        // It was readable: anything else is a disk that fails.
        error => DiskError::Io {
            name: LOSSES.to_owned(),
            reason: error.to_string(),
        },
    })
}

/// Notes, durably, of how many copies that count something may be lost.
pub(super) async fn note_doubt(disk: &dyn Disk, copies: u32) -> Result<(), DiskError> {
    let losses = Losses {
        in_doubt: copies,
        ..read_again(disk).await?
    };
    write(disk, &losses).await
}

/// Notes, durably, that all has come back, or all but the copies that no other node has.
pub(super) async fn note_healed(disk: &dyn Disk, but_only_copies: bool) -> Result<(), DiskError> {
    let losses = read_again(disk).await?;
    let losses = Losses {
        why: losses.why.filter(|_| but_only_copies),
        only_copies: but_only_copies,
        ..losses
    };
    write(disk, &losses).await
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
        only_copies,
        lives,
        in_doubt,
        declared: _,
    } = losses;
    let mut bytes = vec![0; SEAL_BYTES];
    bytes.extend_from_slice(&MAGIC.to_le_bytes());
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    let count = u32::try_from(lives.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&count.to_le_bytes());
    for life in lives {
        bytes.extend_from_slice(&life.0.to_le_bytes());
    }
    bytes.extend_from_slice(&in_doubt.to_le_bytes());
    bytes.push(match (why, only_copies) {
        (None, _) => 0,
        (Some(_), false) => 1,
        (Some(_), true) => 2,
    });
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
    if format != FORMAT && format != FORMAT_BEFORE {
        return Some(Content::OtherFormat(format));
    }
    let count = fields.length()?;
    let mut lives = BTreeSet::new();
    for _ in 0..count {
        lives.insert(Incarnation(fields.u64()?));
    }
    let in_doubt = if format == FORMAT_BEFORE {
        0
    } else {
        fields.u32()?
    };
    let missing = fields.u8()?;
    let why = String::from_utf8(fields.0.to_vec()).ok()?;
    Some(Content::Losses(Losses {
        why: (missing != 0).then_some(why),
        only_copies: missing == 2,
        lives,
        in_doubt,
        ..Losses::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_build_wrote_is_read() {
        let losses = Losses {
            why: Some("its disk was lost".to_owned()),
            lives: [Incarnation(3)].into(),
            ..Losses::default()
        };
        let mut bytes = encode(&losses);
        let format = SEAL_BYTES + 8;
        bytes[format] = 1;
        // Behind the one life.
        let in_doubt = format + 4 + 4 + 8;
        bytes.drain(in_doubt..in_doubt + 4);
        seal(&mut bytes, MAGIC);
        assert!(matches!(decode(&bytes), Some(Content::Losses(read)) if read == losses));
    }

    #[test]
    fn what_is_lost_is_kept_and_a_damaged_file_is_none() {
        let lives = || [Incarnation(3), Incarnation(u64::MAX)].into();
        let why = || Some("its disk was lost".to_owned());
        for (why, only_copies) in [(None, false), (why(), false), (why(), true)] {
            let losses = Losses {
                why,
                only_copies,
                lives: lives(),
                in_doubt: 7,
                ..Losses::default()
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
}
