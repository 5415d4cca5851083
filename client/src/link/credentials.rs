//! What a client shows to nodes and whom it trusts, as rustls wants it.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::names::ClusterId;

/// Why certificates or a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The text holds no certificate.
    #[error("no certificate in PEM form in the {what}")]
    NoCertificate {
        /// Which text.
        what: &'static str,
    },
    /// The text holds no private key.
    #[error("no private key in PEM form")]
    NoKey,
    /// They cannot be used together, or not at all.
    #[error("certificate and key cannot be used: {reason}")]
    Unusable {
        /// What rustls reported.
        reason: String,
    },
}

/// A client's certificate and key, and the authority that signs nodes.
pub struct Credentials {
    pub(super) cluster: ClusterId,
    pub(super) authority: Vec<CertificateDer<'static>>,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key stays out of logs.
        f.debug_struct("Credentials")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads the texts of `node-ca.crt`, the client's certificate and its key.
    ///
    /// # Errors
    /// [`CredentialError`] if a text does not hold what it should.
    pub fn from_pem(
        cluster: ClusterId,
        authority_pem: &str,
        certificate_pem: &str,
        key_pem: &str,
    ) -> Result<Self, CredentialError> {
        Ok(Self {
            cluster,
            authority: certificates(authority_pem, "authority")?,
            chain: certificates(certificate_pem, "client's certificate")?,
            key: PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
                .map_err(|_| CredentialError::NoKey)?,
        })
    }
}

fn certificates(
    pem: &str,
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(CredentialError::NoCertificate { what }),
    }
}

/// The TLS side of dialling: TLS 1.3 only, mutual, no resumption, no early data.
///
/// # Errors
/// [`CredentialError::Unusable`] if rustls refuses the certificates or the key.
pub fn tls_client_config(
    authority: &[CertificateDer<'static>],
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    alpn: &[u8],
) -> Result<rustls::ClientConfig, CredentialError> {
    let unusable = |error: rustls::Error| CredentialError::Unusable {
        reason: error.to_string(),
    };
    let mut roots = RootCertStore::empty();
    for certificate in authority {
        roots.add(certificate.clone()).map_err(unusable)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config.enable_early_data = false;
    config.resumption = Resumption::disabled();
    Ok(config)
}
