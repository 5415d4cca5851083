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
    /// For IPv6 targets, made for the first one; `None` where the system has no IPv6.
    quic_v6: Arc<OnceLock<Option<quinn::Endpoint>>>,
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
        let v6 = || dialler(IpAddr::V6(Ipv6Addr::UNSPECIFIED)).ok();
        let quic = match target.address {
            SocketAddr::V6(_) => self.quic_v6.get_or_init(v6).as_ref(),
            SocketAddr::V4(_) => None,
        };
        let quic = quic.unwrap_or(&self.quic);
        quic.connect_with(config, target.address, &name)
    }

    /// Closes all connections and waits until the nodes were told.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the connections closed; the nodes may learn it by silence.
    pub async fn shut_down(&self) {
        let v6 = self.quic_v6.get().and_then(Option::as_ref);
        for quic in std::iter::once(&self.quic).chain(v6) {
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
