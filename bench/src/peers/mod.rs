//! Other systems, run by this tool beside Quorate with the same keys and values in flight.
//!
//! Each is the distribution's own package with the settings that promise most: acknowledged is on
//! disk. What is not the same stays visible in [`System::promises`]: copies, encryption, order.
//!
//! Not here: Quorate itself (`measure`), how the figures are compared (`report`).

mod etcd;
mod process;
mod redis;
pub mod report;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tempfile::TempDir;
use tokio::task::JoinSet;

use self::process::Process;
use crate::clock::Clock;
use crate::keys::{KeyDraw, key_of};
use crate::progress::Progress;
use crate::recorder::{End, Kind, Recorder};
use crate::usage;
use crate::values::Values;
use crate::workload::WorkloadSpec;

/// Time for a system to answer after its start.
const READY_TIME_MAX: Duration = Duration::from_secs(30);

/// Time between two attempts to reach it.
const POLL: Duration = Duration::from_millis(100);

/// Which system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// Three members of etcd.
    Etcd,
    /// One Redis.
    Redis,
}

impl Name {
    /// As it is typed and reported.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Redis => "redis",
        }
    }

    /// The package of Debian that has it.
    #[must_use]
    pub const fn package(self) -> &'static str {
        match self {
            Self::Etcd => "etcd-server",
            Self::Redis => "redis-server",
        }
    }
}

/// A running system. It ends when this is dropped.
#[derive(Debug)]
pub struct System {
    /// Which.
    pub name: Name,
    /// What an acknowledged write promised in this run.
    pub promises: &'static str,
    writer: Writer,
    processes: Vec<Process>,
    /// Its data.
    _folder: TempDir,
}

/// How it is written to; clones share connections.
#[derive(Debug, Clone)]
enum Writer {
    Etcd(etcd::Writer),
    Redis(redis::Writer),
}

impl Writer {
    async fn put(&mut self, key: Bytes, value: Bytes) -> Result<()> {
        match self {
            Self::Etcd(writer) => writer.put(key, value).await,
            Self::Redis(writer) => writer.put(&key, &value).await,
        }
    }
}

/// What a phase of writes took.
#[derive(Debug)]
pub struct PeerRun {
    /// Latencies.
    pub recorder: Recorder,
    /// From the first write sent to the last one answered.
    pub elapsed: Duration,
    /// CPU time of its processes.
    pub system_cpu: Duration,
    /// CPU time of this tool.
    pub client_cpu: Duration,
}

impl System {
    /// Starts it with its data in a new folder inside `parent`; `None` if it is not installed.
    ///
    /// # Errors
    /// If it does not answer within half a minute.
    ///
    /// # Cancel safety
    /// What was started ends.
    pub async fn start(name: Name, parent: &Path, clock: Clock) -> Result<Option<Self>> {
        let folder = tempfile::Builder::new()
            .prefix("quorate-compare-")
            .tempdir_in(parent)?;
        let until = clock.now() + READY_TIME_MAX;
        let started = match name {
            Name::Etcd => etcd::start(folder.path(), clock, until).await?,
            Name::Redis => redis::start(folder.path(), clock, until).await?,
        };
        Ok(started.map(|(processes, writer)| Self {
            name,
            promises: match name {
                Name::Etcd => etcd::PROMISES,
                Name::Redis => redis::PROMISES,
            },
            writer,
            processes,
            _folder: folder,
        }))
    }

    fn cpu(&self) -> Result<Duration> {
        let each = self.processes.iter().map(Process::cpu);
        each.sum()
    }

    /// Writes every key once.
    ///
    /// # Errors
    /// If a write fails: then nothing can be compared.
    ///
    /// # Cancel safety
    /// Writes under way may be carried out.
    pub async fn fill(&self, spec: &WorkloadSpec, clock: Clock, in_flight: u32) -> Result<()> {
        let label = format!("fill of {}", self.name.text());
        let draw = Draw::new(spec, Next::InOrder(0), u64::from(spec.keys));
        self.write(draw, clock, in_flight, label).await?;
        Ok(())
    }

    /// Writes keys as `spec` draws them.
    ///
    /// # Errors
    /// If a write fails: then nothing can be compared.
    ///
    /// # Cancel safety
    /// Writes under way may be carried out.
    pub async fn run(
        &self,
        spec: &WorkloadSpec,
        clock: Clock,
        in_flight: u32,
        operations: u64,
    ) -> Result<PeerRun> {
        let label = format!("run of {}", self.name.text());
        let keys = KeyDraw::new(spec.distribution, spec.keys);
        let draw = Draw::new(spec, Next::Drawn(keys), operations);
        let (system, client) = (self.cpu()?, usage::own_cpu()?);
        let (recorder, elapsed) = self.write(draw, clock, in_flight, label).await?;
        Ok(PeerRun {
            recorder,
            elapsed,
            system_cpu: self.cpu()?.saturating_sub(system),
            client_cpu: usage::own_cpu()?.saturating_sub(client),
        })
    }

    async fn write(
        &self,
        draw: Draw,
        clock: Clock,
        in_flight: u32,
        label: String,
    ) -> Result<(Recorder, Duration)> {
        let begin = clock.now();
        let progress = Progress::new(begin, label, draw.left);
        let shared = Arc::new(Mutex::new(Shared {
            draw,
            recorder: Recorder::default(),
            progress,
        }));
        let mut tasks = JoinSet::new();
        for _ in 0..in_flight.max(1) {
            tasks.spawn(work(self.writer.clone(), Arc::clone(&shared), clock));
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        let elapsed = clock.now() - begin;
        let mut shared = lock(&shared);
        shared.progress.finish();
        Ok((std::mem::take(&mut shared.recorder), elapsed))
    }
}

/// What is written next.
#[derive(Debug)]
struct Draw {
    next: Next,
    left: u64,
    values: Values,
    random: SmallRng,
}

#[derive(Debug)]
enum Next {
    InOrder(u32),
    Drawn(KeyDraw),
}

impl Draw {
    fn new(spec: &WorkloadSpec, next: Next, operations: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(spec.seed);
        Self {
            next,
            left: operations,
            values: Values::new(spec.value_bytes, &mut random),
            random,
        }
    }

    fn next(&mut self) -> Option<(Bytes, Bytes)> {
        self.left = self.left.checked_sub(1)?;
        let index = match &mut self.next {
            Next::InOrder(next) => {
                let index = *next;
                *next += 1;
                index
            }
            Next::Drawn(keys) => keys.draw(&mut self.random),
        };
        Some((key_of(index), self.values.make(index, &mut self.random)))
    }
}

#[derive(Debug)]
struct Shared {
    draw: Draw,
    recorder: Recorder,
    progress: Progress,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn work(mut writer: Writer, shared: Arc<Mutex<Shared>>, clock: Clock) -> Result<()> {
    let mut began = clock.now();
    loop {
        let Some((key, value)) = lock(&shared).draw.next() else {
            return Ok(());
        };
        writer.put(key, value).await?;
        let ended = clock.now();
        let mut shared = lock(&shared);
        shared
            .recorder
            .add(Kind::Write, End::Done, ended.saturating_sub(began));
        let done = shared.recorder.done();
        shared.progress.update(ended, done);
        began = ended;
    }
}
