//! Builds what one sync covers: batches, one behind the other, for one segment.
//!
//! Each batch begins on 4 KiB, so that no sync ever writes into a sector that holds acknowledged
//! bytes (counterexample L3), and is at most `batch_bytes` of frames long.

use quorate_ring::{Incarnation, Lsn, NodeId};

use super::batch::BatchHeader;
use super::bytes::{Seeds, align};
use super::frame::Frame;
use crate::core::timeline::{Life, Memory};

/// Where the next batch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
    /// End of the segment.
    pub(super) end: u64,
}

/// What every batch of a group says in its header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    pub(super) incarnation: Incarnation,
    pub(super) durable: Lsn,
}

/// Batches under construction. Its buffer is reused from group to group.
#[derive(Debug, Default)]
pub(super) struct Group {
    buffer: Vec<u8>,
    open: Option<Open>,
    /// For the header of the first batch.
    memories: Vec<(NodeId, Memory)>,
    lives: Vec<Life>,
}

#[derive(Debug)]
struct Open {
    /// Where in the buffer the batch begins.
    begin: usize,
    header: BatchHeader,
}

impl Group {
    /// Gives the first batch memories and, where it is the first of its segment, the timeline.
    pub(super) fn begin(&mut self, memories: Vec<(NodeId, Memory)>, lives: Vec<Life>) {
        self.buffer.clear();
        self.open = None;
        self.memories = memories;
        self.lives = lives;
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing was added.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Adds a frame; false, and nothing changes, if it does not fit before `limit` of the segment.
    pub(super) fn push(&mut self, frame: &Frame<'_>, lsn: Lsn, said: Said, layout: Layout) -> bool {
        let fits_open = self.open.as_ref().is_some_and(|open| {
            open.header.body_bytes as usize + frame.bytes() <= layout.batch_bytes
                && layout.place.offset + (self.buffer.len() + frame.bytes()) as u64 <= layout.limit
        });
        if !fits_open && !self.open_batch(frame, lsn, said, layout) {
            return false;
        }
        let Some(open) = &mut self.open else {
            return false;
        };
        let offset = layout.place.offset + self.buffer.len() as u64;
        frame.write(
            &mut self.buffer,
            lsn,
            layout.seeds.frame(offset, said.incarnation),
        );
        let length = u32::try_from(frame.bytes()).expect("frames are bounded by a batch");
        open.header.body_bytes += length;
        open.header.frames += 1;
        true
    }

    fn open_batch(&mut self, frame: &Frame<'_>, lsn: Lsn, said: Said, layout: Layout) -> bool {
        let begin = align(self.buffer.len() as u64);
        let header_bytes = BatchHeader::bytes_for(self.memories.len(), self.lives.len());
        let end = layout.place.offset + begin + (header_bytes + frame.bytes()) as u64;
        if end > layout.limit {
            return false;
        }
        self.close_batch(layout);
        let begin = self.buffer.len();
        self.open = Some(Open {
            begin,
            header: BatchHeader {
                incarnation: said.incarnation,
                first: lsn,
                durable: said.durable,
                frames: 0,
                body_bytes: 0,
                memories: std::mem::take(&mut self.memories),
                lives: std::mem::take(&mut self.lives),
            },
        });
        self.buffer.resize(begin + header_bytes, 0);
        true
    }

    fn close_batch(&mut self, layout: Layout) {
        if let Some(Open { begin, header }) = self.open.take() {
            let offset = layout.place.offset + begin as u64;
            header.write(&mut self.buffer[begin..], layout.seeds, offset);
        }
        let padded = usize::try_from(align(self.buffer.len() as u64)).expect("groups are bounded");
        self.buffer.resize(padded, 0);
    }

    /// Ends the group: the bytes to write at the place, a whole number of blocks.
    pub(super) fn finish(&mut self, layout: Layout) -> &[u8] {
        self.close_batch(layout);
        &self.buffer
    }
}

/// Where a group goes, and how far it may go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) place: Place,
    pub(super) seeds: Seeds,
    pub(super) batch_bytes: usize,
    /// No byte at or past this offset.
    pub(super) limit: u64,
}
