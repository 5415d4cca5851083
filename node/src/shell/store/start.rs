//! Recovery of a log: reads it, writes again what is not proven durable, begins a new incarnation.
//!
//! What was read may only have been in the page cache, and after a failed sync a later one succeeds
//! without the lost pages: only writing again makes it durable (L1). Nothing is served before the
//! start frame is synced.

use std::sync::Arc;

use quorate_antientropy::BucketDigests;
use quorate_ring::planted::{Bug, planted};
use quorate_ring::{Incarnation, Lsn};

use super::bytes::Seeds;
use super::config::StoreConfig;
use super::error::OpenError;
use super::frame::Frame;
use super::group::{Group, Layout, Place, Said};
use super::identity::{Claimed, StoreId};
use super::replay::Replay;
use super::segment::{
    SEGMENT_HEADER_BYTES, encode_segment_header, free_name, free_number, segment_name,
    segment_number,
};
use super::segments::{Found, Segments};
use crate::core::input::{Losses, Volatile};
use crate::core::timeline::Life;
use crate::shell::seam::{Clock, Disk};

/// What recovery works with.
pub(super) struct Start {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: StoreConfig,
    pub(super) claimed: Claimed,
    pub(super) losses: Losses,
    /// The engine's checkpoint.
    pub(super) applied: Lsn,
    pub(super) digests: BucketDigests,
    /// Drawn for this start.
    pub(super) incarnation: Incarnation,
}

/// A log that may be written.
pub(super) struct Started {
    pub(super) replay: Replay,
    pub(super) incarnation: Incarnation,
    /// LSN of the start frame, durable.
    pub(super) durable: Lsn,
    /// The incarnation before ended with a clean stop.
    pub(super) clean: bool,
    pub(super) volatile: Volatile,
    pub(super) place: Place,
    pub(super) segments: Arc<Segments>,
}

impl Start {
    pub(super) async fn run(self) -> Result<Started, OpenError> {
        let (numbers, free) = self.files().await?;
        let mut replay = Replay::new(self.claimed.store, self.applied, self.digests.clone());
        for &(number, bytes) in &numbers {
            let length = usize::try_from(bytes)
                .map_err(|_| OpenError::damaged(format!("{}: too long", segment_name(number))))?;
            let name = segment_name(number);
            let segment = self.disk.read(&name, 0, length).await;
            let segment = segment.map_err(OpenError::unreadable)?;
            replay.segment(number, &segment)?;
        }
        self.check(&replay)?;
        let incarnation = self.choose_incarnation(&replay)?;
        let highest = numbers.iter().map(|&(number, _)| number);
        let highest = highest
            .chain(free.iter().filter_map(|name| free_number(name)))
            .max();
        let free = self.abandon_unused(&numbers, &replay, free).await?;
        self.write_again(&mut replay).await?;
        let mut full = replay.lasts.clone();
        if let Some(place) = replay.next {
            full.remove(&place.segment);
        }
        let found = Found {
            full: full.into_iter().collect(),
            free,
            highest: highest.unwrap_or(0),
            applied: self.applied,
        };
        let segments = Segments::new(
            self.disk.clone(),
            self.clock.clone(),
            self.claimed.store,
            self.config.clone(),
            found,
        );
        let clean = replay.clean;
        // Who never lived has acknowledged nothing.
        let volatile = if replay.begins.is_none() {
            Volatile::Whole
        } else {
            replay.volatile
        };
        let (place, durable) = self.begin(&mut replay, &segments, incarnation).await?;
        Ok(Started {
            replay,
            incarnation,
            durable,
            clean,
            volatile,
            place,
            segments: Arc::new(segments),
        })
    }

    /// Segments in the order of their numbers with their lengths, and files free for recycling.
    async fn files(&self) -> Result<(Vec<(u64, u64)>, Vec<String>), OpenError> {
        let files = self.disk.list().await?;
        let numbers = files
            .iter()
            .filter_map(|(name, bytes)| Some((segment_number(name)?, *bytes)));
        let free = files.iter().filter(|(name, _)| free_number(name).is_some());
        // Hexadecimal of one width: the order of the names is that of the numbers.
        Ok((
            numbers.collect(),
            free.map(|(name, _)| name.clone()).collect(),
        ))
    }

    /// Compares the log's ends with what the engine holds.
    fn check(&self, replay: &Replay) -> Result<(), OpenError> {
        let Some(begins) = replay.begins else {
            if self.applied > Lsn::ZERO {
                return Err(OpenError::Forgot {
                    end: Lsn::ZERO,
                    applied: self.applied,
                });
            }
            if !self.claimed.first && self.losses.why.is_none() {
                return Err(OpenError::damaged("the log is empty or gone"));
            }
            return Ok(());
        };
        if begins > self.applied.next() {
            return Err(OpenError::damaged(format!(
                "the log begins at LSN {begins} but the engine holds only what is up to {}",
                self.applied
            )));
        }
        if replay.ends < self.applied {
            return Err(OpenError::Forgot {
                end: replay.ends,
                applied: self.applied,
            });
        }
        Ok(())
    }

    fn choose_incarnation(&self, replay: &Replay) -> Result<Incarnation, OpenError> {
        if planted(Bug::IncarnationKept)
            && replay.clean
            && let Some(life) = replay.timeline.present()
        {
            return Ok(life.incarnation);
        }
        if replay.timeline.knows(self.incarnation) || self.losses.lives.contains(&self.incarnation)
        {
            return Err(OpenError::IncarnationReused(self.incarnation));
        }
        Ok(self.incarnation)
    }

    /// Takes segments behind the end of the log out of its way before anything new is written: a
    /// frame of theirs must never follow a new one (L2).
    async fn abandon_unused(
        &self,
        numbers: &[(u64, u64)],
        replay: &Replay,
        mut free: Vec<String>,
    ) -> Result<Vec<String>, OpenError> {
        let end = replay.next.map_or(0, |place| place.segment);
        for &(number, _) in numbers.iter().rev().filter(|&&(number, _)| number > end) {
            let name = free_name(number);
            self.disk.rename(&segment_name(number), &name).await?;
            free.push(name);
        }
        self.disk.sync_dir().await?;
        Ok(free)
    }

    async fn write_again(&self, replay: &mut Replay) -> Result<(), OpenError> {
        let skip = planted(Bug::NoRewriteAtStart);
        let mut last = None;
        for batch in replay
            .unproven
            .drain(..)
            .filter(|batch| batch.torn || !skip)
        {
            let name = segment_name(batch.segment);
            if last != Some(batch.segment) {
                let header = encode_segment_header(self.claimed.store, batch.segment);
                self.disk.write(&name, 0, &header).await?;
                last = Some(batch.segment);
            }
            self.disk.write(&name, batch.offset, &batch.bytes).await?;
        }
        for &number in replay.lasts.keys() {
            self.disk.sync(&segment_name(number)).await?;
        }
        Ok(self.disk.sync_dir().await?)
    }

    /// Writes and syncs the start frame.
    async fn begin(
        &self,
        replay: &mut Replay,
        segments: &Segments,
        incarnation: Incarnation,
    ) -> Result<(Place, Lsn), OpenError> {
        let predecessor = replay.timeline.present().map(|life| life.incarnation);
        let frame = Frame::Start {
            incarnation,
            predecessor,
        };
        let (lsn, store) = (replay.ends.next(), self.claimed.store);
        let said = Said {
            incarnation,
            durable: replay.ends,
        };
        let mut place = match replay.next {
            Some(place) => place,
            None => segments.prepare().await?,
        };
        let mut group = Group::default();
        let layout = loop {
            let (memories, lives) = if place.offset == SEGMENT_HEADER_BYTES {
                let memories = replay
                    .memories
                    .iter()
                    .map(|(&node, &memory)| (node, memory));
                (memories.collect(), replay.timeline.lives().to_vec())
            } else {
                (Vec::new(), Vec::new())
            };
            group.begin(memories, lives);
            let layout = layout(store, place, &self.config);
            if group.push(&frame, lsn, said, layout) {
                break layout;
            }
            if place.offset == SEGMENT_HEADER_BYTES {
                return Err(OpenError::damaged("the timeline outgrew a segment"));
            }
            segments.fill(place.segment, replay.ends);
            place = segments.prepare().await?;
        };
        let bytes = group.finish(layout);
        let name = segment_name(place.segment);
        self.disk.write(&name, place.offset, bytes).await?;
        self.disk.sync(&name).await?;
        place.offset += bytes.len() as u64;
        segments.anchor(place.segment);
        let kept = predecessor == Some(incarnation) && planted(Bug::IncarnationKept);
        let life = Life {
            incarnation,
            first: lsn,
        };
        if !kept && !replay.timeline.push(life) {
            return Err(OpenError::IncarnationReused(incarnation));
        }
        Ok((place, lsn))
    }
}

fn layout(store: StoreId, place: Place, config: &StoreConfig) -> Layout {
    Layout {
        place,
        seeds: Seeds::new(store, place.segment),
        batch_bytes: config.batch_bytes,
        limit: place.end,
    }
}
