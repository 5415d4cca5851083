//! The two streams of a link: opened by the dialling side, recognised by their first four bytes.
//!
//! The dialling side writes a preamble (`Q`, `R`, version, role) on each stream. The dialled side
//! answers with the preamble of the small stream once it has accepted who dialled, so that a
//! refusal is known before anything was asked.

use bytes::Bytes;
use quinn::{Connection, ConnectionError, ReadError, ReadExactError, RecvStream, SendStream};

use crate::wire::chunk::{CHUNK_FRAME_BYTES_MAX, Reassembly};
use crate::wire::{FrameError, FrameSplitter, RawFrame};

const VERSION: u8 = 1;
const SMALL: [u8; 4] = [b'Q', b'R', VERSION, 0];
const BULK: [u8; 4] = [b'Q', b'R', VERSION, 1];

/// Received pieces that are taken from the transport at once.
const PIECES_MAX: usize = 32;

/// Why the streams of a link are not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The connection broke.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The other side does not keep to the protocol.
    #[error(transparent)]
    Protocol(#[from] FrameError),
}

/// Both directions of a stream.
#[derive(Debug)]
pub struct Half {
    /// Towards the other side.
    pub send: SendStream,
    /// From the other side.
    pub recv: RecvStream,
}

/// The streams of a link.
#[derive(Debug)]
pub struct Streams {
    /// Frames up to 64 KiB.
    pub small: Half,
    /// Chunks of larger messages.
    pub bulk: Half,
}

/// Opens both streams and waits until the other side has accepted.
///
/// # Errors
/// [`StreamError`], also where the other side refused.
///
/// # Cancel safety
/// Dropping the future closes what was opened.
pub async fn open_streams(connection: &Connection) -> Result<Streams, StreamError> {
    let mut small = open(connection, SMALL).await?;
    let bulk = open(connection, BULK).await?;
    if read_preamble(&mut small.recv).await? != SMALL {
        return Err(FrameError::Preamble.into());
    }
    small
        .send
        .set_priority(1)
        .map_err(|_| ConnectionError::LocallyClosed)?;
    Ok(Streams { small, bulk })
}

/// Waits for both streams; [`acknowledge`] then tells the other side that it may use them.
///
/// # Errors
/// [`StreamError`] if they do not come as they should.
///
/// # Cancel safety
/// Dropping the future closes what was accepted.
pub async fn accept_streams(connection: &Connection) -> Result<Streams, StreamError> {
    let (first_role, first) = accept(connection).await?;
    let (second_role, second) = accept(connection).await?;
    let (small, bulk) = match (first_role, second_role) {
        (SMALL, BULK) => (first, second),
        (BULK, SMALL) => (second, first),
        _ => return Err(FrameError::Preamble.into()),
    };
    small
        .send
        .set_priority(1)
        .map_err(|_| ConnectionError::LocallyClosed)?;
    Ok(Streams { small, bulk })
}

/// Tells the dialling side that it is accepted.
///
/// # Errors
/// [`StreamError`] if the connection broke.
///
/// # Cancel safety
/// Dropping the future may leave the other side waiting; close the connection with it.
pub async fn acknowledge(streams: &mut Streams) -> Result<(), StreamError> {
    Ok(write_preamble(&mut streams.small.send, SMALL).await?)
}

async fn open(connection: &Connection, preamble: [u8; 4]) -> Result<Half, StreamError> {
    let (mut send, recv) = connection.open_bi().await?;
    write_preamble(&mut send, preamble).await?;
    Ok(Half { send, recv })
}

async fn accept(connection: &Connection) -> Result<([u8; 4], Half), StreamError> {
    let (send, mut recv) = connection.accept_bi().await?;
    let preamble = read_preamble(&mut recv).await?;
    Ok((preamble, Half { send, recv }))
}

async fn write_preamble(send: &mut SendStream, preamble: [u8; 4]) -> Result<(), ConnectionError> {
    use quinn::WriteError;
    send.write_all(&preamble)
        .await
        .map_err(|error| match error {
            WriteError::ConnectionLost(error) => error,
            WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
                ConnectionError::Reset
            }
        })
}

async fn read_preamble(recv: &mut RecvStream) -> Result<[u8; 4], StreamError> {
    let mut preamble = [0; 4];
    match recv.read_exact(&mut preamble).await {
        Ok(()) => Ok(preamble),
        Err(ReadExactError::ReadError(ReadError::ConnectionLost(error))) => Err(error.into()),
        Err(ReadExactError::ReadError(_) | ReadExactError::FinishedEarly(_)) => {
            Err(FrameError::Truncated.into())
        }
    }
}

/// Why reading a stream ended.
#[derive(Debug)]
pub enum ReadFailure<E> {
    /// The stream or its connection broke.
    Stream(ReadError),
    /// What came is not taken.
    Refused(E),
}

/// Reads frames of at most `frame_bytes_max` bytes and hands over what each read completes.
///
/// Returns when the other side has finished the stream between two frames.
///
/// # Errors
/// [`ReadFailure`]: what broke the stream, or what `handle` or the framing refused.
///
/// # Cancel safety
/// Not cancel safe: received pieces may be lost. Drop the stream with it.
pub async fn read_small<E: From<FrameError>>(
    recv: &mut RecvStream,
    frame_bytes_max: usize,
    handle: impl FnMut(&mut Vec<RawFrame>) -> Result<(), E>,
) -> Result<(), ReadFailure<E>> {
    let all = || usize::MAX;
    read(recv, FrameSplitter::new(frame_bytes_max), all, handle).await
}

/// The same for a side that serves several others: `turn` is asked when a read has come and says
/// how many of its frames are handed over before the tasks of others have their turn.
///
/// # Errors
/// As [`read_small`].
///
/// # Cancel safety
/// Not cancel safe: received pieces may be lost. Drop the stream with it.
pub async fn read_small_in_turns<E: From<FrameError>>(
    recv: &mut RecvStream,
    frame_bytes_max: usize,
    turn: impl FnMut() -> usize,
    handle: impl FnMut(&mut Vec<RawFrame>) -> Result<(), E>,
) -> Result<(), ReadFailure<E>> {
    read(recv, FrameSplitter::new(frame_bytes_max), turn, handle).await
}

/// Reads chunks and hands over the messages that they complete.
///
/// # Errors
/// As [`read_small`].
///
/// # Cancel safety
/// Not cancel safe: received pieces may be lost. Drop the stream with it.
pub async fn read_bulk<E: From<FrameError>>(
    recv: &mut RecvStream,
    mut parts: Reassembly,
    mut handle: impl FnMut(&mut Vec<RawFrame>) -> Result<(), E>,
) -> Result<(), ReadFailure<E>> {
    let mut whole = Vec::new();
    let splitter = FrameSplitter::new(CHUNK_FRAME_BYTES_MAX);
    let join = |chunks: &mut Vec<RawFrame>| {
        for chunk in chunks.drain(..) {
            whole.extend(parts.take(chunk)?);
        }
        if whole.is_empty() {
            Ok(())
        } else {
            handle(&mut whole)
        }
    };
    read(recv, splitter, || usize::MAX, join).await
}

async fn read<E: From<FrameError>>(
    recv: &mut RecvStream,
    mut splitter: FrameSplitter,
    mut turn: impl FnMut() -> usize,
    mut handle: impl FnMut(&mut Vec<RawFrame>) -> Result<(), E>,
) -> Result<(), ReadFailure<E>> {
    let mut pieces = [const { Bytes::new() }; PIECES_MAX];
    let mut frames = Vec::new();
    while let Some(count) = recv
        .read_chunks(&mut pieces)
        .await
        .map_err(ReadFailure::Stream)?
    {
        let mut split = Ok(());
        for piece in pieces.iter_mut().take(count) {
            split = split.and_then(|()| splitter.split(std::mem::take(piece), &mut frames));
        }
        let most = turn().max(1);
        while frames.len() > most {
            let mut slice = frames.drain(..most).collect();
            handle(&mut slice).map_err(ReadFailure::Refused)?;
            tokio::task::yield_now().await;
        }
        if !frames.is_empty() {
            handle(&mut frames).map_err(ReadFailure::Refused)?;
            frames.clear();
        }
        split.map_err(|error| ReadFailure::Refused(error.into()))?;
    }
    if splitter.is_between_frames() {
        Ok(())
    } else {
        Err(ReadFailure::Refused(FrameError::Truncated.into()))
    }
}
