//! What a replica holds of one key: siblings, a context, and two lists of superseded operations.
//!
//! Invariants of every record that leaves this crate or is decoded:
//! - siblings are sorted by op id, one per operation; each has one mint per dot, sorted by dot;
//! - the context covers every dot of every sibling;
//! - no sibling's operation is in a list.
//!
//! Equal states are equal values here and equal bytes in `format`.

use bytes::Bytes;
use quorate_ring::Actor;
use smallvec::SmallVec;

use super::context::Context;
use super::dot::Dot;
use super::op_id::OpId;
use super::op_list::{FLAGGED_MAX, OpList, SUPERSEDED_MAX, SupersededOp};

/// One minting of an operation: a dot, and what the coordinator added when it minted it.
///
/// Kept per dot and not per sibling, so that folding twins is a view and the merge stays a join:
/// a maximum over dots of which one is later lost would depend on the order of the merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mint {
    /// The write's name.
    pub dot: Dot,
    /// Hybrid timestamp of the minting: microseconds since the Unix epoch, rising per node.
    pub timestamp: u64,
    /// From when on the value is hidden, in microseconds since the Unix epoch.
    pub expiry: Option<u64>,
    /// Whether an attempt after the first is known, so that a twin may exist.
    pub flagged: bool,
}

/// One of the concurrent values of a key, with every dot that its operation was minted under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sibling {
    pub(super) op_id: OpId,
    pub(super) value: Option<Bytes>,
    pub(super) mints: SmallVec<[Mint; 1]>,
}

impl Sibling {
    /// A value (`None` is a tombstone) minted once.
    #[must_use]
    pub fn new(op_id: OpId, value: Option<Bytes>, mint: Mint) -> Self {
        Self {
            op_id,
            value,
            mints: SmallVec::from_buf([mint]),
        }
    }

    /// The operation that wrote it.
    #[must_use]
    pub const fn op_id(&self) -> OpId {
        self.op_id
    }

    /// The value; `None` for a tombstone.
    #[must_use]
    pub const fn value(&self) -> Option<&Bytes> {
        self.value.as_ref()
    }

    /// Whether it is a deletion.
    #[must_use]
    pub const fn is_tombstone(&self) -> bool {
        self.value.is_none()
    }

    /// Its mintings, one or more, by dot. More than one are twins: one operation, minted twice.
    #[must_use]
    pub fn mints(&self) -> &[Mint] {
        &self.mints
    }

    /// Its dots, sorted.
    pub fn dots(&self) -> impl Iterator<Item = Dot> {
        self.mints.iter().map(|mint| mint.dot)
    }

    /// The greatest hybrid timestamp of its mintings, in microseconds.
    #[must_use]
    pub fn timestamp(&self) -> u64 {
        self.mints
            .iter()
            .map(|mint| mint.timestamp)
            .max()
            .unwrap_or(0)
    }

    /// The greatest expiry of its mintings, in microseconds since the Unix epoch; `None` if one
    /// of them never expires.
    #[must_use]
    pub fn expiry(&self) -> Option<u64> {
        let all: Option<Vec<u64>> = self.mints.iter().map(|mint| mint.expiry).collect();
        all.and_then(|times| times.into_iter().max())
    }

    /// Whether it is hidden at `now_wall` (microseconds since the Unix epoch).
    #[must_use]
    pub fn is_expired(&self, now_wall: u64) -> bool {
        self.mints
            .iter()
            .all(|mint| mint.expiry.is_some_and(|expiry| expiry <= now_wall))
    }

    /// Whether `context` covers one of its dots. That supersedes all of it.
    #[must_use]
    pub fn is_covered_by(&self, context: &Context) -> bool {
        self.mints.iter().any(|mint| context.covers(mint.dot))
    }

    pub(super) fn mint(&self, dot: Dot) -> Option<&Mint> {
        self.mints.iter().find(|mint| mint.dot == dot)
    }
}

/// The state of one key on one replica. The default is a key of which nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    pub(super) siblings: SmallVec<[Sibling; 1]>,
    pub(super) context: Context,
    pub(super) superseded: OpList<SUPERSEDED_MAX>,
    pub(super) flagged: OpList<FLAGGED_MAX>,
}

impl Record {
    /// The concurrent values and tombstones, by op id. Empty only for a key of which nothing is
    /// known, or after a client named writes of its own future.
    #[must_use]
    pub fn siblings(&self) -> &[Sibling] {
        &self.siblings
    }

    /// Every write that is a sibling here or superseded.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// The newest superseded operations.
    #[must_use]
    pub const fn superseded(&self) -> &OpList<SUPERSEDED_MAX> {
        &self.superseded
    }

    /// The newest superseded operations of which an attempt after the first is known.
    #[must_use]
    pub const fn flagged(&self) -> &OpList<FLAGGED_MAX> {
        &self.flagged
    }

    /// The sibling that `op_id` wrote. O(log n).
    #[must_use]
    pub fn sibling(&self, op_id: OpId) -> Option<&Sibling> {
        let place = self
            .siblings
            .binary_search_by(|sibling| sibling.op_id.cmp(&op_id));
        place.ok().and_then(|at| self.siblings.get(at))
    }

    /// What a get shows at `now_wall` (microseconds since the Unix epoch): siblings that are
    /// neither tombstones nor expired.
    pub fn visible(&self, now_wall: u64) -> impl Iterator<Item = &Sibling> {
        let shown =
            move |sibling: &&Sibling| !sibling.is_tombstone() && !sibling.is_expired(now_wall);
        self.siblings.iter().filter(shown)
    }

    /// Whether a get answers *not found* (with this record's context).
    #[must_use]
    pub fn is_not_found(&self, now_wall: u64) -> bool {
        self.visible(now_wall).next().is_none()
    }

    /// Whether one of the siblings is a value, expired or not.
    #[must_use]
    pub fn has_value(&self) -> bool {
        self.siblings.iter().any(|sibling| !sibling.is_tombstone())
    }

    /// From when on every sibling is a tombstone or expired, in microseconds since the Unix epoch:
    /// 0 if all are tombstones; `None` if a value stays until it is superseded.
    #[must_use]
    pub fn gone_at(&self) -> Option<u64> {
        let gone_at = |sibling: &Sibling| {
            if sibling.is_tombstone() {
                Some(0)
            } else {
                sibling.expiry()
            }
        };
        let mut times = self.siblings.iter().map(gone_at);
        times.try_fold(0, |latest: u64, at| Some(latest.max(at?)))
    }

    /// Whether this record, received from a replica, knows later writes of `actor` than `own`
    /// does. If `actor` is the receiver's present one, its memory has a hole and it must go on
    /// under a new incarnation.
    #[must_use]
    pub fn knows_more_of(&self, actor: Actor, own: &Self) -> bool {
        self.context.last_counter(actor) > own.context.last_counter(actor)
    }

    /// Lists a mint that is no sibling any more.
    pub(super) fn retire(&mut self, op_id: OpId, mint: &Mint) {
        let entry = SupersededOp {
            op_id,
            timestamp: mint.timestamp,
        };
        self.superseded.insert(entry);
        if mint.flagged {
            self.flagged.insert(entry);
        }
    }

    /// Whether the operation is known to be superseded.
    pub(super) fn lists(&self, op_id: OpId) -> bool {
        self.superseded.entry(op_id).is_some() || self.flagged.entry(op_id).is_some()
    }
}
