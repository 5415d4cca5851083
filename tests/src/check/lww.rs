//! What an lww keyspace promises: an acknowledged write is never silently older than one that was
//! acknowledged before it began, and what is read is never older than what was acknowledged before.
//!
//! Stamps are what the SDK told. One rule does without them: a read that comes after an
//! acknowledged write, which was not told that it was superseded, does not show a write that had
//! ended before that one began. And one write is read under one stamp, unless it was written again
//! above a higher one: a retry that were stamped anew would come back from behind its superseder
//! (`counterexamples.md` V11).
//!
//! A scan tells no stamps. What it shows is judged by that rule alone, and where it shows nothing,
//! some delete must have been able to take away each acknowledged put.
//!
//! Of what was deleted long enough ago every trace may have been purged: what comes then may have a
//! lower stamp, or none.

use std::collections::BTreeMap;

use super::history::{History, OpIndex, Operation, Outcome};
use super::violation::Violation;

/// What the SDK told of an operation on an lww key beside its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LwwFacts {
    /// It may be written again under another stamp if it is superseded.
    pub writes_again: bool,
    /// Of a write its last stamp, of a read the stamp of what was read.
    pub stamp: Option<u64>,
    /// The write was applied and told that a higher stamp is there.
    pub superseded: bool,
    /// The read was part of a scan, which tells no stamp.
    pub unstamped: bool,
}

/// Judges all operations of one key of an lww keyspace, in which what was deleted is purged no
/// sooner than `purged_after_us` microseconds later; `None` = never.
#[must_use]
pub fn check_lww(
    history: &History,
    key: &str,
    operations: &[OpIndex],
    facts: &BTreeMap<OpIndex, LwwFacts>,
    purged_after_us: Option<u64>,
) -> Vec<Violation> {
    let of = |index: &OpIndex| history.operation(*index).map(|op| (*index, op));
    let deletes = operations.iter().filter_map(of);
    let deletes = deletes.filter(|(_, op)| op.is_delete() && op.outcome() != Outcome::Fail);
    let judge = Judge {
        history,
        key,
        facts,
        deletes: deletes.collect(),
        purged_after_us,
    };
    let ended = operations.iter().filter_map(of);
    let acknowledged = ended.filter(|(_, op)| op.outcome() == Outcome::Ok);
    let (writes, reads): (Vec<_>, Vec<_>) = acknowledged.partition(|(_, op)| op.is_write());
    let (scanned, reads): (Vec<_>, Vec<_>) = reads
        .into_iter()
        .partition(|(index, _)| judge.fact(*index).unstamped);
    let mut violations = judge.order(&writes);
    violations.extend(judge.reads(&writes, &reads));
    violations.extend(judge.scanned(&writes, &scanned));
    violations.extend(judge.one_stamp_each(&reads));
    violations
}

/// W14: a write of the wrong mode is always refused as *not applied*.
#[must_use]
pub fn check_wrong_mode(history: &History, key: &str, operations: &[OpIndex]) -> Vec<Violation> {
    let of = |index: &OpIndex| history.operation(*index).map(|op| (*index, op));
    let writes = operations
        .iter()
        .filter_map(of)
        .filter(|(_, op)| op.is_write());
    let refused = |op: &Operation| op.outcome() == Outcome::Fail;
    let wrong = writes.filter(|(_, op)| !refused(op));
    wrong
        .map(|(op, _)| Violation::WrongMode {
            key: key.to_owned(),
            op,
        })
        .collect()
}

type Ended<'a> = (OpIndex, &'a Operation);

struct Judge<'a> {
    history: &'a History,
    key: &'a str,
    facts: &'a BTreeMap<OpIndex, LwwFacts>,
    /// That may have taken effect.
    deletes: Vec<Ended<'a>>,
    purged_after_us: Option<u64>,
}

fn before(first: &Operation, second: &Operation) -> bool {
    first
        .ended_event()
        .is_some_and(|ended| ended < second.invoked_event)
}

fn ended_us(op: &Operation) -> u64 {
    op.ending.as_ref().map_or(u64::MAX, |ending| ending.at_us)
}

fn meet(one: &Operation, other: &Operation) -> bool {
    u32::from(one.replicas) + u32::from(other.replicas) > u32::from(one.copies)
}

impl Judge<'_> {
    fn fact(&self, op: OpIndex) -> LwwFacts {
        self.facts.get(&op).copied().unwrap_or_default()
    }

    /// Whether every trace of a write under `stamp` may have been purged at `at_us`: a delete that
    /// superseded it began long enough before. From then on lower stamps may be written and read.
    fn is_purged(&self, stamp: u64, at_us: u64) -> bool {
        let Some(after_us) = self.purged_after_us else {
            return false;
        };
        let supersedes = |index: OpIndex| {
            let fact = self.fact(index);
            // Told that a higher stamp is there, it may have been written again above that by an
            // attempt that nobody heard of any more.
            let is_above = fact.superseded && fact.writes_again;
            is_above || fact.stamp.is_none_or(|told| told >= stamp)
        };
        self.deletes
            .iter()
            .any(|(index, delete)| supersedes(*index) && delete.invoked_us + after_us <= at_us)
    }

    fn stamp(&self, op: OpIndex) -> u64 {
        self.fact(op).stamp.unwrap_or(0)
    }

    /// V11.
    fn order(&self, writes: &[Ended<'_>]) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (index, write) in writes {
            if self.fact(*index).superseded {
                continue;
            }
            let earlier = writes.iter().find(|(other, earlier)| {
                before(earlier, write)
                    && meet(earlier, write)
                    && self.stamp(*other) > self.stamp(*index)
                    && !self.is_purged(self.stamp(*other), ended_us(write))
            });
            if let Some((earlier, _)) = earlier {
                violations.push(Violation::SilentlyOlder {
                    key: self.key.to_owned(),
                    write: *index,
                    earlier: *earlier,
                });
            }
        }
        violations
    }

    fn reads(&self, writes: &[Ended<'_>], reads: &[Ended<'_>]) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (index, read) in reads {
            let known = writes.iter();
            let known = known.filter(|(_, write)| before(write, read) && meet(write, read));
            let missed = known
                .clone()
                .filter(|(write, _)| !self.is_purged(self.stamp(*write), ended_us(read)))
                .find(|(write, _)| self.stamp(*write) > self.stamp(*index));
            let behind = known.filter(|(write, _)| !self.fact(*write).superseded);
            let behind = behind
                .into_iter()
                .find(|(_, write)| self.shows_older(read, write));
            if let Some((write, _)) = missed.or(behind) {
                violations.push(Violation::Stale {
                    key: self.key.to_owned(),
                    read: *index,
                    write: *write,
                });
            }
            let earlier = reads.iter().find(|(other, earlier)| {
                before(earlier, read)
                    && earlier.is_majority()
                    && read.is_majority()
                    && self.stamp(*other) > self.stamp(*index)
                    && !self.is_purged(self.stamp(*other), ended_us(read))
            });
            if let Some((earlier, _)) = earlier {
                violations.push(Violation::NotMonotonic {
                    key: self.key.to_owned(),
                    read: *index,
                    earlier: *earlier,
                    write: *earlier,
                });
            }
        }
        violations
    }

    fn scanned(&self, writes: &[Ended<'_>], reads: &[Ended<'_>]) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (index, read) in reads {
            let ended = read.ended_event().unwrap_or(u64::MAX);
            let took_away = |put: &Operation| {
                let mut begun = self.deletes.iter().filter(|(_, d)| d.invoked_event < ended);
                // One that was acknowledged before would have been met by the put; of one whose
                // outcome is unknown a late copy may still be on its way.
                begun.any(|(_, delete)| {
                    let is_met = before(delete, put) && meet(delete, put);
                    delete.outcome() != Outcome::Ok || !is_met
                })
            };
            let shows_none = read.ending.iter().all(|e| e.returned.values.is_empty());
            let missed = writes.iter().find(|(other, write)| {
                let is_known = before(write, read) && meet(write, read);
                let is_lost = shows_none && !write.is_delete() && !took_away(write);
                is_known
                    && !self.fact(*other).superseded
                    && (is_lost || self.shows_older(read, write))
            });
            if let Some((write, _)) = missed {
                violations.push(Violation::Stale {
                    key: self.key.to_owned(),
                    read: *index,
                    write: *write,
                });
            }
        }
        violations
    }

    /// Whether the read shows a write that was acknowledged before `newer` began.
    fn shows_older(&self, read: &Operation, newer: &Operation) -> bool {
        let values = read.ending.iter().flat_map(|e| &e.returned.values);
        let mut shown = values.filter_map(|value| self.history.operation(*value));
        shown.any(|old| old.outcome() == Outcome::Ok && before(old, newer) && meet(old, newer))
    }

    fn one_stamp_each(&self, reads: &[Ended<'_>]) -> Vec<Violation> {
        let mut stamps: BTreeMap<OpIndex, u64> = BTreeMap::new();
        let mut violations = Vec::new();
        for (index, read) in reads {
            let values = read.ending.iter().flat_map(|e| &e.returned.values);
            for value in values.filter(|value| !self.fact(**value).writes_again) {
                let told = self.fact(*value).stamp;
                let first = stamps
                    .entry(*value)
                    .or_insert_with(|| told.unwrap_or(self.stamp(*index)));
                if *first != self.stamp(*index) {
                    violations.push(Violation::Restamped {
                        key: self.key.to_owned(),
                        write: *value,
                        read: *index,
                    });
                }
            }
        }
        violations
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::planted::Planted;
    use super::*;

    #[derive(Default)]
    struct Run {
        planted: Option<Planted>,
        facts: BTreeMap<OpIndex, LwwFacts>,
    }

    impl Run {
        fn run(&mut self) -> &mut Planted {
            self.planted.get_or_insert_with(Planted::new)
        }

        fn put(&mut self, stamp: u64, superseded: bool) -> OpIndex {
            let op = self.run().put(None, Outcome::Ok);
            self.note(op, stamp, superseded);
            op
        }

        fn get(&mut self, values: &[OpIndex], stamp: u64) -> OpIndex {
            let op = self.run().get(values);
            self.note(op, stamp, false);
            op
        }

        fn note(&mut self, op: OpIndex, stamp: u64, superseded: bool) {
            let fact = LwwFacts {
                writes_again: false,
                stamp: Some(stamp),
                superseded,
                unstamped: false,
            };
            self.facts.insert(op, fact);
        }

        fn scan(&mut self, values: &[OpIndex]) {
            let op = self.run().get(values);
            let fact = LwwFacts {
                unstamped: true,
                ..LwwFacts::default()
            };
            self.facts.insert(op, fact);
        }

        fn check(&mut self) -> Vec<Violation> {
            self.check_with(None)
        }

        fn check_with(&mut self, purged_after_us: Option<u64>) -> Vec<Violation> {
            let facts = self.facts.clone();
            let history = &self.run().history;
            let ops: Vec<OpIndex> = history.operations().map(|(i, _)| i).collect();
            check_lww(history, "k", &ops, &facts, purged_after_us)
        }
    }

    #[test]
    fn a_later_write_with_a_lower_stamp_must_have_been_told() {
        for (told, passes) in [(true, true), (false, false)] {
            let mut run = Run::default();
            run.put(20, false);
            run.put(10, told);
            assert_eq!(run.check().is_empty(), passes);
        }
    }

    #[test]
    fn a_read_is_not_older_than_what_was_acknowledged() {
        let mut run = Run::default();
        let a = run.put(10, false);
        let b = run.put(20, false);
        run.get(&[b], 20);
        assert_eq!(run.check(), []);
        run.get(&[a], 10);
        assert!(!run.check().is_empty());
    }

    /// A delete that was told of a put's higher stamp, and whose deadline passed while it was
    /// written again above that, may have taken the put away.
    #[test]
    fn what_may_have_been_deleted_again_above_it_may_have_been_purged() {
        for writes_again in [true, false] {
            let mut run = Run::default();
            run.put(20, false);
            let delete = run.run().delete(None, Outcome::Ok);
            let fact = LwwFacts {
                writes_again,
                stamp: Some(10),
                superseded: true,
                unstamped: false,
            };
            run.facts.insert(delete, fact);
            let nothing = run.run().get(&[]);
            run.facts.insert(nothing, LwwFacts::default());
            // Every trace of a delete is purged at once.
            assert_eq!(run.check_with(Some(0)).is_empty(), writes_again);
        }
    }

    #[test]
    fn an_older_value_is_stale_whatever_stamp_it_claims() {
        let mut run = Run::default();
        let a = run.put(10, false);
        let b = run.put(20, false);
        run.get(&[a], 30);
        let found = run.check();
        assert!(
            found
                .iter()
                .any(|v| matches!(v, Violation::Stale { write, .. } if *write == b))
        );
        assert!(
            found
                .iter()
                .any(|v| matches!(v, Violation::Restamped { write, .. } if *write == a))
        );
    }

    #[test]
    fn a_scan_shows_what_was_acknowledged_unless_a_delete_may_have_taken_it_away() {
        let mut run = Run::default();
        run.scan(&[]);
        let a = run.put(10, false);
        run.scan(&[a]);
        assert_eq!(run.check(), []);
        let b = run.put(20, false);
        run.scan(&[b]);
        assert_eq!(run.check(), []);
        let stale = |run: &mut Run| run.check().len();
        run.scan(&[a]);
        assert_eq!(stale(&mut run), 1, "an older value");
        run.scan(&[]);
        assert_eq!(stale(&mut run), 2, "nothing, and nobody deleted");
        let deleted = run.run().delete(None, Outcome::Ok);
        run.note(deleted, 25, false);
        run.scan(&[]);
        assert_eq!(stale(&mut run), 2);
        run.put(30, false);
        run.scan(&[]);
        assert_eq!(stale(&mut run), 3, "the delete was met by the put");
        run.run().delete(None, Outcome::Info);
        run.scan(&[]);
        assert_eq!(stale(&mut run), 3, "this one may be applied late");
    }
}
