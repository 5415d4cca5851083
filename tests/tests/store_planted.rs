//! Each planted bug of the store is caught by a run that a healthy store passes.
//!
//! One test in a process of its own: a planted bug is planted for the whole process.
#![cfg(feature = "planted-bugs")]
#![expect(clippy::panic, reason = "a test that went another way ends")]

use std::time::Duration;

use bytes::Bytes;
use quorate_node::shell::store::OpenError;
use quorate_ring::planted::{Bug, plant};
use quorate_tests::sim::lab::{Lab, Model, Running, digests_of, key};
use quorate_tests::sim::{Crash, DiskFaults};

const SMALL_SEGMENT: u64 = 160 << 10;
const NONE: Model = Model::new();

fn large(text: &str) -> Bytes {
    Bytes::from(format!("{text}{}", "x".repeat(2600)))
}

async fn open(lab: &mut Lab) -> Running {
    lab.open().await.expect("the store opens")
}

/// Whether the store opens and holds `want`.
async fn holds(lab: &mut Lab, want: &Model) -> bool {
    match lab.open().await {
        Ok(store) => store.model == *want && store.digests == digests_of(want),
        Err(OpenError::Damaged { .. }) => false,
        Err(error) => panic!("refused for another reason: {error}"),
    }
}

/// A failed sync, a restart that shows what the page cache has, a power loss.
async fn what_is_shown_survives(lab: &mut Lab) -> bool {
    let mut store = open(lab).await;
    store
        .put(key(1), large("one"), &NONE)
        .await
        .expect("durable");
    lab.disk.set_faults(DiskFaults {
        sync_error_ppm: 1_000_000,
        ..DiskFaults::default()
    });
    let lsn = store.submit(&[(key(2), large("two")), (key(3), large("three"))], &NONE);
    assert!(store.wait_durable(lsn).await.is_err());
    lab.crash(store, Crash::Kill);
    lab.disk.set_faults(DiskFaults {
        drop_all_unsynced: true,
        ..DiskFaults::default()
    });
    let store = open(lab).await;
    let shown = store.model.clone();
    lab.crash(store, Crash::Power);
    holds(lab, &shown).await
}

/// A tail is cut; what follows the cut in the old incarnation lines up with what is written anew.
async fn old_frames_stay_dead(lab: &mut Lab) -> bool {
    let mut store = open(lab).await;
    store
        .put(key(1), large("one"), &NONE)
        .await
        .expect("durable");
    lab.disk.set_faults(DiskFaults {
        sync_error_ppm: 1_000_000,
        ..DiskFaults::default()
    });
    let group = [2, 3, 4].map(|n| (key(n), large("old")));
    let lsn = store.submit(&group, &NONE);
    assert!(store.wait_durable(lsn).await.is_err());
    lab.crash(store, Crash::Kill);
    lab.disk.set_faults(DiskFaults::default());
    let names = lab.disk.names();
    let segment = names
        .iter()
        .find(|name| name.starts_with("log-"))
        .expect("there is one");
    // Header, start frame, first record; then the group.
    lab.disk.overwrite(segment, 3 * 4096, &[0; 4096]);
    let mut store = open(lab).await;
    assert_eq!(store.model.len(), 1, "the tail was cut");
    store
        .put(key(4), large("new"), &NONE)
        .await
        .expect("durable");
    let want = store.model.clone();
    lab.crash(store, Crash::Kill);
    holds(lab, &want).await
}

/// Incarnations of two starts with a clean stop between them.
async fn incarnations_differ(lab: &mut Lab) -> bool {
    let store = open(lab).await;
    let first = store.recovered.incarnation;
    store.stop().await;
    let second = open(lab).await;
    first != second.recovered.incarnation
}

/// A power loss right after an acknowledgement.
async fn acknowledged_means_durable(lab: &mut Lab) -> bool {
    let mut store = open(lab).await;
    lab.disk.set_faults(DiskFaults {
        drop_all_unsynced: true,
        latency_max: Duration::from_millis(20),
        ..DiskFaults::default()
    });
    store
        .put(key(1), large("one"), &NONE)
        .await
        .expect("acknowledged");
    let want = store.model.clone();
    lab.crash(store, Crash::Power);
    holds(lab, &want).await
}

/// Writes until the log takes no more, and starts on it again and again.
async fn a_full_log_starts_again(lab: &mut Lab) -> bool {
    lab.config.segment_bytes = SMALL_SEGMENT;
    lab.config.first_segment_bytes = SMALL_SEGMENT;
    lab.config.segments_max = 2;
    let mut store = open(lab).await;
    let mut acked = 0;
    for n in 0..200 {
        let lsn = store.submit(&[(key(n), large("value"))], &NONE);
        let wait = tokio::time::timeout(Duration::from_secs(5), store.wait_durable(lsn));
        if wait.await.is_err() {
            break;
        }
        acked += 1;
    }
    lab.crash(store, Crash::Kill);
    let files = lab.disk.names().len();
    for _ in 0..4 {
        // With no room for a start frame it waits for ever.
        let opened = tokio::time::timeout(Duration::from_secs(60), lab.open()).await;
        let Ok(Ok(store)) = opened else {
            return false;
        };
        if store.model.len() != acked {
            return false;
        }
        lab.crash(store, Crash::Kill);
    }
    // Nor may a start take more than the log was given.
    lab.disk.names().len() == files
}

async fn passes(bug: Bug, seed: u64) -> bool {
    let mut lab = Lab::new(seed);
    match bug {
        Bug::NoRewriteAtStart => what_is_shown_survives(&mut lab).await,
        Bug::FramesOfAnyIncarnation => old_frames_stay_dead(&mut lab).await,
        Bug::IncarnationKept => incarnations_differ(&mut lab).await,
        Bug::AckBeforeSync => acknowledged_means_durable(&mut lab).await,
        Bug::NoReserve => a_full_log_starts_again(&mut lab).await,
        Bug::MergeDropsSibling
        | Bug::OkAtWMinusOne
        | Bug::DuplicateAppliedAtOnce
        | Bug::OutcomeOfLastAttempt
        | Bug::EngineFedAhead
        | Bug::DotFromDurableView
        | Bug::RetryForgetsOpId
        | Bug::PlacementOrder
        | Bug::RetryStampsAnew
        | Bug::ExpiryByBadClock
        | Bug::ForgetfulMemoryCounts
        | Bug::SupersededNotTold
        | Bug::HedgeForgetsOpId
        | Bug::DigestOfTheKeyAlone
        | Bug::ContextNotLookedFor
        | Bug::BaseNotCompared
        | Bug::LeftDigestKept
        | Bug::ExchangeSkipsBuckets
        | Bug::AmnesiacCounts
        | Bug::HealsFromOneOwner
        | Bug::HintEndsWhenSent
        | Bug::PurgesWithoutAll
        | Bug::LateRecordTaken
        | Bug::OutdatedCopyKept
        | Bug::PresentLifeCompared
        | Bug::PrunesOutsideRounds
        | Bug::FlaggedPrunedEarly
        | Bug::FallbackClaimsVector
        | Bug::GuestDropped
        | Bug::FallbackNotDrained
        | Bug::RepairWritesOlder
        | Bug::ScanSkipsPageBoundary
        | Bug::ScanStaleRowWins
        | Bug::BatchAnswersByEnd
        | Bug::HoldingsNeverFall
        | Bug::ResolveWithoutQuorum
        | Bug::SessionReadIgnoresRequirement => panic!("no bug of the store"),
    }
}

#[tokio::test(start_paused = true)]
async fn each_planted_bug_is_caught_and_a_healthy_store_passes() {
    let bugs = [
        Bug::NoRewriteAtStart,
        Bug::FramesOfAnyIncarnation,
        Bug::IncarnationKept,
        Bug::AckBeforeSync,
        Bug::NoReserve,
    ];
    for bug in bugs {
        for seed in 0..5 {
            assert!(
                passes(bug, seed).await,
                "healthy, {}, seed {seed}",
                bug.name()
            );
        }
        plant(Some(bug));
        let mut caught = 0;
        for seed in 0..5 {
            caught += usize::from(!passes(bug, seed).await);
        }
        plant(None);
        assert!(caught > 0, "{} was not caught", bug.name());
    }
}
