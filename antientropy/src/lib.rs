//! When two replicas agree: dots, contexts, records, merge and put, digests, trees over them and
//! the walk that finds where they differ, read repair.
//!
//! Pure: no IO, clock, randomness, logs or metrics. Everything here is a function of its
//! arguments; wall time and dots come in as values. `README.md` of this crate explains the
//! algorithm.
//!
//! Not here: who may mint and when an actor ends (`node::core`), who owns a key (`ring`), how a
//! context token is authenticated (`node`), when a record may be purged.

#![warn(clippy::indexing_slicing, clippy::wildcard_enum_match_arm)]

pub mod bucket_digests;
pub mod causality;
pub mod digest;
pub mod exchange;
pub mod holdings;
pub mod purge_numbers;
pub mod read_repair;
pub mod tree;

pub use bucket_digests::{BUCKETS, BucketDigests, BucketDigestsInvalid, SumsCorrection, VnodeSums};
pub use causality::{
    Attempt, AttemptVerdict, CONTEXT_BYTES_MAX, COUNTER_MAX, Context, DecodeError, Delta, Dot,
    FLAGGED_MAX, Field, KeyState, LwwVersion, LwwWrite, MergeResult, Mint, Minting, OpId, OpList,
    OpStatus, Prunable, Put, PutApplied, PutRefusal, RECORD_BYTES_MAX, RETRY_TIME_MAX, Record,
    SIBLINGS_MAX, SUPERSEDED_MAX, SeenOp, SeenOps, Sibling, SupersededOp,
};
pub use digest::{BucketDigest, Digest, DigestChange, DigestSecret};
pub use exchange::{Next, NoAnswer, Question, Walk};
pub use holdings::{Held, Holdings, HoldingsChange, RecordChange};
pub use purge_numbers::{PurgeNumber, PurgeNumbers};
pub use read_repair::{ReadRepair, Reply};
pub use tree::{NodeHash, VnodeTree};
