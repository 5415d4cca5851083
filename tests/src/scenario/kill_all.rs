//! kill -9 of all nodes at once under load, again and again: every acknowledged write is there,
//! no superseded value is back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use quorate_client::{Client, Context, Keyspace, Outcome};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

use super::writes::{KeyHistory, value_of};
use crate::cluster::{Cluster, Stopwatch};

/// Writes under way when the nodes are killed.
const WRITES_IN_FLIGHT: usize = 32;

/// Deadline of a write: one that meets dead nodes is over after this.
const WRITE_DEADLINE: Duration = Duration::from_secs(1);

/// Pause of a writer after a failure, so that dead nodes are not asked in a tight loop.
const FAILURE_PAUSE: Duration = Duration::from_millis(20);

/// Time for the acknowledged writes of a round.
const ROUND_TIME_MAX: Duration = Duration::from_secs(120);

/// Deadline of a read of the audit.
const READ_DEADLINE: Duration = Duration::from_secs(10);

/// How often, and after how many writes.
#[derive(Debug, Clone, Copy)]
pub struct KillAllPlan {
    /// How often all nodes are killed.
    pub rounds: u32,
    /// Acknowledged writes before each kill, half of them overwrites with context.
    pub writes: u64,
    /// What the writers draw follows from it.
    pub seed: u64,
}

/// What happened.
#[derive(Debug, Clone, Copy, Default)]
pub struct KillAllFigures {
    /// Acknowledged writes.
    pub acknowledged: u64,
    /// Of these, overwrites with context.
    pub overwrites: u64,
    /// Writes of unknown outcome.
    pub unknown: u64,
    /// Of these, those that no read has found by now.
    pub unseen: u64,
    /// Keys that every audit read.
    pub keys: u64,
    /// The longest time from the start of the nodes until all counted for reads.
    pub slowest_start: Duration,
    /// All rounds.
    pub elapsed: Duration,
}

/// Carries it out on a new cluster.
///
/// # Errors
/// At the first thing that is not as it must be.
///
/// # Cancel safety
/// The cluster is ended.
pub async fn kill_all(plan: KillAllPlan) -> Result<KillAllFigures> {
    let watch = Stopwatch::start();
    let mut cluster = Cluster::run()?;
    let client = cluster.client().await?;
    let writers = Arc::new(Writers {
        keyspace: client.keyspace("default"),
        state: Mutex::new(State::new(plan.seed)),
    });
    let mut slowest_start = Duration::ZERO;
    for round in 1..=plan.rounds {
        write_until_killed(&writers, &mut cluster, plan.writes)
            .await
            .with_context(|| format!("round {round}"))?;
        let start = Stopwatch::start();
        cluster.start_all()?;
        slowest_start = slowest_start.max(start.elapsed());
        audit(&writers, &client)
            .await
            .with_context(|| format!("after kill {round}"))?;
    }
    client.close().await;
    let state = writers.state();
    let unseen: usize = state.keys.values().map(KeyHistory::unseen).sum();
    Ok(KillAllFigures {
        keys: u64::try_from(state.keys.len())?,
        unseen: u64::try_from(unseen)?,
        slowest_start,
        elapsed: watch.elapsed(),
        ..state.figures
    })
}

/// Writes until enough is acknowledged, kills all nodes in the midst of it, and waits until every
/// write under way has ended.
async fn write_until_killed(
    writers: &Arc<Writers>,
    cluster: &mut Cluster,
    writes: u64,
) -> Result<()> {
    writers.state().is_over = false;
    let target = writers.state().figures.acknowledged + writes;
    let mut tasks = JoinSet::new();
    for _ in 0..WRITES_IN_FLIGHT {
        let writers = Arc::clone(writers);
        tasks.spawn(async move { while writers.write().await {} });
    }
    let enough = async {
        while writers.state().figures.acknowledged < target {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let in_time = tokio::time::timeout(ROUND_TIME_MAX, enough).await;
    cluster.kill(&[0, 1, 2])?;
    writers.state().is_over = true;
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    in_time.with_context(|| format!("{writes} writes took too long; {:?}", writers.state().last))
}

/// Reads every key and judges what is there.
async fn audit(writers: &Arc<Writers>, client: &Client) -> Result<()> {
    let keys: Vec<String> = writers.state().keys.keys().cloned().collect();
    let mut tasks = JoinSet::new();
    for part in keys.chunks(keys.len().div_ceil(WRITES_IN_FLIGHT).max(1)) {
        let (part, writers) = (part.to_vec(), Arc::clone(writers));
        let keyspace = client.keyspace("default");
        tasks.spawn(async move {
            for key in part {
                let read = keyspace.get(key.clone()).deadline(READ_DEADLINE).await?;
                let mut state = writers.state();
                state
                    .keys
                    .entry(key.clone())
                    .or_default()
                    .read(&key, &read)?;
            }
            Ok::<(), anyhow::Error>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    writers.state().restock();
    Ok(())
}

struct Writers {
    keyspace: Keyspace,
    state: Mutex<State>,
}

struct State {
    keys: BTreeMap<String, KeyHistory>,
    /// Keys that nobody writes and whose context is known.
    free: Vec<String>,
    random: SmallRng,
    next_write: u64,
    is_over: bool,
    figures: KillAllFigures,
    /// The last failure, for the report.
    last: Option<String>,
}

impl State {
    fn new(seed: u64) -> Self {
        Self {
            keys: BTreeMap::new(),
            free: Vec::new(),
            random: SmallRng::seed_from_u64(seed),
            next_write: 0,
            is_over: false,
            figures: KillAllFigures::default(),
            last: None,
        }
    }

    /// The next write: its number, its key, and what it comes after. An overwrite whenever fewer
    /// than half of the acknowledged writes are, else of a new key.
    fn draw(&mut self) -> (u64, String, Option<Context>) {
        let write = self.next_write;
        self.next_write += 1;
        let wants_overwrite = self.figures.overwrites * 2 <= self.figures.acknowledged;
        if wants_overwrite && !self.free.is_empty() {
            let index = self.random.random_range(0..self.free.len());
            let key = self.free.swap_remove(index);
            let context = self.keys.get(&key).and_then(KeyHistory::context).cloned();
            if context.is_some() {
                return (write, key, context);
            }
        }
        (write, format!("key-{write:08}"), None)
    }

    /// After an audit every key can be written again.
    fn restock(&mut self) {
        let known = self
            .keys
            .iter()
            .filter(|(_, history)| history.context().is_some());
        self.free = known.map(|(key, _)| key.clone()).collect();
    }
}

impl Writers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out one write; whether there are to be more.
    async fn write(&self) -> bool {
        let (write, key, context) = self.state().draw();
        let value = value_of(&key, write);
        let sent = match &context {
            Some(context) => self.keyspace.put(key.clone(), value).after(context),
            None => self.keyspace.put_blind(key.clone(), value),
        };
        let ended = sent.deadline(WRITE_DEADLINE).await;
        let has_failed = ended.is_err();
        {
            let mut state = self.state();
            let history = state.keys.entry(key.clone()).or_default();
            match ended {
                Ok(written) => {
                    history.applied(write, &written);
                    state.figures.acknowledged += 1;
                    state.figures.overwrites += u64::from(context.is_some());
                    state.free.push(key);
                }
                Err(error) => {
                    match error.outcome() {
                        Outcome::Unknown | Outcome::Applied => {
                            history.unknown(write);
                            state.figures.unknown += 1;
                        }
                        // Its value must never be found; the key is as it was.
                        Outcome::NotApplied if context.is_some() => state.free.push(key),
                        Outcome::NotApplied => {}
                    }
                    state.last = Some(error.to_string());
                }
            }
            if state.is_over {
                return false;
            }
        }
        if has_failed {
            tokio::time::sleep(FAILURE_PAUSE).await;
        }
        true
    }
}
