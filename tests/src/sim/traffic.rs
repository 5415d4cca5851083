//! What the cluster says, counted: messages and the bytes of their real encodings, between nodes
//! and with clients, with what only operations cause kept apart from what time alone causes.
//!
//! A frame between nodes is counted when it is sent. Its bytes are those of the frame without its
//! background messages (hellos, keep-alives, clock probes); what these add is background. Off
//! unless a run asks for it: the simulator passes messages, not bytes, and encoding each costs
//! time.
//!
//! Not here: headers of QUIC, UDP and IP, which depend on how frames meet in packets.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use quorate_client::wire;
use quorate_client::wire::frame::{encode_request, encode_response};
use quorate_node::core::message::{PeerHeader, PeerMessage};
use quorate_node::shell::link::encode_frame;

/// Messages and bytes of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames sent.
    pub frames: u64,
    /// Messages in them.
    pub messages: u64,
    /// Bytes of the frames, as encoded.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, messages: usize, bytes: usize) {
        self.frames += u64::from(messages > 0);
        self.messages += messages as u64;
        self.bytes += bytes as u64;
    }

    /// What came since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            frames: self.frames - before.frames,
            messages: self.messages - before.messages,
            bytes: self.bytes - before.bytes,
        }
    }
}

/// Everything that was said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Between nodes, because of operations.
    pub peers: Tally,
    /// Between nodes, because time passes and connections are made.
    pub background: Tally,
    /// Requests of clients and their answers.
    pub clients: Tally,
    /// What clients ask of the cluster itself.
    pub client_background: Tally,
}

impl Counts {
    /// What came since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            peers: self.peers.since(&before.peers),
            background: self.background.since(&before.background),
            clients: self.clients.since(&before.clients),
            client_background: self.client_background.since(&before.client_background),
        }
    }
}

/// The counters. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Traffic {
    counts: Arc<Mutex<Counts>>,
}

impl Traffic {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.lock()
    }

    /// A node sends a frame to another.
    pub(super) fn frame(&self, header: PeerHeader, messages: &[PeerMessage]) {
        let asked: Vec<PeerMessage> = messages
            .iter()
            .filter(|message| !is_background(message))
            .cloned()
            .collect();
        let all = frame_bytes(header, messages);
        let own = if asked.is_empty() {
            0
        } else {
            frame_bytes(header, &asked)
        };
        let mut counts = self.lock();
        counts.peers.add(asked.len(), own);
        counts
            .background
            .add(messages.len() - asked.len(), all - own);
    }

    /// A client asks a node.
    pub(super) fn request(&self, request: &wire::Request) {
        let mut out = BytesMut::new();
        // Ids and deadlines of one size, so that their digits do not count.
        let bytes = encode_request(&mut out, u64::MAX, u32::MAX, request);
        let bytes = bytes.expect("a request of the SDK can be written");
        let mut counts = self.lock();
        match request {
            wire::Request::Topology => counts.client_background.add(1, bytes),
            _ => counts.clients.add(1, bytes),
        }
    }

    /// A node answers a client.
    pub(super) fn response(&self, response: &wire::Response) {
        let mut out = BytesMut::new();
        let bytes = encode_response(&mut out, u64::MAX, response);
        let bytes = bytes.expect("an answer of a node can be written");
        let mut counts = self.lock();
        match response {
            wire::Response::Topology(_) => counts.client_background.add(1, bytes),
            _ => counts.clients.add(1, bytes),
        }
    }
}

fn frame_bytes(header: PeerHeader, messages: &[PeerMessage]) -> usize {
    let mut out = BytesMut::new();
    encode_frame(&mut out, header, messages).expect("what a node sends can be written")
}

/// Whether time or a new connection causes it, and no operation.
fn is_background(message: &PeerMessage) -> bool {
    match message {
        PeerMessage::Hello(_)
        | PeerMessage::KeepAlive(_)
        | PeerMessage::Clock(_)
        | PeerMessage::Exchange(_)
        | PeerMessage::ExchangeReply(_)
        | PeerMessage::Purge(_)
        | PeerMessage::PurgeReply(_) => true,
        PeerMessage::Replicate(_)
        | PeerMessage::ReplicateReply(_)
        | PeerMessage::Read(_)
        | PeerMessage::ReadReply(_)
        | PeerMessage::Forward(_)
        | PeerMessage::ForwardReply(_)
        | PeerMessage::Scan(_)
        | PeerMessage::ScanReply(_) => false,
    }
}
