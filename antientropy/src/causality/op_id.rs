//! The name of one logical write, the same in all its attempts.

use std::cmp::Ordering;
use std::fmt;

/// 128 bits that the client draws once per logical write and repeats in each retry and hedge.
///
/// The order of two ids means nothing; it only makes states canonical.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpId(pub [u8; 16]);

impl Ord for OpId {
    /// By bytes; as one number, because a record's lists are searched by this.
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        u128::from_be_bytes(self.0).cmp(&u128::from_be_bytes(other.0))
    }
}

impl PartialOrd for OpId {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}
