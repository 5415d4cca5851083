//! Whose directory this is: the identity file and the first-start mark.
//!
//! A directory belongs to one node of one cluster for good. Its store id is drawn when it is made
//! and seeds every checksum of its log. `cluster create` puts a single-use mark into the node's
//! folder; a node that has neither mark nor data has lost its disk: it begins empty, and knows that
//! it does not hold what it acknowledged (counterexamples V1, J5).
//!
//! Not here: the lock that keeps a second process out (`shell::store::disk`).

use quorate_ring::{NodeId, NodeName};

use super::bytes::{Fields, SEAL_BYTES, seal, unseal};
use super::error::OpenError;
use super::losses::note_loss;
use crate::shell::seam::{Disk, DiskError};

/// Name of the mark in the node's folder.
pub const FIRST_START: &str = "first-start";

/// Name of the identity file.
pub(super) const IDENTITY: &str = "identity";
const IDENTITY_NEW: &str = "identity.new";

const MAGIC: u64 = u64::from_le_bytes(*b"QRTIDENT");
const FORMAT: u32 = 1;
const IDENTITY_BYTES_MAX: usize = 4096;

/// Number of one store, drawn at random when its directory is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreId(pub u128);

/// Whose store it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The cluster.
    pub cluster_id: [u8; 16],
    /// The node's number.
    pub node: NodeId,
    /// The node's name.
    pub name: NodeName,
}

/// A directory that may be opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claimed {
    pub(super) store: StoreId,
    /// The mark is there: this start may find an empty log.
    pub(super) first: bool,
}

const DISK_LOST: &str = "its disk was lost: there was neither data nor the mark of a first start";

/// Checks that the directory is `owner`'s; makes it so if the mark allows.
pub(super) async fn claim(
    folder: &dyn Disk,
    disk: &dyn Disk,
    owner: &Owner,
    new: StoreId,
) -> Result<Claimed, OpenError> {
    let first = exists(folder, FIRST_START).await?;
    let files = disk.list().await?;
    let has = |wanted: &str| files.iter().any(|(name, _)| name == wanted);
    if has(IDENTITY) {
        let bytes = disk.read(IDENTITY, 0, IDENTITY_BYTES_MAX).await;
        let bytes = bytes.map_err(OpenError::unreadable)?;
        let store = check(&bytes, owner)?;
        if first {
            // The start that wrote it may have died before its sync.
            write(disk, owner, store).await?;
        }
        return Ok(Claimed { store, first });
    }
    if files.iter().any(|(name, _)| name.starts_with("log-")) {
        return Err(OpenError::damaged(
            "the log is there but not its identity file",
        ));
    }
    if !first {
        note_loss(disk, DISK_LOST, None).await?;
    }
    write(disk, owner, new).await?;
    Ok(Claimed { store: new, first })
}

/// Uses the mark up, durably.
pub(super) async fn consume_mark(folder: &dyn Disk) -> Result<(), OpenError> {
    match folder.remove(FIRST_START).await {
        Ok(()) | Err(DiskError::NotFound { .. }) => Ok(folder.sync_dir().await?),
        Err(error) => Err(error.into()),
    }
}

async fn exists(disk: &dyn Disk, name: &str) -> Result<bool, OpenError> {
    let files = disk.list().await?;
    Ok(files.iter().any(|(file, _)| file == name))
}

async fn write(disk: &dyn Disk, owner: &Owner, store: StoreId) -> Result<(), OpenError> {
    let bytes = encode(owner, store);
    disk.create_zeroed(IDENTITY_NEW, 0).await?;
    disk.write(IDENTITY_NEW, 0, &bytes).await?;
    disk.sync(IDENTITY_NEW).await?;
    disk.rename(IDENTITY_NEW, IDENTITY).await?;
    Ok(disk.sync_dir().await?)
}

fn encode(owner: &Owner, store: StoreId) -> Vec<u8> {
    let Owner {
        cluster_id,
        node,
        name,
    } = owner;
    let mut bytes = vec![0; SEAL_BYTES];
    bytes.extend_from_slice(&MAGIC.to_le_bytes());
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(cluster_id);
    bytes.extend_from_slice(&node.0.to_le_bytes());
    bytes.extend_from_slice(&store.0.to_le_bytes());
    bytes.extend_from_slice(name.as_str().as_bytes());
    seal(&mut bytes, MAGIC);
    bytes
}

fn check(bytes: &[u8], owner: &Owner) -> Result<StoreId, OpenError> {
    let unreadable = || OpenError::damaged("the identity file is unreadable");
    let mut fields = unseal(bytes, MAGIC).ok_or_else(unreadable)?;
    if fields.u64() != Some(MAGIC) {
        return Err(unreadable());
    }
    match fields.u32() {
        Some(FORMAT) => {}
        Some(found) => {
            return Err(OpenError::OtherFormat {
                file: IDENTITY.to_owned(),
                found,
                supported: FORMAT,
            });
        }
        None => return Err(unreadable()),
    }
    let (cluster_id, node, store, name) = parse(fields).ok_or_else(unreadable)?;
    if cluster_id != owner.cluster_id {
        return Err(OpenError::ForeignCluster);
    }
    if node != owner.node || name != owner.name.as_str() {
        return Err(OpenError::ForeignNode {
            found: name,
            expected: owner.name.clone(),
        });
    }
    Ok(store)
}

fn parse(mut fields: Fields<'_>) -> Option<([u8; 16], NodeId, StoreId, String)> {
    let cluster_id = fields.u128()?.to_le_bytes();
    let node = NodeId(fields.u32()?);
    let store = StoreId(fields.u128()?);
    let name = String::from_utf8(fields.0.to_vec()).ok()?;
    Some((cluster_id, node, store, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner {
            cluster_id: [3; 16],
            node: NodeId(4),
            name: "node-4".parse().expect("a valid name"),
        }
    }

    #[test]
    fn the_identity_file_names_cluster_node_and_store() {
        let bytes = encode(&owner(), StoreId(77));
        assert_eq!(check(&bytes, &owner()), Ok(StoreId(77)));
        let renamed = Owner {
            name: "node-5".parse().expect("a valid name"),
            ..owner()
        };
        assert!(matches!(
            check(&bytes, &renamed),
            Err(OpenError::ForeignNode { .. })
        ));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            let result = check(&flipped, &owner());
            assert!(
                matches!(result, Err(OpenError::Damaged { .. })),
                "byte {at}"
            );
        }
    }

    #[test]
    fn an_identity_file_of_another_release_is_told_from_a_damaged_one() {
        let mut bytes = encode(&owner(), StoreId(77));
        bytes[16] = 9;
        seal(&mut bytes, MAGIC);
        let result = check(&bytes, &owner());
        assert!(matches!(
            result,
            Err(OpenError::OtherFormat { found: 9, .. })
        ));
    }
}
