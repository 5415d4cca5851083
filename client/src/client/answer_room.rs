//! How many reads one request to a node should hold, so that all their values fit into its answer.
//!
//! The answer to a batch is bounded, and a node has read what did not fit in vain. What an answer
//! held says how large the next request should be: as many reads as it held, then half as many more
//! each time that all of them fit. While a node's answers fill up it is asked one request at a
//! time.
//!
//! Not here: what a request holds otherwise (`batch`).

use std::collections::BTreeMap;

use quorate_ring::NodeId;

use crate::wire::BATCH_ITEMS_MAX;

/// What is known of one call's nodes; a node whose answers have not filled up is not in it.
#[derive(Debug, Default)]
pub(super) struct AnswerRoom(BTreeMap<NodeId, usize>);

impl AnswerRoom {
    /// Most items of the next request to `node`.
    pub(super) fn items_max(&self, node: NodeId) -> usize {
        self.0.get(&node).copied().unwrap_or(BATCH_ITEMS_MAX)
    }

    /// Whether `node` is asked one request at a time.
    pub(super) fn is_scarce(&self, node: NodeId) -> bool {
        self.0.contains_key(&node)
    }

    /// Of `asked` items of a request to `node`, `left` found no room in the answer.
    pub(super) fn note(&mut self, node: NodeId, asked: usize, left: usize) {
        if left > 0 {
            self.0.insert(node, asked.saturating_sub(left).max(1));
        } else if let Some(held) = self.0.get_mut(&node).filter(|held| asked >= **held) {
            *held += held.div_ceil(2);
            if *held >= BATCH_ITEMS_MAX {
                self.0.remove(&node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_follow_what_answers_hold() {
        let (node, other) = (NodeId(1), NodeId(2));
        let mut room = AnswerRoom::default();
        // (asked, left, most of the next request)
        let steps = [
            (1000, 0, BATCH_ITEMS_MAX),
            (1000, 998, 2),
            (2, 0, 3),
            (3, 1, 2),
            (1, 0, 2),
            (2, 2, 1),
            (1, 0, 2),
            (900, 30, 870),
            (870, 0, BATCH_ITEMS_MAX),
        ];
        for (asked, left, most) in steps {
            room.note(node, asked, left);
            assert_eq!(room.items_max(node), most, "{left} of {asked} left");
            assert_eq!(room.is_scarce(node), most < BATCH_ITEMS_MAX);
        }
        assert_eq!(room.items_max(other), BATCH_ITEMS_MAX);
    }
}
