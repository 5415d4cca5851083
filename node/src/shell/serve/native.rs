//! Clients over QUIC: reads their requests, sheds what is too much, writes answers back.
//!
//! Data requests go to the shard through the inbox; what concerns the node itself goes to an
//! [`AdminHandler`], one after the other per connection.
//!
//! Invariants:
//! - a request that is refused here was not applied, and says so;
//! - an id is in flight once per connection; requests in flight, connections and unread answers are
//!   bounded;
//! - an answer whose connection is gone is dropped.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_client::link::{
    CloseCode, Half, Outbox, OutboxError, ReadFailure, Role, Route, StreamError, Streams,
    accept_streams, acknowledge, read_bulk, read_small_in_turns,
};
use quorate_client::wire::chunk::Reassembly;
use quorate_client::wire::frame::SMALL_FRAME_BYTES_MAX;
use quorate_client::wire::{
    Code, DeclareLost, DumpLocal, FRAME_BYTES_MAX, FrameError, RESPONSE_BYTES_MAX, RawFrame,
    ReadLocal, Repair, RequestFrame, Response, Verify, decode_request, encode_response,
};
use quorate_ring::{FixedMap, FixedSet, MonoTime};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::convert::{Incoming, incoming_of, refused, response_of};
use crate::core::Input;
use crate::core::input::RequestId;
use crate::core::message::Reply;
use crate::shell::inbox::{Inbox, Room};
use crate::shell::link::LinkCounters;
use crate::shell::profile::{Profile, Stage, Timed};
use crate::shell::seam::{BoxFuture, ClientPort, Clock};

/// Longest deadline that is granted.
const DEADLINE_MAX: Duration = Duration::from_secs(60);

/// Requests for the node itself that may wait on one connection.
const ADMIN_WAITING_MAX: usize = 64;

/// Time for opening the streams of a connection.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);

/// What a shed request is told to wait.
const RETRY_AFTER_MS: u32 = 25;

/// What the node itself answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminRequest {
    /// Nodes, keyspaces and epoch.
    Topology,
    /// State of the node.
    Status,
    /// The node's copy of a key; needs the role `admin`.
    ReadLocal(ReadLocal),
    /// A page of the node's records; needs the role `admin`.
    DumpLocal(DumpLocal),
    /// A check of the node's records of a vnode; needs the role `admin`.
    Verify(Verify),
    /// A comparison of the node's copies with another node's; needs the role `admin`.
    Repair(Repair),
    /// An operator's word that disks are lost; needs the role `admin`.
    DeclareLost(DeclareLost),
}

/// Answers what concerns the node itself. Roles are checked before.
pub trait AdminHandler: Debug + Send + Sync {
    /// The answer. May be dropped before it is ready, when its deadline passes.
    fn answer(&self, request: AdminRequest) -> BoxFuture<'_, Response>;
}

/// Limits of the clients' listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// Connections in all. Default 2,048; each may hold receive windows and unread answers.
    pub connections_max: usize,
    /// Connections of one principal. Default 1,024: one service of many processes has room, and
    /// never takes all that there is.
    pub connections_per_principal_max: usize,
    /// Requests in flight on one connection. Default 4,096.
    pub in_flight_max: usize,
    /// Bytes of answers that may wait for a client before it is cut off. Default 16 MiB.
    pub answer_bytes_max: usize,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connections_max: 2048,
            connections_per_principal_max: 1024,
            in_flight_max: 4096,
            answer_bytes_max: 16 * 1024 * 1024,
        }
    }
}

/// What the clients' listener needs.
#[derive(Debug)]
pub struct ClientServerConfig {
    /// Where data requests go.
    pub inbox: Arc<Inbox>,
    /// Who answers the rest.
    pub admin: Arc<dyn AdminHandler>,
    /// For deadlines.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub counters: Arc<LinkCounters>,
    /// Where the listener's work is counted.
    pub profile: Arc<Profile>,
    /// Limits.
    pub limits: ClientLimits,
}

/// The clients of one node.
#[derive(Debug)]
pub struct ClientServer {
    config: ClientServerConfig,
    last_connection: AtomicU64,
    open: Arc<AtomicUsize>,
    clients: Mutex<Clients>,
}

#[derive(Debug, Default)]
struct Clients {
    connections: FixedMap<u64, Arc<ClientLink>>,
    principals: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct ClientLink {
    number: u64,
    role: Role,
    quic: quinn::Connection,
    outbox: Outbox,
    in_flight: Mutex<FixedSet<u64>>,
    limits: ClientLimits,
    counters: Arc<LinkCounters>,
}

/// A request for the node itself, on its way to the connection's task for them.
struct AdminWaiting {
    id: u64,
    deadline: MonoTime,
    request: AdminRequest,
}

impl ClientServer {
    /// A listener without connections.
    #[must_use]
    pub fn new(config: ClientServerConfig) -> Self {
        Self {
            config,
            last_connection: AtomicU64::new(0),
            open: Arc::default(),
            clients: Mutex::default(),
        }
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.clients().connections.len()
    }

    /// Serves one connection until it ends.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn accept(&self, quic: quinn::Connection, role: Role, principal: String) {
        let counters = &self.config.counters;
        let Some(entry) = self.register(&quic, role, principal) else {
            LinkCounters::count(&counters.connections_refused);
            quic.close(CloseCode::TooMany.into(), b"");
            return;
        };
        let opening = async {
            let mut streams = accept_streams(&quic).await?;
            acknowledge(&mut streams).await?;
            Ok::<_, StreamError>(streams)
        };
        match tokio::time::timeout(OPEN_TIMEOUT, opening).await {
            Ok(Ok(streams)) => {
                LinkCounters::count(&counters.clients_accepted);
                self.serve(&entry.link, streams).await;
            }
            Ok(Err(StreamError::Protocol(_))) => {
                LinkCounters::count(&counters.hostile_frames);
                quic.close(CloseCode::Hostile.into(), b"");
            }
            Ok(Err(StreamError::Connection(_))) => {}
            Err(_) => {
                LinkCounters::count(&counters.streams_not_opened);
                quic.close(CloseCode::Idle.into(), b"");
            }
        }
    }

    fn register(
        &self,
        quic: &quinn::Connection,
        role: Role,
        principal: String,
    ) -> Option<Registered<'_>> {
        let limits = self.config.limits;
        let mut clients = self.clients();
        if clients.connections.len() >= limits.connections_max {
            return None;
        }
        let of_principal = clients.principals.entry(principal.clone()).or_default();
        if *of_principal >= limits.connections_per_principal_max {
            return None;
        }
        *of_principal += 1;
        let number = self.last_connection.fetch_add(1, Ordering::Relaxed) + 1;
        let link = Arc::new(ClientLink {
            number,
            role,
            quic: quic.clone(),
            outbox: Outbox::default(),
            in_flight: Mutex::default(),
            limits,
            counters: Arc::clone(&self.config.counters),
        });
        clients.connections.insert(number, Arc::clone(&link));
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Registered {
            server: self,
            link,
            principal,
        })
    }

    async fn serve(&self, link: &Arc<ClientLink>, streams: Streams) {
        let Streams { small, bulk } = streams;
        let Half {
            send: mut small_send,
            recv: mut small_recv,
        } = small;
        let Half {
            send: mut bulk_send,
            recv: mut bulk_recv,
        } = bulk;
        let (questions, questions_waiting) = mpsc::channel(ADMIN_WAITING_MAX);
        let (reads, reads_waiting) = mpsc::channel(ADMIN_WAITING_MAX);
        let intake = |link: &Arc<ClientLink>| Intake {
            link: Arc::clone(link),
            inbox: Arc::clone(&self.config.inbox),
            open: Arc::clone(&self.open),
            arrived_us: AtomicU64::new(0),
            clock: Arc::clone(&self.config.clock),
            profile: Arc::clone(&self.config.profile),
            questions: questions.clone(),
            reads: reads.clone(),
        };
        let mut tasks: JoinSet<Option<FrameError>> = JoinSet::new();
        let profile = &self.config.profile;
        let own = Arc::clone(link);
        tasks.spawn(Timed::pinned(profile, Stage::StreamWrite, async move {
            drop(own.outbox.write_small(&mut small_send).await);
            None
        }));
        let own = Arc::clone(link);
        tasks.spawn(Timed::pinned(profile, Stage::StreamWrite, async move {
            drop(own.outbox.write_bulk(&mut bulk_send).await);
            None
        }));
        let own = intake(link);
        tasks.spawn(Timed::pinned(profile, Stage::StreamRead, async move {
            let take = |frames: &mut Vec<RawFrame>| own.take(frames);
            let turn = || own.turn();
            let limit = SMALL_FRAME_BYTES_MAX;
            hostile(read_small_in_turns(&mut small_recv, limit, turn, take).await)
        }));
        let own = intake(link);
        tasks.spawn(Timed::pinned(profile, Stage::StreamRead, async move {
            let parts = Reassembly::new(FRAME_BYTES_MAX, 2 * FRAME_BYTES_MAX);
            let take = |frames: &mut Vec<RawFrame>| {
                own.turn();
                own.take(frames)
            };
            hostile(read_bulk(&mut bulk_recv, parts, take).await)
        }));
        let (own, handler) = (Arc::clone(link), Arc::clone(&self.config.admin));
        let clock = Arc::clone(&self.config.clock);
        tasks.spawn(async move {
            // A question does not wait behind a read of the whole store.
            tokio::join!(
                answer_admin(&own, &*handler, &*clock, questions_waiting),
                answer_admin(&own, &*handler, &*clock, reads_waiting),
            );
            None
        });
        let code = match tasks.join_next().await {
            Some(Ok(Some(error))) => {
                tracing::warn!(remote = %link.quic.remote_address(), %error, "client broke the protocol");
                LinkCounters::count(&self.config.counters.hostile_frames);
                CloseCode::Hostile
            }
            Some(Ok(None) | Err(_)) | None => CloseCode::Done,
        };
        link.quic.close(code.into(), b"");
        tasks.shutdown().await;
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientPort for ClientServer {
    fn reply(&self, replies: Vec<(RequestId, Reply)>) {
        let mut last: Option<Arc<ClientLink>> = None;
        for (RequestId { connection, id }, reply) in replies {
            if last.as_ref().is_none_or(|link| link.number != connection) {
                last = self.clients().connections.get(&connection).cloned();
            }
            if let Some(link) = &last {
                link.answer(id, &response_of(reply));
            }
        }
    }
}

/// A connection's place in the list; gives it back when dropped.
struct Registered<'a> {
    server: &'a ClientServer,
    link: Arc<ClientLink>,
    principal: String,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut clients = self.server.clients();
        clients.connections.remove(&self.link.number);
        self.server.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(count) = clients.principals.get_mut(&self.principal) {
            *count -= 1;
            if *count == 0 {
                clients.principals.remove(&self.principal);
            }
        }
        drop(clients);
        self.link.outbox.close();
        self.link.quic.close(CloseCode::Done.into(), b"");
    }
}

impl ClientLink {
    /// Answers a request in flight.
    fn answer(&self, id: u64, response: &Response) {
        self.in_flight().remove(&id);
        self.write(id, response);
    }

    fn write(&self, id: u64, response: &Response) {
        let push = |response: &Response| {
            let encode = |out: &mut bytes::BytesMut| encode_response(out, id, response);
            let most = self.limits.answer_bytes_max;
            self.outbox
                .push(Route::BySize, most, RESPONSE_BYTES_MAX, encode)
        };
        match push(response) {
            Ok(()) | Err(OutboxError::Closed) => {}
            Err(OutboxError::Full) => {
                LinkCounters::count(&self.counters.slow_readers);
                self.outbox.close();
                self.quic.close(CloseCode::SlowReader.into(), b"");
            }
            Err(OutboxError::Frame(_)) => {
                // Only a read can be too long; it was not answered, and says so.
                let limit = u64::try_from(RESPONSE_BYTES_MAX).unwrap_or(u64::MAX);
                let refusal = refused(Code::RecordTooLarge, 0, limit);
                if push(&refusal).is_err() {
                    self.quic.close(CloseCode::SlowReader.into(), b"");
                }
            }
        }
    }

    fn in_flight(&self) -> MutexGuard<'_, FixedSet<u64>> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests of one connection that are read before those of others have their turn.
const REQUESTS_PER_TURN: usize = 64;

/// A connection's share of what one may have in flight, however many others there are: a part of
/// this.
const LEAST_SHARE: usize = 4;

/// One reader's way to the shard. While there are several connections each is read in turns and has
/// a share of the requests in flight: who floods waits for itself.
struct Intake {
    link: Arc<ClientLink>,
    /// Open connections of clients.
    open: Arc<AtomicUsize>,
    /// When the read came of which requests are being taken.
    arrived_us: AtomicU64,
    inbox: Arc<Inbox>,
    clock: Arc<dyn Clock>,
    profile: Arc<Profile>,
    /// What is answered from memory.
    questions: mpsc::Sender<AdminWaiting>,
    /// What reads the store, and may take long.
    reads: mpsc::Sender<AdminWaiting>,
}

impl Intake {
    /// A read has come; how many of its requests may be taken in one turn.
    fn turn(&self) -> usize {
        let now = self.clock.now().as_micros();
        self.arrived_us.store(now, Ordering::Relaxed);
        if self.open.load(Ordering::Relaxed) > 1 {
            REQUESTS_PER_TURN
        } else {
            usize::MAX
        }
    }

    /// Requests that the connection may have in flight now.
    fn in_flight_max(&self) -> usize {
        let most = self.link.limits.in_flight_max;
        let open = self.open.load(Ordering::Relaxed).clamp(1, LEAST_SHARE);
        (most / open).max(1)
    }

    /// Takes the requests of `frames`; data requests reach the shard in one batch.
    fn take(&self, frames: &mut Vec<RawFrame>) -> Result<(), FrameError> {
        let now = MonoTime::from_micros(self.arrived_us.load(Ordering::Relaxed));
        let mut lap = self.profile.lap(Stage::RequestDecode);
        let requests = frames.len();
        let mut room = self.inbox.room();
        let mut inputs = Vec::with_capacity(requests);
        let mut taken = Ok(());
        for frame in frames.drain(..) {
            let admitted = match decode_request(&frame) {
                Ok(frame) => self.admit(frame, now, room),
                Err(FrameError::UnknownKind { id: Some(id), .. }) => {
                    LinkCounters::count(&self.link.counters.requests_unknown);
                    self.link.write(id, &refused(Code::RequestInvalid, 0, 0));
                    Ok(None)
                }
                Err(error) => Err(error),
            };
            match admitted {
                Ok(Some(input)) => {
                    room = room.without(&input);
                    inputs.push(input);
                }
                Ok(None) => {}
                Err(error) => {
                    taken = Err(error);
                    break;
                }
            }
        }
        if !inputs.is_empty() {
            self.inbox.extend(inputs);
        }
        lap.ends(Stage::RequestDecode, requests);
        taken
    }

    fn admit(
        &self,
        frame: RequestFrame,
        now: MonoTime,
        room: Room,
    ) -> Result<Option<Input>, FrameError> {
        let RequestFrame {
            id,
            deadline_ms,
            held_ms,
            request,
        } = frame;
        let left_ms = deadline_ms.saturating_sub(held_ms);
        let deadline = now + Duration::from_millis(left_ms.into()).min(DEADLINE_MAX);
        let mut in_flight = self.link.in_flight();
        if in_flight.contains(&id) {
            // Two answers under one id could not be told apart.
            return Err(FrameError::Fields { kind: 0 });
        }
        if room.is_none() || in_flight.len() >= self.in_flight_max() {
            drop(in_flight);
            self.shed(id);
            return Ok(None);
        }
        in_flight.insert(id);
        drop(in_flight);
        let from = RequestId {
            connection: self.link.number,
            id,
        };
        let held = Duration::from_millis(held_ms.into());
        Ok(match incoming_of(request) {
            Incoming::Data(mut request) => {
                request.grow_older(held);
                Some(Input::Request {
                    from,
                    received: now,
                    deadline,
                    request,
                })
            }
            Incoming::Scan(request) => Some(Input::Scan {
                from,
                received: now,
                deadline,
                request,
            }),
            Incoming::Batch(mut items) => {
                items.iter_mut().for_each(|item| item.grow_older(held));
                Some(Input::Batch {
                    from,
                    received: now,
                    deadline,
                    items,
                })
            }
            Incoming::Admin(request) => {
                self.admit_admin(AdminWaiting {
                    id,
                    deadline,
                    request,
                });
                None
            }
        })
    }

    fn admit_admin(&self, waiting: AdminWaiting) {
        let (queue, needs_admin) = match &waiting.request {
            AdminRequest::Topology | AdminRequest::Status => (&self.questions, false),
            AdminRequest::ReadLocal(_)
            | AdminRequest::DumpLocal(_)
            | AdminRequest::Verify(_)
            | AdminRequest::Repair(_)
            | AdminRequest::DeclareLost(_) => (&self.reads, true),
        };
        let id = waiting.id;
        if needs_admin && self.link.role != Role::Admin {
            self.link.answer(id, &refused(Code::RoleRefused, 0, 0));
        } else if queue.try_send(waiting).is_err() {
            self.link.in_flight().remove(&id);
            self.shed(id);
        }
    }

    fn shed(&self, id: u64) {
        LinkCounters::count(&self.link.counters.requests_shed);
        self.link
            .write(id, &refused(Code::Overloaded, RETRY_AFTER_MS, 0));
    }
}

/// Answers requests of a queue, one after the other.
async fn answer_admin(
    link: &ClientLink,
    handler: &dyn AdminHandler,
    clock: &dyn Clock,
    mut waiting: mpsc::Receiver<AdminWaiting>,
) {
    while let Some(AdminWaiting {
        id,
        deadline,
        request,
    }) = waiting.recv().await
    {
        let left = deadline.since(clock.now());
        let answer = tokio::time::timeout(left, handler.answer(request)).await;
        let response = answer.unwrap_or_else(|_| refused(Code::DeadlineExceeded, 0, 0));
        link.answer(id, &response);
    }
}

/// What of a reader's end was the client's fault.
fn hostile(end: Result<(), ReadFailure<FrameError>>) -> Option<FrameError> {
    match end {
        Ok(()) | Err(ReadFailure::Stream(_)) => None,
        Err(ReadFailure::Refused(error)) => Some(error),
    }
}
