//! Bytes of what nodes say to each other.
//!
//! A frame of kind [`PEER_FRAME`] holds items, each framed like a frame of its own (length, kind,
//! MessagePack array): first the header, then one or more messages. Fields are added at the end of
//! an array, with a default; kinds are never used twice. A kind that is not known ends the
//! connection: releases that speak other kinds agree on it by ALPN first.
//!
//! Not here: the arrays themselves (`forms`), how frames travel (`peer`).

mod exchange;
mod forms;
mod purge;
mod scan;

use bytes::{BufMut, Bytes, BytesMut};
use quorate_client::wire::frame::{LENGTH_BYTES, decode_body, put_frame};
use quorate_client::wire::{FrameError, FrameSplitter, RawFrame};

use crate::core::message::{PeerHeader, PeerMessage};
use exchange::{ExchangeForm, ExchangeReplyForm};
use forms::{
    ClockForm, ForwardForm, ForwardReplyForm, HeaderForm, HelloForm, KeepAliveForm, ReadForm,
    ReadReplyForm, ReplicateForm, ReplicateReplyForm,
};
use purge::{PurgeForm, PurgeReplyForm};
use scan::{ScanForm, ScanReplyForm};

/// Kind of every frame between nodes.
pub(super) const PEER_FRAME: u8 = 1;

/// Most MessagePack values in one message: the timeline of a node that was started 20,000 times.
const ITEMS_MAX: usize = 64 * 1024;

mod kind {
    pub(super) const HEADER: u8 = 1;
    pub(super) const HELLO: u8 = 2;
    pub(super) const KEEP_ALIVE: u8 = 3;
    pub(super) const REPLICATE: u8 = 4;
    pub(super) const REPLICATE_REPLY: u8 = 5;
    pub(super) const READ: u8 = 6;
    pub(super) const READ_REPLY: u8 = 7;
    pub(super) const FORWARD: u8 = 8;
    pub(super) const FORWARD_REPLY: u8 = 9;
    pub(super) const CLOCK: u8 = 30;
    pub(super) const SCAN: u8 = 20;
    pub(super) const SCAN_REPLY: u8 = 21;
    pub(super) const EXCHANGE: u8 = 22;
    pub(super) const EXCHANGE_REPLY: u8 = 23;
    pub(super) const PURGE: u8 = 24;
    pub(super) const PURGE_REPLY: u8 = 25;
}

/// What a message takes that is small, about: how many a frame has is guessed by it.
const ITEM_BYTES_USUAL: usize = 64;

/// Appends one frame with `header` and `messages` to `out`; returns its length in bytes.
///
/// # Errors
/// [`FrameError::Encode`] if a message cannot be written; `out` is then as before.
pub fn encode_frame(
    out: &mut BytesMut,
    header: PeerHeader,
    messages: &[PeerMessage],
) -> Result<usize, FrameError> {
    let start = out.len();
    let written = put_items(out, header, messages);
    let bytes = out.len() - start;
    let length = u32::try_from(bytes.saturating_sub(LENGTH_BYTES));
    let field = out.get_mut(start..start + LENGTH_BYTES);
    if let (Ok(()), Ok(length), Some(field)) = (written, length, field) {
        field.copy_from_slice(&length.to_le_bytes());
        return Ok(bytes);
    }
    out.truncate(start);
    Err(FrameError::Encode { kind: PEER_FRAME })
}

fn put_items(
    out: &mut BytesMut,
    header: PeerHeader,
    messages: &[PeerMessage],
) -> Result<(), FrameError> {
    out.put_u32_le(0);
    out.put_u8(PEER_FRAME);
    put_frame(out, kind::HEADER, &HeaderForm::from(header))?;
    messages
        .iter()
        .try_for_each(|message| put_message(out, message).map(drop))
}

fn put_message(out: &mut BytesMut, message: &PeerMessage) -> Result<usize, FrameError> {
    match message {
        PeerMessage::Hello(m) => put_frame(out, kind::HELLO, &HelloForm::from(m)),
        PeerMessage::KeepAlive(m) => put_frame(out, kind::KEEP_ALIVE, &KeepAliveForm::from(m)),
        PeerMessage::Replicate(m) => {
            let form = ReplicateForm::of(m).ok_or(FrameError::Encode {
                kind: kind::REPLICATE,
            })?;
            put_frame(out, kind::REPLICATE, &form)
        }
        PeerMessage::ReplicateReply(m) => {
            put_frame(out, kind::REPLICATE_REPLY, &ReplicateReplyForm::from(m))
        }
        PeerMessage::Read(m) => put_frame(out, kind::READ, &ReadForm::from(m)),
        PeerMessage::ReadReply(m) => put_frame(out, kind::READ_REPLY, &ReadReplyForm::from(m)),
        PeerMessage::Forward(m) => put_frame(out, kind::FORWARD, &ForwardForm::from(m)),
        PeerMessage::ForwardReply(m) => {
            let form = ForwardReplyForm::of(m).ok_or(FrameError::Encode {
                kind: kind::FORWARD_REPLY,
            })?;
            put_frame(out, kind::FORWARD_REPLY, &form)
        }
        PeerMessage::Clock(m) => put_frame(out, kind::CLOCK, &ClockForm::from(m)),
        PeerMessage::Scan(m) => put_frame(out, kind::SCAN, &ScanForm::from(m)),
        PeerMessage::ScanReply(m) => put_frame(out, kind::SCAN_REPLY, &ScanReplyForm::from(m)),
        PeerMessage::Exchange(m) => put_frame(out, kind::EXCHANGE, &ExchangeForm::from(m)),
        PeerMessage::ExchangeReply(m) => {
            put_frame(out, kind::EXCHANGE_REPLY, &ExchangeReplyForm::from(m))
        }
        PeerMessage::Purge(m) => put_frame(out, kind::PURGE, &PurgeForm::from(m)),
        PeerMessage::PurgeReply(m) => put_frame(out, kind::PURGE_REPLY, &PurgeReplyForm::from(m)),
    }
}

/// Decodes one frame; every message of it has the same header.
///
/// # Errors
/// [`FrameError`] for the first thing that is wrong; nothing of the frame may be used then.
pub fn decode_frame(frame: &RawFrame) -> Result<(PeerHeader, Vec<PeerMessage>), FrameError> {
    if frame.kind != PEER_FRAME {
        return Err(FrameError::UnknownKind {
            kind: frame.kind,
            id: None,
        });
    }
    let items = items_of(frame.body.clone())?;
    let Some((header, messages)) = items.split_first() else {
        return Err(FrameError::Empty);
    };
    if header.kind != kind::HEADER {
        return Err(FrameError::Fields { kind: header.kind });
    }
    let header: HeaderForm = decode_body(header, ITEMS_MAX)?;
    let messages = messages.iter().map(message_of).collect::<Result<_, _>>()?;
    Ok((header.into(), messages))
}

fn items_of(body: Bytes) -> Result<Vec<RawFrame>, FrameError> {
    let mut splitter = FrameSplitter::new(body.len());
    let mut items = Vec::with_capacity((body.len() / ITEM_BYTES_USUAL).clamp(4, 256));
    splitter.split(body, &mut items)?;
    if splitter.is_between_frames() {
        Ok(items)
    } else {
        Err(FrameError::Truncated)
    }
}

fn message_of(item: &RawFrame) -> Result<PeerMessage, FrameError> {
    let fields = || FrameError::Fields { kind: item.kind };
    Ok(match item.kind {
        kind::HELLO => {
            let form: HelloForm = decode_body(item, ITEMS_MAX)?;
            PeerMessage::Hello(form.into_domain().ok_or_else(fields)?)
        }
        kind::KEEP_ALIVE => {
            PeerMessage::KeepAlive(decode_body::<KeepAliveForm>(item, ITEMS_MAX)?.into())
        }
        kind::REPLICATE => {
            let form: ReplicateForm<'_> = decode_body(item, ITEMS_MAX)?;
            PeerMessage::Replicate(form.into_domain(&item.body).ok_or_else(fields)?)
        }
        kind::REPLICATE_REPLY => {
            let form: ReplicateReplyForm = decode_body(item, ITEMS_MAX)?;
            PeerMessage::ReplicateReply(form.into_domain().ok_or_else(fields)?)
        }
        kind::READ => {
            let form: ReadForm<'_> = decode_body(item, ITEMS_MAX)?;
            PeerMessage::Read(form.into_domain(&item.body))
        }
        kind::READ_REPLY => {
            let form: ReadReplyForm = decode_body(item, ITEMS_MAX)?;
            PeerMessage::ReadReply(form.into_domain().ok_or_else(fields)?)
        }
        kind::FORWARD => {
            let form: ForwardForm = decode_body(item, ITEMS_MAX)?;
            PeerMessage::Forward(form.into_domain().ok_or_else(fields)?)
        }
        kind::FORWARD_REPLY => {
            let form: ForwardReplyForm = decode_body(item, ITEMS_MAX)?;
            PeerMessage::ForwardReply(form.into_domain().ok_or_else(fields)?)
        }
        kind::CLOCK => PeerMessage::Clock(decode_body::<ClockForm>(item, ITEMS_MAX)?.into()),
        kind::SCAN => {
            let form: ScanForm = decode_body(item, ITEMS_MAX)?;
            PeerMessage::Scan(form.into_domain().ok_or_else(fields)?)
        }
        kind::SCAN_REPLY => {
            let form: ScanReplyForm = decode_body(item, ITEMS_MAX)?;
            PeerMessage::ScanReply(form.into_domain().ok_or_else(fields)?)
        }
        kind::EXCHANGE => {
            let form: ExchangeForm = decode_body(item, ITEMS_MAX)?;
            PeerMessage::Exchange(form.into_domain().ok_or_else(fields)?)
        }
        kind::EXCHANGE_REPLY => {
            let form: ExchangeReplyForm = decode_body(item, ITEMS_MAX)?;
            PeerMessage::ExchangeReply(form.into_domain().ok_or_else(fields)?)
        }
        kind::PURGE => {
            let form: PurgeForm = decode_body(item, ITEMS_MAX)?;
            PeerMessage::Purge(form.into_domain().ok_or_else(fields)?)
        }
        kind::PURGE_REPLY => {
            let form: PurgeReplyForm = decode_body(item, ITEMS_MAX)?;
            PeerMessage::PurgeReply(form.into_domain().ok_or_else(fields)?)
        }
        kind => return Err(FrameError::UnknownKind { kind, id: None }),
    })
}

#[cfg(test)]
mod tests;
