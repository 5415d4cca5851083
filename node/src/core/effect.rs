//! Everything that a shard can cause, in the order in which it must happen.

use bytes::Bytes;
use quorate_antientropy::{PurgeNumbers, RecordChange, SumsCorrection};
use quorate_ring::{BucketId, KeyspaceId, Lsn, MonoTime, NodeId, VnodeId};

use super::exchange::{CompareRefused, Compared};
use super::generation::Generation;
use super::healing::Healed;
use super::hints::HintChange;
use super::input::{DeclaredLost, RequestId};
use super::key::RecordKey;
use super::message::{PeerMessage, Reply};
use super::scan_page::ScanRead;
use super::shard::DeclareRefused;
use super::timeline::Memory;

/// What one step, or a batch of steps, causes.
pub type Effects = Vec<Effect>;

/// One thing to do.
#[derive(Debug)]
pub enum Effect {
    /// Answer a client.
    Reply {
        /// Which request.
        to: RequestId,
        /// What was asked, and when it arrived.
        asked: Asked,
        /// The answer.
        reply: Reply,
    },
    /// Tell a node something.
    Send {
        /// Which.
        to: NodeId,
        /// What.
        message: PeerMessage,
    },
    /// Append a frame to the log under this LSN; LSNs come without holes.
    Append {
        /// Number of the frame.
        lsn: Lsn,
        /// What it holds.
        entry: Entry,
    },
    /// Put this memory into the next batch header; causes no sync of its own.
    Remember {
        /// Of whom.
        node: NodeId,
        /// What.
        memory: Memory,
    },
    /// Load a key from the engine; answered by [`super::StoreEvent::Loaded`].
    Load(RecordKey),
    /// Feed a frozen generation to the engine; answered by [`super::StoreEvent::Ingested`].
    Ingest(Generation),
    /// Close the connection to a node that broke the protocol.
    CloseLink {
        /// To whom.
        peer: NodeId,
        /// Which connection.
        link: u64,
    },
    /// Count something.
    Count(Event),
    /// Stop the node: it must not serve.
    Stop(StopReason),
    /// A hint is made or has ended: keep that on disk, some time.
    Hint(HintChange),
    /// What this node had forgotten is durable here again: keep on disk that it counts.
    Healed(Healed),
    /// Something that was acknowledged is lost here, and why: keep that on disk, before what is
    /// appended after it.
    NoteLoss(String),
    /// Of so many copies that count something may be lost, in all lives: keep that on disk.
    NoteDoubt(u32),
    /// These nodes are declared lost, and no others: keep that on disk.
    DeclareLost {
        /// The nodes.
        lost: DeclaredLost,
        /// Whose word it was, answered by [`super::StoreEvent::LossNoted`]; `None` if a node was
        /// heard again.
        number: Option<u64>,
    },
    /// Answer to [`super::Input::DeclareLost`].
    LossDeclared {
        /// Which.
        number: u64,
        /// Whether it holds from now on.
        result: Result<(), DeclareRefused>,
    },
    /// Read a page of a scan; answered by [`super::StoreEvent::Scanned`].
    Scan(ScanRead),
    /// Answer to [`super::Input::Compare`].
    Compared {
        /// Which.
        number: u64,
        /// What was found.
        result: Result<Compared, CompareRefused>,
    },
}

/// What a client asked for, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// What.
    pub kind: RequestKind,
    /// When it was read from the client's connection.
    pub at: MonoTime,
    /// When the shard took it.
    pub taken: MonoTime,
}

/// Kinds of clients' data requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestKind {
    /// Put.
    Put,
    /// Delete.
    Delete,
    /// Get.
    Get,
    /// Resolve of an unknown outcome.
    Resolve,
    /// A page of a scan.
    Scan,
    /// Many puts, deletes and gets at once.
    Batch,
}

/// Content of a log frame.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A record in its newest state.
    Record {
        /// Its key.
        key: RecordKey,
        /// Bucket of its token.
        bucket: BucketId,
        /// What it does to the sums of its bucket and vnode.
        change: RecordChange,
        /// Canonical bytes; none at all if the record was purged and the key is absent from now on.
        record: Bytes,
    },
    /// The purge numbers of a vnode of a keyspace, which only rise.
    Numbers {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The vnode.
        vnode: VnodeId,
        /// What they are now.
        numbers: PurgeNumbers,
    },
    /// The sums of a vnode of a keyspace are made those of the records that are there.
    Sums {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The vnode.
        vnode: VnodeId,
        /// What that changes.
        correction: SumsCorrection,
    },
}

/// What is counted; names and units are in `shell::metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A primary missed a write.
    HintWanted,
    /// It has it now.
    HintDelivered,
    /// Read repair wrote to a stale replica.
    ReadRepair,
    /// A duplicate attempt was recognised by its op id.
    DuplicateAttempt,
    /// A request was forwarded to an owner.
    Forwarded,
    /// A request was shed by an admission limit.
    Shed,
    /// A message was dropped because its deadline had passed.
    Expired,
    /// A message of a peer could not be used.
    PeerMessageRefused,
    /// A read found concurrent values.
    SiblingsRead,
    /// A key was loaded from the engine.
    EngineLoad,
    /// A key was not loaded, because the digest of its record was enough.
    LoadSpared,
    /// Messages to a peer found no connection or a full queue.
    SendRefused,
    /// A read was asked again because replicas were slow or did not count.
    ReadWidened,
    /// A write came after writes that its coordinator does not know, and asked the other owners.
    WriteLookedFurther,
    /// An exchange with a co-replica was completed.
    ExchangeDone,
    /// An exchange ended before it was complete.
    ExchangeFailed,
    /// A key on which copies differed is the same on all owners that are up.
    ExchangeHealed,
    /// A key on which copies differ could not be read from all owners that are up.
    ExchangeHealFailed,
    /// A deleted key was purged here.
    Purged,
    /// Something that nobody needs was left out of the record of a key that stays.
    Pruned,
    /// A purge round that this node led came to its end.
    PurgeRound,
    /// A purge round that this node led was given up.
    PurgeRoundFailed,
    /// A record from before a purge was refused.
    BelowFloorRefused,
    /// A record was taken in place of an owner.
    GuestTaken,
    /// An owner has a record that this node took in its place.
    GuestDelivered,
    /// A record was not taken in place of an owner, for want of room.
    GuestRefused,
    /// A record from before a purge, which this node held in place of an owner and had handed over
    /// in an earlier life that it forgot, was taken away.
    GuestOutdated,
}

/// Why the node must not serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// A peer remembers more than this node's timeline has.
    #[error(
        "node {peer} remembers incarnation {} at LSN {} of this node, which its log does not hold: \
         acknowledged writes were forgotten (a disk or an old copy was restored?). \
         The node does not serve until it is repaired",
        memory.incarnation, memory.durable
    )]
    Forgot {
        /// Who remembers.
        peer: NodeId,
        /// What.
        memory: Memory,
    },
    /// A replica's record knows more of this node's present actor than its own record does.
    #[error(
        "node {peer} holds writes of this node's present incarnation that this node does not hold: \
         its memory has a hole. The node does not serve until it is repaired"
    )]
    ActorAhead {
        /// Whose record it was.
        peer: NodeId,
    },
    /// Another process runs under this node's id.
    #[error(
        "node {peer} talks to another process of this node: two processes must not run under one \
         node id (was a data directory copied?)"
    )]
    Rival {
        /// Who says so.
        peer: NodeId,
    },
    /// A checksum of the store shows that what was durable is not there any more.
    #[error("the store is damaged: {reason}")]
    EngineDamaged {
        /// What was found.
        reason: String,
    },
    /// Records are gone or changed, and no checksum says so. That is noted, and the sums are those
    /// of what is there, so that exchanges bring the rest.
    #[error("{reason}")]
    RowsLost {
        /// What was found.
        reason: String,
    },
    /// A record of the store is none, or contradicts what this node did: a bug, or another release.
    #[error("the store is damaged: {reason}. The node does not serve until it is repaired")]
    Damaged {
        /// What was found.
        reason: String,
    },
    /// The store failed.
    #[error("the store failed: {reason}")]
    StoreFailed {
        /// What failed.
        reason: String,
    },
}
