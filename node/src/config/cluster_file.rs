//! `cluster.toml`: who is in the cluster, and which keyspaces it keeps. Format 1.
//!
//! Every node of a cluster has the same file; it fills the [`Topology`] at epoch 1.1. The file has
//! no secrets: those are in `secrets.toml` ([`super::secrets`]).
//!
//! Invariants: what parses makes a valid topology; what is rendered parses back to the same value.

use std::path::Path;

use quorate_client::link::ClusterId;
use quorate_ring::{
    ConsistencyLevel, Copies, CopiesError, DurabilityError, Epoch, Keyspace, KeyspaceId,
    KeyspaceModeError, KeyspaceNameError, KeyspaceOptions, LevelParseError, Node, NodeId,
    NodeNameError, Topology, TopologyError, Ttl, TtlError, VnodeCount, VnodeCountError, Weight,
    WeightError, Zone,
};
use serde::{Deserialize, Serialize};

use super::units::{DurationError, ShownDuration, parse_duration};

/// Format that this release writes and reads.
pub const CLUSTER_FORMAT: u32 = 1;

/// Content of `cluster.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterFile {
    /// The cluster's id.
    pub cluster_id: ClusterId,
    /// Nodes, keyspaces and owners.
    pub topology: Topology,
}

/// Why a cluster file cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterFileError {
    /// The file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// Which file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// It is no TOML, or a field is missing, unknown or of another type.
    #[error("{path} cannot be understood: {reason}")]
    Syntax {
        /// Which file.
        path: String,
        /// What the parser said.
        reason: String,
    },
    /// It was written by another release.
    #[error("{path} has format {found}, this release reads format {CLUSTER_FORMAT}")]
    Format {
        /// Which file.
        path: String,
        /// The format it names.
        found: u32,
    },
    /// The cluster's id is not 32 hexadecimal digits.
    #[error("cluster_id must be 32 hexadecimal digits")]
    ClusterId,
    /// The number of vnodes.
    #[error(transparent)]
    Vnodes(#[from] VnodeCountError),
    /// A node's name.
    #[error(transparent)]
    NodeName(#[from] NodeNameError),
    /// A node's weight.
    #[error("node `{node}`: {error}")]
    Weight {
        /// Whose.
        node: String,
        /// Why.
        error: WeightError,
    },
    /// A keyspace's name.
    #[error(transparent)]
    KeyspaceName(#[from] KeyspaceNameError),
    /// A keyspace's mode.
    #[error("keyspace `{keyspace}`: {error}")]
    Mode {
        /// Whose.
        keyspace: String,
        /// Why.
        error: KeyspaceModeError,
    },
    /// A keyspace's N.
    #[error("keyspace `{keyspace}`: {error}")]
    Copies {
        /// Whose.
        keyspace: String,
        /// Why.
        error: CopiesError,
    },
    /// A keyspace's durability.
    #[error("keyspace `{keyspace}`: {error}")]
    Durability {
        /// Whose.
        keyspace: String,
        /// Why.
        error: DurabilityError,
    },
    /// A keyspace's default level.
    #[error("keyspace `{keyspace}`: {error}")]
    Level {
        /// Whose.
        keyspace: String,
        /// Why.
        error: LevelParseError,
    },
    /// A keyspace's default TTL is no duration.
    #[error("keyspace `{keyspace}`: {error}")]
    TtlText {
        /// Whose.
        keyspace: String,
        /// Why.
        error: DurationError,
    },
    /// A keyspace's default TTL is 0 or too long.
    #[error("keyspace `{keyspace}`: {error}")]
    Ttl {
        /// Whose.
        keyspace: String,
        /// Why.
        error: TtlError,
    },
    /// Nodes and keyspaces do not fit together.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileV1 {
    format: u32,
    cluster_id: String,
    vnodes: u32,
    node: Vec<NodeV1>,
    #[serde(default)]
    keyspace: Vec<KeyspaceV1>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeV1 {
    id: u32,
    name: String,
    address: String,
    #[serde(default = "one")]
    weight: f64,
    #[serde(default)]
    zone: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyspaceV1 {
    id: u32,
    name: String,
    mode: String,
    n: u8,
    /// This and what follows are missing where they have their defaults, and in older files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    durability: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    w: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
}

/// The one field that every format has.
#[derive(Debug, Deserialize)]
struct AnyFormat {
    format: u32,
}

fn one() -> f64 {
    1.0
}

impl ClusterFile {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`ClusterFileError`] if it cannot be read or makes no valid topology.
    pub fn load(path: &Path) -> Result<Self, ClusterFileError> {
        let text = std::fs::read_to_string(path).map_err(|e| ClusterFileError::Unreadable {
            path: path.display().to_string(),
            reason: e.to_string(),
        })?;
        Self::parse(&text, path)
    }

    /// Checks `text`; `path` is for messages only.
    ///
    /// # Errors
    /// [`ClusterFileError`] if it makes no valid topology.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ClusterFileError> {
        let syntax = |e: toml::de::Error| ClusterFileError::Syntax {
            path: path.display().to_string(),
            reason: e.message().to_owned(),
        };
        let any: AnyFormat = toml::from_str(text).map_err(syntax)?;
        if any.format != CLUSTER_FORMAT {
            return Err(ClusterFileError::Format {
                path: path.display().to_string(),
                found: any.format,
            });
        }
        let file: FileV1 = toml::from_str(text).map_err(syntax)?;
        file.check()
    }

    /// The file's text.
    ///
    /// # Panics
    /// Never: a checked file always renders.
    #[must_use]
    pub fn render(&self) -> String {
        let node = |node: &Node| NodeV1 {
            id: node.id.0,
            name: node.name.to_string(),
            address: node.address.clone(),
            weight: node.weight.value(),
            zone: node.zone.0.clone(),
        };
        let file = FileV1 {
            format: CLUSTER_FORMAT,
            cluster_id: self.cluster_id.to_string(),
            vnodes: self.topology.vnode_count().get(),
            node: self.topology.nodes().iter().map(node).collect(),
            keyspace: self
                .topology
                .keyspaces()
                .iter()
                .map(KeyspaceV1::of)
                .collect(),
        };
        let body = toml::to_string(&file).expect("strings and numbers always render");
        format!(
            "# The same file on every node; made by `quorate cluster create`. Ids are never used \
             twice.\n{body}"
        )
    }
}

impl FileV1 {
    fn check(self) -> Result<ClusterFile, ClusterFileError> {
        let cluster_id = self.cluster_id.parse();
        let cluster_id = cluster_id.map_err(|_| ClusterFileError::ClusterId)?;
        let vnodes = VnodeCount::new(self.vnodes)?;
        let nodes: Result<_, _> = self.node.into_iter().map(NodeV1::check).collect();
        let keyspaces: Result<_, _> = self.keyspace.into_iter().map(KeyspaceV1::check).collect();
        let epoch = Epoch {
            generation: 1,
            number: 1,
        };
        Ok(ClusterFile {
            cluster_id,
            topology: Topology::new(epoch, vnodes, nodes?, keyspaces?)?,
        })
    }
}

impl NodeV1 {
    fn check(self) -> Result<Node, ClusterFileError> {
        Ok(Node {
            id: NodeId(self.id),
            name: self.name.parse()?,
            address: self.address,
            weight: Weight::new(self.weight).map_err(|error| ClusterFileError::Weight {
                node: self.name,
                error,
            })?,
            zone: Zone(self.zone),
        })
    }
}

impl KeyspaceV1 {
    fn of(keyspace: &Keyspace) -> Self {
        let Keyspace {
            id,
            name,
            mode,
            copies,
            options,
        } = keyspace;
        let KeyspaceOptions {
            durability,
            read_level,
            write_level,
            ttl,
        } = *options;
        let usual = KeyspaceOptions::default();
        let level = |level: ConsistencyLevel| {
            (level != ConsistencyLevel::default()).then(|| level.to_string())
        };
        Self {
            id: id.0,
            name: name.to_string(),
            mode: mode.to_string(),
            n: copies.get(),
            durability: (durability != usual.durability).then(|| durability.to_string()),
            r: level(read_level),
            w: level(write_level),
            ttl: ttl.map(|ttl| ShownDuration(ttl.duration()).to_string()),
        }
    }

    fn options(&self) -> Result<KeyspaceOptions, ClusterFileError> {
        let keyspace = || self.name.clone();
        let level = |text: &Option<String>| match text {
            Some(text) => text.parse().map_err(|error| ClusterFileError::Level {
                keyspace: keyspace(),
                error,
            }),
            None => Ok(ConsistencyLevel::default()),
        };
        let durability = match &self.durability {
            Some(text) => text.parse().map_err(|error| ClusterFileError::Durability {
                keyspace: keyspace(),
                error,
            })?,
            None => KeyspaceOptions::default().durability,
        };
        let ttl = match &self.ttl {
            Some(text) => {
                let duration = parse_duration(text).map_err(|error| ClusterFileError::TtlText {
                    keyspace: keyspace(),
                    error,
                })?;
                let ttl = Ttl::from_duration(duration).map_err(|error| ClusterFileError::Ttl {
                    keyspace: keyspace(),
                    error,
                })?;
                Some(ttl)
            }
            None => None,
        };
        Ok(KeyspaceOptions {
            durability,
            read_level: level(&self.r)?,
            write_level: level(&self.w)?,
            ttl,
        })
    }

    fn check(self) -> Result<Keyspace, ClusterFileError> {
        let options = self.options()?;
        Ok(Keyspace {
            id: KeyspaceId(self.id),
            name: self.name.parse()?,
            mode: self.mode.parse().map_err(|error| ClusterFileError::Mode {
                keyspace: self.name.clone(),
                error,
            })?,
            copies: Copies::new(self.n).map_err(|error| ClusterFileError::Copies {
                keyspace: self.name,
                error,
            })?,
            options,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
format = 1
cluster_id = "00112233445566778899aabbccddeeff"
vnodes = 16
[[node]]
id = 1
name = "a"
address = "127.0.0.1:7401"
[[node]]
id = 2
name = "b"
address = "db.example:7402"
weight = 0.5
zone = "z"
[[keyspace]]
id = 1
name = "default"
mode = "siblings"
n = 2
"#;

    fn parse(text: &str) -> Result<ClusterFile, ClusterFileError> {
        ClusterFile::parse(text, Path::new("cluster.toml"))
    }

    #[test]
    fn a_rendered_file_reads_back() {
        let file = parse(GOOD).expect("a good file");
        assert_eq!(parse(&file.render()), Ok(file));
    }

    #[test]
    fn options_of_a_keyspace_read_back_and_older_files_have_the_defaults() {
        let options = "n = 2\ndurability = \"memory\"\nr = \"one\"\nw = \"w=2\"\nttl = \"30d\"";
        let text = GOOD.replace("n = 2", options);
        let file = parse(&text.replace("\"siblings\"", "\"lww\"")).expect("a good file");
        assert_eq!(parse(&file.render()), Ok(file));
        let older = parse(GOOD).expect("a good file");
        let keyspace = older.topology.keyspaces().first().expect("one keyspace");
        assert_eq!(keyspace.options, KeyspaceOptions::default());
        let added = ["durability", "r = ", "w = ", "ttl"];
        assert!(added.iter().all(|key| !older.render().contains(key)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("format = 1", "format = 9", "has format 9"),
            ("vnodes = 16", "vnodes = 12", "power of two"),
            ("00112233", "0011", "32 hexadecimal"),
            ("name = \"b\"", "name = \"B\"", "no node id"),
            ("name = \"b\"", "name = \"a\"", "there twice"),
            ("id = 2", "id = 1", "given twice"),
            ("weight = 0.5", "weight = 0.0", "node `b`: weight 0"),
            ("weight = 0.5", "weigth = 0.5", "weigth"),
            ("db.example:7402", "db.example:0", "HOST:PORT"),
            ("db.example:7402", "127.0.0.1:7401", "belongs to both"),
            ("\"siblings\"", "\"strong\"", "later work"),
            ("\"siblings\"", "\"maybe\"", "no keyspace mode"),
            ("n = 2", "n = 3", "only 2 nodes"),
            ("n = 2", "n = 0", "keyspace `default`: 0 copies"),
            ("n = 2", "n = 2\ndurability = \"tape\"", "no durability"),
            ("n = 2", "n = 2\nr = \"most\"", "no consistency level"),
            ("n = 2", "n = 2\nr = \"r=3\"", "needs 3 replicas"),
            ("n = 2", "n = 2\nw = \"r=1\"", "is for reads"),
            ("n = 2", "n = 2\nttl = \"soon\"", "no duration"),
            ("n = 2", "n = 2\nttl = \"0ms\"", "1 ms to ten years"),
            ("n = 2", "n = 2\nttl = \"3651d\"", "1 ms to ten years"),
            ("vnodes = 16", "vnodes = ", "cannot be understood"),
        ];
        for (old, new, want) in cases {
            let error = parse(&GOOD.replace(old, new)).expect_err(new).to_string();
            assert!(error.contains(want), "{new}: {error}");
        }
    }
}
