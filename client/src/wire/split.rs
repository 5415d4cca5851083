//! Cuts a received stream into frames.
//!
//! Invariants: a length over the limit is refused when its four bytes are there, before anything
//! is kept for it; at most one frame that is not complete is kept, and it grows only with bytes
//! that were received. A frame that lies within one received piece is not copied.

use bytes::{Buf, Bytes, BytesMut};

use super::frame::{FrameError, LENGTH_BYTES, RawFrame};

/// Cuts one direction of one stream.
#[derive(Debug)]
pub struct FrameSplitter {
    limit: usize,
    partial: BytesMut,
}

impl FrameSplitter {
    /// `limit` is the longest frame in bytes, its length field not counted.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            partial: BytesMut::new(),
        }
    }

    /// Takes the next received piece and appends the frames that it completes to `frames`.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] or [`FrameError::Empty`]; the stream cannot be read on after that.
    pub fn split(
        &mut self,
        mut piece: Bytes,
        frames: &mut Vec<RawFrame>,
    ) -> Result<(), FrameError> {
        while !piece.is_empty() {
            if self.partial.is_empty()
                && let Some(bytes) = self.frame_bytes(&piece)?
                && bytes <= piece.len()
            {
                frames.push(cut(piece.split_to(bytes))?);
                continue;
            }
            let wanted = self.frame_bytes(&self.partial)?.unwrap_or(LENGTH_BYTES);
            let taken = wanted.saturating_sub(self.partial.len()).min(piece.len());
            self.partial.extend_from_slice(&piece.split_to(taken));
            if self.frame_bytes(&self.partial)? == Some(self.partial.len()) {
                frames.push(cut(self.partial.split().freeze())?);
            }
        }
        Ok(())
    }

    /// Whether the stream may end here.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.partial.is_empty()
    }

    /// Length of the frame that `bytes` begin with, its length field included.
    fn frame_bytes(&self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(field) = bytes.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes(*field)).unwrap_or(usize::MAX);
        match length {
            0 => Err(FrameError::Empty),
            bytes if bytes > self.limit => Err(FrameError::TooLong {
                bytes,
                limit: self.limit,
            }),
            bytes => Ok(Some(LENGTH_BYTES + bytes)),
        }
    }
}

/// Takes a whole frame apart.
fn cut(mut frame: Bytes) -> Result<RawFrame, FrameError> {
    frame.advance(LENGTH_BYTES);
    let kind = frame.try_get_u8().map_err(|_| FrameError::Empty)?;
    Ok(RawFrame { kind, body: frame })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream_of(frames: &[RawFrame]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            let length = u32::try_from(frame.body.len() + 1).expect("small");
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.push(frame.kind);
            bytes.extend_from_slice(&frame.body);
        }
        bytes
    }

    #[test]
    fn a_length_over_the_limit_is_refused_with_its_fourth_byte() {
        let mut splitter = FrameSplitter::new(100);
        let mut frames = Vec::new();
        assert_eq!(
            splitter.split(Bytes::from_static(&[101, 0, 0]), &mut frames),
            Ok(())
        );
        assert_eq!(
            splitter.split(Bytes::from_static(&[0]), &mut frames),
            Err(FrameError::TooLong {
                bytes: 101,
                limit: 100
            })
        );
        let huge = Bytes::from_static(&[255, 255, 255, 255, 1]);
        assert!(FrameSplitter::new(100).split(huge, &mut frames).is_err());
        let empty = Bytes::from_static(&[0, 0, 0, 0, 1]);
        assert_eq!(
            FrameSplitter::new(100).split(empty, &mut frames),
            Err(FrameError::Empty)
        );
    }

    proptest! {
        /// However a stream is cut into pieces, the same frames come out.
        #[test]
        fn pieces_do_not_matter(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..8),
            cuts in proptest::collection::vec(1..40_usize, 1..80),
        ) {
            let want: Vec<RawFrame> = bodies
                .into_iter()
                .enumerate()
                .map(|(i, body)| RawFrame { kind: u8::try_from(i).expect("few"), body: body.into() })
                .collect();
            let mut rest = Bytes::from(stream_of(&want));
            let mut splitter = FrameSplitter::new(100);
            let mut got = Vec::new();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let piece = rest.split_to((*cut).min(rest.len()));
                splitter.split(piece, &mut got).expect("within the limit");
            }
            prop_assert!(splitter.is_between_frames());
            prop_assert_eq!(got, want);
        }

        /// Random bytes never panic and never make the splitter keep more than a frame.
        #[test]
        fn random_bytes_are_bounded(pieces in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..300), 0..10,
        )) {
            let mut splitter = FrameSplitter::new(200);
            let mut frames = Vec::new();
            for piece in pieces {
                if splitter.split(piece.into(), &mut frames).is_err() {
                    break;
                }
                prop_assert!(splitter.partial.len() <= 204);
            }
        }
    }
}
