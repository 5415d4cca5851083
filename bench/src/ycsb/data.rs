//! What the tool knows of a set of records: draws what is asked next, and judges the answers.
//!
//! Every byte of an answer is checked against what was sent for its key. Where writes come after
//! what was read, no field may be older than one that was acknowledged before the read began. In an
//! lww keyspace that does not hold of fields: the later of two concurrent updates stays whole.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_client::{Context, Keyspace, ScannedRecord};
use quorate_ring::KeyspaceMode;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{
    Definition, FIELDS, KeyChoice, Latest, Numbers, Records, Sequence, merged, scan_length,
};
use crate::fill::{Fill, FillTarget};
use crate::keys::{Distribution, KeyDraw, index_of, numbered};
use crate::recorder::{End, Kind};

/// Head of every key.
const PREFIX: [u8; 4] = *b"user";

/// Deadline of every operation, of a scan for each page: what takes longer has failed.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

/// How often a key is drawn until one is found that must be there; those that need not are few.
const DRAWS_MAX: u32 = 10_000;

/// A set of records.
#[derive(Debug, Clone)]
pub struct DataSpec {
    /// Where the records are.
    pub keyspace: Keyspace,
    /// What that does with concurrent writes.
    pub mode: KeyspaceMode,
    /// Records that are loaded, at least 1.
    pub records: u32,
    /// What is drawn follows from it.
    pub seed: u64,
}

/// One operation that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Read a record.
    Read {
        /// Index of its key.
        index: u32,
        /// The least numbers of its fields.
        floor: Numbers,
    },
    /// Replace a field of a record, without reading it.
    Update {
        /// Index of its key.
        index: u32,
        /// The whole record.
        record: Bytes,
    },
    /// Write a new key.
    Insert {
        /// Its index.
        index: u32,
        /// The whole record.
        record: Bytes,
    },
    /// Read records in key order.
    Scan(ScanAsked),
    /// Read a record, replace a field, and write the result after what was read.
    ReadModifyWrite {
        /// Index of its key.
        index: u32,
        /// Which field, below [`FIELDS`].
        field: usize,
        /// The least numbers of its fields.
        floor: Numbers,
    },
}

/// A scan that is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanAsked {
    /// Index of the first key.
    pub first: u32,
    /// Most records.
    pub records: u32,
    /// Keys below this index must be found.
    pub ended_below: u32,
}

/// The records by what is known of them.
#[derive(Debug)]
pub struct Data {
    spec: DataSpec,
    records: Records,
    sequence: Sequence,
    /// Of keys that changed: in an lww keyspace the fields as last sent, else the newest that was
    /// acknowledged of each.
    newest: BTreeMap<u32, Numbers>,
    last_number: u64,
    zipf: KeyDraw,
    latest: Latest,
    random: SmallRng,
}

impl Data {
    /// Records of which none is changed or inserted yet. O(records).
    #[must_use]
    pub fn new(spec: DataSpec) -> Self {
        let mut random = SmallRng::seed_from_u64(spec.seed);
        Self {
            records: Records::new(&mut random),
            sequence: Sequence::new(spec.records),
            newest: BTreeMap::new(),
            last_number: 0,
            zipf: KeyDraw::new(Distribution::Zipf, spec.records),
            latest: Latest::new(spec.records),
            random,
            spec,
        }
    }

    /// The next operation; `None` if no key is left to insert or to ask for.
    pub fn next(&mut self, definition: &Definition) -> Option<Asked> {
        let asked = match self.kind(definition)? {
            Kind::Read => {
                let index = self.draw(definition.keys)?;
                let floor = self.floor(index);
                Asked::Read { index, floor }
            }
            Kind::Write | Kind::Update => {
                let index = self.draw(definition.keys)?;
                let record = self.updated(index);
                Asked::Update { index, record }
            }
            Kind::Insert => {
                let index = self.sequence.begin()?;
                let record = self.value(index);
                Asked::Insert { index, record }
            }
            Kind::Scan => Asked::Scan(ScanAsked {
                first: self.draw(definition.keys)?,
                records: scan_length(&mut self.random),
                ended_below: self.sequence.ended_below(),
            }),
            Kind::ReadModifyWrite => {
                let index = self.draw(definition.keys)?;
                Asked::ReadModifyWrite {
                    index,
                    field: self.random.random_range(0..FIELDS),
                    floor: self.floor(index),
                }
            }
        };
        Some(asked)
    }

    fn kind(&mut self, definition: &Definition) -> Option<Kind> {
        let mut point = self.random.random_range(0..100);
        for (kind, share) in definition.shares {
            if point < *share {
                return Some(*kind);
            }
            point -= share;
        }
        None
    }

    fn draw(&mut self, keys: KeyChoice) -> Option<u32> {
        match keys {
            KeyChoice::Zipf => Some(self.zipf.draw(&mut self.random)),
            KeyChoice::Latest => {
                let count = self.sequence.ended_below();
                let mut draws = (0..DRAWS_MAX).map(|_| self.latest.draw(count, &mut self.random));
                draws.find(|index| self.sequence.is_certain(*index))
            }
        }
    }

    /// The record as this client sent it last, with one field new.
    fn updated(&mut self, index: u32) -> Bytes {
        let field = self.random.random_range(0..FIELDS);
        let number = self.new_number();
        let numbers = self.newest.entry(index).or_default();
        set(numbers, field, number);
        self.records.encode(index, numbers)
    }

    fn new_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// The record that `seen` becomes when `field` is replaced, and the number of the new field.
    pub fn modified(&mut self, index: u32, field: usize, mut seen: Numbers) -> (Bytes, u64) {
        let number = self.new_number();
        set(&mut seen, field, number);
        (self.records.encode(index, &seen), number)
    }

    /// The record whose fields have these numbers.
    #[must_use]
    pub fn record(&self, index: u32, numbers: &Numbers) -> Bytes {
        self.records.encode(index, numbers)
    }

    /// A change was acknowledged: later reads must see it, or a newer one.
    pub fn changed(&mut self, index: u32, field: usize, number: u64) {
        let newest = self.newest.entry(index).or_default();
        let mut change = Numbers::default();
        set(&mut change, field, number);
        *newest = merged(*newest, &change);
    }

    /// An insert has ended; whether it was acknowledged.
    pub fn inserted(&mut self, index: u32, end: End) {
        if end == End::Done {
            self.sequence.acknowledged(index);
        } else {
            self.sequence.failed(index);
        }
    }

    /// Indices of the keys that changed.
    pub fn changed_keys(&self) -> impl Iterator<Item = u32> + '_ {
        self.newest.keys().copied()
    }

    /// The least numbers that a read which begins now may find.
    #[must_use]
    pub fn floor(&self, index: u32) -> Numbers {
        match self.spec.mode {
            KeyspaceMode::Lww => Numbers::default(),
            KeyspaceMode::Siblings => self.newest.get(&index).copied().unwrap_or_default(),
        }
    }

    /// The newest of each field over `values`, all that a key holds.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn judge(&self, index: u32, floor: &Numbers, values: &[Bytes]) -> Result<Numbers, End> {
        let Some((first, others)) = values.split_first() else {
            return Err(End::Missing);
        };
        let decode = |value| self.records.decode(index, value).ok_or(End::Wrong);
        let mut newest = decode(first)?;
        for other in others {
            newest = merged(newest, &decode(other)?);
        }
        if !others.is_empty() && self.spec.mode == KeyspaceMode::Lww {
            return Err(End::Siblings);
        }
        if merged(newest, floor) != newest {
            return Err(End::Stale);
        }
        Ok(newest)
    }

    /// Whether `shown` is what `scan` must find.
    #[must_use]
    pub fn judge_scan(&self, scan: &ScanAsked, shown: &[ScannedRecord]) -> End {
        let most = scan.records as usize;
        let mut next = scan.first;
        for record in shown {
            let index = index_of(PREFIX, &record.key).filter(|index| *index >= next);
            let Some(index) = index else {
                // Out of order, twice, or of no key of this tool.
                return End::Wrong;
            };
            if !self.sequence.may_lack(next, index.min(scan.ended_below)) {
                return End::Missing;
            }
            if let Err(end) = self.judge(index, &Numbers::default(), &record.values) {
                return end;
            }
            next = index.saturating_add(1);
        }
        if shown.len() > most {
            return End::Wrong;
        }
        if shown.len() < most && !self.sequence.may_lack(next, scan.ended_below) {
            return End::Missing;
        }
        End::Done
    }

    /// Where the records are, and how many.
    #[must_use]
    pub const fn spec(&self) -> &DataSpec {
        &self.spec
    }
}

/// Draws of a field stay below [`FIELDS`].
fn set(numbers: &mut Numbers, field: usize, number: u64) {
    if let Some(slot) = numbers.get_mut(field) {
        *slot = number;
    }
}

impl Fill for Data {
    fn target(&self) -> FillTarget {
        FillTarget {
            keyspace: self.spec.keyspace.clone(),
            keys: self.spec.records,
            level: None,
            deadline: DEADLINE,
            has_contexts: self.spec.mode == KeyspaceMode::Siblings,
        }
    }

    fn key(&self, index: u32) -> Bytes {
        numbered(PREFIX, index)
    }

    /// What is loaded and inserted.
    fn value(&mut self, index: u32) -> Bytes {
        self.records.encode(index, &Numbers::default())
    }

    fn fits(&self, index: u32, value: &[u8]) -> bool {
        self.records.decode(index, value).is_some()
    }

    /// A read-modify-write reads first, and an update comes after nothing.
    fn keep(&mut self, _index: u32, _seen: &Context) {}
}

#[cfg(test)]
mod tests {
    use quorate_client::testing::client;

    use super::super::Letter;
    use super::*;

    #[test]
    fn shares_are_drawn_as_defined() {
        for letter in [
            Letter::A,
            Letter::B,
            Letter::C,
            Letter::D,
            Letter::E,
            Letter::F,
        ] {
            let mut data = data(KeyspaceMode::Siblings);
            let definition = letter.definition();
            let mut counts: BTreeMap<Kind, u32> = BTreeMap::new();
            for _ in 0..10_000 {
                let asked = data.next(&definition).expect("keys are left");
                *counts.entry(kind_of(&asked)).or_default() += 1;
            }
            assert_eq!(counts.len(), definition.shares.len(), "{letter:?}");
            for (kind, share) in definition.shares {
                let percent = counts[kind].div_ceil(100);
                assert!(
                    percent.abs_diff(u32::from(*share)) <= 2,
                    "{letter:?} {counts:?}"
                );
            }
        }
    }

    #[test]
    fn an_update_replaces_one_field_and_keeps_what_was_sent_before() {
        let mut data = data(KeyspaceMode::Lww);
        let mut before = Numbers::default();
        for _ in 0..20 {
            let record = data.updated(3);
            let numbers = data
                .judge(3, &Numbers::default(), &[record])
                .expect("it fits");
            let changed = numbers.iter().zip(&before).filter(|(a, b)| a != b);
            assert_eq!(changed.count(), 1);
            before = numbers;
        }
        assert_eq!(data.changed_keys().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn what_a_key_holds_is_judged() {
        let mut siblings = data(KeyspaceMode::Siblings);
        let loaded = siblings.value(3);
        let floor = siblings.floor(3);
        let (changed, number) = siblings.modified(3, 4, floor);
        let both = [loaded.clone(), changed.clone()];
        let judge = |data: &Data, values: &[Bytes]| data.judge(3, &data.floor(3), values);
        assert_eq!(judge(&siblings, &[]), Err(End::Missing));
        assert!(judge(&siblings, &both).is_ok());
        assert_eq!(siblings.judge(2, &floor, &both), Err(End::Wrong));
        siblings.changed(3, 4, number);
        assert_eq!(
            judge(&siblings, std::slice::from_ref(&loaded)),
            Err(End::Stale)
        );
        assert!(judge(&siblings, &both).is_ok());
        assert!(judge(&siblings, &[changed]).is_ok());
        assert_eq!(judge(&data(KeyspaceMode::Lww), &both), Err(End::Siblings));
    }

    #[test]
    fn a_scan_must_show_every_key_in_order() {
        let mut data = data(KeyspaceMode::Lww);
        let mut shown = |indices: &[u32]| -> Vec<ScannedRecord> {
            let record = |index: &u32| ScannedRecord {
                key: data.key(*index),
                values: vec![data.value(*index)],
            };
            indices.iter().map(record).collect()
        };
        let cases = [
            (shown(&[97, 98, 99]), End::Done),
            (shown(&[97, 98]), End::Missing),
            (shown(&[97, 99]), End::Missing),
            (shown(&[98, 99]), End::Missing),
            (shown(&[97, 98, 98, 99]), End::Wrong),
            (shown(&[96, 97, 98, 99]), End::Wrong),
            (shown(&[97, 98, 99, 100]), End::Done),
            (shown(&[97, 98, 99, 100, 101]), End::Wrong),
        ];
        let scan = ScanAsked {
            first: 97,
            records: 4,
            ended_below: 100,
        };
        for (shown, want) in cases {
            let keys: Vec<_> = shown.iter().map(|record| record.key.clone()).collect();
            assert_eq!(data.judge_scan(&scan, &shown), want, "{keys:?}");
        }
    }

    fn kind_of(asked: &Asked) -> Kind {
        match asked {
            Asked::Read { .. } => Kind::Read,
            Asked::Update { .. } => Kind::Update,
            Asked::Insert { .. } => Kind::Insert,
            Asked::Scan(_) => Kind::Scan,
            Asked::ReadModifyWrite { .. } => Kind::ReadModifyWrite,
        }
    }

    fn data(mode: KeyspaceMode) -> Data {
        Data::new(DataSpec {
            keyspace: client().keyspace("default"),
            mode,
            records: 100,
            seed: 5,
        })
    }
}
