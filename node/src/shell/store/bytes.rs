//! Reading and sealing little-endian bytes of the store's own formats.

use quorate_ring::Incarnation;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::identity::StoreId;

/// Everything that must not share a sector with bytes of another batch begins on this.
pub(super) const BLOCK: u64 = 4096;

/// `offset` rounded up to the next block.
pub(super) const fn align(offset: u64) -> u64 {
    offset.next_multiple_of(BLOCK)
}

/// Takes fields off the front of a slice; `None` when it is too short.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    /// A length that stands in the format as `u32`.
    pub(super) fn length(&mut self) -> Option<usize> {
        self.u32().and_then(|length| usize::try_from(length).ok())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Bytes in front of everything sealed: its checksum.
pub(super) const SEAL_BYTES: usize = 8;

/// Fills the first eight bytes of `sealed` with the checksum of the rest.
pub(super) fn seal(sealed: &mut [u8], seed: u64) {
    if let Some((checksum, rest)) = sealed.split_first_chunk_mut::<SEAL_BYTES>() {
        *checksum = xxh3_64_with_seed(rest, seed).to_le_bytes();
    }
}

/// What stands behind the checksum, if that is right.
pub(super) fn unseal(sealed: &[u8], seed: u64) -> Option<Fields<'_>> {
    let (checksum, rest) = sealed.split_first_chunk::<SEAL_BYTES>()?;
    let fits = u64::from_le_bytes(*checksum) == xxh3_64_with_seed(rest, seed);
    fits.then_some(Fields(rest))
}

/// Seeds of one segment's checksums: bytes that stood under another store, segment number, offset
/// or incarnation do not pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seeds(u64);

impl Seeds {
    pub(super) fn new(store: StoreId, segment: u64) -> Self {
        Self(xxh3_64_with_seed(&store.0.to_le_bytes(), segment))
    }

    pub(super) const fn header(self, offset: u64) -> u64 {
        self.0 ^ offset.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    pub(super) const fn frame(self, offset: u64, incarnation: Incarnation) -> u64 {
        self.header(offset).rotate_left(17) ^ incarnation.0
    }
}
