//! Many gets or many writes in one call, with an outcome for each.
//!
//! The items of a batch are independent: each is applied or not for itself, and one that fails does
//! not concern the others. A batch is not a transaction.

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_ring::ConsistencyLevel;

use crate::client::{Client, ItemEnd, Operation, Payload};
use crate::context::{After, Context};
use crate::error::{Failure, GetError, WriteError};
use crate::keyspace::{DEADLINE_DEFAULT, refusal};
use crate::transport::BoxFuture;
use crate::versions::{Read, Written};
use crate::wire::{BATCH_ITEMS_MAX, Code};

/// Why a batch was refused as a whole: nothing was asked, **not applied**.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// More items than a batch may have.
    #[error("a batch has at most {BATCH_ITEMS_MAX} items, this one has {items}: split it")]
    TooLarge {
        /// How many it has.
        items: usize,
    },
    /// A key is named twice: which of the two should win?
    #[error("items {first} and {second} of the batch are of one key: name each key once")]
    Repeated {
        /// Index of the first of the two.
        first: usize,
        /// Index of the second.
        second: usize,
    },
}

impl BatchError {
    /// Why, as a stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::TooLarge { .. } => Code::BatchTooLarge,
            Self::Repeated { .. } => Code::BatchItemRepeated,
        }
    }
}

/// One write of a batch.
#[derive(Debug, Clone)]
pub struct WriteItem {
    key: Bytes,
    /// `None` deletes.
    value: Option<Bytes>,
    context: Option<Context>,
    lacks_context: bool,
}

impl WriteItem {
    /// Writes a value after what `seen` shows.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>, seen: impl Into<After>) -> Self {
        Self::after(key.into(), Some(value.into()), seen.into())
    }

    /// Writes a value without having seen anything: it becomes a sibling of what is there.
    pub fn put_blind(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            value: Some(value.into()),
            context: None,
            lacks_context: false,
        }
    }

    /// Deletes what `seen` shows.
    pub fn delete(key: impl Into<Bytes>, seen: impl Into<After>) -> Self {
        Self::after(key.into(), None, seen.into())
    }

    fn after(key: Bytes, value: Option<Bytes>, After(context): After) -> Self {
        Self {
            key,
            value,
            lacks_context: context.is_none(),
            context,
        }
    }
}

/// Settings of a batch.
#[derive(Debug)]
struct Batch {
    client: Client,
    keyspace: Arc<str>,
    level: ConsistencyLevel,
    deadline: Duration,
}

impl Batch {
    fn operation(&self, key: Bytes, payload: Payload) -> Operation {
        Operation {
            keyspace: Arc::clone(&self.keyspace),
            key,
            payload,
            level: self.level,
            deadline: self.deadline,
        }
    }

    /// Carries out what is not refused here; ends come in order.
    async fn perform(&self, operations: Vec<(Operation, bool)>) -> Vec<ItemEnd> {
        let mut refusals: Vec<Option<Box<Failure>>> = Vec::with_capacity(operations.len());
        let mut good = Vec::with_capacity(operations.len());
        for (operation, lacks_context) in operations {
            let missing = || operation.refused(Code::ContextInvalid, 0);
            let refused = refusal(&operation).or_else(|| lacks_context.then(missing));
            if refused.is_none() {
                good.push(operation);
            }
            refusals.push(refused);
        }
        let mut ends = self.client.perform_all(good).await.into_iter();
        let ends = refusals.into_iter().map(|refused| match refused {
            Some(failure) => Some(Err(failure)),
            None => ends.next(),
        });
        ends.map(|end| end.expect("each operation has an end"))
            .collect()
    }
}

fn check<'a>(keys: impl ExactSizeIterator<Item = &'a Bytes>) -> Result<(), BatchError> {
    let items = keys.len();
    if items > BATCH_ITEMS_MAX {
        return Err(BatchError::TooLarge { items });
    }
    let mut seen: Vec<(&Bytes, usize)> = keys.zip(0..).collect();
    seen.sort_unstable();
    let twice: BTreeSet<(usize, usize)> = seen
        .windows(2)
        .filter_map(|pair| match pair {
            [(one, first), (other, second)] if one == other => Some((*first, *second)),
            _ => None,
        })
        .collect();
    match twice.first() {
        Some((first, second)) => Err(BatchError::Repeated {
            first: *first,
            second: *second,
        }),
        None => Ok(()),
    }
}

/// Many reads that are not sent yet. Await it.
#[derive(Debug)]
#[must_use = "reads are sent when they are awaited"]
pub struct MultiGet {
    batch: Batch,
    keys: Vec<Bytes>,
}

/// Many writes that are not sent yet. Await it.
#[derive(Debug)]
#[must_use = "writes are sent when they are awaited"]
pub struct MultiPut {
    batch: Batch,
    items: Vec<WriteItem>,
}

macro_rules! settings {
    ($name:ident) => {
        impl $name {
            /// How many replicas each item needs; `quorum` unless set.
            pub fn level(mut self, level: ConsistencyLevel) -> Self {
                self.batch.level = level;
                self
            }

            /// Time for all items, over all attempts; 2 s unless set.
            pub fn deadline(mut self, deadline: Duration) -> Self {
                self.batch.deadline = deadline;
                self
            }
        }
    };
}

settings!(MultiGet);
settings!(MultiPut);

impl MultiGet {
    pub(crate) fn new(client: Client, keyspace: Arc<str>, keys: Vec<Bytes>) -> Self {
        let batch = Batch::new(client, keyspace);
        Self { batch, keys }
    }
}

impl MultiPut {
    pub(crate) fn new(client: Client, keyspace: Arc<str>, items: Vec<WriteItem>) -> Self {
        let batch = Batch::new(client, keyspace);
        Self { batch, items }
    }
}

impl Batch {
    fn new(client: Client, keyspace: Arc<str>) -> Self {
        Self {
            client,
            keyspace,
            level: ConsistencyLevel::Quorum,
            deadline: DEADLINE_DEFAULT,
        }
    }
}

impl IntoFuture for MultiGet {
    type Output = Result<Vec<Result<Read, GetError>>, BatchError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { batch, keys } = self;
            check(keys.iter())?;
            let operation = |key| (batch.operation(key, Payload::Get), false);
            let ends = batch.perform(keys.into_iter().map(operation).collect());
            let read = |end: ItemEnd| {
                let read = |done: crate::client::Done| {
                    done.into_read()
                        .expect("a read is only done when it was read")
                };
                end.map(read).map_err(GetError::from_failure)
            };
            Ok(ends.await.into_iter().map(read).collect())
        })
    }
}

impl IntoFuture for MultiPut {
    type Output = Result<Vec<Result<Written, WriteError>>, BatchError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    /// Cancel safe, but the outcomes of writes that are dropped are unknown.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { batch, items } = self;
            check(items.iter().map(|item| &item.key))?;
            let operation = |item: WriteItem| {
                let WriteItem {
                    key,
                    value,
                    context,
                    lacks_context,
                } = item;
                let payload = match value {
                    Some(value) => Payload::Put { value, context },
                    None => Payload::Delete { context },
                };
                (batch.operation(key, payload), lacks_context)
            };
            let ends = batch.perform(items.into_iter().map(operation).collect());
            let written = |end: ItemEnd| {
                let written = |done: crate::client::Done| {
                    done.into_written()
                        .expect("a write is only done when it was applied")
                };
                end.map(written).map_err(WriteError::from_failure)
            };
            Ok(ends.await.into_iter().map(written).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeCluster, Fault, block_on, client};

    #[test]
    fn items_have_outcomes_of_their_own() {
        block_on(async {
            let keyspace = client().keyspace("default");
            keyspace.put_blind("old", "1").await?;
            let read = keyspace.get("old").await?;
            let items = vec![
                WriteItem::put("old", "2", &read),
                WriteItem::put_blind("", "no key"),
                WriteItem::put_blind("new", "3"),
            ];
            let written = keyspace.multi_put(items).await?;
            let codes: Vec<_> = written
                .iter()
                .map(|w| w.as_ref().map_err(WriteError::code))
                .collect();
            assert!(codes[0].is_ok() && codes[2].is_ok());
            assert_eq!(codes[1].err(), Some(Code::KeyInvalid));
            let reads = keyspace.multi_get(["old", "absent", "new"]).await?;
            let values: Vec<_> = reads
                .into_iter()
                .map(|read| read.map(Read::into_values))
                .collect();
            assert_eq!(
                values,
                [Ok(vec!["2".into()]), Ok(vec![]), Ok(vec!["3".into()])]
            );
            Ok(())
        });
    }

    #[test]
    fn a_batch_that_is_too_large_or_repeats_a_key_is_refused_whole() {
        block_on(async {
            let keyspace = client().keyspace("default");
            let keys = (0..=BATCH_ITEMS_MAX).map(|key| key.to_string());
            let error = keyspace.multi_get(keys).await.expect_err("too many");
            assert_eq!(
                error,
                BatchError::TooLarge {
                    items: BATCH_ITEMS_MAX + 1
                }
            );
            let items = ["a", "b", "a"]
                .map(|key| WriteItem::put_blind(key, "v"))
                .to_vec();
            let error = keyspace.multi_put(items).await.expect_err("twice");
            assert_eq!(
                error,
                BatchError::Repeated {
                    first: 0,
                    second: 2
                }
            );
            assert_eq!(keyspace.get("b").await?.value(), None);
            Ok(())
        });
    }

    #[test]
    fn a_batch_is_few_requests_and_a_node_that_is_down_costs_no_item() {
        block_on(async {
            let cluster = FakeCluster::new();
            cluster.break_node("2", Some(Fault::AnswerLost));
            let keyspace = cluster.client(7).keyspace("default");
            let items = (0..300)
                .map(|key| WriteItem::put_blind(key.to_string(), "v"))
                .collect();
            let written = keyspace.multi_put(items).await?;
            assert!(written.iter().all(Result::is_ok), "{written:?}");
            let calls = cluster.calls().len();
            assert!(calls < 10, "{calls} requests for 300 items");
            // Those whose answer was lost were sent again under their op ids.
            let reads = keyspace
                .multi_get((0..300).map(|key| key.to_string()))
                .await?;
            assert!(reads.iter().flatten().all(|read| read.value().is_some()));
            Ok(())
        });
    }
}
