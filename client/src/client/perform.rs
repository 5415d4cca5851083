//! One operation, from its first attempt to its outcome.
//!
//! The loop asks `route` for a node, sends, adds what came of it to `outcome`, and asks `retry`
//! what follows. An attempt may be joined by a hedge (`hedge`). The loop decides nothing
//! itself. All attempts of a write carry one op id.
//!
//! Not here: those decisions; what is remembered and told (`progress`); how a request travels
//! (`transport`).

use std::time::Duration;

use quorate_ring::planted::{Bug, planted};
use quorate_ring::{KeyspaceMode, MonoTime, NodeId};
use tokio::time::sleep;
use tracing::Instrument;

use super::operation::{Diagnose, Done, IfSuperseded, Operation, wire_level};
use super::progress::{Ended, Progress};
use super::{Client, InFlight, lock};
use crate::error::{Failure, LinkPhase};
use crate::op_id::AttemptMark;
use crate::retry::{GiveUp, RetryDecision, attempt_timeout, decide};
use crate::route::Kind;
use crate::topology::Topology;
use crate::transport::{CallCause, CallError};
use crate::versions::{Read, Written};
use crate::wire::{self, Code, Response, Stamp};

/// How much later than the transport the SDK itself stops waiting: the transport knows better
/// whether the request was sent, so it answers first.
pub(super) const GRACE: Duration = Duration::from_millis(5);

/// What all attempts of an operation have in common.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) topology: &'a Topology,
    pub(super) operation: &'a Operation,
    pub(super) level: wire::Level,
}

impl Asked<'_> {
    pub(super) fn kind(self) -> Kind {
        if self.operation.is_scan() {
            Kind::Page
        } else if self.operation.is_write() {
            Kind::Write
        } else {
            Kind::Read
        }
    }
}

/// Whether an attempt goes out by itself or beside one that is under way.
#[derive(Clone, Copy)]
pub(super) enum Turn {
    Alone,
    Hedge,
}

/// One attempt that goes out.
pub(super) struct Sent {
    pub(super) node: NodeId,
    pub(super) mark: AttemptMark,
    /// Its stamp in an lww keyspace.
    stamp: Option<u64>,
    pub(super) at: MonoTime,
    pub(super) link: LinkPhase,
    limit: Duration,
    /// When its answer is not waited for any longer.
    pub(super) over: MonoTime,
}

impl Sent {
    /// When and how it went out.
    pub(super) const fn way(&self) -> (MonoTime, LinkPhase) {
        (self.at, self.link)
    }

    /// A hedge takes no more of the deadline than the attempt that it joins.
    pub(super) fn shorten(&mut self, joined: &Self) {
        self.limit = self.limit.min(joined.limit);
        self.over = self.at + self.limit + GRACE;
    }
}

impl Client {
    /// Carries out an operation within its deadline, in a span of its own.
    pub(crate) async fn perform(&self, operation: Operation) -> Result<Done, Box<Failure>> {
        let span = tracing::debug_span!(
            "quorate",
            operation = %operation.kind(),
            keyspace = &*operation.keyspace,
            level = %operation.level,
            outcome = tracing::field::Empty,
            attempts = tracing::field::Empty,
        );
        let kind = operation.kind();
        let from = self.now();
        // Pinned where it is: the span then wraps a reference, and the large future is not moved.
        let carried = std::pin::pin!(self.carry_out_in_turn(operation, from));
        let done = carried.instrument(span.clone()).await;
        let failed = done.as_ref().err().map(|failure| failure.outcome);
        let metrics = &self.shared.metrics;
        metrics.ended(kind, failed, self.now().since(from));
        match &done {
            Ok(_) => span.record("outcome", "ok"),
            Err(failure) => span
                .record("outcome", tracing::field::debug(failure.outcome))
                .record("attempts", failure.attempt_count),
        };
        done
    }

    async fn carry_out_in_turn(
        &self,
        operation: Operation,
        from: MonoTime,
    ) -> Result<Done, Box<Failure>> {
        let Some(_turn) = self.shared.turns.take(operation.deadline).await else {
            let until = from + operation.deadline;
            let progress = Progress::start(self, from, until, None);
            let (now, topology) = (self.now(), self.topology());
            return Err(progress.failure(now, &topology, &operation, GiveUp::NoTurn));
        };
        self.carry_out(operation, from).await
    }

    async fn carry_out(&self, operation: Operation, from: MonoTime) -> Result<Done, Box<Failure>> {
        let until = from + operation.deadline;
        let stamp = self.stamp_for(&operation);
        let mut done = self.perform_once(&operation, from, until, stamp).await?;
        let writes_again = operation.if_superseded == IfSuperseded::WriteAgain;
        while let Done::Written(written) = &done
            && let Some(Stamp { stamp, feed }) = written.superseded_by()
            && writes_again
            && let now = self.now()
            && now < until
        {
            let above = lock(&self.shared.stamps).stamp_above(stamp, feed);
            // The write so far was applied, whatever becomes of the next one.
            let again = self.perform_once(&operation, now, until, Some(above)).await;
            let Ok(Done::Written(again)) = again else {
                break;
            };
            done = Done::Written(again.after_attempts(written.attempts()));
        }
        Ok(done)
    }

    /// The stamp of a write, if its keyspace wants one.
    pub(super) fn stamp_for(&self, operation: &Operation) -> Option<u64> {
        let mode = self.topology().mode(&operation.keyspace);
        let stamped = operation.is_write() && mode == Some(KeyspaceMode::Lww);
        stamped.then(|| lock(&self.shared.stamps).stamp())
    }

    async fn perform_once(
        &self,
        operation: &Operation,
        from: MonoTime,
        until: MonoTime,
        stamp: Option<u64>,
    ) -> Result<Done, Box<Failure>> {
        let level = self.checked_level(operation)?;
        let mut progress = Progress::start(self, from, until, stamp);
        let mut now = self.now();
        lock(&self.shared.hedges).begun();
        let gave_up = loop {
            if progress.until <= now {
                break GiveUp::Deadline;
            }
            if progress.is_unsent() && self.holds_back(now) {
                break GiveUp::HeldBack;
            }
            let topology = self.topology();
            let Some(node) = self.choose(now, &topology, operation, &mut progress) else {
                break GiveUp::Final;
            };
            let asked = Asked {
                topology: &topology,
                operation,
                level,
            };
            let (node, answer) = self.attempt(asked, now, node, &mut progress).await;
            let ended = match answer {
                Ok(done) => {
                    lock(&self.shared.budget).succeeded();
                    // A hedge counts, whoever won: both may have written.
                    let done = done.with_attempts(progress.write.count());
                    return Ok(match operation.attempts.diagnose {
                        Diagnose::No => done,
                        Diagnose::Yes => {
                            let node = topology.node_label(node);
                            done.with_diagnostics(progress.diagnostics(self.now(), node))
                        }
                    });
                }
                Err(ended) => ended,
            };
            let failure = ended.for_retry();
            progress.note(self.now(), &topology, node, ended, operation);
            let most = operation.attempts.count_max.unwrap_or(u16::MAX);
            if progress.write.count() >= most {
                break GiveUp::Attempts;
            }
            let situation = progress.situation(self, &topology, operation);
            let decision = decide(failure, &situation);
            if let Some(gave_up) = self.follow(decision, node, &mut progress).await {
                break gave_up;
            }
            now = self.now();
        };
        Err(progress.failure(self.now(), &self.topology(), operation, gave_up))
    }

    pub(super) fn checked_level(&self, operation: &Operation) -> Result<wire::Level, Box<Failure>> {
        let topology = self.topology();
        let holds = operation.has_write_level();
        let fits = topology.level_fits(&operation.keyspace, operation.level, holds);
        wire_level(operation.level)
            .filter(|_| fits)
            .ok_or_else(|| operation.refused(Code::LevelImpossible, 0))
    }

    /// The node to ask next; starts another round when all were tried.
    pub(super) fn choose(
        &self,
        now: MonoTime,
        topology: &Topology,
        operation: &Operation,
        progress: &mut Progress,
    ) -> Option<NodeId> {
        let chosen = self.untried(now, topology, operation, progress);
        let chosen = chosen.or_else(|| {
            progress.tried.clear();
            progress.rounds += 1;
            self.untried(now, topology, operation, progress)
        });
        progress.tried.extend(chosen);
        chosen
    }

    /// The best of the nodes that this round has not asked, those that are said to be down last.
    pub(super) fn untried(
        &self,
        now: MonoTime,
        topology: &Topology,
        operation: &Operation,
        progress: &Progress,
    ) -> Option<NodeId> {
        let primaries = topology.primaries(&operation.keyspace, &operation.key);
        let nodes = topology.nodes();
        let transport = &self.shared.transport;
        let is_connected = |node| {
            let endpoint = topology.endpoint(node);
            endpoint.is_some_and(|endpoint| transport.is_connected(endpoint))
        };
        let is_tried = |node| progress.tried.contains(&node);
        let is_down = |node| progress.down.contains(&node);
        let mut routes = lock(&self.shared.routes);
        let may_do = |node| !is_tried(node) && !is_down(node);
        routes
            .pick(now, primaries, nodes, may_do, is_connected)
            .or_else(|| routes.pick(now, primaries, nodes, |node| !is_tried(node), is_connected))
    }

    /// Says how the next attempt goes out, to the node that was just chosen.
    pub(super) fn sent(
        &self,
        asked: Asked<'_>,
        now: MonoTime,
        node: NodeId,
        turn: Turn,
        progress: &mut Progress,
    ) -> Sent {
        // The node just chosen counts as tried already.
        let nodes = asked.topology.nodes().len();
        let untried = (nodes + 1).saturating_sub(progress.tried.len());
        let limit = attempt_timeout(progress.until.since(now), untried, nodes);
        let limit = limit.min(asked.operation.attempts.deadline.unwrap_or(limit));
        let endpoint = asked.topology.endpoint(node);
        let link = if endpoint.is_some_and(|to| self.shared.transport.is_connected(to)) {
            LinkPhase::Open
        } else {
            LinkPhase::Handshake
        };
        progress.sent = (now, link);
        let age = now.since(*progress.first_sent.get_or_insert(now));
        let mark = match turn {
            Turn::Alone => progress.write.next(age, || self.draw_op_id()),
            Turn::Hedge => progress.write.hedge(age, || self.draw_op_id()),
        };
        if planted(Bug::RetryStampsAnew) && mark.number > 1 && progress.stamp.is_some() {
            progress.stamp = Some(lock(&self.shared.stamps).stamp());
        }
        Sent {
            node,
            mark,
            stamp: progress.stamp,
            at: now,
            link,
            limit,
            over: now + limit + GRACE,
        }
    }

    /// One request and its answer; the caller stops waiting when it is over.
    pub(super) async fn exchange(
        &self,
        asked: Asked<'_>,
        sent: &Sent,
        in_flight: &mut InFlight<'_>,
    ) -> Result<Done, Ended> {
        let Asked {
            topology,
            operation,
            level,
        } = asked;
        let unknown_node = || Ended::NoAnswer(CallError::NotSent(CallCause::Malformed));
        let endpoint = topology.endpoint(sent.node).ok_or_else(unknown_node)?;
        let request = operation.request(level, sent.mark, sent.stamp);
        let answer = self.shared.transport.call(endpoint, request, sent.limit);
        let ended = match answer.await {
            Ok(Response::Read(read)) if !operation.has_write_level() && !operation.is_scan() => {
                in_flight.done();
                self.follow_stamp(read.stamp);
                return Ok(Done::Read(Read::from_wire(read)));
            }
            Ok(Response::Applied(applied)) if operation.has_write_level() => {
                in_flight.done();
                self.follow_stamp(applied.superseded_by);
                let AttemptMark { op_id, number, .. } = sent.mark;
                let op_id = operation.op_id(op_id).unwrap_or(op_id);
                let written = Written::from_wire(applied, op_id, number, sent.stamp);
                return Ok(Done::Written(written));
            }
            Ok(Response::Page(page)) if operation.is_scan() => {
                in_flight.done();
                return Ok(Done::Page(page));
            }
            Ok(Response::Failure(failure)) => {
                if failure.code == Code::StampAhead {
                    lock(&self.shared.stamps).refused();
                }
                Ended::Refused(failure)
            }
            Ok(
                Response::Topology(_)
                | Response::Applied(_)
                | Response::Read(_)
                | Response::Status(_)
                | Response::Local(_)
                | Response::Dump(_)
                | Response::Verified(_)
                | Response::Repaired(_)
                | Response::LossDeclared(_)
                | Response::Page(_)
                | Response::Batch(_),
            ) => Ended::NoAnswer(CallError::Lost(CallCause::Malformed)),
            Err(error) => Ended::NoAnswer(error),
        };
        in_flight.failed(&ended);
        Err(ended)
    }

    pub(super) fn follow_stamp(&self, told: Option<Stamp>) {
        if let Some(Stamp { feed, .. }) = told {
            lock(&self.shared.stamps).observe(feed);
        }
    }

    /// Carries out a decision: `None` after the wait, if there is to be another attempt.
    async fn follow(
        &self,
        decision: RetryDecision,
        node: NodeId,
        progress: &mut Progress,
    ) -> Option<GiveUp> {
        let (after, costs) = match decision {
            RetryDecision::Retry { after, costs } => (after, costs),
            RetryDecision::Refresh { after } => (after, true),
            RetryDecision::GiveUp(gave_up) => return Some(gave_up),
        };
        if costs && !lock(&self.shared.budget).take() {
            return Some(GiveUp::Budget);
        }
        let from = self.now();
        if matches!(decision, RetryDecision::Refresh { .. }) {
            self.refresh_from(node, progress.until.since(self.now()))
                .await;
        }
        if !after.is_zero() {
            sleep(after).await;
        }
        progress.waited += self.now().since(from);
        None
    }
}
