//! Records: ten fields of 100 bytes, in one value of 1,000 bytes.
//!
//! A field is a number, 8 bytes little-endian, and 92 bytes of a random pool, from a place that
//! follows from key, field and number. So the client needs to remember ten numbers to send a whole
//! record again, and can tell from any record alone whether all its bytes are what was sent for
//! that key. Number 0 is what was loaded; every later write of a field has a higher one.

use bytes::{BufMut, Bytes, BytesMut};
use rand::RngExt;
use rand::rngs::SmallRng;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Fields of a record.
pub const FIELDS: usize = 10;
/// Bytes of a field.
pub const FIELD_BYTES: usize = 100;
/// Bytes of a record.
pub const RECORD_BYTES: usize = FIELDS * FIELD_BYTES;

/// Bytes of a field's number.
const NUMBER_BYTES: usize = 8;
/// Bytes of a field behind its number.
const REST_BYTES: usize = FIELD_BYTES - NUMBER_BYTES;
/// Places in the pool: as many as 16 bits tell apart.
const PLACES: usize = 1 << 16;

/// The number of each field.
pub type Numbers = [u64; FIELDS];

/// Makes and checks records.
#[derive(Debug, Clone)]
pub struct Records {
    pool: Bytes,
}

impl Records {
    /// Records of bytes drawn from `random`.
    #[must_use]
    pub fn new(random: &mut SmallRng) -> Self {
        let pool: Vec<u8> = (0..PLACES + REST_BYTES).map(|_| random.random()).collect();
        Self { pool: pool.into() }
    }

    /// The record of the key with this index whose fields have these numbers. One allocation.
    #[must_use]
    pub fn encode(&self, index: u32, numbers: &Numbers) -> Bytes {
        let mut record = BytesMut::with_capacity(RECORD_BYTES);
        for (field, number) in numbers.iter().enumerate() {
            record.put_u64_le(*number);
            record.put_slice(self.rest(index, field, *number));
        }
        record.freeze()
    }

    /// The numbers of the fields; `None` if any byte is not as it was sent for this key.
    #[must_use]
    pub fn decode(&self, index: u32, record: &[u8]) -> Option<Numbers> {
        if record.len() != RECORD_BYTES {
            return None;
        }
        let mut numbers = Numbers::default();
        let fields = record.chunks_exact(FIELD_BYTES).enumerate();
        for ((field, bytes), slot) in fields.zip(&mut numbers) {
            let (number, rest) = bytes.split_first_chunk::<NUMBER_BYTES>()?;
            *slot = u64::from_le_bytes(*number);
            if rest != self.rest(index, field, *slot) {
                return None;
            }
        }
        Some(numbers)
    }

    fn rest(&self, index: u32, field: usize, number: u64) -> &[u8] {
        let key_and_field = u64::from(index) << 8 | field as u64;
        let hash = xxh3_64_with_seed(&number.to_le_bytes(), key_and_field);
        let place = usize::try_from(hash % PLACES as u64).expect("a place has 16 bits");
        let rest = self.pool.get(place..place + REST_BYTES);
        rest.expect("the pool is longer than the last place by a field")
    }
}

/// Of each field the newer number.
#[must_use]
pub fn merged(mut one: Numbers, other: &Numbers) -> Numbers {
    for (number, other) in one.iter_mut().zip(other) {
        *number = (*number).max(*other);
    }
    one
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_record_tells_its_numbers_and_fits_its_own_key_only() {
        let records = Records::new(&mut SmallRng::seed_from_u64(1));
        for numbers in [
            [0; FIELDS],
            [u64::MAX; FIELDS],
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        ] {
            let record = records.encode(7, &numbers);
            assert_eq!(record.len(), 1_000);
            assert_eq!(records.decode(7, &record), Some(numbers));
            assert_eq!(records.decode(8, &record), None);
        }
    }

    #[test]
    fn a_record_that_was_changed_or_cut_is_refused() {
        let records = Records::new(&mut SmallRng::seed_from_u64(1));
        let whole = records.encode(7, &[3; FIELDS]);
        for at in 0..RECORD_BYTES {
            let mut changed = whole.to_vec();
            changed[at] ^= 1;
            assert_eq!(records.decode(7, &changed), None, "byte {at}");
        }
        assert_eq!(records.decode(7, &whole[..999]), None);
        assert_eq!(records.decode(7, b""), None);
        assert_eq!(records.decode(7, &[&whole[..], b"x"].concat()), None);
    }

    #[test]
    fn merging_takes_the_newer_of_each_field() {
        let one = [5, 0, 1, 1, 1, 1, 1, 1, 1, 1];
        let other = [1, 7, 1, 1, 1, 1, 1, 1, 1, 2];
        let want = [5, 7, 1, 1, 1, 1, 1, 1, 1, 2];
        assert_eq!(merged(one, &other), want);
        assert_eq!(merged(other, &one), want);
    }
}
