//! May this node count? Memories of peers, timelines compared on every connect, liveness.
//!
//! Every frame tells the sender's (incarnation, durable LSN). Peers remember the highest, pass on
//! what they remember of others, and compare on every connect: a memory that is not on the
//! timeline means that the node forgot something it had promised. Such a node does not serve.
//!
//! A starting node counts for a vnode once it has heard from a co-replica (if it has any) and every
//! one has confirmed its timeline or has been silent for a second; a contradiction that comes later
//! still stops it.
//!
//! Invariants:
//! - nothing of a peer is taken before its hello on that connection was compared;
//! - a memory is replaced only by a later one of the same incarnation, or by a hello whose timeline
//!   confirms it: what was heard of an unknown incarnation is kept beside it, because it might come
//!   from a life that has forgotten (C1).
//!
//! A node that knows what it lost says so in its timeline, and is taken as it is; but not while
//! another process that lives under its name was heard a moment ago: then somebody copied its disk.
//!
//! What keyspaces of durability `memory` acknowledged is on no timeline, so a peer cannot remember
//! it: a node that starts without a clean stop does not count for them (C7).
//!
//! Not here: how a node that forgot comes to count again (`healing`).

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_ring::planted::{Bug, planted};
use quorate_ring::{Copies, Incarnation, Lsn, MonoTime, NodeId, Topology, VnodeId};

use super::effect::{Effect, Effects, Event, StopReason};
use super::message::{Hello, KeepAlive, PeerHeader, PeerMessage};
use super::timeline::{Memory, Timeline};

/// How often a keep-alive goes out on every link.
pub const KEEP_ALIVE: Duration = Duration::from_millis(250);
/// A peer that was not heard for this long is down for routing.
pub const SILENT_MAX: Duration = Duration::from_secs(1);

/// A present life forgets nothing while it runs; a frame of it may be older than what others heard.
const PRESENT: Lsn = Lsn(u64::MAX);

/// How a peer looks from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// Connected, greeted and heard within the last second.
    Up,
    /// Not connected, but heard (or not yet missed) within the last second: it is tried.
    Suspect,
    /// Silent for a second: not asked.
    Down,
}

#[derive(Debug)]
struct Peer {
    link: Option<u64>,
    timeline: Option<Timeline>,
    greeted: bool,
    /// Its memory of this node was compared with our timeline in this incarnation.
    confirmed_us: bool,
    last_heard: MonoTime,
    /// Which life of it spoke last, and when.
    last_life: Option<(Incarnation, MonoTime)>,
    /// Its clock as it last told it on this link, and when that was heard.
    clock: Option<(MonoTime, MonoTime)>,
    /// Highest (incarnation, durable LSN) seen from it, or passed on for that incarnation.
    memory: Option<Memory>,
    /// Passed on by others, of an incarnation that its timeline as known here does not have.
    hearsay: Option<Memory>,
}

/// One node's knowledge of itself and of its peers.
#[derive(Debug)]
pub struct Continuity {
    me: NodeId,
    cluster_id: [u8; 16],
    timeline: Timeline,
    incarnation: Incarnation,
    peers: BTreeMap<NodeId, Peer>,
    counting: BTreeMap<(Copies, VnodeId), bool>,
    counts_everywhere: bool,
    next_keep_alive: MonoTime,
}

/// Whether something remembered is about a node, in whichever of its lives.
fn is_about((me, present): (NodeId, Incarnation), (node, memory): &(NodeId, Memory)) -> bool {
    let is_overlooked = memory.incarnation != present && planted(Bug::PresentLifeCompared);
    *node == me && !is_overlooked
}

impl Continuity {
    /// What a node knows when its store is open. `timeline` names what it knows to have lost.
    #[must_use]
    pub fn new(
        now: MonoTime,
        me: NodeId,
        cluster_id: [u8; 16],
        timeline: Timeline,
        incarnation: Incarnation,
        memories: &BTreeMap<NodeId, Memory>,
        topology: &Topology,
    ) -> Self {
        let others = topology
            .nodes()
            .iter()
            .map(|node| node.id)
            .filter(|id| *id != me);
        let peer = |id: NodeId| Peer {
            link: None,
            timeline: None,
            greeted: false,
            confirmed_us: false,
            last_heard: now,
            last_life: None,
            clock: None,
            memory: memories.get(&id).copied(),
            hearsay: None,
        };
        let owned = topology.assignments().flat_map(|(copies, _)| {
            topology
                .vnode_count()
                .vnodes()
                .filter(move |vnode| topology.is_owner(*vnode, copies, me))
                .map(move |vnode| ((copies, vnode), false))
        });
        let mut this = Self {
            me,
            cluster_id,
            timeline,
            incarnation,
            peers: others.map(|id| (id, peer(id))).collect(),
            counting: owned.collect(),
            counts_everywhere: false,
            next_keep_alive: now + KEEP_ALIVE,
        };
        this.judge_counting(now, topology);
        this
    }

    /// Whether this node counts for every vnode, as far as its timeline goes.
    #[must_use]
    pub const fn counts_everywhere(&self) -> bool {
        self.counts_everywhere
    }

    /// The life of a peer that spoke last, on whichever connection.
    #[must_use]
    pub fn last_life(&self, peer: NodeId) -> Option<Incarnation> {
        let life = self.peers.get(&peer)?.last_life;
        life.map(|(incarnation, _)| incarnation)
    }

    /// The present incarnation.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// A connection came: greets.
    pub fn link_up(&mut self, now: MonoTime, peer: NodeId, link: u64, effects: &mut Effects) {
        let memories = self.memories_for(peer);
        let Some(known) = self.peers.get_mut(&peer) else {
            effects.push(Effect::CloseLink { peer, link });
            return;
        };
        known.link = Some(link);
        known.greeted = false;
        known.clock = None;
        let hello = Hello {
            cluster_id: self.cluster_id,
            from: self.me,
            to: peer,
            timeline: self.timeline.clone(),
            memories,
            sent: now,
        };
        effects.push(Effect::Send {
            to: peer,
            message: PeerMessage::Hello(hello),
        });
    }

    /// A connection went.
    pub fn link_down(&mut self, peer: NodeId, link: u64) {
        if let Some(known) = self.peers.get_mut(&peer)
            && known.link == Some(link)
        {
            known.link = None;
            known.greeted = false;
        }
    }

    /// Takes a hello. True if the peer may be talked to from now on.
    pub fn hello(
        &mut self,
        now: MonoTime,
        link: u64,
        header: PeerHeader,
        hello: &Hello,
        own_durable: Lsn,
        effects: &mut Effects,
    ) -> bool {
        let from = hello.from;
        let Some(peer) = self
            .peers
            .get_mut(&from)
            .filter(|peer| peer.link == Some(link))
        else {
            effects.push(Effect::Count(Event::PeerMessageRefused));
            return false;
        };
        let present = hello.timeline.present().map(|life| life.incarnation);
        if hello.cluster_id != self.cluster_id
            || hello.to != self.me
            || present != Some(header.incarnation)
        {
            effects.push(Effect::Count(Event::PeerMessageRefused));
            effects.push(Effect::CloseLink { peer: from, link });
            return false;
        }
        let own = (self.me, self.incarnation);
        for (_, memory) in hello.memories.iter().filter(|known| is_about(own, known)) {
            if !self.timeline.confirms(*memory, own_durable) {
                effects.push(Effect::Stop(StopReason::Forgot {
                    peer: from,
                    memory: *memory,
                }));
                return false;
            }
        }
        let known = [peer.memory, peer.hearsay];
        if known
            .into_iter()
            .flatten()
            .any(|m| !hello.timeline.confirms(m, PRESENT))
        {
            // The peer forgot. It stops when it reads our hello; nothing of it may count here.
            effects.push(Effect::Count(Event::PeerMessageRefused));
            effects.push(Effect::CloseLink { peer: from, link });
            return false;
        }
        let of_another = |(life, at): (Incarnation, MonoTime)| {
            life != header.incarnation
                && hello.timeline.lost().contains(&life)
                && now.since(at) < SILENT_MAX
        };
        if peer.last_life.is_some_and(of_another) {
            // What it takes for lost is alive: two processes share one name. The one that is known
            // stays.
            effects.push(Effect::Count(Event::PeerMessageRefused));
            effects.push(Effect::CloseLink { peer: from, link });
            return false;
        }
        peer.timeline = Some(hello.timeline.clone());
        peer.last_life = Some((header.incarnation, now));
        peer.hearsay = None;
        peer.greeted = true;
        peer.confirmed_us = true;
        peer.last_heard = now;
        peer.clock = Some((hello.sent, now));
        let memory = Memory {
            incarnation: header.incarnation,
            durable: header.durable,
        };
        Self::remember(from, peer, memory, effects);
        self.take_memories(&hello.memories, effects);
        true
    }

    /// Checks the head of any other message. True if the message may be taken.
    pub fn heard(
        &mut self,
        now: MonoTime,
        from: NodeId,
        link: u64,
        header: PeerHeader,
        effects: &mut Effects,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else {
            return false;
        };
        // A late message of an earlier connection or incarnation: its sender is another life.
        let present = peer.timeline.as_ref().and_then(Timeline::present);
        let fits = peer.link == Some(link)
            && peer.greeted
            && present.is_some_and(|life| life.incarnation == header.incarnation);
        if !fits {
            effects.push(Effect::Count(Event::PeerMessageRefused));
            return false;
        }
        peer.last_heard = now;
        peer.last_life = Some((header.incarnation, now));
        let memory = Memory {
            incarnation: header.incarnation,
            durable: header.durable,
        };
        if peer.memory.is_none_or(|known| known < memory) {
            Self::remember(from, peer, memory, effects);
        }
        true
    }

    fn remember(node: NodeId, peer: &mut Peer, memory: Memory, effects: &mut Effects) {
        peer.memory = Some(memory);
        effects.push(Effect::Remember { node, memory });
    }

    /// Takes what a peer remembers of others.
    ///
    /// What they remember of this node was said by this or an earlier life of it; if the timeline
    /// does not have it, the node forgot.
    pub fn keep_alive(
        &mut self,
        now: MonoTime,
        from: NodeId,
        keep_alive: &KeepAlive,
        own_durable: Lsn,
        effects: &mut Effects,
    ) {
        let KeepAlive { memories, sent } = keep_alive;
        if let Some(peer) = self.peers.get_mut(&from)
            && peer.clock.is_none_or(|(theirs, _)| theirs < *sent)
        {
            peer.clock = Some((*sent, now));
        }
        let own = (self.me, self.incarnation);
        for (_, memory) in memories.iter().filter(|known| is_about(own, known)) {
            if !self.timeline.confirms(*memory, own_durable) {
                effects.push(Effect::Stop(StopReason::Forgot {
                    peer: from,
                    memory: *memory,
                }));
                return;
            }
        }
        self.take_memories(memories, effects);
    }

    fn take_memories(&mut self, memories: &[(NodeId, Memory)], effects: &mut Effects) {
        for (node, memory) in memories {
            let Some(peer) = self.peers.get_mut(node) else {
                continue;
            };
            match peer.memory {
                None => Self::remember(*node, peer, *memory, effects),
                Some(known) if known.incarnation == memory.incarnation => {
                    if known.durable < memory.durable {
                        Self::remember(*node, peer, *memory, effects);
                    }
                }
                Some(_) => {
                    // An earlier life of it that the present timeline confirms says nothing new.
                    let past = peer.timeline.as_ref();
                    if past.is_none_or(|t| !t.confirms(*memory, Lsn(u64::MAX))) {
                        peer.hearsay = Some(*memory);
                    }
                }
            }
        }
    }

    fn memories_for(&self, receiver: NodeId) -> Vec<(NodeId, Memory)> {
        // The receiver's own entry goes too: that is what it compares its timeline with.
        let known = |(id, peer): (&NodeId, &Peer)| {
            let hearsay = peer.hearsay.filter(|_| *id == receiver);
            [peer.memory, hearsay]
                .into_iter()
                .flatten()
                .map(|memory| (*id, memory))
                .collect()
        };
        self.peers
            .iter()
            .flat_map(|entry| -> Vec<_> { known(entry) })
            .collect()
    }

    /// Sends keep-alives that are due and judges who counts. Gives whom they went to.
    pub fn tick(
        &mut self,
        now: MonoTime,
        topology: &Topology,
        effects: &mut Effects,
    ) -> Vec<NodeId> {
        let mut told = Vec::new();
        if now >= self.next_keep_alive {
            self.next_keep_alive = now + KEEP_ALIVE;
            let greeted = self.peers.iter().filter(|(_, peer)| peer.greeted);
            for (id, _) in greeted {
                let message = PeerMessage::KeepAlive(KeepAlive {
                    memories: self.memories_for(*id),
                    sent: now,
                });
                effects.push(Effect::Send { to: *id, message });
                told.push(*id);
            }
        }
        if !self.counts_everywhere {
            self.judge_counting(now, topology);
        }
        told
    }

    /// A moment of `peer`'s clock that is past by now: what it last told on this link, and the time
    /// since that was heard. The true one is later by what the telling took on its way.
    #[must_use]
    pub fn past_moment_of(&self, now: MonoTime, peer: NodeId) -> Option<MonoTime> {
        let (theirs, heard) = self.peers.get(&peer)?.clock?;
        Some(theirs + now.since(heard))
    }

    /// When [`Continuity::tick`] has something to do again.
    #[must_use]
    pub fn next_deadline(&self) -> MonoTime {
        self.next_keep_alive
    }

    /// Judges anew for which vnodes this node counts.
    pub fn judge_counting(&mut self, now: MonoTime, topology: &Topology) {
        let peers = &self.peers;
        let me = self.me;
        for ((copies, vnode), counts) in self.counting.iter_mut().filter(|(_, counts)| !**counts) {
            let others = topology
                .owners(*vnode, *copies)
                .iter()
                .filter(|id| **id != me);
            let state = |id: &NodeId| peers.get(id).map(|peer| (peer.confirmed_us, peer));
            let heard = others
                .clone()
                .filter_map(state)
                .any(|(confirmed, _)| confirmed);
            let settled = others
                .clone()
                .filter_map(state)
                .all(|(confirmed, peer)| confirmed || now.since(peer.last_heard) >= SILENT_MAX);
            *counts = others.clone().next().is_none() || (heard && settled);
        }
        self.counts_everywhere = self.counting.values().all(|counts| *counts);
    }

    /// Whether this node may mint dots of a vnode: it counts, or has heard from a co-replica and
    /// may count within the deadline. A node that has heard from nobody could acknowledge nothing.
    #[must_use]
    pub fn may_mint(&self, copies: Copies, vnode: VnodeId, topology: &Topology) -> bool {
        let heard = |id: &NodeId| self.peers.get(id).is_some_and(|peer| peer.confirmed_us);
        self.counts(copies, vnode) || topology.owners(vnode, copies).iter().any(heard)
    }

    /// Whether this node counts for a vnode.
    #[must_use]
    pub fn counts(&self, copies: Copies, vnode: VnodeId) -> bool {
        self.counts_everywhere
            || self
                .counting
                .get(&(copies, vnode))
                .copied()
                .unwrap_or(false)
    }

    /// Whether what this node holds in place of others may count: it counts for all that it owns,
    /// and somebody has confirmed its timeline.
    #[must_use]
    pub fn counts_as_fallback(&self) -> bool {
        self.counts_everywhere && self.peers.values().any(|peer| peer.confirmed_us)
    }

    /// The present life of a peer, as it said on the connection that is up, and what it last said
    /// is durable there.
    #[must_use]
    pub fn life_of(&self, peer: NodeId) -> Option<(Incarnation, Lsn)> {
        let peer = self.peers.get(&peer).filter(|peer| peer.greeted)?;
        let present = peer.timeline.as_ref().and_then(Timeline::present)?;
        let memory = peer.memory?;
        (memory.incarnation == present.incarnation).then_some((memory.incarnation, memory.durable))
    }

    /// The life that a peer last said, or was last said to be in; it may have begun another one
    /// since.
    #[must_use]
    pub fn known_life(&self, peer: NodeId) -> Option<Incarnation> {
        let peer = self.peers.get(&peer)?;
        let greeted = peer.timeline.as_ref().and_then(Timeline::present);
        let greeted = greeted.map(|life| life.incarnation);
        greeted.or_else(|| Some(peer.memory?.incarnation))
    }

    /// Vnodes of which this node owns a copy, in order, and whether it counts for all its copies.
    #[must_use]
    pub fn vnodes(&self) -> Vec<(VnodeId, bool)> {
        let mut vnodes: BTreeMap<VnodeId, bool> = BTreeMap::new();
        for ((_, vnode), counts) in &self.counting {
            *vnodes.entry(*vnode).or_insert(true) &= counts;
        }
        vnodes.into_iter().collect()
    }

    /// How a peer looks from here; this node itself is up.
    #[must_use]
    pub fn liveness(&self, now: MonoTime, node: NodeId) -> Liveness {
        if node == self.me {
            return Liveness::Up;
        }
        let Some(peer) = self.peers.get(&node) else {
            return Liveness::Down;
        };
        match (now.since(peer.last_heard) < SILENT_MAX, peer.greeted) {
            (true, true) => Liveness::Up,
            (true, false) => Liveness::Suspect,
            (false, _) => Liveness::Down,
        }
    }

    /// Every peer with its liveness and how long it has been silent.
    pub fn peers(&self, now: MonoTime) -> impl Iterator<Item = (NodeId, Liveness, Duration)> {
        self.peers
            .iter()
            .map(move |(id, peer)| (*id, self.liveness(now, *id), now.since(peer.last_heard)))
    }
}
