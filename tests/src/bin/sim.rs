//! Simulator entry.
fn main() {}
