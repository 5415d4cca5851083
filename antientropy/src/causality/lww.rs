//! A record of a keyspace with last write wins: the one write with the highest version.
//!
//! A version is (stamp, op id). Its writer stamps an operation once, in all attempts alike, so that
//! a retry that arrives late is as old as its operation (`counterexamples.md` V11). Merge is the
//! maximum, which is a join whatever the stamps are. No dots, no contexts, no lists: an operation
//! that is met again is the same version, and one that was superseded stays below.
//!
//! Not here: where stamps come from (`quorate-client`), which are refused (`node::core`).

use bytes::Bytes;

use super::op_id::OpId;

/// What orders the writes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LwwVersion {
    /// Hybrid time at its writer, in microseconds since the Unix epoch.
    pub stamp: u64,
    /// The operation; decides between equal stamps.
    pub op_id: OpId,
}

/// One write: a value, or a tombstone.
///
/// The order is that of the versions; what follows them only makes it total, for bytes that no
/// honest writer makes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LwwWrite {
    version: LwwVersion,
    /// Stamp + TTL, in microseconds since the Unix epoch.
    expiry: Option<u64>,
    value: Option<Bytes>,
}

impl LwwWrite {
    /// A value that is hidden from `expiry` on, in microseconds since the Unix epoch; `None` never.
    #[must_use]
    pub const fn value(version: LwwVersion, value: Bytes, expiry: Option<u64>) -> Self {
        Self {
            version,
            expiry,
            value: Some(value),
        }
    }

    /// A deletion.
    #[must_use]
    pub const fn tombstone(version: LwwVersion) -> Self {
        Self {
            version,
            expiry: None,
            value: None,
        }
    }

    /// Its place among the writes of the key.
    #[must_use]
    pub const fn version(&self) -> LwwVersion {
        self.version
    }

    /// The value, also if it has expired; `None` for a tombstone.
    #[must_use]
    pub const fn stored_value(&self) -> Option<&Bytes> {
        self.value.as_ref()
    }

    /// Whether it is a value, expired or not.
    #[must_use]
    pub const fn has_value(&self) -> bool {
        self.value.is_some()
    }

    /// From when on it is hidden, in microseconds since the Unix epoch.
    #[must_use]
    pub const fn expiry(&self) -> Option<u64> {
        self.expiry
    }

    /// What a get shows at `now_wall` (microseconds since the Unix epoch).
    #[must_use]
    pub fn visible(&self, now_wall: u64) -> Option<&Bytes> {
        let hidden = self.expiry.is_some_and(|expiry| expiry <= now_wall);
        self.value.as_ref().filter(|_| !hidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(stamp: u64, op: u8) -> LwwVersion {
        LwwVersion {
            stamp,
            op_id: OpId([op; 16]),
        }
    }

    #[test]
    fn the_stamp_orders_writes_and_the_op_id_decides_between_equal_ones() {
        let value = |stamp, op| LwwWrite::value(version(stamp, op), Bytes::new(), None);
        assert!(value(1, 9) < value(2, 1));
        assert!(value(2, 1) < value(2, 2));
        assert!(LwwWrite::tombstone(version(3, 0)) > value(2, 2));
    }

    #[test]
    fn a_value_is_hidden_from_its_expiry_on() {
        let value = LwwWrite::value(version(1, 1), Bytes::from_static(b"v"), Some(10));
        assert!(value.visible(9).is_some());
        assert!(value.visible(10).is_none());
        assert!(value.stored_value().is_some());
        assert!(LwwWrite::tombstone(version(1, 1)).visible(0).is_none());
    }
}
