//! What a command with many operations in flight waits for: the end of one, a line, a signal.

use std::task::{Context, Poll};

use tokio::task::JoinSet;
use tokio::time::Interval;

use super::exit::{Exit, Problem};
use super::lines::{Line, Lines};
use super::signals::StopSignals;

/// One thing that happened.
#[derive(Debug)]
pub(super) enum Event<T> {
    /// An operation ended.
    Done(T),
    /// A line came.
    Line(Line),
    /// No more lines come; why, if that is not their end.
    LinesEnded(Option<std::io::Error>),
    /// A signal asks to stop.
    Stop,
    /// Time passed.
    Tick,
}

/// Everything that can happen.
#[derive(Debug)]
pub(super) struct Events<T> {
    /// Operations in flight.
    pub(super) operations: JoinSet<T>,
    /// Lines; `None` once they have ended.
    pub(super) lines: Option<Lines>,
    /// Signals.
    pub(super) signals: StopSignals,
    /// A steady tick; `None` if nobody wants it.
    pub(super) tick: Option<Interval>,
}

impl<T: 'static> Events<T> {
    /// The next thing. Lines are taken only if `wants_line`; ended operations come first.
    ///
    /// # Errors
    /// A [`Problem`] if an operation ended by a bug; what it wrote is unknown.
    ///
    /// # Cancel safety
    /// Safe: nothing is taken before it is returned.
    pub(super) async fn next(&mut self, wants_line: bool) -> Result<Event<T>, Problem> {
        std::future::poll_fn(|context| self.poll(context, wants_line)).await
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        wants_line: bool,
    ) -> Poll<Result<Event<T>, Problem>> {
        if let Poll::Ready(Some(ended)) = self.operations.poll_join_next(context) {
            let broken = |e: tokio::task::JoinError| {
                let what = format!("an operation ended by a bug: {e}");
                Problem::new(Exit::Unknown, "INTERNAL", what)
            };
            return Poll::Ready(ended.map(Event::Done).map_err(broken));
        }
        if self.signals.poll(context).is_ready() {
            return Poll::Ready(Ok(Event::Stop));
        }
        if let Some(tick) = &mut self.tick
            && tick.poll_tick(context).is_ready()
        {
            return Poll::Ready(Ok(Event::Tick));
        }
        let lines = self.lines.as_mut().filter(|_| wants_line);
        let Some(line) = lines.map(|lines| lines.poll_recv(context)) else {
            return Poll::Pending;
        };
        line.map(|line| {
            Ok(match line {
                Some(Ok(line)) => Event::Line(line),
                Some(Err(error)) => {
                    self.lines = None;
                    Event::LinesEnded(Some(error))
                }
                None => {
                    self.lines = None;
                    Event::LinesEnded(None)
                }
            })
        })
    }
}
