//! Whatever is read was written, at that key, by a write that may be applied, and is there once.
//!
//! Invariants I2 and I3, the promise of op ids, and the deadline of every operation (I22).

use std::collections::BTreeSet;

use super::history::{History, KeyIndex, OpIndex, Outcome};
use super::violation::Violation;

/// Judges every read of the history, and the final values per key in `found`.
///
/// `slack_us` is how much later than its deadline an operation's end may be noted.
#[must_use]
pub fn check_outcomes(
    history: &History,
    found: &[(KeyIndex, Vec<OpIndex>)],
    slack_us: u64,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, op) in history.operations() {
        let late = match &op.ending {
            Some(ending) => ending.at_us.saturating_sub(op.invoked_us + op.deadline_us),
            None => u64::MAX,
        };
        if late > slack_us {
            violations.push(Violation::Late {
                op: index,
                late_ms: late / 1000,
            });
        }
        let Some(ending) = &op.ending else { continue };
        let place = format!("in read {} at {} ms", index.0, ending.at_us / 1000);
        let values = &ending.returned.values;
        violations.extend(judge(history, op.key, values, ending.event, &place));
        violations.extend(
            ending
                .returned
                .altered
                .iter()
                .map(|text| Violation::Phantom {
                    key: history.key_name(op.key).to_owned(),
                    what: format!("bytes that nobody wrote: {text}"),
                    place: place.clone(),
                }),
        );
    }
    for (key, values) in found {
        violations.extend(judge(history, *key, values, u64::MAX, "at the end"));
    }
    violations
}

/// Judges values that were seen at `key` until event `seen`.
fn judge(
    history: &History,
    key: KeyIndex,
    values: &[OpIndex],
    seen: u64,
    place: &str,
) -> Vec<Violation> {
    let name = || history.key_name(key).to_owned();
    let phantom = |what: String| Violation::Phantom {
        key: name(),
        what,
        place: place.to_owned(),
    };
    let mut violations = Vec::new();
    let mut once = BTreeSet::new();
    for &write in values {
        if !once.insert(write) {
            violations.push(Violation::Twin {
                key: name(),
                write,
                place: place.to_owned(),
            });
            continue;
        }
        match history.operation(write) {
            Some(op) if !op.is_write() || op.is_delete() => {
                violations.push(phantom(format!("operation {} wrote no value", write.0)));
            }
            Some(op) if op.key != key => {
                let other = history.key_name(op.key);
                violations.push(phantom(format!("value {} was written to {other}", write.0)));
            }
            Some(op) if op.invoked_event > seen => {
                violations.push(phantom(format!("value {} was not written yet", write.0)));
            }
            Some(op) if op.outcome() == Outcome::Fail => violations.push(Violation::FailVisible {
                key: name(),
                write,
                place: place.to_owned(),
            }),
            Some(_) => {}
            None => violations.push(phantom(format!("value {} was never written", write.0))),
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::history::planted::Planted;
    use super::*;

    fn check(run: &Planted) -> Vec<Violation> {
        check_outcomes(&run.history, &[], 0)
    }

    #[test]
    fn a_write_that_was_not_applied_is_never_seen() {
        let mut run = Planted::new();
        let a = run.put(None, Outcome::Fail);
        assert_eq!(check(&run), []);
        run.get(&[a]);
        assert!(matches!(check(&run)[..], [Violation::FailVisible { write, .. }] if write == a));
    }

    #[test]
    fn a_value_of_the_future_or_of_nobody_is_a_phantom() {
        let mut run = Planted::new();
        run.get(&[OpIndex(1)]);
        run.put(None, Outcome::Ok);
        run.get(&[OpIndex(99)]);
        assert!(matches!(
            check(&run)[..],
            [Violation::Phantom { .. }, Violation::Phantom { .. }]
        ));
    }

    #[test]
    fn one_write_is_never_two_siblings() {
        let mut run = Planted::new();
        let a = run.put(None, Outcome::Ok);
        run.get(&[a, a]);
        assert!(matches!(check(&run)[..], [Violation::Twin { write, .. }] if write == a));
    }

    #[test]
    fn an_operation_that_never_ended_is_late() {
        let mut run = Planted::new();
        let op = run.begin(super::super::Action::Get, None, 2);
        assert!(matches!(check(&run)[..], [Violation::Late { op: late, .. }] if late == op));
    }
}
