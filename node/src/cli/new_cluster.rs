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

use quorate_client::{ClientConfig, Role, SeedConfig};
use quorate_ring::{
    Copies, Epoch, Keyspace, KeyspaceId, KeyspaceMode, KeyspaceName, Node, NodeId, NodeName,
    Topology, VnodeCount, Weight, Zone,
};

use super::exit::{Exit, Problem};
use super::system::random_bytes;
use crate::config::{ClusterFile, ClusterId, ClusterSecrets, RESP_PORT_OFFSET, listen_of};
use crate::shell::certs::{Authority, AuthorityKind, ClientRole, Issued};

/// Copies of a keyspace that names none, if there are as many nodes.
const COPIES_DEFAULT: u8 = 3;

/// `--node ID=HOST:PORT[,weight=W][,zone=Z]`.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeArg {
    name: NodeName,
    address: String,
    weight: Weight,
    zone: Zone,
}

/// `--keyspace NAME[,mode=M][,n=N]`.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyspaceArg {
    name: KeyspaceName,
    mode: KeyspaceMode,
    copies: Option<Copies>,
}

impl NodeArg {
    /// A node of weight 1 without a zone.
    pub fn plain(name: NodeName, address: String) -> Self {
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
pub fn weight(text: &str) -> Result<Weight, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| format!("weight `{text}` is no number"))?;
    Weight::new(number).map_err(|e| e.to_string())
}

impl FromStr for KeyspaceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default();
        let mut keyspace = Self {
            name: name.parse().map_err(|e| format!("{e}"))?,
            mode: KeyspaceMode::Siblings,
            copies: None,
        };
        for part in parts {
            match part.split_once('=') {
                Some(("mode", value)) => {
                    keyspace.mode = value.parse().map_err(|e| format!("{e}"))?;
                }
                Some(("n", value)) => {
                    let n: u8 = value
                        .parse()
                        .map_err(|_| format!("n={value} is no number from 1 to 255"))?;
                    keyspace.copies = Some(Copies::new(n).map_err(|e| e.to_string())?);
                }
                Some(("durability", "memory")) => {
                    return Err("durability `memory` comes with later work; use disk".to_owned());
                }
                Some(_) | None => return Err(format!("`{part}` is neither mode=M nor n=N")),
            }
        }
        Ok(keyspace)
    }
}

/// What a new cluster is made of.
#[derive(Debug)]
pub struct NewCluster {
    /// Its nodes, in the order of their numbers.
    pub nodes: Vec<NodeArg>,
    /// Its keyspaces; none means one named `default`.
    pub keyspaces: Vec<KeyspaceArg>,
    /// Parts of the ring.
    pub vnodes: u32,
    /// What each node's folder is named, given the node's id.
    pub folder: fn(&NodeName) -> String,
    /// Further lines of every `quorate.toml`.
    pub settings: &'static str,
}

impl NewCluster {
    /// Writes everything into `out`.
    ///
    /// # Errors
    /// A [`Problem`] if nodes and keyspaces do not fit together, `out` holds anything, or a file
    /// cannot be written.
    pub fn create(self, out: &Path) -> Result<ClusterFile, Problem> {
        let cluster = ClusterFile {
            cluster_id: ClusterId(random_bytes()),
            topology: self.topology()?,
        };
        refuse_if_used(out)?;
        let staging = staging(out);
        let written = self.write(&cluster, &staging);
        let moved = written.and_then(|()| {
            std::fs::rename(&staging, out).map_err(|e| cannot_write(out, &e))
        });
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
        let default = KeyspaceArg {
            name: "default".parse().map_err(|e| Problem::usage(format!("{e}")))?,
            mode: KeyspaceMode::Siblings,
            copies: None,
        };
        let keyspaces = if self.keyspaces.is_empty() {
            std::slice::from_ref(&default)
        } else {
            self.keyspaces.as_slice()
        };
        let copies = u8::try_from(self.nodes.len()).unwrap_or(u8::MAX);
        let copies = Copies::new(copies.min(COPIES_DEFAULT));
        let copies = copies.map_err(|e| Problem::usage(e.to_string()))?;
        let keyspaces = (1..).zip(keyspaces).map(|(id, keyspace)| Keyspace {
            id: KeyspaceId(id),
            name: keyspace.name.clone(),
            mode: keyspace.mode,
            copies: keyspace.copies.unwrap_or(copies),
        });
        let epoch = Epoch {
            generation: 1,
            number: 1,
        };
        Topology::new(epoch, vnodes, nodes.collect(), keyspaces.collect()).map_err(|e| {
            Problem::usage(e.to_string()).then("see `quorate cluster create --help`")
        })
    }

    fn write(&self, cluster: &ClusterFile, root: &Path) -> Result<(), Problem> {
        let secrets = ClusterSecrets {
            context_key: random_bytes(),
            digest_secret: random_bytes(),
        };
        let shared = Shared {
            cluster: cluster.render(),
            secrets: secrets.render(),
            nodes: Authority::create(AuthorityKind::Nodes, cluster.cluster_id.0)
                .map_err(certificate)?,
            clients: Authority::create(AuthorityKind::Clients, cluster.cluster_id.0)
                .map_err(certificate)?,
        };
        make_folder(root)?;
        open_file(&root.join("cluster.toml"), &shared.cluster)?;
        secret_file(&root.join("secrets.toml"), &shared.secrets)?;
        for (name, authority) in [("node-ca", &shared.nodes), ("client-ca", &shared.clients)] {
            open_file(&root.join(format!("{name}.pem")), authority.certificate_pem())?;
            secret_file(&root.join(format!("{name}.key")), &authority.key_pem())?;
        }
        let issued = shared.clients.issue_client("admin", ClientRole::Admin);
        write_client(root, cluster, Role::Admin, &issued.map_err(certificate)?)?;
        for node in cluster.topology.nodes() {
            self.write_node(node, &shared, &root.join((self.folder)(&node.name)))?;
        }
        Ok(())
    }

    fn write_node(&self, node: &Node, shared: &Shared, folder: &Path) -> Result<(), Problem> {
        let issued = shared.nodes.issue_node(&node.name).map_err(certificate)?;
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
        open_file(&folder.join("node-ca.pem"), shared.nodes.certificate_pem())?;
        open_file(&folder.join("client-ca.pem"), shared.clients.certificate_pem())?;
        open_file(&folder.join("node.pem"), &issued.certificate_pem)?;
        secret_file(&folder.join("node.key"), &issued.key_pem)?;
        open_file(&folder.join("first-start"), FIRST_START_TEXT)
    }
}

const FIRST_START_TEXT: &str = "Lets the node start once without data. The first start removes it; \
                                a node with neither\nthis mark nor data has lost its disk and is \
                                not started.\n";

struct Shared {
    cluster: String,
    secrets: String,
    nodes: Authority,
    clients: Authority,
}

/// Writes `client.toml`, certificate, key and the nodes' authority into `folder`, except for the
/// authority if it is there already.
///
/// # Errors
/// A [`Problem`] if a file cannot be written.
pub fn write_client(
    folder: &Path,
    cluster: &ClusterFile,
    role: Role,
    issued: &Issued,
) -> Result<(), Problem> {
    let seed = |node: &Node| SeedConfig {
        name: node.name.to_string(),
        address: node.address.clone(),
    };
    let config = ClientConfig {
        cluster_id: quorate_client::ClusterId(cluster.cluster_id.0),
        ca: PathBuf::from("node-ca.pem"),
        cert: PathBuf::from("client.pem"),
        key: PathBuf::from("client.key"),
        role,
        seeds: cluster.topology.nodes().iter().map(seed).collect(),
    };
    let text = config.to_text().map_err(|e| {
        Problem::new(Exit::Failed, "CLIENT_FILE", format!("cannot write client.toml: {e}"))
    })?;
    open_file(&folder.join("client.toml"), &text)?;
    open_file(&folder.join("client.pem"), &issued.certificate_pem)?;
    secret_file(&folder.join("client.key"), &issued.key_pem)
}

/// A file that others may read.
///
/// # Errors
/// A [`Problem`] if it cannot be written.
pub fn open_file(path: &Path, text: &str) -> Result<(), Problem> {
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
pub fn make_folder(path: &Path) -> Result<(), Problem> {
    std::fs::create_dir_all(path).map_err(|e| cannot_write(path, &e))
}

/// Refuses a folder that holds anything.
///
/// # Errors
/// A [`Problem`] with exit code 6.
pub fn refuse_if_used(out: &Path) -> Result<(), Problem> {
    match std::fs::read_dir(out) {
        Ok(mut entries) if entries.next().is_some() => {
            let what = format!("{} is not empty; nothing was changed", out.display());
            let problem = Problem::new(Exit::Refused, "DIRECTORY_NOT_EMPTY", what);
            Err(problem.then("name a folder that does not exist yet"))
        }
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(cannot_write(out, &e)),
    }
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
pub fn certificate(error: impl std::fmt::Display) -> Problem {
    Problem::new(Exit::Failed, "CERTIFICATE", format!("cannot make a certificate: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_an_id_an_address_and_options() {
        let good = ["a=127.0.0.1:7400", "a-1=db.example:7400,weight=0.5", "a=[::1]:1,zone=z,weight=2"];
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

    #[test]
    fn a_keyspace_is_a_name_and_options() {
        assert!("users,mode=siblings,n=2".parse::<KeyspaceArg>().is_ok());
        let bad = [
            ("users,mode=lww", "later work"),
            ("users,mode=odd", "no keyspace mode"),
            ("users,n=0", "0 copies"),
            ("users,n=x", "no number"),
            ("users,durability=memory", "later work"),
            ("users,size=1", "neither"),
            ("", "no keyspace name"),
        ];
        for (text, want) in bad {
            let error = text.parse::<KeyspaceArg>().expect_err(text);
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
