//! Positions on the ring and the equal parts it is cut into.
//!
//! A token is xxh3-64 of (keyspace id, key). The high bits name the vnode, the ten bits below them
//! the bucket whose digest the key belongs to, so that a vnode and a bucket are ranges of tokens.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::node::KeyspaceId;

/// Bits of a token that name its bucket inside the vnode: 1,024 buckets.
pub const BUCKET_BITS: u32 = 10;

/// Position on the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

impl Token {
    /// Position of `key` of `keyspace`.
    #[must_use]
    pub fn of(keyspace: KeyspaceId, key: &[u8]) -> Self {
        Self(xxh3_64_with_seed(key, u64::from(keyspace.0)))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One of the equal parts of the ring, owned as a unit; 0 to count - 1 in token order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VnodeId(pub u16);

/// One of a vnode's 1,024 equal parts, the unit of digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketId(pub u16);

/// How many vnodes the ring has: a power of two from 1 to 32,768, fixed at cluster creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VnodeCount {
    bits: u32,
}

/// Why a number of vnodes is not usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{given} vnodes: the number must be a power of two from 1 to 32768")]
pub struct VnodeCountError {
    /// What was given.
    pub given: u32,
}

impl VnodeCount {
    /// What a cluster has unless it was created with another number.
    pub const DEFAULT: Self = Self { bits: 8 };

    /// Checks a number of vnodes.
    ///
    /// # Errors
    /// [`VnodeCountError`] if `count` is not a power of two from 1 to 32,768.
    pub const fn new(count: u32) -> Result<Self, VnodeCountError> {
        if count.is_power_of_two() && count <= 1 << 15 {
            Ok(Self {
                bits: count.trailing_zeros(),
            })
        } else {
            Err(VnodeCountError { given: count })
        }
    }

    /// The number of vnodes.
    #[must_use]
    pub const fn get(self) -> u32 {
        1 << self.bits
    }

    /// Every vnode, in token order.
    pub fn vnodes(self) -> impl Iterator<Item = VnodeId> {
        (0..1u32 << self.bits).filter_map(|index| u16::try_from(index).ok().map(VnodeId))
    }

    /// The vnode that holds `token`.
    #[must_use]
    pub fn vnode_of(self, token: Token) -> VnodeId {
        // Two shifts: with one vnode a single shift by 64 would overflow.
        let index = (token.0 >> 1) >> (63 - self.bits);
        VnodeId(u16::try_from(index).expect("at most 15 bits are left"))
    }

    /// The bucket of `token` inside its vnode.
    #[must_use]
    pub fn bucket_of(self, token: Token) -> BucketId {
        let below = token.0 << self.bits;
        BucketId(u16::try_from(below >> (64 - BUCKET_BITS)).expect("ten bits are left"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vnode_and_bucket_are_the_leading_bits_of_the_token() {
        let four = VnodeCount::new(4).expect("a power of two");
        let token = Token(0b10_1111111111 << 52);
        assert_eq!(four.vnode_of(token), VnodeId(0b10));
        assert_eq!(four.bucket_of(token), BucketId(0b11_1111_1111));
    }

    #[test]
    fn one_vnode_holds_every_token() {
        let one = VnodeCount::new(1).expect("a power of two");
        assert_eq!(one.vnode_of(Token(u64::MAX)), VnodeId(0));
        assert_eq!(one.bucket_of(Token(u64::MAX)), BucketId(1023));
    }

    #[test]
    fn counts_that_are_no_power_of_two_are_refused() {
        for given in [0, 3, 255, 65_536, u32::MAX] {
            assert_eq!(VnodeCount::new(given), Err(VnodeCountError { given }));
        }
    }
}
