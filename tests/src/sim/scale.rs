//! What an operation costs in clusters of different sizes: messages and bytes between nodes and
//! with the client, of quorum writes and quorum reads under the same load, without faults.
//!
//! The clusters get exactly the same operations: the same keys, each written equally often, so that
//! records are of the same length everywhere. What grows with the number of nodes by itself, the
//! talk of idle links, is counted apart and per second.
//!
//! Not here: time. The simulator's clocks say nothing of how fast a cluster is.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use quorate_client::{Client, Context};
use quorate_ring::{ConsistencyLevel, VnodeCount};
use tokio::task::JoinSet;

use super::client_net::ClientNet;
use super::clock::Machine;
use super::cluster::Cluster;
use super::net::SimNet;
use super::plan::Plan;
use super::rand::SimRand;
use super::sched::Scheduler;
use super::trace::Trace;
use super::traffic::{Counts, Tally, Traffic};

const SECOND: u64 = 1_000_000;
/// Time after a phase in which the last acknowledgements arrive.
const SETTLE_MS: u64 = 500;
/// How long the idle cluster is listened to: whole keep-alives of every link.
const IDLE_SECONDS: u64 = 10;

/// What every cluster is asked.
#[derive(Debug, Clone, Copy)]
pub struct ScaleLoad {
    /// Clients, each with one operation under way.
    pub clients: u32,
    /// Keys of each client.
    pub keys: u32,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Writes of each key before anything is counted: enough for records to stop growing.
    pub rounds_before: u32,
    /// Writes of each key, and reads of each key, that are counted.
    pub rounds: u32,
    /// What is drawn follows from it.
    pub seed: u64,
}

impl Default for ScaleLoad {
    /// A record lists 16 superseded operations, so after 40 rounds it is as long as it gets.
    fn default() -> Self {
        Self {
            clients: 8,
            keys: 50,
            value_bytes: 256,
            rounds_before: 40,
            rounds: 20,
            seed: 1,
        }
    }
}

/// What operations of one kind have cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// How many there were.
    pub operations: u64,
    /// What was said meanwhile.
    pub counts: Counts,
}

impl Cost {
    /// `total` per operation.
    #[must_use]
    pub fn each(&self, total: u64) -> f64 {
        total as f64 / self.operations as f64
    }

    /// The figures that must not depend on the number of nodes, each with its name.
    #[must_use]
    pub fn figures(&self) -> [(&'static str, f64); 4] {
        let Counts { peers, clients, .. } = &self.counts;
        [
            ("messages between nodes", self.each(peers.messages)),
            ("bytes between nodes", self.each(peers.bytes)),
            ("messages with clients", self.each(clients.messages)),
            ("bytes with clients", self.each(clients.bytes)),
        ]
    }
}

/// What a cluster of one size has shown.
#[derive(Debug, Clone, Copy)]
pub struct ScaleFigures {
    /// Its nodes.
    pub nodes: u32,
    /// Quorum writes.
    pub writes: Cost,
    /// Quorum reads.
    pub reads: Cost,
    /// What an idle cluster says in `IDLE_SECONDS`.
    pub idle: Tally,
}

/// Why the cluster did not show anything.
#[derive(Debug, thiserror::Error)]
pub enum ScaleError {
    /// It did not start.
    #[error("the cluster of {0} nodes did not start")]
    NotStarted(u32),
    /// A number of vnodes that is no power of two.
    #[error("{0} is no number of vnodes")]
    Vnodes(u32),
    /// An operation failed, in fair weather.
    #[error("an operation failed: {0}")]
    Failed(String),
}

/// Runs a cluster of `nodes` nodes under `load`, on this thread.
///
/// # Errors
/// [`ScaleError`] if anything fails: there are no faults.
pub fn run_scale(nodes: u32, load: ScaleLoad) -> Result<ScaleFigures, ScaleError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without IO needs nothing of the system");
    runtime.block_on(Box::pin(async move {
        let run = ScaleRun::prepare(nodes, load)?;
        run.carry_out().await
    }))
}

/// Vnodes of every cluster: as many as the default gives.
const VNODES: u32 = 256;

struct ScaleRun {
    nodes: u32,
    load: ScaleLoad,
    plan: Arc<Plan>,
    time: Scheduler,
    cluster: Cluster,
    traffic: Traffic,
    _background: JoinSet<()>,
}

impl ScaleRun {
    fn prepare(nodes: u32, load: ScaleLoad) -> Result<Self, ScaleError> {
        let vnodes = VnodeCount::new(VNODES).map_err(|_| ScaleError::Vnodes(VNODES))?;
        let plan = Arc::new(Plan::of_fair_weather(load.seed, nodes, vnodes));
        let time = Scheduler::start();
        let trace = Trace::new(time.clone(), false);
        let traffic = Traffic::default();
        let stream = |purpose| SimRand::derive(load.seed, 0, purpose);
        let net = SimNet::new(
            time.clone(),
            trace.clone(),
            plan.net.clone(),
            plan.topology.nodes().iter().map(|n| n.id).collect(),
            stream("net"),
        );
        let client_net = ClientNet::new(
            time.clone(),
            trace.clone(),
            plan.client_net.clone(),
            plan.topology.clone(),
            stream("client net"),
        );
        let cluster = Cluster::new(
            plan.clone(),
            time.clone(),
            trace,
            net.counted_by(traffic.clone()),
            client_net.counted_by(traffic.clone()),
        );
        let mut background = JoinSet::new();
        background.spawn(time.clone().run());
        Ok(Self {
            nodes,
            load,
            plan,
            time,
            cluster,
            traffic,
            _background: background,
        })
    }

    async fn carry_out(self) -> Result<ScaleFigures, ScaleError> {
        self.cluster.start_all();
        if !self.cluster.wait_until_all_run(30 * SECOND).await {
            return Err(ScaleError::NotStarted(self.nodes));
        }
        // Until every link is up and every node counts.
        self.time.sleep_ms(3000).await;
        let before = self.traffic.counts();
        self.time.sleep_ms(IDLE_SECONDS * 1000).await;
        let idle = self.traffic.counts().since(&before).background;
        let mut clients = Vec::new();
        for number in 0..self.load.clients {
            clients.push(self.connect(number).await?);
        }
        let clients = self.phase(clients, self.load.rounds_before, Step::Write);
        let (clients, _) = clients.await?;
        let (clients, writes) = self.phase(clients, self.load.rounds, Step::Write).await?;
        let (_, reads) = self.phase(clients, self.load.rounds, Step::Read).await?;
        self.cluster.stop_all().await;
        Ok(ScaleFigures {
            nodes: self.nodes,
            writes,
            reads,
            idle,
        })
    }

    async fn connect(&self, number: u32) -> Result<ScaleClient, ScaleError> {
        let addresses = self.plan.topology.nodes().iter().map(|n| n.address.clone());
        let transport = self.cluster.client_net().transport(number as usize);
        let client = Client::builder()
            .seeds(addresses)
            .transport(transport)
            .wall_clock(Arc::new(Machine::new(self.time.clone(), 0, 0)))
            .random_seed(SimRand::derive(self.load.seed, number.into(), "sdk").next_bits())
            .connect()
            .await
            .map_err(|error| ScaleError::Failed(error.to_string()))?;
        let key = |key| Bytes::from(format!("client-{number:04}-key-{key:06}"));
        Ok(ScaleClient {
            client,
            keys: (0..self.load.keys).map(|k| (key(k), None)).collect(),
            value: Bytes::from(vec![b'v'; self.load.value_bytes]),
        })
    }

    /// Every client takes this step with each of its keys, so many times.
    async fn phase(
        &self,
        clients: Vec<ScaleClient>,
        rounds: u32,
        step: Step,
    ) -> Result<(Vec<ScaleClient>, Cost), ScaleError> {
        let before = self.traffic.counts();
        let mut tasks = JoinSet::new();
        for client in clients {
            tasks.spawn(client.go(rounds, step));
        }
        let mut clients = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.map_err(|error| ScaleError::Failed(error.to_string()))?;
            clients.push(ended?);
        }
        self.time.sleep_ms(SETTLE_MS).await;
        let operations =
            u64::from(self.load.clients) * u64::from(self.load.keys) * u64::from(rounds);
        let counts = self.traffic.counts().since(&before);
        Ok((clients, Cost { operations, counts }))
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Write,
    Read,
}

struct ScaleClient {
    client: Client,
    keys: Vec<(Bytes, Option<Context>)>,
    value: Bytes,
}

impl ScaleClient {
    async fn go(mut self, rounds: u32, step: Step) -> Result<Self, ScaleError> {
        let keyspace = self.client.keyspace("default");
        let level = ConsistencyLevel::Quorum;
        for _ in 0..rounds {
            for (key, seen) in &mut self.keys {
                match step {
                    Step::Write => {
                        let (key, value) = (key.clone(), self.value.clone());
                        let write = match seen {
                            Some(context) => keyspace.put(key, value).after(&*context),
                            None => keyspace.put_blind(key, value),
                        };
                        let written = write.level(level).await;
                        let written = written.map_err(|e| ScaleError::Failed(e.to_string()))?;
                        *seen = written.context().cloned();
                    }
                    Step::Read => {
                        let read = keyspace.get(key.clone()).level(level).await;
                        let read = read.map_err(|e| ScaleError::Failed(e.to_string()))?;
                        if read.value().is_none() {
                            return Err(ScaleError::Failed("not one value".to_owned()));
                        }
                    }
                }
            }
        }
        Ok(self)
    }
}

/// The figures as a table for people.
#[must_use]
pub fn table(all: &[ScaleFigures]) -> String {
    let mut text = String::from(
        "                 between nodes, per operation     with clients, per operation   idle links, per second and node\n\
         nodes  what     messages    frames     bytes     messages     bytes            messages     bytes\n",
    );
    // Writing to a string cannot fail.
    for figures in all {
        let per_node = |total: u64| total as f64 / (IDLE_SECONDS * u64::from(figures.nodes)) as f64;
        for (name, cost) in [("write", &figures.writes), ("read", &figures.reads)] {
            let Counts { peers, clients, .. } = &cost.counts;
            writeln!(
                text,
                "{:>5}  {name:<6} {:>10.3} {:>9.3} {:>9.1}   {:>10.3} {:>9.1}          {:>10.1} {:>9.0}",
                figures.nodes,
                cost.each(peers.messages),
                cost.each(peers.frames),
                cost.each(peers.bytes),
                cost.each(clients.messages),
                cost.each(clients.bytes),
                per_node(figures.idle.messages),
                per_node(figures.idle.bytes),
            )
            .unwrap_or_default();
        }
    }
    text
}

/// Where two clusters differ by more than `percent` of the first one's figure, as sentences.
#[must_use]
pub fn differences(a: &ScaleFigures, b: &ScaleFigures, percent: f64) -> Vec<String> {
    let kinds = [
        ("write", &a.writes, &b.writes),
        ("read", &a.reads, &b.reads),
    ];
    let pairs = kinds.into_iter().flat_map(|(kind, a, b)| {
        let figures = a.figures().into_iter().zip(b.figures());
        figures.map(move |((name, a), (_, b))| (kind, name, a, b))
    });
    let far = pairs.filter(|(_, _, a, b)| (a - b).abs() > a.abs() * percent / 100.0);
    far.map(|(kind, name, of_a, of_b)| {
        let (nodes_a, nodes_b) = (a.nodes, b.nodes);
        format!("{name} of a {kind}: {of_a:.2} with {nodes_a} nodes, {of_b:.2} with {nodes_b}")
    })
    .collect()
}
