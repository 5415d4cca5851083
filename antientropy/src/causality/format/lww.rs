//! The write of an lww record; see the parent for the layout.

use bytes::Bytes;

use super::super::lww::{LwwVersion, LwwWrite};
use super::super::op_id::OpId;
use super::encode::write_number;
use super::read::Reader;
use super::{DecodeError, Field, LWW_HAS_EXPIRY, TOMBSTONE};

/// Appends what follows version and kind.
pub(super) fn encode(write: &LwwWrite, out: &mut Vec<u8>) {
    let LwwVersion { stamp, op_id } = write.version();
    out.extend_from_slice(&stamp.to_le_bytes());
    out.extend_from_slice(&op_id.0);
    let (value, expiry) = (write.stored_value(), write.expiry());
    let tombstone = if value.is_none() { TOMBSTONE } else { 0 };
    let has_expiry = if expiry.is_some() { LWW_HAS_EXPIRY } else { 0 };
    out.push(tombstone | has_expiry);
    if let Some(expiry) = expiry {
        out.extend_from_slice(&expiry.to_le_bytes());
    }
    if let Some(value) = value {
        write_number(value.len() as u64, out);
        out.extend_from_slice(value);
    }
}

/// Reads what follows version and kind: nothing, or a write.
pub(super) fn decode(
    reader: &mut Reader<'_>,
    bytes: &Bytes,
) -> Result<Option<LwwWrite>, DecodeError> {
    if reader.left() == 0 {
        return Ok(None);
    }
    let wrong = DecodeError::NotCanonical {
        field: Field::Write,
    };
    let stamp = u64::from_le_bytes(reader.array()?);
    let op_id = OpId(reader.array()?);
    let version = LwwVersion { stamp, op_id };
    let flags = reader.byte()?;
    if flags == TOMBSTONE {
        return Ok(Some(LwwWrite::tombstone(version)));
    }
    if flags & !LWW_HAS_EXPIRY != 0 {
        return Err(wrong);
    }
    let expiry = if flags == 0 {
        None
    } else {
        Some(u64::from_le_bytes(reader.array()?))
    };
    // A TTL is above 0.
    if expiry.is_some_and(|expiry| expiry <= stamp) {
        return Err(wrong);
    }
    let length = reader.count(Field::Value, 1)?;
    let start = bytes.len() - reader.left();
    reader.skip(length)?;
    let value = bytes.slice(start..start + length);
    Ok(Some(LwwWrite::value(version, value, expiry)))
}
