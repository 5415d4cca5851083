//! A cluster in memory, for examples and for tests of programs that use the SDK.
//!
//! Three nodes, keyspaces `default` (N = 3), siblings and contexts as the real ones show them, op
//! ids that make retries safe, and a few faults on request. It is one shared map: no replicas, no
//! partial failures, nothing durable.
//!
//! Only with the feature `testing`. Not here: the simulator of real nodes (`quorate-tests`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::client::Client;
use crate::transport::{BoxFuture, CallCause, CallError, NodeEndpoint, Transport};
use crate::wire::{
    Applied, Code, ContextToken, Failure, KeyspaceInfo, NodeInfo, OpId, Outcome, Read, Request,
    Response, TopologyInfo, Value,
};

/// Runs an example to its end on a runtime of its own.
///
/// # Panics
/// If it fails.
pub fn block_on(example: impl Future<Output = Result<(), Box<dyn std::error::Error>>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("the system gives a runtime");
    runtime.block_on(example).expect("the example works");
}

/// A client of a new, empty [`FakeCluster`].
///
/// # Panics
/// Outside of a tokio runtime.
#[must_use]
pub fn client() -> Client {
    FakeCluster::new().client(1)
}

/// The topology of a cluster of this many nodes, named `1`, `2`, .., with the keyspace `default`.
#[must_use]
pub fn topology(nodes: u8) -> TopologyInfo {
    let node = |id: u8| NodeInfo {
        id: u32::from(id),
        name: id.to_string(),
        address: format!("127.0.0.1:{}", 7400 + u16::from(id)),
        weight: 1.0,
        zone: String::new(),
    };
    TopologyInfo {
        cluster_id: [7; 16],
        generation: 0,
        number: 1,
        vnodes: 16,
        nodes: (1..=nodes).map(node).collect(),
        keyspaces: vec![KeyspaceInfo {
            id: 1,
            name: "default".to_owned(),
            mode: "siblings".to_owned(),
            copies: nodes.min(3),
        }],
        answered_by: 1,
    }
}

/// What a fake node does instead of answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It cannot be reached.
    Down,
    /// It does what it is asked, and its answer is lost.
    AnswerLost,
    /// It is stuck: it does nothing, and no answer comes before the attempt's time is over.
    Stuck,
    /// It does what it is asked, and its answer comes too late.
    Late,
}

/// A cluster in memory.
#[derive(Debug, Default)]
pub struct FakeCluster {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<Bytes, Record>,
    faults: BTreeMap<String, Fault>,
    calls: Vec<(String, Request)>,
}

#[derive(Debug, Default)]
struct Record {
    last_dot: u64,
    siblings: BTreeMap<u64, Option<Bytes>>,
    ops: BTreeSet<OpId>,
}

impl FakeCluster {
    /// An empty cluster of three nodes.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// A client whose randomness follows from `seed`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn client(self: &Arc<Self>, seed: u64) -> Client {
        Client::with_transport(Arc::clone(self) as Arc<dyn Transport>, topology(3), seed)
            .expect("the topology is a good one")
    }

    /// Breaks the node of that name, or mends it.
    pub fn break_node(&self, node: &str, fault: Option<Fault>) {
        let mut state = self.state();
        match fault {
            Some(fault) => state.faults.insert(node.to_owned(), fault),
            None => state.faults.remove(node),
        };
    }

    /// Every request that was made so far, with the name of the node.
    #[must_use]
    pub fn calls(&self) -> Vec<(String, Request)> {
        self.state().calls.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, node: &str, request: Request) -> Result<Response, CallError> {
        let mut state = self.state();
        let fault = state.faults.get(node).copied();
        state.calls.push((node.to_owned(), request.clone()));
        match fault {
            None => Ok(state.carry_out(request)),
            Some(Fault::Down) => Err(CallError::NotSent(CallCause::Unreachable {
                detail: "connection refused".to_owned(),
            })),
            Some(Fault::Stuck) => Err(CallError::Lost(CallCause::TimedOut)),
            Some(Fault::Late) => {
                state.carry_out(request);
                Err(CallError::Lost(CallCause::TimedOut))
            }
            Some(Fault::AnswerLost) => {
                state.carry_out(request);
                Err(CallError::Lost(CallCause::Closed {
                    detail: "reset".to_owned(),
                }))
            }
        }
    }
}

impl Transport for FakeCluster {
    fn call<'a>(
        &'a self,
        node: &'a NodeEndpoint,
        request: Request,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Response, CallError>> {
        Box::pin(async move {
            let answer = self.answer(node.label(), request);
            if answer == Err(CallError::Lost(CallCause::TimedOut)) {
                tokio::time::sleep(deadline).await;
            }
            answer
        })
    }
}

impl State {
    fn carry_out(&mut self, request: Request) -> Response {
        match request {
            Request::Topology => Response::Topology(topology(3)),
            Request::Get(get) if get.keyspace == "default" => {
                self.records.entry(get.key).or_default().read()
            }
            Request::Put(put) if put.keyspace == "default" => {
                let record = self.records.entry(put.key).or_default();
                record.write(Some(put.value), put.context.as_ref(), put.op_id)
            }
            Request::Delete(delete) if delete.keyspace == "default" => {
                let record = self.records.entry(delete.key).or_default();
                record.write(None, delete.context.as_ref(), delete.op_id)
            }
            Request::Get(_) | Request::Put(_) | Request::Delete(_) => {
                refusal(Code::KeyspaceUnknown)
            }
            Request::Status | Request::ReadLocal(_) | Request::DumpLocal(_) => {
                refusal(Code::RequestInvalid)
            }
        }
    }
}

impl Record {
    fn read(&self) -> Response {
        let values = self.siblings.values().flatten().cloned();
        Response::Read(Read {
            values: values.map(Value).collect(),
            context: token(&self.siblings.keys().copied().collect()),
            replicas: 2,
        })
    }

    fn write(&mut self, value: Option<Bytes>, seen: Option<&ContextToken>, op: OpId) -> Response {
        let Some(mut seen) = seen.map_or_else(|| Some(BTreeSet::new()), dots) else {
            return refusal(Code::ContextInvalid);
        };
        // A duplicate mints nothing.
        if self.ops.insert(op) {
            self.last_dot += 1;
            self.siblings.retain(|dot, _| !seen.contains(dot));
            self.siblings.insert(self.last_dot, value);
        }
        seen.insert(self.last_dot);
        Response::Applied(Applied {
            context: Some(token(&seen)),
            acks: 2,
        })
    }
}

fn token(dots: &BTreeSet<u64>) -> ContextToken {
    // Not empty even for an absent key.
    let dots = std::iter::once(&0).chain(dots);
    ContextToken(dots.flat_map(|dot| dot.to_le_bytes()).collect())
}

fn dots(token: &ContextToken) -> Option<BTreeSet<u64>> {
    let mut dots = BTreeSet::new();
    for chunk in token.0.chunks(8) {
        dots.insert(u64::from_le_bytes(chunk.try_into().ok()?));
    }
    Some(dots)
}

fn refusal(code: Code) -> Response {
    Response::Failure(Failure {
        code,
        outcome: Outcome::NotApplied,
        acks: 0,
        required: 2,
        replicas: Vec::new(),
        retry_after_ms: 0,
        limit: 0,
    })
}
