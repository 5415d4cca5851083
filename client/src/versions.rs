//! What reads and writes give back: values, siblings as a type, contexts.
//!
//! Not here: how siblings come about (`quorate-antientropy`).

use bytes::Bytes;

use crate::context::Context;
use crate::diagnostics::Diagnostics;
use crate::wire;

/// What a get found.
///
/// # Example
/// ```
/// # quorate_client::testing::block_on(async {
/// use quorate_client::Versions;
///
/// let users = quorate_client::testing::client().keyspace("default");
/// users.put_blind("alice", "1").await?;
/// users.put_blind("alice", "2").await?;
/// let read = users.get("alice").await?;
/// match read.versions() {
///     Versions::Absent => println!("nobody wrote it"),
///     Versions::One(value) => println!("{value:?}"),
///     Versions::Siblings(siblings) => {
///         assert_eq!(siblings.count(), 2);
///         let merged = siblings.iter().max().cloned().unwrap_or_default();
///         users.put("alice", merged).after(&read).await?;
///     }
/// }
/// # Ok(()) });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    values: Vec<Bytes>,
    context: Context,
    replicas: u8,
    diagnostics: Option<Box<Diagnostics>>,
    stamp: Option<u64>,
}

/// The values of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions<'a> {
    /// Nobody wrote the key, or the last write deleted it.
    Absent,
    /// One value.
    One(&'a Bytes),
    /// Two or more values that were written without knowing of each other.
    Siblings(Siblings<'a>),
}

/// Two or more concurrent values, in an order that all nodes agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Siblings<'a>(&'a [Bytes]);

impl<'a> Siblings<'a> {
    /// The values.
    pub fn iter(&self) -> std::slice::Iter<'a, Bytes> {
        self.0.iter()
    }

    /// How many they are: at least 2.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl<'a> IntoIterator for Siblings<'a> {
    type Item = &'a Bytes;
    type IntoIter = std::slice::Iter<'a, Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl Read {
    pub(crate) fn from_wire(read: wire::Read) -> Self {
        let wire::Read {
            values,
            context,
            replicas,
            stamp,
        } = read;
        Self {
            values: values.into_iter().map(|wire::Value(value)| value).collect(),
            context: Context::from_wire(context),
            replicas,
            diagnostics: None,
            stamp: stamp.map(|told| told.stamp),
        }
    }

    pub(crate) fn with_diagnostics(mut self, diagnostics: Diagnostics) -> Self {
        self.diagnostics = Some(Box::new(diagnostics));
        self
    }

    /// How it came about, if the call asked for it with
    /// [`with_diagnostics`](crate::Get::with_diagnostics).
    #[must_use]
    pub fn diagnostics(&self) -> Option<&Diagnostics> {
        self.diagnostics.as_deref()
    }

    /// What there is, by kind.
    #[must_use]
    pub fn versions(&self) -> Versions<'_> {
        match self.values.as_slice() {
            [] => Versions::Absent,
            [value] => Versions::One(value),
            siblings => Versions::Siblings(Siblings(siblings)),
        }
    }

    /// The value if there is exactly one: `None` both for an absent key and for siblings, which
    /// [`Read::versions`] tells apart.
    #[must_use]
    pub fn value(&self) -> Option<&Bytes> {
        match self.versions() {
            Versions::One(value) => Some(value),
            Versions::Absent | Versions::Siblings(_) => None,
        }
    }

    /// All values: none, one or several.
    #[must_use]
    pub fn values(&self) -> &[Bytes] {
        &self.values
    }

    /// All values, without copying them.
    #[must_use]
    pub fn into_values(self) -> Vec<Bytes> {
        self.values
    }

    /// Stamp of what was read in an lww keyspace, in microseconds since 1970: also of a deletion or
    /// an expired value, which shows none. `None` in other keyspaces and where nothing was ever
    /// written.
    #[must_use]
    pub const fn stamp(&self) -> Option<u64> {
        self.stamp
    }

    /// Covers exactly what was read. Empty in an lww keyspace, where a write comes after nothing.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// Replicas that took part.
    #[must_use]
    pub const fn replicas(&self) -> u8 {
        self.replicas
    }
}

/// A write that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    context: Option<Context>,
    acks: u8,
    op_id: wire::OpId,
    attempts: u16,
    diagnostics: Option<Box<Diagnostics>>,
    stamp: Option<u64>,
    superseded_by: Option<wire::Stamp>,
}

impl Written {
    pub(crate) fn from_wire(
        applied: wire::Applied,
        op_id: wire::OpId,
        attempts: u16,
        stamp: Option<u64>,
    ) -> Self {
        let wire::Applied {
            context,
            acks,
            superseded_by,
        } = applied;
        Self {
            context: context.map(Context::from_wire),
            acks,
            op_id,
            attempts,
            diagnostics: None,
            stamp,
            superseded_by,
        }
    }

    pub(crate) fn with_diagnostics(mut self, diagnostics: Diagnostics) -> Self {
        self.diagnostics = Some(Box::new(diagnostics));
        self
    }

    /// How it came about, if the call asked for it with
    /// [`with_diagnostics`](crate::Write::with_diagnostics).
    #[must_use]
    pub fn diagnostics(&self) -> Option<&Diagnostics> {
        self.diagnostics.as_deref()
    }

    /// The same, with what was sent for it before it was written again.
    /// The same, sent so many times.
    pub(crate) fn with_attempts(self, attempts: u16) -> Self {
        Self { attempts, ..self }
    }

    pub(crate) fn after_attempts(self, earlier: u16) -> Self {
        Self {
            attempts: self.attempts.saturating_add(earlier),
            ..self
        }
    }

    pub(crate) const fn superseded_by(&self) -> Option<wire::Stamp> {
        self.superseded_by
    }

    /// Whether a write with a higher stamp is known, in an lww keyspace: this one was applied and
    /// is not what the key holds. Only where it was not written again, or not in time.
    #[must_use]
    pub const fn is_superseded(&self) -> bool {
        self.superseded_by.is_some()
    }

    /// Its stamp in an lww keyspace, in microseconds since 1970.
    #[must_use]
    pub const fn stamp(&self) -> Option<u64> {
        self.stamp
    }

    /// What the writer has now seen: what it had seen before and its own write. Absent if the
    /// token would be too long; then read the key before the next write.
    #[must_use]
    pub const fn context(&self) -> Option<&Context> {
        self.context.as_ref()
    }

    /// Replicas that hold it as durably as the keyspace promises.
    #[must_use]
    pub const fn acks(&self) -> u8 {
        self.acks
    }

    /// The identity that the write kept over all its attempts.
    #[must_use]
    pub const fn op_id(&self) -> wire::OpId {
        self.op_id
    }

    /// How often it was sent.
    #[must_use]
    pub const fn attempts(&self) -> u16 {
        self.attempts
    }
}
