//! What reads promise while faults go on.
//!
//! A read of R replicas reflects every write that W replicas acknowledged before it began, where
//! R + W > N. Reads of a majority never go back behind one another. What one read returns is
//! concurrent. *Reflects* is: the value is there, or what is there superseded it, or a delete that
//! may be applied did; and nothing that it superseded is there.
//!
//! A write that was tried more than once may have two dots. Who superseded the one that it saw on a
//! single replica cannot name the other, and until those replicas have met, a read may show the
//! write once more, as a sibling: a token names the values that were seen, and not those that they
//! had superseded. [`Twins`] says whether that is allowed; the final state is judged without mercy.

use super::causal::{Expiring, KeyPasts, WriteSet};
use super::history::{History, OpIndex, Operation, Outcome, Returned};
use super::violation::Violation;

/// Whether a write that was tried more than once may show up again beside or after its superseder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twins {
    /// It may, until the replicas that hold its dots have met.
    Allowed,
    /// Never.
    Refused,
}

/// Judges all successful reads of one key; `operations` are all operations of that key.
#[must_use]
pub fn check_reads(
    history: &History,
    key: &str,
    operations: &[OpIndex],
    twins: Twins,
    expiring: Expiring,
) -> Vec<Violation> {
    let reads = operations
        .iter()
        .filter_map(|index| Read::of(history, *index));
    let reads: Vec<Read<'_>> = reads.collect();
    if reads.is_empty() {
        return Vec::new();
    }
    let judge = Judge {
        history,
        key,
        twins,
        expiring,
        pasts: KeyPasts::follow(history, operations),
    };
    let mut violations = Vec::new();
    for read in &reads {
        violations.extend(judge.concurrent(read));
        violations.extend(judge.hidden(read));
        violations.extend(judge.current(read));
        violations.extend(judge.monotonic(read, &reads));
    }
    violations
}

struct Read<'a> {
    index: OpIndex,
    op: &'a Operation,
    ended: u64,
    returned: &'a Returned,
}

impl<'a> Read<'a> {
    fn of(history: &'a History, index: OpIndex) -> Option<Self> {
        let op = history.operation(index)?;
        let ending = op.ending.as_ref()?;
        (!op.is_write() && ending.outcome == Outcome::Ok).then_some(Self {
            index,
            op,
            ended: ending.event,
            returned: &ending.returned,
        })
    }
}

struct Judge<'a> {
    history: &'a History,
    key: &'a str,
    twins: Twins,
    expiring: Expiring,
    pasts: KeyPasts,
}

impl Judge<'_> {
    /// What this read accounts for: its values, their pasts, and what deletes may have taken.
    fn explained(&self, read: &Read<'_>) -> WriteSet {
        let mut explained = self.pasts.closure(&read.returned.values);
        explained.extend(&self.pasts.past_of_deletes(read.ended));
        let at_us = read.op.ending.as_ref().map_or(0, |ending| ending.at_us);
        let expired = self
            .pasts
            .past_of_expired(self.history, at_us, self.expiring);
        explained.extend(&expired);
        explained
    }

    /// A value is not shown once its time has passed on every clock.
    fn hidden(&self, read: &Read<'_>) -> Option<Violation> {
        let values = read.returned.values.iter();
        let late = values.copied().find(|write| {
            self.history.operation(*write).is_some_and(|op| {
                // A coordinator counts from when it mints, the last one at the end of the write.
                let minted_us = op.ending.as_ref().map_or(u64::MAX, |ending| ending.at_us);
                let minted_us = match op.outcome() {
                    Outcome::Ok => minted_us,
                    Outcome::Fail | Outcome::Info => {
                        minted_us.max(op.invoked_us.saturating_add(op.deadline_us))
                    }
                };
                op.ttl_us.is_some_and(|ttl| {
                    let gone_us = minted_us.saturating_add(ttl);
                    read.op.invoked_us > gone_us.saturating_add(self.expiring.skew_us)
                })
            })
        });
        late.map(|write| Violation::ShownExpired {
            key: self.key.to_owned(),
            read: read.index,
            write,
        })
    }

    fn concurrent(&self, read: &Read<'_>) -> Option<Violation> {
        let values = &read.returned.values;
        let once = values.iter().filter(|write| !self.has_twins(**write));
        once.into_iter().find_map(|write| {
            let by = self.pasts.superseder(self.pasts.index(*write)?, values)?;
            Some(Violation::NotConcurrent {
                key: self.key.to_owned(),
                read: read.index,
                write: *write,
                by,
            })
        })
    }

    fn current(&self, read: &Read<'_>) -> Option<Violation> {
        let explained = self.explained(read);
        let writes = self.pasts.writes().iter().enumerate();
        let known = writes.filter(|(_, write)| {
            self.history.operation(**write).is_some_and(|op| {
                let before = op.ended_event().is_some_and(|e| e < read.op.invoked_event);
                let meets = op.replicas + read.op.replicas > op.copies;
                before && meets && op.outcome() == Outcome::Ok
            })
        });
        for (index, write) in known {
            let is_delete = self
                .history
                .operation(*write)
                .is_some_and(Operation::is_delete);
            let missing = !is_delete && !explained.contains(index);
            if missing || self.shows_past_of(index, read) {
                return Some(Violation::Stale {
                    key: self.key.to_owned(),
                    read: read.index,
                    write: *write,
                });
            }
        }
        None
    }

    /// Whether `write` may show up beside or after its superseder.
    fn has_twins(&self, write: OpIndex) -> bool {
        let tried_twice = self
            .history
            .operation(write)
            .is_some_and(Operation::may_have_twins);
        match self.twins {
            Twins::Allowed => tried_twice,
            Twins::Refused => false,
        }
    }

    fn shows_past_of(&self, write: usize, read: &Read<'_>) -> bool {
        let past = self.pasts.past(write);
        let once = read.returned.values.iter().filter(|v| !self.has_twins(**v));
        let mut values = once.filter_map(|v| self.pasts.index(*v));
        past.is_some_and(|past| values.any(|value| past.contains(value)))
    }

    fn monotonic(&self, read: &Read<'_>, reads: &[Read<'_>]) -> Option<Violation> {
        if !read.op.is_majority() {
            return None;
        }
        let explained = self.explained(read);
        let earlier = reads
            .iter()
            .filter(|r| r.op.is_majority() && r.ended < read.op.invoked_event);
        for before in earlier {
            let went_back = before.returned.values.iter().find(|write| {
                let index = self.pasts.index(**write);
                index.is_some_and(|index| {
                    !explained.contains(index) || self.shows_past_of(index, read)
                })
            });
            if let Some(write) = went_back {
                return Some(Violation::NotMonotonic {
                    key: self.key.to_owned(),
                    read: read.index,
                    earlier: before.index,
                    write: *write,
                });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::Action;
    use super::super::history::planted::Planted;
    use super::*;

    fn check(run: &Planted) -> Vec<Violation> {
        let ops: Vec<OpIndex> = run.history.operations().map(|(i, _)| i).collect();
        check_reads(
            &run.history,
            "k",
            &ops,
            Twins::Allowed,
            Expiring { skew_us: 0 },
        )
    }

    #[test]
    fn a_quorum_read_sees_every_quorum_write_acknowledged_before_it() {
        let mut run = Planted::new();
        let a = run.put(None, Outcome::Ok);
        run.get(&[a]);
        assert_eq!(check(&run), []);
        run.get(&[]);
        assert!(matches!(check(&run)[0], Violation::Stale { write, .. } if write == a));
    }

    #[test]
    fn reads_and_writes_that_need_not_meet_may_miss_each_other() {
        let mut run = Planted::new();
        let a = run.put_at(1, None, Outcome::Ok);
        run.get_at(2, &[]);
        run.get_at(1, &[a]);
        run.get_at(1, &[]);
        assert_eq!(check(&run), []);
    }

    #[test]
    fn a_write_in_flight_may_be_missed() {
        let mut run = Planted::new();
        let elements = std::collections::BTreeSet::new();
        let a = run.begin(Action::Put { elements }, None, 2);
        run.get(&[]);
        run.end(a, Outcome::Ok, &[]);
        assert_eq!(check(&run), []);
    }

    #[test]
    fn a_quorum_read_shows_nothing_that_an_acknowledged_write_superseded() {
        let mut run = Planted::new();
        let a = run.put(None, Outcome::Ok);
        let b = run.put(Some(a), Outcome::Ok);
        run.get(&[b]);
        assert_eq!(check(&run), []);
        run.get(&[a]);
        assert!(matches!(check(&run)[0], Violation::Stale { write, .. } if write == b));
    }

    #[test]
    fn a_majority_read_never_goes_back_behind_an_earlier_one() {
        let mut run = Planted::new();
        let a = run.put(None, Outcome::Info);
        run.get(&[a]);
        run.get(&[]);
        assert!(matches!(check(&run)[..], [Violation::NotMonotonic { write, .. }] if write == a));
    }

    #[test]
    fn a_write_that_was_tried_twice_may_show_its_twin_beside_what_superseded_it() {
        for (attempts, passes) in [(2, true), (1, false)] {
            let mut run = Planted::new();
            let elements = std::collections::BTreeSet::new();
            let a = run.begin(Action::Put { elements }, None, 2);
            let read = run.get_at(1, &[a]);
            let b = run.put(Some(read), Outcome::Ok);
            run.end_after(attempts, a, Outcome::Ok, Returned::default());
            run.get(&[a, b]);
            assert_eq!(check(&run).is_empty(), passes);
        }
    }

    #[test]
    fn a_value_is_there_until_its_time_and_not_after() {
        for (read_at, shown, passes) in [
            (50, true, true),
            (50, false, false),
            (150, false, true),
            (150, true, false),
        ] {
            let mut run = Planted::new();
            let elements = std::collections::BTreeSet::new();
            let write = run.begin(Action::Put { elements }, None, 2);
            run.set_times(write, 0, Some(100));
            run.end(write, Outcome::Ok, &[]);
            let read = run.begin(Action::Get, None, 2);
            run.set_times(read, read_at, None);
            run.end_at(read, read_at, if shown { vec![write] } else { vec![] });
            assert_eq!(check(&run).is_empty(), passes, "{read_at} {shown}");
        }
    }

    #[test]
    fn a_delete_that_may_be_applied_explains_a_missing_value() {
        let mut run = Planted::new();
        let a = run.put(None, Outcome::Ok);
        let read = run.get(&[a]);
        run.delete(Some(read), Outcome::Info);
        run.get(&[]);
        assert_eq!(check(&run), []);
    }

    #[test]
    fn a_read_never_returns_a_value_beside_what_superseded_it() {
        let mut run = Planted::new();
        let a = run.put_at(1, None, Outcome::Ok);
        let b = run.put_at(1, Some(a), Outcome::Info);
        run.get_at(1, &[a, b]);
        assert!(matches!(check(&run)[..], [Violation::NotConcurrent { write, .. }] if write == a));
    }
}
