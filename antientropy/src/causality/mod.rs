//! What a replica knows of one key's writes, and how two replicas' knowledge becomes one.

mod attempt;
mod context;
mod delta;
mod dot;
mod format;
mod lww;
mod merge;
mod op_id;
mod op_list;
mod prune;
mod put;
mod record;
mod seen;
mod state;

pub use attempt::{Attempt, AttemptVerdict, OpStatus, RETRY_TIME_MAX};
pub use context::Context;
pub use delta::Delta;
pub use dot::{COUNTER_MAX, Dot};
pub use format::{DecodeError, Field};
pub use lww::{LwwVersion, LwwWrite};
pub use merge::MergeResult;
pub use op_id::OpId;
pub use op_list::{FLAGGED_MAX, OpList, SUPERSEDED_MAX, SupersededOp};
pub use prune::Prunable;
pub use put::{
    CONTEXT_BYTES_MAX, Minting, Put, PutApplied, PutRefusal, RECORD_BYTES_MAX, SIBLINGS_MAX,
};
pub use record::{Mint, Record, Sibling};
pub use seen::{SeenOp, SeenOps};
pub use state::KeyState;
