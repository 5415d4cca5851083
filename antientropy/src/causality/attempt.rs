//! Retries and hedges: what an attempt of an operation means to a record.
//!
//! An operation that the record knows mints nothing, whether it is a sibling or superseded. One
//! that it does not know is new, unless it is so old that the record may have forgotten it: then
//! its outcome is *unknown*, and minting could bring a superseded value back.
//!
//! A flagged id is one of which an attempt after the first is known. Only such operations can
//! have twins, and the record remembers more of them (`counterexamples.md` V6).

use std::time::Duration;

use super::op_id::OpId;
use super::op_list::SupersededOp;
use super::record::Record;

/// For how long after its first attempt an operation may be tried.
pub const RETRY_TIME_MAX: Duration = Duration::from_secs(30);

/// Which attempt of its operation a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attempt {
    /// The first: no other dot of this operation was asked for earlier.
    First,
    /// A retry or a hedge, by the client or by a forwarder.
    Later,
}

/// What a record knows of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpStatus {
    /// It is one of the siblings.
    Live,
    /// It is superseded, and only its first attempt is known.
    Superseded,
    /// It is superseded, and later attempts of it are known.
    Flagged,
    /// Never heard of, or forgotten.
    Unknown,
}

/// What to do with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttemptVerdict {
    /// The operation is known: mint nothing, note the attempt, replicate the record as it stands
    /// and answer *applied* only when W replicas have acknowledged that.
    Duplicate,
    /// Mint a dot.
    Fresh,
    /// Mint nothing and answer *unknown*: the record may have forgotten the operation.
    TooOld,
}

impl Record {
    /// What this record knows of `op_id`. O(log n).
    #[must_use]
    pub fn op_status(&self, op_id: OpId) -> OpStatus {
        if self.sibling(op_id).is_some() {
            OpStatus::Live
        } else if self.flagged.entry(op_id).is_some() {
            OpStatus::Flagged
        } else if self.superseded.entry(op_id).is_some() {
            OpStatus::Superseded
        } else {
            OpStatus::Unknown
        }
    }

    /// Decides about an attempt whose operation was first tried `first_attempt_age` ago, every
    /// hop's holding time included; `now` is the coordinator's hybrid time in microseconds.
    ///
    /// The look-up comes first: a known operation is a duplicate however old it is.
    #[must_use]
    pub fn attempt_verdict(
        &self,
        now: u64,
        op_id: OpId,
        first_attempt_age: Duration,
    ) -> AttemptVerdict {
        match self.op_status(op_id) {
            OpStatus::Live | OpStatus::Superseded | OpStatus::Flagged => AttemptVerdict::Duplicate,
            OpStatus::Unknown if first_attempt_age > RETRY_TIME_MAX => AttemptVerdict::TooOld,
            OpStatus::Unknown => {
                let age = u64::try_from(first_attempt_age.as_micros()).unwrap_or(u64::MAX);
                let first_attempt = now.saturating_sub(age);
                // Had the operation been superseded here and been evicted since, then all that
                // is listed is newer than its dot, and so than its first attempt.
                let forgets = |oldest: &SupersededOp| oldest.timestamp > first_attempt;
                if self.superseded.is_full() && self.superseded.oldest().is_some_and(forgets) {
                    AttemptVerdict::TooOld
                } else {
                    AttemptVerdict::Fresh
                }
            }
        }
    }

    /// Notes an attempt of a known operation; `None` if that changes nothing. Mints nothing: only
    /// the flag is set, so that the id outlives the ordinary list once it is superseded.
    #[must_use]
    pub fn note_duplicate(&self, op_id: OpId, attempt: Attempt) -> Option<Self> {
        match attempt {
            Attempt::First => return None,
            Attempt::Later => {}
        }
        if let Some(sibling) = self.sibling(op_id) {
            if sibling.mints.iter().all(|mint| mint.flagged) {
                return None;
            }
            let mut noted = self.clone();
            let marked = noted
                .siblings
                .iter_mut()
                .filter(|sibling| sibling.op_id == op_id);
            marked
                .flat_map(|sibling| &mut sibling.mints)
                .for_each(|mint| mint.flagged = true);
            return Some(noted);
        }
        let entry = self.superseded.entry(op_id)?;
        if self.flagged.has_seen(entry) {
            return None;
        }
        let mut noted = self.clone();
        noted.flagged.insert(*entry);
        Some(noted)
    }
}
