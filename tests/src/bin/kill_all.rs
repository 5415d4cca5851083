//! Kills all nodes of a cluster at once under load, ten times, and checks every acknowledged write.

use std::io::Write;

use anyhow::Result;
use clap::Parser;
use quorate_tests::scenario::kill_all::{KillAllPlan, kill_all};

/// Kills all nodes of a cluster at once under load, again and again, and checks every
/// acknowledged write.
#[derive(Debug, Parser)]
struct Args {
    /// How often all nodes are killed.
    #[arg(long, default_value_t = 10)]
    rounds: u32,
    /// Acknowledged writes before each kill.
    #[arg(long, default_value_t = 2_000)]
    writes: u64,
    /// What the writers draw follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Args {
        rounds,
        writes,
        seed,
    } = Args::parse();
    let figures = kill_all(KillAllPlan {
        rounds,
        writes,
        seed,
    })
    .await?;
    writeln!(
        std::io::stdout(),
        "{rounds} kills of all nodes: {} writes acknowledged, {} of them overwrites, on {} keys;\n\
         none is lost, no superseded value is back. {} writes of unknown outcome, {} of them not \
         found.\nSlowest start until all count: {:.2} s. All: {:.1} s.",
        figures.acknowledged,
        figures.overwrites,
        figures.keys,
        figures.unknown,
        figures.unseen,
        figures.slowest_start.as_secs_f64(),
        figures.elapsed.as_secs_f64(),
    )?;
    Ok(())
}
