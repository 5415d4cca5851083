//! What a seed is: the cluster, the workload and the faults, all drawn before the run starts.
//!
//! Swarm style: each seed switches most faults off, so that what is on happens often and together.
//! A fault that is on must take effect, or the run is rejected.

use std::collections::BTreeSet;
use std::sync::Arc;

use quorate_ring::{
    Copies, Durability, Epoch, Keyspace, KeyspaceId, KeyspaceMode, KeyspaceOptions, Node, NodeId,
    Topology, VnodeCount, Weight, Zone,
};

use super::client_net::ClientTemper;
use super::net::NetTemper;
use super::rand::SimRand;
use super::workload_overload::Overload;

/// Seeds under this one stay what they were when a kind of fault is added: tests name them.
const NAMED_SEEDS: u64 = 10;
/// And these, which tests name too.
const NAMED_LATER: [u64; 1] = [232];

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($(#[$doc])* $name,)* }

        impl Fault {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The counter under which its effect is counted.
            #[must_use]
            pub const fn counter(self) -> &'static str {
                match self { $(Self::$name => concat!("fault.", $text),)* }
            }
        }
    };
}

faults! {
    /// kill -9 of one node: what was written stays in the page cache.
    Kill = "kill";
    /// kill -9 of several nodes, or of all, at once.
    KillMany = "kill-many";
    /// Power loss of one machine: what was not synced is lost or torn.
    Power = "power-loss";
    /// Power loss of several machines, or of all, at once.
    PowerMany = "power-loss-many";
    /// kill -9, a restart that serves from the page cache, then power loss.
    KillThenPower = "kill-then-power";
    /// Power loss with several batches unsynced, a short life, and power loss again, a few times.
    PowerAgain = "power-loss-again";
    /// A clean stop, a start, then power loss at once.
    StopThenPower = "stop-then-power";
    /// A clean stop and a start.
    Stop = "clean-stop";
    /// A process is stopped and goes on later.
    Pause = "pause";
    /// The cluster in two halves.
    Cut = "cut";
    /// One direction between two nodes.
    OneWay = "one-way";
    /// One node alone.
    Isolate = "isolate";
    /// Two halves and one node that sees both.
    Bridge = "bridge";
    /// Every node sees a majority, each another one.
    Ring = "majorities-ring";
    /// A cut that comes and goes.
    Flap = "flapping";
    /// A slow direction.
    Clog = "clog";
    /// A thin direction.
    Bandwidth = "bandwidth";
    /// Connections between nodes end.
    LinkReset = "link-reset";
    /// Frames overtake each other.
    Reorder = "reorder";
    /// Frames arrive twice.
    Duplicate = "duplicate";
    /// Frames arrive after the end of their connection.
    Stale = "stale";
    /// Clients' requests are lost.
    RequestLost = "request-lost";
    /// Answers to clients are lost.
    ReplyLost = "reply-lost";
    /// Clients' connections are reset.
    ClientReset = "client-reset";
    /// A client does not reach a node.
    ClientCut = "client-cut";
    /// A slow disk.
    DiskSlow = "disk-slow";
    /// A disk that stands still.
    DiskStall = "disk-stall";
    /// A sync fails: the node must stop.
    SyncError = "sync-error";
    /// A disk is full, and empties again.
    DiskFull = "disk-full";
    /// A wall clock jumps.
    ClockJump = "clock-jump";
    /// A monotonic clock drifts.
    ClockRate = "clock-rate";
    /// A write of the store fails: the node must stop.
    WriteError = "write-error";
    /// The log or a record of the engine cannot be read: the node must refuse to serve.
    ReadError = "read-error";
    /// A disk is replaced by an empty one.
    DiskLost = "disk-lost";
    /// A disk is replaced by an old copy of it.
    DiskOld = "disk-old";
    /// A node stays away for longer than purge rounds rest.
    Away = "away";
    /// Copies of frames arrive after a purge round.
    Late = "late";
    /// A node that took writes alone, in place of owners, stays away for longer than purge rounds
    /// rest, while these go on.
    HolderAway = "holder-away";
}

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    /// W1: puts of unique immutable keys, read again later.
    UniqueKeys,
    /// W2: sets that are read, merged and written with their context.
    Sets,
    /// W3: blind puts on hot keys.
    Blind,
    /// W3 with each put on the context of the client's last put reply.
    Chained,
    /// W3 with deletes and re-creation.
    Deletes,
    /// W4: a register per key, read and written in sessions at levels that do not meet.
    Sessions,
    /// Hot keys of an lww keyspace, with clocks that jump.
    Lww,
    /// W14: operations of the wrong mode, through the SDK and past it.
    WrongMode,
    /// Hot keys whose values expire.
    Expiring,
    /// W15: bursts beyond what the nodes admit.
    Overload,
}

impl Workload {
    /// Every workload that is drawn for any seed; the others are added to a part of them.
    pub const ALL: &'static [Self] = &[
        Self::UniqueKeys,
        Self::Sets,
        Self::Blind,
        Self::Chained,
        Self::Deletes,
        Self::Lww,
        Self::WrongMode,
        Self::Expiring,
    ];

    /// Those that any keyspace of siblings can have.
    const USUAL: &'static [Self] = &[
        Self::UniqueKeys,
        Self::Sets,
        Self::Blind,
        Self::Chained,
        Self::Deletes,
    ];

    /// Whether every acknowledged write stays an element of the key's values: nothing is deleted,
    /// and every write after a context carries on what it saw.
    #[must_use]
    pub fn only_adds(self) -> bool {
        match self {
            Self::UniqueKeys | Self::Sets | Self::Overload => true,
            Self::Blind
            | Self::Chained
            | Self::Deletes
            | Self::Lww
            | Self::WrongMode
            | Self::Sessions
            | Self::Expiring => false,
        }
    }
}

/// One machine.
#[derive(Debug, Clone)]
pub struct MachinePlan {
    /// Drift of its monotonic clock in parts per million.
    pub rate_ppm: i64,
    /// How far its wall clock is off at the start.
    pub wall_skew_us: i64,
    /// Median time of a disk operation.
    pub disk_us: u64,
}

/// Everything that a seed decides.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Nodes, keyspaces and placement.
    pub topology: Arc<Topology>,
    /// One per node, in the order of the topology.
    pub machines: Vec<MachinePlan>,
    /// How many clients there are.
    pub clients: usize,
    /// Median pause of a client between two operations.
    pub think_us: u64,
    /// What they do; each operation draws one.
    pub workloads: Vec<Workload>,
    /// Hot keys per workload and keyspace.
    pub hot_keys: usize,
    /// Bytes that are added to every value: at least, at most.
    pub filler: (u64, u64),
    /// Each client chains on keys of its own, so that a record stays one value.
    pub own_chains: bool,
    /// Keyspaces of siblings; those of other modes come behind them.
    pub sibling_keyspaces: usize,
    /// Clients' wall clocks jump by up to an hour now and then, and all clocks are right after
    /// healing.
    pub clocks_jump: bool,
    /// The one node whose wall clock jumps.
    pub bad_clock: Option<NodeId>,
    /// Keyspaces are of durability `memory`, and only this node's process ever ends.
    pub memory_victim: Option<NodeId>,
    /// Memory for hints; 0 is none.
    pub hint_bytes_max: usize,
    /// Only hints bring copies together.
    pub hints_alone: bool,
    /// Deleted keys are purged within a run.
    pub purges: bool,
    /// W7: half of the operations are at a sloppy level.
    pub sloppy: bool,
    /// Clients begin far more at once than the nodes admit.
    pub overload: Option<Overload>,
    /// Clients scan what is there now and then.
    pub scans: bool,
    /// Clients read and write several keys at once now and then.
    pub batches: bool,
    /// Bytes of clean records that a node keeps: few, so that keys must be loaded again.
    pub cache_bytes: u64,
    /// Faults that are on.
    pub faults: BTreeSet<Fault>,
    /// Mean time between two faults.
    pub fault_gap_us: u64,
    /// The network between nodes.
    pub net: NetTemper,
    /// The network of clients.
    pub client_net: ClientTemper,
}

impl Plan {
    /// Draws a plan.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut rand = SimRand::derive(seed, 0, "plan");
        let nodes = rand.between(3, 7);
        let faults = draw_faults(&mut rand);
        let on = |fault: Fault| faults.contains(&fault);
        let machines = (0..nodes)
            .map(|_| draw_machine(&mut rand, &faults))
            .collect();
        let topology = draw_topology(&mut rand, nodes);
        let mut workloads: Vec<Workload> = Workload::USUAL.to_vec();
        rand.shuffle(&mut workloads);
        workloads.truncate(1 + rand.index(3));
        let p = |rand: &mut SimRand, fault: Fault, max: f64| {
            if on(fault) {
                max * (0.1 + 0.9 * rand.unit())
            } else {
                0.0
            }
        };
        let net = NetTemper {
            latency_us: rand.between(100, 5000),
            sigma: 0.2 + 0.8 * rand.unit(),
            reorder: p(&mut rand, Fault::Reorder, 0.2),
            duplicate: p(&mut rand, Fault::Duplicate, 0.2),
            stale: p(&mut rand, Fault::Stale, 1.0),
            late: 0.0,
            idle_us: rand.between(1_000_000, 4_000_000),
        };
        let client_net = ClientTemper {
            latency_us: rand.between(100, 5000),
            request_lost: p(&mut rand, Fault::RequestLost, 0.1),
            reply_lost: p(&mut rand, Fault::ReplyLost, 0.15),
            reset: p(&mut rand, Fault::ClientReset, 0.1),
        };
        let mut plan = Self {
            seed,
            sibling_keyspaces: topology.keyspaces().len(),
            clocks_jump: false,
            bad_clock: None,
            memory_victim: None,
            hint_bytes_max: 1 << 20,
            hints_alone: false,
            purges: false,
            sloppy: false,
            overload: None,
            scans: false,
            batches: false,
            cache_bytes: 32 << 10,
            topology,
            machines,
            clients: 3 + rand.index(6),
            think_us: rand.between(20_000, 300_000),
            workloads,
            hot_keys: 1 + rand.index(8),
            filler: (0, if rand.chance(0.3) { 4000 } else { 200 }),
            own_chains: false,
            fault_gap_us: rand.between(800_000, 5_000_000),
            net,
            client_net,
            faults,
        };
        plan.draw_power_again();
        plan.draw_sessions();
        plan.draw_modes();
        plan.draw_disk_errors();
        plan.draw_disk_losses();
        plan.draw_hints();
        plan.draw_overload();
        plan.draw_purges();
        plan.draw_sloppy();
        let named = seed < NAMED_SEEDS || NAMED_LATER.contains(&seed);
        if !named && SimRand::derive(seed, 0, "cache").chance(0.3) {
            // Nothing stays that the engine holds, but digests.
            plan.cache_bytes = 0;
        }
        plan.scans = !named && SimRand::derive(seed, 0, "scans").chance(0.5);
        plan.batches = !named && SimRand::derive(seed, 0, "batches").chance(0.4);
        plan
    }

    /// Fair weather for `nodes` equal nodes: one keyspace with three copies, no fault, steady
    /// clocks, and a network in which what is sent at one time arrives at about one time.
    #[must_use]
    pub fn of_fair_weather(seed: u64, nodes: u32, vnodes: VnodeCount) -> Self {
        let member = |number: u32| Node {
            id: NodeId(number),
            name: format!("n{number}").parse().expect("a plain name"),
            address: format!("n{number}:7000"),
            weight: Weight::new(1.0).expect("above 0"),
            zone: Zone(String::new()),
        };
        let keyspace = Keyspace {
            id: KeyspaceId(1),
            name: "default".parse().expect("a plain name"),
            mode: KeyspaceMode::Siblings,
            options: KeyspaceOptions::default(),
            copies: Copies::new(3).expect("above 0"),
        };
        let epoch = Epoch {
            generation: 1,
            number: 1,
        };
        let members = (1..=nodes).map(member).collect();
        let topology = Topology::new(epoch, vnodes, members, vec![keyspace]);
        Self {
            seed,
            topology: Arc::new(topology.expect("three copies fit three nodes or more")),
            machines: (0..nodes)
                .map(|_| MachinePlan {
                    rate_ppm: 0,
                    wall_skew_us: 0,
                    disk_us: 100,
                })
                .collect(),
            clients: 0,
            think_us: 0,
            workloads: Vec::new(),
            hot_keys: 0,
            filler: (0, 0),
            own_chains: false,
            sibling_keyspaces: 1,
            clocks_jump: false,
            bad_clock: None,
            memory_victim: None,
            hint_bytes_max: 1 << 20,
            hints_alone: false,
            purges: false,
            sloppy: false,
            overload: None,
            scans: false,
            batches: false,
            // What a cluster has to load depends on how many nodes share the keys.
            cache_bytes: 64 << 20,
            faults: BTreeSet::new(),
            fault_gap_us: 1_000_000,
            net: NetTemper {
                latency_us: 100,
                sigma: 0.1,
                reorder: 0.0,
                duplicate: 0.0,
                stale: 0.0,
                late: 0.0,
                idle_us: 4_000_000,
            },
            client_net: ClientTemper {
                latency_us: 100,
                request_lost: 0.0,
                reply_lost: 0.0,
                reset: 0.0,
            },
        }
    }

    /// Turns a part of the seeds without other plans into runs of overload, from a random stream of
    /// its own.
    fn draw_overload(&mut self) {
        let mut rand = SimRand::derive(self.seed, 0, "overload");
        let usual = self.workloads.iter().all(|w| Workload::USUAL.contains(w));
        let named = self.seed < NAMED_SEEDS || NAMED_LATER.contains(&self.seed);
        let taken = self.faults.contains(&Fault::PowerAgain) || self.memory_victim.is_some();
        if !rand.chance(0.3) || !usual || named || taken {
            return;
        }
        let requests_max = 2 + rand.index(7);
        // Five times what all nodes admit, begun by all clients together.
        let admitted = requests_max * self.topology.nodes().len();
        self.overload = Some(Overload {
            requests_max,
            burst: (5 * admitted).div_ceil(self.clients),
        });
        self.think_us = self.think_us.max(150_000);
        self.workloads = vec![Workload::Overload];
    }

    /// Turns a part of the seeds into runs for lww keyspaces, for TTLs, or for durability `memory`.
    /// Its random stream is its own.
    fn draw_modes(&mut self) {
        let mut rand = SimRand::derive(self.seed, 0, "modes");
        let named = self.seed < NAMED_SEEDS || NAMED_LATER.contains(&self.seed);
        let taken = self.faults.contains(&Fault::PowerAgain)
            || self.workloads.contains(&Workload::Sessions);
        if named || taken {
            return;
        }
        match rand.below(10) {
            0..=1 => self.make_lww(&mut rand),
            2..=3 => self.make_expiring(&mut rand),
            4 => self.make_memory(&mut rand),
            _ => {}
        }
    }

    fn with_keyspaces(&mut self, keyspaces: Vec<Keyspace>) {
        let old = &self.topology;
        let nodes = old.nodes().to_vec();
        let made = Topology::new(old.epoch(), old.vnode_count(), nodes, keyspaces);
        self.topology = Arc::new(made.expect("the plan draws what fits"));
    }

    /// Wall clocks that are near each other until a fault comes.
    fn near_clocks(&mut self, rand: &mut SimRand) {
        for machine in &mut self.machines {
            let ahead = i64::try_from(rand.below(100_000)).unwrap_or(0);
            machine.wall_skew_us = ahead - 50_000;
        }
    }

    fn make_lww(&mut self, rand: &mut SimRand) {
        let mut keyspaces = self.topology.keyspaces().to_vec();
        let most = u64::try_from(self.topology.nodes().len())
            .unwrap_or(3)
            .min(5);
        let copies = if rand.chance(0.7) {
            3
        } else {
            rand.between(1, most)
        };
        keyspaces.push(Keyspace {
            id: self.topology.next_keyspace_id(),
            name: "lww".parse().expect("a plain name"),
            mode: KeyspaceMode::Lww,
            options: KeyspaceOptions::default(),
            copies: Copies::new(u8::try_from(copies).unwrap_or(1)).expect("above 0"),
        });
        self.with_keyspaces(keyspaces);
        self.near_clocks(rand);
        self.faults.remove(&Fault::ClockJump);
        self.clocks_jump = rand.chance(0.7);
        if self.clocks_jump && rand.chance(0.7) {
            self.faults.insert(Fault::ClockJump);
        }
        self.workloads.truncate(1);
        self.workloads
            .extend([Workload::Lww, Workload::Lww, Workload::WrongMode]);
    }

    fn make_expiring(&mut self, rand: &mut SimRand) {
        self.near_clocks(rand);
        // Time to live means nothing where no two clocks agree.
        self.faults.remove(&Fault::ClockJump);
        self.faults.remove(&Fault::ClockRate);
        for machine in &mut self.machines {
            machine.rate_ppm = machine.rate_ppm.clamp(-50, 50);
        }
        if rand.chance(0.5) {
            let nodes = self.topology.nodes();
            self.bad_clock = rand.pick(nodes).map(|node| node.id);
            self.faults.insert(Fault::ClockJump);
        }
        self.workloads.truncate(1);
        self.workloads
            .extend([Workload::Expiring, Workload::Expiring]);
    }

    fn make_memory(&mut self, rand: &mut SimRand) {
        let three = Copies::new(3).expect("above 0");
        let memory = |keyspace: &Keyspace| Keyspace {
            copies: three,
            options: KeyspaceOptions {
                durability: Durability::Memory,
                ..keyspace.options
            },
            ..keyspace.clone()
        };
        self.with_keyspaces(self.topology.keyspaces().iter().map(memory).collect());
        // One that owns something: faults of its disk must take effect.
        let owns = |node: &&Node| {
            let mut vnodes = self.topology.vnode_count().vnodes();
            vnodes.any(|vnode| self.topology.is_owner(vnode, three, node.id))
        };
        let owners: Vec<NodeId> = self
            .topology
            .nodes()
            .iter()
            .filter(owns)
            .map(|n| n.id)
            .collect();
        self.memory_victim = rand.pick(&owners).copied();
        let ends_several = [
            Fault::KillMany,
            Fault::PowerMany,
            Fault::KillThenPower,
            Fault::StopThenPower,
            Fault::SyncError,
        ];
        self.faults.retain(|fault| !ends_several.contains(fault));
        self.faults.extend([Fault::Kill, Fault::Power]);
    }

    /// Turns a part of the seeds into runs for [`Fault::PowerAgain`]: values fill most of a block
    /// of the log, so that frames of two lives meet at the same places under the same LSNs. Its
    /// random stream is its own, so that the other seeds stay what they were.
    fn draw_power_again(&mut self) {
        let mut rand = SimRand::derive(self.seed, 0, "power lost again");
        if !rand.chance(0.1) || self.seed < NAMED_SEEDS {
            return;
        }
        self.faults.insert(Fault::PowerAgain);
        // With the 16 operations that a record remembers: one record fills a block, none two.
        self.filler = (1_750, 2_850);
        self.own_chains = true;
        self.workloads = vec![Workload::Chained];
        if rand.chance(0.3) {
            self.workloads.push(Workload::UniqueKeys);
        }
        self.hot_keys = 1;
    }

    /// Adds sessions to a part of the seeds, from a random stream of its own, so that the other
    /// seeds stay what they were.
    fn draw_sessions(&mut self) {
        let mut rand = SimRand::derive(self.seed, 0, "sessions");
        let taken = self.faults.contains(&Fault::PowerAgain);
        if !rand.chance(0.25) || self.seed < NAMED_SEEDS || taken {
            return;
        }
        self.workloads = vec![Workload::Sessions];
        if rand.chance(0.4) {
            self.workloads.push(Workload::UniqueKeys);
        }
    }

    /// Adds failing writes and reads to a part of the seeds, from a random stream of its own.
    fn draw_disk_errors(&mut self) {
        let mut rand = SimRand::derive(self.seed, 0, "disk errors");
        if !rand.chance(0.15) || self.seed < NAMED_SEEDS {
            return;
        }
        let which = rand.below(3);
        if which != 0 {
            self.faults.insert(Fault::WriteError);
            // A few hot keys may all lie elsewhere, and then the victim's disk is never written.
            let unique = Workload::UniqueKeys;
            if self.memory_victim.is_some() && !self.workloads.contains(&unique) {
                self.workloads.push(unique);
            }
        }
        if which != 1 {
            self.faults.insert(Fault::ReadError);
        }
    }

    /// Replaces disks in a part of the seeds, from a random stream of its own: one at a time, so
    /// that of every write at a quorum a disk is left.
    fn draw_disk_losses(&mut self) {
        let mut rand = SimRand::derive(self.seed, 0, "disk losses");
        let named = self.seed < NAMED_SEEDS || NAMED_LATER.contains(&self.seed);
        let taken = self.faults.contains(&Fault::PowerAgain)
            || self.memory_victim.is_some()
            || self.workloads.contains(&Workload::Sessions);
        if named || taken || !rand.chance(0.2) {
            return;
        }
        let which = rand.below(3);
        if which != 0 {
            self.faults.insert(Fault::DiskLost);
        }
        if which != 1 {
            self.faults.insert(Fault::DiskOld);
        }
        let three = Copies::new(3).expect("above 0");
        let thrice = |keyspace: &Keyspace| Keyspace {
            copies: three,
            ..keyspace.clone()
        };
        self.with_keyspaces(self.topology.keyspaces().iter().map(thrice).collect());
    }

    /// Hints are off in a third of the seeds. In a part of the others nothing else brings copies
    /// together: no exchange, and no fault that takes a hint before it is on disk. From a random
    /// stream of its own.
    fn draw_hints(&mut self) {
        let mut rand = SimRand::derive(self.seed, 0, "hints");
        if rand.chance(0.33) {
            self.hint_bytes_max = 0;
            return;
        }
        let named = self.seed < NAMED_SEEDS || NAMED_LATER.contains(&self.seed);
        let taken =
            self.loses() || self.overload.is_some() || self.faults.contains(&Fault::PowerAgain);
        if named || taken || !rand.chance(0.15) {
            return;
        }
        self.hints_alone = true;
        let keeps = [
            Fault::Cut,
            Fault::OneWay,
            Fault::Isolate,
            Fault::Bridge,
            Fault::Ring,
            Fault::Flap,
            Fault::Clog,
            Fault::Bandwidth,
            Fault::LinkReset,
            Fault::Reorder,
            Fault::Duplicate,
            Fault::Stale,
            Fault::RequestLost,
            Fault::ReplyLost,
            Fault::ClientReset,
            Fault::ClientCut,
            Fault::DiskSlow,
        ];
        self.faults.retain(|fault| keeps.contains(fault));
        self.faults.extend([Fault::Isolate, Fault::LinkReset]);
    }

    /// In half of the seeds deleted keys are purged soon after they were deleted; in the others
    /// rounds rest for longer than a run lasts. From a random stream of its own.
    fn draw_purges(&mut self) {
        let mut rand = SimRand::derive(self.seed, 0, "purges");
        let named = self.seed < NAMED_SEEDS || NAMED_LATER.contains(&self.seed);
        self.purges = !named && rand.chance(0.5);
        let taken = self.faults.contains(&Fault::PowerAgain) || self.overload.is_some();
        if !self.purges || taken || self.hints_alone {
            return;
        }
        if self.memory_victim.is_none() && rand.chance(0.5) {
            self.faults.insert(Fault::Away);
        }
        if rand.chance(0.5) {
            self.faults.insert(Fault::Late);
            self.net.late = 0.02;
        }
        let deletes = [Workload::Deletes, Workload::Lww];
        let usual = self.workloads.iter().all(|w| Workload::USUAL.contains(w));
        if usual && !self.workloads.iter().any(|w| deletes.contains(w)) {
            self.workloads.push(Workload::Deletes);
        }
    }

    /// In over half of the plain seeds in which a node owns not every key half of the operations
    /// are at a sloppy level, and several nodes go at once. From a random stream of its own.
    fn draw_sloppy(&mut self) {
        let mut rand = SimRand::derive(self.seed, 0, "sloppy");
        let named = self.seed < NAMED_SEEDS || NAMED_LATER.contains(&self.seed);
        let taken = self.loses()
            || self.overload.is_some()
            || self.faults.contains(&Fault::PowerAgain)
            || self.workloads.contains(&Workload::Sessions);
        let keyspaces = self.topology.keyspaces();
        let nodes = self.topology.nodes().len();
        let has_fallbacks = keyspaces
            .iter()
            .any(|k| usize::from(k.copies.get()) < nodes);
        if named || taken || !has_fallbacks || !rand.chance(0.6) {
            return;
        }
        self.sloppy = true;
        if !self.hints_alone {
            self.faults.extend([Fault::KillMany, Fault::Isolate]);
            if self.purges && rand.chance(0.5) {
                self.faults.insert(Fault::HolderAway);
            }
        }
    }

    /// Whether a node may lose what it acknowledged.
    #[must_use]
    pub fn loses(&self) -> bool {
        let losses = [Fault::DiskLost, Fault::DiskOld];
        self.memory_victim.is_some() || losses.iter().any(|loss| self.faults.contains(loss))
    }

    /// One line that says what the seed is.
    #[must_use]
    pub fn summary(&self) -> String {
        let keyspaces: Vec<u8> = self
            .topology
            .keyspaces()
            .iter()
            .map(|k| k.copies.get())
            .collect();
        let faults: Vec<&str> = self
            .faults
            .iter()
            .map(|f| &f.counter()["fault.".len()..])
            .collect();
        format!(
            "{} nodes, N {keyspaces:?}{}{}, {} vnodes, {} clients, {:?} on {} hot keys, faults {}",
            self.topology.nodes().len(),
            if self.memory_victim.is_some() {
                " in memory"
            } else {
                ""
            },
            if self.sloppy { " sloppy" } else { "" },
            self.topology.vnode_count().get(),
            self.clients,
            self.workloads,
            self.hot_keys,
            if faults.is_empty() {
                "none".to_owned()
            } else {
                faults.join(" ")
            },
        )
    }
}

fn draw_faults(rand: &mut SimRand) -> BTreeSet<Fault> {
    // Kinds that came later have random streams of their own.
    let later = [
        Fault::PowerAgain,
        Fault::WriteError,
        Fault::ReadError,
        Fault::DiskLost,
        Fault::DiskOld,
        Fault::Away,
        Fault::Late,
        Fault::HolderAway,
    ];
    let drawn_here = |fault: &Fault| !later.contains(fault);
    let mut all: Vec<Fault> = Fault::ALL.iter().copied().filter(drawn_here).collect();
    rand.shuffle(&mut all);
    // A few seeds without any fault find what is wrong in fair weather.
    let count = if rand.chance(0.03) {
        0
    } else {
        1 + rand.index(8)
    };
    all.truncate(count);
    all.into_iter().collect()
}

fn draw_machine(rand: &mut SimRand, faults: &BTreeSet<Fault>) -> MachinePlan {
    let spread = |rand: &mut SimRand, max: u64| {
        let drawn = rand.below(2 * max + 1);
        i64::try_from(drawn).unwrap_or(0) - i64::try_from(max).unwrap_or(0)
    };
    let drifts = faults.contains(&Fault::ClockRate);
    let wrong = faults.contains(&Fault::ClockJump);
    MachinePlan {
        rate_ppm: if drifts {
            spread(rand, 100_000)
        } else {
            spread(rand, 50)
        },
        wall_skew_us: spread(rand, if wrong { 3_600_000_000 } else { 50_000 }),
        disk_us: rand.between(20, 3000),
    }
}

fn draw_topology(rand: &mut SimRand, nodes: u64) -> Arc<Topology> {
    let zones = rand.between(1, 3);
    let node = |rand: &mut SimRand, number: u64| Node {
        id: NodeId(u32::try_from(number).unwrap_or(1)),
        name: format!("n{number}").parse().expect("a plain name"),
        address: format!("n{number}:{}", 7000 + number),
        weight: Weight::new(f64::from(u32::try_from(rand.between(1, 8)).unwrap_or(1)))
            .expect("above 0"),
        zone: Zone(if zones == 1 {
            String::new()
        } else {
            format!("z{}", number % zones)
        }),
    };
    let members: Vec<Node> = (1..=nodes).map(|number| node(rand, number)).collect();
    let vnodes = VnodeCount::new(1 << rand.below(7)).expect("a power of two");
    let keyspaces = (1..=1 + rand.below(2)).map(|number| {
        let most = nodes.min(5);
        let copies = if rand.chance(0.6) {
            3
        } else {
            rand.between(1, most)
        };
        Keyspace {
            id: KeyspaceId(u32::try_from(number).unwrap_or(1)),
            name: format!("k{number}").parse().expect("a plain name"),
            mode: KeyspaceMode::Siblings,
            options: quorate_ring::KeyspaceOptions::default(),
            copies: Copies::new(u8::try_from(copies).unwrap_or(1)).expect("above 0"),
        }
    });
    let keyspaces = keyspaces.collect();
    let epoch = Epoch {
        generation: 1,
        number: 1,
    };
    Arc::new(Topology::new(epoch, vnodes, members, keyspaces).expect("the plan draws what fits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_draws_the_same_plan() {
        let of = |seed| format!("{:?}", Plan::draw(seed));
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
    }

    #[test]
    fn every_fault_and_workload_is_drawn_by_some_seed() {
        let plans: Vec<Plan> = (0..200).map(Plan::draw).collect();
        for fault in Fault::ALL {
            assert!(plans.iter().any(|p| p.faults.contains(fault)), "{fault:?}");
        }
        for workload in Workload::ALL
            .iter()
            .chain(&[Workload::Sessions, Workload::Overload])
        {
            assert!(plans.iter().any(|p| p.workloads.contains(workload)));
        }
    }
}
