//! An end before the end: Ctrl-C, or an order to stop.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// What `work` returns, unless a signal asks to stop: then it is dropped, so that the processes
/// that it started end with it.
///
/// # Errors
/// Those of `work`, and if a signal came.
///
/// # Cancel safety
/// As that of `work`.
pub async fn unless_stopped<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut signals = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ]
    .into_iter()
    .map(signal)
    .collect::<std::io::Result<Vec<_>>>()?;
    let mut work = pin!(work);
    poll_fn(|context| {
        if signals
            .iter_mut()
            .any(|signal| signal.poll_recv(context).is_ready())
        {
            return Poll::Ready(Err(anyhow::anyhow!("stopped by a signal")));
        }
        work.as_mut().poll(context)
    })
    .await
}
