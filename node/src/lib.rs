//! The server of Quorate: a pure core that decides, and a shell that carries out.
//!
//! `core` holds state machines without IO, clocks or randomness. `shell` does IO and decides
//! nothing. The same core and the same shell loops run in the simulator, over the seams of
//! [`shell::seam`].

pub mod cli;
pub mod config;
pub mod core;
pub mod shell;
