//! A generation: the newest durable records of a shard on their way into the engine.
//!
//! Rows are kept by (keyspace, vnode) in the order in which their keys were first written, so that
//! adding one is a push, a scan of one vnode looks at that vnode's rows alone, and the engine's
//! feed sorts many short lists instead of a long one.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use quorate_antientropy::BucketDigests;
use quorate_ring::Lsn;

use super::key::{PREFIX_BYTES, RecordKey};

/// A key and its canonical record; one of no bytes where the key was purged, which a canonical
/// record never has.
pub type Row = (RecordKey, Bytes);

/// Newest durable records of the table, frozen at one LSN.
#[derive(Debug, Clone)]
pub struct Generation {
    /// Everything up to here is in this generation or in the engine.
    pub applied: Lsn,
    /// The records.
    pub rows: Arc<GenerationRows>,
    /// Bucket digests at `applied`.
    pub digests: BucketDigests,
}

/// Rows of a generation; each key once.
#[derive(Debug, Clone, Default)]
pub struct GenerationRows {
    ranges: BTreeMap<[u8; PREFIX_BYTES], Vec<Row>>,
    count: usize,
    /// Rows for which a vnode's list has room when it is made.
    range_capacity: usize,
}

impl GenerationRows {
    /// No rows yet, but room for about as many as `last` had, spread over as many vnodes.
    #[must_use]
    pub fn like(last: &Self) -> Self {
        let mean = last.count / last.ranges.len().max(1);
        Self {
            range_capacity: mean + mean / 8,
            ..Self::default()
        }
    }

    /// Adds a key that is not there yet; gives its place for [`GenerationRows::replace`].
    ///
    /// # Panics
    /// If a vnode has 2^32 rows.
    pub fn push(&mut self, key: RecordKey, record: Bytes) -> u32 {
        let capacity = self.range_capacity;
        let rows = self.ranges.entry(key.range());
        let rows = rows.or_insert_with(|| Vec::with_capacity(capacity));
        let place = u32::try_from(rows.len()).expect("memory is bounded far below 2^32 rows");
        rows.push((key, record));
        self.count += 1;
        place
    }

    /// Puts a newer record of `key` at the place that [`GenerationRows::push`] gave.
    ///
    /// # Panics
    /// If `key` is not there: the table has lost track of a record.
    pub fn replace(&mut self, key: &RecordKey, place: u32, record: Bytes) {
        let rows = self.ranges.get_mut(&key.range());
        let row = rows.and_then(|rows| rows.get_mut(place as usize));
        let (held, old) = row.expect("a replaced row is in its generation");
        assert!(held == key, "a row's place is that of its key");
        *old = record;
    }

    /// Drops up to `most` rows. Each costs about a cache miss, for its record's count of
    /// references.
    pub fn let_go(&mut self, mut most: usize) {
        while most > 0
            && let Some(mut last) = self.ranges.last_entry()
        {
            let rows = last.get_mut();
            let gone = rows.len().min(most);
            rows.truncate(rows.len() - gone);
            if rows.is_empty() {
                last.remove();
            }
            self.count -= gone;
            most -= gone;
        }
    }

    /// Number of rows.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Rows of the (keyspace, vnode) of `key`, in no order.
    #[must_use]
    pub fn of_range(&self, key: &RecordKey) -> &[Row] {
        self.ranges.get(&key.range()).map_or(&[], Vec::as_slice)
    }

    /// All rows in the engine's order. Those of a vnode are sorted when the first of them is asked
    /// for, so that whoever rests between rows rests between vnodes. O(n log n) in all.
    pub fn in_order(&self) -> impl Iterator<Item = &Row> {
        self.ranges.values().flat_map(|rows| {
            let mut rows: Vec<&Row> = rows.iter().collect();
            rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            rows
        })
    }
}

impl FromIterator<Row> for GenerationRows {
    fn from_iter<I: IntoIterator<Item = Row>>(rows: I) -> Self {
        let mut all = Self::default();
        for (key, record) in rows {
            all.push(key, record);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use quorate_ring::{KeyspaceId, VnodeId};

    use super::*;

    #[test]
    fn rows_are_let_go_in_steps_over_all_vnodes() {
        let key =
            |number: u16| RecordKey::new(KeyspaceId(1), VnodeId(number % 3), &number.to_le_bytes());
        let mut rows: GenerationRows = (0..10)
            .map(|n| (key(n), Bytes::from_static(b"r")))
            .collect();
        let left = [4, 4, 4].map(|most| {
            rows.let_go(most);
            (rows.len(), rows.in_order().count())
        });
        assert_eq!(left, [(6, 6), (2, 2), (0, 0)]);
    }

    #[test]
    fn rows_come_in_the_order_of_the_engine_with_their_newest_record() {
        let key =
            |vnode, name: &str| RecordKey::new(KeyspaceId(1), VnodeId(vnode), name.as_bytes());
        let record = Bytes::from_static;
        let mut rows = GenerationRows::default();
        rows.push(key(2, "a"), record(b"1"));
        let place = rows.push(key(1, "b"), record(b"2"));
        rows.push(key(1, "a"), record(b"3"));
        rows.replace(&key(1, "b"), place, record(b"4"));
        let all: Vec<Row> = rows.in_order().cloned().collect();
        let want = [
            (key(1, "a"), record(b"3")),
            (key(1, "b"), record(b"4")),
            (key(2, "a"), record(b"1")),
        ];
        assert_eq!((all.as_slice(), rows.len()), (want.as_slice(), 3));
        assert_eq!(rows.of_range(&key(1, "z")).len(), 2);
    }
}
