//! A resolver on a thread of its own: one that never ends costs its caller no more than the
//! deadline.
//!
//! Its thread is left behind then, as nothing can end it from outside; it does not keep the program
//! from ending. Only siblings start a thread.
//!
//! Not here: what a resolver is (`settle`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use quorate_ring::MonoTime;

use crate::clock::Clock;
use crate::settle::Rejected;

/// How long the calling thread itself waits for a resolver: nearly all end far within it, and only
/// a slow one is then looked at from time to time.
const RESOLVER_AT_ONCE: Duration = Duration::from_millis(5);
/// How often a slow one is looked at.
const RESOLVER_LOOK: Duration = Duration::from_millis(1);

/// Where the value of a resolver comes.
pub(super) type Resolving<T> = mpsc::Receiver<Result<T, Rejected>>;

#[expect(
    clippy::disallowed_methods,
    reason = "foreign code that may never end must not run on the runtime's thread, and a blocking \
              task would keep the runtime from ending"
)]
pub(super) fn on_own_thread<T: Send + 'static>(
    resolve: impl FnOnce() -> Result<T, Rejected> + Send + 'static,
) -> Resolving<T> {
    let (done, resolving) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let resolved = catch_unwind(AssertUnwindSafe(resolve));
        let resolved = resolved.unwrap_or_else(|_| Err(Rejected::new("it panicked")));
        // Nobody waits any more if the deadline has passed.
        drop(done.send(resolved));
    });
    resolving
}

/// What the resolver gave; `None` if it did not end in time.
pub(super) async fn ended<T>(
    resolving: Resolving<T>,
    clock: Clock,
    until: MonoTime,
) -> Option<Result<T, Rejected>> {
    let gone = || Some(Err(Rejected::new("it ended without a value")));
    match resolving.recv_timeout(RESOLVER_AT_ONCE.min(until.since(clock.now()))) {
        Ok(resolved) => return Some(resolved),
        Err(RecvTimeoutError::Disconnected) => return gone(),
        Err(RecvTimeoutError::Timeout) => {}
    }
    loop {
        match resolving.try_recv() {
            Ok(resolved) => return Some(resolved),
            Err(TryRecvError::Disconnected) => return gone(),
            Err(TryRecvError::Empty) if clock.now() >= until => return None,
            Err(TryRecvError::Empty) => tokio::time::sleep(RESOLVER_LOOK).await,
        }
    }
}
