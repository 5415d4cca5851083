//! Imports the Debian package index into a cluster, kills a node half-way, and reads every record
//! back.

use std::io::Write;

use anyhow::Result;
use quorate_tests::scenario::import::import_that_loses_a_node;
use quorate_tests::scenario::packages::debian_packages;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let records = debian_packages()?;
    let figures = import_that_loses_a_node(&records).await?;
    let count = u32::try_from(figures.records)?;
    let seconds = figures.first.as_secs_f64();
    writeln!(
        std::io::stdout(),
        "{count} records ({} keys) imported in {seconds:.2} s, {:.0} records/s, none failed; one \
         node killed after {}.\nEvery record read back at quorum: with the node down in {:.2} s, \
         after its return in {:.2} s.\nThe second import took {:.2} s and left one value per key.",
        records.last().len(),
        f64::from(count) / seconds,
        figures.killed_at,
        figures.read_while_down.as_secs_f64(),
        figures.read_after_return.as_secs_f64(),
        figures.second.as_secs_f64(),
    )?;
    Ok(())
}
