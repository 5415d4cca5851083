//! Loads a cluster of its own for minutes at a part of its peak, and checks that nothing fails,
//! nothing stalls longer than the disk does, and memory stays flat.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use quorate_bench::args::Form;
use quorate_bench::clock::Clock;
use quorate_bench::nodes::NodeProcess;
use quorate_bench::open::{End, OpenLoop};
use quorate_bench::probe::sync::SyncProbe;
use quorate_bench::scenario::verified;
use quorate_bench::soak::{MemoryWatch, SoakReport};
use quorate_bench::spawn::{SpawnedCluster, binary_beside};
use quorate_bench::stop::unless_stopped;
use quorate_client::Client;
use quorate_node::shell::system::use_small_pages;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Operations under way in the closed loop, and while keys are loaded.
const IN_FLIGHT: usize = 256;

/// Operations under way in the open loop at most: several seconds of work, so that a stall is
/// measured and not hidden.
const IN_FLIGHT_MAX: usize = 65_536;

/// Between two syncs of the probe: it sees every stall and hardly loads the disk itself.
const SYNC_PAUSE: Duration = Duration::from_millis(5);

/// Runs three nodes for minutes under half quorum reads, half durable quorum writes, in an open
/// loop at 70 % of the peak that a short closed loop found. Every answer is judged.
#[derive(Debug, Parser)]
#[command(
    after_help = "Holds if every operation is done, no answer is false, the memory of no node is \
                  larger in the last third than in the middle one, and the longest time without a \
                  completion is at most 100 ms, or twice the longest sync of a probe on the same \
                  disk, whichever is more.\nExit codes: 0 everything holds, 1 not, 2 usage.\n\n\
                  Example:\n  soak --seconds 600 -o json"
)]
struct Args {
    /// Length of the run in seconds.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(3..=86_400))]
    seconds: u64,
    /// Operations per second [default: a share of the peak].
    #[arg(long)]
    rate: Option<f64>,
    /// Share of the peak.
    #[arg(long, default_value_t = 0.7, conflicts_with = "rate")]
    share: f64,
    /// Seconds of the closed loop that finds the peak.
    #[arg(long, default_value_t = 20, conflicts_with = "rate")]
    peak_seconds: u64,
    /// Number of keys; all are loaded first.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// The program of the nodes [default: quorate beside this program].
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Folder for the nodes' data and the probe's file, on the disk that is to be measured
    /// [default: the system's for temporary files].
    #[arg(long, value_name = "DIR")]
    data_parent: Option<PathBuf>,
    /// Form of the report.
    #[arg(short = 'o', long, value_enum, default_value_t = Form::Text)]
    output: Form,
}

fn main() -> ExitCode {
    use_small_pages();
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What standard error does not take cannot be told in any other way.
            let _told = writeln!(std::io::stderr(), "soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(unless_stopped(soak(args)))?;
    let text = match args.output {
        Form::Text => report.text(),
        Form::Json => format!("{:#}\n", report.json()),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    report.bounds().all_hold()
}

async fn soak(args: &Args) -> Result<SoakReport> {
    let clock = Clock::start();
    let binary = args.binary.clone().map_or_else(binary_beside, Ok)?;
    let parent = args.data_parent.clone().unwrap_or_else(std::env::temp_dir);
    let cluster = SpawnedCluster::start(&binary, 3, &parent, clock).await?;
    let client = Client::from_file(cluster.client_file()).await?;
    let nodes = NodeProcess::of(&client).await?;
    let mut load = verified(
        std::slice::from_ref(&client),
        args.keys,
        IN_FLIGHT_MAX,
        clock,
    )?;
    let filled = load.fill(IN_FLIGHT).await?;
    let failed = filled.count(|end| !end.is_done());
    ensure!(failed == 0, "{failed} keys could not be loaded");
    let peak = match args.rate {
        Some(_) => None,
        None => Some(peak(&mut load, Duration::from_secs(args.peak_seconds)).await?),
    };
    let rate = args.rate.or(peak.map(|peak| peak * args.share));
    let rate = rate.context("a rate was given or found")?;
    ensure!(rate.is_finite() && rate > 0.0, "a rate is above 0");
    let length = Duration::from_secs(args.seconds);
    let folder = tempfile::Builder::new()
        .prefix("quorate-soak-")
        .tempdir_in(&parent)?;
    let probe = SyncProbe::start(folder.path(), clock, Arc::default(), SYNC_PAUSE)?;
    let watch = MemoryWatch::start(nodes);
    let record = load.run("soak", rate, length).await?;
    let memory = watch.finish()?;
    let syncs = probe.finish()?;
    let verdict = load.verdict().await?;
    client.close().await;
    Ok(SoakReport {
        peak,
        rate,
        keys: args.keys,
        length,
        record,
        memory,
        syncs,
        verdict,
    })
}

/// Operations per second with [`IN_FLIGHT`] under way.
async fn peak(load: &mut OpenLoop, length: Duration) -> Result<f64> {
    load.closed(IN_FLIGHT, length / 4).await?;
    let record = load.closed(IN_FLIGHT, length).await?;
    Ok(record.count(End::is_done) as f64 / length.as_secs_f64())
}
