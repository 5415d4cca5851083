//! Identity of one logical write over all its attempts, and what each attempt says about itself.
//!
//! The op id is drawn once. A retry or a hedge under the same id mints nothing where the first
//! attempt arrived; a retry under a new id would be a second write, which comes back as a sibling.
//!
//! Not here: what nodes do with it (`quorate-node`).

use std::time::Duration;

use quorate_ring::planted::{Bug, planted};

use crate::wire::OpId;

/// A logical write under way.
#[derive(Debug, Clone)]
pub(crate) struct Attempts {
    op_id: OpId,
    count: u16,
}

/// What one attempt carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttemptMark {
    pub(crate) op_id: OpId,
    /// 1 for the first.
    pub(crate) number: u16,
    /// Since the first attempt was sent.
    pub(crate) age_ms: u32,
}

impl Attempts {
    pub(crate) const fn new(op_id: OpId) -> Self {
        Self { op_id, count: 0 }
    }

    pub(crate) const fn op_id(&self) -> OpId {
        self.op_id
    }

    pub(crate) const fn count(&self) -> u16 {
        self.count
    }

    /// Marks a hedge: an attempt beside one that is still under way.
    pub(crate) fn hedge(&mut self, age: Duration, other: impl Fn() -> OpId) -> AttemptMark {
        let mut mark = self.next(age, &other);
        if planted(Bug::HedgeForgetsOpId) {
            mark.op_id = other();
        }
        mark
    }

    /// Marks the next attempt, `age` after the first one.
    pub(crate) fn next(&mut self, age: Duration, other: impl FnOnce() -> OpId) -> AttemptMark {
        self.count = self.count.saturating_add(1);
        if self.count > 1 && planted(Bug::RetryForgetsOpId) {
            self.op_id = other();
        }
        AttemptMark {
            op_id: self.op_id,
            number: self.count,
            // Rounded up: an attempt must never seem younger than it is.
            age_ms: u32::try_from(age.as_micros().div_ceil(1000)).unwrap_or(u32::MAX),
        }
    }
}
