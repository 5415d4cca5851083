//! What a get makes of its replicas' replies: the merged record, and who has to be told.
//!
//! A replica is *current* if it holds exactly the merged record, else *stale*. A replica that has
//! nothing is stale as soon as another one has something. A level that promises monotonic reads
//! answers only when the merged record is durably on a quorum: at first the current replicas,
//! then also those that acknowledged the repair.
//!
//! Not here: which replies count, sending the repair (`node::core`).

use quorate_ring::NodeId;

use crate::causality::{MergeResult, Record};

/// One replica's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The replica.
    pub node: NodeId,
    /// Its durable record; `None` if it has none.
    pub record: Option<&'a Record>,
}

/// What the replies amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRepair {
    /// All replies merged; `None` if no replica has a record.
    pub merged: Option<Record>,
    /// Replicas that hold exactly `merged`, in the order of the replies.
    pub current: Vec<NodeId>,
    /// Replicas that `merged` has to be sent to, in the order of the replies.
    pub stale: Vec<NodeId>,
}

impl ReadRepair {
    /// Merges the replies. Each node replies once.
    #[must_use]
    pub fn of(replies: &[Reply<'_>]) -> Self {
        let mut merged: Option<Record> = None;
        for record in replies.iter().filter_map(|reply| reply.record) {
            merged = Some(match merged {
                None => record.clone(),
                Some(held) => match held.merge(record) {
                    MergeResult::Unchanged => held,
                    MergeResult::TookOther => record.clone(),
                    MergeResult::Merged(both) => both,
                },
            });
        }
        let holds = |reply: &&Reply<'_>| reply.record == merged.as_ref();
        let (current, stale): (Vec<_>, Vec<_>) = replies.iter().partition(holds);
        let nodes =
            |replies: Vec<&Reply<'_>>| replies.into_iter().map(|reply| reply.node).collect();
        Self {
            current: nodes(current),
            stale: nodes(stale),
            merged,
        }
    }

    /// Whether `quorum` replicas held the merged record before any repair.
    #[must_use]
    pub fn is_on_quorum(&self, quorum: usize) -> bool {
        self.current.len() >= quorum
    }

    /// How many of the stale replicas must acknowledge the repair before `quorum` replicas hold
    /// the merged record; 0 if they do already.
    #[must_use]
    pub fn repairs_needed(&self, quorum: usize) -> usize {
        quorum.saturating_sub(self.current.len())
    }
}
