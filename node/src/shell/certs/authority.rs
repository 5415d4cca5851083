//! Makes authorities and signs certificates of nodes and clients, all as PEM texts.

use std::time::Duration;

use quorate_client::link::{ClusterId, Role, client_san, cluster_san, node_san};
use quorate_ring::NodeName;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// Which certificates an authority signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorityKind {
    /// Those of nodes.
    Nodes,
    /// Those of clients.
    Clients,
}

/// From when until when a certificate is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub from_s: u64,
    /// Last second.
    pub until_s: u64,
}

/// A certificate and its private key in PEM form.
#[derive(Clone)]
pub struct PemPair {
    /// The certificate.
    pub certificate: String,
    /// The key: keep it out of logs, and in files of mode 0600.
    pub key: String,
}

impl std::fmt::Debug for PemPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PemPair")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// A certificate cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate cannot be made: {reason}")]
pub struct SignError {
    /// What the library reported.
    pub reason: String,
}

impl From<rcgen::Error> for SignError {
    fn from(error: rcgen::Error) -> Self {
        Self {
            reason: error.to_string(),
        }
    }
}

/// Makes an authority with a key of its own.
///
/// # Errors
/// [`SignError`] if no key can be made.
pub fn new_authority(
    kind: AuthorityKind,
    cluster: ClusterId,
    validity: Validity,
) -> Result<PemPair, SignError> {
    let whom = match kind {
        AuthorityKind::Nodes => "nodes",
        AuthorityKind::Clients => "clients",
    };
    let mut params = params(&format!("quorate {whom} {cluster}"), Vec::new(), validity)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(PemPair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// Signs a certificate with which `name` serves, and dials other nodes.
///
/// # Errors
/// [`SignError`] if `authority` cannot be read.
pub fn sign_node(
    authority: &PemPair,
    cluster: ClusterId,
    name: &NodeName,
    validity: Validity,
) -> Result<PemPair, SignError> {
    let names = vec![node_san(cluster, name), cluster_san(cluster)];
    let mut params = params(name.as_str(), names, validity)?;
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    sign(authority, params)
}

/// Signs a certificate for a client; `principal` is the name under which its connections are
/// counted.
///
/// # Errors
/// [`SignError`] if `authority` cannot be read.
pub fn sign_client(
    authority: &PemPair,
    cluster: ClusterId,
    role: Role,
    principal: &str,
    validity: Validity,
) -> Result<PemPair, SignError> {
    let mut params = params(principal, vec![client_san(cluster, role)], validity)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    sign(authority, params)
}

fn sign(authority: &PemPair, mut params: CertificateParams) -> Result<PemPair, SignError> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let issuer =
        Issuer::from_ca_cert_pem(&authority.certificate, KeyPair::from_pem(&authority.key)?)?;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(PemPair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

fn params(
    common_name: &str,
    names: Vec<String>,
    validity: Validity,
) -> Result<CertificateParams, SignError> {
    let mut params = CertificateParams::new(names)?;
    let start = date_time_ymd(1970, 1, 1);
    params.not_before = start + Duration::from_secs(validity.from_s);
    params.not_after = start + Duration::from_secs(validity.until_s);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.is_ca = IsCa::NoCa;
    Ok(params)
}
