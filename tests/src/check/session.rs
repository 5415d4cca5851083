//! What reads promise while faults go on.
//!
//! A read of R replicas reflects every write that W replicas acknowledged before it began,
//! where R + W > N. Reads of a majority never go back behind one another. What one read returns is
//! concurrent. A read of a session reflects, at any level, what the session had acknowledged and
//! read before it began. *Reflects* is: the value is there, or what is there superseded it, or a
//! delete that may be applied did; and nothing that it superseded is there.
//!
//! One exception, and no other: a write that was tried more than once may have two dots, and its
//! twin may surface after its op id was evicted from the lists of superseded operations. It comes
//! back as a sibling then, never as a loss. That takes as many other writes of the key as a list
//! keeps, and they must be younger than it; a read may show such a write beside or after its
//! superseder. The final state is judged without mercy.

use quorate_antientropy::{RETRY_TIME_MAX, SUPERSEDED_MAX};

use super::causal::{Expiring, KeyPasts, WriteSet};
use super::history::{History, OpIndex, Operation, Outcome, Returned};
use super::violation::Violation;

/// Judges all successful reads of one key; `operations` are all operations of that key.
#[must_use]
pub fn check_reads(
    history: &History,
    key: &str,
    operations: &[OpIndex],
    expiring: Expiring,
) -> Vec<Violation> {
    let judge = Judge {
        history,
        key,
        expiring,
        pasts: KeyPasts::follow(history, operations),
    };
    let reads = operations
        .iter()
        .filter_map(|index| Read::of(&judge, *index));
    let reads: Vec<Read<'_>> = reads.collect();
    let mut violations = Vec::new();
    for read in &reads {
        violations.extend(judge.concurrent(read));
        violations.extend(judge.hidden(read));
        violations.extend(judge.current(read));
        violations.extend(judge.monotonic(read, &reads));
        violations.extend(judge.in_session(read, operations));
    }
    violations
}

struct Read<'a> {
    index: OpIndex,
    op: &'a Operation,
    ended: u64,
    returned: &'a Returned,
    /// Values that may not stand beside or after their superseder: all but evicted twins.
    judged: Vec<OpIndex>,
}

impl<'a> Read<'a> {
    fn of(judge: &Judge<'a>, index: OpIndex) -> Option<Self> {
        let op = judge.history.operation(index)?;
        let ending = op.ending.as_ref()?;
        if op.is_write() || ending.outcome != Outcome::Ok {
            return None;
        }
        let values = ending.returned.values.iter().copied();
        let judged = values.filter(|write| !judge.may_be_forgotten(*write, ending.event));
        Some(Self {
            index,
            op,
            ended: ending.event,
            returned: &ending.returned,
            judged: judged.collect(),
        })
    }
}

struct Judge<'a> {
    history: &'a History,
    key: &'a str,
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
                // A coordinator counts from when it mints: before the end of a write that was sent
                // once. Another attempt may be minted later, behind a slow link or by a process
                // that stood still, but not once it is too old; the latest expiry of them is the
                // operation's.
                let ended_us = op.ending.as_ref().map_or(u64::MAX, |ending| ending.at_us);
                let retry_us = u64::try_from(RETRY_TIME_MAX.as_micros()).unwrap_or(u64::MAX);
                let once = op
                    .ending
                    .as_ref()
                    .is_some_and(|ending| ending.attempts <= 1);
                let minted_us = match op.outcome() {
                    Outcome::Ok if once => ended_us,
                    Outcome::Ok | Outcome::Fail | Outcome::Info => {
                        ended_us.max(op.invoked_us.saturating_add(retry_us))
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
        read.judged.iter().find_map(|write| {
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

    /// Whether a twin of `write` may have surfaced after its op id was evicted, by event `before`.
    fn may_be_forgotten(&self, write: OpIndex, before: u64) -> bool {
        let Some(operation) = self.history.operation(write) else {
            return false;
        };
        let younger = |other: &&OpIndex| {
            let other = self.history.operation(**other);
            other.is_some_and(|other| {
                let goes_on = other.ended_event();
                other.invoked_event < before
                    && goes_on.is_none_or(|ended| ended > operation.invoked_event)
            })
        };
        operation.may_have_twins() && {
            let others = self.pasts.writes().iter().filter(|other| **other != write);
            others.filter(younger).count() >= SUPERSEDED_MAX
        }
    }

    fn shows_past_of(&self, write: usize, read: &Read<'_>) -> bool {
        let past = self.pasts.past(write);
        let mut values = read.judged.iter().filter_map(|v| self.pasts.index(*v));
        past.is_some_and(|past| values.any(|value| past.contains(value)))
    }

    /// Read your writes and monotonic reads of one session, whatever the levels.
    fn in_session(&self, read: &Read<'_>, operations: &[OpIndex]) -> Option<Violation> {
        let session = read.op.session?;
        let explained = self.explained(read);
        let before = operations.iter().filter_map(|index| {
            let op = self.history.operation(*index)?;
            let ended = op.ended_event()? < read.op.invoked_event;
            let counts = ended && op.session == Some(session) && op.outcome() == Outcome::Ok;
            counts.then_some((*index, op))
        });
        for (seen, op) in before {
            let own = [seen];
            let returned = op.ending.as_ref().map(|ending| &ending.returned.values);
            let writes: &[OpIndex] = if op.is_write() { &own } else { returned? };
            let went_back = writes.iter().find(|write| {
                let index = self.pasts.index(**write);
                index.is_some_and(|index| {
                    let missing = !op.is_delete() && !explained.contains(index);
                    missing || self.shows_past_of(index, read)
                })
            });
            if let Some(write) = went_back {
                return Some(Violation::Session {
                    key: self.key.to_owned(),
                    read: read.index,
                    seen,
                    write: *write,
                });
            }
        }
        None
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
        check_reads(&run.history, "k", &ops, Expiring { skew_us: 0 })
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
    fn a_session_reads_its_own_writes_and_never_goes_back_at_any_level() {
        for session in [Some(1), Some(2), None] {
            let mut run = Planted::new();
            let a = run.put_at(1, None, Outcome::Ok);
            run.in_session(1);
            let read = run.get_at(1, &[]);
            if let Some(session) = session {
                run.in_session(session);
            }
            let own = session == Some(1);
            assert_eq!(!check(&run).is_empty(), own, "{session:?}");
            if own {
                let violation = &check(&run)[0];
                assert!(
                    matches!(violation, Violation::Session { read: at, write, .. } if *at == read && *write == a)
                );
            }
        }
        let mut run = Planted::new();
        let a = run.put_at(1, None, Outcome::Ok);
        let first = run.get_at(1, &[a]);
        run.in_session(1);
        run.get_at(1, &[]);
        run.in_session(1);
        assert!(matches!(check(&run)[..], [Violation::Session { seen, .. }] if seen == first));
    }

    #[test]
    fn a_session_sees_what_superseded_its_write_and_not_what_that_superseded() {
        let mut run = Planted::new();
        let a = run.put_at(1, None, Outcome::Ok);
        let b = run.put_at(1, Some(a), Outcome::Ok);
        run.in_session(1);
        run.get_at(1, &[b]);
        run.in_session(1);
        assert_eq!(check(&run), []);
        run.get_at(1, &[a]);
        run.in_session(1);
        assert!(matches!(check(&run)[..], [Violation::Session { write, .. }] if write == b));
    }

    #[test]
    fn only_an_evicted_twin_may_stand_beside_what_superseded_it() {
        let full = SUPERSEDED_MAX;
        for (attempts, younger, passes) in [(2, full, true), (2, full - 1, false), (1, full, false)]
        {
            let mut run = Planted::new();
            let elements = std::collections::BTreeSet::new();
            run.put(None, Outcome::Ok);
            let a = run.begin(Action::Put { elements }, None, 2);
            let read = run.get_at(1, &[a]);
            let b = run.put(Some(read), Outcome::Info);
            (1..younger).for_each(|_| {
                run.put(None, Outcome::Info);
            });
            run.end_after(attempts, a, Outcome::Ok, Returned::default());
            run.get_at(1, &[a, b]);
            assert_eq!(check(&run).is_empty(), passes, "{attempts} {younger}");
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
