//! Canonical bytes of records and contexts: equal states are equal bytes.
//!
//! ```text
//! record   version 1 | kind | context | list of superseded | list of flagged | count | sibling*
//! context  count | (node | incarnation:8 | vector<<1 + has loose | [count | counter:8 *])*
//! list     count | [least timestamp:8 | (op id:16 | timestamp - least)*]
//! sibling  op id:16 | flags (1 tombstone) | count | mint* | [length | value]
//! mint     flags (1 expiry, 2 flagged) | actor's place in the context | counter | timestamp:8
//!          | [expiry:8]
//! lww      version 1 | kind | [stamp:8 | op id:16 | flags (1 tombstone, 2 expiry)
//!          | [expiry:8] | [length | value]]
//! ```
//! `:8` is little-endian, the rest are LEB128 numbers in their shortest form. Actors, loose dots,
//! op ids, siblings and mints rise strictly. A context on its own begins with the version byte.
//! Kind 0 is a record of siblings, kind 1 one of last write wins, which ends behind its kind where
//! nothing is known.
//!
//! The decoder accepts exactly what the encoder makes, checks a count against the bytes that are
//! left before it allocates for it, and checks the invariants of `record`: what a peer or a disk
//! sends can be refused, but it cannot break a merge.

use bytes::Bytes;

use super::context::Context;
use super::record::Record;
use super::state::KeyState;

mod decode;
mod encode;
mod lww;
mod read;

use read::Reader;

const VERSION: u8 = 1;
const KIND_SIBLINGS: u8 = 0;
const KIND_LWW: u8 = 1;

const TOMBSTONE: u8 = 1;
const HAS_EXPIRY: u8 = 1;
const LWW_HAS_EXPIRY: u8 = 2;
const FLAGGED: u8 = 2;

/// A part of the encoding, for errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// The vector: actors and their counters.
    Vector,
    /// The loose dots.
    Loose,
    /// The list of superseded operations.
    Superseded,
    /// The list of flagged operations.
    Flagged,
    /// The siblings.
    Siblings,
    /// The mints of a sibling.
    Mints,
    /// A value.
    Value,
    /// The write of an lww record.
    Write,
}

/// Why bytes are no record or context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Written by a newer release, or no record at all.
    #[error("format version {found} is unknown")]
    UnknownVersion {
        /// The version byte.
        found: u8,
    },
    /// A record of another keyspace mode, or no record at all.
    #[error("record kind {found} is unknown")]
    UnknownKind {
        /// The kind byte.
        found: u8,
    },
    /// The bytes end too early.
    #[error("the bytes end inside an element")]
    Truncated,
    /// A number is longer than it needs to be or than 64 bits.
    #[error("a number is not in its shortest form or does not fit")]
    BadNumber,
    /// More elements are announced than the bytes or the limit can hold.
    #[error("{count} elements in {field:?} are too many")]
    TooMany {
        /// Where.
        field: Field,
        /// How many were announced.
        count: u64,
    },
    /// The same state has another encoding, or this is no state that can be reached.
    #[error("{field:?} is not in canonical form")]
    NotCanonical {
        /// Where.
        field: Field,
    },
    /// Bytes are left over.
    #[error("{bytes} bytes follow the end")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

impl Record {
    /// Appends the canonical bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[VERSION, KIND_SIBLINGS]);
        encode::record(self, out);
    }

    /// The canonical bytes, shared.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.encoded_len());
        self.encode(&mut out);
        Bytes::from(out)
    }

    /// How many bytes [`Record::encode`] appends. O(siblings + context + lists).
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        2 + encode::record_len(self)
    }

    /// Reads a record; its values are slices of `bytes`, not copies.
    ///
    /// # Errors
    /// [`DecodeError`] if `bytes` is not exactly what [`Record::encode`] makes of some record.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version()?;
        let kind = reader.byte()?;
        if kind != KIND_SIBLINGS {
            return Err(DecodeError::UnknownKind { found: kind });
        }
        let record = decode::record(&mut reader, bytes)?;
        reader.end()?;
        Ok(record)
    }
}

impl KeyState {
    /// The canonical bytes, shared.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::new();
        self.encode(&mut out);
        Bytes::from(out)
    }

    /// Appends the canonical bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Siblings(record) => record.encode(out),
            Self::Lww(newest) => {
                out.extend_from_slice(&[VERSION, KIND_LWW]);
                if let Some(write) = newest {
                    lww::encode(write, out);
                }
            }
        }
    }

    /// Reads a state of any kind; its values are slices of `bytes`, not copies.
    ///
    /// # Errors
    /// [`DecodeError`] if `bytes` is not exactly what [`KeyState::to_bytes`] makes of some state.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version()?;
        match reader.byte()? {
            KIND_LWW => {
                let newest = lww::decode(&mut reader, bytes)?;
                reader.end()?;
                Ok(Self::Lww(newest))
            }
            _ => Record::decode(bytes).map(Self::Siblings),
        }
    }

    /// The byte that tells the kinds apart.
    pub(super) const fn kind(&self) -> u8 {
        match self {
            Self::Siblings(_) => KIND_SIBLINGS,
            Self::Lww(_) => KIND_LWW,
        }
    }
}

impl Context {
    /// Appends the canonical bytes of a context that stands alone, as in a client's token.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        self.encode_body(out);
    }

    /// How many bytes [`Context::encode`] appends. O(len).
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        1 + self.body_len()
    }

    /// Reads a context that stands alone.
    ///
    /// # Errors
    /// [`DecodeError`] if `bytes` is not exactly what [`Context::encode`] makes of some context.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version()?;
        let (context, _) = decode::context(&mut reader)?;
        reader.end()?;
        Ok(context)
    }
}
