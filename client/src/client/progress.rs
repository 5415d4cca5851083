//! What an operation remembers between its attempts, and what it tells when it fails.
//!
//! Not here: what follows an attempt (`retry`).

use std::time::Duration;

use quorate_ring::{MonoTime, NodeId};

use super::operation::Operation;
use super::{Client, lock};
use crate::diagnostics::Diagnostics;
use crate::error::{Attempt, AttemptEnd, Failure, LinkPhase, ReplicaPart};
use crate::op_id::Attempts;
use crate::outcome::OutcomeTally;
use crate::retry::{AttemptFailure, GiveUp, RetrySituation, is_final};
use crate::route::NodeVerdict;
use crate::throttle::{HELD_BACK_ADVICE, Load};
use crate::topology::Topology;
use crate::transport::{CallCause, CallError};
use crate::wire::{self, Code, Outcome};

/// Attempts of which a failure tells, the newest ones.
const TRAIL_MAX: usize = 64;

/// How one attempt ended without success.
pub(super) enum Ended {
    Refused(wire::Failure),
    NoAnswer(CallError),
}

impl Ended {
    /// What became of this attempt alone.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            // A failure that calls itself applied contradicts itself: believe the least.
            Self::Refused(failure) if failure.outcome != Outcome::NotApplied => Outcome::Unknown,
            Self::Refused(_) | Self::NoAnswer(CallError::NotSent(_)) => Outcome::NotApplied,
            Self::NoAnswer(CallError::Lost(_)) => Outcome::Unknown,
        }
    }

    pub(super) fn verdict(&self) -> NodeVerdict {
        match self {
            Self::Refused(failure) if is_busy(failure.code) => NodeVerdict::Busy(advice(failure)),
            Self::Refused(_) => NodeVerdict::Works,
            Self::NoAnswer(CallError::NotSent(CallCause::Full | CallCause::TooLong)) => {
                NodeVerdict::Works
            }
            Self::NoAnswer(_) => NodeVerdict::Broken,
        }
    }

    /// Whether more requests would make it worse.
    pub(super) fn is_overload(&self) -> bool {
        match self {
            Self::Refused(_) => self.load() == Some(Load::Refused),
            Self::NoAnswer(error) => *error.cause() == CallCause::Full,
        }
    }

    /// What it tells of the load of the node: without an answer, nothing.
    pub(super) fn load(&self) -> Option<Load> {
        match self {
            Self::Refused(failure) if failure.code == Code::Overloaded => Some(Load::Refused),
            Self::Refused(_) => Some(Load::Taken),
            Self::NoAnswer(_) => None,
        }
    }

    /// Whether every node would answer the same.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Refused(failure) => is_final(failure.code),
            Self::NoAnswer(_) => false,
        }
    }

    pub(super) fn for_retry(&self) -> AttemptFailure {
        match self {
            Self::Refused(failure) => AttemptFailure::Answered(failure.code, advice(failure)),
            Self::NoAnswer(CallError::NotSent(_)) => AttemptFailure::NotSent,
            Self::NoAnswer(CallError::Lost(_)) => AttemptFailure::Lost,
        }
    }
}

/// Whether the node says that it cannot serve anything now.
const fn is_busy(code: Code) -> bool {
    matches!(code, Code::NotReady | Code::ShuttingDown | Code::Overloaded)
}

fn advice(failure: &wire::Failure) -> Duration {
    Duration::from_millis(u64::from(failure.retry_after_ms))
}

/// What an operation remembers between its attempts.
pub(super) struct Progress {
    started: MonoTime,
    pub(super) until: MonoTime,
    /// The operation's stamp in an lww keyspace.
    pub(super) stamp: Option<u64>,
    /// When the first attempt went out.
    pub(super) first_sent: Option<MonoTime>,
    pub(super) write: Attempts,
    tally: OutcomeTally,
    pub(super) tried: Vec<NodeId>,
    pub(super) rounds: u32,
    /// Nodes that others said are down: they are asked after those that are not.
    pub(super) down: Vec<NodeId>,
    /// Nodes that answered that too few replicas are up, without advice to wait.
    unavailable: Vec<NodeId>,
    trail: Vec<Attempt>,
    /// Spent between attempts.
    pub(super) waited: Duration,
    /// Where and when the present attempt was sent.
    pub(super) sent: (MonoTime, LinkPhase),
    /// The attempt that decides what the caller is told.
    telling: Option<(Outcome, Ended)>,
}

impl Progress {
    pub(super) fn start(
        client: &Client,
        started: MonoTime,
        until: MonoTime,
        stamp: Option<u64>,
    ) -> Self {
        Self {
            started,
            until,
            stamp,
            first_sent: None,
            write: client.new_write(),
            tally: OutcomeTally::default(),
            tried: Vec::new(),
            rounds: 0,
            down: Vec::new(),
            unavailable: Vec::new(),
            trail: Vec::new(),
            waited: Duration::ZERO,
            sent: (started, LinkPhase::Open),
            telling: None,
        }
    }

    /// Whether no attempt has gone out.
    pub(super) const fn is_unsent(&self) -> bool {
        self.first_sent.is_none()
    }

    pub(super) fn note(
        &mut self,
        now: MonoTime,
        topology: &Topology,
        node: NodeId,
        ended: Ended,
        operation: &Operation,
    ) {
        if let Ended::Refused(told) = &ended
            && told.code == Code::Unavailable
            && told.retry_after_ms == 0
            && !self.unavailable.contains(&node)
        {
            self.unavailable.push(node);
        }
        if let Ended::Refused(told) = &ended {
            let down = told.replicas.iter();
            let down = down.filter(|report| report.state == wire::ReplicaState::Down);
            self.down = down.map(|report| NodeId(report.node)).collect();
        }
        let outcome = operation.outcome_of(ended.outcome());
        self.tally.add(outcome);
        let end = match &ended {
            Ended::Refused(failure) => AttemptEnd::Refused {
                code: failure.code,
                outcome,
            },
            Ended::NoAnswer(error) => AttemptEnd::NoAnswer(error.clone()),
        };
        self.add_to_trail(now, topology.node_label(node), end);
        // The newest attempt tells, but none that was not applied takes the word from one that may
        // have been, and one without an answer takes it from no answer.
        let tells = self.telling.as_ref().is_none_or(|(told, before)| {
            let weaker = *told == Outcome::Unknown && outcome == Outcome::NotApplied;
            let mute = matches!(ended, Ended::NoAnswer(_));
            let said = matches!(before, Ended::Refused(_));
            !(weaker || mute && said && *told == outcome)
        });
        if tells {
            self.telling = Some((outcome, ended));
        }
    }

    fn add_to_trail(&mut self, now: MonoTime, node: String, end: AttemptEnd) {
        if self.trail.len() >= TRAIL_MAX {
            self.trail.remove(0);
        }
        let (sent, link) = self.sent;
        let (after, took) = (sent.since(self.started), now.since(sent));
        tracing::debug!(node, ?after, ?took, ?end, "attempt ended");
        self.trail.push(Attempt {
            node,
            end,
            after,
            took,
            link,
        });
    }

    /// Time since it began.
    pub(super) fn took(&self, now: MonoTime) -> Duration {
        now.since(self.started)
    }

    /// The request sent last was still open when another one succeeded.
    pub(super) fn outrun(&mut self, now: MonoTime, node: String) {
        self.add_to_trail(now, node, AttemptEnd::Outrun);
    }

    /// The way of an operation that succeeded at `node`.
    pub(super) fn diagnostics(mut self, now: MonoTime, node: String) -> Diagnostics {
        self.add_to_trail(now, node, AttemptEnd::Succeeded);
        Diagnostics {
            attempt_count: self.write.count(),
            attempts: self.trail,
            took: now.since(self.started),
            waited: self.waited,
        }
    }

    pub(super) fn situation(
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
            unavailable: self.unavailable.len(),
            age: now.since(self.first_sent.unwrap_or(self.started)),
            remaining: self.until.since(now),
            random: lock(&client.shared.rand).bits(),
        }
    }

    pub(super) fn failure(
        self,
        now: MonoTime,
        topology: &Topology,
        operation: &Operation,
        gave_up: GiveUp,
    ) -> Box<Failure> {
        let mut failure = operation.refused(Code::ConnectFailed, 0);
        failure.outcome = operation.outcome_of(self.tally.outcome());
        failure.gave_up = gave_up;
        failure.attempts = self.trail;
        failure.attempt_count = self.write.count();
        failure.op_id = operation.op_id(self.write.op_id());
        failure.took = now.since(self.started);
        failure.waited = self.waited;
        if matches!(gave_up, GiveUp::HeldBack | GiveUp::NoTurn) && self.telling.is_none() {
            failure.code = Code::Overloaded;
            failure.retry_after = Some(HELD_BACK_ADVICE);
            return failure;
        }
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
            Some((_, Ended::NoAnswer(CallError::Lost(_)))) => {
                failure.code = if gave_up == GiveUp::Deadline {
                    Code::DeadlineExceeded
                } else {
                    Code::ConnectionLost
                };
            }
            Some((_, Ended::NoAnswer(CallError::NotSent(_)))) if gave_up != GiveUp::Deadline => {}
            Some((_, Ended::NoAnswer(CallError::NotSent(_)))) | None => {
                failure.code = Code::DeadlineExceeded
            }
        }
        failure
    }
}
