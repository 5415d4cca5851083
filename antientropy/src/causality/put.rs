//! A put at its coordinator: what it supersedes, under which dot it is kept, what its client may
//! claim to have seen afterwards, and when it is refused.
//!
//! A put supersedes exactly the siblings that the client's context covers, and those that have
//! expired by the coordinator's clock. A primary raises its vector entry to the new dot, because
//! its shard alone has written all of this actor's dots of the key; a fallback forgets them when
//! the hint is delivered, so its dot claims itself alone (`counterexamples.md` V4).
//!
//! Limits are on the result and never on what is there: two coordinators apart may together pass
//! them, and the put that resolves the siblings must then not be the one that is refused (V10).
//!
//! Not here: minting the counter, and asking whether the attempt is a duplicate or too old
//! (`attempt`), which comes before.

use bytes::Bytes;
use smallvec::SmallVec;

use super::attempt::{Attempt, OpStatus};
use super::context::Context;
use super::dot::Dot;
use super::op_id::OpId;
use super::record::{Mint, Record, Sibling};
use super::seen::{SeenOp, SeenOps};

/// Siblings that a put may leave.
pub const SIBLINGS_MAX: usize = 100;

/// Encoded bytes of the record that a put may leave: 4 MiB.
pub const RECORD_BYTES_MAX: usize = 4 << 20;

/// Encoded bytes of the context that a put may leave, or hand to its client: 64 KiB.
pub const CONTEXT_BYTES_MAX: usize = 64 << 10;

/// More than any entry of a context, list or sibling takes, its value and mints aside.
const ENTRY_BYTES_AT_MOST: usize = 40;

/// As what the coordinator mints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Minting {
    /// As an owner: the dot raises its actor's vector entry.
    Primary,
    /// In an owner's place: the dot stays loose.
    Fallback,
}

/// One put or delete, as its coordinator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The logical write.
    pub op_id: OpId,
    /// Whether an earlier attempt may have been minted elsewhere.
    pub attempt: Attempt,
    /// The value; `None` deletes.
    pub value: Option<Bytes>,
    /// What the client has seen; `None` is a blind write.
    pub context: Option<Context>,
    /// Operations that the client has seen, as its token tells.
    pub seen: SeenOps,
    /// The new dot: above all that its actor has minted.
    pub dot: Dot,
    /// As what the dot is minted.
    pub minting: Minting,
    /// Hybrid timestamp in microseconds since the Unix epoch.
    pub timestamp: u64,
    /// From when on the value is hidden, in microseconds since the Unix epoch.
    pub expiry: Option<u64>,
    /// The coordinator's clock in microseconds since the Unix epoch; `None` if it may be wrong:
    /// then nothing is superseded for having expired (`counterexamples.md` V12).
    pub now_wall: Option<u64>,
}

/// What a put did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutApplied {
    /// The record with the new sibling.
    pub record: Record,
    /// What the client has seen now; `None` if it has outgrown [`CONTEXT_BYTES_MAX`] and the
    /// client must read to go on.
    pub reply_context: Option<Context>,
}

/// Why a put minted nothing. **Not applied** by this attempt; an earlier one may have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PutRefusal {
    /// Too many concurrent values would be left: read, then write over what was read.
    #[error("the key would have {siblings} concurrent values, more than {SIBLINGS_MAX}")]
    TooManySiblings {
        /// How many the result would have.
        siblings: usize,
    },
    /// All concurrent values together would be too large.
    #[error("the record would have {bytes} bytes, more than {RECORD_BYTES_MAX}")]
    RecordTooLarge {
        /// Encoded length of the result.
        bytes: usize,
    },
    /// The key's history would have too many actors or loose dots.
    #[error("the key's context would have {bytes} bytes, more than {CONTEXT_BYTES_MAX}")]
    ContextFull {
        /// Encoded length of the result's context.
        bytes: usize,
    },
    /// The dot is known already, or no dot at all: the coordinator's actor must end, for its
    /// value would be dropped everywhere.
    #[error("dot {dot} is not a new one")]
    DotNotNew {
        /// The dot.
        dot: Dot,
    },
    /// The operation is known: it is a duplicate and mints nothing.
    #[error("the operation is known already")]
    Duplicate {
        /// What is known of it.
        status: OpStatus,
    },
}

impl Record {
    /// Applies a put at its coordinator.
    ///
    /// # Errors
    /// A [`PutRefusal`] if the operation or the dot is known, or if the result passes a limit and
    /// the put does not shrink the record. Nothing was minted then.
    pub fn put(&self, put: Put) -> Result<PutApplied, PutRefusal> {
        let Put {
            op_id,
            attempt,
            value,
            context,
            seen,
            dot,
            minting,
            timestamp,
            expiry,
            now_wall,
        } = put;
        match self.op_status(op_id) {
            OpStatus::Unknown => {}
            status @ (OpStatus::Live | OpStatus::Superseded | OpStatus::Flagged) => {
                return Err(PutRefusal::Duplicate { status });
            }
        }
        if seen.iter().any(|seen| seen.op.op_id == op_id) {
            // Listing it and keeping it would be a record that nobody can read.
            let status = OpStatus::Superseded;
            return Err(PutRefusal::Duplicate { status });
        }
        let client = context.unwrap_or_default();
        if !dot.is_valid()
            || self.context.last_counter(dot.actor) >= dot.counter
            || client.last_counter(dot.actor) >= dot.counter
        {
            return Err(PutRefusal::DotNotNew { dot });
        }
        let flagged = match attempt {
            Attempt::First => false,
            Attempt::Later => true,
        };
        let mut record = self.without_superseded(now_wall, &client, &seen);
        let mint = Mint {
            dot,
            timestamp,
            expiry,
            flagged,
        };
        let place = record
            .siblings
            .partition_point(|sibling| sibling.op_id < op_id);
        record
            .siblings
            .insert(place, Sibling::new(op_id, value, mint));
        match minting {
            Minting::Primary => record.context.raise(dot.actor, dot.counter),
            Minting::Fallback => record.context.add_dot_loose(dot),
        }
        record.check_limits(self)?;
        let reply_context = record.reply_context(op_id, client);
        Ok(PutApplied {
            record,
            reply_context,
        })
    }

    /// What the client of a duplicate may claim to have seen, given what it came with: the same
    /// as after a put whose record is this one. `None` if that outgrows [`CONTEXT_BYTES_MAX`].
    ///
    /// If the operation is superseded already, its dots are no longer known and are not claimed;
    /// the record that supersedes it is what the duplicate replicates.
    #[must_use]
    pub fn duplicate_reply_context(&self, op_id: OpId, client: Option<Context>) -> Option<Context> {
        self.reply_context(op_id, client.unwrap_or_default())
    }

    /// The client's context and the value's own dots, and no more: the writer has not seen the
    /// other siblings (`counterexamples.md` V9). A value without siblings has all of the record's
    /// context in its past.
    fn reply_context(&self, op_id: OpId, client: Context) -> Option<Context> {
        let own = self.sibling(op_id);
        let context = match own {
            Some(_) if self.siblings.len() == 1 => self.context.clone(),
            Some(_) | None => {
                let mut seen = client;
                own.into_iter()
                    .flat_map(Sibling::dots)
                    .for_each(|dot| seen.add_dot_loose(dot));
                seen
            }
        };
        let small = |context: &Context| {
            context.len() * ENTRY_BYTES_AT_MOST < CONTEXT_BYTES_MAX / 2
                || context.encoded_len() <= CONTEXT_BYTES_MAX
        };
        Some(context).filter(small)
    }

    /// This record after the client's context and the clock have had their effect.
    fn without_superseded(&self, now_wall: Option<u64>, client: &Context, seen: &[SeenOp]) -> Self {
        let gone = |sibling: &Sibling| {
            sibling.is_covered_by(client) || now_wall.is_some_and(|now| sibling.is_expired(now))
        };
        let kept: SmallVec<[Sibling; 1]> = self
            .siblings
            .iter()
            .filter(|sibling| !gone(sibling))
            .cloned()
            .collect();
        let mut record = Self {
            siblings: kept,
            context: self.context.join(client),
            superseded: self.superseded.clone(),
            flagged: self.flagged.clone(),
        };
        for sibling in self.siblings.iter().filter(|sibling| gone(sibling)) {
            for mint in &sibling.mints {
                record.retire(sibling.op_id, mint);
            }
        }
        record
            .superseded
            .insert_all(seen.iter().map(|seen| seen.op));
        let flagged = seen.iter().filter(|seen| seen.flagged);
        record.flagged.insert_all(flagged.map(|seen| seen.op));
        // A twin of what was seen, that the client's context does not name, is superseded with it.
        let mut told: Vec<OpId> = Vec::new();
        if !record.siblings.is_empty() {
            told.extend(seen.iter().map(|seen| seen.op.op_id));
            told.sort_unstable();
        }
        record.absorb(&told);
        record
    }

    /// Refuses a result over a limit, unless it is smaller than what was there.
    fn check_limits(&self, before: &Self) -> Result<(), PutRefusal> {
        let siblings = self.siblings.len();
        // A put is rarely near a limit, and the exact lengths cost a walk over the record.
        let context_at_most = 1 + 10 + self.context.len() * ENTRY_BYTES_AT_MOST;
        if siblings <= SIBLINGS_MAX
            && context_at_most <= CONTEXT_BYTES_MAX
            && self.len_at_most() + context_at_most <= RECORD_BYTES_MAX
        {
            return Ok(());
        }
        let bytes = self.encoded_len();
        let context_bytes = self.context.encoded_len();
        let over = siblings > SIBLINGS_MAX
            || bytes > RECORD_BYTES_MAX
            || context_bytes > CONTEXT_BYTES_MAX;
        if !over {
            return Ok(());
        }
        let fewer_bytes = bytes < before.encoded_len();
        let shrinks = fewer_bytes || siblings < before.siblings.len();
        if bytes > RECORD_BYTES_MAX && !fewer_bytes {
            Err(PutRefusal::RecordTooLarge { bytes })
        } else if siblings > SIBLINGS_MAX && !shrinks {
            Err(PutRefusal::TooManySiblings { siblings })
        } else if context_bytes > CONTEXT_BYTES_MAX && !shrinks {
            Err(PutRefusal::ContextFull {
                bytes: context_bytes,
            })
        } else {
            Ok(())
        }
    }

    /// An upper bound of the encoded length without the context; cheap.
    fn len_at_most(&self) -> usize {
        let lists = self.superseded.entries().len() + self.flagged.entries().len();
        let sibling = |sibling: &Sibling| {
            let value = sibling.value.as_ref().map_or(0, Bytes::len);
            ENTRY_BYTES_AT_MOST + value + sibling.mints.len() * 2 * ENTRY_BYTES_AT_MOST
        };
        let siblings: usize = self.siblings.iter().map(sibling).sum();
        2 * ENTRY_BYTES_AT_MOST + lists * ENTRY_BYTES_AT_MOST + siblings
    }
}
