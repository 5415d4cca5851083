//! The measured process: opens a store, loads it, measures cases, then writes until it is
//! killed; or opens one that was killed and tells how long it took.
//!
//! Each line of its standard output is one JSON document. It counts from the start of `main`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::settings::Settings;
use super::store::open_store;
use super::write_loop::{Keys, WriteLoop, Written};
use crate::clock::Clock;
use crate::keys::{Distribution, KeyDraw};
use crate::process_usage::ProcessUsage;
use crate::recorder::Kind;
use crate::usage;

/// Writes under way while loading.
const LOAD_IN_FLIGHT: usize = 1_024;

/// Writes under way in the loop that is killed, and in the warm-up.
const IN_FLIGHT: usize = 256;

/// What both kinds of child are told.
#[derive(Debug, Clone, Args)]
pub struct ChildArgs {
    /// Folder of the store.
    #[arg(long, value_name = "FOLDER")]
    pub folder: PathBuf,
    /// A setting that differs from a node's, NAME=VALUE.
    #[arg(long = "set", value_name = "SETTING")]
    pub settings: Vec<String>,
    /// Number of keys.
    #[arg(long)]
    pub keys: u32,
    /// Length of every record.
    #[arg(long)]
    pub record_bytes: usize,
    /// What is drawn follows from it.
    #[arg(long)]
    pub seed: u64,
}

/// What the measured child is told besides.
#[derive(Debug, Clone, Args)]
pub struct MeasureArgs {
    /// What every child is told.
    #[command(flatten)]
    pub child: ChildArgs,
    /// Make the store, and load every key.
    #[arg(long)]
    pub fill: bool,
    /// Writes of each case at least.
    #[arg(long)]
    pub writes: u64,
    /// Writes under way, one case each.
    #[arg(long, value_delimiter = ',')]
    pub in_flight: Vec<usize>,
    /// How keys are drawn, one case each.
    #[arg(long, value_delimiter = ',', value_enum)]
    pub distributions: Vec<Distribution>,
    /// Writes after the last rest, before it says that it may be killed.
    #[arg(long)]
    pub kill_after: u64,
}

impl ChildArgs {
    fn open(&self, clock: Clock, is_new: bool) -> Result<WriteLoop> {
        let mut settings = Settings::of(&self.folder);
        for setting in &self.settings {
            settings.set(setting)?;
        }
        let opened = open_store(&self.folder, &settings, is_new)?;
        WriteLoop::new(opened, clock, self.record_bytes, self.seed)
    }

    fn draw(&self, distribution: Distribution) -> KeyDraw {
        KeyDraw::new(distribution, self.keys)
    }
}

/// Measures every case, then writes until it is killed.
///
/// # Errors
/// If the store fails.
pub fn measure(args: &MeasureArgs) -> Result<()> {
    let clock = Clock::start();
    let mut writer = args.child.open(clock, args.fill)?;
    if args.fill {
        writer.run(Keys::Each(0..args.child.keys), u64::MAX, LOAD_IN_FLIGHT)?;
    }
    let uniform = || args.child.draw(Distribution::Uniform);
    // Up to a checkpoint: every case begins and ends behind one.
    writer.run(Keys::Drawn(uniform()), 10_000, IN_FLIGHT)?;
    writer.rest()?;
    for &distribution in &args.distributions {
        for &in_flight in &args.in_flight {
            let keys = Keys::Drawn(args.child.draw(distribution));
            let case = measure_case(&mut writer, keys, args.writes, in_flight)?;
            let mut line = json!({
                "distribution": distribution.name(),
                "in_flight": in_flight,
            });
            extend(&mut line, case);
            say(&line)?;
        }
    }
    let durable = writer.run_exactly(uniform(), args.kill_after, IN_FLIGHT)?;
    say(&json!({"kill": durable.0}))?;
    writer.run_exactly(uniform(), u64::MAX, IN_FLIGHT)?;
    Ok(())
}

/// Opens what was killed, writes one record, and says how long both took; then stops in order.
///
/// # Errors
/// If the store does not open.
pub fn recover(args: &ChildArgs) -> Result<()> {
    let clock = Clock::start();
    let mut writer = args.open(clock, false)?;
    let opened = clock.now();
    let recovered = writer.durable();
    writer.run_exactly(args.draw(Distribution::Uniform), 1, 1)?;
    let serving = clock.now();
    say(&json!({
        "recovered": recovered.0,
        "open_seconds": opened.as_secs_f64(),
        "serving_seconds": serving.as_secs_f64(),
    }))?;
    writer.stop()
}

fn measure_case(
    writer: &mut WriteLoop,
    keys: Keys,
    writes: u64,
    in_flight: usize,
) -> Result<Value> {
    let before = ProcessUsage::own("store")?;
    let disk = usage::disk_written_bytes();
    let written: Written = writer.run(keys, writes, in_flight)?;
    writer.rest()?;
    let ProcessUsage { cpu, threads, .. } = ProcessUsage::own("store")?.since(&before);
    let by_thread = threads.into_iter();
    let by_thread = by_thread.map(|(name, cpu)| (name, json!(cpu.as_secs_f64())));
    let by_thread: serde_json::Map<String, Value> = by_thread.collect();
    let latency = written.recorder.latency(Kind::Write);
    let of = |quantile: fn(&crate::recorder::Latency) -> u64| latency.as_ref().map(quantile);
    Ok(json!({
        "writes": written.recorder.done(),
        "loads": written.loads,
        "seconds": written.elapsed.as_secs_f64(),
        "cpu_seconds": cpu.as_secs_f64(),
        "threads": by_thread,
        "machine_disk_bytes": usage::disk_written_bytes().saturating_sub(disk),
        "p50_us": of(|l| l.p50_us),
        "p99_us": of(|l| l.p99_us),
        "p999_us": of(|l| l.p999_us),
        "max_us": of(|l| l.max_us),
        "peak_bytes": usage::memory_of(std::process::id())?.peak,
    }))
}

fn extend(line: &mut Value, more: Value) {
    if let (Value::Object(line), Value::Object(more)) = (line, more) {
        line.extend(more);
    }
}

fn say(line: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
