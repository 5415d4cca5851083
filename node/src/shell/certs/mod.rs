//! Certificates of a cluster: who signs, who is who, and the TLS side of every link.
//!
//! Nodes and clients have authorities of their own, so that no client can pass for a node, whatever
//! names its certificate has. TLS 1.3 with mutual authentication only; no resumption, no early
//! data.
//!
//! Not here: the names in certificates (`quorate_client::link`), which node may do what (`link`,
//! `serve`).

mod authority;
mod files;
mod identity;
mod tls;

pub use authority::{
    AuthorityKind, PemPair, SignError, Validity, new_authority, sign_client, sign_node,
};
pub use files::{
    CLIENT_AUTHORITY_FILE, CertificateFileError, NODE_AUTHORITY_FILE, NODE_CERTIFICATE_FILE,
    NODE_KEY_FILE, NodeCertificates, write_certificate, write_key,
};
pub use identity::{Identity, IdentityError};
pub use tls::NodeTls;
