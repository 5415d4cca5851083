//! The arrays in which the messages of purge rounds travel.

use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{Digest, PurgeNumber};
use quorate_ring::{KeyspaceId, VnodeId};
use serde::{Deserialize, Serialize};

use super::forms::{RefusalForm, micros};
use crate::core::message::{OpNumber, PurgeAsk, PurgeReply, PurgeRound, PurgeStep};
use crate::core::purge::ROUND_KEYS_MAX;

const LOOK: u8 = 0;
const JOIN: u8 = 1;
const DROP: u8 = 2;

const DIGEST_BYTES: usize = size_of::<u128>();

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
}

#[derive(Serialize, Deserialize)]
struct KeyForm {
    key: Bytes,
    #[serde(with = "serde_bytes")]
    digest: [u8; DIGEST_BYTES],
}

const fn number_of(step: PurgeStep) -> u8 {
    match step {
        PurgeStep::Look => LOOK,
        PurgeStep::Join => JOIN,
        PurgeStep::Drop => DROP,
    }
}

const fn step_of(number: u8) -> Option<PurgeStep> {
    match number {
        LOOK => Some(PurgeStep::Look),
        JOIN => Some(PurgeStep::Join),
        DROP => Some(PurgeStep::Drop),
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
        let key = |(key, digest): &(Bytes, Digest)| KeyForm {
            key: key.clone(),
            digest: digest.0.to_le_bytes(),
        };
        let round = |round: &PurgeRound| RoundForm {
            keyspace: round.keyspace.0,
            vnode: round.vnode.0,
            number: round.number.0,
            keys: round.keys.iter().map(key).collect(),
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
    /// `None` for what no node asks: an unknown step, more keys than a round has.
    pub(super) fn into_domain(self) -> Option<PurgeAsk> {
        let step = step_of(self.step)?;
        let keys: usize = self.rounds.iter().map(|round| round.keys.len()).sum();
        if keys > ROUND_KEYS_MAX || self.rounds.len() > ROUND_KEYS_MAX {
            return None;
        }
        let key = |KeyForm { key, digest }| (key, Digest(u128::from_le_bytes(digest)));
        let round = |round: RoundForm| PurgeRound {
            keyspace: KeyspaceId(round.keyspace),
            vnode: VnodeId(round.vnode),
            number: PurgeNumber(round.number),
            keys: round.keys.into_iter().map(key).collect(),
        };
        Some(PurgeAsk {
            op: OpNumber(self.op),
            step,
            rounds: self.rounds.into_iter().map(round).collect(),
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
