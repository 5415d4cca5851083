//! The raw probe: what this machine lets a request cost with none of the store's logic.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use quorate_bench::args::Form;
use quorate_bench::clock::Clock;
use quorate_bench::probe::sync::{SyncProbe, rest};
use quorate_bench::probe::{Mode, NodeArgs, ProbeSpec, measure, run_node, sync_json, sync_text};
use quorate_bench::stop::unless_stopped;

// As in the programs that it is compared with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A client, a node and two more over raw QUIC streams, each node with a file that it syncs: the
/// floor of a quorum write, and without syncs that of a quorum read.
#[derive(Debug, Parser)]
#[command(
    name = "probe",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  probe\n  probe --no-sync --in-flight 64 -o json\n  probe --sync-only \
                  --seconds 60 --data-parent /var/lib"
)]
struct Args {
    /// A node of the probe, which it starts itself.
    #[command(subcommand)]
    node: Option<Role>,
    /// Requests of one run.
    #[arg(long, default_value_t = 10_000, value_name = "COUNT",
          value_parser = clap::value_parser!(u64).range(1..))]
    ops: u64,
    /// Requests under way.
    #[arg(long, default_value_t = 1, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    in_flight: u32,
    /// Touch no file: the coordinator answers after one other node's answer.
    #[arg(long)]
    no_sync: bool,
    /// Runs; the report has medians with the least and the greatest.
    #[arg(long, default_value_t = 5, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    runs: u32,
    /// Folder in which the probe makes its own, on the disk that is to be measured
    /// [default: the system's for temporary files].
    #[arg(long, value_name = "DIR")]
    data_parent: Option<PathBuf>,
    /// Only sync a file, on one thread, with no network and no other process.
    #[arg(long, conflicts_with_all = ["ops", "in_flight", "no_sync", "runs"])]
    sync_only: bool,
    /// How long --sync-only goes on.
    #[arg(long, default_value_t = 10, value_name = "COUNT", requires = "sync_only",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Form of the report.
    #[arg(short = 'o', long, value_enum, default_value_t = Form::Text, value_name = "FORM")]
    output: Form,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// A node of the probe.
    #[command(hide = true)]
    Node(NodeArgs),
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What standard error does not take cannot be told in any other way.
            let _told = writeln!(std::io::stderr(), "probe: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    if let Some(Role::Node(node)) = &args.node {
        return run_node(node);
    }
    let text = if args.sync_only {
        sync_only(&args)?
    } else {
        requests(&args)?
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn requests(args: &Args) -> Result<String> {
    let spec = ProbeSpec {
        mode: if args.no_sync {
            Mode::Read
        } else {
            Mode::Write
        },
        operations: args.ops,
        in_flight: args.in_flight,
        runs: args.runs,
        data_parent: data_parent(args),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(unless_stopped(measure(spec, Clock::start())))?;
    Ok(match args.output {
        Form::Text => report.text(),
        Form::Json => format!("{:#}\n", report.json()),
    })
}

fn sync_only(args: &Args) -> Result<String> {
    let folder = tempfile::Builder::new()
        .prefix("quorate-probe-")
        .tempdir_in(data_parent(args))?;
    let stop = Arc::new(AtomicBool::new(false));
    let probe = SyncProbe::start(folder.path(), Clock::start(), stop, Duration::ZERO)?;
    rest(Duration::from_secs(args.seconds));
    let summary = probe.finish()?;
    Ok(match args.output {
        Form::Text => sync_text(&summary),
        Form::Json => format!("{:#}\n", sync_json(&summary)),
    })
}

fn data_parent(args: &Args) -> PathBuf {
    args.data_parent.clone().unwrap_or_else(std::env::temp_dir)
}
