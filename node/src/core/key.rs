//! The one key under which a record is known in the table, the log and the engine.
//!
//! Layout: keyspace (`u32`, big endian), vnode (`u16`, big endian), key. So a vnode of a keyspace
//! is one range of the engine, and inside it keys are in byte order.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use quorate_ring::{KeyspaceId, VnodeId};

/// Bytes in front of the user's key.
pub const PREFIX_BYTES: usize = 6;

/// Key of a record: keyspace, vnode and the user's key, in the engine's order. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(Bytes);

impl RecordKey {
    /// Joins the parts. One allocation.
    #[must_use]
    pub fn new(keyspace: KeyspaceId, vnode: VnodeId, key: &[u8]) -> Self {
        let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + key.len());
        bytes.put_u32(keyspace.0);
        bytes.put_u16(vnode.0);
        bytes.put_slice(key);
        Self(bytes.freeze())
    }

    /// The bound in front of all keys of a vnode; no record has it.
    #[must_use]
    pub fn before(keyspace: KeyspaceId, vnode: VnodeId) -> Self {
        Self::new(keyspace, vnode, b"")
    }

    /// Takes bytes of this layout, as read from the log or the engine; `None` if they are too
    /// short to hold a key.
    #[must_use]
    pub fn from_bytes(bytes: Bytes) -> Option<Self> {
        (bytes.len() > PREFIX_BYTES).then_some(Self(bytes))
    }

    /// The whole key in the engine's layout.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The part that all keys of one vnode of one keyspace share.
    #[must_use]
    pub fn range(&self) -> &[u8] {
        self.0
            .get(..PREFIX_BYTES)
            .expect("constructors check the length")
    }

    /// The keyspace.
    #[must_use]
    pub fn keyspace(&self) -> KeyspaceId {
        let (head, _) = self
            .0
            .split_first_chunk::<4>()
            .expect("constructors check the length");
        KeyspaceId(u32::from_be_bytes(*head))
    }

    /// The vnode.
    #[must_use]
    pub fn vnode(&self) -> VnodeId {
        let (head, _) = self
            .0
            .split_first_chunk::<PREFIX_BYTES>()
            .expect("constructors check the length");
        VnodeId(u16::from_be_bytes([head[4], head[5]]))
    }

    /// The user's key, borrowed.
    #[must_use]
    pub fn user_bytes(&self) -> &[u8] {
        self.0.get(PREFIX_BYTES..).unwrap_or_default()
    }

    /// The user's key.
    #[must_use]
    pub fn user_key(&self) -> Bytes {
        self.0.slice(PREFIX_BYTES..)
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
