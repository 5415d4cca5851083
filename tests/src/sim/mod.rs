//! The simulator: whole clusters, with their real core and shell loops, on one paused runtime.
//!
//! `plan` draws what a seed is, `run` carries it out. `sched` is time; `clock`, `net`,
//! `client_net`, `disk` and `engine` stand where a real node has the system; `cluster` starts and
//! ends processes, `nemesis` brings faults, `workload` asks, `report` tells. `scale` counts, by
//! `traffic`, what an operation costs in clusters of different sizes.

pub mod client_net;
pub mod clock;
pub mod cluster;
pub mod disk;
pub mod engine;
pub mod gate;
pub mod gated;
pub mod lab;
pub mod nemesis;
pub mod net;
pub mod plan;
pub mod rand;
pub mod report;
pub mod run;
pub mod scale;
pub mod sched;
mod seeded;
pub mod trace;
pub mod traffic;
pub mod workload;
mod workload_batch;
mod workload_modes;
mod workload_overload;
mod workload_scan;

pub use disk::{Crash, DiskFaults, SimDisk};
pub use engine::{EngineFaults, SimEngine};
pub use plan::{Fault, Plan, Workload};
pub use report::{Report, Totals};
pub use run::{RunOptions, run_seed};
