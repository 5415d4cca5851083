//! The closed loop: a fixed number of operations under way; whenever one ends, the next is drawn.
//!
//! A closed loop asks less while the cluster is slow, so its latencies tell what one of so many
//! patient clients sees, not what a service with a given rate of requests would.
//!
//! The loop itself ([`drive`]) knows nothing of what is asked. The load tool's operations are here
//! too, and every one is checked: a read must find one value, of the right length and of its key.
//!
//! Not here: warm-up and rest around a run (`measure`), the operations of YCSB (`ycsb`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use quorate_client::{Context, Keyspace, Outcome, Read, Versions};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::keys::key_of;
use crate::progress::{PhaseLimit, Progress};
use crate::recorder::{End, Kind, Recorder};
use crate::tokens::Claim;
use crate::workload::{Operation, Workload, WorkloadSpec};

/// One phase of load.
#[derive(Debug, Clone)]
pub struct Phase {
    /// What the progress line calls it.
    pub label: String,
    /// Operations to send.
    pub operations: u64,
    /// Operations under way, at least 1.
    pub in_flight: u32,
    /// Of 100 operations, how many are reads.
    pub reads_percent: u8,
    /// After this no further operation is sent.
    pub time_max: Duration,
}

/// What came of a phase.
#[derive(Debug)]
pub struct PhaseEnd {
    /// Counts and latencies.
    pub recorder: Recorder,
    /// From the first operation sent to the last one ended.
    pub elapsed: Duration,
}

/// What a loop asks: draws operations and carries them out.
pub trait Operations: Send + Sync + 'static {
    /// One operation.
    type Operation: Send;

    /// The next one; `None` ends the loop.
    fn next(&self) -> Option<Self::Operation>;

    /// Carries one out, and judges its answer.
    fn carry_out(&self, operation: Self::Operation) -> impl Future<Output = (Kind, End)> + Send;
}

/// How far and how wide a loop goes.
#[derive(Debug, Clone)]
pub struct LoopLimits {
    /// What the progress line calls it.
    pub label: String,
    /// Operations to send; no bound unless set.
    pub operations: Option<u64>,
    /// Operations under way, at least 1.
    pub in_flight: u32,
    /// After this no further operation is sent.
    pub time_max: Duration,
}

/// Sends operations until a limit is met, to the end of the last one.
///
/// # Errors
/// If a worker fails, which is a bug of the tool.
///
/// # Cancel safety
/// Operations under way are dropped: the outcomes of writes are unknown.
pub async fn drive<O: Operations>(
    operations: Arc<O>,
    clock: Clock,
    limits: LoopLimits,
) -> Result<PhaseEnd> {
    let begin = clock.now();
    let limit = match limits.operations {
        Some(count) => PhaseLimit::Steps(count),
        None => PhaseLimit::Time(limits.time_max),
    };
    let shared = Arc::new(Loop {
        operations,
        until: begin + limits.time_max,
        clock,
        tally: Mutex::new(Tally {
            left: limits.operations.unwrap_or(u64::MAX),
            ended: 0,
            recorder: Recorder::default(),
            progress: Progress::until(begin, limits.label, limit),
        }),
    });
    let mut tasks = JoinSet::new();
    for _ in 0..limits.in_flight.max(1) {
        tasks.spawn(worker(Arc::clone(&shared)));
    }
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    let elapsed = clock.now() - begin;
    let mut tally = shared.tally();
    tally.progress.finish();
    Ok(PhaseEnd {
        recorder: std::mem::take(&mut tally.recorder),
        elapsed,
    })
}

/// Carries out `phase` to the end of its last operation.
///
/// # Errors
/// If a worker fails, which is a bug of the tool.
///
/// # Cancel safety
/// Writes under way are left with unknown outcomes and their keys claimed.
pub async fn run(workload: &Arc<Mutex<Workload>>, clock: Clock, phase: &Phase) -> Result<PhaseEnd> {
    let load = {
        let guard = workload.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::new(Load {
            spec: guard.spec().clone(),
            keyspaces: guard.keyspaces().to_vec(),
            next_client: AtomicUsize::new(0),
            reads_percent: phase.reads_percent,
            workload: Arc::clone(workload),
        })
    };
    let limits = LoopLimits {
        label: phase.label.clone(),
        operations: Some(phase.operations),
        in_flight: phase.in_flight,
        time_max: phase.time_max,
    };
    drive(load, clock, limits).await
}

#[derive(Debug)]
struct Loop<O> {
    operations: Arc<O>,
    until: Duration,
    clock: Clock,
    tally: Mutex<Tally>,
}

#[derive(Debug)]
struct Tally {
    left: u64,
    ended: u64,
    recorder: Recorder,
    progress: Progress,
}

async fn worker<O: Operations>(shared: Arc<Loop<O>>) {
    let mut now = shared.clock.now();
    while let Some(operation) = shared.next(now) {
        let (kind, end) = shared.operations.carry_out(operation).await;
        let ended = shared.clock.now();
        shared.record(kind, end, now, ended);
        now = ended;
    }
}

impl<O: Operations> Loop<O> {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, now: Duration) -> Option<O::Operation> {
        if now >= self.until {
            return None;
        }
        let mut tally = self.tally();
        tally.left = tally.left.checked_sub(1)?;
        drop(tally);
        self.operations.next()
    }

    fn record(&self, kind: Kind, end: End, began: Duration, ended: Duration) {
        let mut tally = self.tally();
        tally.recorder.add(kind, end, ended.saturating_sub(began));
        tally.ended += 1;
        let count = tally.ended;
        tally.progress.update(ended, count);
    }
}

/// The load tool's reads and writes.
#[derive(Debug)]
struct Load {
    spec: WorkloadSpec,
    /// The keyspace, once for each client that takes turns.
    keyspaces: Vec<Keyspace>,
    next_client: AtomicUsize,
    reads_percent: u8,
    workload: Arc<Mutex<Workload>>,
}

impl Operations for Load {
    type Operation = Operation;

    fn next(&self) -> Option<Operation> {
        self.workload().next(self.reads_percent)
    }

    async fn carry_out(&self, operation: Operation) -> (Kind, End) {
        match operation {
            Operation::Read { index } => (Kind::Read, self.read(index).await),
            Operation::Write {
                index,
                claim,
                value,
            } => (Kind::Write, self.write(index, claim, value).await),
        }
    }
}

impl Load {
    fn workload(&self) -> MutexGuard<'_, Workload> {
        self.workload.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keyspace through the client whose turn it is.
    fn keyspace(&self) -> &Keyspace {
        let turn = self.next_client.fetch_add(1, Ordering::Relaxed);
        &self.keyspaces[turn % self.keyspaces.len()]
    }

    async fn read(&self, index: u32) -> End {
        let get = self.keyspace().get(key_of(index));
        match get
            .level(self.spec.level)
            .deadline(self.spec.deadline)
            .await
        {
            Ok(read) => self.judge(index, &read),
            Err(error) => End::failed(Outcome::NotApplied, error.code()),
        }
    }

    fn judge(&self, index: u32, read: &Read) -> End {
        let workload = self.workload();
        let fits = |value: &Bytes| workload.values.fits(index, value);
        match read.versions() {
            Versions::Absent => End::Missing,
            Versions::One(value) if fits(value) => End::Done,
            // A write of unknown outcome may surface later, beside the one that followed it.
            Versions::Siblings(values) if values.iter().all(fits) => {
                if workload.unknown_writes() > 0 {
                    End::Done
                } else {
                    End::Siblings
                }
            }
            Versions::One(_) | Versions::Siblings(_) => End::Wrong,
        }
    }

    async fn write(&self, index: u32, claim: Claim, value: Bytes) -> End {
        let seen = match claim {
            Claim::After(context) => context,
            Claim::ReadFirst => match self.seen(index).await {
                Ok(context) => context,
                Err(end) => {
                    self.workload().tokens.forget(index);
                    return end;
                }
            },
        };
        let write = self.keyspace().put(key_of(index), value).after(&seen);
        let written = write
            .level(self.spec.level)
            .deadline(self.spec.deadline)
            .await;
        let mut workload = self.workload();
        match written {
            Ok(written) => {
                match written.context() {
                    Some(context) => workload.tokens.written(index, context),
                    None => workload.tokens.forget(index),
                }
                End::Done
            }
            Err(error) => {
                match error.outcome() {
                    Outcome::NotApplied => workload.tokens.written(index, &seen),
                    Outcome::Applied | Outcome::Unknown => {
                        workload.tokens.forget(index);
                        workload.note_unknown_write();
                    }
                }
                End::failed(error.outcome(), error.code())
            }
        }
    }

    async fn seen(&self, index: u32) -> Result<Context, End> {
        let get = self.keyspace().get(key_of(index));
        let read = get
            .level(self.spec.level)
            .deadline(self.spec.deadline)
            .await;
        read.map(|read| read.context().clone())
            .map_err(|error| End::failed(Outcome::NotApplied, error.code()))
    }
}
