//! The nodes of a run: starts and ends their processes over the simulated seams, and watches them.
//!
//! A process is one set of tasks over one mount of its disk; ending it drops them all, which is
//! what kill -9 is. What outlives it is the machine: disk, engine, wall clock. A process that ends
//! by itself is a violation, unless its disk was made to fail under it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{DigestSecret, Holdings, KeyState};
use quorate_node::core::effect::StopReason;
use quorate_node::core::hints::HintLimits;
use quorate_node::core::input::Contradiction;
use quorate_node::core::seal::SealKey;
use quorate_node::core::shard::{Limits, ShardConfig, ShardStatus};
use quorate_node::core::table::TableLimits;
use quorate_node::core::verify;
use quorate_node::core::{Input, RecordKey};
use quorate_node::shell::drive::Ending;
use quorate_node::shell::inbox::Inbox;
use quorate_node::shell::metrics::Metrics;
use quorate_node::shell::node::{self, NodeHandle, NodeParts, OpenNode, QuestionError};
use quorate_node::shell::seam::Disk;
use quorate_node::shell::store::{
    FIRST_START, OpenOptions, Owner, StoreConfig, StoreId, note_loss,
};
use quorate_node::shell::verify::verify as verify_vnode;
use quorate_ring::{Incarnation, KeyspaceId, NodeId};
use tokio::task::JoinSet;

use super::client_net::ClientNet;
use super::clock::{Machine, SimClock};
pub use super::disk::Crash;
use super::disk::DiskFaults;
pub use super::disk::SimDisk;
use super::engine::EngineFaults;
pub use super::engine::SimEngine;
use super::gate::Gate;
use super::gated::{GatedDisk, GatedEngine};
use super::net::{Inlet, SimNet};
use super::plan::{Fault, MachinePlan, Plan};
use super::rand::SimRand;
use super::sched::Scheduler;
use super::trace::Trace;
use crate::check::{Lives, OwnedRecord, ReplicaDump, check_growth};

/// Identity of every simulated cluster.
pub(super) const CLUSTER_ID: [u8; 16] = [7; 16];
/// Rows that a page of a dump has.
const DUMP_PAGE: usize = 200;
/// Each pair of nodes compares its copies that often.
const EXCHANGE_INTERVAL: Duration = Duration::from_secs(5);
/// How long a purge round rests: well over the time in which a client tries an operation again.
pub(super) const PURGE_REST: Duration = Duration::from_secs(12);
/// The same where nothing is purged in a run.
const NO_PURGE_REST: Duration = Duration::from_secs(24 * 3_600);
/// Seeds the digests of the cluster.
const DIGEST_SECRET: DigestSecret = DigestSecret { key: 5, record: 6 };
/// Longest look at what a node holds.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// A node that hears all others has heard what they remember of it within this time.
const FINDS_OUT_US: u64 = 3_000_000;
/// Longest clean stop.
const STOP_MAX: Duration = Duration::from_secs(30);

/// All nodes of a run. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

/// What is to be noted on a disk before the next start.
#[derive(Debug, Clone)]
struct Loss {
    why: String,
    lives: Vec<Incarnation>,
}

/// What a process does about it that it must not go on.
#[derive(Debug, Clone, Copy)]
enum Cure {
    /// It notes that this life is lost.
    Note(Incarnation),
    /// It sets its store aside and begins with an empty one.
    SetAside,
    /// It begins with what it has: the loss is noted by then.
    Again,
}

impl Cure {
    /// Whether it is what a replaced disk leads to. Damage that was planned otherwise is none of
    /// that.
    const fn helps(&self, slot: &Slot) -> bool {
        match self {
            Self::Note(_) => slot.replaced,
            Self::SetAside => slot.replaced && slot.broken.is_none(),
            Self::Again => slot.rotten,
        }
    }
}

/// What a node held when it was looked at.
#[derive(Debug)]
struct Looked {
    dump: ReplicaDump,
    /// In which life.
    life: u64,
    /// Keys that it had purged or pruned in that life before it was looked at.
    purged: u64,
}

struct Shared {
    plan: Arc<Plan>,
    time: Scheduler,
    trace: Trace,
    net: SimNet,
    client_net: ClientNet,
    slots: BTreeMap<NodeId, Mutex<Slot>>,
    problems: Mutex<Vec<String>>,
    /// What each replica was last seen to hold durably.
    held: Mutex<BTreeMap<NodeId, Looked>>,
}

/// A vnode from which a row was taken is read so often at most.
const ROT_LOOKS: usize = 10;

/// A machine and the process on it.
struct Slot {
    machine: Machine,
    disk: SimDisk,
    folder: SimDisk,
    engine: SimEngine,
    usual: DiskFaults,
    usual_engine: EngineFaults,
    /// Processes so far.
    life: u64,
    process: Option<Process>,
    /// What was made to fail, with how often it had failed before: the process must end.
    broken: Option<(Fault, u64)>,
    /// The disk was replaced: the process may find that it forgot.
    replaced: bool,
    /// A row was taken from its engine: the process may find that out.
    rotten: bool,
    /// What the process heard that it forgot, and has not noted yet.
    loss: Option<Loss>,
    /// Lives that are noted as lost on its disk.
    lost_lives: Vec<Incarnation>,
    /// When the process was started.
    started_us: u64,
    rand: SimRand,
}

struct Process {
    tasks: JoinSet<()>,
    gate: Gate,
    metrics: Arc<Metrics>,
    /// Set when the store is open.
    handle: Option<NodeHandle>,
}

/// Metrics of a node that tell that a state was reached, with what they are called in reports.
const STATES: &[(&str, &str)] = &[
    (
        "quorate_duplicate_attempts_total",
        "state.duplicate attempt recognised",
    ),
    ("quorate_read_repairs_total", "state.read repair"),
    (
        "quorate_requests_forwarded_total",
        "state.request forwarded",
    ),
    (
        "quorate_messages_expired_total",
        "state.expired work dropped",
    ),
    ("quorate_hints_wanted_total", "state.hint wanted"),
    ("quorate_hints_delivered_total", "state.hint delivered"),
    ("quorate_guests_taken_total", "state.guest taken"),
    ("quorate_guests_delivered_total", "state.guest delivered"),
    ("quorate_sibling_reads_total", "state.read found siblings"),
    ("quorate_reads_widened_total", "state.read widened"),
    ("quorate_sends_refused_total", "state.send refused"),
    (
        "quorate_engine_loads_total",
        "state.record loaded from the engine",
    ),
    (
        "quorate_engine_loads_spared_total",
        "state.load spared by a digest",
    ),
    (
        "quorate_peer_messages_refused_total",
        "state.peer message refused",
    ),
    ("quorate_requests_shed_total", "state.request shed"),
    ("quorate_purged_total", "state.deleted key purged"),
    ("quorate_pruned_total", "state.record pruned"),
    ("quorate_purge_rounds_total", "state.purge round completed"),
    (
        "quorate_purge_rounds_failed_total",
        "state.purge round given up",
    ),
    (
        "quorate_below_floor_total",
        "state.record below a floor refused",
    ),
    ("quorate_exchanges_total", "state.exchange completed"),
    (
        "quorate_exchanges_failed_total",
        "state.exchange broken off",
    ),
    (
        "quorate_exchange_keys_healed_total",
        "state.key healed by an exchange",
    ),
    (
        "quorate_exchange_keys_failed_total",
        "state.key not healed by an exchange",
    ),
];

/// Adds a process' counters to the states reached.
fn note_states(trace: &Trace, metrics: &Metrics) {
    let text = metrics.render_counters();
    for (metric, state) in STATES {
        let lines = text.lines().filter(|line| line.starts_with(metric));
        let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        trace.count_many(state, counts.sum());
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

impl Slot {
    fn new(plan: &Plan, machine: &MachinePlan, node: NodeId, time: Scheduler) -> Self {
        let mut rand = SimRand::derive(plan.seed, node.0.into(), "node");
        let folder = SimDisk::new(rand.next_bits());
        folder.put(FIRST_START, b"");
        let usual = DiskFaults {
            latency_max: Duration::from_micros(machine.disk_us * 2),
            drop_all_unsynced: rand.chance(0.3),
            ..DiskFaults::default()
        };
        let disk = SimDisk::new(rand.next_bits());
        disk.set_faults(usual.clone());
        let engine = SimEngine::new(rand.next_bits());
        let usual_engine = EngineFaults {
            latency_max: Duration::from_micros(machine.disk_us * 4),
            ingest_max: Duration::from_micros(machine.disk_us * 100),
            ..EngineFaults::default()
        };
        engine.set_faults(usual_engine.clone());
        Self {
            machine: Machine::new(time, machine.rate_ppm, machine.wall_skew_us),
            disk,
            folder,
            engine,
            usual,
            usual_engine,
            life: 0,
            process: None,
            broken: None,
            replaced: false,
            rotten: false,
            loss: None,
            lost_lives: Vec::new(),
            started_us: 0,
            rand,
        }
    }

    /// Disk and engine do what they usually do.
    fn mend(&mut self) {
        self.disk.mend(self.usual.clone());
        self.engine.set_faults(self.usual_engine.clone());
        self.broken = None;
    }

    /// How often operations failed because of `fault`.
    fn failures(&self, fault: Fault) -> u64 {
        let counted = |kind: &str| self.disk.took_effect().get(kind).copied().unwrap_or(0);
        match fault {
            Fault::SyncError => counted("sync_error"),
            Fault::WriteError => counted("write_error"),
            _ => {
                let rows = self.engine.took_effect();
                counted("read_error") + rows.get("engine_read_error").copied().unwrap_or(0)
            }
        }
    }
}

impl Cluster {
    /// The machines of a plan; nothing runs yet.
    #[must_use]
    pub fn new(
        plan: Arc<Plan>,
        time: Scheduler,
        trace: Trace,
        net: SimNet,
        client_net: ClientNet,
    ) -> Self {
        let nodes = plan.topology.nodes().iter().zip(&plan.machines);
        let slots = nodes
            .map(|(node, machine)| {
                (
                    node.id,
                    Mutex::new(Slot::new(&plan, machine, node.id, time.clone())),
                )
            })
            .collect();
        Self {
            shared: Arc::new(Shared {
                plan,
                time,
                trace,
                net,
                client_net,
                slots,
                problems: Mutex::new(Vec::new()),
                held: Mutex::new(BTreeMap::new()),
            }),
        }
    }

    /// The network between nodes.
    #[must_use]
    pub fn net(&self) -> &SimNet {
        &self.shared.net
    }

    /// The network of clients.
    #[must_use]
    pub fn client_net(&self) -> &ClientNet {
        &self.shared.client_net
    }

    fn slot(&self, node: NodeId) -> MutexGuard<'_, Slot> {
        let slot = self
            .shared
            .slots
            .get(&node)
            .expect("nodes come from the plan");
        slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.shared.slots.keys().copied().collect()
    }

    fn problem(&self, text: String) {
        self.shared.trace.line("PROBLEM", &[], text.clone());
        let mut problems = self
            .shared
            .problems
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        problems.push(text);
    }

    /// What went wrong with nodes.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.shared
            .problems
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Starts every node.
    pub fn start_all(&self) {
        for node in self.nodes() {
            self.start(node);
        }
    }

    /// Starts a node after a while, if it does not run then.
    pub fn start_after(&self, node: NodeId, delay_us: u64) {
        let cluster = self.clone();
        self.shared
            .time
            .after(delay_us, move || cluster.start(node));
    }

    /// Starts a node, if it does not run.
    pub fn start(&self, node: NodeId) {
        let mut slot = self.slot(node);
        if slot.process.is_some() {
            return;
        }
        slot.life += 1;
        slot.started_us = self.shared.time.now_us();
        let life = slot.life;
        let gate = Gate::default();
        let clock = slot.machine.start(gate.clone());
        let inbox = Arc::new(Inbox::default());
        let parts = self.parts(node, &mut slot, &gate, &clock, &inbox);
        let metrics = parts.metrics.clone();
        let cluster = self.clone();
        let mut tasks = JoinSet::new();
        let (held, ticking) = (gate.clone(), clock);
        tasks.spawn(async move { cluster.open(node, life, parts, held, ticking, inbox).await });
        slot.process = Some(Process {
            tasks,
            gate,
            metrics,
            handle: None,
        });
        drop(slot);
        self.shared.trace.line(
            "start",
            &[node.0.into(), life],
            format!("{node}, life {life}"),
        );
    }

    fn parts(
        &self,
        node: NodeId,
        slot: &mut Slot,
        gate: &Gate,
        clock: &SimClock,
        inbox: &Arc<Inbox>,
    ) -> NodeParts {
        let gated = |disk: &SimDisk| -> Arc<dyn Disk> {
            Arc::new(GatedDisk {
                disk: disk.mount(),
                gate: gate.clone(),
            })
        };
        let engine = GatedEngine {
            engine: slot.engine.mount(),
            gate: gate.clone(),
        };
        let events = inbox.clone();
        let plan = &self.shared.plan;
        let name = plan
            .topology
            .node(node)
            .map(|n| n.name.clone())
            .expect("nodes come from the plan");
        let clock: Arc<SimClock> = Arc::new(clock.clone());
        let life = slot.life;
        NodeParts {
            shard: ShardConfig {
                me: node,
                cluster_id: CLUSTER_ID,
                topology: plan.topology.clone(),
                seal: SealKey::new([3; 32]),
                digest: DIGEST_SECRET,
                table: TableLimits {
                    generation_bytes: 64 << 10,
                    generation_log_bytes: 512 << 10,
                    cache_bytes: plan.cache_bytes,
                    // So small that some take the places of others.
                    digest_cache_bytes: 4 << 10,
                },
                limits: Limits {
                    requests_max: plan
                        .overload
                        .map_or(4_096, |overload| overload.requests_max),
                    ..Limits::default()
                },
                // A node that forgot must not count; an exchange that is due would bring back what
                // it forgot before a read could miss it.
                exchange_interval: (!plan.loses() && !plan.hints_alone)
                    .then_some(EXCHANGE_INTERVAL),
                hints: HintLimits {
                    bytes_max: plan.hint_bytes_max,
                    ..HintLimits::default()
                },
                purge_rest: if plan.purges {
                    PURGE_REST
                } else {
                    NO_PURGE_REST
                },
                // Every record is pruned of whatever it can do without.
                spare_max: 0,
            },
            store: OpenOptions {
                folder: gated(&slot.folder),
                disk: gated(&slot.disk),
                engine: Box::new(move || Box::pin(async move { Ok(Arc::new(engine) as Arc<_>) })),
                clock: clock.clone(),
                owner: Owner {
                    cluster_id: CLUSTER_ID,
                    node,
                    name: name.clone(),
                },
                store_id_if_new: StoreId(
                    u128::from(slot.rand.next_bits()) << 64 | u128::from(slot.rand.next_bits()),
                ),
                incarnation: Incarnation(slot.rand.next_bits()),
                config: StoreConfig::small(),
                events: Arc::new(move |event| events.push(Input::Store(event))),
            },
            inbox: inbox.clone(),
            clock,
            links: self.shared.net.links(node, life),
            clients: self.shared.client_net.port(node, life),
            metrics: Arc::new(Metrics::new(name.as_str())),
        }
    }

    /// The first task of a process: opens the store, then starts the loops.
    async fn open(
        self,
        node: NodeId,
        life: u64,
        parts: NodeParts,
        gate: Gate,
        clock: SimClock,
        inbox: Arc<Inbox>,
    ) {
        let loss = self.slot(node).loss.clone();
        if let Some(Loss { why, lives }) = loss {
            let mut noted = note_loss(&*parts.store.disk, &why, None).await;
            for lost in lives {
                if noted.is_ok() {
                    noted = note_loss(&*parts.store.disk, &why, Some(lost)).await;
                }
            }
            let mut slot = self.slot(node);
            if slot.life != life {
                return;
            }
            match noted {
                Ok(()) => slot.loss = None,
                Err(error) => {
                    drop(slot);
                    return self.ended(node, life, format!("cannot note its loss: {error}"), None);
                }
            }
        }
        let opened = node::open(parts).await;
        let mut slot = self.slot(node);
        if slot.life != life {
            return;
        }
        let Some(process) = slot.process.as_mut() else {
            return;
        };
        let OpenNode {
            drive,
            space,
            store_loops,
            handle,
        } = match opened {
            Ok(open) => open,
            Err(error) => {
                drop(slot);
                self.ended(node, life, format!("does not open: {error}"), None);
                return;
            }
        };
        process.handle = Some(handle);
        let tasks = &mut process.tasks;
        tasks.spawn(space);
        tasks.spawn(store_loops.committer);
        tasks.spawn(store_loops.preparer);
        tasks.spawn(store_loops.feeder);
        tasks.spawn(store_loops.loader);
        tasks.spawn(store_loops.scanner);
        tasks.spawn(store_loops.hint_log);
        let watcher = self.clone();
        tasks.spawn(async move {
            match drive.await {
                Ending::Drained => {}
                Ending::Stopped(reason) => {
                    let lost = match &reason {
                        StopReason::Forgot { memory, .. } => Some(Cure::Note(memory.incarnation)),
                        StopReason::EngineDamaged { .. } => Some(Cure::SetAside),
                        StopReason::RowsLost { .. } => Some(Cure::Again),
                        _ => None,
                    };
                    watcher.ended(node, life, reason.to_string(), lost);
                }
            }
        });
        drop(slot);
        self.shared.trace.line(
            "serve",
            &[node.0.into(), life],
            format!("{node}, life {life}"),
        );
        let inlet: Inlet = Arc::new(move |input| inbox.push(input));
        self.shared
            .net
            .start(node, life, inlet.clone(), gate.clone());
        self.shared.client_net.start(node, life, inlet, gate, clock);
    }

    /// A process ended by itself.
    fn ended(&self, node: NodeId, life: u64, reason: String, cure: Option<Cure>) {
        let cluster = self.clone();
        // Not from inside the process' own task: its end is somebody else's work.
        self.shared.time.after(0, move || {
            let wanted = {
                let mut slot = cluster.slot(node);
                if slot.life != life || slot.process.is_none() {
                    return;
                }
                if let Some(cure) = cure.filter(|cure| cure.helps(&slot)) {
                    drop(slot);
                    cluster.crash(node, Crash::Kill);
                    cluster.begin_again(node, reason, cure);
                    return;
                }
                let broken = slot.broken.take();
                broken.filter(|(fault, before)| slot.failures(*fault) > *before)
            };
            cluster
                .shared
                .trace
                .line("ended", &[node.0.into(), life], format!("{node}: {reason}"));
            if let Some((fault, _)) = wanted {
                cluster.shared.trace.count(fault.counter());
                if fault == Fault::ReadError && !reason.contains("damaged") {
                    let text = format!("node {node} took a read error for no damage: {reason}");
                    cluster.problem(text);
                }
            } else {
                cluster.problem(format!("node {node} refuses to serve: {reason}"));
            }
            // A failed sync leaves clean pages; power may be lost before the next start.
            let power = cluster.slot(node).rand.chance(0.5);
            cluster.crash(node, if power { Crash::Power } else { Crash::Kill });
            let delay = cluster.slot(node).rand.below(3_000_000);
            if wanted.is_some() {
                cluster.start_after(node, delay);
            }
        });
    }

    /// What a real process does when it hears that it forgot, or that what it holds is outdated:
    /// begins anew and notes it first.
    fn begin_again(&self, node: NodeId, reason: String, cure: Cure) {
        let mut slot = self.slot(node);
        let is_noted = matches!(cure, Cure::Again);
        match cure {
            Cure::Again => self.shared.trace.count("state.rows lost unnoticed"),
            Cure::Note(life) => {
                self.shared.trace.count("state.loss noted");
                slot.lost_lives.push(life);
            }
            Cure::SetAside => {
                self.shared.trace.count("state.store set aside");
                let (disk, engine) = (slot.rand.next_bits(), slot.rand.next_bits());
                slot.disk.replace(&SimDisk::new(disk));
                slot.engine.replace(&SimEngine::new(engine));
            }
        }
        let lives = slot.lost_lives.clone();
        drop(slot);
        self.forget_looks(node);
        self.shared
            .trace
            .line("forgot", &[node.0.into()], format!("{node}: {reason}"));
        if !is_noted {
            self.slot(node).loss = Some(Loss { why: reason, lives });
        }
        self.start(node);
    }

    /// Takes a row from a node's engine unnoticed, and does what the slow read does with the vnode
    /// that it was in; false if nobody can find it, because nothing is in an engine or a newer
    /// state is in the table.
    pub async fn rot(&self) -> bool {
        let topology = self.shared.plan.topology.clone();
        for node in self.nodes() {
            let Some(handle) = self.handle(node) else {
                continue;
            };
            let key = {
                let mut slot = self.slot(node);
                let rows: Vec<RecordKey> = slot.engine.rows().into_keys().collect();
                let place = slot.rand.below(rows.len().max(1) as u64);
                let key = usize::try_from(place).ok().and_then(|at| rows.get(at));
                let Some(key) = key.cloned() else {
                    continue;
                };
                slot.engine.lose(&key);
                slot.rotten = true;
                key
            };
            self.forget_looks(node);
            let (keyspace, vnode) = (key.keyspace(), key.vnode());
            let name = key.user_key().escape_ascii().to_string();
            self.shared.trace.line("rot", &[node.0.into()], name);
            let mut seen = None;
            for _ in 0..ROT_LOOKS {
                let found = verify_vnode(&handle, &topology, DIGEST_SECRET, keyspace, vnode).await;
                let Ok(found) = found else {
                    break;
                };
                let Some(correction) = found.correction else {
                    if found.contradicting == 0 && found.moving == 0 {
                        break;
                    }
                    self.shared.time.sleep_ms(100).await;
                    continue;
                };
                let found = Some(Contradiction {
                    keyspace,
                    vnode,
                    correction,
                });
                if seen == found {
                    handle.contradicted(found.into_iter().collect());
                    return true;
                }
                seen = found;
            }
        }
        false
    }

    /// The first node that does not run, or may lack something that it acknowledged, and what it
    /// says.
    pub async fn not_whole(&self) -> Option<String> {
        for node in self.nodes() {
            let Some(handle) = self.handle(node) else {
                return Some(format!("node {node} does not run"));
            };
            match tokio::time::timeout(LOOK_MAX, handle.status()).await {
                Ok(Ok(status))
                    if status.copies_lacking == 0 && self.has_heard_all(node, &status) => {}
                Ok(Ok(status)) => {
                    let (lacking, peers) = (status.copies_lacking, status.peers);
                    return Some(format!(
                        "node {node} lacks {lacking} copies, peers {peers:?}"
                    ));
                }
                Ok(Err(_)) | Err(_) => return Some(format!("node {node} does not answer")),
            }
        }
        None
    }

    /// Records that a node says it holds in place of owners; 0 if it does not answer.
    pub async fn guests_of(&self, node: NodeId) -> u64 {
        let Some(handle) = self.handle(node) else {
            return 0;
        };
        match tokio::time::timeout(LOOK_MAX, handle.status()).await {
            Ok(Ok(status)) => status.guests.records,
            Ok(Err(_)) | Err(_) => 0,
        }
    }

    /// Whether a node whose disk was replaced has had the time to find out.
    fn has_heard_all(&self, node: NodeId, status: &ShardStatus) -> bool {
        let slot = self.slot(node);
        let runs_us = self.shared.time.now_us().saturating_sub(slot.started_us);
        let all_up = status.peers.iter().all(|(_, is_up, _)| *is_up);
        !slot.replaced || (all_up && runs_us >= FINDS_OUT_US)
    }

    /// A copy of the disk of a node that does not run.
    #[must_use]
    pub fn copy_disk(&self, node: NodeId) -> (SimDisk, SimEngine) {
        let mut slot = self.slot(node);
        let (disk, engine) = (slot.rand.next_bits(), slot.rand.next_bits());
        (slot.disk.copy(disk), slot.engine.copy(engine))
    }

    /// Replaces the disk of a node that does not run.
    pub fn replace_disk(&self, node: NodeId, (disk, engine): &(SimDisk, SimEngine)) {
        {
            let mut slot = self.slot(node);
            slot.disk.replace(disk);
            slot.engine.replace(engine);
            slot.replaced = true;
            slot.loss = None;
            slot.lost_lives.clear();
        }
        self.forget_looks(node);
    }

    /// What a node held before says nothing of what it must hold now.
    fn forget_looks(&self, node: NodeId) {
        let held = &self.shared.held;
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&node);
    }

    /// Ends a process at once.
    pub fn crash(&self, node: NodeId, crash: Crash) {
        let process = {
            let mut slot = self.slot(node);
            let lost = |slot: &Slot| slot.disk.took_effect().get("unsynced_lost").copied();
            let before = lost(&slot);
            slot.disk.crash(crash);
            if lost(&slot) > before {
                self.shared
                    .trace
                    .count("state.restart after unsynced bytes were lost");
            }
            if slot.engine.has_checkpoint() {
                self.shared
                    .trace
                    .count("state.crash after an engine checkpoint");
            }
            slot.folder.crash(crash);
            slot.engine.crash();
            slot.mend();
            slot.process.take()
        };
        self.shared.net.stop(node);
        self.shared.client_net.stop(node);
        if let Some(mut process) = process {
            process.tasks.abort_all();
            note_states(&self.shared.trace, &process.metrics);
            self.shared
                .trace
                .line("crash", &[node.0.into()], format!("{node} {crash:?}"));
        }
    }

    /// Stops a process as SIGTERM does: drains, marks the clean stop, ends.
    pub async fn stop(&self, node: NodeId) {
        let handle = self
            .slot(node)
            .process
            .as_ref()
            .and_then(|p| p.handle.clone());
        let Some(handle) = handle else {
            return self.crash(node, Crash::Kill);
        };
        let life = self.slot(node).life;
        handle.drain();
        let waited = tokio::time::timeout(STOP_MAX, self.drained(node, life, &handle)).await;
        if waited.is_ok() {
            self.shared.trace.count("state.clean stop");
        } else {
            self.shared.trace.count("state.clean stop took too long");
        }
        if self.slot(node).life == life {
            self.crash(node, Crash::Kill);
        }
    }

    async fn drained(&self, node: NodeId, life: u64, handle: &NodeHandle) {
        // The shard's loop ends by itself; then nobody answers questions any more.
        while handle.status().await.is_ok() {
            self.shared.time.sleep_ms(5).await;
        }
        handle.stop_store();
        loop {
            {
                let mut slot = self.slot(node);
                let Some(process) = slot.process.as_mut() else {
                    return;
                };
                while process.tasks.try_join_next().is_some() {}
                // Only the look-up of free space never ends.
                if process.tasks.len() <= 1 || slot.life != life {
                    return;
                }
            }
            self.shared.time.sleep_ms(5).await;
        }
    }

    /// Pauses a process for a while.
    pub fn pause(&self, node: NodeId, span_us: u64) {
        let gate = self.slot(node).process.as_ref().map(|p| p.gate.clone());
        let Some(gate) = gate else { return };
        gate.close();
        let trace = self.shared.trace.clone();
        self.shared.time.after(span_us, move || {
            if gate.is_closed() && gate.open() > 0 {
                trace.count(Fault::Pause.counter());
            }
        });
    }

    /// Nodes that serve now.
    #[must_use]
    pub fn running(&self) -> Vec<NodeId> {
        self.nodes()
            .into_iter()
            .filter(|node| self.is_running(*node))
            .collect()
    }

    /// Whether a node's store is open and its process runs.
    #[must_use]
    pub fn is_running(&self, node: NodeId) -> bool {
        self.slot(node)
            .process
            .as_ref()
            .is_some_and(|p| p.handle.is_some())
    }

    /// Which nodes run, for reports.
    #[must_use]
    pub fn states(&self) -> String {
        let one = |node: NodeId| {
            format!(
                "{node}:{}",
                if self.is_running(node) { "up" } else { "down" }
            )
        };
        self.nodes()
            .into_iter()
            .map(one)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Waits until every node serves; false if that took longer than `longest_us`.
    pub async fn wait_until_all_run(&self, longest_us: u64) -> bool {
        let until = self.shared.time.now_us() + longest_us;
        while self.running().len() < self.shared.slots.len() {
            if self.shared.time.now_us() > until {
                return false;
            }
            self.shared.time.sleep_ms(50).await;
        }
        true
    }

    fn with_faults(&self, node: NodeId, span_us: u64, change: impl FnOnce(&mut DiskFaults)) {
        {
            let slot = self.slot(node);
            let mut faults = slot.usual.clone();
            change(&mut faults);
            slot.disk.set_faults(faults);
        }
        let cluster = self.clone();
        self.shared.time.after(span_us, move || {
            let slot = cluster.slot(node);
            if slot.broken.is_none() {
                let usual = slot.usual.clone();
                slot.disk.set_faults(usual);
            }
        });
    }

    fn effects(&self, node: NodeId, kind: &str) -> u64 {
        self.slot(node)
            .disk
            .took_effect()
            .get(kind)
            .copied()
            .unwrap_or(0)
    }

    /// Counts `fault` after `span_us` if the disk counted `kind` meanwhile.
    fn count_later(&self, node: NodeId, fault: Fault, kind: &'static str, span_us: u64) {
        let before = self.effects(node, kind);
        let cluster = self.clone();
        self.shared.time.after(span_us, move || {
            if cluster.effects(node, kind) > before {
                cluster.shared.trace.count(fault.counter());
            }
        });
    }

    /// Slows a disk down.
    pub fn slow_disk(&self, node: NodeId, latency_us: u64, span_us: u64) {
        let before = self.slot(node).disk.operations();
        self.with_faults(node, span_us, |faults| {
            faults.latency_max = Duration::from_micros(latency_us)
        });
        let cluster = self.clone();
        self.shared.time.after(span_us, move || {
            if cluster.slot(node).disk.operations() > before {
                cluster.shared.trace.count(Fault::DiskSlow.counter());
            }
        });
    }

    /// Slows a disk down until the next crash, which then tears what is not synced.
    pub fn burden_disk(&self, node: NodeId, latency_us: u64) {
        let slot = self.slot(node);
        let mut faults = slot.usual.clone();
        faults.latency_max = Duration::from_micros(latency_us);
        faults.drop_all_unsynced = false;
        faults.tear_blocks = true;
        slot.disk.set_faults(faults);
    }

    /// Lets a disk stand still now and then.
    pub fn stall_disk(&self, node: NodeId, stall_us: u64) {
        self.count_later(node, Fault::DiskStall, "disk_stall", stall_us);
        self.with_faults(node, stall_us, |faults| {
            faults.stall_ppm = 300_000;
            faults.stall_max = Duration::from_micros(stall_us);
        });
    }

    /// Makes the next operations of a kind fail, until the process has ended for it.
    pub fn break_disk(&self, node: NodeId, fault: Fault) {
        let mut slot = self.slot(node);
        let always = 1_000_000;
        let (mut disk, mut engine) = (slot.usual.clone(), slot.usual_engine.clone());
        match fault {
            Fault::SyncError => disk.sync_error_ppm = always,
            Fault::WriteError => disk.write_error_ppm = always,
            _ => {
                disk.read_error_ppm = always;
                engine.read_error_ppm = always;
            }
        }
        slot.disk.set_faults(disk);
        slot.engine.set_faults(engine);
        slot.broken = Some((fault, slot.failures(fault)));
    }

    /// Fills a disk up for a while.
    pub fn fill_disk(&self, node: NodeId, span_us: u64) {
        let cluster = self.clone();
        let (disk, margin) = {
            let mut slot = self.slot(node);
            (slot.disk.clone(), slot.rand.below(60_000))
        };
        let used = disk.used();
        // Longer than the node looks at its free space: it must notice.
        let span_us = span_us.max(2_500_000);
        let life = self.slot(node).life;
        let watcher = self.clone();
        self.shared.time.after(span_us, move || {
            let slot = watcher.slot(node);
            if slot.life == life && slot.process.is_some() {
                watcher.shared.trace.count(Fault::DiskFull.counter());
            }
        });
        cluster.with_faults(node, span_us, |faults| {
            faults.capacity = Some(used + margin)
        });
    }

    /// Sets a wall clock off.
    pub fn jump_clock(&self, node: NodeId, by_us: i64) {
        self.slot(node).machine.jump(by_us);
    }

    /// Ends every fault and starts what is down.
    pub fn heal(&self) {
        self.shared.net.make_perfect();
        self.shared.client_net.make_perfect();
        for node in self.nodes() {
            let gate = {
                let mut slot = self.slot(node);
                slot.mend();
                if self.shared.plan.clocks_jump {
                    slot.machine.set_right();
                }
                slot.process.as_ref().map(|p| p.gate.clone())
            };
            if let Some(gate) = gate.filter(Gate::is_closed) {
                gate.open();
            }
            self.start(node);
        }
    }

    /// Stops every node cleanly.
    pub async fn stop_all(&self) {
        for node in self.nodes() {
            self.stop(node).await;
        }
    }

    /// Who owns the key of this printed name.
    #[must_use]
    pub fn owners(&self, key: &str) -> Vec<u32> {
        let topology = &self.shared.plan.topology;
        let Some((keyspace, key)) = key.split_once('/') else {
            return Vec::new();
        };
        let Some(keyspace) = topology.keyspace_named(keyspace) else {
            return Vec::new();
        };
        let place = topology.locate(keyspace.id, key.as_bytes());
        let mut owners: Vec<u32> = topology
            .owners(place.vnode, keyspace.copies)
            .iter()
            .map(|n| n.0)
            .collect();
        owners.sort_unstable();
        owners
    }

    /// What every node holds durably.
    pub async fn dump(&self) -> Vec<ReplicaDump> {
        let mut dumps = Vec::new();
        for node in self.nodes() {
            let Some(handle) = self.handle(node) else {
                continue;
            };
            match self.look(node, &handle).await {
                Ok(dump) => dumps.push(dump),
                Err(error) => self.problem(format!("node {node} cannot be dumped: {error}")),
            }
        }
        dumps
    }

    /// Compares what a node holds durably with what it held when it was looked at last: a
    /// replica's causal history of a key only grows (I4). Nothing if it does not answer.
    pub async fn look_at(&self, node: NodeId) {
        let Some(handle) = self.handle(node) else {
            return;
        };
        let looked = tokio::time::timeout(LOOK_MAX, self.look(node, &handle)).await;
        if let Ok(Ok(_)) = looked {
            self.shared
                .trace
                .count("state.replica compared with its past");
        }
    }

    /// What a node holds durably, compared with what it held before.
    async fn look(&self, node: NodeId, handle: &NodeHandle) -> Result<ReplicaDump, QuestionError> {
        let life = self.slot(node).life;
        let purged = purges_of(&handle.status().await?);
        let dump = self.dump_of(node, handle).await?;
        let purged_since = purges_of(&handle.status().await?);
        let looked = Looked {
            dump: dump.clone(),
            life,
            purged,
        };
        self.compare_with_earlier(node, looked, purged_since);
        Ok(dump)
    }

    /// Deleted keys that some node still holds.
    pub async fn tombstones(&self) -> usize {
        let dumps = self.dump().await;
        let records = dumps.iter().flat_map(|dump| dump.records.values());
        records.filter(|record| record.is_deleted()).count()
    }

    /// Records from which something is left to be pruned.
    pub async fn crowded(&self) -> usize {
        let lives = self.lives().await;
        let dumps = self.dump().await;
        let records = dumps.iter().flat_map(|dump| dump.records.values());
        records
            .filter(|record| record.without_spare(&lives).is_some())
            .count()
    }

    /// In which life each node is that answers.
    pub async fn lives(&self) -> Lives {
        let mut lives = Lives::new();
        for node in self.nodes() {
            if let Some(handle) = self.handle(node)
                && let Ok(status) = handle.status().await
            {
                lives.insert(node, Incarnation(status.incarnation));
            }
        }
        lives
    }

    fn compare_with_earlier(&self, node: NodeId, looked: Looked, purged_since: u64) {
        let dump = looked.dump.clone();
        let life = looked.life;
        let before = {
            let held = &self.shared.held;
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            held.insert(node, looked)
        };
        // What was purged or pruned is no loss: only what was deleted before is, or what no owner
        // needs, and then it is counted, at once and not when it is durable.
        let purges = self.shared.plan.purges;
        let before = before.filter(|b| !purges || (b.life, b.purged) == (life, purged_since));
        let before = before.map(|mut before| {
            // What it held in place of owners may be theirs by now.
            let owned = &mut before.dump.records;
            owned.retain(|key, _| self.owners(key).contains(&node.0));
            if purges {
                before.dump.records.retain(|_, record| {
                    let state = KeyState::decode(&Bytes::from(record.bytes.clone()));
                    !state.is_ok_and(|state| state.gone_at().is_some())
                });
                before.dump.leave_out_prunable();
            }
            before.dump
        });
        let shrunk = before.map(|before| check_growth(&before, &dump));
        for violation in shrunk.into_iter().flatten() {
            self.problem(violation.to_string());
        }
    }

    fn handle(&self, node: NodeId) -> Option<NodeHandle> {
        let slot = self.slot(node);
        slot.process.as_ref().and_then(|p| p.handle.clone())
    }

    async fn dump_of(
        &self,
        node: NodeId,
        handle: &NodeHandle,
    ) -> Result<ReplicaDump, QuestionError> {
        let mut dump = ReplicaDump {
            node: node.0,
            records: BTreeMap::new(),
        };
        let topology = &self.shared.plan.topology;
        let vnodes = topology.vnode_count();
        let ranges = topology.keyspaces().iter().flat_map(|keyspace| {
            vnodes
                .vnodes()
                .map(|vnode| RecordKey::before(keyspace.id, vnode))
        });
        let mut ranges: VecDeque<RecordKey> = ranges.collect();
        while let Some(after) = ranges.pop_front() {
            let page = handle.dump_local(after, DUMP_PAGE).await?;
            let full = page.len() == DUMP_PAGE;
            if let Some((last, _)) = page.last().filter(|_| full) {
                ranges.push_front(last.clone());
            }
            for (key, bytes) in page {
                let keyspace = self.shared.plan.topology.keyspace(key.keyspace());
                let keyspace = keyspace.map_or_else(String::new, |k| k.name.to_string());
                let name = format!("{keyspace}/{}", key.user_key().escape_ascii());
                let dots = match KeyState::decode(&bytes) {
                    Ok(state) => dots_of(&state),
                    Err(error) => {
                        self.problem(format!("node {node} holds no record at {name}: {error}"));
                        Vec::new()
                    }
                };
                dump.records.insert(
                    name.clone(),
                    OwnedRecord {
                        key: name,
                        bytes: bytes.to_vec(),
                        dots,
                    },
                );
            }
        }
        self.verify(node, handle).await?;
        Ok(dump)
    }

    /// A node's records are whole, in their places, and what its sums say.
    async fn verify(&self, node: NodeId, handle: &NodeHandle) -> Result<(), QuestionError> {
        let topology = &self.shared.plan.topology;
        let before = handle.status().await?;
        let mut counted: BTreeMap<KeyspaceId, Holdings> = BTreeMap::new();
        for keyspace in topology.keyspaces() {
            for vnode in topology.vnode_count().vnodes() {
                let found =
                    verify_vnode(handle, topology, DIGEST_SECRET, keyspace.id, vnode).await?;
                self.shared.trace.count("state.vnode verified");
                if let Some(verify::Fault { key, what, .. }) = found.faults.first() {
                    let keyspace = &keyspace.name;
                    self.problem(format!(
                        "node {node}, {keyspace}, vnode {}: {what} ({key:?}), {} faults",
                        vnode.0, found.faults_total
                    ));
                }
                if found.holdings != Holdings::default() {
                    let sum = counted.entry(keyspace.id).or_default();
                    *sum = sum.and(found.holdings);
                }
            }
        }
        let after = handle.status().await?;
        if before.durable_lsn == after.durable_lsn {
            self.shared.trace.count("state.holdings counted");
            let told = after.holdings.iter().map(|held| (held.keyspace, held.all));
            let told: BTreeMap<KeyspaceId, Holdings> = told.collect();
            if told != counted {
                self.problem(format!(
                    "node {node} says that it holds {told:?}, and holds {counted:?}"
                ));
            }
        }
        Ok(())
    }
}

/// Records that a node purged or pruned.
const fn purges_of(status: &ShardStatus) -> u64 {
    status.purge.purged + status.purge.pruned
}

fn dots_of(state: &KeyState) -> Vec<(String, String)> {
    let record = match state {
        KeyState::Siblings(record) => record,
        KeyState::Lww(newest) => {
            let named = newest.iter().map(|write| {
                let value = write.stored_value();
                let value =
                    value.map_or_else(|| "tombstone".to_owned(), |v| v.escape_ascii().to_string());
                (format!("{:?}", write.version()), value)
            });
            return named.collect();
        }
    };
    let siblings = record.siblings().iter();
    let named = siblings.flat_map(|sibling| {
        let value = sibling.value().map_or_else(
            || format!("tombstone of {:?}", sibling.op_id()),
            |value| value.escape_ascii().to_string(),
        );
        sibling
            .dots()
            .map(move |dot| (format!("{dot:?}"), value.clone()))
            .collect::<Vec<_>>()
    });
    named.collect()
}
