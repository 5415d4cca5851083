//! Frames of the client protocol: a little-endian `u32` length, a kind byte, a MessagePack array.
//!
//! The length counts the kind byte and the body. The body is `[id, deadline_ms, fields]` of a
//! request and `[id, fields]` of a response; later fields are added at the end of an array, never
//! in the middle, and a kind byte is never used twice.
//!
//! Invariants:
//! - encoding appends to the caller's buffer and allocates nothing of its own;
//! - decoding looks a body over (`prescan`) before any of it is decoded.
//!
//! Not here: cutting a stream into frames (`split`), messages over 64 KiB (`chunk`).

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::batch::{ItemIn, ItemOut, ResultIn, ResultOut};
use super::prescan::{self, ScanError};
use super::{LocalRecord, Request, RequestFrame, Response, ResponseFrame, lenient};

/// Bytes of the length in front of each frame.
pub const LENGTH_BYTES: usize = 4;

/// Longest frame on the stream for requests; longer ones travel in chunks on the bulk stream.
pub const SMALL_FRAME_BYTES_MAX: usize = 64 * 1024;

/// Most MessagePack values in a request. The largest of this release has 15.
pub const REQUEST_ITEMS_MAX: usize = 128;

/// Most MessagePack values in a batch: 1,000 items of at most 48, one of them a get in a session
/// with all that it must cover, and room.
pub const BATCH_REQUEST_ITEMS_MAX: usize = 64 * 1024;

/// Most MessagePack values in a response: a page of records, or a large topology.
pub const RESPONSE_ITEMS_MAX: usize = 256 * 1024;

/// Why bytes are no frame, or a frame no message. Ends the connection, except
/// [`FrameError::UnknownKind`] with an id, which can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length is over the limit; nothing was allocated for it.
    #[error("a frame of {bytes} bytes is over the limit of {limit}")]
    TooLong {
        /// The length that was announced.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A length of 0, where not even a kind fits.
    #[error("a frame without a kind")]
    Empty,
    /// A stream does not begin as this release's streams do.
    #[error("a stream begins with an unknown version or role")]
    Preamble,
    /// A kind that this release does not know.
    #[error("unknown kind {kind}")]
    UnknownKind {
        /// The kind byte.
        kind: u8,
        /// Id of the request, where it can be read.
        id: Option<u64>,
    },
    /// The body is not one MessagePack value within the limits.
    #[error("frame of kind {kind}: {error}")]
    Malformed {
        /// The kind byte.
        kind: u8,
        /// What is wrong.
        error: ScanError,
    },
    /// The body has not the fields of its kind.
    #[error("a frame of kind {kind} without the fields of its kind")]
    Fields {
        /// The kind byte.
        kind: u8,
    },
    /// A chunk that fits no message under way, or one message too many.
    #[error("a chunk that fits no message under way")]
    Chunk,
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
    /// A value that cannot be written in this format.
    #[error("a message of kind {kind} cannot be encoded")]
    Encode {
        /// The kind byte.
        kind: u8,
    },
}

/// A frame whose body has not been looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFrame {
    /// What it holds.
    pub kind: u8,
    /// The MessagePack value, unchecked.
    pub body: Bytes,
}

mod kind {
    pub(super) const TOPOLOGY: u8 = 1;
    pub(super) const PUT: u8 = 2;
    pub(super) const DELETE: u8 = 3;
    pub(super) const GET: u8 = 4;
    pub(super) const STATUS: u8 = 5;
    pub(super) const READ_LOCAL: u8 = 6;
    pub(super) const DUMP_LOCAL: u8 = 7;
    pub(super) const RESOLVE: u8 = 20;
    pub(super) const SESSION_GET: u8 = 21;
    pub(super) const SCAN: u8 = 22;
    pub(super) const BATCH: u8 = 23;
    pub(super) const VERIFY: u8 = 24;
    pub(super) const REPAIR: u8 = 25;
    pub(super) const DECLARE_LOST: u8 = 26;

    pub(super) const TOPOLOGY_INFO: u8 = 65;
    pub(super) const APPLIED: u8 = 66;
    pub(super) const READ: u8 = 67;
    pub(super) const FAILURE: u8 = 68;
    pub(super) const NODE_STATUS: u8 = 69;
    pub(super) const LOCAL: u8 = 70;
    pub(super) const DUMP: u8 = 71;
    pub(super) const PAGE: u8 = 84;
    pub(super) const BATCH_RESULTS: u8 = 85;
    pub(super) const VERIFIED: u8 = 86;
    pub(super) const REPAIRED: u8 = 87;
    pub(super) const LOSS_DECLARED: u8 = 88;
}

#[derive(Serialize)]
struct RequestOut<'a, T> {
    id: u64,
    deadline_ms: u32,
    fields: &'a T,
    held_ms: u32,
}

/// The largest number takes the longest form, which has room for every other.
const HELD_PLACEHOLDER: u32 = u32::MAX;
const HELD_BYTES: usize = size_of::<u32>();

#[derive(Deserialize)]
struct RequestIn<T> {
    id: u64,
    deadline_ms: u32,
    fields: T,
    #[serde(default)]
    held_ms: u32,
}

#[derive(Serialize)]
struct ResponseOut<'a, T> {
    id: u64,
    fields: &'a T,
}

#[derive(Deserialize)]
struct ResponseIn<T> {
    id: u64,
    fields: T,
}

/// Fields of a request that has none yet.
#[derive(Serialize, Deserialize)]
struct NoFields {}

#[derive(Serialize)]
struct LocalOut<'a> {
    record: &'a Option<LocalRecord>,
}

#[derive(Deserialize)]
struct LocalIn {
    record: Option<LocalRecord>,
}

/// Appends a frame with `body` to `out` and returns its length in bytes, the length field included.
///
/// # Errors
/// [`FrameError::Encode`] if `body` cannot be written; `out` is then as before.
pub fn put_frame<T: Serialize + ?Sized>(
    out: &mut BytesMut,
    kind: u8,
    body: &T,
) -> Result<usize, FrameError> {
    let start = out.len();
    out.put_u32_le(0);
    out.put_u8(kind);
    let written = rmp_serde::encode::write(&mut out.writer(), body);
    let length = out.len() - start - LENGTH_BYTES;
    let field = out.get_mut(start..start + LENGTH_BYTES);
    if let (Ok(()), Some(field), Ok(length)) = (written, field, u32::try_from(length)) {
        field.copy_from_slice(&length.to_le_bytes());
        return Ok(out.len() - start);
    }
    out.truncate(start);
    Err(FrameError::Encode { kind })
}

/// Appends the frame of `request` under `id` to `out` and returns its length in bytes.
///
/// # Errors
/// [`FrameError::Encode`] if it cannot be written; `out` is then as before.
pub fn encode_request(
    out: &mut BytesMut,
    id: u64,
    deadline_ms: u32,
    request: &Request,
) -> Result<usize, FrameError> {
    fn put<T: Serialize>(
        out: &mut BytesMut,
        kind: u8,
        id: u64,
        deadline_ms: u32,
        fields: &T,
    ) -> Result<usize, FrameError> {
        let bytes = put_frame(
            out,
            kind,
            &RequestOut {
                id,
                deadline_ms,
                fields,
                held_ms: HELD_PLACEHOLDER,
            },
        )?;
        set_held_ms(out, 0);
        Ok(bytes)
    }
    match request {
        Request::Topology => put(out, kind::TOPOLOGY, id, deadline_ms, &NoFields {}),
        Request::Put(fields) => put(out, kind::PUT, id, deadline_ms, fields),
        Request::Delete(fields) => put(out, kind::DELETE, id, deadline_ms, fields),
        Request::Get(fields) => put(out, kind::GET, id, deadline_ms, fields),
        Request::Status => put(out, kind::STATUS, id, deadline_ms, &NoFields {}),
        Request::ReadLocal(fields) => put(out, kind::READ_LOCAL, id, deadline_ms, fields),
        Request::DumpLocal(fields) => put(out, kind::DUMP_LOCAL, id, deadline_ms, fields),
        Request::Verify(fields) => put(out, kind::VERIFY, id, deadline_ms, fields),
        Request::Repair(fields) => put(out, kind::REPAIR, id, deadline_ms, fields),
        Request::DeclareLost(fields) => put(out, kind::DECLARE_LOST, id, deadline_ms, fields),
        Request::Scan(fields) => put(out, kind::SCAN, id, deadline_ms, fields),
        Request::Batch(items) => {
            let items: Vec<ItemOut<'_>> = items.iter().map(ItemOut::from).collect();
            put(out, kind::BATCH, id, deadline_ms, &items)
        }
        Request::Resolve(fields) => put(out, kind::RESOLVE, id, deadline_ms, fields),
        Request::SessionGet(fields) => put(out, kind::SESSION_GET, id, deadline_ms, fields),
    }
}

/// Tells the request whose frame ends `encoded` for how long it was queued.
pub fn set_held_ms(encoded: &mut [u8], held_ms: u32) {
    if let Some(field) = encoded.last_chunk_mut::<HELD_BYTES>() {
        *field = held_ms.to_be_bytes();
    }
}

/// Appends the frame of `response` under `id` to `out` and returns its length in bytes.
///
/// # Errors
/// [`FrameError::Encode`] if it cannot be written; `out` is then as before.
pub fn encode_response(
    out: &mut BytesMut,
    id: u64,
    response: &Response,
) -> Result<usize, FrameError> {
    fn put<T: Serialize>(
        out: &mut BytesMut,
        kind: u8,
        id: u64,
        fields: &T,
    ) -> Result<usize, FrameError> {
        put_frame(out, kind, &ResponseOut { id, fields })
    }
    match response {
        Response::Topology(fields) => put(out, kind::TOPOLOGY_INFO, id, fields),
        Response::Applied(fields) => put(out, kind::APPLIED, id, fields),
        Response::Read(fields) => put(out, kind::READ, id, fields),
        Response::Failure(fields) => put(out, kind::FAILURE, id, fields),
        Response::Status(fields) => put(out, kind::NODE_STATUS, id, &**fields),
        Response::Verified(fields) => put(out, kind::VERIFIED, id, fields),
        Response::Repaired(fields) => put(out, kind::REPAIRED, id, fields),
        Response::LossDeclared(fields) => put(out, kind::LOSS_DECLARED, id, fields),
        Response::Local(record) => put(out, kind::LOCAL, id, &LocalOut { record }),
        Response::Dump(fields) => put(out, kind::DUMP, id, fields),
        Response::Page(fields) => put(out, kind::PAGE, id, fields),
        Response::Batch(results) => {
            let results: Vec<ResultOut<'_>> = results.iter().map(ResultOut::from).collect();
            put(out, kind::BATCH_RESULTS, id, &results)
        }
    }
}

/// Looks `frame` over and decodes it as a request.
///
/// # Errors
/// [`FrameError`]; with [`FrameError::UnknownKind`] and an id the request can be answered.
pub fn decode_request(frame: &RawFrame) -> Result<RequestFrame, FrameError> {
    fn body<T: for<'de> Deserialize<'de>>(
        frame: &RawFrame,
        wrap: impl FnOnce(T) -> Request,
    ) -> Result<RequestFrame, FrameError> {
        let RequestIn {
            id,
            deadline_ms,
            fields,
            held_ms,
        } = decode_body(frame, REQUEST_ITEMS_MAX)?;
        Ok(RequestFrame {
            id,
            deadline_ms,
            held_ms,
            request: wrap(fields),
        })
    }
    match frame.kind {
        kind::TOPOLOGY => body(frame, |NoFields {}| Request::Topology),
        kind::PUT => body(frame, Request::Put),
        kind::DELETE => body(frame, Request::Delete),
        kind::GET => body(frame, Request::Get),
        kind::STATUS => body(frame, |NoFields {}| Request::Status),
        kind::READ_LOCAL => body(frame, Request::ReadLocal),
        kind::DUMP_LOCAL => body(frame, Request::DumpLocal),
        kind::VERIFY => body(frame, Request::Verify),
        kind::REPAIR => body(frame, Request::Repair),
        kind::DECLARE_LOST => body(frame, Request::DeclareLost),
        kind::RESOLVE => body(frame, Request::Resolve),
        kind::SESSION_GET => body(frame, Request::SessionGet),
        kind::SCAN => body(frame, Request::Scan),
        kind::BATCH => decode_batch(frame),
        kind => {
            let read = decode_body::<RequestIn<IgnoredAny>>(frame, REQUEST_ITEMS_MAX)?;
            Err(FrameError::UnknownKind {
                kind,
                id: Some(read.id),
            })
        }
    }
}

fn decode_batch(frame: &RawFrame) -> Result<RequestFrame, FrameError> {
    let RequestIn::<Vec<ItemIn>> {
        id,
        deadline_ms,
        fields,
        held_ms,
    } = decode_body(frame, BATCH_REQUEST_ITEMS_MAX)?;
    let items = fields.into_iter().map(ItemIn::into_item);
    let items = items.collect::<Option<Vec<_>>>();
    let request = Request::Batch(items.ok_or(FrameError::Fields { kind: frame.kind })?);
    Ok(RequestFrame {
        id,
        deadline_ms,
        held_ms,
        request,
    })
}

fn decode_batch_results(frame: &RawFrame) -> Result<ResponseFrame, FrameError> {
    let ResponseIn::<Vec<ResultIn>> { id, fields } = decode_body(frame, RESPONSE_ITEMS_MAX)?;
    let results = fields.into_iter().map(ResultIn::into_result);
    let results = results.collect::<Option<Vec<_>>>();
    let response = Response::Batch(results.ok_or(FrameError::Fields { kind: frame.kind })?);
    Ok(ResponseFrame { id, response })
}

/// Looks `frame` over and decodes it as a response.
///
/// # Errors
/// [`FrameError`]; with [`FrameError::UnknownKind`] and an id the request can be completed.
pub fn decode_response(frame: &RawFrame) -> Result<ResponseFrame, FrameError> {
    fn body<T: for<'de> Deserialize<'de>>(
        frame: &RawFrame,
        wrap: impl FnOnce(T) -> Response,
    ) -> Result<ResponseFrame, FrameError> {
        let ResponseIn { id, fields } = decode_body(frame, RESPONSE_ITEMS_MAX)?;
        Ok(ResponseFrame {
            id,
            response: wrap(fields),
        })
    }
    match frame.kind {
        kind::TOPOLOGY_INFO => body(frame, Response::Topology),
        kind::APPLIED => body(frame, Response::Applied),
        kind::READ => body(frame, Response::Read),
        kind::FAILURE => body(frame, Response::Failure),
        kind::NODE_STATUS => body(frame, |status| Response::Status(Box::new(status))),
        kind::VERIFIED => body(frame, Response::Verified),
        kind::REPAIRED => body(frame, Response::Repaired),
        kind::LOSS_DECLARED => body(frame, Response::LossDeclared),
        kind::LOCAL => body(frame, |LocalIn { record }| Response::Local(record)),
        kind::DUMP => body(frame, Response::Dump),
        kind::PAGE => body(frame, Response::Page),
        kind::BATCH_RESULTS => decode_batch_results(frame),
        kind => {
            let read = decode_body::<ResponseIn<IgnoredAny>>(frame, RESPONSE_ITEMS_MAX)?;
            Err(FrameError::UnknownKind {
                kind,
                id: Some(read.id),
            })
        }
    }
}

/// Looks a body over and decodes it; array items that `T` does not know are skipped. Where `T`
/// borrows, nothing is copied.
///
/// # Errors
/// [`FrameError::Malformed`] or [`FrameError::Fields`].
pub fn decode_body<'frame, T: Deserialize<'frame>>(
    frame: &'frame RawFrame,
    items_max: usize,
) -> Result<T, FrameError> {
    let kind = frame.kind;
    prescan::check(&frame.body, items_max)
        .map_err(|error| FrameError::Malformed { kind, error })?;
    lenient::from_slice(&frame.body).map_err(|_| FrameError::Fields { kind })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{
        Applied, BatchItem, Code, ContextToken, DeclareLost, DeclaredLost, Delete, DumpLocal,
        DumpPage, Failure, FrameSplitter, Get, HintStatus, ItemResult, KeyspaceHoldings,
        KeyspaceInfo, Level, LossDeclared, NodeInfo, NodeStatus, OpId, Outcome, PairStatus,
        PeerStatus, PurgeStatus, Put, Read, ReadLocal, Repair, Repaired, ReplicaReport,
        ReplicaState, Resolve, Scan, ScanPage, ScanRecord, ScanToken, SessionGet, Stamp,
        TopologyInfo, Value, Verified, Verify, VerifyFault,
    };
    use super::*;

    fn token() -> ContextToken {
        ContextToken(Bytes::from_static(b"sealed"))
    }

    /// One request of each kind, with the name of its fixture.
    fn requests() -> Vec<(&'static str, Request)> {
        let keyspace = || "default".to_owned();
        let key = || Bytes::from_static(b"key");
        let put = Put {
            keyspace: keyspace(),
            key: key(),
            value: Bytes::from_static(b"value"),
            context: Some(token()),
            level: Level::Quorum,
            op_id: OpId(*b"0123456789abcdef"),
            attempt: 2,
            age_ms: 70_000,
            stamp: Some(1_750_000_000_000_000),
            ttl_ms: Some(5_000),
        };
        let delete = Delete {
            keyspace: keyspace(),
            key: key(),
            context: None,
            level: Level::Exactly(2),
            op_id: OpId([0xff; 16]),
            attempt: 1,
            age_ms: 0,
            stamp: None,
        };
        let get = Get {
            keyspace: keyspace(),
            key: key(),
            level: Level::All,
        };
        let dump = DumpLocal {
            keyspace: 7,
            vnode: 255,
            after: Some(key()),
            limit: 100,
        };
        let scan = Scan {
            keyspace: keyspace(),
            start: key(),
            end: Some(Bytes::from_static(b"kez")),
            token: Some(ScanToken(Bytes::from_static(b"sealed"))),
            limit: 1000,
            level: Level::Quorum,
        };
        let items = vec![
            BatchItem::Put(put.clone()),
            BatchItem::Delete(delete.clone()),
            BatchItem::Get(get.clone()),
            BatchItem::SessionGet(SessionGet {
                keyspace: keyspace(),
                key: key(),
                level: Level::One,
                covers: vec![token(), token()],
            }),
        ];
        vec![
            ("request_topology", Request::Topology),
            ("request_put", Request::Put(put)),
            ("request_delete", Request::Delete(delete)),
            ("request_get", Request::Get(get)),
            ("request_status", Request::Status),
            (
                "request_read_local",
                Request::ReadLocal(ReadLocal {
                    keyspace: keyspace(),
                    key: key(),
                }),
            ),
            ("request_dump_local", Request::DumpLocal(dump)),
            (
                "request_verify",
                Request::Verify(Verify {
                    keyspace: 1,
                    vnode: 300,
                }),
            ),
            (
                "request_repair",
                Request::Repair(Repair {
                    node: 2,
                    vnode: 300,
                    dry_run: true,
                }),
            ),
            (
                "request_declare_lost",
                Request::DeclareLost(DeclareLost {
                    nodes: vec![2, 3],
                    accept: true,
                }),
            ),
            (
                "request_resolve",
                Request::Resolve(Resolve {
                    keyspace: keyspace(),
                    key: key(),
                    level: Level::Quorum,
                    op_id: OpId(*b"0123456789abcdef"),
                }),
            ),
            (
                "request_session_get",
                Request::SessionGet(SessionGet {
                    keyspace: keyspace(),
                    key: key(),
                    level: Level::One,
                    covers: vec![token(), token()],
                }),
            ),
            ("request_scan", Request::Scan(scan)),
            ("request_batch", Request::Batch(items)),
        ]
    }

    /// One response of each kind, with the name of its fixture.
    fn responses() -> Vec<(&'static str, Response)> {
        let failure = Failure {
            code: Code::QuorumNotReached,
            outcome: Outcome::Unknown,
            acks: 1,
            required: 2,
            replicas: vec![ReplicaReport {
                node: 3,
                state: ReplicaState::Silent,
            }],
            retry_after_ms: 25,
            limit: 0,
        };
        let record = LocalRecord {
            keyspace: 1,
            key: Bytes::from_static(b"key"),
            record: Bytes::from_static(b"record"),
        };
        let values = vec![Value(Bytes::from_static(b"a")), Value(Bytes::new())];
        let read = Read {
            values: values.clone(),
            context: token(),
            replicas: 2,
            stamp: None,
        };
        let applied = Applied {
            context: None,
            acks: 2,
            superseded_by: Some(Stamp { stamp: 9, feed: 8 }),
        };
        let results = vec![
            ItemResult::Applied(applied),
            ItemResult::Read(read),
            ItemResult::Failure(failure.clone()),
        ];
        let page = ScanPage {
            records: vec![ScanRecord {
                key: Bytes::from_static(b"key"),
                values: values.clone(),
            }],
            next: Some(ScanToken(Bytes::from_static(b"sealed"))),
        };
        vec![
            ("response_page", Response::Page(page)),
            ("response_batch", Response::Batch(results)),
            ("response_topology", Response::Topology(topology())),
            (
                "response_applied",
                Response::Applied(Applied {
                    context: Some(token()),
                    acks: 3,
                    superseded_by: Some(Stamp { stamp: 7, feed: 6 }),
                }),
            ),
            (
                "response_read",
                Response::Read(Read {
                    values,
                    context: token(),
                    replicas: 2,
                    stamp: None,
                }),
            ),
            ("response_failure", Response::Failure(failure)),
            ("response_status", Response::Status(Box::new(status()))),
            ("response_verified", Response::Verified(verified())),
            (
                "response_repaired",
                Response::Repaired(Repaired {
                    vnodes: 64,
                    vnodes_differing: 3,
                    buckets: 4,
                    keys: 5,
                    bytes: 600,
                    healed: 4,
                    failed: 1,
                    next: Some(364),
                }),
            ),
            (
                "response_loss_declared",
                Response::LossDeclared(LossDeclared { nodes: vec![2, 3] }),
            ),
            ("response_local", Response::Local(Some(record.clone()))),
            ("response_local_none", Response::Local(None)),
            (
                "response_dump",
                Response::Dump(DumpPage {
                    records: vec![record],
                    end: true,
                }),
            ),
        ]
    }

    fn topology() -> TopologyInfo {
        TopologyInfo {
            cluster_id: *b"fedcba9876543210",
            generation: 1,
            number: 2,
            vnodes: 256,
            nodes: vec![NodeInfo {
                id: 1,
                name: "a".into(),
                address: "127.0.0.1:7401".into(),
                weight: 0.5,
                zone: String::new(),
            }],
            keyspaces: vec![KeyspaceInfo {
                id: 1,
                name: "default".into(),
                mode: "siblings".into(),
                copies: 3,
                durability: "memory".into(),
                read_level: Level::One,
                write_level: Level::Exactly(3),
                ttl_ms: 5_000,
            }],
            answered_by: 1,
        }
    }

    fn verified() -> Verified {
        Verified {
            records: 300,
            bytes: 70_000,
            moving: 1,
            faults: vec![
                VerifyFault {
                    vnode: 300,
                    key: Some(Bytes::from_static(b"k")),
                    what: "its record cannot be read".into(),
                },
                VerifyFault {
                    vnode: 301,
                    key: None,
                    what: "the records of bucket 7 are not those that were written".into(),
                },
            ],
            faults_total: 2,
            next: Some(302),
        }
    }

    fn status() -> NodeStatus {
        NodeStatus {
            node: 1,
            version: "0.1.0".into(),
            incarnation: u64::MAX,
            durable_lsn: 300,
            applied_lsn: 200,
            vnodes_owned: 256,
            vnodes_counting: 255,
            table_records: 4,
            table_bytes: 5,
            cache_bytes: 6,
            log_bytes: 7,
            engine_backlog: 8,
            disk_free_bytes: 9,
            disk_total_bytes: 10,
            uptime_us: 11,
            pid: 12,
            requests_in_flight: 13,
            hints_wanted: 14,
            peers: vec![PeerStatus {
                node: 2,
                up: true,
                silent_ms: 15,
            }],
            memory_lost: true,
            lost_why: Some("lost".to_owned()),
            copies_lacking: 3,
            hints: vec![HintStatus {
                node: 2,
                keys: 3,
                bytes: 300,
                oldest_ms: 4,
                let_go: 5,
                counted: true,
            }],
            guest_records: 3,
            guest_bytes: 1_500,
            guest_bytes_max: 2_000,
            disk_full: true,
            copies_in_doubt: 6,
            memory_copies_in_doubt: 7,
            purge: PurgeStatus {
                waiting: 7,
                oldest_ms: Some(8),
                blocked_by: vec![3],
                purged: 9,
            },
            declared_lost: vec![DeclaredLost { node: 3, at_ms: 10 }],
            only_copies_lacking: 2,
            clock_off: false,
            keyspaces: vec![KeyspaceHoldings {
                keyspace: "default".into(),
                keys: 1,
                tombstones: 2,
                bytes: 300,
                first_keys: 4,
                first_tombstones: 5,
                first_bytes: u64::MAX,
            }],
            pairs: vec![PairStatus {
                node: 3,
                age_ms: Some(16),
                keys: 17,
                healed: 16,
            }],
        }
    }

    fn cut(bytes: &[u8]) -> Result<Vec<RawFrame>, FrameError> {
        let mut frames = Vec::new();
        FrameSplitter::new(SMALL_FRAME_BYTES_MAX)
            .split(Bytes::copy_from_slice(bytes), &mut frames)?;
        Ok(frames)
    }

    fn encoded(encode: impl FnOnce(&mut BytesMut) -> Result<usize, FrameError>) -> Vec<u8> {
        let mut buffer = BytesMut::from(&b"before"[..]);
        let bytes = encode(&mut buffer).expect("encodes");
        assert_eq!(bytes, buffer.len() - 6);
        buffer.split_off(6).to_vec()
    }

    fn all_encoded() -> Vec<(&'static str, Vec<u8>)> {
        let requests = requests()
            .into_iter()
            .map(|(name, request)| (name, encoded(|out| encode_request(out, 77, 2000, &request))));
        let responses = responses()
            .into_iter()
            .map(|(name, response)| (name, encoded(|out| encode_response(out, 300, &response))));
        requests.chain(responses).collect()
    }

    #[test]
    fn every_message_comes_back_as_it_was() {
        for (name, request) in requests() {
            let bytes = encoded(|out| encode_request(out, 77, 2000, &request));
            let frames = cut(&bytes).expect("a frame");
            let want = RequestFrame {
                id: 77,
                deadline_ms: 2000,
                held_ms: 0,
                request,
            };
            assert_eq!(
                frames.iter().map(decode_request).collect::<Vec<_>>(),
                [Ok(want)],
                "{name}"
            );
        }
        for (name, response) in responses() {
            let bytes = encoded(|out| encode_response(out, u64::MAX, &response));
            let frames = cut(&bytes).expect("a frame");
            let want = ResponseFrame {
                id: u64::MAX,
                response,
            };
            assert_eq!(
                frames.iter().map(decode_response).collect::<Vec<_>>(),
                [Ok(want)],
                "{name}"
            );
        }
    }

    /// The bytes of a released format never change. Written once with `QUORATE_WRITE_FIXTURES=1`.
    #[test]
    fn bytes_are_those_of_the_fixtures() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/wire");
        for (name, bytes) in all_encoded() {
            let path = format!("{folder}/{name}.bin");
            if std::env::var_os("QUORATE_WRITE_FIXTURES").is_some() {
                std::fs::write(&path, &bytes).expect("the folder is there");
            }
            assert_eq!(std::fs::read(&path).expect(&path), bytes, "{name}");
        }
    }

    /// What the first release wrote is read for ever; what came later has its default.
    #[test]
    fn the_first_releases_bytes_are_read() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/wire/first");
        let read = |name: &str| {
            let bytes = std::fs::read(format!("{folder}/{name}.bin")).expect(name);
            cut(&bytes).expect("a frame").remove(0)
        };
        for name in ["request_put", "request_delete"] {
            let request = decode_request(&read(name)).expect(name).request;
            let stamp = match request {
                Request::Put(put) => put.stamp.or(put.ttl_ms),
                Request::Delete(delete) => delete.stamp,
                other => panic!("{name}: {other:?}"),
            };
            assert_eq!(stamp, None, "{name}");
        }
        for name in [
            "response_topology",
            "response_applied",
            "response_read",
            "response_status",
        ] {
            match decode_response(&read(name)).expect(name).response {
                Response::Topology(topology) => {
                    let keyspace = topology.keyspaces.first().expect("one keyspace");
                    assert_eq!(keyspace.read_level, Level::Quorum);
                    assert_eq!((keyspace.durability.as_str(), keyspace.ttl_ms), ("", 0));
                }
                Response::Applied(applied) => assert_eq!(applied.superseded_by, None),
                Response::Read(read) => assert_eq!(read.stamp, None),
                Response::Status(status) => assert!(status.keyspaces.is_empty()),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn hostile_bodies_are_refused() {
        let put = encoded(|out| encode_request(out, 1, 1, &requests()[1].1));
        let body = |bytes: &[u8]| RawFrame {
            kind: 2,
            body: Bytes::copy_from_slice(bytes),
        };
        let whole = put.get(5..).expect("a body");
        let mut trailing = whole.to_vec();
        trailing.push(0xc0);
        let deep = vec![0x91; 100_000];
        let cases = [
            ("trailing", body(&trailing)),
            (
                "truncated",
                body(whole.get(..whole.len() - 1).expect("shorter")),
            ),
            ("deep", body(&deep)),
            ("empty", body(&[])),
            ("another shape", body(&[0x01])),
            ("fields missing", body(&[0x93, 1, 1, 0x90])),
            (
                "many items",
                body(&[[0xdc, 0, 200].as_slice(), &[0xc0; 200]].concat()),
            ),
        ];
        for (name, frame) in cases {
            let error = decode_request(&frame).expect_err(name);
            assert!(
                matches!(
                    error,
                    FrameError::Malformed { .. } | FrameError::Fields { .. }
                ),
                "{name}: {error}"
            );
        }
    }

    #[test]
    fn a_request_of_an_unknown_kind_can_be_answered() {
        let frame = RawFrame {
            kind: 60,
            body: Bytes::from_static(&[0x94, 9, 1, 0x91, 1, 2]),
        };
        assert_eq!(
            decode_request(&frame),
            Err(FrameError::UnknownKind {
                kind: 60,
                id: Some(9)
            })
        );
        let frame = RawFrame {
            kind: 60,
            body: Bytes::from_static(&[0x94]),
        };
        assert!(matches!(
            decode_request(&frame),
            Err(FrameError::Malformed { .. })
        ));
    }

    proptest! {
        /// Random and altered bytes are refused or read, never a panic.
        #[test]
        fn altered_frames_never_panic(
            which in 0..19_usize,
            changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6),
            cut_at in any::<usize>(),
        ) {
            let messages = all_encoded();
            let mut bytes = messages[which % messages.len()].1.clone();
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            bytes.truncate(1 + cut_at % (2 * bytes.len()));
            for frame in cut(&bytes).unwrap_or_default() {
                drop(decode_request(&frame));
                drop(decode_response(&frame));
            }
        }

        /// A body of random bytes never panics, whatever its kind.
        #[test]
        fn random_bodies_never_panic(
            kind in any::<u8>(),
            body in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let frame = RawFrame { kind, body: body.into() };
            drop(decode_request(&frame));
            drop(decode_response(&frame));
        }

        /// Any put and any read come back as they were.
        #[test]
        fn data_comes_back(
            id in any::<u64>(),
            value in proptest::collection::vec(any::<u8>(), 0..300),
            level in any::<u8>(),
            op_id in any::<[u8; 16]>(),
            age_ms in any::<u32>(),
        ) {
            let put = Put {
                keyspace: "k".into(),
                key: Bytes::from(value.clone()),
                value: value.into(),
                context: None,
                level: level.into(),
                op_id: OpId(op_id),
                attempt: 1,
                age_ms,
                stamp: Some(id),
                ttl_ms: None,
            };
            let want = RequestFrame { id, deadline_ms: age_ms, held_ms: 0, request: Request::Put(put) };
            let bytes = encoded(|out| encode_request(out, id, age_ms, &want.request));
            let frames = cut(&bytes).expect("a frame");
            prop_assert_eq!(frames.iter().map(decode_request).collect::<Vec<_>>(), [Ok(want)]);
        }
    }
}
