//! What each key must hold: the model against which answers are verified while the load runs.
//!
//! A key has one writer at a time, whose writes are numbered. A value tells its key and its number
//! and is random beyond that, so nothing else can look like it. A read is judged against what was
//! acknowledged before it began:
//! - the newest acknowledged put is there, unless something later is, or a later delete was sent;
//! - what an acknowledged write superseded is not back;
//! - what was *not applied* is never there; what is of unknown outcome may be, at any time.
//!
//! That needs levels whose reads meet writes. A key of which too many outcomes are unknown is
//! judged for foreign values only. Memory: some 100 bytes a key.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_client::Context;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Unknown or refused writes of a key that are remembered; beyond, the key is not judged further.
const OPEN_MAX: usize = 16;

/// Bytes of a value that tell key and number.
const HEAD_BYTES: usize = 8;

/// What is known of one key.
#[derive(Debug, Clone, Default)]
struct Key {
    /// Number of the last write that was sent.
    sent: u32,
    /// Number of the newest acknowledged write; 0 if there is none.
    acked: u32,
    acked_is_delete: bool,
    /// Number of the newest delete that was sent.
    delete_sent: u32,
    is_busy: bool,
    context: Option<Context>,
    unknown: Vec<u32>,
    refused: Vec<u32>,
    is_retired: bool,
}

/// What was acknowledged of a key when a read began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Floor {
    acked: u32,
    is_delete: bool,
}

/// A write that may be sent.
#[derive(Debug)]
pub struct Claim {
    /// Index of its key.
    pub index: u32,
    /// Its number among the writes of the key.
    pub number: u32,
    /// What it comes after; `None`: read the key first.
    pub after: Option<Context>,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lie {
    /// A value that nobody wrote to the key.
    #[error("key {index} holds a value that nobody wrote to it: {shown}")]
    Foreign {
        /// Index of the key.
        index: u32,
        /// Its first bytes.
        shown: String,
    },
    /// A write that was told *not applied* is there.
    #[error("key {index} holds write {number}, which was told 'not applied'")]
    Refused {
        /// Index of the key.
        index: u32,
        /// The write.
        number: u32,
    },
    /// An acknowledged write is not there and nothing later is.
    #[error(
        "key {index} lacks write {number}, acknowledged before the read began; it holds {found:?}"
    )]
    Lost {
        /// Index of the key.
        index: u32,
        /// The write.
        number: u32,
        /// What is there.
        found: Vec<u32>,
    },
    /// A value is back that an acknowledged write had superseded before the read began.
    #[error("key {index} holds write {number} again, which write {by} superseded")]
    Revived {
        /// Index of the key.
        index: u32,
        /// The write.
        number: u32,
        /// Who superseded it.
        by: u32,
    },
}

/// All keys, by index.
#[derive(Debug)]
pub struct Model {
    keys: Vec<Key>,
    value_bytes: usize,
    seed: u64,
    lies: Vec<Lie>,
    lie_count: u64,
    judged: u64,
}

/// Lies that are kept for the report.
const LIES_KEPT: usize = 20;

impl Model {
    /// Keys of which nothing was written, with values of `value_bytes`, at least 16.
    #[must_use]
    pub fn new(keys: u32, value_bytes: usize, seed: u64) -> Self {
        Self {
            keys: vec![Key::default(); keys as usize],
            value_bytes: value_bytes.max(2 * HEAD_BYTES),
            seed,
            lies: Vec::new(),
            lie_count: 0,
            judged: 0,
        }
    }

    /// Claims a key for a write; `None` while one is under way.
    pub fn claim(&mut self, index: u32, is_delete: bool) -> Option<Claim> {
        let key = self.keys.get_mut(index as usize)?;
        if key.is_busy {
            return None;
        }
        key.is_busy = true;
        key.sent += 1;
        if is_delete {
            key.delete_sent = key.sent;
        }
        Some(Claim {
            index,
            number: key.sent,
            after: key.context.clone(),
        })
    }

    /// The value of a write.
    #[must_use]
    pub fn value(&self, claim: &Claim) -> Bytes {
        self.value_of(claim.index, claim.number)
    }

    fn value_of(&self, index: u32, number: u32) -> Bytes {
        let mut value = BytesMut::with_capacity(self.value_bytes);
        value.put_u32(index);
        value.put_u32(number);
        let mut word = u64::from(index) << 32 | u64::from(number);
        while value.len() < self.value_bytes {
            word = xxh3_64_with_seed(&word.to_le_bytes(), self.seed);
            let bytes = word.to_le_bytes();
            let left = (self.value_bytes - value.len()).min(bytes.len());
            value.extend(bytes.iter().take(left));
        }
        value.freeze()
    }

    /// A write was acknowledged.
    pub fn applied(&mut self, index: u32, number: u32, context: Option<Context>) {
        let Some(key) = self.keys.get_mut(index as usize) else {
            return;
        };
        key.is_busy = false;
        key.acked = number;
        key.acked_is_delete = key.delete_sent == number;
        key.context = context;
    }

    /// A write is certainly on no replica.
    pub fn refused(&mut self, index: u32, number: u32) {
        if let Some(key) = self.keys.get_mut(index as usize) {
            key.is_busy = false;
            key.refused.push(number);
            key.is_retired |= key.refused.len() > 64 * OPEN_MAX;
        }
    }

    /// What became of a write is not known.
    pub fn unknown(&mut self, index: u32, number: u32) {
        if let Some(key) = self.keys.get_mut(index as usize) {
            key.is_busy = false;
            key.context = None;
            key.unknown.push(number);
            key.is_retired |= key.unknown.len() > OPEN_MAX;
        }
    }

    /// To be taken before a read is sent.
    #[must_use]
    pub fn floor(&self, index: u32) -> Floor {
        let key = self.keys.get(index as usize);
        Floor {
            acked: key.map_or(0, |key| key.acked),
            is_delete: key.is_some_and(|key| key.acked_is_delete),
        }
    }

    /// Judges what a read found that began at `floor`.
    pub fn read<'a>(&mut self, index: u32, floor: Floor, values: impl Iterator<Item = &'a Bytes>) {
        self.judged += 1;
        if let Err(lie) = self.judge(index, floor, values) {
            self.lie_count += 1;
            if self.lies.len() < LIES_KEPT {
                self.lies.push(lie);
            }
        }
    }

    fn judge<'a>(
        &self,
        index: u32,
        floor: Floor,
        values: impl Iterator<Item = &'a Bytes>,
    ) -> Result<(), Lie> {
        let Some(key) = self.keys.get(index as usize) else {
            return Ok(());
        };
        let mut found = Vec::new();
        for value in values {
            let number = self.number_of(index, value).ok_or_else(|| Lie::Foreign {
                index,
                shown: value.iter().take(16).map(|b| format!("{b:02x}")).collect(),
            })?;
            if number == 0 || number > key.sent {
                let shown = format!("write {number} of {}", key.sent);
                return Err(Lie::Foreign { index, shown });
            }
            found.push(number);
        }
        if key.is_retired {
            return Ok(());
        }
        if let Some(number) = found.iter().copied().find(|n| key.refused.contains(n)) {
            return Err(Lie::Refused { index, number });
        }
        let by = floor.acked;
        let back = |n: &u32| *n < by && !key.unknown.contains(n);
        if let Some(number) = found.iter().copied().find(back) {
            return Err(Lie::Revived { index, number, by });
        }
        let is_there = by == 0
            || floor.is_delete
            || found.iter().any(|number| *number >= by)
            || key.delete_sent > by;
        if is_there {
            return Ok(());
        }
        let number = by;
        Err(Lie::Lost {
            index,
            number,
            found,
        })
    }

    fn number_of(&self, index: u32, value: &Bytes) -> Option<u32> {
        let (head, _) = value.split_first_chunk::<HEAD_BYTES>()?;
        let word = u64::from_be_bytes(*head);
        let number = u32::try_from(word & u64::from(u32::MAX)).ok()?;
        (self.value_of(index, number) == value).then_some(number)
    }

    /// How many reads were judged, how many of them lied, and the first of those lies.
    #[must_use]
    pub fn verdict(&self) -> (u64, u64, &[Lie]) {
        (self.judged, self.lie_count, &self.lies)
    }

    /// Keys that were written.
    pub fn written(&self) -> impl Iterator<Item = u32> + use<'_> {
        let keys = self.keys.iter().zip(0..);
        keys.filter(|(key, _)| key.sent > 0).map(|(_, index)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key with writes 1 (applied), 2 (refused), 3 (unknown), 4 (applied).
    fn model() -> Model {
        let mut model = Model::new(2, 64, 7);
        for number in 1..=4 {
            let claim = model.claim(0, false).expect("nobody writes");
            assert_eq!(claim.number, number);
            assert!(model.claim(0, false).is_none(), "one writer at a time");
            match number {
                2 => model.refused(0, number),
                3 => model.unknown(0, number),
                _ => model.applied(0, number, None),
            }
        }
        model
    }

    fn judge(model: &Model, numbers: &[u32]) -> Result<(), Lie> {
        let values: Vec<Bytes> = numbers.iter().map(|n| model.value_of(0, *n)).collect();
        model.judge(0, model.floor(0), values.iter())
    }

    #[test]
    fn every_kind_of_lie_is_told_from_the_truth() {
        let model = model();
        for truth in [&[4][..], &[3, 4], &[4, 3]] {
            assert_eq!(judge(&model, truth), Ok(()), "{truth:?}");
        }
        let lost = |found: &[u32]| Lie::Lost {
            index: 0,
            number: 4,
            found: found.to_vec(),
        };
        let cases = [
            (&[][..], lost(&[])),
            (&[3], lost(&[3])),
            (
                &[2, 4],
                Lie::Refused {
                    index: 0,
                    number: 2,
                },
            ),
            (
                &[1, 4],
                Lie::Revived {
                    index: 0,
                    number: 1,
                    by: 4,
                },
            ),
        ];
        for (found, lie) in cases {
            assert_eq!(judge(&model, found), Err(lie));
        }
        let foreign = [Bytes::from_static(b"something else"), model.value_of(1, 4)];
        for value in foreign {
            let judged = model.judge(0, model.floor(0), [value].iter());
            assert!(matches!(judged, Err(Lie::Foreign { .. })));
        }
        assert!(matches!(judge(&model, &[5]), Err(Lie::Foreign { .. })));
    }

    #[test]
    fn a_read_beside_a_write_may_find_either_and_a_delete_hides() {
        let mut model = model();
        let floor = model.floor(0);
        model.claim(0, true).expect("nobody writes");
        let values = [model.value_of(0, 4)];
        assert_eq!(model.judge(0, floor, values.iter()), Ok(()));
        assert_eq!(model.judge(0, floor, [].iter()), Ok(()));
        model.applied(0, 5, None);
        assert_eq!(judge(&model, &[]), Ok(()));
        let back = judge(&model, &[4]);
        assert!(matches!(
            back,
            Err(Lie::Revived {
                number: 4,
                by: 5,
                ..
            })
        ));
        assert_eq!(judge(&model, &[3]), Ok(()), "of unknown outcome");
    }
}
