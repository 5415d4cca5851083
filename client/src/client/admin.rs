//! Questions to one node, which change nothing: its state, its copy of a key, all its records.
//!
//! They are asked once; who asks about a node wants to know that it does not answer.
//!
//! Not here: reads and writes of the cluster (`perform`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_ring::{KeyspaceId, NodeId, VnodeId};
use tokio::time::timeout;

use super::Client;
use super::dump::DumpPages;
use super::perform::GRACE;
use crate::error::NodeError;
use crate::topology::Topology;
use crate::transport::{CallCause, CallError, NodeEndpoint};
use crate::wire::{
    DeclareLost, LocalRecord, NodeStatus, ReadLocal, Repair, Repaired, Request, Response, Verified,
    Verify,
};

/// Time for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for reading all records of a vnode.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for comparing some vnodes and bringing together what differs.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(300);

impl Client {
    /// The state of the node named `node`, and of its peers as it sees them.
    ///
    /// # Errors
    /// [`NodeError`] if there is no such node or it does not answer within 2 s.
    ///
    /// # Cancel safety
    /// Safe: nothing is changed.
    pub async fn status(&self, node: &str) -> Result<NodeStatus, NodeError> {
        let endpoint = self.endpoint_named(node)?;
        match self.ask(&endpoint, Request::Status, ANSWER_TIMEOUT).await? {
            Response::Status(status) => Ok(*status),
            other => Err(no_answer(&endpoint, other)),
        }
    }

    /// What the node named `node` itself holds of a key; needs the role `admin`.
    ///
    /// # Errors
    /// [`NodeError`] if there is no such node, it refuses, or it does not answer within 2 s.
    ///
    /// # Cancel safety
    /// Safe: nothing is changed.
    pub async fn read_local(
        &self,
        node: &str,
        keyspace: impl Into<String>,
        key: impl Into<Bytes>,
    ) -> Result<Option<LocalRecord>, NodeError> {
        let endpoint = self.endpoint_named(node)?;
        let request = Request::ReadLocal(ReadLocal {
            keyspace: keyspace.into(),
            key: key.into(),
        });
        match self.ask(&endpoint, request, ANSWER_TIMEOUT).await? {
            Response::Local(record) => Ok(record),
            other => Err(no_answer(&endpoint, other)),
        }
    }

    /// All records of the node named `node`, in pages; needs the role `admin`.
    ///
    /// # Errors
    /// [`NodeError::Unknown`] if there is no such node.
    pub fn dump_local(&self, node: &str) -> Result<DumpPages, NodeError> {
        let endpoint = self.endpoint_named(node)?;
        Ok(DumpPages::new(self.clone(), endpoint))
    }

    /// Lets the node named `node` read its records of a keyspace, from `vnode` on until it has read
    /// enough for one answer, and tells what is wrong with them; needs the role `admin`. Large
    /// vnodes take long: up to 60 s are waited.
    ///
    /// # Errors
    /// [`NodeError`] if there is no such node, it refuses, or it does not answer in time. A node
    /// reads for one request at a time: others are refused with [`Code::Overloaded`].
    ///
    /// # Cancel safety
    /// Safe: nothing is changed, and the node stops reading.
    pub async fn verify(
        &self,
        node: &str,
        keyspace: KeyspaceId,
        vnode: VnodeId,
    ) -> Result<Verified, NodeError> {
        let endpoint = self.endpoint_named(node)?;
        let request = Request::Verify(Verify {
            keyspace: keyspace.0,
            vnode: vnode.0,
        });
        match self.ask(&endpoint, request, VERIFY_TIMEOUT).await? {
            // A node that goes back would be asked for ever.
            Response::Verified(verified) if verified.next.is_none_or(|next| next > vnode.0) => {
                Ok(verified)
            }
            other => Err(no_answer(&endpoint, other)),
        }
    }

    /// Lets the node named `node` compare its copies with those of the node named `with`, from
    /// `vnode` on as far as one answer goes, and bring together what differs, or only count it;
    /// needs the role `admin`. Up to 300 s are waited.
    ///
    /// # Errors
    /// [`NodeError`] if there is no such node, it refuses, or it does not answer in time:
    /// [`Code::Unavailable`] if the other node is not up or went away meanwhile.
    ///
    /// # Cancel safety
    /// Safe: the node goes on by itself; what is brought together stays so.
    pub async fn repair(
        &self,
        node: &str,
        with: NodeId,
        vnode: VnodeId,
        dry_run: bool,
    ) -> Result<Repaired, NodeError> {
        let endpoint = self.endpoint_named(node)?;
        let request = Request::Repair(Repair {
            node: with.0,
            vnode: vnode.0,
            dry_run,
        });
        match self.ask(&endpoint, request, REPAIR_TIMEOUT).await? {
            Response::Repaired(repaired) if repaired.next.is_none_or(|next| next > vnode.0) => {
                Ok(repaired)
            }
            other => Err(no_answer(&endpoint, other)),
        }
    }

    /// Tells the node named `node` that the disks of `lost` are gone for good, so that it waits for
    /// nothing that only they held; needs the role `admin`. What they held alone is lost: `status`
    /// tells.
    ///
    /// # Errors
    /// [`NodeError`] if there is no such node, it does not answer within 2 s, or refuses:
    /// [`Code::NodeUp`] if it hears one of them, [`Code::RequestInvalid`] if it knows no such node.
    ///
    /// # Cancel safety
    /// It may be noted; telling it again changes nothing.
    pub async fn declare_lost(&self, node: &str, lost: &[NodeId]) -> Result<(), NodeError> {
        let endpoint = self.endpoint_named(node)?;
        let request = Request::DeclareLost(DeclareLost {
            nodes: lost.iter().map(|node| node.0).collect(),
            accept: false,
        });
        match self.ask(&endpoint, request, ANSWER_TIMEOUT).await? {
            Response::LossDeclared(_) => Ok(()),
            other => Err(no_answer(&endpoint, other)),
        }
    }

    /// Tells the node named `node` that its operator knows what may be lost there, so that its
    /// status says so no more; needs the role `admin`.
    ///
    /// # Errors
    /// [`NodeError`] if there is no such node, it does not answer within 2 s, or refuses.
    ///
    /// # Cancel safety
    /// It may be accepted; telling it again changes nothing.
    pub async fn accept_losses(&self, node: &str) -> Result<(), NodeError> {
        let endpoint = self.endpoint_named(node)?;
        let request = Request::DeclareLost(DeclareLost {
            nodes: Vec::new(),
            accept: true,
        });
        match self.ask(&endpoint, request, ANSWER_TIMEOUT).await? {
            Response::LossDeclared(_) => Ok(()),
            other => Err(no_answer(&endpoint, other)),
        }
    }

    /// Fetches the topology from the node named `node` and keeps it if it is newer.
    ///
    /// # Errors
    /// [`NodeError`] if there is no such node or it does not answer within 2 s.
    ///
    /// # Cancel safety
    /// Safe: the topology is exchanged whole.
    pub async fn refresh_topology(&self, node: &str) -> Result<Arc<Topology>, NodeError> {
        let endpoint = self.endpoint_named(node)?;
        self.fetch_topology(&endpoint, ANSWER_TIMEOUT).await?;
        Ok(self.topology())
    }

    /// Best effort, in the course of an operation: a failure shows in its next attempt.
    pub(super) async fn refresh_from(&self, node: NodeId, limit: Duration) {
        let topology = self.topology();
        if let Some(endpoint) = topology.endpoint(node) {
            let limit = limit.min(ANSWER_TIMEOUT);
            if let Err(error) = self.fetch_topology(endpoint, limit).await {
                tracing::debug!(%error, "topology was not refreshed");
            }
        }
    }

    async fn fetch_topology(
        &self,
        endpoint: &NodeEndpoint,
        limit: Duration,
    ) -> Result<(), NodeError> {
        match self.ask(endpoint, Request::Topology, limit).await? {
            Response::Topology(info) => {
                let unusable = |_| unexpected(endpoint);
                self.learn(info).map_err(unusable)
            }
            other => Err(no_answer(endpoint, other)),
        }
    }

    fn endpoint_named(&self, node: &str) -> Result<Arc<NodeEndpoint>, NodeError> {
        let topology = self.topology();
        let found = topology.ring().node_named(node);
        let endpoint = found.and_then(|node| topology.endpoint(node.id));
        endpoint.cloned().ok_or_else(|| {
            let nodes = topology.ring().nodes().iter();
            NodeError::Unknown {
                node: node.to_owned(),
                known: nodes.map(|node| node.name.to_string()).collect(),
            }
        })
    }

    pub(super) async fn ask(
        &self,
        endpoint: &NodeEndpoint,
        request: Request,
        limit: Duration,
    ) -> Result<Response, NodeError> {
        let call = self.shared.transport.call(endpoint, request, limit);
        let late = |_| CallError::Lost(CallCause::TimedOut);
        let answer = timeout(limit + GRACE, call).await.map_err(late);
        let failed = |error| NodeError::Call {
            node: endpoint.label().to_owned(),
            error,
        };
        answer.and_then(|answer| answer).map_err(failed)
    }
}

pub(super) fn no_answer(endpoint: &NodeEndpoint, answer: Response) -> NodeError {
    match answer {
        Response::Failure(failure) => NodeError::Refused {
            node: endpoint.label().to_owned(),
            code: failure.code,
        },
        Response::Topology(_)
        | Response::Applied(_)
        | Response::Read(_)
        | Response::Status(_)
        | Response::Local(_)
        | Response::Dump(_)
        | Response::Verified(_)
        | Response::Repaired(_)
        | Response::LossDeclared(_)
        | Response::Page(_)
        | Response::Batch(_) => unexpected(endpoint),
    }
}

pub(super) fn unexpected(endpoint: &NodeEndpoint) -> NodeError {
    NodeError::UnexpectedAnswer {
        node: endpoint.label().to_owned(),
    }
}
