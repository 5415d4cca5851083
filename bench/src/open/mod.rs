//! The open loop: operations start when their time has come, however many are under way, as the
//! requests of a service's users do.
//!
//! A latency counts from the intended start. So an operation that waits for the tool, or behind a
//! stall of the cluster, is as slow as its user finds it: nothing is left out because the load
//! waited with the cluster (coordinated omission). At most so many operations are under way as the
//! plan says; one that finds no room is not sent, is counted, and is never forgotten.
//!
//! Not here: the closed loop, which measures cost (`closed_loop`).

mod closed;
mod mix;
mod model;
mod operation;
mod ramp;
mod record;
mod report;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use quorate_client::{Keyspace, Level};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

pub use mix::{Action, BATCH_KEYS, Mix, MixError, SCAN_KEYS};
pub use model::{Claim, Floor, Lie, Model};
pub use ramp::{Knee, Ramp, RampError, Step, climb};
pub use record::{End, Record, Second};
pub use report::{OpenReport, Verdict};

use crate::clock::Clock;
use crate::keys::{Distribution, KeyDraw};
use crate::progress::Progress;

/// Time for one key when all is read back.
const READ_BACK_DEADLINE: Duration = Duration::from_secs(10);

/// How starts lie in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// Exponential gaps: users who know nothing of each other.
    Poisson,
    /// Equal gaps.
    Uniform,
}

/// What an open loop asks.
#[derive(Debug, Clone)]
pub struct OpenSpec {
    /// Which operations.
    pub mix: Mix,
    /// Number of keys, at least 1.
    pub keys: u32,
    /// How keys are drawn.
    pub distribution: Distribution,
    /// Length of every value in bytes, at least 16.
    pub value_bytes: usize,
    /// Level of reads, gets and scans.
    pub read_level: Level,
    /// Level of writes.
    pub write_level: Level,
    /// TTL of every put.
    pub ttl: Option<Duration>,
    /// Deadline of every operation.
    pub deadline: Duration,
    /// How starts lie in time.
    pub arrivals: Arrivals,
    /// Operations under way at most; others are not started.
    pub in_flight_max: usize,
    /// Whether writes need contexts, as in keyspaces of siblings.
    pub has_contexts: bool,
    /// Whether answers are judged.
    pub verify: bool,
    /// What is drawn follows from it.
    pub seed: u64,
}

/// Operations that are started before those under way have their turn.
const STARTS_PER_TURN: u64 = 64;

/// An open loop over one keyspace. Its model lives as long as it does, over all its runs.
#[derive(Debug)]
pub struct OpenLoop {
    shared: Arc<Shared>,
    draw: KeyDraw,
    random: SmallRng,
}

#[derive(Debug)]
pub(crate) struct Shared {
    spec: OpenSpec,
    /// The keyspace, once for each client that takes turns.
    keyspaces: Vec<Keyspace>,
    next_client: AtomicUsize,
    clock: Clock,
    model: Mutex<Model>,
    record: Mutex<Record>,
    shed_without_advice: AtomicU64,
}

impl Shared {
    /// The keyspace through the client whose turn it is.
    fn keyspace(&self) -> &Keyspace {
        let turn = self.next_client.fetch_add(1, Ordering::Relaxed);
        &self.keyspaces[turn % self.keyspaces.len()]
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenLoop {
    /// A loop of whose keys nothing is written yet; the keyspace must not hold others of its names.
    /// `keyspaces` is that keyspace of one or more clients, which take turns.
    ///
    /// # Panics
    /// If there is no client.
    #[must_use]
    pub fn new(spec: OpenSpec, keyspaces: Vec<Keyspace>, clock: Clock) -> Self {
        assert!(!keyspaces.is_empty(), "somebody must ask");
        let random = SmallRng::seed_from_u64(spec.seed);
        let model = Model::new(spec.keys, spec.value_bytes, spec.seed);
        let draw = KeyDraw::new(spec.distribution, spec.keys);
        Self {
            shared: Arc::new(Shared {
                spec,
                keyspaces,
                next_client: AtomicUsize::new(0),
                clock,
                model: Mutex::new(model),
                record: Mutex::default(),
                shed_without_advice: AtomicU64::new(0),
            }),
            draw,
            random,
        }
    }

    /// From now on other clients take turns.
    ///
    /// # Panics
    /// If a run was dropped whose operations are still under way.
    pub fn set_clients(&mut self, keyspaces: Vec<Keyspace>) {
        self.between_runs().keyspaces = keyspaces;
    }

    /// From now on so many operations may be under way.
    ///
    /// # Panics
    /// If a run was dropped whose operations are still under way.
    pub fn set_in_flight_max(&mut self, in_flight_max: usize) {
        self.between_runs().spec.in_flight_max = in_flight_max;
    }

    fn between_runs(&mut self) -> &mut Shared {
        Arc::get_mut(&mut self.shared).expect("no operation is under way between two runs")
    }

    /// Starts `rate` operations per second for so long, and waits for the last one.
    ///
    /// # Errors
    /// If a task fails, which is a bug of the tool.
    ///
    /// # Cancel safety
    /// Operations under way are dropped; their outcomes are not known and their keys stay claimed.
    pub async fn run(&mut self, label: &str, rate: f64, length: Duration) -> Result<Record> {
        let clock = self.shared.clock;
        let begin = clock.now();
        let length_s = length.as_secs_f64();
        let total = Duration::from_secs_f64(rate * length_s).as_secs();
        let mut progress = Progress::new(begin, label.to_owned(), total);
        let mut open = JoinSet::new();
        let (mut at_s, mut started) = (0.0, 0);
        while at_s < length_s {
            let intended = Duration::from_secs_f64(at_s);
            let due = begin + intended;
            let now = clock.now();
            if now < due {
                tokio::time::sleep(due - now).await;
            }
            while let Some(ended) = open.try_join_next() {
                ended?;
            }
            if started % STARTS_PER_TURN == 0 {
                // Behind its plan the loop would keep what is under way from going on.
                tokio::task::yield_now().await;
            }
            let action = self.shared.spec.mix.draw(&mut self.random);
            if open.len() < self.shared.spec.in_flight_max {
                let indexes = self.indexes(action);
                let shared = Arc::clone(&self.shared);
                open.spawn(async move {
                    let end = shared.carry_out(action, indexes).await;
                    let took = shared.clock.now().saturating_sub(due);
                    shared.record().add(action, end, intended, took);
                });
            } else {
                let mut record = self.shared.record();
                record.add(action, End::NotStarted, intended, Duration::ZERO);
            }
            started += 1;
            progress.update(clock.now(), started);
            at_s += self.gap_s(rate);
        }
        while let Some(ended) = open.join_next().await {
            ended?;
        }
        progress.finish();
        Ok(std::mem::take(&mut *self.shared.record()))
    }

    /// Reads every key that was written and judges what is there; how many reads failed.
    async fn read_back(&self, deadline: Duration) -> Result<u64> {
        let written: Vec<u32> = self.shared.model().written().collect();
        let written = Arc::new(Mutex::new(written));
        let mut readers = JoinSet::new();
        for _ in 0..64 {
            let (shared, written) = (Arc::clone(&self.shared), Arc::clone(&written));
            readers.spawn(async move {
                let next = || written.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let mut failed = 0;
                while let Some(index) = next() {
                    failed += u64::from(!shared.read_back(index, deadline).await);
                }
                failed
            });
        }
        let mut failed = 0;
        while let Some(ended) = readers.join_next().await {
            failed += ended?;
        }
        Ok(failed)
    }

    /// Operations that were refused as overload without saying when another try makes sense.
    #[must_use]
    pub fn shed_without_advice(&self) -> u64 {
        self.shared.shed_without_advice.load(Ordering::Relaxed)
    }

    /// Reads everything back, and tells what verifying found.
    ///
    /// # Errors
    /// If a task fails, which is a bug of the tool.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn verdict(&self) -> Result<Verdict> {
        let unread = self.read_back(READ_BACK_DEADLINE).await?;
        let model = self.shared.model();
        let (judged, lied, lies) = model.verdict();
        Ok(Verdict {
            judged,
            lied,
            lies: lies.iter().map(ToString::to_string).collect(),
            unread,
        })
    }

    /// The keys of an operation; of a scan the first one.
    fn indexes(&mut self, action: Action) -> Vec<u32> {
        let count = match action {
            Action::MultiGet | Action::MultiPut => BATCH_KEYS,
            Action::Read | Action::Write | Action::Delete | Action::Update | Action::Scan => 1,
        };
        let mut indexes: Vec<u32> = (0..count)
            .map(|_| self.draw.draw(&mut self.random))
            .collect();
        indexes.sort_unstable();
        indexes.dedup();
        indexes
    }

    fn gap_s(&mut self, rate: f64) -> f64 {
        match self.shared.spec.arrivals {
            Arrivals::Uniform => 1.0 / rate,
            Arrivals::Poisson => {
                let unit: f64 = self.random.random_range(f64::MIN_POSITIVE..1.0);
                -unit.ln() / rate
            }
        }
    }
}
