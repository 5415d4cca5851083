//! Disks of a cluster that fill up to the last byte under load, and have room again.
//!
//! With one full disk every write is answered by the other nodes. With all of them full, writes are
//! refused as *disk full* and reads go on, but for a key that some node took and a quorum did not:
//! a read at a quorum would first have to bring it to one, and says that it cannot. When there is
//! room again writes go on and all copies come to be alike; nothing that was acknowledged is lost,
//! and no process has ended.
//!
//! Each disk is a small file system of its own, in memory: mounting it needs the rights of root.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use quorate_client::{Client, Code, Outcome, Read};
use rustix::fs::statvfs;
use tempfile::TempDir;

use crate::cluster::{Cluster, NODE_NAMES, Stopwatch, dump_of};

/// Size of each disk: a few times what the nodes hold.
const DISK_MIB: u64 = 96;

/// Keys, each of a value of some KiB: a round of them is more than a generation.
const KEYS: u32 = 500;

/// Bytes of a value, beside what it says.
const FILL: usize = 3_000;

/// Rounds of writes while one disk is full, and while all are.
const ROUNDS: u32 = 4;

/// How long all disks stay full: the log, the engine's feed and its compaction meet it.
const FULL_FOR: Duration = Duration::from_secs(10);

/// Longest time until writes are refused, until they are taken again, and until copies are alike.
const LONGEST: Duration = Duration::from_secs(90);

/// What takes the room.
const FILLER: &str = "filler";

/// What is known of a key.
#[derive(Debug, Default)]
struct Key {
    /// The last write that was acknowledged.
    acknowledged: u32,
    /// Writes of unknown outcome.
    unknown: BTreeSet<u32>,
}

impl Key {
    /// Of the values that it may hold, those of no write before `round`.
    /// Whether a write of it may be on fewer nodes than a quorum.
    fn is_half_written(&self) -> bool {
        self.unknown.range(self.acknowledged..).next().is_some()
    }

    fn written(&self, key: u32, round: u32) -> impl Iterator<Item = String> {
        let unknown = self.unknown.range(round..).copied();
        let rounds = std::iter::once(self.acknowledged).chain(unknown);
        rounds.map(move |round| value_of(round, key))
    }
}

/// What the disks have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Some,
    None,
}

/// What was seen.
#[derive(Debug, Clone, Copy, Default)]
pub struct FullFigures {
    /// Writes that were acknowledged while one disk was full.
    pub beside_full: u32,
    /// Writes that were not taken while all were.
    pub refused: u32,
    /// Keys that could be read then.
    pub read: u32,
    /// From the moment that there was room until a write was taken.
    pub writes_after: Duration,
    /// And until all copies were alike.
    pub alike_after: Duration,
}

/// Carries it out.
///
/// # Errors
/// If the disks cannot be mounted, or at the first thing that is not as it must be.
///
/// # Cancel safety
/// The cluster is ended and its disks are gone.
pub async fn full_disks() -> Result<FullFigures> {
    // Before the cluster: they go after its processes.
    let disks = Disks::mount()?;
    let mut cluster = Cluster::create()?;
    for (node, disk) in disks.paths().enumerate() {
        let data = disk.join("data");
        let data = data.to_str().context("a path of text")?;
        let small = ["--table-bytes", "1MiB", "--segment-bytes", "4MiB"];
        let more = ["--log-bytes-max", "16MiB", "--data-dir", data];
        cluster.start_with(node, small.into_iter().chain(more))?;
    }
    cluster.wait_until_counting()?;
    let client = cluster.client().await?;
    let mut figures = FullFigures::default();
    let mut keys: Vec<Key> = (0..KEYS).map(|_| Key::default()).collect();
    for round in 1..=ROUNDS {
        write_round(&client, round, &mut keys).await?;
    }
    disks.fill(2)?;
    for round in ROUNDS + 1..=2 * ROUNDS {
        write_round(&client, round, &mut keys).await?;
        figures.beside_full += KEYS;
        disks.fill(2)?;
    }
    disks.fill(0)?;
    disks.fill(1)?;
    figures.refused = write_until_refused(&client, &disks, &mut keys).await?;
    let read = read_all(&client, &keys, Room::None).await;
    figures.read = read.context("with full disks")?;
    are_running(&mut cluster)?;
    disks.free()?;
    let since = Stopwatch::start();
    while !write_one(&client, 1_000_000, 0, &mut keys, Room::None).await? {
        ensure!(since.elapsed() < LONGEST, "no write is taken again");
    }
    figures.writes_after = since.elapsed();
    for round in 1_000_001..=1_000_000 + ROUNDS {
        write_round(&client, round, &mut keys).await?;
    }
    wait_until_alike(&client, since).await?;
    figures.alike_after = since.elapsed();
    let read = read_all(&client, &keys, Room::Some).await;
    read.context("with room again")?;
    are_running(&mut cluster)?;
    client.close().await;
    Ok(figures)
}

/// Every key once; each write is acknowledged.
async fn write_round(client: &Client, round: u32, keys: &mut [Key]) -> Result<()> {
    for key in 0..KEYS {
        let taken = write_one(client, round, key, keys, Room::Some).await?;
        ensure!(taken, "write {round} of key {key} was refused");
    }
    Ok(())
}

/// Writes until everything is refused and stays so for a while; how many were.
async fn write_until_refused(client: &Client, disks: &Disks, keys: &mut [Key]) -> Result<u32> {
    let (since, mut refused, mut round) = (Stopwatch::start(), 0, 100_000);
    let mut full = None;
    loop {
        for node in 0..NODE_NAMES.len() {
            disks.fill(node)?;
        }
        round += 1;
        for key in (0..KEYS).step_by(20) {
            if !write_one(client, round, key, keys, Room::None).await? {
                refused += 1;
                full.get_or_insert_with(Stopwatch::start);
            }
        }
        match full {
            Some(full) if full.elapsed() >= FULL_FOR => return Ok(refused),
            Some(_) => {}
            None => ensure!(since.elapsed() < LONGEST, "full disks take every write"),
        }
    }
}

/// Writes a key after what it holds; false if the disks were too full.
async fn write_one(
    client: &Client,
    round: u32,
    key: u32,
    keys: &mut [Key],
    room: Room,
) -> Result<bool> {
    let known = keys.get_mut(key as usize).context("a key")?;
    let Some(read) = read_one(client, key, known, room).await? else {
        return Ok(false);
    };
    let keyspace = client.keyspace("default");
    let put = keyspace.put(key_of(key), value_of(round, key)).after(&read);
    match put.await {
        Ok(_) => {
            known.acknowledged = round;
            Ok(true)
        }
        Err(error) if error.outcome() == Outcome::NotApplied => {
            ensure!(
                error.code() == Code::DiskFull,
                "refused for another reason: {error}"
            );
            Ok(false)
        }
        // Some of the nodes had room.
        Err(error) if error.outcome() == Outcome::Unknown => {
            known.unknown.insert(round);
            Ok(false)
        }
        Err(error) => bail!("{error}"),
    }
}

/// `None` for one that is half written while there is no room to complete it.
async fn read_one(client: &Client, key: u32, known: &Key, room: Room) -> Result<Option<Read>> {
    match client.keyspace("default").get(key_of(key)).await {
        Ok(read) => Ok(Some(read)),
        Err(error)
            if room == Room::None
                && known.is_half_written()
                && error.code() == Code::QuorumNotReached =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// How many could be read.
async fn read_all(client: &Client, keys: &[Key], room: Room) -> Result<u32> {
    let mut count = 0;
    for (key, known) in (0..KEYS).zip(keys) {
        let Some(read) = read_one(client, key, known, room).await? else {
            continue;
        };
        count += 1;
        for value in read.values() {
            let written = known.written(key, 0).any(|written| *value == written);
            ensure!(written, "key {key} has a value that must not be there");
        }
        // A later write of unknown outcome may have superseded it.
        let mut newest = known.written(key, known.acknowledged);
        let newest = newest.any(|written| read.values().contains(&written.into()));
        ensure!(
            newest,
            "key {key} does not hold write {}",
            known.acknowledged
        );
    }
    Ok(count)
}

async fn wait_until_alike(client: &Client, since: Stopwatch) -> Result<()> {
    loop {
        let mut dumps = Vec::new();
        for node in NODE_NAMES {
            dumps.push(dump_of(client, node).await?);
        }
        if dumps.windows(2).all(|pair| pair.first() == pair.last()) {
            return Ok(());
        }
        ensure!(since.elapsed() < LONGEST, "copies do not come to be alike");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn are_running(cluster: &mut Cluster) -> Result<()> {
    for (node, name) in NODE_NAMES.iter().enumerate() {
        let process = cluster.node(node)?.as_mut().context("it was started")?;
        if let Some(status) = process.ended()? {
            bail!("node {name} ended with {status}: {}", process.said());
        }
    }
    Ok(())
}

fn key_of(key: u32) -> String {
    format!("key-{key:04}")
}

fn value_of(round: u32, key: u32) -> String {
    format!("{round}-{key}-{}", "v".repeat(FILL))
}

/// File systems of their own, one for each node; gone when dropped.
#[derive(Debug)]
struct Disks(TempDir);

impl Disks {
    fn mount() -> Result<Self> {
        let disks = Self(tempfile::tempdir()?);
        for disk in disks.paths() {
            fs::create_dir(&disk)?;
            let mounted = Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={DISK_MIB}m"), "none"])
                .arg(&disk)
                .output()?;
            let said = String::from_utf8_lossy(&mounted.stderr);
            ensure!(mounted.status.success(), "a disk cannot be mounted: {said}");
        }
        Ok(disks)
    }

    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        NODE_NAMES.into_iter().map(|name| self.0.path().join(name))
    }

    /// Leaves no room on a disk.
    fn fill(&self, node: usize) -> Result<()> {
        let disk = self.paths().nth(node).context("there is no such node")?;
        let more = disk.join(format!("{FILLER}-{}", fs::read_dir(&disk)?.count()));
        let free = free_bytes(&disk)?;
        if free == 0 {
            return Ok(());
        }
        match fs::write(&more, vec![1; usize::try_from(free)?]) {
            Err(error) if error.kind() != ErrorKind::StorageFull => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn free(&self) -> Result<()> {
        for disk in self.paths() {
            for entry in fs::read_dir(disk)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(FILLER) {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for disk in self.paths() {
            // One that was not mounted cannot be unmounted.
            let _unmounted = Command::new("umount").arg("-l").arg(disk).output();
        }
    }
}

fn free_bytes(disk: &Path) -> Result<u64> {
    let stat = statvfs(disk)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
