//! Values: incompressible, and telling of which key they are, so that a read can be checked.
//!
//! A value begins with the index of its key (as far as it is long enough) and goes on with a piece
//! of one random pool, at an offset that changes from value to value.

use bytes::{BufMut, Bytes, BytesMut};
use rand::RngExt;
use rand::rngs::SmallRng;

/// Bytes that name the key at the head of a value.
const HEAD_BYTES: usize = 4;

/// Random bytes behind the longest value, so that values start at many offsets.
const SPREAD_BYTES: usize = 1 << 16;

/// Makes and checks values of one length.
#[derive(Debug, Clone)]
pub struct Values {
    length: usize,
    pool: Bytes,
}

impl Values {
    /// Values of `length` bytes.
    #[must_use]
    pub fn new(length: usize, random: &mut SmallRng) -> Self {
        let pool: Vec<u8> = (0..length + SPREAD_BYTES)
            .map(|_| random.random())
            .collect();
        Self {
            length,
            pool: pool.into(),
        }
    }

    /// A new value of the key with this index. One allocation.
    #[must_use]
    pub fn make(&self, index: u32, random: &mut SmallRng) -> Bytes {
        let head = index.to_le_bytes();
        let head = head.get(..self.length.min(HEAD_BYTES)).unwrap_or(&head);
        let start = random.random_range(0..SPREAD_BYTES);
        let rest = self.pool.slice(start..start + self.length - head.len());
        let mut value = BytesMut::with_capacity(self.length);
        value.put_slice(head);
        value.put_slice(&rest);
        value.freeze()
    }

    /// Whether `value` can be one of the key with this index: its length and its head.
    #[must_use]
    pub fn fits(&self, index: u32, value: &[u8]) -> bool {
        let head = index.to_le_bytes();
        let checked = self.length.min(HEAD_BYTES);
        value.len() == self.length && value.iter().zip(head).take(checked).all(|(a, b)| *a == b)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_value_fits_its_own_key_only() {
        let mut random = SmallRng::seed_from_u64(1);
        for length in [0, 1, 4, 256, 70_000] {
            let values = Values::new(length, &mut random);
            let value = values.make(7, &mut random);
            assert_eq!(value.len(), length);
            assert!(values.fits(7, &value));
            assert_eq!(values.fits(8, &value), length == 0);
            assert!(!values.fits(7, &vec![7; length + 1]));
        }
    }
}
