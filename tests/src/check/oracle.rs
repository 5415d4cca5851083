//! The sibling oracle: what each key must and must not hold once everything has healed.
//!
//! Exact as far as clients can know: every acknowledged value is there or superseded by what is
//! there (or by a delete that may be applied); nothing superseded by an acknowledged write, or by
//! what is there, is there; every value belongs to a write that may be applied. Invariants I1, I6,
//! I8, I9 of the notes on testing.

use super::causal::{Expiring, KeyPasts, WriteSet};
use super::history::{History, OpIndex, Outcome};
use super::violation::Violation;

/// Judges the values that `key` holds at the end, at `at_us`; `operations` are all operations of
/// that key.
#[must_use]
pub fn check_final_siblings(
    history: &History,
    key: &str,
    operations: &[OpIndex],
    found: &[OpIndex],
    at_us: u64,
    expiring: Expiring,
) -> Vec<Violation> {
    let pasts = KeyPasts::follow(history, operations);
    let mut explained = pasts.closure(found);
    explained.extend(&pasts.past_of_deletes(u64::MAX));
    explained.extend(&pasts.past_of_expired(history, at_us, expiring));
    let mut violations = lost(history, key, &pasts, found, &explained);
    violations.extend(revived(history, key, &pasts, found));
    violations
}

fn lost(
    history: &History,
    key: &str,
    pasts: &KeyPasts,
    found: &[OpIndex],
    explained: &WriteSet,
) -> Vec<Violation> {
    let acknowledged = |write: &OpIndex| {
        history
            .operation(*write)
            .is_some_and(|op| !op.is_delete() && op.outcome() == Outcome::Ok)
    };
    let missing = pasts.writes().iter().enumerate();
    missing
        .filter(|(index, write)| acknowledged(write) && !explained.contains(*index))
        .map(|(_, write)| Violation::Lost {
            key: key.to_owned(),
            write: *write,
            found: format!("{:?}", found.iter().map(|w| w.0).collect::<Vec<_>>()),
        })
        .collect()
}

fn revived(history: &History, key: &str, pasts: &KeyPasts, found: &[OpIndex]) -> Vec<Violation> {
    let is_found = |write: &OpIndex| found.contains(write);
    let binding: Vec<OpIndex> = pasts
        .writes()
        .iter()
        .copied()
        .filter(|write| {
            let ok = history
                .operation(*write)
                .is_some_and(|op| op.outcome() == Outcome::Ok);
            ok || is_found(write)
        })
        .collect();
    found
        .iter()
        .filter_map(|write| {
            let by = pasts.superseder(pasts.index(*write)?, &binding)?;
            Some(Violation::Revived {
                key: key.to_owned(),
                write: *write,
                by,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::history::planted::Planted;
    use super::*;

    fn check(run: &Planted, found: &[OpIndex]) -> Vec<Violation> {
        let ops: Vec<OpIndex> = run.history.operations().map(|(i, _)| i).collect();
        check_final_siblings(&run.history, "k", &ops, found, 0, Expiring { skew_us: 0 })
    }

    #[test]
    fn an_acknowledged_value_that_is_gone_is_lost() {
        let mut run = Planted::new();
        let a = run.put(None, Outcome::Ok);
        let b = run.put(None, Outcome::Ok);
        assert_eq!(check(&run, &[a, b]), []);
        assert!(matches!(check(&run, &[b])[..], [Violation::Lost { write, .. }] if write == a));
    }

    #[test]
    fn an_unknown_value_may_be_there_or_not() {
        let mut run = Planted::new();
        let a = run.put(None, Outcome::Info);
        assert_eq!(check(&run, &[a]), []);
        assert_eq!(check(&run, &[]), []);
    }

    #[test]
    fn a_value_may_be_gone_only_if_what_superseded_it_is_there() {
        let mut run = Planted::new();
        let a = run.put(None, Outcome::Ok);
        let read = run.get(&[a]);
        let b = run.put(Some(read), Outcome::Info);
        assert_eq!(check(&run, &[b]), []);
        assert_eq!(check(&run, &[a]), []);
        assert!(matches!(check(&run, &[])[..], [Violation::Lost { write, .. }] if write == a));
    }

    #[test]
    fn a_superseded_value_beside_an_acknowledged_one_is_revived() {
        let mut run = Planted::new();
        let a = run.put(None, Outcome::Ok);
        let b = run.put(Some(a), Outcome::Ok);
        assert_eq!(check(&run, &[b]), []);
        let found = check(&run, &[a, b]);
        assert!(
            matches!(found[..], [Violation::Revived { write, by, .. }] if write == a && by == b)
        );
    }

    #[test]
    fn a_value_comes_back_from_an_acknowledged_delete_only_as_a_violation() {
        let mut run = Planted::new();
        let a = run.put(None, Outcome::Ok);
        let read = run.get(&[a]);
        run.delete(Some(read), Outcome::Ok);
        assert_eq!(check(&run, &[]), []);
        assert!(matches!(check(&run, &[a])[..], [Violation::Revived { .. }]));
    }

    #[test]
    fn an_unknown_delete_excuses_what_it_saw_and_nothing_else() {
        let mut run = Planted::new();
        let a = run.put(None, Outcome::Ok);
        let read = run.get(&[a]);
        let b = run.put(None, Outcome::Ok);
        run.delete(Some(read), Outcome::Info);
        assert_eq!(check(&run, &[b]), []);
        assert_eq!(check(&run, &[a, b]), []);
        assert!(matches!(check(&run, &[a])[..], [Violation::Lost { write, .. }] if write == b));
    }

    #[test]
    fn a_failed_delete_excuses_nothing() {
        let mut run = Planted::new();
        let a = run.put(None, Outcome::Ok);
        let read = run.get(&[a]);
        run.delete(Some(read), Outcome::Fail);
        assert!(matches!(check(&run, &[])[..], [Violation::Lost { write, .. }] if write == a));
    }

    #[test]
    fn a_put_on_a_put_reply_does_not_supersede_siblings_it_never_saw() {
        // V9: `other` came between; the reply of `first` must not cover it.
        let mut run = Planted::new();
        let other = run.put(None, Outcome::Ok);
        let first = run.put(None, Outcome::Ok);
        let second = run.put(Some(first), Outcome::Ok);
        assert_eq!(check(&run, &[other, second]), []);
        assert!(
            matches!(check(&run, &[second])[..], [Violation::Lost { write, .. }] if write == other)
        );
    }
}
