//! The arrays in which exchanges between co-replicas travel.
//!
//! Hashes of one vnode are one string of 16 bytes each; a question about a tree is the number of
//! its kind and, below the root, one byte per subtree or group, or two per bucket.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{BUCKETS, Digest, NodeHash, PurgeNumber, PurgeNumbers, Question};
use quorate_ring::{BucketId, KeyspaceId, Lsn, VnodeId};
use serde::{Deserialize, Serialize};

use super::forms::{RefusalForm, micros, one_of};
use crate::core::exchange::TREES_PER_ASK;
use crate::core::message::{
    ExchangeAnswer, ExchangeAsk, ExchangeReply, ExchangeRow, ExchangeWanted, OpNumber,
    ReplicaStanding, RowPage, RowQuestion, TreeQuestion,
};
use crate::core::vnode_set::VnodeSet;

const ROOT: u8 = 0;
const SUBTREES: u8 = 1;
const LEAVES: u8 = 2;
const OF_BUCKETS: u8 = 3;
const GROUPS: u8 = 4;

const HASH_BYTES: usize = size_of::<u128>();

#[derive(Serialize, Deserialize)]
pub(super) struct ExchangeForm {
    op: u64,
    ask: u32,
    trees: Option<Vec<TreeForm>>,
    rows: Option<RowsForm>,
    budget_us: u64,
    #[serde(default)]
    standing: bool,
}

#[derive(Serialize, Deserialize)]
struct TreeForm {
    keyspace: u32,
    vnode: u16,
    kind: u8,
    subtrees: Bytes,
}

#[derive(Serialize, Deserialize)]
struct RowsForm {
    keyspace: u32,
    vnode: u16,
    buckets: Vec<u16>,
    from: Bytes,
}

impl From<&TreeQuestion> for TreeForm {
    fn from(
        TreeQuestion {
            keyspace,
            vnode,
            question,
        }: &TreeQuestion,
    ) -> Self {
        let (kind, subtrees) = match question {
            Question::Root => (ROOT, Bytes::new()),
            Question::Subtrees => (SUBTREES, Bytes::new()),
            Question::Groups(subtrees) => (GROUPS, subtrees.iter().copied().collect()),
            Question::Leaves(groups) => (LEAVES, groups.iter().copied().collect()),
            Question::Buckets(buckets) => {
                let bytes = buckets.iter().flat_map(|bucket| bucket.0.to_le_bytes());
                (OF_BUCKETS, bytes.collect())
            }
        };
        Self {
            keyspace: keyspace.0,
            vnode: vnode.0,
            kind,
            subtrees,
        }
    }
}

impl TreeForm {
    /// `None` if no such question can be asked.
    fn into_domain(self) -> Option<TreeQuestion> {
        let question = match (self.kind, self.subtrees.is_empty()) {
            (ROOT, true) => Question::Root,
            (SUBTREES, true) => Question::Subtrees,
            (GROUPS, false) => Question::Groups(self.subtrees.iter().copied().collect()),
            (LEAVES, false) => Question::Leaves(self.subtrees.iter().copied().collect()),
            (OF_BUCKETS, false) => {
                let (buckets, rest) = self.subtrees.as_chunks::<2>();
                if !rest.is_empty() {
                    return None;
                }
                let bucket = |bytes: &[u8; 2]| BucketId(u16::from_le_bytes(*bytes));
                Question::Buckets(buckets.iter().map(bucket).collect())
            }
            _ => return None,
        };
        question.is_valid().then_some(TreeQuestion {
            keyspace: KeyspaceId(self.keyspace),
            vnode: VnodeId(self.vnode),
            question,
        })
    }
}

impl RowsForm {
    fn into_domain(self) -> Option<RowQuestion> {
        let is_bucket = |bucket: &u16| usize::from(*bucket) < BUCKETS;
        if self.buckets.is_empty() || !self.buckets.iter().all(is_bucket) {
            return None;
        }
        Some(RowQuestion {
            keyspace: KeyspaceId(self.keyspace),
            vnode: VnodeId(self.vnode),
            buckets: self
                .buckets
                .into_iter()
                .map(BucketId)
                .collect::<BTreeSet<_>>(),
            from: self.from,
        })
    }
}

impl From<&ExchangeAsk> for ExchangeForm {
    fn from(
        ExchangeAsk {
            op,
            ask,
            wanted,
            budget,
        }: &ExchangeAsk,
    ) -> Self {
        let (trees, rows) = match wanted {
            ExchangeWanted::Standing => (None, None),
            ExchangeWanted::Trees(questions) => {
                (Some(questions.iter().map(TreeForm::from).collect()), None)
            }
            ExchangeWanted::Rows(question) => {
                let rows = RowsForm {
                    keyspace: question.keyspace.0,
                    vnode: question.vnode.0,
                    buckets: question.buckets.iter().map(|bucket| bucket.0).collect(),
                    from: question.from.clone(),
                };
                (None, Some(rows))
            }
        };
        Self {
            op: op.0,
            ask: *ask,
            trees,
            rows,
            standing: *wanted == ExchangeWanted::Standing,
            budget_us: micros(*budget),
        }
    }
}

impl ExchangeForm {
    /// `None` for what no node asks: too many trees at once, no bucket, one that is none.
    pub(super) fn into_domain(self) -> Option<ExchangeAsk> {
        let wanted = match (self.trees, self.rows, self.standing) {
            (None, None, true) => ExchangeWanted::Standing,
            (Some(trees), None, false) if trees.len() <= TREES_PER_ASK => {
                let trees = trees.into_iter().map(TreeForm::into_domain);
                ExchangeWanted::Trees(trees.collect::<Option<_>>()?)
            }
            (None, Some(rows), false) => ExchangeWanted::Rows(rows.into_domain()?),
            _ => return None,
        };
        Some(ExchangeAsk {
            op: OpNumber(self.op),
            ask: self.ask,
            wanted,
            budget: Duration::from_micros(self.budget_us),
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct ExchangeReplyForm {
    op: u64,
    ask: u32,
    trees: Option<Vec<Bytes>>,
    rows: Option<PageForm>,
    refusal: Option<RefusalForm>,
    #[serde(default)]
    standing: Option<StandingForm>,
}

#[derive(Serialize, Deserialize)]
struct StandingForm {
    appended: u64,
    lacks: Vec<LackForm>,
    #[serde(default)]
    numbers: Vec<NumbersForm>,
}

#[derive(Serialize, Deserialize)]
struct NumbersForm {
    keyspace: u32,
    vnode: u16,
    number: u64,
    floor: u64,
}

#[derive(Serialize, Deserialize)]
struct LackForm {
    keyspace: u32,
    vnodes: Bytes,
}

impl From<&ReplicaStanding> for StandingForm {
    fn from(
        ReplicaStanding {
            appended,
            lacks,
            numbers,
        }: &ReplicaStanding,
    ) -> Self {
        let lack = |(keyspace, vnodes): (&KeyspaceId, &VnodeSet)| LackForm {
            keyspace: keyspace.0,
            vnodes: vnodes.to_bytes(),
        };
        let of = |&(keyspace, vnode, numbers): &(KeyspaceId, VnodeId, PurgeNumbers)| NumbersForm {
            keyspace: keyspace.0,
            vnode: vnode.0,
            number: numbers.number.0,
            floor: numbers.floor.0,
        };
        Self {
            appended: appended.0,
            lacks: lacks.iter().map(lack).collect(),
            numbers: numbers.iter().map(of).collect(),
        }
    }
}

impl From<StandingForm> for ReplicaStanding {
    fn from(
        StandingForm {
            appended,
            lacks,
            numbers,
        }: StandingForm,
    ) -> Self {
        let lack =
            |LackForm { keyspace, vnodes }| (KeyspaceId(keyspace), VnodeSet::from_bytes(&vnodes));
        let of = |form: NumbersForm| {
            let numbers = PurgeNumbers {
                number: PurgeNumber(form.number),
                floor: PurgeNumber(form.floor),
            };
            (KeyspaceId(form.keyspace), VnodeId(form.vnode), numbers)
        };
        Self {
            appended: Lsn(appended),
            lacks: lacks.into_iter().map(lack).collect(),
            numbers: numbers.into_iter().map(of).collect(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct PageForm {
    rows: Vec<RowForm>,
    until: Option<Bytes>,
}

#[derive(Serialize, Deserialize)]
struct RowForm {
    key: Bytes,
    #[serde(with = "serde_bytes")]
    digest: [u8; HASH_BYTES],
    bytes: u32,
}

impl From<&ExchangeReply> for ExchangeReplyForm {
    fn from(ExchangeReply { op, ask, result }: &ExchangeReply) -> Self {
        let string = |hashes: &Vec<NodeHash>| -> Bytes {
            hashes
                .iter()
                .flat_map(|hash| hash.0.to_le_bytes())
                .collect()
        };
        let row = |row: &ExchangeRow| RowForm {
            key: row.key.clone(),
            digest: row.digest.0.to_le_bytes(),
            bytes: row.bytes,
        };
        let mut form = Self {
            op: op.0,
            ask: *ask,
            trees: None,
            rows: None,
            standing: None,
            refusal: result.as_ref().err().map(RefusalForm::from),
        };
        match result {
            Ok(ExchangeAnswer::Trees(told)) => {
                form.trees = Some(told.iter().map(string).collect());
            }
            Ok(ExchangeAnswer::Rows(RowPage { rows, until })) => {
                let rows = rows.iter().map(row).collect();
                let until = until.clone();
                form.rows = Some(PageForm { rows, until });
            }
            Ok(ExchangeAnswer::Standing(standing)) => form.standing = Some(standing.into()),
            Err(_) => {}
        }
        form
    }
}

impl ExchangeReplyForm {
    pub(super) fn into_domain(self) -> Option<ExchangeReply> {
        let answer = match (self.trees, self.rows, self.standing) {
            (Some(trees), None, None) if trees.len() <= TREES_PER_ASK => {
                let told = trees.iter().map(hashes).collect::<Option<_>>()?;
                Some(ExchangeAnswer::Trees(told))
            }
            (None, Some(PageForm { rows, until }), None) => {
                let row = |row: RowForm| ExchangeRow {
                    key: row.key,
                    digest: Digest(u128::from_le_bytes(row.digest)),
                    bytes: row.bytes,
                };
                let rows = rows.into_iter().map(row).collect();
                Some(ExchangeAnswer::Rows(RowPage { rows, until }))
            }
            (None, None, Some(standing)) => Some(ExchangeAnswer::Standing(standing.into())),
            (None, None, None) => None,
            _ => return None,
        };
        Some(ExchangeReply {
            op: OpNumber(self.op),
            ask: self.ask,
            result: one_of(answer, self.refusal.map(Into::into))?,
        })
    }
}

/// `None` if they do not end with a hash.
fn hashes(string: &Bytes) -> Option<Vec<NodeHash>> {
    let (hashes, rest) = string.as_chunks::<HASH_BYTES>();
    let hash = |bytes: &[u8; HASH_BYTES]| NodeHash(u128::from_le_bytes(*bytes));
    rest.is_empty().then(|| hashes.iter().map(hash).collect())
}
