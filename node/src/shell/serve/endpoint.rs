//! The node's one UDP socket: clients and peers are told apart by the protocol they offer.
//!
//! Invariants: nothing of a connection is read before its certificate is verified against the
//! authority of its protocol; handshakes are bounded in number and time, and above a quarter of
//! that number an address must prove that it receives what is sent to it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quinn::{Incoming, ServerConfig};
use quorate_client::link::{
    CloseCode, TransportOptions, bind_socket, endpoint_config, transport_config,
};
use tokio::task::JoinSet;

use super::native::ClientServer;
use crate::shell::certs::{Identity, NodeTls};
use crate::shell::link::{LinkCounters, PeerLinks};
use crate::shell::profile::{Profile, TimedRuntime};

/// Longest handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// Handshakes under way; more are refused.
const HANDSHAKES_MAX: usize = 1024;

/// Handshakes under way from which on addresses must be proved.
const HANDSHAKES_UNPROVED_MAX: usize = HANDSHAKES_MAX / 4;

/// Connections of clients and peers, in all.
const CONNECTIONS_MAX: usize = 4096;

/// Early bytes kept for one handshake, and for all.
const INCOMING_BUFFER_BYTES: u64 = 64 * 1024;
const INCOMING_BUFFER_TOTAL_BYTES: u64 = 8 * 1024 * 1024;

/// A node's socket with its TLS configuration. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NodeEndpoint {
    quic: quinn::Endpoint,
    tls: NodeTls,
    loopback: Arc<ServerConfig>,
    counters: Arc<LinkCounters>,
    handshakes: Arc<AtomicUsize>,
}

impl NodeEndpoint {
    /// Binds `listen`. Must be called inside a tokio runtime, which then drives the socket.
    ///
    /// # Errors
    /// What the system reports, such as a port that is taken.
    pub fn bind(
        listen: SocketAddr,
        tls: NodeTls,
        options: TransportOptions,
        counters: Arc<LinkCounters>,
        profile: &Arc<Profile>,
    ) -> io::Result<Self> {
        let anywhere = server_config(&tls, options, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let loopback = server_config(&tls, options, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let quic = quinn::Endpoint::new(
            endpoint_config(Some(tls.reset_key())),
            Some(anywhere),
            bind_socket(listen)?,
            TimedRuntime::of(profile),
        )?;
        let (loopback, handshakes) = (Arc::new(loopback), Arc::default());
        Ok(Self {
            quic,
            tls,
            loopback,
            counters,
            handshakes,
        })
    }

    /// The socket, for dialling.
    #[must_use]
    pub fn quic(&self) -> quinn::Endpoint {
        self.quic.clone()
    }

    /// The address that was bound.
    ///
    /// # Errors
    /// What the system reports.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.quic.local_addr()
    }

    /// Accepts connections until the socket is closed.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connections that it accepted.
    pub async fn serve(self, peers: Arc<PeerLinks>, clients: Arc<ClientServer>) {
        let mut tasks = JoinSet::new();
        while let Some(incoming) = self.quic.accept().await {
            while tasks.try_join_next().is_some() {}
            let handshakes = self.handshakes.load(Ordering::Relaxed);
            if handshakes >= HANDSHAKES_MAX || tasks.len() >= CONNECTIONS_MAX {
                LinkCounters::count(&self.counters.connections_refused);
                incoming.refuse();
            } else if handshakes >= HANDSHAKES_UNPROVED_MAX && !incoming.remote_address_validated()
            {
                if let Err(error) = incoming.retry() {
                    error.into_incoming().ignore();
                }
            } else {
                let (own, peers, clients) =
                    (self.clone(), Arc::clone(&peers), Arc::clone(&clients));
                let open = HandshakeGuard::new(&self.handshakes);
                tasks.spawn(async move { own.welcome(incoming, open, &peers, &clients).await });
            }
        }
    }

    /// Refuses new connections; those that are there go on.
    pub fn stop_accepting(&self) {
        self.quic.set_server_config(None);
    }

    /// Closes every connection and waits until the other sides were told.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the connections closed.
    pub async fn shut_down(&self) {
        self.quic.close(CloseCode::ShuttingDown.into(), b"");
        self.quic.wait_idle().await;
    }

    async fn welcome(
        &self,
        incoming: Incoming,
        open: HandshakeGuard,
        peers: &PeerLinks,
        clients: &ClientServer,
    ) {
        let accepted = if incoming.remote_address().ip().to_canonical().is_loopback() {
            incoming.accept_with(Arc::clone(&self.loopback))
        } else {
            incoming.accept()
        };
        let connecting = async { accepted?.await };
        let Ok(Ok(connection)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting).await else {
            LinkCounters::count(&self.counters.handshakes_failed);
            return;
        };
        drop(open);
        match self.tls.identify(&connection) {
            Ok(Identity::Node(name)) => peers.accept(&name, connection).await,
            Ok(Identity::Client { role, principal }) => {
                clients.accept(connection, role, principal).await;
            }
            Err(error) => {
                tracing::warn!(remote = %connection.remote_address(), %error, "connection refused");
                LinkCounters::count(&self.counters.identities_refused);
                connection.close(CloseCode::Identity.into(), b"");
            }
        }
    }
}

fn server_config(tls: &NodeTls, options: TransportOptions, remote: IpAddr) -> ServerConfig {
    let mut config = ServerConfig::with_crypto(tls.server());
    config
        .transport_config(transport_config(options, remote))
        .migration(false)
        .max_incoming(HANDSHAKES_MAX)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL_BYTES);
    config
}

/// Counts a handshake for as long as it is under way.
#[derive(Debug)]
struct HandshakeGuard(Arc<AtomicUsize>);

impl HandshakeGuard {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for HandshakeGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
