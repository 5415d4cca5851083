//! What is done to clusters of real processes, in two sizes: as scripts (`src/bin`) with the
//! numbers that are promised, and as tests that run in seconds.

pub mod hostile;
pub mod import;
pub mod kill_all;
pub mod packages;
pub mod scan;
mod writes;
