//! The header of a batch: which frames follow, and what was durable when it was written.
//!
//! Layout, little-endian: checksum `u64` (of all that follows, seeded with store id, segment number
//! and offset), magic `u32`, header bytes `u32`, body bytes `u32`, frames `u32`, incarnation `u64`,
//! first LSN `u64`, durable LSN when written `u64`, number of memories `u32`, number of lives
//! `u32`, memories (node `u32`, incarnation `u64`, durable `u64`), lives (incarnation `u64`, first
//! LSN `u64`). Frames follow at once; the next batch begins on the next 4 KiB.
//!
//! The first batch of a segment holds the whole timeline and every memory, so that truncation may
//! drop all segments before it.

use quorate_ring::{Incarnation, Lsn, NodeId};

use super::bytes::{Fields, SEAL_BYTES, Seeds, seal, unseal};
use crate::core::timeline::{Life, Memory};

const MAGIC: u32 = u32::from_le_bytes(*b"QBAT");
const FIXED_BYTES: usize = SEAL_BYTES + 4 * 4 + 3 * 8 + 2 * 4;
const MEMORY_BYTES: usize = 20;
const LIFE_BYTES: usize = 16;

/// The header of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) incarnation: Incarnation,
    /// LSN of the first frame, or of the record that the first frame is a part of.
    pub(super) first: Lsn,
    /// Everything up to here was durable before this batch was written.
    pub(super) durable: Lsn,
    pub(super) frames: u32,
    pub(super) body_bytes: u32,
    pub(super) memories: Vec<(NodeId, Memory)>,
    /// The timeline up to, and without, what this batch itself starts; first of a segment only.
    pub(super) lives: Vec<Life>,
}

impl BatchHeader {
    /// Bytes of the header on disk.
    pub(super) fn bytes(&self) -> usize {
        Self::bytes_for(self.memories.len(), self.lives.len())
    }

    /// Bytes of a header with so many memories and lives.
    pub(super) const fn bytes_for(memories: usize, lives: usize) -> usize {
        FIXED_BYTES + memories * MEMORY_BYTES + lives * LIFE_BYTES
    }

    /// Writes the header over the first [`BatchHeader::bytes`] of `place`, which stands at
    /// `offset`.
    pub(super) fn write(&self, place: &mut [u8], seeds: Seeds, offset: u64) {
        let Self {
            incarnation,
            first,
            durable,
            frames,
            body_bytes,
            memories,
            lives,
        } = self;
        let count = |items: usize| u32::try_from(items).expect("batches are bounded");
        let mut bytes = Vec::with_capacity(self.bytes());
        bytes.resize(SEAL_BYTES, 0);
        bytes.extend_from_slice(&MAGIC.to_le_bytes());
        bytes.extend_from_slice(&count(self.bytes()).to_le_bytes());
        bytes.extend_from_slice(&body_bytes.to_le_bytes());
        bytes.extend_from_slice(&frames.to_le_bytes());
        bytes.extend_from_slice(&incarnation.0.to_le_bytes());
        bytes.extend_from_slice(&first.0.to_le_bytes());
        bytes.extend_from_slice(&durable.0.to_le_bytes());
        bytes.extend_from_slice(&count(memories.len()).to_le_bytes());
        bytes.extend_from_slice(&count(lives.len()).to_le_bytes());
        for (
            node,
            Memory {
                incarnation,
                durable,
            },
        ) in memories
        {
            bytes.extend_from_slice(&node.0.to_le_bytes());
            bytes.extend_from_slice(&incarnation.0.to_le_bytes());
            bytes.extend_from_slice(&durable.0.to_le_bytes());
        }
        for Life { incarnation, first } in lives {
            bytes.extend_from_slice(&incarnation.0.to_le_bytes());
            bytes.extend_from_slice(&first.0.to_le_bytes());
        }
        seal(&mut bytes, seeds.header(offset));
        place[..bytes.len()].copy_from_slice(&bytes);
    }

    /// Reads the header at the start of `bytes`, which stand at `offset`; `None` if there is none.
    pub(super) fn read(bytes: &[u8], seeds: Seeds, offset: u64) -> Option<Self> {
        let mut peek = Fields(bytes);
        peek.take(SEAL_BYTES)?;
        if peek.u32()? != MAGIC {
            return None;
        }
        let header_bytes = peek.length()?;
        let mut fields = unseal(bytes.get(..header_bytes)?, seeds.header(offset))?;
        fields.take(8)?;
        let body_bytes = fields.u32()?;
        let frames = fields.u32()?;
        let incarnation = Incarnation(fields.u64()?);
        let first = Lsn(fields.u64()?);
        let durable = Lsn(fields.u64()?);
        let (memory_count, life_count) = (fields.length()?, fields.length()?);
        let expected = memory_count
            .checked_mul(MEMORY_BYTES)
            .zip(life_count.checked_mul(LIFE_BYTES));
        let (memory_bytes, life_bytes) = expected?;
        let memories = read_memories(Fields(fields.take(memory_bytes)?));
        let lives = read_lives(Fields(fields.take(life_bytes)?));
        fields.is_empty().then_some(Self {
            incarnation,
            first,
            durable,
            frames,
            body_bytes,
            memories,
            lives,
        })
    }
}

fn read_memories(mut fields: Fields<'_>) -> Vec<(NodeId, Memory)> {
    let mut one = || {
        let node = NodeId(fields.u32()?);
        let incarnation = Incarnation(fields.u64()?);
        let durable = Lsn(fields.u64()?);
        Some((
            node,
            Memory {
                incarnation,
                durable,
            },
        ))
    };
    std::iter::from_fn(&mut one).collect()
}

fn read_lives(mut fields: Fields<'_>) -> Vec<Life> {
    let mut one = || {
        let incarnation = Incarnation(fields.u64()?);
        let first = Lsn(fields.u64()?);
        Some(Life { incarnation, first })
    };
    std::iter::from_fn(&mut one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::store::identity::StoreId;

    #[test]
    fn a_header_is_one_only_where_it_was_written() {
        let header = BatchHeader {
            incarnation: Incarnation(5),
            first: Lsn(10),
            durable: Lsn(9),
            frames: 2,
            body_bytes: 300,
            memories: vec![(
                NodeId(2),
                Memory {
                    incarnation: Incarnation(6),
                    durable: Lsn(44),
                },
            )],
            lives: vec![Life {
                incarnation: Incarnation(5),
                first: Lsn(1),
            }],
        };
        let seeds = Seeds::new(StoreId(1), 3);
        let mut bytes = vec![0; header.bytes()];
        header.write(&mut bytes, seeds, 8192);
        assert_eq!(BatchHeader::read(&bytes, seeds, 8192), Some(header));
        // A value that contains these bytes, a misdirected write, a recycled or copied file (L3).
        assert_eq!(BatchHeader::read(&bytes, seeds, 12_288), None);
        let (recycled, copied) = (Seeds::new(StoreId(1), 4), Seeds::new(StoreId(2), 3));
        assert_eq!(BatchHeader::read(&bytes, recycled, 8192), None);
        assert_eq!(BatchHeader::read(&bytes, copied, 8192), None);
        for cut in 0..bytes.len() {
            assert_eq!(BatchHeader::read(&bytes[..cut], seeds, 8192), None);
        }
    }
}
