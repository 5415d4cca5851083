//! Brings the keys of a step of a round into memory, then does the step.

use bytes::Bytes;
use quorate_ring::{Durability, NodeId};

use super::super::super::effect::Effects;
use super::super::super::input::Now;
use super::super::super::key::RecordKey;
use super::super::super::message::{OpNumber, PurgeAsk, PurgeReply, PurgeStep, Wanted};
use super::super::super::purge::Part;
use super::super::super::table::Lookup;
use super::super::{Ack, Parked, Shard};

/// Whose step waits for its keys to be in memory.
#[derive(Debug)]
pub(super) enum Step {
    /// This node's, of a round that it leads and of whose keys it does not know yet what it wants.
    Wanted,
    /// This node's, of a round that it leads.
    Own(PurgeStep),
    /// A peer's.
    Peer { to: NodeId, ask: PurgeAsk },
}

/// Keys on their way into memory.
#[derive(Debug)]
pub(in super::super) struct Gather {
    step: Step,
    missing: usize,
}

impl Shard {
    pub(super) fn keys_of(&self, parts: &[Part]) -> Vec<RecordKey> {
        let keys = parts.iter().flat_map(|part| {
            let (keyspace, vnode) = part.copy;
            let key = move |(key, _): &(Bytes, Wanted)| RecordKey::new(keyspace, vnode, key);
            part.keys.iter().map(key)
        });
        keys.collect()
    }

    /// Does a step once its keys are in memory.
    pub(super) fn bring_in(
        &mut self,
        now: Now,
        op: OpNumber,
        keys: Vec<RecordKey>,
        step: Step,
        effects: &mut Effects,
    ) {
        let number = match &step {
            Step::Peer { .. } => self.next_number(),
            Step::Wanted | Step::Own(_) => op,
        };
        let mut missing = 0;
        for key in keys {
            if self.table.newest(&key) != Lookup::MustLoad {
                continue;
            }
            // One that finds no room is not agreed on this time.
            if self
                .park(key, Parked::Purge { op: number }, effects)
                .is_ok()
            {
                missing += 1;
            }
        }
        let gather = Gather { step, missing };
        if missing == 0 {
            return self.gathered(now, number, gather.step, effects);
        }
        self.purge_gathers.insert(number, gather);
    }

    /// A key of a step is in memory, or will not be.
    pub(in super::super) fn purge_key_in(&mut self, now: Now, op: OpNumber, effects: &mut Effects) {
        let Some(gather) = self.purge_gathers.get_mut(&op) else {
            return;
        };
        gather.missing -= 1;
        if gather.missing == 0
            && let Some(gather) = self.purge_gathers.remove(&op)
        {
            self.gathered(now, op, gather.step, effects);
        }
    }

    fn gathered(&mut self, now: Now, op: OpNumber, step: Step, effects: &mut Effects) {
        match step {
            Step::Wanted => self.note_wanted(now, op, effects),
            Step::Own(step) => self.own_part(now, op, step, effects),
            Step::Peer { to, ask } => {
                let agreed = self.take_part(now, to, ask.step, &ask.rounds, effects);
                let reply = PurgeReply {
                    op: ask.op,
                    step: ask.step,
                    result: Ok(agreed),
                };
                let ack = Ack::Purge { to, reply };
                self.when_logged(now, ack, effects);
            }
        }
    }

    /// Does `ack` once everything appended so far is on disk, whatever the keyspace's durability.
    pub(super) fn when_logged(&mut self, now: Now, ack: Ack, effects: &mut Effects) {
        let durability = Durability::Disk;
        self.when_durable(now, durability, ack, effects);
    }
}
