//! The shard's loop: input, step, effects. The same in a real node and in the simulator.
//!
//! All that waits is taken at once, stepped through, and its effects leave in batches: one
//! submission for the committer, then one frame per peer, then the answers. Appends go first, so
//! that nothing that a frame promises is behind it in a queue.
//!
//! Not here: what to do (`core`), how bytes travel (`link`, `serve`), the store's own loops.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use quorate_antientropy::VnodeSums;
use quorate_ring::{KeyspaceId, Lsn, MonoTime, NodeId, VnodeId};
use tokio::sync::{mpsc, oneshot};

use super::inbox::Inbox;
use super::metrics::{Ended, Metrics, Operation, Tally};
use super::profile::{Lap, Stage};
use super::seam::{BoxFuture, ClientPort, Clock, Links};
use super::store::{Declared, StoreHandle, Submission};
use crate::core::effect::{Effect, Effects, Event, RequestKind, StopReason};
use crate::core::exchange::{CompareRefused, Compared, Purpose};
use crate::core::failure::Effectiveness;
use crate::core::input::{Input, Now, RequestId, StoreEvent};
use crate::core::key::RecordKey;
use crate::core::message::{PeerMessage, Reply};
use crate::core::shard::{DeclareRefused, Shard, ShardStatus};
use crate::core::table::Lookup;
use crate::core::timeline::Memory;

/// Admin questions that may wait for the loop.
pub const QUESTIONS_WAITING_MAX: usize = 64;

/// Requests that the loop takes in one round: what peers and the store say meanwhile waits no
/// longer.
const REQUESTS_PER_ROUND: usize = 256;

/// A question to the shard's state, answered between two batches.
#[derive(Debug)]
pub enum Question {
    /// Numbers for `status`, and which vnodes count.
    Status(oneshot::Sender<ShardStatus>),
    /// Durable records that the engine does not have, after a key, at most so many.
    DurableAfter(RecordKey, usize, oneshot::Sender<Vec<(RecordKey, Bytes)>>),
    /// The sums over the durable states of a vnode of a keyspace.
    Sums(KeyspaceId, VnodeId, oneshot::Sender<Arc<VnodeSums>>),
    /// The durable state of a key.
    Durable(RecordKey, oneshot::Sender<Lookup>),
    /// What copies compared with another node's show, from a vnode on.
    Compare(
        NodeId,
        Purpose,
        VnodeId,
        oneshot::Sender<Result<Compared, CompareRefused>>,
    ),
    /// The slow read is about to read so many bytes; tells how many of them the budget let it pay.
    PayForScrub(u64, oneshot::Sender<u64>),
    /// The disks of these nodes are lost; answered once that is durable.
    DeclareLost(Vec<NodeId>, oneshot::Sender<Result<(), DeclareRefused>>),
}

/// Who waits for comparisons, and for what an operator said to be kept.
#[derive(Debug, Default)]
pub struct Comparisons {
    asked: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Result<Compared, CompareRefused>>>,
    declaring: BTreeMap<u64, oneshot::Sender<Result<(), DeclareRefused>>>,
}

/// Why the loop ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It was asked to drain, and everything in flight has ended.
    Drained,
    /// The node must not serve.
    Stopped(StopReason),
}

/// What the loop works with.
#[derive(Debug)]
pub struct Drive {
    /// The machine.
    pub shard: Shard,
    /// What it hears.
    pub inbox: Arc<Inbox>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Other nodes.
    pub links: Arc<dyn Links>,
    /// Clients.
    pub clients: Arc<dyn ClientPort>,
    /// The store's queues.
    pub store: StoreHandle,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Admin questions.
    pub questions: mpsc::Receiver<Question>,
    /// Comparisons that were asked for.
    pub comparisons: Comparisons,
    /// Memories that wait for the next batch: they cause no sync, and no wake-up, of their own.
    pub memories: BTreeMap<NodeId, Memory>,
    /// Wakes the loop for the shard's deadlines.
    pub alarm: Alarm,
}

/// The loop's one timer. Once set it stays, also if the deadline moves to later: that it wakes the
/// loop for nothing now and then costs less than to set it anew in every round, each time with a
/// system call.
#[derive(Default)]
pub struct Alarm(Option<(MonoTime, BoxFuture<'static, ()>)>);

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.0.as_ref().map(|(at, _)| at);
        f.debug_tuple("Alarm").field(&at).finish()
    }
}

impl Alarm {
    /// Completes at `deadline` or earlier.
    ///
    /// # Cancel safety
    /// It stays set.
    async fn rings(&mut self, clock: &dyn Clock, deadline: MonoTime) {
        let is_late = |(at, _): &(MonoTime, _)| deadline < *at;
        if self.0.as_ref().is_none_or(is_late) {
            self.0 = Some((deadline, clock.sleep_until(deadline)));
        }
        if let Some((_, timer)) = &mut self.0 {
            timer.await;
        }
        self.0 = None;
    }
}

/// Effects of one round, sorted by where they go. Used again from round to round.
#[derive(Debug, Default)]
struct Outgoing {
    submission: Submission,
    sends: BTreeMap<NodeId, Vec<PeerMessage>>,
    replies: Vec<(RequestId, Reply)>,
    tally: Tally,
    stop: Option<StopReason>,
}

impl Drive {
    /// Runs until the node has drained or must stop.
    ///
    /// # Cancel safety
    /// Dropping it is a crash: nothing that was promised is lost, everything else is.
    pub async fn run(mut self) -> Ending {
        let mut batch = Vec::new();
        let mut effects = Effects::new();
        let mut out = Outgoing::default();
        let mut draining = false;
        let profile = Arc::clone(self.metrics.profile());
        loop {
            self.wait().await;
            let now = self.now();
            // A node that drains refuses all that waits: it must not end with a request unanswered.
            let room = if draining {
                usize::MAX
            } else {
                self.shard.room().min(REQUESTS_PER_ROUND)
            };
            self.inbox.take(now.mono, room, &mut batch);
            let (inputs, mut lap) = (batch.len(), profile.lap(Stage::Core));
            for input in batch.drain(..) {
                draining |= matches!(input, Input::Drain);
                if let Input::Store(StoreEvent::Durable(lsn)) = &input {
                    self.count_batch(*lsn);
                }
                self.shard.step(now, input, &mut effects);
            }
            if now.mono >= self.shard.next_deadline() {
                self.shard.step(now, Input::Tick, &mut effects);
            }
            lap.ends(Stage::Core, inputs);
            if let Some(reason) = self.perform(now, &mut effects, &mut out, lap) {
                return Ending::Stopped(reason);
            }
            while let Ok(question) = self.questions.try_recv() {
                self.answer(now, question);
            }
            if draining && self.shard.is_idle() && self.inbox.requests_waiting() == 0 {
                self.hand_over_memories();
                return Ending::Drained;
            }
            // The links' tasks share this thread: under load, let them fill the next batch. Where
            // one thing comes after the other that would only cost a look for packets.
            if inputs > 1 || self.inbox.has_waiting() {
                tokio::task::yield_now().await;
            }
        }
    }

    /// What is remembered of others goes into the log before a clean stop.
    fn hand_over_memories(&mut self) {
        let memories = std::mem::take(&mut self.memories).into_iter().collect();
        let submission = Submission::of_memories(memories);
        // A queue that is closed or full loses what peers pass on again at the next start.
        drop(self.store.commits.push(submission));
    }

    /// Why a queue of the store takes nothing: a loop that fails closes its queue first and then
    /// says why, so the reason may be waiting.
    fn store_failed(&self, queue: &str) -> StopReason {
        let mut waiting = Vec::new();
        self.inbox.take_all_but_requests(&mut waiting);
        let told = waiting.into_iter().find_map(|input| match input {
            Input::Store(StoreEvent::Failed(failure)) => Some(failure.to_string()),
            _ => None,
        });
        let reason = told.unwrap_or_else(|| format!("{queue} is closed or over its bound"));
        StopReason::StoreFailed { reason }
    }

    fn count_batch(&self, durable: Lsn) {
        let frames = durable.0.saturating_sub(self.shard.table().durable_lsn().0);
        self.metrics
            .batch_durable(f64::from(u32::try_from(frames).unwrap_or(u32::MAX)));
        self.metrics.profile().count(Stage::Commit, frames);
    }

    /// Waits for something to hear, or for the next deadline.
    async fn wait(&mut self) {
        let deadline = self.shard.next_deadline();
        tokio::select! {
            biased;
            () = self.inbox.ready(self.shard.room() > 0) => {}
            question = self.questions.recv() => {
                if let Some(question) = question {
                    let now = self.now();
                    self.answer(now, question);
                }
            }
            () = self.alarm.rings(&*self.clock, deadline) => {}
        }
    }

    fn now(&self) -> Now {
        Now {
            mono: self.clock.now(),
            wall_micros: self.clock.wall_micros(),
        }
    }

    /// Carries the effects out; gives the reason if the node must stop.
    fn perform(
        &mut self,
        now: Now,
        effects: &mut Effects,
        out: &mut Outgoing,
        mut lap: Lap<'_>,
    ) -> Option<StopReason> {
        for effect in effects.drain(..) {
            self.sort(now, effect, out);
        }
        if out.stop.is_some() {
            // What follows from an unsound state must not leave the node.
            return out.stop.take();
        }
        let frames = out.submission.len();
        if !out.submission.is_empty() {
            let mut submission = out.submission.take();
            submission.memories = std::mem::take(&mut self.memories).into_iter().collect();
            if self.store.commits.push(submission).is_err() {
                return Some(self.store_failed("the log's queue"));
            }
        }
        lap.ends(Stage::Append, frames);
        let header = self.shard.header();
        let mut sent = 0;
        for (peer, messages) in &mut out.sends {
            if messages.is_empty() {
                continue;
            }
            sent += messages.len();
            // Without a connection they are lost; the link's return sends again what still matters.
            if self.links.send(*peer, header, take(messages)).is_err() {
                out.tally.event(Event::SendRefused);
            }
        }
        lap.ends(Stage::PeerEncode, sent);
        if !out.replies.is_empty() {
            let replies = take(&mut out.replies);
            let count = replies.len();
            self.clients.reply(replies);
            lap.ends(Stage::ReplyEncode, count);
        }
        self.metrics.add(&mut out.tally);
        None
    }

    fn sort(&mut self, now: Now, effect: Effect, out: &mut Outgoing) {
        match effect {
            Effect::Reply { to, asked, reply } => {
                #[expect(clippy::cast_precision_loss, reason = "a latency is far below 2^52 us")]
                let seconds = now.mono.since(asked.at).as_micros() as f64 / 1e6;
                out.tally
                    .request(operation(asked.kind), ended(&reply), seconds);
                out.replies.push((to, reply));
            }
            Effect::Send { to, message } => out.sends.entry(to).or_default().push(message),
            Effect::Append { lsn, entry } => out.submission.push(lsn, &entry),
            Effect::Remember { node, memory } => {
                self.memories.insert(node, memory);
            }
            Effect::Load(key) => {
                self.metrics.profile().count(Stage::EngineLoad, 1);
                if self.store.loads.push(key).is_err() {
                    out.stop
                        .get_or_insert(self.store_failed("the loader's queue"));
                }
            }
            Effect::Ingest(generation) => {
                let rows = generation.rows.len() as u64;
                self.metrics.profile().count(Stage::EngineFeed, rows);
                if self.store.feed.push(generation).is_err() {
                    out.stop
                        .get_or_insert(self.store_failed("the engine's queue"));
                }
            }
            Effect::Scan(read) => {
                if self.store.scans.push(read).is_err() {
                    out.stop
                        .get_or_insert(self.store_failed("the scanner's queue"));
                }
            }
            Effect::CloseLink { peer, link } => self.links.close(peer, link),
            Effect::Compared { number, result } => {
                // Who asked may have gone.
                if let Some(to) = self.comparisons.waiting.remove(&number) {
                    let _told = to.send(result);
                }
            }
            // A queue that is full keeps it in memory only: what a crash takes an exchange finds.
            Effect::Hint(change) => drop(self.store.hints.push(change)),
            Effect::Healed(healed) => out.submission.healed = Some(healed),
            Effect::NoteLoss(why) => out.submission.lost = Some(why),
            Effect::NoteDoubt(copies) => out.submission.in_doubt = Some(copies),
            Effect::DeclareLost { lost, number } => {
                out.submission.declared.push(Declared { lost, number });
            }
            Effect::LossDeclared { number, result } => {
                // Who asked may have gone.
                if let Some(to) = self.comparisons.declaring.remove(&number) {
                    let _told = to.send(result);
                }
            }
            Effect::Count(event) => out.tally.event(event),
            Effect::Stop(reason) => {
                out.stop.get_or_insert(reason);
            }
        }
    }

    fn answer(&mut self, now: Now, question: Question) {
        // Who asked may have gone: then nobody misses the answer.
        match question {
            Question::Status(to) => drop(to.send(self.shard.status(now))),
            Question::DurableAfter(after, limit, to) => {
                drop(to.send(self.shard.table().durable_after(&after, limit)));
            }
            Question::Sums(keyspace, vnode, to) => {
                drop(to.send(self.shard.table().digests().vnode(keyspace, vnode)));
            }
            Question::Durable(key, to) => drop(to.send(self.shard.table().durable(&key))),
            Question::PayForScrub(cost, to) => drop(to.send(self.shard.pay_for_scrub(now, cost))),
            Question::DeclareLost(nodes, to) => {
                self.comparisons.asked += 1;
                let number = self.comparisons.asked;
                self.comparisons.declaring.insert(number, to);
                self.inbox.push(Input::DeclareLost { number, nodes });
            }
            Question::Compare(peer, purpose, first, to) => {
                self.comparisons.asked += 1;
                let number = self.comparisons.asked;
                self.comparisons.waiting.insert(number, to);
                self.inbox.push(Input::Compare {
                    number,
                    peer,
                    purpose,
                    first,
                });
            }
        }
    }
}

/// Takes what there is and leaves room for as much: rounds under load are alike.
fn take<T>(items: &mut Vec<T>) -> Vec<T> {
    let next = Vec::with_capacity(items.len());
    std::mem::replace(items, next)
}

const fn operation(kind: RequestKind) -> Operation {
    match kind {
        RequestKind::Put => Operation::Put,
        RequestKind::Delete => Operation::Delete,
        RequestKind::Get => Operation::Get,
        RequestKind::Resolve => Operation::Resolve,
        RequestKind::Scan => Operation::Scan,
        RequestKind::Batch => Operation::Batch,
    }
}

const fn ended(reply: &Reply) -> Ended {
    match reply {
        // What became of a batch's items is told item by item.
        Reply::Applied { .. } | Reply::Read { .. } | Reply::Page { .. } | Reply::Batch(_) => {
            Ended::Ok
        }
        Reply::Failed(failure) => match failure.effect {
            Effectiveness::NotApplied => Ended::NotApplied,
            Effectiveness::Unknown => Ended::Unknown,
        },
    }
}
