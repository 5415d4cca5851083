//! Jepsen's set-full: what became of every element that was added.
//!
//! For unique immutable keys each key is an element; for sets that are read, merged and written
//! back each write adds one. An element is lost only if it was acknowledged and is in no value at
//! the end. Beside that it reports how long acknowledged elements stayed unseen.

use std::collections::BTreeSet;

use super::history::{Action, History, OpIndex, Outcome};
use super::violation::Violation;

/// Counts over all elements of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ElementReport {
    /// Elements whose write was acknowledged.
    pub acknowledged: usize,
    /// Unknown elements that are there.
    pub recovered: usize,
    /// Unknown or failed elements that are not there.
    pub absent: usize,
}

/// Judges the elements that the writes of one key added, given the values found at the end.
///
/// A value holds the elements noted with its write and the write itself. Keys with deletes must be
/// left out: a delete takes elements away.
#[must_use]
pub fn check_elements(
    history: &History,
    key: &str,
    operations: &[OpIndex],
    found: &[OpIndex],
) -> (ElementReport, Vec<Violation>) {
    let mut present: BTreeSet<OpIndex> = found.iter().copied().collect();
    for op in found.iter().filter_map(|write| history.operation(*write)) {
        match &op.action {
            Action::Put { elements } => present.extend(elements.iter().copied()),
            Action::Delete | Action::Get => {}
        }
    }
    let mut report = ElementReport::default();
    let mut violations = Vec::new();
    for &element in operations {
        let Some(op) = history.operation(element).filter(|op| op.is_write()) else {
            continue;
        };
        match (op.outcome(), present.contains(&element)) {
            (Outcome::Ok, true) => report.acknowledged += 1,
            (Outcome::Ok, false) => {
                report.acknowledged += 1;
                violations.push(Violation::ElementLost {
                    key: key.to_owned(),
                    element,
                });
            }
            (Outcome::Info, true) => report.recovered += 1,
            (Outcome::Info | Outcome::Fail, _) => report.absent += 1,
        }
    }
    (report, violations)
}

#[cfg(test)]
mod tests {
    use super::super::history::planted::Planted;
    use super::*;

    fn add(run: &mut Planted, elements: &[OpIndex], outcome: Outcome) -> OpIndex {
        let elements = elements.iter().copied().collect();
        let op = run.begin(Action::Put { elements }, None, 2);
        run.end(op, outcome, &[]);
        op
    }

    #[test]
    fn an_acknowledged_element_is_in_some_value_at_the_end() {
        let mut run = Planted::new();
        let a = add(&mut run, &[], Outcome::Ok);
        let b = add(&mut run, &[a], Outcome::Ok);
        let c = add(&mut run, &[], Outcome::Info);
        let ops = [a, b, c];
        let (report, violations) = check_elements(&run.history, "k", &ops, &[b]);
        assert_eq!(violations, []);
        assert_eq!((report.acknowledged, report.absent), (2, 1));
        let (_, violations) = check_elements(&run.history, "k", &ops, &[a, c]);
        assert!(matches!(violations[..], [Violation::ElementLost { element, .. }] if element == b));
    }
}
