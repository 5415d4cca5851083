//! Settings of the engine, each with its reason; `store_bench` in `bench` tries others.
//!
//! Not here: how often it is fed and with how much (`core::table::TableLimits`).

use std::path::PathBuf;

/// Settings of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Directory of the engine.
    pub path: PathBuf,
    /// Bytes of the block cache. Default 256 MiB; lower values cost cold reads.
    pub cache_bytes: u64,
    /// Threads that compact. Default 1; more take CPU from the foreground.
    pub worker_threads: usize,
    /// Tables of level 0 that are left alone. Default 16, more than fjall's 4. fjall ingests in
    /// tables of 64 MiB, so these are four whole generations, or sixteen of keys that are written
    /// over and over. With keys spread evenly every merge of level 0 rewrites the whole level
    /// below, so that half as many merges cost half as much; a look-up then asks more filters, one
    /// for each generation.
    pub level0_target: u8,
    /// Bytes of a table that a merge writes, at most. Default 128 MiB: with the tables of level 0
    /// it is the size of level 1, 2 GiB.
    pub table_bytes: u64,
    /// Bits per key of the bloom filters. Default 10: about 1 % of look-ups of absent keys read a
    /// block.
    pub bloom_bits: u8,
    /// Bytes of a data block. Default 4 KiB.
    pub block_bytes: u32,
    /// The first level whose blocks are compressed. Default 2: the levels above are written and
    /// read most and hold least.
    pub compressed_from_level: u8,
}

impl EngineConfig {
    /// Default settings for an engine in `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            cache_bytes: 256 << 20,
            worker_threads: 1,
            level0_target: 16,
            table_bytes: 128 << 20,
            bloom_bits: 10,
            block_bytes: 4 << 10,
            compressed_from_level: 2,
        }
    }
}
