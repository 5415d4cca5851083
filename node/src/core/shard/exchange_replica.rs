//! A replica's part of an exchange: hashes of its trees, digests of its rows.
//!
//! It answers from its digests and from the store of that moment and keeps nothing between two
//! questions but who last asked for rows: rows are told to one peer at a time, because what two
//! found they would both bring. Rows are read on as the budget of background work lets it, and told
//! as far as they were read by half of the asker's time.
//!
//! Not here: beginning exchanges and healing (`exchange`).

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{Digest, NodeHash};
use quorate_ring::{BucketId, Epoch, KeyspaceId, MonoTime, NodeId, VnodeId};

use super::super::budget::{Kind, RECORD_COST, ROW_COST, TREE_COST};
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
use super::scan_replica::{Reader, SCAN_READS_MAX};

/// Pages that are read for one answer: rows of the buckets are a few of those of their vnode, and
/// each answer costs a way there and back.
const PAGES_PER_ANSWER: u32 = 32;

/// Peers' questions about rows that may wait for the budget: each peer has one open.
const GATHERINGS_WAITING_MAX: usize = 16;

/// A peer that asked for rows is expected to ask for more within this time.
const ROWS_HELD_FOR: Duration = Duration::from_secs(2);

/// Rows of some buckets on their way to who asked for them, this node or a peer.
#[derive(Debug, Clone)]
pub(super) struct Gathering {
    to: NodeId,
    op: OpNumber,
    ask: u32,
    keyspace: KeyspaceId,
    vnode: VnodeId,
    buckets: BTreeSet<BucketId>,
    /// Where it is read on.
    from: Bytes,
    /// By then it is answered with what was found.
    answer_by: MonoTime,
    /// After that nobody waits for it.
    deadline: MonoTime,
    pages: u32,
    rows: Vec<ExchangeRow>,
}

impl Shard {
    /// Has this node's rows of some buckets read, for itself or a peer, as the budget lets it.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn read_rows_of(
        &mut self,
        now: Now,
        (to, budget): (NodeId, Duration),
        (op, ask): (OpNumber, u32),
        question: RowQuestion,
        effects: &mut Effects,
    ) -> Result<(), Cause> {
        let RowQuestion {
            keyspace,
            vnode,
            buckets,
            from,
        } = question;
        let gathering = Gathering {
            to,
            op,
            ask,
            keyspace,
            vnode,
            buckets,
            from,
            answer_by: now.mono + budget / 2,
            deadline: now.mono + budget,
            pages: 0,
            rows: Vec::new(),
        };
        // What this node asks itself was begun because the budget let it.
        if to == self.me || self.budget.may(now.mono, Kind::Answer) {
            return self.read_rows_from(now, gathering, effects);
        }
        // No client's request: what is shed steers the budget, and this waits for the budget.
        if self.exchanges.gatherings.len() >= GATHERINGS_WAITING_MAX {
            return Err(Cause::Overloaded);
        }
        self.exchanges.gatherings.push_back(gathering);
        Ok(())
    }

    /// Goes on with what waited for the budget, and answers what waited long enough.
    pub(super) fn gather_on(&mut self, now: Now, effects: &mut Effects) {
        for gathering in std::mem::take(&mut self.exchanges.gatherings) {
            if self.is_wanted(&gathering) {
                self.gather(now, gathering, effects);
            }
        }
    }

    fn gather(&mut self, now: Now, gathering: Gathering, effects: &mut Effects) {
        let has_room = self.scan_reads.len() < SCAN_READS_MAX;
        if now.mono >= gathering.answer_by {
            let from = gathering.from.clone();
            self.rows_gathered(now, gathering, Some(from), effects);
        } else if has_room && self.budget.may(now.mono, self.kind_of(&gathering)) {
            let read = self.read_rows_from(now, gathering, effects);
            debug_assert!(read.is_ok(), "it is owned, and there is room");
        } else {
            self.exchanges.gatherings.push_back(gathering);
        }
    }

    /// Whether somebody waits for it: what this node asked itself may have been put off.
    fn is_wanted(&self, gathering: &Gathering) -> bool {
        let (op, ask) = (gathering.op, gathering.ask);
        gathering.to != self.me || self.exchanges.is_current(None, op, ask)
    }

    /// From which account it is paid.
    fn kind_of(&self, gathering: &Gathering) -> Kind {
        if gathering.to == self.me {
            self.exchange_kind()
        } else {
            Kind::Answer
        }
    }

    fn read_rows_from(
        &mut self,
        now: Now,
        gathering: Gathering,
        effects: &mut Effects,
    ) -> Result<(), Cause> {
        let kind = self.kind_of(&gathering);
        self.budget.charge(now.mono, kind, RECORD_COST);
        let vnodes: VnodeSet = std::iter::once(gathering.vnode).collect();
        let range = PageRange {
            keyspace: gathering.keyspace,
            vnodes: vnodes.clone(),
            from: gathering.from.clone(),
            end: None,
            rows_max: SCAN_RECORDS_MAX,
            bytes_max: PAGE_BYTES_MAX,
        };
        let message = ScanAsk {
            op: gathering.op,
            ask: gathering.ask,
            range,
            whole: vnodes,
            budget: gathering.deadline.since(now.mono),
        };
        let reader = Reader::Exchange(Box::new(gathering));
        self.read_page(now, reader, message, effects)
    }

    /// A page that was read for an exchange: takes the digests of its records that are in the
    /// buckets, and reads on unless that is enough for an answer.
    pub(super) fn exchange_page(
        &mut self,
        now: Now,
        mut gathering: Gathering,
        (rows, until): (Vec<ScanRow>, Option<Bytes>),
        effects: &mut Effects,
    ) {
        let cost = rows.iter().map(|row| row.bytes() + ROW_COST).sum();
        let kind = self.kind_of(&gathering);
        self.budget.charge(now.mono, kind, cost);
        if !self.is_wanted(&gathering) {
            return;
        }
        let keyspace = gathering.keyspace;
        let room = SCAN_RECORDS_MAX.saturating_sub(gathering.rows.len());
        let mut of_buckets = rows.into_iter().filter_map(|row| {
            let RowContent::Whole(record) = row.content else {
                return None;
            };
            let bucket = self.topology.locate(keyspace, &row.key).bucket;
            let key = RecordKey::new(keyspace, row.vnode, &row.key);
            gathering.buckets.contains(&bucket).then(|| ExchangeRow {
                digest: Digest::of(self.digest, key.as_bytes(), &record),
                bytes: u32::try_from(record.len()).unwrap_or(u32::MAX),
                key: row.key,
            })
        });
        let taken: Vec<ExchangeRow> = of_buckets.by_ref().take(room).collect();
        // What the answer has no room for is asked for again.
        let until = of_buckets.next().map(|row| row.key).or(until);
        gathering.rows.extend(taken);
        gathering.pages += 1;
        let is_enough = gathering.rows.len() >= SCAN_RECORDS_MAX
            || gathering.pages >= PAGES_PER_ANSWER
            || self.scan_reads.len() >= SCAN_READS_MAX;
        match until {
            Some(from) if !is_enough => {
                gathering.from = from;
                self.gather(now, gathering, effects);
            }
            until => self.rows_gathered(now, gathering, until, effects),
        }
    }

    fn rows_gathered(
        &mut self,
        now: Now,
        gathering: Gathering,
        until: Option<Bytes>,
        effects: &mut Effects,
    ) {
        let Gathering {
            to,
            op,
            ask,
            pages,
            rows,
            ..
        } = gathering;
        let page = RowPage { rows, until };
        if to == self.me {
            self.rows_read(now, true, page, effects);
        } else if pages == 0 {
            Self::tell_exchange(to, op, ask, Err(Cause::Overloaded), effects);
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
                    let cost = TREE_COST * told.len() as u64;
                    self.budget.charge(now.mono, Kind::Answer, cost);
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

    /// Whether another peer is at comparing rows with this node: what both found they would both
    /// bring.
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
