//! One attempt, and the hedge that joins it when its answer is late.
//!
//! The first answer that is a success ends both; the loser's future is dropped, which a transport
//! takes as lost, and the op id makes that safe. A failure that only another request could change
//! ends its own request: it is noted, and the other one decides. A refusal that every node would
//! repeat ends both, and the one that is still open counts as lost, a write's outcome as unknown.
//! While the answer is in time there is one timer, as without hedging.
//!
//! Not here: when a hedge is due and whether there is budget (`quorate_ring::hedge`,
//! `crate::route`).

use std::pin::Pin;

use quorate_ring::{MonoTime, NodeId};
use tokio::time::timeout_at;

use super::operation::Done;
use super::perform::{Asked, Sent, Turn};
use super::progress::{Ended, Progress};
use super::{Client, InFlight, lock};
use crate::route::NodeVerdict;
use crate::transport::{CallCause, CallError};
use quorate_ring::hedge::{ASK_AGAIN_AFTER, Reason};

/// What became of a request.
type Answer = Result<Done, Ended>;

impl Client {
    /// Sends to `node`, and to another one too if that is slow. Tells whose answer it returns.
    pub(super) async fn attempt(
        &self,
        asked: Asked<'_>,
        now: MonoTime,
        node: NodeId,
        progress: &mut Progress,
    ) -> (NodeId, Answer) {
        let sent = self.sent(asked, now, node, Turn::Alone, progress);
        let mut in_flight = InFlight::start(self, node, asked.kind(), sent.at);
        let mut hedge_at = self.hedge_at(asked, &sent);
        let first = {
            let mut call = std::pin::pin!(self.exchange(asked, &sent, &mut in_flight));
            loop {
                let until = hedge_at.unwrap_or(sent.over).min(sent.over);
                if let Ok(answer) = timeout_at(self.instant(until), &mut call).await {
                    break Some((node, answer));
                }
                if until >= sent.over {
                    break None;
                }
                if let Some(hedge) = self.hedge_to(asked, node, progress) {
                    break self.race(asked, &sent, call, hedge, progress).await;
                }
                hedge_at = Some(until + ASK_AGAIN_AFTER);
            }
        };
        match first {
            Some((winner, answer)) => {
                // Without an answer of its own: it lost, or its time was over before the hedge's.
                if winner != node && in_flight.verdict == NodeVerdict::Nothing {
                    in_flight.verdict = match &answer {
                        Ok(_) => NodeVerdict::Outrun,
                        Err(_) => NodeVerdict::Broken,
                    };
                }
                (winner, answer)
            }
            None => {
                let ended = timed_out();
                in_flight.verdict = ended.verdict();
                (node, Err(ended))
            }
        }
    }

    /// When the answer of `sent` is late; `None` if nobody else can be asked.
    fn hedge_at(&self, asked: Asked<'_>, sent: &Sent) -> Option<MonoTime> {
        if asked.topology.nodes().len() < 2 {
            return None;
        }
        let delay = lock(&self.shared.routes).hedge_delay(sent.node, asked.kind());
        Some(sent.at + delay)
    }

    /// Who takes a hedge away from `node` now, if anybody may.
    fn hedge_to(&self, asked: Asked<'_>, node: NodeId, progress: &mut Progress) -> Option<Hedge> {
        let most = asked.operation.attempts.count_max.unwrap_or(u16::MAX);
        if progress.write.count() >= most {
            return None;
        }
        let now = self.now();
        let reason = lock(&self.shared.routes).hedge_reason(now, node);
        let other = self.untried(now, asked.topology, asked.operation, progress)?;
        if !lock(&self.shared.hedges).take(now, reason) {
            return None;
        }
        progress.tried.push(other);
        self.shared.metrics.hedged();
        Some(Hedge {
            at: now,
            other,
            reason,
        })
    }

    /// Both requests, until one succeeds or both failed. `None` if the first one's time is over
    /// and the hedge failed before.
    async fn race(
        &self,
        asked: Asked<'_>,
        first: &Sent,
        mut call: Pin<&mut impl Future<Output = Answer>>,
        Hedge { at, other, reason }: Hedge,
        progress: &mut Progress,
    ) -> Option<(NodeId, Answer)> {
        let mut sent = self.sent(asked, at, other, Turn::Hedge, progress);
        sent.shorten(first);
        let mut in_flight = InFlight::start(self, other, asked.kind(), sent.at);
        let ended = {
            let mut hedge = std::pin::pin!(self.exchange(asked, &sent, &mut in_flight));
            tokio::select! {
                biased;
                answer = timeout_at(self.instant(first.over), &mut call) => {
                    let ended = match answer {
                        Ok(Ok(done)) => {
                            lock(&self.shared.hedges).lost(reason);
                            self.note_outrun(asked, &sent, first, progress);
                            return Some((first.node, Ok(done)));
                        }
                        Ok(Err(ended)) => ended,
                        Err(_) => timed_out(),
                    };
                    if ended.is_final() {
                        self.note(asked, &sent, timed_out(), progress);
                        progress.sent = first.way();
                        return Some((first.node, Err(ended)));
                    }
                    self.note(asked, first, ended, progress);
                    progress.sent = sent.way();
                    match timeout_at(self.instant(sent.over), &mut hedge).await {
                        Ok(answer) => return Some((other, answer)),
                        Err(_) => None,
                    }
                }
                answer = timeout_at(self.instant(sent.over), &mut hedge) => match answer {
                    Ok(Ok(done)) => {
                        self.note_outrun(asked, first, &sent, progress);
                        return Some((other, Ok(done)));
                    }
                    Ok(Err(ended)) if ended.is_final() => {
                        self.note(asked, first, timed_out(), progress);
                        progress.sent = sent.way();
                        return Some((other, Err(ended)));
                    }
                    Ok(Err(ended)) => Some(ended),
                    Err(_) => Some(timed_out()),
                },
            }
        };
        let Some(ended) = ended else {
            let ended = timed_out();
            in_flight.verdict = ended.verdict();
            return Some((other, Err(ended)));
        };
        in_flight.verdict = ended.verdict();
        drop(in_flight);
        self.note(asked, &sent, ended, progress);
        progress.sent = first.way();
        let answer = timeout_at(self.instant(first.over), call).await.ok()?;
        Some((first.node, answer))
    }

    /// Notes how a request ended that does not decide alone.
    fn note(&self, asked: Asked<'_>, sent: &Sent, ended: Ended, progress: &mut Progress) {
        progress.sent = sent.way();
        progress.note(
            self.now(),
            asked.topology,
            sent.node,
            ended,
            asked.operation,
        );
    }

    /// Notes that `loser` was still open when `winner` answered.
    fn note_outrun(&self, asked: Asked<'_>, loser: &Sent, winner: &Sent, progress: &mut Progress) {
        progress.sent = loser.way();
        progress.outrun(self.now(), asked.topology.node_label(loser.node));
        progress.sent = winner.way();
    }
}

/// Who takes a hedge, and why there is one.
struct Hedge {
    at: MonoTime,
    other: NodeId,
    reason: Reason,
}

fn timed_out() -> Ended {
    Ended::NoAnswer(CallError::Lost(CallCause::TimedOut))
}
