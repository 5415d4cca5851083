//! What a node that must not go on does about it by itself: it notes what it lost and begins anew.
//!
//! - A peer remembers a life whose end this node does not hold: the life is noted as lost, and what
//!   is here is kept.
//! - A checksum shows that the store is damaged: it is set aside.
//! - Rows were lost though no checksum says so: what is here is kept.
//!
//! Each time the process begins again with its loss on disk and counts for nothing until its
//! co-replicas have given back what it acknowledged. Everything else stops the node: another
//! process under its name, a record that contradicts what it did, a disk that cannot be written.

use super::node_error::NodeError;
use super::seam::Clock;
use super::store::disk::RealDisk;
use super::store::{OpenError, mark_damaged, note_loss};
use crate::config::NodeConfig;
use crate::core::effect::StopReason;

/// Prepares the next start; false if beginning anew would not help.
///
/// # Errors
/// [`OpenError`] if the loss cannot be noted: then the node must not begin anew.
///
/// # Cancel safety
/// The loss is noted or not.
pub async fn prepare(
    config: &NodeConfig,
    clock: &dyn Clock,
    error: &NodeError,
) -> Result<bool, OpenError> {
    let why = error.to_string();
    match error {
        NodeError::Stopped(StopReason::Forgot { memory, .. }) => {
            let disk = RealDisk::open(&config.data_dir)?;
            note_loss(&disk, &why, Some(memory.incarnation)).await?;
        }
        NodeError::Stopped(StopReason::EngineDamaged { .. }) => {
            mark_damaged(&config.data_dir, &why, clock.wall_micros()).await?;
        }
        // It was noted before the sums told what is left.
        NodeError::Stopped(StopReason::RowsLost { .. }) => {}
        _ => return Ok(false),
    }
    Ok(true)
}
