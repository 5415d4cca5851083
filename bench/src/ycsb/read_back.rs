//! After a run of read-modify-writes: every key that changed is read, what still has siblings is
//! merged, and then it must hold one value with every acknowledged change or a newer one.
//!
//! Not part of what is measured.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use quorate_client::{Context, Keyspace, Outcome};

use super::data::{DEADLINE, Data};
use super::operation::lock;
use crate::clock::Clock;
use crate::closed_loop::{LoopLimits, Operations, drive};
use crate::fill::Fill;
use crate::recorder::{End, Kind, Recorder};

/// Keys that are read at once.
const IN_FLIGHT: u32 = 64;
/// After this no further key is read; what is left counts as not read.
const TIME_MAX: Duration = Duration::from_secs(600);
/// Writes for one key: nobody else writes, so the first one leaves one value.
const MERGES_MAX: u32 = 3;

/// What was found.
#[derive(Debug)]
pub struct ReadBack {
    /// Keys that changed since the load.
    pub keys: u64,
    /// Of these, how many still had siblings.
    pub merged: u64,
    /// How reading them ended.
    pub recorder: Recorder,
}

impl ReadBack {
    /// Whether every key holds one value, with all that was acknowledged.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.recorder.done() == self.keys
    }
}

/// Reads back every key of `data` that changed. The keyspace must be one of siblings.
///
/// # Errors
/// If a worker fails, which is a bug of the tool.
///
/// # Cancel safety
/// What was merged stays.
pub async fn read_back(data: &Arc<Mutex<Data>>, clock: Clock) -> Result<ReadBack> {
    let (keyspace, changed) = {
        let data = lock(data);
        let changed: Vec<u32> = data.changed_keys().collect();
        (data.spec().keyspace.clone(), changed)
    };
    let keys = changed.len() as u64;
    let keys_left = Arc::new(KeysLeft {
        keyspace,
        data: Arc::clone(data),
        keys: Mutex::new(changed),
        merged: AtomicU64::new(0),
    });
    let limits = LoopLimits {
        label: "read back".to_owned(),
        operations: Some(keys),
        in_flight: IN_FLIGHT,
        time_max: TIME_MAX,
    };
    let end = drive(Arc::clone(&keys_left), clock, limits).await?;
    Ok(ReadBack {
        keys,
        merged: keys_left.merged.load(Ordering::Relaxed),
        recorder: end.recorder,
    })
}

#[derive(Debug)]
struct KeysLeft {
    keyspace: Keyspace,
    data: Arc<Mutex<Data>>,
    keys: Mutex<Vec<u32>>,
    merged: AtomicU64,
}

impl KeysLeft {
    async fn settle(&self, index: u32) -> Result<(), End> {
        for writes in 0..=MERGES_MAX {
            let Some((seen, record)) = self.to_merge(index).await? else {
                return Ok(());
            };
            if writes == 0 {
                self.merged.fetch_add(1, Ordering::Relaxed);
            }
            let key = lock(&self.data).key(index);
            let put = self.keyspace.put(key, record).after(seen);
            let written = put.deadline(DEADLINE).await;
            written.map_err(|error| End::failed(error.outcome(), error.code()))?;
        }
        Err(End::Siblings)
    }

    /// What takes the place of siblings, and what it comes after; `None` if there is one value.
    async fn to_merge(&self, index: u32) -> Result<Option<(Context, Bytes)>, End> {
        let (key, floor) = {
            let data = lock(&self.data);
            (data.key(index), data.floor(index))
        };
        let read = self.keyspace.get(key).deadline(DEADLINE).await;
        let read = read.map_err(|error| End::failed(Outcome::NotApplied, error.code()))?;
        let data = lock(&self.data);
        let numbers = data.judge(index, &floor, read.values())?;
        let has_siblings = read.values().len() > 1;
        let merge = || (read.context().clone(), data.record(index, &numbers));
        Ok(has_siblings.then(merge))
    }
}

impl Operations for KeysLeft {
    type Operation = u32;

    fn next(&self) -> Option<u32> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.pop()
    }

    async fn carry_out(&self, index: u32) -> (Kind, End) {
        let settled = self.settle(index).await;
        (Kind::Read, settled.err().unwrap_or(End::Done))
    }
}
