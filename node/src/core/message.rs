//! What nodes say to each other, as the core sees it. Bytes are made in `shell::link`.
//!
//! Requests between nodes carry the time that is left, never a point in time: clocks differ.
//! A purge number stands with each record, and a read reply carries number and floor (DESIGN 7).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
pub use quorate_antientropy::PurgeNumber;
use quorate_antientropy::{Delta, Digest, NodeHash, OpId, Prunable, PurgeNumbers, Question};

use quorate_ring::{
    BucketId, ConsistencyLevel, Epoch, Incarnation, KeyspaceId, KeyspaceMode, Lsn, MonoTime,
    NodeId, VnodeId,
};

use super::effect::RequestKind;
use super::failure::{Cause, Failure};
use super::scan_page::{PageRange, ScanRow};
use super::shard::{KEY_BYTES_MAX, SCAN_RECORDS_MAX};
use super::timeline::{Memory, Timeline};
use super::vnode_set::VnodeSet;

/// A coordinator's number for one of its operations, unique within its incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpNumber(pub u64);

/// What every frame between nodes carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerHeader {
    /// Epoch of the topology that the sender acts under.
    pub epoch: Epoch,
    /// The sender's present incarnation.
    pub incarnation: Incarnation,
    /// The sender's durable LSN when the frame was made.
    pub durable: Lsn,
}

/// First message on every connection, in both directions; nothing else is taken before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The cluster's id.
    pub cluster_id: [u8; 16],
    /// Who sends.
    pub from: NodeId,
    /// Whom it takes the receiver for.
    pub to: NodeId,
    /// The sender's timeline.
    pub timeline: Timeline,
    /// What the sender remembers of every other node.
    pub memories: Vec<(NodeId, Memory)>,
    /// The sender's clock; only the sender can read it, when it comes back in a [`Forward`].
    pub sent: MonoTime,
}

/// Sent every 250 ms on every link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepAlive {
    /// What the sender remembers of others.
    pub memories: Vec<(NodeId, Memory)>,
    /// The sender's clock, as in [`Hello`].
    pub sent: MonoTime,
}

/// A record's way to a replica: whole, or the newest step of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// The whole record in its canonical form.
    Whole(Bytes),
    /// One sibling and what it superseded. Refused until the speed work brings its application.
    Delta(Box<Delta>),
}

/// The record on which a write was made. The new one knows all that this one does and nothing else
/// but the write, so that a replica which holds exactly this one may take the new one unmerged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Of the key with this record, under the cluster's secret.
    pub digest: Digest,
    /// Whether this record has a value.
    pub has_value: bool,
}

/// Asks a replica to merge and keep a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicate {
    /// The coordinator's operation.
    pub op: OpNumber,
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The user's key.
    pub key: Bytes,
    /// What to merge.
    pub payload: Payload,
    /// Purge number under which it was read or made.
    pub number: PurgeNumber,
    /// Time that is left.
    pub budget: Duration,
    /// What it was made on, if a replica that holds the same need not merge.
    pub base: Option<Base>,
    /// The receiver is asked as a fallback, to hold it in place of an owner.
    pub as_fallback: bool,
}

impl Replicate {
    /// The same in memory of its own: what waits must not keep a whole network buffer alive.
    #[must_use]
    pub fn detached(self) -> Self {
        Self {
            key: Bytes::copy_from_slice(&self.key),
            payload: match self.payload {
                Payload::Whole(record) => Payload::Whole(Bytes::copy_from_slice(&record)),
                delta @ Payload::Delta(_) => delta,
            },
            ..self
        }
    }
}

/// A replica's answer to [`Replicate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicateReply {
    /// The coordinator's operation.
    pub op: OpNumber,
    /// What became of it.
    pub result: Result<Stored, Refusal>,
}

/// The newest probe of the receiver that the sender of a [`ClockProbe`] got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockEcho {
    /// Its monotonic time, as the receiver wrote it.
    pub sent_us: u64,
    /// For how long the sender held it.
    pub held_us: u64,
}

/// The sender's clocks, so that the receiver can tell whether its own is far off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockProbe {
    /// Its monotonic time in microseconds; means nothing to the receiver but to echo it.
    pub sent_us: u64,
    /// Its wall time in microseconds since 1970.
    pub wall_us: u64,
    /// What it last got from the receiver.
    pub echo: Option<ClockEcho>,
    /// It does not know the receiver's clock yet and wants an echo at once.
    pub is_urgent: bool,
}

/// What a client of an lww keyspace is told of a stamp, both in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StampTold {
    /// The stamp.
    pub stamp: u64,
    /// How far the client's clock may follow: the stamp, but no farther ahead of this node's clock
    /// than a stamp may be, so that one wild stamp does not make a client's every write refused.
    pub feed: u64,
}

/// A replica holds the record durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// LSN up to which its log is durable and that covers the record.
    pub lsn: Lsn,
    /// Whether the replica counts for this vnode.
    pub counts: bool,
    /// Stamp of what it holds, if that supersedes what it was sent (lww only).
    pub newer: Option<u64>,
}

/// Why a replica did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub cause: Cause,
    /// The replica's floor, where the record was below it.
    pub floor: PurgeNumber,
}

/// Asks a replica for its durable record of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRecord {
    /// The coordinator's operation.
    pub op: OpNumber,
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The user's key.
    pub key: Bytes,
    /// Time that is left.
    pub budget: Duration,
    /// Digest of the record that the coordinator has itself: a replica that durably holds exactly
    /// this one says so and spares its bytes.
    pub known: Option<Digest>,
    /// The receiver is asked as a fallback, for what it holds in place of an owner.
    pub as_fallback: bool,
}

impl ReadRecord {
    /// The same in memory of its own: what waits must not keep a whole network buffer alive.
    #[must_use]
    pub fn detached(self) -> Self {
        Self {
            key: Bytes::copy_from_slice(&self.key),
            ..self
        }
    }
}

/// A replica's answer to [`ReadRecord`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRecordReply {
    /// The coordinator's operation.
    pub op: OpNumber,
    /// What it holds.
    pub result: Result<Held, Refusal>,
}

/// A replica's copy of a record, in an answer to [`ReadRecord`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeldRecord {
    /// It has none.
    Absent,
    /// It has the one that the coordinator asked about.
    AsKnown,
    /// Its record in canonical form.
    Whole(Bytes),
}

/// What a replica durably holds of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The record.
    pub record: HeldRecord,
    /// The replica's purge number for the vnode.
    pub number: PurgeNumber,
    /// The replica's floor for the vnode.
    pub floor: PurgeNumber,
    /// Whether the replica counts for this vnode.
    pub counts: bool,
}

/// Hands a client's request to a node that owns the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The forwarder's operation.
    pub op: OpNumber,
    /// What the client asked.
    pub request: Request,
    /// Time that is left.
    pub budget: Duration,
    /// A moment of the *receiver's* clock before which this was not sent: what it last told of its
    /// clock and the time since that was heard. It bounds the time on the way, queues of both
    /// sides included. `None` if it has told nothing on this link.
    pub sent_after: Option<MonoTime>,
}

/// The coordinator's answer to [`Forward`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardReply {
    /// The forwarder's operation.
    pub op: OpNumber,
    /// What the client is told.
    pub reply: Reply,
}

/// Asks a replica for its part of a page of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanAsk {
    /// The coordinator's operation.
    pub op: OpNumber,
    /// Which of its questions.
    pub ask: u32,
    /// What is wanted.
    pub range: PageRange,
    /// Whole records of these vnodes, digests of the others.
    pub whole: VnodeSet,
    /// Time that is left.
    pub budget: Duration,
}

/// A replica's answer to [`ScanAsk`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanReply {
    /// The coordinator's operation.
    pub op: OpNumber,
    /// Which of its questions.
    pub ask: u32,
    /// What it holds.
    pub result: Result<ScanPart, Refusal>,
}

/// What a replica durably holds of a range, in key order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanPart {
    /// Its records.
    pub rows: Vec<ScanRow>,
    /// All of the range in front of this key is there; `None` = all of it.
    pub until: Option<Bytes>,
    /// Vnodes for which the replica does not count.
    pub uncounted: VnodeSet,
}

impl ScanPart {
    /// Whether it can be an answer to a question for `range`: keys in order, each once, inside of
    /// the range and in the vnode that it is said to be in, and the scan gets on. O(rows).
    #[must_use]
    pub fn answers(&self, range: &PageRange, vnode_of: impl Fn(&Bytes) -> VnodeId) -> bool {
        let Self {
            rows,
            until,
            uncounted: _,
        } = self;
        let in_order = rows.is_sorted_by(|one, other| one.key < other.key);
        let gets_on = until.as_ref().is_none_or(|until| *until > range.from);
        let is_inside = |row: &ScanRow| {
            let is_before = |bound: &Option<Bytes>| bound.as_ref().is_none_or(|b| row.key < *b);
            row.key >= range.from
                && is_before(&range.end)
                && is_before(until)
                && range.vnodes.contains(row.vnode)
                && vnode_of(&row.key) == row.vnode
        };
        rows.len() <= range.rows_max && in_order && gets_on && rows.iter().all(is_inside)
    }
}

/// Asks a replica for what tells where two copies of a vnode differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeAsk {
    /// The exchange, by the number of the node that began it.
    pub op: OpNumber,
    /// Which of its questions.
    pub ask: u32,
    /// What is wanted.
    pub wanted: ExchangeWanted,
    /// Time that is left.
    pub budget: Duration,
}

/// What one question of an exchange asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExchangeWanted {
    /// Hashes of trees.
    Trees(Vec<TreeQuestion>),
    /// Digests of the records of some buckets.
    Rows(RowQuestion),
    /// Whether what the replica tells next is enough for who lost its own copies.
    Standing,
}

/// A question about the tree of one vnode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeQuestion {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The vnode.
    pub vnode: VnodeId,
    /// Which hashes.
    pub question: Question,
}

/// A question about records of one vnode, in key order from `from` on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowQuestion {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The vnode.
    pub vnode: VnodeId,
    /// Only records of these buckets.
    pub buckets: BTreeSet<BucketId>,
    /// The first key that is wanted.
    pub from: Bytes,
}

/// A replica's answer to [`ExchangeAsk`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeReply {
    /// The exchange.
    pub op: OpNumber,
    /// Which of its questions.
    pub ask: u32,
    /// What it holds.
    pub result: Result<ExchangeAnswer, Refusal>,
}

/// What a replica tells in an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExchangeAnswer {
    /// The hashes that each part asked for, in their order.
    Trees(Vec<Vec<NodeHash>>),
    /// Records of the buckets.
    Rows(RowPage),
    /// How it stands.
    Standing(ReplicaStanding),
}

/// What a replica's copies are worth to a node that lost its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaStanding {
    /// Everything that it took so far has a number up to this: once that is durable there, its
    /// digests show all of it.
    pub appended: Lsn,
    /// Copies for which it does not count itself.
    pub lacks: BTreeMap<KeyspaceId, VnodeSet>,
    /// Purge numbers of its copies, where there was a round.
    pub numbers: Vec<(KeyspaceId, VnodeId, PurgeNumbers)>,
}

/// Digests of records in key order, and how far they are complete.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowPage {
    /// The records.
    pub rows: Vec<ExchangeRow>,
    /// All of the buckets' records in front of this key are there; `None` = all of them.
    pub until: Option<Bytes>,
}

impl RowPage {
    /// Whether it can be an answer: as many as a page holds, keys in order, each once, from the
    /// first wanted on and in front of its end, all of the buckets, and the walk gets on. O(rows).
    #[must_use]
    pub fn answers(
        &self,
        question: &RowQuestion,
        place: impl Fn(&Bytes) -> (VnodeId, BucketId),
    ) -> bool {
        let Self { rows, until } = self;
        let is_key = |key: &Bytes| (1..=KEY_BYTES_MAX).contains(&key.len());
        let are_keys = rows.iter().map(|row| &row.key).chain(until).all(is_key);
        let in_order = rows.is_sorted_by(|one, other| one.key < other.key);
        let gets_on = until.as_ref().is_none_or(|until| *until > question.from);
        let is_inside = |row: &ExchangeRow| {
            let (vnode, bucket) = place(&row.key);
            row.key >= question.from
                && until.as_ref().is_none_or(|until| row.key < *until)
                && vnode == question.vnode
                && question.buckets.contains(&bucket)
        };
        let is_bounded = rows.len() <= SCAN_RECORDS_MAX;
        is_bounded && are_keys && in_order && gets_on && rows.iter().all(is_inside)
    }
}

/// One record of a bucket that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeRow {
    /// The user's key.
    pub key: Bytes,
    /// Digest of key and record.
    pub digest: Digest,
    /// Bytes of the record.
    pub bytes: u32,
}

/// Asks a co-replica for its part in purge rounds of several vnodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeAsk {
    /// The leader's number for these rounds.
    pub op: OpNumber,
    /// Which part.
    pub step: PurgeStep,
    /// The rounds, at most one of each vnode of a keyspace.
    pub rounds: Vec<PurgeRound>,
    /// Time that is left.
    pub budget: Duration,
}

/// What a leader asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgeStep {
    /// Which of the records are durably held and newest, and which remember what is to be left out
    /// of them. Nothing changes.
    Look,
    /// The same, and the number of each vnode of which one is held rises to the round's.
    Join,
    /// Purge what is still that record, leave out what was agreed on, and raise the floor.
    Drop,
    /// Of a fallback that has joined: whether it holds nothing of the vnode in place of an owner,
    /// before anything is purged.
    Drained,
}

/// The keys of one vnode that a round is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeRound {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The vnode.
    pub vnode: VnodeId,
    /// The round's number.
    pub number: PurgeNumber,
    /// Users' keys, those that are to be purged before the others; at their places in this list
    /// they are agreed on. None where a fallback is asked, which answers with the place 0 or with
    /// none.
    pub keys: Vec<(Bytes, Wanted)>,
}

/// What a round wants of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// It is purged, if it is deleted and this is the digest of key and record.
    Gone(Digest),
    /// This is left out of its record, if that remembers all of it.
    Less(Prunable),
}

/// A co-replica's answer to [`PurgeAsk`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeReply {
    /// The leader's number.
    pub op: OpNumber,
    /// Which part it is the answer about: answers may come late, and twice.
    pub step: PurgeStep,
    /// Of each round, in their order, the places of the keys of which it holds what was asked for,
    /// or held it until it purged it.
    pub result: Result<Vec<Vec<u16>>, Refusal>,
}

/// Everything that nodes say to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerMessage {
    /// First on every connection.
    Hello(Hello),
    /// Sent every 250 ms; passes on what the sender remembers of others.
    KeepAlive(KeepAlive),
    /// Merge and keep.
    Replicate(Replicate),
    /// Answer.
    ReplicateReply(ReplicateReply),
    /// Read.
    Read(ReadRecord),
    /// Answer.
    ReadReply(ReadRecordReply),
    /// Coordinate for a client of mine.
    Forward(Forward),
    /// Answer.
    ForwardReply(ForwardReply),
    /// Goes with every keep-alive.
    Clock(ClockProbe),
    /// Read a page of a scan.
    Scan(ScanAsk),
    /// Answer.
    ScanReply(ScanReply),
    /// Compare copies.
    Exchange(ExchangeAsk),
    /// Answer.
    ExchangeReply(ExchangeReply),
    /// Take part in purge rounds.
    Purge(PurgeAsk),
    /// Answer.
    PurgeReply(PurgeReply),
}

impl PeerMessage {
    /// Whether its receiver owes an answer.
    #[must_use]
    pub const fn asks(&self) -> bool {
        match self {
            Self::Replicate(_)
            | Self::Read(_)
            | Self::Forward(_)
            | Self::Scan(_)
            | Self::Exchange(_)
            | Self::Purge(_) => true,
            Self::Hello(_)
            | Self::KeepAlive(_)
            | Self::ReplicateReply(_)
            | Self::ReadReply(_)
            | Self::ForwardReply(_)
            | Self::Clock(_)
            | Self::ScanReply(_)
            | Self::ExchangeReply(_)
            | Self::PurgeReply(_) => false,
        }
    }
}

/// A client's data request, as the core sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Put or delete.
    Write(WriteRequest),
    /// Get.
    Read(ReadRequest),
    /// What became of a write.
    Resolve(ResolveRequest),
    /// Get that covers what a session has seen.
    SessionRead(SessionReadRequest),
}

impl Request {
    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> RequestKind {
        match self {
            Self::Write(write) if write.value.is_some() => RequestKind::Put,
            Self::Write(_) => RequestKind::Delete,
            Self::Read(_) | Self::SessionRead(_) => RequestKind::Get,
            Self::Resolve(_) => RequestKind::Resolve,
        }
    }

    /// Whether fallbacks may stand in: for a put, a delete or a get at a sloppy level.
    #[must_use]
    pub const fn is_sloppy(&self) -> bool {
        match self {
            Self::Write(write) => write.level.is_sloppy(),
            Self::Read(read) | Self::SessionRead(SessionReadRequest { read, .. }) => {
                read.level.is_sloppy()
            }
            Self::Resolve(_) => false,
        }
    }

    /// Adds the time that a hop held a write: it must never seem younger than it is.
    pub fn grow_older(&mut self, held: Duration) {
        match self {
            Self::Write(write) => write.age = write.age.saturating_add(held),
            Self::Read(_) | Self::Resolve(_) | Self::SessionRead(_) => {}
        }
    }

    /// Whether a keyspace of this mode takes it: writes of lww have a stamp and no context, others
    /// no stamp; what rests on contexts or lists of operations, lww has not.
    #[must_use]
    pub fn fits_mode(&self, mode: KeyspaceMode) -> bool {
        match (self, mode) {
            (Self::Read(_), _) => true,
            (Self::Resolve(_) | Self::SessionRead(_), mode) => mode == KeyspaceMode::Siblings,
            (Self::Write(write), KeyspaceMode::Siblings) => write.stamp.is_none(),
            (Self::Write(write), KeyspaceMode::Lww) => {
                write.stamp.is_some() && write.context.is_none()
            }
        }
    }

    /// Bytes of names, key, value and context, for admission.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Write(write) => write.bytes(),
            Self::Read(read) => read.bytes(),
            Self::Resolve(resolve) => resolve.keyspace.len() + resolve.key.len(),
            Self::SessionRead(SessionReadRequest { read, covers }) => {
                read.bytes() + covers.iter().map(Bytes::len).sum::<usize>()
            }
        }
    }

    /// Name of the keyspace, and the key.
    #[must_use]
    pub fn target(&self) -> (&str, &Bytes) {
        match self {
            Self::Write(write) => (&write.keyspace, &write.key),
            Self::Read(read) => (&read.keyspace, &read.key),
            Self::Resolve(resolve) => (&resolve.keyspace, &resolve.key),
            Self::SessionRead(session) => (&session.read.keyspace, &session.read.key),
        }
    }
}

impl WriteRequest {
    /// Bytes of names, key, value and context, for admission.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let rest = [&self.value, &self.context];
        self.keyspace.len()
            + self.key.len()
            + rest.into_iter().flatten().map(Bytes::len).sum::<usize>()
    }
}

/// A put, or a delete where there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteRequest {
    /// Name of the keyspace.
    pub keyspace: String,
    /// The user's key.
    pub key: Bytes,
    /// The value; `None` writes a tombstone.
    pub value: Option<Bytes>,
    /// The client's sealed context.
    pub context: Option<Bytes>,
    /// W.
    pub level: ConsistencyLevel,
    /// Identity over all attempts.
    pub op_id: OpId,
    /// Whether this is an attempt after the first.
    pub flagged: bool,
    /// Time since the first attempt was sent, as far as the hops before could tell.
    pub age: Duration,
    /// The writer's stamp in an lww keyspace, the same in all attempts; microseconds since 1970.
    pub stamp: Option<u64>,
    /// The value's TTL in milliseconds, not checked yet; `None` is the keyspace's.
    pub ttl_ms: Option<u64>,
}

/// A get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    /// Name of the keyspace.
    pub keyspace: String,
    /// The user's key.
    pub key: Bytes,
    /// R.
    pub level: ConsistencyLevel,
}

impl ReadRequest {
    fn bytes(&self) -> usize {
        self.keyspace.len() + self.key.len()
    }
}

/// Asks what became of a write whose outcome is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolveRequest {
    /// Name of the keyspace.
    pub keyspace: String,
    /// The user's key.
    pub key: Bytes,
    /// W.
    pub level: ConsistencyLevel,
    /// Identity of the write over all attempts.
    pub op_id: OpId,
}

/// A get of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionReadRequest {
    /// The get.
    pub read: ReadRequest,
    /// Sealed contexts; the answer covers all of them.
    pub covers: Vec<Bytes>,
}

/// A page of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanRequest {
    /// Name of the keyspace.
    pub keyspace: String,
    /// First key of the range.
    pub start: Bytes,
    /// First key behind the range; `None` = to the end of the keyspace.
    pub end: Option<Bytes>,
    /// Where to go on, as an earlier page told.
    pub token: Option<Bytes>,
    /// Most records of the page.
    pub limit: usize,
    /// R.
    pub level: ConsistencyLevel,
}

impl ScanRequest {
    /// Bytes of names, bounds and token, for the queue.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let rest = [&self.end, &self.token];
        let rest = rest.into_iter().flatten().map(Bytes::len);
        self.keyspace.len() + self.start.len() + rest.sum::<usize>()
    }
}

/// A record of a page: its visible values, in canonical order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedRecord {
    /// The user's key.
    pub key: Bytes,
    /// At least one.
    pub values: Vec<Bytes>,
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The write is on W replicas.
    Applied {
        /// Sealed context; `None` if it would pass the token's limit.
        context: Option<Bytes>,
        /// Replicas that hold it durably.
        acks: u8,
        /// The highest stamp that was met, if it supersedes the write (lww only).
        superseded_by: Option<StampTold>,
    },
    /// The read.
    Read {
        /// Visible values in canonical order; none means *not found*.
        values: Vec<Bytes>,
        /// Sealed context; empty in an lww keyspace.
        context: Bytes,
        /// Replicas that took part.
        replicas: u8,
        /// Stamp of what was read (lww only).
        stamp: Option<StampTold>,
    },
    /// The request failed.
    Failed(Failure),
    /// A page of a scan, to clients only.
    Page {
        /// Records with a value, in key order.
        records: Vec<ScannedRecord>,
        /// Where to go on; `None` at the end of the range.
        next: Option<Bytes>,
    },
    /// What became of the items of a batch, in their order; to clients only.
    Batch(Vec<Reply>),
}
