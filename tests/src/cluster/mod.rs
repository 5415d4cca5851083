//! Clusters of real `quorate` processes on this machine, for tests and scripts.
//!
//! Everything is bounded in time, every process is ended when its value is dropped, and a node also
//! ends when the thread that started it does, however that happens.
//!
//! Only the public surface is used: the command line, its exit codes, `/readyz` and `/metrics`.

mod binary;
mod dump;
mod http;
mod memory;
mod nodes;
mod ports;
mod process;
mod wait;

pub use binary::binary;
pub use dump::dump_of;
pub use http::{Answer, http_get};
pub use memory::Memory;
pub use nodes::{Cluster, NODE_NAMES};
pub use ports::free_base;
pub use process::{NodeProcess, quorate};
pub use wait::{Stopwatch, until};
