//! The arrays in which the messages of purge rounds travel.

use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{Digest, Dot, OpId, Prunable, PurgeNumber};
use quorate_ring::{KeyspaceId, VnodeId};
use serde::{Deserialize, Serialize};

use super::forms::{DotForm, RefusalForm, micros};
use crate::core::message::{OpNumber, PurgeAsk, PurgeReply, PurgeRound, PurgeStep, Wanted};
use crate::core::purge::{PRUNED_PER_KEY_MAX, ROUND_KEYS_MAX};

const LOOK: u8 = 0;
const JOIN: u8 = 1;
const DROP: u8 = 2;
const DRAINED: u8 = 3;

const DIGEST_BYTES: usize = size_of::<u128>();
const OP_ID_BYTES: usize = size_of::<OpId>();

#[derive(Serialize, Deserialize)]
pub(super) struct PurgeForm {
    op: u64,
    step: u8,
    rounds: Vec<RoundForm>,
    budget_us: u64,
}

#[derive(Serialize, Deserialize)]
struct RoundForm {
    keyspace: u32,
    vnode: u16,
    number: u64,
    keys: Vec<KeyForm>,
    /// Keys of whose records something is left out; agreed on at the places behind `keys`. A node
    /// that does not know this field agrees on none of them.
    #[serde(default)]
    prunes: Vec<PruneForm>,
}

#[derive(Serialize, Deserialize)]
struct KeyForm {
    key: Bytes,
    #[serde(with = "serde_bytes")]
    digest: [u8; DIGEST_BYTES],
}

#[derive(Serialize, Deserialize)]
struct PruneForm {
    key: Bytes,
    entries: Vec<DotForm>,
    loose: Vec<DotForm>,
    flagged: Vec<OpIdForm>,
}

#[derive(Serialize, Deserialize)]
struct OpIdForm(#[serde(with = "serde_bytes")] [u8; OP_ID_BYTES]);

impl PruneForm {
    fn of(key: &Bytes, pruned: &Prunable) -> Self {
        let Prunable {
            entries,
            loose,
            flagged,
        } = pruned;
        let dots = |dots: &[Dot]| dots.iter().copied().map(DotForm::from).collect();
        Self {
            key: key.clone(),
            entries: dots(entries),
            loose: dots(loose),
            flagged: flagged.iter().map(|op| OpIdForm(op.0)).collect(),
        }
    }

    /// `None` if it is not in order or more than a round leaves out of a record.
    fn into_domain(self) -> Option<(Bytes, Wanted)> {
        let dots = |dots: Vec<DotForm>| dots.into_iter().map(Dot::from).collect();
        let pruned = Prunable {
            entries: dots(self.entries),
            loose: dots(self.loose),
            flagged: self.flagged.into_iter().map(|op| OpId(op.0)).collect(),
        };
        let is_sound = pruned.is_sorted() && pruned.count() <= PRUNED_PER_KEY_MAX;
        is_sound.then_some((self.key, Wanted::Less(pruned)))
    }
}

const fn number_of(step: PurgeStep) -> u8 {
    match step {
        PurgeStep::Look => LOOK,
        PurgeStep::Join => JOIN,
        PurgeStep::Drop => DROP,
        PurgeStep::Drained => DRAINED,
    }
}

const fn step_of(number: u8) -> Option<PurgeStep> {
    match number {
        LOOK => Some(PurgeStep::Look),
        JOIN => Some(PurgeStep::Join),
        DROP => Some(PurgeStep::Drop),
        DRAINED => Some(PurgeStep::Drained),
        _ => None,
    }
}

impl From<&PurgeAsk> for PurgeForm {
    fn from(
        PurgeAsk {
            op,
            step,
            rounds,
            budget,
        }: &PurgeAsk,
    ) -> Self {
        let round = |round: &PurgeRound| {
            let (mut keys, mut prunes) = (Vec::new(), Vec::new());
            for (key, wanted) in &round.keys {
                match wanted {
                    Wanted::Gone(digest) => keys.push(KeyForm {
                        key: key.clone(),
                        digest: digest.0.to_le_bytes(),
                    }),
                    Wanted::Less(pruned) => prunes.push(PruneForm::of(key, pruned)),
                }
            }
            RoundForm {
                keyspace: round.keyspace.0,
                vnode: round.vnode.0,
                number: round.number.0,
                keys,
                prunes,
            }
        };
        Self {
            op: op.0,
            step: number_of(*step),
            rounds: rounds.iter().map(round).collect(),
            budget_us: micros(*budget),
        }
    }
}

impl PurgeForm {
    /// `None` for what no node asks: an unknown step, more keys than a round has, more to leave out
    /// of one.
    pub(super) fn into_domain(self) -> Option<PurgeAsk> {
        let step = step_of(self.step)?;
        let keys = |round: &RoundForm| round.keys.len() + round.prunes.len();
        let keys: usize = self.rounds.iter().map(keys).sum();
        if keys > ROUND_KEYS_MAX || self.rounds.len() > ROUND_KEYS_MAX {
            return None;
        }
        let gone = |KeyForm { key, digest }| {
            let digest = Digest(u128::from_le_bytes(digest));
            Some((key, Wanted::Gone(digest)))
        };
        let round = |round: RoundForm| {
            let gone = round.keys.into_iter().map(gone);
            let less = round.prunes.into_iter().map(PruneForm::into_domain);
            Some(PurgeRound {
                keyspace: KeyspaceId(round.keyspace),
                vnode: VnodeId(round.vnode),
                number: PurgeNumber(round.number),
                keys: gone.chain(less).collect::<Option<_>>()?,
            })
        };
        Some(PurgeAsk {
            op: OpNumber(self.op),
            step,
            rounds: self.rounds.into_iter().map(round).collect::<Option<_>>()?,
            budget: Duration::from_micros(self.budget_us),
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct PurgeReplyForm {
    op: u64,
    step: u8,
    agreed: Option<Vec<Vec<u16>>>,
    refusal: Option<RefusalForm>,
}

impl From<&PurgeReply> for PurgeReplyForm {
    fn from(PurgeReply { op, step, result }: &PurgeReply) -> Self {
        Self {
            op: op.0,
            step: number_of(*step),
            agreed: result.as_ref().ok().cloned(),
            refusal: result.as_ref().err().map(RefusalForm::from),
        }
    }
}

impl PurgeReplyForm {
    /// `None` for an unknown step, or if not exactly one of both is there.
    pub(super) fn into_domain(self) -> Option<PurgeReply> {
        let result = match (self.agreed, self.refusal) {
            (Some(agreed), None) => Ok(agreed),
            (None, Some(refusal)) => Err(refusal.into()),
            (Some(_), Some(_)) | (None, None) => return None,
        };
        Some(PurgeReply {
            op: OpNumber(self.op),
            step: step_of(self.step)?,
            result,
        })
    }
}
