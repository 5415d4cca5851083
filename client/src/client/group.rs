//! One request of a batch, and the hedge that joins it when its answer is late.
//!
//! A batch that a node has taken and does not answer costs one hedge, as a single operation does:
//! the same items go to a second node under their op ids, and the first answer that holds outcomes
//! decides. What the other one was about to do counts as lost for every item that did not succeed.
//!
//! Not here: which items go together and what follows an item's failure (`batch`).

use std::pin::pin;
use std::time::Duration;

use quorate_ring::hedge::{ASK_AGAIN_AFTER, Reason};
use quorate_ring::{MonoTime, NodeId};
use tokio::time::timeout_at;

use super::batch::Item;
use super::perform::GRACE;
use super::progress::Ended;
use super::{Client, InFlight, lock};
use crate::op_id::{AttemptMark, Attempts};
use crate::route::{Kind, NodeVerdict};
use crate::topology::Topology;
use crate::transport::{CallCause, CallError};
use crate::wire::{BatchItem, Code, ItemResult, Request, Response};

/// What a node made of a request.
pub(super) type Answer = Result<Response, CallError>;

/// A request of a round, with the items that it carries.
pub(super) struct Group {
    pub(super) node: NodeId,
    /// Places in the batch, and what the request says of them.
    pub(super) items: Vec<(usize, AttemptMark)>,
    pub(super) request: Vec<BatchItem>,
    pub(super) limit: Duration,
}

/// How a group ended.
pub(super) struct GroupEnd {
    /// The request that decides.
    pub(super) told: Told,
    /// The other one, if there were two.
    pub(super) other: Option<Other>,
}

/// One request of a group and what came of it.
pub(super) struct Told {
    pub(super) node: NodeId,
    pub(super) sent: MonoTime,
    pub(super) items: Vec<(usize, AttemptMark)>,
    pub(super) answer: Answer,
}

/// The request of a group that does not decide.
pub(super) struct Other {
    pub(super) node: NodeId,
    pub(super) sent: MonoTime,
    /// `None` if it was still open.
    pub(super) answer: Option<Answer>,
    /// Who took the hedge.
    pub(super) hedge: NodeId,
    /// The attempts of each item, the hedge among them.
    pub(super) writes: Vec<Attempts>,
}

/// The hedge of a group.
struct Hedge {
    node: NodeId,
    at: MonoTime,
    reason: Reason,
    items: Vec<(usize, AttemptMark)>,
    request: Vec<BatchItem>,
    writes: Vec<Attempts>,
}

impl Client {
    /// Sends a group, and sends it to another node too if its own is slow.
    pub(super) async fn send_group(
        &self,
        topology: &Topology,
        items: &[Item],
        group: Group,
    ) -> GroupEnd {
        let sent = self.now();
        let over = sent + group.limit + GRACE;
        lock(&self.shared.hedges).begun();
        let delay = lock(&self.shared.routes).hedge_delay(group.node, Kind::Batch);
        let mut hedge_at = match topology.nodes().len() {
            0 | 1 => over,
            _ => sent + delay,
        };
        let mut in_flight = InFlight::start(self, group.node, Kind::Batch, sent);
        let (node, members, limit) = (group.node, group.items, group.limit);
        let count = members.len();
        let (first, hedged) = {
            let call = self.ask_many(topology, node, group.request, limit, &mut in_flight);
            let mut call = pin!(call);
            loop {
                let until = hedge_at.min(over);
                if let Ok(answer) = timeout_at(self.instant(until), &mut call).await {
                    break (Some(answer), None);
                }
                if until >= over {
                    break (Some(Err(timed_out())), None);
                }
                if let Some(hedge) = self.group_hedge(topology, items, node, &members) {
                    let (first, hedged) = self.race_group(topology, over, call, hedge).await;
                    break (first, Some(hedged));
                }
                hedge_at = until + ASK_AGAIN_AFTER;
            }
        };
        if in_flight.verdict == NodeVerdict::Nothing {
            in_flight.verdict = match first {
                None => NodeVerdict::Outrun,
                Some(_) => NodeVerdict::Broken,
            };
        }
        let alone = |answer: Option<Answer>| Told {
            node,
            sent,
            items: members,
            answer: answer.unwrap_or(Err(timed_out())),
        };
        let Some((hedge, second)) = hedged else {
            return GroupEnd {
                told: alone(first),
                other: None,
            };
        };
        let hedge_decides = second
            .as_ref()
            .is_some_and(|answer| holds_outcomes(answer, count));
        let other = |node, sent, answer| Other {
            node,
            sent,
            answer,
            hedge: hedge.node,
            writes: hedge.writes,
        };
        match second {
            Some(answer) if hedge_decides => GroupEnd {
                told: Told {
                    node: hedge.node,
                    sent: hedge.at,
                    items: hedge.items,
                    answer,
                },
                other: Some(other(node, sent, first)),
            },
            second => GroupEnd {
                told: alone(first),
                other: Some(other(hedge.node, hedge.at, second)),
            },
        }
    }

    /// The hedge away from `node`, if anybody may take one now.
    fn group_hedge(
        &self,
        topology: &Topology,
        items: &[Item],
        node: NodeId,
        members: &[(usize, AttemptMark)],
    ) -> Option<Hedge> {
        let members = members.iter().map(|(index, _)| *index);
        let carried = || members.clone().filter_map(|index| items.get(index));
        if carried().any(Item::has_no_attempt_left) {
            return None;
        }
        let first = carried().next()?;
        let now = self.now();
        let other = self.untried(now, topology, &first.operation, &first.progress)?;
        let reason = lock(&self.shared.routes).hedge_reason(now, node);
        if !lock(&self.shared.hedges).take(now, reason) {
            return None;
        }
        self.shared.metrics.hedged();
        let mut hedge = Hedge {
            node: other,
            at: now,
            reason,
            items: Vec::new(),
            request: Vec::new(),
            writes: Vec::new(),
        };
        for (index, item) in members.clone().zip(carried()) {
            let mut write = item.progress.write.clone();
            let age = now.since(item.progress.first_sent.unwrap_or(now));
            let mark = write.hedge(age, || self.draw_op_id());
            hedge.items.push((index, mark));
            hedge.request.extend(item.request(mark));
            hedge.writes.push(write);
        }
        Some(hedge)
    }

    /// Both requests, until one holds outcomes or both ended; `None` is still open.
    async fn race_group(
        &self,
        topology: &Topology,
        over: MonoTime,
        mut call: std::pin::Pin<&mut impl Future<Output = Answer>>,
        mut hedge: Hedge,
    ) -> (Option<Answer>, (Hedge, Option<Answer>)) {
        let request = std::mem::take(&mut hedge.request);
        let (count, limit) = (request.len(), over.since(hedge.at));
        let mut in_flight = InFlight::start(self, hedge.node, Kind::Batch, hedge.at);
        let (mut first, mut second) = (None, None);
        {
            let asked = self.ask_many(topology, hedge.node, request, limit, &mut in_flight);
            let mut asked = pin!(asked);
            let over = self.instant(over);
            let goes_on = |answer: &Option<Answer>| {
                answer
                    .as_ref()
                    .is_none_or(|answer| !holds_outcomes(answer, count))
            };
            while (first.is_none() || second.is_none()) && goes_on(&first) && goes_on(&second) {
                tokio::select! {
                    biased;
                    answer = timeout_at(over, &mut call), if first.is_none() => {
                        first = Some(answer.unwrap_or(Err(timed_out())));
                    }
                    answer = timeout_at(over, &mut asked), if second.is_none() => {
                        second = Some(answer.unwrap_or(Err(timed_out())));
                    }
                }
            }
        }
        if second.is_none() {
            lock(&self.shared.hedges).lost(hedge.reason);
        } else if in_flight.verdict == NodeVerdict::Nothing {
            in_flight.verdict = NodeVerdict::Broken;
        }
        (first, (hedge, second))
    }

    /// One request and its answer; the caller stops waiting when it is over.
    async fn ask_many(
        &self,
        topology: &Topology,
        node: NodeId,
        request: Vec<BatchItem>,
        limit: Duration,
        in_flight: &mut InFlight<'_>,
    ) -> Answer {
        let unknown_node = || CallError::NotSent(CallCause::Malformed);
        let endpoint = topology.endpoint(node).ok_or_else(unknown_node)?;
        let request = Request::Batch(request);
        let answer = self.shared.transport.call(endpoint, request, limit).await;
        let failed = match &answer {
            Ok(Response::Batch(results)) if !results.iter().all(found_overload) => None,
            Ok(Response::Batch(results)) => results.iter().find_map(|result| match result {
                ItemResult::Failure(failure) => Some(Ended::Refused(failure.clone())),
                ItemResult::Read(_) | ItemResult::Applied(_) => None,
            }),
            Ok(Response::Failure(failure)) => Some(Ended::Refused(failure.clone())),
            Ok(_) => Some(Ended::NoAnswer(CallError::Lost(CallCause::Malformed))),
            Err(error) => Some(Ended::NoAnswer(error.clone())),
        };
        match failed {
            Some(ended) => in_flight.failed(&ended),
            None => {
                lock(&self.shared.budget).succeeded();
                in_flight.done();
            }
        }
        answer
    }
}

/// Whether the node has looked at the items: another node's answer would not be waited for.
fn holds_outcomes(answer: &Answer, count: usize) -> bool {
    match answer {
        Ok(Response::Batch(results)) => {
            results.len() == count && !results.iter().all(found_overload)
        }
        _ => false,
    }
}

fn found_overload(result: &ItemResult) -> bool {
    matches!(result, ItemResult::Failure(f) if f.code == Code::Overloaded)
}

fn timed_out() -> CallError {
    CallError::Lost(CallCause::TimedOut)
}
