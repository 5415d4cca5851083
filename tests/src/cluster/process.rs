//! One `quorate serve` process, and commands of the binary.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::binary::binary;
use super::wait::until;

/// Variable by which the binary learns with whom it ends.
const PARENT_VARIABLE: &str = "QUORATE_DEV_PARENT";

/// Time for a killed process to be gone.
const GONE_TIME_MAX: Duration = Duration::from_secs(20);

/// A command of the binary that sees nothing of this process's configuration.
///
/// # Errors
/// If there is no binary.
pub fn quorate<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Command> {
    let mut command = Command::new(binary()?);
    let variables = std::env::vars_os().map(|(name, _)| name);
    for name in variables.filter(|name| name.to_string_lossy().starts_with("QUORATE_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    Ok(command)
}

/// A node's process. Killed when dropped.
#[derive(Debug)]
pub struct NodeProcess {
    child: Child,
    log: PathBuf,
}

impl NodeProcess {
    /// Starts `quorate serve` with the `quorate.toml` in `folder` and further arguments. What it
    /// prints is added to `log` in the folder.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start<'a>(folder: &Path, more: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let log = folder.join("log");
        let child = quorate(["serve", "--config"])?
            .arg(folder.join("quorate.toml"))
            .args(more)
            .env(PARENT_VARIABLE, std::process::id().to_string())
            .stdout(Stdio::null())
            .stderr(appended(&log)?)
            .spawn()
            .context("the binary does not start")?;
        Ok(Self { child, log })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as `kill -9` does, without waiting: kill all of several, then [`Self::reap`] each.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill()?)
    }

    /// Waits until a killed process is gone.
    ///
    /// # Errors
    /// If it does not go.
    pub fn reap(&mut self) -> Result<ExitStatus> {
        self.wait(GONE_TIME_MAX)
    }

    /// Asks it to stop in order (SIGTERM), and waits until it has ended.
    ///
    /// # Errors
    /// If it has not ended within `limit`.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("a process has an id")?, Signal::TERM)?;
        self.wait(limit)
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// If it has not within `limit`; what it said is in the error.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let child = &mut self.child;
        let ended = until(limit, "a process ends", || Ok(child.try_wait()?));
        ended.with_context(|| self.said())
    }

    /// Its exit status if it has ended.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// What it printed, with what those before it in the folder printed.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and needs not to be.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn appended(path: &Path) -> Result<Stdio> {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path);
    Ok(file
        .with_context(|| format!("cannot write {}", path.display()))?
        .into())
}
