//! How it is done: IO, and nothing that decides.

pub mod inbox;
pub mod seam;
pub mod store;
