//! quinn's tasks and its socket, timed: the work of QUIC, and of the kernel below it.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};

use super::{Profile, Stage, Timed};

/// quinn's runtime, with its work counted.
#[derive(Debug)]
pub struct TimedRuntime {
    profile: Arc<Profile>,
    inner: TokioRuntime,
}

impl TimedRuntime {
    /// The runtime for a node with `profile`: the plain one where nothing is profiled.
    #[must_use]
    pub fn of(profile: &Arc<Profile>) -> Arc<dyn Runtime> {
        if profile.is_on() {
            Arc::new(Self {
                profile: Arc::clone(profile),
                inner: TokioRuntime,
            })
        } else {
            Arc::new(TokioRuntime)
        }
    }
}

impl Runtime for TimedRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        self.inner.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let timed = Timed::new(Arc::clone(&self.profile), Stage::Quic, future);
        self.inner.spawn(Box::pin(timed));
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let inner = self.inner.wrap_udp_socket(socket)?;
        let profile = Arc::clone(&self.profile);
        Ok(Arc::new(TimedSocket { profile, inner }))
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }
}

struct TimedSocket {
    profile: Arc<Profile>,
    inner: Arc<dyn AsyncUdpSocket>,
}

impl fmt::Debug for TimedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl AsyncUdpSocket for TimedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut lap = self.profile.lap(Stage::UdpSend);
        let sent = self.inner.try_send(transmit);
        let datagrams = datagrams(transmit.contents.len(), transmit.segment_size);
        lap.ends(Stage::UdpSend, datagrams);
        sent
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut lap = self.profile.lap(Stage::UdpReceive);
        let received = self.inner.poll_recv(context, buffers, meta);
        let count = match &received {
            Poll::Ready(Ok(count)) => *count,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        let of_one = |one: &RecvMeta| datagrams(one.len, Some(one.stride));
        let datagrams = meta.iter().take(count).map(of_one).sum();
        lap.ends(Stage::UdpReceive, datagrams);
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// How many datagrams the kernel makes of `bytes`, or has joined into them.
fn datagrams(bytes: usize, segment: Option<usize>) -> usize {
    bytes.div_ceil(segment.unwrap_or(bytes).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_datagrams_are_counted_one_by_one() {
        assert_eq!(datagrams(3_000, Some(1_200)), 3);
        assert_eq!(datagrams(1_200, Some(1_200)), 1);
        assert_eq!(datagrams(900, None), 1);
        assert_eq!(datagrams(0, Some(0)), 1);
    }
}
