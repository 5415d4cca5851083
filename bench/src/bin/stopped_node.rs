//! Stops each node in turn under load, as SIGSTOP does, and checks that from 200 ms on nobody
//! notices.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use quorate_bench::clock::Clock;
use quorate_bench::nodes::NodeProcess;
use quorate_bench::open::{End, OpenLoop, Record};
use quorate_bench::scenario::{Bounds, cluster, verified};
use quorate_client::Client;
use quorate_client::config::ClientConfig;

/// How much slower than in quiet the 99th percentile may be while a node is stopped.
const SLOWER_MAX: Duration = Duration::from_millis(50);
/// A node's memory is back at its level within this much.
const MEMORY_SLACK: u64 = 64 << 20;
/// From here on in a run the node is stopped: 200 ms before a whole second, so that the seconds
/// behind it are those that are judged.
const STOP_AT: Duration = Duration::from_millis(1_800);
/// Seconds of a run after the node goes on.
const AFTER_SECONDS: u64 = 5;

/// Stops each of three nodes in turn under an open loop of verified reads and writes: from 200 ms
/// after SIGSTOP no operation fails and p99 is at most 50 ms above its quiet value; after SIGCONT
/// memory comes back and nothing is lost.
#[derive(Debug, Parser)]
#[command(after_help = "Example:\n  stopped_node --rate 2000 --stop-seconds 5")]
struct Args {
    /// Operations per second, half reads, half writes.
    #[arg(long, default_value_t = 3_000.0)]
    rate: f64,
    /// Seconds of the quiet phase.
    #[arg(long, default_value_t = 10)]
    quiet_seconds: u64,
    /// Seconds for which a node is stopped.
    #[arg(long, default_value_t = 10)]
    stop_seconds: u64,
    /// The program of the nodes [default: quorate beside this program].
    #[arg(long)]
    binary: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    let clock = Clock::start();
    let cluster = cluster(args.binary.as_deref(), clock).await?;
    let config = ClientConfig::read(cluster.client_file())?;
    let observer = Client::builder().config(&config)?.connect().await?;
    let nodes = NodeProcess::of(&observer).await?;
    let mut bounds = Bounds::default();
    let mut load = verified(std::slice::from_ref(&observer), 20_000, 16_384, clock)?;
    for number in 0..nodes.len() {
        // All clients came through the node that is stopped.
        let info = observer.topology();
        let node = info.ring().nodes().get(number).context("a node")?;
        let mut config = config.clone();
        config.seeds.retain(|seed| seed.address == node.address);
        let client = Client::builder().config(&config)?.connect().await?;
        load.set_clients(vec![client.keyspace("default")]);
        let run = Stopped {
            args: &args,
            node: nodes.get(number).context("a node")?,
        };
        run.carry_out(&mut load, &mut bounds).await?;
        client.close().await;
    }
    observer.close().await;
    bounds.all_hold()
}

struct Stopped<'a> {
    args: &'a Args,
    node: &'a NodeProcess,
}

impl Stopped<'_> {
    async fn carry_out(&self, load: &mut OpenLoop, bounds: &mut Bounds) -> Result<()> {
        let Args {
            rate,
            quiet_seconds,
            stop_seconds,
            ..
        } = *self.args;
        let name = &self.node.name;
        load.run("warm-up", rate, Duration::from_secs(3)).await?;
        let quiet = Duration::from_secs(quiet_seconds);
        let quiet = load.run("quiet", rate, quiet).await?;
        let quiet_p99 = quiet.quantile(Duration::ZERO, Duration::MAX, 0.99);
        let memory_before = self.node.memory()?;

        let record = self.run_stopped(load).await?;
        let judged_from = Duration::from_secs(STOP_AT.as_secs() + 1);
        let judged_until = judged_from + Duration::from_secs(stop_seconds);
        let p99 = record.quantile(judged_from, judged_until, 0.99);
        let (asked, failed) = seconds_of(&record, judged_from);
        let early = record.count(|end| !end.is_done()) - failed;
        let settle = Duration::from_secs(10);
        tokio::time::sleep(settle).await;
        let memory_after = self.node.memory()?;
        let judged = bounds.verify(load).await?;
        let not_started = record.count(|end| end == End::NotStarted);
        bounds.check(failed == 0, || {
            format!("node {name}: {failed} of {asked} operations failed from 200 ms on")
        });
        bounds.check(p99 <= quiet_p99 + SLOWER_MAX, || {
            format!("node {name}: p99 {p99:?} while it is stopped, {quiet_p99:?} in quiet")
        });
        let limit = memory_before.resident + MEMORY_SLACK;
        bounds.check(memory_after.resident <= limit, || {
            format!("node {name}: {memory_after:?} after, {memory_before:?} before")
        });
        let mib = |bytes: u64| bytes >> 20;
        writeln!(
            std::io::stdout(),
            "node {name} stopped for {stop_seconds} s at {rate:.0} operations/s: quiet p99 {:.1} ms, \
             stopped p99 {:.1} ms, {failed} of {asked} failed from 200 ms on, {early} before, \
             {not_started} not started; its memory {} MiB before, {} MiB after; {judged} answers \
             judged",
            quiet_p99.as_secs_f64() * 1e3,
            p99.as_secs_f64() * 1e3,
            mib(memory_before.resident),
            mib(memory_after.resident),
        )?;
        Ok(())
    }

    /// One run during which the node stands still.
    async fn run_stopped(&self, load: &mut OpenLoop) -> Result<Record> {
        let stop = Duration::from_secs(self.args.stop_seconds);
        let length = STOP_AT + stop + Duration::from_secs(AFTER_SECONDS);
        let nemesis = async {
            tokio::time::sleep(STOP_AT).await;
            self.node.stop()?;
            tokio::time::sleep(stop + Duration::from_millis(200)).await;
            self.node.go_on()
        };
        let (record, nemesis) = tokio::join!(load.run("stopped", self.args.rate, length), nemesis);
        nemesis?;
        record
    }
}

/// Operations that were to start from `from` on, and those of them that were not done.
fn seconds_of(record: &Record, from: Duration) -> (u64, u64) {
    let first = usize::try_from(from.as_secs()).unwrap_or(usize::MAX);
    let seconds = record.seconds().iter().skip(first);
    seconds.fold((0, 0), |(asked, failed), second| {
        (asked + second.asked, failed + second.asked - second.done)
    })
}
