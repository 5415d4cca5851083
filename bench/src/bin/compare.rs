//! Quorate beside etcd and Redis, in one run: the same keys, values and number in flight, and the
//! CPU of all processes.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use quorate_bench::args::Form;
use quorate_bench::backlog::Nodes;
use quorate_bench::clock::Clock;
use quorate_bench::fill;
use quorate_bench::keys::Distribution;
use quorate_bench::measure::{Case, Run, measure};
use quorate_bench::peers::report::{Column, Comparison};
use quorate_bench::peers::{Name, PeerRun, System};
use quorate_bench::spawn::{SpawnedCluster, binary_beside};
use quorate_bench::stop::unless_stopped;
use quorate_bench::workload::{Workload, WorkloadSpec};
use quorate_client::{Client, Level};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Nodes of Quorate, and members of etcd.
const NODES: u16 = 3;

/// Compares what a durable write costs.
#[derive(Debug, Parser)]
#[command(
    name = "compare",
    version,
    after_help = "Example:\n  compare --in-flight 256 --ops 300000\n\nNeeds the packages \
                  etcd-server and redis-server; a system that is not installed is skipped."
)]
struct Args {
    /// Systems beside Quorate.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Name::Redis, Name::Etcd])]
    with: Vec<Name>,
    /// Keys, all loaded first.
    #[arg(long, default_value_t = 100_000, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// Length of values in bytes.
    #[arg(long, default_value_t = 256, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    value_bytes: u32,
    /// How keys are drawn.
    #[arg(long, value_enum, default_value_t = Distribution::Zipf, value_name = "WHICH")]
    distribution: Distribution,
    /// Writes under way.
    #[arg(long, default_value_t = 256, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=8_192))]
    in_flight: u32,
    /// Writes of one round.
    #[arg(long, default_value_t = 300_000, value_name = "COUNT",
          value_parser = clap::value_parser!(u64).range(1..))]
    ops: u64,
    /// Rounds: in each, one system after the other.
    #[arg(long, default_value_t = 3, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// The node's binary [default: the one beside this tool].
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Where the data of this run lie until its end [default: the system's temporary folder].
    #[arg(long, value_name = "FOLDER")]
    data_parent: Option<PathBuf>,
    /// Form of the report.
    #[arg(short = 'o', long, value_enum, default_value_t = Form::Text, value_name = "FORM")]
    output: Form,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What standard error does not take cannot be told in any other way.
            let _told = writeln!(std::io::stderr(), "compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let comparison = runtime.block_on(unless_stopped(compare(args)))?;
    let text = match args.output {
        Form::Text => comparison.text(),
        Form::Json => format!("{:#}\n", comparison.json()),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// Quorate, loaded.
struct Own {
    client: Client,
    nodes: Nodes,
    workload: Arc<Mutex<Workload>>,
    _cluster: SpawnedCluster,
}

async fn compare(args: &Args) -> Result<Comparison> {
    let clock = Clock::start();
    let spec = WorkloadSpec {
        keys: args.keys,
        value_bytes: usize::try_from(args.value_bytes)?,
        distribution: args.distribution,
        level: Level::Quorum,
        deadline: Duration::from_secs(10),
        seed: 1,
    };
    let parent = args.data_parent.clone().unwrap_or_else(std::env::temp_dir);
    let mut systems = Vec::new();
    let mut skipped = Vec::new();
    for name in &args.with {
        match System::start(*name, &parent, clock).await? {
            Some(system) => systems.push((system, Vec::new())),
            None => skipped.push(format!(
                "{} is not installed (Debian: apt-get install {}): skipped",
                name.text(),
                name.package()
            )),
        }
    }
    for (system, _) in &systems {
        system.fill(&spec, clock, args.in_flight).await?;
    }
    let own = start_own(args, &spec, clock).await?;
    let mut own_runs = Vec::new();
    for _ in 0..args.rounds {
        own_runs.push(own_round(args, &own, clock).await?);
        for (system, runs) in &mut systems {
            let run: PeerRun = system.run(&spec, clock, args.in_flight, args.ops).await?;
            runs.push(run);
        }
    }
    own.client.close().await;
    let others = systems
        .iter()
        .map(|(system, runs)| Column::other(system.name.text(), system.promises, runs));
    Ok(Comparison {
        spec,
        in_flight: args.in_flight,
        operations: args.ops,
        own: Column::own(&own_runs),
        others: others.collect(),
        skipped,
    })
}

async fn start_own(args: &Args, spec: &WorkloadSpec, clock: Clock) -> Result<Own> {
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => binary_beside()?,
    };
    let parent = args.data_parent.clone().unwrap_or_else(std::env::temp_dir);
    let cluster = SpawnedCluster::start(&binary, NODES, &parent, clock).await?;
    let client = Client::from_file(cluster.client_file()).await?;
    let keyspace = client.keyspace("default");
    let workload = Arc::new(Mutex::new(Workload::new(spec.clone(), vec![keyspace])));
    fill::fill(&workload, clock, args.in_flight).await?;
    Ok(Own {
        nodes: Nodes::of(&client, clock),
        client,
        workload,
        _cluster: cluster,
    })
}

/// One round of Quorate; one in which a write failed cannot be compared.
async fn own_round(args: &Args, own: &Own, clock: Clock) -> Result<Run> {
    let case = Case {
        reads_percent: 0,
        in_flight: args.in_flight,
        warmup: 0,
        operations: args.ops,
        runs: 1,
        run_time_max: Duration::from_secs(600),
        rest_time_max: Duration::from_secs(60),
    };
    let mut runs = measure(&own.workload, &own.nodes, clock, &case).await?;
    let run = runs.pop();
    let run = run.ok_or_else(|| anyhow::anyhow!("a case of one run has one"))?;
    ensure!(
        run.recorder.failed() == 0,
        "writes of quorate failed: {:?}",
        run.recorder.failures()
    );
    Ok(run)
}
