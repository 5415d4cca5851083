//! A node assembled from its seams: opens the store, makes the shard, gives back the loops.
//!
//! The same assembly serves the real node (`shell::run`) and the simulator; they differ in the
//! seams that they pass in and in who runs the loops. Dropping the loops is a crash.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::VnodeSums;
use quorate_ring::{KeyspaceId, NodeId, VnodeId};
use tokio::sync::{mpsc, oneshot};

use super::drive::{Alarm, Comparisons, Drive, Ending, QUESTIONS_WAITING_MAX, Question};
use super::inbox::Inbox;
use super::metrics::Metrics;
use super::seam::{BoxFuture, ClientPort, Clock, Disk, EngineError, Links};
use super::store::{self, OpenError, OpenOptions, Opened, StoreHandle, StoreLoops};
use crate::core::exchange::{CompareRefused, Compared, Purpose};
use crate::core::input::{Contradiction, Damaged, Input, Now, StoreEvent};
use crate::core::key::RecordKey;
use crate::core::shard::{DeclareRefused, Shard, ShardConfig, ShardStatus};
use crate::core::table::Lookup;

/// How often free disk space is looked up.
const SPACE_POLL: Duration = Duration::from_secs(1);

/// What a node is made of.
pub struct NodeParts {
    /// Identity, topology, secrets and bounds of the shard.
    pub shard: ShardConfig,
    /// How the store is opened. Its `events` sink must lead to `inbox`.
    pub store: OpenOptions,
    /// What the shard hears.
    pub inbox: Arc<Inbox>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Other nodes.
    pub links: Arc<dyn Links>,
    /// Clients.
    pub clients: Arc<dyn ClientPort>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl std::fmt::Debug for NodeParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeParts")
            .field("me", &self.shard.me)
            .finish_non_exhaustive()
    }
}

/// A node whose store is open, ready to be run.
pub struct OpenNode {
    /// The shard's loop.
    pub drive: BoxFuture<'static, Ending>,
    /// Looks up free disk space; never ends.
    pub space: BoxFuture<'static, ()>,
    /// The store's loops.
    pub store_loops: StoreLoops,
    /// Asks and stops.
    pub handle: NodeHandle,
}

impl std::fmt::Debug for OpenNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenNode")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

/// Asks a running node, and stops it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NodeHandle {
    inbox: Arc<Inbox>,
    store: StoreHandle,
    questions: mpsc::Sender<Question>,
}

/// Why an admin question was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// The engine could not read.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine's copy of the key is damaged.
    #[error("the engine's copy is damaged: {0}")]
    Damaged(String),
}

/// Opens the store and assembles a node.
///
/// # Errors
/// [`OpenError`] if the store must not or cannot be opened.
///
/// # Cancel safety
/// Like a crash of a starting node.
pub async fn open(parts: NodeParts) -> Result<OpenNode, OpenError> {
    let NodeParts {
        shard,
        store,
        inbox,
        clock,
        links,
        clients,
        metrics,
    } = parts;
    let disk = Arc::clone(&store.disk);
    let Opened {
        recovered,
        handle: store,
        loops: store_loops,
    } = store::open(store).await?;
    let (questions, asked) = mpsc::channel(QUESTIONS_WAITING_MAX);
    let now = Now {
        mono: clock.now(),
        wall_micros: clock.wall_micros(),
    };
    let shard = Shard::new(now, shard, recovered);
    let handle = NodeHandle {
        inbox: Arc::clone(&inbox),
        store: store.clone(),
        questions,
    };
    let space = poll_space(disk, Arc::clone(&clock), Arc::clone(&inbox));
    let drive = Drive {
        shard,
        inbox,
        clock,
        links,
        clients,
        store,
        metrics,
        questions: asked,
        comparisons: Comparisons::default(),
        memories: BTreeMap::new(),
        alarm: Alarm::default(),
    };
    Ok(OpenNode {
        drive: Box::pin(drive.run()),
        space: Box::pin(space),
        store_loops,
        handle,
    })
}

async fn poll_space(disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, inbox: Arc<Inbox>) {
    loop {
        // A failed look-up says nothing; a disk that fails fails the log.
        if let Ok((free_bytes, total_bytes)) = disk.space().await {
            inbox.push(Input::DiskSpace {
                free_bytes,
                total_bytes,
            });
        }
        clock.sleep_until(clock.now() + SPACE_POLL).await;
    }
}

impl NodeHandle {
    /// Takes no more requests; the loop ends once everything in flight has.
    pub fn drain(&self) {
        self.inbox.push(Input::Drain);
    }

    /// Ends the store's loops, with a clean-stop frame. After the shard's loop has ended.
    pub fn stop_store(&self) {
        self.store.stop();
    }

    /// The store's queues and its engine.
    #[must_use]
    pub fn store(&self) -> &StoreHandle {
        &self.store
    }

    /// Numbers for `status`.
    ///
    /// # Errors
    /// [`QuestionError::Stopping`].
    ///
    /// # Cancel safety
    /// Nothing happens but the question.
    pub async fn status(&self) -> Result<ShardStatus, QuestionError> {
        self.ask(Question::Status).await
    }

    /// The durable record of a key on this node, read from the table or the engine.
    ///
    /// # Errors
    /// [`QuestionError`].
    ///
    /// # Cancel safety
    /// Nothing happens but the question.
    pub async fn read_local(&self, key: RecordKey) -> Result<Option<Bytes>, QuestionError> {
        let question = key.clone();
        match self.ask(|to| Question::Durable(question, to)).await? {
            Lookup::Known(record) => Ok(record),
            Lookup::MustLoad => {
                let mut loaded = self.store.engine.load(vec![key]).await;
                match loaded.pop().map(|(_, result)| result) {
                    Some(Ok(record)) => Ok(record),
                    Some(Err(damaged)) => Err(QuestionError::Damaged(damaged.reason)),
                    None => Ok(None),
                }
            }
        }
    }

    /// Up to `limit` durable records of the vnode of `after`, with keys after it, in key order;
    /// fewer only at the end of the vnode. The table is read first: what leaves it meanwhile is
    /// visible in the engine by then.
    ///
    /// # Errors
    /// [`QuestionError`].
    ///
    /// # Cancel safety
    /// Nothing happens but the question.
    pub async fn dump_local(
        &self,
        mut after: RecordKey,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Bytes)>, QuestionError> {
        let mut found = Vec::new();
        loop {
            let rows = self.dump_part(after, limit - found.len()).await?;
            let Some((last, _)) = rows.last() else {
                return Ok(found);
            };
            after = last.clone();
            // What was purged and is still in the engine is passed over.
            found.extend(rows.into_iter().filter(|(_, record)| !record.is_empty()));
            if found.len() >= limit {
                return Ok(found);
            }
        }
    }

    /// Somebody who reads for an operator met this: what follows is as if the shard had met it.
    pub fn met_damage(&self, error: &EngineError) {
        if error.is_damage {
            let damaged = Damaged {
                reason: error.reason.clone(),
                is_proven: true,
            };
            self.inbox.push(Input::Store(StoreEvent::Damaged(damaged)));
        }
    }

    /// The same with purged keys, whose records have no bytes.
    async fn dump_part(
        &self,
        after: RecordKey,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Bytes)>, QuestionError> {
        let question = after.clone();
        let newer = self
            .ask(|to| Question::DurableAfter(question, limit, to))
            .await?;
        let older = self.store.engine.scan(Some(after.clone()), limit).await?;
        let of_vnode = older
            .into_iter()
            .take_while(|(key, _)| key.range() == after.range());
        let mut rows: BTreeMap<RecordKey, Bytes> = of_vnode.collect();
        rows.extend(newer);
        // Both parts are complete up to their own `limit`, so the first `limit` of both are.
        Ok(rows.into_iter().take(limit).collect())
    }

    /// Compares copies with those of `peer`, from the vnode `first` on as far as one answer goes.
    ///
    /// # Errors
    /// [`QuestionError::Stopping`].
    ///
    /// # Cancel safety
    /// The comparison goes on.
    pub async fn compare(
        &self,
        peer: NodeId,
        purpose: Purpose,
        first: VnodeId,
    ) -> Result<Result<Compared, CompareRefused>, QuestionError> {
        self.ask(|to| Question::Compare(peer, purpose, first, to))
            .await
    }

    /// Notes, durably, that the disks of nodes are lost.
    ///
    /// # Errors
    /// [`QuestionError::Stopping`]; [`DeclareRefused`] if a node is unknown or up, or it finds no
    /// room.
    ///
    /// # Cancel safety
    /// It may be noted.
    pub async fn declare_lost(
        &self,
        nodes: Vec<NodeId>,
    ) -> Result<Result<(), DeclareRefused>, QuestionError> {
        self.ask(|to| Question::DeclareLost(nodes, to)).await
    }

    /// The operator knows what may be lost here: it is told no more, from the next start on either.
    pub fn accept_losses(&self) {
        self.inbox.push(Input::AcceptLosses);
    }

    /// Digests and holdings of the durable states of a vnode's records.
    ///
    /// # Errors
    /// [`QuestionError::Stopping`].
    ///
    /// # Cancel safety
    /// Nothing happens but the question.
    pub async fn vnode_sums(
        &self,
        keyspace: KeyspaceId,
        vnode: VnodeId,
    ) -> Result<Arc<VnodeSums>, QuestionError> {
        self.ask(|to| Question::Sums(keyspace, vnode, to)).await
    }

    /// The slow read found twice, while nothing was written, that the records of these copies are
    /// not those of their sums.
    pub fn contradicted(&self, copies: Vec<Contradiction>) {
        self.inbox.push(Input::Contradicted(copies));
    }

    /// Pays for what the slow read is about to read, up to `cost`; tells how much the budget let it
    /// pay.
    ///
    /// # Errors
    /// [`QuestionError::Stopping`].
    ///
    /// # Cancel safety
    /// It may be paid.
    pub async fn pay_for_scrub(&self, cost: u64) -> Result<u64, QuestionError> {
        self.ask(|to| Question::PayForScrub(cost, to)).await
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Question,
    ) -> Result<T, QuestionError> {
        let (to, answer) = oneshot::channel();
        let asked = self.questions.send(question(to)).await;
        asked.map_err(|_| QuestionError::Stopping)?;
        answer.await.map_err(|_| QuestionError::Stopping)
    }
}
