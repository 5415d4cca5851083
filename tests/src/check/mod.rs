//! Judges a finished run from its history alone: pure, offline, without knowing how the store
//! works.
//!
//! A checker takes the [`History`] and what was found at the end, and returns [`Violation`]s; none
//! returned means passed. Each has tests with planted histories, because a checker that cannot fail
//! proves nothing. All work per key is on small bit sets, so a run of some thousand operations is
//! judged in milliseconds.

mod causal;
mod history;
mod lww;
mod oracle;
mod outcome;
mod replicas;
mod session;
mod set_full;
mod violation;

pub use causal::{Expiring, KeyPasts, WriteSet};
pub use history::{Action, Ending, History, KeyIndex, OpIndex, Operation, Outcome, Returned};
pub use lww::{LwwFacts, check_lww, check_wrong_mode};
pub use oracle::check_final_siblings;
pub use outcome::check_outcomes;
pub use replicas::{Lives, OwnedRecord, ReplicaDump, check_dots, check_growth, check_replicas};
pub use session::check_reads;
pub use set_full::{ElementReport, check_elements};
pub use violation::Violation;
