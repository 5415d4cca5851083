//! Sessions: read your own writes and never read backwards, at any level.
//!
//! A session remembers, per key that was read or written in it, the context tokens of the newest
//! answers. A read of the session takes them along, and a node answers it only with a record that
//! covers them: it asks more replicas, again if need be, until the deadline. Tokens are opaque
//! here; the node that sealed them compares them.
//!
//! What is promised, per key, whatever the level of each call and whichever node answers:
//! - a read reflects every write of the session that was acknowledged before it began;
//! - a read reflects what every earlier read of the session returned.
//!
//! *Reflects*: the value is there, or something that superseded it is. Nothing is promised about a
//! write whose outcome is unknown, before [`Keyspace::resolve`](crate::Keyspace::resolve) found it
//! *applied* in the session, nor about keys that were not used in the session.
//!
//! A session is bounded and forgets nothing by itself: at a bound the next call is refused with
//! `SESSION_FULL`, because to forget silently would break the promise silently.
//!
//! Not here: comparing (`quorate-node`), the form in which a session travels (`token`).

mod call;
mod token;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

pub(crate) use call::SessionCall;
pub use token::{SESSION_TOKEN_BYTES_MAX, SessionError, SessionToken};

use crate::context::Context;

/// Most keys that a session remembers.
pub const SESSION_KEYS_MAX: usize = 1_024;

/// Bytes of keyspaces, keys and context tokens from which on a session takes nothing new. What is
/// in flight then may pass it by one token per call.
pub const SESSION_BYTES_MAX: usize = 256 * 1024;

/// Most writes of one key after each other without a read between them and without the context of
/// the one before. Each leaves a token of its own; a read makes one of them.
pub const SESSION_WRITES_MAX: usize = 16;

const _: () = assert!(SESSION_WRITES_MAX <= crate::wire::COVERS_MAX);

/// Read your writes and monotonic reads, at any level. Cheap to clone; clones are one session.
///
/// Attach it to a keyspace with [`Keyspace::in_session`](crate::Keyspace::in_session). It costs a
/// token of about 60 to 200 bytes per read, and nothing outside of the session.
///
/// # Example
/// ```
/// # quorate_client::testing::block_on(async {
/// use quorate_client::Level;
///
/// let client = quorate_client::testing::client();
/// let session = client.session();
/// let users = client.keyspace("default").in_session(&session);
/// users.put_blind("alice", "1").level(Level::One).await?;
/// // One replica is enough, as long as it has seen the write.
/// let read = users.get("alice").level(Level::One).await?;
/// assert_eq!(read.value().map(|v| &v[..]), Some(&b"1"[..]));
///
/// // Another process goes on where this one was.
/// let text = session.token()?.to_string();
/// let there = client.resume_session(&text.parse()?)?;
/// let users = client.keyspace("default").in_session(&there);
/// assert!(users.get("alice").level(Level::One).await?.value().is_some());
/// # Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct Session {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    cluster_id: [u8; 16],
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keys: BTreeMap<(Arc<str>, Bytes), Seen>,
    bytes: usize,
}

/// What a session has seen of one key.
#[derive(Debug, Default)]
struct Seen {
    /// A read must cover all of these.
    tokens: Vec<Context>,
    /// Replicas that the next read must ask at least: an acknowledged write brought no token.
    /// 0: no such write.
    replicas_min: u8,
    /// Counts writes without a token, so that a read clears only what it was asked for.
    untold: u64,
    /// Calls in flight that may each leave a token.
    in_flight: usize,
}

impl Seen {
    fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.replicas_min == 0 && self.in_flight == 0
    }
}

impl Session {
    pub(crate) fn new(cluster_id: [u8; 16]) -> Self {
        Self {
            shared: Arc::new(Shared {
                cluster_id,
                state: Mutex::default(),
            }),
        }
    }

    /// How many keys it remembers, at most [`SESSION_KEYS_MAX`].
    #[must_use]
    pub fn keys(&self) -> usize {
        self.lock().keys.len()
    }

    /// Bytes that it remembers; from [`SESSION_BYTES_MAX`] on it takes nothing new.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Forgets one key: its next read in the session promises nothing more than its level.
    pub fn forget(&self, keyspace: &str, key: &[u8]) {
        let mut state = self.lock();
        let name = (Arc::from(keyspace), Bytes::copy_from_slice(key));
        if let Some(seen) = state.keys.get_mut(&name) {
            let bytes: usize = seen.tokens.drain(..).map(|token| token.len()).sum();
            seen.replicas_min = 0;
            state.bytes -= bytes;
        }
        state.drop_if_empty(&name);
    }

    /// Everything that it remembers, to go on in another process.
    ///
    /// # Errors
    /// [`SessionError::TooLong`] if it remembers more than a token may hold; forget keys then.
    pub fn token(&self) -> Result<SessionToken, SessionError> {
        let state = self.lock();
        let seen = state.keys.iter().filter(|(_, seen)| {
            // What is in flight alone says nothing yet.
            !seen.tokens.is_empty() || seen.replicas_min > 0
        });
        SessionToken::encode(self.shared.cluster_id, seen)
    }

    pub(crate) fn resume(cluster_id: [u8; 16], token: &SessionToken) -> Result<Self, SessionError> {
        let session = Self::new(cluster_id);
        *session.lock() = token.decode(cluster_id)?;
        Ok(session)
    }

    /// A panic in another thread cannot have left it half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_if_empty(&mut self, name: &(Arc<str>, Bytes)) {
        if self.keys.get(name).is_some_and(Seen::is_empty) {
            self.keys.remove(name);
            self.bytes -= name_bytes(name);
        }
    }
}

fn name_bytes((keyspace, key): &(Arc<str>, Bytes)) -> usize {
    keyspace.len() + key.len()
}
