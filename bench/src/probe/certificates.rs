//! A cluster's certificates for the probe: as the product makes them, valid for a day.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use quinn::crypto::rustls::QuicClientConfig;
use quorate_client::link::{ClusterId, Role, tls_client_config};
use quorate_client::wire::ALPN_CLIENT;
use quorate_node::shell::certs::{
    AuthorityKind, CLIENT_AUTHORITY_FILE, NODE_AUTHORITY_FILE, NODE_CERTIFICATE_FILE,
    NODE_KEY_FILE, NodeCertificates, NodeTls, PemPair, Validity, new_authority, sign_client,
    sign_node, write_certificate, write_key,
};
use quorate_node::shell::seam::Clock as _;
use quorate_node::shell::system::SystemClock;
use quorate_ring::NodeName;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::NODES;

/// The probe's cluster.
pub(super) const CLUSTER: ClusterId = ClusterId([7; 16]);

const DAY_S: u64 = 86_400;

/// A folder with certificates for each node, and the client's.
#[derive(Debug)]
pub(super) struct Folders {
    pub(super) nodes: Vec<PathBuf>,
    node_authority: PemPair,
    client: PemPair,
}

impl Folders {
    /// Signs everything and writes the nodes' part below `parent`.
    pub(super) fn make(parent: &Path) -> Result<Self> {
        let now_s = now_s();
        let validity = Validity {
            from_s: now_s.saturating_sub(DAY_S),
            until_s: now_s + DAY_S,
        };
        let node_authority = new_authority(AuthorityKind::Nodes, CLUSTER, validity)?;
        let client_authority = new_authority(AuthorityKind::Clients, CLUSTER, validity)?;
        let client = sign_client(&client_authority, CLUSTER, Role::Data, "probe", validity)?;
        let mut nodes = Vec::new();
        for number in 0..NODES {
            let name = node_name(number)?;
            let pair = sign_node(&node_authority, CLUSTER, &name, validity)?;
            let folder = parent.join(name.as_str());
            std::fs::create_dir_all(&folder)?;
            let authorities = [
                (NODE_AUTHORITY_FILE, &node_authority),
                (CLIENT_AUTHORITY_FILE, &client_authority),
            ];
            for (file, authority) in authorities {
                write_certificate(&folder.join(file), &authority.certificate)?;
            }
            write_certificate(&folder.join(NODE_CERTIFICATE_FILE), &pair.certificate)?;
            write_key(&folder.join(NODE_KEY_FILE), &pair.key)?;
            nodes.push(folder);
        }
        Ok(Self {
            nodes,
            node_authority,
            client,
        })
    }

    /// The client's side of a handshake.
    pub(super) fn client_crypto(&self) -> Result<Arc<QuicClientConfig>> {
        let authority = certificate(&self.node_authority)?;
        let key = PrivateKeyDer::from_pem_slice(self.client.key.as_bytes());
        let key = key.ok().context("the client's key is one")?;
        let chain = vec![certificate(&self.client)?];
        let tls = tls_client_config(&[authority], chain, key, ALPN_CLIENT)?;
        Ok(Arc::new(QuicClientConfig::try_from(tls)?))
    }
}

/// The TLS of node `number`, out of its folder.
pub(super) fn node_tls(folder: &Path, number: usize) -> Result<NodeTls> {
    let own = NodeCertificates::load(folder, CLUSTER, &node_name(number)?, now_s())?;
    Ok(NodeTls::new(CLUSTER, &own)?)
}

/// Name of node `number`.
pub(super) fn node_name(number: usize) -> Result<NodeName> {
    Ok(format!("n{}", number + 1).parse()?)
}

fn certificate(pair: &PemPair) -> Result<CertificateDer<'static>> {
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes());
    certificate.ok().context("a certificate that was just made")
}

fn now_s() -> u64 {
    SystemClock::start().wall_micros() / 1_000_000
}
