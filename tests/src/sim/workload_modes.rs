//! What clients do beside the usual: lww keyspaces, operations of the wrong mode, values that
//! expire.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use quorate_client::{CallError, IfSuperseded, NodeEndpoint, wire};

use super::plan::Workload;
use super::workload::{SimClient, Target};
use crate::check::{Action, LwwFacts, Outcome, Returned};

/// An hour in microseconds.
const HOUR_US: u64 = 3_600_000_000;
/// A TTL that no run reaches, and a clock that is an hour off does.
const LONG_TTL_US: u64 = HOUR_US / 2;

impl SimClient {
    /// Puts, deletes and reads of hot keys, by a client whose clock jumps.
    pub(super) async fn lww(&mut self) {
        if self.plan.clocks_jump
            && !self.recorder.healed.load(Ordering::Relaxed)
            && self.rand.chance(0.03)
        {
            let far = i64::try_from(self.rand.below(2 * HOUR_US)).unwrap_or(0);
            self.way.machine.set_right();
            self.way
                .machine
                .jump(far - i64::try_from(HOUR_US).unwrap_or(0));
            self.recorder.trace.count("state.client's clock jumped");
        }
        let cold = self.cold();
        let key = match cold {
            Some(cold) => format!("lww-c{cold}"),
            None => format!("lww-{}", self.rand.index(self.plan.hot_keys)),
        };
        let target = Target {
            keyspace: self.plan.sibling_keyspaces,
            key,
            workload: Workload::Lww,
        };
        match self.rand.below(20) {
            0..=8 => self.write_lww(&target, true).await,
            9..=10 => self.write_lww(&target, false).await,
            _ => {
                self.get(&target).await;
            }
        }
    }

    async fn write_lww(&mut self, target: &Target, is_put: bool) {
        let call = self.call(target, true);
        let writes_again = self.rand.chance(0.5);
        let action = if is_put {
            let elements = BTreeSet::new();
            Action::Put { elements }
        } else {
            Action::Delete
        };
        let (op, value) = self
            .recorder
            .invoke(self.number, target, action, None, &call);
        let facts = LwwFacts {
            writes_again,
            ..LwwFacts::default()
        };
        self.recorder.lock().lww.insert(op, facts);
        let keyspace = self.keyspace_of(target);
        let key = target.key.clone();
        let asked = match value {
            Some(value) => keyspace.put_blind(key, value),
            None => keyspace.delete_blind(key),
        };
        let asked = asked.if_superseded(if writes_again {
            IfSuperseded::WriteAgain
        } else {
            IfSuperseded::Tell
        });
        let written = asked.level(call.level).deadline(call.deadline).await;
        self.note_written(target, op, written);
    }

    /// W14: what the SDK refuses, and what only a node can refuse because the SDK would not send
    /// it.
    pub(super) async fn wrong_mode(&mut self) {
        let in_lww = self.rand.chance(0.6);
        let keyspace = if in_lww {
            self.plan.sibling_keyspaces
        } else {
            self.rand.index(self.plan.sibling_keyspaces)
        };
        let target = Target {
            keyspace,
            key: format!("wrong-{}", self.rand.index(self.plan.hot_keys)),
            workload: Workload::WrongMode,
        };
        if self.rand.chance(0.2) {
            self.get(&target).await;
            return;
        }
        let contexts: Vec<_> = self.contexts.values().cloned().collect();
        let seen = self.rand.pick(&contexts).cloned();
        if let Some(seen) = seen.clone().filter(|_| in_lww && self.rand.chance(0.4)) {
            self.put(&target, Some(seen), BTreeSet::new()).await;
            return;
        }
        let call = self.call(&target, true);
        let elements = BTreeSet::new();
        let (op, value) =
            self.recorder
                .invoke(self.number, &target, Action::Put { elements }, None, &call);
        let context = seen
            .filter(|_| in_lww)
            .map(|(_, context)| wire::ContextToken(Bytes::copy_from_slice(context.as_bytes())));
        // In an lww keyspace a stamp is missing or stands beside a context, elsewhere it is too
        // much.
        let stamp = (!in_lww || context.is_some() && self.rand.chance(0.5))
            .then(|| self.way.machine.wall_micros());
        let id = u128::from(self.rand.next_bits()) << 64 | u128::from(self.rand.next_bits());
        let request = wire::Request::Put(wire::Put {
            keyspace: call.keyspace.clone(),
            key: target.key.clone().into(),
            value: value.unwrap_or_default().into(),
            context,
            level: wire::Level::Quorum,
            op_id: wire::OpId(id.to_be_bytes()),
            attempt: 1,
            age_ms: 0,
            stamp,
            ttl_ms: None,
        });
        let nodes: Vec<_> = self.plan.topology.nodes().to_vec();
        let Some(node) = self.rand.pick(&nodes) else {
            return;
        };
        let endpoint = NodeEndpoint {
            id: Some(node.id),
            name: Some(node.name.to_string()),
            address: node.address.clone(),
        };
        let answer = self
            .way
            .transport
            .call(&endpoint, request, call.deadline)
            .await;
        let (outcome, text) = match answer {
            Ok(wire::Response::Failure(failure)) => {
                if failure.code == wire::Code::WrongMode {
                    self.recorder
                        .trace
                        .count("state.wrong mode refused by a node");
                }
                let not_applied = failure.outcome == wire::Outcome::NotApplied;
                let outcome = if not_applied {
                    Outcome::Fail
                } else {
                    Outcome::Info
                };
                (outcome, failure.code.to_string())
            }
            Ok(other) => (Outcome::Ok, format!("{other:?}")),
            // Whatever became of it, it must never be seen.
            Err(error @ (CallError::NotSent(_) | CallError::Lost(_))) => {
                (Outcome::Fail, error.to_string())
            }
        };
        self.recorder.end(op, outcome, Returned::default(), text, 1);
    }

    /// Values that expire soon, late or never, blind and after what was read.
    pub(super) async fn expiring(&mut self) {
        let target = self.hot(Workload::Expiring, "ttl");
        let last = self
            .contexts
            .get(&(target.keyspace, target.key.clone()))
            .cloned();
        if self.rand.chance(0.4) {
            self.get(&target).await;
            return;
        }
        let mut call = self.call(&target, true);
        call.ttl_us = match self.rand.below(10) {
            0..=4 => Some(1_000 * self.rand.between(300, 4_000)),
            5..=7 => Some(LONG_TTL_US),
            _ => None,
        };
        let context = last.filter(|_| self.rand.chance(0.4));
        self.put_with(&target, context, BTreeSet::new(), call).await;
    }
}
