//! The simulator: whole clusters, with their real core and shell loops, on one paused runtime.
//!
//! `plan` draws what a seed is, `run` carries it out. `sched` is time; `clock`, `net`,
//! `client_net`, `disk` and `engine` stand where a real node has the system; `cluster` starts and
//! ends processes, `nemesis` brings faults, `workload` asks, `report` tells.

mod client_net;
mod clock;
mod cluster;
mod convert;
mod gate;
mod nemesis;
mod net;
mod plan;
mod rand;
mod report;
mod run;
mod sched;
mod trace;
mod workload;

pub use plan::{Fault, Plan, Workload};
pub use report::{Report, Totals};
pub use run::{RunOptions, run_seed};
