//! The stages of a node's work: their names, which are nested in which, and whose thread they are.

/// A part of a node's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The kernel takes datagrams of the socket. Items: datagrams.
    UdpReceive,
    /// The kernel sends datagrams; on a machine of its own also what their receiver's kernel does.
    /// Items: datagrams.
    UdpSend,
    /// quinn and rustls: packets, acknowledgements, encryption. Items: wake-ups of a connection or
    /// the socket.
    Quic,
    /// Streams are read and cut into frames. Items: wake-ups of a reader.
    StreamRead,
    /// Frames of other nodes are decoded. Items: messages.
    PeerDecode,
    /// Frames of clients are decoded and admitted. Items: requests.
    RequestDecode,
    /// The shard's loop around the stages below: what waits is taken, counts are kept. Items:
    /// wake-ups.
    Loop,
    /// Steps of the core. Items: inputs.
    Core,
    /// Effects are sorted, frames of the log encoded and handed to the committer. Items: frames.
    Append,
    /// Messages to other nodes are encoded. Items: messages.
    PeerEncode,
    /// Answers to clients are encoded. Items: answers.
    ReplyEncode,
    /// Queued frames are handed to quinn's streams. Items: wake-ups of a writer.
    StreamWrite,
    /// What of the runtime's thread is in no stage: the runtime itself, timers, waits in the
    /// kernel, handshakes, HTTP; all of it while profiling is off.
    Runtime,
    /// The log is sealed, written and synced; waiting for the disk takes no CPU time. Items:
    /// frames.
    Commit,
    /// Segments of the log are made ahead.
    LogSegments,
    /// Generations are ingested. Items: records.
    EngineFeed,
    /// The engine's compactions.
    EngineCompact,
    /// Records are loaded. Items: keys.
    EngineLoad,
    /// Pages of scans are read.
    EnginePage,
    /// Threads of no stage, and those that have ended.
    Other,
}

impl Stage {
    /// Every stage, in the order of a scrape.
    pub const ALL: [Self; 20] = [
        Self::UdpReceive,
        Self::UdpSend,
        Self::Quic,
        Self::StreamRead,
        Self::PeerDecode,
        Self::RequestDecode,
        Self::Loop,
        Self::Core,
        Self::Append,
        Self::PeerEncode,
        Self::ReplyEncode,
        Self::StreamWrite,
        Self::Runtime,
        Self::Commit,
        Self::LogSegments,
        Self::EngineFeed,
        Self::EngineCompact,
        Self::EngineLoad,
        Self::EnginePage,
        Self::Other,
    ];

    /// Stages that are timed and nested in no other.
    pub(super) const OUTERMOST: [Self; 4] =
        [Self::Quic, Self::StreamRead, Self::Loop, Self::StreamWrite];

    /// Its label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UdpReceive => "udp_receive",
            Self::UdpSend => "udp_send",
            Self::Quic => "quic",
            Self::StreamRead => "stream_read",
            Self::PeerDecode => "peer_decode",
            Self::RequestDecode => "request_decode",
            Self::Loop => "loop",
            Self::Core => "core",
            Self::Append => "append",
            Self::PeerEncode => "peer_encode",
            Self::ReplyEncode => "reply_encode",
            Self::StreamWrite => "stream_write",
            Self::Runtime => "runtime",
            Self::Commit => "commit",
            Self::LogSegments => "log_segments",
            Self::EngineFeed => "engine_feed",
            Self::EngineCompact => "engine_compact",
            Self::EngineLoad => "engine_load",
            Self::EnginePage => "engine_page",
            Self::Other => "other",
        }
    }

    /// The stages that are timed inside of it.
    pub(super) const fn nested(self) -> &'static [Self] {
        match self {
            Self::Quic => &[Self::UdpReceive, Self::UdpSend],
            Self::StreamRead => &[Self::PeerDecode, Self::RequestDecode],
            Self::Loop => &[
                Self::Core,
                Self::Append,
                Self::PeerEncode,
                Self::ReplyEncode,
            ],
            Self::UdpReceive
            | Self::UdpSend
            | Self::PeerDecode
            | Self::RequestDecode
            | Self::Core
            | Self::Append
            | Self::PeerEncode
            | Self::ReplyEncode
            | Self::StreamWrite
            | Self::Runtime
            | Self::Commit
            | Self::LogSegments
            | Self::EngineFeed
            | Self::EngineCompact
            | Self::EngineLoad
            | Self::EnginePage
            | Self::Other => &[],
        }
    }

    /// The stage that is all that a thread of this name does.
    pub(super) fn of_thread(name: &str) -> Self {
        match name {
            super::threads::MAIN => Self::Runtime,
            "log-commit" => Self::Commit,
            "log-segments" => Self::LogSegments,
            "engine-feed" => Self::EngineFeed,
            "engine-load" => Self::EngineLoad,
            "engine-page" => Self::EnginePage,
            "fjall:worker" => Self::EngineCompact,
            _ => Self::Other,
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_stand_at_their_place() {
        for (place, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage.index(), place, "{stage:?}");
        }
    }

    #[test]
    fn a_stage_is_nested_in_one_other_at_most() {
        for stage in Stage::ALL {
            let holders = Stage::ALL.iter().filter(|s| s.nested().contains(&stage));
            let outermost = usize::from(Stage::OUTERMOST.contains(&stage));
            assert!(holders.count() + outermost <= 1, "{stage:?}");
        }
    }
}
