//! A few fixed seeds of the simulator in every test run. Seeds that once failed have names.

use quorate_tests::sim::{RunOptions, run_seed};

fn passes(seed: u64) {
    let report = run_seed(seed, RunOptions::default());
    assert!(report.passed(), "{}", report.failure(""));
    assert!(report.operations >= 500, "{} operations", report.operations);
    assert!(report.simulated.as_secs() >= 60, "{:?}", report.simulated);
}

#[test]
fn fixed_seeds_pass() {
    (0..4).for_each(passes);
}

#[test]
fn one_seed_twice_gives_the_same_trace() {
    for seed in [1, 5] {
        let first = run_seed(seed, RunOptions::default());
        let second = run_seed(seed, RunOptions::default());
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
}

/// A keyspace with last write wins while the clocks of nodes and clients jump by up to an hour
/// (V11).
#[test]
fn acknowledged_lww_writes_are_never_silently_older_though_clocks_jump() {
    passes(14);
}

/// Values that expire, and one node whose clock jumps by up to an hour (V12).
#[test]
fn expiry_drops_nothing_by_a_bad_clock() {
    passes(35);
}

/// A node that is killed again and again while its memory holds what it acknowledged (C7).
#[test]
fn what_memory_forgot_is_not_missed_by_a_quorum() {
    passes(12);
}

/// Many puts waited for a node that did not count yet; each armed more than one timer, and each
/// timer armed more again, until nothing but timers ran.
#[test]
fn waiting_for_a_replica_to_count_costs_one_timer() {
    passes(2);
}

/// A node that starts with more log than lets it take a write must feed the engine first; it
/// refused every write for ever.
#[test]
fn a_start_with_a_long_log_takes_writes_again() {
    passes(4);
}

/// A disk stood still for eight seconds from shortly before the end of all faults: a fault ends
/// with the others, for what it holds already too.
#[test]
fn a_disk_that_stands_still_goes_on_when_the_faults_end() {
    passes(1021);
}

/// The digest file of a checkpoint met a full disk: the feed waits, the node goes on.
#[test]
fn a_full_disk_does_not_end_the_feed() {
    passes(232);
}

/// A record had left memory again when the round that it was brought in for looked at it: taken for
/// one that is not crowded, it was never pruned.
#[test]
fn a_crowded_record_that_leaves_memory_is_pruned_by_a_later_round() {
    passes(605);
}

/// Operations were left out of a record by two owners and not by the third, and nothing but hints
/// brought copies together: that is no write, and not for hints to mend.
#[test]
fn what_a_round_left_out_at_two_owners_is_not_for_hints_to_mend() {
    passes(1319);
}

/// A round left operations out of a record while one node after the other was looked at last, where
/// nobody had waited for its end.
#[test]
fn a_round_may_end_while_copies_are_looked_at() {
    passes(1680);
}

/// A delete was told that it was superseded, and its deadline passed while it was written again: it
/// took effect all the same, and all traces of it were purged.
#[test]
fn a_delete_that_was_written_again_after_its_answer_may_have_been_purged() {
    passes(1623);
}
