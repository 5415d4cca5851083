//! W15: bursts of operations far beyond what the nodes admit, until the faults end.
//!
//! What is shed must be *not applied*, nothing that was acknowledged may be lost, and once the
//! bursts stop every operation must succeed at the usual speed (`run` checks that).

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use quorate_client::{Code, GetError, Read, WriteError, Written};
use tokio::task::JoinSet;

use super::plan::Workload;
use super::workload::{SimClient, Target};
use crate::check::{Action, OpIndex};

/// How a run overloads its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overload {
    /// Requests that a node admits at once.
    pub requests_max: usize,
    /// Operations that each client begins at once.
    pub burst: usize,
}

enum Ended {
    Put(Result<Written, WriteError>),
    Get(Result<Read, GetError>),
}

impl SimClient {
    /// A burst of puts and gets of keys that are written once; one of them after the faults.
    pub(super) async fn overload(&mut self) {
        let healed = self.recorder.healed.load(Ordering::Relaxed);
        let burst = self.plan.overload.map_or(1, |overload| overload.burst);
        let count = if healed { 1 } else { burst };
        let mut open = JoinSet::new();
        for _ in 0..count {
            let written = self.unique;
            let reads = written > 0 && self.rand.chance(0.4);
            let number = if reads {
                self.rand.below(written)
            } else {
                self.unique += 1;
                written
            };
            let target = Target {
                keyspace: self.rand.index(self.plan.sibling_keyspaces),
                key: format!("over-{}-{number}", self.number),
                workload: Workload::Overload,
            };
            self.begin(target, reads, &mut open);
        }
        while let Some(ended) = open.join_next().await {
            match ended {
                Ok((target, op, Ended::Put(written))) => {
                    self.count_shed(written.as_ref().err().map(|e| e.code()));
                    self.note_written(&target, op, written);
                }
                Ok((target, op, Ended::Get(read))) => {
                    self.count_shed(read.as_ref().err().map(|e| e.code()));
                    self.note_read(&target, op, read);
                }
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
    }

    fn begin(&mut self, target: Target, reads: bool, open: &mut JoinSet<(Target, OpIndex, Ended)>) {
        let call = self.call(&target, !reads);
        let action = if reads {
            Action::Get
        } else {
            let elements = BTreeSet::new();
            Action::Put { elements }
        };
        let (op, value) = self
            .recorder
            .invoke(self.number, &target, action, None, &call);
        let keyspace = self.keyspace_of(&target);
        let key = target.key.clone();
        match value {
            Some(value) => {
                let put = keyspace.put_blind(key, value).level(call.level);
                let put = put.deadline(call.deadline);
                open.spawn(async move { (target, op, Ended::Put(put.await)) });
            }
            None => {
                let get = keyspace.get(key).level(call.level).deadline(call.deadline);
                open.spawn(async move { (target, op, Ended::Get(get.await)) });
            }
        }
    }

    fn count_shed(&self, code: Option<Code>) {
        if code == Some(Code::Overloaded) {
            self.recorder.trace.count("state.operation shed");
        }
    }
}
