//! A get that must cover what its session has seen: opens the tokens, then reads as any get does.
//!
//! Not here: asking more replicas until the requirement is met (`core::get`).

use bytes::Bytes;
use quorate_antientropy::Dot;

use super::super::effect::Effects;
use super::super::failure::{Cause, Failure};
use super::super::get::Requirement;
use super::super::input::Now;
use super::super::message::{Reply, SessionReadRequest};
use super::read::Asking;
use super::{Place, Shard};

/// Most tokens of one request; the SDK keeps a session's key below it.
const COVERS_MAX: usize = 32;

impl Shard {
    /// Coordinates a session's get of a key that this node owns.
    pub(super) fn session_read(
        &mut self,
        now: Now,
        asking: Asking,
        request: &SessionReadRequest,
        effects: &mut Effects,
    ) {
        let SessionReadRequest { read, covers } = request;
        match self.requirement(&asking.place, &read.key, covers) {
            Some(requirement) => self.read(now, asking, read.level, requirement, effects),
            None => {
                let failure = Failure::refused(Cause::ContextInvalid);
                self.reply(asking.origin, Reply::Failed(failure), effects);
            }
        }
    }

    /// The writes that the tokens name together; `None` if one was not sealed for this key.
    fn requirement(&self, place: &Place, key: &Bytes, covers: &[Bytes]) -> Option<Requirement> {
        if covers.len() > COVERS_MAX {
            return None;
        }
        let owners = self.owners(place);
        let is_foreign = |dot: &Dot| !owners.contains(&dot.actor.node);
        let mut together = Requirement::default();
        for token in covers {
            let mut opened = self.seal.open(place.keyspace, key, token).ok()?;
            self.leave_out_of_token(place, &mut opened);
            together.all = together.all.join(&opened.context());
            let prunable = opened.held.part_of(|actor| self.has_ended(actor));
            together.prunable = together.prunable.join(&prunable);
            // Only a fallback mints for others, and it may not have handed over yet what it did.
            together.is_elsewhere |= opened.apart.loose().iter().any(is_foreign);
        }
        Some(together)
    }
}
