//! How a tool is stopped: by a signal, and then in order.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use anyhow::{Result, anyhow};
use tokio::signal::unix::{SignalKind, signal};

/// What `work` returns, unless a signal asks to stop: then it is dropped, so that a cluster that it
/// started ends with it.
///
/// # Errors
/// Of the work; or that a signal came.
///
/// # Cancel safety
/// As the work's.
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
            return Poll::Ready(Err(anyhow!("stopped by a signal")));
        }
        work.as_mut().poll(context)
    })
    .await
}
