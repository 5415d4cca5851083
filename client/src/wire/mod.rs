//! The contract between clients and nodes: what may be asked, what is answered, stable codes.
//!
//! A connection speaks [`ALPN_CLIENT`]. On its long-lived bidirectional stream each side writes
//! frames: a little-endian `u32` length, one kind byte, then one MessagePack array (rmp-serde,
//! compact form). Fields are only ever added at the end, with a default, so that an old node reads
//! a newer client and the other way round within one ALPN version.
//!
//! Only plain wire types live here. What they mean is decided in the SDK and in the node's core;
//! both convert at their edge.
//!
//! Not here: how frames travel (`link`), frames between nodes (`quorate-node`).

mod batch;
pub mod chunk;
mod code;
pub mod frame;
pub mod lenient;
pub mod prescan;
mod request;
mod response;
mod split;

pub use code::{Code, Outcome};
pub use frame::{
    FrameError, RawFrame, decode_request, decode_response, encode_request, encode_response,
    set_held_ms,
};
pub use request::{
    BatchItem, ContextToken, DeclareLost, Delete, DumpLocal, Get, Level, OpId, Put, ReadLocal,
    Repair, Request, RequestFrame, Resolve, SLOPPY_COUNT_MAX, Scan, ScanToken, SessionGet,
    StrictLevel, Verify,
};
pub use response::{
    Applied, DeclaredLost, DumpPage, Failure, HintStatus, ItemResult, KeyspaceHoldings,
    KeyspaceInfo, LocalRecord, LossDeclared, NodeInfo, NodeStatus, PairStatus, PeerStatus,
    PurgeStatus, Read, Repaired, ReplicaReport, ReplicaState, Response, ResponseFrame, ScanPage,
    ScanRecord, Stamp, TopologyInfo, Value, Verified, VerifyFault,
};

pub use split::FrameSplitter;

/// Protocol name and version that a client offers in its TLS handshake.
pub const ALPN_CLIENT: &[u8] = b"quorate/1";

/// Protocol name and version between nodes.
pub const ALPN_PEER: &[u8] = b"quorate-peer/1";

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;

/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// Longest context token, in bytes: the context's limit of 64 KiB, and the operations that its
/// reader has seen, 25 bytes each, with their envelope.
pub const TOKEN_BYTES_MAX: usize = 80 * 1024;

/// Most context tokens of one [`SessionGet`].
pub const COVERS_MAX: usize = 32;

/// Most items of a batch.
pub const BATCH_ITEMS_MAX: usize = 1_000;

/// Most records of a page of a scan.
pub const SCAN_RECORDS_MAX: usize = 1_000;

/// Longest request that a node accepts.
pub const FRAME_BYTES_MAX: usize = 5 * 1024 * 1024;

/// Longest response that a client accepts: a get works even where merging has made a record larger
/// than a put may leave it.
pub const RESPONSE_BYTES_MAX: usize = 64 * 1024 * 1024;
