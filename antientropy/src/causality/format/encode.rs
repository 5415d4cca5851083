//! Writes records and contexts; see the parent for the layout.

use bytes::Bytes;
use quorate_ring::Actor;
use smallvec::SmallVec;

use super::super::context::Context;
use super::super::dot::Dot;
use super::super::op_list::{OpList, SupersededOp};
use super::super::record::{Mint, Record, Sibling};
use super::{FLAGGED, HAS_EXPIRY, TOMBSTONE};

/// Appends a record without version and kind.
pub(super) fn record(record: &Record, out: &mut Vec<u8>) {
    let Record {
        siblings,
        context,
        superseded,
        flagged,
    } = record;
    context.encode_body(out);
    encode_list(superseded, out);
    encode_list(flagged, out);
    write_number(siblings.len() as u64, out);
    let places = Places::of(context);
    for sibling in siblings {
        encode_sibling(sibling, &places, out);
    }
}

/// How many bytes [`record`] appends.
pub(super) fn record_len(record: &Record) -> usize {
    let Record {
        siblings,
        context,
        superseded,
        flagged,
    } = record;
    let places = Places::of(context);
    let siblings_len: usize = siblings
        .iter()
        .map(|sibling| sibling_len(sibling, &places))
        .sum();
    context.body_len()
        + list_len(superseded)
        + list_len(flagged)
        + number_len(siblings.len() as u64)
        + siblings_len
}

impl Context {
    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        write_number(self.actor_count() as u64, out);
        self.for_each_actor(|actor, counter, loose| {
            write_number(u64::from(actor.node.0), out);
            out.extend_from_slice(&actor.incarnation.0.to_le_bytes());
            write_number(counter << 1 | u64::from(!loose.is_empty()), out);
            if !loose.is_empty() {
                write_number(loose.len() as u64, out);
                loose
                    .iter()
                    .for_each(|dot| out.extend_from_slice(&dot.counter.to_le_bytes()));
            }
        });
    }

    pub(super) fn body_len(&self) -> usize {
        let mut len = number_len(self.actor_count() as u64);
        self.for_each_actor(|actor, counter, loose| {
            len += number_len(u64::from(actor.node.0)) + 8 + number_len(counter << 1);
            if !loose.is_empty() {
                len += number_len(loose.len() as u64) + loose.len() * size_of::<u64>();
            }
        });
        len
    }

    /// Every actor in order, with its vector counter (0 for none) and its loose dots.
    fn for_each_actor(&self, mut visit: impl FnMut(Actor, u64, &[Dot])) {
        if self.loose().is_empty() {
            self.vector()
                .iter()
                .for_each(|entry| visit(entry.actor, entry.counter, &[]));
            return;
        }
        for actor in actor_table(self) {
            visit(actor, self.vector_counter(actor), self.loose_of(actor));
        }
    }

    fn actor_count(&self) -> usize {
        if self.loose().is_empty() {
            self.vector().len()
        } else {
            actor_table(self).len()
        }
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

/// Finds the place of an actor in a context's order of actors.
struct Places<'a> {
    context: &'a Context,
    /// Made only where loose dots add actors to the vector's.
    table: Option<ActorTable>,
}

impl<'a> Places<'a> {
    fn of(context: &'a Context) -> Self {
        let table = (!context.loose().is_empty()).then(|| actor_table(context));
        Self { context, table }
    }

    fn place(&self, actor: Actor) -> u64 {
        let place = match &self.table {
            Some(table) => table.binary_search(&actor),
            None => self
                .context
                .vector()
                .binary_search_by(|entry| entry.actor.cmp(&actor)),
        };
        place.expect("the context covers the dots of every sibling") as u64
    }
}

fn encode_list<const MAX: usize>(list: &OpList<MAX>, out: &mut Vec<u8>) {
    let entries = list.entries();
    write_number(entries.len() as u64, out);
    let Some(least) = entries.iter().map(|entry| entry.timestamp).min() else {
        return;
    };
    out.extend_from_slice(&least.to_le_bytes());
    for SupersededOp { op_id, timestamp } in entries {
        out.extend_from_slice(&op_id.0);
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

fn encode_sibling(sibling: &Sibling, places: &Places<'_>, out: &mut Vec<u8>) {
    let Sibling {
        op_id,
        value,
        mints,
    } = sibling;
    out.extend_from_slice(&op_id.0);
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
        write_number(places.place(dot.actor), out);
        write_number(dot.counter, out);
        out.extend_from_slice(&timestamp.to_le_bytes());
        if let Some(expiry) = expiry {
            out.extend_from_slice(&expiry.to_le_bytes());
        }
    }
    if let Some(value) = value {
        write_number(value.len() as u64, out);
        out.extend_from_slice(value);
    }
}

fn sibling_len(sibling: &Sibling, places: &Places<'_>) -> usize {
    let mint_len = |mint: &Mint| {
        let place = number_len(places.place(mint.dot.actor));
        9 + place + number_len(mint.dot.counter) + if mint.expiry.is_some() { 8 } else { 0 }
    };
    let value_len = |value: &Bytes| number_len(value.len() as u64) + value.len();
    17 + number_len(sibling.mints.len() as u64)
        + sibling.mints.iter().map(mint_len).sum::<usize>()
        + sibling.value.as_ref().map_or(0, value_len)
}

pub(super) fn write_number(mut number: u64, out: &mut Vec<u8>) {
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
