//! Load tools for Quorate: what is asked (`workload`, `keys`, `values`), what the tool remembers of
//! each key (`tokens`), who asks (`clients`) and how (`fill`, `closed_loop`, `open`, `ycsb`), for
//! how long (`soak`), what is counted (`recorder`, `usage`, `process_usage`, `backlog`), how it is
//! told (`report`), whether two reports differ (`diff`), other systems beside it (`peers`), the
//! machine's own limit (`probe`), what the project's own code costs alone (`core_path`), whether
//! that got worse (`gate`), and what the store costs alone (`store_bench`).
//!
//! The tool shares its machine with the nodes that it measures, and its own CPU time is part of
//! every figure: one current-thread runtime, no work per operation beyond the SDK's call, a draw
//! and a histogram's increment.
//!
//! Not here: benches of single functions (`benches/`).

pub mod args;
pub mod backlog;
pub mod ballast;
pub mod clients;
pub mod clock;
pub mod closed_loop;
pub mod core_path;
pub mod cores;
pub mod diff;
pub mod fill;
pub mod gate;
pub mod keys;
pub mod machine;
pub mod measure;
pub mod nodes;
pub mod open;
pub mod peers;
pub mod probe;
pub mod process_usage;
pub mod progress;
pub mod recorder;
pub mod report;
pub mod scenario;
pub mod soak;
pub mod spawn;
pub mod stages;
pub mod stop;
pub mod store_bench;
pub mod tokens;
pub mod usage;
pub mod usage_report;
pub mod values;
pub mod workload;
pub mod ycsb;
