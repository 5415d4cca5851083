//! What to do: pure machines of one shard. `step(now, input, &mut effects)`, nothing else.
//!
//! No tokio, quinn, fjall, metrics, clock, random source, file or socket may be used below here.

pub mod admission;
pub mod budget;
pub mod clock_check;
pub mod continuity;
pub mod effect;
pub mod exchange;
pub mod failure;
pub mod generation;
pub mod get;
pub mod guests;
pub mod healing;
pub mod hints;
pub mod input;
pub mod key;
pub mod message;
pub mod node_set;
pub mod packed;
pub mod peer_tail;
pub mod purge;
pub mod put;
pub mod request_queue;
pub mod resolve;
pub mod scan;
pub mod scan_page;
pub mod scan_token;
pub mod seal;
pub mod shard;
pub mod standing;
pub mod table;
pub mod timeline;
pub mod tree_cache;
pub mod verify;
pub mod vnode_set;

pub use effect::{Effect, Effects, Entry};
pub use failure::{Cause, Effectiveness, Failure, ReplicaPart};
pub use input::{Input, LinkEvent, Now, Recovered, StoreEvent};
pub use key::RecordKey;
pub use shard::{Limits, SPARE_MAX, Shard, ShardConfig, ShardStatus};
