//! Everything that a shard can hear.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_antientropy::{BucketDigests, SumsCorrection};
use quorate_ring::{Incarnation, KeyspaceId, Lsn, MonoTime, NodeId, VnodeId};

use super::effect::{RequestKind, StopReason};
use super::exchange::Purpose;
use super::key::RecordKey;
use super::message::{PeerHeader, PeerMessage, Request, ScanRequest};
use super::scan_page::ScanRow;
use super::shard::BATCH_ITEMS_MAX;
use super::timeline::{Memory, Timeline};

/// Names a client's request until it is answered: its connection and its id there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// Number of the connection, never used twice by a process.
    pub connection: u64,
    /// The client's id for the request.
    pub id: u64,
}

/// One thing that a shard hears.
#[derive(Debug)]
pub enum Input {
    /// A client asks.
    Request {
        /// Where the answer goes.
        from: RequestId,
        /// When it was read from the client's connection.
        received: MonoTime,
        /// When the client stops waiting.
        deadline: MonoTime,
        /// What it asks.
        request: Request,
    },
    /// A node speaks.
    Peer {
        /// Which, as its certificate says.
        from: NodeId,
        /// Number of the connection, never used twice by a process.
        link: u64,
        /// What stands in front of every message of its frame.
        header: PeerHeader,
        /// What it says.
        message: PeerMessage,
    },
    /// A connection to a node came or went.
    Link(LinkEvent),
    /// The store has done something.
    Store(StoreEvent),
    /// Free space of the store's file system was looked up.
    DiskSpace {
        /// Bytes that are free.
        free_bytes: u64,
        /// Size of the file system.
        total_bytes: u64,
    },
    /// Time passed; a deadline may have come.
    Tick,
    /// The slow read found twice, while nothing was written, that the records of these copies are
    /// not those of their sums.
    Contradicted(Vec<Contradiction>),
    /// An operator wants copies compared with another node's.
    Compare {
        /// Names it until it is answered.
        number: u64,
        /// The other node.
        peer: NodeId,
        /// What is done about keys that differ.
        purpose: Purpose,
        /// The first vnode.
        first: VnodeId,
    },
    /// An operator says that the disks of nodes are lost.
    DeclareLost {
        /// Names it until it is answered.
        number: u64,
        /// The nodes.
        nodes: Vec<NodeId>,
    },
    /// An operator knows what may be lost here.
    AcceptLosses,
    /// The node is stopping: take no more requests.
    Drain,
    /// A peer keeps refusing this node, because it talks to another process of this node's id.
    Rival {
        /// Who says so.
        peer: NodeId,
    },
    /// A client asks for a page of a scan.
    Scan {
        /// Where the answer goes.
        from: RequestId,
        /// When it arrived.
        received: MonoTime,
        /// When the client stops waiting.
        deadline: MonoTime,
        /// What it asks.
        request: ScanRequest,
    },
    /// A client asks for many things at once.
    Batch {
        /// Where the answer goes.
        from: RequestId,
        /// When it arrived.
        received: MonoTime,
        /// When the client stops waiting.
        deadline: MonoTime,
        /// What it asks, each key once.
        items: Vec<Request>,
    },
    /// A client's request waited too long in a queue that stands: it is refused.
    Shed {
        /// Where the answer goes.
        from: RequestId,
        /// What was asked.
        kind: RequestKind,
        /// When it arrived.
        received: MonoTime,
    },
}

/// What reading and answering a page of a scan costs, in requests for one key.
const SCAN_WORK: usize = 32;

/// What a request takes beside its key, value and context.
const REQUEST_OVERHEAD_BYTES: usize = 256;

/// A copy whose records are not those of its sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The vnode.
    pub vnode: VnodeId,
    /// What makes the sums those of the records.
    pub correction: SumsCorrection,
}

impl Input {
    /// Who asked and when it arrived, if it is a client's request that may still be shed.
    #[must_use]
    pub const fn request(&self) -> Option<(RequestId, MonoTime)> {
        match self {
            Self::Request { from, received, .. }
            | Self::Scan { from, received, .. }
            | Self::Batch { from, received, .. } => Some((*from, *received)),
            Self::Peer { .. }
            | Self::Link(_)
            | Self::Store(_)
            | Self::DiskSpace { .. }
            | Self::Tick
            | Self::Drain
            | Self::Contradicted(_)
            | Self::AcceptLosses
            | Self::Compare { .. }
            | Self::DeclareLost { .. }
            | Self::Rival { .. }
            | Self::Shed { .. } => None,
        }
    }

    /// How much there is to do, in requests for one key.
    #[must_use]
    pub fn work(&self) -> usize {
        match self {
            // One that is refused as a whole is no work.
            Self::Batch { items, .. } if items.len() <= BATCH_ITEMS_MAX => items.len().max(1),
            Self::Scan { .. } => SCAN_WORK,
            _ => 1,
        }
    }

    /// Memory that a client's request holds while it waits, about; 0 for what is none.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Request { request, .. } => REQUEST_OVERHEAD_BYTES + request.bytes(),
            Self::Scan { request, .. } => REQUEST_OVERHEAD_BYTES + request.bytes(),
            Self::Batch { items, .. } => items
                .iter()
                .map(|item| REQUEST_OVERHEAD_BYTES + item.bytes())
                .sum(),
            _ => 0,
        }
    }

    /// The refusal of a client's request; `None` if it is none.
    #[must_use]
    pub fn shed(self) -> Option<Self> {
        let (from, received) = self.request()?;
        let kind = match &self {
            Self::Request { request, .. } => request.kind(),
            Self::Scan { .. } => RequestKind::Scan,
            _ => RequestKind::Batch,
        };
        Some(Self::Shed {
            from,
            kind,
            received,
        })
    }
}

/// The two clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time: deadlines, liveness, everything that is decided.
    pub mono: MonoTime,
    /// Wall time in microseconds since 1970: timestamps and expiry only; orders nothing.
    pub wall_micros: u64,
}

/// A connection to a node came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEvent {
    /// A connection is there; the hello must be sent.
    Up {
        /// To whom.
        peer: NodeId,
        /// Number of the connection.
        link: u64,
    },
    /// It is gone, and what was queued on it.
    Down {
        /// To whom.
        peer: NodeId,
        /// Number of the connection.
        link: u64,
    },
}

/// What the store tells the shard.
#[derive(Debug)]
pub enum StoreEvent {
    /// Every frame up to this one is durable.
    Durable(Lsn),
    /// Keys that were asked for; `None` is absent, an error is damage and never means absent.
    Loaded(Loaded),
    /// The frozen generation is in the engine and visible there.
    Ingested {
        /// The engine now holds everything up to this LSN.
        applied: Lsn,
    },
    /// The store cannot go on; the node must stop.
    Failed(StoreFailure),
    /// Something that was durable in the engine cannot be read.
    Damaged(Damaged),
    /// Which disks are declared lost was to be kept.
    LossNoted {
        /// Whose word it was.
        number: u64,
        /// The nodes, and no others.
        lost: DeclaredLost,
        /// Whether it is durable; else the disk is full.
        is_durable: bool,
    },
    /// A page of a scan was read.
    Scanned {
        /// The shard's number for it.
        number: u64,
        /// The rows and how far they are complete; an error is damage.
        page: Result<(Vec<ScanRow>, Option<Bytes>), Damaged>,
    },
}

/// Keys with what the engine holds of them; `None` is absent, an error is damage.
pub type Loaded = Vec<(RecordKey, Result<Option<Bytes>, Damaged>)>;

/// Why the store cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreFailure {
    /// Writing or syncing the log failed: what is durable is no longer known.
    #[error("writing the log failed: {0}")]
    Log(String),
    /// The engine failed.
    #[error("the engine failed: {0}")]
    Engine(String),
}

/// What became of the acknowledgements of memory keyspaces, which are given before they are
/// durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Volatile {
    /// Nothing was lost: every life so far ended with a clean stop.
    #[default]
    Whole,
    /// A life ended without a clean stop, and what it acknowledged may be missing (C7).
    Lost,
}

/// What a node knows to have lost of what it acknowledged from disk. Kept until it has come back;
/// the lives are kept for good, because somebody may remember them for long.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Losses {
    /// Why, if it is not back yet.
    pub why: Option<String>,
    /// Whether only copies are missing that no other node has (N=1).
    pub only_copies: bool,
    /// Lives that came to more than is held of them.
    pub lives: BTreeSet<Incarnation>,
    /// Copies of keyspaces on disk that counted again although something may be lost of them, and
    /// that no operator has accepted.
    pub in_doubt: u32,
    /// Nodes whose disks an operator declared lost.
    pub declared: DeclaredLost,
}

/// Nodes whose disks an operator declared lost, and when, in wall microseconds. They hold nothing
/// that this node waits for any more, until they are heard again.
pub type DeclaredLost = BTreeMap<NodeId, u64>;

/// The store cannot say whether it holds the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the engine's copy is damaged: {reason}")]
pub struct Damaged {
    /// What the engine reported.
    pub reason: String,
    /// A checksum or the format shows that what was durable is not there any more; else the system
    /// could not read, which may go away.
    pub is_proven: bool,
}

impl Damaged {
    /// Why the node stops for it.
    #[must_use]
    pub fn stops(self) -> StopReason {
        let Self { reason, is_proven } = self;
        if is_proven {
            StopReason::EngineDamaged { reason }
        } else {
            StopReason::Damaged { reason }
        }
    }
}

/// What the store found when it was opened: the shard's starting point.
#[derive(Debug)]
pub struct Recovered {
    /// All incarnations, the present one last.
    pub timeline: Timeline,
    /// The present incarnation.
    pub incarnation: Incarnation,
    /// Everything up to here is durable, the present start frame included.
    pub durable: Lsn,
    /// The engine holds everything up to here.
    pub applied: Lsn,
    /// The last incarnation ended with a clean-stop frame.
    pub clean: bool,
    /// Whether everything is here that memory keyspaces acknowledged.
    pub volatile: Volatile,
    /// What it knows to have lost.
    pub losses: Losses,
    /// What other nodes missed.
    pub hints: Vec<(NodeId, RecordKey)>,
    /// What is remembered of other nodes.
    pub memories: BTreeMap<NodeId, Memory>,
    /// Newest record of each key that the log holds beyond `applied`; of no bytes where it was
    /// purged.
    pub records: Vec<(RecordKey, Bytes)>,
    /// Bucket digests at `durable`.
    pub digests: BucketDigests,
    /// Bytes of the log beyond `applied`.
    pub log_bytes: u64,
}
