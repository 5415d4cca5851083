//! Canonical bytes of records and contexts: equal states are equal bytes.
//!
//! ```text
//! record   version 1 | kind | context | list of superseded | list of flagged | count | sibling*
//! context  count | (node | incarnation:8 | vector<<1 + has loose | [count | counter:8 *])*
//! list     count | [least timestamp:8 | (op id:16 | timestamp - least)*]
//! sibling  op id:16 | flags (1 tombstone) | count | mint* | [length | value]
//! mint     flags (1 expiry, 2 flagged) | actor's place in the context | counter | timestamp:8
//!          | [expiry:8]
//! ```
//! `:8` is little-endian, the rest are LEB128 numbers in their shortest form. Actors, loose dots,
//! op ids, siblings and mints rise strictly. A context on its own begins with the version byte.
//! Kind 0 is a record of siblings; other kinds are for other keyspace modes.
//!
//! The decoder accepts exactly what the encoder makes, checks a count against the bytes that are
//! left before it allocates for it, and checks the invariants of `record`: what a peer or a disk
//! sends can be refused, but it cannot break a merge.

use bytes::Bytes;
use quorate_ring::{Actor, Incarnation, NodeId};
use smallvec::SmallVec;

use super::context::Context;
use super::dot::{COUNTER_MAX, Dot};
use super::op_id::OpId;
use super::op_list::{FLAGGED_MAX, OpList, SUPERSEDED_MAX, SupersededOp};
use super::record::{Mint, Record, Sibling};

mod read;

use read::Reader;

const VERSION: u8 = 1;
const KIND_SIBLINGS: u8 = 0;

const TOMBSTONE: u8 = 1;
const HAS_EXPIRY: u8 = 1;
const FLAGGED: u8 = 2;

/// Least encoded bytes of one element, against which counts are checked.
const ACTOR_BYTES_MIN: usize = 10;
const LOOSE_BYTES: usize = 8;
const OP_BYTES_MIN: usize = 17;
const SIBLING_BYTES_MIN: usize = 18 + MINT_BYTES_MIN;
const MINT_BYTES_MIN: usize = 11;

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
        let Self {
            siblings,
            context,
            superseded,
            flagged,
        } = self;
        out.reserve(self.encoded_len());
        out.extend([VERSION, KIND_SIBLINGS]);
        context.encode_body(out);
        encode_list(superseded, out);
        encode_list(flagged, out);
        write_number(siblings.len() as u64, out);
        let actors = actor_table(context);
        for sibling in siblings {
            encode_sibling(sibling, &actors, out);
        }
    }

    /// The canonical bytes, shared.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::new();
        self.encode(&mut out);
        Bytes::from(out)
    }

    /// How many bytes [`Record::encode`] appends. O(siblings + context + lists).
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let Self {
            siblings,
            context,
            superseded,
            flagged,
        } = self;
        let actors = actor_table(context);
        let siblings_len: usize = siblings
            .iter()
            .map(|sibling| sibling_len(sibling, &actors))
            .sum();
        2 + context.body_len()
            + list_len(superseded)
            + list_len(flagged)
            + number_len(siblings.len() as u64)
            + siblings_len
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
        let (context, actors) = decode_context(&mut reader)?;
        let superseded = decode_list::<SUPERSEDED_MAX>(&mut reader, Field::Superseded)?;
        let flagged = decode_list::<FLAGGED_MAX>(&mut reader, Field::Flagged)?;
        let count = reader.count(Field::Siblings, SIBLING_BYTES_MIN)?;
        let mut record = Self {
            siblings: SmallVec::with_capacity(count),
            context,
            superseded,
            flagged,
        };
        for _ in 0..count {
            let sibling = decode_sibling(&mut reader, bytes, &actors)?;
            record.push_checked(sibling)?;
        }
        reader.end()?;
        check_dots_differ(&record.siblings)?;
        Ok(record)
    }

    fn push_checked(&mut self, sibling: Sibling) -> Result<(), DecodeError> {
        let rises = self
            .siblings
            .last()
            .is_none_or(|last| last.op_id < sibling.op_id);
        if !rises || self.lists(sibling.op_id) {
            return Err(DecodeError::NotCanonical {
                field: Field::Siblings,
            });
        }
        if !sibling
            .mints
            .iter()
            .all(|mint| self.context.covers(mint.dot))
        {
            return Err(DecodeError::NotCanonical {
                field: Field::Mints,
            });
        }
        self.siblings.push(sibling);
        Ok(())
    }
}

impl Context {
    /// Appends the canonical bytes of a context that stands alone, as in a client's token.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.encoded_len());
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
        let (context, _) = decode_context(&mut reader)?;
        reader.end()?;
        Ok(context)
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        let actors = actor_table(self);
        write_number(actors.len() as u64, out);
        for actor in &actors {
            let loose = self.loose_of(*actor);
            write_number(u64::from(actor.node.0), out);
            out.extend(actor.incarnation.0.to_le_bytes());
            write_number(
                self.vector_counter(*actor) << 1 | u64::from(!loose.is_empty()),
                out,
            );
            if !loose.is_empty() {
                write_number(loose.len() as u64, out);
                loose
                    .iter()
                    .for_each(|dot| out.extend(dot.counter.to_le_bytes()));
            }
        }
    }

    fn body_len(&self) -> usize {
        let actors = actor_table(self);
        let actor_len = |actor: &Actor| {
            let loose = self.loose_of(*actor).len();
            let loose_len = if loose == 0 {
                0
            } else {
                number_len(loose as u64) + loose * LOOSE_BYTES
            };
            let vector = self.vector_counter(*actor) << 1;
            number_len(u64::from(actor.node.0)) + 8 + number_len(vector) + loose_len
        };
        number_len(actors.len() as u64) + actors.iter().map(actor_len).sum::<usize>()
    }

    fn loose_of(&self, actor: Actor) -> &[Dot] {
        let loose = self.loose();
        let start = loose.partition_point(|dot| dot.actor < actor);
        let end = loose.partition_point(|dot| dot.actor <= actor);
        loose.get(start..end).unwrap_or(&[])
    }
}

/// Every actor of a context, sorted; dots of siblings name theirs by its place here.
type ActorTable = SmallVec<[Actor; 8]>;

fn actor_table(context: &Context) -> ActorTable {
    let mut actors: ActorTable = context.vector().iter().map(|entry| entry.actor).collect();
    if !context.loose().is_empty() {
        actors.extend(context.loose().iter().map(|dot| dot.actor));
        actors.sort_unstable();
        actors.dedup();
    }
    actors
}

fn place_of(actor: Actor, actors: &ActorTable) -> u64 {
    let place = actors.binary_search(&actor);
    place.expect("the context covers the dots of every sibling") as u64
}

fn encode_list<const MAX: usize>(list: &OpList<MAX>, out: &mut Vec<u8>) {
    let entries = list.entries();
    write_number(entries.len() as u64, out);
    let Some(least) = entries.iter().map(|entry| entry.timestamp).min() else {
        return;
    };
    out.extend(least.to_le_bytes());
    for SupersededOp { op_id, timestamp } in entries {
        out.extend(op_id.0);
        write_number(timestamp - least, out);
    }
}

fn list_len<const MAX: usize>(list: &OpList<MAX>) -> usize {
    let entries = list.entries();
    let Some(least) = entries.iter().map(|entry| entry.timestamp).min() else {
        return 1;
    };
    let entry_len = |entry: &SupersededOp| 16 + number_len(entry.timestamp - least);
    number_len(entries.len() as u64) + 8 + entries.iter().map(entry_len).sum::<usize>()
}

fn encode_sibling(sibling: &Sibling, actors: &ActorTable, out: &mut Vec<u8>) {
    let Sibling {
        op_id,
        value,
        mints,
    } = sibling;
    out.extend(op_id.0);
    out.push(if value.is_none() { TOMBSTONE } else { 0 });
    write_number(mints.len() as u64, out);
    for Mint {
        dot,
        timestamp,
        expiry,
        flagged,
    } in mints
    {
        let expiry_flag = if expiry.is_some() { HAS_EXPIRY } else { 0 };
        out.push(expiry_flag | if *flagged { FLAGGED } else { 0 });
        write_number(place_of(dot.actor, actors), out);
        write_number(dot.counter, out);
        out.extend(timestamp.to_le_bytes());
        out.extend(expiry.iter().flat_map(|expiry| expiry.to_le_bytes()));
    }
    if let Some(value) = value {
        write_number(value.len() as u64, out);
        out.extend_from_slice(value);
    }
}

fn sibling_len(sibling: &Sibling, actors: &ActorTable) -> usize {
    let mint_len = |mint: &Mint| {
        let place = number_len(place_of(mint.dot.actor, actors));
        9 + place + number_len(mint.dot.counter) + if mint.expiry.is_some() { 8 } else { 0 }
    };
    let value_len = |value: &Bytes| number_len(value.len() as u64) + value.len();
    17 + number_len(sibling.mints.len() as u64)
        + sibling.mints.iter().map(mint_len).sum::<usize>()
        + sibling.value.as_ref().map_or(0, value_len)
}

fn decode_context(reader: &mut Reader<'_>) -> Result<(Context, ActorTable), DecodeError> {
    let count = reader.count(Field::Vector, ACTOR_BYTES_MIN)?;
    let mut actors = ActorTable::with_capacity(count);
    let mut vector = SmallVec::with_capacity(count);
    let mut loose = Vec::new();
    for _ in 0..count {
        let node = u32::try_from(reader.number()?).map_err(|_| DecodeError::BadNumber)?;
        let incarnation = Incarnation(u64::from_le_bytes(reader.array()?));
        let actor = Actor {
            node: NodeId(node),
            incarnation,
        };
        if actors.last().is_some_and(|last| *last >= actor) {
            return Err(DecodeError::NotCanonical {
                field: Field::Vector,
            });
        }
        actors.push(actor);
        let packed = reader.number()?;
        let counter = packed >> 1;
        if counter > 0 {
            vector.push(Dot { actor, counter });
        }
        if packed & 1 == 1 {
            decode_loose(reader, Dot { actor, counter }, &mut loose)?;
        } else if counter == 0 {
            return Err(DecodeError::NotCanonical {
                field: Field::Vector,
            });
        }
    }
    Ok((Context::from_checked(vector, loose), actors))
}

/// Reads the loose dots of one actor, all above its vector entry.
fn decode_loose(
    reader: &mut Reader<'_>,
    entry: Dot,
    loose: &mut Vec<Dot>,
) -> Result<(), DecodeError> {
    let count = reader.count(Field::Loose, LOOSE_BYTES)?;
    if count == 0 {
        return Err(DecodeError::NotCanonical {
            field: Field::Loose,
        });
    }
    loose.reserve_exact(count);
    let mut last = entry.counter;
    for _ in 0..count {
        let counter = u64::from_le_bytes(reader.array()?);
        if counter <= last || counter > COUNTER_MAX {
            return Err(DecodeError::NotCanonical {
                field: Field::Loose,
            });
        }
        last = counter;
        loose.push(Dot {
            actor: entry.actor,
            counter,
        });
    }
    Ok(())
}

fn decode_list<const MAX: usize>(
    reader: &mut Reader<'_>,
    field: Field,
) -> Result<OpList<MAX>, DecodeError> {
    let count = reader.count(field, OP_BYTES_MIN)?;
    if count > MAX {
        return Err(DecodeError::TooMany {
            field,
            count: count as u64,
        });
    }
    if count == 0 {
        return Ok(OpList::default());
    }
    let least = u64::from_le_bytes(reader.array()?);
    let mut entries: Vec<SupersededOp> = Vec::with_capacity(count);
    let mut has_least = false;
    for _ in 0..count {
        let op_id = OpId(reader.array()?);
        let above = reader.number()?;
        let timestamp = least.checked_add(above).ok_or(DecodeError::BadNumber)?;
        has_least |= above == 0;
        if entries.last().is_some_and(|last| last.op_id >= op_id) {
            return Err(DecodeError::NotCanonical { field });
        }
        entries.push(SupersededOp { op_id, timestamp });
    }
    if !has_least {
        return Err(DecodeError::NotCanonical { field });
    }
    Ok(OpList::from_checked(entries))
}

fn decode_sibling(
    reader: &mut Reader<'_>,
    bytes: &Bytes,
    actors: &ActorTable,
) -> Result<Sibling, DecodeError> {
    let op_id = OpId(reader.array()?);
    let flags = reader.byte()?;
    if flags & !TOMBSTONE != 0 {
        return Err(DecodeError::NotCanonical {
            field: Field::Siblings,
        });
    }
    let count = reader.count(Field::Mints, MINT_BYTES_MIN)?;
    let mut mints: SmallVec<[Mint; 1]> = SmallVec::with_capacity(count);
    for _ in 0..count {
        let mint = decode_mint(reader, actors)?;
        if mints.last().is_some_and(|last| last.dot >= mint.dot) {
            return Err(DecodeError::NotCanonical {
                field: Field::Mints,
            });
        }
        mints.push(mint);
    }
    if mints.is_empty() {
        return Err(DecodeError::NotCanonical {
            field: Field::Mints,
        });
    }
    let value = if flags & TOMBSTONE == 0 {
        let length = reader.count(Field::Value, 1)?;
        let start = bytes.len() - reader.left();
        reader.skip(length)?;
        Some(bytes.slice(start..start + length))
    } else {
        None
    };
    Ok(Sibling {
        op_id,
        value,
        mints,
    })
}

fn decode_mint(reader: &mut Reader<'_>, actors: &ActorTable) -> Result<Mint, DecodeError> {
    let flags = reader.byte()?;
    let place = usize::try_from(reader.number()?).ok();
    let counter = reader.number()?;
    let actor = place.and_then(|place| actors.get(place));
    let (Some(actor), true, 0) = (
        actor,
        (1..=COUNTER_MAX).contains(&counter),
        flags & !(HAS_EXPIRY | FLAGGED),
    ) else {
        return Err(DecodeError::NotCanonical {
            field: Field::Mints,
        });
    };
    let timestamp = u64::from_le_bytes(reader.array()?);
    let expiry = if flags & HAS_EXPIRY == 0 {
        None
    } else {
        Some(u64::from_le_bytes(reader.array()?))
    };
    let dot = Dot {
        actor: *actor,
        counter,
    };
    Ok(Mint {
        dot,
        timestamp,
        expiry,
        flagged: flags & FLAGGED != 0,
    })
}

/// A dot names one write: it cannot belong to two operations.
fn check_dots_differ(siblings: &[Sibling]) -> Result<(), DecodeError> {
    if siblings.len() < 2 {
        return Ok(());
    }
    let mut dots: Vec<Dot> = siblings.iter().flat_map(Sibling::dots).collect();
    dots.sort_unstable();
    let differ = dots.is_sorted_by(|a, b| a < b);
    if differ {
        Ok(())
    } else {
        Err(DecodeError::NotCanonical {
            field: Field::Mints,
        })
    }
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "seven bits are taken")]
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "seven bits are left")]
    out.push(number as u8);
}

/// Bytes of a LEB128 number: one per seven bits.
const fn number_len(number: u64) -> usize {
    let bits = 64 - (number | 1).leading_zeros();
    bits.div_ceil(7) as usize
}
