//! What a node answers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::code::{Code, Outcome};
use super::request::{ContextToken, Level, ScanToken};

/// A stamp of an lww keyspace, both in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The stamp.
    pub stamp: u64,
    /// How far the client's clock may follow: no farther ahead of the node's than a stamp may be.
    pub feed: u64,
}

/// A write that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// What the writer has now seen; absent when it would pass the token's limit (read to go on).
    pub context: Option<ContextToken>,
    /// Replicas that hold it durably.
    pub acks: u8,
    /// The highest stamp that a replica holds, if that supersedes the write (lww only).
    #[serde(default)]
    pub superseded_by: Option<Stamp>,
}

/// One of the values of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value(pub Bytes);

/// A read: no value means *not found*.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The concurrent values, in an order that all nodes agree on.
    pub values: Vec<Value>,
    /// Covers exactly these values and what they superseded; empty in an lww keyspace.
    pub context: ContextToken,
    /// Replicas that took part.
    pub replicas: u8,
    /// Stamp of what was read (lww only); also of what is deleted or has expired.
    #[serde(default)]
    pub stamp: Option<Stamp>,
}

/// What one replica did, or why it could not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", from = "u8")]
pub enum ReplicaState {
    /// Confirmed.
    Confirmed,
    /// Asked, no answer in time.
    Silent,
    /// Known to be down; not asked.
    Down,
    /// Up, but does not count yet or refused.
    Refused,
}

impl From<ReplicaState> for u8 {
    fn from(state: ReplicaState) -> Self {
        match state {
            ReplicaState::Confirmed => 0,
            ReplicaState::Silent => 1,
            ReplicaState::Down => 2,
            ReplicaState::Refused => 3,
        }
    }
}

impl From<u8> for ReplicaState {
    fn from(byte: u8) -> Self {
        match byte {
            0 => Self::Confirmed,
            1 => Self::Silent,
            2 => Self::Down,
            _ => Self::Refused,
        }
    }
}

/// One replica's part in a failed request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaReport {
    /// Number of the node.
    pub node: u32,
    /// Its part.
    pub state: ReplicaState,
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Why.
    pub code: Code,
    /// For a write: not applied or unknown. For a read: not applied.
    pub outcome: Outcome,
    /// Replicas that confirmed.
    pub acks: u8,
    /// Replicas that the level needs.
    pub required: u8,
    /// What each replica did.
    pub replicas: Vec<ReplicaReport>,
    /// Milliseconds after which another try makes sense; 0 = no advice.
    pub retry_after_ms: u32,
    /// The limit that was passed, in the unit of the code; 0 if there is none.
    pub limit: u64,
}

/// A node of the topology.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// HOST:PORT that it advertises.
    pub address: String,
    /// Its weight.
    pub weight: f64,
    /// Its zone; empty if none.
    pub zone: String,
}

/// A keyspace of the topology.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeyspaceInfo {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// `siblings` or `lww`.
    pub mode: String,
    /// N.
    pub copies: u8,
    /// `disk` or `memory`; empty from older nodes, which have disk only.
    #[serde(default)]
    pub durability: String,
    /// R of reads that name no level.
    #[serde(default)]
    pub read_level: Level,
    /// W of writes that name no level.
    #[serde(default)]
    pub write_level: Level,
    /// Milliseconds after which puts that name no TTL expire; 0 = never.
    #[serde(default)]
    pub ttl_ms: u64,
}

/// The topology as the node knows it; owners follow from it by `ring`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopologyInfo {
    /// The cluster's id.
    #[serde(with = "serde_bytes")]
    pub cluster_id: [u8; 16],
    /// Generation of the epoch.
    pub generation: u64,
    /// Number of the epoch.
    pub number: u64,
    /// Vnodes on the ring.
    pub vnodes: u32,
    /// The nodes.
    pub nodes: Vec<NodeInfo>,
    /// The keyspaces.
    pub keyspaces: Vec<KeyspaceInfo>,
    /// Number of the node that answers.
    pub answered_by: u32,
}

/// How a node sees another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Number of the peer.
    pub node: u32,
    /// Heard from within the last second.
    pub up: bool,
    /// Milliseconds since it was last heard.
    pub silent_ms: u64,
}

/// What a keyspace holds on a node. Keys whose values have all expired count until they are written
/// or purged; bytes are those of keys and encoded records before compression.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyspaceHoldings {
    /// Name of the keyspace.
    pub keyspace: String,
    /// Keys with a value.
    pub keys: u64,
    /// Keys without one: what is left of deleted ones.
    pub tombstones: u64,
    /// Bytes of keys and records.
    pub bytes: u64,
    /// Keys with a value of which the node is the first owner that it knows to be up: over all
    /// nodes that are up each counts once.
    pub first_keys: u64,
    /// Tombstones of which it is the first owner.
    pub first_tombstones: u64,
    /// Bytes of which it is the first owner.
    pub first_bytes: u64,
}

/// State of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its number.
    pub node: u32,
    /// Release.
    pub version: String,
    /// Present incarnation.
    pub incarnation: u64,
    /// Newest durable LSN.
    pub durable_lsn: u64,
    /// LSN up to which the engine holds everything.
    pub applied_lsn: u64,
    /// Vnodes of which it owns a copy.
    pub vnodes_owned: u32,
    /// Of these, vnodes for which it counts.
    pub vnodes_counting: u32,
    /// Records in the table that the engine does not have yet.
    pub table_records: u64,
    /// Bytes of the table, of the cache, of the log.
    pub table_bytes: u64,
    /// Bytes of cached records.
    pub cache_bytes: u64,
    /// Bytes of log segments that hold frames still needed.
    pub log_bytes: u64,
    /// Work that the engine still has before it is at rest, in runs above its target.
    pub engine_backlog: u64,
    /// Free bytes of the file system.
    pub disk_free_bytes: u64,
    /// Size of the file system in bytes.
    pub disk_total_bytes: u64,
    /// Microseconds of uptime.
    pub uptime_us: u64,
    /// Operating system's process id.
    pub pid: u32,
    /// Requests in flight.
    pub requests_in_flight: u64,
    /// Writes that a primary missed, since the start.
    pub hints_wanted: u64,
    /// Its peers.
    pub peers: Vec<PeerStatus>,
    /// It started without a clean stop and lacks what keyspaces of durability `memory`
    /// acknowledged, as long as it was not compared with its co-replicas.
    #[serde(default)]
    pub memory_lost: bool,
    /// Its clock is off its peers', or not compared with them yet: it takes no write with a TTL.
    #[serde(default)]
    pub clock_off: bool,
    /// What each keyspace holds there; one without a record is left out.
    #[serde(default)]
    pub keyspaces: Vec<KeyspaceHoldings>,
    /// Nodes with which it compares its copies; each pair is told by one of the two.
    #[serde(default)]
    pub pairs: Vec<PairStatus>,
    /// Why it does not hold all that it acknowledged from disk; `None` if it does.
    #[serde(default)]
    pub lost_why: Option<String>,
    /// Copies, one per keyspace and vnode, that must be compared with others before it counts for
    /// them.
    #[serde(default)]
    pub copies_lacking: u32,
    /// What it keeps for nodes that missed writes.
    #[serde(default)]
    pub hints: Vec<HintStatus>,
    /// Copies of keyspaces on disk that count again although too few of their owners were whole
    /// when they were compared: something acknowledged may be lost. Until an operator has accepted
    /// it.
    #[serde(default)]
    pub copies_in_doubt: u32,
    /// Its part in purging deleted keys.
    #[serde(default)]
    pub purge: PurgeStatus,
    /// Nodes whose disks an operator declared lost and that were not heard since.
    #[serde(default)]
    pub declared_lost: Vec<DeclaredLost>,
    /// Of `copies_lacking` those that no other node has: an operator must give them up.
    #[serde(default)]
    pub only_copies_lacking: u32,
    /// Records of sloppy writes that it keeps in place of owners.
    #[serde(default)]
    pub guest_records: u64,
    /// What they take, in bytes, about.
    #[serde(default)]
    pub guest_bytes: u64,
    /// As many bytes of them it keeps at most; 0 if it does not say.
    #[serde(default)]
    pub guest_bytes_max: u64,
    /// Its disk has less free space than it must have (`disk_free_percent_min`): it takes no
    /// writes.
    #[serde(default)]
    pub disk_full: bool,
    /// The same as `copies_in_doubt` of keyspaces in memory, since the node's start: what all
    /// owners held in memory when they ended is gone.
    #[serde(default)]
    pub memory_copies_in_doubt: u32,
}

/// A node whose disk an operator declared lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredLost {
    /// Its number.
    pub node: u32,
    /// When, by the clock of the node that was told, in milliseconds since 1970.
    pub at_ms: u64,
}

/// Deleted keys that wait to be purged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PurgeStatus {
    /// Those of the vnodes whose purge rounds the node leads: over all nodes each is told once.
    pub waiting: u64,
    /// How long the oldest of them has waited since the node came to know of it, in milliseconds.
    pub oldest_ms: Option<u64>,
    /// Nodes that are down and without which they cannot be purged; the node itself if it does not
    /// count.
    pub blocked_by: Vec<u32>,
    /// Keys that the node has purged since its start.
    pub purged: u64,
}

/// What a node keeps for another one that missed writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintStatus {
    /// For whom.
    pub node: u32,
    /// Keys that wait.
    pub keys: u64,
    /// What they cost in memory.
    pub bytes: u64,
    /// How long the oldest has waited, in milliseconds.
    pub oldest_ms: u64,
    /// Keys that were let go since the node's start because of a bound.
    pub let_go: u64,
    /// The records themselves are kept in place of an owner, because sloppy writes counted them:
    /// none is ever let go.
    #[serde(default)]
    pub counted: bool,
}

/// How the copies of two nodes compare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairStatus {
    /// Number of the other node.
    pub node: u32,
    /// How long ago the last comparison that was completed began, in milliseconds.
    pub age_ms: Option<u64>,
    /// Keys on which copies differed then.
    pub keys: u64,
    /// Of these, keys that all owners that were up held alike afterwards.
    pub healed: u64,
}

/// Something that is wrong with a node's records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyFault {
    /// The vnode.
    pub vnode: u16,
    /// The key, if it is one record's.
    pub key: Option<Bytes>,
    /// What is wrong, for people.
    pub what: String,
}

/// What a node found when it read its records of some vnodes of a keyspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Records that were read.
    pub records: u64,
    /// Their bytes, with those of their keys.
    pub bytes: u64,
    /// Buckets of keys that were written meanwhile: their records were looked at one by one, and
    /// not compared with the sums that the node keeps.
    pub moving: u32,
    /// The first faults of each vnode, at most 100 in all.
    pub faults: Vec<VerifyFault>,
    /// All faults.
    pub faults_total: u64,
    /// The vnode to go on with; `None` at the end of the keyspace.
    pub next: Option<u16>,
}

/// The operator's word is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossDeclared {
    /// Numbers of the nodes that were named.
    pub nodes: Vec<u32>,
}

/// What two nodes' copies of some vnodes showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// Copies of vnodes that were compared, one per keyspace.
    pub vnodes: u64,
    /// Of these, copies that differed.
    pub vnodes_differing: u64,
    /// Buckets of keys that differed, and did a second later.
    pub buckets: u64,
    /// Keys that differed.
    pub keys: u64,
    /// Bytes of their records: of both copies where both nodes have one.
    pub bytes: u64,
    /// Keys that all owners that were up hold alike now.
    pub healed: u64,
    /// Keys for which that failed.
    pub failed: u64,
    /// The vnode to go on with; `None` at the end.
    pub next: Option<u16>,
}

/// One node's copy of a record; absent if it has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalRecord {
    /// Number of the keyspace.
    pub keyspace: u32,
    /// The key.
    pub key: Bytes,
    /// The record in its canonical form.
    pub record: Bytes,
}

/// A page of a node's records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpPage {
    /// In key order.
    pub records: Vec<LocalRecord>,
    /// No record of the vnode is left behind this page.
    pub end: bool,
}

/// A record of a scan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanRecord {
    /// The key.
    pub key: Bytes,
    /// Its concurrent values, at least one.
    pub values: Vec<Value>,
}

/// A page of a scan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanPage {
    /// Records with a value, in key order. May be none although more follow.
    pub records: Vec<ScanRecord>,
    /// Where to go on; absent at the end of the range.
    pub next: Option<ScanToken>,
}

/// What became of one item of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemResult {
    /// A put or delete was applied.
    Applied(Applied),
    /// A get.
    Read(Read),
    /// The item failed; the others are not concerned.
    Failure(Failure),
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    /// Answer to `Topology`.
    Topology(TopologyInfo),
    /// A write was applied.
    Applied(Applied),
    /// Answer to `Get`.
    Read(Read),
    /// The request failed.
    Failure(Failure),
    /// Answer to `Status`.
    Status(Box<NodeStatus>),
    /// Answer to `ReadLocal`.
    Local(Option<LocalRecord>),
    /// Answer to `DumpLocal`.
    Dump(DumpPage),
    /// Answer to `Verify`.
    Verified(Verified),
    /// Answer to `Repair`.
    Repaired(Repaired),
    /// Answer to `DeclareLost`.
    LossDeclared(LossDeclared),
    /// Answer to `Scan`.
    Page(ScanPage),
    /// Answer to `Batch`: a result for each item, in the items' order.
    Batch(Vec<ItemResult>),
}

/// An answer with the id of its request.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseFrame {
    /// The request's id.
    pub id: u64,
    /// The answer.
    pub response: Response,
}
