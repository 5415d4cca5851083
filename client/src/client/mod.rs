//! The handle to a cluster.
//!
//! Everything that operations share is behind one `Arc`: the transport, the topology, what is known
//! of the nodes, the retry budget, the random source. Locks are held for lines, never over an
//! await. There are no tasks: an operation runs in the future that its caller polls.
//!
//! Not here: one operation (`perform`), its builders (`keyspace`), questions to one node (`admin`).

mod admin;
mod answer_room;
mod batch;
mod builder;
mod dump;
mod group;
mod hedge;
mod lazy;
mod operation;
mod perform;
mod progress;
#[cfg(test)]
mod tests;
mod turns;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_ring::{MonoTime, NodeId};
use tokio::time::Instant;

pub(crate) use batch::ItemEnd;
pub use builder::{ClientBuilder, Seed};
pub use dump::DumpPages;
pub use lazy::{ConnectState, LazyClient};
pub use operation::IfSuperseded;
pub(crate) use operation::{AttemptLimits, Diagnose, Done, Operation, Payload, wire_level};

use self::progress::Ended;
use self::turns::{IN_FLIGHT_MAX, Turns};
use crate::clock::Clock;
use crate::config::ClientConfig;
use crate::error::ConnectError;
use crate::hybrid::{HybridClock, SystemWallClock, WallClock};
use crate::keyspace::Keyspace;
use crate::metrics::ClientMetrics;
use crate::op_id::Attempts;
use crate::profile::{Profile, ProfileError, ProfileSlot, Profiles};
use crate::rand::Rand;
use crate::retry::RetryBudget;
use crate::route::{Kind, NodeVerdict, RouteTable};
use crate::session::{Session, SessionError, SessionToken};
use crate::throttle::{Load, Throttle};
use crate::topology::{Owners, Topology, TopologyUnusable};
use crate::transport::{NodeEndpoint, Transport};
use crate::wire::{OpId, TopologyInfo};
use quorate_ring::hedge::HedgeBudget;

/// A handle to a cluster: cheap to clone, safe to share, without a pool to configure.
///
/// # Example
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use quorate_client::Client;
///
/// let client = Client::from_file("quorate-data/client.toml").await?;
/// let users = client.keyspace("default");
/// let read = users.get("alice").await?;
/// users.put("alice", "hello").after(&read).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    transport: Arc<dyn Transport>,
    clock: Clock,
    topology: Mutex<Arc<Topology>>,
    routes: Mutex<RouteTable>,
    budget: Mutex<RetryBudget>,
    throttle: Mutex<Throttle>,
    turns: Turns,
    hedges: Mutex<HedgeBudget>,
    rand: Mutex<Rand>,
    profiles: Profiles,
    stamps: Mutex<HybridClock>,
    metrics: ClientMetrics,
}

/// What a client is made of that only its builder may give.
struct Parts {
    metrics: ClientMetrics,
    turns: Turns,
}

/// Locks what a panic in another thread cannot have left half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// Starts to describe a client.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Connects to the cluster that a `client.toml` describes.
    ///
    /// # Errors
    /// [`ConnectError`]; if no seed can be used, it names each one and why.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn from_file(path: impl AsRef<Path>) -> Result<Self, ConnectError> {
        let config = ClientConfig::read(path)?;
        Self::builder().config(&config)?.connect().await
    }

    /// A client over a transport of its own, with a topology that is known already and all
    /// randomness from `seed`: what the simulator uses. Needs a tokio runtime with time, asks
    /// nothing.
    ///
    /// # Errors
    /// [`TopologyUnusable`] if `topology` contradicts itself.
    pub fn with_transport(
        transport: Arc<dyn Transport>,
        topology: TopologyInfo,
        seed: u64,
    ) -> Result<Self, TopologyUnusable> {
        let topology = Topology::from_wire(topology)?;
        let wall_clock = Arc::new(SystemWallClock);
        let rand = Rand::from_seed(seed);
        let parts = Parts {
            metrics: ClientMetrics::of_process(),
            turns: Turns::new(IN_FLIGHT_MAX),
        };
        Ok(Self::assemble(transport, topology, rand, wall_clock, parts))
    }

    fn assemble(
        transport: Arc<dyn Transport>,
        topology: Topology,
        mut rand: Rand,
        wall_clock: Arc<dyn WallClock>,
        Parts { metrics, turns }: Parts,
    ) -> Self {
        let rotation = rand.bits();
        let shared = Shared {
            transport,
            clock: Clock::start(),
            topology: Mutex::new(Arc::new(topology)),
            routes: Mutex::new(RouteTable::with_rotation(rotation)),
            budget: Mutex::new(RetryBudget::full()),
            throttle: Mutex::default(),
            turns,
            hedges: Mutex::new(HedgeBudget::full()),
            rand: Mutex::new(rand),
            profiles: Profiles::default(),
            stamps: Mutex::new(HybridClock::new(wall_clock)),
            metrics,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A keyspace by its name. Whether there is one is told by the first operation.
    #[must_use]
    pub fn keyspace(&self, name: impl Into<String>) -> Keyspace {
        Keyspace::new(self.clone(), name.into())
    }

    /// Begins a session: read your writes and monotonic reads at any level.
    #[must_use]
    pub fn session(&self) -> Session {
        Session::new(self.topology().info().cluster_id)
    }

    /// Goes on with a session that [`Session::token`] carried here.
    ///
    /// # Errors
    /// [`SessionError`] if the token is no session's, or of another cluster.
    pub fn resume_session(&self, token: &SessionToken) -> Result<Session, SessionError> {
        Session::resume(self.topology().info().cluster_id, token)
    }

    /// Sets a profile, or changes it for everything that uses it already.
    ///
    /// # Errors
    /// [`ProfileError::Unusable`] if it contradicts itself.
    pub fn set_profile(&self, name: &str, profile: Profile) -> Result<(), ProfileError> {
        self.shared.profiles.set(name, profile)
    }

    pub(crate) fn find_profile(&self, name: &str) -> Result<ProfileSlot, ProfileError> {
        self.shared.profiles.find(name)
    }

    /// The topology that this client knows.
    #[must_use]
    pub fn topology(&self) -> Arc<Topology> {
        Arc::clone(&lock(&self.shared.topology))
    }

    /// Who owns a key, computed locally; `None` if there is no such keyspace.
    #[must_use]
    pub fn local_owners(&self, keyspace: &str, key: &[u8]) -> Option<Owners> {
        self.topology().owners(keyspace, key)
    }

    /// Ends the connections of all clones and waits until the nodes were told. Without it they
    /// notice by silence.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the connections closed.
    pub async fn close(&self) {
        self.shared.transport.close().await;
    }

    fn now(&self) -> MonoTime {
        self.shared.clock.now()
    }

    fn instant(&self, at: MonoTime) -> Instant {
        self.shared.clock.instant(at)
    }

    fn draw_op_id(&self) -> OpId {
        lock(&self.shared.rand).op_id()
    }

    pub(crate) fn random(&self) -> u64 {
        lock(&self.shared.rand).bits()
    }

    /// Whether a first attempt that is about to go out is to be held back.
    fn holds_back(&self, now: MonoTime) -> bool {
        lock(&self.shared.throttle).holds_back(now, || self.random())
    }

    /// A node has done what it was asked.
    fn note_done(&self, now: MonoTime) {
        lock(&self.shared.throttle).answered(now, Load::Taken);
    }

    /// A node has refused a request, or there was no answer.
    fn note_failed(&self, now: MonoTime, ended: &Ended) {
        if ended.is_overload() {
            lock(&self.shared.hedges).overloaded(now);
        }
        if let Some(load) = ended.load() {
            lock(&self.shared.throttle).answered(now, load);
        }
    }

    fn new_write(&self) -> Attempts {
        Attempts::new(self.draw_op_id())
    }

    /// Takes a topology that a node sent, unless the present one is newer or another cluster's.
    fn learn(&self, info: TopologyInfo) -> Result<(), TopologyUnusable> {
        let newer = Topology::from_wire(info)?;
        let mut present = lock(&self.shared.topology);
        if newer.info().cluster_id == present.info().cluster_id
            && newer.ring().epoch() > present.ring().epoch()
        {
            *present = Arc::new(newer);
        }
        Ok(())
    }
}

/// A request to a node that is under way: counts as in flight until it is dropped.
struct InFlight<'a> {
    client: &'a Client,
    node: NodeId,
    kind: Kind,
    sent: MonoTime,
    /// When it had been carried out: refusals say nothing of the latency.
    answered: Option<MonoTime>,
    verdict: NodeVerdict,
}

impl<'a> InFlight<'a> {
    fn start(client: &'a Client, node: NodeId, kind: Kind, now: MonoTime) -> Self {
        lock(&client.shared.routes).started(now, node);
        client.shared.metrics.sent();
        Self {
            client,
            node,
            kind,
            sent: now,
            answered: None,
            verdict: NodeVerdict::Nothing,
        }
    }
}

impl InFlight<'_> {
    /// It was carried out.
    fn done(&mut self) {
        let now = self.client.now();
        self.client.note_done(now);
        self.answered = Some(now);
        self.verdict = NodeVerdict::Works;
    }

    /// It was refused, or there was no answer.
    fn failed(&mut self, ended: &Ended) {
        self.client.note_failed(self.client.now(), ended);
        self.verdict = ended.verdict();
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let now = self.answered.unwrap_or_else(|| self.client.now());
        let mut routes = lock(&self.client.shared.routes);
        // One that lost took at least this long: left out, the measured tail would shrink.
        if self.answered.is_some() || self.verdict == NodeVerdict::Outrun {
            routes.measured(self.node, self.kind, now.since(self.sent));
        }
        routes.ended(now, self.node, self.verdict);
    }
}

/// An endpoint of a seed, whose number is not known yet.
fn seed_endpoint(seed: &Seed) -> NodeEndpoint {
    NodeEndpoint {
        id: None,
        name: seed.name.clone(),
        address: seed.address.clone(),
    }
}
