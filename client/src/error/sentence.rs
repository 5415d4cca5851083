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
            (OperationKind::Resolve, _) => "did not find out what became of the write",
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
        Code::GuestsFull => f.write_str("the nodes that stand in for owners have no room for more"),
        Code::CopyLost => {
            f.write_str("the disk of the only node that has a copy of the key is lost")
        }
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
        Code::NodeUp => f.write_str("a node that was to be declared lost is up"),
        Code::RoleRefused => f.write_str("the client's certificate has not the role for it"),
        Code::WrongMode => {
            f.write_str("the keyspace has another mode: a context is for siblings, a stamp for lww")
        }
        Code::TtlInvalid => f.write_str("a TTL is a millisecond to ten years"),
        Code::StampAhead => write!(
            f,
            "this client's clock is more than {limit} ms ahead of the nodes' clocks"
        ),
        Code::ClockOff => {
            f.write_str("the node's clock is not known to be near those of its peers")
        }
        Code::ScanTokenInvalid => f.write_str(
            "the token is altered, or was given by a scan of another keyspace, range or cluster",
        ),
        Code::RangeInvalid => write!(
            f,
            "a bound or prefix is longer than {KEY_BYTES_MAX} bytes, or the end is before the start",
        ),
        Code::BatchTooLarge => write!(f, "a batch has 1 to {BATCH_ITEMS_MAX} items"),
        Code::BatchItemRepeated => f.write_str("the batch names a key twice"),
        Code::BatchAnswerFull => f.write_str("the answer to the batch had no room for it"),
        Code::Damaged => f.write_str("the range is damaged on the replica"),
        Code::OperationNotSeen => f.write_str("no replica that could be asked knows the operation"),
        Code::SessionBehind => {
            f.write_str("the replicas that answered are behind what the session has seen")
        }
        Code::ContextAhead => {
            f.write_str("the replicas that answered do not know the writes that the context names")
        }
        Code::SessionFull => write!(
            f,
            "the session remembers as much as it may, the limit is {limit}"
        ),
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
        AttemptEnd::Succeeded | AttemptEnd::Outrun => Ok(()),
        AttemptEnd::Refused { code, .. } if *code == failure.code => Ok(()),
        AttemptEnd::Refused { code, .. } => write!(f, ": {code}"),
        AttemptEnd::NoAnswer(error) => write!(f, ": {error}"),
    }
}

fn advice(f: &mut fmt::Formatter<'_>, failure: &Failure) -> fmt::Result {
    if failure.kind == OperationKind::Resolve {
        return f.write_str(
            "the write may be on some replicas and may still become visible: resolve it again \
             when all replicas are up, or read the key",
        );
    }
    let is_write = matches!(failure.kind, OperationKind::Put | OperationKind::Delete);
    if is_write && failure.outcome != Outcome::NotApplied {
        return f.write_str(
            "it may be on some replicas and may still become visible: ask with \
             `resolve`, or read the key to see, and write again after that read if it is not there",
        );
    }
    if failure.gave_up == GiveUp::Budget {
        return f.write_str("too many of this client's requests were retries: slow down");
    }
    if failure.gave_up == GiveUp::HeldBack {
        f.write_str("nodes refuse most of what this client asks, so it holds back: slow down, ")?;
    }
    if failure.gave_up == GiveUp::NoTurn {
        f.write_str(
            "as many operations of this client are under way as it allows itself, and none ended \
             in time: slow down, or raise `in_flight_max` if the cluster can do more; ",
        )?;
    }
    match failure.retry_after {
        Some(after) => write!(f, "try again after {after:?}"),
        None => f.write_str(failure.code.advice()),
    }
}
