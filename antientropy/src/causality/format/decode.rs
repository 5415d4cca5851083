//! Reads records and contexts, and refuses what the encoder would not have written.

use bytes::Bytes;
use quorate_ring::{Actor, Incarnation, NodeId};
use smallvec::SmallVec;

use super::super::context::Context;
use super::super::dot::{COUNTER_MAX, Dot};
use super::super::op_id::OpId;
use super::super::op_list::{FLAGGED_MAX, OpList, SUPERSEDED_MAX, SupersededOp};
use super::super::record::{Mint, Record, Sibling};
use super::read::Reader;
use super::{DecodeError, FLAGGED, Field, HAS_EXPIRY, TOMBSTONE};

/// Least encoded bytes of one element, against which counts are checked before anything is
/// allocated for them: memory stays within about five times the input.
const ACTOR_BYTES_MIN: usize = 10;
const LOOSE_BYTES: usize = 8;
const OP_BYTES_MIN: usize = 17;
const MINT_BYTES_MIN: usize = 11;
const SIBLING_BYTES_MIN: usize = 18 + MINT_BYTES_MIN;

/// The context's actors in order, where loose dots add some to the vector's; else empty.
type Actors = Vec<Actor>;

/// Reads what follows version and kind.
pub(super) fn record(reader: &mut Reader<'_>, bytes: &Bytes) -> Result<Record, DecodeError> {
    let (context, actors) = context(reader)?;
    let superseded = list::<SUPERSEDED_MAX>(reader, Field::Superseded)?;
    let flagged = list::<FLAGGED_MAX>(reader, Field::Flagged)?;
    let count = reader.count(Field::Siblings, SIBLING_BYTES_MIN)?;
    let siblings = SmallVec::with_capacity(count);
    let mut record = Record {
        siblings,
        context,
        superseded,
        flagged,
    };
    for _ in 0..count {
        let op_id = OpId(reader.array()?);
        let rises = record.siblings.last().is_none_or(|last| last.op_id < op_id);
        if !rises || record.lists(op_id) {
            return Err(DecodeError::NotCanonical {
                field: Field::Siblings,
            });
        }
        let sibling = sibling(reader, bytes, op_id, (&record.context, &actors))?;
        record.siblings.push(sibling);
    }
    check_dots_differ(&record.siblings)?;
    Ok(record)
}

pub(super) fn context(reader: &mut Reader<'_>) -> Result<(Context, Actors), DecodeError> {
    let count = reader.count(Field::Vector, ACTOR_BYTES_MIN)?;
    let mut vector: SmallVec<[Dot; 4]> = SmallVec::with_capacity(count);
    let mut loose = Vec::new();
    let mut actors = Actors::new();
    let mut last: Option<Actor> = None;
    for _ in 0..count {
        let node = u32::try_from(reader.number()?).map_err(|_| DecodeError::BadNumber)?;
        let incarnation = Incarnation(u64::from_le_bytes(reader.array()?));
        let actor = Actor {
            node: NodeId(node),
            incarnation,
        };
        let packed = reader.number()?;
        let (counter, has_loose) = (packed >> 1, packed & 1 == 1);
        if last.is_some_and(|last| last >= actor) || packed == 0 {
            return Err(DecodeError::NotCanonical {
                field: Field::Vector,
            });
        }
        last = Some(actor);
        if has_loose && loose.is_empty() {
            actors.extend(vector.iter().map(|entry| entry.actor));
        }
        if counter > 0 {
            vector.push(Dot { actor, counter });
        }
        if has_loose {
            loose_dots(reader, Dot { actor, counter }, &mut loose)?;
        }
        if !loose.is_empty() {
            actors.push(actor);
        }
    }
    Ok((Context::from_checked(vector, loose), actors))
}

/// Reads the loose dots of one actor, all above its vector entry.
fn loose_dots(
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

fn list<const MAX: usize>(
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

fn sibling(
    reader: &mut Reader<'_>,
    bytes: &Bytes,
    op_id: OpId,
    context: (&Context, &Actors),
) -> Result<Sibling, DecodeError> {
    let flags = reader.byte()?;
    if flags & !TOMBSTONE != 0 {
        return Err(DecodeError::NotCanonical {
            field: Field::Siblings,
        });
    }
    let count = reader.count(Field::Mints, MINT_BYTES_MIN)?;
    let mut mints: SmallVec<[Mint; 1]> = SmallVec::with_capacity(count);
    for _ in 0..count {
        let mint = mint(reader, context)?;
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

/// Reads a mint, whose dot the context must cover.
fn mint(
    reader: &mut Reader<'_>,
    (context, actors): (&Context, &Actors),
) -> Result<Mint, DecodeError> {
    let wrong = DecodeError::NotCanonical {
        field: Field::Mints,
    };
    let flags = reader.byte()?;
    let place = usize::try_from(reader.number()?).map_err(|_| wrong)?;
    let counter = reader.number()?;
    let (actor, covered) = if actors.is_empty() {
        let entry = context.vector().get(place).ok_or(wrong)?;
        (entry.actor, counter <= entry.counter)
    } else {
        let actor = *actors.get(place).ok_or(wrong)?;
        (actor, context.covers(Dot { actor, counter }))
    };
    if counter == 0 || !covered || flags & !(HAS_EXPIRY | FLAGGED) != 0 {
        return Err(wrong);
    }
    let timestamp = u64::from_le_bytes(reader.array()?);
    let expiry = if flags & HAS_EXPIRY == 0 {
        None
    } else {
        Some(u64::from_le_bytes(reader.array()?))
    };
    Ok(Mint {
        dot: Dot { actor, counter },
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
    if dots.is_sorted_by(|a, b| a < b) {
        Ok(())
    } else {
        Err(DecodeError::NotCanonical {
            field: Field::Mints,
        })
    }
}
