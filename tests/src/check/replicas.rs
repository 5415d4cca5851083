//! Compares what the replicas hold once everything has healed, byte for byte.
//!
//! Invariants I4 (what a replica holds only grows), I5 (a dot names one value), I10 (owners agree)
//! and I12 (only owners hold).

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_antientropy::KeyState;
use quorate_ring::{Actor, Incarnation, NodeId};

use super::violation::Violation;

/// One record of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRecord {
    /// The key, as it is printed.
    pub key: String,
    /// The record's canonical bytes.
    pub bytes: Vec<u8>,
    /// Each sibling's dot and value, as they are printed.
    pub dots: Vec<(String, String)>,
}

impl OwnedRecord {
    /// Whether it is what is left of a deleted key.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        let state = KeyState::decode(&Bytes::from(self.bytes.clone()));
        state.is_ok_and(|state| state.gone_at() == Some(0))
    }

    /// The record without what no owner needs where nodes live these lives; `None` if it has
    /// nothing of that.
    #[must_use]
    pub fn without_spare(&self, lives: &Lives) -> Option<Vec<u8>> {
        self.pruned_of(|actor| {
            let present = lives.get(&actor.node);
            present.is_some_and(|present| *present != actor.incarnation)
        })
    }

    fn pruned_of(&self, has_ended: impl Fn(Actor) -> bool) -> Option<Vec<u8>> {
        let state = KeyState::decode(&Bytes::from(self.bytes.clone()));
        let Ok(KeyState::Siblings(mut record)) = state else {
            return None;
        };
        let spare = record.prunable(has_ended);
        record.prune(&spare).then(|| record.to_bytes().to_vec())
    }
}

/// In which life each node is.
pub type Lives = BTreeMap<NodeId, Incarnation>;

/// What one node holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplicaDump {
    /// The node.
    pub node: u32,
    /// Its records by key.
    pub records: BTreeMap<String, OwnedRecord>,
}

impl ReplicaDump {
    /// Takes deleted keys out.
    pub fn leave_out_deleted(&mut self) {
        self.records.retain(|_, record| !record.is_deleted());
    }

    /// Keeps of each record what may not be pruned whoever lives: its values, and what it lists as
    /// superseded.
    pub fn leave_out_prunable(&mut self) {
        for record in self.records.values_mut() {
            if let Some(bytes) = record.pruned_of(|_| true) {
                record.bytes = bytes;
            }
        }
    }

    /// Takes out of the others what no owner needs.
    pub fn leave_out_spare(&mut self, lives: &Lives) {
        for record in self.records.values_mut() {
            if let Some(bytes) = record.without_spare(lives) {
                record.bytes = bytes;
            }
        }
    }
}

/// Compares the dumps; `owners` names who must hold a key.
pub fn check_replicas(dumps: &[ReplicaDump], owners: impl Fn(&str) -> Vec<u32>) -> Vec<Violation> {
    let mut holders: BTreeMap<&str, Vec<(u32, &[u8])>> = BTreeMap::new();
    for dump in dumps {
        for (key, record) in &dump.records {
            holders
                .entry(key)
                .or_default()
                .push((dump.node, &record.bytes));
        }
    }
    let mut violations = Vec::new();
    for (key, held) in holders {
        let owners = owners(key);
        let foreign = held.iter().filter(|(node, _)| !owners.contains(node));
        violations.extend(foreign.map(|(node, _)| Violation::NotOwned {
            node: *node,
            key: key.to_owned(),
        }));
        let missing: Vec<&u32> = owners
            .iter()
            .filter(|owner| held.iter().all(|(node, _)| node != *owner))
            .collect();
        let first = held.first().map(|(_, bytes)| *bytes);
        if !missing.is_empty() || held.iter().any(|(_, bytes)| Some(*bytes) != first) {
            let sizes: Vec<(u32, usize)> = held.iter().map(|(n, b)| (*n, b.len())).collect();
            violations.push(Violation::ReplicasDiffer {
                key: key.to_owned(),
                detail: format!("owners {owners:?}, missing at {missing:?}, bytes at {sizes:?}"),
            });
        }
    }
    violations
}

/// Checks that a replica's causal history of each key only grew between two dumps of one node.
#[must_use]
pub fn check_growth(before: &ReplicaDump, after: &ReplicaDump) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (key, old) in &before.records {
        let new = after.records.get(key);
        if new.is_some_and(|new| new.bytes == old.bytes || grew(&old.bytes, &new.bytes)) {
            continue;
        }
        let dots = |record: &OwnedRecord| record.dots.iter().map(|(dot, _)| dot.clone()).collect();
        violations.push(Violation::Shrank {
            node: before.node,
            key: key.clone(),
            before: dots(old),
            after: new.map(dots).unwrap_or_default(),
        });
    }
    violations
}

fn grew(old: &[u8], new: &[u8]) -> bool {
    let decode = |bytes: &[u8]| KeyState::decode(&Bytes::copy_from_slice(bytes)).ok();
    match (decode(old), decode(new)) {
        (Some(old), Some(new)) => new.holds_all_of(&old),
        (Some(_) | None, _) => false,
    }
}

/// Checks that no dot names two values, over all dumps.
#[must_use]
pub fn check_dots(dumps: &[ReplicaDump]) -> Vec<Violation> {
    let mut values: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let mut violations = Vec::new();
    for (key, record) in dumps.iter().flat_map(|dump| &dump.records) {
        for (dot, value) in &record.dots {
            let first = *values.entry((key, dot)).or_insert(value);
            if first != value {
                violations.push(Violation::DotTwice {
                    dot: format!("{key} {dot}"),
                    first: first.to_owned(),
                    second: value.clone(),
                });
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use quorate_antientropy::{Attempt, Dot, Minting, OpId, Put, Record};
    use quorate_ring::{Actor, Incarnation, NodeId};

    use super::*;

    fn dump(node: u32, records: &[(&str, &[u8])]) -> ReplicaDump {
        let record = |(key, bytes): &(&str, &[u8])| {
            let record = OwnedRecord {
                key: (*key).to_owned(),
                bytes: bytes.to_vec(),
                dots: vec![("d".to_owned(), format!("{bytes:?}"))],
            };
            ((*key).to_owned(), record)
        };
        ReplicaDump {
            node,
            records: records.iter().map(record).collect(),
        }
    }

    #[test]
    fn owners_hold_the_same_bytes_and_nobody_else_holds_any() {
        let same = [dump(1, &[("k", b"x")]), dump(2, &[("k", b"x")])];
        assert_eq!(check_replicas(&same, |_| vec![1, 2]), []);
        assert_eq!(check_dots(&same), []);
        let missing = check_replicas(&same, |_| vec![1, 2, 3]);
        assert!(matches!(missing[..], [Violation::ReplicasDiffer { .. }]));
        let foreign = check_replicas(&same, |_| vec![1]);
        assert!(matches!(foreign[..], [Violation::NotOwned { node: 2, .. }]));
        let differ = [dump(1, &[("k", b"x")]), dump(2, &[("k", b"y")])];
        let found = check_replicas(&differ, |_| vec![1, 2]);
        assert!(matches!(found[..], [Violation::ReplicasDiffer { .. }]));
        assert!(matches!(
            check_dots(&differ)[..],
            [Violation::DotTwice { .. }]
        ));
    }

    #[test]
    fn a_replica_holds_no_less_than_it_held_before() {
        let dot = |counter| Dot {
            actor: Actor {
                node: NodeId(1),
                incarnation: Incarnation(1),
            },
            counter,
        };
        let after = |record: &Record, counter: u8, context| {
            let put = Put {
                op_id: OpId([counter; 16]),
                attempt: Attempt::First,
                value: Some(Bytes::from_static(b"v")),
                context,
                seen: record.seen_ops(),
                dot: dot(counter.into()),
                minting: Minting::Primary,
                timestamp: u64::from(counter),
                expiry: None,
                now_wall: None,
            };
            record.put(put).expect("a put")
        };
        let first = after(&Record::default(), 1, None);
        let second = after(&first.record, 2, first.reply_context.clone());
        let held = |record: &Record| dump(1, &[("k", &record.to_bytes())]);
        let (old, new) = (held(&first.record), held(&second.record));
        assert_eq!(check_growth(&old, &new), []);
        let back = check_growth(&new, &old);
        assert!(matches!(back[..], [Violation::Shrank { node: 1, .. }]));
        let gone = check_growth(&new, &dump(1, &[]));
        assert!(matches!(gone[..], [Violation::Shrank { .. }]));
    }
}
