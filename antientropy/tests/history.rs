//! Replicas against an explicit causal history, over states that can be reached.

mod model;

use std::collections::BTreeMap;

use model::{Extra, Step, World};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use quorate_antientropy::{MergeResult, Record};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn extra(damage: bool) -> Extra {
    if damage {
        Extra::Damage
    } else {
        Extra::ReadsAtOne
    }
}

fn pick(world: &World, at: usize) -> &Record {
    world
        .reached
        .get(at % world.reached.len())
        .expect("taken modulo the length")
}

proptest! {
    #![proptest_config(config(256))]

    /// No id is evicted in histories this short, so twins are no excuse.
    #[test]
    fn replicas_converge_and_neither_lose_nor_revive(damage in any::<bool>(),
        steps in vec(any::<Step>(), 1..150),) {
        let mut world = World::new(extra(damage));
        for step in &steps {
            world.step(*step);
            world.assert_nothing_single_is_back_anywhere();
        }
        let held = world.converge();
        world.assert_nothing_acknowledged_is_lost(&held);
        world.assert_nothing_dominated_is_back(&held, false);
    }

    /// Merging ignores order, grouping and repetition (arXiv:1011.5808).
    #[test]
    fn join_of_dots_is_a_join(
        damage in any::<bool>(),
        steps in vec(any::<Step>(), 1..120),
        picks in any::<(usize, usize, usize)>(),
    ) {
        let world = World::run(extra(damage), &steps);
        let (a, b, c) = (pick(&world, picks.0), pick(&world, picks.1), pick(&world, picks.2));
        prop_assert_eq!(a.join(b), b.join(a));
        prop_assert_eq!(a.join(&b.join(c)), a.join(b).join(c));
        prop_assert_eq!(&a.join(a), a);
    }

    /// With absorb it still is one, as long as no id is evicted.
    #[test]
    fn merge_is_a_join_while_no_id_is_evicted(
        damage in any::<bool>(),
        steps in vec(any::<Step>(), 1..120),
        picks in any::<(usize, usize, usize)>(),
    ) {
        let world = World::run(extra(damage), &steps);
        let (a, b, c) = (pick(&world, picks.0), pick(&world, picks.1), pick(&world, picks.2));
        prop_assert_eq!(a.merged(b), b.merged(a));
        prop_assert_eq!(a.merged(&b.merged(c)), a.merged(b).merged(c));
        prop_assert_eq!(&a.merged(a), a);
    }

    /// Absorb only moves a record up: the merge holds both sides and their join.
    #[test]
    fn merge_holds_all_that_went_into_it(
        damage in any::<bool>(),
        steps in vec(any::<Step>(), 1..120),
        picks in any::<(usize, usize)>(),
    ) {
        let world = World::run(extra(damage), &steps);
        let (a, b) = (pick(&world, picks.0), pick(&world, picks.1));
        let merged = a.merged(b);
        prop_assert!(merged.holds_all_of(a) && merged.holds_all_of(b));
        prop_assert_eq!(merged.join(&a.join(b)), merged);
    }

    /// The verdict of `merge` agrees with the record that `merged` makes.
    #[test]
    fn short_cuts_of_the_merge_change_nothing(
        damage in any::<bool>(),
        steps in vec(any::<Step>(), 1..120),
        picks in any::<(usize, usize)>(),
    ) {
        let world = World::run(extra(damage), &steps);
        let (a, b) = (pick(&world, picks.0), pick(&world, picks.1));
        match a.merge(b) {
            MergeResult::Unchanged => prop_assert_eq!(&a.join(b), a),
            MergeResult::TookOther => prop_assert_eq!(&a.join(b), b),
            MergeResult::Merged(both) => {
                prop_assert!(both != *a && both != *b);
            }
        }
    }

    /// What is reached is canonical, and comes back from its bytes.
    #[test]
    fn reached_records_survive_their_encoding(damage in any::<bool>(),
        steps in vec(any::<Step>(), 1..120),) {
        let world = World::run(extra(damage), &steps);
        for record in &world.reached {
            let bytes = record.to_bytes();
            prop_assert_eq!(bytes.len(), record.encoded_len());
            prop_assert_eq!(&Record::decode(&bytes).expect("just encoded"), record);
        }
    }
}

proptest! {
    #![proptest_config(config(24))]

    /// Long enough to evict ids: only operations with two dots may come back, nothing is lost,
    /// the replicas still converge, and the join of dots is still one.
    #[test]
    fn evicted_ids_excuse_twins_and_nothing_else(
        damage in any::<bool>(),
        steps in vec(any::<Step>(), 600..1_200),
        picks in any::<(usize, usize, usize)>(),
    ) {
        let mut world = World::new(extra(damage));
        for step in &steps {
            world.step(*step);
        }
        world.assert_nothing_single_is_back_anywhere();
        let held = world.converge();
        world.assert_nothing_acknowledged_is_lost(&held);
        world.assert_nothing_dominated_is_back(&held, true);
        let (a, b, c) = (pick(&world, picks.0), pick(&world, picks.1), pick(&world, picks.2));
        prop_assert_eq!(a.join(&b.join(c)), a.join(b).join(c));
        prop_assert_eq!(a.merged(b), b.merged(a));
    }
}

/// A model in which nothing happens proves nothing.
#[test]
fn histories_reach_what_they_are_for() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()
    };
    let (mut evicting, mut siblings, mut twins) = (0, 0, 0);
    for damage in [false, true].repeat(10) {
        let steps: Vec<Step> = (0..900)
            .map(|_| {
                let [a, b, c, d, ..] = next();
                (a, b, c, d)
            })
            .collect();
        let world = World::run(extra(damage), &steps);
        for (what, count) in &world.seen {
            *seen.entry(what).or_default() += count;
        }
        evicting += usize::from(world.reached.iter().any(|r| r.superseded().is_full()));
        siblings = world
            .reached
            .iter()
            .map(|r| r.siblings().len())
            .max()
            .max(Some(siblings))
            .unwrap_or(0);
        twins += world
            .reached
            .iter()
            .filter(|r| r.siblings().iter().any(|s| s.mints().len() > 1))
            .count();
    }
    println!("{seen:?} evicting {evicting} siblings {siblings} twins {twins}");
    for what in [
        "acked",
        "duplicate",
        "twin minted",
        "read",
        "crash",
        "damage",
        "handed over",
        "frame lost",
        "looked further",
    ] {
        assert!(
            seen.get(what).is_some_and(|count| *count > 20),
            "{what}: {seen:?}"
        );
    }
    assert!(
        evicting > 5 && siblings > 5 && twins > 20,
        "{evicting} {siblings} {twins}"
    );
}
