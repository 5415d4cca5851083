//! A cluster in memory, for examples and for tests of programs that use the SDK.
//!
//! Three nodes, the keyspace `default` and others on request (N = 3), siblings, contexts, limits
//! and sessions as the real ones show them, op ids that make retries safe, and faults on request:
//! so that a program's own tests can meet siblings, unknown outcomes, lost answers, stale nodes and
//! overload. The client above it is the real one: retries, deadlines, profiles, sessions, `update`.
//! It is one shared map: nothing is durable, and a level is met by whichever node answers.
//!
//! ```
//! # quorate_client::testing::block_on(async {
//! use quorate_client::testing::{FakeCluster, Fault};
//! use quorate_client::{Code, Outcome};
//!
//! let cluster = FakeCluster::new();
//! let users = cluster.client(1).keyspace("default");
//! // Two writers that do not know of each other.
//! users.put_blind("alice", "1").await?;
//! users.put_blind("alice", "2").await?;
//! assert_eq!(users.get("alice").await?.values().len(), 2);
//! // A write whose outcome is unknown.
//! cluster.break_all(Some(Fault::AppliedUnknown));
//! let error = users.put_blind("bob", "1").attempts_max(1).await.expect_err("unknown");
//! assert_eq!((error.outcome(), error.code()), (Outcome::Unknown, Code::QuorumNotReached));
//! // A cluster that sheds load.
//! cluster.break_all(Some(Fault::Refuse(Code::Overloaded)));
//! let error = users.put_blind("bob", "1").attempts_max(1).await.expect_err("shed");
//! assert_eq!(error.outcome(), Outcome::NotApplied);
//! # Ok(()) });
//! ```
//!
//! Only with the feature `testing`. Not here: the simulator of real nodes (`quorate-tests`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::client::Client;
use crate::transport::{BoxFuture, CallCause, CallError, NodeEndpoint, Transport};
use crate::wire::{
    Applied, BatchItem, Code, ContextToken, Failure, ItemResult, KeyspaceInfo, NodeInfo, OpId,
    Outcome, Read, Request, Response, Scan, ScanPage, ScanRecord, ScanToken, TopologyInfo, Value,
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
            ..KeyspaceInfo::default()
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
    /// It does what it is asked, and says that too few replicas confirmed: *unknown*.
    AppliedUnknown,
    /// It does nothing, and says that too few replicas confirmed: *unknown* as well.
    LostUnknown,
    /// It does nothing and refuses with this code: *not applied*.
    Refuse(Code),
    /// It answers gets with what it held when it was broken, unless a session has seen more.
    Stale,
    /// It does what it is asked, this much later, or not at all if the attempt ends before.
    Slow(Duration),
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
    keyspaces: Vec<String>,
    records: Records,
    faults: BTreeMap<String, Fault>,
    /// Faults that each meet one call.
    next: BTreeMap<String, VecDeque<Fault>>,
    /// What stale nodes hold.
    stale: BTreeMap<String, Records>,
    calls: Vec<(String, Request)>,
}

type Records = BTreeMap<(String, Bytes), Record>;

#[derive(Debug, Clone, Default)]
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
        let topology = self.state().topology();
        Client::with_transport(Arc::clone(self) as Arc<dyn Transport>, topology, seed)
            .expect("the topology is a good one")
    }

    /// An empty cluster of three nodes with these keyspaces beside `default`.
    #[must_use]
    pub fn with_keyspaces<'a>(names: impl IntoIterator<Item = &'a str>) -> Arc<Self> {
        let cluster = Self::default();
        cluster.state().keyspaces = names.into_iter().map(str::to_owned).collect();
        Arc::new(cluster)
    }

    /// Breaks the node of that name, or mends it.
    pub fn break_node(&self, node: &str, fault: Option<Fault>) {
        let mut state = self.state();
        state.stale.remove(node);
        if fault == Some(Fault::Stale) {
            let held = state.records.clone();
            state.stale.insert(node.to_owned(), held);
        }
        match fault {
            Some(fault) => state.faults.insert(node.to_owned(), fault),
            None => state.faults.remove(node),
        };
    }

    /// Breaks or mends all nodes.
    pub fn break_all(&self, fault: Option<Fault>) {
        for node in ["1", "2", "3"] {
            self.break_node(node, fault);
        }
    }

    /// Lets the next call to the node of that name meet a fault, once; several wait in order.
    pub fn fail_next(&self, node: &str, fault: Fault) {
        let mut state = self.state();
        state
            .next
            .entry(node.to_owned())
            .or_default()
            .push_back(fault);
    }

    /// Every request that was made so far, with the name of the node.
    #[must_use]
    pub fn calls(&self) -> Vec<(String, Request)> {
        self.state().calls.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node's name; of a seed that was given by its address alone, the name of who listens
    /// there.
    fn name_of(&self, node: &NodeEndpoint) -> String {
        let topology = self.state().topology();
        let listens = topology
            .nodes
            .into_iter()
            .find(|known| node.name.is_none() && known.address == node.address);
        listens.map_or_else(|| node.label().to_owned(), |known| known.name)
    }

    /// The fault that a call to `node` meets.
    fn meet(&self, node: &str, request: &Request) -> Option<Fault> {
        let mut state = self.state();
        state.calls.push((node.to_owned(), request.clone()));
        let once = state.next.get_mut(node).and_then(VecDeque::pop_front);
        once.or_else(|| state.faults.get(node).copied())
    }

    fn answer(
        &self,
        node: &str,
        fault: Option<Fault>,
        request: Request,
    ) -> Result<Response, CallError> {
        let mut state = self.state();
        match fault {
            None | Some(Fault::Slow(_)) => Ok(state.carry_out(request)),
            Some(Fault::Stale) => Ok(state.answer_stale(node, request)),
            Some(Fault::Refuse(code)) => Ok(refusal(code)),
            Some(Fault::LostUnknown) => Ok(unknown()),
            Some(Fault::AppliedUnknown) => {
                state.carry_out(request);
                Ok(unknown())
            }
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
            let name = self.name_of(node);
            let fault = self.meet(&name, &request);
            if fault == Some(Fault::Late) {
                let too_late = self.answer(&name, fault, request);
                tokio::time::sleep(deadline).await;
                return too_late;
            }
            let late = match fault {
                Some(Fault::Stuck) => deadline,
                Some(Fault::Slow(by)) => by.min(deadline),
                _ => Duration::ZERO,
            };
            if !late.is_zero() {
                tokio::time::sleep(late).await;
            }
            if matches!(fault, Some(Fault::Slow(by)) if by >= deadline) {
                return Err(CallError::Lost(CallCause::TimedOut));
            }
            self.answer(&name, fault, request)
        })
    }
}

impl State {
    fn topology(&self) -> TopologyInfo {
        let mut topology = topology(3);
        for name in &self.keyspaces {
            let mut keyspace = topology.keyspaces[0].clone();
            keyspace.id = u32::try_from(topology.keyspaces.len()).unwrap_or(u32::MAX) + 1;
            keyspace.name.clone_from(name);
            topology.keyspaces.push(keyspace);
        }
        topology
    }

    fn record(&mut self, keyspace: String, key: Bytes) -> Result<&mut Record, Code> {
        if keyspace != "default" && !self.keyspaces.contains(&keyspace) {
            return Err(Code::KeyspaceUnknown);
        }
        Ok(self.records.entry((keyspace, key)).or_default())
    }

    fn carry_out(&mut self, request: Request) -> Response {
        self.try_carry_out(request).unwrap_or_else(refusal)
    }

    fn try_carry_out(&mut self, request: Request) -> Result<Response, Code> {
        Ok(match request {
            Request::Topology => Response::Topology(self.topology()),
            Request::Get(get) => self.record(get.keyspace, get.key)?.read(),
            Request::SessionGet(get) => {
                let record = self.record(get.keyspace, get.key)?;
                if record.covers(&get.covers) {
                    record.read()
                } else {
                    refusal(Code::ContextInvalid)
                }
            }
            Request::Put(put) => {
                let record = self.record(put.keyspace, put.key)?;
                record.write(Some(put.value), put.context.as_ref(), put.op_id)
            }
            Request::Delete(delete) => {
                let record = self.record(delete.keyspace, delete.key)?;
                record.write(None, delete.context.as_ref(), delete.op_id)
            }
            Request::Resolve(resolve) => {
                let record = self.record(resolve.keyspace, resolve.key)?;
                record.resolve(resolve.op_id)
            }
            Request::Scan(scan) => self.scan(&scan)?,
            Request::Batch(items) => {
                let one = |item| match item {
                    BatchItem::Put(put) => Request::Put(put),
                    BatchItem::Delete(delete) => Request::Delete(delete),
                    BatchItem::Get(get) => Request::Get(get),
                    BatchItem::SessionGet(get) => Request::SessionGet(get),
                };
                let mut held = 0;
                let results = items.into_iter().map(|item| self.carry_out(one(item)));
                let results = results.map(|response| with_room(response, &mut held));
                Response::Batch(results.filter_map(item_result).collect())
            }
            Request::Status
            | Request::ReadLocal(_)
            | Request::DumpLocal(_)
            | Request::Verify(_)
            | Request::Repair(_)
            | Request::DeclareLost(_) => refusal(Code::RequestInvalid),
        })
    }

    /// Gets as of when the node was broken, unless a session has seen more; everything else as it
    /// is.
    fn answer_stale(&mut self, node: &str, request: Request) -> Response {
        let held = self.stale.get(node).cloned().unwrap_or_default();
        let old = |keyspace: &String, key: &Bytes| {
            let name = (keyspace.clone(), key.clone());
            held.get(&name).cloned().unwrap_or_default()
        };
        match &request {
            Request::Get(get) => old(&get.keyspace, &get.key).read(),
            Request::SessionGet(get) => {
                let record = old(&get.keyspace, &get.key);
                if record.covers(&get.covers) {
                    record.read()
                } else {
                    refusal(Code::SessionBehind)
                }
            }
            Request::Scan(_)
            | Request::Batch(_)
            | Request::Topology
            | Request::Put(_)
            | Request::Delete(_)
            | Request::Resolve(_)
            | Request::Status
            | Request::ReadLocal(_)
            | Request::DumpLocal(_)
            | Request::Verify(_)
            | Request::Repair(_)
            | Request::DeclareLost(_) => self.carry_out(request),
        }
    }
}

/// Bytes of values that the answer to a batch holds.
const BATCH_ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A read whose values find no room behind the `held` bytes of an answer is to be asked for again.
fn with_room(response: Response, held: &mut usize) -> Response {
    let Response::Read(read) = &response else {
        return response;
    };
    let bytes: usize = read.values.iter().map(|Value(value)| value.len()).sum();
    if *held > 0 && *held + bytes > BATCH_ANSWER_BYTES_MAX {
        return refusal(Code::BatchAnswerFull);
    }
    *held += bytes;
    response
}

/// The part of a single answer that a batch can hold.
fn item_result(response: Response) -> Option<ItemResult> {
    match response {
        Response::Applied(applied) => Some(ItemResult::Applied(applied)),
        Response::Read(read) => Some(ItemResult::Read(read)),
        Response::Failure(failure) => Some(ItemResult::Failure(failure)),
        _ => None,
    }
}

impl State {
    /// Positions are sealed by a copy of the range that they are for.
    fn scan(&self, scan: &Scan) -> Result<Response, Code> {
        if scan.keyspace != "default" && !self.keyspaces.contains(&scan.keyspace) {
            return Err(Code::KeyspaceUnknown);
        }
        let end = scan.end.clone().unwrap_or_default();
        let seal = [&scan.start[..], b"\0", &end, b"\0"].concat();
        let from = match &scan.token {
            None => scan.start.clone(),
            Some(ScanToken(token)) => match token.strip_prefix(&seal[..]) {
                Some(position) => Bytes::copy_from_slice(position),
                None => return Err(Code::ScanTokenInvalid),
            },
        };
        let limit = usize::try_from(scan.limit).unwrap_or(usize::MAX);
        let visible = |record: &Record| -> Vec<Value> {
            record
                .siblings
                .values()
                .flatten()
                .cloned()
                .map(Value)
                .collect()
        };
        let inside = |key: &Bytes| scan.end.as_ref().is_none_or(|end| key < end);
        let mut rest = self
            .records
            .range((scan.keyspace.clone(), from)..)
            .take_while(|((keyspace, key), _)| *keyspace == scan.keyspace && inside(key))
            .map(|((_, key), record)| (key, visible(record)))
            .filter(|(_, values)| !values.is_empty());
        let records = rest.by_ref().take(limit).map(|(key, values)| ScanRecord {
            key: key.clone(),
            values,
        });
        let records = records.collect();
        let next = rest
            .next()
            .map(|(key, _)| ScanToken([&seal[..], key].concat().into()));
        Ok(Response::Page(ScanPage { records, next }))
    }
}

impl Record {
    fn covers(&self, tokens: &[ContextToken]) -> bool {
        let known =
            |token| dots(token).is_some_and(|dots| dots.iter().all(|d| *d <= self.last_dot));
        tokens.iter().all(known)
    }

    fn resolve(&self, op: OpId) -> Response {
        if self.ops.contains(&op) {
            return Response::Applied(Applied {
                context: None,
                acks: 2,
                superseded_by: None,
            });
        }
        let mut failure = failure(Code::OperationNotSeen);
        failure.outcome = Outcome::Unknown;
        Response::Failure(failure)
    }

    fn read(&self) -> Response {
        let values = self.siblings.values().flatten().cloned();
        Response::Read(Read {
            values: values.map(Value).collect(),
            context: token(&self.siblings.keys().copied().collect()),
            replicas: 2,
            stamp: None,
        })
    }

    fn write(&mut self, value: Option<Bytes>, seen: Option<&ContextToken>, op: OpId) -> Response {
        let Some(mut seen) = seen.map_or_else(|| Some(BTreeSet::new()), dots) else {
            return refusal(Code::ContextInvalid);
        };
        // A duplicate mints nothing.
        let is_new = !self.ops.contains(&op);
        let left = self.siblings.keys().filter(|dot| !seen.contains(dot));
        if is_new && left.count() >= SIBLINGS_MAX {
            return refusal(Code::TooManySiblings);
        }
        if is_new {
            self.ops.insert(op);
            self.last_dot += 1;
            self.siblings.retain(|dot, _| !seen.contains(dot));
            self.siblings.insert(self.last_dot, value);
        }
        seen.insert(self.last_dot);
        Response::Applied(Applied {
            context: Some(token(&seen)),
            acks: 2,
            superseded_by: None,
        })
    }
}

/// Siblings of a record, as real nodes limit them.
const SIBLINGS_MAX: usize = 100;

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
    Response::Failure(failure(code))
}

fn unknown() -> Response {
    let mut failure = failure(Code::QuorumNotReached);
    failure.outcome = Outcome::Unknown;
    failure.acks = 1;
    Response::Failure(failure)
}

fn failure(code: Code) -> Failure {
    Failure {
        code,
        outcome: Outcome::NotApplied,
        acks: 0,
        required: 2,
        replicas: Vec::new(),
        retry_after_ms: 0,
        limit: 0,
    }
}
