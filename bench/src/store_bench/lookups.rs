//! What a look-up in the engine costs: the price of a read or a merge whose record is not in
//! memory.
//!
//! The engine is filled as a node feeds it, one generation after the other, every key once, those
//! of a generation from all over; then keys that are there and keys that are not are looked up in
//! batches, as the loader does. CPU time is that of the whole process, so that the engine must be
//! at rest.
//!
//! Not here: the shard and the queues around it; writes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clap::Args;
use quorate_node::core::generation::GenerationRows;
use quorate_node::core::key::RecordKey;
use quorate_node::shell::seam::{Checkpoint, Engine as _};
use quorate_node::shell::store::engine::FjallEngine;
use quorate_ring::{KeyspaceId, Lsn, VnodeId};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::settings::Settings;
use crate::clock::Clock;
use crate::process_usage::ProcessUsage;
use crate::usage;
use crate::values::Values;

/// Vnodes of a node that the keys are dealt to.
const VNODES: u32 = 256;

/// Keys of a batch of look-ups: what waits at a busy loader.
const BATCH: usize = 64;

/// Backlog at which the fill goes on.
const BACKLOG_MAX: u64 = 4;

/// Between two looks at an engine that compacts.
const POLL: Duration = Duration::from_millis(200);

/// What is looked up where.
#[derive(Debug, Clone, Args)]
pub struct LookupArgs {
    /// Folder that is made for the engine, on the disk that is to be measured, and stays.
    #[arg(long, value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Keys.
    #[arg(long, default_value_t = 5_000_000, value_name = "COUNT")]
    pub keys: u32,
    /// Length of every record.
    #[arg(long, default_value_t = 400, value_name = "COUNT")]
    pub record_bytes: usize,
    /// Look-ups of each case.
    #[arg(long, default_value_t = 500_000, value_name = "COUNT")]
    pub lookups: u32,
    /// Runs of each case.
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    pub runs: u32,
    /// A setting that differs from a node's, NAME=VALUE; may be given several times.
    #[arg(long = "set", value_name = "SETTING")]
    pub settings: Vec<String>,
}

/// Which keys are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Some that are there.
    Present,
    /// Some that are not.
    Absent,
}

/// Fills a new engine and looks up; a JSON document per run.
///
/// # Errors
/// If the folder is there, the engine fails, or it does not find what it holds.
pub fn lookups(args: &LookupArgs, out: &mut impl std::io::Write) -> Result<()> {
    let mut settings = Settings::of(&args.folder);
    for setting in &args.settings {
        settings.set(setting)?;
    }
    // An engine keeps the settings that it was made with.
    std::fs::create_dir(&args.folder)
        .with_context(|| format!("cannot make {}; name a new folder", args.folder.display()))?;
    let engine = FjallEngine::open_giving_way(settings.engine.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    runtime.block_on(fill(&engine, args, settings.table.generation_bytes))?;
    runtime.block_on(catch_up(&engine, 0));
    let mut random = SmallRng::seed_from_u64(1);
    for wanted in [Wanted::Present, Wanted::Absent] {
        for _ in 0..args.runs {
            let measured = runtime.block_on(measure(&engine, args, wanted, &mut random))?;
            writeln!(out, "{measured}")?;
        }
    }
    Ok(())
}

async fn fill(engine: &FjallEngine, args: &LookupArgs, generation_bytes: u64) -> Result<()> {
    let mut random = SmallRng::seed_from_u64(2);
    let values = Values::new(args.record_bytes, &mut random);
    let each = usize::try_from(generation_bytes)? / args.record_bytes.max(1);
    let mut rows: BTreeMap<RecordKey, Bytes> = BTreeMap::new();
    let mut applied = Lsn(0);
    for index in 0..args.keys {
        rows.insert(
            key_of(index, Wanted::Present),
            values.make(index, &mut random),
        );
        if rows.len() < each && index + 1 < args.keys {
            continue;
        }
        applied = applied.next();
        let generation: GenerationRows = std::mem::take(&mut rows).into_iter().collect();
        let checkpoint = Checkpoint {
            applied,
            digest_file: String::new(),
            digest_checksum: 0,
        };
        catch_up(engine, BACKLOG_MAX).await;
        engine.ingest(Arc::new(generation), checkpoint).await?;
    }
    Ok(())
}

/// Waits until the engine has no more than this left to do.
async fn catch_up(engine: &FjallEngine, backlog_max: u64) {
    while engine.backlog() > backlog_max {
        tokio::time::sleep(POLL).await;
    }
}

async fn measure(
    engine: &FjallEngine,
    args: &LookupArgs,
    wanted: Wanted,
    random: &mut SmallRng,
) -> Result<serde_json::Value> {
    let clock = Clock::start();
    let before = ProcessUsage::own("lookups")?;
    let mut found = 0_u32;
    let mut asked = 0_u32;
    while asked < args.lookups {
        let keys: Vec<RecordKey> = (0..BATCH)
            .map(|_| key_of(random.random_range(0..args.keys), wanted))
            .collect();
        asked += u32::try_from(keys.len())?;
        for (_, record) in engine.load(keys).await {
            let record = record.map_err(|damaged| anyhow::anyhow!("{damaged}"));
            found += u32::from(record.context("the engine is damaged")?.is_some());
        }
    }
    let expected = if wanted == Wanted::Present { asked } else { 0 };
    ensure!(
        found == expected,
        "found {found} of {asked} {wanted:?} keys"
    );
    let cpu = ProcessUsage::own("lookups")?.since(&before).cpu;
    Ok(json!({
        "keys": args.keys,
        "wanted": format!("{wanted:?}").to_lowercase(),
        "lookups": asked,
        "cpu_us": cpu.as_secs_f64() * 1e6 / f64::from(asked),
        "elapsed_us": clock.now().as_secs_f64() * 1e6 / f64::from(asked),
        "resident_mib": usage::memory_of(std::process::id())?.resident >> 20,
    }))
}

/// Keys of neighbouring numbers lie far from each other, and one that is not there lies beside one
/// that is.
fn key_of(index: u32, wanted: Wanted) -> RecordKey {
    // An odd factor: a permutation of all numbers.
    let scattered = index.wrapping_mul(2_654_435_761);
    let vnode = VnodeId(u16::try_from(scattered % VNODES).unwrap_or(0));
    let kind = match wanted {
        Wanted::Present => "",
        Wanted::Absent => "-not",
    };
    RecordKey::new(
        KeyspaceId(1),
        vnode,
        format!("key-{scattered:010}{kind}").as_bytes(),
    )
}
