//! Known bugs that a test process can plant, to see that the checkers catch them.
//!
//! One bug at most is active in a process, chosen by name while it runs. Without the feature
//! `planted-bugs` nothing can be chosen: [`is`] is constantly false and every branch on it is
//! gone from what is shipped.

/// A rule left out on purpose. Codes are those of the notes on counterexamples and testing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Bug {
    /// M1: a write is acknowledged before its batch is synced.
    AckBeforeSync = 1,
    /// M4: a merge keeps only the newest of concurrent siblings.
    MergeDropsConcurrentSibling,
    /// M10: a put is answered *applied* with W - 1 acknowledgements.
    OkAtWMinusOne,
    /// V1: a start after a clean stop goes on under the old incarnation.
    IncarnationKeptAfterCleanStop,
    /// V8: a duplicate is answered *applied* without W.
    DuplicateAppliedWithoutW,
    /// O1: *not applied* after an earlier attempt had an unknown outcome.
    NotAppliedAfterUnknown,
    /// L1: what was read at the start is not written again.
    NoRewriteAtStart,
    /// L2: a frame's incarnation is not checked on replay.
    FramesWithoutIncarnation,
    /// L5: the engine is fed states that are not durable.
    EngineFedBeyondDurable,
    /// D1: a dot is minted from the durable view instead of the newest state.
    DotFromDurableView,
    /// R1: a retry draws a new op id.
    RetryForgetsOpId,
    /// P1: two nodes order the primaries of a vnode differently.
    PlacementOrderDiffers,
}

/// Whether `bug` is planted in this process.
#[cfg(not(feature = "planted-bugs"))]
#[must_use]
#[inline(always)]
pub const fn is(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "planted-bugs")]
pub use chosen::{UnknownBug, choose, clear, is};

#[cfg(feature = "planted-bugs")]
mod chosen {
    use std::str::FromStr;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Bug;

    /// Number of the planted bug; 0 for none.
    static CHOSEN: AtomicU32 = AtomicU32::new(0);

    /// A name that is no bug's.
    #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
    #[error("`{name}` is no planted bug: use a code such as M4, or a name of `Bug`")]
    pub struct UnknownBug {
        /// What was given.
        pub name: String,
    }

    /// Whether `bug` is planted in this process.
    #[must_use]
    #[inline]
    pub fn is(bug: Bug) -> bool {
        CHOSEN.load(Ordering::Relaxed) == bug as u32
    }

    /// Plants the bug of this code or name, and no other.
    ///
    /// # Errors
    /// [`UnknownBug`] if there is none; what was planted before stays.
    pub fn choose(name: &str) -> Result<Bug, UnknownBug> {
        let bug = name.parse()?;
        CHOSEN.store(bug as u32, Ordering::Relaxed);
        Ok(bug)
    }

    /// Plants nothing any more.
    pub fn clear() {
        CHOSEN.store(0, Ordering::Relaxed);
    }

    impl Bug {
        /// Every bug.
        pub const ALL: [Self; 12] = [
            Self::AckBeforeSync,
            Self::MergeDropsConcurrentSibling,
            Self::OkAtWMinusOne,
            Self::IncarnationKeptAfterCleanStop,
            Self::DuplicateAppliedWithoutW,
            Self::NotAppliedAfterUnknown,
            Self::NoRewriteAtStart,
            Self::FramesWithoutIncarnation,
            Self::EngineFedBeyondDurable,
            Self::DotFromDurableView,
            Self::RetryForgetsOpId,
            Self::PlacementOrderDiffers,
        ];

        /// Its short code, such as `M4`.
        #[must_use]
        pub const fn code(self) -> &'static str {
            match self {
                Self::AckBeforeSync => "M1",
                Self::MergeDropsConcurrentSibling => "M4",
                Self::OkAtWMinusOne => "M10",
                Self::IncarnationKeptAfterCleanStop => "V1",
                Self::DuplicateAppliedWithoutW => "V8",
                Self::NotAppliedAfterUnknown => "O1",
                Self::NoRewriteAtStart => "L1",
                Self::FramesWithoutIncarnation => "L2",
                Self::EngineFedBeyondDurable => "L5",
                Self::DotFromDurableView => "D1",
                Self::RetryForgetsOpId => "R1",
                Self::PlacementOrderDiffers => "P1",
            }
        }
    }

    impl FromStr for Bug {
        type Err = UnknownBug;

        fn from_str(name: &str) -> Result<Self, UnknownBug> {
            let named = |bug: &Self| bug.code() == name || format!("{bug:?}") == name;
            let unknown = || UnknownBug {
                name: name.chars().take(64).collect(),
            };
            Self::ALL.into_iter().find(named).ok_or_else(unknown)
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn bugs_are_named_by_code_and_by_name() {
            for bug in Bug::ALL {
                assert_eq!(bug.code().parse(), Ok(bug));
                assert_eq!(format!("{bug:?}").parse(), Ok(bug));
            }
            assert!("M99".parse::<Bug>().is_err());
        }
    }
}
