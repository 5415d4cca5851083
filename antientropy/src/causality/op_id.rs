//! The name of one logical write, the same in all its attempts.

use std::fmt;

/// 128 bits that the client draws once per logical write and repeats in each retry and hedge.
///
/// The order of two ids means nothing; it only makes states canonical.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub [u8; 16]);

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}
