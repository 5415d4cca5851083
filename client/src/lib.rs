//! Client SDK of Quorate, and the wire contract that its nodes implement.

pub mod link;
pub mod wire;
