//! Reads and writes of a keyspace, as builders that are futures.
//!
//! A put or a delete is complete only when it says what it comes after: `put(..).after(&read)`. To
//! write without having seen anything must be spelled out: `put_blind`.
//!
//! Not here: how they are carried out (`client::perform`).

use std::future::IntoFuture;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_ring::{ConsistencyLevel, KeyspaceMode, KeyspaceName, Ttl};

use crate::client::{AttemptLimits, Client, Diagnose, IfSuperseded, Operation, Payload};
use crate::context::{After, Context};
use crate::error::{Failure, GetError, OperationKind, WriteError};
use crate::multi::{MultiGet, MultiPut, WriteItem};
use crate::profile::{Profile, ProfileError, ProfileSlot, present};
use crate::resolve::ResolveWrite;
use crate::scan::Scan;
use crate::session::{Session, SessionCall};
use crate::transport::BoxFuture;
use crate::versions::{Read, Written};
use crate::wire::{Code, KEY_BYTES_MAX, OpId, VALUE_BYTES_MAX};

/// Deadline of an operation unless another is given.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(2);

/// A keyspace of the cluster. Cheap to clone.
///
/// # Example
/// ```
/// # quorate_client::testing::block_on(async {
/// use std::time::Duration;
/// use quorate_client::Level;
///
/// let users = quorate_client::testing::client().keyspace("default");
/// users.put_blind("alice", "1").await?;
/// let read = users.get("alice").level(Level::One).deadline(Duration::from_millis(500)).await?;
/// let written = users.put("alice", "2").after(&read).await?;
/// users.delete("alice").after(&written).level(Level::All).await?;
/// assert_eq!(users.get("alice").await?.value(), None);
/// # Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct Keyspace {
    client: Client,
    name: Arc<str>,
    profile: Option<ProfileSlot>,
    session: Option<Session>,
}

impl Keyspace {
    pub(crate) fn new(client: Client, name: String) -> Self {
        Self {
            client,
            name: name.into(),
            profile: None,
            session: None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same keyspace, whose calls are made as the profile of that name says.
    ///
    /// # Errors
    /// [`ProfileError::Unknown`] if there is none of that name; it lists those that there are.
    pub fn profile(&self, name: &str) -> Result<Self, ProfileError> {
        let slot = self.client.find_profile(name)?;
        Ok(Self {
            profile: Some(slot),
            ..self.clone()
        })
    }

    /// Random bits of the client.
    pub(crate) fn random(&self) -> u64 {
        self.client.random()
    }

    /// Time for a whole call, as its profile says.
    pub(crate) fn deadline(&self) -> Duration {
        let profile = self.profile.as_ref().map_or_else(Profile::default, present);
        profile.deadline
    }

    /// The same keyspace, whose calls are part of `session`.
    #[must_use]
    pub fn in_session(&self, session: &Session) -> Self {
        Self {
            session: Some(session.clone()),
            ..self.clone()
        }
    }

    /// Asks what became of a write whose outcome was unknown: `op_id` is in its
    /// [`Failure::op_id`](crate::Failure::op_id).
    pub fn resolve(&self, key: impl Into<Bytes>, op_id: OpId) -> ResolveWrite {
        ResolveWrite::new(self.call(key.into(), Payload::Resolve { op_id }))
    }

    /// Reads a key.
    pub fn get(&self, key: impl Into<Bytes>) -> Get {
        Get(self.call(key.into(), Payload::Get))
    }

    /// Writes a value; say with [`Put::after`] what the writer has seen, so that this and nothing
    /// else is superseded.
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Put {
        Put(self.put_blind(key, value))
    }

    /// Writes a value without having seen anything: it supersedes nothing, and becomes a sibling of
    /// what is there. In an lww keyspace, which knows no contexts, this is how to write: the value
    /// takes the place of what is there.
    pub fn put_blind(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Write {
        let payload = Payload::Put {
            value: value.into(),
            context: None,
        };
        Write::new(self.call(key.into(), payload))
    }

    /// Deletes what the writer has seen; say what with [`Delete::after`].
    pub fn delete(&self, key: impl Into<Bytes>) -> Delete {
        Delete(self.delete_blind(key))
    }

    /// Writes a tombstone without having seen anything: it supersedes nothing, so every value that
    /// is there stays.
    pub fn delete_blind(&self, key: impl Into<Bytes>) -> Write {
        Write::new(self.call(key.into(), Payload::Delete { context: None }))
    }

    /// Reads many keys at once, at most 1,000 and each once; results come in their order, each for
    /// itself.
    ///
    /// # Example
    /// ```
    /// # quorate_client::testing::block_on(async {
    /// use quorate_client::WriteItem;
    ///
    /// let users = quorate_client::testing::client().keyspace("default");
    /// let items = vec![WriteItem::put_blind("ann", "1"), WriteItem::put_blind("bob", "2")];
    /// for written in users.multi_put(items).await? {
    ///     written?;
    /// }
    /// let reads = users.multi_get(["ann", "eve"]).await?;
    /// assert_eq!(reads[0].as_ref().map(|read| read.values().len()), Ok(1));
    /// assert_eq!(reads[1].as_ref().map(|read| read.values().len()), Ok(0));
    /// # Ok(()) });
    /// ```
    pub fn multi_get(&self, keys: impl IntoIterator<Item = impl Into<Bytes>>) -> MultiGet {
        let get = |key: Bytes| self.call(key, Payload::Get);
        MultiGet::new(keys.into_iter().map(|key| get(key.into())).collect())
    }

    /// Writes and deletes many keys at once, at most 1,000 and each once; outcomes come in their
    /// order, each for itself.
    pub fn multi_put(&self, items: Vec<WriteItem>) -> MultiPut {
        let write = |item: WriteItem| {
            let (key, payload, ttl) = (item.key, item.payload, item.ttl);
            let mut call = self.call(key, payload);
            call.operation.ttl = ttl;
            (call, item.lacks_context)
        };
        MultiPut::new(items.into_iter().map(write).collect())
    }

    /// Reads all records, or those of a range, in key order, at the read level and within the
    /// attempts of its profile. A scan is no part of a session.
    pub fn scan(&self) -> Scan {
        let payload = Payload::Scan {
            end: None,
            token: None,
            limit: 0,
        };
        Scan::new(
            self.client.clone(),
            self.call(Bytes::new(), payload).operation,
        )
    }

    fn call(&self, key: Bytes, payload: Payload) -> Call {
        let options = self.client.topology().options(&self.name);
        // Without a profile the keyspace says how far an operation must reach.
        let profile = self.profile.as_ref().map_or_else(
            || Profile {
                read_level: options.read_level,
                write_level: options.write_level,
                ..Profile::default()
            },
            present,
        );
        let level = match &payload {
            Payload::Get | Payload::SessionGet { .. } | Payload::Scan { .. } => profile.read_level,
            Payload::Put { .. } | Payload::Delete { .. } | Payload::Resolve { .. } => {
                profile.write_level
            }
        };
        Call {
            client: self.client.clone(),
            session: self.session.clone(),
            operation: Operation {
                keyspace: Arc::clone(&self.name),
                key,
                payload,
                level,
                deadline: profile.deadline,
                attempts: AttemptLimits {
                    deadline: profile.attempt_deadline,
                    count_max: profile.attempts_max,
                    diagnose: Diagnose::No,
                },
                ttl: None,
                if_superseded: IfSuperseded::default(),
            },
        }
    }
}

/// An operation with all that it is made with.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) client: Client,
    session: Option<Session>,
    pub(crate) operation: Operation,
}

impl Call {
    /// `None` keeps what the keyspace has.
    pub(crate) fn set_level(&mut self, level: Option<ConsistencyLevel>) {
        self.operation.level = level.unwrap_or(self.operation.level);
    }

    /// What is wrong with the operation, before anything is asked.
    pub(crate) fn refusal(&self) -> Option<Box<Failure>> {
        let operation = &self.operation;
        if !(1..=KEY_BYTES_MAX).contains(&operation.key.len()) {
            return Some(operation.refused(Code::KeyInvalid, KEY_BYTES_MAX));
        }
        if KeyspaceName::from_str(&operation.keyspace).is_err() {
            return Some(operation.refused(Code::KeyspaceUnknown, 0));
        }
        let has_context = match &operation.payload {
            // A session remembers contexts, which an lww keyspace has not.
            Payload::Get | Payload::Resolve { .. } => self.session.is_some(),
            Payload::SessionGet { .. } => true,
            Payload::Put { context, .. } | Payload::Delete { context } => {
                context.is_some() || self.session.is_some()
            }
            Payload::Scan { .. } => false,
        };
        let mode = self.client.topology().mode(&operation.keyspace);
        if has_context && mode == Some(KeyspaceMode::Lww) {
            return Some(operation.refused(Code::WrongMode, 0));
        }
        if operation
            .ttl
            .is_some_and(|ttl| Ttl::from_duration(ttl).is_err())
        {
            return Some(operation.refused(Code::TtlInvalid, 0));
        }
        match &operation.payload {
            Payload::Put { value, .. } if value.len() > VALUE_BYTES_MAX => {
                Some(operation.refused(Code::ValueTooLarge, VALUE_BYTES_MAX))
            }
            Payload::Get
            | Payload::SessionGet { .. }
            | Payload::Resolve { .. }
            | Payload::Scan { .. }
            | Payload::Put { .. }
            | Payload::Delete { .. } => None,
        }
    }

    /// Takes part in the session, if there is one.
    pub(crate) fn begin(&mut self) -> Result<Option<SessionCall>, Box<Failure>> {
        let Some(session) = &self.session else {
            return Ok(None);
        };
        let topology = self.client.topology();
        SessionCall::begin(session, &mut self.operation, &topology).map(Some)
    }

    async fn read(mut self) -> Result<Read, Box<Failure>> {
        if let Some(failure) = self.refusal() {
            return Err(failure);
        }
        let in_session = self.begin()?;
        let done = self.client.perform(self.operation).await?;
        let read = done.into_read();
        let read = read.expect("a get is only done when it was read");
        if let Some(call) = in_session {
            call.read(&read);
        }
        Ok(read)
    }

    /// Carries out a write, or finds out what became of one.
    pub(crate) async fn write(mut self) -> Result<Written, Box<Failure>> {
        if let Some(failure) = self.refusal() {
            return Err(failure);
        }
        let in_session = self.begin()?;
        let done = self.client.perform(self.operation).await?;
        let written = done.into_written();
        let written = written.expect("a write is only done when it was applied");
        if let Some(call) = in_session {
            call.written(&written);
        }
        Ok(written)
    }
}

/// A read that is not sent yet. Await it.
#[derive(Debug)]
#[must_use = "a read is sent when it is awaited"]
pub struct Get(Call);

impl Get {
    /// How many replicas must answer; what the keyspace has, usually `quorum`, unless set.
    pub fn level(mut self, level: impl Into<Option<ConsistencyLevel>>) -> Self {
        self.0.set_level(level.into());
        self
    }

    /// Time for the whole read, over all attempts; 2 s unless set.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.0.operation.deadline = deadline;
        self
    }

    /// Longest time for one attempt, so that another node is asked earlier.
    pub fn attempt_deadline(mut self, deadline: Duration) -> Self {
        self.0.operation.attempts.deadline = Some(deadline);
        self
    }

    /// Most attempts; 1 turns retries off.
    pub fn attempts_max(mut self, attempts: u16) -> Self {
        self.0.operation.attempts.count_max = Some(attempts.max(1));
        self
    }

    /// Lets the reply tell its attempts, nodes and phases. A failure always does.
    pub fn with_diagnostics(mut self) -> Self {
        self.0.operation.attempts.diagnose = Diagnose::Yes;
        self
    }
}

impl IntoFuture for Get {
    type Output = Result<Read, GetError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    /// Cancel safe: a read that is dropped has no effect.
    fn into_future(self) -> Self::IntoFuture {
        let call = self.0;
        Box::pin(async move { call.read().await.map_err(GetError::from_failure) })
    }
}

/// A put that does not say yet what it comes after.
#[derive(Debug)]
#[must_use = "say what the put comes after, then await it"]
pub struct Put(Write);

impl Put {
    /// Supersedes exactly what `seen` covers: a [`Read`], a [`Written`] or a [`Context`].
    pub fn after(self, seen: impl Into<After>) -> Write {
        self.0.after(seen.into())
    }
}

/// A delete that does not say yet what it comes after.
#[derive(Debug)]
#[must_use = "say what the delete comes after, then await it"]
pub struct Delete(Write);

impl Delete {
    /// Supersedes exactly what `seen` covers: a [`Read`], a [`Written`] or a [`Context`].
    pub fn after(self, seen: impl Into<After>) -> Write {
        self.0.after(seen.into())
    }
}

/// A write that is not sent yet. Await it.
#[derive(Debug)]
#[must_use = "a write is sent when it is awaited"]
pub struct Write {
    call: Call,
    /// It was to come after a write whose reply had no context.
    lacks_context: bool,
}

impl Write {
    const fn new(call: Call) -> Self {
        Self {
            call,
            lacks_context: false,
        }
    }

    fn after(mut self, After(seen): After) -> Self {
        self.lacks_context = seen.is_none();
        let slot: Option<&mut Option<Context>> = match &mut self.call.operation.payload {
            Payload::Get
            | Payload::SessionGet { .. }
            | Payload::Resolve { .. }
            | Payload::Scan { .. } => None,
            Payload::Put { context, .. } | Payload::Delete { context } => Some(context),
        };
        if let Some(slot) = slot {
            *slot = seen;
        }
        self
    }

    /// How many replicas must hold it; what the keyspace has, usually `quorum`, unless set.
    pub fn level(mut self, level: impl Into<Option<ConsistencyLevel>>) -> Self {
        self.call.set_level(level.into());
        self
    }

    /// Time for the whole write, over all attempts; 2 s unless set. Past 30 s there are no more
    /// retries.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.call.operation.deadline = deadline;
        self
    }

    /// Longest time for one attempt, so that another node is asked earlier.
    pub fn attempt_deadline(mut self, deadline: Duration) -> Self {
        self.call.operation.attempts.deadline = Some(deadline);
        self
    }

    /// Most attempts; 1 turns retries off.
    pub fn attempts_max(mut self, attempts: u16) -> Self {
        self.call.operation.attempts.count_max = Some(attempts.max(1));
        self
    }

    /// Lets the reply tell its attempts, nodes and phases. A failure always does.
    pub fn with_diagnostics(mut self) -> Self {
        self.call.operation.attempts.diagnose = Diagnose::Yes;
        self
    }

    /// After this time the value is hidden, by the clocks of the nodes: a millisecond to ten years,
    /// in whole milliseconds. What the keyspace has unless set. Means nothing for a delete.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.call.operation.ttl = Some(ttl);
        self
    }

    /// What follows if a higher stamp is met in an lww keyspace; it is written again unless set.
    pub fn if_superseded(mut self, follows: IfSuperseded) -> Self {
        self.call.operation.if_superseded = follows;
        self
    }

    /// What is written.
    #[must_use]
    pub const fn kind(&self) -> OperationKind {
        self.call.operation.kind()
    }
}

impl IntoFuture for Write {
    type Output = Result<Written, WriteError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    /// Cancel safe, but the outcome of a write that is dropped is unknown.
    fn into_future(self) -> Self::IntoFuture {
        let Self {
            call,
            lacks_context,
        } = self;
        Box::pin(async move {
            if lacks_context {
                let missing = call.operation.refused(Code::ContextInvalid, 0);
                return Err(WriteError::from_failure(missing));
            }
            call.write().await.map_err(WriteError::from_failure)
        })
    }
}
