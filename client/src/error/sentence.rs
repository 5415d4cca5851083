//! The sentence of a failure: what happened, what became of the operation, what to do next.

use std::fmt;

use super::failure::{AttemptEnd, Failure, OperationKind};
use crate::retry::GiveUp;
use crate::wire::{BATCH_ITEMS_MAX, Code, KEY_BYTES_MAX, Outcome, ReplicaState, VALUE_BYTES_MAX};

/// Most bytes of a key that are printed.
const KEY_SHOWN_MAX: usize = 48;

pub(super) struct Sentence<'a>(pub(super) &'a Failure);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failure = self.0;
        let shown = failure.key.get(..KEY_SHOWN_MAX).unwrap_or(&failure.key);
        let dots = if failure.key.len() > KEY_SHOWN_MAX {
            ".."
        } else {
            ""
        };
        let became = match (failure.kind, failure.outcome) {
            (OperationKind::Get | OperationKind::Scan, _) => "failed",
            (_, Outcome::NotApplied) => "was not applied",
            (_, Outcome::Unknown | Outcome::Applied) => "has an unknown outcome",
        };
        write!(
            f,
            "{} of `{}{dots}` in keyspace `{}` {became}: ",
            failure.kind,
            shown.escape_ascii(),
            failure.keyspace,
        )?;
        cause(f, failure)?;
        parts(f, failure)?;
        trail(f, failure)?;
        f.write_str("; ")?;
        advice(f, failure)?;
        write!(f, " ({})", failure.code)
    }
}

fn cause(f: &mut fmt::Formatter<'_>, failure: &Failure) -> fmt::Result {
    let (acks, required, limit) = (failure.acks, failure.required, failure.limit);
    match failure.code {
        Code::QuorumNotReached => write!(f, "{acks} of {required} replicas confirmed in time"),
        Code::Unavailable => write!(f, "too few of the replicas are up, {required} are needed"),
        Code::DeadlineExceeded => write!(f, "the deadline of {:?} passed", failure.deadline),
        Code::Overloaded => f.write_str("the nodes have too many requests in flight"),
        Code::DiskFull => f.write_str("the disks of too many nodes are nearly full"),
        Code::NotReady => f.write_str("the nodes have not yet heard from their co-replicas"),
        Code::ShuttingDown => f.write_str("the nodes are shutting down"),
        Code::EpochMismatch => f.write_str("client and nodes disagree about the topology"),
        Code::ConnectionLost => f.write_str("an attempt got no answer"),
        Code::ConnectFailed => f.write_str("no node could be reached"),
        Code::BelowFloor | Code::PayloadUnsupported => {
            f.write_str("the replicas disagree about what they may take")
        }
        Code::KeyInvalid => write!(
            f,
            "the key has {} bytes, a key has 1 to {KEY_BYTES_MAX}",
            failure.key.len()
        ),
        Code::ValueTooLarge => write!(f, "the value is longer than {VALUE_BYTES_MAX} bytes"),
        Code::TooManySiblings => write!(f, "the record would have more than {limit} siblings"),
        Code::RecordTooLarge => write!(f, "the record would be longer than {limit} bytes"),
        Code::ContextFull => f.write_str("the context would pass its limit"),
        Code::KeyspaceUnknown => f.write_str("there is no keyspace of this name"),
        Code::LevelImpossible => f.write_str(
            "the level does not fit the operation or needs more replicas than there are",
        ),
        Code::ContextInvalid => {
            f.write_str("the context is missing, altered, or belongs to another key or keyspace")
        }
        Code::AttemptTooOld => {
            f.write_str("its first attempt is older than the longest retry time")
        }
        Code::RequestInvalid => f.write_str("the node does not understand the request"),
        Code::RoleRefused => f.write_str("the client's certificate has not the role for it"),
        Code::ScanTokenInvalid => f.write_str(
            "the token is altered, or was given by a scan of another keyspace, range or cluster",
        ),
        Code::RangeInvalid => write!(
            f,
            "a bound or prefix is longer than {KEY_BYTES_MAX} bytes, or the end is before the start",
        ),
        Code::BatchTooLarge => write!(f, "a batch has 1 to {BATCH_ITEMS_MAX} items"),
        Code::BatchItemRepeated => f.write_str("the batch names a key twice"),
        Code::Damaged => f.write_str("the range is damaged on the replica"),
        Code::Internal => f.write_str("the node met a bug of its own"),
        Code::Other(number) => write!(f, "the node answered with the unknown code {number}"),
    }
}

fn parts(f: &mut fmt::Formatter<'_>, failure: &Failure) -> fmt::Result {
    for (index, part) in failure.replicas.iter().enumerate() {
        let state = match part.state {
            ReplicaState::Confirmed => "confirmed",
            ReplicaState::Silent => "silent",
            ReplicaState::Down => "down",
            ReplicaState::Refused => "refused",
        };
        let open = if index == 0 { " (" } else { ", " };
        write!(f, "{open}node {} {state}", part.node)?;
    }
    f.write_str(if failure.replicas.is_empty() { "" } else { ")" })
}

/// The last attempt, and how many there were.
fn trail(f: &mut fmt::Formatter<'_>, failure: &Failure) -> fmt::Result {
    let Some(last) = failure.attempts.last() else {
        return Ok(());
    };
    match failure.attempt_count {
        1 => write!(f, ", one attempt, at node {}", last.node)?,
        count => write!(f, ", {count} attempts, the last at node {}", last.node)?,
    }
    match &last.end {
        AttemptEnd::Refused { code, .. } if *code == failure.code => Ok(()),
        AttemptEnd::Refused { code, .. } => write!(f, ": {code}"),
        AttemptEnd::NoAnswer(error) => write!(f, ": {error}"),
    }
}

fn advice(f: &mut fmt::Formatter<'_>, failure: &Failure) -> fmt::Result {
    let is_write = matches!(failure.kind, OperationKind::Put | OperationKind::Delete);
    if is_write && failure.outcome != Outcome::NotApplied {
        return f.write_str(
            "it may be on some replicas and may still become visible: read the key to see, \
             and write again after that read if it is not there",
        );
    }
    if failure.gave_up == GiveUp::Budget {
        return f.write_str("too many of this client's requests were retries: slow down");
    }
    match (failure.code, failure.retry_after) {
        (_, Some(after)) => write!(f, "try again after {after:?}"),
        (Code::KeyInvalid, _) => f.write_str("use another key"),
        (Code::ValueTooLarge, _) => f.write_str("split the value"),
        (Code::TooManySiblings | Code::RecordTooLarge | Code::ContextFull, _) => {
            f.write_str("read the key and put one value after that read")
        }
        (Code::KeyspaceUnknown, _) => f.write_str("`quorate status` lists the keyspaces"),
        (Code::LevelImpossible, _) => f.write_str("choose a level that the keyspace can meet"),
        (Code::ContextInvalid, _) => f.write_str("read the key and write after that read"),
        (Code::RoleRefused, _) => f.write_str("use a client certificate with the role it needs"),
        (Code::RequestInvalid | Code::Other(_), _) => {
            f.write_str("use a client of the same release as the cluster")
        }
        (Code::ScanTokenInvalid, _) => f.write_str("begin the scan anew"),
        (Code::RangeInvalid, _) => f.write_str("use another range"),
        (Code::BatchTooLarge, _) => f.write_str("split the batch"),
        (Code::BatchItemRepeated, _) => f.write_str("name each key once"),
        (Code::ConnectFailed, _) => f.write_str("check that the nodes run and can be reached"),
        (Code::DiskFull, _) => f.write_str("free space on the nodes or add some"),
        (Code::Damaged | Code::Internal | Code::BelowFloor | Code::PayloadUnsupported, _) => {
            f.write_str("see the log of that node")
        }
        (
            Code::QuorumNotReached
            | Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Overloaded
            | Code::NotReady
            | Code::ShuttingDown
            | Code::EpochMismatch
            | Code::ConnectionLost
            | Code::AttemptTooOld,
            _,
        ) => f.write_str("try again, with a longer deadline or a lower level if it persists"),
    }
}
