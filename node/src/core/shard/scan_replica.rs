//! A replica's part of a page of a scan: the table's newest durable records, then the engine's.
//!
//! The table is looked at first and the engine read afterwards, away from this loop: what leaves
//! the table meanwhile is visible in the engine by then. Nothing is kept between two pages, and a
//! node has [`SCAN_READS_MAX`] of them in memory at most, each bounded in records and bytes.

use bytes::Bytes;
use quorate_ring::{Copies, Epoch, KeyspaceId, MonoTime, NodeId};

use super::super::effect::{Effect, Effects, Event};
use super::super::failure::Cause;
use super::super::input::{Damaged, Now};
use super::super::message::{
    OpNumber, PeerMessage, PurgeNumber, Refusal, ScanAsk, ScanPart, ScanReply,
};
use super::super::scan_page::{PageRange, ScanRead, ScanRow};
use super::super::vnode_set::VnodeSet;
use super::Shard;
use super::exchange_replica::Gathering;
use super::scan::{PAGE_BYTES_MAX, SCAN_RECORDS_MAX};

/// Pages that may be read from the store at once; the scanner's queue takes twice as many.
pub const SCAN_READS_MAX: usize = 64;

/// A page on its way from the store.
#[derive(Debug)]
pub(super) struct ScanReading {
    to: Reader,
    op: OpNumber,
    ask: u32,
    keyspace: KeyspaceId,
    vnodes: VnodeSet,
    copies: Copies,
    deadline: MonoTime,
}

/// Who wants a page.
#[derive(Debug, Clone)]
pub(super) enum Reader {
    /// A scan that this node coordinates.
    Own,
    /// A coordinator elsewhere.
    Peer(NodeId),
    /// An exchange of this node or of another one, about some buckets.
    Exchange(Box<Gathering>),
    /// This node, for deleted keys that it does not remember.
    Purge,
    /// This node, for what it holds in place of owners.
    Guests,
}

impl Shard {
    /// A coordinator asks for this node's part.
    pub(super) fn peer_scan(
        &mut self,
        now: Now,
        from: NodeId,
        epoch: Epoch,
        ask: ScanAsk,
        effects: &mut Effects,
    ) {
        let (op, number) = (ask.op, ask.ask);
        let read = if epoch == self.topology.epoch() {
            self.read_page(now, Reader::Peer(from), ask, effects)
        } else {
            Err(Cause::EpochMismatch)
        };
        if let Err(cause) = read {
            Self::tell_scan(from, op, number, Err(cause), effects);
        }
    }

    /// Has a page read, if this node owns what is asked for and has room.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn read_page(
        &mut self,
        now: Now,
        to: Reader,
        ask: ScanAsk,
        effects: &mut Effects,
    ) -> Result<(), Cause> {
        let ScanAsk {
            op,
            ask,
            range,
            whole,
            budget,
        } = ask;
        let keyspace = self.topology.keyspace(range.keyspace);
        let keyspace = keyspace.ok_or(Cause::KeyspaceUnknown)?;
        let (copies, durability) = (keyspace.copies, keyspace.options.durability);
        let keyspace = keyspace.id;
        let vnodes = range.vnodes.clone();
        let vnode_count = self.topology.vnode_count().get();
        let is_any = matches!(to, Reader::Guests);
        let owned = |vnode: quorate_ring::VnodeId| {
            let is_owner = is_any || self.topology.is_owner(vnode, copies, self.me);
            u32::from(vnode.0) < vnode_count && is_owner
        };
        if !vnodes.iter().all(owned) {
            return Err(Cause::EpochMismatch);
        }
        if self.scan_reads.len() >= SCAN_READS_MAX {
            effects.push(Effect::Count(Event::Shed));
            return Err(Cause::Overloaded);
        }
        let range = PageRange {
            rows_max: range.rows_max.clamp(1, SCAN_RECORDS_MAX),
            bytes_max: range.bytes_max.clamp(1, PAGE_BYTES_MAX),
            ..range
        };
        let number = self.next_number().0;
        let newer = self.table.page(&range, durability);
        let digest = self.digest;
        effects.push(Effect::Scan(ScanRead {
            number,
            range,
            whole,
            newer,
            digest,
        }));
        let reading = ScanReading {
            to,
            op,
            ask,
            keyspace,
            vnodes,
            copies,
            deadline: now.mono + budget,
        };
        self.scan_reads.insert(number, reading);
        Ok(())
    }

    /// The store has read a page.
    pub(super) fn scanned(
        &mut self,
        now: Now,
        number: u64,
        page: Result<(Vec<ScanRow>, Option<Bytes>), Damaged>,
        effects: &mut Effects,
    ) {
        let Some(reading) = self.scan_reads.remove(&number) else {
            return;
        };
        let (rows, until) = match page {
            Ok(page) => page,
            Err(damaged) => {
                effects.push(Effect::Stop(damaged.stops()));
                return;
            }
        };
        if let Reader::Purge = &reading.to {
            return self.purge_page(now, (rows, until));
        }
        if let Reader::Guests = &reading.to {
            return self.guests_page(now, (rows, until));
        }
        if let Reader::Exchange(gathering) = reading.to {
            if now.mono >= reading.deadline {
                effects.push(Effect::Count(Event::Expired));
                return;
            }
            return self.exchange_page(now, *gathering, (rows, until), effects);
        }
        let copies = reading.copies;
        let uncounted = reading.vnodes.iter();
        let counts = |vnode| self.counts_for(reading.keyspace, copies, vnode);
        let uncounted = uncounted.filter(|vnode| !counts(*vnode));
        let part = ScanPart {
            rows,
            until,
            uncounted: uncounted.collect(),
        };
        match reading.to {
            Reader::Own => self.scan_answered(now, self.me, reading.op, reading.ask, part, effects),
            Reader::Peer(_) if now.mono >= reading.deadline => {
                effects.push(Effect::Count(Event::Expired));
            }
            Reader::Peer(to) => Self::tell_scan(to, reading.op, reading.ask, Ok(part), effects),
            Reader::Exchange(_) | Reader::Purge | Reader::Guests => {}
        }
    }

    fn tell_scan(
        to: NodeId,
        op: OpNumber,
        ask: u32,
        result: Result<ScanPart, Cause>,
        effects: &mut Effects,
    ) {
        let floor = PurgeNumber::default();
        let result = result.map_err(|cause| Refusal { cause, floor });
        let message = PeerMessage::ScanReply(ScanReply { op, ask, result });
        effects.push(Effect::Send { to, message });
    }
}
