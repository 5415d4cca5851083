//! One node of three whose disk is harmed while it is down: a bit in each kind of file, an old
//! copy, an empty disk.
//!
//! After each harm the node is started; a write is answered through it; every key is read, with
//! everything that was acknowledged; `status` says what was lost, if something was; and the node
//! gets it back by itself and then holds what the others hold. The next harm is done to what came
//! of the one before.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use quorate_client::wire::NodeStatus;
use quorate_client::{Client, Keyspace};
use tokio::task::JoinSet;

use super::files::{Place, copy_folder, flip, numbered};
use super::flip_cases::{CASES, Case, Harm, Outcome, Spot};
use crate::cluster::{Cluster, NODE_NAMES, Stopwatch, dump_of, http_get};

/// Keys, each of a value of some KiB: a round of them is more than a generation.
const KEYS: u32 = 500;

/// Longest time until the node has back what it lost, or has answered.
const LONGEST: Duration = Duration::from_secs(30);

/// The node that is harmed.
const HARMED: usize = 2;

/// Makes the node feed its engine every round.
const ARGUMENTS: [&str; 2] = ["--table-bytes", "1MiB"];

/// Time for a node to answer a question.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// Operations under way at a time.
const AT_A_TIME: usize = 16;

/// Bytes of a value, beside its mark.
const FILL: usize = 3_000;

/// What the table says of a case that did not end as it must.
const VIOLATION: &str = "VIOLATION";

/// What a node logs when it has lost something.
const BEGINS_ANEW: &str = "begins anew and gets back";

/// What stands in every value, and in no key.
const MARK: &str = "acknowledged";

/// What came of a case.
#[derive(Debug)]
pub struct FlipRow {
    /// What was harmed.
    pub name: &'static str,
    /// What the node did.
    pub did: &'static str,
    /// What `status` said was lost.
    pub said: Option<String>,
    /// From its start until it held everything again, and counted.
    pub healed_after: Duration,
}

/// Carries out every case, or only those of the short version.
///
/// # Errors
/// If they cannot be carried out; what is not as it must be is in the rows.
///
/// # Cancel safety
/// The cluster is ended.
pub async fn flips(is_short: bool) -> Result<Vec<FlipRow>> {
    let mut run = Run::start().await?;
    let mut rows = Vec::new();
    for case in CASES.iter().filter(|case| case.is_short || !is_short) {
        let row = match run.case(case).await {
            Ok(row) => row,
            Err(found) => {
                let violation = format!("{found:#}; the node said:\n{}", run.said());
                run.begin_anew().await?;
                FlipRow {
                    name: case.name,
                    did: VIOLATION,
                    said: Some(violation),
                    healed_after: Duration::ZERO,
                }
            }
        };
        rows.push(row);
    }
    run.client.close().await;
    Ok(rows)
}

struct Run {
    cluster: Cluster,
    client: Client,
    round: u32,
    copy: PathBuf,
    /// Bytes of the node's log that were looked at.
    looked: usize,
}

impl Run {
    async fn start() -> Result<Self> {
        let mut cluster = Cluster::create()?;
        for node in 0..NODE_NAMES.len() {
            cluster.start_with(node, ARGUMENTS)?;
        }
        cluster.wait_until_counting()?;
        let client = cluster.client().await?;
        let copy = cluster.scratch().join("copy");
        let mut run = Self {
            cluster,
            client,
            round: 0,
            copy,
            looked: 0,
        };
        run.write_all().await?;
        run.kill()?;
        copy_folder(&run.data()?, &run.copy)?;
        run.cluster.start_with(HARMED, ARGUMENTS)?;
        run.cluster.wait_until_counting()?;
        Ok(run)
    }

    async fn case(&mut self, case: &Case) -> Result<FlipRow> {
        self.write_all().await?;
        if case.needs_hints {
            self.make_hints().await?;
        }
        self.kill()?;
        self.looked = self.said_all().len();
        let aside = self.set_aside()?;
        self.harm(case.harm)?;
        if case.needs_hints {
            self.cluster.start_with(1, ARGUMENTS)?;
        }
        let since = Stopwatch::start();
        self.cluster.start_with(HARMED, ARGUMENTS)?;
        let mut said = self.first_words(since).await?;
        self.write_through(since).await?;
        self.read_all().await?;
        self.wait_until_alike(since, &mut said).await?;
        let healed_after = since.elapsed();
        self.read_all().await?;
        // It may be whole again before `status` could be asked: then its log has said it.
        let said = said.or_else(|| self.said_of_loss());
        let did = match (said.is_some(), self.set_aside()? != aside) {
            (_, true) => Outcome::SetAside,
            (true, false) => Outcome::Healed,
            (false, false) => Outcome::Whole,
        };
        ensure!(case.expects.contains(&did), "{did:?}, said {said:?}");
        ensure!(
            did == Outcome::Whole || said.is_some(),
            "{did:?}, but `status` said nothing"
        );
        Ok(FlipRow {
            name: case.name,
            did: did.name(),
            said,
            healed_after,
        })
    }

    /// Gives the node an empty disk, whatever became of it.
    async fn begin_anew(&mut self) -> Result<()> {
        for node in 1..NODE_NAMES.len() {
            *self.cluster.node(node)? = None;
        }
        fs::remove_dir_all(self.data()?)?;
        for node in 1..NODE_NAMES.len() {
            self.cluster.start_with(node, ARGUMENTS)?;
        }
        self.wait_until_alike(Stopwatch::start(), &mut None).await
    }

    fn harm(&self, harm: Harm) -> Result<()> {
        let data = self.data()?;
        match harm {
            Harm::Flip {
                folder,
                prefix,
                spot,
            } => {
                let mut files = numbered(&data.join(folder), prefix)?;
                if files.is_empty() {
                    let named = data.join(folder).join(prefix);
                    files.extend(named.is_file().then_some(named));
                }
                // The newest is the one in use; of tables it may be one that was under way.
                if !matches!(spot, Spot::Record | Spot::BeforeEnd(_)) {
                    files.reverse();
                }
                let newest = format!("{MARK}-{}-{}-", self.round, KEYS - 1);
                let place = match spot {
                    Spot::Newest => Place::In(newest.as_bytes()),
                    Spot::Middle => Place::Middle,
                    Spot::BeforeEnd(back) => Place::BeforeEnd(back),
                    Spot::At(offset) => Place::At(offset),
                    Spot::Journal(offset) => Place::AtOrBehind(offset),
                    Spot::Record => Place::In(MARK.as_bytes()),
                };
                ensure!(flip(&files, place)?, "there is nothing to flip");
            }
            Harm::OldCopy => {
                fs::remove_dir_all(&data)?;
                copy_folder(&self.copy, &data)?;
            }
            Harm::Empty => fs::remove_dir_all(&data)?,
        }
        Ok(())
    }

    /// The node misses nothing, another one does.
    async fn make_hints(&mut self) -> Result<()> {
        self.cluster.kill(&[1])?;
        self.write_some(0..50).await?;
        let since = Stopwatch::start();
        loop {
            if let Some(status) = self.status().await
                && status.hints.iter().any(|hints| hints.keys > 0)
            {
                // They are written a quarter of a second later at most.
                tokio::time::sleep(Duration::from_secs(1)).await;
                return Ok(());
            }
            ensure!(since.elapsed() < LONGEST, "it keeps no hints");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the node says was lost, as soon as it answers.
    async fn first_words(&mut self, since: Stopwatch) -> Result<Option<String>> {
        loop {
            if let Some(status) = self.status().await {
                return Ok(status.lost_why);
            }
            self.look_if_it_runs()?;
            ensure!(since.elapsed() < LONGEST, "it does not answer");
        }
    }

    async fn wait_until_alike(
        &mut self,
        since: Stopwatch,
        said: &mut Option<String>,
    ) -> Result<()> {
        loop {
            if let Some(status) = self.status().await {
                *said = said.take().or(status.lost_why.clone());
                if status.lost_why.is_none()
                    && status.copies_lacking == 0
                    && status.vnodes_counting == status.vnodes_owned
                    && self.is_alike().await
                {
                    return Ok(());
                }
            }
            self.look_if_it_runs()?;
            ensure!(
                since.elapsed() < LONGEST,
                "it does not come to hold everything"
            );
        }
    }

    /// Whether it holds what another one holds; reads every record that it has.
    async fn is_alike(&self) -> bool {
        let theirs = dump_of(&self.client, "a").await;
        let own = dump_of(&self.client, "c").await;
        matches!((theirs, own), (Ok(theirs), Ok(own)) if theirs == own && !own.is_empty())
    }

    async fn write_all(&mut self) -> Result<()> {
        self.round += 1;
        self.write_some(0..KEYS).await
    }

    /// Several at a time: a client that asks one node at a time stays with those that it is
    /// connected to.
    async fn write_some(&self, keys: std::ops::Range<u32>) -> Result<()> {
        let round = self.round;
        self.for_each(keys, move |keyspace, key| async move {
            let read = keyspace.get(key_of(key)).await?;
            let value = value_of(round, key);
            keyspace.put(key_of(key), value).after(&read).await?;
            Ok(())
        })
        .await
    }

    /// Writes until the node has answered one.
    async fn write_through(&mut self, since: Stopwatch) -> Result<()> {
        while puts_of(&self.cluster) == 0 {
            self.look_if_it_runs()?;
            ensure!(since.elapsed() < LONGEST, "no write is answered through it");
            self.write_some(0..KEYS / 8).await?;
        }
        Ok(())
    }

    async fn read_all(&self) -> Result<()> {
        let round = self.round;
        self.for_each(0..KEYS, move |keyspace, key| async move {
            let read = keyspace.get(key_of(key)).await?;
            let (key, value) = (key_of(key), value_of(round, key));
            ensure!(
                read.values() == [value],
                "{key} has {} values, not that of round {round}",
                read.values().len(),
            );
            Ok(())
        })
        .await
    }

    /// Does `each` to every key, several at a time.
    async fn for_each<F>(
        &self,
        keys: std::ops::Range<u32>,
        each: impl Fn(Keyspace, u32) -> F,
    ) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        for key in keys {
            tasks.spawn(each(self.client.keyspace("default"), key));
            if tasks.len() >= AT_A_TIME
                && let Some(ended) = tasks.join_next().await
            {
                ended??;
            }
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    }

    async fn status(&self) -> Option<NodeStatus> {
        let asked = tokio::time::timeout(ANSWER_MAX, self.client.status("c")).await;
        asked.ok().and_then(Result::ok)
    }

    fn look_if_it_runs(&mut self) -> Result<()> {
        let process = self.cluster.node(HARMED)?.as_mut();
        if let Some(status) = process.context("it was started")?.ended()? {
            bail!("it ended with {status}");
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        self.cluster.kill(&[HARMED])
    }

    fn data(&self) -> Result<PathBuf> {
        Ok(self.cluster.node_folder(HARMED)?.join("data"))
    }

    /// Names of the folders of stores that were set aside.
    fn set_aside(&self) -> Result<BTreeSet<OsString>> {
        let mut folders = BTreeSet::new();
        if let Ok(entries) = fs::read_dir(self.data()?) {
            for entry in entries {
                let name = entry?.file_name();
                if name.to_string_lossy().starts_with("damaged-") {
                    folders.insert(name);
                }
            }
        }
        Ok(folders)
    }

    fn said_all(&self) -> String {
        let folder = self.cluster.node_folder(HARMED);
        let log = folder.map(|folder| fs::read_to_string(folder.join("log")));
        log.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// What the node logged of a loss since it was killed.
    fn said_of_loss(&self) -> Option<String> {
        let said = self.said();
        let line = said.lines().find(|line| line.contains(BEGINS_ANEW))?;
        Some(line.to_owned())
    }

    /// What the node logged since it was killed.
    fn said(&self) -> String {
        let all = self.said_all();
        all.get(self.looked..).unwrap_or_default().to_owned()
    }
}

fn key_of(key: u32) -> String {
    format!("key-{key:04}")
}

fn value_of(round: u32, key: u32) -> String {
    format!("{MARK}-{round}-{key}-{}", "v".repeat(FILL))
}

/// Puts that the harmed node has answered since its start.
fn puts_of(cluster: &Cluster) -> u64 {
    let port = cluster.http_ports().nth(HARMED);
    let metrics = port.and_then(|port| http_get(port, "/metrics").ok());
    let metrics = metrics.map(|answer| answer.body).unwrap_or_default();
    let is_put = |line: &&str| {
        line.starts_with("quorate_requests_total{")
            && line.contains("op=\"put\"")
            && line.contains("outcome=\"ok\"")
    };
    let counts = metrics.lines().filter(is_put);
    let counts = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    counts.map(|count| if count > 0.0 { 1 } else { 0 }).sum()
}

impl FlipRow {
    /// Whether something was not as it must be.
    #[must_use]
    pub fn is_violation(&self) -> bool {
        self.did == VIOLATION
    }
}
