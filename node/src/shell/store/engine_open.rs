//! An open fjall database: what is asked of it, and what its errors mean.
//!
//! Rows and the checkpoint are one ingestion, atomic and synced when it returns. fjall's journal is
//! never relied on: nothing is ever written through it but fjall's own notes about its keyspaces.
//! The checkpoint's key is one zero byte: shorter than any record's key and in front of them all.
//!
//! Not here: when it is opened anew (`engine`).

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io::ErrorKind;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use fjall::compaction::filter::Factory;
use fjall::config::{
    BlockSizePolicy, BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry,
};
use fjall::{
    AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, LsmError, Readable,
    Slice,
};
use quorate_ring::{Lsn, VnodeId};

use super::bytes::{Fields, SEAL_BYTES, seal, unseal};
use super::engine_begun::{marker_is_damaged, remove_unfinished, sync_names};
use super::engine_config::EngineConfig;
use super::merge_pace::MergePace;
use super::priority::Pace;
use crate::core::generation::GenerationRows;
use crate::core::generation::Row;
use crate::core::key::RecordKey;
use crate::core::packed::packed;
use crate::core::scan_page::{PagePart, PageRange};
use crate::shell::seam::{Checkpoint, EngineError, EnginePage};

const KEYSPACE: &str = "records";
const CHECKPOINT_KEY: &[u8] = &[0];
const CHECKPOINT_FORMAT: u32 = 1;
const CHECKPOINT_SEED: u64 = u64::from_le_bytes(*b"QRTCHKPT");

/// Levels of a fjall tree.
const LEVELS: u8 = 7;

/// Where fjall keeps the tables of a keyspace.
const TABLES_FOLDER: &str = "tables";

/// fjall's smallest bound for its journals; ours stay empty.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

/// A rest of the feed is so many times as long as the turn before it. A generation is then fed
/// within some five seconds, and the next one takes longer to fill.
const FEED_REST: u32 = 5;

/// A fjall database with one keyspace.
pub(super) struct OpenEngine {
    database: Database,
    rows: Keyspace,
    level0_target: u8,
}

impl OpenEngine {
    /// Opens it, makes it if it is missing. Blocks for up to a second on large ones.
    ///
    /// # Errors
    /// [`EngineError`] if it does not open; what was in it was not changed then.
    pub(super) fn open(
        config: &EngineConfig,
        pace: Option<&MergePace>,
    ) -> Result<Self, EngineError> {
        remove_unfinished(&config.path).map_err(|error| failed(error.into()))?;
        let opened = Self::open_made(config, pace).map_err(|error| {
            // What a file names must be there: fjall renames into place, and removes what nothing
            // names.
            let is_missing = io_kind(&error) == Some(ErrorKind::NotFound);
            let error = failed(error);
            EngineError {
                is_damage: error.is_damage || is_missing,
                ..error
            }
        });
        let opened = opened.map_err(|error| EngineError {
            is_damage: error.is_damage || marker_is_damaged(&config.path),
            ..error
        })?;
        sync_names(&config.path).map_err(|error| failed(error.into()))?;
        Ok(opened)
    }

    fn open_made(config: &EngineConfig, pace: Option<&MergePace>) -> Result<Self, fjall::Error> {
        let builder = Database::builder(&config.path)
            .cache_size(config.cache_bytes)
            .worker_threads(config.worker_threads.max(1))
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .manual_journal_persist(true);
        let builder = match pace.cloned() {
            Some(pace) => builder.with_compaction_filter_factories(Arc::new(move |_| {
                let pace: Arc<dyn Factory> = Arc::new(pace.clone());
                Some(pace)
            })),
            None => builder,
        };
        let database = builder.open()?;
        let options = || keyspace_options(config);
        let rows = database.keyspace(KEYSPACE, options)?;
        // The keyspace's name is a row of fjall's own, in its journal.
        database.persist(fjall::PersistMode::SyncAll)?;
        Ok(Self {
            database,
            rows,
            level0_target: config.level0_target,
        })
    }

    pub(super) fn read_checkpoint(&self) -> Result<Option<Checkpoint>, EngineError> {
        let Some(row) = self.rows.get(CHECKPOINT_KEY).map_err(failed)? else {
            return Ok(None);
        };
        let checkpoint = decode_checkpoint(&row).ok_or_else(|| EngineError {
            reason: "the checkpoint row is unreadable".to_owned(),
            is_damage: true,
            is_full: false,
        })?;
        Ok(Some(checkpoint))
    }

    pub(super) fn ingest_rows(
        &self,
        rows: &GenerationRows,
        checkpoint: &Checkpoint,
    ) -> Result<(), EngineError> {
        let mut ingestion = self.rows.start_ingestion().map_err(failed)?;
        let row = encode_checkpoint(checkpoint);
        ingestion.write(CHECKPOINT_KEY, row).map_err(failed)?;
        let mut pace = Pace::start(FEED_REST);
        for (key, record) in rows.in_order() {
            pace.row();
            let key = Slice::from(key.as_bytes());
            let written = if record.is_empty() {
                ingestion.write_tombstone(key)
            } else {
                ingestion.write(key, Slice::from(record.clone()))
            };
            written.map_err(failed)?;
        }
        ingestion.finish().map_err(failed)
    }

    pub(super) fn load_one(&self, key: &RecordKey) -> Result<Option<Bytes>, EngineError> {
        let row = self.rows.get(key.as_bytes()).map_err(failed)?;
        // A row is a slice of its block: copied out, it does not keep the block alive.
        Ok(row.map(|row| packed(&row)))
    }

    pub(super) fn page(
        &self,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Result<EnginePage, EngineError> {
        let after = after.map_or(CHECKPOINT_KEY, |key| key.as_bytes());
        let range = (Bound::Excluded(after), Bound::Unbounded::<&[u8]>);
        let rows = self.rows.range::<&[u8], _>(range).take(limit);
        rows.map(read_row).collect()
    }

    /// Where its tables are.
    pub(super) fn tables(&self) -> PathBuf {
        self.rows.path().join(TABLES_FOLDER)
    }

    /// Runs of level 0 above the target, and compactions under way. A run has a table at least, so
    /// that what is above the target is due to be merged.
    pub(super) fn backlog(&self) -> u64 {
        let runs = self.rows.tree.l0_run_count() as u64;
        runs.saturating_sub(u64::from(self.level0_target))
            + self.database.active_compactions() as u64
    }

    /// Whether as many tables of level 0 as set a merge off have come while it was under way.
    pub(super) fn merges_are_behind(&self) -> bool {
        let tables = self.rows.tree.level_table_count(0).unwrap_or(0);
        tables > 2 * usize::from(self.level0_target)
    }

    /// Whether a thread of its own has given up: it says so to who writes through its journal.
    pub(super) fn is_poisoned(&self) -> bool {
        let asked = self.database.persist(fjall::PersistMode::Buffer);
        asked.is_err()
    }

    /// A merge over one open range per vnode, read row by row: no more than is returned, and one
    /// row of each vnode.
    pub(super) fn merged(&self, range: &PageRange) -> Result<PagePart, EngineError> {
        let snapshot = self.database.snapshot();
        let mut vnodes = Vec::new();
        let mut heads: BinaryHeap<Head> = BinaryHeap::new();
        for vnode in range.vnodes.iter() {
            let from = RecordKey::new(range.keyspace, vnode, &range.from);
            let to = match &range.end {
                Some(end) => RecordKey::new(range.keyspace, vnode, end),
                None => RecordKey::before(range.keyspace, VnodeId(vnode.0.saturating_add(1))),
            };
            let rows = (
                Bound::Included(from.as_bytes()),
                Bound::Excluded(to.as_bytes()),
            );
            let mut rows = snapshot.range::<&[u8], _>(&self.rows, rows);
            if let Some(row) = rows.next().map(read_row).transpose()? {
                let vnode = vnodes.len();
                heads.push(Head { row, vnode });
                vnodes.push(rows);
            }
        }
        let rows = std::iter::from_fn(|| {
            let Head { row, vnode } = heads.pop()?;
            let next = vnodes.get_mut(vnode).and_then(Iterator::next);
            match next.map(read_row).transpose() {
                Ok(Some(row)) => heads.push(Head { row, vnode }),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
            Some(Ok(row))
        });
        PagePart::take(range, rows)
    }
}

fn keyspace_options(config: &EngineConfig) -> KeyspaceCreateOptions {
    let bloom = BloomConstructionPolicy::BitsPerKey(f32::from(config.bloom_bits));
    let level = |level| {
        if level < config.compressed_from_level {
            CompressionType::None
        } else {
            CompressionType::Lz4
        }
    };
    // The last entry holds for all levels below it.
    let compression: Vec<CompressionType> = (0..LEVELS).map(level).collect();
    KeyspaceCreateOptions::default()
        .manual_journal_persist(true)
        .compaction_strategy(Arc::new(
            fjall::compaction::Leveled::default()
                .with_l0_threshold(config.level0_target)
                .with_table_target_size(config.table_bytes),
        ))
        .data_block_compression_policy(CompressionPolicy::new(compression))
        .data_block_size_policy(BlockSizePolicy::all(config.block_bytes))
        .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(bloom)))
}

/// The next row of one of the vnodes that a page is merged from; that of the smallest key is the
/// greatest head.
struct Head {
    row: Row,
    vnode: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let (own, others) = (self.row.0.user_key(), other.row.0.user_key());
        others.cmp(own).then(other.vnode.cmp(&self.vnode))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

fn read_row(guard: fjall::Guard) -> Result<(RecordKey, Bytes), EngineError> {
    let (key, record) = guard.into_inner().map_err(failed)?;
    let key = RecordKey::from_bytes(&key).ok_or_else(|| EngineError {
        reason: "a row has a key that is too short".to_owned(),
        is_damage: true,
        is_full: false,
    })?;
    Ok((key, Bytes::from(record)))
}

fn failed(error: fjall::Error) -> EngineError {
    // Only what the bytes themselves show is damage: a disk or a limit that fails may recover.
    let is_damage = matches!(
        &error,
        fjall::Error::Storage(
            LsmError::ChecksumMismatch { .. }
                | LsmError::InvalidHeader(_)
                | LsmError::InvalidTag(_)
                | LsmError::InvalidTrailer
                | LsmError::Decompress(_)
                | LsmError::Unrecoverable,
        ) | fjall::Error::JournalRecovery(_)
            | fjall::Error::InvalidTrailer
            | fjall::Error::InvalidTag(_)
            | fjall::Error::Decompress(_)
            | fjall::Error::Unrecoverable
    );
    let kind = io_kind(&error);
    let is_full = matches!(
        kind,
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
    );
    EngineError {
        reason: error.to_string(),
        // A file that ends before what it says that it has.
        is_damage: is_damage || kind == Some(ErrorKind::UnexpectedEof),
        is_full,
    }
}

/// What the system said, if it was the system that failed.
fn io_kind(error: &fjall::Error) -> Option<ErrorKind> {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) => Some(error.kind()),
        _ => None,
    }
}

fn encode_checkpoint(checkpoint: &Checkpoint) -> Vec<u8> {
    let Checkpoint {
        applied,
        digest_file,
        digest_checksum,
    } = checkpoint;
    let mut bytes = vec![0; SEAL_BYTES];
    bytes.extend_from_slice(&CHECKPOINT_FORMAT.to_le_bytes());
    bytes.extend_from_slice(&applied.0.to_le_bytes());
    bytes.extend_from_slice(&digest_checksum.to_le_bytes());
    bytes.extend_from_slice(digest_file.as_bytes());
    seal(&mut bytes, CHECKPOINT_SEED);
    bytes
}

fn decode_checkpoint(bytes: &[u8]) -> Option<Checkpoint> {
    let mut fields: Fields<'_> = unseal(bytes, CHECKPOINT_SEED)?;
    if fields.u32()? != CHECKPOINT_FORMAT {
        return None;
    }
    let applied = Lsn(fields.u64()?);
    let digest_checksum = fields.u128()?;
    let digest_file = String::from_utf8(fields.0.to_vec()).ok()?;
    Some(Checkpoint {
        applied,
        digest_file,
        digest_checksum,
    })
}
