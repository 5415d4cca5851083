//! The socket's receive buffers, bounded by what the system can deliver.
//!
//! Linux joins datagrams of one sender while they are received (GRO), at most 64 of them and at
//! most 64 KiB together. quinn makes room for 64 of the largest datagrams in each of its 32
//! buffers: with datagrams of 6,500 bytes that is 13 MB for every socket, zeroed when it is made,
//! and a service with many clients pays it for each. Room for 64 KiB is enough.
//!
//! Not here: datagrams that are sent (`transport`).

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};

use super::transport::UDP_PAYLOAD_BYTES_MAX;

/// Most bytes that the system delivers at once.
const JOINED_BYTES_MAX: usize = 1 << 16;

/// quinn's runtime on tokio, with sockets whose buffers are no larger than they need to be.
#[derive(Debug)]
pub(super) struct FrugalRuntime;

impl Runtime for FrugalRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(FrugalSocket(
            TokioRuntime.wrap_udp_socket(socket)?,
        )))
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

struct FrugalSocket(Arc<dyn AsyncUdpSocket>);

impl fmt::Debug for FrugalSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AsyncUdpSocket for FrugalSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.0).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    /// So many of the largest datagrams as hold all that is delivered at once.
    fn max_receive_segments(&self) -> usize {
        let enough = JOINED_BYTES_MAX.div_ceil(usize::from(UDP_PAYLOAD_BYTES_MAX));
        self.0.max_receive_segments().min(enough)
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn buffers_hold_what_is_delivered_at_once_and_not_much_more() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        socket.set_nonblocking(true).expect("it can be set");
        let socket = FrugalRuntime.wrap_udp_socket(socket).expect("a socket");
        let segments = socket.max_receive_segments();
        let bytes = segments * usize::from(UDP_PAYLOAD_BYTES_MAX);
        // One segment where the system joins none.
        assert!(segments == 1 || bytes >= JOINED_BYTES_MAX, "{segments}");
        assert!(bytes < 2 * JOINED_BYTES_MAX, "{segments}");
    }
}
