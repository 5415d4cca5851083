//! Pruned records against an explicit causal history: nothing is lost and nothing comes back where
//! all owners leave out in numbered rounds, and it does where each leaves out by itself.

mod model;

use std::collections::BTreeMap;
use std::panic::catch_unwind;

use model::{Extra, Pruning, Step, World};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, proptest};

const fn extra(damage: bool) -> Extra {
    if damage {
        Extra::Damage
    } else {
        Extra::ReadsAtOne
    }
}

/// Runs the steps, and judges after each.
fn judged(extra: Extra, pruning: Pruning, steps: &[Step]) -> World {
    let mut world = World::with_pruning(extra, pruning);
    for step in steps {
        world.step(*step);
        world.assert_nothing_single_is_back_anywhere();
    }
    let held = world.converge();
    world.assert_nothing_acknowledged_is_lost(&held);
    world.assert_nothing_dominated_is_back(&held, steps.len() > 150);
    world
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 192,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// P1, P7, P12: in histories in which no id is evicted, twins are no excuse.
    #[test]
    fn pruning_in_rounds_loses_no_sibling_and_revives_none(
        damage in any::<bool>(),
        steps in vec(any::<Step>(), 1..150),
    ) {
        judged(extra(damage), Pruning::InRounds, &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 12,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn long_histories_with_many_rounds_lose_and_revive_nothing(
        damage in any::<bool>(),
        steps in vec(any::<Step>(), 600..1_200),
    ) {
        judged(extra(damage), Pruning::InRounds, &steps);
    }
}

fn drawn(state: &mut u64, count: usize) -> Vec<Step> {
    let mut next = || {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let [a, b, c, d, ..] = state.to_be_bytes();
        (a, b, c, d)
    };
    (0..count).map(|_| next()).collect()
}

/// A model in which nothing is pruned proves nothing, and neither does one that finds nothing.
#[test]
fn p7_what_an_owner_leaves_out_by_itself_comes_back() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut state = 7;
    for _ in 0..10 {
        let steps = drawn(&mut state, 900);
        let world = judged(Extra::ReadsAtOne, Pruning::InRounds, &steps);
        for (what, count) in world.seen {
            *seen.entry(what).or_default() += count;
        }
    }
    for what in ["joined", "pruned", "refused"] {
        let count = seen.get(what).copied().unwrap_or_default();
        assert!(count > 10, "{what}: {seen:?}");
    }
    let is_found = |state: &mut u64| {
        let steps = drawn(state, 900);
        catch_unwind(|| judged(Extra::ReadsAtOne, Pruning::ByThemselves, &steps)).is_err()
    };
    let found = (0..5).filter(|_| is_found(&mut state)).count();
    assert!(found > 0, "no operation came back");
}
