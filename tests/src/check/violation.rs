//! What a checker can find wrong.

use super::history::OpIndex;

/// One promise that was broken, with the key and the operations that show it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Violation {
    /// An acknowledged write is neither there nor superseded.
    #[error("LOST: {key}: acknowledged write {} is neither a sibling nor superseded (I1); final {found}", write.0)]
    Lost {
        /// The key.
        key: String,
        /// The write.
        write: OpIndex,
        /// What is there instead.
        found: String,
    },
    /// A superseded value is there at the end.
    #[error("REVIVED: {key}: value {} is back, though write {} superseded it (I6)", write.0, by.0)]
    Revived {
        /// The key.
        key: String,
        /// The value.
        write: OpIndex,
        /// Who superseded it.
        by: OpIndex,
    },
    /// A write that was *not applied* was seen.
    #[error("FAIL VISIBLE: {key}: write {} was told 'not applied' and was seen (I2) {place}", write.0)]
    FailVisible {
        /// The key.
        key: String,
        /// The write.
        write: OpIndex,
        /// Where it was seen.
        place: String,
    },
    /// A value that nobody wrote there, or not yet.
    #[error("PHANTOM: {key}: {what} (I3) {place}")]
    Phantom {
        /// The key.
        key: String,
        /// What was seen.
        what: String,
        /// Where.
        place: String,
    },
    /// One write was returned as two siblings.
    #[error("TWIN: {key}: write {} is there twice (op ids) {place}", write.0)]
    Twin {
        /// The key.
        key: String,
        /// The write.
        write: OpIndex,
        /// Where.
        place: String,
    },
    /// A read missed a write that was acknowledged before it began, though R + W > N.
    #[error("STALE: {key}: read {} misses write {}, acknowledged before it began with R + W > N", read.0, write.0)]
    Stale {
        /// The key.
        key: String,
        /// The read.
        read: OpIndex,
        /// The write.
        write: OpIndex,
    },
    /// A majority read went back behind an earlier majority read.
    #[error("NOT MONOTONIC: {key}: read {} misses value {} of earlier read {}", read.0, write.0, earlier.0)]
    NotMonotonic {
        /// The key.
        key: String,
        /// The later read.
        read: OpIndex,
        /// The earlier read.
        earlier: OpIndex,
        /// What went missing, or came back.
        write: OpIndex,
    },
    /// A read of a session went back behind what the session had written or read.
    #[error("SESSION: {key}: read {} misses write {}, which its session had seen in {}", read.0, write.0, seen.0)]
    Session {
        /// The key.
        key: String,
        /// The read.
        read: OpIndex,
        /// The operation of the session that saw the write.
        seen: OpIndex,
        /// The write that went missing, or whose past came back.
        write: OpIndex,
    },
    /// An acknowledged write is older than one that was acknowledged before it began, and was not
    /// told.
    #[error("SILENTLY OLDER: {key}: write {} has a lower stamp than write {}, acknowledged before it began (V11)", write.0, earlier.0)]
    SilentlyOlder {
        /// The key.
        key: String,
        /// The later write.
        write: OpIndex,
        /// The earlier one.
        earlier: OpIndex,
    },
    /// One write was read under two stamps.
    #[error("RESTAMPED: {key}: write {} is read in {} under another stamp than before (V11)", write.0, read.0)]
    Restamped {
        /// The key.
        key: String,
        /// The write.
        write: OpIndex,
        /// The read that shows it.
        read: OpIndex,
    },
    /// A value was shown after its time.
    #[error("EXPIRED: {key}: read {} shows write {} after its TTL", read.0, write.0)]
    ShownExpired {
        /// The key.
        key: String,
        /// The read.
        read: OpIndex,
        /// The write.
        write: OpIndex,
    },
    /// An operation of the wrong mode was not refused.
    #[error("WRONG MODE: {key}: operation {} was not refused as not applied (W14)", op.0)]
    WrongMode {
        /// The key.
        key: String,
        /// The operation.
        op: OpIndex,
    },
    /// A read returned values of which one supersedes the other.
    #[error("NOT CONCURRENT: {key}: read {} returns {} beside {}, which superseded it (I8)", read.0, write.0, by.0)]
    NotConcurrent {
        /// The key.
        key: String,
        /// The read.
        read: OpIndex,
        /// The older value.
        write: OpIndex,
        /// The newer one.
        by: OpIndex,
    },
    /// An acknowledged element of a set value is in no sibling at the end.
    #[error("ELEMENT LOST: {key}: element {} was acknowledged and is in no final value", element.0)]
    ElementLost {
        /// The key.
        key: String,
        /// The write that added it.
        element: OpIndex,
    },
    /// Replicas of one key hold different bytes after everything healed.
    #[error("REPLICAS DIFFER: {key}: {detail} (I10)")]
    ReplicasDiffer {
        /// The key.
        key: String,
        /// Who holds what.
        detail: String,
    },
    /// A replica holds less of a key's history than it held before.
    #[error("SHRANK: {key}: node {node} held durably {before:?} and later {after:?} (I4)")]
    Shrank {
        /// The node.
        node: u32,
        /// The key.
        key: String,
        /// Dots of the values then.
        before: Vec<String>,
        /// Dots of the values later.
        after: Vec<String>,
    },
    /// A node holds a record of a key that it does not own.
    #[error("NOT OWNED: node {node} holds {key}, which it does not own (I12)")]
    NotOwned {
        /// The node.
        node: u32,
        /// The key.
        key: String,
    },
    /// One dot names two values.
    #[error("DOT TWICE: {dot} names {first} and {second} (I5)")]
    DotTwice {
        /// The dot.
        dot: String,
        /// One value.
        first: String,
        /// The other value.
        second: String,
    },
    /// An operation ended after its deadline, or never.
    #[error("LATE: operation {} ended {late_ms} ms after its deadline (I22)", op.0)]
    Late {
        /// The operation.
        op: OpIndex,
        /// By how much.
        late_ms: u64,
    },
}
