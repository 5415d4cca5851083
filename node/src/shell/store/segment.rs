//! The first block of a log segment, and the names of segment files.
//!
//! A segment number is never used twice, and seeds every checksum inside: what a recycled file
//! still holds from its former number passes for nothing.

use super::bytes::{BLOCK, Fields, SEAL_BYTES, seal, unseal};
use super::error::OpenError;
use super::identity::StoreId;

/// Bytes of a segment before its first batch.
pub(super) const SEGMENT_HEADER_BYTES: u64 = BLOCK;

const MAGIC: u64 = u64::from_le_bytes(*b"QRTLOGSG");
/// The log's format version.
pub(super) const LOG_FORMAT: u32 = 3;
const FIXED_BYTES: usize = SEAL_BYTES + 8 + 4 + 4 + 16 + 8;

const PREFIX: &str = "log-";
const FREE_PREFIX: &str = "free-";

/// Name of the segment `number` in use.
pub(super) fn segment_name(number: u64) -> String {
    format!("{PREFIX}{number:016x}")
}

/// Name of a segment file that waits to be used under a new number.
pub(super) fn free_name(number: u64) -> String {
    format!("{FREE_PREFIX}{number:016x}")
}

/// Number of a segment in use, from its file's name.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    parse_name(name, PREFIX)
}

/// Last number of a free file, from its name.
pub(super) fn free_number(name: &str) -> Option<u64> {
    parse_name(name, FREE_PREFIX)
}

fn parse_name(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    (digits.len() == 16)
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

/// The first block of segment `number`.
pub(super) fn encode_segment_header(store: StoreId, number: u64) -> Vec<u8> {
    let mut bytes = vec![0; SEAL_BYTES];
    bytes.extend_from_slice(&MAGIC.to_le_bytes());
    bytes.extend_from_slice(&LOG_FORMAT.to_le_bytes());
    bytes.extend_from_slice(&0u32.to_le_bytes());
    bytes.extend_from_slice(&store.0.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    seal(&mut bytes, MAGIC);
    bytes.resize(usize::try_from(BLOCK).expect("a block fits into memory"), 0);
    bytes
}

/// Checks that `bytes` begin as segment `number` of `store`.
pub(super) fn check_segment_header(
    bytes: &[u8],
    store: StoreId,
    number: u64,
) -> Result<(), OpenError> {
    let damaged = || OpenError::damaged(format!("{}: bad header", segment_name(number)));
    let fixed = bytes.get(..FIXED_BYTES).ok_or_else(damaged)?;
    let mut fields = unseal(fixed, MAGIC).ok_or_else(damaged)?;
    if fields.u64() != Some(MAGIC) {
        return Err(damaged());
    }
    match fields.u32() {
        Some(LOG_FORMAT) => {}
        Some(found) => {
            return Err(OpenError::OtherFormat {
                file: segment_name(number),
                found,
                supported: LOG_FORMAT,
            });
        }
        None => return Err(damaged()),
    }
    let (found, stands_for) = parse(fields).ok_or_else(damaged)?;
    if found != store {
        return Err(OpenError::ForeignFile {
            file: segment_name(number),
        });
    }
    if stands_for == number {
        Ok(())
    } else {
        Err(damaged())
    }
}

fn parse(mut fields: Fields<'_>) -> Option<(StoreId, u64)> {
    fields.u32()?;
    Some((StoreId(fields.u128()?), fields.u64()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId(5);

    /// The header of segment 9 with one byte changed and sealed again.
    fn altered(at: usize, value: u8) -> Vec<u8> {
        let mut bytes = encode_segment_header(STORE, 9);
        bytes[at] = value;
        seal(&mut bytes[..FIXED_BYTES], MAGIC);
        bytes
    }

    #[test]
    fn a_header_stands_for_one_segment_of_one_store() {
        let bytes = encode_segment_header(STORE, 9);
        assert_eq!(check_segment_header(&bytes, STORE, 9), Ok(()));
        let moved = check_segment_header(&bytes, STORE, 10);
        assert!(matches!(moved, Err(OpenError::Damaged { .. })));
        let foreign = check_segment_header(&bytes, StoreId(6), 9);
        assert!(matches!(foreign, Err(OpenError::ForeignFile { .. })));
    }

    #[test]
    fn another_format_is_told_from_damage() {
        for other in [LOG_FORMAT - 1, LOG_FORMAT + 1] {
            let byte = u8::try_from(other).expect("small");
            let refused = check_segment_header(&altered(16, byte), STORE, 9);
            let told =
                matches!(refused, Err(OpenError::OtherFormat { found, .. }) if found == other);
            assert!(told, "{refused:?}");
        }
        let mut flipped = encode_segment_header(STORE, 9);
        flipped[16] = u8::try_from(LOG_FORMAT + 1).expect("small");
        let damaged = check_segment_header(&flipped, STORE, 9);
        assert!(matches!(damaged, Err(OpenError::Damaged { .. })));
    }

    #[test]
    fn names_and_numbers_are_one_to_one() {
        assert_eq!(segment_number(&segment_name(0xabc)), Some(0xabc));
        assert_eq!(free_number(&free_name(7)), Some(7));
        for name in [
            "log-",
            "log-12",
            "free-0000000000000001",
            "log-000000000000000g",
        ] {
            assert_eq!(segment_number(name), None, "{name}");
        }
    }
}
