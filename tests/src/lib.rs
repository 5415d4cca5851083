//! The simulator, the checkers of histories, and what the tests on real processes need.
//!
//! `sim` runs whole clusters with their real core and shell loops on one seeded, paused runtime.
//! `check` judges what clients saw, `fuzz` mutates what is read from outside. Nothing of the
//! product uses this crate.

pub mod check;
pub mod cluster;
pub mod faults;
pub mod fuzz;
pub mod scenario;
pub mod sim;
