//! The small form in which a put can be replicated: what it added, and not the whole record.
//!
//! Only the type is here. Replicas exchange whole records for now; the wire has the field, so
//! that deltas can come without a new protocol. Applying one will mean: merge {sibling; client
//! context, expired dots, d loose}; if the own `vector[a]` has reached `previous`, raise it to d
//! without superseding anything (`counterexamples.md` V5); else keep d loose, acknowledge, and
//! fetch the record behind.

use super::context::Context;
use super::dot::Dot;
use super::record::Sibling;

/// One put, as its coordinator sends it to replicas that hold the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The new sibling; it has one mint, with dot d of actor a.
    pub sibling: Sibling,
    /// What the client had seen: exactly what the put supersedes, beside `expired`.
    pub client_context: Option<Context>,
    /// Dots of siblings that the put superseded because they had expired by the coordinator's
    /// clock; sorted.
    pub expired: Vec<Dot>,
    /// The dot that a minted before d for this key. `None` if there is none, or if d is loose.
    pub previous: Option<Dot>,
}
