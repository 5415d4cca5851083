//! A hostile client beside honest load, and what the nodes do about it.

use std::io::Write;

use anyhow::Result;
use clap::Parser;
use quorate_tests::scenario::hostile::{HostilePlan, hostile};

/// Attacks a cluster of three nodes in ten ways with a valid client certificate and without, beside
/// honest load: honest throughput stays above 80 %, memory is bounded, no node panics, each refusal
/// is counted.
#[derive(Debug, Parser)]
#[command(after_help = "Example:\n  hostile --seconds 30")]
struct Args {
    /// Seconds of honest load alone, and again under attack.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Args { seconds } = Args::parse();
    let figures = hostile(HostilePlan {
        seconds,
        judge_throughput: true,
    })
    .await?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "honest: {:.0} operations/s alone, {:.0} under attack ({:.0} %), {} failed\n\
         memory of the largest node: {} MiB before, {} MiB after",
        figures.honest_before,
        figures.honest_under_attack,
        100.0 * figures.honest_under_attack / figures.honest_before,
        figures.honest_failed,
        figures.memory.0 >> 20,
        figures.memory.1 >> 20,
    )?;
    for (kind, count) in &figures.actions {
        writeln!(out, "  {count:>8} x {kind}")?;
    }
    for (name, count) in &figures.refusals {
        writeln!(out, "  {count:>8} counted by {name}")?;
    }
    Ok(())
}
