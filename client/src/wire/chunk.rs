//! Messages over 64 KiB: cut into chunks on the bulk stream, put together at the other end.
//!
//! A chunk is a frame of kind [`CHUNK_KIND`]: message id (`u64`), total bytes (`u32`), offset
//! (`u32`), all little endian, then bytes of the message. A message is a frame without its length
//! field: kind byte and body.
//!
//! Invariants: chunks of one message come in order, without gap or overlap; memory grows only with
//! bytes that were received, never with what a chunk announces; messages under way are bounded in
//! number and bytes.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, BytesMut};

use super::frame::{FrameError, LENGTH_BYTES, RawFrame};

/// Kind byte of a chunk; no message has it.
pub const CHUNK_KIND: u8 = 0;

/// Most bytes of a message in one chunk.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// Bytes in front of a chunk's content: length, kind, message id, total, offset.
pub const CHUNK_HEADER_BYTES: usize = LENGTH_BYTES + 1 + 16;

/// Longest frame on a bulk stream, its length field not counted.
pub const CHUNK_FRAME_BYTES_MAX: usize = CHUNK_HEADER_BYTES - LENGTH_BYTES + CHUNK_BYTES_MAX;

/// Most messages under way on one stream.
const OPEN_MAX: usize = 16;

/// Writes what stands in front of `count` bytes of message `message` at `offset`.
#[must_use]
pub fn chunk_header(message: u64, total: u32, offset: u32, count: u32) -> [u8; CHUNK_HEADER_BYTES] {
    let mut header = [0; CHUNK_HEADER_BYTES];
    let mut rest = header.as_mut_slice();
    rest.put_u32_le(count + 17);
    rest.put_u8(CHUNK_KIND);
    rest.put_u64_le(message);
    rest.put_u32_le(total);
    rest.put_u32_le(offset);
    header
}

/// Puts the messages of one bulk stream together.
#[derive(Debug)]
pub struct Reassembly {
    message_bytes_max: usize,
    held_bytes_max: usize,
    held_bytes: usize,
    open: BTreeMap<u64, Partial>,
}

#[derive(Debug)]
struct Partial {
    total: usize,
    bytes: BytesMut,
}

impl Reassembly {
    /// `message_bytes_max` bounds one message, `held_bytes_max` all that are under way.
    #[must_use]
    pub fn new(message_bytes_max: usize, held_bytes_max: usize) -> Self {
        Self {
            message_bytes_max,
            held_bytes_max,
            held_bytes: 0,
            open: BTreeMap::new(),
        }
    }

    /// Takes the next chunk; returns the message that it completes.
    ///
    /// # Errors
    /// [`FrameError`] for anything but the next chunk of a message within the limits.
    pub fn take(&mut self, frame: RawFrame) -> Result<Option<RawFrame>, FrameError> {
        let RawFrame {
            kind,
            body: mut content,
        } = frame;
        if kind != CHUNK_KIND {
            return Err(FrameError::UnknownKind { kind, id: None });
        }
        let message = content.try_get_u64_le().map_err(|_| FrameError::Chunk)?;
        let total = content.try_get_u32_le().map_err(|_| FrameError::Chunk)?;
        let offset = content.try_get_u32_le().map_err(|_| FrameError::Chunk)?;
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        if total > self.message_bytes_max {
            return Err(FrameError::TooLong {
                bytes: total,
                limit: self.message_bytes_max,
            });
        }
        if content.is_empty() || self.held_bytes + content.len() > self.held_bytes_max {
            return Err(FrameError::Chunk);
        }
        if offset == 0 && self.open.len() < OPEN_MAX && !self.open.contains_key(&message) {
            self.open.insert(
                message,
                Partial {
                    total,
                    bytes: BytesMut::new(),
                },
            );
        }
        let partial = self.open.get_mut(&message).ok_or(FrameError::Chunk)?;
        let end = offset + content.len();
        if partial.total != total || partial.bytes.len() != offset || end > total {
            return Err(FrameError::Chunk);
        }
        partial.bytes.extend_from_slice(&content);
        self.held_bytes += content.len();
        if end < total {
            return Ok(None);
        }
        let mut whole = self
            .open
            .remove(&message)
            .ok_or(FrameError::Chunk)?
            .bytes
            .freeze();
        self.held_bytes -= whole.len();
        let kind = whole.try_get_u8().map_err(|_| FrameError::Empty)?;
        Ok(Some(RawFrame { kind, body: whole }))
    }

    /// Whether the stream may end here.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn chunk(message: u64, total: u32, offset: u32, content: &[u8]) -> RawFrame {
        let count = u32::try_from(content.len()).expect("small");
        let mut bytes = chunk_header(message, total, offset, count).to_vec();
        bytes.extend_from_slice(content);
        let body = Bytes::from(bytes).slice(LENGTH_BYTES + 1..);
        RawFrame {
            kind: CHUNK_KIND,
            body,
        }
    }

    #[test]
    fn chunks_of_two_messages_may_alternate() {
        let mut parts = Reassembly::new(100, 100);
        assert_eq!(parts.take(chunk(1, 4, 0, &[9, 1])), Ok(None));
        assert_eq!(parts.take(chunk(2, 3, 0, &[8, 5])), Ok(None));
        let want = RawFrame {
            kind: 9,
            body: Bytes::from_static(&[1, 2, 3]),
        };
        assert_eq!(parts.take(chunk(1, 4, 2, &[2, 3])), Ok(Some(want)));
        let want = RawFrame {
            kind: 8,
            body: Bytes::from_static(&[5, 6]),
        };
        assert_eq!(parts.take(chunk(2, 3, 2, &[6])), Ok(Some(want)));
        assert!(parts.is_between_messages());
    }

    #[test]
    fn a_chunk_that_does_not_follow_is_refused() {
        let cases = [
            ("a gap", chunk(1, 9, 3, &[1])),
            ("a repetition", chunk(1, 9, 0, &[1])),
            ("past the end", chunk(1, 9, 2, &[1; 8])),
            ("another total", chunk(1, 8, 2, &[1])),
            ("not begun", chunk(2, 9, 1, &[1])),
            ("empty", chunk(1, 9, 2, &[])),
            ("too long", chunk(3, u32::MAX, 0, &[1])),
            ("more than may be held", chunk(3, 20, 0, &[1; 19])),
            (
                "another kind",
                RawFrame {
                    kind: 4,
                    body: Bytes::new(),
                },
            ),
            (
                "cut short",
                RawFrame {
                    kind: CHUNK_KIND,
                    body: Bytes::from_static(&[1, 2]),
                },
            ),
        ];
        for (name, frame) in cases {
            let mut parts = Reassembly::new(64, 20);
            assert_eq!(parts.take(chunk(1, 9, 0, &[7, 7])), Ok(None));
            assert!(parts.take(frame).is_err(), "{name}");
        }
    }

    #[test]
    fn messages_under_way_are_bounded_in_number() {
        let mut parts = Reassembly::new(64, 1000);
        for message in 0..OPEN_MAX as u64 {
            assert_eq!(parts.take(chunk(message, 9, 0, &[1])), Ok(None));
        }
        assert_eq!(parts.take(chunk(99, 9, 0, &[1])), Err(FrameError::Chunk));
    }
}
