//! Coordinating a write of an lww keyspace: judge, take the maximum, append.
//!
//! The version was made by the writer, so nothing is minted here. A write that meets itself is a
//! duplicate; one that meets a higher version is superseded: what is held is replicated in its
//! place, and with W acknowledgements it is *applied, superseded*, as if it had been written just
//! before. A stamp is refused only if it is too far ahead of this node's clock and would be held.
//! An attempt that is older than any may be is *unknown*: what it wrote may have been purged since
//! (P6).

use bytes::Bytes;
use quorate_antientropy::{KeyState, LwwVersion, LwwWrite, RETRY_TIME_MAX};

use super::super::clock_check::SKEW_MAX;
use super::super::effect::{Effect, Effects, Event};
use super::super::failure::{Cause, Effectiveness, Failure};
use super::super::input::Now;
use super::write::Made;
use super::{Shard, Writing};

impl Shard {
    /// Makes the state that a write leaves; `held` is what `newest` says.
    pub(super) fn make_lww(
        &mut self,
        now: Now,
        writing: &Writing,
        held: Option<&LwwWrite>,
        newest: Option<Bytes>,
        effects: &mut Effects,
    ) -> Result<Made, Failure> {
        let (place, request) = (&writing.place, &writing.request);
        let stamp = request
            .stamp
            .expect("a write that fits the mode has a stamp");
        let version = LwwVersion {
            stamp,
            op_id: request.op_id,
        };
        let made = |record, base, duplicate, newer| Made {
            record,
            base,
            reply_token: None,
            duplicate,
            newer,
        };
        if held.is_some_and(|held| held.version() == version) {
            effects.push(Effect::Count(Event::DuplicateAttempt));
            return Ok(made(newest.unwrap_or_default(), None, true, None));
        }
        let age = request.age.saturating_add(now.mono.since(writing.arrived));
        if age > RETRY_TIME_MAX {
            // It may have been applied, deleted and purged meanwhile: nobody would know it again.
            let mut failure = Failure::refused(Cause::AttemptTooOld);
            failure.effect = Effectiveness::Unknown;
            return Err(failure);
        }
        let ttl = self.check_before_mint(now, writing.deadline, place, request)?;
        if let Some(above) = held.map(LwwWrite::version).filter(|held| *held > version) {
            let held = newest.unwrap_or_default();
            return Ok(made(held, None, false, Some(above.stamp)));
        }
        let most = u64::try_from(SKEW_MAX.as_micros()).unwrap_or(u64::MAX);
        if stamp > now.wall_micros.saturating_add(most) {
            return Err(Failure::refused(Cause::StampAhead).with_limit(500));
        }
        let write = match &request.value {
            Some(value) => {
                let expiry = ttl.map(|ttl| stamp.saturating_add(ttl.micros()));
                LwwWrite::value(version, value.clone(), expiry)
            }
            None => LwwWrite::tombstone(version),
        };
        let write = KeyState::Lww(Some(write));
        let bytes = self.encoded(|out| write.encode(out));
        let old = (newest.as_ref(), held.is_some_and(LwwWrite::has_value));
        let (record, base) = self.commit(place, old, (bytes, write.gone_at()), effects);
        Ok(made(record, base, false, None))
    }
}
