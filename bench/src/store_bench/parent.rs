//! Rounds of measured children: each is killed with -9 under load, opened again, and must then
//! hold everything that it had acknowledged.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::keys::Distribution;

/// What is measured, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Folder of all data and results; it is kept, and a later run goes on with it.
    pub folder: PathBuf,
    /// Rounds.
    pub rounds: u32,
    /// Number of keys.
    pub keys: u32,
    /// Length of every record.
    pub record_bytes: usize,
    /// Writes of a case at least.
    pub writes: u64,
    /// Writes under way, one case each.
    pub in_flight: Vec<usize>,
    /// How keys are drawn, one case each.
    pub distributions: Vec<Distribution>,
    /// Writes after the last rest, before the kill.
    pub kill_after: u64,
    /// Settings that differ from a node's.
    pub settings: Vec<String>,
}

/// Name of the results in the plan's folder.
pub const RESULTS: &str = "results";

/// The store's own folder there.
const STORE: &str = "store";

/// In the folder of a store whose keys are loaded.
const LOADED: &str = "loaded";

/// A child that does not outlive its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Plan {
    /// Runs the rounds; appends every line of the children to the results.
    ///
    /// # Errors
    /// If a child fails, or a store forgot what it had acknowledged.
    pub fn run(&self) -> Result<()> {
        for round in 0..self.rounds {
            self.measure(u64::from(round) + 1)?;
        }
        Ok(())
    }

    fn measure(&self, seed: u64) -> Result<()> {
        let folder = self.folder.join(STORE);
        let is_new = !folder.join(LOADED).exists();
        if is_new {
            // What a load that was interrupted has left.
            drop(std::fs::remove_dir_all(&folder));
            std::fs::create_dir_all(&folder)?;
        }
        let mut command = self.child("measure", &folder, seed)?;
        command.args(["--writes", &self.writes.to_string()]);
        command.args(["--in-flight", &join(&self.in_flight)]);
        let names: Vec<&str> = self.distributions.iter().map(|d| d.name()).collect();
        command.args(["--distributions", &names.join(",")]);
        command.args(["--kill-after", &self.kill_after.to_string()]);
        if is_new {
            command.arg("--fill");
        }
        let mut running = Running(command.spawn()?);
        let out = running.0.stdout.take().context("it was piped")?;
        let mut acknowledged = None;
        for line in BufReader::new(out).lines() {
            let line = line?;
            let value: Value = serde_json::from_str(&line)?;
            if let Some(kill) = value.get("kill") {
                acknowledged = kill.as_u64();
                break;
            }
            self.keep(&line)?;
        }
        let acknowledged = acknowledged.context("the measured process has failed")?;
        // SIGKILL: what it had not handed to the system is gone.
        drop(running);
        std::fs::write(folder.join(LOADED), b"")?;
        self.recover(&folder, acknowledged)
    }

    fn recover(&self, folder: &Path, acknowledged: u64) -> Result<()> {
        let output = self.child("recover", folder, 1)?.output()?;
        ensure!(output.status.success(), "the store did not open again");
        let line = String::from_utf8(output.stdout)?;
        let value: Value = serde_json::from_str(line.trim())?;
        let recovered = value.get("recovered").and_then(Value::as_u64);
        if recovered.is_none_or(|recovered| recovered < acknowledged) {
            bail!("acknowledged up to {acknowledged}, recovered up to {recovered:?}");
        }
        self.keep(line.trim())
    }

    fn child(&self, kind: &str, folder: &Path, seed: u64) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(kind).arg("--folder").arg(folder);
        command.args(["--keys", &self.keys.to_string()]);
        command.args(["--record-bytes", &self.record_bytes.to_string()]);
        command.args(["--seed", &seed.to_string()]);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(command)
    }

    fn keep(&self, line: &str) -> Result<()> {
        let path = self.folder.join(RESULTS);
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(writeln!(file, "{line}")?)
    }
}

fn join(numbers: &[usize]) -> String {
    let texts: Vec<String> = numbers.iter().map(usize::to_string).collect();
    texts.join(",")
}
