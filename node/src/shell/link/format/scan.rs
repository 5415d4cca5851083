//! The arrays in which scans travel between nodes.

use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::Digest;
use quorate_ring::{KeyspaceId, VnodeId};
use serde::{Deserialize, Serialize};

use super::forms::{RefusalForm, micros, one_of};
use crate::core::message::{OpNumber, ScanAsk, ScanPart, ScanReply};
use crate::core::scan_page::{PageRange, RowContent, ScanRow};
use crate::core::vnode_set::VnodeSet;

#[derive(Serialize, Deserialize)]
pub(super) struct ScanForm {
    op: u64,
    ask: u32,
    keyspace: u32,
    vnodes: Bytes,
    whole: Bytes,
    from: Bytes,
    end: Option<Bytes>,
    rows_max: u32,
    bytes_max: u32,
    budget_us: u64,
}

impl From<&ScanAsk> for ScanForm {
    fn from(
        ScanAsk {
            op,
            ask,
            range,
            whole,
            budget,
        }: &ScanAsk,
    ) -> Self {
        let PageRange {
            keyspace,
            vnodes,
            from,
            end,
            rows_max,
            bytes_max,
        } = range;
        let bound = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            op: op.0,
            ask: *ask,
            keyspace: keyspace.0,
            vnodes: vnodes.to_bytes(),
            whole: whole.to_bytes(),
            from: from.clone(),
            end: end.clone(),
            rows_max: bound(*rows_max),
            bytes_max: bound(*bytes_max),
            budget_us: micros(*budget),
        }
    }
}

impl ScanForm {
    pub(super) fn into_domain(self) -> Option<ScanAsk> {
        let (vnodes, whole) = (vnodes(&self.vnodes)?, vnodes(&self.whole)?);
        let bound = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Some(ScanAsk {
            op: OpNumber(self.op),
            ask: self.ask,
            range: PageRange {
                keyspace: KeyspaceId(self.keyspace),
                vnodes,
                from: self.from,
                end: self.end,
                rows_max: bound(self.rows_max),
                bytes_max: bound(self.bytes_max),
            },
            whole,
            budget: Duration::from_micros(self.budget_us),
        })
    }
}

/// Bytes of the bitmap of the largest ring.
const BITMAP_BYTES_MAX: usize = (u16::MAX as usize + 1) / 8;

fn vnodes(bitmap: &Bytes) -> Option<VnodeSet> {
    (bitmap.len() <= BITMAP_BYTES_MAX).then(|| VnodeSet::from_bytes(bitmap))
}

#[derive(Serialize, Deserialize)]
struct RowForm {
    vnode: u16,
    key: Bytes,
    record: Option<Bytes>,
    digest: Option<DigestForm>,
}

#[derive(Serialize, Deserialize)]
struct DigestForm(#[serde(with = "serde_bytes")] [u8; 16]);

impl From<&ScanRow> for RowForm {
    fn from(
        ScanRow {
            vnode,
            key,
            content,
        }: &ScanRow,
    ) -> Self {
        let (record, digest) = match content {
            RowContent::Whole(record) => (Some(record.clone()), None),
            RowContent::Digest(Digest(digest)) => (None, Some(DigestForm(digest.to_le_bytes()))),
        };
        Self {
            vnode: vnode.0,
            key: key.clone(),
            record,
            digest,
        }
    }
}

impl RowForm {
    fn into_domain(self) -> Option<ScanRow> {
        let content = match (self.record, self.digest) {
            (Some(record), None) => RowContent::Whole(record),
            (None, Some(DigestForm(bytes))) => {
                RowContent::Digest(Digest(u128::from_le_bytes(bytes)))
            }
            (Some(_), Some(_)) | (None, None) => return None,
        };
        Some(ScanRow {
            vnode: VnodeId(self.vnode),
            key: self.key,
            content,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct PartForm {
    rows: Vec<RowForm>,
    until: Option<Bytes>,
    uncounted: Bytes,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ScanReplyForm {
    op: u64,
    ask: u32,
    part: Option<PartForm>,
    refusal: Option<RefusalForm>,
}

impl From<&ScanReply> for ScanReplyForm {
    fn from(ScanReply { op, ask, result }: &ScanReply) -> Self {
        let part = |ScanPart {
                        rows,
                        until,
                        uncounted,
                    }: &ScanPart| PartForm {
            rows: rows.iter().map(RowForm::from).collect(),
            until: until.clone(),
            uncounted: uncounted.to_bytes(),
        };
        Self {
            op: op.0,
            ask: *ask,
            part: result.as_ref().ok().map(part),
            refusal: result.as_ref().err().map(RefusalForm::from),
        }
    }
}

impl ScanReplyForm {
    pub(super) fn into_domain(self) -> Option<ScanReply> {
        let part = match self.part {
            None => None,
            Some(PartForm {
                rows,
                until,
                uncounted,
            }) => Some(ScanPart {
                rows: rows
                    .into_iter()
                    .map(RowForm::into_domain)
                    .collect::<Option<_>>()?,
                until,
                uncounted: vnodes(&uncounted)?,
            }),
        };
        Some(ScanReply {
            op: OpNumber(self.op),
            ask: self.ask,
            result: one_of(part, self.refusal.map(Into::into))?,
        })
    }
}
