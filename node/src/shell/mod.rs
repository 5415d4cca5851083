//! How it is done: IO, and nothing that decides.

pub mod drive;
pub mod inbox;
pub mod metrics;
pub mod metrics_catalogue;
pub mod node;
pub mod seam;
pub mod serve;
pub mod store;
