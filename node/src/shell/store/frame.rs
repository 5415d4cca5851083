//! A frame of the log: one numbered step of the shard, or a part of one.
//!
//! Layout, little-endian: checksum `u64` (seeded with store id, segment number, offset and
//! incarnation), length of the frame `u32`, kind `u8`, three zero bytes, LSN `u64`, payload. A
//! record that outgrows a batch goes in parts under one LSN; it counts when its last part does. One
//! of no bytes says that the key is absent from there on: a record in its canonical form is never
//! empty.

use quorate_antientropy::{
    DigestChange, Holdings, HoldingsChange, PurgeNumber, PurgeNumbers, RecordChange, SumsCorrection,
};
use quorate_ring::{BucketId, Incarnation, KeyspaceId, Lsn, VnodeId};

use super::bytes::{Fields, SEAL_BYTES, seal, unseal};
use crate::core::effect::Entry;
use crate::core::input::Volatile;
use crate::core::key::RecordKey;
use crate::core::packed::packed;

/// Bytes of a frame before its payload.
pub(super) const FRAME_HEADER_BYTES: usize = SEAL_BYTES + 4 + 4 + 8;
const PART_HEADER_BYTES: usize = 8;
const NUMBERS_BYTES: usize = 4 + 2 + 8 + 8;

/// Kinds of frames. A number is never used for another kind; those without a variant are reserved
/// for the work that brings them: 7 epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Start = 1,
    Record = 2,
    RecordPart = 3,
    CleanStop = 4,
    Numbers = 8,
    Sums = 9,
}

impl Kind {
    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Start),
            2 => Some(Self::Record),
            3 => Some(Self::RecordPart),
            4 => Some(Self::CleanStop),
            8 => Some(Self::Numbers),
            9 => Some(Self::Sums),
            _ => None,
        }
    }
}

/// Content of a frame, borrowed from where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// An incarnation begins.
    Start {
        incarnation: Incarnation,
        predecessor: Option<Incarnation>,
    },
    /// A record as [`encode_entry`] made it.
    Record(&'a [u8]),
    /// A part of such bytes.
    RecordPart {
        part: u32,
        parts: u32,
        bytes: &'a [u8],
    },
    /// The process stopped with nothing left to write, and whether all was here till then that
    /// memory keyspaces acknowledged. The flag stands in the last frame of the log, because that
    /// one is never truncated.
    CleanStop(Volatile),
    /// The purge numbers of a vnode, as [`encode_entry`] made them.
    Numbers(&'a [u8]),
    /// A correction of a vnode's sums, as [`encode_entry`] made it.
    Sums(&'a [u8]),
}

/// What the bytes of an entry are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// A record and its key.
    Record,
    /// The purge numbers of a vnode.
    Numbers,
    /// A correction of a vnode's sums.
    Sums,
}

impl<'a> Frame<'a> {
    /// Bytes of the frame on disk.
    pub(super) fn bytes(&self) -> usize {
        FRAME_HEADER_BYTES
            + match self {
                Self::Start { .. } => 17,
                Self::Record(bytes) | Self::Numbers(bytes) | Self::Sums(bytes) => bytes.len(),
                Self::RecordPart { bytes, .. } => PART_HEADER_BYTES + bytes.len(),
                Self::CleanStop(Volatile::Whole) => 0,
                Self::CleanStop(Volatile::Lost) => 1,
            }
    }

    /// Appends the frame under `lsn`.
    pub(super) fn write(&self, buffer: &mut Vec<u8>, lsn: Lsn, seed: u64) {
        let begin = buffer.len();
        let length = u32::try_from(self.bytes()).expect("frames are bounded by a batch");
        buffer.resize(begin + SEAL_BYTES, 0);
        buffer.extend_from_slice(&length.to_le_bytes());
        buffer.extend_from_slice(&[self.kind() as u8, 0, 0, 0]);
        buffer.extend_from_slice(&lsn.0.to_le_bytes());
        match *self {
            Self::Start {
                incarnation,
                predecessor,
            } => {
                buffer.extend_from_slice(&incarnation.0.to_le_bytes());
                buffer.push(u8::from(predecessor.is_some()));
                buffer.extend_from_slice(&predecessor.map_or(0, |i| i.0).to_le_bytes());
            }
            Self::Record(bytes) | Self::Numbers(bytes) | Self::Sums(bytes) => {
                buffer.extend_from_slice(bytes);
            }
            Self::RecordPart { part, parts, bytes } => {
                buffer.extend_from_slice(&part.to_le_bytes());
                buffer.extend_from_slice(&parts.to_le_bytes());
                buffer.extend_from_slice(bytes);
            }
            Self::CleanStop(Volatile::Whole) => {}
            Self::CleanStop(Volatile::Lost) => buffer.push(1),
        }
        seal(&mut buffer[begin..], seed);
    }

    /// Reads the frame at the start of `bytes`: its content, LSN and length; `None` if it is bad.
    pub(super) fn read(bytes: &'a [u8], seed: u64) -> Option<(Self, Lsn, usize)> {
        let mut peek = Fields(bytes);
        peek.take(SEAL_BYTES)?;
        let length = peek.length()?;
        let mut fields = unseal(bytes.get(..length)?, seed)?;
        fields.u32()?;
        let kind = Kind::from_number(fields.u8()?)?;
        fields.take(3)?;
        let lsn = Lsn(fields.u64()?);
        let frame = Self::read_payload(kind, fields)?;
        (frame.bytes() == length).then_some((frame, lsn, length))
    }

    fn read_payload(kind: Kind, mut fields: Fields<'a>) -> Option<Self> {
        Some(match kind {
            Kind::Start => {
                let incarnation = Incarnation(fields.u64()?);
                let known = fields.u8()? == 1;
                let predecessor = Incarnation(fields.u64()?);
                Self::Start {
                    incarnation,
                    predecessor: known.then_some(predecessor),
                }
            }
            Kind::Record => Self::Record(fields.0),
            Kind::Numbers => Self::Numbers(fields.0),
            Kind::Sums => Self::Sums(fields.0),
            Kind::RecordPart => Self::RecordPart {
                part: fields.u32()?,
                parts: fields.u32()?,
                bytes: fields.0,
            },
            Kind::CleanStop => Self::CleanStop(match fields.0 {
                [] => Volatile::Whole,
                [1] => Volatile::Lost,
                _ => return None,
            }),
        })
    }

    const fn kind(&self) -> Kind {
        match self {
            Self::Start { .. } => Kind::Start,
            Self::Record(_) => Kind::Record,
            Self::RecordPart { .. } => Kind::RecordPart,
            Self::CleanStop(_) => Kind::CleanStop,
            Self::Numbers(_) => Kind::Numbers,
            Self::Sums(_) => Kind::Sums,
        }
    }
}

/// Cuts an encoded entry into frames of at most `batch_bytes` each.
pub(super) fn frames_of(
    content: Content,
    record: &[u8],
    batch_bytes: usize,
) -> impl Iterator<Item = Frame<'_>> {
    let whole = FRAME_HEADER_BYTES + record.len() <= batch_bytes;
    let chunk = if whole {
        record.len()
    } else {
        batch_bytes - FRAME_HEADER_BYTES - PART_HEADER_BYTES
    };
    let parts = u32::try_from(record.len().div_ceil(chunk)).expect("records are bounded");
    (0..parts)
        .zip(record.chunks(chunk))
        .map(move |(part, bytes)| match content {
            Content::Numbers => Frame::Numbers(bytes),
            Content::Sums => Frame::Sums(bytes),
            Content::Record if whole => Frame::Record(bytes),
            Content::Record => Frame::RecordPart { part, parts, bytes },
        })
}

/// Appends the bytes of an entry. Of a record: bucket `u16`, key length `u16`, change of the digest
/// `u128`, of the number of keys `i8`, of tombstones `i8` and of bytes `i32`, key, record. Of purge
/// numbers: keyspace `u32`, vnode `u16`, number `u64`, floor `u64`. Of a correction: keyspace
/// `u32`, vnode `u16`, what is added to the number of keys, of tombstones and of bytes, `u64` each,
/// and for each bucket that is corrected its number `u16` and the change of its digest `u128`.
pub(super) fn encode_entry(buffer: &mut Vec<u8>, entry: &Entry) -> Content {
    match entry {
        Entry::Record {
            key,
            bucket,
            change,
            record,
        } => {
            let key = key.as_bytes();
            let key_bytes = u16::try_from(key.len()).expect("keys are at most 1 KiB");
            buffer.extend_from_slice(&bucket.0.to_le_bytes());
            buffer.extend_from_slice(&key_bytes.to_le_bytes());
            let RecordChange { digest, holdings } = change;
            buffer.extend_from_slice(&digest.0.to_le_bytes());
            buffer.extend_from_slice(&holdings.keys.to_le_bytes());
            buffer.extend_from_slice(&holdings.tombstones.to_le_bytes());
            buffer.extend_from_slice(&holdings.bytes.to_le_bytes());
            buffer.extend_from_slice(key);
            buffer.extend_from_slice(record);
            Content::Record
        }
        Entry::Numbers {
            keyspace,
            vnode,
            numbers,
        } => {
            buffer.extend_from_slice(&keyspace.0.to_le_bytes());
            buffer.extend_from_slice(&vnode.0.to_le_bytes());
            buffer.extend_from_slice(&numbers.number.0.to_le_bytes());
            buffer.extend_from_slice(&numbers.floor.0.to_le_bytes());
            Content::Numbers
        }
        Entry::Sums {
            keyspace,
            vnode,
            correction,
        } => {
            let SumsCorrection { buckets, holdings } = correction;
            buffer.extend_from_slice(&keyspace.0.to_le_bytes());
            buffer.extend_from_slice(&vnode.0.to_le_bytes());
            buffer.extend_from_slice(&holdings.keys.to_le_bytes());
            buffer.extend_from_slice(&holdings.tombstones.to_le_bytes());
            buffer.extend_from_slice(&holdings.bytes.to_le_bytes());
            for (bucket, change) in buckets {
                buffer.extend_from_slice(&bucket.0.to_le_bytes());
                buffer.extend_from_slice(&change.0.to_le_bytes());
            }
            Content::Sums
        }
    }
}

/// Reads a correction that [`encode_entry`] made.
pub(super) fn decode_correction(bytes: &[u8]) -> Option<(KeyspaceId, VnodeId, SumsCorrection)> {
    let mut fields = Fields(bytes);
    let (keyspace, vnode) = (KeyspaceId(fields.u32()?), VnodeId(fields.u16()?));
    let holdings = Holdings {
        keys: fields.u64()?,
        tombstones: fields.u64()?,
        bytes: fields.u64()?,
    };
    let mut buckets = Vec::new();
    while !fields.0.is_empty() {
        buckets.push((BucketId(fields.u16()?), DigestChange(fields.u128()?)));
    }
    Some((keyspace, vnode, SumsCorrection { buckets, holdings }))
}

/// Reads purge numbers that [`encode_entry`] made.
pub(super) fn decode_numbers(bytes: &[u8]) -> Option<(KeyspaceId, VnodeId, PurgeNumbers)> {
    if bytes.len() != NUMBERS_BYTES {
        return None;
    }
    let mut fields = Fields(bytes);
    let (keyspace, vnode) = (KeyspaceId(fields.u32()?), VnodeId(fields.u16()?));
    let number = PurgeNumber(fields.u64()?);
    let floor = PurgeNumber(fields.u64()?);
    Some((keyspace, vnode, PurgeNumbers { number, floor }))
}

/// Reads a record that [`encode_entry`] made.
pub(super) fn decode_record(bytes: &[u8]) -> Option<Entry> {
    let mut fields = Fields(bytes);
    let bucket = BucketId(fields.u16()?);
    let key_bytes = usize::from(fields.u16()?);
    let change = RecordChange {
        digest: DigestChange(fields.u128()?),
        holdings: HoldingsChange {
            keys: i8::from_le_bytes(fields.array()?),
            tombstones: i8::from_le_bytes(fields.array()?),
            bytes: i32::from_le_bytes(fields.array()?),
        },
    };
    let key = RecordKey::from_bytes(fields.take(key_bytes)?)?;
    Some(Entry::Record {
        key,
        bucket,
        change,
        record: packed(fields.0),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_ring::{KeyspaceId, VnodeId};

    use super::*;

    #[test]
    fn frames_read_back_under_their_own_seed_only() {
        let frames = [
            Frame::Start {
                incarnation: Incarnation(8),
                predecessor: None,
            },
            Frame::Start {
                incarnation: Incarnation(9),
                predecessor: Some(Incarnation(8)),
            },
            Frame::Record(b"some record"),
            Frame::RecordPart {
                part: 2,
                parts: 5,
                bytes: b"part",
            },
            Frame::CleanStop(Volatile::Whole),
            Frame::CleanStop(Volatile::Lost),
            Frame::Numbers(b"purge numbers"),
            Frame::Sums(b"a correction"),
        ];
        for frame in frames {
            let mut bytes = Vec::new();
            frame.write(&mut bytes, Lsn(6), 11);
            assert_eq!(Frame::read(&bytes, 11), Some((frame, Lsn(6), bytes.len())));
            assert_eq!(Frame::read(&bytes, 12), None);
            for cut in 0..bytes.len() {
                assert_eq!(Frame::read(&bytes[..cut], 11), None, "cut at {cut}");
            }
        }
    }

    #[test]
    fn purge_numbers_come_back() {
        let (keyspace, vnode) = (KeyspaceId(3), VnodeId(700));
        let numbers = PurgeNumbers {
            number: PurgeNumber(9),
            floor: PurgeNumber(8),
        };
        let entry = Entry::Numbers {
            keyspace,
            vnode,
            numbers,
        };
        let mut bytes = Vec::new();
        assert_eq!(encode_entry(&mut bytes, &entry), Content::Numbers);
        assert_eq!(decode_numbers(&bytes), Some((keyspace, vnode, numbers)));
        assert_eq!(decode_numbers(&bytes[1..]), None);
    }

    #[test]
    fn a_correction_of_sums_comes_back() {
        let (keyspace, vnode) = (KeyspaceId(3), VnodeId(700));
        let correction = SumsCorrection {
            buckets: vec![
                (BucketId(0), DigestChange(1 << 99)),
                (BucketId(1_023), DigestChange(7)),
            ],
            holdings: Holdings {
                keys: 1,
                tombstones: 0,
                bytes: u64::MAX,
            },
        };
        let entry = Entry::Sums {
            keyspace,
            vnode,
            correction: correction.clone(),
        };
        let mut bytes = Vec::new();
        assert_eq!(encode_entry(&mut bytes, &entry), Content::Sums);
        let read = decode_correction(&bytes);
        assert_eq!(read, Some((keyspace, vnode, correction)));
        assert_eq!(decode_correction(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn a_record_goes_whole_or_in_parts_and_comes_back() {
        let key = RecordKey::new(KeyspaceId(1), VnodeId(2), b"k");
        for size in [0, 1, 900, 1000, 5000] {
            let record = Bytes::from(vec![7; size]);
            let entry = Entry::Record {
                key: key.clone(),
                bucket: BucketId(3),
                change: RecordChange {
                    digest: DigestChange(4),
                    holdings: HoldingsChange {
                        keys: -1,
                        tombstones: 1,
                        bytes: -300,
                    },
                },
                record: record.clone(),
            };
            let mut bytes = Vec::new();
            let content = encode_entry(&mut bytes, &entry);
            assert_eq!(content, Content::Record);
            let frames: Vec<Frame<'_>> = frames_of(content, &bytes, 1024).collect();
            assert!(frames.iter().all(|frame| frame.bytes() <= 1024));
            let joined: Vec<u8> = frames
                .iter()
                .flat_map(|frame| match frame {
                    Frame::Record(bytes) | Frame::RecordPart { bytes, .. } => bytes.to_vec(),
                    Frame::Start { .. }
                    | Frame::CleanStop(_)
                    | Frame::Numbers(_)
                    | Frame::Sums(_) => Vec::new(),
                })
                .collect();
            let Some(Entry::Record {
                key: k, record: r, ..
            }) = decode_record(&joined)
            else {
                panic!("it decodes");
            };
            assert_eq!((k, r), (key.clone(), record));
        }
    }
}
