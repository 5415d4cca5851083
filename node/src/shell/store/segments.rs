//! Which segments the log has: prepares the next one, recycles those that a checkpoint covers.
//!
//! A segment goes only when a checkpoint covers it and a later segment holds a durable batch: the
//! first batch of a segment carries the timeline, and one must always be readable.
//!
//! A segment is ready only when its zeros, its header, its name and the directory are synced (L4).
//! Numbers only rise, so that no number is used twice. Old segments go oldest first, each with a
//! sync of the directory: a crash never leaves a hole. A full disk is waited out; frames that are
//! no user's have the reserve of the segment in use meanwhile (L8). What was half done then is gone
//! on with where it ended: a segment that has its name and is forgotten would be a hole after the
//! next start.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_ring::Lsn;
use tokio::sync::Notify;

use super::config::StoreConfig;
use super::group::Place;
use super::identity::StoreId;
use super::segment::{SEGMENT_HEADER_BYTES, encode_segment_header, free_name, segment_name};
use crate::shell::seam::{Clock, Disk, DiskError};

/// Of all segments, one in so many is kept free for recycling; more are removed. Every checkpoint
/// frees the segments of a generation at once, and each that is made anew is filled with zeros
/// first.
const FREE_SHARE: usize = 3;

/// The segments of one log, shared by the committer, the feed and the preparer.
#[derive(Debug)]
pub(super) struct Segments {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    store: StoreId,
    config: StoreConfig,
    state: Mutex<State>,
    /// Wakes the preparer.
    work: Notify,
    /// Wakes the committer.
    ready: Notify,
}

/// What recovery found.
#[derive(Debug)]
pub(super) struct Found {
    /// Full segments with their last LSN, oldest first.
    pub(super) full: VecDeque<(u64, Lsn)>,
    /// Names of files that may be recycled.
    pub(super) free: Vec<String>,
    /// Highest number in use; 0 if there is none.
    pub(super) highest: u64,
    /// The engine's checkpoint.
    pub(super) applied: Lsn,
}

#[derive(Debug, Default)]
struct State {
    /// Full segments with their last LSN, oldest first.
    full: VecDeque<(u64, Lsn)>,
    /// Names of files that may be recycled.
    free: Vec<String>,
    /// Highest number ever used.
    highest: u64,
    next: Option<Place>,
    /// A segment whose making did not come to its end.
    begun: Option<Begun>,
    /// The oldest full segment has its new name, which is not durable yet.
    is_renamed: bool,
    /// Newest segment that holds a durable batch; those before it are not needed to read it.
    anchor: u64,
    applied: Lsn,
    failed: Option<DiskError>,
    stopped: bool,
    halted: bool,
}

/// A segment that is being made.
#[derive(Debug, Clone)]
struct Begun {
    number: u64,
    bytes: u64,
    /// The file that is to become it.
    recycled: Option<String>,
}

impl Segments {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        store: StoreId,
        config: StoreConfig,
        found: Found,
    ) -> Self {
        let Found {
            full,
            free,
            highest,
            applied,
        } = found;
        Self {
            disk,
            clock,
            store,
            config,
            state: Mutex::new(State {
                full,
                free,
                highest,
                applied,
                ..State::default()
            }),
            work: Notify::new(),
            ready: Notify::new(),
        }
    }

    /// Makes a segment that the first frame may be written to.
    pub(super) async fn prepare(&self) -> Result<Place, DiskError> {
        let Begun {
            number,
            bytes,
            recycled,
        } = self.begin();
        let name = segment_name(number);
        let files = self.disk.list().await?;
        let is_there = |name: &str| files.iter().any(|(file, _)| file == name);
        let has_length = |name: &str| files.contains(&(name.to_owned(), bytes));
        // It gets its name last.
        if !is_there(&name) {
            let raw = match recycled {
                Some(raw) if has_length(&raw) => raw,
                other => {
                    if let Some(raw) = other.filter(|raw| is_there(raw)) {
                        self.disk.remove(&raw).await?;
                    }
                    let raw = free_name(number);
                    self.create(&raw, bytes).await?;
                    raw
                }
            };
            let header = encode_segment_header(self.store, number);
            self.disk.write(&raw, 0, &header).await?;
            self.disk.sync(&raw).await?;
            self.disk.rename(&raw, &name).await?;
        }
        self.disk.sync_dir().await?;
        self.lock().begun = None;
        Ok(Place {
            segment: number,
            offset: SEGMENT_HEADER_BYTES,
            end: bytes,
        })
    }

    /// The segment that is to be made: the one whose making did not end, or the next.
    fn begin(&self) -> Begun {
        let mut state = self.lock();
        if let Some(begun) = &state.begun {
            return begun.clone();
        }
        let first = state.highest == 0;
        state.highest += 1;
        let bytes = if first {
            self.config.first_segment_bytes
        } else {
            self.config.segment_bytes
        };
        let begun = Begun {
            number: state.highest,
            bytes,
            recycled: state.free.pop(),
        };
        state.begun = Some(begun.clone());
        begun
    }

    async fn create(&self, name: &str, bytes: u64) -> Result<(), DiskError> {
        let created = self.disk.create_zeroed(name, bytes).await;
        if created.is_err() {
            // Half a segment on a full disk only makes it fuller.
            match self.disk.remove(name).await {
                Ok(()) | Err(_) => {}
            }
        }
        created
    }

    /// Keeps the next segment ready and recycles old ones until stopped.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            match self.work_once().await {
                Ok(true) => {}
                Ok(false) => {
                    if self.lock().stopped {
                        return;
                    }
                    self.work.notified().await;
                }
                Err(DiskError::Full { .. }) => {
                    if self.lock().stopped {
                        return;
                    }
                    let again = self.clock.now() + self.config.poll * 10;
                    self.clock.sleep_until(again).await;
                }
                Err(error) => {
                    self.lock().failed = Some(error);
                    self.ready.notify_one();
                    return;
                }
            }
        }
    }

    /// Does one thing; false if there is nothing to do.
    async fn work_once(&self) -> Result<bool, DiskError> {
        enum Work {
            Retire(u64),
            Drop(String),
            Prepare,
            Nothing,
        }
        let work = {
            let mut state = self.lock();
            match state.full.front() {
                _ if state.stopped => Work::Nothing,
                Some(&(number, last)) if last <= state.applied && number < state.anchor => {
                    Work::Retire(number)
                }
                _ if state.free.len() > self.config.segments_max / FREE_SHARE => {
                    state.free.pop().map_or(Work::Nothing, Work::Drop)
                }
                _ if state.next.is_none() && state.full.len() + 1 < self.config.segments_max => {
                    Work::Prepare
                }
                _ => Work::Nothing,
            }
        };
        match work {
            Work::Retire(number) => {
                let free = free_name(number);
                if !self.lock().is_renamed {
                    self.disk.rename(&segment_name(number), &free).await?;
                    self.lock().is_renamed = true;
                }
                self.disk.sync_dir().await?;
                let mut state = self.lock();
                state.is_renamed = false;
                state.full.pop_front();
                state.free.push(free);
            }
            Work::Drop(name) => self.disk.remove(&name).await?,
            Work::Prepare => {
                let place = self.prepare().await?;
                self.lock().next = Some(place);
                self.ready.notify_one();
            }
            Work::Nothing => return Ok(false),
        }
        Ok(true)
    }

    /// The engine holds everything up to `applied`: segments below are free.
    pub(super) fn truncate(&self, applied: Lsn) {
        let mut state = self.lock();
        state.applied = state.applied.max(applied);
        drop(state);
        self.work.notify_one();
    }

    /// Segment `number` holds a durable batch.
    pub(super) fn anchor(&self, number: u64) {
        let mut state = self.lock();
        if number > state.anchor {
            state.anchor = number;
            drop(state);
            self.work.notify_one();
        }
    }

    /// Whether the next segment is ready.
    pub(super) fn has_next(&self) -> bool {
        self.lock().next.is_some()
    }

    /// Bytes of segments that may still be added.
    pub(super) fn room_bytes(&self) -> u64 {
        let used = self.lock().full.len() + 1;
        (self.config.segments_max.saturating_sub(used)) as u64 * self.config.segment_bytes
    }

    /// Counts `segment`, whose last LSN is `last`, as full.
    pub(super) fn fill(&self, segment: u64, last: Lsn) {
        self.lock().full.push_back((segment, last));
    }

    /// Leaves segment `full`, whose last LSN is `last`, for the next one; waits until it is ready.
    ///
    /// # Cancel safety
    /// Nothing is taken unless it is returned.
    pub(super) async fn switch(&self, full: u64, last: Lsn) -> Result<Place, DiskError> {
        loop {
            {
                let mut state = self.lock();
                if let Some(place) = state.next.take() {
                    state.full.push_back((full, last));
                    drop(state);
                    self.work.notify_one();
                    return Ok(place);
                }
                if let Some(error) = &state.failed {
                    return Err(error.clone());
                }
                if state.halted {
                    let name = "the log".to_owned();
                    return Err(DiskError::Full { name });
                }
            }
            self.work.notify_one();
            self.ready.notified().await;
        }
    }

    /// Why the preparer has ended by itself, if it has.
    pub(super) fn failure(&self) -> Option<DiskError> {
        self.lock().failed.clone()
    }

    /// The store stops: a committer that waits for a segment waits no longer.
    pub(super) fn halt(&self) {
        self.lock().halted = true;
        self.ready.notify_one();
    }

    /// Ends the preparer.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.work.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
