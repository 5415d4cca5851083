//! A scan of a whole keyspace that clients and nodes do not survive: it yields exactly the set of
//! records, in key order, each once.
//!
//! The scanning client is a process of its own, so that kill -9 is what ends it. It prints the
//! records of a page and behind them where the scan stands; what a killed client printed behind its
//! last position does not count, and the next one goes on from that position.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use quorate_client::{Client, Keyspace, ScanPosition};
use tokio::task::JoinSet;
use xxhash_rust::xxh3::xxh3_64;

use crate::cluster::{Cluster, Memory, NODE_NAMES, Stopwatch};

/// Writes in flight while the records are made.
const WRITES_IN_FLIGHT: u64 = 256;

/// Deadline of a write and of a page; nodes are killed and come back meanwhile.
const DEADLINE: Duration = Duration::from_secs(30);

/// Length of a value.
const VALUE_BYTES: usize = 100;

/// One of this many keys is deleted again before the scan.
const DELETED_EACH: u64 = 16;

/// How many records, and how often the scan is interrupted.
#[derive(Debug, Clone, Copy)]
pub struct ScanPlan {
    /// Records that the scan must yield.
    pub records: u64,
    /// Interruptions: kill -9 of the client and of a node, in turn.
    pub interruptions: u64,
}

/// What happened.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScanFigures {
    /// Time of a scan that nothing interrupted.
    pub undisturbed: Duration,
    /// Time of the interrupted one, the starts of clients and nodes included.
    pub interrupted: Duration,
    /// Clients that were killed.
    pub clients_killed: u64,
    /// Nodes that were killed and started again.
    pub nodes_killed: u64,
    /// Greatest resident memory of a scanning client, in bytes.
    pub client_peak: u64,
    /// Greatest resident memory of a node before the scans, in bytes.
    pub nodes_before: u64,
    /// Greatest resident memory that a node had until the end, in bytes.
    pub nodes_peak: u64,
}

/// Carries it out on a new cluster. `child` makes the command of a scanning client: this program
/// itself, so that [`scan_and_print`] runs.
///
/// # Errors
/// At the first thing that is not as it must be.
///
/// # Cancel safety
/// Cluster and client are ended.
pub async fn scan_interrupted(
    plan: ScanPlan,
    child: impl Fn(&Path, Option<&str>) -> Result<Command>,
) -> Result<ScanFigures> {
    let mut cluster = Cluster::run()?;
    let client = cluster.client().await?;
    fill(&client, plan.records).await?;
    client.close().await;
    let mut figures = ScanFigures {
        nodes_before: peak_of_nodes(&mut cluster)?,
        ..ScanFigures::default()
    };
    let file = cluster.client_file();
    let start = |position: Option<&str>| Scanner::start(child(&file, position)?);

    let watch = Stopwatch::start();
    let mut expected = Expected::new(plan.records);
    let mut scanner = start(None)?;
    while scanner.page(&mut expected)?.is_some() {}
    expected.must_be_over()?;
    figures.undisturbed = watch.elapsed();
    figures.client_peak = scanner.peak;

    let watch = Stopwatch::start();
    let mut expected = Expected::new(plan.records);
    let mut scanner = start(None)?;
    let mut interruption = 0;
    while let Some(position) = scanner.page(&mut expected)? {
        let due = (interruption + 1) * plan.records / (plan.interruptions + 1);
        if interruption == plan.interruptions || expected.found < due {
            continue;
        }
        figures.client_peak = figures.client_peak.max(scanner.peak);
        if interruption % 2 == 0 {
            scanner.kill()?;
            scanner = start(Some(&position))?;
            figures.clients_killed += 1;
        } else {
            let node = usize::try_from(interruption / 2)? % NODE_NAMES.len();
            figures.nodes_peak = figures.nodes_peak.max(peak_of_nodes(&mut cluster)?);
            // Two nodes are a quorum: the one killed before must be back.
            cluster.wait_until_counting()?;
            cluster.kill(&[node])?;
            cluster.start(node)?;
            figures.nodes_killed += 1;
        }
        interruption += 1;
    }
    expected.must_be_over()?;
    ensure!(
        interruption == plan.interruptions,
        "only {interruption} of {} interruptions came about",
        plan.interruptions
    );
    figures.interrupted = watch.elapsed();
    figures.client_peak = figures.client_peak.max(scanner.peak);
    figures.nodes_peak = figures.nodes_peak.max(peak_of_nodes(&mut cluster)?);
    Ok(figures)
}

/// What the scanning process does: prints each page of `default`, as [`Scanner`] reads it.
///
/// # Errors
/// If a page cannot be read or nobody listens.
pub async fn scan_and_print(file: &Path, position: Option<&str>) -> Result<()> {
    let client = Client::from_file(file).await?;
    let mut scan = client.keyspace("default").scan().deadline(DEADLINE);
    if let Some(position) = position {
        scan = scan.resume(position.parse::<ScanPosition>()?);
    }
    let mut pages = scan.pages();
    let mut out = std::io::stdout().lock();
    while let Some(page) = pages.next_page().await? {
        let mut text = Vec::new();
        for record in &page.records {
            let [value] = record.values.as_slice() else {
                bail!("{:?} has {} values", record.key, record.values.len());
            };
            let key = std::str::from_utf8(&record.key)?;
            writeln!(text, "{key} {:x}", xxh3_64(value))?;
        }
        if let Some(next) = &page.next {
            writeln!(text, "@{next}")?;
        }
        out.write_all(&text)?;
        out.flush()?;
    }
    writeln!(out, "@")?;
    client.close().await;
    Ok(())
}

/// A scanning client in a process of its own. Killed when dropped.
struct Scanner {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    peak: u64,
}

impl Scanner {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("a pipe was asked for")?;
        Ok(Self {
            child,
            lines: BufReader::new(stdout).lines(),
            peak: 0,
        })
    }

    /// The next page, held against what is expected, and where the scan stands; `None` at its end.
    fn page(&mut self, expected: &mut Expected) -> Result<Option<String>> {
        let mut page = Vec::new();
        loop {
            let line = self.lines.next();
            let line = line.context("the scanning client ended early; it said why above")??;
            match line.strip_prefix('@') {
                None => page.push(line),
                Some("") => {
                    expected.take(&page)?;
                    ensure!(self.child.wait()?.success(), "the scanning client failed");
                    return Ok(None);
                }
                Some(position) => {
                    expected.take(&page)?;
                    self.peak = Memory::of(self.child.id())?.peak;
                    return Ok(Some(position.to_owned()));
                }
            }
        }
    }

    fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and needs not to be.
        let _killed = self.kill();
    }
}

/// The records that are to come, in key order.
struct Expected {
    number: u64,
    found: u64,
    records: u64,
}

impl Expected {
    const fn new(records: u64) -> Self {
        Self {
            number: 0,
            found: 0,
            records,
        }
    }

    fn take(&mut self, page: &[String]) -> Result<()> {
        for line in page {
            if is_deleted(self.number) {
                self.number += 1;
            }
            let key = key_of(self.number);
            let want = format!("{key} {:x}", xxh3_64(&value_of(&key)));
            ensure!(*line == want, "the scan yields `{line}`, not `{want}`");
            self.number += 1;
            self.found += 1;
        }
        Ok(())
    }

    fn must_be_over(&self) -> Result<()> {
        ensure!(
            self.found == self.records,
            "the scan yields {} of {} records",
            self.found,
            self.records
        );
        Ok(())
    }
}

const fn is_deleted(number: u64) -> bool {
    number % DELETED_EACH == DELETED_EACH - 1
}

fn key_of(number: u64) -> String {
    format!("record-{number:010}")
}

fn value_of(key: &str) -> Vec<u8> {
    key.bytes().cycle().take(VALUE_BYTES).collect()
}

/// Writes records until `records` of them stay; the others are deleted again.
async fn fill(client: &Client, records: u64) -> Result<()> {
    // Of DELETED_EACH keys all but one stay; the last group may be short.
    let keys = records + (records - 1) / (DELETED_EACH - 1);
    let mut writers = JoinSet::new();
    for writer in 0..WRITES_IN_FLIGHT {
        let keyspace = client.keyspace("default");
        let step = usize::try_from(WRITES_IN_FLIGHT)?;
        let mine = (writer..keys).step_by(step);
        writers.spawn(async move { write_all(&keyspace, mine).await });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    Ok(())
}

async fn write_all(keyspace: &Keyspace, numbers: impl Iterator<Item = u64>) -> Result<()> {
    for number in numbers {
        let key = key_of(number);
        let value = value_of(&key);
        let put = keyspace.put_blind(key.clone(), value).deadline(DEADLINE);
        let written = put.await?;
        if is_deleted(number) {
            let context = written.context().context("a first value has a context")?;
            let delete = keyspace.delete(key).after(context);
            delete.deadline(DEADLINE).await?;
        }
    }
    Ok(())
}

fn peak_of_nodes(cluster: &mut Cluster) -> Result<u64> {
    let mut peak = 0;
    for node in 0..NODE_NAMES.len() {
        peak = peak.max(cluster.memory(node)?.peak);
    }
    Ok(peak)
}
