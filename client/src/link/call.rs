//! Calls that wait for their answers on one connection.
//!
//! Invariants: an id is given once per connection; a call is completed once, by its answer or by
//! the loss of the connection; a call that is given up takes its entry with it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use quorate_ring::FixedMap;
use tokio::sync::oneshot;

use super::error::{CallError, LostReason, NotSent};
use crate::wire::Response;

type Answer = Result<Response, CallError>;

/// The calls of one connection.
#[derive(Debug)]
pub(super) struct Calls {
    in_flight_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    waiting: FixedMap<u64, oneshot::Sender<Answer>>,
    lost: Option<LostReason>,
}

/// One call that waits; giving it up forgets it.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    calls: &'a Calls,
    pub(super) id: u64,
    pub(super) answer: oneshot::Receiver<Answer>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.calls.state().waiting.remove(&self.id);
    }
}

impl Calls {
    pub(super) fn new(in_flight_max: usize) -> Self {
        Self {
            in_flight_max,
            state: Mutex::default(),
        }
    }

    /// Registers a call.
    pub(super) fn begin(&self) -> Result<Waiting<'_>, NotSent> {
        let mut state = self.state();
        if let Some(lost) = &state.lost {
            return Err(NotSent::Gone(lost.clone()));
        }
        if state.waiting.len() >= self.in_flight_max {
            return Err(NotSent::TooManyInFlight {
                limit: self.in_flight_max,
            });
        }
        state.last_id += 1;
        let id = state.last_id;
        let (sender, answer) = oneshot::channel();
        state.waiting.insert(id, sender);
        Ok(Waiting {
            calls: self,
            id,
            answer,
        })
    }

    /// Completes calls; an id that nobody waits for any more is skipped.
    pub(super) fn complete(&self, answers: impl Iterator<Item = (u64, Answer)>) {
        let mut state = self.state();
        for (id, answer) in answers {
            if let Some(sender) = state.waiting.remove(&id) {
                // The waiter may have given up in this moment.
                drop(sender.send(answer));
            }
        }
    }

    /// Fails every call and all later ones; the first reason stays.
    #[expect(clippy::iter_over_hash_type, reason = "all calls get the same answer")]
    pub(super) fn fail(&self, reason: LostReason) {
        let mut state = self.state();
        let reason = state.lost.get_or_insert(reason).clone();
        for (_, sender) in std::mem::take(&mut state.waiting) {
            drop(sender.send(Err(CallError::Lost(reason.clone()))));
        }
    }

    /// Why the connection is gone, if it is.
    pub(super) fn lost(&self) -> Option<LostReason> {
        self.state().lost.clone()
    }

    /// Whether the connection is gone.
    pub(super) fn is_lost(&self) -> bool {
        self.state().lost.is_some()
    }

    /// Calls that wait.
    pub(super) fn in_flight(&self) -> usize {
        self.state().waiting.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_bounded_completed_once_and_failed_together() {
        let calls = Calls::new(2);
        let mut first = calls.begin().expect("room");
        let second = calls.begin().expect("room");
        assert_eq!(
            calls.begin().err(),
            Some(NotSent::TooManyInFlight { limit: 2 })
        );
        drop(second);
        assert_eq!(calls.in_flight(), 1);
        let mut third = calls.begin().expect("room again");

        let answer = || Ok(Response::Local(None));
        calls.complete([(first.id, answer()), (first.id, answer()), (99, answer())].into_iter());
        assert_eq!(first.answer.try_recv(), Ok(answer()));

        calls.fail(LostReason::Silent);
        calls.fail(LostReason::Reset);
        assert_eq!(
            third.answer.try_recv(),
            Ok(Err(CallError::Lost(LostReason::Silent)))
        );
        assert_eq!(calls.begin().err(), Some(NotSent::Gone(LostReason::Silent)));
    }
}
