//! The client's causal context as a sealed token: opaque, bound to keyspace and key, authenticated.
//!
//! Token = version byte, 16 bytes of keyed BLAKE3 over (version, keyspace, key, rest), then twice
//! a length and a context, then operations seen. A checksum would not do: one forged vector would
//! make every later write of an actor look old and kill it.
//!
//! A token tells two things apart. Of the writes in `held` a majority of the key's owners has a
//! record that knows them, so a coordinator that does not know them itself can find it; nothing but
//! their dots needs to travel. Of those in `apart` nobody promised that, so their operations travel
//! too: a coordinator that never held a value could not list its operation, and the twin that a
//! retry minted there would stand beside the write that superseded it.

use bytes::{Buf, BufMut, Bytes};
use quorate_antientropy::{
    Context, FLAGGED_MAX, OpId, SIBLINGS_MAX, SUPERSEDED_MAX, SeenOp, SeenOps, SupersededOp,
};
use quorate_ring::KeyspaceId;
use smallvec::SmallVec;

const VERSION: u8 = 2;
const MAC_BYTES: usize = 16;
const HEAD_BYTES: usize = 1 + MAC_BYTES;
const LENGTH_BYTES: usize = 4;
/// One operation seen: its id, its timestamp, its flag.
const SEEN_BYTES: usize = 16 + 8 + 1;
/// Operations of one token: full coordinators' siblings merged, with room, and a record's lists.
const SEEN_MAX: usize = 16 * SIBLINGS_MAX + SUPERSEDED_MAX + FLAGGED_MAX;

/// What is authenticated without an allocation: a key, a context of some nodes, a full list.
const MAC_INPUT_INLINE: usize = 1024;

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

/// What a client has seen of a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Token {
    /// Writes it has seen that a record on a majority of the owners knows.
    pub held: Context,
    /// Writes it has seen, whoever knows them; may repeat some of `held`.
    pub apart: Context,
    /// The operations of `apart`, as values or as superseded by them.
    pub seen: SeenOps,
}

impl Token {
    /// Of writes that a record on a majority of the owners knows.
    #[must_use]
    pub fn held(context: Context) -> Self {
        Self {
            held: context,
            ..Self::default()
        }
    }

    /// Every write that the client has seen.
    #[must_use]
    pub fn context(&self) -> Context {
        if self.apart.is_empty() {
            self.held.clone()
        } else {
            self.held.join(&self.apart)
        }
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

    /// A key for another purpose, from which this one cannot be found.
    #[must_use]
    pub fn derived(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, &self.0)
    }

    /// Seals what a client has seen of `key`; `None` if a context is over [`SEALED_BYTES_MAX`].
    #[must_use]
    pub fn seal(&self, keyspace: KeyspaceId, key: &[u8], token: &Token) -> Option<Bytes> {
        let Token { held, apart, seen } = token;
        let contexts = [held, apart].map(|context| (context, context.encoded_len()));
        if contexts.iter().any(|(_, bytes)| *bytes > SEALED_BYTES_MAX) {
            return None;
        }
        let context_bytes: usize = contexts.iter().map(|(_, bytes)| LENGTH_BYTES + bytes).sum();
        let length = HEAD_BYTES + context_bytes + seen.len() * SEEN_BYTES;
        let mut body = Vec::with_capacity(length);
        body.put_bytes(0, HEAD_BYTES);
        for (context, bytes) in contexts {
            body.put_u32_le(u32::try_from(bytes).expect("it is under the bound"));
            context.encode(&mut body);
        }
        for SeenOp { op, flagged } in seen {
            body.put_slice(&op.op_id.0);
            body.put_u64_le(op.timestamp);
            body.put_u8(u8::from(*flagged));
        }
        let (head, sealed) = body.split_at_mut(HEAD_BYTES);
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
    ) -> Result<Token, SealBroken> {
        let (head, sealed) = token.split_at_checked(HEAD_BYTES).ok_or(SealBroken)?;
        if sealed.len() > 2 * (LENGTH_BYTES + SEALED_BYTES_MAX) + SEEN_MAX * SEEN_BYTES {
            return Err(SealBroken);
        }
        let (version, mac) = head.split_at(1);
        // The comparison of two BLAKE3 hashes takes the same time wherever they differ.
        let expected = blake3::Hash::from(widen(&self.mac(keyspace, key, sealed)));
        if version != [VERSION] || expected != blake3::Hash::from(widen(mac)) {
            return Err(SealBroken);
        }
        decode(sealed).ok_or(SealBroken)
    }

    fn mac(&self, keyspace: KeyspaceId, key: &[u8], sealed: &[u8]) -> [u8; MAC_BYTES] {
        let mut input: SmallVec<[u8; MAC_INPUT_INLINE]> = SmallVec::new();
        input.push(VERSION);
        input.extend_from_slice(&keyspace.0.to_be_bytes());
        input.extend_from_slice(&(key.len() as u64).to_be_bytes());
        input.extend_from_slice(key);
        input.extend_from_slice(sealed);
        let hash = blake3::keyed_hash(&self.0, &input);
        let (mac, _) = hash
            .as_bytes()
            .split_first_chunk()
            .expect("a hash has 32 bytes");
        *mac
    }
}

/// What was sealed; `None` only if another release sealed it in another form.
fn decode(mut sealed: &[u8]) -> Option<Token> {
    let held = decode_context(&mut sealed)?;
    let apart = decode_context(&mut sealed)?;
    let mut rest = sealed;
    let mut seen = SeenOps::with_capacity(rest.len() / SEEN_BYTES);
    while !rest.is_empty() {
        let (op_id, tail) = rest.split_first_chunk()?;
        rest = tail;
        let timestamp = rest.try_get_u64_le().ok()?;
        let flagged = rest.try_get_u8().ok()? != 0;
        let op = SupersededOp {
            op_id: OpId(*op_id),
            timestamp,
        };
        seen.push(SeenOp { op, flagged });
    }
    Some(Token { held, apart, seen })
}

fn decode_context(sealed: &mut &[u8]) -> Option<Context> {
    let bytes = usize::try_from(sealed.try_get_u32_le().ok()?).ok()?;
    let (context, rest) = sealed.split_at_checked(bytes)?;
    *sealed = rest;
    Context::decode(context).ok()
}

fn widen(mac: &[u8]) -> [u8; 32] {
    let mut wide = [0; 32];
    let length = mac.len().min(MAC_BYTES);
    wide[..length].copy_from_slice(&mac[..length]);
    wide
}
