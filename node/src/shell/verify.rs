//! Reads all records of vnodes from the table and the engine and lets the core judge them.
//!
//! In small steps, so that large records do not pile up; nothing is kept between two requests. A
//! vnode that the engine cannot read is a fault like others: the next one may be readable.

use std::sync::Arc;

use quorate_antientropy::DigestSecret;
use quorate_ring::{KeyspaceId, Topology, VnodeId};

use super::node::{NodeHandle, QuestionError};
use crate::core::key::RecordKey;
use crate::core::verify::{Findings, VnodeCheck};

/// Records that are read at once.
const STEP_RECORDS: usize = 256;

/// Records after which an answer goes back, behind the vnode.
const RECORDS_PER_ANSWER: u64 = 20_000;

/// Vnodes after which an answer goes back, though they hold nothing.
const VNODES_PER_ANSWER: usize = 512;

/// Reads and judges the vnodes of a keyspace from `first` on; also tells the one to go on with.
///
/// # Errors
/// [`QuestionError::Stopping`].
///
/// # Cancel safety
/// Nothing is changed.
pub async fn verify_from(
    handle: &NodeHandle,
    topology: &Arc<Topology>,
    secret: DigestSecret,
    keyspace: KeyspaceId,
    first: VnodeId,
) -> Result<(Findings, Option<VnodeId>), QuestionError> {
    let mut findings = Findings::default();
    let vnodes = topology.vnode_count().vnodes();
    let vnodes = vnodes.skip_while(|vnode| *vnode < first);
    for (count, vnode) in vnodes.enumerate() {
        if findings.records >= RECORDS_PER_ANSWER || count == VNODES_PER_ANSWER {
            return Ok((findings, Some(vnode)));
        }
        let found = verify(handle, topology, secret, keyspace, vnode).await?;
        findings.add(found);
    }
    Ok((findings, None))
}

/// Reads and judges a vnode; one of a keyspace that is not known has no findings.
///
/// # Errors
/// [`QuestionError::Stopping`].
///
/// # Cancel safety
/// Nothing is changed.
pub async fn verify(
    handle: &NodeHandle,
    topology: &Arc<Topology>,
    secret: DigestSecret,
    keyspace: KeyspaceId,
    vnode: VnodeId,
) -> Result<Findings, QuestionError> {
    let Some(known) = topology.keyspace(keyspace) else {
        return Ok(Findings::default());
    };
    let mut check = VnodeCheck::new(topology, secret, known, vnode);
    let before = handle.vnode_sums(keyspace, vnode).await?;
    let mut after = RecordKey::before(keyspace, vnode);
    loop {
        let rows = match handle.dump_local(after.clone(), STEP_RECORDS).await {
            Ok(rows) => rows,
            Err(QuestionError::Stopping) => return Err(QuestionError::Stopping),
            Err(QuestionError::Engine(error)) => {
                return Ok(check.unreadable(&error.to_string(), error.is_damage));
            }
            Err(error @ QuestionError::Damaged(_)) => {
                return Ok(check.unreadable(&error.to_string(), false));
            }
        };
        for (key, record) in &rows {
            check.record(key, record);
        }
        match rows.into_iter().last() {
            Some((last, _)) => after = last,
            None => break,
        }
    }
    let behind = handle.vnode_sums(keyspace, vnode).await?;
    Ok(check.finish(&before, &behind))
}
