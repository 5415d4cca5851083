//! A get that must cover what its session has seen: opens the tokens, then reads as any get does.
//!
//! Not here: asking more replicas until the requirement is met (`core::get`).

use bytes::Bytes;
use quorate_antientropy::Context;

use super::super::effect::Effects;
use super::super::failure::{Cause, Failure};
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
    fn requirement(&self, place: &Place, key: &Bytes, covers: &[Bytes]) -> Option<Context> {
        if covers.len() > COVERS_MAX {
            return None;
        }
        let mut together = Context::new();
        for token in covers {
            let opened = self.seal.open(place.keyspace, key, token).ok()?;
            together = together.join(&opened.context());
        }
        Some(together)
    }
}
