//! The targets: what is read, and what must hold for any bytes.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use quorate_antientropy::{KeyState, OpId};
use quorate_client::wire::{
    self, FrameError, FrameSplitter, RawFrame, Request, decode_request, decode_response,
    encode_request, encode_response,
};
use quorate_client::{Context, ScanPosition, SessionToken};
use quorate_node::config::ClusterFile;
use quorate_node::core::scan_token::{ScanBound, open_position, seal_position};
use quorate_node::core::seal::{SealKey, Token};
use quorate_node::shell::link::{decode_frame, encode_frame};
use quorate_ring::KeyspaceId;

use super::Shape;
use super::targets_log::Log;

/// Something that reads bytes from outside.
pub trait Target: std::fmt::Debug {
    /// Its name, and that of its corpus.
    fn name(&self) -> &'static str;

    /// Inputs to begin with, at least one.
    fn seeds(&self) -> Vec<Vec<u8>>;

    /// Reads `input`.
    ///
    /// # Errors
    /// Which promise was broken.
    fn run(&self, input: &[u8]) -> Result<Shape, String>;

    /// Bytes that it allocates for any input.
    fn allowance(&self) -> u64 {
        0
    }
}

/// Every target.
#[must_use]
pub fn all_targets() -> Vec<Box<dyn Target>> {
    vec![
        Box::new(Frames),
        Box::new(Requests),
        Box::new(Responses),
        Box::new(PeerMessages),
        Box::new(Records),
        Box::new(ContextTokens),
        Box::new(ScanTokens),
        Box::new(SessionTokens),
        Box::new(ClusterFiles),
        Box::new(Log::record()),
    ]
}

/// The messages of the committed wire fixtures, by the beginning of their names.
fn fixtures(prefix: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../client/tests/fixtures/wire");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with(prefix) && name.ends_with(".bin")
    });
    let mut files: Vec<_> = named.map(|entry| entry.path()).collect();
    files.sort();
    let read = files.iter().filter_map(|file| std::fs::read(file).ok());
    let mut seeds: Vec<Vec<u8>> = read.collect();
    if seeds.is_empty() {
        seeds.push(vec![0; 8]);
    }
    seeds
}

/// Splits a stream as it came, and once more byte by byte: both must see the same.
fn frames_of(input: &[u8]) -> Result<Vec<RawFrame>, FrameError> {
    let mut frames = Vec::new();
    FrameSplitter::new(wire::frame::SMALL_FRAME_BYTES_MAX)
        .split(Bytes::copy_from_slice(input), &mut frames)?;
    Ok(frames)
}

/// Frames of a stream; if it has none, the one frame that it would be with the right length, so
/// that most mutants are more than a wrong length.
fn some_frames(input: &[u8]) -> Option<Vec<RawFrame>> {
    let frames = frames_of(input).unwrap_or_default();
    if !frames.is_empty() {
        return Some(frames);
    }
    let (_, body) = input.split_at_checked(wire::frame::LENGTH_BYTES)?;
    let length = u32::try_from(body.len()).ok()?;
    frames_of(&[&length.to_le_bytes()[..], body].concat()).ok()
}

fn shape_of(name: &str, result: Result<String, String>) -> Shape {
    match result {
        Ok(kind) => Shape::of(&format!("{name} {kind}")),
        Err(error) => Shape::of(&format!("{name} refused: {error}")),
    }
}

/// The name of a value's variant.
fn variant(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    let end = text.find(|c: char| !c.is_alphanumeric());
    text[..end.unwrap_or(text.len())].to_owned()
}

#[derive(Debug)]
struct Frames;

impl Target for Frames {
    fn name(&self) -> &'static str {
        "frame"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let mut seeds = fixtures("request");
        seeds.push(seeds.concat());
        seeds
    }

    fn run(&self, input: &[u8]) -> Result<Shape, String> {
        let whole = frames_of(input);
        let mut splitter = FrameSplitter::new(wire::frame::SMALL_FRAME_BYTES_MAX);
        let mut pieces = Vec::new();
        let in_pieces = input
            .chunks(7)
            .try_for_each(|piece| splitter.split(Bytes::copy_from_slice(piece), &mut pieces));
        match (&whole, in_pieces) {
            (Ok(whole), Ok(())) => {
                let same = whole.len() == pieces.len()
                    && whole
                        .iter()
                        .zip(&pieces)
                        .all(|(one, other)| one.kind == other.kind && one.body == other.body);
                if !same {
                    return Err("frames depend on how the stream was cut".to_owned());
                }
            }
            (Err(_), Err(_)) => {}
            (whole, in_pieces) => {
                return Err(format!("whole {}, in pieces {in_pieces:?}", whole.is_ok()));
            }
        }
        let told = whole.map(|frames| format!("{} frames", frames.len().min(3)));
        Ok(shape_of("frame", told.map_err(|error| error.to_string())))
    }
}

#[derive(Debug)]
struct Requests;

impl Target for Requests {
    fn name(&self) -> &'static str {
        "request"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        fixtures("request")
    }

    fn run(&self, input: &[u8]) -> Result<Shape, String> {
        let Some(frames) = some_frames(input) else {
            return Ok(Shape::of("no frames"));
        };
        let mut kinds = String::new();
        for frame in frames.iter().take(4) {
            let told = match decode_request(frame) {
                Ok(read) => {
                    let mut out = BytesMut::new();
                    encode_request(&mut out, read.id, read.deadline_ms, &read.request)
                        .map_err(|error| format!("what was read cannot be written: {error}"))?;
                    let again = request_of(&out)?;
                    if again != read.request {
                        return Err(format!("{:?} reads as {again:?}", read.request));
                    }
                    Ok(variant(&read.request))
                }
                Err(error) => Err(error.to_string()),
            };
            kinds.push_str(&format!("{told:?} "));
        }
        Ok(Shape::of(&kinds))
    }
}

/// The one request of a stream without a limit of its length.
fn request_of(bytes: &[u8]) -> Result<Request, String> {
    let mut frames = Vec::new();
    let split =
        FrameSplitter::new(wire::FRAME_BYTES_MAX).split(Bytes::copy_from_slice(bytes), &mut frames);
    split.map_err(|error| error.to_string())?;
    let frame = frames.first().ok_or("nothing was written")?;
    let read = decode_request(frame).map_err(|error| format!("written and refused: {error}"))?;
    Ok(read.request)
}

#[derive(Debug)]
struct Responses;

impl Target for Responses {
    fn name(&self) -> &'static str {
        "response"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        fixtures("response")
    }

    fn run(&self, input: &[u8]) -> Result<Shape, String> {
        let Some(frames) = some_frames(input) else {
            return Ok(Shape::of("no frames"));
        };
        let mut kinds = String::new();
        for frame in frames.iter().take(4) {
            let told = match decode_response(frame) {
                Ok(read) => {
                    let mut out = BytesMut::new();
                    encode_response(&mut out, read.id, &read.response)
                        .map_err(|error| format!("what was read cannot be written: {error}"))?;
                    let mut frames = Vec::new();
                    FrameSplitter::new(usize::MAX / 2)
                        .split(out.freeze(), &mut frames)
                        .map_err(|error| error.to_string())?;
                    let again = frames.first().map(decode_response);
                    let again = again.ok_or("nothing was written")?;
                    let again = again.map_err(|error| format!("written and refused: {error}"))?;
                    // A weight of a node may be no number, which is not equal to itself.
                    if format!("{:?}", again.response) != format!("{:?}", read.response) {
                        return Err(format!("{:?} reads as {:?}", read.response, again.response));
                    }
                    Ok(variant(&read.response))
                }
                Err(error) => Err(error.to_string()),
            };
            kinds.push_str(&format!("{told:?} "));
        }
        Ok(Shape::of(&kinds))
    }
}

#[derive(Debug)]
struct PeerMessages;

impl Target for PeerMessages {
    fn name(&self) -> &'static str {
        "peer-message"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        super::targets_log::peer_frames()
    }

    fn run(&self, input: &[u8]) -> Result<Shape, String> {
        let Some(frames) = some_frames(input) else {
            return Ok(Shape::of("no frames"));
        };
        let mut kinds = String::new();
        for frame in frames.iter().take(4) {
            let told = match decode_frame(frame) {
                Ok((header, messages)) => {
                    let mut out = BytesMut::new();
                    encode_frame(&mut out, header, &messages)
                        .map_err(|error| format!("what was read cannot be written: {error}"))?;
                    let again = frames_of(&out).map_err(|error| error.to_string())?;
                    let again = again.first().map(decode_frame);
                    let again = again.ok_or("nothing was written")?;
                    let again = again.map_err(|error| format!("written and refused: {error}"))?;
                    if again.1 != messages {
                        return Err(format!("{messages:?} reads as {:?}", again.1));
                    }
                    Ok(messages.iter().map(variant).collect::<Vec<_>>())
                }
                Err(error) => Err(error.to_string()),
            };
            kinds.push_str(&format!("{told:?} "));
        }
        Ok(Shape::of(&kinds))
    }
}

#[derive(Debug)]
struct Records;

impl Target for Records {
    fn name(&self) -> &'static str {
        "record"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        super::targets_log::records()
    }

    fn run(&self, input: &[u8]) -> Result<Shape, String> {
        let bytes = Bytes::copy_from_slice(input);
        let told = match KeyState::decode(&bytes) {
            Ok(state) => {
                if state.to_bytes() != bytes {
                    return Err(format!("{state:?} has two forms"));
                }
                let merged = state.merge(&state);
                if format!("{merged:?}") != "Unchanged" {
                    return Err(format!("merging {state:?} with itself changes it"));
                }
                let visible = state.visible(1).len().min(3);
                Ok(format!("{} {visible}", variant(&state)))
            }
            Err(error) => Err(error.to_string()),
        };
        Ok(shape_of("record", told))
    }
}

const KEYSPACE: KeyspaceId = KeyspaceId(7);

fn seal() -> SealKey {
    SealKey::new([5; 32])
}

#[derive(Debug)]
struct ContextTokens;

impl ContextTokens {
    fn sealed() -> Vec<Vec<u8>> {
        let contexts = super::targets_log::contexts();
        let tokens = contexts.into_iter().map(|context| Token {
            held: context.clone(),
            apart: context,
            ..Token::default()
        });
        let sealed = tokens.filter_map(|token| seal().seal(KEYSPACE, b"key", &token));
        sealed.map(|bytes| bytes.to_vec()).collect()
    }
}

impl Target for ContextTokens {
    fn name(&self) -> &'static str {
        "context-token"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        Self::sealed()
    }

    fn run(&self, input: &[u8]) -> Result<Shape, String> {
        let bytes = Bytes::copy_from_slice(input);
        let is_sealed = Self::sealed().iter().any(|sealed| sealed == input);
        let opened = seal().open(KEYSPACE, b"key", &bytes);
        if opened.is_ok() != is_sealed {
            return Err("an altered token opens, or a good one does not".to_owned());
        }
        if seal().open(KEYSPACE, b"kez", &bytes).is_ok() && !input.is_empty() {
            return Err("a token opens for another key".to_owned());
        }
        // The SDK's own form of it.
        if let Ok(context) = Context::from_bytes(input.to_vec()) {
            let text = context.to_string();
            let again = text.parse::<Context>();
            if again.as_ref().map(Context::as_bytes) != Ok(context.as_bytes()) {
                return Err(format!("the text {text} reads as {again:?}"));
            }
        }
        let told = opened.map(|token| format!("{}", token.context().is_empty()));
        Ok(shape_of("context", told.map_err(|error| error.to_string())))
    }
}

#[derive(Debug)]
struct ScanTokens;

impl ScanTokens {
    fn bound() -> ScanBound<'static> {
        ScanBound {
            keyspace: KEYSPACE,
            start: b"a",
            end: Some(b"z"),
        }
    }

    fn sealed() -> Vec<Vec<u8>> {
        let positions: [&[u8]; 4] = [b"", b"m", b"middle of the range", &[0xff; 1024]];
        let seal = |position| seal_position(&seal(), Self::bound(), position).to_vec();
        positions.into_iter().map(seal).collect()
    }
}

impl Target for ScanTokens {
    fn name(&self) -> &'static str {
        "scan-token"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        Self::sealed()
    }

    fn run(&self, input: &[u8]) -> Result<Shape, String> {
        let bytes = Bytes::copy_from_slice(input);
        let is_sealed = Self::sealed().iter().any(|sealed| sealed == input);
        let opened = open_position(&seal(), Self::bound(), &bytes);
        if opened.is_ok() != is_sealed {
            return Err("an altered token opens, or a good one does not".to_owned());
        }
        let others = [
            ScanBound {
                keyspace: KeyspaceId(8),
                ..Self::bound()
            },
            ScanBound {
                end: None,
                ..Self::bound()
            },
            ScanBound {
                start: b"",
                ..Self::bound()
            },
        ];
        for other in others {
            if open_position(&seal(), other, &bytes).is_ok() {
                return Err("a token opens for another keyspace or range".to_owned());
            }
        }
        let text = String::from_utf8_lossy(input);
        let parsed = text.parse::<ScanPosition>();
        if let Ok(position) = &parsed
            && position.to_string().parse().as_ref() != Ok(position)
        {
            return Err(format!("the text of {position} reads as another one"));
        }
        let told = opened.map(|_| "open".to_owned());
        let told = shape_of("scan", told.map_err(|error| error.to_string()));
        Ok(Shape(told.0 ^ u64::from(parsed.is_ok())))
    }
}

#[derive(Debug)]
struct SessionTokens;

impl Target for SessionTokens {
    fn name(&self) -> &'static str {
        "session-token"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        super::targets_log::session_tokens()
    }

    fn run(&self, input: &[u8]) -> Result<Shape, String> {
        let text = String::from_utf8_lossy(input);
        let told = match text.parse::<SessionToken>() {
            Ok(token) => {
                let written = token.to_string();
                let again = written.parse::<SessionToken>();
                if again.as_ref().map(ToString::to_string) != Ok(written.clone()) {
                    return Err(format!("the text {written} reads as {again:?}"));
                }
                let resumed = super::targets_log::resume(&token);
                Ok(format!("{}", resumed.is_ok()))
            }
            Err(error) => Err(error.to_string()),
        };
        Ok(shape_of("session", told))
    }
}

#[derive(Debug)]
struct ClusterFiles;

impl Target for ClusterFiles {
    fn name(&self) -> &'static str {
        "cluster-file"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        super::targets_log::cluster_files()
    }

    fn run(&self, input: &[u8]) -> Result<Shape, String> {
        let text = String::from_utf8_lossy(input);
        let told = match ClusterFile::parse(&text, Path::new("cluster.toml")) {
            Ok(file) => {
                let written = file.render();
                let again = ClusterFile::parse(&written, Path::new("cluster.toml"));
                let again = again.map_err(|error| format!("written and refused: {error}"))?;
                if again.render() != written {
                    return Err(format!("{written} has two forms"));
                }
                Ok("read".to_owned())
            }
            Err(error) => {
                let text = error.to_string();
                if text.len() < 8 {
                    return Err(format!("`{text}` does not say what is wrong"));
                }
                Err(variant(&error))
            }
        };
        Ok(shape_of("cluster", told))
    }

    fn allowance(&self) -> u64 {
        // Placement of a thousand nodes takes its time and memory, whatever the file's length.
        256 << 20
    }
}

/// An op id for seeds.
pub(super) const fn op_id(number: u8) -> OpId {
    OpId([number; 16])
}
