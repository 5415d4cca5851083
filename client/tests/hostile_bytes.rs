//! Bytes that nobody honest sends: mutants of every message of the corpus in `fixtures/wire`.
//!
//! Whatever arrives is refused with a typed error or decodes to a message that encodes, and decodes
//! again to itself; the pieces in which it arrives make no difference; nothing panics. Mutants
//! follow from the seed and the file, so a failure names both and repeats.
//!
//! Not here: what a node does with a message that can be read.

use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use quorate_client::wire::{
    FRAME_BYTES_MAX, FrameError, FrameSplitter, RawFrame, decode_request, decode_response,
    encode_request, encode_response,
};

const SEED: u64 = 0x5153_4545_4420_3031;
const MUTANTS_PER_FILE: u32 = 3_000;

/// splitmix64: the same mutants everywhere.
struct Draw(u64);

impl Draw {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).expect("fits");
        usize::try_from(self.bits() % end).expect("below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.bits().to_le_bytes()[0]
    }
}

fn corpus() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire");
    let files = std::fs::read_dir(folder).expect("the corpus is there");
    let mut files: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    files.sort();
    let read = |path: PathBuf| (path.clone(), std::fs::read(path).expect("readable"));
    files.into_iter().map(read).collect()
}

/// One to four changes; `other` is a message to splice in.
fn mutate(draw: &mut Draw, bytes: &mut Vec<u8>, other: &[u8]) {
    // Values at which formats and limits turn.
    const EDGES: [u8; 12] = [
        0, 1, 0x7f, 0x80, 0x8f, 0x90, 0xc0, 0xc6, 0xd9, 0xdd, 0xdf, 0xff,
    ];
    for _ in 0..=draw.below(4) {
        let at = draw.below(bytes.len());
        match draw.below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << draw.below(8),
            1 if !bytes.is_empty() => bytes[at] = EDGES[draw.below(EDGES.len())],
            2 => bytes.truncate(at),
            3 => bytes.insert(at, draw.byte()),
            4 if !bytes.is_empty() => {
                bytes.remove(at);
            }
            5 => {
                let tail = bytes.split_off(at);
                bytes.extend_from_slice(&other[draw.below(other.len())..]);
                bytes.extend(tail);
            }
            // A huge length: it must be refused before anything is kept for it.
            _ => {
                let end = bytes.len().min(at + 4);
                bytes[at.min(end)..end].fill(0xff);
            }
        }
    }
}

fn split(pieces: impl IntoIterator<Item = Bytes>) -> (Vec<RawFrame>, Option<FrameError>) {
    let mut splitter = FrameSplitter::new(FRAME_BYTES_MAX);
    let mut frames = Vec::new();
    for piece in pieces {
        if let Err(error) = splitter.split(piece, &mut frames) {
            return (frames, Some(error));
        }
    }
    (frames, None)
}

fn only_frame(bytes: BytesMut) -> RawFrame {
    let (mut frames, error) = split([bytes.freeze()]);
    assert_eq!((frames.len(), error), (1, None), "one message is one frame");
    frames.remove(0)
}

/// Messages that could be read, of two kinds at most.
fn check_frame(frame: &RawFrame) -> usize {
    let mut read = 0;
    if let Ok(message) = decode_request(frame) {
        let mut out = BytesMut::new();
        encode_request(&mut out, message.id, message.deadline_ms, &message.request)
            .expect("what was read can be written");
        let again = decode_request(&only_frame(out)).expect("what was written can be read");
        assert_eq!(format!("{again:?}"), format!("{message:?}"));
        read += 1;
    }
    if let Ok(message) = decode_response(frame) {
        let mut out = BytesMut::new();
        encode_response(&mut out, message.id, &message.response)
            .expect("what was read can be written");
        let again = decode_response(&only_frame(out)).expect("what was written can be read");
        assert_eq!(format!("{again:?}"), format!("{message:?}"));
        read += 1;
    }
    read
}

#[test]
fn every_message_of_the_corpus_is_read() {
    for (path, bytes) in corpus() {
        let (frames, error) = split([Bytes::from(bytes)]);
        assert_eq!(error, None, "{}", path.display());
        let read: usize = frames.iter().map(check_frame).sum();
        assert!(read > 0, "{}", path.display());
    }
}

#[test]
fn mutants_are_refused_or_read_and_never_panic() {
    let corpus = corpus();
    let mut read = 0;
    let mut refused = 0;
    for (index, (path, bytes)) in corpus.iter().enumerate() {
        let mut draw = Draw(SEED.wrapping_add(u64::try_from(index).expect("few files")));
        for number in 0..MUTANTS_PER_FILE {
            let mut mutant = bytes.clone();
            let other = &corpus[draw.below(corpus.len())].1;
            mutate(&mut draw, &mut mutant, other);
            let whole = Bytes::from(mutant);
            let (frames, error) = split([whole.clone()]);
            let cut = draw.below(whole.len());
            let (in_pieces, error_in_pieces) = split([whole.slice(..cut), whole.slice(cut..)]);
            let name = path.display();
            assert_eq!(error, error_in_pieces, "{name}, mutant {number}");
            assert_eq!(
                format!("{frames:?}"),
                format!("{in_pieces:?}"),
                "{name}, mutant {number}"
            );
            let messages: usize = frames.iter().map(check_frame).sum();
            read += messages;
            refused += usize::from(messages == 0);
        }
    }
    // Mutants that all die in the first byte would show nothing.
    assert!(read > 1_000, "{read}");
    assert!(refused > 1_000, "{refused}");
}
