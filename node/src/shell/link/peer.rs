//! Connections to all other nodes: who dials, what waits for whom, what comes in.
//!
//! Of two nodes the one with the lower number dials. Every connection has a fresh number; the shard
//! hears of it before its first message and again after its last.
//!
//! Invariants:
//! - a message is taken from a node only over a connection whose certificate names that node;
//! - at most one connection per peer is in use, and a newer one takes the place of the older;
//! - what waits for a peer is bounded, and answers have room that requests cannot take.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_client::link::{
    CloseCode, ConnectError, Half, Outbox, OutboxError, ReadFailure, Route, Streams,
    TransportOptions, accept_streams, acknowledge, read_bulk, read_small,
};
use quorate_client::wire::chunk::Reassembly;
use quorate_client::wire::{FrameError, RawFrame};
use quorate_ring::{MonoTime, NodeId, NodeName};
use tokio::task::JoinSet;

use super::counters::LinkCounters;
use super::dial::Dialler;
use super::format::{decode_frame, encode_frame};
use crate::core::continuity::SILENT_MAX;
use crate::core::message::{PeerHeader, PeerMessage};
use crate::core::scan_page::{RowContent, ScanRow};
use crate::core::{Input, LinkEvent};
use crate::shell::certs::NodeTls;
use crate::shell::inbox::Inbox;
use crate::shell::profile::{Profile, Stage, Timed};
use crate::shell::seam::{Clock, LinkRefused, Links};

/// Bytes that may wait for one peer.
const QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of these that requests may take; the rest belongs to answers and keep-alives.
const QUEUED_REQUEST_BYTES_MAX: usize = 48 * 1024 * 1024;

/// Longest message: a record that merging has made larger than a put may leave it.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Longest frame on the small stream: a hello comes before all else, whatever its size.
const SMALL_FRAME_BYTES_MAX: usize = 1024 * 1024;

/// Messages are put into one frame up to about this size.
const BATCH_BYTES: usize = 32 * 1024;

/// Least time from one connection to the next; a lost link is tried again within 250 ms.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// A peer that has refused this node for so long, and so often, talks to another process of its id.
/// Refusals this far apart are not of one time: a process that stood still between two has not been
/// refused meanwhile.
const RIVAL_AFTER: Duration = Duration::from_secs(3);
const RIVAL_REFUSALS: u32 = 10;
const REFUSALS_APART: Duration = Duration::from_secs(1);

/// Time for opening the streams of a connection.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its number.
    pub id: NodeId,
    /// Its name, as in its certificate.
    pub name: NodeName,
    /// HOST:PORT that it advertises.
    pub address: String,
}

/// What links need.
#[derive(Debug)]
pub struct PeerLinksConfig {
    /// This node.
    pub own: NodeId,
    /// All others.
    pub peers: Vec<Peer>,
    /// The node's one socket.
    pub quic: quinn::Endpoint,
    /// The node's certificates.
    pub tls: NodeTls,
    /// Limits of the transport.
    pub options: TransportOptions,
    /// Where messages and link events go.
    pub inbox: Arc<Inbox>,
    /// What is counted.
    pub counters: Arc<LinkCounters>,
    /// Tells for how long a link has been silent.
    pub clock: Arc<dyn Clock>,
    /// Where the links' work is counted.
    pub profile: Arc<Profile>,
}

/// Links to all other nodes.
#[derive(Debug)]
pub struct PeerLinks {
    own: NodeId,
    slots: BTreeMap<NodeId, Slot>,
    dialler: Dialler,
    inbox: Arc<Inbox>,
    counters: Arc<LinkCounters>,
    clock: Arc<dyn Clock>,
    profile: Arc<Profile>,
    last_link: AtomicU64,
}

#[derive(Debug)]
struct Slot {
    peer: Peer,
    link: Mutex<Option<Arc<Link>>>,
}

#[derive(Debug)]
struct Link {
    number: u64,
    peer: NodeId,
    quic: quinn::Connection,
    outbox: Outbox,
    /// When the last frame came, in microseconds of the node's clock; 0 if none has.
    heard_micros: AtomicU64,
    clock: Arc<dyn Clock>,
    profile: Arc<Profile>,
    /// The shard was told that it is gone.
    down: AtomicBool,
}

impl PeerLinks {
    /// Links to `config.peers`; [`PeerLinks::run`] makes the connections.
    #[must_use]
    pub fn new(config: PeerLinksConfig) -> Self {
        let PeerLinksConfig {
            own,
            peers,
            quic,
            tls,
            options,
            inbox,
            counters,
            clock,
            profile,
        } = config;
        let slot = |peer: Peer| {
            (
                peer.id,
                Slot {
                    peer,
                    link: Mutex::default(),
                },
            )
        };
        Self {
            own,
            slots: peers
                .into_iter()
                .filter(|peer| peer.id != own)
                .map(slot)
                .collect(),
            dialler: Dialler { quic, tls, options },
            inbox,
            counters,
            clock,
            profile,
            last_link: AtomicU64::new(0),
        }
    }

    /// Keeps a connection to every peer with a higher number. Ends only when dropped, or by a bug.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connections that it made.
    pub async fn run(self: Arc<Self>) {
        let mut tasks = JoinSet::new();
        for peer in self
            .slots
            .values()
            .map(|slot| &slot.peer)
            .filter(|peer| self.own < peer.id)
        {
            let (links, peer) = (Arc::clone(&self), peer.clone());
            tasks.spawn(async move { links.keep(peer).await });
        }
        match tasks.join_next().await {
            // Keeping a connection ends only by a panic: the node must not go on without the peer.
            Some(ended) => tracing::error!(?ended, "keeping a link has ended"),
            // Every peer dials this node.
            None => std::future::pending().await,
        }
    }

    async fn keep(&self, peer: Peer) {
        let mut last_error = None;
        let mut refusals = Refusals::default();
        loop {
            let failed = |error: &ConnectError| {
                // For a second it is so after every kill: told only once it lasts.
                if *error == ConnectError::Refused(CloseCode::Rival) {
                    return self.refused_as_rival(peer.id, &mut refusals);
                }
                refusals = Refusals::default();
                if last_error.as_ref() != Some(error) {
                    tracing::warn!(peer = %peer.name, address = %peer.address, %error, "cannot reach node");
                    last_error = Some(error.clone());
                }
            };
            let (quic, streams) = self.dialler.dial(&peer, failed).await;
            last_error = None;
            // A peer that closes at once must not be dialled in a tight loop.
            let pause = tokio::time::sleep(RECONNECT_PAUSE);
            let closed = quic.clone();
            self.carry(peer.id, quic, streams).await;
            if closed_as_rival(&closed) {
                self.refused_as_rival(peer.id, &mut refusals);
            } else {
                refusals = Refusals::default();
            }
            pause.await;
        }
    }

    /// A peer refused this node because it talks to another process of its id: if it has done so
    /// for long enough, the shard is told, which stops the node.
    fn refused_as_rival(&self, peer: NodeId, refusals: &mut Refusals) {
        if refusals.are_lasting(self.clock.now()) {
            self.inbox.push(Input::Rival { peer });
        }
    }

    /// Takes a connection that `name` has made, for as long as it lasts.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn accept(&self, name: &NodeName, quic: quinn::Connection) {
        let dials = |slot: &&Slot| slot.peer.name == *name && slot.peer.id < self.own;
        let Some(slot) = self.slots.values().find(dials) else {
            LinkCounters::count(&self.counters.identities_refused);
            quic.close(CloseCode::Identity.into(), b"");
            return;
        };
        let opening = async {
            let mut streams = accept_streams(&quic).await?;
            acknowledge(&mut streams).await?;
            Ok::<_, quorate_client::link::StreamError>(streams)
        };
        match tokio::time::timeout(OPEN_TIMEOUT, opening).await {
            Ok(Ok(streams)) => self.carry(slot.peer.id, quic, streams).await,
            Ok(Err(quorate_client::link::StreamError::Protocol(_))) => {
                LinkCounters::count(&self.counters.hostile_frames);
                quic.close(CloseCode::Hostile.into(), b"");
            }
            Ok(Err(quorate_client::link::StreamError::Connection(_))) => {}
            Err(_) => quic.close(CloseCode::Idle.into(), b""),
        }
    }

    /// Uses a connection until it breaks.
    async fn carry(&self, peer: NodeId, quic: quinn::Connection, streams: Streams) {
        let Some(link) = self.put_up(peer, quic) else {
            return;
        };
        // Should this future be dropped, the shard must still hear of it.
        let guard = DownGuard {
            links: self,
            link: &link,
        };
        let Streams { small, bulk } = streams;
        let Half {
            send: mut small_send,
            recv: mut small_recv,
        } = small;
        let Half {
            send: mut bulk_send,
            recv: mut bulk_recv,
        } = bulk;
        let mut tasks: JoinSet<Option<FrameError>> = JoinSet::new();
        let profile = &self.profile;
        let own = Arc::clone(&link);
        tasks.spawn(Timed::pinned(profile, Stage::StreamWrite, async move {
            // A stream that cannot be written ends the link; why is of no use.
            drop(own.outbox.write_small(&mut small_send).await);
            None
        }));
        let own = Arc::clone(&link);
        tasks.spawn(Timed::pinned(profile, Stage::StreamWrite, async move {
            drop(own.outbox.write_bulk(&mut bulk_send).await);
            None
        }));
        let (own, inbox) = (Arc::clone(&link), Arc::clone(&self.inbox));
        tasks.spawn(Timed::pinned(profile, Stage::StreamRead, async move {
            let take = |frames: &mut Vec<RawFrame>| own.take(frames, &inbox);
            hostile(read_small(&mut small_recv, SMALL_FRAME_BYTES_MAX, take).await)
        }));
        let (own, inbox) = (Arc::clone(&link), Arc::clone(&self.inbox));
        tasks.spawn(Timed::pinned(profile, Stage::StreamRead, async move {
            let parts = Reassembly::new(MESSAGE_BYTES_MAX, 2 * MESSAGE_BYTES_MAX);
            let take = |frames: &mut Vec<RawFrame>| own.take(frames, &inbox);
            hostile(read_bulk(&mut bulk_recv, parts, take).await)
        }));
        let code = match tasks.join_next().await {
            Some(Ok(Some(error))) => {
                tracing::warn!(peer = %peer, %error, "node broke the protocol");
                LinkCounters::count(&self.counters.hostile_frames);
                CloseCode::Hostile
            }
            Some(Ok(None) | Err(_)) | None => CloseCode::Done,
        };
        link.quic.close(code.into(), b"");
        tasks.shutdown().await;
        drop(guard);
    }

    /// Puts a new connection in the place of the one before, and tells the shard of both.
    fn put_up(&self, peer: NodeId, quic: quinn::Connection) -> Option<Arc<Link>> {
        let slot = self.slots.get(&peer)?;
        let number = self.last_link.fetch_add(1, Ordering::Relaxed) + 1;
        let (outbox, down) = (Outbox::default(), AtomicBool::new(false));
        let link = Arc::new(Link {
            number,
            peer,
            quic,
            outbox,
            heard_micros: AtomicU64::new(0),
            clock: Arc::clone(&self.clock),
            profile: Arc::clone(&self.profile),
            down,
        });
        let mut place = slot.link();
        if place.as_ref().is_some_and(|present| present.is_alive()) {
            // Two processes of one node: the one that is connected keeps its place. A node that was
            // killed and is back at once gets it when its old connection has been silent long
            // enough.
            LinkCounters::count(&self.counters.connections_refused);
            link.quic.close(CloseCode::Rival.into(), b"");
            return None;
        }
        if let Some(old) = place.replace(Arc::clone(&link)) {
            self.tell_down(&old);
            old.quic.close(CloseCode::Replaced.into(), b"");
        }
        self.inbox
            .push(Input::Link(LinkEvent::Up { peer, link: number }));
        drop(place);
        LinkCounters::count(&self.counters.links_up);
        Some(link)
    }

    fn take_down(&self, link: &Arc<Link>) {
        if let Some(slot) = self.slots.get(&link.peer) {
            let mut place = slot.link();
            if place
                .as_ref()
                .is_some_and(|present| present.number == link.number)
            {
                *place = None;
            }
            self.tell_down(link);
        }
        link.outbox.close();
        link.quic.close(CloseCode::Done.into(), b"");
    }

    fn tell_down(&self, link: &Link) {
        if !link.down.swap(true, Ordering::AcqRel) {
            let (peer, link) = (link.peer, link.number);
            self.inbox.push(Input::Link(LinkEvent::Down { peer, link }));
        }
    }

    fn present(&self, peer: NodeId) -> Option<Arc<Link>> {
        self.slots.get(&peer).and_then(|slot| slot.link().clone())
    }

    /// Queues `messages` in frames of about [`BATCH_BYTES`]; false if the queue is full.
    fn queue(
        &self,
        link: &Link,
        header: PeerHeader,
        messages: &[PeerMessage],
        queued_bytes_max: usize,
    ) -> bool {
        let mut rest = messages;
        let mut queued_bytes_max = queued_bytes_max;
        while !rest.is_empty() {
            let (frame, later) = rest.split_at(batch_len(rest));
            rest = later;
            let first_ever = frame.iter().any(|m| matches!(m, PeerMessage::Hello(_)));
            let route = if first_ever {
                Route::Small
            } else {
                Route::BySize
            };
            let encode = |out: &mut bytes::BytesMut| encode_frame(out, header, frame);
            match link
                .outbox
                .push(route, queued_bytes_max, MESSAGE_BYTES_MAX, encode)
            {
                // What was begun is finished, so that a refusal means that nothing was queued.
                Ok(()) => queued_bytes_max = usize::MAX,
                Err(OutboxError::Frame(error)) => {
                    tracing::error!(peer = %link.peer, %error, "message cannot be sent");
                    LinkCounters::count(&self.counters.messages_unsendable);
                }
                Err(OutboxError::Full | OutboxError::Closed) => return false,
            }
        }
        true
    }
}

impl Links for PeerLinks {
    /// Where requests find no room left, answers among `messages` are queued all the same.
    fn send(
        &self,
        to: NodeId,
        header: PeerHeader,
        messages: Vec<PeerMessage>,
    ) -> Result<(), LinkRefused> {
        let link = self.present(to).ok_or(LinkRefused::NotConnected)?;
        if link.outbox.queued_bytes() < QUEUED_REQUEST_BYTES_MAX {
            let queued = self.queue(&link, header, &messages, QUEUED_BYTES_MAX);
            return if queued {
                Ok(())
            } else {
                Err(LinkRefused::NotConnected)
            };
        }
        let (requests, answers): (Vec<_>, Vec<_>) = messages.into_iter().partition(is_request);
        let queued = self.queue(&link, header, &answers, QUEUED_BYTES_MAX);
        if queued && requests.is_empty() {
            return Ok(());
        }
        LinkCounters::count(&self.counters.peer_queue_full);
        Err(LinkRefused::Full)
    }

    fn close(&self, peer: NodeId, link: u64) {
        if let Some(present) = self.present(peer).filter(|present| present.number == link) {
            LinkCounters::count(&self.counters.hostile_frames);
            present.quic.close(CloseCode::Hostile.into(), b"");
        }
    }
}

/// Refusals of this node by one peer, one soon after the other.
#[derive(Debug, Default)]
struct Refusals {
    first: MonoTime,
    last: MonoTime,
    count: u32,
}

impl Refusals {
    /// Counts one; true once they have gone on for long enough.
    fn are_lasting(&mut self, now: MonoTime) -> bool {
        if self.count == 0 || now.since(self.last) > REFUSALS_APART {
            (self.first, self.count) = (now, 0);
        }
        self.last = now;
        self.count += 1;
        self.count >= RIVAL_REFUSALS && now.since(self.first) > RIVAL_AFTER
    }
}

impl Slot {
    fn link(&self) -> MutexGuard<'_, Option<Arc<Link>>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the other side closed the connection because it talks to another process of this node.
fn closed_as_rival(quic: &quinn::Connection) -> bool {
    match quic.close_reason() {
        Some(quinn::ConnectionError::ApplicationClosed(close)) => {
            CloseCode::from(close.error_code) == CloseCode::Rival
        }
        Some(_) | None => false,
    }
}

impl Link {
    /// Whether a frame came within the time after which a node counts as silent.
    fn is_alive(&self) -> bool {
        let heard = MonoTime::from_micros(self.heard_micros.load(Ordering::Relaxed));
        let open = self.quic.close_reason().is_none();
        open && heard > MonoTime::ZERO && self.clock.now().since(heard) < SILENT_MAX
    }

    /// Hands the messages of `frames` to the shard, in one batch.
    fn take(&self, frames: &mut Vec<RawFrame>, inbox: &Inbox) -> Result<(), FrameError> {
        self.heard_micros
            .store(self.clock.now().as_micros(), Ordering::Relaxed);
        let mut lap = self.profile.lap(Stage::PeerDecode);
        let mut inputs = Vec::new();
        let (from, link) = (self.peer, self.number);
        let mut decoded = Ok(());
        for frame in frames.drain(..) {
            match decode_frame(&frame) {
                Ok((header, messages)) => {
                    inputs.extend(messages.into_iter().map(|message| Input::Peer {
                        from,
                        link,
                        header,
                        message,
                    }))
                }
                Err(error) => {
                    decoded = Err(error);
                    break;
                }
            }
        }
        let messages = inputs.len();
        if !self.down.load(Ordering::Acquire) {
            inbox.extend(inputs);
        }
        lap.ends(Stage::PeerDecode, messages);
        decoded
    }
}

struct DownGuard<'a> {
    links: &'a PeerLinks,
    link: &'a Arc<Link>,
}

impl Drop for DownGuard<'_> {
    fn drop(&mut self) {
        self.links.take_down(self.link);
    }
}

/// What of a reader's end was the other side's fault.
fn hostile(end: Result<(), ReadFailure<FrameError>>) -> Option<FrameError> {
    match end {
        Ok(()) | Err(ReadFailure::Stream(_)) => None,
        Err(ReadFailure::Refused(error)) => Some(error),
    }
}

fn is_request(message: &PeerMessage) -> bool {
    match message {
        PeerMessage::Replicate(_)
        | PeerMessage::Read(_)
        | PeerMessage::Forward(_)
        | PeerMessage::Scan(_)
        | PeerMessage::Exchange(_)
        | PeerMessage::Purge(_) => true,
        PeerMessage::Hello(_)
        | PeerMessage::KeepAlive(_)
        | PeerMessage::ReplicateReply(_)
        | PeerMessage::ReadReply(_)
        | PeerMessage::ForwardReply(_)
        | PeerMessage::ScanReply(_)
        | PeerMessage::ExchangeReply(_)
        | PeerMessage::PurgeReply(_)
        | PeerMessage::Clock(_) => false,
    }
}

/// How many of `messages`, at least one, go into the next frame.
fn batch_len(messages: &[PeerMessage]) -> usize {
    let mut bytes = 0;
    let fits = messages.iter().take_while(|message| {
        bytes += payload_bytes(message);
        bytes <= BATCH_BYTES
    });
    fits.count().max(1)
}

/// About how many bytes `message` takes.
fn payload_bytes(message: &PeerMessage) -> usize {
    use crate::core::message::{ExchangeAnswer, ExchangeWanted, HeldRecord, Payload, Reply};
    64 + match message {
        PeerMessage::Hello(hello) => 20 * (hello.timeline.lives().len() + hello.memories.len()),
        PeerMessage::KeepAlive(message) => 20 + 20 * message.memories.len(),
        PeerMessage::Replicate(replicate) => {
            replicate.key.len()
                + match &replicate.payload {
                    Payload::Whole(record) => record.len(),
                    Payload::Delta(delta) => {
                        delta.sibling.value().map_or(0, bytes::Bytes::len)
                            + delta.client_context.as_ref().map_or(0, |c| c.encoded_len())
                    }
                }
        }
        PeerMessage::ReplicateReply(_) | PeerMessage::Clock(_) => 0,
        PeerMessage::Read(read) => read.key.len(),
        PeerMessage::ReadReply(reply) => match &reply.result {
            Ok(held) => match &held.record {
                HeldRecord::Whole(bytes) => bytes.len(),
                HeldRecord::Absent | HeldRecord::AsKnown => 0,
            },
            Err(_) => 0,
        },
        PeerMessage::Forward(forward) => forward.request.bytes(),
        PeerMessage::ForwardReply(reply) => match &reply.reply {
            Reply::Applied { context, .. } => context.as_ref().map_or(0, bytes::Bytes::len),
            Reply::Read {
                values, context, ..
            } => context.len() + values.iter().map(|value| value.len() + 8).sum::<usize>(),
            Reply::Failed(failure) => 8 * failure.replicas.len(),
            Reply::Page { .. } | Reply::Batch(_) => 0,
        },
        PeerMessage::Scan(ask) => ask.range.from.len() + 2 * ask.range.vnodes.to_bytes().len(),
        PeerMessage::ScanReply(reply) => match &reply.result {
            Ok(part) => part.rows.iter().map(row_bytes).sum(),
            Err(_) => 0,
        },
        PeerMessage::Exchange(ask) => match &ask.wanted {
            ExchangeWanted::Standing => 0,
            ExchangeWanted::Trees(questions) => 48 * questions.len(),
            ExchangeWanted::Rows(question) => question.from.len() + 3 * question.buckets.len(),
        },
        PeerMessage::ExchangeReply(reply) => match &reply.result {
            Ok(ExchangeAnswer::Trees(told)) => told.iter().map(|hashes| 16 * hashes.len()).sum(),
            Ok(ExchangeAnswer::Rows(page)) => page.rows.iter().map(|row| row.key.len() + 28).sum(),
            Ok(ExchangeAnswer::Standing(standing)) => {
                let vnodes = standing.lacks.values();
                let lacks: usize = vnodes.map(|vnodes| vnodes.to_bytes().len() + 16).sum();
                lacks + 24 * standing.numbers.len()
            }
            Err(_) => 0,
        },
        PeerMessage::Purge(ask) => {
            let keys = ask.rounds.iter().flat_map(|round| &round.keys);
            24 * ask.rounds.len() + keys.map(|(key, _)| key.len() + 24).sum::<usize>()
        }
        PeerMessage::PurgeReply(reply) => {
            let rounds = reply.result.iter().flatten();
            rounds.map(|places| 4 + 3 * places.len()).sum()
        }
    }
}

fn row_bytes(row: &ScanRow) -> usize {
    let content = match &row.content {
        RowContent::Whole(record) => record.len(),
        RowContent::Digest(_) => 16,
    };
    row.key.len() + content + 16
}
