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
use quorate_client::Code;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tempfile::TempDir;

use self::process::Process;
use crate::clock::Clock;
use crate::closed_loop::{LoopLimits, Operations, PhaseEnd, drive};
use crate::keys::{KeyDraw, key_of};
use crate::recorder::{End, Kind, Recorder};
use crate::usage;
use crate::values::Values;
use crate::workload::WorkloadSpec;

/// Time for a system to answer after its start.
const READY_TIME_MAX: Duration = Duration::from_secs(30);

/// Longest time of a phase of writes.
const WRITE_TIME_MAX: Duration = Duration::from_secs(3_600);

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
        let end = self.write(draw, clock, in_flight, label).await?;
        Ok(PeerRun {
            recorder: end.recorder,
            elapsed: end.elapsed,
            system_cpu: self.cpu()?.saturating_sub(system),
            client_cpu: usage::own_cpu()?.saturating_sub(client),
        })
    }

    /// Carries `draw` out to its end.
    async fn write(
        &self,
        draw: Draw,
        clock: Clock,
        in_flight: u32,
        label: String,
    ) -> Result<PhaseEnd> {
        let limits = LoopLimits {
            label,
            operations: Some(draw.operations),
            in_flight,
            time_max: WRITE_TIME_MAX,
        };
        let puts = Arc::new(Puts {
            writer: self.writer.clone(),
            draw: Mutex::new(draw),
            failed: Mutex::new(None),
        });
        let end = drive(Arc::clone(&puts), clock, limits).await?;
        match lock(&puts.failed).take() {
            Some(error) => Err(error),
            None => Ok(end),
        }
    }
}

/// Writes, until one fails: then nothing can be compared.
#[derive(Debug)]
struct Puts {
    writer: Writer,
    draw: Mutex<Draw>,
    failed: Mutex<Option<anyhow::Error>>,
}

impl Operations for Puts {
    type Operation = (Bytes, Bytes);

    fn next(&self) -> Option<Self::Operation> {
        let may_go_on = lock(&self.failed).is_none();
        may_go_on.then(|| lock(&self.draw).next())
    }

    async fn carry_out(&self, (key, value): Self::Operation) -> (Kind, End) {
        let end = match self.writer.clone().put(key, value).await {
            Ok(()) => End::Done,
            Err(error) => {
                lock(&self.failed).get_or_insert(error);
                End::Unknown(Code::ConnectionLost)
            }
        };
        (Kind::Write, end)
    }
}

/// What is written next.
#[derive(Debug)]
struct Draw {
    next: Next,
    operations: u64,
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
            operations,
            values: Values::new(spec.value_bytes, &mut random),
            random,
        }
    }

    fn next(&mut self) -> (Bytes, Bytes) {
        let index = match &mut self.next {
            Next::InOrder(next) => {
                let index = *next;
                *next += 1;
                index
            }
            Next::Drawn(keys) => keys.draw(&mut self.random),
        };
        (key_of(index), self.values.make(index, &mut self.random))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
