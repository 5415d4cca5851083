//! Loads every key once and keeps its token.
//!
//! An empty cluster is written blind. A cluster that has some of the keys is read first: what fits
//! is kept with its token, what does not is written after what was read. Either way every key has
//! one value afterwards, also when an attempt was of unknown outcome: the next one reads first.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use quorate_client::{Context, Failure, Keyspace, Read, Versions};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::keys::key_of;
use crate::progress::Progress;
use crate::workload::{Workload, WorkloadSpec};

/// Keys that are read to find out whether the cluster is empty.
const SAMPLES: u32 = 64;

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

/// Loads all keys with `in_flight` operations under way.
///
/// # Errors
/// If a key cannot be loaded, with the reason of its last attempt.
///
/// # Cancel safety
/// What was written stays; the tokens of writes under way are lost.
pub async fn fill(workload: &Arc<Mutex<Workload>>, clock: Clock, in_flight: u32) -> Result<Filled> {
    let (spec, keyspace) = {
        let workload = workload.lock().unwrap_or_else(PoisonError::into_inner);
        (workload.spec().clone(), workload.keyspace().clone())
    };
    let begin = clock.now();
    let keys = spec.keys;
    let filler = Arc::new(Filler {
        is_empty: is_empty(&keyspace, &spec).await?,
        workload: Arc::clone(workload),
        keyspace,
        clock,
        state: Mutex::new(State {
            next: 0,
            done: 0,
            written: 0,
            progress: Progress::new(begin, "fill", u64::from(keys)),
        }),
        spec,
    });
    let mut tasks = JoinSet::new();
    for _ in 0..in_flight.clamp(1, keys) {
        tasks.spawn(worker(Arc::clone(&filler)));
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

/// Whether none of a few keys from all over is there.
async fn is_empty(keyspace: &Keyspace, spec: &WorkloadSpec) -> Result<bool> {
    let step = (spec.keys / SAMPLES).max(1);
    for index in (0..spec.keys).step_by(step as usize) {
        let get = keyspace.get(key_of(index));
        let read = get.level(spec.level).deadline(spec.deadline).await?;
        if read.versions() != Versions::Absent {
            return Ok(false);
        }
    }
    Ok(true)
}

#[derive(Debug)]
struct Filler {
    workload: Arc<Mutex<Workload>>,
    keyspace: Keyspace,
    spec: WorkloadSpec,
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

/// What is known of a key while it is loaded.
enum Seen {
    /// It was never written: the cluster was empty.
    Never,
    /// It must be read.
    Unread,
}

async fn worker(filler: Arc<Filler>) -> Result<()> {
    while let Some(index) = filler.next() {
        filler.load(index).await?;
    }
    Ok(())
}

impl Filler {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn workload(&self) -> std::sync::MutexGuard<'_, Workload> {
        self.workload.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<u32> {
        let mut state = self.state();
        let index = state.next;
        (index < self.spec.keys).then(|| {
            state.next += 1;
            index
        })
    }

    async fn load(&self, index: u32) -> Result<()> {
        let mut seen = if self.is_empty {
            Seen::Never
        } else {
            Seen::Unread
        };
        let mut last = None;
        for _ in 0..TRIES_MAX {
            match self.attempt(index, &seen).await {
                Ok(()) => return Ok(()),
                Err(failure) if !failure.may_succeed_later() => return Err(failure.into()),
                Err(failure) => {
                    // A blind write that may have been applied must not be written blind again.
                    seen = Seen::Unread;
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

    async fn attempt(&self, index: u32, seen: &Seen) -> Result<(), Failure> {
        let key = key_of(index);
        let (level, deadline) = (self.spec.level, self.spec.deadline);
        let write = match seen {
            Seen::Never => {
                let value = self.workload().value(index);
                self.keyspace.put_blind(key, value)
            }
            Seen::Unread => {
                let get = self.keyspace.get(key.clone());
                let read = get.level(level).deadline(deadline).await;
                let read = read.map_err(|error| error.failure().clone())?;
                if self.is_loaded(index, &read) {
                    self.keep(index, Some(read.context()), 0);
                    return Ok(());
                }
                let value = self.workload().value(index);
                self.keyspace.put(key, value).after(&read)
            }
        };
        let written = write.level(level).deadline(deadline).await;
        let written = written.map_err(|error| error.failure().clone())?;
        self.keep(index, written.context(), 1);
        Ok(())
    }

    fn is_loaded(&self, index: u32, read: &Read) -> bool {
        read.value()
            .is_some_and(|value| self.workload().values.fits(index, value))
    }

    fn keep(&self, index: u32, context: Option<&Context>, writes: u64) {
        if let Some(context) = context {
            self.workload().tokens.written(index, context);
        }
        let now = self.clock.now();
        let mut state = self.state();
        state.done += 1;
        state.written += writes;
        let done = state.done;
        state.progress.update(now, done);
    }
}
