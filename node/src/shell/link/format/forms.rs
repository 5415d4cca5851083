//! The arrays in which messages between nodes travel, and their way from and to the core's types.
//!
//! Where a message has one of several parts, each is an optional field and exactly one is there.
//! Times are microseconds that are left.

use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{Context, Delta, Digest, Dot, Mint, OpId, Sibling};
use quorate_client::wire::Code;
use quorate_ring::{
    Actor, ConsistencyLevel, Epoch, Incarnation, KeyspaceId, Lsn, MonoTime, NodeId,
};
use serde::{Deserialize, Serialize};

use super::super::codes::{cause_of, code_of};
use crate::core::message::{
    Base, ClockEcho, ClockProbe, Forward, ForwardReply, Held, HeldRecord, Hello, KeepAlive,
    OpNumber, Payload, PeerHeader, PurgeNumber, ReadRecord, ReadRecordReply, ReadRequest, Refusal,
    Replicate, ReplicateReply, Reply, Request, ResolveRequest, SessionReadRequest, StampTold,
    Stored, WriteRequest,
};
use crate::core::timeline::{Life, Memory, Timeline};
use crate::core::{Cause, Effectiveness, Failure, ReplicaPart};

#[derive(Serialize, Deserialize)]
pub(super) struct HeaderForm {
    generation: u64,
    number: u64,
    incarnation: u64,
    durable: u64,
}

impl From<PeerHeader> for HeaderForm {
    fn from(header: PeerHeader) -> Self {
        let PeerHeader {
            epoch: Epoch { generation, number },
            incarnation,
            durable,
        } = header;
        Self {
            generation,
            number,
            incarnation: incarnation.0,
            durable: durable.0,
        }
    }
}

impl From<HeaderForm> for PeerHeader {
    fn from(form: HeaderForm) -> Self {
        let HeaderForm {
            generation,
            number,
            incarnation,
            durable,
        } = form;
        Self {
            epoch: Epoch { generation, number },
            incarnation: Incarnation(incarnation),
            durable: Lsn(durable),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct MemoryForm {
    node: u32,
    incarnation: u64,
    durable: u64,
}

impl From<&(NodeId, Memory)> for MemoryForm {
    fn from(
        (
            node,
            Memory {
                incarnation,
                durable,
            },
        ): &(NodeId, Memory),
    ) -> Self {
        Self {
            node: node.0,
            incarnation: incarnation.0,
            durable: durable.0,
        }
    }
}

impl From<MemoryForm> for (NodeId, Memory) {
    fn from(form: MemoryForm) -> Self {
        let MemoryForm {
            node,
            incarnation,
            durable,
        } = form;
        let memory = Memory {
            incarnation: Incarnation(incarnation),
            durable: Lsn(durable),
        };
        (NodeId(node), memory)
    }
}

#[derive(Serialize, Deserialize)]
struct LifeForm {
    incarnation: u64,
    first: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct HelloForm {
    #[serde(with = "serde_bytes")]
    cluster_id: [u8; 16],
    from: u32,
    to: u32,
    lives: Vec<LifeForm>,
    memories: Vec<MemoryForm>,
    sent_us: u64,
    #[serde(default)]
    lost: Vec<u64>,
}

impl From<&Hello> for HelloForm {
    fn from(hello: &Hello) -> Self {
        let Hello {
            cluster_id,
            from,
            to,
            timeline,
            memories,
            sent,
        } = hello;
        let life = |life: &Life| LifeForm {
            incarnation: life.incarnation.0,
            first: life.first.0,
        };
        Self {
            cluster_id: *cluster_id,
            from: from.0,
            to: to.0,
            lives: timeline.lives().iter().map(life).collect(),
            lost: timeline.lost().iter().map(|life| life.0).collect(),
            memories: memories.iter().map(MemoryForm::from).collect(),
            sent_us: sent.as_micros(),
        }
    }
}

impl HelloForm {
    /// `None` if the lives are no timeline.
    pub(super) fn into_domain(self) -> Option<Hello> {
        let Self {
            cluster_id,
            from,
            to,
            lives,
            lost,
            memories,
            sent_us,
        } = self;
        let lost = lost.into_iter().map(Incarnation).collect();
        let life = |form: LifeForm| Life {
            incarnation: Incarnation(form.incarnation),
            first: Lsn(form.first),
        };
        Some(Hello {
            cluster_id,
            from: NodeId(from),
            to: NodeId(to),
            timeline: Timeline::from_lives(lives.into_iter().map(life).collect())?.with_lost(lost),
            memories: memories.into_iter().map(Into::into).collect(),
            sent: MonoTime::from_micros(sent_us),
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct KeepAliveForm {
    memories: Vec<MemoryForm>,
    sent_us: u64,
}

impl From<&KeepAlive> for KeepAliveForm {
    fn from(KeepAlive { memories, sent }: &KeepAlive) -> Self {
        Self {
            memories: memories.iter().map(MemoryForm::from).collect(),
            sent_us: sent.as_micros(),
        }
    }
}

impl From<KeepAliveForm> for KeepAlive {
    fn from(KeepAliveForm { memories, sent_us }: KeepAliveForm) -> Self {
        Self {
            memories: memories.into_iter().map(Into::into).collect(),
            sent: MonoTime::from_micros(sent_us),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct DotForm {
    node: u32,
    incarnation: u64,
    counter: u64,
}

impl From<Dot> for DotForm {
    fn from(
        Dot {
            actor: Actor { node, incarnation },
            counter,
        }: Dot,
    ) -> Self {
        Self {
            node: node.0,
            incarnation: incarnation.0,
            counter,
        }
    }
}

impl From<DotForm> for Dot {
    fn from(
        DotForm {
            node,
            incarnation,
            counter,
        }: DotForm,
    ) -> Self {
        let actor = Actor {
            node: NodeId(node),
            incarnation: Incarnation(incarnation),
        };
        Self { actor, counter }
    }
}

#[derive(Serialize, Deserialize)]
struct DeltaForm {
    #[serde(with = "serde_bytes")]
    op_id: [u8; 16],
    value: Option<Bytes>,
    dot: DotForm,
    timestamp: u64,
    expiry: Option<u64>,
    flagged: bool,
    client_context: Option<Bytes>,
    expired: Vec<DotForm>,
    previous: Option<DotForm>,
}

impl DeltaForm {
    /// `None` for a sibling with twins: a delta carries one that was just minted.
    fn of(delta: &Delta) -> Option<Self> {
        let Delta {
            sibling,
            client_context,
            expired,
            previous,
        } = delta;
        let [
            Mint {
                dot,
                timestamp,
                expiry,
                flagged,
            },
        ] = *sibling.mints()
        else {
            return None;
        };
        let encoded = |context: &Context| {
            let mut bytes = Vec::with_capacity(context.encoded_len());
            context.encode(&mut bytes);
            Bytes::from(bytes)
        };
        Some(Self {
            op_id: sibling.op_id().0,
            value: sibling.value().cloned(),
            dot: dot.into(),
            timestamp,
            expiry,
            flagged,
            client_context: client_context.as_ref().map(encoded),
            expired: expired.iter().map(|dot| (*dot).into()).collect(),
            previous: previous.map(Into::into),
        })
    }

    fn into_domain(self) -> Option<Delta> {
        let Self {
            op_id,
            value,
            dot,
            timestamp,
            expiry,
            flagged,
            ..
        } = self;
        let mint = Mint {
            dot: dot.into(),
            timestamp,
            expiry,
            flagged,
        };
        let client_context = match self.client_context {
            Some(bytes) => Some(Context::decode(&bytes).ok()?),
            None => None,
        };
        Some(Delta {
            sibling: Sibling::new(OpId(op_id), value, mint),
            client_context,
            expired: self.expired.into_iter().map(Into::into).collect(),
            previous: self.previous.map(Into::into),
        })
    }
}

/// Borrows in both directions: the hottest message, with the largest part.
#[derive(Serialize, Deserialize)]
pub(super) struct ReplicateForm<'a> {
    op: u64,
    keyspace: u32,
    #[serde(with = "serde_bytes", borrow)]
    key: &'a [u8],
    #[serde(with = "serde_bytes", borrow)]
    whole: Option<&'a [u8]>,
    delta: Option<DeltaForm>,
    number: u64,
    budget_us: u64,
    #[serde(default)]
    base: Option<BaseForm>,
    #[serde(default, skip_serializing_if = "is_false")]
    as_fallback: bool,
}

#[derive(Serialize, Deserialize)]
struct BaseForm {
    #[serde(with = "serde_bytes")]
    digest: [u8; size_of::<u128>()],
    has_value: bool,
}

impl<'a> ReplicateForm<'a> {
    /// `None` if the payload has no form.
    pub(super) fn of(message: &'a Replicate) -> Option<Self> {
        let Replicate {
            op,
            keyspace,
            key,
            payload,
            number,
            budget,
            base,
            as_fallback,
        } = message;
        let (whole, delta) = match payload {
            Payload::Whole(record) => (Some(&record[..]), None),
            Payload::Delta(delta) => (None, Some(DeltaForm::of(delta)?)),
        };
        Some(Self {
            op: op.0,
            keyspace: keyspace.0,
            key,
            whole,
            delta,
            number: number.0,
            budget_us: micros(*budget),
            base: base.map(|base| BaseForm {
                digest: base.digest.0.to_le_bytes(),
                has_value: base.has_value,
            }),
            as_fallback: *as_fallback,
        })
    }

    /// `None` if not exactly one payload is there, or it cannot be read. What it borrows from
    /// `body` becomes slices of that.
    pub(super) fn into_domain(self, body: &Bytes) -> Option<Replicate> {
        let Self {
            op,
            keyspace,
            key,
            whole,
            delta,
            number,
            budget_us,
            base,
            as_fallback,
        } = self;
        let payload = match (whole, delta) {
            (Some(record), None) => Payload::Whole(body.slice_ref(record)),
            (None, Some(delta)) => Payload::Delta(Box::new(delta.into_domain()?)),
            (Some(_), Some(_)) | (None, None) => return None,
        };
        Some(Replicate {
            op: OpNumber(op),
            keyspace: KeyspaceId(keyspace),
            key: body.slice_ref(key),
            payload,
            number: PurgeNumber(number),
            budget: Duration::from_micros(budget_us),
            base: base.map(|base| Base {
                digest: Digest(u128::from_le_bytes(base.digest)),
                has_value: base.has_value,
            }),
            as_fallback,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct RefusalForm {
    code: u16,
    floor: u64,
}

impl From<&Refusal> for RefusalForm {
    fn from(Refusal { cause, floor }: &Refusal) -> Self {
        Self {
            code: code_of(*cause).into(),
            floor: floor.0,
        }
    }
}

impl From<RefusalForm> for Refusal {
    fn from(RefusalForm { code, floor }: RefusalForm) -> Self {
        Self {
            cause: cause(code),
            floor: PurgeNumber(floor),
        }
    }
}

/// A cause of a newer release reads as *unavailable*: a refusal whose reason is not known here.
fn cause(code: u16) -> Cause {
    cause_of(Code::from(code)).unwrap_or(Cause::Unavailable)
}

#[derive(Serialize, Deserialize)]
struct StoredForm {
    lsn: u64,
    counts: bool,
    #[serde(default)]
    newer: Option<u64>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ReplicateReplyForm {
    op: u64,
    stored: Option<StoredForm>,
    refusal: Option<RefusalForm>,
}

impl From<&ReplicateReply> for ReplicateReplyForm {
    fn from(ReplicateReply { op, result }: &ReplicateReply) -> Self {
        let stored = |Stored { lsn, counts, newer }: &Stored| StoredForm {
            lsn: lsn.0,
            counts: *counts,
            newer: *newer,
        };
        Self {
            op: op.0,
            stored: result.as_ref().ok().map(stored),
            refusal: result.as_ref().err().map(RefusalForm::from),
        }
    }
}

impl ReplicateReplyForm {
    pub(super) fn into_domain(self) -> Option<ReplicateReply> {
        let stored = |StoredForm { lsn, counts, newer }| Stored {
            lsn: Lsn(lsn),
            counts,
            newer,
        };
        let result = one_of(self.stored.map(stored), self.refusal.map(Into::into))?;
        Some(ReplicateReply {
            op: OpNumber(self.op),
            result,
        })
    }
}

/// Borrows in both directions.
#[derive(Serialize, Deserialize)]
pub(super) struct ReadForm<'a> {
    op: u64,
    keyspace: u32,
    #[serde(with = "serde_bytes", borrow)]
    key: &'a [u8],
    budget_us: u64,
    /// Upper and lower half of a digest.
    #[serde(default)]
    known: Option<(u64, u64)>,
    #[serde(default, skip_serializing_if = "is_false")]
    as_fallback: bool,
}

impl<'a> From<&'a ReadRecord> for ReadForm<'a> {
    fn from(
        ReadRecord {
            op,
            keyspace,
            key,
            budget,
            known,
            as_fallback,
        }: &'a ReadRecord,
    ) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the two halves of 128 bits"
        )]
        let halves = |digest: Digest| ((digest.0 >> 64) as u64, digest.0 as u64);
        Self {
            op: op.0,
            keyspace: keyspace.0,
            key,
            budget_us: micros(*budget),
            known: known.map(halves),
            as_fallback: *as_fallback,
        }
    }
}

impl ReadForm<'_> {
    /// What it borrows from `body` becomes slices of that.
    pub(super) fn into_domain(self, body: &Bytes) -> ReadRecord {
        let Self {
            op,
            keyspace,
            key,
            budget_us,
            known,
            as_fallback,
        } = self;
        let whole = |(upper, lower)| Digest(u128::from(upper) << 64 | u128::from(lower));
        ReadRecord {
            op: OpNumber(op),
            keyspace: KeyspaceId(keyspace),
            key: body.slice_ref(key),
            budget: Duration::from_micros(budget_us),
            known: known.map(whole),
            as_fallback,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct HeldForm {
    record: Option<Bytes>,
    number: u64,
    floor: u64,
    counts: bool,
    #[serde(default)]
    as_known: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ReadReplyForm {
    op: u64,
    held: Option<HeldForm>,
    refusal: Option<RefusalForm>,
}

impl From<&ReadRecordReply> for ReadReplyForm {
    fn from(ReadRecordReply { op, result }: &ReadRecordReply) -> Self {
        let held = |Held {
                        record,
                        number,
                        floor,
                        counts,
                    }: &Held| HeldForm {
            record: match record {
                HeldRecord::Whole(bytes) => Some(bytes.clone()),
                HeldRecord::Absent | HeldRecord::AsKnown => None,
            },
            number: number.0,
            floor: floor.0,
            counts: *counts,
            as_known: *record == HeldRecord::AsKnown,
        };
        Self {
            op: op.0,
            held: result.as_ref().ok().map(held),
            refusal: result.as_ref().err().map(RefusalForm::from),
        }
    }
}

impl ReadReplyForm {
    pub(super) fn into_domain(self) -> Option<ReadRecordReply> {
        let held = |HeldForm {
                        record,
                        number,
                        floor,
                        counts,
                        as_known,
                    }| {
            let record = match (record, as_known) {
                (None, false) => HeldRecord::Absent,
                (None, true) => HeldRecord::AsKnown,
                (Some(bytes), false) => HeldRecord::Whole(bytes),
                (Some(_), true) => return None,
            };
            Some(Held {
                record,
                number: PurgeNumber(number),
                floor: PurgeNumber(floor),
                counts,
            })
        };
        let held = match self.held {
            Some(form) => Some(held(form)?),
            None => None,
        };
        let result = one_of(held, self.refusal.map(Into::into))?;
        Some(ReadRecordReply {
            op: OpNumber(self.op),
            result,
        })
    }
}

pub(super) fn one_of<T, E>(done: Option<T>, refused: Option<E>) -> Option<Result<T, E>> {
    match (done, refused) {
        (Some(done), None) => Some(Ok(done)),
        (None, Some(refused)) => Some(Err(refused)),
        (Some(_), Some(_)) | (None, None) => None,
    }
}

/// The bit of a level's kind that says that fallbacks count.
const SLOPPY: u8 = 0x40;

/// A last field that is rarely set is left out otherwise.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_false(field: &bool) -> bool {
    !*field
}

#[derive(Serialize, Deserialize)]
struct LevelForm {
    kind: u8,
    count: u8,
}

impl From<ConsistencyLevel> for LevelForm {
    fn from(level: ConsistencyLevel) -> Self {
        let (kind, count) = match level {
            ConsistencyLevel::One => (0, 0),
            ConsistencyLevel::Two => (1, 0),
            ConsistencyLevel::Quorum => (2, 0),
            ConsistencyLevel::All => (3, 0),
            ConsistencyLevel::Read(count) => (4, count),
            ConsistencyLevel::Write(count) => (5, count),
            ConsistencyLevel::Sloppy(level) => {
                let Self { kind, count } = ConsistencyLevel::from(level).into();
                (kind | SLOPPY, count)
            }
        };
        Self { kind, count }
    }
}

impl LevelForm {
    fn into_domain(self) -> Option<ConsistencyLevel> {
        let strict = match self.kind & !SLOPPY {
            0 => Some(ConsistencyLevel::One),
            1 => Some(ConsistencyLevel::Two),
            2 => Some(ConsistencyLevel::Quorum),
            3 => Some(ConsistencyLevel::All),
            4 => Some(ConsistencyLevel::Read(self.count)),
            5 => Some(ConsistencyLevel::Write(self.count)),
            _ => None,
        };
        let is_sloppy = self.kind & SLOPPY != 0;
        strict.map(|level| if is_sloppy { level.sloppy() } else { level })
    }
}

#[derive(Serialize, Deserialize)]
struct ClientWriteForm {
    keyspace: String,
    key: Bytes,
    value: Option<Bytes>,
    context: Option<Bytes>,
    level: LevelForm,
    #[serde(with = "serde_bytes")]
    op_id: [u8; 16],
    flagged: bool,
    age_us: u64,
    #[serde(default)]
    stamp: Option<u64>,
    #[serde(default)]
    ttl_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct ClientReadForm {
    keyspace: String,
    key: Bytes,
    level: LevelForm,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ForwardForm {
    op: u64,
    write: Option<ClientWriteForm>,
    read: Option<ClientReadForm>,
    budget_us: u64,
    sent_after_us: Option<u64>,
    #[serde(default)]
    resolve: Option<ClientResolveForm>,
    #[serde(default)]
    covers: Option<Vec<Bytes>>,
}

#[derive(Serialize, Deserialize)]
struct ClientResolveForm {
    keyspace: String,
    key: Bytes,
    level: LevelForm,
    #[serde(with = "serde_bytes")]
    op_id: [u8; 16],
}

impl From<&ReadRequest> for ClientReadForm {
    fn from(
        ReadRequest {
            keyspace,
            key,
            level,
        }: &ReadRequest,
    ) -> Self {
        Self {
            keyspace: keyspace.clone(),
            key: key.clone(),
            level: (*level).into(),
        }
    }
}

impl ClientReadForm {
    fn into_domain(self) -> Option<ReadRequest> {
        let Self {
            keyspace,
            key,
            level,
        } = self;
        Some(ReadRequest {
            keyspace,
            key,
            level: level.into_domain()?,
        })
    }
}

impl From<&Forward> for ForwardForm {
    fn from(
        Forward {
            op,
            request,
            budget,
            sent_after,
        }: &Forward,
    ) -> Self {
        let mut form = Self {
            op: op.0,
            write: None,
            read: None,
            budget_us: micros(*budget),
            sent_after_us: sent_after.map(MonoTime::as_micros),
            resolve: None,
            covers: None,
        };
        match request {
            Request::Write(write) => form.write = Some(ClientWriteForm::from(write)),
            Request::Read(read) => form.read = Some(ClientReadForm::from(read)),
            Request::Resolve(ResolveRequest {
                keyspace,
                key,
                level,
                op_id,
            }) => {
                form.resolve = Some(ClientResolveForm {
                    keyspace: keyspace.clone(),
                    key: key.clone(),
                    level: (*level).into(),
                    op_id: op_id.0,
                });
            }
            Request::SessionRead(SessionReadRequest { read, covers }) => {
                form.read = Some(ClientReadForm::from(read));
                form.covers = Some(covers.clone());
            }
        }
        form
    }
}

impl From<&WriteRequest> for ClientWriteForm {
    fn from(write: &WriteRequest) -> Self {
        let WriteRequest {
            keyspace,
            key,
            value,
            context,
            level,
            op_id,
            flagged,
            age,
            stamp,
            ttl_ms,
        } = write;
        Self {
            keyspace: keyspace.clone(),
            key: key.clone(),
            value: value.clone(),
            context: context.clone(),
            level: (*level).into(),
            op_id: op_id.0,
            flagged: *flagged,
            age_us: micros(*age),
            stamp: *stamp,
            ttl_ms: *ttl_ms,
        }
    }
}

impl ForwardForm {
    pub(super) fn into_domain(self) -> Option<Forward> {
        let Self {
            op,
            write,
            read,
            budget_us,
            sent_after_us,
            resolve,
            covers,
        } = self;
        let request = match (write, read, resolve, covers) {
            (Some(write), None, None, None) => {
                let ClientWriteForm {
                    keyspace,
                    key,
                    value,
                    context,
                    ..
                } = write;
                Request::Write(WriteRequest {
                    keyspace,
                    key,
                    value,
                    context,
                    level: write.level.into_domain()?,
                    op_id: OpId(write.op_id),
                    flagged: write.flagged,
                    age: Duration::from_micros(write.age_us),
                    stamp: write.stamp,
                    ttl_ms: write.ttl_ms,
                })
            }
            (None, Some(read), None, None) => Request::Read(read.into_domain()?),
            (None, Some(read), None, Some(covers)) => Request::SessionRead(SessionReadRequest {
                read: read.into_domain()?,
                covers,
            }),
            (None, None, Some(resolve), None) => Request::Resolve(ResolveRequest {
                keyspace: resolve.keyspace,
                key: resolve.key,
                level: resolve.level.into_domain()?,
                op_id: OpId(resolve.op_id),
            }),
            (..) => return None,
        };
        Some(Forward {
            op: OpNumber(op),
            request,
            budget: Duration::from_micros(budget_us),
            sent_after: sent_after_us.map(MonoTime::from_micros),
        })
    }
}

#[derive(Serialize, Deserialize)]
struct AppliedForm {
    context: Option<Bytes>,
    acks: u8,
    #[serde(default)]
    superseded_by: Option<StampForm>,
}

#[derive(Serialize, Deserialize)]
struct StampForm {
    stamp: u64,
    feed: u64,
}

impl From<StampTold> for StampForm {
    fn from(StampTold { stamp, feed }: StampTold) -> Self {
        Self { stamp, feed }
    }
}

impl From<StampForm> for StampTold {
    fn from(StampForm { stamp, feed }: StampForm) -> Self {
        Self { stamp, feed }
    }
}

#[derive(Serialize, Deserialize)]
struct EchoForm {
    sent_us: u64,
    held_us: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ClockForm {
    sent_us: u64,
    wall_us: u64,
    echo: Option<EchoForm>,
    is_urgent: bool,
}

impl From<&ClockProbe> for ClockForm {
    fn from(probe: &ClockProbe) -> Self {
        let ClockProbe {
            sent_us,
            wall_us,
            echo,
            is_urgent,
        } = *probe;
        let echo = echo.map(|ClockEcho { sent_us, held_us }| EchoForm { sent_us, held_us });
        Self {
            sent_us,
            wall_us,
            echo,
            is_urgent,
        }
    }
}

impl From<ClockForm> for ClockProbe {
    fn from(form: ClockForm) -> Self {
        let ClockForm {
            sent_us,
            wall_us,
            echo,
            is_urgent,
        } = form;
        let echo = echo.map(|EchoForm { sent_us, held_us }| ClockEcho { sent_us, held_us });
        Self {
            sent_us,
            wall_us,
            echo,
            is_urgent,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct ValuesForm {
    values: Vec<Bytes>,
    context: Bytes,
    replicas: u8,
    #[serde(default)]
    stamp: Option<StampForm>,
}

#[derive(Serialize, Deserialize)]
struct PartForm {
    node: u32,
    part: u8,
}

#[derive(Serialize, Deserialize)]
struct FailureForm {
    code: u16,
    unknown: bool,
    acks: u8,
    required: u8,
    replicas: Vec<PartForm>,
    retry_after_ms: u32,
    limit: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ForwardReplyForm {
    op: u64,
    applied: Option<AppliedForm>,
    read: Option<ValuesForm>,
    failed: Option<FailureForm>,
}

impl ForwardReplyForm {
    /// `None` for what is never forwarded and so never answered to a forwarder.
    pub(super) fn of(ForwardReply { op, reply }: &ForwardReply) -> Option<Self> {
        let mut form = Self {
            op: op.0,
            applied: None,
            read: None,
            failed: None,
        };
        match reply {
            Reply::Applied {
                context,
                acks,
                superseded_by,
            } => {
                form.applied = Some(AppliedForm {
                    context: context.clone(),
                    acks: *acks,
                    superseded_by: superseded_by.map(Into::into),
                });
            }
            Reply::Read {
                values,
                context,
                replicas,
                stamp,
            } => {
                let (values, context) = (values.clone(), context.clone());
                form.read = Some(ValuesForm {
                    values,
                    context,
                    replicas: *replicas,
                    stamp: stamp.map(Into::into),
                });
            }
            Reply::Failed(failure) => form.failed = Some(FailureForm::from(failure)),
            Reply::Page { .. } | Reply::Batch(_) => return None,
        }
        Some(form)
    }
}

impl ForwardReplyForm {
    pub(super) fn into_domain(self) -> Option<ForwardReply> {
        let reply = match (self.applied, self.read, self.failed) {
            (Some(applied), None, None) => Reply::Applied {
                context: applied.context,
                acks: applied.acks,
                superseded_by: applied.superseded_by.map(Into::into),
            },
            (
                None,
                Some(ValuesForm {
                    values,
                    context,
                    replicas,
                    stamp,
                }),
                None,
            ) => Reply::Read {
                values,
                context,
                replicas,
                stamp: stamp.map(Into::into),
            },
            (None, None, Some(failure)) => Reply::Failed(failure.into()),
            _ => return None,
        };
        Some(ForwardReply {
            op: OpNumber(self.op),
            reply,
        })
    }
}

impl From<&Failure> for FailureForm {
    fn from(failure: &Failure) -> Self {
        let Failure {
            cause,
            effect,
            acks,
            required,
            replicas,
            retry_after_ms,
            limit,
        } = failure;
        let part = |(node, part): &(NodeId, ReplicaPart)| PartForm {
            node: node.0,
            part: match part {
                ReplicaPart::Confirmed => 0,
                ReplicaPart::Silent => 1,
                ReplicaPart::Down => 2,
                ReplicaPart::Refused => 3,
            },
        };
        Self {
            code: code_of(*cause).into(),
            unknown: match effect {
                Effectiveness::NotApplied => false,
                Effectiveness::Unknown => true,
            },
            acks: *acks,
            required: *required,
            replicas: replicas.iter().map(part).collect(),
            retry_after_ms: *retry_after_ms,
            limit: *limit,
        }
    }
}

impl From<FailureForm> for Failure {
    fn from(form: FailureForm) -> Self {
        let part = |PartForm { node, part }| {
            let part = match part {
                0 => ReplicaPart::Confirmed,
                1 => ReplicaPart::Silent,
                2 => ReplicaPart::Down,
                _ => ReplicaPart::Refused,
            };
            (NodeId(node), part)
        };
        Self {
            cause: cause(form.code),
            effect: if form.unknown {
                Effectiveness::Unknown
            } else {
                Effectiveness::NotApplied
            },
            acks: form.acks,
            required: form.required,
            replicas: form.replicas.into_iter().map(part).collect(),
            retry_after_ms: form.retry_after_ms,
            limit: form.limit,
        }
    }
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
