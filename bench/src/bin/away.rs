//! Kills a node under load, starts it again later, and measures how the copies come together by
//! themselves.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use quorate_bench::clock::Clock;
use quorate_bench::nodes::NodeProcess;
use quorate_bench::open::{End, OpenLoop, OpenSpec};
use quorate_bench::process_usage::loopback_bytes;
use quorate_bench::scenario::{Bounds, ReturnedNode, verified_spec};
use quorate_bench::spawn::{SpawnedCluster, binary_beside};
use quorate_client::Client;

/// Operations under way while the keys are loaded.
const FILL_IN_FLIGHT: usize = 64;
/// Operations under way at most.
const IN_FLIGHT_MAX: usize = 4_096;
/// Time between two looks.
const POLL: Duration = Duration::from_millis(500);
/// All copies are alike this long after the load has stopped, at most.
const ALIKE_WITHIN: Duration = Duration::from_secs(60);
/// Bytes on the way may be so many times the bytes that differ, and this more.
const BYTES_FACTOR: u64 = 3;
const BYTES_SLACK: u64 = 1 << 20;

/// One of three nodes is killed under an open loop of verified writes and deletes and comes back
/// later. All owners then hold the same within a minute, without a read. With --back-seconds 0 the
/// load ends before it comes back, and what travels until its copies were compared is held against
/// the bytes that differ. With QUORATE_HINT_BYTES_MAX=0 in its environment the nodes keep no hints,
/// so that anti-entropy alone brings the copies together.
#[derive(Debug, Parser)]
#[command(
    after_help = "Exit code 1 if a bound does not hold.\n\nExample:\n  away --down-seconds 10"
)]
struct Args {
    /// Operations per second: ten writes to a delete.
    #[arg(long, default_value_t = 3_300.0)]
    rate: f64,
    /// Keys that are loaded first.
    #[arg(long, default_value_t = 100_000)]
    keys: u32,
    /// Bytes of a value.
    #[arg(long, default_value_t = 1_024)]
    value_bytes: usize,
    /// Seconds for which the node is away under load.
    #[arg(long, default_value_t = 30)]
    down_seconds: u64,
    /// Seconds for which the load goes on after its return.
    #[arg(long, default_value_t = 30)]
    back_seconds: u64,
    /// The program of the nodes [default: quorate beside this program].
    #[arg(long)]
    binary: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    let clock = Clock::start();
    let binary = args.binary.clone().map_or_else(binary_beside, Ok)?;
    let cluster = SpawnedCluster::start(&binary, 3, &std::env::temp_dir(), clock).await?;
    let client = Client::from_file(cluster.client_file()).await?;
    let node = NodeProcess::of(&client)
        .await?
        .pop()
        .context("three nodes")?;
    let mut load = load_of(&args, &client, clock)?;
    let filled = load.fill(FILL_IN_FLIGHT).await?;
    let failed = filled.count(|end| !end.is_done());
    if failed > 0 {
        bail!("{failed} keys could not be loaded");
    }
    let mut bounds = Bounds::default();
    let quiet = load
        .run("quiet", args.rate, Duration::from_secs(10))
        .await?;
    let quiet_p99 = quiet.quantile(Duration::from_secs(2), Duration::MAX, 0.99);
    node.kill()?;
    let down = Duration::from_secs(args.down_seconds);
    let down = load.run("away", args.rate, down).await?;
    let bytes_before = loopback_bytes();
    let _back = ReturnedNode::start(&binary, &cluster.node_folder(&node.name))?;
    let returned = clock.now();
    let mut out = std::io::stdout();
    if args.back_seconds > 0 {
        let length = Duration::from_secs(args.back_seconds);
        let back = load.run("back", args.rate, length).await?;
        let p99 = back.quantile(Duration::ZERO, Duration::MAX, 0.99);
        bounds.check(p99 <= quiet_p99 * 2, || {
            format!("p99 {p99:?} after its return, {quiet_p99:?} before it went")
        });
        let failed = back.count(|end| !matches!(end, End::Done | End::NotStarted));
        writeln!(
            out,
            "after its return: p99 {p99:?} (before {quiet_p99:?}), {failed} failed"
        )?;
    }
    let stopped = clock.now();
    let hints = hints_left(&client).await?;
    writeln!(
        out,
        "{hints} hints wait {:.1} s after its return",
        (stopped - returned).as_secs_f64()
    )?;
    if args.back_seconds > 0 {
        bounds.check(hints == 0, || format!("{hints} hints wait still"));
    }
    let compared = compared(&client, &node.name, returned, clock).await?;
    let moved = loopback_bytes().saturating_sub(bytes_before);
    writeln!(
        out,
        "its copies were compared {:.1} s after its return; {} keys differed",
        (clock.now() - returned).as_secs_f64(),
        compared
    )?;
    if args.back_seconds == 0 {
        // What has to travel: the newer record of each key, once.
        let differing = compared * args.value_bytes as u64;
        let allowed = BYTES_FACTOR * differing + BYTES_SLACK;
        writeln!(
            out,
            "{moved} bytes on the loopback device meanwhile, {differing} bytes of values differed"
        )?;
        bounds.check(moved <= allowed, || {
            format!("{moved} bytes travelled, at most {allowed} should")
        });
    }
    let alike = alike(&client, stopped, clock).await?;
    bounds.check(alike.is_some(), || {
        format!("copies still differ {ALIKE_WITHIN:?} after the load stopped")
    });
    if let Some(after) = alike {
        let after = after.as_secs_f64();
        writeln!(out, "all copies alike {after:.1} s after the load stopped")?;
    }
    let failed = down.count(|end| !end.is_done());
    let judged = bounds.verify(&load).await?;
    writeln!(
        out,
        "{failed} operations failed while it was away; {judged} answers judged"
    )?;
    client.close().await;
    bounds.all_hold()
}

fn load_of(args: &Args, client: &Client, clock: Clock) -> Result<OpenLoop> {
    let spec = OpenSpec {
        mix: "write=91,delete=9".parse()?,
        value_bytes: args.value_bytes,
        ..verified_spec(args.keys, IN_FLIGHT_MAX)?
    };
    Ok(OpenLoop::new(spec, vec![client.keyspace("default")], clock))
}

/// Keys that wait on any node for another one.
async fn hints_left(client: &Client) -> Result<u64> {
    let mut left = 0;
    for node in client.topology().ring().nodes() {
        let status = client.status(node.name.as_str()).await?;
        left += status.hints.iter().map(|hint| hint.keys).sum::<u64>();
    }
    Ok(left)
}

/// Waits until both pairs with the node were compared after its return; how many keys differed on
/// the pair on which most did: what one pair brought together the other one found alike.
async fn compared(client: &Client, node: &str, since: Duration, clock: Clock) -> Result<u64> {
    let topology = client.topology();
    let names: Vec<String> = topology
        .ring()
        .nodes()
        .iter()
        .map(|node| node.name.to_string())
        .collect();
    let id = topology
        .ring()
        .node_named(node)
        .context("it is known")?
        .id
        .0;
    let give_up = clock.now() + 2 * ALIKE_WITHIN;
    while clock.now() < give_up {
        let (mut pairs, mut keys) = (0, 0);
        for name in &names {
            let Ok(status) = client.status(name).await else {
                continue;
            };
            let of_node = status.pairs.iter();
            let of_node = of_node.filter(|pair| (pair.node == id) != (name == node));
            for pair in of_node {
                let age = pair.age_ms.map(Duration::from_millis);
                if age.is_some_and(|age| age < clock.now() - since) {
                    pairs += 1;
                    keys = keys.max(pair.keys);
                }
            }
        }
        if pairs + 1 >= names.len() {
            return Ok(keys);
        }
        tokio::time::sleep(POLL).await;
    }
    bail!("its copies were not compared")
}

/// Waits until all nodes hold the same; how long after `since`.
async fn alike(client: &Client, since: Duration, clock: Clock) -> Result<Option<Duration>> {
    loop {
        let mut hashes = BTreeMap::new();
        for node in client.topology().ring().nodes() {
            let name = node.name.to_string();
            let mut hasher = DefaultHasher::new();
            let mut pages = client.dump_local(&name)?;
            while let Some(page) = pages.next_page().await? {
                for record in page {
                    (record.keyspace, &record.key[..], &record.record[..]).hash(&mut hasher);
                }
            }
            hashes.entry(hasher.finish()).or_insert(name);
        }
        let after = clock.now() - since;
        if hashes.len() == 1 {
            return Ok(Some(after));
        }
        if after > ALIKE_WITHIN {
            return Ok(None);
        }
        tokio::time::sleep(POLL).await;
    }
}
