//! Read, settle siblings, change, write after what was read; again while others write at the same
//! time, bounded by rounds and by one deadline.
//!
//! A put never conflicts in this store: a concurrent writer leaves a sibling. So after its write an
//! update looks whether it stands alone. If it does not, the siblings are settled by the resolver
//! and written again, until one value stands or a bound is met. The change itself is made once, so
//! it is never counted twice; what two concurrent changes amount to is what the resolver makes of
//! both results.
//!
//! Not here: the resolvers (`settle`), their threads (`aside`), the types of values (`codec`).

mod aside;
mod error;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_ring::{ConsistencyLevel, MonoTime};

use aside::{ended, on_own_thread};
pub use error::{Unsettled, UpdateError};

use crate::clock::Clock;
use crate::codec::{Codec, CodecError};
use crate::error::WriteError;
use crate::keyspace::Keyspace;
use crate::resolve::Resolution;
use crate::settle::Resolve;
use crate::versions::{Read, Written};

/// Rounds of an update unless set: reads that found siblings of others after a write.
pub const UPDATE_ROUNDS_DEFAULT: u32 = 8;

/// Longest wait before the first round that settles what others wrote is twice this, then four
/// times, and so on.
const GIVE_WAY_FIRST: Duration = Duration::from_millis(5);
/// How often it doubles: at most 320 ms.
const GIVE_WAY_DOUBLED_MAX: u32 = 6;

/// What an update left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated<T> {
    /// The one value that stands now; `None` if the key is deleted.
    pub value: Option<T>,
    /// The last write that was made for it.
    pub written: Written,
    /// How many writes it took: 1 if nobody else wrote at the same time.
    pub writes: u32,
}

/// An update that is not begun yet: set what it needs, then await it with [`Update::run`] or
/// `.await`.
pub struct Update<T, R, F> {
    keyspace: Keyspace,
    key: Bytes,
    resolver: Arc<R>,
    change: F,
    levels: Option<(ConsistencyLevel, ConsistencyLevel)>,
    deadline: Duration,
    rounds_max: u32,
    of: std::marker::PhantomData<fn() -> T>,
}

impl<T, R, F> std::fmt::Debug for Update<T, R, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Update")
            .field("key", &self.key)
            .field("deadline", &self.deadline)
            .field("rounds_max", &self.rounds_max)
            .finish_non_exhaustive()
    }
}

impl Keyspace {
    /// Changes a value: reads it, settles siblings by `resolver`, applies `change`, writes the
    /// result after what was read, and settles what others wrote meanwhile. `change` is given
    /// `None` for an absent key and deletes by giving `None`; it is called once, on the
    /// caller's task, so it should only compute.
    ///
    /// # Example
    /// ```
    /// # quorate_client::testing::block_on(async {
    /// use std::collections::BTreeSet;
    /// use quorate_client::{Packed, resolvers::Union};
    ///
    /// let carts = quorate_client::testing::client().keyspace("default");
    /// let add = |item: &'static str| move |cart: Option<Packed<BTreeSet<String>>>| {
    ///     let mut cart = cart.unwrap_or_default();
    ///     cart.0.insert(item.to_owned());
    ///     Some(cart)
    /// };
    /// carts.update("alice", Union, add("apples")).await?;
    /// let updated = carts.update("alice", Union, add("bread")).await?;
    /// assert_eq!(updated.value.map(|cart| cart.0.len()), Some(2));
    /// assert_eq!(updated.writes, 1);
    /// # Ok(()) });
    /// ```
    pub fn update<T, R, F>(&self, key: impl Into<Bytes>, resolver: R, change: F) -> Update<T, R, F>
    where
        T: Codec + Send + 'static,
        R: Resolve<T>,
        F: FnOnce(Option<T>) -> Option<T> + Send,
    {
        Update {
            keyspace: self.clone(),
            key: key.into(),
            resolver: Arc::new(resolver),
            change,
            levels: None,
            deadline: self.deadline(),
            rounds_max: UPDATE_ROUNDS_DEFAULT,
            of: std::marker::PhantomData,
        }
    }
}

impl<T, R, F> Update<T, R, F>
where
    T: Codec + Send + 'static,
    R: Resolve<T>,
    F: FnOnce(Option<T>) -> Option<T> + Send,
{
    /// Levels of the reads and of the writes; those of the keyspace's profile unless set.
    #[must_use]
    pub fn levels(mut self, read: ConsistencyLevel, write: ConsistencyLevel) -> Self {
        self.levels = Some((read, write));
        self
    }

    /// Time for the whole update: all reads, writes, attempts and resolvers.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Most rounds, at least 1; [`UPDATE_ROUNDS_DEFAULT`] unless set.
    #[must_use]
    pub fn rounds_max(mut self, rounds: u32) -> Self {
        self.rounds_max = rounds.max(1);
        self
    }

    /// Carries it out; the same as awaiting it.
    ///
    /// # Errors
    /// [`UpdateError`], which says what became of the change.
    ///
    /// # Cancel safety
    /// The outcome of an update that is dropped is unknown.
    pub async fn run(self) -> Result<Updated<T>, UpdateError> {
        let Self {
            keyspace,
            key,
            resolver,
            change,
            levels,
            deadline,
            rounds_max,
            of: _,
        } = self;
        let clock = Clock::start();
        let round = Round {
            keyspace,
            key,
            resolver,
            levels,
            clock,
            until: clock.now() + deadline,
            deadline,
        };
        let read = round.read().await?;
        let present = round.settle(&read).await?;
        let mut written = round.write(&read, change(present).as_ref()).await?;
        let mut writes = 1;
        let mut gave_way = false;
        loop {
            let unsettled = |reason| UpdateError::Unsettled {
                key: round.key_shown(),
                writes,
                reason: Box::new(reason),
            };
            if round.remaining().is_zero() {
                return Err(unsettled(Unsettled::Deadline { deadline }));
            }
            let failed = |error| unsettled(Unsettled::Failed(error));
            let read = round.read().await.map_err(failed)?;
            let alone = read.values().len() < 2;
            if !alone && writes >= rounds_max {
                return Err(unsettled(Unsettled::Rounds { rounds: rounds_max }));
            }
            if !alone && !gave_way {
                // Whoever wrote at the same time may settle it; all at once would go on for long.
                round.give_way(writes).await;
                gave_way = true;
                continue;
            }
            let value = round.settle(&read).await.map_err(failed)?;
            if alone {
                return Ok(Updated {
                    value,
                    written,
                    writes,
                });
            }
            written = round.write(&read, value.as_ref()).await.map_err(failed)?;
            writes += 1;
            gave_way = false;
        }
    }
}

impl<T, R, F> std::future::IntoFuture for Update<T, R, F>
where
    T: Codec + Send + Sync + 'static,
    R: Resolve<T>,
    F: FnOnce(Option<T>) -> Option<T> + Send + 'static,
{
    type Output = Result<Updated<T>, UpdateError>;
    type IntoFuture = crate::transport::BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// What every round works with.
struct Round<R> {
    keyspace: Keyspace,
    key: Bytes,
    resolver: Arc<R>,
    levels: Option<(ConsistencyLevel, ConsistencyLevel)>,
    clock: Clock,
    until: MonoTime,
    deadline: Duration,
}

impl<R> Round<R> {
    fn remaining(&self) -> Duration {
        self.until.since(self.clock.now())
    }

    /// Waits for a random while that doubles with every round.
    async fn give_way(&self, writes: u32) {
        let most = GIVE_WAY_FIRST * (1 << writes.min(GIVE_WAY_DOUBLED_MAX));
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX).max(1);
        let wait = Duration::from_micros(self.keyspace.random() % micros);
        tokio::time::sleep(wait.min(self.remaining())).await;
    }

    fn key_shown(&self) -> String {
        let shown = self.key.get(..48).unwrap_or(&self.key);
        shown.escape_ascii().to_string()
    }

    fn codec_error(&self, error: CodecError) -> UpdateError {
        UpdateError::Codec {
            key: self.key_shown(),
            error,
        }
    }

    async fn read(&self) -> Result<Read, UpdateError> {
        let mut get = self.keyspace.get(self.key.clone());
        if let Some((read, _)) = self.levels {
            get = get.level(read);
        }
        let read = get.deadline(self.remaining()).await;
        read.map_err(UpdateError::Read)
    }

    /// Writes after `read`; an unknown outcome is asked for before it is told.
    async fn write<T: Codec>(
        &self,
        read: &Read,
        value: Option<&T>,
    ) -> Result<Written, UpdateError> {
        let (keyspace, key) = (&self.keyspace, self.key.clone());
        let mut write = match value {
            Some(value) => {
                let bytes = value.encode().map_err(|error| self.codec_error(error))?;
                keyspace.put(key.clone(), bytes).after(read)
            }
            None => keyspace.delete(key.clone()).after(read),
        };
        if let Some((_, level)) = self.levels {
            write = write.level(level);
        }
        // A part of the time is kept for asking what became of it.
        let remaining = self.remaining();
        let error = match write.deadline(remaining - remaining / 4).await {
            Ok(written) => return Ok(written),
            Err(error) => error,
        };
        let open = match &error {
            WriteError::NotApplied(_) => None,
            WriteError::Unknown(failure) => failure.op_id,
        };
        let Some(op_id) = open else {
            return Err(UpdateError::Write(error));
        };
        let mut question = keyspace.resolve(key, op_id);
        if let Some((_, level)) = self.levels {
            question = question.level(level);
        }
        match question.deadline(self.remaining()).await {
            Resolution::Applied(written) => Ok(written),
            Resolution::Unknown(_) => Err(UpdateError::Write(error)),
        }
    }

    /// The one value of what was read.
    async fn settle<T>(&self, read: &Read) -> Result<Option<T>, UpdateError>
    where
        T: Codec + Send + 'static,
        R: Resolve<T>,
    {
        let decoded = read.values().iter().map(T::decode);
        let decoded: Result<Vec<T>, CodecError> = decoded.collect();
        let mut values = decoded.map_err(|error| self.codec_error(error))?;
        if values.len() < 2 {
            return Ok(values.pop());
        }
        let siblings = values.len();
        let resolver = Arc::clone(&self.resolver);
        let resolving = on_own_thread(move || resolver.resolve(values));
        match ended(resolving, self.clock, self.until).await {
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(rejected)) => Err(UpdateError::Rejected {
                key: self.key_shown(),
                siblings,
                rejected,
            }),
            None => Err(UpdateError::ResolverStuck {
                key: self.key_shown(),
                deadline: self.deadline,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::mpsc;

    use super::*;
    use crate::codec::Packed;
    use crate::resolvers::{Max, Refuse, Union};
    use crate::settle::Rejected;
    use crate::testing::{FakeCluster, Fault, block_on};
    use crate::wire::{Code, Outcome};

    type Set = Packed<BTreeSet<u8>>;

    fn set(elements: &[u8]) -> Set {
        Packed(elements.iter().copied().collect())
    }

    #[test]
    fn siblings_are_settled_before_the_change() {
        block_on(async {
            let keyspace = FakeCluster::new().client(1).keyspace("default");
            for elements in [[1, 2], [2, 3]] {
                keyspace.put_blind("k", set(&elements).encode()?).await?;
            }
            let add = |value: Option<Set>| {
                let mut value = value.unwrap_or_default();
                value.0.insert(9);
                Some(value)
            };
            let updated = keyspace.update("k", Union, add).await?;
            assert_eq!(updated.value, Some(set(&[1, 2, 3, 9])));
            assert_eq!(updated.writes, 1);
            assert_eq!(keyspace.get("k").await?.values().len(), 1);
            Ok(())
        });
    }

    #[test]
    fn what_others_write_meanwhile_is_settled_and_the_change_is_made_once() {
        block_on(async {
            let cluster = FakeCluster::new();
            let keyspace = cluster.client(1).keyspace("default");
            let other = cluster.client(2).keyspace("default");
            keyspace.put_blind("k", "1").await?;
            let (begin, begun) = tokio::sync::oneshot::channel();
            let mut calls = 0;
            // Another writer comes between the read and the write.
            let update = keyspace.update("k", Max, |value: Option<u64>| {
                calls += 1;
                begin.send(()).expect("it is waited for");
                Some(value.unwrap_or(0) + 1)
            });
            cluster.break_all(Some(Fault::Slow(Duration::from_millis(20))));
            let interfere = async {
                begun.await.expect("the change is made");
                // The update's write is on its way already.
                cluster.break_all(None);
                other.put_blind("k", "7").await
            };
            let (updated, interfered) = tokio::join!(update.run(), interfere);
            interfered?;
            let updated = updated?;
            assert_eq!(updated.value, Some(7), "the greater one");
            assert_eq!(calls, 1);
            assert_eq!(keyspace.get("k").await?.values().len(), 1);
            Ok(())
        });
    }

    #[test]
    fn eight_at_once_all_end_and_no_change_is_lost() {
        block_on(async {
            let cluster = FakeCluster::new();
            cluster.break_all(Some(Fault::Slow(Duration::from_millis(1))));
            let mut updates = tokio::task::JoinSet::new();
            for number in 0..8_u8 {
                let keyspace = cluster.client(number.into()).keyspace("default");
                let add = move |value: Option<Set>| {
                    let mut value = value.unwrap_or_default();
                    value.0.insert(number);
                    Some(value)
                };
                let update = keyspace.update("k", Union, add).rounds_max(100);
                updates.spawn(update.deadline(Duration::from_secs(60)).run());
            }
            for updated in updates.join_all().await {
                updated?;
            }
            let keyspace = cluster.client(9).keyspace("default");
            let read = keyspace.get("k").await?;
            let all: Vec<u8> = (0..8).collect();
            assert_eq!(read.decode::<Set>()?, crate::Typed::One(set(&all)));
            Ok(())
        });
    }

    #[test]
    fn a_resolver_that_refuses_panics_or_never_ends_leaves_everything_as_it_was() {
        block_on(async {
            let keyspace = FakeCluster::new().client(1).keyspace("default");
            keyspace.put_blind("k", "1").await?;
            keyspace.put_blind("k", "2").await?;
            let same = |value: Option<u64>| value;
            let error = keyspace.update("k", Refuse, same).await.expect_err("no");
            assert!(error.to_string().contains("2 concurrent values"), "{error}");
            assert_eq!(error.outcome(), Outcome::NotApplied);

            let panics = |_: Vec<u64>| -> Result<u64, Rejected> { panic!("a bug") };
            let error = keyspace.update("k", panics, same).await.expect_err("no");
            assert!(matches!(error, UpdateError::Rejected { siblings: 2, .. }));

            let (release, released) = mpsc::sync_channel::<()>(1);
            let released = std::sync::Mutex::new(released);
            let waits = move |_: Vec<u64>| -> Result<u64, Rejected> {
                let released = released.lock().expect("nobody else");
                released.recv().map_err(|_| Rejected::new("released"))?;
                Ok(1)
            };
            let update = keyspace.update("k", waits, same);
            let error = update.deadline(Duration::from_millis(30)).await;
            let error = error.expect_err("it never ends");
            assert!(
                matches!(error, UpdateError::ResolverStuck { .. }),
                "{error}"
            );
            assert_eq!(error.outcome(), Outcome::NotApplied);
            drop(release);
            assert_eq!(keyspace.get("k").await?.values().len(), 2);
            Ok(())
        });
    }

    #[test]
    fn rounds_are_bounded_and_the_change_stays_applied() {
        block_on(async {
            let cluster = FakeCluster::new();
            let keyspace = cluster.client(1).keyspace("default");
            let other = cluster.client(2).keyspace("default");
            // Another writer is there again before each write of the update.
            let change = |value: Option<u64>| Some(value.unwrap_or(0) + 1);
            let update = keyspace.update("k", Max, change).rounds_max(3).run();
            cluster.break_all(Some(Fault::Slow(Duration::from_millis(5))));
            let stop = std::cell::Cell::new(false);
            let interfere = async {
                while !stop.get() {
                    other.put_blind("k", "1").await.expect("applied");
                }
            };
            let update = async {
                let ended = update.await;
                stop.set(true);
                ended
            };
            let (ended, ()) = tokio::join!(update, interfere);
            let error = ended.expect_err("there is always one more");
            assert!(
                matches!(error, UpdateError::Unsettled { writes: 3, .. }),
                "{error}"
            );
            assert_eq!(error.outcome(), Outcome::Applied);
            Ok(())
        });
    }

    #[test]
    fn an_unknown_write_is_asked_for_before_it_is_told() {
        block_on(async {
            let cluster = FakeCluster::new();
            cluster
                .client(1)
                .set_profile("once", crate::Profile::default())?;
            let client = cluster.client(1);
            client.set_profile("once", crate::Profile::default().attempts_max(1))?;
            let keyspace = client.keyspace("default").profile("once")?;
            let change = {
                let cluster = Arc::clone(&cluster);
                move |_: Option<u64>| {
                    // Only the write meets it: the question afterwards is answered.
                    cluster.break_all(None);
                    for node in ["1", "2", "3"] {
                        cluster.fail_next(node, Fault::AppliedUnknown);
                    }
                    Some(5)
                }
            };
            match keyspace.update("k", Max, change).await {
                Ok(updated) => assert_eq!(updated.value, Some(5)),
                Err(error) => {
                    assert_eq!(error.outcome(), Outcome::Unknown);
                    let code = error.failure().map(|failure| failure.code);
                    assert_eq!(code, Some(Code::QuorumNotReached));
                }
            }
            Ok(())
        });
    }

    #[test]
    fn a_value_of_another_type_is_told_and_left() {
        block_on(async {
            let keyspace = FakeCluster::new().client(1).keyspace("default");
            keyspace.put_blind("k", "no number").await?;
            let change = |value: Option<u64>| value;
            let error = keyspace.update("k", Max, change).await.expect_err("no");
            assert!(matches!(error, UpdateError::Codec { .. }), "{error}");
            Ok(())
        });
    }
}
