//! Requests and answers of clients: from the wire's types to the core's and back. The simulator uses
//! it too.

use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::OpId;
use quorate_client::wire::{self, Code, ContextToken, Level, Outcome, ReplicaReport, ReplicaState};
use quorate_ring::{ConsistencyLevel, NodeId, Topology};

use super::native::AdminRequest;
use crate::core::message::{
    ReadRequest, Reply, Request, ResolveRequest, SessionReadRequest, StampTold, WriteRequest,
};
use crate::core::{Effectiveness, Failure, ReplicaPart};
use crate::shell::link::code_of;

/// A client's data request as the core sees it, or what the node itself answers.
///
/// # Errors
/// The [`AdminRequest`], for all that is not put, delete or get.
pub fn request_of(request: wire::Request) -> Result<Request, AdminRequest> {
    match request {
        wire::Request::Put(put) => {
            let wire::Put {
                keyspace,
                key,
                value,
                context,
                level,
                op_id,
                attempt,
                age_ms,
                stamp,
                ttl_ms,
            } = put;
            Ok(Request::Write(WriteRequest {
                keyspace,
                key,
                value: Some(value),
                context: context.map(|ContextToken(bytes)| bytes),
                level: level_of(level, ConsistencyLevel::Write),
                op_id: OpId(op_id.0),
                flagged: attempt > 1,
                age: Duration::from_millis(age_ms.into()),
                stamp,
                ttl_ms,
            }))
        }
        wire::Request::Delete(delete) => {
            let wire::Delete {
                keyspace,
                key,
                context,
                level,
                op_id,
                attempt,
                age_ms,
                stamp,
            } = delete;
            Ok(Request::Write(WriteRequest {
                keyspace,
                key,
                value: None,
                context: context.map(|ContextToken(bytes)| bytes),
                level: level_of(level, ConsistencyLevel::Write),
                op_id: OpId(op_id.0),
                flagged: attempt > 1,
                age: Duration::from_millis(age_ms.into()),
                stamp,
                ttl_ms: None,
            }))
        }
        wire::Request::Get(wire::Get {
            keyspace,
            key,
            level,
        }) => {
            let level = level_of(level, ConsistencyLevel::Read);
            Ok(Request::Read(ReadRequest {
                keyspace,
                key,
                level,
            }))
        }
        wire::Request::Resolve(wire::Resolve {
            keyspace,
            key,
            level,
            op_id,
        }) => Ok(Request::Resolve(ResolveRequest {
            keyspace,
            key,
            level: level_of(level, ConsistencyLevel::Write),
            op_id: OpId(op_id.0),
        })),
        wire::Request::SessionGet(wire::SessionGet {
            keyspace,
            key,
            level,
            covers,
        }) => Ok(Request::SessionRead(SessionReadRequest {
            read: ReadRequest {
                keyspace,
                key,
                level: level_of(level, ConsistencyLevel::Read),
            },
            covers: covers
                .into_iter()
                .map(|ContextToken(bytes)| bytes)
                .collect(),
        })),
        wire::Request::Topology => Err(AdminRequest::Topology),
        wire::Request::Status => Err(AdminRequest::Status),
        wire::Request::ReadLocal(request) => Err(AdminRequest::ReadLocal(request)),
        wire::Request::DumpLocal(request) => Err(AdminRequest::DumpLocal(request)),
    }
}

fn level_of(level: Level, exactly: fn(u8) -> ConsistencyLevel) -> ConsistencyLevel {
    match level {
        Level::One => ConsistencyLevel::One,
        Level::Two => ConsistencyLevel::Two,
        Level::Quorum => ConsistencyLevel::Quorum,
        Level::All => ConsistencyLevel::All,
        Level::Exactly(count) => exactly(count),
    }
}

/// The core's answer as it travels to the client.
#[must_use]
pub fn response_of(reply: Reply) -> wire::Response {
    match reply {
        Reply::Applied {
            context,
            acks,
            superseded_by,
        } => wire::Response::Applied(wire::Applied {
            context: context.map(ContextToken),
            acks,
            superseded_by: superseded_by.map(stamp_of),
        }),
        Reply::Read {
            values,
            context,
            replicas,
            stamp,
        } => {
            let values = values
                .into_iter()
                .map(|value: Bytes| wire::Value(value))
                .collect();
            wire::Response::Read(wire::Read {
                values,
                context: ContextToken(context),
                replicas,
                stamp: stamp.map(stamp_of),
            })
        }
        Reply::Failed(failure) => wire::Response::Failure(failure_of(failure)),
    }
}

fn stamp_of(StampTold { stamp, feed }: StampTold) -> wire::Stamp {
    wire::Stamp { stamp, feed }
}

/// The topology as it travels.
#[must_use]
pub fn topology_of(
    topology: &Topology,
    cluster_id: [u8; 16],
    answered_by: NodeId,
) -> wire::TopologyInfo {
    let epoch = topology.epoch();
    let nodes = topology.nodes().iter().map(|node| wire::NodeInfo {
        id: node.id.0,
        name: node.name.to_string(),
        address: node.address.clone(),
        weight: node.weight.value(),
        zone: node.zone.0.clone(),
    });
    let keyspaces = topology.keyspaces().iter();
    let keyspaces = keyspaces.map(wire::KeyspaceInfo::from);
    wire::TopologyInfo {
        cluster_id,
        generation: epoch.generation,
        number: epoch.number,
        vnodes: topology.vnode_count().get(),
        nodes: nodes.collect(),
        keyspaces: keyspaces.collect(),
        answered_by: answered_by.0,
    }
}

fn failure_of(failure: Failure) -> wire::Failure {
    let Failure {
        cause,
        effect,
        acks,
        required,
        replicas,
        retry_after_ms,
        limit,
    } = failure;
    let report = |(node, part): (NodeId, ReplicaPart)| ReplicaReport {
        node: node.0,
        state: match part {
            ReplicaPart::Confirmed => ReplicaState::Confirmed,
            ReplicaPart::Silent => ReplicaState::Silent,
            ReplicaPart::Down => ReplicaState::Down,
            ReplicaPart::Refused => ReplicaState::Refused,
        },
    };
    wire::Failure {
        code: code_of(cause),
        outcome: match effect {
            Effectiveness::NotApplied => Outcome::NotApplied,
            Effectiveness::Unknown => Outcome::Unknown,
        },
        acks,
        required,
        replicas: replicas.into_iter().map(report).collect(),
        retry_after_ms,
        limit,
    }
}

/// A refusal at the edge: nothing was done.
pub(super) fn refused(code: Code, retry_after_ms: u32, limit: u64) -> wire::Response {
    wire::Response::Failure(wire::Failure {
        code,
        outcome: Outcome::NotApplied,
        acks: 0,
        required: 0,
        replicas: Vec::new(),
        retry_after_ms,
        limit,
    })
}
