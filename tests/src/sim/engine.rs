//! A simulated engine: a sorted map whose ingestions are atomic and durable.
//!
//! It outlives the node: it is owned by the test, and the node works through an [`EngineMount`],
//! whose operations hang for ever once the node crashed. A crash in the middle of an ingestion
//! leaves nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate_node::core::generation::GenerationRows;
use quorate_node::core::input::Damaged;
use quorate_node::core::key::RecordKey;
use quorate_node::core::scan_page::{PagePart, PageRange};
use quorate_node::shell::seam::{BoxFuture, Checkpoint, Engine, EngineError, EnginePage, Loaded};

use super::seeded::Seeded;

/// Faults of an engine; all off by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineFaults {
    /// Chance, in parts per million, that a key cannot be read.
    pub read_error_ppm: u32,
    /// Chance, in parts per million, that an ingestion fails.
    pub ingest_error_ppm: u32,
    /// An ingestion finds no room.
    pub is_full: bool,
    /// Longest latency of a look-up.
    pub latency_max: Duration,
    /// Longest duration of an ingestion.
    pub ingest_max: Duration,
    /// What [`Engine::backlog`] answers.
    pub backlog: u64,
}

/// An engine that outlives its node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SimEngine(Arc<Mutex<State>>);

/// What a node holds of an engine until it crashes.
#[derive(Debug)]
pub struct EngineMount {
    engine: SimEngine,
    epoch: u64,
}

#[derive(Debug)]
struct State {
    rows: BTreeMap<RecordKey, Bytes>,
    checkpoint: Option<Checkpoint>,
    unreadable: BTreeSet<RecordKey>,
    broken: bool,
    epoch: u64,
    faults: EngineFaults,
    random: Seeded,
    took_effect: BTreeMap<&'static str, u64>,
}

impl SimEngine {
    /// An empty engine; `seed` decides its faults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rows: BTreeMap::new(),
            checkpoint: None,
            unreadable: BTreeSet::new(),
            broken: false,
            epoch: 0,
            faults: EngineFaults::default(),
            random: Seeded::new(seed),
            took_effect: BTreeMap::new(),
        })))
    }

    /// The engine as a node sees it until the next crash.
    #[must_use]
    pub fn mount(&self) -> Arc<EngineMount> {
        Arc::new(EngineMount {
            engine: self.clone(),
            epoch: self.lock().epoch,
        })
    }

    /// Ends every mount; an ingestion that is under way leaves nothing.
    pub fn crash(&self) {
        self.lock().epoch += 1;
    }

    /// Switches faults.
    pub fn set_faults(&self, faults: EngineFaults) {
        self.lock().faults = faults;
    }

    /// Makes one row unreadable, for good.
    pub fn damage(&self, key: RecordKey) {
        let mut state = self.lock();
        state.unreadable.insert(key);
        state.count("row_damaged");
    }

    /// Takes a row away, and no checksum says so.
    pub fn lose(&self, key: &RecordKey) {
        let mut state = self.lock();
        state.rows.remove(key);
        state.count("row_lost");
    }

    /// The engine does not open any more.
    pub fn break_open(&self) {
        self.lock().broken = true;
    }

    /// Every row, for audits.
    #[must_use]
    pub fn rows(&self) -> BTreeMap<RecordKey, Bytes> {
        self.lock().rows.clone()
    }

    /// Puts what another engine holds in the place of all that is here. Mounts end.
    pub fn replace(&self, other: &Self) {
        let (rows, checkpoint) = {
            let other = other.lock();
            (other.rows.clone(), other.checkpoint.clone())
        };
        let mut state = self.lock();
        state.epoch += 1;
        state.rows = rows;
        state.checkpoint = checkpoint;
    }

    /// A copy, as of a directory that was copied while the node was down.
    #[must_use]
    pub fn copy(&self, seed: u64) -> Self {
        let copy = Self::new(seed);
        let from = self.lock();
        let mut to = copy.lock();
        to.rows.clone_from(&from.rows);
        to.checkpoint.clone_from(&from.checkpoint);
        drop(to);
        copy
    }

    /// Whether anything was ever ingested.
    #[must_use]
    pub fn has_checkpoint(&self) -> bool {
        self.lock().checkpoint.is_some()
    }

    /// Faults that took effect, by kind.
    #[must_use]
    pub fn took_effect(&self) -> BTreeMap<&'static str, u64> {
        self.lock().took_effect.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, fault: &'static str) {
        *self.took_effect.entry(fault).or_default() += 1;
    }

    fn load(&mut self, key: &RecordKey) -> Result<Option<Bytes>, Damaged> {
        let fails = self.random.happens(self.faults.read_error_ppm);
        if fails || self.unreadable.contains(key) {
            self.count("engine_read_error");
            return Err(Damaged {
                reason: "injected".to_owned(),
                is_proven: false,
            });
        }
        Ok(self.rows.get(key).cloned())
    }
}

impl EngineMount {
    async fn wait(&self, longest: impl FnOnce(&EngineFaults) -> Duration) {
        let delay = {
            let mut state = self.engine.lock();
            let longest = longest(&state.faults);
            state.random.up_to(longest)
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let dead = self.engine.lock().epoch != self.epoch;
        if dead {
            std::future::pending::<()>().await;
        }
    }
}

impl Engine for EngineMount {
    fn checkpoint(&self) -> BoxFuture<'_, Result<Option<Checkpoint>, EngineError>> {
        Box::pin(async move {
            self.wait(|faults| faults.latency_max).await;
            let state = self.engine.lock();
            if state.broken {
                return Err(EngineError {
                    reason: "injected: does not open".to_owned(),
                    is_damage: true,
                    is_full: false,
                });
            }
            Ok(state.checkpoint.clone())
        })
    }

    fn ingest(
        &self,
        rows: Arc<GenerationRows>,
        checkpoint: Checkpoint,
    ) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move {
            let rows: Vec<_> = rows.in_order().collect();
            assert!(
                rows.is_sorted_by(|a, b| a.0 < b.0),
                "rows come sorted, each key once"
            );
            self.wait(|faults| faults.ingest_max).await;
            let mut state = self.engine.lock();
            if state.faults.is_full {
                state.count("engine_full");
                return Err(EngineError {
                    reason: "injected: no room".to_owned(),
                    is_damage: false,
                    is_full: true,
                });
            }
            let ppm = state.faults.ingest_error_ppm;
            if state.random.happens(ppm) {
                state.count("ingest_error");
                return Err(EngineError {
                    reason: "injected".to_owned(),
                    is_damage: true,
                    is_full: false,
                });
            }
            for (key, record) in rows.into_iter().cloned() {
                if record.is_empty() {
                    state.rows.remove(&key);
                } else {
                    state.rows.insert(key, record);
                }
            }
            state.checkpoint = Some(checkpoint);
            Ok(())
        })
    }

    fn load(&self, keys: Vec<RecordKey>) -> BoxFuture<'_, Loaded> {
        Box::pin(async move {
            self.wait(|faults| faults.latency_max).await;
            let mut state = self.engine.lock();
            let load = |key: RecordKey| {
                let row = state.load(&key);
                (key, row)
            };
            keys.into_iter().map(load).collect()
        })
    }

    fn scan(
        &self,
        after: Option<RecordKey>,
        limit: usize,
    ) -> BoxFuture<'_, Result<EnginePage, EngineError>> {
        Box::pin(async move {
            self.wait(|faults| faults.latency_max).await;
            let state = self.engine.lock();
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let rows = state.rows.range((from, Bound::Unbounded)).take(limit);
            Ok(rows.map(|(key, row)| (key.clone(), row.clone())).collect())
        })
    }

    fn page(&self, range: PageRange) -> BoxFuture<'_, Result<PagePart, EngineError>> {
        Box::pin(async move {
            self.wait(|faults| faults.latency_max).await;
            let state = self.engine.lock();
            let rows = state.rows.iter().filter(|(key, _)| range.holds(key));
            let rows: BTreeMap<_, _> = rows.map(|row| (row.0.user_key(), row)).collect();
            let rows = rows.into_values();
            PagePart::take(
                &range,
                rows.map(|(key, row)| Ok((key.clone(), row.clone()))),
            )
        })
    }

    fn backlog(&self) -> u64 {
        self.engine.lock().faults.backlog
    }
}
