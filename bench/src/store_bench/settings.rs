//! What can be set of a store, each by name, so that one can be tried alone.
//!
//! Defaults are those of a node.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use quorate_node::core::table::TableLimits;
use quorate_node::shell::store::StoreConfig;
use quorate_node::shell::store::engine::EngineConfig;

/// Size of a log segment of a node by default.
const SEGMENT_BYTES: u64 = 32 << 20;

/// Settings of a store.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Of the table.
    pub table: TableLimits,
    /// Of the store.
    pub store: StoreConfig,
    /// Of the engine.
    pub engine: EngineConfig,
}

impl Settings {
    /// Those of a node whose data lie in `folder`.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        let generation_bytes = 256 << 20;
        let log_bytes_max: u64 = 2 << 30;
        Self {
            table: TableLimits {
                generation_bytes,
                generation_log_bytes: (2 * generation_bytes).min(log_bytes_max / 5),
                cache_bytes: 640 << 20,
                // Every miss is to be a load.
                digest_cache_bytes: 0,
            },
            store: StoreConfig {
                segment_bytes: SEGMENT_BYTES,
                segments_max: 64,
                queue_bytes_max: 512 << 20,
                ..StoreConfig::default()
            },
            engine: EngineConfig::new(folder.join("engine")),
        }
    }

    /// Sets one from `name=value`; sizes are in MiB where the name says so.
    ///
    /// # Errors
    /// If there is no such setting, or the value is not one.
    pub fn set(&mut self, setting: &str) -> Result<()> {
        let (name, value) = setting.split_once('=').context("a setting is NAME=VALUE")?;
        let value: u64 = value.parse().context("a value is a whole number")?;
        let mib = value << 20;
        match name {
            "generation_mib" => self.table.generation_bytes = mib,
            "generation_log_mib" => self.table.generation_log_bytes = mib,
            "cache_mib" => self.table.cache_bytes = mib,
            "segments_max" => self.store.segments_max = usize::try_from(value)?,
            "backlog_max" => self.store.backlog_max = value,
            "load_batch_max" => self.store.load_batch_max = usize::try_from(value)?,
            "block_cache_mib" => self.engine.cache_bytes = mib,
            "workers" => self.engine.worker_threads = usize::try_from(value)?,
            "level0_target" => self.engine.level0_target = u8::try_from(value)?,
            "table_mib" => self.engine.table_bytes = mib,
            "bloom_bits" => self.engine.bloom_bits = u8::try_from(value)?,
            "block_bytes" => self.engine.block_bytes = u32::try_from(value)?,
            "compressed_from_level" => {
                self.engine.compressed_from_level = u8::try_from(value)?;
            }
            _ => bail!("there is no setting {name}"),
        }
        Ok(())
    }
}
