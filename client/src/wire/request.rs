//! What a client may ask of a node.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Identity of one logical write, kept over all its attempts: 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OpId(#[serde(with = "serde_bytes")] pub [u8; 16]);

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpId({self})")
    }
}

/// A causal context as the node sealed it: opaque, bound to its keyspace and key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContextToken(pub Bytes);

/// How many replicas must answer, per call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(into = "u8", from = "u8")]
pub enum Level {
    /// One replica.
    One,
    /// Two replicas.
    Two,
    /// More than half of the N replicas.
    #[default]
    Quorum,
    /// All N replicas.
    All,
    /// Exactly this many (`r=` of a read, `w=` of a write); 1 to 127.
    Exactly(u8),
    /// As many as that; fallbacks count.
    Sloppy(StrictLevel),
}

/// A level at which primaries alone count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StrictLevel {
    /// One replica.
    One,
    /// Two replicas.
    Two,
    /// More than half of the N replicas.
    Quorum,
    /// All N replicas.
    All,
    /// Exactly this many; 1 to [`SLOPPY_COUNT_MAX`].
    Exactly(u8),
}

/// Most replicas that a sloppy level can name by their number.
pub const SLOPPY_COUNT_MAX: u8 = 100;

/// The byte of a sloppy level of so many replicas is that number and this one.
const SLOPPY_COUNTS: u8 = 140;

impl From<StrictLevel> for Level {
    fn from(level: StrictLevel) -> Self {
        match level {
            StrictLevel::One => Self::One,
            StrictLevel::Two => Self::Two,
            StrictLevel::Quorum => Self::Quorum,
            StrictLevel::All => Self::All,
            StrictLevel::Exactly(count) => Self::Exactly(count),
        }
    }
}

impl From<Level> for u8 {
    fn from(level: Level) -> Self {
        match level {
            Level::One => 128,
            Level::Two => 129,
            Level::Quorum => 130,
            Level::All => 131,
            Level::Exactly(count) => count,
            Level::Sloppy(StrictLevel::One) => 132,
            Level::Sloppy(StrictLevel::Two) => 133,
            Level::Sloppy(StrictLevel::Quorum) => 134,
            Level::Sloppy(StrictLevel::All) => 135,
            // No keyspace keeps so many copies: it is refused.
            Level::Sloppy(StrictLevel::Exactly(count)) if count > SLOPPY_COUNT_MAX => u8::MAX,
            Level::Sloppy(StrictLevel::Exactly(count)) => SLOPPY_COUNTS + count,
        }
    }
}

impl From<u8> for Level {
    /// A byte of no level becomes a count that no keyspace can meet, so that it is refused with
    /// `LEVEL_IMPOSSIBLE` and not misread.
    fn from(byte: u8) -> Self {
        match byte {
            128 => Self::One,
            129 => Self::Two,
            130 => Self::Quorum,
            131 => Self::All,
            132 => Self::Sloppy(StrictLevel::One),
            133 => Self::Sloppy(StrictLevel::Two),
            134 => Self::Sloppy(StrictLevel::Quorum),
            135 => Self::Sloppy(StrictLevel::All),
            140..=240 => Self::Sloppy(StrictLevel::Exactly(byte - SLOPPY_COUNTS)),
            count => Self::Exactly(count),
        }
    }
}

/// Writes a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// Name of the keyspace.
    pub keyspace: String,
    /// The key, 1 to 1,024 bytes.
    pub key: Bytes,
    /// The value, up to 1 MiB.
    pub value: Bytes,
    /// What the writer has seen; without it the put adds a sibling.
    pub context: Option<ContextToken>,
    /// Replicas that must hold it.
    pub level: Level,
    /// Identity over all attempts.
    pub op_id: OpId,
    /// 1 for the first attempt, then 2, 3, ..; attempts after the first are remembered longer.
    pub attempt: u16,
    /// Milliseconds since the first attempt was sent.
    pub age_ms: u32,
    /// The writer's stamp, in an lww keyspace only: microseconds since 1970, the same in all
    /// attempts.
    #[serde(default)]
    pub stamp: Option<u64>,
    /// Milliseconds after which the value is hidden; absent: what the keyspace has.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
}

/// Deletes: writes a tombstone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delete {
    /// Name of the keyspace.
    pub keyspace: String,
    /// The key, 1 to 1,024 bytes.
    pub key: Bytes,
    /// What the writer has seen; without it the tombstone supersedes nothing.
    pub context: Option<ContextToken>,
    /// Replicas that must hold it.
    pub level: Level,
    /// Identity over all attempts.
    pub op_id: OpId,
    /// 1 for the first attempt, then 2, 3, ..
    pub attempt: u16,
    /// Milliseconds since the first attempt was sent.
    pub age_ms: u32,
    /// The writer's stamp, in an lww keyspace only: microseconds since 1970, the same in all
    /// attempts.
    #[serde(default)]
    pub stamp: Option<u64>,
}

/// Reads a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Get {
    /// Name of the keyspace.
    pub keyspace: String,
    /// The key, 1 to 1,024 bytes.
    pub key: Bytes,
    /// Replicas that must answer.
    pub level: Level,
}

/// Reads what this one node holds of a key (admin; `whereis`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadLocal {
    /// Name of the keyspace.
    pub keyspace: String,
    /// The key.
    pub key: Bytes,
}

/// Asks for a page of the node's own records of one vnode of a keyspace, in key order (admin).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpLocal {
    /// Number of the keyspace.
    pub keyspace: u32,
    /// The vnode.
    pub vnode: u16,
    /// Where to go on: the last key of the page before.
    pub after: Option<Bytes>,
    /// Most records of the page; the node may send fewer.
    pub limit: u32,
}

/// Asks the node to read all its records of a keyspace, from a vnode on, and to tell what is wrong
/// with them (admin). It stops behind a vnode when it has read enough for one answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// Number of the keyspace.
    pub keyspace: u32,
    /// The first vnode.
    pub vnode: u16,
}

/// Asks the node to compare its copies with those of another node, from a vnode on, and to bring
/// together what differs (admin). It stops behind some vnodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// Number of the other node.
    pub node: u32,
    /// The first vnode.
    pub vnode: u16,
    /// Count what differs, and change nothing.
    pub dry_run: bool,
}

/// An operator's word that the disks of nodes are lost for good (admin): what only they held will
/// not come back, and is not waited for. A node that is up is not taken as lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclareLost {
    /// Numbers of the nodes.
    pub nodes: Vec<u32>,
    /// The operator knows what may be lost on the node that is told: it says so no more.
    #[serde(default)]
    pub accept: bool,
}

/// Asks what became of a write whose outcome is unknown. Answered *applied* when the write is
/// durable on as many replicas as the level says, else with a failure of unknown outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolve {
    /// Name of the keyspace.
    pub keyspace: String,
    /// The key, 1 to 1,024 bytes.
    pub key: Bytes,
    /// Replicas that must hold it.
    pub level: Level,
    /// Identity of the write over all its attempts.
    pub op_id: OpId,
}

/// Reads a record in a session. A kind of its own, so that a node that does not know sessions
/// refuses it instead of reading less than was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionGet {
    /// Name of the keyspace.
    pub keyspace: String,
    /// The key, 1 to 1,024 bytes.
    pub key: Bytes,
    /// Replicas that must answer.
    pub level: Level,
    /// What the answer must cover, at most [`super::COVERS_MAX`] tokens of this key.
    pub covers: Vec<ContextToken>,
}

/// Asks for a page of a keyspace's records in key order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// Name of the keyspace.
    pub keyspace: String,
    /// First key of the range, up to 1,024 bytes; empty = from the first key on.
    pub start: Bytes,
    /// First key behind the range, up to 1,024 bytes; absent = to the last key.
    pub end: Option<Bytes>,
    /// Where to go on, as an earlier page of the same keyspace and range told.
    pub token: Option<ScanToken>,
    /// Most records of the page; the node may send fewer.
    pub limit: u32,
    /// Replicas that must answer.
    pub level: Level,
}

/// Where a scan goes on, as a node sealed it: opaque, bound to cluster, keyspace and range, valid
/// on every node and for ever.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ScanToken(pub Bytes);

/// One item of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchItem {
    /// Writes a value.
    Put(Put),
    /// Writes a tombstone.
    Delete(Delete),
    /// Reads.
    Get(Get),
    /// Reads in a session.
    SessionGet(SessionGet),
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Nodes, keyspaces and epoch.
    Topology,
    /// Writes a value.
    Put(Put),
    /// Writes a tombstone.
    Delete(Delete),
    /// Reads.
    Get(Get),
    /// State of the node and of its peers as it sees them.
    Status,
    /// Reads one node's copy (admin).
    ReadLocal(ReadLocal),
    /// Pages through one node's records (admin).
    DumpLocal(DumpLocal),
    /// Reads the node's records of a vnode and says what is wrong with them.
    Verify(Verify),
    /// Compares the node's copies with another node's and brings them together (admin).
    Repair(Repair),
    /// Takes the operator's word that disks are lost (admin).
    DeclareLost(DeclareLost),
    /// What became of a write.
    Resolve(Resolve),
    /// Reads in a session.
    SessionGet(SessionGet),
    /// Pages through a keyspace.
    Scan(Scan),
    /// Many items at once, 1 to 1,000, each key once; each has its own outcome.
    Batch(Vec<BatchItem>),
}

/// A request with what every request carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestFrame {
    /// Chosen by the client, unique among its requests in flight on the connection.
    pub id: u64,
    /// Milliseconds that were left for the answer when the request was queued.
    pub deadline_ms: u32,
    /// Milliseconds for which the request was queued before it was given to the transport. It
    /// stands last in the frame, in a fixed form: it is known only when the frame leaves.
    pub held_ms: u32,
    /// What is asked.
    pub request: Request,
}
