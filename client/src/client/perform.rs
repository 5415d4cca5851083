//! One operation, from its first attempt to its outcome.
//!
//! The loop asks `route` for a node, sends, adds what came of it to `outcome`, and asks `retry`
//! what follows. It decides nothing itself. All attempts of a write carry one op id.
//!
//! Not here: those decisions; how a request travels (`transport`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_ring::{ConsistencyLevel, MonoTime, NodeId};
use tokio::time::{sleep, timeout};

use super::{Client, InFlight, lock};
use crate::context::Context;
use crate::error::{Attempt, AttemptEnd, Failure, OperationKind, ReplicaPart};
use crate::op_id::{AttemptMark, Attempts};
use crate::outcome::OutcomeTally;
use crate::retry::{
    AttemptFailure, GiveUp, RetryDecision, RetrySituation, attempt_timeout, decide,
};
use crate::route::NodeVerdict;
use crate::topology::Topology;
use crate::transport::{CallCause, CallError};
use crate::versions::{Read, Written};
use crate::wire::{self, Code, Outcome, Request, Response};

/// How much later than the transport the SDK itself stops waiting: the transport knows better
/// whether the request was sent, so it answers first.
pub(super) const GRACE: Duration = Duration::from_millis(5);

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) keyspace: Arc<str>,
    pub(crate) key: Bytes,
    pub(crate) payload: Payload,
    pub(crate) level: ConsistencyLevel,
    pub(crate) deadline: Duration,
}

/// What is to be done with the key.
#[derive(Debug)]
pub(crate) enum Payload {
    Get,
    Put {
        value: Bytes,
        context: Option<Context>,
    },
    Delete {
        context: Option<Context>,
    },
}

impl Operation {
    pub(crate) const fn kind(&self) -> OperationKind {
        match self.payload {
            Payload::Get => OperationKind::Get,
            Payload::Put { .. } => OperationKind::Put,
            Payload::Delete { .. } => OperationKind::Delete,
        }
    }

    const fn is_write(&self) -> bool {
        match self.payload {
            Payload::Get => false,
            Payload::Put { .. } | Payload::Delete { .. } => true,
        }
    }

    /// A failure before any attempt.
    pub(crate) fn refused(&self, code: Code, limit: usize) -> Failure {
        let mut failure = Failure::local(
            self.kind(),
            &self.keyspace,
            &self.key,
            code,
            self.deadline,
        );
        failure.limit = u64::try_from(limit).unwrap_or(u64::MAX);
        failure
    }

    fn request(&self, level: wire::Level, mark: AttemptMark) -> Request {
        let (keyspace, key) = (self.keyspace.to_string(), self.key.clone());
        let AttemptMark {
            op_id,
            number: attempt,
            age_ms,
        } = mark;
        match &self.payload {
            Payload::Get => Request::Get(wire::Get {
                keyspace,
                key,
                level,
            }),
            Payload::Put { value, context } => Request::Put(wire::Put {
                keyspace,
                key,
                value: value.clone(),
                context: context.as_ref().map(Context::to_wire),
                level,
                op_id,
                attempt,
                age_ms,
            }),
            Payload::Delete { context } => Request::Delete(wire::Delete {
                keyspace,
                key,
                context: context.as_ref().map(Context::to_wire),
                level,
                op_id,
                attempt,
                age_ms,
            }),
        }
    }
}

/// The answer to an operation that succeeded.
pub(crate) enum Done {
    Read(Read),
    Written(Written),
}

impl Done {
    /// The answer to a get.
    pub(crate) fn into_read(self) -> Option<Read> {
        match self {
            Self::Read(read) => Some(read),
            Self::Written(_) => None,
        }
    }

    /// The answer to a write.
    pub(crate) fn into_written(self) -> Option<Written> {
        match self {
            Self::Written(written) => Some(written),
            Self::Read(_) => None,
        }
    }
}

/// How one attempt ended without success.
enum Ended {
    Refused(wire::Failure),
    NoAnswer(CallError),
}

impl Ended {
    /// What became of this attempt alone.
    fn outcome(&self, is_write: bool) -> Outcome {
        match self {
            _ if !is_write => Outcome::NotApplied,
            // A failure that calls itself applied contradicts itself: believe the least.
            Self::Refused(failure) if failure.outcome != Outcome::NotApplied => Outcome::Unknown,
            Self::Refused(_) | Self::NoAnswer(CallError::NotSent(_)) => Outcome::NotApplied,
            Self::NoAnswer(CallError::Lost(_)) => Outcome::Unknown,
        }
    }

    fn verdict(&self) -> NodeVerdict {
        match self {
            Self::Refused(failure) => match failure.code {
                Code::NotReady | Code::ShuttingDown | Code::Overloaded => {
                    NodeVerdict::Busy(advice(failure))
                }
                _ => NodeVerdict::Works,
            },
            Self::NoAnswer(CallError::NotSent(CallCause::Full | CallCause::TooLong)) => {
                NodeVerdict::Works
            }
            Self::NoAnswer(_) => NodeVerdict::Broken,
        }
    }

    fn for_retry(&self) -> AttemptFailure {
        match self {
            Self::Refused(failure) => AttemptFailure::Answered(failure.code, advice(failure)),
            Self::NoAnswer(CallError::NotSent(_)) => AttemptFailure::NotSent,
            Self::NoAnswer(CallError::Lost(_)) => AttemptFailure::Lost,
        }
    }
}

fn advice(failure: &wire::Failure) -> Duration {
    Duration::from_millis(u64::from(failure.retry_after_ms))
}

/// What an operation remembers between its attempts.
struct Progress {
    started: MonoTime,
    until: MonoTime,
    /// When the first attempt went out.
    first_sent: Option<MonoTime>,
    write: Attempts,
    tally: OutcomeTally,
    tried: Vec<NodeId>,
    rounds: u32,
    trail: Vec<Attempt>,
    /// The attempt that decides what the caller is told.
    telling: Option<(Outcome, Ended)>,
}

impl Client {
    /// Carries out an operation within its deadline.
    pub(crate) async fn perform(&self, operation: Operation) -> Result<Done, Failure> {
        let level = self.checked_level(&operation)?;
        let mut progress = Progress::start(self, operation.deadline);
        let gave_up = loop {
            let topology = self.topology();
            let Some(node) = self.choose(&topology, &operation, &mut progress) else {
                break GiveUp::Final;
            };
            let ended = match self.attempt(&topology, &operation, level, node, &mut progress).await
            {
                Ok(done) => {
                    lock(&self.shared.budget).succeeded();
                    return Ok(done);
                }
                Err(ended) => ended,
            };
            let failure = ended.for_retry();
            progress.note(topology.node_label(node), ended, operation.is_write());
            let situation = progress.situation(self, &topology, &operation);
            if let Some(gave_up) = self.follow(decide(failure, &situation), node, &progress).await {
                break gave_up;
            }
        };
        Err(progress.failure(&self.topology(), &operation, gave_up))
    }

    fn checked_level(&self, operation: &Operation) -> Result<wire::Level, Failure> {
        let topology = self.topology();
        let fits = topology.level_fits(&operation.keyspace, operation.level, operation.is_write());
        wire_level(operation.level)
            .filter(|_| fits)
            .ok_or_else(|| operation.refused(Code::LevelImpossible, 0))
    }

    /// The node to ask next; starts another round when all were tried.
    fn choose(
        &self,
        topology: &Topology,
        operation: &Operation,
        progress: &mut Progress,
    ) -> Option<NodeId> {
        let now = self.now();
        let primaries = topology.primaries(&operation.keyspace, &operation.key);
        let nodes = topology.nodes();
        let mut routes = lock(&self.shared.routes);
        let chosen = routes.pick(now, primaries, nodes, &progress.tried);
        let chosen = chosen.or_else(|| {
            progress.tried.clear();
            progress.rounds += 1;
            routes.pick(now, primaries, nodes, &[])
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
        let untried = topology.nodes().len() - progress.tried.len() + 1;
        let limit = attempt_timeout(progress.until.since(now), untried);
        let age = now.since(*progress.first_sent.get_or_insert(now));
        let mark = progress.write.next(age, || self.draw_op_id());
        let mut in_flight = InFlight::start(self, node);
        let request = operation.request(level, mark);
        let call = self.shared.transport.call(endpoint, request, limit);
        let late = |_| CallError::Lost(CallCause::TimedOut);
        let answer = timeout(limit + GRACE, call).await.map_err(late);
        let ended = match answer.and_then(|answer| answer) {
            Ok(Response::Read(read)) if !operation.is_write() => {
                in_flight.verdict = NodeVerdict::Works;
                return Ok(Done::Read(Read::from_wire(read)));
            }
            Ok(Response::Applied(applied)) if operation.is_write() => {
                in_flight.verdict = NodeVerdict::Works;
                let count = progress.write.count();
                return Ok(Done::Written(Written::from_wire(applied, mark.op_id, count)));
            }
            Ok(Response::Failure(failure)) => Ended::Refused(failure),
            Ok(
                Response::Topology(_)
                | Response::Applied(_)
                | Response::Read(_)
                | Response::Status(_)
                | Response::Local(_)
                | Response::Dump(_),
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
            RetryDecision::Refresh => (Duration::ZERO, true),
            RetryDecision::GiveUp(gave_up) => return Some(gave_up),
        };
        if costs && !lock(&self.shared.budget).take() {
            return Some(GiveUp::Budget);
        }
        if decision == RetryDecision::Refresh {
            self.refresh_from(node, progress.until.since(self.now())).await;
        }
        if !after.is_zero() {
            sleep(after).await;
        }
        None
    }
}

impl Progress {
    fn start(client: &Client, deadline: Duration) -> Self {
        let started = client.now();
        Self {
            started,
            until: started + deadline,
            first_sent: None,
            write: client.new_write(),
            tally: OutcomeTally::default(),
            tried: Vec::new(),
            rounds: 0,
            trail: Vec::new(),
            telling: None,
        }
    }

    fn note(&mut self, node: String, ended: Ended, is_write: bool) {
        let outcome = ended.outcome(is_write);
        self.tally.add(outcome);
        let end = match &ended {
            Ended::Refused(failure) => AttemptEnd::Refused {
                code: failure.code,
                outcome,
            },
            Ended::NoAnswer(error) => AttemptEnd::NoAnswer(error.clone()),
        };
        self.trail.push(Attempt { node, end });
        // The newest attempt tells, but none that was not applied takes the word from one that may
        // have been, and one without an answer takes it from no answer.
        let tells = self.telling.as_ref().is_none_or(|(told, before)| {
            let weaker = *told == Outcome::Unknown && outcome == Outcome::NotApplied;
            let mute = matches!(ended, Ended::NoAnswer(_));
            !weaker && !(mute && *told == outcome && matches!(before, Ended::Refused(_)))
        });
        if tells {
            self.telling = Some((outcome, ended));
        }
    }

    fn situation(
        &self,
        client: &Client,
        topology: &Topology,
        operation: &Operation,
    ) -> RetrySituation {
        let now = client.now();
        RetrySituation {
            is_write: operation.is_write(),
            attempts: self.write.count(),
            untried: topology.nodes().len().saturating_sub(self.tried.len()),
            rounds: self.rounds,
            age: now.since(self.first_sent.unwrap_or(self.started)),
            remaining: self.until.since(now),
            random: lock(&client.shared.rand).bits(),
        }
    }

    fn failure(self, topology: &Topology, operation: &Operation, gave_up: GiveUp) -> Failure {
        let mut failure = operation.refused(Code::ConnectFailed, 0);
        failure.outcome = self.tally.outcome();
        failure.gave_up = gave_up;
        failure.attempts = self.trail;
        failure.op_id = operation.is_write().then(|| self.write.op_id());
        match self.telling {
            Some((_, Ended::Refused(told))) => {
                failure.code = told.code;
                failure.acks = told.acks;
                failure.required = told.required;
                failure.limit = told.limit;
                failure.retry_after = Some(advice(&told)).filter(|after| !after.is_zero());
                let part = |report: wire::ReplicaReport| ReplicaPart {
                    node: topology.node_label(NodeId(report.node)),
                    state: report.state,
                };
                failure.replicas = told.replicas.into_iter().map(part).collect();
            }
            Some((_, Ended::NoAnswer(CallError::Lost(CallCause::TimedOut)))) => {
                failure.code = Code::DeadlineExceeded;
            }
            Some((_, Ended::NoAnswer(CallError::Lost(_)))) => failure.code = Code::ConnectionLost,
            Some((_, Ended::NoAnswer(CallError::NotSent(_)))) | None => {}
        }
        failure
    }
}

/// The level as it travels; `None` for a count that does not fit.
const fn wire_level(level: ConsistencyLevel) -> Option<wire::Level> {
    Some(match level {
        ConsistencyLevel::One => wire::Level::One,
        ConsistencyLevel::Two => wire::Level::Two,
        ConsistencyLevel::Quorum => wire::Level::Quorum,
        ConsistencyLevel::All => wire::Level::All,
        ConsistencyLevel::Read(count) | ConsistencyLevel::Write(count) => {
            if count == 0 || count > 127 {
                return None;
            }
            wire::Level::Exactly(count)
        }
    })
}
