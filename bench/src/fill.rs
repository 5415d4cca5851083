//! Loads every key once and keeps what its writes gave.
//!
//! An empty cluster is written blind, in batches, which save what is paid per message. A cluster
//! that has some of the keys is read first: what fits is kept with its token, what does not is
//! written after what was read. Either way every key has one value afterwards, also when an attempt
//! was of unknown outcome: the next one reads first. In an lww keyspace, which knows no contexts,
//! what does not fit is written over.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use quorate_client::{Context, Failure, Keyspace, Level, Read, Versions, WriteItem};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::progress::Progress;

/// Keys that are read to find out whether the cluster is empty.
const SAMPLES: u32 = 64;

/// Keys of a batch. Larger ones hardly save more and keep a shard from other work for longer.
const BATCH_KEYS: u32 = 32;

/// Attempts for one key before the fill fails; each covers the SDK's own retries.
const TRIES_MAX: u32 = 20;

/// Pause before another attempt, unless a node advises another.
const PAUSE: Duration = Duration::from_millis(100);

/// What the fill did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filled {
    /// Keys that were written; the others were there.
    pub written: u64,
    /// Keys in all.
    pub keys: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// What is loaded.
pub trait Fill: Send + 'static {
    /// Where and how it is written.
    fn target(&self) -> FillTarget;

    /// Name of the key with this index.
    fn key(&self, index: u32) -> Bytes;

    /// A value of the key to write.
    fn value(&mut self, index: u32) -> Bytes;

    /// Whether `value` can be one of the key.
    fn fits(&self, index: u32, value: &[u8]) -> bool;

    /// What the last write or read of the key has seen.
    fn keep(&mut self, index: u32, seen: &Context);
}

/// Where and how keys are loaded.
#[derive(Debug, Clone)]
pub struct FillTarget {
    /// Where the keys are.
    pub keyspace: Keyspace,
    /// Number of keys, at least 1: indices from 0 on.
    pub keys: u32,
    /// Level of every operation; that of the keyspace unless set.
    pub level: Option<Level>,
    /// Deadline of every operation.
    pub deadline: Duration,
    /// Whether writes come after what was seen, as in keyspaces of siblings.
    pub has_contexts: bool,
}

/// Loads all keys with `in_flight` keys under way.
///
/// # Errors
/// If a key cannot be loaded, with the reason of its last attempt.
///
/// # Cancel safety
/// What was written stays; the tokens of writes under way are lost.
pub async fn fill<F: Fill>(load: &Arc<Mutex<F>>, clock: Clock, in_flight: u32) -> Result<Filled> {
    let target = lock(load).target();
    let begin = clock.now();
    let keys = target.keys;
    let filler = Arc::new(Filler {
        is_empty: is_empty(load, &target).await?,
        load: Arc::clone(load),
        clock,
        state: Mutex::new(State {
            next: 0,
            done: 0,
            written: 0,
            progress: Progress::new(begin, "fill", u64::from(keys)),
        }),
        target,
    });
    let mut tasks = JoinSet::new();
    let at_once = if filler.is_empty { BATCH_KEYS } else { 1 };
    for _ in 0..in_flight.min(keys).div_ceil(at_once).max(1) {
        tasks.spawn(worker(Arc::clone(&filler), at_once));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let state = filler.state();
    state.progress.finish();
    Ok(Filled {
        written: state.written,
        keys: u64::from(keys),
        elapsed: clock.now() - begin,
    })
}

fn lock<F>(load: &Mutex<F>) -> MutexGuard<'_, F> {
    load.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether none of a few keys from all over is there.
async fn is_empty<F: Fill>(load: &Mutex<F>, target: &FillTarget) -> Result<bool> {
    let step = (target.keys / SAMPLES).max(1);
    for index in (0..target.keys).step_by(step as usize) {
        let key = lock(load).key(index);
        let get = target.keyspace.get(key);
        let read = get.level(target.level).deadline(target.deadline).await?;
        if read.versions() != Versions::Absent {
            return Ok(false);
        }
    }
    Ok(true)
}

#[derive(Debug)]
struct Filler<F> {
    load: Arc<Mutex<F>>,
    target: FillTarget,
    clock: Clock,
    is_empty: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next: u32,
    done: u64,
    written: u64,
    progress: Progress,
}

async fn worker<F: Fill>(filler: Arc<Filler<F>>, at_once: u32) -> Result<()> {
    while let Some(indexes) = filler.next(at_once) {
        if filler.is_empty {
            filler.load_batch(indexes).await?;
        } else {
            for index in indexes {
                filler.load(index).await?;
            }
        }
    }
    Ok(())
}

impl<F: Fill> Filler<F> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, at_once: u32) -> Option<Range<u32>> {
        let mut state = self.state();
        let first = state.next;
        let end = first.saturating_add(at_once).min(self.target.keys);
        state.next = end;
        (first < end).then_some(first..end)
    }

    /// Writes keys of an empty cluster; what fails is tried again by itself.
    async fn load_batch(&self, indexes: Range<u32>) -> Result<()> {
        let items: Vec<WriteItem> = {
            let mut load = lock(&self.load);
            let item = |index| WriteItem::put_blind(load.key(index), load.value(index));
            indexes.clone().map(item).collect()
        };
        let batch = self.target.keyspace.multi_put(items);
        let batch = batch
            .level(self.target.level)
            .deadline(self.target.deadline);
        for (index, written) in indexes.zip(batch.await?) {
            match written {
                Ok(written) => self.keep(index, written.context(), 1),
                Err(error) if !error.failure().may_succeed_later() => return Err(error.into()),
                Err(_) => self.load(index).await?,
            }
        }
        Ok(())
    }

    /// Reads a key and writes it unless it is there.
    async fn load(&self, index: u32) -> Result<()> {
        let mut last = None;
        for _ in 0..TRIES_MAX {
            match self.attempt(index).await {
                Ok(()) => return Ok(()),
                Err(failure) if !failure.may_succeed_later() => return Err(failure.into()),
                Err(failure) => {
                    tokio::time::sleep(failure.retry_after.unwrap_or(PAUSE)).await;
                    last = Some(failure);
                }
            }
        }
        match last {
            Some(failure) => Err(failure.into()),
            None => bail!("key {index} was not tried"),
        }
    }

    /// Reads first: a write that may have been applied must not be written blind again.
    async fn attempt(&self, index: u32) -> Result<(), Failure> {
        let key = lock(&self.load).key(index);
        let FillTarget {
            keyspace,
            level,
            deadline,
            has_contexts,
            keys: _,
        } = &self.target;
        let (level, deadline) = (*level, *deadline);
        let get = keyspace.get(key.clone());
        let read = get.level(level).deadline(deadline).await;
        let read = read.map_err(|error| error.failure().clone())?;
        if self.is_loaded(index, &read) {
            self.keep(index, Some(read.context()), 0);
            return Ok(());
        }
        let value = lock(&self.load).value(index);
        let write = if *has_contexts {
            keyspace.put(key, value).after(&read)
        } else {
            keyspace.put_blind(key, value)
        };
        let written = write.level(level).deadline(deadline).await;
        let written = written.map_err(|error| error.failure().clone())?;
        self.keep(index, written.context(), 1);
        Ok(())
    }

    fn is_loaded(&self, index: u32, read: &Read) -> bool {
        read.value()
            .is_some_and(|value| lock(&self.load).fits(index, value))
    }

    fn keep(&self, index: u32, context: Option<&Context>, writes: u64) {
        if let Some(context) = context {
            lock(&self.load).keep(index, context);
        }
        let now = self.clock.now();
        let mut state = self.state();
        state.done += 1;
        state.written += writes;
        let done = state.done;
        state.progress.update(now, done);
    }
}
