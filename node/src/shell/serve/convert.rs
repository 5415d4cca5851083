//! Requests and answers of clients: from the wire's types to the core's and back.

use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::OpId;
use quorate_client::wire::{self, Code, ContextToken, Level, Outcome, ReplicaReport, ReplicaState};
use quorate_ring::ConsistencyLevel;

use super::native::AdminRequest;
use crate::core::message::{ReadRequest, Reply, Request, ScanRequest, ScannedRecord, WriteRequest};
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
        wire::Request::Scan(scan) => Incoming::Scan(scan_of(scan)),
        wire::Request::Batch(items) => {
            let one = |item| match item {
                wire::BatchItem::Put(put) => put_of(put),
                wire::BatchItem::Delete(delete) => delete_of(delete),
                wire::BatchItem::Get(get) => get_of(get),
            };
            Incoming::Batch(items.into_iter().map(one).collect())
        }
        wire::Request::Topology => Incoming::Admin(AdminRequest::Topology),
        wire::Request::Status => Incoming::Admin(AdminRequest::Status),
        wire::Request::ReadLocal(request) => Incoming::Admin(AdminRequest::ReadLocal(request)),
        wire::Request::DumpLocal(request) => Incoming::Admin(AdminRequest::DumpLocal(request)),
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
    }
}

/// The core's answer as it travels to the client.
#[must_use]
pub fn response_of(reply: Reply) -> wire::Response {
    match reply {
        Reply::Applied { context, acks } => wire::Response::Applied(applied_of(context, acks)),
        Reply::Read {
            values,
            context,
            replicas,
        } => wire::Response::Read(read_of(values, context, replicas)),
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
        Reply::Applied { context, acks } => {
            Some(wire::ItemResult::Applied(applied_of(context, acks)))
        }
        Reply::Read {
            values,
            context,
            replicas,
        } => Some(wire::ItemResult::Read(read_of(values, context, replicas))),
        Reply::Failed(failure) => Some(wire::ItemResult::Failure(failure_of(failure))),
        Reply::Page { .. } | Reply::Batch(_) => None,
    }
}

fn applied_of(context: Option<Bytes>, acks: u8) -> wire::Applied {
    wire::Applied {
        context: context.map(ContextToken),
        acks,
    }
}

fn read_of(values: Vec<Bytes>, context: Bytes, replicas: u8) -> wire::Read {
    wire::Read {
        values: values.into_iter().map(wire::Value).collect(),
        context: ContextToken(context),
        replicas,
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
    let report = |(node, part): (quorate_ring::NodeId, ReplicaPart)| ReplicaReport {
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
