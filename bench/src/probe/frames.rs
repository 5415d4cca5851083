//! Frames of a fixed length, which begin with the request's number.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::Mode;

/// Bytes of a request's number.
const NUMBER_BYTES: usize = 8;

/// Bytes of a key.
const KEY_BYTES: usize = 16;

/// Bytes of a value.
const VALUE_BYTES: usize = 256;

/// What travels, in which direction, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// From the client to the coordinator, and on to the others.
    Request(Mode),
    /// From another node back to the coordinator.
    PeerAnswer,
    /// From the coordinator to the client.
    Answer(Mode),
}

impl Kind {
    /// Length of a frame.
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::Request(Mode::Write) => NUMBER_BYTES + KEY_BYTES + VALUE_BYTES,
            Self::Request(Mode::Read) => NUMBER_BYTES + KEY_BYTES,
            Self::PeerAnswer | Self::Answer(Mode::Write) => NUMBER_BYTES,
            Self::Answer(Mode::Read) => NUMBER_BYTES + VALUE_BYTES,
        }
    }

    /// Appends the frame of request `number`.
    pub(super) fn put(self, out: &mut BytesMut, number: u64) {
        out.put_u64(number);
        out.put_bytes(7, self.bytes() - NUMBER_BYTES);
    }
}

/// Cuts what comes over a stream into frames of one kind.
#[derive(Debug)]
pub(super) struct Frames {
    kind: Kind,
    rest: BytesMut,
}

impl Frames {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            rest: BytesMut::new(),
        }
    }

    /// Takes a piece of the stream.
    pub(super) fn push(&mut self, piece: &Bytes) {
        self.rest.extend_from_slice(piece);
    }

    /// The next whole frame, with its number.
    pub(super) fn next(&mut self) -> Option<(u64, Bytes)> {
        if self.rest.len() < self.kind.bytes() {
            return None;
        }
        let frame = self.rest.split_to(self.kind.bytes()).freeze();
        let number = (&frame[..]).get_u64();
        Some((number, frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_however_the_stream_is_cut() {
        let kind = Kind::Request(Mode::Write);
        let mut sent = BytesMut::new();
        (1..=3).for_each(|number| kind.put(&mut sent, number));
        assert_eq!(sent.len(), 3 * 280);
        for piece in [1, 7, 280, 281, 840] {
            let mut frames = Frames::new(kind);
            let mut numbers = Vec::new();
            for part in sent.chunks(piece) {
                frames.push(&Bytes::copy_from_slice(part));
                while let Some((number, frame)) = frames.next() {
                    assert_eq!(frame.len(), 280);
                    numbers.push(number);
                }
            }
            assert_eq!(numbers, [1, 2, 3], "pieces of {piece}");
        }
    }
}
