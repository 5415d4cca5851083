//! What links and listeners count; `shell::metrics` gives it names.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one node's links. All rise only.
#[derive(Debug, Default)]
pub struct LinkCounters {
    /// Frames that could not be read or were out of place; each closed its connection.
    pub hostile_frames: AtomicU64,
    /// Connections refused for the certificate that was shown.
    pub identities_refused: AtomicU64,
    /// Handshakes that did not come to an end.
    pub handshakes_failed: AtomicU64,
    /// Connections refused because there were too many, in all or of one principal.
    pub connections_refused: AtomicU64,
    /// Connections of clients that were accepted.
    pub clients_accepted: AtomicU64,
    /// Links to peers that came up.
    pub links_up: AtomicU64,
    /// Messages to peers that were too long or could not be encoded.
    pub messages_unsendable: AtomicU64,
    /// Sends that were refused because a peer's queue was full.
    pub peer_queue_full: AtomicU64,
    /// Requests answered `OVERLOADED` at the edge.
    pub requests_shed: AtomicU64,
    /// Requests of a kind that this release does not know.
    pub requests_unknown: AtomicU64,
    /// Connections of clients closed because their streams were not opened in time.
    pub streams_not_opened: AtomicU64,
    /// Connections closed because the client did not read its answers.
    pub slow_readers: AtomicU64,
}

impl LinkCounters {
    /// Adds one to `counter`.
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
