//! Links to other nodes, over QUIC: one connection per pair of nodes, dialled by the lower number.
//!
//! `format` turns messages into bytes and back, `peer` keeps the connections, `codes` maps causes
//! to their stable numbers, `counters` counts what is refused. The transport itself is shared with
//! clients (`quorate_client::link`).

mod codes;
mod counters;
mod dial;
mod format;
mod peer;

pub use codes::{cause_of, code_of};
pub use counters::LinkCounters;
pub use format::{decode_frame, encode_frame};
pub use peer::{Peer, PeerLinks, PeerLinksConfig};
