//! The child processes of `dev`.

use std::io::{Read, Seek, SeekFrom};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use std::os::unix::process::CommandExt;

use tokio::time::{sleep, timeout};

use super::super::exit::{Exit, Problem};
use super::super::system::{PARENT_VARIABLE, terminate};
use super::layout::{DevNode, Layout};

/// How often a stopping child is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How much of the end of a log is read for its last line.
const LAST_BYTES: u64 = 4096;

/// The children that still run, each with its node.
#[derive(Debug)]
pub(super) struct Children {
    running: Vec<(DevNode, Child)>,
}

/// A child that ended by itself.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) node: DevNode,
    pub(super) how: ExitStatus,
    pub(super) last_line: Option<String>,
}

impl Children {
    /// Starts one process per node. If one cannot be started, none is left.
    pub(super) fn start(layout: &Layout) -> Result<Self, Problem> {
        let mut children = Self {
            running: Vec::new(),
        };
        for node in &layout.nodes {
            let child = start(node).map_err(|e| {
                let what = format!("cannot start node {}: {e}", node.name);
                Problem::new(Exit::Failed, "CHILD_START", what)
            })?;
            children.running.push((node.clone(), child));
        }
        Ok(children)
    }

    /// Takes out the children that have ended since the last look.
    pub(super) fn ended(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        self.running.retain_mut(|(node, child)| {
            let Ok(Some(how)) = child.try_wait() else {
                return true;
            };
            ended.push(Ended {
                last_line: last_line(node),
                node: node.clone(),
                how,
            });
            false
        });
        ended
    }

    /// Whether none runs any more.
    pub(super) const fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Asks every child to stop, waits, and kills what is left after `limit`.
    pub(super) async fn stop(mut self, limit: Duration) -> Result<(), Problem> {
        for (_, child) in &self.running {
            terminate(child.id());
        }
        let all_ended = async {
            while !self.running.is_empty() {
                self.running
                    .retain_mut(|(_, child)| !matches!(child.try_wait(), Ok(Some(_))));
                sleep(LOOK_EVERY).await;
            }
        };
        if timeout(limit, all_ended).await.is_ok() {
            return Ok(());
        }
        let late: Vec<&str> = self
            .running
            .iter()
            .map(|(node, _)| node.name.as_str())
            .collect();
        let what = format!(
            "nodes {} did not stop in time and were killed",
            late.join(", ")
        );
        Err(Problem::new(Exit::Failed, "STOP_TIMEOUT", what).then("see their logs"))
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            // A child that is gone already is what is wanted.
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// In a process group of its own, so that Ctrl-C reaches `dev` alone, which then stops it.
fn start(node: &DevNode) -> std::io::Result<Child> {
    let mut options = std::fs::OpenOptions::new();
    let log = options.append(true).create(true).open(node.log())?;
    Command::new(std::env::current_exe()?)
        .arg("serve")
        .arg("--config")
        .arg(node.config())
        .env(PARENT_VARIABLE, std::process::id().to_string())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
}

fn last_line(node: &DevNode) -> Option<String> {
    let mut log = std::fs::OpenOptions::new()
        .read(true)
        .open(node.log())
        .ok()?;
    let bytes = log.metadata().ok()?.len();
    log.seek(SeekFrom::Start(bytes.saturating_sub(LAST_BYTES)))
        .ok()?;
    let mut end = Vec::new();
    log.read_to_end(&mut end).ok()?;
    let text = String::from_utf8_lossy(&end);
    text.lines()
        .rev()
        // A report's first line says what happened; those that explain it are indented.
        .find(|line| !line.trim().is_empty() && !line.starts_with(' '))
        .map(str::to_owned)
}
