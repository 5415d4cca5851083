//! What waits to be written on a link: encoded at once, written together.
//!
//! Invariants:
//! - whoever pushes encodes straight into the shared buffer, under a lock held for that long only;
//! - what is queued counts until the transport has taken it, and is bounded by the pusher's limit,
//!   so answers can be given more room than requests;
//! - a request learns for how long it was queued when it is handed to the transport, and not
//!   before: a node must never take it for younger than it is;
//! - a frame over 64 KiB leaves the buffer again, for the queue of the bulk stream.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use quinn::{SendStream, WriteError};
use tokio::sync::Notify;

use quorate_ring::MonoTime;

use crate::clock::Clock;
use crate::wire::chunk::{CHUNK_BYTES_MAX, chunk_header};
use crate::wire::frame::{LENGTH_BYTES, SMALL_FRAME_BYTES_MAX};
use crate::wire::{FrameError, set_held_ms};

/// Bytes of a buffer of small frames when it is new.
const BUFFER_BYTES: usize = 4 * 1024;

/// Buffers that are kept to be used again once the transport has let go of them: as many as are
/// under way on a busy link. Each stays as large as its largest batch made it.
const BUFFERS_LENT_MAX: usize = 16;

/// Which stream a frame takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// The bulk stream if it is over 64 KiB.
    BySize,
    /// The stream for small frames, whatever its size: it must come before all others.
    Small,
}

/// Why nothing was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// The link is closed.
    #[error("closed")]
    Closed,
    /// As much as allowed is queued.
    #[error("full")]
    Full,
    /// The message is over its limit or cannot be encoded.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Queues of both streams of a link, towards the other side.
#[derive(Debug, Default)]
pub struct Outbox {
    clock: Clock,
    state: Mutex<State>,
    small_ready: Notify,
    bulk_ready: Notify,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    small: BytesMut,
    /// Buffers of batches that the transport may still hold, the oldest first.
    lent: VecDeque<BytesMut>,
    /// Where a request in `small` ends, and when it was queued.
    requests: Vec<(usize, MonoTime)>,
    bulk: VecDeque<Large>,
    bulk_sent: u64,
    /// Bytes that were queued and not yet taken by the transport.
    queued_bytes: usize,
}

impl State {
    /// A buffer for the next batch: the oldest lent one if the transport has let go of it.
    fn next_buffer(&mut self) -> BytesMut {
        let oldest = self.lent.front_mut();
        if oldest.is_some_and(|buffer| buffer.try_reclaim(BUFFER_BYTES)) {
            return self.lent.pop_front().unwrap_or_default();
        }
        if self.lent.len() >= BUFFERS_LENT_MAX {
            self.lent.pop_front();
        }
        BytesMut::with_capacity(BUFFER_BYTES)
    }
}

/// A message for the bulk stream; requests say when they were queued.
#[derive(Debug, Default)]
struct Large {
    message: BytesMut,
    queued: Option<MonoTime>,
}

impl Outbox {
    /// Queues one frame, which `encode` appends to the buffer. Never waits.
    ///
    /// `queued_bytes_max` bounds what may be queued before this frame, `frame_bytes_max` the frame.
    ///
    /// # Errors
    /// [`OutboxError`]; the queue is then as before.
    pub fn push(
        &self,
        route: Route,
        queued_bytes_max: usize,
        frame_bytes_max: usize,
        encode: impl FnOnce(&mut BytesMut) -> Result<usize, FrameError>,
    ) -> Result<(), OutboxError> {
        self.queue(route, queued_bytes_max, frame_bytes_max, None, encode)
    }

    /// The same for a request, as [`encode_request`](crate::wire::encode_request) makes it.
    ///
    /// # Errors
    /// As of [`Outbox::push`].
    pub fn push_request(
        &self,
        queued_bytes_max: usize,
        frame_bytes_max: usize,
        encode: impl FnOnce(&mut BytesMut) -> Result<usize, FrameError>,
    ) -> Result<(), OutboxError> {
        let now = Some(self.clock.now());
        self.queue(
            Route::BySize,
            queued_bytes_max,
            frame_bytes_max,
            now,
            encode,
        )
    }

    fn queue(
        &self,
        route: Route,
        queued_bytes_max: usize,
        frame_bytes_max: usize,
        queued: Option<MonoTime>,
        encode: impl FnOnce(&mut BytesMut) -> Result<usize, FrameError>,
    ) -> Result<(), OutboxError> {
        let mut state = self.state();
        if state.closed {
            return Err(OutboxError::Closed);
        }
        if state.queued_bytes >= queued_bytes_max {
            return Err(OutboxError::Full);
        }
        let start = state.small.len();
        let bytes = encode(&mut state.small)?;
        if bytes > frame_bytes_max {
            state.small.truncate(start);
            return Err(FrameError::TooLong {
                bytes,
                limit: frame_bytes_max,
            }
            .into());
        }
        state.queued_bytes += bytes;
        if route == Route::BySize && bytes > SMALL_FRAME_BYTES_MAX {
            // The length field does not travel.
            let message = state.small.split_off(start).split_off(LENGTH_BYTES);
            state.bulk.push_back(Large { message, queued });
            state.queued_bytes -= LENGTH_BYTES;
            drop(state);
            self.bulk_ready.notify_one();
            return Ok(());
        }
        if let Some(queued) = queued {
            let end = state.small.len();
            state.requests.push((end, queued));
        }
        if start == 0 {
            drop(state);
            self.small_ready.notify_one();
        }
        Ok(())
    }

    /// Takes nothing more; what is queued is still written.
    pub fn close(&self) {
        self.state().closed = true;
        self.small_ready.notify_one();
        self.bulk_ready.notify_one();
    }

    /// Bytes that are queued and not yet taken by the transport.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.state().queued_bytes
    }

    /// Writes small frames until the outbox is closed and empty.
    ///
    /// # Errors
    /// What ended the stream.
    ///
    /// # Cancel safety
    /// Not cancel safe: a frame may be cut. Drop the stream with it.
    pub async fn write_small(&self, stream: &mut SendStream) -> Result<(), WriteError> {
        loop {
            let Some(batch) = self.take_small() else {
                return Ok(());
            };
            if batch.is_empty() {
                self.small_ready.notified().await;
                continue;
            }
            let bytes = batch.len();
            stream.write_chunk(batch).await?;
            self.state().queued_bytes -= bytes;
        }
    }

    /// Writes large messages in chunks until the outbox is closed and empty.
    ///
    /// # Errors
    /// What ended the stream.
    ///
    /// # Cancel safety
    /// Not cancel safe: a chunk may be cut. Drop the stream with it.
    pub async fn write_bulk(&self, stream: &mut SendStream) -> Result<(), WriteError> {
        loop {
            let Some((id, message)) = self.take_bulk() else {
                return Ok(());
            };
            if message.is_empty() {
                self.bulk_ready.notified().await;
                continue;
            }
            let total = as_u32(message.len());
            let mut offset = 0;
            while offset < message.len() {
                let count = CHUNK_BYTES_MAX.min(message.len() - offset);
                let header = chunk_header(id, total, as_u32(offset), as_u32(count));
                let content = message.slice(offset..offset + count);
                let mut pieces = [Bytes::copy_from_slice(&header), content];
                stream.write_all_chunks(&mut pieces).await?;
                self.state().queued_bytes -= count;
                offset += count;
            }
        }
    }

    /// Everything that waits; empty if nothing does, `None` if nothing will.
    fn take_small(&self) -> Option<Bytes> {
        let mut state = self.state();
        let over = state.closed && state.small.is_empty();
        if over || state.small.is_empty() {
            return (!over).then(Bytes::new);
        }
        let mut batch = state.small.split();
        if let Some(&(_, first)) = state.requests.first() {
            let now = self.clock.now();
            // Most batches leave at once: their requests say 0 already.
            if held_ms(now, first) > 0 {
                for &(end, queued) in &state.requests {
                    let encoded = batch.get_mut(..end).unwrap_or_default();
                    set_held_ms(encoded, held_ms(now, queued));
                }
            }
            state.requests.clear();
        }
        let next = state.next_buffer();
        let lent = std::mem::replace(&mut state.small, next);
        state.lent.push_back(lent);
        Some(batch.freeze())
    }

    /// The next message and its number; empty if there is none, `None` if none will come.
    fn take_bulk(&self) -> Option<(u64, Bytes)> {
        let mut state = self.state();
        let large = state.bulk.pop_front();
        if large.is_none() && state.closed {
            return None;
        }
        state.bulk_sent += u64::from(large.is_some());
        let Large {
            mut message,
            queued,
        } = large.unwrap_or_default();
        if let Some(queued) = queued {
            set_held_ms(&mut message, held_ms(self.clock.now(), queued));
        }
        Some((state.bulk_sent, message.freeze()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whole milliseconds; the age that a request tells is rounded up already.
fn held_ms(now: MonoTime, queued: MonoTime) -> u32 {
    u32::try_from(now.since(queued).as_millis()).unwrap_or(u32::MAX)
}

/// Frames are bounded far below 4 GiB where they are queued.
fn as_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::BufMut;

    use super::*;
    use crate::wire::{Get, Level, RawFrame, Request, decode_request, encode_request};

    fn request(outbox: &Outbox, id: u64, key_bytes: usize) {
        // A get carries no age of its own; the frame does, whatever it asks.
        let request = Request::Get(Get {
            keyspace: "default".to_owned(),
            key: Bytes::from(vec![b'k'; key_bytes]),
            level: Level::Quorum,
        });
        let queued = outbox.push_request(1_000_000, 200_000, |buffer| {
            encode_request(buffer, id, 2000, &request)
        });
        assert_eq!(queued, Ok(()));
    }

    fn held(body: &[u8]) -> u32 {
        let frame = RawFrame {
            kind: body[0],
            body: Bytes::copy_from_slice(&body[1..]),
        };
        decode_request(&frame).expect("a request").held_ms
    }

    #[tokio::test(start_paused = true)]
    async fn requests_tell_how_long_they_were_queued() {
        let outbox = Outbox::default();
        request(&outbox, 1, 10);
        request(&outbox, 2, 100_000);
        tokio::time::advance(Duration::from_millis(700)).await;
        request(&outbox, 3, 10);
        tokio::time::advance(Duration::from_millis(40)).await;
        let batch = outbox.take_small().expect("two requests");
        let (first, second) = batch.split_at(batch.len() / 2);
        assert_eq!(
            [held(&first[LENGTH_BYTES..]), held(&second[LENGTH_BYTES..])],
            [740, 40]
        );
        let (_, large) = outbox.take_bulk().expect("a large request");
        assert_eq!(held(&large), 740);
        request(&outbox, 4, 10);
        let batch = outbox.take_small().expect("a request");
        assert_eq!(held(&batch[LENGTH_BYTES..]), 0);
    }

    fn push(outbox: &Outbox, bytes: usize, queued_bytes_max: usize) -> Result<(), OutboxError> {
        outbox.push(Route::BySize, queued_bytes_max, 200_000, |buffer| {
            buffer.put_bytes(7, bytes);
            Ok(bytes)
        })
    }

    #[test]
    fn answers_have_room_where_requests_have_none_left() {
        let outbox = Outbox::default();
        assert_eq!(push(&outbox, 100, 100), Ok(()));
        assert_eq!(push(&outbox, 1, 100), Err(OutboxError::Full));
        assert_eq!(push(&outbox, 1, 200), Ok(()));
        assert_eq!(outbox.queued_bytes(), 101);
        assert_eq!(outbox.take_small().map(|b| b.len()), Some(101));
    }

    #[test]
    fn large_frames_leave_the_small_queue_as_it_was() {
        let outbox = Outbox::default();
        assert_eq!(push(&outbox, 10, 1_000_000), Ok(()));
        assert_eq!(push(&outbox, 100_000, 1_000_000), Ok(()));
        assert_eq!(push(&outbox, 10, 1_000_000), Ok(()));
        let too_long = push(&outbox, 200_001, 1_000_000);
        assert!(matches!(too_long, Err(OutboxError::Frame(_))));
        assert_eq!(outbox.take_small().map(|b| b.len()), Some(20));
        assert_eq!(
            outbox.take_bulk().map(|(id, b)| (id, b.len())),
            Some((1, 99_996))
        );
        assert_eq!(outbox.take_bulk().map(|(_, b)| b.len()), Some(0));
        outbox.close();
        assert_eq!(outbox.take_bulk(), None);
        assert_eq!(push(&outbox, 1, 100), Err(OutboxError::Closed));
    }
}
