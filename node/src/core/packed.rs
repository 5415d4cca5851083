//! Canonical bytes of a record in one allocation.
//!
//! `Bytes` made of a `Vec` has two once it is shared: the bytes and their reference count. Records
//! live long, by the million, and are freed in no order, so each of the two costs cache misses of
//! its own. Here count and bytes lie side by side, in size classes of 64 bytes up to 1 KiB; what is
//! longer is copied as usual, for there the second allocation is small against the copy.
//!
//! A copy also lets go of the network buffer that the bytes were a slice of.

use bytes::Bytes;

/// Bytes of a class and how many of them count.
struct Class<const SIZE: usize> {
    len: u16,
    bytes: [u8; SIZE],
}

impl<const SIZE: usize> Class<SIZE> {
    fn share(record: &[u8]) -> Bytes {
        let mut bytes = [0; SIZE];
        let (head, _) = bytes.split_at_mut(record.len());
        head.copy_from_slice(record);
        let len = u16::try_from(record.len()).expect("a class is at most 1 KiB");
        Bytes::from_owner(Self { len, bytes })
    }
}

impl<const SIZE: usize> AsRef<[u8]> for Class<SIZE> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// Copies `record` into one allocation of its own.
#[must_use]
pub fn packed(record: &[u8]) -> Bytes {
    match record.len().div_ceil(64) {
        0..=1 => Class::<64>::share(record),
        2 => Class::<128>::share(record),
        3 => Class::<192>::share(record),
        4 => Class::<256>::share(record),
        5 => Class::<320>::share(record),
        6 => Class::<384>::share(record),
        7 => Class::<448>::share(record),
        8 => Class::<512>::share(record),
        9 => Class::<576>::share(record),
        10 => Class::<640>::share(record),
        11 => Class::<704>::share(record),
        12 => Class::<768>::share(record),
        13 => Class::<832>::share(record),
        14 => Class::<896>::share(record),
        15 => Class::<960>::share(record),
        16 => Class::<1024>::share(record),
        _ => Bytes::copy_from_slice(record),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_comes_back_as_it_was() {
        let all: Vec<u8> = (0..=255).cycle().take(1_200).collect();
        for length in 0..all.len() {
            let record = &all[..length];
            let shared = packed(record);
            assert_eq!((&shared[..], &shared.clone()[..]), (record, record));
        }
    }
}
