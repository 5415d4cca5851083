//! A set of vnodes as a bitmap: what one scan asks of one node is many vnodes at once.

use bytes::Bytes;
use quorate_ring::VnodeId;

/// Vnodes of one ring. Iterated in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VnodeSet {
    bits: Vec<u8>,
}

impl VnodeSet {
    /// Takes a bitmap as it travels: bit `v % 8` of byte `v / 8` is vnode `v`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            bits: bytes.to_vec(),
        }
    }

    /// The bitmap.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.bits)
    }

    /// Adds a vnode.
    pub fn insert(&mut self, vnode: VnodeId) {
        let byte = usize::from(vnode.0 / 8);
        if self.bits.len() <= byte {
            self.bits.resize(byte + 1, 0);
        }
        if let Some(bits) = self.bits.get_mut(byte) {
            *bits |= 1 << (vnode.0 % 8);
        }
    }

    /// Whether it is in the set.
    #[must_use]
    pub fn contains(&self, vnode: VnodeId) -> bool {
        let byte = self.bits.get(usize::from(vnode.0 / 8));
        byte.is_some_and(|bits| bits & (1 << (vnode.0 % 8)) != 0)
    }

    /// How many. O(vnodes / 8).
    #[must_use]
    pub fn len(&self) -> usize {
        self.bits.iter().map(|b| b.count_ones() as usize).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bits.iter().all(|bits| *bits == 0)
    }

    /// The vnodes in order. Numbers that no vnode can have are passed over.
    pub fn iter(&self) -> impl Iterator<Item = VnodeId> + '_ {
        let all = (0..=u16::MAX).take(self.bits.len().saturating_mul(8));
        all.map(VnodeId).filter(|vnode| self.contains(*vnode))
    }
}

impl FromIterator<VnodeId> for VnodeSet {
    fn from_iter<I: IntoIterator<Item = VnodeId>>(vnodes: I) -> Self {
        let mut set = Self::default();
        vnodes.into_iter().for_each(|vnode| set.insert(vnode));
        set
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The set holds what was put in, in order, also after a journey.
        #[test]
        fn a_set_is_what_was_put_in(vnodes in proptest::collection::btree_set(0..600_u16, 0..40)) {
            let set: VnodeSet = vnodes.iter().copied().map(VnodeId).collect();
            let set = VnodeSet::from_bytes(&set.to_bytes());
            prop_assert_eq!(set.len(), vnodes.len());
            prop_assert_eq!(set.is_empty(), vnodes.is_empty());
            prop_assert!(set.iter().map(|v| v.0).eq(vnodes.iter().copied()));
        }
    }
}
