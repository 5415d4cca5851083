//! `quorate import`: writes every record of a file of JSON lines, many at once.
//!
//! Each record supersedes what its key holds; records of one key go one after the other, so the
//! last of them is what stays. A line that cannot be read is reported with its number, and the
//! import goes on.

mod apply;
mod queue;
mod record;
mod resume;
mod tally;

use std::path::Path;
use std::time::Duration;

use quorate_client::{Client, Code};
use tokio::task::JoinSet;

use super::args::{Global, ImportArgs};
use super::data::write_level;
use super::events::{Event, Events};
use super::exit::{Exit, Problem};
use super::lines::{self, Line, Start};
use super::output::note;
use super::session::connect;
use super::signals::{StopSignals, unless_stopped};
use apply::{How, apply};
use queue::KeyQueue;
use record::ImportRecord;
use resume::ProgressFile;
use tally::Tally;

/// How often progress is shown and saved.
const TICK: Duration = Duration::from_millis(500);

/// Imports the file.
///
/// # Errors
/// A [`Problem`] if no node can be reached at the start, or the file cannot be read.
pub(super) async fn run(args: ImportArgs, global: Global) -> Result<Exit, Problem> {
    let choice = args.data.consistency.unwrap_or_default();
    let how = How {
        keyspace: args.data.keyspace.clone(),
        read: choice.before_write(),
        write: write_level(&args.data)?,
        deadline: args.data.deadline,
        patience: args.patience,
    };
    let is_stdin = args.file == Path::new("-");
    if is_stdin && args.resume {
        return Err(Problem::usage("--resume needs a file, not standard input"));
    }
    if !is_stdin && args.file.is_dir() {
        let what = format!("{} is a directory", args.file.display());
        let problem = Problem::new(Exit::Usage, "FILE_UNREADABLE", what);
        return Err(problem.then("name a file of JSON lines, or - for standard input"));
    }
    let mut signals = StopSignals::listen()?;
    let client = unless_stopped(&mut signals, connect(&global)).await;
    let interrupted = || Problem::new(Exit::Failed, "INTERRUPTED", "interrupted");
    let client = client.ok_or_else(interrupted)??;
    refuse_impossible(&client, &how)?;
    let unreadable = |e: std::io::Error| {
        let what = format!("cannot read {}: {e}", args.file.display());
        Problem::new(Exit::Usage, "FILE_UNREADABLE", what)
    };
    let mut progress_file = None;
    let mut start = Start::default();
    if !is_stdin {
        let cluster_id = client.topology().cluster_id().to_string();
        let file = ProgressFile::beside(&args.file, cluster_id, how.keyspace.clone());
        let file = file.map_err(unreadable)?;
        if args.resume {
            start = file.start()?;
        }
        progress_file = Some(file);
    }
    let (lines, bytes) = if is_stdin {
        (lines::of_stdin()?, None)
    } else {
        let (lines, bytes) = lines::of_file(&args.file, start).map_err(unreadable)?;
        (lines, Some(bytes))
    };
    let import = Import {
        client,
        how,
        in_flight_max: usize::from(args.in_flight),
        queue: KeyQueue::default(),
        events: Events {
            operations: JoinSet::new(),
            lines: Some(lines),
            signals,
            tick: Some(tokio::time::interval(TICK)),
        },
        tally: Tally::new(start, bytes, global.output),
        progress_file,
    };
    import.run(&args.file).await
}

/// Fails once at the start where every record would fail the same way.
fn refuse_impossible(client: &Client, how: &How) -> Result<(), Problem> {
    let topology = client.topology();
    let Some(keyspace) = topology.ring().keyspace_named(&how.keyspace) else {
        let what = format!("there is no keyspace `{}`", how.keyspace);
        let problem = Problem::new(Exit::Failed, Code::KeyspaceUnknown.name(), what);
        return Err(problem.then("`quorate status` lists the keyspaces; nothing was written"));
    };
    let copies = keyspace.copies;
    let fits = how
        .read
        .is_none_or(|level| level.replicas_for_read(copies).is_ok())
        && how
            .write
            .is_none_or(|level| level.replicas_for_write(copies).is_ok());
    if fits {
        return Ok(());
    }
    let what = format!(
        "the level needs more than the {} replicas of keyspace `{}`",
        copies.get(),
        how.keyspace
    );
    let problem = Problem::new(Exit::Failed, Code::LevelImpossible.name(), what);
    Err(problem.then("choose a level that the keyspace can meet; nothing was written"))
}

struct Import {
    client: Client,
    how: How,
    in_flight_max: usize,
    queue: KeyQueue,
    events: Events<apply::Applied>,
    tally: Tally,
    progress_file: Option<ProgressFile>,
}

impl Import {
    async fn run(mut self, file: &Path) -> Result<Exit, Problem> {
        let mut unreadable = None;
        let mut is_stopped = false;
        while !is_stopped && (self.events.lines.is_some() || !self.events.operations.is_empty()) {
            let is_full = self.events.operations.len() >= self.in_flight_max;
            match self.events.next(!is_full && !self.queue.is_full()).await? {
                Event::Done(applied) => self.ended(applied),
                Event::Line(line) => self.line(&line),
                Event::LinesEnded(error) => unreadable = error,
                Event::Stop => is_stopped = true,
                Event::Tick => {
                    self.tally.show();
                    self.save();
                }
            }
        }
        if is_stopped {
            let left = self.events.operations.len();
            self.tally.interrupted(left);
        }
        self.finish(file, unreadable, is_stopped)
    }

    fn line(&mut self, line: &Line) {
        match ImportRecord::read(line) {
            Ok(Some(record)) => {
                if let Some(record) = self.queue.enter(record) {
                    self.send(record);
                }
            }
            Ok(None) => self.tally.blank(line),
            Err(why) => self.tally.invalid(line, &why),
        }
    }

    fn send(&mut self, record: ImportRecord) {
        let operation = apply(self.client.clone(), self.how.clone(), record);
        self.events.operations.spawn(operation);
    }

    fn ended(&mut self, applied: apply::Applied) {
        let next = self.queue.leave(&applied.record.key);
        self.tally.ended(&applied);
        if let Some(next) = next {
            self.send(next);
        }
    }

    fn save(&mut self) {
        let at = self.tally.applied_without_gap();
        if let Some(file) = &mut self.progress_file
            && let Err(error) = file.save(at)
        {
            note(&format!("--resume will not be possible: {error}"));
            self.progress_file = None;
        }
    }

    fn finish(
        mut self,
        file: &Path,
        unreadable: Option<std::io::Error>,
        is_stopped: bool,
    ) -> Result<Exit, Problem> {
        let exit = self.tally.exit();
        let is_over = exit == Exit::Ok && unreadable.is_none() && !is_stopped;
        if is_over {
            if let Some(file) = &self.progress_file {
                file.remove();
            }
        } else {
            self.save();
        }
        self.tally.tell()?;
        if let Some(error) = unreadable {
            return Err(error.into());
        }
        if !is_over && self.progress_file.is_some() {
            note(&format!(
                "go on with: quorate import {} --resume",
                file.display()
            ));
        }
        Ok(if is_stopped && exit == Exit::Ok {
            Exit::Failed
        } else {
            exit
        })
    }
}
