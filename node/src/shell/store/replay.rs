//! Reads a log: what it holds, where it ends, and whether what is missing was ever durable.
//!
//! Pure: segments come in as bytes, in the order of their numbers. The rules (DESIGN 5):
//! - frames are taken in the order of their LSNs, without a hole;
//! - after a start frame only batches and frames of its incarnation are taken (L2). A start frame
//!   names its predecessor;
//! - a bad or missing frame x is *damage* if and only if a later header, up to the end of the
//!   newest segment, says that x was durable (L3); headers of unknown incarnations say it too,
//!   because what is missing may be their start frame (L11). Else x is a torn tail;
//! - a record of which not all parts are there does not count; a start frame under its LSN ends it.
//!
//! Not here: writing again what is not proven durable (`start`).

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_antientropy::BucketDigests;
use quorate_ring::planted::{Bug, planted};
use quorate_ring::{Incarnation, Lsn, NodeId};

use super::batch::BatchHeader;
use super::bytes::{BLOCK, Seeds, align};
use super::error::OpenError;
use super::frame::{Frame, decode_correction, decode_numbers, decode_record};
use super::group::Place;
use super::identity::StoreId;
use super::segment::{SEGMENT_HEADER_BYTES, check_segment_header, segment_name};
use crate::core::effect::Entry;
use crate::core::input::Volatile;
use crate::core::key::RecordKey;
use crate::core::timeline::{Life, Memory, Timeline};

/// State of a log that is being read.
#[derive(Debug)]
pub(super) struct Replay {
    store: StoreId,
    applied: Lsn,
    /// First LSN of the log.
    pub(super) begins: Option<Lsn>,
    /// Last LSN taken.
    pub(super) ends: Lsn,
    pub(super) timeline: Timeline,
    pub(super) clean: bool,
    /// What that frame says; *lost* where the log does not end with one.
    pub(super) volatile: Volatile,
    pub(super) memories: BTreeMap<NodeId, Memory>,
    /// Newest record of each key beyond `applied`; of no bytes where it was purged.
    pub(super) records: BTreeMap<RecordKey, Bytes>,
    pub(super) digests: BucketDigests,
    /// Bytes of batches beyond `applied`.
    pub(super) log_bytes: u64,
    /// Last LSN in each segment that holds a part of one.
    pub(super) lasts: BTreeMap<u64, Lsn>,
    /// Batches that no header proves durable.
    pub(super) unproven: Vec<Unproven>,
    /// Where the next batch goes.
    pub(super) next: Option<Place>,
    parts: Option<Parts>,
    /// Where reading stopped for good: segment and offset.
    stopped: Option<(u64, u64)>,
}

/// A batch that was read but may only have been in the page cache.
#[derive(Debug)]
pub(super) struct Unproven {
    pub(super) segment: u64,
    pub(super) offset: u64,
    /// What must stand there: the header for the frames that were taken, and these.
    pub(super) bytes: Vec<u8>,
    /// The header on disk counts frames that are bad.
    pub(super) torn: bool,
    last: Lsn,
}

#[derive(Debug)]
struct Parts {
    seen: u32,
    parts: u32,
    bytes: Vec<u8>,
    /// The first parts are not in the log any more.
    headless: bool,
}

impl Replay {
    /// A log whose engine holds everything up to `applied`, with `digests` there.
    pub(super) fn new(store: StoreId, applied: Lsn, digests: BucketDigests) -> Self {
        Self {
            store,
            applied,
            begins: None,
            ends: Lsn::ZERO,
            timeline: Timeline::default(),
            clean: false,
            volatile: Volatile::Lost,
            memories: BTreeMap::new(),
            records: BTreeMap::new(),
            digests,
            log_bytes: 0,
            lasts: BTreeMap::new(),
            unproven: Vec::new(),
            next: None,
            parts: None,
            stopped: None,
        }
    }

    /// Reads the next segment.
    ///
    /// # Errors
    /// [`OpenError`] if its header is not its own, or if it proves that something is missing.
    pub(super) fn segment(&mut self, number: u64, bytes: &Bytes) -> Result<(), OpenError> {
        check_segment_header(bytes, self.store, number)?;
        let seeds = Seeds::new(self.store, number);
        let from = match self.stopped {
            Some(_) => SEGMENT_HEADER_BYTES,
            None => self.walk(number, bytes, seeds)?,
        };
        self.look_for_evidence(number, bytes, seeds, from)
    }

    /// Takes batches as long as they follow; returns where it stopped.
    fn walk(&mut self, number: u64, bytes: &Bytes, seeds: Seeds) -> Result<u64, OpenError> {
        let mut offset = SEGMENT_HEADER_BYTES;
        loop {
            let rest = tail(bytes, offset);
            let taken = match BatchHeader::read(rest, seeds, offset) {
                Some(header) if self.follows(&header, rest, seeds, offset) => {
                    self.batch(number, offset, header, rest, seeds)?
                }
                Some(_) | None => None,
            };
            let Some(Taken {
                bytes: taken,
                whole,
            }) = taken
            else {
                // The writer may have gone on in the next segment: whether that follows is asked
                // there, and if it does not, everything behind this point is evidence.
                if offset == SEGMENT_HEADER_BYTES {
                    self.stopped = Some((number, offset));
                }
                return Ok(offset);
            };
            offset = align(offset + taken);
            self.next = Some(Place {
                segment: number,
                offset,
                end: bytes.len() as u64,
            });
            if !whole {
                self.stopped = Some((number, offset));
                return Ok(offset);
            }
        }
    }

    /// Whether a batch with this header may come next.
    fn follows(&self, header: &BatchHeader, rest: &[u8], seeds: Seeds, offset: u64) -> bool {
        if self.begins.is_some() && header.first != self.ends.next() {
            return false;
        }
        let present = match self.begins {
            Some(_) => self.timeline.present(),
            None => header.lives.last().copied(),
        };
        let present = present.map(|life: Life| life.incarnation);
        if present == Some(header.incarnation) || planted(Bug::FramesOfAnyIncarnation) {
            return true;
        }
        // Another incarnation may follow only by its start frame, which names the one before.
        let at = header.bytes() as u64;
        let seed = seeds.frame(offset + at, header.incarnation);
        match Frame::read(tail(rest, at), seed) {
            Some((
                Frame::Start {
                    incarnation,
                    predecessor,
                },
                lsn,
                _,
            )) => {
                incarnation == header.incarnation && predecessor == present && lsn == header.first
            }
            Some(_) | None => false,
        }
    }

    /// Takes a batch's frames; `None` if not even the first one is good.
    fn batch(
        &mut self,
        number: u64,
        offset: u64,
        header: BatchHeader,
        rest: &[u8],
        seeds: Seeds,
    ) -> Result<Option<Taken>, OpenError> {
        let begins_log = self.begins.is_none();
        if begins_log {
            let lives = header.lives.clone();
            self.timeline = Timeline::from_lives(lives)
                .ok_or_else(|| OpenError::damaged("the log's timeline contradicts itself"))?;
            self.ends = Lsn(header.first.0.saturating_sub(1));
        }
        let (before, mut at, mut frames) = (self.ends, header.bytes() as u64, 0u32);
        while frames < header.frames {
            let Some((frame, lsn, length)) =
                self.read_frame(tail(rest, at), seeds, offset + at, header.incarnation)
            else {
                break;
            };
            if lsn != self.ends.next() || !self.take(frame, lsn)? {
                break;
            }
            at += length as u64;
            frames += 1;
        }
        if frames == 0 {
            if begins_log {
                (self.timeline, self.ends) = (Timeline::default(), Lsn::ZERO);
            }
            return Ok(None);
        }
        if begins_log {
            self.begins = Some(before.next());
        }
        let whole = frames == header.frames;
        self.account(number, offset, header, tail(rest, 0), (at, frames), seeds);
        Ok(Some(Taken { bytes: at, whole }))
    }

    fn read_frame<'a>(
        &self,
        bytes: &'a [u8],
        seeds: Seeds,
        offset: u64,
        incarnation: Incarnation,
    ) -> Option<(Frame<'a>, Lsn, usize)> {
        let found = Frame::read(bytes, seeds.frame(offset, incarnation));
        if found.is_none() && planted(Bug::FramesOfAnyIncarnation) {
            let mut lives = self.timeline.lives().iter();
            return lives
                .find_map(|life| Frame::read(bytes, seeds.frame(offset, life.incarnation)));
        }
        found
    }

    /// Applies a frame; false if it cannot follow what was taken.
    fn take(&mut self, frame: Frame<'_>, lsn: Lsn) -> Result<bool, OpenError> {
        self.clean = false;
        self.volatile = Volatile::Lost;
        match frame {
            Frame::Start {
                incarnation,
                predecessor,
            } => {
                self.parts = None;
                let present = self.timeline.present().map(|life| life.incarnation);
                let kept = planted(Bug::IncarnationKept) && present == Some(incarnation);
                let life = Life {
                    incarnation,
                    first: lsn,
                };
                if !kept && (predecessor != present || !self.timeline.push(life)) {
                    return Ok(false);
                }
            }
            Frame::Record(bytes) => {
                self.parts = None;
                self.record(bytes, lsn)?;
            }
            Frame::RecordPart { part, parts, bytes } => {
                // Truncation may have taken the first parts of the log's first record.
                let headless = self.begins.is_none() && self.parts.is_none();
                let mut seen = match self.parts.take() {
                    Some(seen) if part > 0 => seen,
                    Some(_) | None => Parts {
                        seen: if headless { part } else { 0 },
                        parts,
                        bytes: Vec::new(),
                        headless: headless && part > 0,
                    },
                };
                if (seen.seen, seen.parts) != (part, parts) {
                    return Ok(false);
                }
                seen.seen += 1;
                seen.bytes.extend_from_slice(bytes);
                if seen.seen < parts {
                    self.parts = Some(seen);
                    return Ok(true);
                }
                if seen.headless && lsn > self.applied {
                    return Err(OpenError::damaged(format!(
                        "the log begins inside frame {lsn}"
                    )));
                }
                self.record(&seen.bytes, lsn)?;
            }
            Frame::Numbers(bytes) => {
                self.parts = None;
                let Some((keyspace, vnode, numbers)) = decode_numbers(bytes) else {
                    return Err(OpenError::damaged(format!("frame {lsn} holds no numbers")));
                };
                // What the engine's checkpoint tells already they do not lower.
                self.digests.raise(keyspace, vnode, numbers);
            }
            Frame::Sums(bytes) => {
                self.parts = None;
                let Some((keyspace, vnode, correction)) = decode_correction(bytes) else {
                    let what = format!("frame {lsn} holds no correction of sums");
                    return Err(OpenError::damaged(what));
                };
                // The engine's checkpoint has it already, or has it not.
                if lsn > self.applied {
                    self.digests.correct(keyspace, vnode, &correction);
                }
            }
            Frame::CleanStop(volatile) => {
                self.clean = true;
                self.volatile = volatile;
            }
        }
        self.ends = lsn;
        Ok(true)
    }

    fn record(&mut self, bytes: &[u8], lsn: Lsn) -> Result<(), OpenError> {
        if lsn <= self.applied {
            return Ok(());
        }
        let Some(Entry::Record {
            key,
            bucket,
            change,
            record,
        }) = decode_record(bytes)
        else {
            // The checksum was right: a bug or another format wrote it, not a torn sector.
            return Err(OpenError::damaged(format!("frame {lsn} holds no record")));
        };
        self.digests
            .add(key.keyspace(), key.vnode(), bucket, change);
        self.records.insert(key, record);
        Ok(())
    }

    /// Notes what a taken batch proves and what remains to be proven.
    fn account(
        &mut self,
        number: u64,
        offset: u64,
        mut header: BatchHeader,
        rest: &[u8],
        (bytes, frames): (u64, u32),
        seeds: Seeds,
    ) {
        self.memories.extend(header.memories.iter().copied());
        if self.ends > self.applied {
            self.log_bytes += align(bytes);
        }
        let proven = header.durable;
        self.unproven.retain(|batch| batch.last > proven);
        let mut written = rest.get(..to_usize(bytes)).unwrap_or(rest).to_vec();
        let torn = frames < header.frames;
        if torn {
            header.frames = frames;
            header.body_bytes = u32::try_from(written.len() - header.bytes()).unwrap_or(0);
            header.write(&mut written, seeds, offset);
        }
        // A batch that ends inside a record counts until that record could be proven.
        let last = if self.parts.is_some() {
            self.ends.next()
        } else {
            self.ends
        };
        self.lasts.insert(number, last);
        self.unproven.push(Unproven {
            segment: number,
            offset,
            bytes: written,
            torn,
            last,
        });
    }

    /// Refuses the log if a header at or behind `from` says that more was durable than was read.
    fn look_for_evidence(
        &self,
        number: u64,
        bytes: &[u8],
        seeds: Seeds,
        from: u64,
    ) -> Result<(), OpenError> {
        let mut offset = from;
        while offset < bytes.len() as u64 {
            if let Some(header) = BatchHeader::read(tail(bytes, offset), seeds, offset)
                && header.durable > self.ends
            {
                return Err(OpenError::damaged(format!(
                    "frame {} of the log is missing or unreadable, but {} at byte {offset} says \
                     that everything up to {} was durable",
                    self.ends.next(),
                    segment_name(number),
                    header.durable,
                )));
            }
            offset += BLOCK;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
struct Taken {
    bytes: u64,
    whole: bool,
}

fn to_usize(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn tail(bytes: &[u8], offset: u64) -> &[u8] {
    bytes.get(to_usize(offset)..).unwrap_or(&[])
}
