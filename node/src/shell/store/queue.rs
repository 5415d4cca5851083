//! Bounded queues between the shard's loop and the loops of the store.
//!
//! Producers never wait: a full queue gives the item back. The one consumer takes all that waits.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A queue of items with weights.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Notify,
    weight_max: usize,
}

struct State<T> {
    items: VecDeque<T>,
    weight: usize,
    closed: bool,
}

/// Why an item was not queued; it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueRefused {
    /// The queue holds as much as it may.
    #[error("the queue is full")]
    Full,
    /// The store is stopping or has failed.
    #[error("the store is closed")]
    Closed,
}

impl<T> Queue<T> {
    pub(super) fn new(weight_max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                weight: 0,
                closed: false,
            }),
            wake: Notify::new(),
            weight_max,
        }
    }

    /// Queues an item. One that is heavier than the bound is taken when nothing else waits.
    pub(super) fn push(&self, item: T, weight: usize) -> Result<(), (T, QueueRefused)> {
        let mut state = self.lock();
        if state.closed {
            return Err((item, QueueRefused::Closed));
        }
        if state.weight > 0 && state.weight.saturating_add(weight) > self.weight_max {
            return Err((item, QueueRefused::Full));
        }
        state.items.push_back(item);
        state.weight = state.weight.saturating_add(weight);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Weight that may still be queued.
    pub(super) fn room(&self) -> usize {
        self.weight_max.saturating_sub(self.lock().weight)
    }

    /// Takes nothing more; what waits is still handed out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// Whether nothing may be pushed any more.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// All that waits, at least one item; `None` once closed and empty.
    ///
    /// # Cancel safety
    /// Nothing is taken unless it is returned.
    pub(super) async fn take(&self) -> Option<VecDeque<T>> {
        loop {
            {
                let mut state = self.lock();
                if !state.items.is_empty() {
                    state.weight = 0;
                    return Some(std::mem::take(&mut state.items));
                }
                if state.closed {
                    return None;
                }
            }
            self.wake.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Queue")
            .field("items", &state.items.len())
            .field("weight", &state.weight)
            .field("closed", &state.closed)
            .finish_non_exhaustive()
    }
}
