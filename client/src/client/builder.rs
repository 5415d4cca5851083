//! How a client is described and connected.
//!
//! The seeds are asked for the topology from a random one on. The next one is asked when one fails,
//! or has not answered for a moment; all share one time limit, and the first usable answer wins.
//!
//! Not here: the connection itself (`pool`).

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use super::turns::{IN_FLIGHT_MAX, Turns};
use super::{Client, LazyClient, Parts, seed_endpoint};
use crate::clock::Clock;
use crate::config::{ClientConfig, ConfigError, read_text};
use crate::error::{ConnectError, SeedFailure, SeedReason};
use crate::hybrid::{SystemWallClock, WallClock};
use crate::link::{ClusterId, Credentials};
use crate::metrics::ClientMetrics;
use crate::pool;
use crate::profile::Profile;
use crate::rand::Rand;
use crate::topology::Topology;
use crate::transport::{BoxFuture, CallCause, CallError, Transport};
use crate::wire::{Request, Response};

/// Time to connect unless another is given.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a seed may be silent before the next one is asked too.
const NEXT_SEED_AFTER: Duration = Duration::from_millis(100);

/// A node to ask for the topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// Its name, which its certificate must carry; without one any node of the cluster will do.
    pub name: Option<String>,
    /// `HOST:PORT`.
    pub address: String,
}

impl From<&str> for Seed {
    fn from(address: &str) -> Self {
        Self::from(address.to_owned())
    }
}

impl From<String> for Seed {
    fn from(address: String) -> Self {
        Self {
            name: None,
            address,
        }
    }
}

/// Describes a client. Make it with [`Client::builder`].
///
/// # Example
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// # let (ca_pem, cert_pem, key_pem) = ("", "", "");
/// use quorate_client::Client;
///
/// let client = Client::builder()
///     .cluster_id("5f0c6a1b2c3d4e5f60718293a4b5c6d7".parse()?)
///     .seeds(["127.0.0.1:7401", "127.0.0.1:7402"])
///     .ca(ca_pem)
///     .identity(cert_pem, key_pem)
///     .connect()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    seeds: Vec<Seed>,
    cluster_id: Option<ClusterId>,
    ca: Option<String>,
    identity: Option<Identity>,
    transport: Option<Arc<dyn Transport>>,
    random_seed: Option<u64>,
    connect_timeout: Duration,
    profiles: Vec<(String, Profile)>,
    wall_clock: Option<Arc<dyn WallClock>>,
    metrics: Option<ClientMetrics>,
    in_flight_max: usize,
}

#[derive(Clone)]
struct Identity {
    cert: String,
    key: String,
}

impl std::fmt::Debug for Identity {
    /// Keeps the private key out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            seeds: Vec::new(),
            cluster_id: None,
            ca: None,
            identity: None,
            transport: None,
            random_seed: None,
            connect_timeout: CONNECT_TIMEOUT,
            profiles: Vec::new(),
            wall_clock: None,
            metrics: None,
            in_flight_max: IN_FLIGHT_MAX,
        }
    }
}

impl ClientBuilder {
    /// Nodes to ask for the topology, as `HOST:PORT` or [`Seed`]; adds to those given before.
    #[must_use]
    pub fn seeds<S: Into<Seed>>(mut self, seeds: impl IntoIterator<Item = S>) -> Self {
        self.seeds.extend(seeds.into_iter().map(Into::into));
        self
    }

    /// The authority of the nodes' certificates, as PEM.
    #[must_use]
    pub fn ca(mut self, pem: impl Into<String>) -> Self {
        self.ca = Some(pem.into());
        self
    }

    /// The client's certificate and its private key, as PEM.
    #[must_use]
    pub fn identity(mut self, cert_pem: impl Into<String>, key_pem: impl Into<String>) -> Self {
        self.identity = Some(Identity {
            cert: cert_pem.into(),
            key: key_pem.into(),
        });
        self
    }

    /// The wall clock that stamps writes of lww keyspaces; the system's unless set.
    #[must_use]
    pub fn wall_clock(mut self, clock: Arc<dyn WallClock>) -> Self {
        self.wall_clock = Some(clock);
        self
    }

    /// The cluster's id, which the nodes' certificates carry; a seed of another one is refused.
    #[must_use]
    pub fn cluster_id(mut self, id: ClusterId) -> Self {
        self.cluster_id = Some(id);
        self
    }

    /// Takes everything that a `client.toml` says, and reads the files that it names.
    ///
    /// # Errors
    /// [`ConfigError::Read`] if one of them cannot be read, [`ConfigError::Profile`] if a profile
    /// cannot be used.
    pub fn config(mut self, config: &ClientConfig) -> Result<Self, ConfigError> {
        let seeds = config.seeds.iter().map(|seed| Seed {
            name: Some(seed.name.clone()),
            address: seed.address.clone(),
        });
        for (name, profile) in &config.profiles {
            self = self.profile(name.clone(), profile.to_profile(name)?);
        }
        let (ca, cert) = (read_text(&config.ca)?, read_text(&config.cert)?);
        let made = self.seeds(seeds).cluster_id(config.cluster_id);
        Ok(made.ca(ca).identity(cert, read_text(&config.key)?))
    }

    /// A profile under a name; one that cannot be used is an error of [`ClientBuilder::connect`].
    #[must_use]
    pub fn profile(mut self, name: impl Into<String>, profile: Profile) -> Self {
        self.profiles.push((name.into(), profile));
        self
    }

    /// How long to look for a seed that answers, over all of them; 5 s unless set.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Uses another transport than QUIC; `ca` and `identity` are not needed then.
    #[must_use]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Counts operations, their outcomes and times with this recorder, in place of the one that the
    /// process installed.
    #[must_use]
    pub fn metrics(mut self, recorder: &dyn metrics::Recorder) -> Self {
        self.metrics = Some(ClientMetrics::of(recorder));
        self
    }

    /// Operations under way at once, 4096 unless set, at least 1; a batch counts as one. Further
    /// ones wait for their turn in order, for half of their deadline at most (a batch: of the
    /// shortest of its items'): then they fail with [`Code::Overloaded`](crate::Code::Overloaded),
    /// certainly not applied.
    #[must_use]
    pub const fn in_flight_max(mut self, operations: usize) -> Self {
        self.in_flight_max = operations;
        self
    }

    /// Makes everything random follow from `seed`. Two clients of one cluster must never have the
    /// same: their writes would have the same identities. For simulation and tests.
    #[must_use]
    pub fn random_seed(mut self, seed: u64) -> Self {
        self.random_seed = Some(seed);
        self
    }

    /// Connects when the client is first needed, and tries again with each call until it could:
    /// for a service that may start before its cluster. Asks nothing yet.
    #[must_use]
    pub fn connect_lazy(self) -> LazyClient {
        LazyClient::new(self)
    }

    /// Asks the seeds for the topology.
    ///
    /// # Errors
    /// [`ConnectError`]; if no seed can be used, it names each one and why.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        if self.seeds.is_empty() {
            return Err(ConnectError::NoSeeds);
        }
        let mut rand = match self.random_seed {
            Some(seed) => Rand::from_seed(seed),
            None => Rand::from_system(),
        };
        let transport = self.usable_transport()?;
        let topology = self.first_topology(&*transport, rand.bits()).await?;
        let wall_clock = self.wall_clock.clone();
        let wall_clock = wall_clock.unwrap_or_else(|| Arc::new(SystemWallClock));
        let metrics = self.metrics.clone();
        let metrics = metrics.unwrap_or_else(ClientMetrics::of_process);
        let turns = Turns::new(self.in_flight_max);
        let parts = Parts { metrics, turns };
        let client = Client::assemble(transport, topology, rand, wall_clock, parts);
        for (name, profile) in &self.profiles {
            let set = client.set_profile(name, *profile);
            set.map_err(ConfigError::Profile)?;
        }
        Ok(client)
    }

    fn usable_transport(&self) -> Result<Arc<dyn Transport>, ConnectError> {
        if let Some(transport) = &self.transport {
            return Ok(Arc::clone(transport));
        }
        let missing = |what| ConnectError::NoIdentity { what };
        let cluster = self.cluster_id.ok_or(missing("the cluster id"))?;
        let ca = self.ca.as_deref().ok_or(missing("the nodes' authority"))?;
        let identity = self.identity.as_ref().ok_or(missing("the identity"))?;
        let credentials = Credentials::from_pem(cluster, ca, &identity.cert, &identity.key);
        let credentials = credentials.map_err(|error| ConnectError::Link(error.into()))?;
        pool::open(credentials)
    }

    async fn first_topology(
        &self,
        transport: &dyn Transport,
        random: u64,
    ) -> Result<Topology, ConnectError> {
        let clock = Clock::start();
        let until = clock.now() + self.connect_timeout;
        let count = self.seeds.len();
        let first = usize::try_from(random % count as u64).unwrap_or_default();
        let mut in_turn = self
            .seeds
            .iter()
            .cycle()
            .skip(first)
            .take(count)
            .enumerate();
        let mut asking: Vec<Asking<'_>> = Vec::new();
        let mut failures = Vec::new();
        loop {
            let next = in_turn.next();
            let is_last = next.is_none();
            if let Some((turn, seed)) = next {
                let limit = until.since(clock.now());
                let answer = Box::pin(self.ask(transport, seed, limit));
                asking.push(Asking { turn, seed, answer });
            } else if asking.is_empty() {
                break;
            }
            let ended = if is_last {
                Some(first_ended(&mut asking).await)
            } else {
                timeout(NEXT_SEED_AFTER, first_ended(&mut asking))
                    .await
                    .ok()
            };
            match ended {
                Some((_, _, Ok(topology))) => return Ok(topology),
                Some((turn, seed, Err(reason))) => failures.push((turn, failed(seed, reason))),
                None => {}
            }
        }
        failures.sort_by_key(|(turn, _)| *turn);
        let failures = failures.into_iter().map(|(_, failure)| failure).collect();
        Err(ConnectError::Seeds { seeds: failures })
    }

    async fn ask(
        &self,
        transport: &dyn Transport,
        seed: &Seed,
        limit: Duration,
    ) -> Result<Topology, SeedReason> {
        if limit.is_zero() {
            return Err(SeedReason::NotAsked);
        }
        let endpoint = seed_endpoint(seed);
        let call = transport.call(&endpoint, Request::Topology, limit);
        let late = |_| CallError::Lost(CallCause::TimedOut);
        let answer = timeout(limit + super::perform::GRACE, call)
            .await
            .map_err(late)
            .and_then(|answer| answer)
            .map_err(SeedReason::Call)?;
        let info = match answer {
            Response::Topology(info) => info,
            Response::Failure(failure) => return Err(SeedReason::Refused(failure.code)),
            Response::Applied(_)
            | Response::Read(_)
            | Response::Status(_)
            | Response::Local(_)
            | Response::Dump(_)
            | Response::Verified(_)
            | Response::Repaired(_)
            | Response::LossDeclared(_)
            | Response::Page(_)
            | Response::Batch(_) => return Err(SeedReason::UnexpectedAnswer),
        };
        if let Some(expected) = self.cluster_id.filter(|id| id.0 != info.cluster_id) {
            return Err(SeedReason::OtherCluster {
                expected: expected.to_string(),
                found: ClusterId(info.cluster_id).to_string(),
            });
        }
        Topology::from_wire(info).map_err(SeedReason::Topology)
    }
}

/// A seed that was asked and has not answered yet.
struct Asking<'a> {
    turn: usize,
    seed: &'a Seed,
    answer: BoxFuture<'a, Result<Topology, SeedReason>>,
}

/// Takes out the first that ends, in the order in which they were asked. Loses none when dropped;
/// pends for ever if there is none.
async fn first_ended<'a>(
    asking: &mut Vec<Asking<'a>>,
) -> (usize, &'a Seed, Result<Topology, SeedReason>) {
    poll_fn(|context| {
        for index in 0..asking.len() {
            let Some(one) = asking.get_mut(index) else {
                continue;
            };
            if let Poll::Ready(answer) = one.answer.as_mut().poll(context) {
                let ended = asking.remove(index);
                return Poll::Ready((ended.turn, ended.seed, answer));
            }
        }
        Poll::Pending
    })
    .await
}

fn failed(seed: &Seed, reason: SeedReason) -> SeedFailure {
    SeedFailure {
        name: seed.name.clone(),
        address: seed.address.clone(),
        reason,
    }
}
