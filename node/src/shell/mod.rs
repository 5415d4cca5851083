//! How it is done: IO, and nothing that decides.

pub mod seam;
pub mod store;
