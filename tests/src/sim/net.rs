//! The network between nodes: connections that come and go, and everything that can go wrong.
//!
//! One connection per pair of nodes at a time, as QUIC gives it: frames of one direction arrive in
//! order and are lost only with the connection. Cut directions hold frames back until they heal or
//! the connection times out at either end. Beside that stands a stronger adversary, drawn per seed:
//! frames overtake each other, arrive twice, or arrive after their connection's end; the core must
//! bear that too. A connection's first frame is its hello and is left alone; a forwarded request is
//! not doubled, because who was told *not applied* relies on links that never do that.
//!
//! Not here: what clients see (`client_net`), which fault comes when (`nemesis`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_node::core::message::{ExchangeAnswer, HeldRecord, PeerHeader, PeerMessage};
use quorate_node::core::{Input, LinkEvent};
use quorate_node::shell::seam::{LinkRefused, Links};
use quorate_ring::NodeId;

use super::gate::Gate;
use super::rand::SimRand;
use super::sched::Scheduler;
use super::trace::Trace;
use super::traffic::Traffic;

/// How much later a late copy of a frame arrives: behind a purge round.
const LATE_US: (u64, u64) = (16_000_000, 40_000_000);

/// A lost connection is tried again this often.
const RETRY_US: u64 = 250_000;
/// Frames that a direction of a connection holds before it is full.
const QUEUE_FRAMES_MAX: usize = 4096;
/// How far behind a thin direction may be before it is full.
const BACKLOG_US_MAX: u64 = 5_000_000;

/// Where a node hears things.
pub type Inlet = Arc<dyn Fn(Input) + Send + Sync>;

/// How the network of a seed behaves when no fault is on.
#[derive(Debug, Clone)]
pub struct NetTemper {
    /// Median latency of one way.
    pub latency_us: u64,
    /// Spread of the latency, see [`SimRand::log_normal`].
    pub sigma: f64,
    /// Probability that a frame overtakes those before it.
    pub reorder: f64,
    /// Probability that a frame arrives twice.
    pub duplicate: f64,
    /// Probability that a frame arrives although its connection has ended.
    pub stale: f64,
    /// Copies of frames arrive long after them.
    pub late: f64,
    /// Silence after which an end gives a connection up.
    pub idle_us: u64,
}

/// The network. Cheap to clone.
#[derive(Clone)]
pub struct SimNet {
    shared: Arc<Mutex<State>>,
    time: Scheduler,
    trace: Trace,
    traffic: Option<Traffic>,
}

impl fmt::Debug for SimNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimNet").finish_non_exhaustive()
    }
}

struct State {
    temper: NetTemper,
    rand: SimRand,
    ports: BTreeMap<NodeId, Port>,
    pairs: BTreeMap<(NodeId, NodeId), Connection>,
    nodes: Vec<NodeId>,
    /// Directions that carry nothing, each with the number of faults that cut it.
    cut: BTreeMap<(NodeId, NodeId), u32>,
    /// Extra delay of a direction until a time.
    clogged: BTreeMap<(NodeId, NodeId), (u64, u64)>,
    /// Bytes per second of a direction until a time.
    capped: BTreeMap<(NodeId, NodeId), (u64, u64)>,
    next_connection: u64,
    next_link: u64,
}

/// A running process.
struct Port {
    inlet: Inlet,
    gate: Gate,
    life: u64,
}

struct Connection {
    number: u64,
    ends: BTreeMap<NodeId, End>,
}

/// One node's end of a connection, and what travels towards it.
struct End {
    link: u64,
    life: u64,
    open: bool,
    /// When the newest frame towards this end arrives.
    last_us: u64,
    /// Whether the hello towards this end was sent.
    greeted: bool,
    in_flight: usize,
    held: Vec<Frame>,
}

#[derive(Clone)]
struct Frame {
    header: PeerHeader,
    messages: Vec<PeerMessage>,
}

fn pair(a: NodeId, b: NodeId) -> (NodeId, NodeId) {
    (a.min(b), a.max(b))
}

impl SimNet {
    /// A network between `nodes`, none of which runs yet.
    #[must_use]
    pub fn new(
        time: Scheduler,
        trace: Trace,
        temper: NetTemper,
        nodes: Vec<NodeId>,
        rand: SimRand,
    ) -> Self {
        let net = Self {
            shared: Arc::new(Mutex::new(State {
                temper,
                rand,
                ports: BTreeMap::new(),
                pairs: BTreeMap::new(),
                nodes,
                cut: BTreeMap::new(),
                clogged: BTreeMap::new(),
                capped: BTreeMap::new(),
                next_connection: 1,
                next_link: 1,
            })),
            time,
            trace,
            traffic: None,
        };
        net.dial_later();
        net
    }

    /// Counts what is sent through this handle and its clones from now on.
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

    /// A process of `node` listens from now on; `life` numbers it.
    pub fn start(&self, node: NodeId, life: u64, inlet: Inlet, gate: Gate) {
        self.lock().ports.insert(node, Port { inlet, gate, life });
    }

    /// The process of `node` is gone. Its peers notice when they are told or time out.
    pub fn stop(&self, node: NodeId) {
        let mut ends = Vec::new();
        {
            let mut state = self.lock();
            state.ports.remove(&node);
            let told = state.rand.chance(0.5);
            let wait = if told {
                state.temper.latency_us * 2
            } else {
                state.temper.idle_us
            };
            for (&(a, b), connection) in &mut state.pairs {
                if a != node && b != node {
                    continue;
                }
                let peer = if a == node { b } else { a };
                if let Some(end) = connection.ends.get_mut(&node) {
                    end.open = false;
                }
                ends.push((peer, connection.number, wait));
            }
        }
        for (peer, connection, wait) in ends {
            self.end_later(peer, node, connection, wait);
        }
    }

    /// The links of one process of `node`.
    #[must_use]
    pub fn links(&self, node: NodeId, life: u64) -> Arc<dyn Links> {
        Arc::new(NodeLinks {
            net: self.clone(),
            node,
            life,
        })
    }

    /// Cuts the direction from `from` to `to`; cuts add up.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        let (connection, wait) = {
            let mut state = self.lock();
            *state.cut.entry((from, to)).or_default() += 1;
            let wait = state.temper.idle_us;
            (state.pairs.get(&pair(from, to)).map(|c| c.number), wait)
        };
        // The far end hears nothing more and gives up, if the cut outlasts its patience.
        if let Some(number) = connection {
            let net = self.clone();
            self.time.after(wait, move || {
                let still = net.lock().cut.contains_key(&(from, to));
                if still {
                    net.end(to, from, number);
                    net.end_later(from, to, number, 100_000);
                }
            });
        }
    }

    /// Takes one cut of the direction away.
    pub fn heal(&self, from: NodeId, to: NodeId) {
        let released = {
            let mut state = self.lock();
            let left = state.cut.get(&(from, to)).map_or(0, |count| count - 1);
            if left > 0 {
                state.cut.insert((from, to), left);
                return;
            }
            state.cut.remove(&(from, to));
            let connection = state.pairs.get_mut(&pair(from, to));
            connection.and_then(|c| {
                let number = c.number;
                let end = c.ends.get_mut(&to)?;
                Some((number, std::mem::take(&mut end.held)))
            })
        };
        if let Some((connection, held)) = released {
            for frame in held {
                self.transmit(from, to, connection, frame);
            }
        }
    }

    /// Delays everything from `from` to `to` by `delay_us` more until `until_us`.
    pub fn clog(&self, from: NodeId, to: NodeId, delay_us: u64, until_us: u64) {
        self.lock().clogged.insert((from, to), (delay_us, until_us));
    }

    /// Carries at most `bytes_per_s` from `from` to `to` until `until_us`.
    pub fn cap(&self, from: NodeId, to: NodeId, bytes_per_s: u64, until_us: u64) {
        self.lock()
            .capped
            .insert((from, to), (bytes_per_s, until_us));
    }

    /// Ends the connection between two nodes at both ends; what was in flight is lost.
    pub fn reset(&self, a: NodeId, b: NodeId) -> bool {
        let number = self.lock().pairs.get(&pair(a, b)).map(|c| c.number);
        let Some(number) = number else { return false };
        let was_open = self.end(a, b, number);
        self.end(b, a, number) || was_open
    }

    /// No more cuts, clogs, caps, and no adversary.
    pub fn make_perfect(&self) {
        let cut: Vec<(NodeId, NodeId)> = {
            let mut state = self.lock();
            state.clogged.clear();
            state.capped.clear();
            state.temper.reorder = 0.0;
            state.temper.duplicate = 0.0;
            state.temper.late = 0.0;
            state.temper.stale = 0.0;
            state.cut.values_mut().for_each(|count| *count = 1);
            state.cut.keys().copied().collect()
        };
        for (from, to) in cut {
            self.heal(from, to);
        }
    }

    fn dial_later(&self) {
        let net = self.clone();
        self.time.after(RETRY_US, move || {
            net.dial();
            net.dial_later();
        });
    }

    fn dial(&self) {
        let (missing, latency) = {
            let state = self.lock();
            let up: Vec<NodeId> = state
                .nodes
                .iter()
                .copied()
                .filter(|n| state.ports.contains_key(n))
                .collect();
            let pairs = up.iter().flat_map(|a| up.iter().map(move |b| (*a, *b)));
            let missing = pairs.filter(|(a, b)| a < b && state.may_connect(*a, *b));
            (missing.collect::<Vec<_>>(), state.temper.latency_us)
        };
        for (a, b) in missing {
            let delay = {
                let mut state = self.lock();
                let sigma = state.temper.sigma;
                state.rand.log_normal(latency * 3, sigma)
            };
            let net = self.clone();
            self.time
                .after(delay.min(RETRY_US), move || net.connect(a, b));
        }
    }

    fn connect(&self, a: NodeId, b: NodeId) {
        let mut told = Vec::new();
        {
            let mut guard = self.lock();
            let state = &mut *guard;
            if !state.may_connect(a, b) {
                return;
            }
            if let Some(old) = state.pairs.remove(&pair(a, b)) {
                for (node, end) in old.ends {
                    let peer = if node == a { b } else { a };
                    if end.open && state.ports.get(&node).is_some_and(|p| p.life == end.life) {
                        told.push((
                            node,
                            LinkEvent::Down {
                                peer,
                                link: end.link,
                            },
                        ));
                    }
                }
            }
            let number = state.next_connection;
            state.next_connection += 1;
            let mut ends = BTreeMap::new();
            for (node, peer) in [(a, b), (b, a)] {
                let Some(life) = state.ports.get(&node).map(|p| p.life) else {
                    return;
                };
                let link = state.next_link;
                state.next_link += 1;
                told.push((node, LinkEvent::Up { peer, link }));
                ends.insert(
                    node,
                    End {
                        link,
                        life,
                        open: true,
                        last_us: self.time.now_us(),
                        greeted: false,
                        in_flight: 0,
                        held: Vec::new(),
                    },
                );
            }
            state.pairs.insert(pair(a, b), Connection { number, ends });
        }
        for (node, event) in told {
            self.tell(node, event);
        }
    }

    fn tell(&self, node: NodeId, event: LinkEvent) {
        let (kind, peer, link) = match event {
            LinkEvent::Up { peer, link } => ("link.up", peer, link),
            LinkEvent::Down { peer, link } => ("link.down", peer, link),
        };
        self.trace
            .event(kind, &[node.0.into(), peer.0.into(), link], || {
                format!("{node} with {peer}, link {link}")
            });
        let target = self
            .lock()
            .ports
            .get(&node)
            .map(|p| (p.inlet.clone(), p.gate.clone()));
        if let Some((inlet, gate)) = target {
            gate.pass(move || inlet(Input::Link(event)));
        }
    }

    fn end_later(&self, node: NodeId, peer: NodeId, connection: u64, delay_us: u64) {
        let net = self.clone();
        self.time.after(delay_us, move || {
            net.end(node, peer, connection);
        });
    }

    /// Ends one node's end of a connection, if it is still that one; true if it was open.
    fn end(&self, node: NodeId, peer: NodeId, connection: u64) -> bool {
        let link = {
            let mut guard = self.lock();
            let state = &mut *guard;
            let life = state.ports.get(&node).map(|p| p.life);
            let found = state
                .pairs
                .get_mut(&pair(node, peer))
                .filter(|c| c.number == connection);
            let end = found.and_then(|c| c.ends.get_mut(&node));
            end.filter(|end| end.open && Some(end.life) == life)
                .map(|end| {
                    end.open = false;
                    end.link
                })
        };
        if let Some(link) = link {
            self.tell(node, LinkEvent::Down { peer, link });
        }
        link.is_some()
    }

    fn transmit(&self, from: NodeId, to: NodeId, connection: u64, frame: Frame) {
        let now = self.time.now_us();
        let mut arrivals = Vec::new();
        {
            let mut guard = self.lock();
            let state = &mut *guard;
            let bytes = frame_bytes(&frame);
            let forwards = frame
                .messages
                .iter()
                .any(|m| matches!(m, PeerMessage::Forward(_)));
            let mut latency = state
                .rand
                .log_normal(state.temper.latency_us, state.temper.sigma);
            if let Some(&(delay, until)) = state.clogged.get(&(from, to))
                && now < until
            {
                self.trace.count("fault.clog");
                latency += state.rand.between(delay / 2, delay);
            }
            let mut pace = 0;
            if let Some(&(rate, until)) = state.capped.get(&(from, to))
                && now < until
            {
                self.trace.count("fault.bandwidth");
                pace = bytes * 1_000_000 / rate.max(1);
            }
            let State {
                temper,
                rand,
                pairs,
                ..
            } = state;
            let found = pairs
                .get_mut(&pair(from, to))
                .filter(|c| c.number == connection);
            let Some(end) = found.and_then(|c| c.ends.get_mut(&to)) else {
                return;
            };
            let in_order = (now + latency).max(end.last_us + pace);
            let is_hello = !end.greeted;
            end.greeted = true;
            let mut at = in_order;
            if !is_hello && rand.chance(temper.reorder) {
                self.trace.count("fault.reorder");
                at = in_order + rand.below(20 * temper.latency_us + 50_000);
            } else {
                end.last_us = in_order;
            }
            arrivals.push(at);
            if !is_hello && !forwards && rand.chance(temper.duplicate) {
                self.trace.count("fault.duplicate");
                arrivals.push(at + rand.below(3_000_000));
            }
            if !is_hello && !forwards && rand.chance(temper.late) {
                self.trace.count("fault.late");
                arrivals.push(at + rand.between(LATE_US.0, LATE_US.1));
            }
            end.in_flight += arrivals.len();
        }
        let last = arrivals.pop();
        for at in arrivals {
            self.arrive_at(at, from, to, connection, frame.clone());
        }
        if let Some(at) = last {
            self.arrive_at(at, from, to, connection, frame);
        }
    }

    fn arrive_at(&self, at: u64, from: NodeId, to: NodeId, connection: u64, frame: Frame) {
        let link = {
            let state = self.lock();
            let found = state.pairs.get(&pair(from, to));
            found
                .and_then(|c| c.ends.get(&to))
                .map(|end| (end.link, end.life))
        };
        let Some((link, life)) = link else { return };
        let net = self.clone();
        self.time.at(at, move || {
            net.arrive(from, to, connection, (link, life), frame)
        });
    }

    fn arrive(
        &self,
        from: NodeId,
        to: NodeId,
        connection: u64,
        (link, life): (u64, u64),
        frame: Frame,
    ) {
        let target = {
            let mut guard = self.lock();
            let state = &mut *guard;
            let found = state
                .pairs
                .get_mut(&pair(from, to))
                .filter(|c| c.number == connection);
            let open = found.and_then(|c| c.ends.get_mut(&to)).is_some_and(|end| {
                end.in_flight = end.in_flight.saturating_sub(1);
                end.open
            });
            let Some(port) = state.ports.get(&to).filter(|p| p.life == life) else {
                return;
            };
            if !open {
                let chance = state.temper.stale;
                if !state.rand.chance(chance) {
                    return;
                }
                self.trace.count("fault.stale");
            }
            (port.inlet.clone(), port.gate.clone())
        };
        let (inlet, gate) = target;
        let header = frame.header;
        for message in frame.messages {
            let kind = message_kind(&message);
            self.trace.event(
                kind,
                &[from.0.into(), to.0.into(), link, header.durable.0],
                || format!("{from} to {to}: {message:?}"),
            );
            let inlet = inlet.clone();
            gate.pass(move || {
                inlet(Input::Peer {
                    from,
                    link,
                    header,
                    message,
                });
            });
        }
    }

    fn send(&self, from: NodeId, life: u64, to: NodeId, frame: Frame) -> Result<(), LinkRefused> {
        let number = {
            let mut guard = self.lock();
            let state = &mut *guard;
            let cut = state.cut.contains_key(&(from, to));
            let Some(connection) = state.pairs.get_mut(&pair(from, to)) else {
                return Err(LinkRefused::NotConnected);
            };
            let own = connection.ends.get(&from);
            if !own.is_some_and(|end| end.open && end.life == life) {
                return Err(LinkRefused::NotConnected);
            }
            let Some(end) = connection.ends.get_mut(&to) else {
                return Err(LinkRefused::NotConnected);
            };
            let behind = end.last_us.saturating_sub(self.time.now_us());
            let full = behind > BACKLOG_US_MAX;
            if full || end.in_flight + end.held.len() >= QUEUE_FRAMES_MAX {
                return Err(LinkRefused::Full);
            }
            if cut {
                self.trace.count("fault.cut-frames");
                end.held.push(frame);
                return Ok(());
            }
            connection.number
        };
        if let Some(traffic) = &self.traffic {
            traffic.frame(frame.header, &frame.messages);
        }
        self.transmit(from, to, number, frame);
        Ok(())
    }
}

impl State {
    /// Whether a new connection can be made: both run, nothing is cut, and none is open at both.
    fn may_connect(&self, a: NodeId, b: NodeId) -> bool {
        let runs = |node: NodeId| {
            self.ports
                .get(&node)
                .filter(|p| !p.gate.is_closed())
                .map(|p| p.life)
        };
        let (Some(life_a), Some(life_b)) = (runs(a), runs(b)) else {
            return false;
        };
        let open = self.pairs.get(&pair(a, b)).is_some_and(|c| {
            let is_open = |node, life| c.ends.get(&node).is_some_and(|e| e.open && e.life == life);
            is_open(a, life_a) && is_open(b, life_b)
        });
        !open && !self.cut.contains_key(&(a, b)) && !self.cut.contains_key(&(b, a))
    }
}

/// One process' side of the network.
struct NodeLinks {
    net: SimNet,
    node: NodeId,
    life: u64,
}

impl fmt::Debug for NodeLinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeLinks({}, life {})", self.node, self.life)
    }
}

impl Links for NodeLinks {
    fn send(
        &self,
        to: NodeId,
        header: PeerHeader,
        messages: Vec<PeerMessage>,
    ) -> Result<(), LinkRefused> {
        self.net
            .send(self.node, self.life, to, Frame { header, messages })
    }

    fn close(&self, peer: NodeId, link: u64) {
        let number = {
            let state = self.net.lock();
            let found = state.pairs.get(&pair(self.node, peer));
            found
                .filter(|c| c.ends.get(&self.node).is_some_and(|e| e.link == link))
                .map(|c| c.number)
        };
        if let Some(number) = number {
            self.net.trace.count("state.link closed by the core");
            let net = self.net.clone();
            let node = self.node;
            self.net.time.after(0, move || {
                net.end(node, peer, number);
                net.end_later(peer, node, number, 2000);
            });
        }
    }
}

fn frame_bytes(frame: &Frame) -> u64 {
    let bytes: usize = frame
        .messages
        .iter()
        .map(|message| match message {
            PeerMessage::Replicate(replicate) => match &replicate.payload {
                quorate_node::core::message::Payload::Whole(record) => 64 + record.len(),
                quorate_node::core::message::Payload::Delta(_) => 256,
            },
            PeerMessage::ReadReply(reply) => {
                64 + reply
                    .result
                    .as_ref()
                    .ok()
                    .and_then(|held| match &held.record {
                        HeldRecord::Whole(bytes) => Some(bytes),
                        HeldRecord::Absent | HeldRecord::AsKnown => None,
                    })
                    .map_or(0, bytes::Bytes::len)
            }
            PeerMessage::Hello(_)
            | PeerMessage::KeepAlive(_)
            | PeerMessage::ReplicateReply(_)
            | PeerMessage::Read(_)
            | PeerMessage::Forward(_)
            | PeerMessage::ForwardReply(_)
            | PeerMessage::Clock(_)
            | PeerMessage::Scan(_)
            | PeerMessage::Exchange(_) => 128,
            PeerMessage::ExchangeReply(reply) => match &reply.result {
                Ok(ExchangeAnswer::Trees(told)) => {
                    64 + told.iter().map(|hashes| 16 * hashes.len()).sum::<usize>()
                }
                Ok(ExchangeAnswer::Rows(page)) => 64 + 48 * page.rows.len(),
                Ok(ExchangeAnswer::Standing(_)) => 128,
                Err(_) => 64,
            },
            PeerMessage::Purge(ask) => 64 + 48 * ask.rounds.len(),
            PeerMessage::PurgeReply(_) => 128,
            PeerMessage::ScanReply(reply) => match &reply.result {
                Ok(part) => 64 + 256 * part.rows.len(),
                Err(_) => 64,
            },
        })
        .sum();
    32 + bytes as u64
}

fn message_kind(message: &PeerMessage) -> &'static str {
    match message {
        PeerMessage::Hello(_) => "peer.hello",
        PeerMessage::KeepAlive(_) => "peer.keep-alive",
        PeerMessage::Replicate(_) => "peer.replicate",
        PeerMessage::ReplicateReply(_) => "peer.replicate-reply",
        PeerMessage::Read(_) => "peer.read",
        PeerMessage::ReadReply(_) => "peer.read-reply",
        PeerMessage::Forward(_) => "peer.forward",
        PeerMessage::ForwardReply(_) => "peer.forward-reply",
        PeerMessage::Clock(_) => "peer.clock",
        PeerMessage::Scan(_) => "peer.scan",
        PeerMessage::ScanReply(_) => "peer.scan-reply",
        PeerMessage::Exchange(_) => "peer.exchange",
        PeerMessage::ExchangeReply(_) => "peer.exchange-reply",
        PeerMessage::Purge(_) => "peer.purge",
        PeerMessage::PurgeReply(_) => "peer.purge-reply",
    }
}
