//! One operation, from its first attempt to its outcome.
//!
//! The loop asks `route` for a node, sends, adds what came of it to `outcome`, and asks `retry`
//! what follows. It decides nothing itself. All attempts of a write carry one op id.
//!
//! Not here: those decisions; what is remembered and told (`progress`); how a request travels (`transport`).

use std::time::Duration;

use quorate_ring::NodeId;
use tokio::time::{sleep, timeout};

use super::operation::{Done, Operation, wire_level};
use super::progress::{Ended, Progress};
use super::{Client, InFlight, lock};
use crate::error::Failure;
use crate::retry::{GiveUp, RetryDecision, attempt_timeout, decide};
use crate::route::NodeVerdict;
use crate::topology::Topology;
use crate::transport::{CallCause, CallError};
use crate::versions::{Read, Written};
use crate::wire::{self, Code, Response};

/// How much later than the transport the SDK itself stops waiting: the transport knows better
/// whether the request was sent, so it answers first.
pub(super) const GRACE: Duration = Duration::from_millis(5);

impl Client {
    /// Carries out an operation within its deadline.
    pub(crate) async fn perform(&self, operation: Operation) -> Result<Done, Box<Failure>> {
        let level = self.checked_level(&operation)?;
        let mut progress = Progress::start(self, operation.deadline);
        let gave_up = loop {
            if progress.until <= self.now() {
                break GiveUp::Deadline;
            }
            let topology = self.topology();
            let Some(node) = self.choose(&topology, &operation, &mut progress) else {
                break GiveUp::Final;
            };
            let attempt = self.attempt(&topology, &operation, level, node, &mut progress);
            let ended = match attempt.await {
                Ok(done) => {
                    lock(&self.shared.budget).succeeded();
                    return Ok(done);
                }
                Err(ended) => ended,
            };
            let failure = ended.for_retry();
            progress.note(&topology, node, ended, operation.is_write());
            let situation = progress.situation(self, &topology, &operation);
            let decision = decide(failure, &situation);
            if let Some(gave_up) = self.follow(decision, node, &progress).await {
                break gave_up;
            }
        };
        Err(progress.failure(&self.topology(), &operation, gave_up))
    }

    pub(super) fn checked_level(&self, operation: &Operation) -> Result<wire::Level, Box<Failure>> {
        let topology = self.topology();
        let fits = topology.level_fits(&operation.keyspace, operation.level, operation.is_write());
        wire_level(operation.level)
            .filter(|_| fits)
            .ok_or_else(|| operation.refused(Code::LevelImpossible, 0))
    }

    /// The node to ask next; starts another round when all were tried.
    pub(super) fn choose(
        &self,
        topology: &Topology,
        operation: &Operation,
        progress: &mut Progress,
    ) -> Option<NodeId> {
        let now = self.now();
        let primaries = topology.primaries(&operation.keyspace, &operation.key);
        let nodes = topology.nodes();
        let transport = &self.shared.transport;
        let is_connected = |node| {
            let endpoint = topology.endpoint(node);
            endpoint.is_some_and(|endpoint| transport.is_connected(endpoint))
        };
        let mut routes = lock(&self.shared.routes);
        let passed_over = [progress.tried.as_slice(), progress.down.as_slice()].concat();
        let chosen = routes
            .pick(now, primaries, nodes, &passed_over, is_connected)
            .or_else(|| routes.pick(now, primaries, nodes, &progress.tried, is_connected));
        let chosen = chosen.or_else(|| {
            progress.tried.clear();
            progress.rounds += 1;
            routes.pick(now, primaries, nodes, &[], is_connected)
        });
        progress.tried.extend(chosen);
        chosen
    }

    async fn attempt(
        &self,
        topology: &Topology,
        operation: &Operation,
        level: wire::Level,
        node: NodeId,
        progress: &mut Progress,
    ) -> Result<Done, Ended> {
        let now = self.now();
        let unknown_node = || Ended::NoAnswer(CallError::NotSent(CallCause::Malformed));
        let endpoint = topology.endpoint(node).ok_or_else(unknown_node)?;
        // The node just chosen counts as tried already.
        let nodes = topology.nodes().len();
        let untried = (nodes + 1).saturating_sub(progress.tried.len());
        let limit = attempt_timeout(progress.until.since(now), untried, nodes);
        let age = now.since(*progress.first_sent.get_or_insert(now));
        let mark = progress.write.next(age, || self.draw_op_id());
        let mut in_flight = InFlight::start(self, node);
        let request = operation.request(level, mark);
        let call = self.shared.transport.call(endpoint, request, limit);
        let late = |_| CallError::Lost(CallCause::TimedOut);
        let answer = timeout(limit + GRACE, call).await.map_err(late);
        let ended = match answer.and_then(|answer| answer) {
            Ok(Response::Read(read)) if !operation.is_write() && !operation.is_scan() => {
                in_flight.verdict = NodeVerdict::Works;
                return Ok(Done::Read(Read::from_wire(read)));
            }
            Ok(Response::Applied(applied)) if operation.is_write() => {
                in_flight.verdict = NodeVerdict::Works;
                let count = progress.write.count();
                return Ok(Done::Written(Written::from_wire(
                    applied, mark.op_id, count,
                )));
            }
            Ok(Response::Page(page)) if operation.is_scan() => {
                in_flight.verdict = NodeVerdict::Works;
                return Ok(Done::Page(page));
            }
            Ok(Response::Failure(failure)) => Ended::Refused(failure),
            Ok(
                Response::Topology(_)
                | Response::Applied(_)
                | Response::Read(_)
                | Response::Status(_)
                | Response::Local(_)
                | Response::Dump(_)
                | Response::Page(_)
                | Response::Batch(_),
            ) => Ended::NoAnswer(CallError::Lost(CallCause::Malformed)),
            Err(error) => Ended::NoAnswer(error),
        };
        in_flight.verdict = ended.verdict();
        Err(ended)
    }

    /// Carries out a decision: `None` after the wait, if there is to be another attempt.
    async fn follow(
        &self,
        decision: RetryDecision,
        node: NodeId,
        progress: &Progress,
    ) -> Option<GiveUp> {
        let (after, costs) = match decision {
            RetryDecision::Retry { after, costs } => (after, costs),
            RetryDecision::Refresh { after } => (after, true),
            RetryDecision::GiveUp(gave_up) => return Some(gave_up),
        };
        if costs && !lock(&self.shared.budget).take() {
            return Some(GiveUp::Budget);
        }
        if matches!(decision, RetryDecision::Refresh { .. }) {
            self.refresh_from(node, progress.until.since(self.now()))
                .await;
        }
        if !after.is_zero() {
            sleep(after).await;
        }
        None
    }
}
