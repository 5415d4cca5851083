//! What the project's own code costs an operation, without a machine below it.
//!
//! For profilers and for the gate in continuous integration (`gate`): run under a simulated
//! processor it gives the same count of instructions each time.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use quorate_bench::clock::Clock;
use quorate_bench::core_path::{CorePath, FixedWork, Kind};
use quorate_bench::keys::Distribution;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Quorum writes.
    Write,
    /// Quorum reads.
    Read,
    /// Reads at level one.
    ReadOne,
    /// Nothing: what loading the keys alone costs.
    Nothing,
}

/// Runs three nodes' data path in this process.
#[derive(Debug, Parser)]
#[command(
    name = "core_path",
    version,
    after_help = "Example:\n  core_path --what write --ops 1000000"
)]
struct Args {
    /// What is asked.
    #[arg(long, value_enum, default_value_t = What::Write, value_name = "WHICH")]
    what: What,
    /// Operations.
    #[arg(long, default_value_t = 1_000_000, value_name = "COUNT")]
    ops: u64,
    /// Keys, all loaded first.
    #[arg(long, default_value_t = 100_000, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// How keys are drawn.
    #[arg(long, value_enum, default_value_t = Distribution::Zipf, value_name = "WHICH")]
    distribution: Distribution,
    /// Length of values in bytes.
    #[arg(long, default_value_t = 256, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    value_bytes: u32,
    /// Do not time the fixed piece of work: instructions are then those of the path alone.
    #[arg(long)]
    no_calibration: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What standard error does not take cannot be told in any other way.
            let _told = writeln!(std::io::stderr(), "core_path: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and microseconds stay below 2^52"
)]
fn run(args: &Args) -> Result<()> {
    let value_bytes = usize::try_from(args.value_bytes)?;
    let mut path = CorePath::new(args.keys, value_bytes, args.distribution)?;
    let clock = Clock::start();
    let kind = match args.what {
        What::Write => Some(Kind::Write),
        What::Read => Some(Kind::Read),
        What::ReadOne => Some(Kind::ReadOne),
        What::Nothing => None,
    };
    let done = match kind {
        Some(kind) => path.run(kind, args.ops)?,
        None => 0,
    };
    // One thread that never waits: its time is CPU time.
    let took = clock.now();
    let calibration = match kind {
        Some(_) if !args.no_calibration => {
            let mut work = FixedWork::new();
            let from = clock.now();
            work.run();
            (clock.now() - from).as_secs_f64() * 1e6
        }
        _ => 0.0,
    };
    let each = took.as_secs_f64() * 1e6 / done.max(1) as f64;
    let document = json!({
        "schema": "core-path/v1",
        "operations": done,
        "us_each": each,
        "calibration_us": calibration,
    });
    writeln!(std::io::stdout(), "{document}")?;
    Ok(())
}
