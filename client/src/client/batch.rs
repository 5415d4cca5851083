//! Many operations at once: one request per node and round, an outcome per item.
//!
//! Each item keeps what a single operation keeps (its op id, its attempts, its deadline) and is
//! retried by the same policy; what an item's failure says, it says of that item alone. A request
//! counts as one towards the retry budget and the hold-back, as it is refused or lost as one. A
//! round sends the items that are due, grouped by the node that each of them wants to ask next, and
//! ends when all its requests have.
//!
//! Not here: one request and its hedge (`group`), the policies (`route`, `retry`, `outcome`),
//! single operations (`perform`).

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use quorate_ring::{MonoTime, NodeId};
use tokio::sync::SemaphorePermit;
use tokio::time::sleep;

use super::answer_room::AnswerRoom;
use super::group::{Answer, Group, GroupEnd, Other};
use super::operation::{Done, IfSuperseded, Operation};
use super::progress::{Ended, Progress};
use super::{Client, lock};
use crate::error::{Failure, LinkPhase};
use crate::op_id::AttemptMark;
use crate::retry::{GiveUp, RetryDecision, attempt_timeout, decide};
use crate::topology::Topology;
use crate::transport::{BoxFuture, CallCause, CallError};
use crate::versions::{Read, Written};
use crate::wire::{self, BatchItem, Code, ItemResult, Request, Response, Stamp};

/// Bytes of keys and values that one request carries, well under the longest frame.
const REQUEST_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Time for looking the topology up between two rounds.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);

/// What became of one operation.
pub(crate) type ItemEnd = Result<Done, Box<Failure>>;

pub(super) struct Item {
    pub(super) operation: Operation,
    level: wire::Level,
    pub(super) progress: Progress,
    due: MonoTime,
    /// It was applied in an lww keyspace and told that it was superseded; it is written again.
    applied: Option<Written>,
    end: Option<ItemEnd>,
}

impl Item {
    /// The node that was chosen last has not looked at it, or its answer had no room: that was no
    /// attempt, and the same node may be chosen again.
    fn ask_again(&mut self, now: MonoTime, node: NodeId) {
        self.progress.tried.retain(|tried| *tried != node);
        self.due = now;
    }

    pub(super) fn has_no_attempt_left(&self) -> bool {
        let most = self.operation.attempts.count_max.unwrap_or(u16::MAX);
        self.progress.write.count() >= most
    }

    /// What an attempt asks.
    pub(super) fn request(&self, mark: AttemptMark) -> Option<BatchItem> {
        match self
            .operation
            .request(self.level, mark, self.progress.stamp)
        {
            Request::Put(put) => Some(BatchItem::Put(put)),
            Request::Delete(delete) => Some(BatchItem::Delete(delete)),
            Request::Get(get) => Some(BatchItem::Get(get)),
            Request::SessionGet(get) => Some(BatchItem::SessionGet(get)),
            Request::Topology
            | Request::Resolve(_)
            | Request::Status
            | Request::ReadLocal(_)
            | Request::DumpLocal(_)
            | Request::Verify(_)
            | Request::Repair(_)
            | Request::DeclareLost(_)
            | Request::Scan(_)
            | Request::Batch(_) => None,
        }
    }

    /// Notes the request of its group that did not decide; `succeeded` says what the other one did.
    fn note_other(
        &mut self,
        now: MonoTime,
        topology: &Topology,
        other: &Other,
        ended: Option<Ended>,
        succeeded: bool,
    ) {
        let decisive = std::mem::replace(&mut self.progress.sent, (other.sent, LinkPhase::Open));
        match ended {
            None if succeeded => {
                let label = topology.node_label(other.node);
                self.progress.outrun(now, label);
            }
            ended => {
                let lost = || Ended::NoAnswer(CallError::Lost(CallCause::TimedOut));
                let ended = ended.unwrap_or_else(lost);
                let (progress, operation) = (&mut self.progress, &self.operation);
                progress.note(now, topology, other.node, ended, operation);
            }
        }
        self.progress.sent = decisive;
    }
}

impl Client {
    /// Carries out all operations, each within its deadline; ends come in their order.
    pub(crate) async fn perform_all(&self, operations: Vec<Operation>) -> Vec<ItemEnd> {
        let (mut items, _turn) = self.items_in_turn(operations).await;
        let mut room = AnswerRoom::default();
        while let Some(due) = self.next_due(&mut items) {
            let now = self.now();
            if now < due {
                sleep(due.since(now)).await;
            }
            self.round(&mut items, &mut room).await;
        }
        let ends = items.into_iter().map(|item| {
            let end = item.end.expect("nothing is due when all have ended");
            let failed = end.as_ref().err().map(|failure| failure.outcome);
            let took = item.progress.took(self.now());
            self.shared
                .metrics
                .ended(item.operation.kind(), failed, took);
            end
        });
        ends.collect()
    }

    /// The items when it is the batch's turn; all have ended if it did not come.
    async fn items_in_turn(
        &self,
        operations: Vec<Operation>,
    ) -> (Vec<Item>, Option<SemaphorePermit<'_>>) {
        let from = self.now();
        let deadline = operations.iter().map(|operation| operation.deadline).min();
        let turn = self.shared.turns.take(deadline.unwrap_or_default()).await;
        let items = operations.into_iter().map(|o| self.item(o, from));
        let mut items: Vec<Item> = items.collect();
        if turn.is_none() {
            for item in items.iter_mut().filter(|item| item.end.is_none()) {
                self.give_up(item, GiveUp::NoTurn);
            }
        }
        (items, turn)
    }

    fn item(&self, operation: Operation, from: MonoTime) -> Item {
        let now = self.now();
        let until = from + operation.deadline;
        let progress = Progress::start(self, from, until, self.stamp_for(&operation));
        let checked = self.checked_level(&operation);
        Item {
            level: *checked.as_ref().unwrap_or(&wire::Level::Quorum),
            operation,
            progress,
            due: now,
            applied: None,
            end: checked.err().map(Err),
        }
    }

    /// Ends items that are out of time; when the next one is due, `None` if all have ended.
    fn next_due(&self, items: &mut [Item]) -> Option<MonoTime> {
        let now = self.now();
        let mut next = None;
        for item in items.iter_mut().filter(|item| item.end.is_none()) {
            if item.progress.until <= now {
                self.give_up(item, GiveUp::Deadline);
            } else {
                let due = item.due.min(item.progress.until);
                next = Some(next.map_or(due, |next: MonoTime| next.min(due)));
            }
        }
        next
    }

    fn give_up(&self, item: &mut Item, gave_up: GiveUp) {
        if let Some(applied) = item.applied.take() {
            // What was applied stays applied, whatever becomes of writing it again.
            item.end = Some(Ok(Done::Written(applied)));
            return;
        }
        let (now, topology) = (self.now(), self.topology());
        let spent = Progress::start(self, now, now, None);
        let progress = std::mem::replace(&mut item.progress, spent);
        item.end = Some(Err(progress.failure(
            now,
            &topology,
            &item.operation,
            gave_up,
        )));
    }

    /// Sends all items that are due and takes in what comes of them.
    async fn round(&self, items: &mut [Item], room: &mut AnswerRoom) {
        let topology = self.topology();
        let groups = self.groups(&topology, items, room);
        let ends = {
            let (topology, items) = (&topology, &*items);
            let calls = groups.into_iter().map(|group| {
                Box::pin(self.send_group(topology, items, group)) as BoxFuture<'_, GroupEnd>
            });
            all(calls.collect()).await
        };
        let mut refresh = None;
        for GroupEnd { told, other } in ends {
            let (node, members) = (told.node, told.items);
            let results = results(told.answer, members.len());
            if let Some(other) = other {
                let members = members.iter().map(|(index, _)| *index);
                self.note_others(&topology, items, (members, told.sent), other, &results);
            }
            let left = results
                .iter()
                .filter(|result| found_no_room(result))
                .count();
            room.note(node, members.len(), left);
            // An answer that holds nothing at all gets nobody on: that is an attempt that failed.
            let gets_on = left < members.len();
            let mut may_retry = None;
            for ((index, mark), result) in members.into_iter().zip(results) {
                if let Some(item) = items.get_mut(index) {
                    if gets_on && found_no_room(&result) {
                        item.ask_again(self.now(), node);
                        continue;
                    }
                    let budget = || {
                        let mut budget = lock(&self.shared.budget);
                        *may_retry.get_or_insert_with(|| budget.take())
                    };
                    let stale = self.take(&topology, item, (node, mark), result, budget);
                    refresh = refresh.or(stale.then_some(node));
                }
            }
        }
        if let Some(node) = refresh {
            self.refresh_from(node, REFRESH_TIMEOUT).await;
        }
    }

    /// The items that are due, by the node that each wants to ask, in requests of bounded size.
    fn groups(&self, topology: &Topology, items: &mut [Item], room: &AnswerRoom) -> Vec<Group> {
        let now = self.now();
        let mut groups: Vec<Group> = Vec::new();
        let mut open: BTreeMap<NodeId, (usize, usize)> = BTreeMap::new();
        // Refused as one, so held back as one.
        let mut held_back = BTreeMap::new();
        for (index, item) in items.iter_mut().enumerate() {
            if item.end.is_some() || now < item.due {
                continue;
            }
            let Some(node) = self.choose(now, topology, &item.operation, &mut item.progress) else {
                self.give_up(item, GiveUp::Final);
                continue;
            };
            let bytes = item.operation.bytes();
            let fits = open.get(&node).copied().filter(|(at, held)| {
                let members = groups.get(*at).map_or(0, |group| group.items.len());
                members < room.items_max(node) && held + bytes <= REQUEST_BYTES_MAX
            });
            if fits.is_none() && room.is_scarce(node) && open.contains_key(&node) {
                item.ask_again(now, node);
                continue;
            }
            let is_held_back = |held_back: &mut BTreeMap<NodeId, bool>| {
                *held_back
                    .entry(node)
                    .or_insert_with(|| self.holds_back(now))
            };
            if item.progress.is_unsent() && is_held_back(&mut held_back) {
                self.give_up(item, GiveUp::HeldBack);
                continue;
            }
            let (at, held) = fits.unwrap_or((groups.len(), 0));
            open.insert(node, (at, held + bytes));
            if at == groups.len() {
                groups.push(Group {
                    node,
                    items: Vec::new(),
                    request: Vec::new(),
                    limit: Duration::ZERO,
                });
            }
            if let Some(group) = groups.get_mut(at) {
                self.join(topology, item, index, group);
            }
        }
        groups
    }

    /// Puts an item's next attempt into a request.
    fn join(&self, topology: &Topology, item: &mut Item, index: usize, group: &mut Group) {
        let (now, progress) = (self.now(), &mut item.progress);
        let nodes = topology.nodes().len();
        let untried = (nodes + 1).saturating_sub(progress.tried.len());
        let limit = attempt_timeout(progress.until.since(now), untried, nodes);
        let limit = limit.min(item.operation.attempts.deadline.unwrap_or(limit));
        group.limit = group.limit.max(limit);
        progress.sent = (now, LinkPhase::Open);
        let age = now.since(*progress.first_sent.get_or_insert(now));
        let mark = progress.write.next(age, || self.draw_op_id());
        group.items.push((index, mark));
        group.request.extend(item.request(mark));
    }

    /// Notes for each item of a group the request that did not decide.
    fn note_others(
        &self,
        topology: &Topology,
        items: &mut [Item],
        (members, sent): (impl ExactSizeIterator<Item = usize>, MonoTime),
        mut other: Other,
        told: &[Result<ItemResult, CallError>],
    ) {
        let now = self.now();
        let answer = other.answer.take();
        let mut failures = answer.map(|answer| results(answer, members.len()).into_iter());
        let writes = std::mem::take(&mut other.writes);
        for ((index, write), told) in members.zip(writes).zip(told) {
            let ended = failures.as_mut().and_then(Iterator::next).map(ended);
            if let Some(item) = items.get_mut(index) {
                item.progress.write = write;
                item.progress.tried.push(other.hedge);
                item.progress.sent = (sent, LinkPhase::Open);
                let succeeded = matches!(told, Ok(ItemResult::Read(_) | ItemResult::Applied(_)));
                item.note_other(now, topology, &other, ended, succeeded);
            }
        }
    }

    /// Takes in what became of an item's attempt; true if the topology may be stale. `may_retry`
    /// asks the budget, once for all items of the request.
    fn take(
        &self,
        topology: &Topology,
        item: &mut Item,
        (node, mark): (NodeId, AttemptMark),
        result: Result<ItemResult, CallError>,
        may_retry: impl FnOnce() -> bool,
    ) -> bool {
        let is_write = item.operation.is_write();
        let ended = match result {
            Ok(ItemResult::Read(read)) if !is_write => {
                self.follow_stamp(read.stamp);
                item.end = Some(Ok(Done::Read(Read::from_wire(read))));
                return false;
            }
            Ok(ItemResult::Applied(applied)) if is_write => {
                self.follow_stamp(applied.superseded_by);
                let count = item.progress.write.count();
                let stamp = item.progress.stamp;
                let written = Written::from_wire(applied, mark.op_id, count, stamp);
                self.written(item, written);
                return false;
            }
            failed => ended(failed),
        };
        if matches!(&ended, Ended::Refused(failure) if failure.code == Code::StampAhead) {
            lock(&self.shared.stamps).refused();
        }
        let failure = ended.for_retry();
        let progress = &mut item.progress;
        progress.note(self.now(), topology, node, ended, &item.operation);
        if item.has_no_attempt_left() {
            self.give_up(item, GiveUp::Attempts);
            return false;
        }
        let situation = item.progress.situation(self, topology, &item.operation);
        let decision = decide(failure, &situation);
        let (after, costs) = match decision {
            RetryDecision::Retry { after, costs } => (after, costs),
            RetryDecision::Refresh { after } => (after, true),
            RetryDecision::GiveUp(gave_up) => {
                self.give_up(item, gave_up);
                return false;
            }
        };
        if costs && !may_retry() {
            self.give_up(item, GiveUp::Budget);
            return false;
        }
        item.due = self.now() + after;
        matches!(decision, RetryDecision::Refresh { .. })
    }
}

impl Client {
    /// Ends an item that was applied, unless it is to be written again above a higher stamp.
    fn written(&self, item: &mut Item, written: Written) {
        let earlier = item.applied.take().map_or(0, |before| before.attempts());
        let written = written.after_attempts(earlier);
        let again = item.operation.if_superseded == IfSuperseded::WriteAgain;
        match written.superseded_by() {
            Some(Stamp { stamp, feed }) if again && self.now() < item.progress.until => {
                let above = lock(&self.shared.stamps).stamp_above(stamp, feed);
                let now = self.now();
                item.progress = Progress::start(self, now, item.progress.until, Some(above));
                item.due = now;
                item.applied = Some(written);
            }
            _ => item.end = Some(Ok(Done::Written(written))),
        }
    }
}

fn found_no_room(result: &Result<ItemResult, CallError>) -> bool {
    matches!(result, Ok(ItemResult::Failure(f)) if f.code == Code::BatchAnswerFull)
}

/// How an item's request ended that did not succeed.
fn ended(result: Result<ItemResult, CallError>) -> Ended {
    match result {
        Ok(ItemResult::Failure(failure)) => Ended::Refused(failure),
        // The answer to another question.
        Ok(ItemResult::Read(_) | ItemResult::Applied(_)) => {
            Ended::NoAnswer(CallError::Lost(CallCause::Malformed))
        }
        Err(error) => Ended::NoAnswer(error),
    }
}

/// What became of each of `count` items of one request.
fn results(answer: Answer, count: usize) -> Vec<Result<ItemResult, CallError>> {
    let malformed = || CallError::Lost(CallCause::Malformed);
    match answer {
        Ok(Response::Batch(results)) if results.len() == count => {
            results.into_iter().map(Ok).collect()
        }
        // Refused as a whole: each of its items was.
        Ok(Response::Failure(failure)) => {
            let refused = |_| Ok(ItemResult::Failure(failure.clone()));
            (0..count).map(refused).collect()
        }
        Ok(_) => (0..count).map(|_| Err(malformed())).collect(),
        Err(error) => (0..count).map(|_| Err(error.clone())).collect(),
    }
}

/// Waits for all of `futures` at once, without tasks.
async fn all<T>(futures: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    let mut open: Vec<Result<BoxFuture<'_, T>, T>> = futures.into_iter().map(Ok).collect();
    std::future::poll_fn(|context| {
        let mut waiting = false;
        for slot in &mut open {
            if let Ok(future) = slot {
                match future.as_mut().poll(context) {
                    Poll::Ready(done) => *slot = Err(done),
                    Poll::Pending => waiting = true,
                }
            }
        }
        if waiting {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    open.into_iter().filter_map(Result::err).collect()
}
