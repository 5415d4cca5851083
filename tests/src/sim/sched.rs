//! Simulated time, and the one list of everything that will happen in the world outside the nodes.
//!
//! Events run in the order of (time, insertion), each to its end; between two events every task of
//! the runtime that is ready runs. The paused runtime skips idle time. Times are microseconds since
//! the start of the run; the runtime's timers round up to milliseconds, which hurts nobody.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

type Action = Box<dyn FnOnce() + Send>;

/// The list. Cheap to clone.
#[derive(Clone)]
pub struct Scheduler {
    shared: Arc<Shared>,
}

struct Shared {
    start: Instant,
    queue: Mutex<Queue>,
    added: Notify,
}

#[derive(Default)]
struct Queue {
    order: BinaryHeap<Reverse<(u64, u64)>>,
    actions: BTreeMap<u64, Action>,
    next: u64,
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler").finish_non_exhaustive()
    }
}

impl Scheduler {
    /// Starts at time 0; must be called inside the paused runtime.
    #[expect(clippy::disallowed_methods, reason = "the simulator's source of time")]
    #[must_use]
    pub fn start() -> Self {
        Self {
            shared: Arc::new(Shared {
                start: Instant::now(),
                queue: Mutex::new(Queue::default()),
                added: Notify::new(),
            }),
        }
    }

    /// Microseconds since the start.
    #[expect(clippy::disallowed_methods, reason = "the simulator's source of time")]
    #[must_use]
    pub fn now_us(&self) -> u64 {
        let elapsed = Instant::now().duration_since(self.shared.start);
        u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
    }

    /// Runs `action` at `at_us` or, if that is past, next.
    pub fn at(&self, at_us: u64, action: impl FnOnce() + Send + 'static) {
        {
            let mut queue = self
                .shared
                .queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let number = queue.next;
            queue.next += 1;
            queue.order.push(Reverse((at_us, number)));
            queue.actions.insert(number, Box::new(action));
        }
        self.shared.added.notify_one();
    }

    /// Runs `action` after `delay_us`.
    pub fn after(&self, delay_us: u64, action: impl FnOnce() + Send + 'static) {
        self.at(self.now_us() + delay_us, action);
    }

    /// Completes at `at_us`.
    pub async fn sleep_until(&self, at_us: u64) {
        tokio::time::sleep_until(self.shared.start + Duration::from_micros(at_us)).await;
    }

    /// Completes after `ms` milliseconds.
    pub async fn sleep_ms(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// Carries events out for ever.
    pub async fn run(self) {
        loop {
            let now = self.now_us();
            match self.take_due(now) {
                Ok(action) => {
                    action();
                    tokio::task::yield_now().await;
                }
                Err(next) => self.wait(next).await,
            }
        }
    }

    fn take_due(&self, now: u64) -> Result<Action, Option<u64>> {
        let mut queue = self
            .shared
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(Reverse((at, number))) = queue.order.peek().copied() else {
            return Err(None);
        };
        if at > now {
            return Err(Some(at));
        }
        queue.order.pop();
        queue.actions.remove(&number).ok_or(Some(at))
    }

    async fn wait(&self, next: Option<u64>) {
        let added = self.shared.added.notified();
        match next {
            Some(at) => {
                let at = self.shared.start + Duration::from_micros(at);
                // Either way the queue is looked at again.
                drop(tokio::time::timeout_at(at, added).await);
            }
            None => added.await,
        }
    }
}
