//! The simulator, the checkers of histories, and what the tests on real processes need.

pub mod cluster;
pub mod scenario;
pub mod sim;
