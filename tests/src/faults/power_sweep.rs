//! The script of a store, and the power lost at every moment of it in turn.
//!
//! Each moment is tried twice: nothing survives that was not synced, and some of it does.

use anyhow::{Context as _, Result};
use quorate_node::shell::store::FIRST_START;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::life::{End, Ids, Program};
use super::power::{Survives, Volatile};
use super::sweep::{Extent, GROUPS, SweepFigures, holds, script};
use super::trace::{Done, TRACED, read_trace};

/// Longer than any write of the script.
const TEXT_MAX: &str = "4000000";

/// Carries the sweep out.
///
/// # Errors
/// If it cannot be carried out; what is found is in the figures.
///
/// # Cancel safety
/// Its processes are killed.
pub async fn power_sweep(program: &Program, extent: Extent) -> Result<SweepFigures> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join(FIRST_START), b"")?;
    let run = script(dir.path(), 1, GROUPS);
    let (_, trace) = program.trace(run, TRACED, TEXT_MAX).await?;
    let all = read_trace(&trace, &dir.path().display().to_string())?;
    let mut disk = Volatile::with_empty_file(FIRST_START);
    let (mut acked, mut figures, mut running) =
        (Ids::new(), SweepFigures::default(), JoinSet::new());
    for (moment, done) in (0u32..).zip(&all) {
        if moment.is_multiple_of(extent.one_in) {
            for survives in [Survives::Nothing, Survives::Some(u64::from(moment))] {
                let left = tempfile::tempdir()?;
                disk.lose_power(survives, left.path())?;
                let point = format!("power lost at moment {moment}, before {done}, {survives:?}");
                let (program, acked) = (program.clone(), acked.clone());
                running.spawn(async move { (point, check(&program, &left, &acked).await) });
                if running.len() >= extent.jobs
                    && let Some(ended) = running.join_next().await
                {
                    let (point, ended) = ended?;
                    figures.add(point, ended);
                }
            }
        }
        disk.take(done).with_context(|| done.to_string())?;
        if let Done::Said(line) = done {
            note(line, &mut acked)?;
        }
    }
    while let Some(ended) = running.join_next().await {
        let (point, ended) = ended?;
        figures.add(point, ended);
    }
    Ok(figures)
}

/// The store opens on what is left, holds what was acknowledged, can be written to and opened
/// again.
async fn check(program: &Program, left: &TempDir, acked: &Ids) -> Result<Option<End>> {
    let mut acked = acked.clone();
    let more = holds(program.run(script(left.path(), 3, 7)).await?, &acked)?;
    acked.extend(more);
    holds(program.run(script(left.path(), 4, 0)).await?, &acked)?;
    Ok(Some(End::Killed))
}

fn note(line: &str, acked: &mut Ids) -> Result<()> {
    let mut words = line.split_whitespace();
    if words.next() == Some("ack") {
        while let (Some(key), Some(id)) = (words.next(), words.next()) {
            acked.insert(key.to_owned(), id.parse()?);
        }
    }
    Ok(())
}
