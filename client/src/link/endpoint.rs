//! A client's UDP socket, from which it dials all nodes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use quinn::crypto::rustls::QuicClientConfig;
use quorate_ring::NodeName;

use super::credentials::{CredentialError, Credentials, tls_client_config};
use super::names::{ClusterId, cluster_san, node_san};
use super::receive::FrugalRuntime;
use super::transport::{TransportOptions, bind_socket, endpoint_config, transport_config};
use crate::wire::ALPN_CLIENT;

/// Why an endpoint cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Certificates or key cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// No socket.
    #[error("no UDP socket: {0}")]
    Socket(#[from] std::io::Error),
}

/// Whom to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub address: SocketAddr,
    /// Who must answer there; `None` takes any node of the cluster, which is right for seeds.
    pub node: Option<NodeName>,
}

/// A client's socket, certificate and limits. Cheap to clone. Must be made inside a tokio runtime,
/// which then drives it.
#[derive(Clone)]
pub struct Endpoint {
    cluster: ClusterId,
    quic: quinn::Endpoint,
    /// For IPv6 targets, made for the first one.
    quic_v6: Arc<OnceLock<quinn::Endpoint>>,
    crypto: Arc<QuicClientConfig>,
    options: TransportOptions,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("cluster", &self.cluster)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Binds a socket at a free port.
    ///
    /// # Errors
    /// [`EndpointError`] if there is no socket or the credentials cannot be used.
    pub fn new(credentials: Credentials, options: TransportOptions) -> Result<Self, EndpointError> {
        let Credentials {
            cluster,
            authority,
            chain,
            key,
        } = credentials;
        let tls = tls_client_config(&authority, chain, key, ALPN_CLIENT)?;
        let crypto =
            QuicClientConfig::try_from(tls).map_err(|error| CredentialError::Unusable {
                reason: error.to_string(),
            })?;
        Ok(Self {
            cluster,
            quic: dialler(IpAddr::V4(Ipv4Addr::UNSPECIFIED))?,
            quic_v6: Arc::default(),
            crypto: Arc::new(crypto),
            options,
        })
    }

    /// The limits that were given.
    #[must_use]
    pub fn options(&self) -> TransportOptions {
        self.options
    }

    /// Begins a handshake.
    pub(super) fn dial(&self, target: &Target) -> Result<quinn::Connecting, quinn::ConnectError> {
        let name = match &target.node {
            Some(node) => node_san(self.cluster, node),
            None => cluster_san(self.cluster),
        };
        let mut config = quinn::ClientConfig::new(Arc::clone(&self.crypto) as _);
        config.transport_config(transport_config(self.options, target.address.ip()));
        let quic = match target.address {
            SocketAddr::V6(_) => self.quic_v6().unwrap_or(&self.quic),
            SocketAddr::V4(_) => &self.quic,
        };
        quic.connect_with(config, target.address, &name)
    }

    /// `None` while the system has no IPv6 socket to give: the next target may find one.
    fn quic_v6(&self) -> Option<&quinn::Endpoint> {
        if self.quic_v6.get().is_none() {
            let made = dialler(IpAddr::V6(Ipv6Addr::UNSPECIFIED)).ok()?;
            // Another one may have been faster; that one is used.
            let _kept = self.quic_v6.set(made);
        }
        self.quic_v6.get()
    }

    /// Closes all connections and waits until the nodes were told.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the connections closed; the nodes may learn it by silence.
    pub async fn shut_down(&self) {
        for quic in std::iter::once(&self.quic).chain(self.quic_v6.get()) {
            quic.close(super::CloseCode::Done.into(), b"");
            quic.wait_idle().await;
        }
    }
}

fn dialler(ip: IpAddr) -> std::io::Result<quinn::Endpoint> {
    let socket = bind_socket(SocketAddr::new(ip, 0))?;
    let runtime = Arc::new(FrugalRuntime);
    quinn::Endpoint::new(endpoint_config(None), None, socket, runtime)
}
