//! The way between clients and nodes: the SDK's `Transport` on one side, `ClientPort` on the other.
//!
//! Requests are lost before execution, answers after it, connections reset with all that is in
//! flight. What a client is told is what it can know: *not sent* only where the node certainly did
//! not get the request.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_client::wire;
use quorate_client::{BoxFuture, CallCause, CallError, NodeEndpoint, Transport};
use quorate_node::core::Input;
use quorate_node::core::input::RequestId;
use quorate_node::core::message::Reply;
use quorate_node::shell::seam::{ClientPort, Clock};
use quorate_node::shell::serve::{AdminRequest, Incoming, incoming_of, response_of, topology_of};
use quorate_ring::{NodeId, Topology};
use tokio::sync::oneshot;

use super::clock::SimClock;
use super::cluster::CLUSTER_ID;
use super::gate::Gate;
use super::net::Inlet;
use super::rand::SimRand;
use super::sched::Scheduler;
use super::trace::Trace;
use super::traffic::Traffic;

/// How the clients' network of a seed behaves.
#[derive(Debug, Clone)]
pub struct ClientTemper {
    /// Median latency of one way.
    pub latency_us: u64,
    /// Probability that a request is lost on its way.
    pub request_lost: f64,
    /// Probability that an answer is lost on its way.
    pub reply_lost: f64,
    /// Probability that a request's connection breaks while it is under way.
    pub reset: f64,
}

/// All connections between clients and nodes. Cheap to clone.
#[derive(Clone)]
pub struct ClientNet {
    shared: Arc<Mutex<State>>,
    topology: Arc<Topology>,
    time: Scheduler,
    trace: Trace,
    traffic: Option<Traffic>,
}

impl fmt::Debug for ClientNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientNet").finish_non_exhaustive()
    }
}

type Answer = oneshot::Sender<Result<wire::Response, CallError>>;

struct State {
    temper: ClientTemper,
    rand: SimRand,
    ports: BTreeMap<NodeId, Port>,
    pending: BTreeMap<RequestId, (NodeId, Answer)>,
    cut: BTreeSet<(usize, NodeId)>,
    connections: BTreeMap<(usize, NodeId), u64>,
    next_connection: u64,
    next_id: u64,
}

#[derive(Clone)]
struct Port {
    inlet: Inlet,
    gate: Gate,
    clock: SimClock,
    life: u64,
}

fn closed(detail: &str) -> CallError {
    CallError::Lost(CallCause::Closed {
        detail: detail.to_owned(),
    })
}

impl ClientNet {
    /// No node runs yet.
    #[must_use]
    pub fn new(
        time: Scheduler,
        trace: Trace,
        temper: ClientTemper,
        topology: Arc<Topology>,
        rand: SimRand,
    ) -> Self {
        Self {
            shared: Arc::new(Mutex::new(State {
                temper,
                rand,
                ports: BTreeMap::new(),
                pending: BTreeMap::new(),
                cut: BTreeSet::new(),
                connections: BTreeMap::new(),
                next_connection: 1,
                next_id: 1,
            })),
            topology,
            time,
            trace,
            traffic: None,
        }
    }

    /// Counts what is asked and answered through this handle and its clones from now on.
    #[must_use]
    pub fn counted_by(self, traffic: Traffic) -> Self {
        Self {
            traffic: Some(traffic),
            ..self
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process of `node` takes requests from now on.
    pub fn start(&self, node: NodeId, life: u64, inlet: Inlet, gate: Gate, clock: SimClock) {
        let mut state = self.lock();
        state.connections.retain(|(_, of), _| *of != node);
        state.ports.insert(
            node,
            Port {
                inlet,
                gate,
                clock,
                life,
            },
        );
    }

    /// The process of `node` is gone; some clients are told, others wait for their deadline.
    pub fn stop(&self, node: NodeId) {
        let told = {
            let mut state = self.lock();
            state.ports.remove(&node);
            let gone: Vec<RequestId> = state
                .pending
                .iter()
                .filter(|(_, (of, _))| *of == node)
                .map(|(id, _)| *id)
                .collect();
            gone.into_iter()
                .filter(|_| state.rand.chance(0.6))
                .collect::<Vec<_>>()
        };
        for id in told {
            self.answer_after(1000, id, Err(closed("connection reset by peer")));
        }
    }

    /// What a process of a node answers through.
    #[must_use]
    pub fn port(&self, node: NodeId, life: u64) -> Arc<dyn ClientPort> {
        Arc::new(NodePort {
            net: self.clone(),
            node,
            life,
        })
    }

    /// What client number `client` asks through.
    #[must_use]
    pub fn transport(&self, client: usize) -> Arc<dyn Transport> {
        Arc::new(ClientTransport {
            net: self.clone(),
            client,
        })
    }

    /// Cuts a client from a node, or heals it.
    pub fn set_cut(&self, client: usize, node: NodeId, cut: bool) {
        let mut state = self.lock();
        if cut {
            state.cut.insert((client, node));
        } else {
            state.cut.remove(&(client, node));
        }
    }

    /// No more losses, resets and cuts.
    pub fn make_perfect(&self) {
        let mut state = self.lock();
        state.cut.clear();
        state.temper.request_lost = 0.0;
        state.temper.reply_lost = 0.0;
        state.temper.reset = 0.0;
    }

    fn answer_after(
        &self,
        delay_us: u64,
        id: RequestId,
        answer: Result<wire::Response, CallError>,
    ) {
        let net = self.clone();
        self.time.after(delay_us, move || {
            let waiting = net.lock().pending.remove(&id);
            if let Some((_, waiting)) = waiting {
                // A client that stopped waiting is gone.
                drop(waiting.send(answer));
            }
        });
    }

    /// Sends a request and returns where its answer comes; an error was not sent.
    fn send(
        &self,
        client: usize,
        node: NodeId,
        request: Incoming,
        budget: Duration,
    ) -> Result<
        (
            RequestId,
            oneshot::Receiver<Result<wire::Response, CallError>>,
        ),
        CallError,
    > {
        let (answer, receiver) = oneshot::channel();
        let mut guard = self.lock();
        let state = &mut *guard;
        let cut = state.cut.contains(&(client, node));
        let Some(port) = state.ports.get(&node).filter(|_| !cut).cloned() else {
            if cut {
                self.trace.count("fault.client-cut");
            }
            return Err(CallError::NotSent(CallCause::Unreachable {
                detail: "no answer to the handshake".to_owned(),
            }));
        };
        let connection = *state.connections.entry((client, node)).or_insert_with(|| {
            state.next_connection += 1;
            state.next_connection
        });
        let id = RequestId {
            connection,
            id: state.next_id,
        };
        state.next_id += 1;
        state.pending.insert(id, (node, answer));
        let latency = state.rand.log_normal(state.temper.latency_us, 0.5);
        let lost = state.rand.chance(state.temper.request_lost);
        let reset = state.rand.chance(state.temper.reset);
        let reset_after = state.rand.below(latency * 6);
        drop(guard);
        if reset {
            self.trace.count("fault.client-reset");
            self.answer_after(reset_after, id, Err(closed("stateless reset")));
        }
        if lost {
            self.trace.count("fault.request-lost");
            return Ok((id, receiver));
        }
        let net = self.clone();
        self.time.after(latency, move || {
            net.deliver(node, &port, id, request, budget)
        });
        Ok((id, receiver))
    }

    fn deliver(
        &self,
        node: NodeId,
        port: &Port,
        id: RequestId,
        request: Incoming,
        budget: Duration,
    ) {
        let same = self
            .lock()
            .ports
            .get(&node)
            .is_some_and(|now| now.life == port.life);
        if !same {
            return;
        }
        self.trace
            .event("request", &[node.0.into(), id.connection, id.id], || {
                format!("{id:?} at {node}: {request:?}")
            });
        let (inlet, clock) = (port.inlet.clone(), port.clock.clone());
        port.gate.pass(move || {
            let (from, deadline) = (id, clock.now() + budget);
            match request {
                Incoming::Data(request) => inlet(Input::Request {
                    from,
                    received: clock.now(),
                    deadline,
                    request,
                }),
                Incoming::Scan(request) => inlet(Input::Scan {
                    from,
                    received: clock.now(),
                    deadline,
                    request,
                }),
                Incoming::Batch(items) => inlet(Input::Batch {
                    from,
                    received: clock.now(),
                    deadline,
                    items,
                }),
                Incoming::Admin(_) => {}
            }
        });
    }

    fn reply(&self, node: NodeId, life: u64, id: RequestId, reply: Reply) {
        let (latency, lost) = {
            let mut guard = self.lock();
            let state = &mut *guard;
            if state.ports.get(&node).is_none_or(|port| port.life != life) {
                return;
            }
            let lost = state.rand.chance(state.temper.reply_lost);
            (state.rand.log_normal(state.temper.latency_us, 0.5), lost)
        };
        self.trace.event(
            "reply",
            &[node.0.into(), id.connection, id.id, lost.into()],
            || format!("{id:?} from {node}: {reply:?}"),
        );
        if lost {
            self.trace.count("fault.reply-lost");
        } else {
            let response = response_of(reply);
            if let Some(traffic) = &self.traffic {
                traffic.response(&response);
            }
            self.answer_after(latency, id, Ok(response));
        }
    }
}

struct NodePort {
    net: ClientNet,
    node: NodeId,
    life: u64,
}

impl fmt::Debug for NodePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodePort({}, life {})", self.node, self.life)
    }
}

impl ClientPort for NodePort {
    fn reply(&self, replies: Vec<(RequestId, Reply)>) {
        for (id, reply) in replies {
            self.net.reply(self.node, self.life, id, reply);
        }
    }
}

struct ClientTransport {
    net: ClientNet,
    client: usize,
}

impl fmt::Debug for ClientTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientTransport({})", self.client)
    }
}

impl ClientTransport {
    async fn exchange(
        &self,
        node: NodeId,
        request: wire::Request,
        deadline: Duration,
    ) -> Result<wire::Response, CallError> {
        if let Some(traffic) = &self.net.traffic {
            traffic.request(&request);
        }
        let request = match incoming_of(request) {
            Incoming::Admin(AdminRequest::Topology) => {
                let topology = topology_of(&self.net.topology, CLUSTER_ID, node);
                let response = wire::Response::Topology(topology);
                if let Some(traffic) = &self.net.traffic {
                    traffic.response(&response);
                }
                return Ok(response);
            }
            // Clients of the simulator ask nodes nothing else about themselves.
            Incoming::Admin(_) => return Err(CallError::NotSent(CallCause::Malformed)),
            request @ (Incoming::Data(_) | Incoming::Scan(_) | Incoming::Batch(_)) => request,
        };
        let (id, receiver) = match self.net.send(self.client, node, request, deadline) {
            Ok(sent) => sent,
            Err(error) => {
                tokio::time::sleep(Duration::from_millis(20).min(deadline)).await;
                return Err(error);
            }
        };
        let answer = tokio::time::timeout(deadline, receiver).await;
        self.net.lock().pending.remove(&id);
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(closed("connection gone")),
            Err(_) => Err(CallError::Lost(CallCause::TimedOut)),
        }
    }
}

impl Transport for ClientTransport {
    fn call<'a>(
        &'a self,
        node: &'a NodeEndpoint,
        request: wire::Request,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<wire::Response, CallError>> {
        Box::pin(async move {
            let by_address = || {
                let nodes = self.net.topology.nodes().iter();
                let mut found = nodes.filter(|n| n.address == node.address);
                found.next().map(|n| n.id)
            };
            let Some(id) = node.id.or_else(by_address) else {
                return Err(CallError::NotSent(CallCause::Address {
                    detail: "no such node".to_owned(),
                }));
            };
            self.exchange(id, request, deadline).await
        })
    }
}
