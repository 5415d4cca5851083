//! Sweeps: the script of a store, harmed at every system call of every kind in turn.
//!
//! After each harm the store is opened again, undisturbed: every record that was acknowledged
//! before is there, or a newer one of its key; what is there is whole, and the digests are those of
//! the contents (the script checks that); it can be written to, and opened once more. The life that
//! is harmed ends as it was told to, by a kill, or by a typed error of its own, or it goes on; it
//! never panics and never acknowledges what then is lost.
//!
//! The lives that are harmed: the first one of a store, one that finds what a kill left, and one
//! that finds it marked as damaged and sets it aside.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use quorate_node::shell::store::{FIRST_START, mark_damaged};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::files::copy_folder;
use super::life::{End, Fault, Harm, Ids, Life, Program, Script};
use super::script::STORE_FOLDER;

/// Groups of the script.
pub(super) const GROUPS: u64 = 26;

/// Ids of one life begin this far behind those of the one before.
const IDS_OF_A_LIFE: u64 = 1_000;

/// So many calls beyond those that were counted are tried, because no two runs are quite alike.
const BEYOND: u32 = 2;

/// Lives that may wait for space at once, where one works at a time.
const WAITING_LIVES: usize = 8;

/// System calls by which a store changes its disk; those that a run does not make cost nothing.
const CHANGES: [&str; 14] = [
    "fsync",
    "fdatasync",
    "write",
    "pwrite64",
    "writev",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "ftruncate",
    "fallocate",
    "openat",
    "mkdir",
];

/// Those by which it reads it.
const READS: [&str; 2] = ["read", "pread64"];

/// What is done to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Killed at every change.
    Kill,
    /// An input/output error at every change and every read.
    InputOutput,
    /// No space at every change that may need it, once.
    NoSpace,
    /// No space from then on.
    NoSpaceFromThen,
}

/// How much of a sweep is carried out.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// One point in so many.
    pub one_in: u32,
    /// Points at a time.
    pub jobs: usize,
}

/// What a sweep came to.
#[derive(Debug, Default)]
pub struct SweepFigures {
    /// Points at which the store was harmed and then checked.
    pub points: u64,
    /// How the harmed lives ended, and how many.
    pub ends: BTreeMap<&'static str, u64>,
    /// What was not as it must be.
    pub violations: Vec<String>,
}

/// Which life is harmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    First,
    AfterKill,
    Marked,
}

/// A stage with the folder that it begins with, and what was acknowledged there.
#[derive(Debug)]
struct Beginning {
    stage: Stage,
    folder: TempDir,
    acked: Ids,
}

/// Carries a sweep out.
///
/// # Errors
/// If it cannot be carried out; what is found is in the figures.
///
/// # Cancel safety
/// Its processes are killed.
pub async fn sweep(program: &Program, kind: Kind, extent: Extent) -> Result<SweepFigures> {
    ensure!(extent.one_in > 0 && extent.jobs > 0, "no extent");
    let mut figures = SweepFigures::default();
    // Most lives without space wait for some until they are ended: that costs time and no
    // processor.
    let at_once = match kind {
        Kind::NoSpace | Kind::NoSpaceFromThen => extent.jobs * WAITING_LIVES,
        Kind::Kill | Kind::InputOutput => extent.jobs,
    };
    for stage in [Stage::First, Stage::AfterKill, Stage::Marked] {
        let beginning = Arc::new(Beginning::make(program, stage).await?);
        let mut waiting = beginning.faults(program, kind, extent.one_in).await?;
        let mut running = JoinSet::new();
        loop {
            while running.len() < at_once
                && let Some(fault) = waiting.pop()
            {
                let (program, beginning) = (program.clone(), Arc::clone(&beginning));
                running.spawn(async move {
                    let ended = beginning.point(&program, &fault).await;
                    (format!("{beginning}, {fault}"), ended)
                });
            }
            let Some(ended) = running.join_next().await else {
                break;
            };
            let (point, ended) = ended?;
            figures.add(point, ended);
        }
    }
    Ok(figures)
}

impl Beginning {
    async fn make(program: &Program, stage: Stage) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join(FIRST_START), b"")?;
        let mut acked = Ids::new();
        if stage != Stage::First {
            // Killed where its last generation is under way.
            let fault = Fault {
                harm: Harm::Kill,
                call: "fdatasync",
                file: None,
                nth: 60,
            };
            let script = script(folder.path(), 1, GROUPS);
            let life = program.run_harmed(script, &fault).await?;
            ensure!(life.was_harmed, "it ended with {:?}", life.end);
            acked = life.acked;
        }
        if stage == Stage::Marked {
            mark_damaged(&folder.path().join(STORE_FOLDER), "a test says so", 1).await?;
        }
        Ok(Self {
            stage,
            folder,
            acked,
        })
    }

    /// The last call of each kind first.
    async fn faults(&self, program: &Program, kind: Kind, one_in: u32) -> Result<Vec<Fault>> {
        let harm = match kind {
            Kind::Kill => Harm::Kill,
            Kind::InputOutput => Harm::Error("EIO"),
            Kind::NoSpace => Harm::Error("ENOSPC"),
            Kind::NoSpaceFromThen => Harm::ErrorFromThen("ENOSPC"),
        };
        let changes = CHANGES.into_iter().filter(|call| match kind {
            Kind::Kill | Kind::InputOutput => true,
            Kind::NoSpace | Kind::NoSpaceFromThen => !call.starts_with("unlink"),
        });
        let reads = READS.into_iter().filter(|_| kind == Kind::InputOutput);
        let calls: Vec<&str> = changes.chain(reads).collect();
        let copy = self.copy()?;
        let made = program.calls_of(self.script(copy.path()), &calls).await?;
        let mut faults = Vec::new();
        for ((call, file), count) in made {
            let every = (1..=count + BEYOND).map(|nth| Fault {
                harm,
                call,
                file: file.clone(),
                nth,
            });
            faults.extend(every);
        }
        let count = u32::try_from(faults.len())?;
        let chosen = (0..count).zip(faults);
        let chosen = chosen.filter(|(number, _)| number.is_multiple_of(one_in));
        Ok(chosen.map(|(_, fault)| fault).collect())
    }

    /// Harms one call; `None` if there is none.
    async fn point(&self, program: &Program, fault: &Fault) -> Result<Option<End>> {
        let copy = self.copy()?;
        let harmed = program.run_harmed(self.script(copy.path()), fault).await?;
        if !harmed.was_harmed && harmed.end != End::Hung {
            return Ok(None);
        }
        let mut acked = self.acked.clone();
        acked.extend(harmed.acked);
        if self.stage == Stage::Marked {
            self.check_set_aside(program, copy.path()).await?;
        } else {
            let next = Script {
                groups: 7,
                ..script(copy.path(), 3, 7)
            };
            let more = holds(program.run(next).await?, &acked)?;
            acked.extend(more);
            holds(program.run(script(copy.path(), 4, 0)).await?, &acked)?;
        }
        Ok(Some(harmed.end))
    }

    /// The next start ends what the harmed one began; what was set aside holds everything.
    async fn check_set_aside(&self, program: &Program, dir: &Path) -> Result<()> {
        let next = program.run(script(dir, 3, 7)).await?;
        holds(next, &Ids::new())?;
        let aside = dir.join(STORE_FOLDER).join("damaged-1");
        let dir = dir.join("aside");
        std::fs::create_dir(&dir)?;
        std::fs::rename(aside, dir.join(STORE_FOLDER)).context("nothing was set aside")?;
        holds(program.run(script(&dir, 4, 0)).await?, &self.acked)?;
        Ok(())
    }

    fn script<'a>(&self, dir: &'a Path) -> Script<'a> {
        let (incarnation, groups) = match self.stage {
            Stage::First => (1, GROUPS),
            Stage::AfterKill => (2, 13),
            Stage::Marked => (2, 0),
        };
        script(dir, incarnation, groups)
    }

    fn copy(&self) -> Result<TempDir> {
        let copy = tempfile::tempdir()?;
        copy_folder(self.folder.path(), copy.path())?;
        Ok(copy)
    }
}

pub(super) const fn script(dir: &Path, incarnation: u64, groups: u64) -> Script<'_> {
    Script {
        dir,
        incarnation,
        first_id: incarnation * IDS_OF_A_LIFE,
        groups,
    }
}

/// An undisturbed life: it was carried out, and found all of `acked` or newer. Gives what it added.
pub(super) fn holds(life: Life, acked: &Ids) -> Result<Ids> {
    ensure!(life.end == End::Done, "afterwards: {:?}", life.end);
    let found = life.found.context("it did not look")?;
    for (key, id) in acked {
        let there = found.get(key).copied().unwrap_or(0);
        ensure!(there >= *id, "{key} holds {there}, acknowledged was {id}");
    }
    Ok(life.acked)
}

impl SweepFigures {
    pub(super) fn add(&mut self, point: String, ended: Result<Option<End>>) {
        let end = match ended {
            Ok(None) => return,
            Ok(Some(end)) => end,
            Err(found) => {
                self.points += 1;
                return self.violations.push(format!("{point}: {found:#}"));
            }
        };
        self.points += 1;
        *self.ends.entry(end.name()).or_default() += 1;
        if let End::Panicked(said) = end {
            self.violations.push(format!("{point}: {said}"));
        }
    }
}

impl End {
    const fn name(&self) -> &'static str {
        match self {
            Self::Done => "went on",
            Self::Killed => "killed",
            Self::Failed(_) => "ended with an error",
            Self::Panicked(_) => "panicked",
            Self::Hung => "waited",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            harm,
            call,
            file,
            nth,
        } = self;
        write!(f, "{harm:?} at {call} {nth}")?;
        match file {
            Some(file) => write!(f, " on {file}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Beginning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::First => "first life",
            Stage::AfterKill => "life after a kill",
            Stage::Marked => "life that sets aside",
        };
        f.write_str(stage)
    }
}
