//! Rows that were lost or changed though no checksum says so: what the slow read found is believed when it
//! found the same twice while nothing was written, and what is done about it.
//!
//! Exchanges compare sums, and the sums are those of what was written, so that exchanges alone never find
//! it. The sums are made those of the rows that are there; then this node is one that forgot, and begins anew
//! as such: under a new incarnation, because the next dot of a lost record would cover those before it, and
//! counting for nothing until it was compared with the owners that it needs, which now shows what is
//! missing. Nothing is thrown away: rows that are alike on all nodes stay. But a node that begins anew counts
//! for nothing for a while, and nothing keeps two from doing so at once, so that a quorum may be missing until
//! they are whole. That it lost something is on disk before its sums tell what is there.
//!
//! It is left at being told and counted where beginning anew would cost more than it heals: while another node
//! is down or this one does not count for all its copies; where it holds copies that no other node has, which
//! would not be read any more, or copies in memory, which end with the process; and in a vnode of which deleted
//! keys were purged, because a row that came back there in place of one that went is below no floor and would
//! be brought to all. The next slow read finds it again.
//!
//! Not here: reading (`shell::scrub`), judging (`core::verify`), getting it back (`refill`).

use quorate_antientropy::SumsCorrection;
use quorate_ring::{Durability, KeyspaceId, VnodeId};

use super::super::continuity::Liveness;
use super::super::effect::{Effect, Effects, Entry};
use super::super::healing::Lost;
use super::super::input::Now;
use super::super::message::PurgeNumber;
use super::{Ack, Shard};

/// Buckets that one frame of the log corrects: only records are cut where a batch has no room for them.
const BUCKETS_PER_FRAME: usize = 32;

impl Shard {
    /// The rows of a copy are not those of its sums.
    pub(super) fn contradicted(
        &mut self,
        now: Now,
        (keyspace, vnode): (KeyspaceId, VnodeId),
        correction: SumsCorrection,
        effects: &mut Effects,
    ) {
        if !self.can_begin_anew(now, (keyspace, vnode)) {
            return;
        }
        let buckets = correction.buckets.len();
        let reason = format!(
            "the records of {buckets} buckets of vnode {} of keyspace {} are not those that were \
             written, though no checksum is wrong",
            vnode.0, keyspace.0
        );
        effects.push(Effect::NoteLoss(reason.clone()));
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
        let ack = Ack::RowsLost { reason };
        self.when_durable(now, Durability::Disk, ack, effects);
    }

    fn can_begin_anew(&self, now: Now, copy: (KeyspaceId, VnodeId)) -> bool {
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
            && self.numbers_of(copy).floor == PurgeNumber::default()
            && self.healing.lost() == Lost::default()
            && self.healing.copies_lacking() == 0
            && self.continuity.counts_everywhere()
            && others.all(|node| node == self.me || self.liveness(now, node) == Liveness::Up)
    }
}
