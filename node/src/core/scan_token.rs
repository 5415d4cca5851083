//! Where a scan goes on, as a sealed token: nothing is kept on any node between two pages.
//!
//! Token = version byte, 16 bytes of keyed BLAKE3 over (keyspace, range, position), position. Every
//! node of the cluster can open it, also after all of them were restarted; one that was altered, or
//! sealed for another keyspace, range or cluster, is refused. The key is derived from the cluster's
//! context key, so that no context token can pass for a scan token.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_ring::KeyspaceId;

use super::seal::{SealBroken, SealKey};
use super::shard::KEY_BYTES_MAX;

const VERSION: u8 = 1;
const MAC_BYTES: usize = 16;
const HEAD_BYTES: usize = 1 + MAC_BYTES;
const PURPOSE: &str = "quorate 2026 scan position token v1";

/// Longest position: a key, and the zero byte that makes it the next one.
pub const POSITION_BYTES_MAX: usize = KEY_BYTES_MAX + 1;

/// The range that a token is bound to, as the client asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanBound<'a> {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// First key.
    pub start: &'a [u8],
    /// First key behind it.
    pub end: Option<&'a [u8]>,
}

/// Seals `position`, the first key that was not looked at yet.
#[must_use]
pub fn seal_position(key: &SealKey, bound: ScanBound<'_>, position: &[u8]) -> Bytes {
    let mut token = BytesMut::with_capacity(HEAD_BYTES + position.len());
    token.put_u8(VERSION);
    token.put_slice(&mac(key, bound, position));
    token.put_slice(position);
    token.freeze()
}

/// Opens a token.
///
/// # Errors
/// [`SealBroken`] if it was not sealed by this cluster for this keyspace and range.
pub fn open_position(
    key: &SealKey,
    bound: ScanBound<'_>,
    token: &Bytes,
) -> Result<Bytes, SealBroken> {
    let (head, position) = token.split_at_checked(HEAD_BYTES).ok_or(SealBroken)?;
    if position.len() > POSITION_BYTES_MAX {
        return Err(SealBroken);
    }
    let (version, sealed) = head.split_at(1);
    if version != [VERSION] || !same(&mac(key, bound, position), sealed) {
        return Err(SealBroken);
    }
    Ok(Bytes::copy_from_slice(position))
}

fn mac(key: &SealKey, bound: ScanBound<'_>, position: &[u8]) -> [u8; MAC_BYTES] {
    let mut input = BytesMut::with_capacity(64 + bound.start.len() + position.len());
    input.put_u32(bound.keyspace.0);
    for part in [Some(bound.start), bound.end, Some(position)] {
        input.put_u8(u8::from(part.is_some()));
        let part = part.unwrap_or_default();
        input.put_u64(part.len() as u64);
        input.put_slice(part);
    }
    let hash = blake3::keyed_hash(&key.derived(PURPOSE), &input);
    let mut mac = [0; MAC_BYTES];
    mac.iter_mut()
        .zip(hash.as_bytes())
        .for_each(|(to, from)| *to = *from);
    mac
}

/// Compares in a time that does not depend on where they differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
    one.len() == other.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> SealKey {
        SealKey::new([7; 32])
    }

    const BOUND: ScanBound<'static> = ScanBound {
        keyspace: KeyspaceId(1),
        start: b"a",
        end: Some(b"z"),
    };

    #[test]
    fn a_token_opens_for_its_own_range_only() {
        let token = seal_position(&key(), BOUND, b"m\0");
        assert_eq!(
            open_position(&key(), BOUND, &token).as_deref(),
            Ok(&b"m\0"[..])
        );
        let others = [
            ScanBound {
                keyspace: KeyspaceId(2),
                ..BOUND
            },
            ScanBound {
                start: b"",
                ..BOUND
            },
            ScanBound { end: None, ..BOUND },
            ScanBound {
                end: Some(b""),
                ..BOUND
            },
            ScanBound {
                start: b"az",
                end: Some(b""),
                ..BOUND
            },
        ];
        for other in others {
            assert_eq!(
                open_position(&key(), other, &token),
                Err(SealBroken),
                "{other:?}"
            );
        }
        assert_eq!(
            open_position(&SealKey::new([8; 32]), BOUND, &token),
            Err(SealBroken)
        );
    }

    #[test]
    fn a_position_longer_than_any_key_is_refused() {
        let token = seal_position(&key(), BOUND, &[b'a'; POSITION_BYTES_MAX + 1]);
        assert_eq!(open_position(&key(), BOUND, &token), Err(SealBroken));
    }

    proptest! {
        /// Whatever is changed, cut off or added, the token is refused and nothing panics.
        #[test]
        fn an_altered_token_is_refused(
            position in proptest::collection::vec(any::<u8>(), 0..40),
            at in any::<proptest::sample::Index>(),
            flip in 1..=u8::MAX,
            cut in any::<proptest::sample::Index>(),
            more in proptest::collection::vec(any::<u8>(), 1..9),
        ) {
            let token = seal_position(&key(), BOUND, &position);
            prop_assert_eq!(open_position(&key(), BOUND, &token), Ok(Bytes::from(position)));
            let mut flipped = token.to_vec();
            let at = at.index(flipped.len());
            flipped[at] ^= flip;
            prop_assert!(open_position(&key(), BOUND, &flipped.into()).is_err());
            let short = token.slice(..cut.index(token.len()));
            prop_assert!(open_position(&key(), BOUND, &short).is_err());
            let long = [&token[..], &more].concat();
            prop_assert!(open_position(&key(), BOUND, &long.into()).is_err());
        }

        /// Random bytes are no token.
        #[test]
        fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(open_position(&key(), BOUND, &bytes.into()).is_err());
        }
    }
}
