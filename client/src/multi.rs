//! Many gets or many writes in one call, with an outcome for each.
//!
//! The items of a batch are independent: each is applied or not for itself, and one that fails does
//! not concern the others. A batch is not a transaction.

use std::future::IntoFuture;
use std::time::Duration;

use bytes::Bytes;
use quorate_ring::ConsistencyLevel;

use crate::client::{Done, ItemEnd, Payload};
use crate::context::After;
use crate::error::{Failure, GetError, WriteError};
use crate::keyspace::Call;
use crate::session::SessionCall;
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
    pub(crate) key: Bytes,
    pub(crate) payload: Payload,
    pub(crate) ttl: Option<Duration>,
    /// It was to come after a write whose reply had no context.
    pub(crate) lacks_context: bool,
}

impl WriteItem {
    /// Writes a value after what `seen` shows.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>, seen: impl Into<After>) -> Self {
        let After(context) = seen.into();
        let lacks_context = context.is_none();
        let value = value.into();
        Self {
            lacks_context,
            ..Self::new(key.into(), Payload::Put { value, context })
        }
    }

    /// Writes a value without having seen anything: it becomes a sibling of what is there, or takes
    /// its place in an lww keyspace.
    pub fn put_blind(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        let payload = Payload::Put {
            value: value.into(),
            context: None,
        };
        Self::new(key.into(), payload)
    }

    /// Deletes what `seen` shows.
    pub fn delete(key: impl Into<Bytes>, seen: impl Into<After>) -> Self {
        let After(context) = seen.into();
        Self {
            lacks_context: context.is_none(),
            ..Self::new(key.into(), Payload::Delete { context })
        }
    }

    /// Writes a tombstone without having seen anything; in an lww keyspace it deletes what is
    /// there.
    pub fn delete_blind(key: impl Into<Bytes>) -> Self {
        Self::new(key.into(), Payload::Delete { context: None })
    }

    /// Hides the value after this time, a millisecond to ten years; the keyspace's TTL unless set.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self {
            ttl: Some(ttl),
            ..self
        }
    }

    const fn new(key: Bytes, payload: Payload) -> Self {
        Self {
            key,
            payload,
            ttl: None,
            lacks_context: false,
        }
    }
}

fn check<'a>(keys: impl ExactSizeIterator<Item = &'a Bytes>) -> Result<(), BatchError> {
    let items = keys.len();
    if items > BATCH_ITEMS_MAX {
        return Err(BatchError::TooLarge { items });
    }
    let mut seen: Vec<(&Bytes, usize)> = keys.zip(0..).collect();
    seen.sort_unstable();
    let twice = seen.windows(2).filter_map(|pair| match pair {
        [(one, first), (other, second)] if one == other => Some((*first, *second)),
        _ => None,
    });
    match twice.min() {
        Some((first, second)) => Err(BatchError::Repeated { first, second }),
        None => Ok(()),
    }
}

/// Carries out what is not refused here; ends come in order. Each item takes part in the session of
/// its keyspace for itself.
async fn perform(calls: Vec<(Call, bool)>, remember: impl Fn(SessionCall, &Done)) -> Vec<ItemEnd> {
    let Some(client) = calls.first().map(|(call, _)| call.client.clone()) else {
        return Vec::new();
    };
    let mut begun: Vec<Result<Option<SessionCall>, Box<Failure>>> = Vec::new();
    let mut good = Vec::with_capacity(calls.len());
    for (mut call, lacks_context) in calls {
        let missing = || call.operation.refused(Code::ContextInvalid, 0);
        let refused = call.refusal();
        let begin = match refused.or_else(|| lacks_context.then(missing)) {
            Some(failure) => Err(failure),
            None => call.begin(),
        };
        if begin.is_ok() {
            good.push(call.operation);
        }
        begun.push(begin);
    }
    let mut ends = client.perform_all(good).await.into_iter();
    let ends = begun.into_iter().map(|begin| {
        let in_session = begin?;
        let end = ends.next().expect("each operation has an end");
        if let (Some(call), Ok(done)) = (in_session, &end) {
            remember(call, done);
        }
        end
    });
    ends.collect()
}

/// Many reads that are not sent yet. Await it.
#[derive(Debug)]
#[must_use = "reads are sent when they are awaited"]
pub struct MultiGet {
    calls: Vec<(Call, bool)>,
}

/// Many writes that are not sent yet. Await it.
#[derive(Debug)]
#[must_use = "writes are sent when they are awaited"]
pub struct MultiPut {
    calls: Vec<(Call, bool)>,
}

macro_rules! settings {
    ($name:ident) => {
        impl $name {
            /// How many replicas each item needs; what the keyspace has, usually `quorum`, unless
            /// set.
            pub fn level(mut self, level: impl Into<Option<ConsistencyLevel>>) -> Self {
                let level = level.into();
                for (call, _) in &mut self.calls {
                    call.set_level(level);
                }
                self
            }

            /// Time for all items, over all attempts; 2 s unless set.
            pub fn deadline(mut self, deadline: Duration) -> Self {
                for (call, _) in &mut self.calls {
                    call.operation.deadline = deadline;
                }
                self
            }
        }
    };
}

settings!(MultiGet);
settings!(MultiPut);

impl MultiGet {
    pub(crate) fn new(calls: Vec<Call>) -> Self {
        Self {
            calls: calls.into_iter().map(|call| (call, false)).collect(),
        }
    }
}

impl MultiPut {
    pub(crate) const fn new(calls: Vec<(Call, bool)>) -> Self {
        Self { calls }
    }
}

impl IntoFuture for MultiGet {
    type Output = Result<Vec<Result<Read, GetError>>, BatchError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            check(self.calls.iter().map(|(call, _)| &call.operation.key))?;
            let remember = |call: SessionCall, done: &Done| {
                if let Done::Read(read) = done {
                    call.read(read);
                }
            };
            let read = |end: ItemEnd| {
                let read = end.map_err(GetError::from_failure)?.into_read();
                Ok(read.expect("a read is only done when it was read"))
            };
            let ends = perform(self.calls, remember).await;
            Ok(ends.into_iter().map(read).collect())
        })
    }
}

impl IntoFuture for MultiPut {
    type Output = Result<Vec<Result<Written, WriteError>>, BatchError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    /// Cancel safe, but the outcomes of writes that are dropped are unknown.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            check(self.calls.iter().map(|(call, _)| &call.operation.key))?;
            let remember = |call: SessionCall, done: &Done| {
                if let Done::Written(written) = done {
                    call.written(written);
                }
            };
            let written = |end: ItemEnd| {
                let written = end.map_err(WriteError::from_failure)?.into_written();
                Ok(written.expect("a write is only done when it was applied"))
            };
            let ends = perform(self.calls, remember).await;
            Ok(ends.into_iter().map(written).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::clock::Clock;
    use crate::testing::{FakeCluster, Fault, block_on, client};
    use crate::wire::{BatchItem, Request};

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

    /// Another node is asked as soon as the answer is late, under the same op ids.
    async fn batches_beside(fault: Fault) -> (Vec<Request>, Duration) {
        let cluster = FakeCluster::new();
        let keyspace = cluster.client(7).keyspace("default");
        cluster.break_node("2", Some(fault));
        let clock = Clock::start();
        let start = clock.now();
        for round in 0..4 {
            let items = (0..60).map(|key| WriteItem::put_blind(format!("{round}.{key}"), "v"));
            let written = keyspace.multi_put(items.collect()).await;
            assert!(written.expect("a good batch").iter().all(Result::is_ok));
            let keys = (0..60).map(|key| format!("{round}.{key}"));
            let reads = keyspace.multi_get(keys).await.expect("a good batch");
            for read in reads {
                assert_eq!(read.expect("two answer").values().len(), 1);
            }
        }
        let calls = cluster.calls().into_iter().map(|(_, request)| request);
        (calls.collect(), clock.now().since(start))
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopped_node_costs_a_batch_one_hedge() {
        let (calls, took) = batches_beside(Fault::Stuck).await;
        assert!(took <= Duration::from_millis(250), "{took:?}");
        assert!(calls.len() <= 32, "{} requests for 8 batches", calls.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_two_nodes_carry_out_writes_each_item_once() {
        let (calls, _) = batches_beside(Fault::Late).await;
        let mut attempts = BTreeMap::new();
        for item in calls.iter().flat_map(|call| match call {
            Request::Batch(items) => items.as_slice(),
            _ => &[],
        }) {
            if let BatchItem::Put(put) = item {
                *attempts.entry(put.op_id).or_insert(0) += 1;
            }
        }
        assert_eq!(attempts.len(), 4 * 60);
        assert!(
            attempts.values().any(|count| *count > 1),
            "a hedge went out"
        );
    }

    fn items_of(request: &Request) -> usize {
        match request {
            Request::Batch(items) => items.len(),
            _ => 0,
        }
    }

    #[test]
    fn large_values_come_in_answers_of_bounded_size_and_are_hardly_read_in_vain() {
        block_on(async {
            let cluster = FakeCluster::new();
            let keyspace = cluster.client(7).keyspace("default");
            let large = Bytes::from(vec![b'v'; 1024 * 1024]);
            let keys = || (0..300).map(|key| key.to_string());
            for key in keys() {
                keyspace.put_blind(key, large.clone()).await?;
            }
            let before = cluster.calls().len();
            let reads = keyspace.multi_get(keys()).await?;
            assert!(
                reads
                    .iter()
                    .flatten()
                    .all(|read| read.values() == [large.clone()])
            );
            assert_eq!(reads.iter().flatten().count(), 300);
            let calls = cluster.calls().split_off(before);
            let asked: usize = calls.iter().map(|(_, request)| items_of(request)).sum();
            assert!(asked < 300 + 600, "{asked} reads of 300 items");
            Ok(())
        });
    }

    #[test]
    fn a_node_whose_answers_hold_nothing_is_not_asked_without_pause() {
        block_on(async {
            let cluster = FakeCluster::new();
            cluster.break_all(Some(Fault::Refuse(Code::BatchAnswerFull)));
            let keyspace = cluster.client(7).keyspace("default");
            let reads = keyspace.multi_get(["a", "b"]);
            let reads = reads.deadline(Duration::from_millis(300)).await?;
            let failed = |read: &Result<Read, GetError>| matches!(read, Err(error) if error.code() == Code::BatchAnswerFull);
            assert!(reads.iter().all(failed), "{reads:?}");
            let calls = cluster.calls().len();
            assert!(calls < 50, "{calls} requests in 300 ms");
            Ok(())
        });
    }
}
