//! The coordinator's part of one page of a scan: whom to ask for which vnodes, and what their
//! answers mean together.
//!
//! Every vnode of the keyspace must be answered for by R owners that count. Owners are taken in one
//! order over all vnodes, this node first, so that few nodes cover the whole ring; each merges its
//! vnodes locally and sends its smallest keys, the first owner of a vnode whole records and the
//! others digests. So a page of K records costs O(K + vnodes) at each node that is asked.
//!
//! The page is complete up to the bound of the shortest answer. A key of which R owners hold the
//! same bytes, or none, is decided: that many replicas hold it durably. A key on which they differ
//! is left to a get of its own, which merges, repairs and keeps quorum reads monotonic. Each record
//! is therefore as a read at the level would show it at some time while the page is made; a scan is
//! not a snapshot.
//!
//! Not here: the replicas' part (`scan_page`), the gets and the answer (`shard::scan`).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::Digest;
use quorate_ring::{MonoTime, NodeId, VnodeId};

use super::failure::{Cause, Effectiveness, Failure, ReplicaPart};
use super::message::ScanPart;
use super::node_set::NodeSet;
use super::scan_page::{RowContent, ScanRow, earlier};
use super::vnode_set::VnodeSet;

/// An owner that has not answered for this long is joined by another one. A page costs an owner a
/// few milliseconds of reading, and a cold disk more.
pub const SCAN_WIDEN_AFTER: Duration = Duration::from_millis(200);
/// When owners that refused or did not count are asked again.
pub const SCAN_ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Rows that are asked for beyond a node's share of the page: shares of few vnodes vary more.
const SHARE_SLACK_ROWS: usize = 16;

/// What a page says about itself when it starts.
#[derive(Debug)]
pub struct ScanPlan {
    /// R.
    pub required: u8,
    /// Most records of the page.
    pub rows_max: usize,
    /// The owners of every vnode, those to ask first in front.
    pub owners: BTreeMap<VnodeId, Vec<NodeId>>,
    /// A single replica's word is enough even if it does not count yet: `one`, from this node.
    pub trusts_uncounted: Option<NodeId>,
    /// When the client stops waiting.
    pub deadline: MonoTime,
}

/// What one node is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Who.
    pub node: NodeId,
    /// Of these vnodes.
    pub vnodes: VnodeSet,
    /// Whole records of these, digests of the others.
    pub whole: VnodeSet,
    /// Most rows.
    pub rows_max: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Ask {
    Open {
        late_at: MonoTime,
        /// It has been joined by others.
        joined: bool,
    },
    Answered(ScanPart),
    Failed,
}

/// What a page wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum ScanStep {
    /// Put question number so and so to its node.
    Ask(u32),
    /// Everything is there: [`ScanMachine::collect`].
    Collect,
    /// Tell the client that it failed.
    Fail(Failure),
}

/// A key of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    /// The user's key.
    pub key: Bytes,
    /// What R replicas hold; `None` if they differ.
    pub agreed: Option<Bytes>,
}

/// One page under way.
#[derive(Debug)]
pub struct ScanMachine {
    plan: ScanPlan,
    asks: Vec<(Question, Ask)>,
    /// Owners that were asked for a vnode and are not to be asked again for now.
    tried: BTreeMap<VnodeId, NodeSet>,
    again_at: Option<MonoTime>,
    done: bool,
}

impl ScanMachine {
    /// A page for which nobody was asked yet.
    #[must_use]
    pub fn new(plan: ScanPlan) -> Self {
        Self {
            plan,
            asks: Vec::new(),
            tried: BTreeMap::new(),
            again_at: None,
            done: false,
        }
    }

    /// Asks the first R owners of each vnode.
    pub fn start(&mut self, now: MonoTime, steps: &mut Vec<ScanStep>) {
        self.cover(now, steps);
    }

    /// What question `ask` is.
    #[must_use]
    pub fn question(&self, ask: u32) -> Option<&Question> {
        let at = usize::try_from(ask).ok()?;
        self.asks.get(at).map(|(question, _)| question)
    }

    /// Questions that `node` has not answered, to be put again when it can be reached anew.
    pub fn waits_for(&self, node: NodeId) -> impl Iterator<Item = u32> + '_ {
        let open = (0..).zip(&self.asks).filter(move |(_, (question, ask))| {
            question.node == node && matches!(ask, Ask::Open { .. })
        });
        open.map(|(number, _)| number)
    }

    /// A node answered a question.
    pub fn answered(
        &mut self,
        now: MonoTime,
        from: NodeId,
        ask: u32,
        part: ScanPart,
        steps: &mut Vec<ScanStep>,
    ) {
        if let Some(open) = self.open(from, ask) {
            *open = Ask::Answered(part);
            self.go_on(now, steps);
        }
    }

    /// A node could not answer a question.
    pub fn refused(&mut self, now: MonoTime, from: NodeId, ask: u32, steps: &mut Vec<ScanStep>) {
        if let Some(open) = self.open(from, ask) {
            *open = Ask::Failed;
            self.go_on(now, steps);
        }
    }

    fn open(&mut self, from: NodeId, ask: u32) -> Option<&mut Ask> {
        let at = usize::try_from(ask).ok()?;
        let (question, ask) = self.asks.get_mut(at)?;
        let is_open = matches!(ask, Ask::Open { .. });
        (!self.done && question.node == from && is_open).then_some(ask)
    }

    fn go_on(&mut self, now: MonoTime, steps: &mut Vec<ScanStep>) {
        let required = usize::from(self.plan.required);
        let complete = self.plan.owners.keys();
        if complete
            .clone()
            .all(|vnode| self.confirmed(*vnode) >= required)
        {
            self.done = true;
            steps.push(ScanStep::Collect);
        } else {
            self.cover(now, steps);
        }
    }

    /// Owners whose answer for a vnode counts.
    fn confirmed(&self, vnode: VnodeId) -> usize {
        let counting = self.asks.iter().filter(|entry| self.counts(entry, vnode));
        counting.count()
    }

    fn counts(&self, (question, ask): &(Question, Ask), vnode: VnodeId) -> bool {
        match ask {
            Ask::Answered(part) => {
                let trusted = self.plan.trusts_uncounted == Some(question.node);
                question.vnodes.contains(vnode) && (trusted || !part.uncounted.contains(vnode))
            }
            Ask::Open { .. } | Ask::Failed => false,
        }
    }

    /// Owners that were asked for a vnode and are not late yet.
    fn on_it(&self, vnode: VnodeId) -> usize {
        let open = self.asks.iter().filter(|(question, ask)| match ask {
            Ask::Open { joined, .. } => !joined && question.vnodes.contains(vnode),
            Ask::Answered(_) | Ask::Failed => false,
        });
        open.count()
    }

    fn is_whole(&self, vnode: VnodeId) -> bool {
        self.asks.iter().any(|(question, ask)| match ask {
            Ask::Open { joined, .. } => !joined && question.whole.contains(vnode),
            Ask::Answered(_) => question.whole.contains(vnode),
            Ask::Failed => false,
        })
    }

    /// Asks more owners wherever fewer than R have answered or are on it.
    fn cover(&mut self, now: MonoTime, steps: &mut Vec<ScanStep>) {
        let required = usize::from(self.plan.required);
        let mut fresh: BTreeMap<NodeId, (VnodeSet, VnodeSet)> = BTreeMap::new();
        let mut short = false;
        for (vnode, owners) in &self.plan.owners {
            let on_it = self.confirmed(*vnode) + self.on_it(*vnode);
            let missing = required.saturating_sub(on_it);
            if missing == 0 {
                continue;
            }
            let mut whole = self.is_whole(*vnode);
            let tried = self.tried.entry(*vnode).or_default();
            let untried = owners.iter().filter(|node| !tried.contains(**node));
            let chosen: Vec<NodeId> = untried.take(missing).copied().collect();
            short |= chosen.len() < missing;
            for node in chosen {
                tried.insert(node);
                let (vnodes, whole_vnodes) = fresh.entry(node).or_default();
                vnodes.insert(*vnode);
                if !whole {
                    whole_vnodes.insert(*vnode);
                    whole = true;
                }
            }
        }
        if short && self.again_at.is_none() {
            self.again_at = Some(now + SCAN_ASK_AGAIN_AFTER);
        }
        for (node, (vnodes, whole)) in fresh {
            let rows_max = self.share(vnodes.len());
            let late_at = now + SCAN_WIDEN_AFTER;
            let number = u32::try_from(self.asks.len()).unwrap_or(u32::MAX);
            let question = Question {
                node,
                vnodes,
                whole,
                rows_max,
            };
            let joined = false;
            self.asks.push((question, Ask::Open { late_at, joined }));
            steps.push(ScanStep::Ask(number));
        }
    }

    /// Rows to ask of a node for its part of the ring: keys are spread evenly over vnodes.
    fn share(&self, vnodes: usize) -> usize {
        let all = self.plan.owners.len().max(1);
        let share = self.plan.rows_max.saturating_mul(vnodes).div_ceil(all);
        (share + share / 4 + SHARE_SLACK_ROWS).min(self.plan.rows_max)
    }

    /// Time passed, or a node went: asks others, asks again, or gives up.
    pub fn tick(
        &mut self,
        now: MonoTime,
        down: impl Fn(NodeId) -> bool,
        steps: &mut Vec<ScanStep>,
    ) {
        if self.done {
            return;
        }
        if now >= self.plan.deadline {
            return self.fail(Cause::QuorumNotReached, &down, steps);
        }
        for (question, ask) in &mut self.asks {
            if let Ask::Open { late_at, joined } = ask {
                *joined |= now >= *late_at || down(question.node);
            }
        }
        if self.again_at.is_some_and(|at| now >= at) {
            self.again_at = None;
            self.forget_refusals();
        }
        if !self.is_possible(&down) {
            return self.fail(Cause::Unavailable, &down, steps);
        }
        self.cover(now, steps);
    }

    /// Owners that did not answer what counts may be asked again; those that are on it are not.
    fn forget_refusals(&mut self) {
        let asks = &self.asks;
        for (vnode, tried) in &mut self.tried {
            let spent: Vec<NodeId> = tried
                .iter()
                .filter(|node| {
                    let mut of_node = asks.iter().filter(|(question, _)| {
                        question.node == *node && question.vnodes.contains(*vnode)
                    });
                    !of_node.any(|(_, ask)| match ask {
                        Ask::Open { .. } => true,
                        Ask::Answered(part) => !part.uncounted.contains(*vnode),
                        Ask::Failed => false,
                    })
                })
                .collect();
            for node in spent {
                tried.remove(node);
            }
        }
    }

    /// Whether enough owners of every vnode are not down.
    fn is_possible(&self, down: &impl Fn(NodeId) -> bool) -> bool {
        let required = usize::from(self.plan.required);
        self.plan.owners.iter().all(|(vnode, owners)| {
            let possible = owners.iter().filter(|node| {
                let confirmed =
                    |entry: &&(Question, Ask)| entry.0.node == **node && self.counts(entry, *vnode);
                !down(**node) || self.asks.iter().find(confirmed).is_some()
            });
            possible.count() >= required
        })
    }

    fn fail(&mut self, cause: Cause, down: &impl Fn(NodeId) -> bool, steps: &mut Vec<ScanStep>) {
        self.done = true;
        let mut parts: BTreeMap<NodeId, ReplicaPart> = BTreeMap::new();
        for node in self
            .plan
            .owners
            .values()
            .flatten()
            .filter(|node| down(**node))
        {
            parts.insert(*node, ReplicaPart::Down);
        }
        for (question, ask) in &self.asks {
            let part = match ask {
                Ask::Answered(part) if part.uncounted.is_empty() => ReplicaPart::Confirmed,
                Ask::Answered(_) | Ask::Failed => ReplicaPart::Refused,
                Ask::Open { .. } if down(question.node) => ReplicaPart::Down,
                Ask::Open { .. } => ReplicaPart::Silent,
            };
            parts.insert(question.node, part);
        }
        let least = self.plan.owners.keys().map(|vnode| self.confirmed(*vnode));
        steps.push(ScanStep::Fail(Failure {
            cause,
            effect: Effectiveness::NotApplied,
            acks: least
                .min()
                .and_then(|acks| u8::try_from(acks).ok())
                .unwrap_or(0),
            required: self.plan.required,
            replicas: parts.into_iter().collect(),
            retry_after_ms: 0,
            limit: 0,
        }));
    }

    /// The keys of the page in order, and the first key that was not looked at; `None` at the end.
    ///
    /// `digest` gives the digest of a whole record of a vnode.
    #[must_use]
    pub fn collect(
        &self,
        digest: impl Fn(VnodeId, &Bytes, &Bytes) -> Digest,
    ) -> (Vec<Collected>, Option<Bytes>) {
        let answers: Vec<(&Question, &ScanPart)> = self
            .asks
            .iter()
            .filter_map(|(question, ask)| match ask {
                Ask::Answered(part) => Some((question, part)),
                Ask::Open { .. } | Ask::Failed => None,
            })
            .collect();
        let bounds = answers.iter().map(|(_, part)| part.until.clone());
        let mut until = bounds.fold(None, earlier);
        let mut keys: BTreeMap<&Bytes, (VnodeId, Vec<&ScanRow>)> = BTreeMap::new();
        for (question, part) in &answers {
            for row in &part.rows {
                let inside = until.as_ref().is_none_or(|until| row.key < *until);
                if inside && question.vnodes.contains(row.vnode) {
                    let (_, rows) = keys.entry(&row.key).or_insert((row.vnode, Vec::new()));
                    rows.push(row);
                }
            }
        }
        if let Some((next, _)) = keys.iter().nth(self.plan.rows_max) {
            until = Some((*next).clone());
        }
        let judge = |(key, (vnode, rows)): (&Bytes, (VnodeId, Vec<&ScanRow>))| {
            let asked = answers.iter().filter(|(q, _)| q.vnodes.contains(vnode));
            let agreed = agreed(key, vnode, &rows, asked.count(), &digest);
            let key = key.clone();
            Collected { key, agreed }
        };
        let page = keys.into_iter().take(self.plan.rows_max).map(judge);
        (page.collect(), until)
    }

    /// When [`ScanMachine::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> MonoTime {
        let late = self.asks.iter().filter_map(|(_, ask)| match ask {
            Ask::Open {
                late_at,
                joined: false,
            } => Some(*late_at),
            Ask::Open { .. } | Ask::Answered(_) | Ask::Failed => None,
        });
        let first = late.chain(self.again_at).min();
        first.map_or(self.plan.deadline, |at| at.min(self.plan.deadline))
    }

    /// Replicas whose word each record of the page has.
    #[must_use]
    pub fn required(&self) -> u8 {
        self.plan.required
    }
}

/// The record that all `asked` replicas hold, if they do.
fn agreed(
    key: &Bytes,
    vnode: VnodeId,
    rows: &[&ScanRow],
    asked: usize,
    digest: &impl Fn(VnodeId, &Bytes, &Bytes) -> Digest,
) -> Option<Bytes> {
    let whole = rows.iter().find_map(|row| match &row.content {
        RowContent::Whole(record) => Some(record),
        RowContent::Digest(_) => None,
    })?;
    let mut same = rows.len() == asked;
    let mut expected = None;
    for row in rows {
        same &= match &row.content {
            RowContent::Whole(record) => record == whole,
            RowContent::Digest(told) => {
                *expected.get_or_insert_with(|| digest(vnode, key, whole)) == *told
            }
        };
    }
    same.then(|| whole.clone())
}

#[cfg(test)]
mod tests;
