//! Rows that were lost or changed though no checksum says so: what the slow read found is believed
//! when it found the same twice while nothing was written, and what is done about it.
//!
//! Exchanges compare sums, and the sums are those of what was written, so that exchanges alone
//! never find it. The sums are made those of the rows that are there; then this node is one that
//! forgot, and begins anew as such: under a new incarnation, because the next dot of a lost record
//! would cover those before it, and counting for nothing until it was compared with the owners that
//! it needs, which now shows what is missing. Nothing is thrown away: rows that are alike on all
//! nodes stay. But a node that begins anew counts for nothing for a while, and nothing keeps two
//! from doing so at once, so that a quorum may be missing until they are whole. That it lost
//! something is on disk before its sums tell what is there.
//!
//! It is left at being told and counted where beginning anew would cost more than it heals: while
//! another node is down or this one does not count for all its copies; where it holds copies that
//! no other node has, which would not be read any more, or copies in memory, which end with the
//! process; and in a vnode of which deleted keys were purged, because a row that came back there in
//! place of one that went is below no floor and would be brought to all. The next slow read finds
//! it again.
//!
//! Not here: reading (`shell::scrub`), judging (`core::verify`), getting it back (`refill`).

use quorate_antientropy::SumsCorrection;
use quorate_ring::Durability;

use super::super::continuity::Liveness;
use super::super::effect::{Effect, Effects, Entry};
use super::super::healing::Lost;
use super::super::input::{Contradiction, Now};
use super::super::message::PurgeNumber;
use super::{Ack, Shard};

/// Copies that are corrected at once, so that what is appended stays bounded: the others with the
/// next life.
const COPIES_MAX: usize = 64;

/// Buckets that one frame of the log corrects: only records are cut where a batch has no room for
/// them.
const BUCKETS_PER_FRAME: usize = 32;

impl Shard {
    /// The rows of some copies are not those of their sums.
    pub(super) fn contradicted(
        &mut self,
        now: Now,
        mut copies: Vec<Contradiction>,
        effects: &mut Effects,
    ) {
        // Whatever is done about it: what was in the engine may not be.
        self.table.forget_left();
        copies.retain(|copy| {
            let numbers = self.numbers_of((copy.keyspace, copy.vnode));
            numbers.floor == PurgeNumber::default()
        });
        copies.truncate(COPIES_MAX);
        let Some(first) = copies.first().filter(|_| self.can_begin_anew(now)) else {
            return;
        };
        let buckets: usize = copies
            .iter()
            .map(|copy| copy.correction.buckets.len())
            .sum();
        let reason = format!(
            "the records of {buckets} buckets in {} copies of vnodes, the first of them vnode {} of \
             keyspace {}, are not those that were written, though no checksum is wrong",
            copies.len(),
            first.vnode.0,
            first.keyspace.0
        );
        effects.push(Effect::NoteLoss(reason.clone()));
        for copy in copies {
            self.correct_sums(copy, effects);
        }
        let ack = Ack::RowsLost { reason };
        self.when_durable(now, Durability::Disk, ack, effects);
    }

    fn correct_sums(&mut self, copy: Contradiction, effects: &mut Effects) {
        let Contradiction {
            keyspace,
            vnode,
            correction,
        } = copy;
        let SumsCorrection {
            buckets,
            mut holdings,
        } = correction;
        for buckets in buckets.chunks(BUCKETS_PER_FRAME) {
            let correction = SumsCorrection {
                buckets: buckets.to_vec(),
                holdings: std::mem::take(&mut holdings),
            };
            let lsn = self.table.appended().next();
            self.table
                .append_correction(lsn, keyspace, vnode, correction.clone());
            let entry = Entry::Sums {
                keyspace,
                vnode,
                correction,
            };
            effects.push(Effect::Append { lsn, entry });
        }
    }

    fn can_begin_anew(&self, now: Now) -> bool {
        let keyspaces = self.topology.keyspaces();
        let has_what_would_go = keyspaces.iter().any(|keyspace| {
            let mut vnodes = self.topology.vnode_count().vnodes();
            let is_in_memory = keyspace.options.durability == Durability::Memory;
            (keyspace.copies.get() < 2 || is_in_memory)
                && vnodes.any(|vnode| self.topology.is_owner(vnode, keyspace.copies, self.me))
        });
        let mut others = self.topology.nodes().iter().map(|node| node.id);
        !self.draining
            && !self.disk_full
            && !has_what_would_go
            && self.healing.lost() == Lost::default()
            && self.healing.copies_lacking() == 0
            && self.continuity.counts_everywhere()
            && others.all(|node| node == self.me || self.liveness(now, node) == Liveness::Up)
    }
}
