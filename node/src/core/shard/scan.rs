//! Coordinating a page of a scan: the range and its token, the owners, the keys on which replicas
//! differ, the answer.
//!
//! A key that the replicas do not agree on is read by a get of its own at the scan's level, which
//! merges, repairs and waits where the level promises monotonic reads. A page whose get fails ends
//! in front of that key; one that could show nothing at all fails.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_antientropy::{Digest, KeyState};
use quorate_ring::planted::{Bug, planted};
use quorate_ring::{ConsistencyLevel, Copies, KeyspaceId, KeyspaceMode, MonoTime, NodeId, VnodeId};

use super::super::continuity::Liveness;
use super::super::effect::{Asked, Effect, Effects, Event, RequestKind};
use super::super::failure::{Cause, Failure};
use super::super::input::{Now, RequestId};
use super::super::key::RecordKey;
use super::super::message::{
    OpNumber, PeerMessage, ReadRequest, Reply, Request, ScanAsk, ScanPart, ScanReply, ScanRequest,
    ScannedRecord,
};
use super::super::scan::{Question, ScanMachine, ScanPlan, ScanStep};
use super::super::scan_page::PageRange;
use super::super::scan_token::{ScanBound, open_position, seal_position};
use super::scan_replica::Reader;
use super::{KEY_BYTES_MAX, Origin, Shard, asked};

/// Most records of a page.
pub const SCAN_RECORDS_MAX: usize = 1_000;
/// A page ends with the record that reaches this many bytes.
pub(super) const PAGE_BYTES_MAX: usize = 256 * 1024;
/// Pages that a node coordinates at once.
pub const SCANS_MAX: usize = 32;
/// What a page is admitted with: the answers of the replicas, as they wait to be merged.
const SCAN_RESERVED_BYTES: usize = 2 * PAGE_BYTES_MAX;
/// Gets of one page at once, for keys on which replicas differ.
const READS_AT_ONCE: usize = 64;

/// A page under way.
#[derive(Debug)]
pub(super) struct ScanOp {
    to: RequestId,
    pub(super) asked: Asked,
    deadline: MonoTime,
    keyspace: KeyspaceId,
    mode: KeyspaceMode,
    name: String,
    start: Bytes,
    end: Option<Bytes>,
    from: Bytes,
    level: ConsistencyLevel,
    machine: ScanMachine,
    page: Option<Page>,
}

/// Keys of a page, once the replicas have answered.
#[derive(Debug)]
struct Page {
    rows: Vec<Row>,
    until: Option<Bytes>,
    /// The first row for which no get was started yet.
    next: usize,
    reading: usize,
    /// Bytes of the values that gets have found; once they fill a page no further get is started.
    bytes: usize,
    /// The first get that failed, and of which row.
    failed: Option<(usize, Failure)>,
}

#[derive(Debug)]
struct Row {
    key: Bytes,
    /// Its visible values; `None` until they are known.
    values: Option<Vec<Bytes>>,
}

impl ScanOp {
    /// What a node is asked for.
    fn range_of(&self, question: &Question) -> PageRange {
        PageRange {
            keyspace: self.keyspace,
            vnodes: question.vnodes.clone(),
            from: self.from.clone(),
            end: self.end.clone(),
            rows_max: question.rows_max,
            bytes_max: PAGE_BYTES_MAX,
        }
    }
}

impl Shard {
    /// A client asks for a page.
    pub(super) fn scan(
        &mut self,
        now: Now,
        from: RequestId,
        received: MonoTime,
        deadline: MonoTime,
        request: ScanRequest,
        effects: &mut Effects,
    ) {
        let asked = asked(now, RequestKind::Scan, received);
        match self.plan_scan(now, from, asked, deadline, request) {
            Ok(scan) => {
                let op = self.next_number();
                self.unanswered.queued += 1;
                self.bytes_in_flight += SCAN_RESERVED_BYTES;
                self.scans.insert(op, scan);
                let mut steps = Vec::new();
                if let Some(scan) = self.scans.get_mut(&op) {
                    scan.machine.start(now.mono, &mut steps);
                }
                self.perform_scan(now, op, steps, effects);
            }
            Err(failure) => {
                if failure.cause == Cause::Overloaded {
                    effects.push(Effect::Count(Event::Shed));
                }
                let reply = Reply::Failed(failure);
                effects.push(Effect::Reply {
                    to: from,
                    asked,
                    reply,
                });
            }
        }
    }

    fn plan_scan(
        &self,
        now: Now,
        to: RequestId,
        asked: Asked,
        deadline: MonoTime,
        request: ScanRequest,
    ) -> Result<ScanOp, Failure> {
        let ScanRequest {
            keyspace: name,
            start,
            end,
            token,
            limit,
            level,
        } = request;
        let bounds = [Some(&start), end.as_ref()];
        let too_long = bounds
            .into_iter()
            .flatten()
            .any(|b| b.len() > KEY_BYTES_MAX);
        if too_long || end.as_ref().is_some_and(|end| *end < start) {
            return Err(Failure::refused(Cause::RangeInvalid).with_limit(KEY_BYTES_MAX));
        }
        let keyspace = self.topology.keyspace_named(&name);
        let keyspace = keyspace.ok_or_else(|| Failure::refused(Cause::KeyspaceUnknown))?;
        let mode = keyspace.mode;
        let (keyspace, copies) = (keyspace.id, keyspace.copies);
        // Owners alone are asked: what fallbacks hold cannot be told apart from what was deleted
        // there.
        let level = level.strict();
        let required = level.replicas_for_read(copies).map_err(|_| {
            Failure::refused(Cause::LevelImpossible).with_limit(usize::from(copies.get()))
        })?;
        let bound = bound(keyspace, &start, end.as_ref());
        let from = match &token {
            None => start.clone(),
            Some(token) => open_position(&self.seal, bound, token)
                .map_err(|_| Failure::refused(Cause::ScanTokenInvalid))?,
        };
        let origin = Origin::Client { to, asked };
        self.admit(now, &origin, deadline, SCAN_RESERVED_BYTES)?;
        if self.scans.len() >= SCANS_MAX {
            return Err(Self::overloaded());
        }
        // What this node forgot it cannot tell at any level.
        let trusted = required == 1 && !self.healing.lacks_any_of(keyspace);
        let machine = ScanMachine::new(ScanPlan {
            required,
            rows_max: limit.clamp(1, SCAN_RECORDS_MAX),
            owners: self.owners_of_all(now, copies),
            trusts_uncounted: trusted.then_some(self.me),
            deadline,
        });
        Ok(ScanOp {
            to,
            asked,
            deadline,
            keyspace,
            mode,
            name,
            start,
            end,
            from,
            level,
            machine,
            page: None,
        })
    }

    /// The owners of every vnode in one order of nodes, so that few nodes cover them all: this
    /// node, then those that are up, who take turns from scan to scan.
    fn owners_of_all(&self, now: Now, copies: Copies) -> BTreeMap<VnodeId, Vec<NodeId>> {
        let mut nodes: Vec<NodeId> = self.topology.nodes().iter().map(|node| node.id).collect();
        let turn = usize::try_from(self.next_op % 64).unwrap_or(0);
        let all = nodes.len().max(1);
        nodes.rotate_left(turn % all);
        nodes.sort_by_cached_key(|node| {
            let liveness = rank(self.liveness(now, *node));
            (*node != self.me, liveness, self.tails.rank(now.mono, *node))
        });
        let vnodes = self.topology.vnode_count().vnodes();
        let ordered = |vnode: VnodeId| {
            let owners = self.topology.owners(vnode, copies);
            let owners = nodes.iter().filter(|node| owners.contains(node));
            (vnode, owners.copied().collect())
        };
        vnodes.map(ordered).collect()
    }

    /// Carries out what a page wants.
    fn perform_scan(
        &mut self,
        now: Now,
        op: OpNumber,
        steps: Vec<ScanStep>,
        effects: &mut Effects,
    ) {
        for step in steps {
            match step {
                ScanStep::Ask(ask) => self.put_question(now, op, ask, effects),
                ScanStep::Collect => self.collect_page(now, op, effects),
                ScanStep::Fail(failure) => self.end_scan(op, Reply::Failed(failure), effects),
            }
        }
    }

    fn put_question(&mut self, now: Now, op: OpNumber, ask: u32, effects: &mut Effects) {
        let Some(scan) = self.scans.get_mut(&op) else {
            return;
        };
        let Some(question) = scan.machine.question(ask) else {
            return;
        };
        let node = question.node;
        let message = ScanAsk {
            op,
            ask,
            range: scan.range_of(question),
            whole: question.whole.clone(),
            budget: scan.deadline.since(now.mono),
        };
        if node != self.me {
            let message = PeerMessage::Scan(message);
            effects.push(Effect::Send { to: node, message });
        } else if self.read_page(now, Reader::Own, message, effects).is_err() {
            let mut steps = Vec::new();
            if let Some(scan) = self.scans.get_mut(&op) {
                scan.machine.refused(now.mono, node, ask, &mut steps);
            }
            self.perform_scan(now, op, steps, effects);
        }
    }

    /// A replica answered.
    pub(super) fn peer_scan_reply(
        &mut self,
        now: Now,
        from: NodeId,
        reply: ScanReply,
        effects: &mut Effects,
    ) {
        let ScanReply { op, ask, result } = reply;
        let fits = |part: &ScanPart| self.answers_question(op, ask, part);
        let told = result.is_ok();
        match result.ok().filter(fits) {
            Some(part) => self.scan_answered(now, from, op, ask, part, effects),
            None => {
                if told {
                    effects.push(Effect::Count(Event::PeerMessageRefused));
                }
                let mut steps = Vec::new();
                if let Some(scan) = self.scans.get_mut(&op) {
                    scan.machine.refused(now.mono, from, ask, &mut steps);
                }
                self.perform_scan(now, op, steps, effects);
            }
        }
    }

    /// Whether a part is one of what was asked; any part is of a page that is over.
    fn answers_question(&self, op: OpNumber, ask: u32, part: &ScanPart) -> bool {
        let Some(scan) = self.scans.get(&op) else {
            return true;
        };
        let question = scan.machine.question(ask);
        let place = |key: &Bytes| self.topology.locate(scan.keyspace, key).vnode;
        question.is_some_and(|question| part.answers(&scan.range_of(question), place))
    }

    /// A replica's part is there.
    pub(super) fn scan_answered(
        &mut self,
        now: Now,
        from: NodeId,
        op: OpNumber,
        ask: u32,
        part: ScanPart,
        effects: &mut Effects,
    ) {
        let mut steps = Vec::new();
        if let Some(scan) = self.scans.get_mut(&op) {
            scan.machine.answered(now.mono, from, ask, part, &mut steps);
        }
        self.perform_scan(now, op, steps, effects);
    }

    /// All replicas' parts are there: what they agree on is decided, the rest is read.
    fn collect_page(&mut self, now: Now, op: OpNumber, effects: &mut Effects) {
        let Some(scan) = self.scans.get_mut(&op) else {
            return;
        };
        let (keyspace, secret) = (scan.keyspace, self.digest);
        let digest = |vnode, key: &Bytes, record: &Bytes| {
            let key = RecordKey::new(keyspace, vnode, key);
            Digest::of(secret, key.as_bytes(), record)
        };
        let mode = scan.mode;
        let (collected, until) = scan.machine.collect(digest);
        let clocks = &self.clocks;
        let mut rows = Vec::with_capacity(collected.len());
        for row in collected {
            // One that cannot be read is left to a get, which knows whose it is and asks others.
            let record = row.agreed.as_ref();
            let state = record.and_then(|record| KeyState::decode_as(mode, record).ok());
            let values = state.and_then(|state| clocks.visible(now, &state));
            let key = row.key;
            rows.push(Row { key, values });
        }
        scan.page = Some(Page {
            rows,
            until,
            next: 0,
            reading: 0,
            bytes: 0,
            failed: None,
        });
        self.read_rows(now, op, effects);
    }

    /// Starts gets for keys that are not decided, and answers once none is left.
    fn read_rows(&mut self, now: Now, op: OpNumber, effects: &mut Effects) {
        loop {
            let Some(scan) = self.scans.get_mut(&op) else {
                return;
            };
            let Some(page) = &mut scan.page else {
                return;
            };
            let undecided = page.rows.iter().enumerate().skip(page.next);
            let mut undecided = undecided.filter(|(_, row)| row.values.is_none());
            let Some((row, key)) = undecided.next().map(|(row, r)| (row, r.key.clone())) else {
                break;
            };
            let is_full = page.bytes >= PAGE_BYTES_MAX;
            if is_full || page.failed.is_some() || page.reading >= READS_AT_ONCE {
                break;
            }
            page.next = row + 1;
            page.reading += 1;
            let (deadline, level) = (scan.deadline, scan.level);
            let request = Request::Read(ReadRequest {
                keyspace: scan.name.clone(),
                key,
                level,
            });
            let origin = Origin::Scan { op, row };
            self.request(now, origin, deadline, request, effects);
        }
        let open = self.scans.get(&op).and_then(|scan| scan.page.as_ref());
        if open.is_some_and(|page| page.reading == 0) {
            self.answer_scan(op, effects);
        }
    }

    /// A get of a page has ended.
    pub(super) fn scan_row_read(
        &mut self,
        now: Now,
        op: OpNumber,
        row: usize,
        reply: Reply,
        effects: &mut Effects,
    ) {
        let page = self.scans.get_mut(&op).and_then(|scan| scan.page.as_mut());
        let Some(page) = page else {
            return;
        };
        page.reading -= 1;
        match reply {
            Reply::Read { values, .. } => {
                page.bytes += values.iter().map(Bytes::len).sum::<usize>();
                if let Some(row) = page.rows.get_mut(row) {
                    row.values = Some(values);
                }
            }
            Reply::Failed(failure) => {
                let first = page.failed.as_ref().is_none_or(|(at, _)| row < *at);
                if first {
                    page.failed = Some((row, failure));
                }
            }
            Reply::Applied { .. } | Reply::Page { .. } | Reply::Batch(_) => {}
        }
        self.read_rows(now, op, effects);
    }

    /// Tells the client what was found, up to the first key that could not be read or found no
    /// room.
    fn answer_scan(&mut self, op: OpNumber, effects: &mut Effects) {
        let Some(scan) = self.scans.get_mut(&op) else {
            return;
        };
        let Some(page) = scan.page.take() else {
            return;
        };
        let (mut records, mut bytes, mut next) = (Vec::new(), 0, page.until);
        for (number, Row { key, values }) in page.rows.into_iter().enumerate() {
            let Some(values) = values else {
                // Without progress the client would ask for the same page for ever.
                if let (0, Some((_, failure))) = (number, page.failed) {
                    return self.end_scan(op, Reply::Failed(failure), effects);
                }
                next = Some(key);
                break;
            };
            if bytes >= PAGE_BYTES_MAX {
                next = Some(key);
                break;
            }
            if !values.is_empty() {
                bytes += key.len() + values.iter().map(Bytes::len).sum::<usize>();
                records.push(ScannedRecord { key, values });
            }
        }
        let bound = bound(scan.keyspace, &scan.start, scan.end.as_ref());
        let next = next.map(|position| {
            if planted(Bug::ScanSkipsPageBoundary) {
                let behind = [&position[..], b"\0"].concat();
                return seal_position(&self.seal, bound, &behind);
            }
            seal_position(&self.seal, bound, &position)
        });
        self.end_scan(op, Reply::Page { records, next }, effects);
    }

    fn end_scan(&mut self, op: OpNumber, reply: Reply, effects: &mut Effects) {
        if let Some(ScanOp { to, asked, .. }) = self.scans.remove(&op) {
            self.note_answered(Some(asked.taken));
            self.unanswered.queued -= 1;
            self.bytes_in_flight -= SCAN_RESERVED_BYTES;
            effects.push(Effect::Reply { to, asked, reply });
        }
    }

    /// Judges pages whose time has come.
    pub(super) fn tick_scans(&mut self, now: Now, effects: &mut Effects) {
        if self.next_scan_deadline() <= now.mono {
            self.judge_scans(now, effects);
        }
    }

    /// Judges every page: time passed, or a node went.
    pub(super) fn judge_scans(&mut self, now: Now, effects: &mut Effects) {
        let open: Vec<OpNumber> = self.scans.keys().copied().collect();
        for op in open {
            let continuity = &self.continuity;
            let down = |node| continuity.liveness(now.mono, node) == Liveness::Down;
            let mut steps = Vec::new();
            if let Some(scan) = self.scans.get_mut(&op).filter(|scan| scan.page.is_none()) {
                scan.machine.tick(now.mono, down, &mut steps);
            }
            self.perform_scan(now, op, steps, effects);
        }
    }

    /// When a page has something to do; gets of a page have timers of their own.
    pub(super) fn next_scan_deadline(&self) -> MonoTime {
        let asking = self.scans.values().filter(|scan| scan.page.is_none());
        let next = asking.map(|scan| scan.machine.next_deadline()).min();
        next.unwrap_or(MonoTime::from_micros(u64::MAX))
    }

    /// A peer can be talked to again: asks it what pages still want from it.
    pub(super) fn send_scans_again(&mut self, now: Now, peer: NodeId, effects: &mut Effects) {
        let open: Vec<(OpNumber, u32)> = self
            .scans
            .iter()
            .flat_map(|(op, scan)| scan.machine.waits_for(peer).map(|ask| (*op, ask)))
            .collect();
        for (op, ask) in open {
            self.put_question(now, op, ask, effects);
        }
    }
}

fn bound<'a>(keyspace: KeyspaceId, start: &'a Bytes, end: Option<&'a Bytes>) -> ScanBound<'a> {
    ScanBound {
        keyspace,
        start,
        end: end.map(|end| &end[..]),
    }
}

/// Those to ask first come first.
const fn rank(liveness: Liveness) -> u8 {
    match liveness {
        Liveness::Up => 0,
        Liveness::Suspect => 1,
        Liveness::Down => 2,
    }
}
