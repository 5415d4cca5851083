//! Reads who somebody is out of a verified certificate.

use std::str::FromStr;

use quorate_client::link::{ClusterId, Role, client_san, node_san};
use quorate_ring::NodeName;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// Who is at the other end, as its authority says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A node of this cluster.
    Node(NodeName),
    /// A client of this cluster.
    Client {
        /// What it may do.
        role: Role,
        /// Under which name its connections are counted.
        principal: String,
    },
}

/// Why a certificate says of nobody who he is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No certificate was shown.
    #[error("no certificate was shown")]
    Missing,
    /// The authority for this protocol did not sign it, or it is not valid now.
    #[error("the certificate is not accepted: {reason}")]
    Untrusted {
        /// What the verification found.
        reason: String,
    },
    /// It cannot be parsed.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// It names no node or client of this cluster.
    #[error("the certificate names no {wanted} of this cluster")]
    NoName {
        /// `node` or `client`.
        wanted: &'static str,
    },
    /// The connection speaks neither the clients' nor the nodes' protocol.
    #[error("neither the clients' nor the nodes' protocol")]
    Protocol,
}

/// The node that `der` names.
pub(super) fn node(der: &[u8], cluster: ClusterId) -> Result<Identity, IdentityError> {
    let certificate = parse(der)?;
    let common_name = common_name(&certificate);
    NodeName::from_str(common_name)
        .ok()
        .filter(|name| has_name(&certificate, &node_san(cluster, name)))
        .map(Identity::Node)
        .ok_or(IdentityError::NoName { wanted: "node" })
}

/// The client that `der` names; one that names both roles has the greater one.
pub(super) fn client(der: &[u8], cluster: ClusterId) -> Result<Identity, IdentityError> {
    let certificate = parse(der)?;
    [Role::Admin, Role::Data]
        .into_iter()
        .find(|role| has_name(&certificate, &client_san(cluster, *role)))
        .map(|role| Identity::Client {
            role,
            principal: common_name(&certificate).to_owned(),
        })
        .ok_or(IdentityError::NoName { wanted: "client" })
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, IdentityError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(IdentityError::Unreadable),
    }
}

fn common_name<'a>(certificate: &'a X509Certificate<'_>) -> &'a str {
    let first = certificate.subject().iter_common_name().next();
    first.and_then(|name| name.as_str().ok()).unwrap_or("")
}

fn has_name(certificate: &X509Certificate<'_>, wanted: &str) -> bool {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return false;
    };
    let mut names = names.value.general_names.iter();
    names.any(|name| matches!(name, GeneralName::DNSName(dns) if *dns == wanted))
}
