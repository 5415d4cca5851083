//! Certificates in a node's folder: read and checked at start, written by `cluster create`.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use quorate_client::link::ClusterId;
use quorate_ring::NodeName;
use rustls::CertificateError;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::identity::{self, Identity};
use super::tls::verifier;

/// The node's certificate.
pub const NODE_CERTIFICATE_FILE: &str = "node.crt";
/// Its key.
pub const NODE_KEY_FILE: &str = "node.key";
/// The authority that signs nodes.
pub const NODE_AUTHORITY_FILE: &str = "node-ca.crt";
/// The authority that signs clients.
pub const CLIENT_AUTHORITY_FILE: &str = "client-ca.crt";

/// Why a node cannot start with the certificates in its folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateFileError {
    /// A file is not there.
    #[error("{file} is missing; `cluster create` writes it")]
    Missing {
        /// Its name.
        file: &'static str,
    },
    /// A file cannot be read, or does not hold what it should in PEM form.
    #[error("{file} cannot be read: {reason}")]
    Unreadable {
        /// Its name.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Others than its owner may read the key.
    #[error("{file} can be read by others; run `chmod 600` on it")]
    Exposed {
        /// Its name.
        file: &'static str,
    },
    /// The certificate is no longer valid.
    #[error("{file} has expired; make new certificates with `quorate certs`")]
    Expired {
        /// Its name.
        file: &'static str,
    },
    /// The certificate is not valid yet.
    #[error("{file} is not valid yet; is the clock right?")]
    NotYetValid {
        /// Its name.
        file: &'static str,
    },
    /// The cluster's authority for nodes did not sign it, or it is no node's.
    #[error("{file} is no node's certificate of this cluster: {reason}")]
    Foreign {
        /// Its name.
        file: &'static str,
        /// What the verification found.
        reason: String,
    },
    /// It belongs to another node.
    #[error("{file} belongs to node {found}, not to {wanted}")]
    OtherNode {
        /// Its name.
        file: &'static str,
        /// The node that starts.
        wanted: NodeName,
        /// The node that it names.
        found: NodeName,
    },
}

/// What a node needs to prove who it is and to know others. Checked when it was loaded.
#[derive(Debug)]
pub struct NodeCertificates {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) node_authority: Vec<CertificateDer<'static>>,
    pub(super) client_authority: Vec<CertificateDer<'static>>,
}

impl NodeCertificates {
    /// Reads the four files of `folder` and checks that they are those of node `name` at `now_s`
    /// (seconds since 1970).
    ///
    /// # Errors
    /// [`CertificateFileError`], which names the file and what to do.
    pub fn load(
        folder: &Path,
        cluster: ClusterId,
        name: &NodeName,
        now_s: u64,
    ) -> Result<Self, CertificateFileError> {
        refuse_exposed(folder)?;
        let key = read(folder, NODE_KEY_FILE)?;
        let own = Self {
            chain: certificates(folder, NODE_CERTIFICATE_FILE)?,
            key: PrivateKeyDer::from_pem_slice(&key).map_err(|_| {
                CertificateFileError::Unreadable {
                    file: NODE_KEY_FILE,
                    reason: "no private key in PEM form".into(),
                }
            })?,
            node_authority: certificates(folder, NODE_AUTHORITY_FILE)?,
            client_authority: certificates(folder, CLIENT_AUTHORITY_FILE)?,
        };
        own.check(cluster, name, now_s)?;
        Ok(own)
    }

    fn check(
        &self,
        cluster: ClusterId,
        name: &NodeName,
        now_s: u64,
    ) -> Result<(), CertificateFileError> {
        let file = NODE_CERTIFICATE_FILE;
        let foreign = |reason: String| CertificateFileError::Foreign { file, reason };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let by = verifier(&self.node_authority, &provider).map_err(|e| foreign(e.to_string()))?;
        let (first, rest) = self
            .chain
            .split_first()
            .ok_or_else(|| foreign("no certificate".into()))?;
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now_s));
        by.verify_client_cert(first, rest, now)
            .map_err(|error| match error {
                rustls::Error::InvalidCertificate(
                    CertificateError::Expired | CertificateError::ExpiredContext { .. },
                ) => CertificateFileError::Expired { file },
                rustls::Error::InvalidCertificate(
                    CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
                ) => CertificateFileError::NotYetValid { file },
                other => foreign(other.to_string()),
            })?;
        match identity::node(first, cluster).map_err(|e| foreign(e.to_string()))? {
            Identity::Node(found) if found == *name => Ok(()),
            Identity::Node(found) => Err(CertificateFileError::OtherNode {
                file,
                wanted: name.clone(),
                found,
            }),
            Identity::Client { .. } => Err(foreign("a client's".into())),
        }
    }
}

fn read(folder: &Path, file: &'static str) -> Result<Vec<u8>, CertificateFileError> {
    std::fs::read(folder.join(file)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => CertificateFileError::Missing { file },
        _ => CertificateFileError::Unreadable {
            file,
            reason: error.to_string(),
        },
    })
}

fn certificates(
    folder: &Path,
    file: &'static str,
) -> Result<Vec<CertificateDer<'static>>, CertificateFileError> {
    let pem = read(folder, file)?;
    let unreadable = |reason: String| CertificateFileError::Unreadable { file, reason };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| unreadable(error.to_string()))?;
    if found.is_empty() {
        return Err(unreadable("no certificate in PEM form".into()));
    }
    Ok(found)
}

fn refuse_exposed(folder: &Path) -> Result<(), CertificateFileError> {
    use std::os::unix::fs::PermissionsExt;
    let file = NODE_KEY_FILE;
    // A file that is not there is reported where it is read.
    match std::fs::metadata(folder.join(file)) {
        Ok(found) if found.permissions().mode() & 0o077 != 0 => {
            Err(CertificateFileError::Exposed { file })
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Writes a private key, readable by its owner alone from the first byte on.
///
/// # Errors
/// What the system reports; an existing file is never overwritten.
pub fn write_key(path: &Path, pem: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()
}

/// Writes a certificate.
///
/// # Errors
/// What the system reports.
pub fn write_certificate(path: &Path, pem: &str) -> io::Result<()> {
    std::fs::write(path, pem)
}

#[cfg(test)]
mod tests {
    use quorate_client::link::Role;

    use super::super::{AuthorityKind, PemPair, Validity, new_authority, sign_client, sign_node};
    use super::*;

    const CLUSTER: ClusterId = ClusterId([7; 16]);
    const VALID: Validity = Validity {
        from_s: 1_000_000_000,
        until_s: 2_000_000_000,
    };
    const NOW_S: u64 = 1_500_000_000;

    fn folder(authority: &PemPair, own: &PemPair) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |file| folder.path().join(file);
        write_certificate(&path(NODE_AUTHORITY_FILE), &authority.certificate).expect("writes");
        write_certificate(&path(CLIENT_AUTHORITY_FILE), &authority.certificate).expect("writes");
        write_certificate(&path(NODE_CERTIFICATE_FILE), &own.certificate).expect("writes");
        write_key(&path(NODE_KEY_FILE), &own.key).expect("writes");
        folder
    }

    fn load(folder: &Path, now_s: u64) -> Result<(), String> {
        let name = "a".parse().expect("a name");
        NodeCertificates::load(folder, CLUSTER, &name, now_s)
            .map(drop)
            .map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn a_folder_is_taken_only_with_the_nodes_own_valid_certificate() {
        use std::os::unix::fs::PermissionsExt;
        let authority = || new_authority(AuthorityKind::Nodes, CLUSTER, VALID).expect("makes");
        let nodes = authority();
        let name = |name: &str| name.parse::<NodeName>().expect("a name");
        let sign =
            |by: &PemPair, whom: &str| sign_node(by, CLUSTER, &name(whom), VALID).expect("signs");
        let own = sign(&nodes, "a");
        let client = sign_client(&nodes, CLUSTER, Role::Admin, "a", VALID).expect("signs");
        let elsewhere = sign_node(&nodes, ClusterId([8; 16]), &name("a"), VALID).expect("signs");
        let cases = [
            ("its own", own.clone(), NOW_S, "Ok"),
            ("expired", own.clone(), 2_000_000_001, "Expired"),
            ("not valid yet", own.clone(), 1, "NotYetValid"),
            (
                "of another authority",
                sign(&authority(), "a"),
                NOW_S,
                "Foreign",
            ),
            ("of another node", sign(&nodes, "b"), NOW_S, "OtherNode"),
            ("of a client", client, NOW_S, "Foreign"),
            ("of another cluster", elsewhere, NOW_S, "Foreign"),
        ];
        for (case, pair, now_s, want) in cases {
            let found = load(folder(&nodes, &pair).path(), now_s);
            assert!(format!("{found:?}").contains(want), "{case}: {found:?}");
        }

        let folder = folder(&nodes, &own);
        let key = folder.path().join(NODE_KEY_FILE);
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&key, open).expect("own file");
        assert!(format!("{:?}", load(folder.path(), NOW_S)).contains("Exposed"));
        std::fs::remove_file(&key).expect("own file");
        assert!(format!("{:?}", load(folder.path(), NOW_S)).contains("Missing"));
        write_key(&key, "no key").expect("writes");
        assert!(format!("{:?}", load(folder.path(), NOW_S)).contains("Unreadable"));
    }
}
