//! A client's connection to one node: many calls at once over one pair of streams.
//!
//! A call encodes its request into the shared outbox and waits; one task writes whatever is queued,
//! one reads answers and completes calls by id (two more do the same for bulk). The tasks belong to
//! the connection and end with its last clone.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::{ReadError, WriteError};
use tokio::task::JoinSet;

use super::call::Calls;
use super::close::CloseCode;
use super::endpoint::{Endpoint, Target};
use super::error::{CallError, ConnectError, LostReason, NotSent};
use super::outbox::{Outbox, OutboxError};
use super::streams::{
    Half, ReadFailure, StreamError, Streams, open_streams, read_bulk, read_small,
};
use crate::wire::chunk::Reassembly;
use crate::wire::frame::SMALL_FRAME_BYTES_MAX;
use crate::wire::{
    FRAME_BYTES_MAX, FrameError, RESPONSE_BYTES_MAX, RawFrame, Request, decode_response,
    encode_request,
};

/// Most calls in flight on one connection: above it a node answers `OVERLOADED` anyway.
const IN_FLIGHT_MAX: usize = 4096;

/// Most bytes of requests that wait for the transport.
const QUEUED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A connection to one node. Cheap to clone; closed when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Connection {
    owner: Arc<Owner>,
}

/// Ends the tasks with the connection.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Shared {
    quic: quinn::Connection,
    outbox: Outbox,
    calls: Calls,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.quic.close(CloseCode::Done.into(), b"");
        self.tasks
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .abort_all();
    }
}

impl Connection {
    /// Dials `target`, proves who both sides are and waits until the node has accepted.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing was asked.
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up.
    pub async fn connect(endpoint: &Endpoint, target: &Target) -> Result<Self, ConnectError> {
        let connecting = endpoint
            .dial(target)
            .map_err(|error| ConnectError::Address {
                reason: error.to_string(),
            })?;
        let making = async {
            let quic = connecting.await?;
            let streams = open_streams(&quic).await.map_err(|error| match error {
                StreamError::Connection(error) => ConnectError::from(error),
                StreamError::Protocol(error) => ConnectError::Failed {
                    reason: error.to_string(),
                },
            })?;
            Ok(Self::start(quic, streams))
        };
        tokio::time::timeout(endpoint.options().connect_timeout, making)
            .await
            .unwrap_or(Err(ConnectError::TimedOut))
    }

    /// Sends `request` and waits for its answer, at most for `deadline`.
    ///
    /// The node is told a little less than `deadline`, so that its own verdict arrives in time.
    ///
    /// # Errors
    /// [`CallError`], which says whether the request may have been carried out.
    ///
    /// # Cancel safety
    /// Dropping the future forgets the answer; the request may still be carried out.
    pub async fn call(
        &self,
        request: &Request,
        deadline: Duration,
    ) -> Result<crate::wire::Response, CallError> {
        let answer = tokio::time::timeout(deadline, self.send(request, deadline)).await;
        answer.unwrap_or(Err(CallError::TimedOut))
    }

    /// The same, waiting for the answer as long as the caller does: it has a timer of its own.
    /// `deadline` is what the node is told.
    ///
    /// # Errors
    /// As of [`Connection::call`], but never [`CallError::TimedOut`].
    ///
    /// # Cancel safety
    /// As of [`Connection::call`].
    pub async fn send(
        &self,
        request: &Request,
        deadline: Duration,
    ) -> Result<crate::wire::Response, CallError> {
        let shared = &*self.owner.shared;
        let mut waiting = shared.calls.begin().map_err(CallError::NotSent)?;
        let deadline_ms = told_ms(deadline);
        shared
            .outbox
            .push_request(QUEUED_BYTES_MAX, FRAME_BYTES_MAX, |buffer| {
                encode_request(buffer, waiting.id, deadline_ms, request)
            })
            .map_err(|error| CallError::NotSent(shared.not_sent(error)))?;
        let answer = (&mut waiting.answer).await;
        answer.unwrap_or(Err(CallError::Lost(LostReason::ClosedHere)))
    }

    /// Whether nothing is known to be wrong with it.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.owner.shared.calls.is_lost()
    }

    /// Why the connection is gone; `None` while it is usable.
    #[must_use]
    pub fn lost(&self) -> Option<LostReason> {
        self.owner.shared.calls.lost()
    }

    /// Calls that wait for an answer.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.owner.shared.calls.in_flight()
    }

    /// Waits until the connection is gone.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn closed(&self) {
        self.owner.shared.quic.closed().await;
    }

    /// Closes it for all clones; calls in flight end as lost.
    pub fn close(&self) {
        self.owner
            .shared
            .lose(LostReason::ClosedHere, CloseCode::Done);
    }

    fn start(quic: quinn::Connection, streams: Streams) -> Self {
        let shared = Arc::new(Shared {
            quic,
            outbox: Outbox::default(),
            calls: Calls::new(IN_FLIGHT_MAX),
        });
        let Streams { small, bulk } = streams;
        let Half {
            send: mut small_send,
            recv: mut small_recv,
        } = small;
        let Half {
            send: mut bulk_send,
            recv: mut bulk_recv,
        } = bulk;
        let mut tasks = JoinSet::new();
        let own = Arc::clone(&shared);
        tasks.spawn(async move {
            let end = own.outbox.write_small(&mut small_send).await;
            own.written(end);
        });
        let own = Arc::clone(&shared);
        tasks.spawn(async move {
            let end = own.outbox.write_bulk(&mut bulk_send).await;
            own.written(end);
        });
        let own = Arc::clone(&shared);
        tasks.spawn(async move {
            let complete = |frames: &mut Vec<RawFrame>| own.complete(frames);
            let end = read_small(&mut small_recv, SMALL_FRAME_BYTES_MAX, complete).await;
            own.read(end);
        });
        let own = Arc::clone(&shared);
        tasks.spawn(async move {
            let parts = Reassembly::new(RESPONSE_BYTES_MAX, RESPONSE_BYTES_MAX);
            let end = read_bulk(&mut bulk_recv, parts, |frames| own.complete(frames)).await;
            own.read(end);
        });
        Self {
            owner: Arc::new(Owner {
                shared,
                tasks: Mutex::new(tasks),
            }),
        }
    }
}

impl Shared {
    /// Completes the calls that `frames` answer.
    fn complete(&self, frames: &mut Vec<RawFrame>) -> Result<(), FrameError> {
        let mut failed = None;
        let answers = frames
            .drain(..)
            .map_while(|frame| match decode_response(&frame) {
                Ok(frame) => Some((frame.id, Ok(frame.response))),
                Err(FrameError::UnknownKind { kind, id: Some(id) }) => {
                    Some((id, Err(CallError::UnknownAnswer { kind })))
                }
                Err(error) => {
                    failed = Some(error);
                    None
                }
            });
        self.calls.complete(answers);
        failed.map_or(Ok(()), Err)
    }

    fn not_sent(&self, error: OutboxError) -> NotSent {
        match error {
            OutboxError::Closed => {
                NotSent::Gone(self.calls.lost().unwrap_or(LostReason::ClosedHere))
            }
            OutboxError::Full => NotSent::QueueFull,
            OutboxError::Frame(error) => NotSent::Frame(error),
        }
    }

    fn written(&self, end: Result<(), WriteError>) {
        match end {
            Ok(()) => {}
            Err(WriteError::ConnectionLost(error)) => self.lose(error.into(), CloseCode::Done),
            Err(error) => {
                let reason = error.to_string();
                self.lose(LostReason::Failed { reason }, CloseCode::Done);
            }
        }
    }

    fn read(&self, end: Result<(), ReadFailure<FrameError>>) {
        let (reason, code) = match end {
            Ok(()) => (LostReason::ClosedByNode(CloseCode::Done), CloseCode::Done),
            Err(ReadFailure::Refused(error)) => (LostReason::Protocol(error), CloseCode::Hostile),
            Err(ReadFailure::Stream(ReadError::ConnectionLost(error))) => {
                (error.into(), CloseCode::Done)
            }
            Err(ReadFailure::Stream(error)) => (
                LostReason::Failed {
                    reason: error.to_string(),
                },
                CloseCode::Done,
            ),
        };
        self.lose(reason, code);
    }

    fn lose(&self, reason: LostReason, code: CloseCode) {
        self.outbox.close();
        self.calls.fail(reason);
        self.quic.close(code.into(), b"");
    }
}

/// What the node is told of `deadline`: less by a twentieth, at most by 50 ms.
fn told_ms(deadline: Duration) -> u32 {
    let less = (deadline / 20).min(Duration::from_millis(50));
    u32::try_from((deadline - less).as_millis()).unwrap_or(u32::MAX)
}
