//! Frames of the client protocol: a little-endian `u32` length, a kind byte, a MessagePack array.
//!
//! The length counts the kind byte and the body. The body is `[id, deadline_ms, fields]` of a
//! request and `[id, fields]` of a response; later fields are added at the end of an array, never
//! in the middle, and a kind byte is never used twice.
//!
//! Invariants:
//! - encoding appends to the caller's buffer and allocates nothing of its own;
//! - decoding looks a body over (`prescan`) before any of it is decoded.
//!
//! Not here: cutting a stream into frames (`split`), messages over 64 KiB (`chunk`).

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::prescan::{self, ScanError};
use super::{LocalRecord, Request, RequestFrame, Response, ResponseFrame, lenient};

/// Bytes of the length in front of each frame.
pub const LENGTH_BYTES: usize = 4;

/// Longest frame on the stream for requests; longer ones travel in chunks on the bulk stream.
pub const SMALL_FRAME_BYTES_MAX: usize = 64 * 1024;

/// Most MessagePack values in a request. The largest of this release has 14.
pub const REQUEST_ITEMS_MAX: usize = 128;

/// Most MessagePack values in a response: a page of records, or a large topology.
pub const RESPONSE_ITEMS_MAX: usize = 256 * 1024;

/// Why bytes are no frame, or a frame no message. Ends the connection, except
/// [`FrameError::UnknownKind`] with an id, which can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length is over the limit; nothing was allocated for it.
    #[error("a frame of {bytes} bytes is over the limit of {limit}")]
    TooLong {
        /// The length that was announced.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A length of 0, where not even a kind fits.
    #[error("a frame without a kind")]
    Empty,
    /// A stream does not begin as this release's streams do.
    #[error("a stream begins with an unknown version or role")]
    Preamble,
    /// A kind that this release does not know.
    #[error("unknown kind {kind}")]
    UnknownKind {
        /// The kind byte.
        kind: u8,
        /// Id of the request, where it can be read.
        id: Option<u64>,
    },
    /// The body is not one MessagePack value within the limits.
    #[error("frame of kind {kind}: {error}")]
    Malformed {
        /// The kind byte.
        kind: u8,
        /// What is wrong.
        error: ScanError,
    },
    /// The body has not the fields of its kind.
    #[error("a frame of kind {kind} without the fields of its kind")]
    Fields {
        /// The kind byte.
        kind: u8,
    },
    /// A chunk that fits no message under way, or one message too many.
    #[error("a chunk that fits no message under way")]
    Chunk,
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
    /// A value that cannot be written in this format.
    #[error("a message of kind {kind} cannot be encoded")]
    Encode {
        /// The kind byte.
        kind: u8,
    },
}

/// A frame whose body has not been looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFrame {
    /// What it holds.
    pub kind: u8,
    /// The MessagePack value, unchecked.
    pub body: Bytes,
}

mod kind {
    pub(super) const TOPOLOGY: u8 = 1;
    pub(super) const PUT: u8 = 2;
    pub(super) const DELETE: u8 = 3;
    pub(super) const GET: u8 = 4;
    pub(super) const STATUS: u8 = 5;
    pub(super) const READ_LOCAL: u8 = 6;
    pub(super) const DUMP_LOCAL: u8 = 7;

    pub(super) const TOPOLOGY_INFO: u8 = 65;
    pub(super) const APPLIED: u8 = 66;
    pub(super) const READ: u8 = 67;
    pub(super) const FAILURE: u8 = 68;
    pub(super) const NODE_STATUS: u8 = 69;
    pub(super) const LOCAL: u8 = 70;
    pub(super) const DUMP: u8 = 71;
}

#[derive(Serialize)]
struct RequestOut<'a, T> {
    id: u64,
    deadline_ms: u32,
    fields: &'a T,
}

#[derive(Deserialize)]
struct RequestIn<T> {
    id: u64,
    deadline_ms: u32,
    fields: T,
}

#[derive(Serialize)]
struct ResponseOut<'a, T> {
    id: u64,
    fields: &'a T,
}

#[derive(Deserialize)]
struct ResponseIn<T> {
    id: u64,
    fields: T,
}

/// Fields of a request that has none yet.
#[derive(Serialize, Deserialize)]
struct NoFields {}

#[derive(Serialize)]
struct LocalOut<'a> {
    record: &'a Option<LocalRecord>,
}

#[derive(Deserialize)]
struct LocalIn {
    record: Option<LocalRecord>,
}

/// Appends a frame with `body` to `out` and returns its length in bytes, the length field included.
///
/// # Errors
/// [`FrameError::Encode`] if `body` cannot be written; `out` is then as before.
pub fn put_frame<T: Serialize + ?Sized>(
    out: &mut BytesMut,
    kind: u8,
    body: &T,
) -> Result<usize, FrameError> {
    let start = out.len();
    out.put_u32_le(0);
    out.put_u8(kind);
    let written = rmp_serde::encode::write(&mut out.writer(), body);
    let length = out.len() - start - LENGTH_BYTES;
    let field = out.get_mut(start..start + LENGTH_BYTES);
    if let (Ok(()), Some(field), Ok(length)) = (written, field, u32::try_from(length)) {
        field.copy_from_slice(&length.to_le_bytes());
        return Ok(out.len() - start);
    }
    out.truncate(start);
    Err(FrameError::Encode { kind })
}

/// Appends the frame of `request` under `id` to `out` and returns its length in bytes.
///
/// # Errors
/// [`FrameError::Encode`] if it cannot be written; `out` is then as before.
pub fn encode_request(
    out: &mut BytesMut,
    id: u64,
    deadline_ms: u32,
    request: &Request,
) -> Result<usize, FrameError> {
    fn put<T: Serialize>(
        out: &mut BytesMut,
        kind: u8,
        id: u64,
        deadline_ms: u32,
        fields: &T,
    ) -> Result<usize, FrameError> {
        put_frame(
            out,
            kind,
            &RequestOut {
                id,
                deadline_ms,
                fields,
            },
        )
    }
    match request {
        Request::Topology => put(out, kind::TOPOLOGY, id, deadline_ms, &NoFields {}),
        Request::Put(fields) => put(out, kind::PUT, id, deadline_ms, fields),
        Request::Delete(fields) => put(out, kind::DELETE, id, deadline_ms, fields),
        Request::Get(fields) => put(out, kind::GET, id, deadline_ms, fields),
        Request::Status => put(out, kind::STATUS, id, deadline_ms, &NoFields {}),
        Request::ReadLocal(fields) => put(out, kind::READ_LOCAL, id, deadline_ms, fields),
        Request::DumpLocal(fields) => put(out, kind::DUMP_LOCAL, id, deadline_ms, fields),
    }
}

/// Appends the frame of `response` under `id` to `out` and returns its length in bytes.
///
/// # Errors
/// [`FrameError::Encode`] if it cannot be written; `out` is then as before.
pub fn encode_response(
    out: &mut BytesMut,
    id: u64,
    response: &Response,
) -> Result<usize, FrameError> {
    fn put<T: Serialize>(
        out: &mut BytesMut,
        kind: u8,
        id: u64,
        fields: &T,
    ) -> Result<usize, FrameError> {
        put_frame(out, kind, &ResponseOut { id, fields })
    }
    match response {
        Response::Topology(fields) => put(out, kind::TOPOLOGY_INFO, id, fields),
        Response::Applied(fields) => put(out, kind::APPLIED, id, fields),
        Response::Read(fields) => put(out, kind::READ, id, fields),
        Response::Failure(fields) => put(out, kind::FAILURE, id, fields),
        Response::Status(fields) => put(out, kind::NODE_STATUS, id, fields),
        Response::Local(record) => put(out, kind::LOCAL, id, &LocalOut { record }),
        Response::Dump(fields) => put(out, kind::DUMP, id, fields),
    }
}

/// Looks `frame` over and decodes it as a request.
///
/// # Errors
/// [`FrameError`]; with [`FrameError::UnknownKind`] and an id the request can be answered.
pub fn decode_request(frame: &RawFrame) -> Result<RequestFrame, FrameError> {
    fn body<T: for<'de> Deserialize<'de>>(
        frame: &RawFrame,
        wrap: impl FnOnce(T) -> Request,
    ) -> Result<RequestFrame, FrameError> {
        let RequestIn {
            id,
            deadline_ms,
            fields,
        } = decode_body(frame, REQUEST_ITEMS_MAX)?;
        Ok(RequestFrame {
            id,
            deadline_ms,
            request: wrap(fields),
        })
    }
    match frame.kind {
        kind::TOPOLOGY => body(frame, |NoFields {}| Request::Topology),
        kind::PUT => body(frame, Request::Put),
        kind::DELETE => body(frame, Request::Delete),
        kind::GET => body(frame, Request::Get),
        kind::STATUS => body(frame, |NoFields {}| Request::Status),
        kind::READ_LOCAL => body(frame, Request::ReadLocal),
        kind::DUMP_LOCAL => body(frame, Request::DumpLocal),
        kind => {
            let read = decode_body::<RequestIn<IgnoredAny>>(frame, REQUEST_ITEMS_MAX)?;
            Err(FrameError::UnknownKind {
                kind,
                id: Some(read.id),
            })
        }
    }
}

/// Looks `frame` over and decodes it as a response.
///
/// # Errors
/// [`FrameError`]; with [`FrameError::UnknownKind`] and an id the request can be completed.
pub fn decode_response(frame: &RawFrame) -> Result<ResponseFrame, FrameError> {
    fn body<T: for<'de> Deserialize<'de>>(
        frame: &RawFrame,
        wrap: impl FnOnce(T) -> Response,
    ) -> Result<ResponseFrame, FrameError> {
        let ResponseIn { id, fields } = decode_body(frame, RESPONSE_ITEMS_MAX)?;
        Ok(ResponseFrame {
            id,
            response: wrap(fields),
        })
    }
    match frame.kind {
        kind::TOPOLOGY_INFO => body(frame, Response::Topology),
        kind::APPLIED => body(frame, Response::Applied),
        kind::READ => body(frame, Response::Read),
        kind::FAILURE => body(frame, Response::Failure),
        kind::NODE_STATUS => body(frame, Response::Status),
        kind::LOCAL => body(frame, |LocalIn { record }| Response::Local(record)),
        kind::DUMP => body(frame, Response::Dump),
        kind => {
            let read = decode_body::<ResponseIn<IgnoredAny>>(frame, RESPONSE_ITEMS_MAX)?;
            Err(FrameError::UnknownKind {
                kind,
                id: Some(read.id),
            })
        }
    }
}

/// Looks a body over and decodes it; array items that `T` does not know are skipped.
///
/// # Errors
/// [`FrameError::Malformed`] or [`FrameError::Fields`].
pub fn decode_body<T: for<'de> Deserialize<'de>>(
    frame: &RawFrame,
    items_max: usize,
) -> Result<T, FrameError> {
    let kind = frame.kind;
    prescan::check(&frame.body, items_max)
        .map_err(|error| FrameError::Malformed { kind, error })?;
    lenient::from_slice(&frame.body).map_err(|_| FrameError::Fields { kind })
}
