//! The first load tool: loads keys, then measures reads, writes and mixes in a closed loop.

use std::future::poll_fn;
use std::io::Write;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use quorate_bench::args::{FillChoice, Form, LoadArgs};
use quorate_bench::backlog::Nodes;
use quorate_bench::clock::Clock;
use quorate_bench::fill;
use quorate_bench::machine::Machine;
use quorate_bench::measure::{Case, measure};
use quorate_bench::report::{ClusterFacts, Report};
use quorate_bench::spawn::{SpawnedCluster, binary_beside};
use quorate_bench::workload::{Workload, WorkloadSpec};
use quorate_client::Client;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = LoadArgs::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // What standard error does not take cannot be told in any other way.
            let _told = writeln!(std::io::stderr(), "load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every operation was done.
fn run(args: &LoadArgs) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(unless_stopped(load(args)))?;
    let text = match args.output {
        Form::Text => report.text(),
        Form::Json => format!("{:#}\n", report.json()),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    let mut runs = report.cases.iter().flat_map(|(_, runs)| runs);
    Ok(runs.all(|run| run.recorder.failed() == 0))
}

/// What `work` returns, unless a signal asks to stop: then it is dropped, so that a cluster that it
/// started ends with it.
async fn unless_stopped(work: impl Future<Output = Result<Report>>) -> Result<Report> {
    let mut signals = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ]
    .into_iter()
    .map(signal)
    .collect::<std::io::Result<Vec<_>>>()?;
    let mut work = pin!(work);
    poll_fn(|context| {
        if signals
            .iter_mut()
            .any(|signal| signal.poll_recv(context).is_ready())
        {
            return Poll::Ready(Err(anyhow::anyhow!("stopped by a signal")));
        }
        work.as_mut().poll(context)
    })
    .await
}

async fn load(args: &LoadArgs) -> Result<Report> {
    let clock = Clock::start();
    let spawned = match args.spawn {
        Some(nodes) => Some(spawn(args, nodes, clock).await?),
        None => None,
    };
    let file = match &spawned {
        Some(cluster) => cluster.client_file(),
        None => args.client.clone(),
    };
    let client = Client::from_file(&file).await?;
    let report = measure_all(args, &client, clock).await;
    client.close().await;
    report
}

async fn spawn(args: &LoadArgs, nodes: u16, clock: Clock) -> Result<SpawnedCluster> {
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => binary_beside()?,
    };
    let parent = args.data_parent.clone().unwrap_or_else(std::env::temp_dir);
    SpawnedCluster::start(&binary, nodes, &parent, clock).await
}

async fn measure_all(args: &LoadArgs, client: &Client, clock: Clock) -> Result<Report> {
    let spec = WorkloadSpec {
        keys: args.keys,
        value_bytes: usize::try_from(args.value_bytes)?,
        distribution: args.distribution,
        level: args.level,
        deadline: args.deadline(),
        seed: args.seed,
    };
    let keyspace = client.keyspace(&args.keyspace);
    let workload = Arc::new(Mutex::new(Workload::new(spec.clone(), keyspace)));
    let filled = match args.fill {
        FillChoice::Auto => Some(fill::fill(&workload, clock, args.fill_in_flight).await?),
        FillChoice::None => None,
    };
    let nodes = Nodes::of(client, clock);
    let mut cases = Vec::new();
    for reads_percent in &args.reads {
        for in_flight in &args.in_flight {
            let case = Case {
                reads_percent: *reads_percent,
                in_flight: *in_flight,
                warmup: args.warmup(),
                operations: args.ops,
                runs: args.runs,
                run_time_max: Duration::from_secs(args.run_seconds_max),
                rest_time_max: Duration::from_secs(args.rest_seconds_max),
            };
            let runs = measure(&workload, &nodes, clock, &case).await?;
            cases.push((case, runs));
        }
    }
    Ok(Report {
        machine: Machine::look(),
        cluster: ClusterFacts::of(&client.topology(), &args.keyspace),
        spec,
        filled,
        cases,
    })
}
