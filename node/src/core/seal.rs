//! The client's causal context as a sealed token: opaque, bound to keyspace and key, authenticated.
//!
//! Token = version byte, 16 bytes of keyed BLAKE3 over (keyspace, key, context), context. A checksum
//! would not do: one forged vector would make every later write of an actor look old and kill it.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_antientropy::Context;
use quorate_ring::KeyspaceId;

const VERSION: u8 = 1;
const MAC_BYTES: usize = 16;
const HEAD_BYTES: usize = 1 + MAC_BYTES;

/// Longest context that is sealed or opened, in bytes. Puts keep a context under 64 KiB; merges of
/// what was written apart may pass that, and a get must still work.
pub const SEALED_BYTES_MAX: usize = 1024 * 1024;

/// The cluster's key for context tokens, made when the cluster is created.
#[derive(Clone)]
pub struct SealKey([u8; 32]);

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(..)")
    }
}

/// A token that was not sealed by this cluster for this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the context is altered, too long, or of another key")]
pub struct SealBroken;

impl SealKey {
    /// Takes the secret.
    #[must_use]
    pub const fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// Seals a context for `key`; `None` if it is over [`SEALED_BYTES_MAX`].
    #[must_use]
    pub fn seal(&self, keyspace: KeyspaceId, key: &[u8], context: &Context) -> Option<Bytes> {
        let mut body = Vec::with_capacity(HEAD_BYTES + context.encoded_len());
        body.put_bytes(0, HEAD_BYTES);
        context.encode(&mut body);
        let (head, sealed) = body.split_at_mut(HEAD_BYTES);
        if sealed.len() > SEALED_BYTES_MAX {
            return None;
        }
        head[0] = VERSION;
        head[1..].copy_from_slice(&self.mac(keyspace, key, sealed));
        Some(Bytes::from(body))
    }

    /// Checks and opens a token.
    ///
    /// # Errors
    /// [`SealBroken`] if it was not sealed by this key for this keyspace and key.
    pub fn open(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        token: &Bytes,
    ) -> Result<Context, SealBroken> {
        if token.len() < HEAD_BYTES || token.len() > HEAD_BYTES + SEALED_BYTES_MAX {
            return Err(SealBroken);
        }
        let (head, sealed) = token.split_at(HEAD_BYTES);
        let (version, mac) = head.split_at(1);
        // The comparison of two BLAKE3 hashes takes the same time wherever they differ.
        let expected = blake3::Hash::from(widen(&self.mac(keyspace, key, sealed)));
        if version != [VERSION] || expected != blake3::Hash::from(widen(mac)) {
            return Err(SealBroken);
        }
        Context::decode(sealed).map_err(|_| SealBroken)
    }

    fn mac(&self, keyspace: KeyspaceId, key: &[u8], sealed: &[u8]) -> [u8; MAC_BYTES] {
        let mut input = BytesMut::with_capacity(12 + key.len() + sealed.len());
        input.put_u32(keyspace.0);
        input.put_u64(key.len() as u64);
        input.put_slice(key);
        input.put_slice(sealed);
        let hash = blake3::keyed_hash(&self.0, &input);
        let (mac, _) = hash
            .as_bytes()
            .split_first_chunk()
            .expect("a hash has 32 bytes");
        *mac
    }
}

fn widen(mac: &[u8]) -> [u8; 32] {
    let mut wide = [0; 32];
    let length = mac.len().min(MAC_BYTES);
    wide[..length].copy_from_slice(&mac[..length]);
    wide
}
