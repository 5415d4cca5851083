//! Whether the records of a vnode are what they should be, one after the other, and together what
//! the sums say that the node keeps of them.
//!
//! A record must be readable and canonical, of the keyspace's mode, and filed under the vnode of
//! its key. The digests of a bucket are compared only if they were the same before the records were
//! read and after: else some were read before a write and some behind it. What the vnode holds in
//! number and bytes is compared only if no bucket moved.
//!
//! Not here: reading (`shell::verify`), what is done about damage.

use bytes::Bytes;
use quorate_antientropy::{
    BUCKETS, BucketDigest, Digest, DigestChange, DigestSecret, Held, Holdings, HoldingsChange,
    KeyState, SumsCorrection, VnodeSums,
};
use quorate_ring::{BucketId, Keyspace, Topology, VnodeId};

use super::key::RecordKey;

/// Faults that are told; of more only the number.
pub const FAULTS_TOLD_MAX: usize = 100;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The vnode.
    pub vnode: VnodeId,
    /// The user's key, if it is one record's.
    pub key: Option<Bytes>,
    /// What is wrong.
    pub what: String,
}

/// What was found in a vnode.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// Records that were looked at.
    pub records: u64,
    /// What those amount to that are in their place.
    pub holdings: Holdings,
    /// Buckets that were written while they were read, and are therefore not compared.
    pub moving: u32,
    /// Buckets that did not move and whose digest is not that of their records.
    pub contradicting: u32,
    /// What makes the sums those of the records, where some contradict them, none is a fault by
    /// itself and nothing was written meanwhile. Of one vnode alone.
    pub correction: Option<SumsCorrection>,
    /// The first faults, in the order of keys, then of buckets.
    pub faults: Vec<Fault>,
    /// All faults.
    pub faults_total: u64,
    /// What the engine said of the first vnode that it cannot read, and whether that proves damage.
    pub unreadable: Option<(String, bool)>,
}

impl Findings {
    /// Adds what was found in another vnode.
    pub fn add(&mut self, other: Self) {
        let room = FAULTS_TOLD_MAX.saturating_sub(self.faults.len());
        self.faults.extend(other.faults.into_iter().take(room));
        self.records += other.records;
        self.holdings = self.holdings.and(other.holdings);
        self.moving += other.moving;
        self.contradicting += other.contradicting;
        self.correction = None;
        self.faults_total += other.faults_total;
        self.unreadable = self.unreadable.take().or(other.unreadable);
    }
}

/// A check of one vnode of a keyspace under way.
#[derive(Debug)]
pub struct VnodeCheck<'a> {
    topology: &'a Topology,
    secret: DigestSecret,
    keyspace: &'a Keyspace,
    vnode: VnodeId,
    buckets: Vec<BucketDigest>,
    findings: Findings,
}

impl<'a> VnodeCheck<'a> {
    /// A check that has seen no record.
    #[must_use]
    pub fn new(
        topology: &'a Topology,
        secret: DigestSecret,
        keyspace: &'a Keyspace,
        vnode: VnodeId,
    ) -> Self {
        Self {
            topology,
            secret,
            keyspace,
            vnode,
            buckets: vec![BucketDigest::EMPTY; BUCKETS],
            findings: Findings::default(),
        }
    }

    /// Looks at one record; each key once.
    pub fn record(&mut self, key: &RecordKey, record: &Bytes) {
        self.findings.records += 1;
        let location = self.topology.locate(self.keyspace.id, key.user_key());
        let has_value = match KeyState::decode_as(self.keyspace.mode, record) {
            Ok(state) => state.has_value(),
            Err(error) => {
                self.fault(Some(key), format!("its record cannot be read: {error}"));
                false
            }
        };
        if location.vnode != self.vnode || key.vnode() != self.vnode {
            let (there, here) = (location.vnode.0, key.vnode().0);
            let what = format!("it is filed under vnode {here} and belongs to vnode {there}");
            return self.fault(Some(key), what);
        }
        let held = Held {
            has_value,
            bytes: key.as_bytes().len() + record.len(),
        };
        let change = HoldingsChange::between(None, Some(held));
        self.findings.holdings = self.findings.holdings.after(change);
        let digest = Digest::of(self.secret, key.as_bytes(), record);
        if let Some(sum) = self.buckets.get_mut(usize::from(location.bucket.0)) {
            *sum = sum.after(DigestChange::between(None, Some(digest)));
        }
    }

    fn fault(&mut self, key: Option<&RecordKey>, what: String) {
        self.findings.faults_total += 1;
        if self.findings.faults.len() < FAULTS_TOLD_MAX {
            let key = key.map(|key| Bytes::copy_from_slice(key.user_key()));
            let vnode = self.vnode;
            self.findings.faults.push(Fault { vnode, key, what });
        }
    }

    /// Compares the records that were seen, which must be all, with the sums that the node had
    /// before the first was read and after the last.
    #[must_use]
    pub fn finish(mut self, before: &VnodeSums, after: &VnodeSums) -> Findings {
        let counted = std::mem::take(&mut self.buckets);
        let are_sound = self.findings.faults_total == 0;
        let mut wrong = Vec::new();
        let buckets = before.buckets().iter().zip(after.buckets()).zip(counted);
        for (number, ((before, after), counted)) in (0u16..).zip(buckets) {
            if before != after {
                self.findings.moving += 1;
            } else if *after != counted {
                self.findings.contradicting += 1;
                let change = DigestChange(counted.0.wrapping_sub(after.0));
                wrong.push((BucketId(number), change));
                self.fault(
                    None,
                    format!(
                        "the records of bucket {number} are not those that were written: their \
                         digest is {:032x} and should be {:032x}",
                        counted.0, after.0
                    ),
                );
            }
        }
        let (held, counted) = (after.holdings(), self.findings.holdings);
        if are_sound && before == after && !wrong.is_empty() {
            self.findings.correction = Some(SumsCorrection {
                buckets: wrong,
                holdings: Holdings {
                    keys: counted.keys.wrapping_sub(held.keys),
                    tombstones: counted.tombstones.wrapping_sub(held.tombstones),
                    bytes: counted.bytes.wrapping_sub(held.bytes),
                },
            });
        }
        if before == after && held != counted {
            self.fault(
                None,
                format!(
                    "the node counts {} keys, {} tombstones and {} bytes, and there are {}, {} \
                     and {}",
                    held.keys,
                    held.tombstones,
                    held.bytes,
                    counted.keys,
                    counted.tombstones,
                    counted.bytes
                ),
            );
        }
        self.findings
    }

    /// The rest of the vnode cannot be read: what was found so far, and that.
    #[must_use]
    pub fn unreadable(mut self, error: &str, is_damage: bool) -> Findings {
        let records = self.findings.records;
        let what = format!("after {records} records of it the next cannot be read: {error}");
        self.fault(None, what);
        self.findings.unreadable = Some((error.to_owned(), is_damage));
        self.findings
    }
}

#[cfg(test)]
mod tests {
    use quorate_antientropy::{BucketDigests, LwwVersion, LwwWrite, OpId, RecordChange};
    use quorate_ring::{
        Copies, Epoch, KeyspaceId, KeyspaceMode, KeyspaceOptions, Node, NodeId, VnodeCount, Weight,
        Zone,
    };

    use super::*;

    const SECRET: DigestSecret = DigestSecret { key: 1, record: 2 };

    fn topology() -> Topology {
        let node = Node {
            id: NodeId(1),
            name: "a".parse().expect("a name"),
            address: "127.0.0.1:7001".to_owned(),
            weight: Weight::ONE,
            zone: Zone::default(),
        };
        let keyspace = Keyspace {
            id: KeyspaceId(1),
            name: "default".parse().expect("a name"),
            mode: KeyspaceMode::Lww,
            copies: Copies::new(1).expect("copies"),
            options: KeyspaceOptions::default(),
        };
        let epoch = Epoch {
            generation: 1,
            number: 1,
        };
        let vnodes = VnodeCount::new(8).expect("a power of two");
        Topology::new(epoch, vnodes, vec![node], vec![keyspace]).expect("a topology")
    }

    /// The keys of the vnode that has the first of them, each with a record, and the sums of these.
    fn vnode(topology: &Topology) -> (VnodeId, Vec<(RecordKey, Bytes)>, BucketDigests) {
        let id = KeyspaceId(1);
        let chosen = topology.locate(id, b"key 0").vnode;
        let keys = (0..100).map(|number| format!("key {number}"));
        let keys = keys.filter(|key| topology.locate(id, key.as_bytes()).vnode == chosen);
        let mut digests = BucketDigests::default();
        let rows = keys.map(|user_key| {
            let version = LwwVersion {
                stamp: 7,
                op_id: OpId([3; 16]),
            };
            let write = LwwWrite::value(version, Bytes::from(user_key.clone()), None);
            let mut record = Vec::new();
            KeyState::Lww(Some(write)).encode(&mut record);
            let key = RecordKey::new(id, chosen, user_key.as_bytes());
            let change = change_to(&key, &record);
            let bucket = topology.locate(id, user_key.as_bytes()).bucket;
            digests.add(id, chosen, bucket, change);
            (key, Bytes::from(record))
        });
        let rows: Vec<_> = rows.collect();
        assert!(rows.len() > 5);
        (chosen, rows, digests)
    }

    fn check(
        topology: &Topology,
        vnode: VnodeId,
        rows: &[(RecordKey, Bytes)],
        (before, after): (&BucketDigests, &BucketDigests),
    ) -> Findings {
        let keyspace = topology.keyspace(KeyspaceId(1)).expect("it is there");
        let mut check = VnodeCheck::new(topology, SECRET, keyspace, vnode);
        for (key, record) in rows {
            check.record(key, record);
        }
        let of = |digests: &BucketDigests| digests.vnode(KeyspaceId(1), vnode);
        check.finish(&of(before), &of(after))
    }

    fn change_to(key: &RecordKey, record: &[u8]) -> RecordChange {
        let digest = Digest::of(SECRET, key.as_bytes(), record);
        let held = Held {
            has_value: true,
            bytes: key.as_bytes().len() + record.len(),
        };
        RecordChange {
            digest: DigestChange::between(None, Some(digest)),
            holdings: HoldingsChange::between(None, Some(held)),
        }
    }

    #[test]
    fn what_was_written_has_no_fault() {
        let topology = topology();
        let (vnode, rows, digests) = vnode(&topology);
        let found = check(&topology, vnode, &rows, (&digests, &digests));
        assert_eq!((found.faults_total, found.moving), (0, 0), "{found:?}");
        assert_eq!(found.holdings.keys, rows.len() as u64);
    }

    #[test]
    fn a_record_that_is_missing_or_another_one_is_found_by_its_bucket() {
        let topology = topology();
        let (vnode, mut rows, digests) = vnode(&topology);
        let last = rows.pop().expect("a row");
        let found = check(&topology, vnode, &rows, (&digests, &digests));
        // The bucket's digest, and the number of keys.
        assert_eq!(found.faults_total, 2, "{found:?}");
        // Corrected, the sums are those of the rows.
        let correction = found.correction.expect("nothing moved");
        let mut corrected = digests.clone();
        corrected.correct(KeyspaceId(1), vnode, &correction);
        let found = check(&topology, vnode, &rows, (&corrected, &corrected));
        assert_eq!(found.faults_total, 0, "{found:?}");
        // An old state in the place of the newest.
        let version = LwwVersion {
            stamp: 6,
            op_id: OpId([3; 16]),
        };
        let mut old = Vec::new();
        KeyState::Lww(Some(LwwWrite::tombstone(version))).encode(&mut old);
        rows.push((last.0, Bytes::from(old)));
        let found = check(&topology, vnode, &rows, (&digests, &digests));
        assert_eq!(found.faults_total, 2, "{found:?}");
    }

    #[test]
    fn a_bucket_that_moves_is_not_compared() {
        let topology = topology();
        let (vnode, mut rows, after) = vnode(&topology);
        rows.pop().expect("a row");
        // Written between the two looks at the sums, and not met by the reading.
        let mut before = BucketDigests::default();
        for (key, record) in &rows {
            let bucket = topology.locate(KeyspaceId(1), key.user_key()).bucket;
            before.add(KeyspaceId(1), vnode, bucket, change_to(key, record));
        }
        let found = check(&topology, vnode, &rows, (&before, &after));
        assert_eq!((found.faults_total, found.moving), (0, 1), "{found:?}");
    }

    #[test]
    fn a_record_that_cannot_be_read_or_lies_elsewhere_is_told_by_its_key() {
        let topology = topology();
        let (vnode, mut rows, digests) = vnode(&topology);
        let (key, record) = rows.first().cloned().expect("a row");
        let torn = record.slice(..record.len() - 1);
        rows[0].1 = torn;
        let found = check(&topology, vnode, &rows, (&digests, &digests));
        assert_eq!(found.faults[0].key.as_deref(), Some(key.user_key()));
        assert!(found.faults[0].what.contains("cannot be read"), "{found:?}");
        rows[0].1 = record;
        let elsewhere = VnodeId((vnode.0 + 1) % 8);
        rows[0].0 = RecordKey::new(KeyspaceId(1), elsewhere, key.user_key());
        let found = check(&topology, vnode, &rows, (&digests, &digests));
        assert!(found.faults[0].what.contains("belongs to"), "{found:?}");
    }

    #[test]
    fn what_the_node_counts_is_compared_too() {
        let topology = topology();
        let (vnode, rows, digests) = vnode(&topology);
        let mut wrong = digests.clone();
        let miscounted = RecordChange {
            digest: DigestChange::default(),
            holdings: HoldingsChange {
                keys: 1,
                tombstones: -1,
                bytes: 0,
            },
        };
        let bucket = topology.locate(KeyspaceId(1), rows[0].0.user_key()).bucket;
        wrong.add(KeyspaceId(1), vnode, bucket, miscounted);
        let found = check(&topology, vnode, &rows, (&wrong, &wrong));
        assert_eq!(found.faults_total, 1, "{found:?}");
        assert!(found.faults[0].what.contains("counts"), "{found:?}");
    }

    #[test]
    fn what_cannot_be_read_further_keeps_what_was_found() {
        let topology = topology();
        let (vnode, rows, _) = vnode(&topology);
        let keyspace = topology.keyspace(KeyspaceId(1)).expect("it is there");
        let mut check = VnodeCheck::new(&topology, SECRET, keyspace, vnode);
        check.record(&rows[0].0, &Bytes::from_static(b"no record"));
        check.record(&rows[1].0, &rows[1].1);
        let found = check.unreadable("a bad block", true);
        assert_eq!((found.records, found.faults_total), (2, 2));
    }

    #[test]
    fn of_many_faults_the_first_are_told_and_all_are_counted() {
        let topology = topology();
        let (vnode, rows, digests) = vnode(&topology);
        let (key, _) = rows.first().expect("a row");
        let bad = vec![(key.clone(), Bytes::from_static(b"no record")); 300];
        let found = check(&topology, vnode, &bad, (&digests, &digests));
        assert_eq!(found.faults.len(), FAULTS_TOLD_MAX);
        assert!(found.faults_total >= 300);
    }
}
