//! What a node answers about itself: topology, status, its own copies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_antientropy::DigestSecret;
use quorate_client::wire::{
    Code, DeclareLost, DeclaredLost, DumpLocal, DumpPage, Failure, HintStatus, KeyspaceHoldings,
    LocalRecord, LossDeclared, NodeStatus, Outcome, PairStatus, PeerStatus, PurgeStatus, ReadLocal,
    Repair, Repaired, Response, Verified, Verify, VerifyFault,
};
use quorate_ring::{KeyspaceId, NodeId, Topology, VnodeId};

use tokio::sync::Semaphore;

use super::node::{NodeHandle, QuestionError};
use super::run::on_thread;
use super::seam::{BoxFuture, Clock, Disk};
use super::serve::{AdminHandler, AdminRequest, topology_of};
use crate::core::exchange::{CompareRefused, Compared, Purpose};
use crate::core::hints::TargetStatus;
use crate::core::key::RecordKey;
use crate::core::shard::{self, DeclareRefused, ShardStatus};
use crate::core::verify::{Fault, Findings};

/// Records of one page of a dump at most.
const PAGE_RECORDS_MAX: usize = 1_000;
/// Records that are read at once.
const STEP_RECORDS: usize = 128;
/// When to ask again while somebody else's request reads the store.
const VERIFY_RETRY_AFTER_MS: u32 = 500;
/// A page ends after the record that passes this many bytes.
const PAGE_BYTES_MAX: usize = 512 * 1024;

/// Answers for one running node.
#[derive(Debug)]
pub struct Admin {
    /// The node.
    pub me: NodeId,
    /// The cluster's id.
    pub cluster_id: [u8; 16],
    /// The topology in force.
    pub topology: Arc<Topology>,
    /// Seeds the digests of records.
    pub digest: DigestSecret,
    /// Asks the shard.
    pub handle: NodeHandle,
    /// The store's disk, for its free space.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Bytes that the log may hold.
    pub log_bytes_max: u64,
    /// The engine's backlog, looked up on a thread of its own.
    pub backlog: Arc<AtomicU64>,
    /// Held by the request that reads the whole store; there is one at a time.
    pub verifying: Arc<Semaphore>,
}

impl AdminHandler for Admin {
    fn answer(&self, request: AdminRequest) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let answer = match request {
                AdminRequest::Topology => Ok(Response::Topology(topology_of(
                    &self.topology,
                    self.cluster_id,
                    self.me,
                ))),
                AdminRequest::Status => {
                    let status = self.status().await;
                    status.map(|status| Response::Status(Box::new(status)))
                }
                AdminRequest::ReadLocal(read) => self.read(&read).await,
                AdminRequest::DumpLocal(dump) => self.dump(dump).await,
                AdminRequest::Verify(verify) => self.verify(verify).await,
                AdminRequest::Repair(repair) => self.repair(&repair).await,
                AdminRequest::DeclareLost(declare) => self.declare_lost(&declare).await,
            };
            answer.unwrap_or_else(|error| Response::Failure(failure(&error)))
        })
    }
}

fn failure(error: &QuestionError) -> Failure {
    let code = match error {
        QuestionError::Stopping => Code::ShuttingDown,
        QuestionError::Engine(_) | QuestionError::Damaged(_) => Code::Damaged,
    };
    refused(code)
}

/// The answer of a node that has not opened its store yet.
pub(super) fn not_ready() -> Response {
    Response::Failure(refused(Code::NotReady))
}

fn refused(code: Code) -> Failure {
    Failure {
        code,
        outcome: Outcome::NotApplied,
        acks: 0,
        required: 0,
        replicas: Vec::new(),
        retry_after_ms: 0,
        limit: 0,
    }
}

impl Admin {
    /// The numbers of `status`.
    ///
    /// # Errors
    /// [`QuestionError::Stopping`].
    ///
    /// # Cancel safety
    /// Nothing happens but the question.
    pub async fn status(&self) -> Result<NodeStatus, QuestionError> {
        let shard = self.handle.status().await?;
        let (disk_free_bytes, disk_total_bytes) = self.disk.space().await.unwrap_or((0, 0));
        Ok(self.node_status(&shard, disk_free_bytes, disk_total_bytes))
    }

    fn node_status(&self, shard: &ShardStatus, free: u64, total: u64) -> NodeStatus {
        let store = self.handle.store();
        let count = |number: usize| number as u64;
        let vnodes = |wanted: &dyn Fn(&(VnodeId, bool)) -> bool| {
            u32::try_from(shard.vnodes.iter().filter(|vnode| wanted(vnode)).count()).unwrap_or(0)
        };
        let peers = shard.peers.iter().map(|(node, up, silent_ms)| PeerStatus {
            node: node.0,
            up: *up,
            silent_ms: *silent_ms,
        });
        let hint = |counted| {
            move |hint: &TargetStatus| HintStatus {
                node: hint.target.0,
                keys: hint.keys,
                bytes: hint.bytes,
                oldest_ms: hint.oldest_ms,
                let_go: hint.let_go,
                counted,
            }
        };
        let declared = |(node, at): (&NodeId, &u64)| DeclaredLost {
            node: node.0,
            at_ms: at / 1_000,
        };
        let missed = shard.hints.iter().map(hint(false));
        let counted = shard.guests.targets.iter().map(hint(true));
        let pair = |pair: &shard::PairStatus| PairStatus {
            node: pair.peer.0,
            age_ms: pair.age_ms,
            keys: pair.found.keys,
            healed: pair.found.healed,
        };
        NodeStatus {
            node: self.me.0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            incarnation: shard.incarnation,
            durable_lsn: shard.durable_lsn,
            applied_lsn: shard.applied_lsn,
            vnodes_owned: vnodes(&|_| true),
            vnodes_counting: vnodes(&|(_, counts)| *counts),
            table_records: count(shard.table_records),
            table_bytes: shard.table_bytes,
            cache_bytes: shard.cache_bytes,
            log_bytes: self
                .log_bytes_max
                .saturating_sub(store.commits.log_room_bytes()),
            engine_backlog: self.backlog.load(Ordering::Relaxed) + u64::from(shard.ingesting),
            disk_free_bytes: free,
            disk_total_bytes: total,
            uptime_us: self.clock.now().as_micros(),
            pid: std::process::id(),
            requests_in_flight: count(shard.requests_in_flight),
            hints_wanted: shard.hints_wanted,
            peers: peers.collect(),
            keyspaces: self.holdings(shard),
            pairs: shard.pairs.iter().map(pair).collect(),
            memory_lost: !shard.memory_whole,
            lost_why: shard.lost_why.clone(),
            copies_lacking: u32::try_from(shard.copies_lacking).unwrap_or(u32::MAX),
            only_copies_lacking: u32::try_from(shard.only_copies_lacking).unwrap_or(u32::MAX),
            hints: missed.chain(counted).collect(),
            guest_records: shard.guests.records,
            guest_bytes: shard.guests.bytes,
            guest_bytes_max: shard.guest_bytes_max,
            disk_full: shard.disk_full,
            copies_in_doubt: u32::try_from(shard.copies_in_doubt).unwrap_or(u32::MAX),
            memory_copies_in_doubt: u32::try_from(shard.memory_copies_in_doubt).unwrap_or(u32::MAX),
            clock_off: !shard.clock_good,
            declared_lost: shard.declared_lost.iter().map(declared).collect(),
            purge: PurgeStatus {
                waiting: shard.purge.waiting,
                oldest_ms: shard.purge.oldest_ms,
                blocked_by: shard.purge.blocked_by.iter().map(|node| node.0).collect(),
                purged: shard.purge.purged,
            },
        }
    }

    fn holdings(&self, shard: &ShardStatus) -> Vec<KeyspaceHoldings> {
        let told = |held: &shard::KeyspaceHoldings| {
            // A keyspace that the topology does not know any more has no name to tell it by.
            let keyspace = self.topology.keyspace(held.keyspace)?;
            Some(KeyspaceHoldings {
                keyspace: keyspace.name.to_string(),
                keys: held.all.keys,
                tombstones: held.all.tombstones,
                bytes: held.all.bytes,
                first_keys: held.first.keys,
                first_tombstones: held.first.tombstones,
                first_bytes: held.first.bytes,
            })
        };
        shard.holdings.iter().filter_map(told).collect()
    }

    async fn read(&self, read: &ReadLocal) -> Result<Response, QuestionError> {
        let Some(keyspace) = self.topology.keyspace_named(&read.keyspace) else {
            return Ok(Response::Failure(refused(Code::KeyspaceUnknown)));
        };
        let location = self.topology.locate(keyspace.id, &read.key);
        let key = RecordKey::new(keyspace.id, location.vnode, &read.key);
        let handle = self.handle.clone();
        let reading = Box::pin(async move { handle.read_local(key).await });
        let record = on_thread("engine-read", reading)
            .await
            .map_err(|_| QuestionError::Stopping)??;
        Ok(Response::Local(record.map(|record| LocalRecord {
            keyspace: keyspace.id.0,
            key: read.key.clone(),
            record,
        })))
    }

    async fn dump(&self, dump: DumpLocal) -> Result<Response, QuestionError> {
        let limit = usize::try_from(dump.limit)
            .unwrap_or(usize::MAX)
            .clamp(1, PAGE_RECORDS_MAX);
        let (keyspace, vnode) = (KeyspaceId(dump.keyspace), VnodeId(dump.vnode));
        let after = match &dump.after {
            Some(key) => RecordKey::new(keyspace, vnode, key),
            None => RecordKey::before(keyspace, vnode),
        };
        let handle = self.handle.clone();
        // The engine blocks: never on the thread that serves.
        let page = Box::pin(page(handle, after, limit));
        let page = on_thread("engine-scan", page).await;
        let page = page.map_err(|_| QuestionError::Stopping)?;
        if let Err(QuestionError::Engine(error)) = &page {
            self.handle.met_damage(error);
        }
        page.map(Response::Dump)
    }
}

impl Admin {
    async fn repair(&self, repair: &Repair) -> Result<Response, QuestionError> {
        let purpose = if repair.dry_run {
            Purpose::Look
        } else {
            Purpose::Heal
        };
        let (peer, first) = (NodeId(repair.node), VnodeId(repair.vnode));
        let compared = self.handle.compare(peer, purpose, first).await?;
        Ok(match compared {
            Ok(Compared { tally, next }) => Response::Repaired(Repaired {
                vnodes: tally.vnodes,
                vnodes_differing: tally.vnodes_differing,
                buckets: tally.buckets,
                keys: tally.keys,
                bytes: tally.bytes,
                healed: tally.healed,
                failed: tally.failed,
                next: next.map(|vnode| vnode.0),
            }),
            Err(CompareRefused::NotUp | CompareRefused::Failed) => {
                Response::Failure(refused(Code::Unavailable))
            }
            Err(CompareRefused::Late) => Response::Failure(refused(Code::DeadlineExceeded)),
            Err(CompareRefused::Busy) => {
                let busy = Failure {
                    retry_after_ms: VERIFY_RETRY_AFTER_MS,
                    ..refused(Code::Overloaded)
                };
                Response::Failure(busy)
            }
        })
    }

    async fn declare_lost(&self, declare: &DeclareLost) -> Result<Response, QuestionError> {
        if declare.accept {
            self.handle.accept_losses();
        }
        let nodes: Vec<NodeId> = declare.nodes.iter().copied().map(NodeId).collect();
        if nodes.is_empty() {
            return Ok(Response::LossDeclared(LossDeclared { nodes: Vec::new() }));
        }
        Ok(match self.handle.declare_lost(nodes).await? {
            Ok(()) => Response::LossDeclared(LossDeclared {
                nodes: declare.nodes.clone(),
            }),
            Err(DeclareRefused::Unknown(_)) => Response::Failure(refused(Code::RequestInvalid)),
            Err(DeclareRefused::DiskFull) => Response::Failure(refused(Code::DiskFull)),
            Err(DeclareRefused::Up(_)) => Response::Failure(refused(Code::NodeUp)),
        })
    }

    async fn verify(&self, verify: Verify) -> Result<Response, QuestionError> {
        let (keyspace, vnode) = (KeyspaceId(verify.keyspace), VnodeId(verify.vnode));
        let vnodes = self.topology.vnode_count().get();
        if self.topology.keyspace(keyspace).is_none() || u32::from(vnode.0) >= vnodes {
            return Ok(Response::Failure(refused(Code::RequestInvalid)));
        }
        let Ok(permit) = Arc::clone(&self.verifying).try_acquire_owned() else {
            let busy = Failure {
                retry_after_ms: VERIFY_RETRY_AFTER_MS,
                ..refused(Code::Overloaded)
            };
            return Ok(Response::Failure(busy));
        };
        let (handle, secret) = (self.handle.clone(), self.digest);
        let topology = Arc::clone(&self.topology);
        // The engine blocks: never on the thread that serves.
        let read = Box::pin(async move {
            let found = super::verify::verify_from(&handle, &topology, secret, keyspace, vnode);
            let found = found.await;
            drop(permit);
            found
        });
        let findings = on_thread("engine-verify", read).await;
        let (findings, next) = findings.map_err(|_| QuestionError::Stopping)??;
        let Findings {
            records,
            holdings,
            moving,
            faults,
            faults_total,
            contradicting: _,
            correction: _,
            unreadable: _,
        } = findings;
        let told = |fault: Fault| VerifyFault {
            vnode: fault.vnode.0,
            key: fault.key,
            what: fault.what,
        };
        Ok(Response::Verified(Verified {
            records,
            bytes: holdings.bytes,
            moving,
            faults: faults.into_iter().map(told).collect(),
            faults_total,
            next: next.map(|vnode| vnode.0),
        }))
    }
}

/// Reads a page in small steps, so that large records do not pile up.
async fn page(
    handle: NodeHandle,
    mut after: RecordKey,
    limit: usize,
) -> Result<DumpPage, QuestionError> {
    let keyspace = after.keyspace().0;
    let (mut bytes, mut records) = (0, Vec::new());
    while records.len() < limit && bytes < PAGE_BYTES_MAX {
        let rows = handle.dump_local(after.clone(), STEP_RECORDS).await?;
        let end = rows.len() < STEP_RECORDS;
        for (key, record) in rows {
            bytes += key.as_bytes().len() + record.len();
            records.push(LocalRecord {
                keyspace,
                key: bytes::Bytes::copy_from_slice(key.user_key()),
                record,
            });
            after = key;
        }
        if end {
            return Ok(DumpPage { records, end });
        }
    }
    Ok(DumpPage {
        records,
        end: false,
    })
}
