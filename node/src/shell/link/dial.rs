//! Dials one peer until it answers.
//!
//! A handshake that meets a node which is just starting waits for its own retransmission, which
//! grows with every loss. So a new attempt begins every 250 ms at the latest while the older ones
//! are still under way; the first that succeeds is used, the others are closed.

use std::net::SocketAddr;
use std::time::Duration;

use quinn::ClientConfig;
use quorate_client::link::{
    CloseCode, ConnectError, Streams, TransportOptions, node_san, open_streams, transport_config,
};
use tokio::task::JoinSet;

use super::peer::Peer;
use crate::shell::certs::NodeTls;

/// A new attempt begins at the latest after this.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(200);

/// Attempts that may be under way at once.
const ATTEMPTS_MAX: usize = 12;

/// What dialling needs, shared by all peers of a node.
#[derive(Debug, Clone)]
pub(super) struct Dialler {
    pub(super) quic: quinn::Endpoint,
    pub(super) tls: NodeTls,
    pub(super) options: TransportOptions,
}

impl Dialler {
    /// Dials until there is a connection to `peer`, whose certificate has then proved its name.
    /// `failed` hears why an attempt failed.
    pub(super) async fn dial(
        &self,
        peer: &Peer,
        mut failed: impl FnMut(&ConnectError),
    ) -> (quinn::Connection, Streams) {
        let mut attempts: JoinSet<Result<quinn::Connection, ConnectError>> = JoinSet::new();
        loop {
            if attempts.len() < ATTEMPTS_MAX {
                let (own, peer) = (self.clone(), peer.clone());
                attempts.spawn(async move { own.handshake(&peer).await });
            }
            let pause = tokio::time::sleep(ATTEMPT_PAUSE);
            tokio::pin!(pause);
            // The pause runs to its end even where an attempt fails at once.
            while let Ok(Some(ended)) = timeout_at(pause.as_mut(), attempts.join_next()).await {
                match ended {
                    Ok(Ok(connection)) => match self.open(&connection).await {
                        Ok(streams) => return (connection, streams),
                        Err(error) => failed(&error),
                    },
                    Ok(Err(error)) => failed(&error),
                    Err(_) => {}
                }
            }
            pause.await;
        }
    }

    async fn handshake(&self, peer: &Peer) -> Result<quinn::Connection, ConnectError> {
        let address = resolve(&peer.address).await?;
        let mut config = ClientConfig::new(self.tls.dialler());
        config.transport_config(transport_config(self.options, address.ip()));
        let name = node_san(self.tls.cluster(), &peer.name);
        let connecting = self
            .quic
            .connect_with(config, address, &name)
            .map_err(|error| ConnectError::Address {
                reason: error.to_string(),
            })?;
        let connected = tokio::time::timeout(self.options.connect_timeout, connecting).await;
        let connected = connected.map_err(|_| ConnectError::TimedOut)?;
        connected.map_err(|error| match error.into() {
            // Who closes now has not proved to be anybody: what it says of this node is no reason
            // to act.
            ConnectError::Refused(code) => ConnectError::Failed {
                reason: format!("it was closed before the handshake ended: {code}"),
            },
            error => error,
        })
    }

    async fn open(&self, connection: &quinn::Connection) -> Result<Streams, ConnectError> {
        let opened = tokio::time::timeout(self.options.connect_timeout, open_streams(connection));
        let error = match opened.await {
            Ok(Ok(streams)) => return Ok(streams),
            Ok(Err(quorate_client::link::StreamError::Connection(error))) => error.into(),
            Ok(Err(quorate_client::link::StreamError::Protocol(error))) => ConnectError::Failed {
                reason: error.to_string(),
            },
            Err(_) => ConnectError::TimedOut,
        };
        connection.close(CloseCode::Done.into(), b"");
        Err(error)
    }
}

/// Waits for `future` until `limit` completes; the limit may be used again.
async fn timeout_at<T>(
    mut limit: std::pin::Pin<&mut tokio::time::Sleep>,
    future: impl Future<Output = T>,
) -> Result<T, ()> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(cx) {
            return std::task::Poll::Ready(Ok(value));
        }
        limit.as_mut().poll(cx).map(|()| Err(()))
    })
    .await
}

async fn resolve(address: &str) -> Result<SocketAddr, ConnectError> {
    let reason = match tokio::net::lookup_host(address).await {
        Ok(mut found) => match found.next() {
            Some(address) => return Ok(address),
            None => "the name has no address".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    Err(ConnectError::Address { reason })
}
