//! The operations of which a client's token tells, beside the context.
//!
//! A context names dots only. A coordinator that never held a value could not list the operation
//! that wrote it, and a twin of it, minted there by another attempt, would stand beside the write
//! that superseded it. So a token tells the operations too, and the put that comes with it drops
//! them from the coordinator's record and lists them there.
//!
//! Exactly where a token has the record's context, it has the record's operations: its siblings
//! and both of its lists. Not the flagged list alone: whether an operation was tried twice may be
//! known only where the twin is. Everywhere else it has what the client's own token told, and the
//! client's own operation; what the record superseded meanwhile the client has not seen, and its
//! superseder may be lost with this replica (`counterexamples.md` V9).
//!
//! Bounded as the lists are, by the same order: what is cut from a token would be cut from the
//! record that it is told to.

use smallvec::SmallVec;

use super::op_id::OpId;
use super::op_list::{FLAGGED_MAX, SUPERSEDED_MAX, SupersededOp};
use super::record::{Record, Sibling};

/// An operation that a client has seen, as a value or as superseded by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeenOp {
    /// The operation, with the newest timestamp that was seen.
    pub op: SupersededOp,
    /// Whether later attempts of it were known.
    pub flagged: bool,
}

/// The operations of one token.
pub type SeenOps = SmallVec<[SeenOp; 1]>;

impl Sibling {
    /// What a client that has seen this value may later tell of its operation.
    #[must_use]
    pub fn seen_op(&self) -> Option<SeenOp> {
        let newest = self.mints.iter().max_by_key(|mint| mint.timestamp)?;
        let op = SupersededOp {
            op_id: self.op_id,
            timestamp: newest.timestamp,
        };
        Some(SeenOp {
            op,
            flagged: self.mints.iter().any(|mint| mint.flagged),
        })
    }
}

impl Record {
    /// The operations that a reader of this record has seen: of its siblings, and superseded ones.
    #[must_use]
    pub fn seen_ops(&self) -> SeenOps {
        let superseded = self.superseded.entries().iter();
        let most = self.siblings.len() + superseded.len() + self.flagged.entries().len();
        let mut seen = SeenOps::with_capacity(most);
        seen.extend(self.siblings.iter().filter_map(Sibling::seen_op));
        seen.extend(superseded.map(|op| SeenOp {
            op: *op,
            flagged: self.flagged.entry(op.op_id).is_some(),
        }));
        let flagged = self.flagged.entries().iter();
        let older = flagged.filter(|op| self.superseded.entry(op.op_id).is_none());
        seen.extend(older.map(|op| SeenOp {
            op: *op,
            flagged: true,
        }));
        seen
    }

    /// The operations that the writer of `op_id` has seen, once this is the record: `client` is
    /// what its own token told.
    #[must_use]
    pub fn seen_ops_after_write(&self, op_id: OpId, client: &[SeenOp]) -> SeenOps {
        let own = self.sibling(op_id);
        if own.is_some() && self.siblings.len() == 1 {
            return self.seen_ops();
        }
        let own = own.and_then(Sibling::seen_op).or_else(|| {
            let flagged = self.flagged.entry(op_id);
            let op = *self.superseded.entry(op_id).or(flagged)?;
            Some(SeenOp {
                op,
                flagged: flagged.is_some(),
            })
        });
        let others = client.iter().filter(|seen| seen.op.op_id != op_id);
        newest(others.copied().chain(own).collect())
    }
}

/// As many as the lists of a record may keep of them.
fn newest(mut seen: SeenOps) -> SeenOps {
    if seen.len() <= SUPERSEDED_MAX {
        return seen;
    }
    seen.sort_unstable_by_key(|seen| std::cmp::Reverse((seen.op.timestamp, seen.op.op_id)));
    let mut flagged = 0;
    let mut place = 0;
    seen.retain(|seen| {
        flagged += usize::from(seen.flagged);
        place += 1;
        place <= SUPERSEDED_MAX || (seen.flagged && flagged <= FLAGGED_MAX)
    });
    seen
}
