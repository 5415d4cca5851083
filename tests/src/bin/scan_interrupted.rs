//! Scans a million records while clients and nodes are killed, and checks that exactly they come.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use clap::Parser;
use quorate_tests::scenario::scan::{ScanPlan, scan_and_print, scan_interrupted};

/// Scans a keyspace while the scanning clients and the nodes are killed in turn, and checks that
/// it yields every record once, in order, and nothing else.
#[derive(Debug, Parser)]
#[command(after_help = "Example:\n  scan_interrupted --records 100000 --interruptions 6")]
struct Args {
    /// Records that the scan must yield; some more are written and deleted.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// How often it is interrupted.
    #[arg(long, default_value_t = 20)]
    interruptions: u64,
    /// Be the scanning client: the client file.
    #[arg(long, hide = true)]
    scanner: Option<PathBuf>,
    /// Where the scanning client goes on.
    #[arg(long, hide = true, requires = "scanner")]
    position: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(file) = &args.scanner {
        return scan_and_print(file, args.position.as_deref()).await;
    }
    let plan = ScanPlan {
        records: args.records,
        interruptions: args.interruptions,
    };
    let figures = scan_interrupted(plan, scanner).await?;
    let rate = |time: std::time::Duration| args.records as f64 / time.as_secs_f64();
    let mib = |bytes: u64| bytes >> 20;
    writeln!(
        std::io::stdout(),
        "{} records: exactly they came, in order, each once.\n\
         undisturbed: {:.1} s, {:.0} records/s\n\
         interrupted by {} killed clients and {} killed nodes: {:.1} s, {:.0} records/s\n\
         peak memory: scanning client {} MiB; nodes {} MiB before the scans, {} MiB after them",
        args.records,
        figures.undisturbed.as_secs_f64(),
        rate(figures.undisturbed),
        figures.clients_killed,
        figures.nodes_killed,
        figures.interrupted.as_secs_f64(),
        rate(figures.interrupted),
        mib(figures.client_peak),
        mib(figures.nodes_before),
        mib(figures.nodes_peak),
    )?;
    Ok(())
}

fn scanner(file: &Path, position: Option<&str>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--scanner").arg(file);
    if let Some(position) = position {
        command.args(["--position", position]);
    }
    Ok(command)
}
