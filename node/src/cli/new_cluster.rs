//! Makes the files of a new cluster. Shared by `cluster create` and `dev`.
//!
//! Everything is written into a folder beside the wanted one, which is renamed when it is whole:
//! an interrupted creation leaves nothing that looks like a cluster.
//!
//! Layout: `cluster.toml`, `secrets.toml`, both authorities with their keys, `client.toml` with an
//! admin's certificate, and per node a folder that is complete in itself: `quorate.toml`, copies of
//! `cluster.toml` and `secrets.toml`, its certificate and key, the authorities' certificates, and
//! the first-start mark.

use std::fmt::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use quorate_client::config::{ClientConfig, SeedConfig};
use quorate_client::link::{ClusterId, Role};
use quorate_ring::{
    Copies, Epoch, KeyspaceId, KeyspaceMode, Node, NodeId, NodeName, Topology, VnodeCount, Weight,
    Zone,
};

use super::exit::{Exit, Problem};
use super::keyspace_arg::KeyspaceArg;
use super::system::{random_bytes, wall_seconds};
use crate::config::{ClusterFile, ClusterSecrets, RESP_PORT_OFFSET, listen_of};
use crate::shell::certs::{
    AuthorityKind, CLIENT_AUTHORITY_FILE, NODE_AUTHORITY_FILE, NODE_CERTIFICATE_FILE,
    NODE_KEY_FILE, PemPair, Validity, new_authority, sign_client, sign_node,
};

/// Copies of a keyspace that names none, if there are as many nodes.
const COPIES_DEFAULT: u8 = 3;

/// `--node ID=HOST:PORT[,weight=W][,zone=Z]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NodeArg {
    name: NodeName,
    address: String,
    weight: Weight,
    zone: Zone,
}

impl NodeArg {
    /// A node of weight 1 without a zone.
    pub(super) fn plain(name: NodeName, address: String) -> Self {
        Self {
            name,
            address,
            weight: Weight::ONE,
            zone: Zone::default(),
        }
    }
}

impl FromStr for NodeArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let first = parts.next().unwrap_or_default();
        let (name, address) = first
            .split_once('=')
            .ok_or_else(|| format!("`{first}` is not ID=HOST:PORT"))?;
        let name: NodeName = name.parse().map_err(|e| format!("{e}"))?;
        let listen = listen_of(address)?;
        if listen.port().checked_add(RESP_PORT_OFFSET).is_none() {
            let last = u16::MAX - RESP_PORT_OFFSET;
            return Err(format!(
                "port {} leaves no room for the HTTP and RESP ports above it; use 1 to {last}",
                listen.port()
            ));
        }
        let mut node = Self::plain(name, address.to_owned());
        for part in parts {
            match part.split_once('=') {
                Some(("weight", value)) => node.weight = weight(value)?,
                Some(("zone", value)) if !value.is_empty() => node.zone = Zone(value.to_owned()),
                Some(_) | None => {
                    return Err(format!("`{part}` is neither weight=W nor zone=Z"));
                }
            }
        }
        Ok(node)
    }
}

/// Reads a weight.
///
/// # Errors
/// A sentence if it is no finite number above 0.
pub(super) fn weight(text: &str) -> Result<Weight, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| format!("weight `{text}` is no number"))?;
    Weight::new(number).map_err(|e| e.to_string())
}

/// What a new cluster is made of.
#[derive(Debug)]
pub(super) struct NewCluster {
    /// Its nodes, in the order of their numbers.
    pub(super) nodes: Vec<NodeArg>,
    /// Its keyspaces; none means one named `default`.
    pub(super) keyspaces: Vec<KeyspaceArg>,
    /// Parts of the ring.
    pub(super) vnodes: u32,
    /// What each node's folder is named, given the node's id.
    pub(super) folder: fn(&NodeName) -> String,
    /// Further lines of every `quorate.toml`.
    pub(super) settings: &'static str,
}

impl NewCluster {
    /// Writes everything into `out`.
    ///
    /// # Errors
    /// A [`Problem`] if nodes and keyspaces do not fit together, `out` holds anything, or a file
    /// cannot be written.
    pub(super) fn create(self, out: &Path) -> Result<ClusterFile, Problem> {
        let cluster = ClusterFile {
            cluster_id: ClusterId(random_bytes()),
            topology: self.topology()?,
        };
        refuse_if_used(out)?;
        let staging = staging(out);
        let written = self.write(&cluster, &staging);
        let moved = written
            .and_then(|()| std::fs::rename(&staging, out).map_err(|e| cannot_write(out, &e)));
        if let Err(problem) = moved {
            // What is left is not a cluster; a failure to clean up changes nothing about that.
            let _cleaned = std::fs::remove_dir_all(&staging);
            return Err(problem);
        }
        Ok(cluster)
    }

    fn topology(&self) -> Result<Topology, Problem> {
        let vnodes = VnodeCount::new(self.vnodes).map_err(|e| Problem::usage(e.to_string()))?;
        let nodes = (1..).zip(&self.nodes).map(|(id, node)| Node {
            id: NodeId(id),
            name: node.name.clone(),
            address: node.address.clone(),
            weight: node.weight,
            zone: node.zone.clone(),
        });
        let default = KeyspaceArg::named("default", KeyspaceMode::Siblings)?;
        let keyspaces = if self.keyspaces.is_empty() {
            std::slice::from_ref(&default)
        } else {
            self.keyspaces.as_slice()
        };
        let copies = u8::try_from(self.nodes.len()).unwrap_or(u8::MAX);
        let copies = Copies::new(copies.min(COPIES_DEFAULT));
        let copies = copies.map_err(|e| Problem::usage(e.to_string()))?;
        let keyspaces = (1..).zip(keyspaces);
        let keyspaces = keyspaces.map(|(id, keyspace)| keyspace.keyspace(KeyspaceId(id), copies));
        let epoch = Epoch {
            generation: 1,
            number: 1,
        };
        Topology::new(epoch, vnodes, nodes.collect(), keyspaces.collect())
            .map_err(|e| Problem::usage(e.to_string()).then("see `quorate cluster create --help`"))
    }

    fn write(&self, cluster: &ClusterFile, root: &Path) -> Result<(), Problem> {
        let secrets = ClusterSecrets {
            context_key: random_bytes(),
            digest_secret: random_bytes(),
        };
        let (id, validity) = (cluster.cluster_id, validity());
        let shared = Shared {
            cluster: cluster.render(),
            secrets: secrets.render(),
            cluster_id: id,
            validity,
            nodes: new_authority(AuthorityKind::Nodes, id, validity).map_err(certificate)?,
            clients: new_authority(AuthorityKind::Clients, id, validity).map_err(certificate)?,
        };
        make_folder(root)?;
        open_file(&root.join("cluster.toml"), &shared.cluster)?;
        secret_file(&root.join("secrets.toml"), &shared.secrets)?;
        let authorities = [
            (NODE_AUTHORITY_FILE, NODE_AUTHORITY_KEY_FILE, &shared.nodes),
            (
                CLIENT_AUTHORITY_FILE,
                CLIENT_AUTHORITY_KEY_FILE,
                &shared.clients,
            ),
        ];
        for (certificate, key, authority) in authorities {
            open_file(&root.join(certificate), &authority.certificate)?;
            secret_file(&root.join(key), &authority.key)?;
        }
        let signed = sign_client(&shared.clients, id, Role::Admin, "admin", validity);
        write_client(root, cluster, Role::Admin, &signed.map_err(certificate)?)?;
        for node in cluster.topology.nodes() {
            self.write_node(node, &shared, &root.join((self.folder)(&node.name)))?;
        }
        Ok(())
    }

    fn write_node(&self, node: &Node, shared: &Shared, folder: &Path) -> Result<(), Problem> {
        let signed = sign_node(
            &shared.nodes,
            shared.cluster_id,
            &node.name,
            shared.validity,
        );
        let signed = signed.map_err(certificate)?;
        make_folder(folder)?;
        let mut text = format!(
            "# Node {} of the cluster. Every key is explained by `quorate serve --help`.\n\
             node = \"{}\"\n",
            node.name, node.name
        );
        let written = write!(text, "{}", self.settings);
        written.expect("a string takes all that is written");
        open_file(&folder.join("quorate.toml"), &text)?;
        open_file(&folder.join("cluster.toml"), &shared.cluster)?;
        secret_file(&folder.join("secrets.toml"), &shared.secrets)?;
        open_file(&folder.join(NODE_AUTHORITY_FILE), &shared.nodes.certificate)?;
        open_file(
            &folder.join(CLIENT_AUTHORITY_FILE),
            &shared.clients.certificate,
        )?;
        open_file(&folder.join(NODE_CERTIFICATE_FILE), &signed.certificate)?;
        secret_file(&folder.join(NODE_KEY_FILE), &signed.key)?;
        open_file(&folder.join("first-start"), FIRST_START_TEXT)
    }
}

const FIRST_START_TEXT: &str = "Lets the node start once without data. The first start removes it; \
                                a node with neither\nthis mark nor data has lost its disk and is \
                                not started.\n";

struct Shared {
    cluster: String,
    secrets: String,
    cluster_id: ClusterId,
    validity: Validity,
    nodes: PemPair,
    clients: PemPair,
}

/// Key of the authority of nodes; it stays with whoever created the cluster.
const NODE_AUTHORITY_KEY_FILE: &str = "node-ca.key";

/// Key of the authority of clients; it stays with whoever created the cluster.
pub(super) const CLIENT_AUTHORITY_KEY_FILE: &str = "client-ca.key";

/// How long certificates are valid.
const VALID_SECONDS: u64 = 10 * 365 * 86_400;

/// Clocks of other machines may be this much behind.
const SKEW_SECONDS: u64 = 86_400;

/// From a day ago, for ten years.
pub(super) fn validity() -> Validity {
    let now = wall_seconds();
    Validity {
        from_s: now.saturating_sub(SKEW_SECONDS),
        until_s: now.saturating_add(VALID_SECONDS),
    }
}

/// Writes `client.toml`, certificate, key and the nodes' authority into `folder`, except for the
/// authority if it is there already.
///
/// # Errors
/// A [`Problem`] if a file cannot be written.
pub(super) fn write_client(
    folder: &Path,
    cluster: &ClusterFile,
    role: Role,
    signed: &PemPair,
) -> Result<(), Problem> {
    let seed = |node: &Node| SeedConfig {
        name: node.name.to_string(),
        address: node.address.clone(),
    };
    let config = ClientConfig {
        cluster_id: cluster.cluster_id,
        ca: PathBuf::from(NODE_AUTHORITY_FILE),
        cert: PathBuf::from("client.crt"),
        key: PathBuf::from("client.key"),
        role,
        seeds: cluster.topology.nodes().iter().map(seed).collect(),
        profiles: std::collections::BTreeMap::new(),
    };
    let text = config.to_text().map_err(|e| {
        Problem::new(
            Exit::Failed,
            "CLIENT_FILE",
            format!("cannot write client.toml: {e}"),
        )
    })?;
    open_file(&folder.join("client.toml"), &text)?;
    open_file(&folder.join("client.crt"), &signed.certificate)?;
    secret_file(&folder.join("client.key"), &signed.key)
}

/// A file that others may read.
///
/// # Errors
/// A [`Problem`] if it cannot be written.
pub(super) fn open_file(path: &Path, text: &str) -> Result<(), Problem> {
    std::fs::write(path, text).map_err(|e| cannot_write(path, &e))
}

/// A file that only its owner may read, from the first moment on.
fn secret_file(path: &Path, text: &str) -> Result<(), Problem> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let written = options
        .open(path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(|e| cannot_write(path, &e))
}

/// Makes a folder and those above it.
///
/// # Errors
/// A [`Problem`] if that fails.
pub(super) fn make_folder(path: &Path) -> Result<(), Problem> {
    std::fs::create_dir_all(path).map_err(|e| cannot_write(path, &e))
}

/// Refuses a folder that holds anything.
///
/// # Errors
/// A [`Problem`] with exit code 6.
pub(super) fn refuse_if_used(out: &Path) -> Result<(), Problem> {
    let is_used = match std::fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_some(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
        Err(e) => return Err(cannot_write(out, &e)),
    };
    if !is_used {
        return Ok(());
    }
    let what = format!("{} is not empty; nothing was changed", out.display());
    let problem = Problem::new(Exit::Refused, "DIRECTORY_NOT_EMPTY", what);
    Err(problem.then("name a folder that does not exist yet"))
}

fn staging(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    out.with_file_name(name)
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Problem {
    let what = format!("cannot write {}: {error}", path.display());
    Problem::new(Exit::Failed, "IO", what)
}

/// Why a certificate could not be made.
pub(super) fn certificate(error: impl std::fmt::Display) -> Problem {
    Problem::new(
        Exit::Failed,
        "CERTIFICATE",
        format!("cannot make a certificate: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_an_id_an_address_and_options() {
        let good = [
            "a=127.0.0.1:7400",
            "a-1=db.example:7400,weight=0.5",
            "a=[::1]:1,zone=z,weight=2",
        ];
        for text in good {
            assert!(text.parse::<NodeArg>().is_ok(), "{text}");
        }
        let bad = [
            ("a", "is not ID=HOST:PORT"),
            ("A=h:1", "no node id"),
            ("a=h", "HOST:PORT"),
            ("a=h:0", "HOST:PORT"),
            ("a=h:70000", "HOST:PORT"),
            ("a=127.0.0.1:0", "1 to 65535"),
            ("a=h:65500", "leaves no room"),
            ("a=h:1,weight=0", "above 0"),
            ("a=h:1,weight=nan", "above 0"),
            ("a=h:1,weight=x", "no number"),
            ("a=h:1,colour=red", "neither weight=W nor zone=Z"),
        ];
        for (text, want) in bad {
            let error = text.parse::<NodeArg>().expect_err(text);
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
