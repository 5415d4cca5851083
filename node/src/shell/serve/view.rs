//! What a running node shows of itself: a snapshot, made by the node's loop, read by anyone.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_client::wire::{HintStatus, NodeStatus};
use quorate_ring::VnodeId;

use crate::core::budget::BudgetStatus;

/// Whether the node serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It listens and has replayed its log, perhaps alone.
    Ready,
    /// Not yet, or not any more; the sentence says why.
    NotReady(String),
}

/// State of a node at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeView {
    /// Name of the node.
    pub name: String,
    /// Whether it serves.
    pub readiness: Readiness,
    /// Vnodes of which it owns a copy, in order.
    pub vnodes_owned: Vec<VnodeId>,
    /// Of these, vnodes for which it counts, in order.
    pub vnodes_counting: Vec<VnodeId>,
    /// What work in the background costs.
    pub background: BudgetStatus,
    /// How long ago the last full pass of the slow read began; since the start, if there was none.
    pub scrub_age: Duration,
    /// The numbers of `status`; `None` until the store is open.
    pub status: Option<NodeStatus>,
}

impl NodeView {
    /// A node that has just been started.
    #[must_use]
    pub fn starting(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            readiness: Readiness::NotReady("starting: the log is being replayed".to_owned()),
            vnodes_owned: Vec::new(),
            vnodes_counting: Vec::new(),
            background: BudgetStatus::default(),
            scrub_age: Duration::ZERO,
            status: None,
        }
    }

    /// Value of the gauge `name` of the catalogue; `None` if it is not one of a view, or not known
    /// yet.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge is a float; sizes stay below 2^52"
    )]
    pub fn gauge(&self, name: &str) -> Option<f64> {
        let ready = self.readiness == Readiness::Ready;
        match name {
            "quorate_ready" => return Some(f64::from(u8::from(ready))),
            "quorate_vnodes_owned" => return Some(self.vnodes_owned.len() as f64),
            "quorate_vnodes_counting" => return Some(self.vnodes_counting.len() as f64),
            "quorate_background_rate" => return Some(self.background.rate as f64),
            "quorate_background_forgiven_bytes" => return Some(self.background.forgiven as f64),
            "quorate_scrub_age_seconds" => return Some(self.scrub_age.as_secs_f64()),
            _ => {}
        }
        let status = self.status.as_ref()?;
        let value = match name {
            "quorate_peers" => status.peers.len() as u64,
            "quorate_peers_up" => status.peers.iter().filter(|peer| peer.up).count() as u64,
            "quorate_exchange_age_seconds" => {
                // One that was never compared is as old as the process.
                let uptime_ms = status.uptime_us / 1_000;
                let ages = status.pairs.iter();
                let ages = ages.map(|pair| pair.age_ms.unwrap_or(uptime_ms));
                return Some(ages.max().unwrap_or_default() as f64 / 1e3);
            }
            "quorate_purge_waiting" => status.purge.waiting,
            "quorate_purge_blocked_by" => status.purge.blocked_by.len() as u64,
            "quorate_purge_oldest_seconds" => {
                return Some(status.purge.oldest_ms.unwrap_or_default() as f64 / 1e3);
            }
            "quorate_hints" => missed(status).map(|hint| hint.keys).sum(),
            "quorate_hint_bytes" => missed(status).map(|hint| hint.bytes).sum(),
            "quorate_guests" => status.guest_records,
            "quorate_guest_bytes" => status.guest_bytes,
            "quorate_hints_let_go" => status.hints.iter().map(|hint| hint.let_go).sum(),
            "quorate_copies_lacking" => u64::from(status.copies_lacking),
            "quorate_requests_in_flight" => status.requests_in_flight,
            "quorate_durable_lsn" => status.durable_lsn,
            "quorate_applied_lsn" => status.applied_lsn,
            "quorate_table_records" => status.table_records,
            "quorate_table_bytes" => status.table_bytes,
            "quorate_cache_bytes" => status.cache_bytes,
            "quorate_log_bytes" => status.log_bytes,
            "quorate_engine_backlog" => status.engine_backlog,
            "quorate_disk_free_bytes" => status.disk_free_bytes,
            "quorate_disk_full" => u64::from(status.disk_full),
            "quorate_copies_in_doubt" => u64::from(status.copies_in_doubt),
            "quorate_disk_total_bytes" => status.disk_total_bytes,
            "quorate_uptime_seconds" => return Some(status.uptime_us as f64 / 1e6),
            _ => return None,
        };
        Some(value as f64)
    }
}

/// Hints of the kind that promises nothing.
fn missed(status: &NodeStatus) -> impl Iterator<Item = &HintStatus> {
    status.hints.iter().filter(|hint| !hint.counted)
}

/// Where the newest view stands. Cheap to clone; every clone shows the same.
#[derive(Debug, Clone)]
pub struct ViewCell {
    newest: Arc<Mutex<Arc<NodeView>>>,
}

impl ViewCell {
    /// Starts with `view`.
    #[must_use]
    pub fn new(view: NodeView) -> Self {
        Self {
            newest: Arc::new(Mutex::new(Arc::new(view))),
        }
    }

    /// Replaces the view.
    pub fn publish(&self, view: NodeView) {
        let view = Arc::new(view);
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// The newest view.
    #[must_use]
    pub fn newest(&self) -> Arc<NodeView> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&newest)
    }
}
