//! How it is done: IO, and nothing that decides.

pub mod certs;
pub mod inbox;
pub mod link;
pub mod seam;
pub mod serve;
