//! Simulated implementations of the node's seams.

pub mod disk;
pub mod engine;
pub mod lab;
mod seeded;

pub use disk::{Crash, DiskFaults, SimDisk};
pub use engine::{EngineFaults, SimEngine};
