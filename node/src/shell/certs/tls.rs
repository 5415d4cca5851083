//! TLS of one node: what it shows, whom it lets in, and who that is.
//!
//! The handshake takes a certificate of either authority. The protocol that was agreed on then
//! says which of the two must have signed it; that is verified again, against this one authority
//! alone, before a stream of the connection is read.

use std::fmt;
use std::sync::Arc;

use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quorate_client::link::{ClusterId, CredentialError, tls_client_config};
use quorate_client::wire::{ALPN_CLIENT, ALPN_PEER};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};

use super::files::NodeCertificates;
use super::identity::{self, Identity, IdentityError};

/// The TLS configuration of one node. Cheap to clone.
#[derive(Clone)]
pub struct NodeTls {
    cluster: ClusterId,
    server: Arc<QuicServerConfig>,
    dialler: Arc<QuicClientConfig>,
    nodes: Arc<dyn ClientCertVerifier>,
    clients: Arc<dyn ClientCertVerifier>,
    reset_seed: [u8; 32],
}

impl fmt::Debug for NodeTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeTls")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl NodeTls {
    /// Sets both directions up.
    ///
    /// # Errors
    /// [`CredentialError::Unusable`] if certificates and key cannot be used together.
    pub fn new(cluster: ClusterId, own: &NodeCertificates) -> Result<Self, CredentialError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let either = [own.node_authority.clone(), own.client_authority.clone()].concat();
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(verifier(&either, &provider)?)
            .with_single_cert(own.chain.clone(), own.key.clone_key())
            .map_err(unusable)?;
        tls.alpn_protocols = vec![ALPN_PEER.to_vec(), ALPN_CLIENT.to_vec()];
        tls.max_early_data_size = 0;
        tls.send_tls13_tickets = 0;
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        let dialler = tls_client_config(
            &own.node_authority,
            own.chain.clone(),
            own.key.clone_key(),
            ALPN_PEER,
        )?;
        Ok(Self {
            cluster,
            server: Arc::new(QuicServerConfig::try_from(tls).map_err(unusable)?),
            dialler: Arc::new(QuicClientConfig::try_from(dialler).map_err(unusable)?),
            nodes: verifier(&own.node_authority, &provider)?,
            clients: verifier(&own.client_authority, &provider)?,
            reset_seed: blake3::derive_key("quorate stateless reset v1", own.key.secret_der()),
        })
    }

    /// The cluster of this node.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// For accepting.
    #[must_use]
    pub fn server(&self) -> Arc<QuicServerConfig> {
        Arc::clone(&self.server)
    }

    /// For dialling other nodes.
    #[must_use]
    pub fn dialler(&self) -> Arc<QuicClientConfig> {
        Arc::clone(&self.dialler)
    }

    /// Key of the tokens by which others learn that this node was started anew: the same after a
    /// restart, and secret.
    #[must_use]
    pub fn reset_key(&self) -> Arc<dyn quinn::crypto::HmacKey> {
        Arc::new(ResetKey(self.reset_seed))
    }

    /// Verifies against the authority of the connection's protocol who is at its other end.
    ///
    /// # Errors
    /// [`IdentityError`]: the connection must be closed, nothing of it may be read.
    pub fn identify(&self, connection: &quinn::Connection) -> Result<Identity, IdentityError> {
        let data = connection
            .handshake_data()
            .and_then(|data| data.downcast::<HandshakeData>().ok());
        let protocol = data.and_then(|data| data.protocol);
        let shown = connection
            .peer_identity()
            .and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
        let (first, rest) = shown
            .as_deref()
            .and_then(|c| c.split_first())
            .ok_or(IdentityError::Missing)?;
        let untrusted = |error: rustls::Error| IdentityError::Untrusted {
            reason: error.to_string(),
        };
        let verify = |by: &Arc<dyn ClientCertVerifier>| {
            by.verify_client_cert(first, rest, UnixTime::now())
                .map(drop)
                .map_err(untrusted)
        };
        match protocol.as_deref() {
            Some(ALPN_PEER) => {
                verify(&self.nodes)?;
                identity::node(first, self.cluster)
            }
            Some(ALPN_CLIENT) => {
                verify(&self.clients)?;
                identity::client(first, self.cluster)
            }
            Some(_) | None => Err(IdentityError::Protocol),
        }
    }
}

/// A verifier for certificates of `authority` alone.
pub(super) fn verifier(
    authority: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, CredentialError> {
    let mut roots = RootCertStore::empty();
    for certificate in authority {
        roots.add(certificate.clone()).map_err(unusable)?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(unusable)
}

fn unusable(error: impl fmt::Display) -> CredentialError {
    CredentialError::Unusable {
        reason: error.to_string(),
    }
}

/// Keyed BLAKE3 as quinn wants it.
struct ResetKey([u8; 32]);

impl quinn::crypto::HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        blake3::Hasher::new_keyed(&self.0)
            .update(data)
            .finalize_xof()
            .fill(signature_out);
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), quinn::crypto::CryptoError> {
        let wanted = blake3::keyed_hash(&self.0, data);
        // Comparing two hashes takes the same time wherever they differ.
        let given = <[u8; blake3::OUT_LEN]>::try_from(signature).map(blake3::Hash::from_bytes);
        match given {
            Ok(given) if given == wanted => Ok(()),
            Ok(_) | Err(_) => Err(quinn::crypto::CryptoError),
        }
    }
}
