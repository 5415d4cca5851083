//! The committer: drains all that waits, appends it, syncs once, then tells the shard.
//!
//! It decides nothing. One group is in flight at a time. A failed write or sync ends it: what is
//! durable is no longer known, nothing is acknowledged afterwards, and the node must stop.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_ring::planted::{Bug, planted};
use quorate_ring::{Incarnation, Lsn, NodeId};

use super::bytes::Seeds;
use super::config::StoreConfig;
use super::declared::{self, ForLoss};
use super::error::OpenError;
use super::frame::{Content, Frame, encode_entry, frames_of};
use super::group::{Group, Layout, Place, Said};
use super::identity::StoreId;
use super::losses;
use super::queue::{Queue, QueueRefused};
use super::segment::{SEGMENT_HEADER_BYTES, segment_name};
use super::segments::Segments;
use crate::core::effect::Entry;
use crate::core::healing::Healed;
use crate::core::input::{DeclaredLost, StoreEvent, StoreFailure, Volatile};
use crate::core::timeline::{Memory, Timeline};
use crate::shell::seam::{Disk, DiskError};

/// Hears what the store has done. Called on the store's threads; must not block.
pub type Events = Arc<dyn Fn(StoreEvent) + Send + Sync>;

/// Bytes that an entry, and a submission, is counted for beyond its content.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// What the shard's loop hands over after one round of steps.
///
/// Frames are encoded when they are pushed: there the record is at hand, and no reference to it has
/// to be given back by another thread.
#[derive(Debug, Default)]
pub struct Submission {
    /// What is newly remembered of other nodes; put into the next batch, causes no sync.
    pub memories: Vec<(NodeId, Memory)>,
    /// What the shard has back, once everything before this is durable.
    pub healed: Option<Healed>,
    /// That something is lost, and why: noted before the frames are.
    pub lost: Option<String>,
    /// Of so many copies that count something may be lost: noted before what has come back is.
    pub in_doubt: Option<u32>,
    /// Which nodes' disks are declared lost, one word after the other.
    pub declared: Vec<Declared>,
    /// Contents of frames, one behind the other.
    content: Vec<u8>,
    /// Numbers of the frames, where each ends, and what it is.
    ends: Vec<(Lsn, usize, Content)>,
}

/// What is to be noted about disks that are declared lost.
#[derive(Debug)]
pub struct Declared {
    /// The nodes, and no others.
    pub lost: DeclaredLost,
    /// Who is told by [`StoreEvent::LossNoted`].
    pub number: Option<u64>,
}

impl Submission {
    /// One without frames.
    #[must_use]
    pub fn of_memories(memories: Vec<(NodeId, Memory)>) -> Self {
        Self {
            memories,
            ..Self::default()
        }
    }

    /// Takes what there is and leaves one with room for as much: rounds under load are alike.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let next = Self {
            memories: Vec::new(),
            healed: None,
            lost: None,
            in_doubt: None,
            declared: Vec::new(),
            content: Vec::with_capacity(self.content.len()),
            ends: Vec::with_capacity(self.ends.len()),
        };
        std::mem::replace(self, next)
    }

    /// Adds a frame; its LSN follows on the one before, of this submission or the last.
    pub fn push(&mut self, lsn: Lsn, entry: &Entry) {
        let content = encode_entry(&mut self.content, entry);
        self.ends.push((lsn, self.content.len(), content));
    }

    /// Whether it asks for nothing but what waits for the next batch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
            && self.healed.is_none()
            && self.lost.is_none()
            && self.in_doubt.is_none()
            && self.declared.is_empty()
    }

    /// Its frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    fn bytes(&self) -> usize {
        ENTRY_OVERHEAD_BYTES * (1 + self.ends.len()) + self.content.len()
    }

    fn frames(&self) -> impl Iterator<Item = (Lsn, Content, &[u8])> {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|(_, end, _)| *end));
        let content = |(begin, (lsn, end, content)): (usize, &(Lsn, usize, Content))| {
            let bytes = self.content.get(begin..*end).unwrap_or_default();
            (*lsn, *content, bytes)
        };
        begins.zip(&self.ends).map(content)
    }
}

/// Way to the committer; bounded in bytes.
#[derive(Debug, Clone)]
pub struct CommitQueue {
    pub(super) queue: Arc<Queue<Submission>>,
    pub(super) log_room: Arc<AtomicU64>,
}

impl CommitQueue {
    /// Hands a submission over; never waits.
    ///
    /// # Errors
    /// The submission comes back with the reason if the queue is full or closed. The shard's loop
    /// takes no further input while [`CommitQueue::room_bytes`] is small, so that this is rare, and
    /// tries again later: frames already minted must not be dropped.
    pub fn push(&self, submission: Submission) -> Result<(), Box<(Submission, QueueRefused)>> {
        let bytes = submission.bytes();
        self.queue.push(submission, bytes).map_err(Box::new)
    }

    /// Bytes that may still be queued.
    #[must_use]
    pub fn room_bytes(&self) -> usize {
        self.queue.room()
    }

    /// Bytes of user frames that the log may still take before a checkpoint must free some. Writes
    /// over it wait, unacknowledged, in the committer.
    #[must_use]
    pub fn log_room_bytes(&self) -> u64 {
        self.log_room.load(Ordering::Relaxed)
    }
}

/// The writing end of the log.
pub(super) struct Committer {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) segments: Arc<Segments>,
    pub(super) queue: CommitQueue,
    pub(super) events: Events,
    pub(super) config: StoreConfig,
    pub(super) store: StoreId,
    pub(super) incarnation: Incarnation,
    pub(super) timeline: Timeline,
    pub(super) memories: BTreeMap<NodeId, Memory>,
    /// Where the next group goes.
    pub(super) place: Place,
    /// Last frame that is durable.
    pub(super) durable: Lsn,
    /// Last frame of which every part is in the log or in the group.
    pub(super) complete: Lsn,
    /// Nodes whose memory the log does not hold yet.
    pub(super) changed: BTreeSet<NodeId>,
    /// What this life began with, and the clean stop tells again.
    pub(super) volatile: Volatile,
    /// For which loss an operator's word is good.
    pub(super) for_loss: ForLoss,
    /// What found no room on the disk.
    pub(super) undeclared: Option<Declared>,
    /// Copies in doubt, for which there was no room yet.
    pub(super) unnoted_doubt: Option<u32>,
    pub(super) group: Group,
}

/// Who writes a frame: users leave the reserve alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    User,
    System,
}

impl Committer {
    /// Commits until the queue is closed and empty, then marks the clean stop.
    pub(super) async fn run(mut self) {
        if let Err(error) = self.serve().await {
            self.queue.queue.close();
            (self.events)(StoreEvent::Failed(StoreFailure::Log(error.to_string())));
        }
        self.segments.stop();
    }

    async fn serve(&mut self) -> Result<(), DiskError> {
        self.note_room();
        while let Some(submissions) = self.queue.queue.take().await {
            self.commit(submissions).await?;
        }
        let lsn = self.complete.next();
        self.push(&Frame::CleanStop(self.volatile), lsn, Writer::System)
            .await?;
        self.complete = lsn;
        self.flush().await
    }

    async fn commit(&mut self, mut submissions: VecDeque<Submission>) -> Result<(), DiskError> {
        // All memories first: a group's header takes those that are known when it begins.
        for &(node, memory) in submissions.iter().flat_map(|s| &s.memories) {
            self.memories.insert(node, memory);
            self.changed.insert(node);
        }
        for why in submissions.iter().filter_map(|s| s.lost.as_deref()) {
            self.note_loss(why).await?;
        }
        for (lsn, content, bytes) in submissions.iter().flat_map(Submission::frames) {
            assert!(lsn == self.complete.next(), "LSNs come without holes");
            for frame in frames_of(content, bytes, self.config.batch_bytes) {
                self.push(&frame, lsn, Writer::User).await?;
            }
            self.complete = lsn;
        }
        self.flush().await?;
        for submission in &mut submissions {
            for declared in std::mem::take(&mut submission.declared) {
                self.undeclared = Some(declared);
                self.note_declared().await?;
            }
        }
        if self.undeclared.is_some() {
            self.note_declared().await?;
        }
        let in_doubt = submissions.iter().rev().find_map(|s| s.in_doubt);
        self.unnoted_doubt = in_doubt.or(self.unnoted_doubt);
        if let Some(copies) = self.unnoted_doubt
            && self.note_doubt(copies).await?
        {
            self.unnoted_doubt = None;
        }
        // What was lost once all had come back is another loss, and its note stays.
        let last_loss = submissions.iter().rposition(|s| s.lost.is_some());
        let healed = submissions.iter().enumerate();
        for (at, healed) in healed.filter_map(|(at, s)| Some((at, s.healed?))) {
            if healed.memory {
                self.volatile = Volatile::Whole;
            }
            if healed.disk && self.unnoted_doubt.is_none() && last_loss.is_none_or(|loss| loss < at)
            {
                match losses::note_healed(&*self.disk, healed.but_only_copies).await {
                    // On a full disk it is asked again after the next start: the safe side.
                    Ok(()) | Err(DiskError::Full { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    async fn note_loss(&self, why: &str) -> Result<(), DiskError> {
        match losses::note_loss(&*self.disk, why, None).await {
            Ok(()) => Ok(()),
            Err(OpenError::Disk(error)) => Err(error),
            // Written by this life or read by it: anything else is a disk that fails.
            Err(error) => Err(DiskError::Io {
                name: losses::LOSSES.to_owned(),
                reason: error.to_string(),
            }),
        }
    }

    /// False if there is no room for it: it is tried again, and what it is about must not be told
    /// to be back before.
    async fn note_doubt(&self, copies: u32) -> Result<bool, DiskError> {
        match losses::note_doubt(&*self.disk, copies).await {
            Ok(()) => Ok(true),
            Err(DiskError::Full { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes which disks are declared lost. A word that finds no room is answered; a withdrawal is
    /// kept until there is some.
    async fn note_declared(&mut self) -> Result<(), DiskError> {
        let Some(Declared { lost, number }) = self.undeclared.take() else {
            return Ok(());
        };
        let is_durable = match declared::write(&*self.disk, self.for_loss, &lost).await {
            Ok(()) => true,
            Err(DiskError::Full { .. }) => false,
            Err(error) => return Err(error),
        };
        if let Some(number) = number {
            (self.events)(StoreEvent::LossNoted {
                number,
                lost,
                is_durable,
            });
        } else if !is_durable {
            self.undeclared = Some(Declared { lost, number });
        }
        Ok(())
    }

    async fn push(&mut self, frame: &Frame<'_>, lsn: Lsn, by: Writer) -> Result<(), DiskError> {
        if self.group.len() >= self.config.group_bytes {
            self.flush().await?;
        }
        loop {
            if self.group.is_empty() {
                self.begin_group();
            }
            let said = Said {
                incarnation: self.incarnation,
                durable: self.durable,
            };
            let layout = self.layout(by);
            if self.group.push(frame, lsn, said, layout) {
                return Ok(());
            }
            if self.group.is_empty() {
                // Of a record under way the segment may hold parts.
                let last = match frame {
                    Frame::RecordPart { part: 1.., .. } => lsn,
                    Frame::RecordPart { .. }
                    | Frame::Record(_)
                    | Frame::Numbers(_)
                    | Frame::Sums(_)
                    | Frame::Start { .. }
                    | Frame::CleanStop(_) => self.complete,
                };
                self.place = self.segments.switch(self.place.segment, last).await?;
            } else {
                self.flush().await?;
            }
        }
    }

    fn begin_group(&mut self) {
        let first = self.place.offset == SEGMENT_HEADER_BYTES;
        let told = |(&node, &memory): (&NodeId, &Memory)| {
            (first || self.changed.contains(&node)).then_some((node, memory))
        };
        let memories = self.memories.iter().filter_map(told).collect();
        let lives = if first {
            self.timeline.lives().to_vec()
        } else {
            Vec::new()
        };
        self.group.begin(memories, lives);
    }

    /// Writes and syncs the group, then tells the shard.
    async fn flush(&mut self) -> Result<(), DiskError> {
        if self.group.is_empty() {
            return Ok(());
        }
        let layout = self.layout(Writer::System);
        let name = segment_name(self.place.segment);
        let bytes = self.group.finish(layout);
        self.disk.write(&name, self.place.offset, bytes).await?;
        self.place.offset += bytes.len() as u64;
        if planted(Bug::AckBeforeSync) {
            (self.events)(StoreEvent::Durable(self.complete));
        }
        self.disk.sync(&name).await?;
        self.group.begin(Vec::new(), Vec::new());
        self.changed.clear();
        self.segments.anchor(self.place.segment);
        self.note_room();
        if self.complete > self.durable {
            self.durable = self.complete;
            (self.events)(StoreEvent::Durable(self.durable));
        }
        Ok(())
    }

    fn layout(&self, by: Writer) -> Layout {
        // Users may fill a segment only when another one is ready behind it.
        let keep = match by {
            Writer::User if !self.segments.has_next() && !planted(Bug::NoReserve) => {
                self.config.reserve_bytes
            }
            Writer::User | Writer::System => 0,
        };
        Layout {
            place: self.place,
            seeds: Seeds::new(self.store, self.place.segment),
            batch_bytes: self.config.batch_bytes,
            limit: self.place.end.saturating_sub(keep),
        }
    }

    fn note_room(&self) {
        let here = self.place.end.saturating_sub(self.place.offset);
        let room = (here + self.segments.room_bytes()).saturating_sub(self.config.reserve_bytes);
        self.queue.log_room.store(room, Ordering::Relaxed);
    }
}

impl fmt::Debug for Committer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committer")
            .field("place", &self.place)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}
