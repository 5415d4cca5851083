//! A session on its way to another process.
//!
//! Content, version 1: a version byte, the cluster's id (16 bytes), then a MessagePack array of
//! `[keyspace, key, [context token, ..], replicas]`, one per key. A context token is what a node
//! sealed for that key; `replicas` is how many replicas the next read must ask at least, 0 if the
//! tokens tell everything. There are keys in it, and no values. A token that was altered is refused
//! by the node that opens it; keys that were taken out are no longer promised anything.
//!
//! As text it is URL-safe base64.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{SESSION_BYTES_MAX, SESSION_KEYS_MAX, SESSION_WRITES_MAX, Seen, State, name_bytes};
use crate::context::Context;
use crate::wire::{ContextToken, KEY_BYTES_MAX, lenient, prescan};

/// Longest token, in bytes: what a session may hold and room for what was in flight.
pub const SESSION_TOKEN_BYTES_MAX: usize = 2 * SESSION_BYTES_MAX;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 17;
/// MessagePack values of a full session.
const ITEMS_MAX: usize = 1 + SESSION_KEYS_MAX * (8 + 2 * SESSION_WRITES_MAX);

/// What a session remembers, as bytes or text, to go on elsewhere.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionToken(Bytes);

/// Why a session cannot travel or be gone on with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// It is longer than a token may be.
    #[error(
        "the session takes {bytes} bytes and a token may have {SESSION_TOKEN_BYTES_MAX}: forget keys \
         that it needs no more, or begin another session"
    )]
    TooLong {
        /// Bytes that it takes.
        bytes: usize,
    },
    /// It is no token of a session.
    #[error("the text is no session token; give it exactly as it was printed")]
    Malformed,
    /// It is of a newer release.
    #[error("the session token has version {version}, this release knows {VERSION}: update it")]
    Version {
        /// Its version.
        version: u8,
    },
    /// It belongs to another cluster.
    #[error("the session token belongs to another cluster")]
    OtherCluster,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    keyspace: String,
    key: Bytes,
    tokens: Vec<ContextToken>,
    replicas_min: u8,
}

impl SessionToken {
    pub(super) fn encode<'a>(
        cluster_id: [u8; 16],
        seen: impl Iterator<Item = (&'a (Arc<str>, Bytes), &'a Seen)>,
    ) -> Result<Self, SessionError> {
        let entry = |((keyspace, key), seen): (&(Arc<str>, Bytes), &Seen)| Entry {
            keyspace: keyspace.to_string(),
            key: key.clone(),
            tokens: seen.tokens.iter().map(Context::to_wire).collect(),
            replicas_min: seen.replicas_min,
        };
        let entries: Vec<Entry> = seen.map(entry).collect();
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&cluster_id);
        // Writing to memory cannot fail, and every field has a form.
        rmp_serde::encode::write(&mut bytes, &entries).map_err(|_| SessionError::Malformed)?;
        if bytes.len() > SESSION_TOKEN_BYTES_MAX {
            return Err(SessionError::TooLong { bytes: bytes.len() });
        }
        Ok(Self(bytes.into()))
    }

    pub(super) fn decode(&self, cluster_id: [u8; 16]) -> Result<State, SessionError> {
        let malformed = || SessionError::Malformed;
        let (head, body) = self.0.split_at_checked(HEAD_BYTES).ok_or_else(malformed)?;
        let (version, cluster) = head.split_first().ok_or_else(malformed)?;
        if *version != VERSION {
            return Err(SessionError::Version { version: *version });
        }
        if cluster != cluster_id {
            return Err(SessionError::OtherCluster);
        }
        prescan::check(body, ITEMS_MAX).map_err(|_| malformed())?;
        let entries: Vec<Entry> = lenient::from_slice(body).map_err(|_| malformed())?;
        let mut state = State {
            keys: BTreeMap::new(),
            bytes: 0,
        };
        for entry in entries {
            let fits = (1..=KEY_BYTES_MAX).contains(&entry.key.len())
                && entry.tokens.len() <= 2 * SESSION_WRITES_MAX;
            let tokens = entry.tokens.into_iter();
            let tokens = tokens.map(|ContextToken(bytes)| Context::from_bytes(bytes));
            let tokens: Result<Vec<Context>, _> = tokens.collect();
            let (true, Ok(tokens)) = (fits, tokens) else {
                return Err(malformed());
            };
            let name = (Arc::from(entry.keyspace), entry.key);
            state.bytes += name_bytes(&name) + tokens.iter().map(Context::len).sum::<usize>();
            let seen = Seen {
                tokens,
                replicas_min: entry.replicas_min,
                ..Seen::default()
            };
            if state.keys.insert(name, seen).is_some() {
                return Err(malformed());
            }
        }
        Ok(state)
    }

    /// Takes a token as bytes, as [`SessionToken::as_bytes`] gave them.
    ///
    /// # Errors
    /// [`SessionError::TooLong`]. What is inside is looked at by
    /// [`Client::resume_session`](crate::Client::resume_session).
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self, SessionError> {
        let bytes = bytes.into();
        if bytes.len() > SESSION_TOKEN_BYTES_MAX {
            return Err(SessionError::TooLong { bytes: bytes.len() });
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionToken({} bytes)", self.0.len())
    }
}

impl fmt::Display for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

impl FromStr for SessionToken {
    type Err = SessionError;

    fn from_str(text: &str) -> Result<Self, SessionError> {
        // Four characters carry three bytes; nothing longer is decoded at all.
        let bytes = text.len() / 4 * 3;
        if bytes > SESSION_TOKEN_BYTES_MAX {
            return Err(SessionError::TooLong { bytes });
        }
        let decoded = URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
        Self::from_bytes(decoded.map_err(|_| SessionError::Malformed)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Session;

    const CLUSTER: [u8; 16] = [7; 16];

    fn session(keys: &[(&str, &[&[u8]], u8)]) -> Session {
        let session = Session::new(CLUSTER);
        let mut state = session.lock();
        for (key, tokens, replicas_min) in keys {
            let token = |bytes: &&[u8]| Context::from_bytes(bytes.to_vec()).expect("not empty");
            let seen = Seen {
                tokens: tokens.iter().map(token).collect(),
                replicas_min: *replicas_min,
                ..Seen::default()
            };
            let key = Bytes::copy_from_slice(key.as_bytes());
            state.keys.insert((Arc::from("default"), key), seen);
        }
        drop(state);
        session
    }

    #[test]
    fn a_session_survives_its_way_through_text() {
        let keys: [(&str, &[&[u8]], u8); 2] = [("a", &[b"one", b"two"], 0), ("b", &[], 2)];
        let token = session(&keys).token().expect("small");
        let text = token.to_string();
        let back: SessionToken = text.parse().expect("as it was printed");
        let resumed = Session::resume(CLUSTER, &back).expect("of this cluster");
        assert_eq!(resumed.token(), Ok(token));
        assert_eq!(resumed.keys(), 2);
    }

    #[test]
    fn what_is_no_session_is_refused() {
        let good = session(&[("a", &[b"one"], 0)]).token().expect("small");
        let resume = |cluster, bytes: &[u8]| {
            let token = SessionToken::from_bytes(bytes.to_vec()).expect("short");
            Session::resume(cluster, &token).map(|session| session.keys())
        };
        assert_eq!(resume([8; 16], &good.0), Err(SessionError::OtherCluster));
        assert_eq!(resume(CLUSTER, b""), Err(SessionError::Malformed));
        let mut other = good.0.to_vec();
        other[0] = 9;
        let version = SessionError::Version { version: 9 };
        assert_eq!(resume(CLUSTER, &other), Err(version));
        assert_eq!(
            resume(CLUSTER, &good.0[..good.0.len() - 1]),
            Err(SessionError::Malformed)
        );
        let long = "A".repeat(SESSION_TOKEN_BYTES_MAX * 2);
        assert!(matches!(
            long.parse::<SessionToken>(),
            Err(SessionError::TooLong { .. })
        ));
        assert_eq!(
            "no base64!".parse::<SessionToken>(),
            Err(SessionError::Malformed)
        );
    }

    proptest! {
        /// Bytes of a stranger never panic and never take more memory than they have.
        #[test]
        fn random_bytes_are_refused_or_bounded(
            tail in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let mut bytes = vec![VERSION];
            bytes.extend_from_slice(&CLUSTER);
            bytes.extend_from_slice(&tail);
            let token = SessionToken::from_bytes(bytes).expect("short");
            if let Ok(session) = Session::resume(CLUSTER, &token) {
                prop_assert!(session.bytes() <= tail.len());
            }
        }
    }
}
