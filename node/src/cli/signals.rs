//! Signals that ask a command to stop: SIGINT, SIGTERM and SIGHUP.

use std::pin::pin;
use std::task::{Context, Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for the signals from its creation on.
#[derive(Debug)]
pub(super) struct StopSignals {
    signals: Vec<Signal>,
}

impl StopSignals {
    /// Starts listening; from now on the signals do not end the process.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn listen() -> std::io::Result<Self> {
        let kinds = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ];
        let signals: Result<_, _> = kinds.into_iter().map(signal).collect();
        Ok(Self { signals: signals? })
    }

    /// Completes when one of them came.
    ///
    /// # Cancel safety
    /// Safe: a signal that comes while nobody waits is seen by the next wait.
    pub(super) async fn wait(&mut self) {
        std::future::poll_fn(|context| self.poll(context)).await;
    }

    /// Ready when one of them came.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut signals = self.signals.iter_mut();
        if signals.any(|signal| signal.poll_recv(context).is_ready()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// What `work` returns, or `None` if a signal came first; `work` is then dropped.
///
/// # Cancel safety
/// That of `work`.
pub(super) async fn unless_stopped<T>(
    signals: &mut StopSignals,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = pin!(work);
    let mut stop = pin!(signals.wait());
    std::future::poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        stop.as_mut().poll(context).map(|()| None)
    })
    .await
}
