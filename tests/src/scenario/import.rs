//! An import that loses a node half-way: no record fails, every record is there byte for byte, with
//! the node down and after its return; a second import leaves one value per key.

use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use quorate_client::{Client, Level};
use tokio::task::JoinSet;

use super::packages::Records;
use crate::cluster::{Cluster, Stopwatch, until};

/// The node that is killed.
const VICTIM: usize = 1;

/// Longest time of one import.
const IMPORT_TIME_MAX: Duration = Duration::from_secs(900);

/// Reads under way at once.
const READS_IN_FLIGHT: usize = 64;

/// How long the parts took.
#[derive(Debug, Clone, Copy)]
pub struct ImportFigures {
    /// Records of the file.
    pub records: usize,
    /// Records that were acknowledged when the node was killed.
    pub killed_at: u64,
    /// The import that lost the node.
    pub first: Duration,
    /// Reading every record with the node down.
    pub read_while_down: Duration,
    /// Reading every record after its return.
    pub read_after_return: Duration,
    /// The second import.
    pub second: Duration,
}

/// Carries it out on a new cluster.
///
/// # Errors
/// At the first thing that is not as it must be.
///
/// # Cancel safety
/// The cluster is ended.
pub async fn import_that_loses_a_node(records: &Records) -> Result<ImportFigures> {
    let mut cluster = Cluster::run()?;
    std::fs::write(
        cluster.scratch().join("records.jsonl"),
        records.json_lines()?,
    )?;

    let watch = Stopwatch::start();
    let mut import = Import::start(&cluster)?;
    let killed_at = kill_at_half(&mut cluster, &mut import, records.count())?;
    import.wait_for_success()?;
    let first = watch.elapsed();

    let client = cluster.client().await?;
    let read_while_down = read_all(&client, records)
        .await
        .context("with a node down")?;
    cluster.start_all()?;
    let read_after_return = read_all(&client, records)
        .await
        .context("after its return")?;

    let watch = Stopwatch::start();
    Import::start(&cluster)?.wait_for_success()?;
    let second = watch.elapsed();
    read_all(&client, records)
        .await
        .context("after the second import")?;
    client.close().await;
    Ok(ImportFigures {
        records: records.count(),
        killed_at,
        first,
        read_while_down,
        read_after_return,
        second,
    })
}

/// Kills the victim once half of the records are acknowledged, and says how many were.
fn kill_at_half(cluster: &mut Cluster, import: &mut Import, records: usize) -> Result<u64> {
    let half = u64::try_from(records)?.div_ceil(2);
    let acknowledged = until(
        IMPORT_TIME_MAX,
        "half of the records are acknowledged",
        || {
            let count = cluster.puts_applied();
            if count >= half {
                return Ok(Some(count));
            }
            let ended = import.child.try_wait()?;
            ensure!(
                ended.is_none(),
                "the import ended after {count} records: {}",
                import.said()
            );
            Ok(None)
        },
    )?;
    cluster.kill(&[VICTIM])?;
    let ended = import.child.try_wait()?;
    ensure!(
        ended.is_none(),
        "the import was over before the node was killed"
    );
    Ok(acknowledged)
}

/// A running `quorate import`. Killed when dropped.
struct Import {
    child: Child,
    output: std::path::PathBuf,
}

impl Import {
    fn start(cluster: &Cluster) -> Result<Self> {
        let output = cluster.scratch().join("import.out");
        let file = std::fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .open(&output)?;
        let child = cluster
            .command(["import", "-o", "json"])?
            .arg(cluster.scratch().join("records.jsonl"))
            .stdout(Stdio::from(file.try_clone()?))
            .stderr(file)
            .spawn()?;
        Ok(Self { child, output })
    }

    /// Exit code 0 says that every record was applied.
    fn wait_for_success(&mut self) -> Result<()> {
        let child = &mut self.child;
        let status: ExitStatus =
            until(IMPORT_TIME_MAX, "the import ends", || Ok(child.try_wait()?))?;
        ensure!(
            status.success(),
            "the import ended with {status}: {}",
            self.said()
        );
        Ok(())
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and needs not to be.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Reads every key at `quorum`; each must have one value, that of its last record.
async fn read_all(client: &Client, records: &Records) -> Result<Duration> {
    let watch = Stopwatch::start();
    let all: Vec<(Bytes, Bytes)> = records
        .last()
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let left = Arc::new(Mutex::new(all));
    let mut tasks = JoinSet::new();
    for _ in 0..READS_IN_FLIGHT {
        let (left, keyspace) = (Arc::clone(&left), client.keyspace("default"));
        tasks.spawn(async move {
            let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop();
            while let Some((key, value)) = next() {
                let name = String::from_utf8_lossy(&key).into_owned();
                let read = keyspace.get(key).level(Level::Quorum).await?;
                let count = read.values().len();
                ensure!(count == 1, "key {name} has {count} values");
                ensure!(read.value() == Some(&value), "key {name} has another value");
            }
            Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(watch.elapsed())
}
