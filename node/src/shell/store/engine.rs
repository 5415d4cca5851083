//! The real [`Engine`]: fjall, fed by sorted ingestions only.
//!
//! fjall's thread that compacts ends with the first error that it meets, and an ingestion that
//! failed leaves a part of a table; both last until the database is opened again. So after either
//! it is, before the next ingestion: what a full disk or a passing error of the disk did is over
//! when there is room again.
//!
//! Calls block: they are made on the store's own threads.
//!
//! Not here: what is asked of fjall (`engine_open`), how often it is fed and what is tried again
//! (`feeder`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

pub use super::engine_config::EngineConfig;
use super::engine_open::OpenEngine;
use super::merge_pace::MergePace;
use super::priority::give_way;
use super::writeback::Writeback;
use crate::core::generation::GenerationRows;
use crate::core::input::Damaged;
use crate::core::key::RecordKey;
use crate::core::scan_page::{PagePart, PageRange};
use crate::shell::seam::{BoxFuture, Checkpoint, Engine, EngineError, EnginePage, Loaded};

/// A fjall database with one keyspace, which is opened anew when it must be.
pub struct FjallEngine {
    config: EngineConfig,
    /// What is written goes to the disk little by little; only in an engine that gives way. Ends
    /// first, so that fjall is closed by whoever lets the engine go, and no merge rests then.
    writeback: Option<Writeback>,
    /// How its merges rest; only in an engine that gives way.
    pace: Option<MergePace>,
    /// `None` only while it is opened anew, and if that failed.
    open: Arc<RwLock<Option<OpenEngine>>>,
    /// An ingestion failed since it was opened.
    is_worn: AtomicBool,
}

impl FjallEngine {
    /// Opens the engine as [`FjallEngine::open`] does, for a node: on a thread of its own whose low
    /// priority those that compact inherit, and with a thread that brings to the disk what they
    /// write while they write it.
    ///
    /// # Errors
    /// As [`FjallEngine::open`]; or if there is no thread.
    ///
    /// # Panics
    /// If fjall does.
    pub fn open_giving_way(config: EngineConfig) -> Result<Self, EngineError> {
        let open = move || {
            give_way();
            let pace = Some(MergePace::default());
            Self::open_paced(&config, pace)?.with_writeback()
        };
        let named = std::thread::Builder::new().name("engine-open".to_owned());
        let thread = named.spawn(open).map_err(|error| EngineError {
            reason: error.to_string(),
            is_damage: false,
            is_full: false,
        })?;
        match thread.join() {
            Ok(opened) => opened,
            Err(panicked) => std::panic::resume_unwind(panicked),
        }
    }

    /// Opens the engine, makes it if it is missing. Blocks for up to a second on large ones.
    ///
    /// # Errors
    /// [`EngineError`] if it does not open; what was in it was not changed then.
    pub fn open(config: &EngineConfig) -> Result<Self, EngineError> {
        Self::open_paced(config, None)
    }

    fn open_paced(config: &EngineConfig, pace: Option<MergePace>) -> Result<Self, EngineError> {
        let open = OpenEngine::open(config, pace.as_ref())?;
        Ok(Self {
            config: config.clone(),
            open: Arc::new(RwLock::new(Some(open))),
            writeback: None,
            pace,
            is_worn: AtomicBool::new(false),
        })
    }

    fn with_writeback(mut self) -> Result<Self, EngineError> {
        let tables = self.with(|open| Ok(open.tables()))?;
        let open = Arc::clone(&self.open);
        let pace = self.pace.clone().unwrap_or_default();
        let compacts = move || {
            let open = open.read().unwrap_or_else(PoisonError::into_inner);
            open.as_ref().is_some_and(|open| {
                pace.set_behind(open.merges_are_behind());
                open.backlog() > 0
            })
        };
        let writeback = Writeback::start(tables, compacts).map_err(|error| EngineError {
            reason: error.to_string(),
            is_damage: false,
            is_full: false,
        })?;
        self.writeback = Some(writeback);
        Ok(self)
    }

    fn with<T>(
        &self,
        ask: impl FnOnce(&OpenEngine) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let open = open.as_ref().ok_or_else(|| EngineError {
            reason: "it could not be opened again".to_owned(),
            is_damage: false,
            is_full: false,
        })?;
        ask(open)
    }

    /// Waits until nobody asks it anything. After an error it is to be tried again.
    fn open_anew(&self) -> Result<(), EngineError> {
        self.is_worn.store(true, Ordering::Relaxed);
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        self.hurry();
        // Its lock on its directory goes with it.
        *open = None;
        *open = Some(OpenEngine::open(&self.config, self.pace.as_ref())?);
        self.is_worn.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn ingest_rows(
        &self,
        rows: &GenerationRows,
        checkpoint: &Checkpoint,
    ) -> Result<(), EngineError> {
        if self.is_worn.load(Ordering::Relaxed) || self.with(|open| Ok(open.is_poisoned()))? {
            self.open_anew()?;
        }
        self.writeback.as_ref().inspect(|it| it.feed_begins());
        let ingested = self.with(|open| open.ingest_rows(rows, checkpoint));
        self.writeback.as_ref().inspect(|it| it.feed_ends());
        if ingested.is_err() {
            self.is_worn.store(true, Ordering::Relaxed);
        }
        ingested
    }

    fn load_all(&self, keys: Vec<RecordKey>) -> Loaded {
        let load = |key: RecordKey| {
            let record = self.with(|open| open.load_one(&key));
            let record = record.map_err(|error| Damaged {
                reason: error.reason,
                is_proven: error.is_damage,
            });
            (key, record)
        };
        keys.into_iter().map(load).collect()
    }
}

impl FjallEngine {
    /// Who closes fjall waits for up to a million rows of a merge: they are not to rest.
    fn hurry(&self) {
        self.pace.as_ref().inspect(|pace| pace.set_behind(true));
    }
}

impl Drop for FjallEngine {
    fn drop(&mut self) {
        // Its thread says how merges go on.
        self.writeback = None;
        self.hurry();
    }
}

impl Engine for FjallEngine {
    fn checkpoint(&self) -> BoxFuture<'_, Result<Option<Checkpoint>, EngineError>> {
        Box::pin(std::future::ready(self.with(OpenEngine::read_checkpoint)))
    }

    fn ingest(
        &self,
        rows: Arc<GenerationRows>,
        checkpoint: Checkpoint,
    ) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(std::future::ready(self.ingest_rows(&rows, &checkpoint)))
    }

    fn load(&self, keys: Vec<RecordKey>) -> BoxFuture<'_, Loaded> {
        Box::pin(std::future::ready(self.load_all(keys)))
    }

    fn scan(
        &self,
        after: Option<RecordKey>,
        limit: usize,
    ) -> BoxFuture<'_, Result<EnginePage, EngineError>> {
        let page = self.with(|open| open.page(after.as_ref(), limit));
        Box::pin(std::future::ready(page))
    }

    fn page(&self, range: PageRange) -> BoxFuture<'_, Result<PagePart, EngineError>> {
        Box::pin(std::future::ready(self.with(|open| open.merged(&range))))
    }

    fn backlog(&self) -> u64 {
        self.with(|open| Ok(open.backlog())).unwrap_or(0)
    }
}

impl std::fmt::Debug for FjallEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallEngine").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use quorate_ring::{KeyspaceId, Lsn, VnodeId};

    use super::*;

    fn key(name: &str) -> RecordKey {
        RecordKey::new(KeyspaceId(1), VnodeId(0), name.as_bytes())
    }

    fn ingest(engine: &FjallEngine, name: &str, applied: u64) -> Result<(), EngineError> {
        let rows = [(key(name), bytes::Bytes::from_static(b"a record"))];
        let checkpoint = Checkpoint {
            applied: Lsn(applied),
            digest_file: String::new(),
            digest_checksum: 0,
        };
        engine.ingest_rows(&rows.into_iter().collect(), &checkpoint)
    }

    /// What fjall leaves of an ingestion that failed is there until it is opened again.
    #[test]
    fn after_an_ingestion_that_failed_the_engine_is_opened_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = FjallEngine::open(&EngineConfig::new(folder.path())).expect("it opens");
        ingest(&engine, "one", 1).expect("there is room");
        let tables = folder.path().join("keyspaces/1/tables");
        let away = folder.path().join("away");
        std::fs::rename(&tables, &away).expect("they can be moved");
        ingest(&engine, "two", 2).expect_err("there is no place for a table");
        assert!(engine.is_worn.load(Ordering::Relaxed));
        std::fs::rename(&away, &tables).expect("and back");
        // As an ingestion leaves it that found no room.
        std::fs::write(tables.join("77"), b"a part").expect("written");
        ingest(&engine, "two", 2).expect("there is a place again");
        assert!(!tables.join("77").exists(), "what failed takes no room");
        assert!(!engine.is_worn.load(Ordering::Relaxed));
        let loaded = engine.load_all(vec![key("one"), key("two"), key("three")]);
        let found: Vec<_> = loaded
            .iter()
            .map(|(_, row)| matches!(row, Ok(Some(_))))
            .collect();
        assert_eq!(found, [true, true, false]);
    }
}
