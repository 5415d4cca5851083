//! The product's sockets and transport settings, and what waits for a stream.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, ReadError, RecvStream, SendStream,
    ServerConfig,
};
use quorate_client::link::{TransportOptions, bind_socket, endpoint_config, transport_config};
use quorate_node::shell::certs::NodeTls;
use tokio::sync::Notify;

use super::committer::lock;
use super::frames::Kind;

/// First byte of a stream: the other side learns of a stream by its first byte.
const PREAMBLE: [u8; 1] = [1];

/// Bytes that are taken from a stream at once.
const PIECE_BYTES_MAX: usize = usize::MAX;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A node's socket at a free port.
pub(super) fn node_endpoint(tls: &NodeTls) -> Result<Endpoint> {
    let mut config = ServerConfig::with_crypto(tls.server());
    config
        .transport_config(transport_config(TransportOptions::default(), LOOPBACK))
        .migration(false);
    endpoint(Some(tls.reset_key()), Some(config))
}

/// A client's socket.
pub(super) fn client_endpoint() -> Result<Endpoint> {
    endpoint(None, None)
}

fn endpoint(
    reset_key: Option<Arc<dyn quinn::crypto::HmacKey>>,
    server: Option<ServerConfig>,
) -> Result<Endpoint> {
    Ok(Endpoint::new(
        endpoint_config(reset_key),
        server,
        bind_socket(SocketAddr::new(LOOPBACK, 0))?,
        Arc::new(quinn::TokioRuntime),
    )?)
}

/// Connects, and opens the one stream.
pub(super) async fn dial(
    endpoint: &Endpoint,
    crypto: Arc<QuicClientConfig>,
    address: SocketAddr,
    name: &str,
) -> Result<(Connection, SendStream, RecvStream)> {
    let mut config = ClientConfig::new(crypto);
    config.transport_config(transport_config(TransportOptions::default(), LOOPBACK));
    let connection = endpoint.connect_with(config, address, name)?.await?;
    let (mut send, recv) = connection.open_bi().await?;
    send.write_all(&PREAMBLE).await?;
    Ok((connection, send, recv))
}

/// Waits for the one stream of a connection.
pub(super) async fn accept(connection: &Connection) -> Result<(SendStream, RecvStream)> {
    let (send, mut recv) = connection.accept_bi().await?;
    recv.read_exact(&mut [0; PREAMBLE.len()]).await?;
    Ok((send, recv))
}

/// The next piece of a stream; `None` at its end, or once the other side has closed in order.
pub(super) async fn piece(recv: &mut RecvStream) -> Result<Option<Bytes>> {
    match recv.read_chunk(PIECE_BYTES_MAX, true).await {
        Ok(chunk) => Ok(chunk.map(|chunk| chunk.bytes)),
        Err(ReadError::ConnectionLost(ConnectionError::ApplicationClosed(_))) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What waits for a stream; all of it leaves in one write.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<BytesMut>,
    filled: Notify,
}

impl Outbox {
    /// Queues a frame as it came.
    pub(super) fn push(&self, frame: &[u8]) {
        lock(&self.waiting).extend_from_slice(frame);
        self.filled.notify_one();
    }

    /// Queues the frame of request `number`.
    pub(super) fn put(&self, kind: Kind, number: u64) {
        kind.put(&mut lock(&self.waiting), number);
        self.filled.notify_one();
    }

    /// Writes whatever is queued, until the stream breaks.
    pub(super) async fn write_to(&self, mut send: SendStream) -> Result<()> {
        loop {
            let bytes = lock(&self.waiting).split().freeze();
            if bytes.is_empty() {
                self.filled.notified().await;
            } else {
                send.write_chunk(bytes).await?;
            }
        }
    }
}
