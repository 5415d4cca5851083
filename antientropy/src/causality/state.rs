//! What a replica holds of a key, whatever the keyspace's mode: one of the kinds of records.
//!
//! Everything that stores, sends, merges or shows a record goes through this type, and only what
//! makes a write looks inside. The kind follows from the keyspace's mode, and bytes of another kind
//! are refused when they are read: two states that meet in a merge are of one kind.

use bytes::Bytes;
use quorate_ring::{Actor, KeyspaceMode};

use super::format::DecodeError;
use super::lww::LwwWrite;
use super::merge::MergeResult;
use super::record::{Record, Sibling};

/// The state of one key on one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every state is the large one, and a box would cost an allocation per decode"
)]
pub enum KeyState {
    /// Concurrent values are kept apart.
    Siblings(Record),
    /// The write with the highest version; `None` if nothing is known.
    Lww(Option<LwwWrite>),
}

impl KeyState {
    /// A key of which nothing is known.
    #[must_use]
    pub fn absent(mode: KeyspaceMode) -> Self {
        match mode {
            KeyspaceMode::Siblings => Self::Siblings(Record::default()),
            KeyspaceMode::Lww => Self::Lww(None),
        }
    }

    /// The mode of keyspaces that hold this kind.
    #[must_use]
    pub const fn mode(&self) -> KeyspaceMode {
        match self {
            Self::Siblings(_) => KeyspaceMode::Siblings,
            Self::Lww(_) => KeyspaceMode::Lww,
        }
    }

    /// Reads a state of the kind that `mode` holds; its values are slices of `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] if `bytes` is not exactly what [`KeyState::to_bytes`] makes of some state of
    /// that kind.
    pub fn decode_as(mode: KeyspaceMode, bytes: &Bytes) -> Result<Self, DecodeError> {
        let state = Self::decode(bytes)?;
        if state.mode() == mode {
            Ok(state)
        } else {
            Err(DecodeError::UnknownKind {
                found: state.kind(),
            })
        }
    }

    /// Merges what another replica holds, and says whether a new state came of it.
    ///
    /// # Panics
    /// If the other state is of another kind, which reading it has excluded.
    pub fn merge(&self, other: &Self) -> MergeResult<Self> {
        match (self, other) {
            (Self::Siblings(own), Self::Siblings(theirs)) => match own.merge(theirs) {
                MergeResult::Unchanged => MergeResult::Unchanged,
                MergeResult::TookOther => MergeResult::TookOther,
                MergeResult::Merged(record) => MergeResult::Merged(Self::Siblings(record)),
            },
            (Self::Lww(own), Self::Lww(theirs)) => {
                if own >= theirs {
                    MergeResult::Unchanged
                } else {
                    MergeResult::TookOther
                }
            }
            (Self::Siblings(_) | Self::Lww(_), _) => mixed(),
        }
    }

    /// Whether merging `other` into this state changes nothing.
    #[must_use]
    pub fn holds_all_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Siblings(own), Self::Siblings(theirs)) => own.holds_all_of(theirs),
            (Self::Lww(own), Self::Lww(theirs)) => own >= theirs,
            (Self::Siblings(_) | Self::Lww(_), _) => mixed(),
        }
    }

    /// The values that a get shows at `now_wall` (microseconds since the Unix epoch).
    #[must_use]
    pub fn visible(&self, now_wall: u64) -> Vec<Bytes> {
        match self {
            Self::Siblings(record) => {
                let shown = record.visible(now_wall);
                shown.filter_map(Sibling::value).cloned().collect()
            }
            Self::Lww(newest) => {
                let shown = newest.iter().filter_map(|write| write.visible(now_wall));
                shown.cloned().collect()
            }
        }
    }

    /// The highest counter of `actor` that its context has; 0 if none, or if the kind has no
    /// contexts.
    #[must_use]
    pub fn last_counter(&self, actor: Actor) -> u64 {
        match self {
            Self::Siblings(record) => record.context().last_counter(actor),
            Self::Lww(_) => 0,
        }
    }

    /// Whether it has a value, expired or not.
    #[must_use]
    pub fn has_value(&self) -> bool {
        match self {
            Self::Siblings(record) => record.has_value(),
            Self::Lww(newest) => newest.as_ref().is_some_and(LwwWrite::has_value),
        }
    }

    /// From when on nothing of it is shown, as [`Record::gone_at`] tells it.
    #[must_use]
    pub fn gone_at(&self) -> Option<u64> {
        match self {
            Self::Siblings(record) => record.gone_at(),
            Self::Lww(newest) => newest.as_ref().map_or(Some(0), |write| {
                if write.has_value() {
                    write.expiry()
                } else {
                    Some(0)
                }
            }),
        }
    }

    /// Stamp of the newest write; `None` if nothing is known or the kind has no stamps.
    #[must_use]
    pub fn stamp(&self) -> Option<u64> {
        match self {
            Self::Siblings(_) => None,
            Self::Lww(newest) => newest.as_ref().map(|write| write.version().stamp),
        }
    }

    /// Stamp of the newest write here if it supersedes that of `other`.
    #[must_use]
    pub fn stamp_above(&self, other: &Self) -> Option<u64> {
        match (self, other) {
            (Self::Lww(Some(own)), Self::Lww(theirs)) => {
                let version = own.version();
                let above = theirs.as_ref().is_none_or(|t| t.version() < version);
                above.then_some(version.stamp)
            }
            (Self::Siblings(_) | Self::Lww(_), _) => None,
        }
    }

    /// Whether this state, received from a replica, knows later writes of `actor` than `own` does.
    #[must_use]
    pub fn knows_more_of(&self, actor: Actor, own: &Self) -> bool {
        match (self, own) {
            (Self::Siblings(theirs), Self::Siblings(own)) => theirs.knows_more_of(actor, own),
            // No actor is named there.
            (Self::Siblings(_) | Self::Lww(_), _) => false,
        }
    }
}

fn mixed() -> ! {
    unreachable!("a state is read as the kind that its keyspace holds")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::lww::LwwVersion;
    use super::super::op_id::OpId;
    use super::*;

    fn state() -> impl Strategy<Value = KeyState> {
        let value = prop_oneof![Just(None), Just(Some(Bytes::from_static(b"v")))];
        let write = (0..4_u64, 0..4_u8, value).prop_map(|(stamp, op, value)| {
            let op_id = OpId([op; 16]);
            let version = LwwVersion { stamp, op_id };
            match value {
                Some(value) => LwwWrite::value(version, value, (op % 2 == 0).then_some(stamp + 5)),
                None => LwwWrite::tombstone(version),
            }
        });
        proptest::option::of(write).prop_map(KeyState::Lww)
    }

    fn merged(a: &KeyState, b: &KeyState) -> KeyState {
        match a.merge(b) {
            MergeResult::Unchanged => a.clone(),
            MergeResult::TookOther => b.clone(),
            MergeResult::Merged(both) => both,
        }
    }

    proptest! {
        /// Replicas of an lww record agree whatever the order, grouping and repetition.
        #[test]
        fn the_maximum_is_a_join(a in state(), b in state(), c in state()) {
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
            prop_assert_eq!(merged(&a, &merged(&b, &c)), merged(&merged(&a, &b), &c));
            prop_assert_eq!(merged(&a, &a), a.clone());
            prop_assert!(merged(&a, &b).holds_all_of(&b));
        }

        /// What is written reads back, as the kind that it is and as no other.
        #[test]
        fn an_lww_state_reads_back(state in state()) {
            let bytes = state.to_bytes();
            prop_assert_eq!(KeyState::decode_as(KeyspaceMode::Lww, &bytes), Ok(state));
            let other = KeyState::decode_as(KeyspaceMode::Siblings, &bytes);
            prop_assert_eq!(other, Err(DecodeError::UnknownKind { found: 1 }));
        }

        /// Altered bytes are refused or are another canonical state; never a panic.
        #[test]
        fn altered_bytes_are_canonical_or_refused(
            state in state(), at in any::<usize>(), byte in any::<u8>(), cut in any::<usize>(),
        ) {
            let mut bytes = state.to_bytes().to_vec();
            let at = at % bytes.len();
            bytes.iter_mut().skip(at).take(1).for_each(|old| *old = byte);
            bytes.truncate(1 + cut % (2 * bytes.len()));
            let bytes = Bytes::from(bytes);
            if let Ok(read) = KeyState::decode(&bytes) {
                prop_assert_eq!(read.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn a_write_that_is_met_again_is_not_superseded() {
        let version = |stamp| LwwVersion {
            stamp,
            op_id: OpId([1; 16]),
        };
        let at = |stamp| KeyState::Lww(Some(LwwWrite::tombstone(version(stamp))));
        assert_eq!(at(5).stamp_above(&at(5)), None);
        assert_eq!(at(6).stamp_above(&at(5)), Some(6));
        assert_eq!(at(5).stamp_above(&KeyState::Lww(None)), Some(5));
        assert_eq!(KeyState::Lww(None).stamp_above(&at(1)), None);
    }
}
