//! How it is done: IO, and nothing that decides.

pub mod admin;
pub mod certs;
pub mod cure;
pub mod drive;
pub mod inbox;
pub mod link;
pub mod metered_disk;
pub mod metrics;
pub mod metrics_catalogue;
pub mod node;
pub mod node_error;
mod pid_file;
pub mod profile;
pub mod run;
mod scrub;
pub mod seam;
pub mod serve;
pub mod store;
pub mod system;
pub mod verify;
