//! Bugs chosen by name at run time, to prove that the simulator and its checkers find them.
//!
//! Without the feature `planted-bugs` every question is a constant `false` and the names are not in
//! the binary. The crate `quorate-node` refuses to build its binary with the feature.

/// A rule that can be left out. The names are those of the notes on counterexamples and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Bug {
    /// M1: an acknowledgement leaves before the sync.
    AckBeforeSync = 1,
    /// M4: the merge drops a concurrent sibling.
    MergeDropsSibling,
    /// M10: a write is answered with one acknowledgement too few.
    OkAtWMinusOne,
    /// V1: the incarnation is kept after a clean stop.
    IncarnationKept,
    /// V8: a duplicate attempt is answered *applied* at once.
    DuplicateAppliedAtOnce,
    /// O1: the outcome of the last attempt alone is told.
    OutcomeOfLastAttempt,
    /// L1: nothing is rewritten at start.
    NoRewriteAtStart,
    /// L2: frames of any incarnation are accepted after a start frame.
    FramesOfAnyIncarnation,
    /// L5: the engine is fed states that are not durable.
    EngineFedAhead,
    /// A dot is minted from the durable view instead of the newest.
    DotFromDurableView,
    /// A retry goes out under a new op id.
    RetryForgetsOpId,
    /// A coordinator takes the owners in an order of its own and so other primaries.
    PlacementOrder,
    /// A resolve answers *applied* as soon as one replica knows the operation.
    ResolveWithoutQuorum,
    /// A session's read is answered though it does not cover what the session has seen.
    SessionReadIgnoresRequirement,
    /// V11: each attempt of an operation is stamped anew.
    RetryStampsAnew,
    /// V12: expiry acts by a clock that is far off.
    ExpiryByBadClock,
    /// C7: a node that may have forgotten what memory keyspaces acknowledged counts for them.
    ForgetfulMemoryCounts,
    /// A write that met a higher stamp is not told so.
    SupersededNotTold,
    /// A scan goes on behind the first key of its next page.
    ScanSkipsPageBoundary,
    /// A page shows what the engine holds where the table holds something newer.
    ScanStaleRowWins,
    /// The items of a batch are answered in the order in which they end.
    BatchAnswersByEnd,
    /// An overwritten record is not taken out of what a node says that it holds.
    HoldingsNeverFall,
    /// M3: read repair writes the older record.
    RepairWritesOlder,
    /// A hedge goes out under a new op id.
    HedgeForgetsOpId,
    /// A replica says that it holds what the coordinator knows without comparing the records.
    DigestOfTheKeyAlone,
    /// A coordinator takes a context for known without looking.
    ContextNotLookedFor,
    /// A replica takes a record unmerged without looking whether it holds what that was made on.
    BaseNotCompared,
    /// The digest of a record that left memory is kept when a newer one leaves.
    LeftDigestKept,
    /// M8: anti-entropy leaves out some buckets.
    ExchangeSkipsBuckets,
    /// C2: a node that forgot what it acknowledged from disk counts at once.
    AmnesiacCounts,
    /// C4: a node that forgot counts once it was compared with one owner.
    HealsFromOneOwner,
    /// M7: a hint is forgotten when it is sent.
    HintEndsWhenSent,
    /// M6: deleted keys are purged without the owners that are away.
    PurgesWithoutAll,
    /// P1: a record that was read before a purge may change what is behind it.
    LateRecordTaken,
    /// P11: a copy from before a purge gets the numbers of those behind it.
    OutdatedCopyKept,
    /// C1: what peers remember of earlier lives of a node is not compared with its log.
    PresentLifeCompared,
    /// L8: users' frames fill the log to its end. A test of the store is to find it.
    NoReserve,
    /// P7: a node leaves what it thinks ended out of a context by itself.
    PrunesOutsideRounds,
    /// P12: flagged operations are forgotten while they may still be tried.
    FlaggedPrunedEarly,
    /// V4: a fallback claims with its dot all that it minted for the key before.
    FallbackClaimsVector,
    /// P9: what a fallback holds, and was counted, is let go after a while.
    GuestDropped,
    /// P10: purge rounds do not ask fallbacks.
    FallbackNotDrained,
}

impl Bug {
    /// Every bug that the simulator is to find.
    pub const ALL: &'static [Self] = &[
        Self::AckBeforeSync,
        Self::MergeDropsSibling,
        Self::OkAtWMinusOne,
        Self::IncarnationKept,
        Self::DuplicateAppliedAtOnce,
        Self::OutcomeOfLastAttempt,
        Self::NoRewriteAtStart,
        Self::FramesOfAnyIncarnation,
        Self::EngineFedAhead,
        Self::DotFromDurableView,
        Self::RetryForgetsOpId,
        Self::PlacementOrder,
        Self::ResolveWithoutQuorum,
        Self::SessionReadIgnoresRequirement,
        Self::RetryStampsAnew,
        Self::ExpiryByBadClock,
        Self::ForgetfulMemoryCounts,
        Self::SupersededNotTold,
        Self::ScanSkipsPageBoundary,
        Self::ScanStaleRowWins,
        Self::BatchAnswersByEnd,
        Self::HoldingsNeverFall,
        Self::RepairWritesOlder,
        Self::HedgeForgetsOpId,
        Self::DigestOfTheKeyAlone,
        Self::ContextNotLookedFor,
        Self::BaseNotCompared,
        Self::LeftDigestKept,
        Self::ExchangeSkipsBuckets,
        Self::AmnesiacCounts,
        Self::HealsFromOneOwner,
        Self::HintEndsWhenSent,
        Self::PurgesWithoutAll,
        Self::LateRecordTaken,
        Self::OutdatedCopyKept,
        Self::PresentLifeCompared,
        Self::PrunesOutsideRounds,
        Self::FlaggedPrunedEarly,
        Self::FallbackClaimsVector,
        Self::GuestDropped,
        Self::FallbackNotDrained,
    ];

    /// The name by which it is chosen.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeSync => "m1-ack-before-sync",
            Self::MergeDropsSibling => "m4-merge-drops-sibling",
            Self::OkAtWMinusOne => "m10-ok-at-w-minus-one",
            Self::IncarnationKept => "v1-incarnation-kept",
            Self::DuplicateAppliedAtOnce => "v8-duplicate-applied-at-once",
            Self::OutcomeOfLastAttempt => "o1-outcome-of-last-attempt",
            Self::NoRewriteAtStart => "l1-no-rewrite-at-start",
            Self::FramesOfAnyIncarnation => "l2-frames-of-any-incarnation",
            Self::EngineFedAhead => "l5-engine-fed-ahead",
            Self::DotFromDurableView => "dot-from-durable-view",
            Self::RetryForgetsOpId => "retry-forgets-op-id",
            Self::PlacementOrder => "placement-order",
            Self::ResolveWithoutQuorum => "resolve-without-quorum",
            Self::SessionReadIgnoresRequirement => "session-read-ignores-requirement",
            Self::RetryStampsAnew => "v11-retry-stamps-anew",
            Self::ExpiryByBadClock => "v12-expiry-by-bad-clock",
            Self::ForgetfulMemoryCounts => "c7-forgetful-memory-counts",
            Self::SupersededNotTold => "superseded-not-told",
            Self::ScanSkipsPageBoundary => "scan-skips-page-boundary",
            Self::ScanStaleRowWins => "scan-stale-row-wins",
            Self::BatchAnswersByEnd => "batch-answers-by-end",
            Self::HoldingsNeverFall => "holdings-never-fall",
            Self::RepairWritesOlder => "m3-repair-writes-older",
            Self::HedgeForgetsOpId => "hedge-forgets-op-id",
            Self::DigestOfTheKeyAlone => "digest-of-the-key-alone",
            Self::ContextNotLookedFor => "context-not-looked-for",
            Self::BaseNotCompared => "base-not-compared",
            Self::LeftDigestKept => "left-digest-kept",
            Self::ExchangeSkipsBuckets => "exchange-skips-buckets",
            Self::AmnesiacCounts => "c2-amnesiac-counts",
            Self::HealsFromOneOwner => "c4-heals-from-one-owner",
            Self::HintEndsWhenSent => "m7-hint-ends-when-sent",
            Self::PurgesWithoutAll => "m6-purges-without-all",
            Self::LateRecordTaken => "p1-late-record-taken",
            Self::OutdatedCopyKept => "p11-outdated-copy-kept",
            Self::PresentLifeCompared => "c1-present-life-compared",
            Self::NoReserve => "l8-no-reserve",
            Self::PrunesOutsideRounds => "p7-prunes-outside-rounds",
            Self::FlaggedPrunedEarly => "p12-flagged-pruned-early",
            Self::FallbackClaimsVector => "v4-fallback-claims-vector",
            Self::GuestDropped => "p9-counted-hint-dropped",
            Self::FallbackNotDrained => "p10-fallback-not-drained",
        }
    }
}

#[cfg(feature = "planted-bugs")]
mod chosen {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Bug;

    static CHOSEN: AtomicU32 = AtomicU32::new(0);

    /// Plants `bug` in this process; `None` takes it out.
    pub fn plant(bug: Option<Bug>) {
        CHOSEN.store(bug.map_or(0, |bug| bug as u32), Ordering::Relaxed);
    }

    /// Whether `bug` is planted.
    #[must_use]
    pub fn planted(bug: Bug) -> bool {
        CHOSEN.load(Ordering::Relaxed) == bug as u32
    }
}

#[cfg(feature = "planted-bugs")]
pub use chosen::{plant, planted};

/// Whether `bug` is planted: never, in a build without the feature.
#[cfg(not(feature = "planted-bugs"))]
#[must_use]
#[inline]
pub const fn planted(_bug: Bug) -> bool {
    false
}
