//! The directory of a `dev` cluster: created once, then taken as it is.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};

use super::super::args::DevArgs;
use super::super::exit::{Exit, Problem};
use super::super::keyspace_arg::KeyspaceArg;
use super::super::new_cluster::{NewCluster, NodeArg};
use quorate_ring::{Keyspace, KeyspaceMode};

use crate::config::{ClusterFile, HTTP_PORT_OFFSET, RESP_PORT_OFFSET};

/// Nodes of a new cluster unless told otherwise.
const NODES_DEFAULT: u16 = 3;

/// Node i of a new cluster listens on this + i unless told otherwise.
const BASE_PORT_DEFAULT: u16 = 7400;

/// Where the cluster lies unless told otherwise; commands look there for their client file.
const DATA_DIR_DEFAULT: &str = "./quorate-data";

/// On loopback large datagrams are safe and save CPU time.
const SETTINGS: &str = "mtu_bytes_max = 6500\n";

/// A `dev` cluster on disk.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) data_dir: PathBuf,
    pub(super) nodes: Vec<DevNode>,
    pub(super) keyspaces: Vec<String>,
}

/// One node of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DevNode {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) quic: SocketAddr,
    pub(super) http: SocketAddr,
}

impl DevNode {
    pub(super) fn config(&self) -> PathBuf {
        self.folder.join("quorate.toml")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

impl Layout {
    /// Takes the cluster that `--data-dir` has, or creates it.
    pub(super) fn open_or_create(args: &DevArgs) -> Result<Self, Problem> {
        let path = args.data_dir.join("cluster.toml");
        let cluster = if path.exists() {
            ClusterFile::load(&path)?
        } else {
            create(args)?
        };
        let layout = Self::of(&args.data_dir, &cluster)?;
        layout.refuse_other(args)?;
        layout.refuse_other_keyspaces(&args.keyspaces, cluster.topology.keyspaces())?;
        Ok(layout)
    }

    fn of(data_dir: &Path, cluster: &ClusterFile) -> Result<Self, Problem> {
        let foreign = || {
            let what = format!(
                "{} has a cluster that `dev` did not make",
                data_dir.display()
            );
            Problem::new(Exit::Refused, "DIRECTORY_FOREIGN", what)
                .then("name another --data-dir; nothing was changed")
        };
        let mut nodes = Vec::new();
        for node in cluster.topology.nodes() {
            let quic: SocketAddrV4 = node.address.parse().map_err(|_| foreign())?;
            let http = quic
                .port()
                .checked_add(HTTP_PORT_OFFSET)
                .ok_or_else(foreign)?;
            let folder = data_dir.join(folder_name(node.name.as_str()));
            if !folder.join("quorate.toml").exists() {
                return Err(foreign());
            }
            nodes.push(DevNode {
                name: node.name.to_string(),
                folder,
                quic: SocketAddr::V4(quic),
                http: SocketAddr::V4(SocketAddrV4::new(*quic.ip(), http)),
            });
        }
        let keyspaces = cluster.topology.keyspaces().iter();
        Ok(Self {
            data_dir: data_dir.to_owned(),
            nodes,
            keyspaces: keyspaces
                .map(|keyspace| keyspace.name.to_string())
                .collect(),
        })
    }

    /// Refuses what was asked for and is not what the directory has.
    fn refuse_other(&self, args: &DevArgs) -> Result<(), Problem> {
        let nodes = self.nodes.len();
        let first = self.nodes.first().map_or(1, |node| node.quic.port());
        let base = first.saturating_sub(1);
        let other_nodes = args.nodes.is_some_and(|given| usize::from(given) != nodes);
        let other_ports = args.base_port.is_some_and(|given| given != base);
        if !other_nodes && !other_ports {
            return Ok(());
        }
        let what = format!(
            "{} has a cluster of {nodes} nodes on base port {base}, not what was asked for",
            self.data_dir.display()
        );
        Err(Problem::new(Exit::Usage, "DEV_MISMATCH", what).then(
            "leave --nodes and --base-port out to run it as it is, or name another --data-dir",
        ))
    }

    /// Refuses keyspaces that the directory was not created with.
    fn refuse_other_keyspaces(
        &self,
        asked: &[KeyspaceArg],
        present: &[Keyspace],
    ) -> Result<(), Problem> {
        let missing = |asked: &&KeyspaceArg| !present.iter().any(|keyspace| asked.fits(keyspace));
        let Some(other) = asked.iter().find(missing) else {
            return Ok(());
        };
        let what = format!(
            "{} was created without the keyspace `{}` as it is asked for; a directory keeps the \
             keyspaces that it was created with: {}",
            self.data_dir.display(),
            other.name(),
            self.keyspaces.join(", ")
        );
        Err(Problem::new(Exit::Usage, "DEV_MISMATCH", what)
            .then("leave --keyspace out to run it as it is, or name another --data-dir"))
    }

    /// Refuses to start where another process listens, before any child is started.
    pub(super) fn refuse_taken_ports(&self) -> Result<(), Problem> {
        for node in &self.nodes {
            let quic = std::net::UdpSocket::bind(node.quic).map(drop);
            let http = TcpListener::bind(node.http).map(drop);
            for (kind, address, bound) in [("QUIC", node.quic, quic), ("HTTP", node.http, http)] {
                bound.map_err(|e| {
                    let what = format!("the {kind} port of node {} is taken: {address}", node.name);
                    Problem::new(Exit::Failed, "PORT_TAKEN", what)
                        .because(e.to_string())
                        .then(
                            "stop what listens there, or choose another --base-port and \
                               --data-dir",
                        )
                })?;
            }
        }
        Ok(())
    }

    pub(super) fn client_file(&self) -> PathBuf {
        self.data_dir.join("client.toml")
    }

    /// Whether commands find the client file by themselves.
    pub(super) fn is_default(&self) -> bool {
        self.data_dir == Path::new(DATA_DIR_DEFAULT)
    }
}

fn folder_name(node: &str) -> String {
    format!("node{node}")
}

fn create(args: &DevArgs) -> Result<ClusterFile, Problem> {
    let count = args.nodes.unwrap_or(NODES_DEFAULT);
    let base = args.base_port.unwrap_or(BASE_PORT_DEFAULT);
    let highest = u32::from(base) + u32::from(count) + u32::from(RESP_PORT_OFFSET);
    if highest > u32::from(u16::MAX) {
        let last = u32::from(u16::MAX) - u32::from(count) - u32::from(RESP_PORT_OFFSET);
        let what = format!("--base-port {base} is out of range for {count} nodes");
        return Err(Problem::new(Exit::Usage, "PORT_RANGE", what)
            .because(format!(
                "node i uses base + i, base + 100 + i and base + {RESP_PORT_OFFSET} + i"
            ))
            .then(format!("use 1 to {last}")));
    }
    let mut nodes = Vec::new();
    for number in 1..=count {
        let name = number
            .to_string()
            .parse()
            .map_err(|e| Problem::usage(format!("{e}")))?;
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, base + number);
        nodes.push(NodeArg::plain(name, address.to_string()));
    }
    let new = NewCluster {
        nodes,
        keyspaces: keyspaces(&args.keyspaces)?,
        vnodes: 256,
        folder: |name| folder_name(name.as_str()),
        settings: SETTINGS,
    };
    new.create(&args.data_dir)
}

/// `default` and `lww`, unless they are asked for otherwise, then what else is asked for.
fn keyspaces(asked: &[KeyspaceArg]) -> Result<Vec<KeyspaceArg>, Problem> {
    let usual = [
        KeyspaceArg::named("default", KeyspaceMode::Siblings)?,
        KeyspaceArg::named("lww", KeyspaceMode::Lww)?,
    ];
    let is_usual = |one: &&KeyspaceArg| usual.iter().any(|usual| usual.name() == one.name());
    let named = |usual: &KeyspaceArg| {
        let mut same = asked.iter().filter(|one| one.name() == usual.name());
        let asked = same.next().cloned();
        asked.map_or_else(|| usual.clone(), |asked| asked.or_mode_of(usual))
    };
    let repeated = |one: &&KeyspaceArg| {
        asked
            .iter()
            .filter(|other| other.name() == one.name())
            .count()
            > 1
    };
    if let Some(twice) = asked.iter().find(repeated) {
        return Err(Problem::usage(format!(
            "keyspace `{}` is asked for twice",
            twice.name()
        )));
    }
    let mut all: Vec<KeyspaceArg> = usual.iter().map(named).collect();
    all.extend(asked.iter().filter(|one| !is_usual(one)).cloned());
    Ok(all)
}
