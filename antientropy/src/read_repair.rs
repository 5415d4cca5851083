//! What a get makes of its replicas' replies: the merged record, and who has to be told.
//!
//! A replica is *current* if it holds exactly the merged record, else *stale*. A replica that has
//! nothing is stale as soon as another one has something. A level that promises monotonic reads
//! answers only when the merged record is durably on a quorum: at first the current replicas,
//! then also those that acknowledged the repair.
//!
//! Not here: which replies count, sending the repair (`node::core`).

use quorate_ring::NodeId;

use crate::causality::{KeyState, MergeResult};

/// One replica's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The replica.
    pub node: NodeId,
    /// Its durable record; `None` if it has none.
    pub record: Option<&'a KeyState>,
}

/// What the replies amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRepair {
    /// All replies merged; `None` if no replica has a record.
    pub merged: Option<KeyState>,
    /// Replicas that hold exactly `merged`, in the order of the replies.
    pub current: Vec<NodeId>,
    /// Replicas that `merged` has to be sent to, in the order of the replies.
    pub stale: Vec<NodeId>,
}

impl ReadRepair {
    /// Merges the replies. Each node replies once.
    #[must_use]
    pub fn of(replies: &[Reply<'_>]) -> Self {
        let mut merged: Option<KeyState> = None;
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_ring::{Actor, Incarnation};

    use super::*;
    use crate::causality::{Attempt, Dot, Minting, OpId, Put, Record};

    const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    fn put(record: &Record, node: u32, counter: u64, blind: bool) -> Record {
        let actor = Actor {
            node: NodeId(node),
            incarnation: Incarnation(1),
        };
        let mut op_id = [0; 16];
        op_id.fill(u8::try_from(counter * 10 + u64::from(node)).expect("small"));
        let put = Put {
            op_id: OpId(op_id),
            attempt: Attempt::First,
            value: Some(Bytes::from_static(b"v")),
            context: (!blind).then(|| record.context().clone()),
            dot: Dot { actor, counter },
            minting: Minting::Primary,
            timestamp: counter,
            expiry: None,
            seen: crate::SeenOps::new(),
            now_wall: None,
        };
        record.put(put).expect("within limits").record
    }

    fn check(records: [Option<&Record>; 3], merged: Option<&Record>, current: &[u32]) {
        let state = |record: Option<&Record>| record.cloned().map(KeyState::Siblings);
        let (records, merged) = (records.map(state), state(merged));
        let replies: Vec<Reply<'_>> = NODES
            .into_iter()
            .zip(&records)
            .map(|(node, record)| Reply {
                node,
                record: record.as_ref(),
            })
            .collect();
        let repair = ReadRepair::of(&replies);
        assert_eq!(repair.merged, merged);
        assert_eq!(
            repair.current.iter().map(|node| node.0).collect::<Vec<_>>(),
            current
        );
        let stale: Vec<NodeId> = NODES
            .into_iter()
            .filter(|node| !repair.current.contains(node))
            .collect();
        assert_eq!(repair.stale, stale);
        assert_eq!(repair.is_on_quorum(2), current.len() >= 2);
        assert_eq!(
            repair.repairs_needed(2),
            2usize.saturating_sub(current.len())
        );
    }

    #[test]
    fn stale_replicas_are_those_that_do_not_hold_the_merged_record() {
        let old = put(&Record::default(), 1, 1, true);
        let new = put(&old, 1, 2, false);
        let left = put(&old, 2, 1, false);
        let both = new.merged(&left);
        check([None, None, None], None, &[1, 2, 3]);
        check([Some(&old), Some(&old), Some(&old)], Some(&old), &[1, 2, 3]);
        check([Some(&old), Some(&new), None], Some(&new), &[2]);
        check([Some(&new), Some(&old), Some(&new)], Some(&new), &[1, 3]);
        check([Some(&new), Some(&left), Some(&old)], Some(&both), &[]);
        check([Some(&new), Some(&left), Some(&both)], Some(&both), &[3]);
    }
}
