//! What the scenarios of this tool have in common: a verified open loop over a cluster of their
//! own, and bounds that must hold.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use quorate_client::{Client, Level};

use crate::clock::Clock;
use crate::keys::Distribution;
use crate::open::{Arrivals, Mix, OpenLoop, OpenSpec};
use crate::spawn::{SpawnedCluster, binary_beside};

/// Time for an operation: the SDK's usual deadline.
const DEADLINE: Duration = Duration::from_secs(2);

/// Starts three nodes in a temporary folder.
///
/// # Errors
/// If they do not come up.
///
/// # Cancel safety
/// They are stopped.
pub async fn cluster(binary: Option<&Path>, clock: Clock) -> Result<SpawnedCluster> {
    let binary = binary.map_or_else(binary_beside, |binary| Ok(binary.to_owned()))?;
    SpawnedCluster::start(&binary, 3, &std::env::temp_dir(), clock).await
}

/// Half reads, half writes of small values at `quorum`, every answer judged.
///
/// # Errors
/// None so far.
pub fn verified_spec(keys: u32, in_flight_max: usize) -> Result<OpenSpec> {
    Ok(OpenSpec {
        mix: "read=50,write=50".parse::<Mix>()?,
        keys,
        distribution: Distribution::Uniform,
        value_bytes: 256,
        read_level: Level::Quorum,
        write_level: Level::Quorum,
        ttl: None,
        deadline: DEADLINE,
        arrivals: Arrivals::Poisson,
        in_flight_max,
        has_contexts: true,
        verify: true,
        seed: 1,
    })
}

/// A loop of what [`verified_spec`] says.
///
/// # Errors
/// None so far.
pub fn verified(
    clients: &[Client],
    keys: u32,
    in_flight_max: usize,
    clock: Clock,
) -> Result<OpenLoop> {
    let spec = verified_spec(keys, in_flight_max)?;
    let keyspaces = clients.iter().map(|client| client.keyspace("default"));
    Ok(OpenLoop::new(spec, keyspaces.collect(), clock))
}

/// A node of a cluster of this tool that was killed and came back, as a process of this tool. It is
/// killed when this is dropped.
#[derive(Debug)]
pub struct ReturnedNode(Child);

impl ReturnedNode {
    /// Starts the node of `folder` again.
    ///
    /// # Errors
    /// If its process cannot be started.
    pub fn start(binary: &Path, folder: &Path) -> Result<Self> {
        Self::start_with(binary, folder, &[])
    }

    /// The same, with `settings` as variables of its environment.
    ///
    /// # Errors
    /// As of [`Self::start`].
    pub fn start_with(binary: &Path, folder: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        let process = Command::new(binary)
            .envs(settings.iter().copied())
            .arg("serve")
            .arg("--config")
            .arg(folder.join("quorate.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Ok(Self(process.context("the node cannot be started again")?))
    }
}

impl Drop for ReturnedNode {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Bounds that were broken, told all together.
#[derive(Debug, Default)]
pub struct Bounds(Vec<String>);

impl Bounds {
    /// Notes what is broken unless `holds`.
    pub fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(what());
        }
    }

    /// Reads everything back and notes what is lost or false.
    ///
    /// # Errors
    /// As [`OpenLoop::verdict`].
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn verify(&mut self, load: &OpenLoop) -> Result<u64> {
        let verdict = load.verdict().await?;
        let unread = verdict.unread;
        self.check(unread == 0, || format!("{unread} keys could not be read"));
        self.check(verdict.lied == 0, || {
            format!("{} answers were false: {:?}", verdict.lied, verdict.lies)
        });
        Ok(verdict.judged)
    }

    /// The bounds that were broken, as sentences.
    #[must_use]
    pub fn broken(&self) -> &[String] {
        &self.0
    }

    /// # Errors
    /// Every bound that was broken.
    pub fn all_hold(self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        bail!("{}", self.0.join("\n"))
    }
}
