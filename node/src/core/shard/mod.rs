//! One shard: the single writer of its vnodes. Routes each input to the machine that it concerns.
//!
//! Because one shard alone writes a key, `vector[actor] = n` in a record means that every write of
//! the actor to that key up to n is one of its siblings or superseded: a put merges with the newest
//! state, mints the next dot, and appends, in one step.
//!
//! Inputs of a key that is not in memory wait in order until the engine has answered; everything
//! else goes on. Effects come in the order in which they must happen; an acknowledgement is an
//! effect of the step that hears that its frame is durable.
//!
//! `write` coordinates puts and deletes, `read` gets, `replica` does a replica's part, `forward`
//! hands requests to owners, `resolve` finds out what became of a write, `session_read` a session's
//! gets, `lww` makes writes of lww keyspaces, `persist` talks to the table and the store. `scan`
//! coordinates pages of scans, `scan_replica` does a replica's part of them, `batch` takes many
//! requests as one. `exchange` compares copies with co-replicas and brings them together,
//! `exchange_replica` does a replica's part of that, `refill` gets back what this node forgot,
//! `hints` delivers what others missed, `guests` holds in place of owners what they missed,
//! `deliver` sends both, `purge` takes deleted keys away, `rot` begins anew where rows were lost
//! unnoticed.

mod batch;
mod deliver;
mod exchange;
mod exchange_replica;
mod forward;
mod guests;
mod hints;
mod lww;
mod persist;
mod purge;
mod read;
mod refill;
mod replica;
mod resolve;
mod rot;
mod scan;
mod scan_replica;
mod session_read;
mod write;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{DigestSecret, Holdings, Record, Sibling};
use quorate_ring::planted::{Bug, planted};
use quorate_ring::{
    Copies, Durability, FixedMap, Keyspace, KeyspaceId, KeyspaceMode, KeyspaceOptions, Location,
    Lsn, MonoTime, NodeId, Topology, VnodeId,
};

use super::admission::{Admission, Unanswered};
use super::budget::{Budget, BudgetLimits, BudgetStatus, Kind};
use super::clock_check::{ClockCheck, ClockTrust, SKEW_MAX};
use super::continuity::{Continuity, Liveness};
use super::effect::{Asked, Effect, Effects, Event, RequestKind, StopReason};
use super::failure::{Cause, Failure};
use super::get::{GetMachine, Requirement};
use super::guests::{GuestStatus, Guests};
use super::healing::{Healing, Lost};
use super::hints::{Delivery, HintLimits, Hints, TargetStatus};
use super::input::{DeclaredLost, Input, LinkEvent, Now, Recovered, RequestId, Volatile};
use super::key::RecordKey;
use super::message::{
    ForwardReply, OpNumber, PeerHeader, PeerMessage, PurgeNumber, PurgeReply, PurgeStep,
    ReadRecord, Replicate, Reply, Request, StampTold, WriteRequest,
};
use super::node_set::Owners;
use super::peer_tail::PeerTails;
use super::purge::{PurgeStatus, Purges, leads};
use super::put::PutMachine;
use super::resolve::{ResolveMachine, Step as ResolveStep};
use super::seal::{SealKey, Token};
use super::table::{Lookup, Table, TableLimits};
use batch::BatchOp;
use exchange::Exchanges;
use read::Asking;
use scan::ScanOp;
use scan_replica::ScanReading;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;
pub use batch::BATCH_ITEMS_MAX;
pub use exchange::PairStatus;
pub use refill::DeclareRefused;
pub use scan::{SCAN_RECORDS_MAX, SCANS_MAX};
pub use scan_replica::SCAN_READS_MAX;

/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Timers are kept in slots of this many microseconds: one look-up per slot, not per operation.
const TIMER_SLOT_MICROS: u64 = 4_000;
/// An operation without a timer.
const UNARMED: u64 = u64::MAX;
/// A shard is stepped every 50 ms at least; after a pause of this length it stood still.
const STANDSTILL_MIN: Duration = Duration::from_millis(250);
/// After a standstill, all that had waited in the system's buffers is read within this time.
const STANDSTILL_READ: Duration = Duration::from_millis(100);
/// What a record may usually remember of ended lives and flagged operations before it is pruned:
/// some 400 bytes.
pub const SPARE_MAX: usize = 16;
/// Advice to a client whose request was shed.
const RETRY_AFTER_SHED_MS: u32 = 50;

/// What a shard may hold at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests of clients and forwarders in flight.
    pub requests_max: usize,
    /// Bytes of their keys, values and contexts.
    pub request_bytes_max: usize,
    /// Replicas' parts in flight: merges that wait for a load or a sync, reads that wait for a
    /// load.
    pub replica_inputs_max: usize,
    /// Keys that may wait to be loaded; the loader's queue takes twice as many.
    pub parked_keys_max: usize,
    /// Free space under which writes are refused, in percent of the file system.
    pub disk_free_min_percent: u8,
    /// Inputs that may wait for one key to be loaded.
    pub parked_per_key_max: usize,
    /// Bytes of what is held in place of owners; over it no more is taken.
    pub guest_bytes_max: usize,
    /// What work in the background may cost.
    pub background: BudgetLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_max: 4_096,
            request_bytes_max: 64 << 20,
            replica_inputs_max: 32_768,
            parked_keys_max: 32_768,
            disk_free_min_percent: 5,
            parked_per_key_max: 4_096,
            guest_bytes_max: 256 << 20,
            background: BudgetLimits::default(),
        }
    }
}

/// What a shard is made with.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// This node.
    pub me: NodeId,
    /// The cluster's id.
    pub cluster_id: [u8; 16],
    /// Who owns what.
    pub topology: Arc<Topology>,
    /// Seals contexts.
    pub seal: SealKey,
    /// Seeds digests.
    pub digest: DigestSecret,
    /// Bounds of the table.
    pub table: TableLimits,
    /// Bounds of what is in flight.
    pub limits: Limits,
    /// How often each pair of co-replicas is compared; `None` = never by itself.
    pub exchange_interval: Option<Duration>,
    /// Bounds of what is kept for nodes that missed writes.
    pub hints: HintLimits,
    /// How long a purge round rests: twice the longest time in which an operation is tried again.
    pub purge_rest: Duration,
    /// What a record may remember of ended lives and flagged operations before it is pruned. Less
    /// means smaller records of keys that are written often, and more of them written anew for
    /// nothing else.
    pub spare_max: usize,
}

const fn asked(now: Now, kind: RequestKind, received: MonoTime) -> Asked {
    Asked {
        kind,
        at: received,
        taken: now.mono,
    }
}

/// Who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Client {
        to: RequestId,
        asked: Asked,
    },
    Forwarder {
        node: NodeId,
        op: OpNumber,
        /// When it came.
        taken: MonoTime,
    },
    /// A key of a page on which replicas differ.
    Scan {
        op: OpNumber,
        row: usize,
    },
    /// An item of a batch.
    Batch {
        op: OpNumber,
        item: usize,
    },
    /// A key on which copies differ.
    Exchange {
        op: OpNumber,
    },
}

/// Where a key lives and who owns it.
#[derive(Debug, Clone)]
struct Place {
    /// Whether this node is one of its owners: asked several times in every operation.
    is_owner: bool,
    key: RecordKey,
    keyspace: KeyspaceId,
    mode: KeyspaceMode,
    copies: Copies,
    options: KeyspaceOptions,
    location: Location,
}

/// An operation that this node coordinates or forwards.
#[derive(Debug)]
enum Op {
    Put(Box<PutOp>),
    Get(Box<GetOp>),
    Forward(Box<ForwardOp>),
    Resolve(Box<ResolveOp>),
}

#[derive(Debug)]
struct PutOp {
    machine: PutMachine,
    origin: Origin,
    place: Place,
    reply_token: Option<Token>,
    bytes: usize,
    armed: u64,
}

#[derive(Debug)]
struct GetOp {
    machine: GetMachine,
    origin: Origin,
    place: Place,
    /// A write that comes after what this get looks for, and goes on with what it finds.
    behind: Option<Box<Writing>>,
    bytes: usize,
    armed: u64,
}

#[derive(Debug)]
struct ResolveOp {
    machine: ResolveMachine,
    origin: Origin,
    place: Place,
    bytes: usize,
    armed: u64,
}

#[derive(Debug)]
struct ForwardOp {
    origin: Origin,
    request: Request,
    target: NodeId,
    untried: Vec<NodeId>,
    deadline: MonoTime,
    bytes: usize,
    armed: u64,
}

impl Op {
    /// The timer slot in which the operation is ticked next; [`UNARMED`] if in none. Timers of
    /// other slots are stale, so that each operation has one at most.
    fn armed(&mut self) -> &mut u64 {
        match self {
            Self::Put(put) => &mut put.armed,
            Self::Get(get) => &mut get.armed,
            Self::Forward(forward) => &mut forward.armed,
            Self::Resolve(resolve) => &mut resolve.armed,
        }
    }
}

/// An input that waits for its key to be loaded.
#[derive(Debug)]
enum Parked {
    Write(Writing),
    Replicate {
        from: NodeId,
        deadline: MonoTime,
        place: Place,
        message: Replicate,
    },
    Read {
        from: NodeId,
        deadline: MonoTime,
        place: Place,
        message: ReadRecord,
    },
    LocalRead {
        op: OpNumber,
    },
    LocalRepair {
        op: OpNumber,
        place: Place,
        record: Bytes,
        number: PurgeNumber,
    },
    LocalResolve {
        op: OpNumber,
    },
    Hint(Delivery),
    Guest(Delivery),
    /// It waits for no owner, and goes.
    GuestGoes(RecordKey),
    /// A step of purge rounds looks at it.
    Purge {
        op: OpNumber,
    },
}

/// A write on its way to its record, with where it came from and when.
#[derive(Debug)]
struct Writing {
    origin: Origin,
    deadline: MonoTime,
    arrived: MonoTime,
    place: Place,
    request: WriteRequest,
    /// The writes that its context names were looked for at the other owners, and found.
    has_looked: bool,
}

/// What happens once everything up to an LSN is durable.
#[derive(Debug)]
enum Ack {
    Local {
        op: OpNumber,
    },
    Replica {
        to: NodeId,
        op: OpNumber,
        keyspace: KeyspaceId,
        copies: Copies,
        vnode: VnodeId,
        /// Whether it is held as an owner, and not in place of one.
        is_owner: bool,
        /// Stamp of what is held, if that supersedes what came.
        newer: Option<u64>,
    },
    /// A step of a peer's purge rounds is done.
    Purge {
        to: NodeId,
        reply: PurgeReply,
    },
    /// The sums of a copy are those of the rows that are left of it.
    RowsLost {
        reason: String,
    },
    /// A step of a purge round of this node's is done here.
    OwnPurge {
        op: OpNumber,
        step: PurgeStep,
        agreed: Vec<Vec<u16>>,
    },
}

/// What a keyspace holds on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyspaceHoldings {
    /// Which.
    pub keyspace: KeyspaceId,
    /// In all vnodes of which the node holds something, also in place of owners: what a dump of it
    /// shows.
    pub all: Holdings,
    /// In those of which it is the first owner that is up as it sees it: over all nodes that are up
    /// each record counts once.
    pub first: Holdings,
}

/// What a shard tells about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShardStatus {
    /// Present incarnation.
    pub incarnation: u64,
    /// Newest durable LSN.
    pub durable_lsn: u64,
    /// The engine holds everything up to here.
    pub applied_lsn: u64,
    /// Vnodes of which it owns a copy, and whether it counts for all of its copies.
    pub vnodes: Vec<(VnodeId, bool)>,
    /// Records that the engine does not have yet.
    pub table_records: usize,
    /// Their bytes, with what is in flight.
    pub table_bytes: u64,
    /// Bytes of the record cache.
    pub cache_bytes: u64,
    /// Requests in flight.
    pub requests_in_flight: usize,
    /// Writes that a primary missed, since the start.
    pub hints_wanted: u64,
    /// What is kept for nodes that missed writes.
    pub hints: Vec<TargetStatus>,
    /// What is held in place of owners.
    pub guests: GuestStatus,
    /// A generation is on its way into the engine.
    pub ingesting: bool,
    /// Whether this node has all that keyspaces of durability `memory` acknowledged.
    pub memory_whole: bool,
    /// Why it lacks some of what it acknowledged from disk; `None` if it does not.
    pub lost_why: Option<String>,
    /// Copies, one per keyspace and vnode, that must still be compared with others before it counts
    /// for them.
    pub copies_lacking: usize,
    /// Those of them that no other node has: an operator must give them up.
    pub only_copies_lacking: usize,
    /// Copies that count again although too few owners were whole: something may be lost.
    pub copies_in_doubt: usize,
    /// The same of copies in memory, since the start.
    pub memory_copies_in_doubt: usize,
    /// What it may hold in place of owners.
    pub guest_bytes_max: u64,
    /// Its disk has less free space than it must have: it takes no writes.
    pub disk_full: bool,
    /// Nodes whose disks an operator declared lost.
    pub declared_lost: DeclaredLost,
    /// Deleted keys that wait to be purged.
    pub purge: PurgeStatus,
    /// What work in the background costs.
    pub background: BudgetStatus,
    /// Whether its wall clock is near those of its peers.
    pub clock_good: bool,
    /// What each keyspace holds here, in the order of their ids.
    pub holdings: Vec<KeyspaceHoldings>,
    /// Pairs of co-replicas that this node compares.
    pub pairs: Vec<PairStatus>,
    /// Peers: node, up, milliseconds of silence.
    pub peers: Vec<(NodeId, bool, u64)>,
}

/// The machine of one shard.
#[derive(Debug)]
pub struct Shard {
    me: NodeId,
    topology: Arc<Topology>,
    seal: SealKey,
    digest: DigestSecret,
    limits: Limits,
    table: Table,
    continuity: Continuity,
    healing: Healing,
    /// Why this node does not hold all that it acknowledged from disk.
    lost_why: Option<String>,
    /// Copies in doubt as it stands on disk.
    doubt_noted: u32,
    declared_lost: DeclaredLost,
    clocks: ClockCheck,
    applied: Lsn,
    ingesting: bool,
    ingests: u64,
    /// Counter of the newest dot; one per shard, from 1 in each incarnation.
    counter: u64,
    /// Newest hybrid timestamp given out or seen.
    timestamp: u64,
    /// When `timestamp` was last given out.
    timestamp_at: MonoTime,
    next_op: u64,
    ops: FixedMap<OpNumber, Op>,
    unanswered: Unanswered,
    /// Gets among these that scans asked for.
    scan_gets: usize,
    admission: Admission,
    budget: Budget,
    bytes_in_flight: usize,
    replica_inputs: usize,
    timers: BTreeMap<u64, Vec<OpNumber>>,
    parked: FixedMap<RecordKey, (u64, VecDeque<Parked>)>,
    unacked: VecDeque<(Lsn, Ack)>,
    down: BTreeSet<NodeId>,
    next_sweep: MonoTime,
    last_step: Now,
    /// For how long the process last stood still, and until when that is added to requests' ages.
    standstill: (Duration, MonoTime),
    disk_full: bool,
    draining: bool,
    stopped: bool,
    hints_wanted: u64,
    /// Where records are encoded; used again each time.
    scratch: Vec<u8>,
    scans: BTreeMap<OpNumber, ScanOp>,
    scan_reads: BTreeMap<u64, ScanReading>,
    batches: BTreeMap<OpNumber, BatchOp>,
    tails: PeerTails,
    exchanges: Exchanges,
    hints: Hints,
    hints_sent: deliver::Deliveries,
    hints_expire_at: MonoTime,
    guests: Guests,
    guests_sent: deliver::Deliveries,
    /// A page of guests of an earlier life is being read; where the next one begins.
    guests_reading: bool,
    guests_from: Bytes,
    /// Size of the record that was last delivered.
    delivered_bytes: u64,
    purges: Purges,
    purge_gathers: BTreeMap<OpNumber, purge::Gather>,
    /// Where the reading of a vnode for deleted keys goes on.
    purge_look_from: Option<Bytes>,
    next_purge: MonoTime,
    spare_max: usize,
    /// Answers to the shard's own requests, taken at the end of the step.
    own_replies: VecDeque<(Origin, Reply)>,
}

impl Shard {
    /// A shard at its starting point.
    #[must_use]
    pub fn new(now: Now, config: ShardConfig, recovered: Recovered) -> Self {
        let ShardConfig {
            me,
            cluster_id,
            topology,
            seal,
            digest,
            table,
            limits,
            exchange_interval,
            hints,
            purge_rest,
            spare_max,
        } = config;
        let Recovered {
            timeline,
            incarnation,
            durable,
            applied,
            clean: _,
            volatile,
            losses,
            hints: kept_hints,
            memories,
            records,
            digests,
            log_bytes,
        } = recovered;
        let has_lost = losses.why.is_some() || !losses.lives.is_empty();
        let continuity = Continuity::new(
            now.mono,
            me,
            cluster_id,
            timeline,
            incarnation,
            &memories,
            &topology,
        );
        let lost = Lost {
            disk: losses.why.is_some(),
            memory: volatile == Volatile::Lost,
            only_copies: losses.only_copies,
        };
        let healing = Healing::new(me, &topology, lost, losses.in_doubt);
        let others = topology.nodes().iter().map(|node| node.id);
        let others = others.filter(|id| *id != me);
        let clocks = ClockCheck::new(others.clone());
        let exchanges = Exchanges::new(now.mono, exchange_interval, me, others);
        let unknown = if lost.disk {
            healing.lacking().collect()
        } else {
            BTreeSet::new()
        };
        let numbers = digests.all_numbers();
        let numbers = numbers.map(|(keyspace, vnode, numbers)| ((keyspace, vnode), numbers));
        let mut purges = Purges::new(purge_rest, numbers, unknown);
        let first_look = now.mono + purge::FIRST_LOOK_AFTER;
        let mut found_guests = Vec::new();
        for (keyspace, vnode, holdings) in digests.holdings() {
            let copies = topology.keyspace(keyspace).map(|known| known.copies);
            let owners = copies.map(|copies| topology.owners(vnode, copies));
            if owners.is_some_and(|owners| !owners.contains(&me)) {
                let bytes = usize::try_from(holdings.bytes).unwrap_or(usize::MAX);
                found_guests.push(((keyspace, vnode), bytes));
            }
            if leads(&topology, me, (keyspace, vnode)) {
                purges.look((keyspace, vnode), first_look);
            }
        }
        let mut shard = Self {
            me,
            topology,
            seal,
            digest,
            limits,
            table: Table::new(table, durable, records, digests, log_bytes),
            continuity,
            healing,
            lost_why: losses.why,
            doubt_noted: losses.in_doubt,
            declared_lost: losses.declared,
            clocks,
            applied,
            ingesting: false,
            ingests: 0,
            counter: 0,
            timestamp: now.wall_micros,
            timestamp_at: now.mono,
            // Answers to an earlier life must not meet an operation of this one.
            next_op: incarnation.0 << 32,
            ops: FixedMap::default(),
            unanswered: Unanswered::default(),
            scan_gets: 0,
            admission: Admission::new(now.mono, limits.requests_max),
            budget: Budget::new(now.mono, limits.background),
            bytes_in_flight: 0,
            replica_inputs: 0,
            timers: BTreeMap::new(),
            parked: FixedMap::default(),
            unacked: VecDeque::new(),
            down: BTreeSet::new(),
            next_sweep: now.mono,
            last_step: now,
            standstill: (Duration::ZERO, now.mono),
            disk_full: false,
            draining: false,
            stopped: false,
            hints_wanted: 0,
            scratch: Vec::new(),
            scans: BTreeMap::new(),
            scan_reads: BTreeMap::new(),
            batches: BTreeMap::new(),
            tails: PeerTails::default(),
            exchanges,
            hints: Hints::new(now.mono, hints, kept_hints),
            hints_sent: deliver::Deliveries::default(),
            hints_expire_at: now.mono,
            guests: Guests::new(now.mono, limits.guest_bytes_max, found_guests, has_lost),
            guests_sent: deliver::Deliveries::default(),
            guests_reading: false,
            guests_from: Bytes::new(),
            delivered_bytes: 0,
            purges,
            purge_gathers: BTreeMap::new(),
            purge_look_from: None,
            next_purge: now.mono,
            spare_max,
            own_replies: VecDeque::new(),
        };
        shard.heed_declared();
        shard
    }

    /// Feeds one input; appends effects in the order they must be carried out.
    pub fn step(&mut self, now: Now, input: Input, effects: &mut Effects) {
        if self.stopped {
            return;
        }
        self.note_standstill(now);
        let before = effects.len();
        match input {
            Input::Request {
                from,
                received,
                deadline,
                mut request,
            } => {
                request.grow_older(now.mono.since(received) + self.stood_still(now));
                let asked = asked(now, request.kind(), received);
                let origin = Origin::Client { to: from, asked };
                self.request(now, origin, deadline, request, effects);
            }
            Input::Peer {
                from,
                link,
                header,
                message,
            } => {
                self.peer(now, from, link, header, message, effects);
            }
            Input::Link(LinkEvent::Up { peer, link }) => {
                self.continuity.link_up(now.mono, peer, link, effects);
            }
            Input::Link(LinkEvent::Down { peer, link }) => {
                self.continuity.link_down(peer, link);
                self.clocks.link_down(peer);
                self.retry_forwards(now, peer, effects);
            }
            Input::Store(event) => {
                self.store_event(now, event, effects);
                self.table.trim(self.digest);
            }
            Input::DiskSpace {
                free_bytes,
                total_bytes,
            } => {
                let least = u64::from(self.limits.disk_free_min_percent);
                self.disk_full = free_bytes.saturating_mul(100) < total_bytes.saturating_mul(least);
            }
            Input::Tick => self.tick(now, effects),
            Input::Drain => self.draining = true,
            Input::Contradicted(copies) => self.contradicted(now, copies, effects),
            Input::Compare {
                number,
                peer,
                purpose,
                first,
            } => self.compare(now, (number, peer), (purpose, first), effects),
            Input::AcceptLosses => {
                self.healing.accept_doubt();
                self.note_doubt(effects);
            }
            Input::DeclareLost { number, nodes } => {
                self.declare_lost(now, number, &nodes, effects);
            }
            Input::Rival { peer } => effects.push(Effect::Stop(StopReason::Rival { peer })),
            Input::Scan {
                from,
                received,
                deadline,
                request,
            } => self.scan(now, from, received, deadline, request, effects),
            Input::Shed {
                from,
                kind,
                received,
            } => {
                effects.push(Effect::Count(Event::Shed));
                let asked = asked(now, kind, received);
                let origin = Origin::Client { to: from, asked };
                self.reply(origin, Reply::Failed(Self::overloaded()), effects);
            }
            Input::Batch {
                from,
                received,
                deadline,
                mut items,
            } => {
                let held = now.mono.since(received) + self.stood_still(now);
                items.iter_mut().for_each(|item| item.grow_older(held));
                self.batch(now, from, received, deadline, items, effects);
            }
        }
        self.take_own_replies(now, effects);
        for effect in effects.iter().skip(before) {
            match effect {
                Effect::Stop(_) => self.stopped = true,
                Effect::Send { to, message } if message.asks() => self.tails.asked(now.mono, *to),
                Effect::Count(Event::Shed) => {
                    self.tails.overloaded(now.mono);
                    self.budget.shed();
                }
                _ => {}
            }
        }
    }

    /// The process was stopped, or did not come to run: requests may have waited in the system's
    /// buffers meanwhile, where nobody counts their age.
    fn note_standstill(&mut self, now: Now) {
        let span = now.mono.since(self.last_step.mono);
        self.last_step = now;
        if span >= STANDSTILL_MIN {
            self.standstill = (span, now.mono + STANDSTILL_READ);
        }
    }

    /// How much older than they say requests of clients may be at this moment.
    fn stood_still(&self, now: Now) -> Duration {
        let (span, until) = self.standstill;
        if now.mono < until {
            span
        } else {
            Duration::ZERO
        }
    }

    /// What every frame that leaves now carries.
    #[must_use]
    pub fn header(&self) -> PeerHeader {
        PeerHeader {
            epoch: self.topology.epoch(),
            incarnation: self.continuity.incarnation(),
            durable: self.table.durable_lsn(),
        }
    }

    /// When the next tick has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> MonoTime {
        let slot = self.timers.first_key_value().map(|(slot, _)| *slot + 1);
        let timer = slot.map(|slot| MonoTime::from_micros(slot.saturating_mul(TIMER_SLOT_MICROS)));
        let fixed = self.continuity.next_deadline().min(self.next_sweep);
        let fixed = fixed.min(self.next_scan_deadline());
        timer.map_or(fixed, |timer| timer.min(fixed))
    }

    /// Whether every client has its answer: the node may stop cleanly. Coordinators elsewhere that
    /// still wait for this replica take it for one that went.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.unanswered == Unanswered::default()
    }

    /// Requests of clients that may be taken now; what finds no room waits where it can be refused.
    #[must_use]
    pub fn room(&self) -> usize {
        self.admission.room(self.unanswered)
    }

    /// Numbers for `status` and metrics.
    #[must_use]
    pub fn status(&self, now: Now) -> ShardStatus {
        let peers = self
            .continuity
            .peers(now.mono)
            .map(|(node, liveness, silent)| {
                let silent_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
                (node, liveness == Liveness::Up, silent_ms)
            });
        ShardStatus {
            incarnation: self.continuity.incarnation().0,
            durable_lsn: self.table.durable_lsn().0,
            applied_lsn: self.applied.0,
            vnodes: self.vnodes_counting(),
            table_records: self.table.records(),
            table_bytes: self.table.bytes(),
            cache_bytes: self.table.cache_bytes(),
            requests_in_flight: self.unanswered.total(),
            hints_wanted: self.hints_wanted,
            hints: self.hints.status(now.mono),
            guests: self.guests.status(now.mono),
            holdings: self.holdings(now),
            ingesting: self.ingesting,
            memory_whole: !self.healing.lost().memory,
            lost_why: self.lost_why.clone().filter(|_| self.healing.lost().disk),
            copies_lacking: self.healing.copies_lacking(),
            only_copies_lacking: self.healing.only_copies_lacking(),
            copies_in_doubt: self.healing.copies_in_doubt(),
            memory_copies_in_doubt: self.healing.memory_copies_in_doubt(),
            declared_lost: self.declared_lost.clone(),
            purge: self.purge_status(now),
            background: self.budget.status(now.mono),
            guest_bytes_max: self.limits.guest_bytes_max as u64,
            disk_full: self.disk_full,
            clock_good: self.clocks.trust(now) == ClockTrust::Good,
            pairs: self.exchanges.status(now.mono),
            peers: peers.collect(),
        }
    }

    /// The slow read is about to read so many bytes: pays for as many of them as the budget lets
    /// it.
    pub fn pay_for_scrub(&mut self, now: Now, cost: u64) -> u64 {
        if !self.budget.may(now.mono, Kind::Scrub) {
            return 0;
        }
        let paid = self.budget.left(Kind::Scrub).min(cost);
        self.budget.charge(now.mono, Kind::Scrub, paid);
        paid
    }

    fn purge_status(&self, now: Now) -> PurgeStatus {
        let held = self.table.digests().holdings();
        let led = held.filter(|(keyspace, vnode, _)| self.leads((*keyspace, *vnode)));
        let waiting = led.map(|(.., holdings)| holdings.tombstones).sum();
        self.purges.status(now.mono, waiting)
    }

    fn holdings(&self, now: Now) -> Vec<KeyspaceHoldings> {
        let is_first_up = |owners: &[NodeId]| {
            let up =
                |node: &&NodeId| **node == self.me || self.liveness(now, **node) != Liveness::Down;
            owners.iter().find(up) == Some(&self.me)
        };
        let mut keyspaces: BTreeMap<KeyspaceId, KeyspaceHoldings> = BTreeMap::new();
        for (keyspace, vnode, holdings) in self.table.digests().holdings() {
            let copies = self.topology.keyspace(keyspace).map(|known| known.copies);
            let owners = copies.map(|copies| self.topology.owners(vnode, copies));
            let is_first = owners.is_some_and(is_first_up);
            let sums = keyspaces.entry(keyspace).or_insert(KeyspaceHoldings {
                keyspace,
                all: Holdings::default(),
                first: Holdings::default(),
            });
            sums.all = sums.all.and(holdings);
            if is_first {
                sums.first = sums.first.and(holdings);
            }
        }
        keyspaces.into_values().collect()
    }

    /// Reads of the durable view for admin commands.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The topology in force.
    #[must_use]
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    fn request(
        &mut self,
        now: Now,
        origin: Origin,
        deadline: MonoTime,
        request: Request,
        effects: &mut Effects,
    ) {
        let (keyspace, key) = request.target();
        let place = match self.locate(keyspace, key) {
            Ok(place) => place,
            Err(failure) => return self.reply(origin, Reply::Failed(failure), effects),
        };
        // Before it is handed on: what certainly is not applied must not end as unknown on the way.
        if !request.fits_mode(place.mode) {
            let failure = Failure::refused(Cause::WrongMode);
            return self.reply(origin, Reply::Failed(failure), effects);
        }
        if let Err(failure) = self.admit(now, &origin, deadline, request.bytes()) {
            effects.push(Effect::Count(Event::Shed));
            return self.reply(origin, Reply::Failed(failure), effects);
        }
        let is_owner = place.is_owner;
        if is_owner
            && self
                .healing
                .lacks_only_copy(place.keyspace, place.location.vnode)
        {
            let failure = Failure::refused(Cause::CopyLost);
            return self.reply(origin, Reply::Failed(failure), effects);
        }
        // What is here may be from before a purge: nobody may come to see it.
        let knows = self.knows_numbers(&place);
        if !knows && matches!(origin, Origin::Forwarder { .. }) {
            let mut failure = Failure::refused(Cause::NotReady);
            failure.retry_after_ms = RETRY_AFTER_SHED_MS;
            return self.reply(origin, Reply::Failed(failure), effects);
        }
        let coordinates = if is_owner {
            knows
        } else {
            self.stands_in(now, &place, &origin, &request)
        };
        if !coordinates && !is_owner && matches!(origin, Origin::Forwarder { .. }) {
            // Handed to this node as a fallback, which it cannot be now.
            let mut failure = Failure::refused(Cause::NotReady);
            failure.retry_after_ms = RETRY_AFTER_SHED_MS;
            return self.reply(origin, Reply::Failed(failure), effects);
        }
        if !coordinates {
            return self.forward(now, origin, deadline, &place, request, effects);
        }
        match request {
            Request::Write(write) => {
                let arrived = now.mono;
                let writing = Writing {
                    origin,
                    deadline,
                    arrived,
                    place,
                    request: write,
                    has_looked: false,
                };
                self.write(now, writing, effects);
            }
            Request::Read(read) => {
                let asking = Asking {
                    origin,
                    deadline,
                    place,
                };
                self.read(now, asking, read.level, Requirement::default(), effects);
            }
            Request::Resolve(request) => {
                self.resolve(now, origin, deadline, place, &request, effects);
            }
            Request::SessionRead(request) => {
                let asking = Asking {
                    origin,
                    deadline,
                    place,
                };
                self.session_read(now, asking, &request, effects);
            }
        }
    }

    fn locate(&self, keyspace: &str, key: &Bytes) -> Result<Place, Failure> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(Failure::refused(Cause::KeyInvalid).with_limit(KEY_BYTES_MAX));
        }
        let keyspace = self
            .topology
            .keyspace_named(keyspace)
            .ok_or_else(|| Failure::refused(Cause::KeyspaceUnknown))?;
        Ok(self.place(keyspace, key))
    }

    fn place(&self, keyspace: &Keyspace, key: &[u8]) -> Place {
        let location = self.topology.locate(keyspace.id, key);
        let key = RecordKey::new(keyspace.id, location.vnode, key);
        let owners = self.topology.owners(location.vnode, keyspace.copies);
        Place {
            is_owner: owners.contains(&self.me),
            key,
            keyspace: keyspace.id,
            mode: keyspace.mode,
            copies: keyspace.copies,
            options: keyspace.options,
            location,
        }
    }

    fn admit(
        &self,
        now: Now,
        origin: &Origin,
        deadline: MonoTime,
        bytes: usize,
    ) -> Result<(), Failure> {
        let is_admitted = match origin {
            Origin::Forwarder { .. } => false,
            // As a whole, when it was taken.
            Origin::Batch { .. } | Origin::Exchange { .. } => true,
            Origin::Client { .. } | Origin::Scan { .. } => {
                self.admission.share_left(self.unanswered) > 0
            }
        };
        let full = self.unanswered.total() >= self.limits.requests_max && !is_admitted
            || self.bytes_in_flight + bytes > self.limits.request_bytes_max;
        let cause = if self.draining {
            Cause::ShuttingDown
        } else if now.mono >= deadline {
            Cause::DeadlineExceeded
        } else if full {
            Cause::Overloaded
        } else {
            return Ok(());
        };
        Err(match cause {
            Cause::Overloaded => Self::overloaded(),
            cause => Failure::refused(cause),
        })
    }

    /// The refusal of what is too much, with advice when to try again.
    fn overloaded() -> Failure {
        let mut failure = Failure::refused(Cause::Overloaded);
        failure.retry_after_ms = RETRY_AFTER_SHED_MS;
        failure
    }

    fn peer(
        &mut self,
        now: Now,
        from: NodeId,
        link: u64,
        header: PeerHeader,
        message: PeerMessage,
        effects: &mut Effects,
    ) {
        if let PeerMessage::Hello(hello) = &message {
            let durable = self.table.durable_lsn();
            let known = hello.from == from;
            let before = self.continuity.last_life(from);
            if known
                && self
                    .continuity
                    .hello(now.mono, link, header, hello, durable, effects)
            {
                self.continuity.judge_counting(now.mono, &self.topology);
                self.down.remove(&from);
                self.heard_again(from, effects);
                if before.is_some_and(|before| before != header.incarnation) {
                    self.began_anew(now, from, effects);
                }
                if before != Some(header.incarnation) {
                    self.look_for_crowded(now, from);
                }
                self.probe_clock(now, from, effects);
                self.send_again(now, from, effects);
                self.exchange_soon(now.mono, from);
            }
            return;
        }
        if !self.continuity.heard(now.mono, from, link, header, effects) {
            return;
        }
        self.heard_again(from, effects);
        self.tails.heard(from);
        match message {
            PeerMessage::Hello(_) => {}
            PeerMessage::KeepAlive(message) => {
                let durable = self.table.durable_lsn();
                self.continuity
                    .keep_alive(now.mono, from, &message, durable, effects);
            }
            PeerMessage::Replicate(message) => {
                self.replicate(now, from, header.epoch, message, effects);
            }
            PeerMessage::ReplicateReply(reply) => self.replicated(now, from, reply, effects),
            PeerMessage::Read(message) => self.peer_read(now, from, header.epoch, message, effects),
            PeerMessage::ReadReply(reply) => self.peer_read_reply(now, from, reply, effects),
            PeerMessage::Forward(message) => {
                let origin = Origin::Forwarder {
                    node: from,
                    op: message.op,
                    taken: now.mono,
                };
                let deadline = now.mono + message.budget;
                let mut request = message.request;
                // Of an attempt whose way nobody can bound nothing is believed.
                let on_the_way = message.sent_after.map(|sent| now.mono.since(sent));
                request.grow_older(on_the_way.unwrap_or(Duration::MAX));
                self.forwarded(now, origin, deadline, request, effects);
            }
            PeerMessage::ForwardReply(reply) => self.forward_reply(reply, effects),
            PeerMessage::Clock(probe) => {
                if self.clocks.heard(now, from, probe) {
                    self.probe_clock(now, from, effects);
                }
            }
            PeerMessage::Scan(ask) => self.peer_scan(now, from, header.epoch, ask, effects),
            PeerMessage::ScanReply(reply) => self.peer_scan_reply(now, from, reply, effects),
            PeerMessage::Exchange(ask) => {
                self.peer_exchange(now, from, header.epoch, ask, effects);
            }
            PeerMessage::ExchangeReply(reply) => {
                self.peer_exchange_reply(now, from, reply, effects);
            }
            PeerMessage::Purge(ask) => self.peer_purge(now, from, header.epoch, ask, effects),
            PeerMessage::PurgeReply(reply) => self.peer_purge_reply(now, from, reply, effects),
        }
    }

    /// A peer began a new life: what earlier ones acknowledged counts for nothing that is open,
    /// because the new one may have lost it.
    fn began_anew(&mut self, now: Now, peer: NodeId, effects: &mut Effects) {
        self.guests_again(peer);
        for _ in 0..self.purges.began_anew(peer, now.mono) {
            effects.push(Effect::Count(Event::PurgeRoundFailed));
        }
        for number in self.open_ops() {
            match self.ops.get_mut(&number) {
                Some(Op::Put(put)) => put.machine.began_anew(peer),
                Some(Op::Get(get)) => get.machine.began_anew(peer),
                Some(Op::Forward(_) | Op::Resolve(_)) | None => {}
            }
        }
    }

    fn probe_clock(&self, now: Now, to: NodeId, effects: &mut Effects) {
        let message = PeerMessage::Clock(self.clocks.probe(now, to));
        effects.push(Effect::Send { to, message });
    }

    fn tick(&mut self, now: Now, effects: &mut Effects) {
        let told = self.continuity.tick(now.mono, &self.topology, effects);
        for peer in told {
            self.probe_clock(now, peer, effects);
        }
        let due = now.mono.as_micros() / TIMER_SLOT_MICROS;
        while let Some(entry) = self.timers.first_entry()
            && *entry.key() < due
        {
            let slot = *entry.key();
            for op in entry.remove() {
                let armed = self
                    .ops
                    .get_mut(&op)
                    .map(Op::armed)
                    .filter(|armed| **armed == slot);
                if let Some(armed) = armed {
                    *armed = UNARMED;
                    self.tick_op(now, op, effects);
                }
            }
        }
        if now.mono >= self.next_sweep {
            self.sweep(now, effects);
        }
        if self.room() == 0 {
            self.budget.crowded();
        }
        // Scans take as long as they are large: their time says nothing, so neither does their
        // number.
        let of_scans = self.scans.len() + self.scan_gets;
        let open = self.unanswered.total().saturating_sub(of_scans);
        self.budget.observe(now.mono, open);
        self.tick_scans(now, effects);
        self.tick_hints(now, effects);
        self.tick_guests(now, effects);
        self.tick_exchanges(now, effects);
        self.tick_purges(now, effects);
        self.table.trim(self.digest);
        // Not only after a commit: a node may start with more log than lets it take a write.
        self.freeze_if_due(effects);
    }

    /// Judges open operations anew when a peer has just gone down.
    fn sweep(&mut self, now: Now, effects: &mut Effects) {
        self.next_sweep = now.mono + Duration::from_millis(50);
        let peers = self.continuity.peers(now.mono);
        let down: BTreeSet<NodeId> = peers
            .filter(|(_, liveness, _)| *liveness == Liveness::Down)
            .map(|(node, ..)| node)
            .collect();
        let gone: Vec<NodeId> = down.difference(&self.down).copied().collect();
        self.down = down;
        for peer in &gone {
            self.retry_forwards(now, *peer, effects);
        }
        if !gone.is_empty() {
            for op in self.open_ops() {
                self.tick_op(now, op, effects);
            }
            self.judge_scans(now, effects);
        }
    }

    fn open_ops(&self) -> Vec<OpNumber> {
        let mut ops: Vec<OpNumber> = self.ops.keys().copied().collect();
        ops.sort_unstable();
        ops
    }

    fn tick_op(&mut self, now: Now, number: OpNumber, effects: &mut Effects) {
        match self.ops.get(&number) {
            None => {}
            Some(Op::Put(_)) => self.tick_put(now, number, effects),
            Some(Op::Get(_)) => self.tick_get(now, number, effects),
            Some(Op::Forward(_)) => self.tick_forward(now, number, effects),
            Some(Op::Resolve(_)) => self.judge_resolve(now, number, effects),
        }
    }

    /// Ticks an operation at `at`, or in the next slot if that is past: never again at this moment,
    /// or a tick that asks for another one would not end.
    fn wake_at(&mut self, now: Now, at: MonoTime, op: OpNumber) {
        let present = now.mono.as_micros() / TIMER_SLOT_MICROS;
        let slot = (at.as_micros() / TIMER_SLOT_MICROS).max(present);
        if let Some(armed) = self.ops.get_mut(&op).map(Op::armed)
            && slot < *armed
        {
            *armed = slot;
            self.timers.entry(slot).or_default().push(op);
        }
    }

    /// A peer can be talked to again: sends it what open operations still want from it.
    fn send_again(&mut self, now: Now, peer: NodeId, effects: &mut Effects) {
        self.send_scans_again(now, peer, effects);
        for number in self.open_ops() {
            let message = match self.ops.get(&number) {
                Some(Op::Put(put)) if put.machine.wants(peer) => {
                    PeerMessage::Replicate(put.machine.replicate(now.mono, peer))
                }
                Some(Op::Get(get)) if get.machine.waits_for(peer) => {
                    PeerMessage::Read(get.machine.read(now.mono, peer))
                }
                Some(Op::Get(get)) if get.machine.repairs(peer) => {
                    match Self::repair_message(now, number, peer, get) {
                        Some(message) => message,
                        None => continue,
                    }
                }
                Some(Op::Resolve(resolve)) => match resolve.machine.wants(peer) {
                    Some(ResolveStep::Ask(_)) => PeerMessage::Read(resolve.machine.read(now.mono)),
                    Some(ResolveStep::Secure(_)) => {
                        PeerMessage::Replicate(resolve.machine.secure(now.mono))
                    }
                    Some(ResolveStep::Answer { .. } | ResolveStep::Fail(_)) | None => continue,
                },
                Some(Op::Put(_) | Op::Get(_) | Op::Forward(_)) | None => continue,
            };
            effects.push(Effect::Send { to: peer, message });
        }
    }

    fn new_op(&mut self, now: Now, op: Op, wake: MonoTime) -> OpNumber {
        let number = self.next_number();
        self.insert_op(now, number, op, wake);
        number
    }

    fn next_number(&mut self) -> OpNumber {
        self.next_op += 1;
        OpNumber(self.next_op)
    }

    fn insert_op(&mut self, now: Now, number: OpNumber, op: Op, wake: MonoTime) {
        let (origin, bytes) = match &op {
            Op::Put(put) => (&put.origin, put.bytes),
            Op::Get(get) => (&get.origin, get.bytes),
            Op::Forward(forward) => (&forward.origin, forward.bytes),
            Op::Resolve(resolve) => (&resolve.origin, resolve.bytes),
        };
        self.hold(origin, bytes);
        self.ops.insert(number, op);
        self.wake_at(now, wake, number);
    }

    /// A request is worked on from now on.
    fn hold(&mut self, origin: &Origin, bytes: usize) {
        if let Some(unanswered) = self.unanswered_of(origin) {
            *unanswered += 1;
        }
        self.scan_gets += usize::from(matches!(origin, Origin::Scan { .. }));
        self.bytes_in_flight += bytes;
    }

    /// It is not any more.
    fn let_go(&mut self, origin: &Origin, bytes: usize) {
        if let Some(unanswered) = self.unanswered_of(origin) {
            *unanswered -= 1;
        }
        self.scan_gets -= usize::from(matches!(origin, Origin::Scan { .. }));
        self.bytes_in_flight -= bytes;
    }

    /// Where it counts; what the node asks itself in the background takes no client's room.
    const fn unanswered_of(&mut self, origin: &Origin) -> Option<&mut usize> {
        match origin {
            Origin::Forwarder { .. } => Some(&mut self.unanswered.forwarded),
            Origin::Client { .. } | Origin::Scan { .. } | Origin::Batch { .. } => {
                Some(&mut self.unanswered.queued)
            }
            Origin::Exchange { .. } => None,
        }
    }

    /// Answers an operation's origin and gives back what it was admitted with. The operation
    /// itself may live on.
    fn answer(&mut self, origin: Origin, bytes: usize, reply: Reply, effects: &mut Effects) {
        self.note_answered(self.taken(&origin));
        if let Some(came) = self.came(&origin) {
            self.budget.answered(self.last_step.mono.since(came));
        }
        self.let_go(&origin, bytes);
        self.reply(origin, reply, effects);
    }

    /// When the request was taken; that of a batch or a scan for what is a part of it.
    fn taken(&self, origin: &Origin) -> Option<MonoTime> {
        match origin {
            Origin::Client { asked, .. } => Some(asked.taken),
            Origin::Forwarder { taken, .. } => Some(*taken),
            Origin::Batch { op, .. } => self.batches.get(op).map(|batch| batch.asked.taken),
            Origin::Scan { op, .. } => self.scans.get(op).map(|scan| scan.asked.taken),
            Origin::Exchange { .. } => None,
        }
    }

    /// When the client sent what is to be answered, as far as this node knows; `None` of what takes
    /// as long as it is large, and of what no client asked for.
    fn came(&self, origin: &Origin) -> Option<MonoTime> {
        match origin {
            Origin::Client { asked, .. } => Some(asked.at),
            Origin::Forwarder { taken, .. } => Some(*taken),
            Origin::Batch { op, .. } => self.batches.get(op).map(|batch| batch.asked.at),
            Origin::Scan { .. } | Origin::Exchange { .. } => None,
        }
    }

    fn note_answered(&mut self, taken: Option<MonoTime>) {
        let now = self.last_step.mono;
        if let Some(taken) = taken {
            self.admission
                .answered(now, now.since(taken), self.unanswered.total());
        }
    }

    fn reply(&mut self, origin: Origin, reply: Reply, effects: &mut Effects) {
        effects.push(match origin {
            Origin::Client { to, asked } => Effect::Reply { to, asked, reply },
            Origin::Forwarder { node, op, .. } => Effect::Send {
                to: node,
                message: PeerMessage::ForwardReply(ForwardReply { op, reply }),
            },
            Origin::Scan { .. } | Origin::Batch { .. } | Origin::Exchange { .. } => {
                return self.own_replies.push_back((origin, reply));
            }
        });
    }

    /// Hands answers to scans and batches, which may ask again.
    fn take_own_replies(&mut self, now: Now, effects: &mut Effects) {
        while let Some((origin, reply)) = self.own_replies.pop_front() {
            match origin {
                Origin::Scan { op, row } => self.scan_row_read(now, op, row, reply, effects),
                Origin::Batch { op, item } => self.batch_item_done(op, item, reply, effects),
                Origin::Exchange { op } => self.key_healed(now, op, &reply, effects),
                Origin::Client { .. } | Origin::Forwarder { .. } => {}
            }
        }
    }

    /// The owners of a key, in the order of the preference list.
    fn owners(&self, place: &Place) -> Owners {
        let owners = self.topology.owners(place.location.vnode, place.copies);
        if planted(Bug::PlacementOrder) {
            // Each coordinator walks from itself: beyond N nodes they pick different owners.
            let nodes = self.topology.nodes();
            let walk = nodes.iter().map(|node| node.id).cycle();
            return walk
                .skip_while(|id| *id != self.me)
                .take(owners.len())
                .collect();
        }
        owners.into()
    }

    fn liveness(&self, now: Now, node: NodeId) -> Liveness {
        self.continuity.liveness(now.mono, node)
    }

    fn counts(&self, place: &Place) -> bool {
        let (keyspace, copies) = (place.keyspace, place.copies);
        self.counts_as(place.is_owner, keyspace, copies, place.location.vnode)
    }

    /// Whether this node counts as what it is asked as.
    fn counts_as(&self, owner: bool, keyspace: KeyspaceId, copies: Copies, vnode: VnodeId) -> bool {
        if owner {
            self.counts_for(keyspace, copies, vnode)
        } else {
            self.counts_as_fallback()
        }
    }

    /// Whether this node, one of the owners, counts for its copy of a vnode of a keyspace.
    fn counts_for(&self, keyspace: KeyspaceId, copies: Copies, vnode: VnodeId) -> bool {
        self.continuity.counts(copies, vnode) && !self.healing.lacks(keyspace, vnode)
    }

    /// Vnodes of which this node owns a copy, in order, and whether it counts for all its copies of
    /// them that are on disk.
    fn vnodes_counting(&self) -> Vec<(VnodeId, bool)> {
        let mut vnodes = self.continuity.vnodes();
        let on_disk = |keyspace: &&Keyspace| keyspace.options.durability == Durability::Disk;
        for (vnode, counts) in &mut vnodes {
            let mut keyspaces = self.topology.keyspaces().iter().filter(on_disk);
            *counts &= !keyspaces.any(|keyspace| self.healing.lacks(keyspace.id, *vnode));
        }
        vnodes
    }

    /// What reads show: the durable state, or the newest where that is as durable as it gets.
    fn shown(&self, place: &Place) -> Lookup {
        match place.options.durability {
            Durability::Disk => self.table.durable(&place.key),
            Durability::Memory => self.table.newest(&place.key),
        }
    }

    /// What a client is told of a stamp.
    fn told(now: Now, stamp: u64) -> StampTold {
        let ahead = u64::try_from(SKEW_MAX.as_micros()).unwrap_or(u64::MAX);
        StampTold {
            stamp,
            feed: stamp.min(now.wall_micros.saturating_add(ahead)),
        }
    }

    /// A hybrid timestamp: never goes back, follows the wall clock and what was seen.
    ///
    /// Above all timestamps of the record, else a node whose clock is behind would take a hot key's
    /// whole list of op ids for younger than a first attempt. While it is ahead of the wall clock,
    /// after one that was wrong, it goes on at half the pace of time: were it to stand still until
    /// it is caught up, then a list's whole span would be a few microseconds, younger than any
    /// attempt; at the full pace it would stay ahead for ever.
    fn next_timestamp(&mut self, now: Now, record: &Record) -> u64 {
        let siblings = record.siblings().iter().map(Sibling::timestamp);
        let superseded = record.superseded().entries().iter().map(|op| op.timestamp);
        let seen = siblings.chain(superseded).max().unwrap_or(0);
        let passed = now.mono.since(self.timestamp_at).as_micros() / 2;
        let passed = u64::try_from(passed).unwrap_or(u64::MAX).max(1);
        self.timestamp_at = now.mono;
        self.timestamp = now
            .wall_micros
            .max(self.timestamp.saturating_add(passed))
            .max(seen.saturating_add(1));
        self.timestamp
    }
}
