//! The store of a node alone: what a durable write costs, how long it takes, and how long it takes
//! to serve again after a kill.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use quorate_bench::keys::Distribution;
use quorate_bench::store_bench::child::{ChildArgs, MeasureArgs, measure, recover};
use quorate_bench::store_bench::lookups::{LookupArgs, lookups};
use quorate_bench::store_bench::parent::{Plan, RESULTS};
use quorate_bench::store_bench::report::table;
use quorate_node::shell::system::use_small_pages;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures a node's store.
#[derive(Debug, Parser)]
#[command(
    name = "store_bench",
    version,
    after_help = "Example:\n  store_bench run --folder /var/tmp/stores --rounds 5\n\nA run appends to \
                  the results in the folder and prints the table of all of them."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure.
    Run(RunArgs),
    /// What a look-up in the engine costs, of keys that are there and of keys that are not.
    Lookups(LookupArgs),
    /// The measured process; started by `run`.
    #[command(hide = true)]
    Measure(MeasureArgs),
    /// The process that opens a killed store; started by `run`.
    #[command(hide = true)]
    Recover(ChildArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Folder of data and results, on the disk that is to be measured; a later run goes on with it.
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
    /// Rounds.
    #[arg(long, default_value_t = 5, value_name = "COUNT")]
    rounds: u32,
    /// Keys, all loaded first.
    #[arg(long, default_value_t = 1_000_000, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1_024..))]
    keys: u32,
    /// Length of every record as it is stored: a value of 256 bytes with what its history adds.
    #[arg(long, default_value_t = 400, value_name = "COUNT")]
    record_bytes: usize,
    /// Writes of each case at least; it goes on to the next checkpoint.
    #[arg(long, default_value_t = 1_500_000, value_name = "COUNT")]
    writes: u64,
    /// Writes under way, one case each.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 256], value_name = "COUNT")]
    in_flight: Vec<usize>,
    /// How keys are drawn, one case each.
    #[arg(long, value_delimiter = ',', value_enum,
          default_values_t = [Distribution::Zipf, Distribution::Uniform], value_name = "WHICH")]
    distributions: Vec<Distribution>,
    /// Uniform writes after the last checkpoint, before the kill.
    #[arg(long, default_value_t = 600_000, value_name = "COUNT")]
    kill_after: u64,
    /// A setting that differs from a node's, NAME=VALUE; may be given several times.
    #[arg(long = "set", value_name = "SETTING")]
    settings: Vec<String>,
}

fn main() -> ExitCode {
    // As a node does.
    use_small_pages();
    let done = match Cli::parse().command {
        Command::Run(args) => run(args),
        Command::Lookups(args) => lookups(&args, &mut std::io::stdout()),
        Command::Measure(args) => measure(&args),
        Command::Recover(args) => recover(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What standard error does not take cannot be told in any other way.
            let _told = writeln!(std::io::stderr(), "store_bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: RunArgs) -> Result<()> {
    std::fs::create_dir_all(&args.folder).context("cannot make the folder")?;
    let results = args.folder.join(RESULTS);
    let plan = Plan {
        folder: args.folder,
        rounds: args.rounds,
        keys: args.keys,
        record_bytes: args.record_bytes,
        writes: args.writes,
        in_flight: args.in_flight,
        distributions: args.distributions,
        kill_after: args.kill_after,
        settings: args.settings,
    };
    plan.run()?;
    let lines = std::fs::read_to_string(results)?;
    Ok(write!(std::io::stdout(), "{}", table(&lines)?)?)
}
