//! The first load tool: loads keys, then measures reads, writes and mixes in a closed loop.

use std::io::Write;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use quorate_bench::args::{FillChoice, Form, LoadArgs, OpenArgs};
use quorate_bench::backlog::Nodes;
use quorate_bench::clients::Clients;
use quorate_bench::clock::Clock;
use quorate_bench::fill;
use quorate_bench::machine::Machine;
use quorate_bench::measure::{Case, measure};
use quorate_bench::open::{OpenLoop, OpenReport, OpenSpec, Verdict, climb};
use quorate_bench::report::{ClusterFacts, Report};
use quorate_bench::spawn::{SpawnedCluster, binary_beside};
use quorate_bench::stop::unless_stopped;
use quorate_bench::workload::{Workload, WorkloadSpec};
use quorate_node::shell::system::use_small_pages;
use quorate_ring::{Copies, KeyspaceMode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    use_small_pages();
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
    let (text, is_clean) = runtime.block_on(unless_stopped(load(args)))?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(is_clean)
}

/// The report, and whether every operation was done.
async fn load(args: &LoadArgs) -> Result<(String, bool)> {
    let clock = Clock::start();
    let spawned = match args.spawn {
        Some(nodes) => Some(spawn(args, nodes, clock).await?),
        None => None,
    };
    let file = match &spawned {
        Some(cluster) => cluster.client_file(),
        None => args.client.clone(),
    };
    let clients = Clients::connect(&file, args.connections, args.in_flight_max()).await?;
    let report = if args.open.rate.is_some() || args.open.ramp.is_some() {
        open_loop(args, &clients, clock).await
    } else {
        closed_loop(args, &clients, clock).await
    };
    clients.close().await;
    report
}

async fn closed_loop(args: &LoadArgs, clients: &Clients, clock: Clock) -> Result<(String, bool)> {
    let report = measure_all(args, clients, clock).await?;
    let mut runs = report.cases.iter().flat_map(|(_, runs)| runs);
    let is_clean = runs.all(|run| run.recorder.failed() == 0);
    let text = match args.output {
        Form::Text => report.text(),
        Form::Json => format!("{:#}\n", report.json()),
    };
    Ok((text, is_clean))
}

async fn open_loop(args: &LoadArgs, clients: &Clients, clock: Clock) -> Result<(String, bool)> {
    let client = clients.first();
    let OpenArgs {
        rate,
        ramp,
        seconds,
        warmup_seconds,
        mix,
        arrivals,
        in_flight_max,
        read_level,
        write_level,
        ttl_seconds,
        verify,
    } = &args.open;
    let mode = client.topology().mode(&args.keyspace);
    let mode = mode.with_context(|| format!("there is no keyspace `{}`", args.keyspace))?;
    let spec = OpenSpec {
        mix: mix.clone(),
        keys: args.keys,
        distribution: args.distribution,
        value_bytes: usize::try_from(args.value_bytes)?,
        read_level: read_level.unwrap_or(args.level),
        write_level: write_level.unwrap_or(args.level),
        ttl: ttl_seconds.map(Duration::from_secs),
        deadline: args.deadline(),
        arrivals: *arrivals,
        in_flight_max: usize::try_from(*in_flight_max)?,
        has_contexts: mode == KeyspaceMode::Siblings,
        verify: *verify,
        seed: args.seed,
    };
    let copies = Copies::new(client.topology().copies(&args.keyspace))?;
    if *verify {
        let reads = spec.read_level.replicas_for_read(copies)?;
        let writes = spec.write_level.replicas_for_write(copies)?;
        ensure!(
            reads + writes > copies.get(),
            "reads of {reads} and writes of {writes} of {} replicas need not meet: nothing could be \
             verified; use levels that meet, such as quorum",
            copies.get()
        );
    }
    let hold = Duration::from_secs(*seconds);
    let mut load = OpenLoop::new(spec, clients.keyspaces(&args.keyspace), clock);
    let first_rate = ramp.map(|ramp| ramp.from).or(*rate).unwrap_or(1.0);
    ensure!(
        first_rate.is_finite() && first_rate > 0.0,
        "a rate is above 0 operations per second"
    );
    let warm_up = Duration::from_secs(*warmup_seconds);
    load.run("warm-up", first_rate, warm_up).await?;
    if let Some(ramp) = ramp {
        let mut knee = climb(&mut load, *ramp, hold).await?;
        knee.verdict = verdict(&load, *verify).await?;
        let text = match args.output {
            Form::Text => knee.text(),
            Form::Json => format!("{:#}\n", knee.json()),
        };
        return Ok((text, knee.is_clean()));
    }
    let rate = rate.context("a rate is asked for")?;
    let record = load.run("open loop", rate, hold).await?;
    let report = OpenReport {
        mix: mix.clone(),
        rate,
        seconds: *seconds,
        record,
        verdict: verdict(&load, *verify).await?,
    };
    let text = match args.output {
        Form::Text => report.text(),
        Form::Json => format!("{:#}\n", report.json()),
    };
    Ok((text, report.is_clean()))
}

/// What was found of the answers, once everything was read back.
async fn verdict(load: &OpenLoop, verify: bool) -> Result<Option<Verdict>> {
    Ok(if verify {
        Some(load.verdict().await?)
    } else {
        None
    })
}

async fn spawn(args: &LoadArgs, nodes: u16, clock: Clock) -> Result<SpawnedCluster> {
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => binary_beside()?,
    };
    let parent = args.data_parent.clone().unwrap_or_else(std::env::temp_dir);
    let profile: &[_] = if args.profile {
        &[("QUORATE_PROFILE", "true")]
    } else {
        &[]
    };
    SpawnedCluster::start_with(&binary, nodes, &parent, profile, clock).await
}

async fn measure_all(args: &LoadArgs, clients: &Clients, clock: Clock) -> Result<Report> {
    let client = clients.first();
    let spec = WorkloadSpec {
        keys: args.keys,
        value_bytes: usize::try_from(args.value_bytes)?,
        distribution: args.distribution,
        level: args.level,
        deadline: args.deadline(),
        seed: args.seed,
    };
    let keyspaces = clients.keyspaces(&args.keyspace);
    let workload = Arc::new(Mutex::new(Workload::new(spec.clone(), keyspaces)));
    let mut nodes = Nodes::of(client, clock).with_idle_measured().await?;
    let filled = match args.fill {
        FillChoice::Auto => Some(fill::fill(&workload, clock, args.fill_in_flight).await?),
        FillChoice::None => None,
    };
    if args.profile {
        nodes = nodes.profiled();
    }
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
        connections: args.connections,
        spec,
        filled,
        cases,
    })
}
