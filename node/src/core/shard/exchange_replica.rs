//! A replica's part of an exchange: hashes of its trees, digests of its rows.
//!
//! It answers from its digests and from the store of that moment and keeps nothing between two
//! questions but who last asked for rows: rows are told to one peer at a time, because what two found
//! they would both bring.
//!
//! Not here: beginning exchanges and healing (`exchange`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{Digest, NodeHash};
use quorate_ring::{BucketId, Epoch, KeyspaceId, MonoTime, NodeId};

use super::super::effect::{Effect, Effects};
use super::super::failure::Cause;
use super::super::input::Now;
use super::super::key::RecordKey;
use super::super::message::{
    ExchangeAnswer, ExchangeAsk, ExchangeReply, ExchangeRow, ExchangeWanted, OpNumber, PeerMessage,
    PurgeNumber, Refusal, RowPage, RowQuestion, ScanAsk, TreeQuestion,
};
use super::super::scan_page::{PageRange, RowContent, ScanRow};
use super::super::vnode_set::VnodeSet;
use super::Shard;
use super::scan::{PAGE_BYTES_MAX, SCAN_RECORDS_MAX};
use super::scan_replica::Reader;

/// A peer that asked for rows is expected to ask for more within this time.
const ROWS_HELD_FOR: Duration = Duration::from_secs(2);

impl Shard {
    /// Has one page of this node's rows of some buckets read, for itself or a peer.
    pub(super) fn read_rows_of(
        &mut self,
        now: Now,
        (to, budget): (NodeId, Duration),
        (op, ask): (OpNumber, u32),
        question: RowQuestion,
        effects: &mut Effects,
    ) -> Result<(), Cause> {
        let vnodes: VnodeSet = std::iter::once(question.vnode).collect();
        let range = PageRange {
            keyspace: question.keyspace,
            vnodes: vnodes.clone(),
            from: question.from,
            end: None,
            rows_max: SCAN_RECORDS_MAX,
            bytes_max: PAGE_BYTES_MAX,
        };
        let message = ScanAsk {
            op,
            ask,
            range,
            whole: vnodes,
            budget,
        };
        let reader = Reader::Exchange {
            to,
            buckets: Arc::new(question.buckets),
        };
        self.read_page(now, reader, message, effects)
    }

    /// A page that was read for an exchange: the digests of its records that are in the buckets.
    pub(super) fn exchange_page(
        &mut self,
        now: Now,
        to: NodeId,
        (op, ask): (OpNumber, u32),
        (keyspace, buckets): (KeyspaceId, &BTreeSet<BucketId>),
        (rows, until): (Vec<ScanRow>, Option<Bytes>),
        effects: &mut Effects,
    ) {
        let row = |row: ScanRow| {
            let RowContent::Whole(record) = row.content else {
                return None;
            };
            let bucket = self.topology.locate(keyspace, &row.key).bucket;
            let key = RecordKey::new(keyspace, row.vnode, &row.key);
            buckets.contains(&bucket).then(|| ExchangeRow {
                digest: Digest::of(self.digest, key.as_bytes(), &record),
                bytes: u32::try_from(record.len()).unwrap_or(u32::MAX),
                key: row.key,
            })
        };
        let rows = rows.into_iter().filter_map(row).collect();
        let page = RowPage { rows, until };
        if to == self.me {
            // One that was put off meanwhile is read again.
            if self.exchanges.is_current(None, op, ask) {
                self.rows_read(now, true, page, effects);
            }
        } else {
            Self::tell_exchange(to, op, ask, Ok(ExchangeAnswer::Rows(page)), effects);
        }
    }

    /// A node that began an exchange asks.
    pub(super) fn peer_exchange(
        &mut self,
        now: Now,
        from: NodeId,
        epoch: Epoch,
        ask: ExchangeAsk,
        effects: &mut Effects,
    ) {
        let ExchangeAsk {
            op,
            ask: number,
            wanted,
            budget,
        } = ask;
        let refused = if self.draining {
            Err(Cause::ShuttingDown)
        } else if epoch != self.topology.epoch() {
            Err(Cause::EpochMismatch)
        } else {
            match wanted {
                // Whether it lacks anything it does not know yet; it will within a second.
                ExchangeWanted::Standing if !self.continuity.counts_everywhere() => {
                    Err(Cause::NotReady)
                }
                ExchangeWanted::Standing => {
                    self.leave_to_refill(now.mono, from);
                    self.leave_purges(now.mono, from);
                    let answer = ExchangeAnswer::Standing(self.standing());
                    Self::tell_exchange(from, op, number, Ok(answer), effects);
                    Ok(())
                }
                ExchangeWanted::Trees(questions) => self.answer_trees(&questions).map(|told| {
                    let answer = Ok(ExchangeAnswer::Trees(told));
                    Self::tell_exchange(from, op, number, answer, effects);
                }),
                ExchangeWanted::Rows(_) if self.tells_rows_to_another(now.mono, from) => {
                    Err(Cause::Overloaded)
                }
                ExchangeWanted::Rows(question) => {
                    self.exchanges.rows_told = Some((from, now.mono));
                    self.read_rows_of(now, (from, budget), (op, number), question, effects)
                }
            }
        };
        if let Err(cause) = refused {
            Self::tell_exchange(from, op, number, Err(cause), effects);
        }
    }

    /// Whether another peer is at comparing rows with this node: what both found they would both bring.
    fn tells_rows_to_another(&self, now: MonoTime, peer: NodeId) -> bool {
        let told = self.exchanges.rows_told;
        told.is_some_and(|(to, at)| to != peer && now.since(at) < ROWS_HELD_FOR)
    }

    /// This node's hashes.
    ///
    /// # Errors
    /// [`Cause::EpochMismatch`] for a vnode of which it has no copy.
    pub(super) fn answer_trees(
        &mut self,
        questions: &[TreeQuestion],
    ) -> Result<Vec<Vec<NodeHash>>, Cause> {
        let vnode_count = self.topology.vnode_count().get();
        let mut answers = Vec::with_capacity(questions.len());
        for asked in questions {
            let keyspace = self.topology.keyspace(asked.keyspace);
            let is_owner = keyspace.is_some_and(|keyspace| {
                u32::from(asked.vnode.0) < vnode_count
                    && self
                        .topology
                        .is_owner(asked.vnode, keyspace.copies, self.me)
            });
            if !is_owner {
                return Err(Cause::EpochMismatch);
            }
            let (digests, trees) = (self.table.digests(), &mut self.exchanges.trees);
            answers.push(trees.answer(digests, asked.keyspace, asked.vnode, &asked.question));
        }
        Ok(answers)
    }

    fn tell_exchange(
        to: NodeId,
        op: OpNumber,
        ask: u32,
        result: Result<ExchangeAnswer, Cause>,
        effects: &mut Effects,
    ) {
        let floor = PurgeNumber::default();
        let result = result.map_err(|cause| Refusal { cause, floor });
        let message = PeerMessage::ExchangeReply(ExchangeReply { op, ask, result });
        effects.push(Effect::Send { to, message });
    }
}
