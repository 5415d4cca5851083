//! What disks and the system do to a store, done on purpose to real ones.
//!
//! `script` is the store that it is done to, in a process of its own, with a check of everything
//! that it finds at its start. `life` runs one such process, under strace where a system call of it
//! is to fail or to be its last. `sweep` does that at every such call of the script in turn;
//! `power_sweep` takes from a `trace` of it what a power loss may leave (`power`) at every moment.
//! `flips` harms the disk of one node of a cluster while it is down; `full` fills the disks of one
//! that runs.

mod files;
mod flip_cases;
pub mod flips;
pub mod full;
mod life;
mod power;
pub mod power_sweep;
pub mod script;
pub mod sweep;
mod trace;

pub use files::copy_folder;
pub use life::Program;
