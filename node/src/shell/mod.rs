//! How it is done: IO, and nothing that decides.

pub mod seam;
pub mod node;
pub mod node_error;
pub mod serve;
pub mod metrics;
pub mod metrics_catalogue;
