//! A node's log thread: takes all that waits, writes it in whole blocks, syncs once, and tells
//! which requests are durable.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio::sync::Notify;

use super::file::{BLOCK_BYTES, PreparedFile};

/// Way to the thread, and back.
#[derive(Debug)]
pub(super) struct Committer {
    waiting: Mutex<Vec<(u64, Bytes)>>,
    arrived: Condvar,
    /// What became durable, or why nothing does any more.
    durable: Mutex<io::Result<Vec<u64>>>,
    synced: Notify,
}

impl Committer {
    /// Starts the thread, with its file in `folder`. It ends with the process.
    pub(super) fn start(folder: &Path) -> Result<Arc<Self>> {
        let committer = Arc::new(Self {
            waiting: Mutex::default(),
            arrived: Condvar::new(),
            durable: Mutex::new(Ok(Vec::new())),
            synced: Notify::new(),
        });
        let file = PreparedFile::create(folder, "log")?;
        let own = Arc::clone(&committer);
        Builder::new()
            .name("log-commit".to_owned())
            .spawn(move || own.commit(file))
            .context("no thread for the log")?;
        Ok(committer)
    }

    /// Hands a frame over.
    pub(super) fn push(&self, number: u64, frame: Bytes) {
        lock(&self.waiting).push((number, frame));
        self.arrived.notify_one();
    }

    /// Numbers that became durable.
    ///
    /// # Errors
    /// What the disk reported; nothing becomes durable any more.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn durable(&self) -> io::Result<Vec<u64>> {
        loop {
            let durable = std::mem::replace(&mut *lock(&self.durable), Ok(Vec::new()));
            if !matches!(&durable, Ok(numbers) if numbers.is_empty()) {
                return durable;
            }
            self.synced.notified().await;
        }
    }

    fn commit(&self, mut file: PreparedFile) {
        let mut group = Vec::new();
        loop {
            let mut numbers = Vec::new();
            group.clear();
            for (number, frame) in self.take() {
                numbers.push(number);
                group.extend_from_slice(&frame);
            }
            group.resize(group.len().next_multiple_of(BLOCK_BYTES), 0);
            let synced = file.append(&group);
            let has_failed = synced.is_err();
            match (&mut *lock(&self.durable), synced) {
                (Ok(durable), Ok(())) => durable.append(&mut numbers),
                (durable, Err(error)) => *durable = Err(error),
                (Err(_), Ok(())) => {}
            }
            self.synced.notify_one();
            if has_failed {
                return;
            }
        }
    }

    /// All that waits, at least one.
    fn take(&self) -> Vec<(u64, Bytes)> {
        let waiting = lock(&self.waiting);
        let waiting = self
            .arrived
            .wait_while(waiting, |waiting| waiting.is_empty());
        std::mem::take(&mut *waiting.unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
