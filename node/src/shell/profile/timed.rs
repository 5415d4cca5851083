//! A future of which every poll is a batch of one stage.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::{Profile, Stage};

/// Times the polls of a future.
#[derive(Debug)]
pub struct Timed<F> {
    profile: Arc<Profile>,
    stage: Stage,
    future: F,
}

impl<F: Future + Unpin> Timed<F> {
    /// Counts what `future` does as `stage`.
    #[must_use]
    pub const fn new(profile: Arc<Profile>, stage: Stage, future: F) -> Self {
        Self {
            profile,
            stage,
            future,
        }
    }
}

impl<F: Future> Timed<Pin<Box<F>>> {
    /// The same for a future that is not yet pinned.
    #[must_use]
    pub fn pinned(profile: &Arc<Profile>, stage: Stage, future: F) -> Self {
        Self::new(Arc::clone(profile), stage, Box::pin(future))
    }
}

impl<F: Future + Unpin> Future for Timed<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self {
            profile,
            stage,
            future,
        } = self.get_mut();
        let mut lap = profile.lap(*stage);
        let polled = Pin::new(future).poll(context);
        lap.ends(*stage, 1);
        polled
    }
}
