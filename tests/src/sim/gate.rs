//! Pausing a process: everything that could wake it is held back until it goes on.
//!
//! A paused node is one whose timers, messages and disk results do not come. Its tasks stay where
//! they wait, time goes on, and at the end of the pause everything comes at once, late: what
//! SIGSTOP and a long stall of the machine look like from inside.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

type Held = Vec<Box<dyn FnOnce() + Send>>;

/// One process' gate. Cheap to clone.
#[derive(Clone, Default)]
pub struct Gate {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    closed: AtomicBool,
    opened: Notify,
    held: Mutex<Held>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("closed", &self.is_closed())
            .finish()
    }
}

impl Gate {
    /// Whether the process is paused.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Relaxed)
    }

    /// Pauses.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Relaxed);
    }

    /// Goes on: runs what was held, in its order. Returns how many things that were.
    pub fn open(&self) -> usize {
        self.shared.closed.store(false, Ordering::Relaxed);
        let held = {
            let mut held = self
                .shared
                .held
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *held)
        };
        let count = held.len();
        held.into_iter().for_each(|action| action());
        self.shared.opened.notify_waiters();
        count
    }

    /// Runs `action` now, or when the process goes on.
    pub fn pass(&self, action: impl FnOnce() + Send + 'static) {
        if self.is_closed() {
            let mut held = self
                .shared
                .held
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            held.push(Box::new(action));
        } else {
            action();
        }
    }

    /// Completes when the process is not paused.
    pub async fn wait(&self) {
        while self.is_closed() {
            self.shared.opened.notified().await;
        }
    }
}
