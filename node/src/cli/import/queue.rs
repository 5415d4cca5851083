//! Order of an import: records of one key one after the other, all others side by side.
//!
//! Invariant: of each key at most one record is in flight.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::record::ImportRecord;

/// Records that may wait for an earlier one of their key.
pub(super) const WAITING_MAX: usize = 4096;

/// Which keys are in flight, and what waits for them.
#[derive(Debug, Default)]
pub(super) struct KeyQueue {
    in_flight: BTreeMap<Bytes, VecDeque<ImportRecord>>,
    waiting: usize,
}

impl KeyQueue {
    /// Takes a record in; gives it back if it may go out now.
    pub(super) fn enter(&mut self, record: ImportRecord) -> Option<ImportRecord> {
        if let Some(queue) = self.in_flight.get_mut(&record.key) {
            queue.push_back(record);
            self.waiting += 1;
            return None;
        }
        self.in_flight.insert(record.key.clone(), VecDeque::new());
        Some(record)
    }

    /// The record of `key` that was in flight has ended; gives the next one of that key.
    pub(super) fn leave(&mut self, key: &Bytes) -> Option<ImportRecord> {
        let next = self.in_flight.get_mut(key).and_then(VecDeque::pop_front);
        match next {
            Some(_) => self.waiting -= 1,
            None => {
                self.in_flight.remove(key);
            }
        }
        next
    }

    /// Whether no more may wait.
    pub(super) fn is_full(&self) -> bool {
        self.waiting >= WAITING_MAX
    }
}

/// How far a file has been applied without a gap.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Lines that are settled, from the first on.
    pub(super) lines: u64,
    /// Bytes that these lines hold.
    pub(super) offset: u64,
    /// Settled lines behind a gap, with the bytes up to their end.
    beyond: BTreeMap<u64, u64>,
}

impl Applied {
    /// Settled lines behind a gap that are remembered; more are applied again by `--resume`.
    const BEYOND_MAX: usize = 1 << 20;

    /// Starts behind `lines` lines of `offset` bytes.
    pub(super) fn from(lines: u64, offset: u64) -> Self {
        Self {
            lines,
            offset,
            beyond: BTreeMap::new(),
        }
    }

    /// Line number `line`, which ends at `end`, is settled.
    pub(super) fn settle(&mut self, line: u64, end: u64) {
        if self.beyond.len() < Self::BEYOND_MAX {
            self.beyond.insert(line, end);
        }
        while let Some(end) = self.beyond.remove(&(self.lines + 1)) {
            self.lines += 1;
            self.offset = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(line: u64, key: &'static str) -> ImportRecord {
        ImportRecord {
            line,
            end: line * 10,
            key: Bytes::from_static(key.as_bytes()),
            values: Vec::new(),
        }
    }

    #[test]
    fn equal_keys_go_one_after_the_other_and_others_side_by_side() {
        let mut queue = KeyQueue::default();
        assert_eq!(queue.enter(record(1, "a")), Some(record(1, "a")));
        assert_eq!(queue.enter(record(2, "a")), None);
        assert_eq!(queue.enter(record(3, "b")), Some(record(3, "b")));
        assert_eq!(queue.enter(record(4, "a")), None);
        let a = Bytes::from_static(b"a");
        assert_eq!(queue.leave(&a), Some(record(2, "a")));
        assert_eq!(queue.leave(&a), Some(record(4, "a")));
        assert_eq!(queue.leave(&a), None);
        assert_eq!(queue.enter(record(5, "a")), Some(record(5, "a")));
    }

    #[test]
    fn only_what_was_applied_without_a_gap_is_skipped_by_resume() {
        let mut applied = Applied::default();
        applied.settle(2, 20);
        assert_eq!((applied.lines, applied.offset), (0, 0));
        applied.settle(1, 10);
        assert_eq!((applied.lines, applied.offset), (2, 20));
        applied.settle(4, 40);
        assert_eq!((applied.lines, applied.offset), (2, 20));
    }
}
