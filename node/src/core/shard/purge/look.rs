//! Which keys of the copies whose rounds this node leads have been deleted, and which have crowded
//! records: noted as they are written, and looked for by reading a copy where they are not
//! remembered.

use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::KeyState;

use super::super::super::budget::{Kind, ROW_COST};
use super::super::super::clock_check::ClockTrust;
use super::super::super::effect::Effects;
use super::super::super::input::Now;
use super::super::super::message::ScanAsk;
use super::super::super::purge::STEP_WITHIN;
use super::super::super::scan_page::{PageRange, RowContent, ScanRow};
use super::super::super::vnode_set::VnodeSet;
use super::super::scan::{PAGE_BYTES_MAX, SCAN_RECORDS_MAX};
use super::super::scan_replica::Reader;
use super::super::{Place, Shard};

/// After a start a node's vnodes are looked through for deleted keys this much later.
pub(in super::super) const FIRST_LOOK_AFTER: Duration = Duration::from_secs(5);

impl Shard {
    /// A key that commits to `gone_at` may be purged some time.
    pub(in super::super) fn note_gone(&mut self, place: &Place, gone_at: u64) {
        let (copy, now) = ((place.keyspace, place.location.vnode), self.last_step);
        if !self.leads(copy) {
            return;
        }
        if gone_at == 0 {
            self.purges
                .note_deleted(copy, place.key.user_key(), now.mono);
        } else {
            let ahead = Duration::from_micros(gone_at.saturating_sub(now.wall_micros));
            self.purges.note_expiry(copy, now.mono + ahead, now.mono);
        }
    }

    /// Reads the next page of a copy that may have such keys that are not remembered.
    pub(super) fn look_on(&mut self, now: Now, effects: &mut Effects) {
        let from = match (self.purges.reading(), self.purge_look_from.take()) {
            // A page is on its way.
            (Some(_), None) => return,
            (Some(copy), Some(from)) => (copy, from),
            (None, _) => match self.purges.begin_look(now.mono) {
                Some(copy) => (copy, Bytes::new()),
                None => return,
            },
        };
        let ((keyspace, vnode), from) = from;
        let vnodes: VnodeSet = std::iter::once(vnode).collect();
        let op = self.next_number();
        let range = PageRange {
            keyspace,
            vnodes: vnodes.clone(),
            from,
            end: None,
            rows_max: SCAN_RECORDS_MAX,
            bytes_max: PAGE_BYTES_MAX,
        };
        let ask = ScanAsk {
            op,
            ask: 0,
            range,
            whole: vnodes,
            budget: STEP_WITHIN,
        };
        if self.read_page(now, Reader::Purge, ask, effects).is_err() {
            self.purges.end_look(false, now.mono);
        }
    }

    /// A page of the copy that is being looked through.
    pub(in super::super) fn purge_page(
        &mut self,
        now: Now,
        (rows, until): (Vec<ScanRow>, Option<Bytes>),
    ) {
        let Some(copy) = self.purges.reading() else {
            return;
        };
        let mode = self.topology.keyspace(copy.0).map(|keyspace| keyspace.mode);
        let cost = rows.iter().map(|row| row.bytes() + ROW_COST).sum();
        self.budget.charge(now.mono, Kind::Purge, cost);
        for ScanRow { key, content, .. } in rows {
            let (RowContent::Whole(record), Some(mode)) = (content, mode) else {
                continue;
            };
            let Ok(state) = KeyState::decode_as(mode, &record) else {
                continue;
            };
            if let KeyState::Siblings(record) = &state
                && record.remembered() > self.spare_max
                && self.is_crowded(&self.prunable(record))
            {
                self.purges.note_crowded(copy, &key, now.mono);
            }
            match state.gone_at() {
                Some(at) if self.is_gone(now, at) => {
                    self.purges.note_deleted(copy, &key, now.mono);
                }
                Some(at) => {
                    let ahead = Duration::from_micros(at.saturating_sub(now.wall_micros));
                    self.purges.note_expiry(copy, now.mono + ahead, now.mono);
                }
                None => {}
            }
        }
        match until {
            Some(from) => self.purge_look_from = Some(from),
            None => self.purges.end_look(true, now.mono),
        }
    }

    pub(super) fn is_gone(&self, now: Now, gone_at: u64) -> bool {
        gone_at == 0 || gone_at <= now.wall_micros && self.clocks.trust(now) == ClockTrust::Good
    }
}
