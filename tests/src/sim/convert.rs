//! Wire requests to the core's and back, as the native listener does it.

use std::time::Duration;

use bytes::Bytes;
use quorate_client::wire;
use quorate_node::core::message::{
    ReadRequest, Reply, Request, ResolveRequest, SessionReadRequest, StampTold, WriteRequest,
};
use quorate_node::core::{Cause, Effectiveness, Failure, ReplicaPart};
use quorate_ring::{ConsistencyLevel, NodeId, Topology};

/// What a client's request is to a node.
#[derive(Debug)]
pub enum Incoming {
    /// For the core.
    Data(Request),
    /// Asks for the topology.
    Topology,
    /// Anything else; clients of the simulator do not ask it.
    Other,
}

/// Sorts a request.
#[must_use]
pub fn request(request: wire::Request) -> Incoming {
    match request {
        wire::Request::Put(put) => Incoming::Data(Request::Write(WriteRequest {
            keyspace: put.keyspace,
            key: put.key,
            value: Some(put.value),
            context: put.context.map(|token| token.0),
            level: write_level(put.level),
            op_id: quorate_antientropy::OpId(put.op_id.0),
            flagged: put.attempt > 1,
            age: Duration::from_millis(put.age_ms.into()),
            stamp: put.stamp,
            ttl_ms: put.ttl_ms,
        })),
        wire::Request::Delete(delete) => Incoming::Data(Request::Write(WriteRequest {
            keyspace: delete.keyspace,
            key: delete.key,
            value: None,
            context: delete.context.map(|token| token.0),
            level: write_level(delete.level),
            op_id: quorate_antientropy::OpId(delete.op_id.0),
            flagged: delete.attempt > 1,
            age: Duration::from_millis(delete.age_ms.into()),
            stamp: delete.stamp,
            ttl_ms: None,
        })),
        wire::Request::Get(get) => Incoming::Data(Request::Read(ReadRequest {
            keyspace: get.keyspace,
            key: get.key,
            level: read_level(get.level),
        })),
        wire::Request::Resolve(resolve) => Incoming::Data(Request::Resolve(ResolveRequest {
            keyspace: resolve.keyspace,
            key: resolve.key,
            level: write_level(resolve.level),
            op_id: quorate_antientropy::OpId(resolve.op_id.0),
        })),
        wire::Request::SessionGet(get) => {
            Incoming::Data(Request::SessionRead(SessionReadRequest {
                read: ReadRequest {
                    keyspace: get.keyspace,
                    key: get.key,
                    level: read_level(get.level),
                },
                covers: get.covers.into_iter().map(|token| token.0).collect(),
            }))
        }
        wire::Request::Topology => Incoming::Topology,
        wire::Request::Status | wire::Request::ReadLocal(_) | wire::Request::DumpLocal(_) => {
            Incoming::Other
        }
    }
}

fn write_level(level: wire::Level) -> ConsistencyLevel {
    match level {
        wire::Level::Exactly(count) => ConsistencyLevel::Write(count),
        wire::Level::One => ConsistencyLevel::One,
        wire::Level::Two => ConsistencyLevel::Two,
        wire::Level::Quorum => ConsistencyLevel::Quorum,
        wire::Level::All => ConsistencyLevel::All,
    }
}

fn read_level(level: wire::Level) -> ConsistencyLevel {
    match level {
        wire::Level::Exactly(count) => ConsistencyLevel::Read(count),
        wire::Level::One | wire::Level::Two | wire::Level::Quorum | wire::Level::All => {
            write_level(level)
        }
    }
}

/// The answer as it travels.
#[must_use]
pub fn response(reply: Reply) -> wire::Response {
    let token = |bytes: Bytes| wire::ContextToken(bytes);
    match reply {
        Reply::Applied {
            context,
            acks,
            superseded_by,
        } => wire::Response::Applied(wire::Applied {
            context: context.map(token),
            acks,
            superseded_by: superseded_by.map(stamp),
        }),
        Reply::Read {
            values,
            context,
            replicas,
            stamp: told,
        } => wire::Response::Read(wire::Read {
            values: values.into_iter().map(wire::Value).collect(),
            context: token(context),
            replicas,
            stamp: told.map(stamp),
        }),
        Reply::Failed(failure) => wire::Response::Failure(failed(failure)),
    }
}

fn stamp(StampTold { stamp, feed }: StampTold) -> wire::Stamp {
    wire::Stamp { stamp, feed }
}

fn failed(failure: Failure) -> wire::Failure {
    wire::Failure {
        code: code(failure.cause),
        outcome: match failure.effect {
            Effectiveness::NotApplied => wire::Outcome::NotApplied,
            Effectiveness::Unknown => wire::Outcome::Unknown,
        },
        acks: failure.acks,
        required: failure.required,
        replicas: failure
            .replicas
            .into_iter()
            .map(|(node, part)| wire::ReplicaReport {
                node: node.0,
                state: match part {
                    ReplicaPart::Confirmed => wire::ReplicaState::Confirmed,
                    ReplicaPart::Silent => wire::ReplicaState::Silent,
                    ReplicaPart::Down => wire::ReplicaState::Down,
                    ReplicaPart::Refused => wire::ReplicaState::Refused,
                },
            })
            .collect(),
        retry_after_ms: failure.retry_after_ms,
        limit: failure.limit,
    }
}

fn code(cause: Cause) -> wire::Code {
    match cause {
        Cause::QuorumNotReached => wire::Code::QuorumNotReached,
        Cause::Unavailable => wire::Code::Unavailable,
        Cause::DeadlineExceeded => wire::Code::DeadlineExceeded,
        Cause::Overloaded => wire::Code::Overloaded,
        Cause::DiskFull => wire::Code::DiskFull,
        Cause::NotReady => wire::Code::NotReady,
        Cause::ShuttingDown => wire::Code::ShuttingDown,
        Cause::EpochMismatch => wire::Code::EpochMismatch,
        Cause::KeyInvalid => wire::Code::KeyInvalid,
        Cause::ValueTooLarge => wire::Code::ValueTooLarge,
        Cause::TooManySiblings => wire::Code::TooManySiblings,
        Cause::RecordTooLarge => wire::Code::RecordTooLarge,
        Cause::ContextFull => wire::Code::ContextFull,
        Cause::KeyspaceUnknown => wire::Code::KeyspaceUnknown,
        Cause::LevelImpossible => wire::Code::LevelImpossible,
        Cause::ContextInvalid => wire::Code::ContextInvalid,
        Cause::AttemptTooOld => wire::Code::AttemptTooOld,
        Cause::BelowFloor | Cause::PayloadUnsupported => wire::Code::Internal,
        Cause::Damaged => wire::Code::Damaged,
        Cause::OperationNotSeen => wire::Code::OperationNotSeen,
        Cause::SessionBehind => wire::Code::SessionBehind,
        Cause::WrongMode => wire::Code::WrongMode,
        Cause::TtlInvalid => wire::Code::TtlInvalid,
        Cause::StampAhead => wire::Code::StampAhead,
        Cause::ClockOff => wire::Code::ClockOff,
    }
}

/// The topology as it travels.
#[must_use]
pub fn topology(topology: &Topology, answered_by: NodeId) -> wire::TopologyInfo {
    let nodes = topology.nodes().iter().map(|node| wire::NodeInfo {
        id: node.id.0,
        name: node.name.to_string(),
        address: node.address.clone(),
        weight: node.weight.value(),
        zone: node.zone.0.clone(),
    });
    let keyspaces = topology.keyspaces().iter().map(wire::KeyspaceInfo::from);
    wire::TopologyInfo {
        cluster_id: [7; 16],
        generation: topology.epoch().generation,
        number: topology.epoch().number,
        vnodes: topology.vnode_count().get(),
        nodes: nodes.collect(),
        keyspaces: keyspaces.collect(),
        answered_by: answered_by.0,
    }
}
