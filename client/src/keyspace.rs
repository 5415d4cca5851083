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
use quorate_ring::{ConsistencyLevel, KeyspaceName};

use crate::client::{Client, Operation, Payload};
use crate::context::{After, Context};
use crate::error::{Failure, GetError, OperationKind, WriteError};
use crate::multi::{MultiGet, MultiPut, WriteItem};
use crate::scan::Scan;
use crate::transport::BoxFuture;
use crate::versions::{Read, Written};
use crate::wire::{Code, KEY_BYTES_MAX, VALUE_BYTES_MAX};

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
}

impl Keyspace {
    pub(crate) fn new(client: Client, name: String) -> Self {
        Self {
            client,
            name: name.into(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
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

    /// Writes a value without having seen anything: it supersedes nothing, and becomes a sibling
    /// of what is there.
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
        let keys = keys.into_iter().map(Into::into).collect();
        MultiGet::new(self.client.clone(), Arc::clone(&self.name), keys)
    }

    /// Writes and deletes many keys at once, at most 1,000 and each once; outcomes come in their
    /// order, each for itself.
    pub fn multi_put(&self, items: Vec<WriteItem>) -> MultiPut {
        MultiPut::new(self.client.clone(), Arc::clone(&self.name), items)
    }

    /// Reads all records, or those of a range, in key order.
    pub fn scan(&self) -> Scan {
        Scan::new(self.client.clone(), Arc::clone(&self.name))
    }

    fn call(&self, key: Bytes, payload: Payload) -> Call {
        Call {
            client: self.client.clone(),
            operation: Operation {
                keyspace: Arc::clone(&self.name),
                key,
                payload,
                level: ConsistencyLevel::Quorum,
                deadline: DEADLINE_DEFAULT,
            },
        }
    }
}

#[derive(Debug)]
struct Call {
    client: Client,
    operation: Operation,
}

impl Call {
    fn refusal(&self) -> Option<Box<Failure>> {
        refusal(&self.operation)
    }
}

/// What is wrong with an operation on a key, before anything is asked.
pub(crate) fn refusal(operation: &Operation) -> Option<Box<Failure>> {
    if !(1..=KEY_BYTES_MAX).contains(&operation.key.len()) {
        return Some(operation.refused(Code::KeyInvalid, KEY_BYTES_MAX));
    }
    if KeyspaceName::from_str(&operation.keyspace).is_err() {
        return Some(operation.refused(Code::KeyspaceUnknown, 0));
    }
    match &operation.payload {
        Payload::Put { value, .. } if value.len() > VALUE_BYTES_MAX => {
            Some(operation.refused(Code::ValueTooLarge, VALUE_BYTES_MAX))
        }
        Payload::Get | Payload::Put { .. } | Payload::Delete { .. } | Payload::Scan { .. } => None,
    }
}

/// A read that is not sent yet. Await it.
#[derive(Debug)]
#[must_use = "a read is sent when it is awaited"]
pub struct Get(Call);

impl Get {
    /// How many replicas must answer; `quorum` unless set.
    pub fn level(mut self, level: ConsistencyLevel) -> Self {
        self.0.operation.level = level;
        self
    }

    /// Time for the whole read, over all attempts; 2 s unless set.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.0.operation.deadline = deadline;
        self
    }
}

impl IntoFuture for Get {
    type Output = Result<Read, GetError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    /// Cancel safe: a read that is dropped has no effect.
    fn into_future(self) -> Self::IntoFuture {
        let call = self.0;
        Box::pin(async move {
            if let Some(failure) = call.refusal() {
                return Err(GetError::from_failure(failure));
            }
            let done = call.client.perform(call.operation).await;
            done.map(|done| {
                done.into_read()
                    .expect("a get is only done when it was read")
            })
            .map_err(GetError::from_failure)
        })
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
            Payload::Get | Payload::Scan { .. } => None,
            Payload::Put { context, .. } | Payload::Delete { context } => Some(context),
        };
        if let Some(slot) = slot {
            *slot = seen;
        }
        self
    }

    /// How many replicas must hold it; `quorum` unless set.
    pub fn level(mut self, level: ConsistencyLevel) -> Self {
        self.call.operation.level = level;
        self
    }

    /// Time for the whole write, over all attempts; 2 s unless set. Past 30 s there are no more
    /// retries.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.call.operation.deadline = deadline;
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
            let missing = || call.operation.refused(Code::ContextInvalid, 0);
            let refusal = call.refusal().or_else(|| lacks_context.then(missing));
            if let Some(failure) = refusal {
                return Err(WriteError::from_failure(failure));
            }
            let done = call.client.perform(call.operation).await;
            done.map(|done| {
                done.into_written()
                    .expect("a write is only done when it was applied")
            })
            .map_err(WriteError::from_failure)
        })
    }
}
