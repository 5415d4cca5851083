//! The one key under which a record is known in the table, the log and the engine.
//!
//! Layout: keyspace (`u32`, big endian), vnode (`u16`, big endian), key. So a vnode of a keyspace
//! is one range of the engine, and inside it keys are in byte order.
//!
//! Keys of usual length lie inside the value, not behind a pointer: comparing two keys of the table
//! then costs no cache miss of its own, and a clone no allocation.

use std::fmt;
use std::hash::{Hash, Hasher};

use quorate_ring::{KeyspaceId, VnodeId};
use smallvec::SmallVec;

/// Bytes in front of the user's key.
pub const PREFIX_BYTES: usize = 6;

/// Bytes that a key takes without an allocation: a UUID as text fits.
const INLINE_BYTES: usize = 48;

/// Key of a record: keyspace, vnode and the user's key, in the engine's order. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordKey(SmallVec<[u8; INLINE_BYTES]>);

impl RecordKey {
    /// Joins the parts. No allocation for user's keys of up to 42 bytes.
    #[must_use]
    pub fn new(keyspace: KeyspaceId, vnode: VnodeId, key: &[u8]) -> Self {
        let mut bytes = SmallVec::with_capacity(PREFIX_BYTES + key.len());
        bytes.extend_from_slice(&keyspace.0.to_be_bytes());
        bytes.extend_from_slice(&vnode.0.to_be_bytes());
        bytes.extend_from_slice(key);
        Self(bytes)
    }

    /// The bound in front of all keys of a vnode; no record has it.
    #[must_use]
    pub fn before(keyspace: KeyspaceId, vnode: VnodeId) -> Self {
        Self::new(keyspace, vnode, b"")
    }

    /// Takes bytes of this layout, as read from the log or the engine; `None` if they are too
    /// short to hold a key.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() > PREFIX_BYTES).then(|| Self(SmallVec::from_slice(bytes)))
    }

    /// The whole key in the engine's layout.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The part that all keys of one vnode of one keyspace share.
    #[must_use]
    pub fn range(&self) -> [u8; PREFIX_BYTES] {
        let (head, _) = self
            .0
            .split_first_chunk()
            .expect("constructors check the length");
        *head
    }

    /// The keyspace.
    #[must_use]
    pub fn keyspace(&self) -> KeyspaceId {
        let [a, b, c, d, _, _] = self.range();
        KeyspaceId(u32::from_be_bytes([a, b, c, d]))
    }

    /// The vnode.
    #[must_use]
    pub fn vnode(&self) -> VnodeId {
        let [_, _, _, _, a, b] = self.range();
        VnodeId(u16::from_be_bytes([a, b]))
    }

    /// The user's key.
    #[must_use]
    pub fn user_key(&self) -> &[u8] {
        self.0.get(PREFIX_BYTES..).unwrap_or_default()
    }

    /// Bytes that the key takes outside this value.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        if self.0.spilled() { self.0.len() } else { 0 }
    }
}

impl Hash for RecordKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The bytes alone: a length in front would be hashed on its own.
        state.write(&self.0);
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.user_key();
        write!(
            f,
            "{}/{}/{}",
            self.keyspace().0,
            self.vnode().0,
            key.escape_ascii()
        )
    }
}
