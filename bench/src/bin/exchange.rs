//! Two nodes with a million keys, and what it costs to compare them: when nothing differs, and when
//! some keys do.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use quorate_bench::backlog::Nodes;
use quorate_bench::clock::Clock;
use quorate_bench::fill::fill;
use quorate_bench::keys::{Distribution, key_of};
use quorate_bench::nodes::NodeProcess;
use quorate_bench::process_usage::loopback_bytes;
use quorate_bench::scenario::{Bounds, ReturnedNode};
use quorate_bench::spawn::{SpawnedCluster, binary_beside};
use quorate_bench::workload::{Workload, WorkloadSpec};
use quorate_client::{Client, Level};
use quorate_ring::{NodeId, VnodeId};

/// Keys under way while all are loaded.
const FILL_IN_FLIGHT: u32 = 256;
/// Time for one operation.
const DEADLINE: Duration = Duration::from_secs(5);
/// What the nodes do with nothing asked of them is measured for this long.
const IDLE_TIME: Duration = Duration::from_secs(3);
/// The nodes are at rest, and a returned one is up, within this time.
const REST_TIME_MAX: Duration = Duration::from_secs(120);
/// A write whose client was answered is sent to a node that comes back within a second: it returns
/// later.
const MISSED_AFTER: Duration = Duration::from_secs(3);
/// Time between two looks.
const POLL: Duration = Duration::from_millis(200);

/// No hints, and no comparison but those that are asked for.
const SETTINGS: [(&str, &str); 3] = [
    ("QUORATE_HINT_BYTES_MAX", "0"),
    ("QUORATE_EXCHANGE_INTERVAL", "0s"),
    ("QUORATE_SCRUB_INTERVAL", "0s"),
];

/// Bounds of a comparison in which nothing differs.
const ALIKE_BYTES_MAX: u64 = 64 << 10;
const ALIKE_CPU_MAX: Duration = Duration::from_millis(200);
/// Bounds of one in which keys differ.
const DIFFERING_BYTES_MAX: u64 = 256 << 10;
const DIFFERING_TIME_MAX: Duration = Duration::from_secs(5);

/// Two nodes hold the same keys. They are compared; then one is killed, some keys are written on
/// the other one, without hints, and after its return they are compared again, which must find and
/// bring together exactly these. Bytes are those of the loopback device and CPU time is that of
/// both nodes, in both cases without what they cost idle.
#[derive(Debug, Parser)]
#[command(
    after_help = "Exit code 1 if a bound does not hold.\n\nExample:\n  exchange --keys 10000 --runs 1"
)]
struct Args {
    /// Keys that both nodes hold.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// Bytes of a value.
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
    /// Keys that are made to differ.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    differing: u32,
    /// How often that is done.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// The program of the nodes [default: quorate beside this program].
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// The cluster, and what it costs idle.
struct Pair {
    client: Client,
    clock: Clock,
    names: [String; 2],
    second: NodeId,
}

/// What was found and used.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    keys: u64,
    healed: u64,
    took: Duration,
    bytes: u64,
    cpu: Duration,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.differing <= args.keys, "more keys cannot differ");
    let clock = Clock::start();
    let binary = args.binary.clone().map_or_else(binary_beside, Ok)?;
    let parent = std::env::temp_dir();
    let cluster = SpawnedCluster::start_with(&binary, 2, &parent, &SETTINGS, clock).await?;
    let client = Client::from_file(cluster.client_file()).await?;
    load(&args, &client, clock).await?;
    let pair = Pair::of(client, clock)?;
    let mut bounds = Bounds::default();
    pair.rest().await?;
    let alike = pair.compare().await?;
    tell("alike", alike)?;
    bounds.check(alike.keys == 0, || format!("{} keys differed", alike.keys));
    bounds.check(alike.bytes <= ALIKE_BYTES_MAX, || {
        format!("{} bytes travelled though nothing differed", alike.bytes)
    });
    bounds.check(alike.cpu <= ALIKE_CPU_MAX, || {
        format!("{:?} of CPU time though nothing differed", alike.cpu)
    });
    let mut returned = None;
    for run in 0..args.runs {
        pair.process().await?.kill()?;
        drop(returned.take());
        write_some(&args, &pair.client, run).await?;
        tokio::time::sleep(MISSED_AFTER).await;
        let folder = cluster.node_folder(&pair.names[1]);
        returned = Some(ReturnedNode::start_with(&binary, &folder, &SETTINGS)?);
        pair.rest().await?;
        let found = pair.compare().await?;
        tell("differing", found)?;
        let wanted = u64::from(args.differing);
        bounds.check(found.keys == wanted && found.healed == wanted, || {
            let (keys, healed) = (found.keys, found.healed);
            format!("of {wanted} keys {keys} were found and {healed} brought together")
        });
        bounds.check(found.bytes <= DIFFERING_BYTES_MAX, || {
            format!("{} bytes travelled for {wanted} keys", found.bytes)
        });
        bounds.check(found.took <= DIFFERING_TIME_MAX, || {
            format!("{:?} for {wanted} keys", found.took)
        });
    }
    pair.client.close().await;
    bounds.all_hold()
}

fn tell(what: &str, cost: Cost) -> Result<()> {
    let Cost {
        keys,
        healed,
        took,
        bytes,
        cpu,
    } = cost;
    let (took, cpu) = (took.as_secs_f64(), cpu.as_secs_f64());
    writeln!(
        std::io::stdout(),
        "{what}: {keys} keys found, {healed} brought together, {took:.2} s, {bytes} bytes, {cpu:.2} s of CPU"
    )?;
    Ok(())
}

async fn load(args: &Args, client: &Client, clock: Clock) -> Result<()> {
    let spec = WorkloadSpec {
        keys: args.keys,
        value_bytes: args.value_bytes,
        distribution: Distribution::Uniform,
        level: Level::Quorum,
        deadline: DEADLINE,
        seed: 1,
    };
    let workload = Workload::new(spec, vec![client.keyspace("default")]);
    fill(&Arc::new(Mutex::new(workload)), clock, FILL_IN_FLIGHT).await?;
    Ok(())
}

/// Writes keys from all over, which the other node misses; others in each run.
async fn write_some(args: &Args, client: &Client, run: u32) -> Result<()> {
    let keyspace = client.keyspace("default");
    let step = args.keys / args.differing;
    for number in 0..args.differing {
        let key = key_of(number * step + run % step);
        let get = keyspace.get(key.clone()).level(Level::One);
        let read = get.deadline(DEADLINE).await?;
        let value = vec![b'd'; args.value_bytes];
        let put = keyspace.put(key, value).after(&read).level(Level::One);
        put.deadline(DEADLINE).await?;
    }
    Ok(())
}

impl Pair {
    fn of(client: Client, clock: Clock) -> Result<Self> {
        let topology = client.topology();
        let nodes = topology.ring().nodes();
        let [first, second] = nodes else {
            bail!("two nodes are compared, and there are {}", nodes.len());
        };
        let names = [first.name.to_string(), second.name.to_string()];
        let second = second.id;
        Ok(Self {
            client,
            clock,
            names,
            second,
        })
    }

    /// The process of the second node.
    async fn process(&self) -> Result<NodeProcess> {
        let mut processes = NodeProcess::of(&self.client).await?;
        processes.pop().context("two nodes")
    }

    /// Waits until both see each other and have nothing left to do.
    async fn rest(&self) -> Result<()> {
        let give_up = self.clock.now() + REST_TIME_MAX;
        for name in &self.names {
            loop {
                let status = self.client.status(name.as_str()).await;
                if status.is_ok_and(|status| status.peers.iter().all(|peer| peer.up)) {
                    break;
                }
                ensure!(self.clock.now() < give_up, "{name} is not up");
                tokio::time::sleep(POLL).await;
            }
        }
        let nodes = Nodes::of(&self.client, self.clock);
        let rest = nodes.wait_for_rest(None, REST_TIME_MAX).await?;
        ensure!(rest.is_reached, "the nodes do not come to rest");
        Ok(())
    }

    /// Compares all copies, and takes off what the nodes cost without it.
    async fn compare(&self) -> Result<Cost> {
        let nodes = Nodes::of(&self.client, self.clock);
        let idle_from = (self.clock.now(), nodes.look().await?.cpu, loopback_bytes());
        tokio::time::sleep(IDLE_TIME).await;
        let from = (self.clock.now(), nodes.look().await?.cpu, loopback_bytes());
        let (mut cost, mut next) = (Cost::default(), Some(VnodeId(0)));
        while let Some(vnode) = next {
            let asked = self
                .client
                .repair(&self.names[0], self.second, vnode, false);
            let found = asked.await?;
            cost.keys += found.keys;
            cost.healed += found.healed;
            next = found.next.map(VnodeId);
        }
        cost.took = self.clock.now() - from.0;
        let moved = loopback_bytes() - from.2;
        let used = nodes.look().await?.cpu - from.1;
        let idle = from.0 - idle_from.0;
        let share = cost.took.as_secs_f64() / idle.as_secs_f64();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bytes of some seconds"
        )]
        let idle_bytes = ((from.2 - idle_from.2) as f64 * share) as u64;
        cost.bytes = moved.saturating_sub(idle_bytes);
        cost.cpu = used.saturating_sub((from.1 - idle_from.1).mul_f64(share));
        Ok(cost)
    }
}
