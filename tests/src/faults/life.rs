//! One life of a store: a process that runs its script, alone or under strace, and what came of it.
//!
//! strace is asked for the nth call of one kind: that the process is killed as it enters it, or
//! that it fails. It counts the calls of each thread apart. The script does nearly everything on
//! one thread; what others do is asked for by the file that it is done to.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

/// A process that does not end within this waits for something that does not come.
const LIFE_MAX: Duration = Duration::from_secs(10);

/// Newest id of each key.
pub(super) type Ids = BTreeMap<String, u64>;

/// The program whose arguments are those of [`super::script::run`].
#[derive(Debug, Clone)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// Arguments that come before the script's.
    pub first: Vec<String>,
}

/// What a process does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Script<'a> {
    pub(super) dir: &'a Path,
    pub(super) incarnation: u64,
    pub(super) first_id: u64,
    pub(super) groups: u64,
}

/// What a system call of it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Harm {
    /// The process is killed as it enters it.
    Kill,
    /// It fails, this once.
    Error(&'static str),
    /// It and all later ones fail.
    ErrorFromThen(&'static str),
}

/// Which system call, and what it comes to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fault {
    pub(super) harm: Harm,
    /// Its name.
    pub(super) call: &'static str,
    /// On which file only, relative to the script's folder.
    pub(super) file: Option<String>,
    /// The how manyeth of them, from 1.
    pub(super) nth: u32,
}

/// How a life ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The script was carried out.
    Done,
    Killed,
    /// The store gave up, with this as its last word.
    Failed(String),
    Panicked(String),
    Hung,
}

/// What came of a life.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) end: End,
    /// What it found; `None` if it was over before it had looked.
    pub(super) found: Option<Ids>,
    pub(super) acked: Ids,
    /// The fault came to pass.
    pub(super) was_harmed: bool,
}

/// How often a script made a system call: on its first thread, or on any other by the file that it
/// was done to.
pub(super) type Calls<'a> = BTreeMap<(&'a str, Option<String>), u32>;

impl Program {
    /// Runs a script undisturbed.
    pub(super) async fn run(&self, script: Script<'_>) -> Result<Life> {
        let command = Command::new(&self.path);
        self.finish(command, script).await
    }

    /// Runs it under a fault.
    pub(super) async fn run_harmed(&self, script: Script<'_>, fault: &Fault) -> Result<Life> {
        let seen = script.dir.join("strace");
        let mut command = Command::new("strace");
        let (what, when) = match fault.harm {
            Harm::Kill => ("signal=KILL".to_owned(), fault.nth.to_string()),
            Harm::Error(name) => (format!("error={name}"), fault.nth.to_string()),
            Harm::ErrorFromThen(name) => (format!("error={name}"), format!("{}+", fault.nth)),
        };
        // Not with --seccomp-bpf: then it miscounts calls that are to end with a signal.
        command
            .args(["-f", "-qq", "-o"])
            .arg(&seen)
            .args(["-e", &format!("trace={}", fault.call)])
            .args(["-e", &format!("inject={}:{what}:when={when}", fault.call)]);
        if let Some(file) = &fault.file {
            command.arg("-P").arg(script.dir.join(file));
        }
        command.arg(&self.path);
        let mut life = self.finish(command, script).await?;
        life.was_harmed = match fault.harm {
            Harm::Kill => life.end == End::Killed,
            Harm::Error(_) | Harm::ErrorFromThen(_) => {
                std::fs::read_to_string(&seen)?.contains("(INJECTED)")
            }
        };
        std::fs::remove_file(&seen)?;
        Ok(life)
    }

    /// Runs it and tells how often it did each of `calls`.
    pub(super) async fn calls_of<'a>(
        &self,
        script: Script<'_>,
        calls: &[&'a str],
    ) -> Result<Calls<'a>> {
        let trace = self.trace(script, &calls.join(","), "0").await?.1;
        let folder = format!("{}/", script.dir.display());
        let mut made = Calls::new();
        let mut first = None;
        for line in trace.lines() {
            let Some((thread, call)) = line.split_once(' ') else {
                continue;
            };
            let name = call.trim_start().split('(').next();
            let Some(name) = calls.iter().find(|call| Some(**call) == name) else {
                continue;
            };
            let file = if *first.get_or_insert(thread) == thread {
                None
            } else {
                let Some((_, file)) = call.split_once(&folder) else {
                    continue;
                };
                let end = file.find(['"', '>']).unwrap_or(file.len());
                file.get(..end).map(str::to_owned)
            };
            *made.entry((*name, file)).or_default() += 1;
        }
        Ok(made)
    }

    /// Runs it and gives strace's words of all `calls`, with texts up to `text_max` bytes.
    pub(super) async fn trace(
        &self,
        script: Script<'_>,
        calls: &str,
        text_max: &str,
    ) -> Result<(Life, String)> {
        let seen = script.dir.join("strace");
        let mut command = Command::new("strace");
        command
            .args(["-f", "-qq", "-y", "-x", "-s", text_max, "--seccomp-bpf"])
            .arg("-o")
            .arg(&seen)
            .args(["-e", &format!("trace={calls}")])
            .arg(&self.path);
        let life = self.finish(command, script).await?;
        if life.end != End::Done {
            bail!("undisturbed it ends with {:?}", life.end);
        }
        let trace = std::fs::read_to_string(&seen)?;
        std::fs::remove_file(&seen)?;
        Ok((life, trace))
    }

    async fn finish(&self, mut command: Command, script: Script<'_>) -> Result<Life> {
        command
            .args(&self.first)
            .arg(script.dir)
            .arg(script.incarnation.to_string())
            .arg(script.first_id.to_string())
            .arg(script.groups.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env_remove("RUST_BACKTRACE")
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn();
        let child = child.with_context(|| format!("{command:?} does not start"))?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let mut output = pin!(child.wait_with_output());
        let (output, is_hung) = match tokio::time::timeout(LIFE_MAX, &mut output).await {
            Ok(output) => (output?, false),
            Err(_) => {
                // With what strace traces, which would go on and keep its output open.
                kill_process_group(
                    pid.and_then(Pid::from_raw).context("it has an id")?,
                    Signal::KILL,
                )?;
                (output.await?, true)
            }
        };
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let end = if is_hung {
            End::Hung
        } else if output.status.success() {
            End::Done
        } else if output.status.signal() == Some(9) {
            End::Killed
        } else if errors.contains("panicked at") {
            End::Panicked(errors)
        } else {
            End::Failed(errors.trim().to_owned())
        };
        read_words(end, &output.stdout)
    }
}

/// Reads what a process printed.
fn read_words(end: End, said: &[u8]) -> Result<Life> {
    let (mut found, mut acked, mut is_ready) = (Ids::new(), Ids::new(), false);
    for line in String::from_utf8_lossy(said).lines() {
        let mut words = line.split(' ');
        let into = match words.next() {
            Some("have") => &mut found,
            Some("ack") => &mut acked,
            Some("ready") => {
                is_ready = true;
                continue;
            }
            _ => continue,
        };
        while let (Some(key), Some(id)) = (words.next(), words.next()) {
            into.insert(key.to_owned(), id.parse()?);
        }
    }
    Ok(Life {
        end,
        found: is_ready.then_some(found),
        acked,
        was_harmed: false,
    })
}
