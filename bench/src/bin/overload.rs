//! Asks five times what the cluster can do, for a minute, and checks that it sheds and recovers.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use quorate_bench::ballast::Ballast;
use quorate_bench::clients::client;
use quorate_bench::clock::Clock;
use quorate_bench::cores::Cores;
use quorate_bench::nodes::NodeProcess;
use quorate_bench::open::{End, Record};
use quorate_bench::scenario::{Bounds, cluster, verified};
use quorate_client::config::ClientConfig;
use quorate_client::{Client, Code};

/// As in the nodes: what the tool costs is not there for what it asks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Clients that take turns: more requests than all nodes admit can be open on their connections.
const CLIENTS: usize = 6;
/// Operations under way at most.
const IN_FLIGHT_MAX: usize = 24_576;
/// Operations under way while the capacity is measured.
const IN_FLIGHT_CAPACITY: usize = 512;
/// For how long that is.
const CAPACITY_TIME: Duration = Duration::from_secs(5);
/// A rate that no cluster on one machine keeps up with.
const RATE_ABOVE_ALL: f64 = 200_000.0;
/// Time after the overload within which p99 must be back.
const RECOVERY_SECONDS: u64 = 10;
/// What back means: the quiet value, half as much again, and some noise.
const NOISE: Duration = Duration::from_millis(10);

/// Asks five times the capacity of a cluster of three nodes for a while: no node passes its memory
/// bound, what is shed is not applied and says when to try again, p99 is back within 10 s, nothing
/// acknowledged is lost.
#[derive(Debug, Parser)]
#[command(after_help = "Example:\n  overload --seconds 20")]
struct Args {
    /// Seconds of overload.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Operations per second before and after, half reads, half writes.
    #[arg(long, default_value_t = 1_000.0)]
    quiet_rate: f64,
    /// Bound of a node's memory in MiB: the sum of its limits with the default configuration.
    #[arg(long, default_value_t = 1_536)]
    memory_mib: u64,
    /// Part of half the machine's processors that the nodes have together; the clients have the
    /// other half, so that they can ask for more than the nodes can do. Below 1 needs root.
    #[arg(long, default_value_t = 0.25)]
    nodes_share: f64,
    /// The program of the nodes [default: quorate beside this program].
    #[arg(long)]
    binary: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    let clock = Clock::start();
    let cores = Cores::split()?;
    cores.enter_nodes()?;
    let cluster = cluster(args.binary.as_deref(), clock).await?;
    cores.enter_tool()?;
    let _ballast = Ballast::start(cores, args.nodes_share, clock)?;
    let mut clients = Vec::new();
    let config = ClientConfig::read(cluster.client_file())?;
    for _ in 0..CLIENTS {
        // The nodes are to be overloaded; with the SDK's own bound they would not be.
        clients.push(client(&config, IN_FLIGHT_MAX).await?);
    }
    let observer = Client::from_file(cluster.client_file()).await?;
    let nodes = NodeProcess::of(&observer).await?;
    let mut bounds = Bounds::default();
    let mut out = std::io::stdout();

    let mut load = verified(&clients, 100_000, IN_FLIGHT_CAPACITY, clock)?;
    let warm_up = Duration::from_secs(3);
    load.run("warm-up", args.quiet_rate, warm_up).await?;
    let measured = load.run("capacity", RATE_ABOVE_ALL, CAPACITY_TIME).await?;
    let capacity = measured.count(End::is_done) as f64 / CAPACITY_TIME.as_secs_f64();
    let (of_nodes, of_tool) = cores.counts();
    writeln!(
        out,
        "capacity: {capacity:.0} operations/s with {} of {of_nodes} processors; the clients have {of_tool}",
        args.nodes_share
    )?;

    load.set_in_flight_max(IN_FLIGHT_MAX);
    let quiet = load
        .run("quiet", args.quiet_rate, Duration::from_secs(10))
        .await?;
    let quiet_p99 = quiet.quantile(Duration::from_secs(2), Duration::MAX, 0.99);
    let overload = Duration::from_secs(args.seconds);
    let record = load.run("overload", 5.0 * capacity, overload).await?;
    let after = Duration::from_secs(RECOVERY_SECONDS + 10);
    let after = load.run("after", args.quiet_rate, after).await?;
    let back = Duration::from_secs(RECOVERY_SECONDS);
    let after_p99 = after.quantile(back, Duration::MAX, 0.99);
    let judged = bounds.verify(&load).await?;

    tell(&mut out, &record)?;
    for node in &nodes {
        let peak = node.memory()?.peak >> 20;
        writeln!(
            out,
            "node {}: at most {peak} MiB of {}",
            node.name, args.memory_mib
        )?;
        bounds.check(peak <= args.memory_mib, || {
            format!("node {} took {peak} MiB", node.name)
        });
    }
    writeln!(
        out,
        "p99 {:.1} ms before, {:.1} ms from {RECOVERY_SECONDS} s after on; {judged} answers judged",
        quiet_p99.as_secs_f64() * 1e3,
        after_p99.as_secs_f64() * 1e3,
    )?;
    let shed = record.count(|end| end == End::NotApplied(Code::Overloaded));
    bounds.check(shed > 0, || "nothing was shed".to_owned());
    let silent = load.shed_without_advice();
    bounds.check(silent == 0, || {
        format!("{silent} operations were shed without a time to try again")
    });
    let limit = quiet_p99 * 3 / 2 + NOISE;
    bounds.check(after_p99 <= limit, || {
        format!("p99 is {after_p99:?} after the overload, {quiet_p99:?} before")
    });
    let late = late_failures(&after, RECOVERY_SECONDS);
    bounds.check(late == 0, || {
        format!("{late} operations failed {RECOVERY_SECONDS} s after the overload")
    });
    for client in clients {
        client.close().await;
    }
    observer.close().await;
    bounds.all_hold()
}

fn tell(out: &mut impl Write, record: &Record) -> Result<()> {
    for (action, end, count) in record.ends() {
        writeln!(
            out,
            "overload: {:<6} {count:>9} {}",
            action.name(),
            end.text()
        )?;
    }
    Ok(())
}

fn late_failures(record: &Record, from_second: u64) -> u64 {
    let first = usize::try_from(from_second).unwrap_or(usize::MAX);
    let seconds = record.seconds().iter().skip(first);
    seconds.map(|second| second.asked - second.done).sum()
}
