//! Deletes keys while a node is away for longer than every timer, and measures when the last trace
//! of them is gone after its return.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use quorate_bench::clock::Clock;
use quorate_bench::nodes::NodeProcess;
use quorate_bench::scenario::{Bounds, ReturnedNode, cluster};
use quorate_bench::spawn::binary_beside;
use quorate_client::{Client, WriteItem};

/// Keys of one request.
const KEYS_PER_REQUEST: usize = 1_000;
/// Time between two looks.
const POLL: Duration = Duration::from_millis(500);
/// Twice the time in which an operation may be tried again: so long every owner must have held a
/// tombstone before it may go.
const PROOF_TAKES: Duration = Duration::from_secs(60);
/// All tombstones are gone this long after that.
const PURGED_WITHIN: Duration = Duration::from_secs(60);

/// Keys are written, one of three nodes is killed, the keys are deleted, and the node comes back
/// later than every timer. Nothing that was deleted may come back with it, and two minutes after
/// its return no node may hold a trace of it: one minute is what the proof takes.
#[derive(Debug, Parser)]
#[command(
    after_help = "Exit code 1 if a bound does not hold.\n\nExample:\n  purge --keys 1000 --away-seconds 5"
)]
struct Args {
    /// Keys that are written and deleted.
    #[arg(long, default_value_t = 10_000)]
    keys: usize,
    /// Bytes of a value.
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
    /// Seconds for which the node stays away after the keys were deleted.
    #[arg(long, default_value_t = 90)]
    away_seconds: u64,
    /// The program of the nodes [default: quorate beside this program].
    #[arg(long)]
    binary: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    let clock = Clock::start();
    let binary = args.binary.clone().map_or_else(binary_beside, Ok)?;
    let cluster = cluster(Some(&binary), clock).await?;
    let client = Client::from_file(cluster.client_file()).await?;
    let names: Vec<String> = client
        .topology()
        .ring()
        .nodes()
        .iter()
        .map(|node| node.name.to_string())
        .collect();
    let bytes = || -> Result<u64> {
        let folders = names.iter().map(|name| cluster.node_folder(name));
        folders.map(|folder| engine_bytes(&folder)).sum()
    };
    let mut out = std::io::stdout();
    let before = bytes()?;
    write_all(&client, &args).await?;
    let node = NodeProcess::of(&client)
        .await?
        .pop()
        .context("three nodes")?;
    node.kill()?;
    delete_all(&client, &args).await?;
    let up: Vec<&String> = names.iter().filter(|name| **name != node.name).collect();
    tokio::time::sleep(Duration::from_secs(args.away_seconds)).await;
    let mut bounds = Bounds::default();
    let mut waiting = 0;
    for name in &up {
        let status = client.status(name.as_str()).await?;
        waiting += status.purge.waiting;
        let purged = status.purge.purged;
        bounds.check(purged == 0, || {
            format!("{name} purged {purged} keys without the node that was away")
        });
        writeln!(
            out,
            "{name}: {} deleted keys wait for {:.0} s, for want of nodes {:?}",
            status.purge.waiting,
            status.purge.oldest_ms.unwrap_or_default() as f64 / 1e3,
            status.purge.blocked_by
        )?;
    }
    let _back = ReturnedNode::start(&binary, &cluster.node_folder(&node.name))?;
    let returned = clock.now();
    let gone = until_gone(&client, &names, returned, clock).await?;
    let after = gone.map_or(f64::INFINITY, |gone| (gone - returned).as_secs_f64());
    writeln!(
        out,
        "{waiting} keys waited in the two nodes' vnodes; all traces gone {after:.1} s after its return"
    )?;
    bounds.check(gone.is_some(), || {
        let most = PROOF_TAKES + PURGED_WITHIN;
        format!("deleted keys are left {most:?} after its return")
    });
    let back = came_back(&client, &args).await?;
    bounds.check(back == 0, || format!("{back} deleted keys came back"));
    let left = bytes()?;
    #[expect(clippy::cast_precision_loss, reason = "sizes of test data")]
    let per_key = left.saturating_sub(before) as f64 / args.keys as f64;
    writeln!(
        out,
        "{back} keys came back; the engines' tables take {before} bytes before and {left} behind it, {per_key:.1} per purged key"
    )?;
    client.close().await;
    bounds.all_hold()
}

fn key(number: usize) -> String {
    format!("purged-{number:08}")
}

/// The keys' numbers, as many as one request takes.
fn requests(args: &Args) -> impl Iterator<Item = std::ops::Range<usize>> {
    let keys = args.keys;
    let begins = (0..keys).step_by(KEYS_PER_REQUEST);
    begins.map(move |begin| begin..(begin + KEYS_PER_REQUEST).min(keys))
}

async fn write_all(client: &Client, args: &Args) -> Result<()> {
    let value = vec![b'v'; args.value_bytes];
    for numbers in requests(args) {
        let puts = numbers.map(|number| WriteItem::put_blind(key(number), value.clone()));
        let written = client.keyspace("default").multi_put(puts.collect());
        for written in written.await? {
            written?;
        }
    }
    Ok(())
}

async fn delete_all(client: &Client, args: &Args) -> Result<()> {
    let keyspace = client.keyspace("default");
    for numbers in requests(args) {
        let read = keyspace.multi_get(numbers.clone().map(key)).await?;
        let mut deletes = Vec::new();
        for (number, read) in numbers.zip(read) {
            deletes.push(WriteItem::delete(key(number), &read?));
        }
        for deleted in keyspace.multi_put(deletes).await? {
            deleted?;
        }
    }
    Ok(())
}

/// Deleted keys that have a value again.
async fn came_back(client: &Client, args: &Args) -> Result<usize> {
    let mut back = 0;
    for numbers in requests(args) {
        let read = client.keyspace("default").multi_get(numbers.map(key));
        for read in read.await? {
            back += usize::from(!read?.values().is_empty());
        }
    }
    Ok(back)
}

/// Waits until no node holds a record; when that was, if it was in time.
async fn until_gone(
    client: &Client,
    names: &[String],
    since: Duration,
    clock: Clock,
) -> Result<Option<Duration>> {
    while clock.now() - since <= PROOF_TAKES + PURGED_WITHIN {
        let mut left = 0;
        for name in names {
            let Ok(status) = client.status(name.as_str()).await else {
                // It is starting.
                left += 1;
                continue;
            };
            let held = status.keyspaces.iter();
            left += held.map(|held| held.keys + held.tombstones).sum::<u64>();
        }
        if left == 0 {
            return Ok(Some(clock.now()));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(None)
}

/// Bytes of the engine's tables of a node.
fn engine_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder);
        let Ok(entries) = entries else {
            bail!("{} cannot be read", folder.display());
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if folder.components().any(|part| part.as_os_str() == "tables") {
                bytes += entry.metadata()?.len();
            }
        }
    }
    Ok(bytes)
}
