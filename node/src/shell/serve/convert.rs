//! Requests and answers of clients: from the wire's types to the core's and back. The simulator
//! uses it too.

use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::OpId;
use quorate_client::wire::{self, Code, ContextToken, Level, Outcome, ReplicaReport, ReplicaState};
use quorate_ring::{ConsistencyLevel, NodeId, Topology};

use super::native::AdminRequest;
use crate::core::message::{
    ReadRequest, Reply, Request, ResolveRequest, ScanRequest, ScannedRecord, SessionReadRequest,
    StampTold, WriteRequest,
};
use crate::core::{Effectiveness, Failure, ReplicaPart};
use crate::shell::link::code_of;

/// A client's request, by who answers it.
#[derive(Debug)]
pub enum Incoming {
    /// The core.
    Data(Request),
    /// The core: a page of a scan.
    Scan(ScanRequest),
    /// The core: many requests at once.
    Batch(Vec<Request>),
    /// The node itself.
    Admin(AdminRequest),
}

/// Sorts a client's request.
#[must_use]
pub fn incoming_of(request: wire::Request) -> Incoming {
    match request {
        wire::Request::Put(put) => Incoming::Data(put_of(put)),
        wire::Request::Delete(delete) => Incoming::Data(delete_of(delete)),
        wire::Request::Get(get) => Incoming::Data(get_of(get)),
        wire::Request::Resolve(resolve) => Incoming::Data(resolve_of(resolve)),
        wire::Request::SessionGet(get) => Incoming::Data(session_get_of(get)),
        wire::Request::Scan(scan) => Incoming::Scan(scan_of(scan)),
        wire::Request::Batch(items) => {
            let one = |item| match item {
                wire::BatchItem::Put(put) => put_of(put),
                wire::BatchItem::Delete(delete) => delete_of(delete),
                wire::BatchItem::Get(get) => get_of(get),
                wire::BatchItem::SessionGet(get) => session_get_of(get),
            };
            Incoming::Batch(items.into_iter().map(one).collect())
        }
        wire::Request::Topology => Incoming::Admin(AdminRequest::Topology),
        wire::Request::Status => Incoming::Admin(AdminRequest::Status),
        wire::Request::ReadLocal(request) => Incoming::Admin(AdminRequest::ReadLocal(request)),
        wire::Request::DumpLocal(request) => Incoming::Admin(AdminRequest::DumpLocal(request)),
        wire::Request::Verify(request) => Incoming::Admin(AdminRequest::Verify(request)),
        wire::Request::Repair(request) => Incoming::Admin(AdminRequest::Repair(request)),
        wire::Request::DeclareLost(request) => Incoming::Admin(AdminRequest::DeclareLost(request)),
    }
}

fn put_of(put: wire::Put) -> Request {
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
    Request::Write(WriteRequest {
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
    })
}

fn delete_of(delete: wire::Delete) -> Request {
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
    Request::Write(WriteRequest {
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
    })
}

fn resolve_of(resolve: wire::Resolve) -> Request {
    let wire::Resolve {
        keyspace,
        key,
        level,
        op_id,
    } = resolve;
    Request::Resolve(ResolveRequest {
        keyspace,
        key,
        level: level_of(level, ConsistencyLevel::Write),
        op_id: OpId(op_id.0),
    })
}

fn session_get_of(get: wire::SessionGet) -> Request {
    let wire::SessionGet {
        keyspace,
        key,
        level,
        covers,
    } = get;
    let covers = covers.into_iter().map(|ContextToken(bytes)| bytes);
    Request::SessionRead(SessionReadRequest {
        read: ReadRequest {
            keyspace,
            key,
            level: level_of(level, ConsistencyLevel::Read),
        },
        covers: covers.collect(),
    })
}

fn get_of(get: wire::Get) -> Request {
    let wire::Get {
        keyspace,
        key,
        level,
    } = get;
    Request::Read(ReadRequest {
        keyspace,
        key,
        level: level_of(level, ConsistencyLevel::Read),
    })
}

fn scan_of(scan: wire::Scan) -> ScanRequest {
    let wire::Scan {
        keyspace,
        start,
        end,
        token,
        limit,
        level,
    } = scan;
    ScanRequest {
        keyspace,
        start,
        end,
        token: token.map(|wire::ScanToken(bytes)| bytes),
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
        level: level_of(level, ConsistencyLevel::Read),
    }
}

fn level_of(level: Level, exactly: fn(u8) -> ConsistencyLevel) -> ConsistencyLevel {
    match level {
        Level::One => ConsistencyLevel::One,
        Level::Two => ConsistencyLevel::Two,
        Level::Quorum => ConsistencyLevel::Quorum,
        Level::All => ConsistencyLevel::All,
        Level::Exactly(count) => exactly(count),
        Level::Sloppy(level) => level_of(level.into(), exactly).sloppy(),
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
        } => wire::Response::Applied(applied_of(context, acks, superseded_by)),
        Reply::Read {
            values,
            context,
            replicas,
            stamp,
        } => wire::Response::Read(read_of(values, context, replicas, stamp)),
        Reply::Failed(failure) => wire::Response::Failure(failure_of(failure)),
        Reply::Page { records, next } => wire::Response::Page(wire::ScanPage {
            records: records.into_iter().map(record_of).collect(),
            next: next.map(wire::ScanToken),
        }),
        Reply::Batch(replies) => {
            wire::Response::Batch(replies.into_iter().filter_map(item_of).collect())
        }
    }
}

/// An item's answer; `None` for what no item can be answered.
fn item_of(reply: Reply) -> Option<wire::ItemResult> {
    match reply {
        Reply::Applied {
            context,
            acks,
            superseded_by,
        } => {
            let applied = applied_of(context, acks, superseded_by);
            Some(wire::ItemResult::Applied(applied))
        }
        Reply::Read {
            values,
            context,
            replicas,
            stamp,
        } => Some(wire::ItemResult::Read(read_of(
            values, context, replicas, stamp,
        ))),
        Reply::Failed(failure) => Some(wire::ItemResult::Failure(failure_of(failure))),
        Reply::Page { .. } | Reply::Batch(_) => None,
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

fn applied_of(context: Option<Bytes>, acks: u8, superseded_by: Option<StampTold>) -> wire::Applied {
    wire::Applied {
        context: context.map(ContextToken),
        acks,
        superseded_by: superseded_by.map(stamp_of),
    }
}

fn read_of(
    values: Vec<Bytes>,
    context: Bytes,
    replicas: u8,
    stamp: Option<StampTold>,
) -> wire::Read {
    wire::Read {
        values: values.into_iter().map(wire::Value).collect(),
        context: ContextToken(context),
        replicas,
        stamp: stamp.map(stamp_of),
    }
}

fn record_of(ScannedRecord { key, values }: ScannedRecord) -> wire::ScanRecord {
    let values = values.into_iter().map(wire::Value).collect();
    wire::ScanRecord { key, values }
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
