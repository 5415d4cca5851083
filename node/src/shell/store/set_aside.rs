//! A damaged store is never written over: what there is of it is set aside in the data directory,
//! and the node begins empty beside it and gets back from others what it held.
//!
//! First a mark is put into the directory; the next start, before it opens anything, moves all
//! there is into a folder of its own and notes the loss. A crash in between goes on where it was.
//! Before all of it has come back, nothing is set aside again and no such folder removed: whatever
//! damages stores at once on all nodes must not make them throw away what they hold. Once it has,
//! the next one replaces it: a disk that fails again and again must not fill up with them.
//!
//! Not here: what is damage (`open`, `core`), how a node that lost its store comes back (`losses`).

use std::io;
use std::path::{Path, PathBuf};

use super::disk::RealDisk;
use super::error::OpenError;
use super::losses::{self, LOSSES, note_loss};
use crate::shell::seam::{Disk, DiskError};

/// The mark: when it was made, and why.
pub const MARK: &str = "set-aside";
const MARK_NEW: &str = "set-aside.new";
const MARK_BYTES_MAX: usize = 4096;
/// What a folder's name begins with; the time of the mark follows, in microseconds.
const FOLDER: &str = "damaged-";
/// Stays where it is: the process holds it.
const LOCK: &str = "lock";

/// Marks the store in `data_dir` as damaged, durably: the next start sets it aside.
///
/// # Errors
/// [`OpenError::Disk`].
///
/// # Cancel safety
/// The mark is there or it is not.
pub async fn mark_damaged(data_dir: &Path, why: &str, wall_micros: u64) -> Result<(), OpenError> {
    let disk = RealDisk::open(data_dir)?;
    let text: String = format!("{wall_micros}\n{why}").chars().take(1000).collect();
    disk.create_zeroed(MARK_NEW, 0).await?;
    disk.write(MARK_NEW, 0, text.as_bytes()).await?;
    disk.sync(MARK_NEW).await?;
    disk.rename(MARK_NEW, MARK).await?;
    Ok(disk.sync_dir().await?)
}

/// Sets aside what is in `disk`, if that is marked; gives where to, and why.
///
/// # Errors
/// [`OpenError::Disk`]; then the next start goes on.
///
/// # Cancel safety
/// As after an error.
pub async fn set_aside_if_marked(disk: &RealDisk) -> Result<Option<(PathBuf, String)>, OpenError> {
    let files = disk.list().await?;
    if !files.iter().any(|(name, _)| name == MARK) {
        return Ok(None);
    }
    let text = disk.read(MARK, 0, MARK_BYTES_MAX).await?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let (time, why) = text.split_once('\n').unwrap_or(("0", "damaged"));
    // Only digits may become a part of a path.
    let time: u64 = time.parse().unwrap_or(0);
    let folder = format!("{FOLDER}{time}");
    let losses = losses::read(disk).await?;
    let others = folders(disk.path()).map_err(|error| DiskError::Io {
        name: FOLDER.to_owned(),
        reason: error.to_string(),
    })?;
    let other = others.into_iter().find(|other| *other != folder);
    if let Some(folder) = other.filter(|_| losses.why.is_some()) {
        let why = why.to_owned();
        return Err(OpenError::DamagedAgain { why, folder });
    }
    move_into(disk.path(), &folder).map_err(|error| DiskError::Io {
        name: folder.clone(),
        reason: error.to_string(),
    })?;
    disk.sync_dir().await?;
    note_loss(disk, why, None).await?;
    disk.remove(MARK).await?;
    disk.sync_dir().await?;
    Ok(Some((disk.path().join(folder), why.to_owned())))
}

/// Folders of stores that were set aside.
fn folders(data_dir: &Path) -> io::Result<Vec<String>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(data_dir)? {
        if let Ok(name) = entry?.file_name().into_string()
            && name.starts_with(FOLDER)
        {
            folders.push(name);
        }
    }
    Ok(folders)
}

fn move_into(data_dir: &Path, folder: &str) -> io::Result<()> {
    let target = data_dir.join(folder);
    std::fs::create_dir_all(&target)?;
    for entry in std::fs::read_dir(data_dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(text) = name.to_str() else {
            continue;
        };
        if text.starts_with(FOLDER) {
            if text != folder {
                std::fs::remove_dir_all(entry.path())?;
            }
        } else if ![LOCK, MARK, LOSSES].contains(&text) {
            std::fs::rename(entry.path(), target.join(&name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_but_the_lock_is_moved_once_and_the_loss_is_noted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        std::fs::create_dir_all(path.join("engine")).expect("made");
        std::fs::create_dir_all(path.join("damaged-7")).expect("made");
        for name in ["identity", "log-1", "engine/table", "damaged-7/old"] {
            std::fs::write(path.join(name), name).expect("written");
        }
        let disk = RealDisk::open_locked(path).expect("opened");
        assert_eq!(set_aside_if_marked(&disk).await, Ok(None));
        mark_damaged(path, "a table is unreadable", 12)
            .await
            .expect("marked");
        let (moved, why) = set_aside_if_marked(&disk)
            .await
            .expect("moved")
            .expect("marked");
        assert_eq!(
            (moved, why.as_str()),
            (path.join("damaged-12"), "a table is unreadable")
        );
        for name in ["identity", "log-1", "engine/table"] {
            assert!(path.join("damaged-12").join(name).exists(), "{name}");
            assert!(!path.join(name).exists(), "{name}");
        }
        assert!(!path.join("damaged-7").exists());
        let losses = super::super::losses::read(&disk).await.expect("read");
        assert_eq!(losses.why.as_deref(), Some("a table is unreadable"));
        assert_eq!(set_aside_if_marked(&disk).await, Ok(None), "only once");
        mark_damaged(path, "again", 13).await.expect("marked");
        let refused = set_aside_if_marked(&disk).await;
        assert!(
            matches!(&refused, Err(OpenError::DamagedAgain { why, .. }) if why == "again"),
            "{refused:?}"
        );
        assert!(
            path.join("damaged-12").join("identity").exists(),
            "it is kept"
        );
        // Without the mark the store is opened as it is; without the folder it is set aside, too.
        let mark = std::fs::read(path.join(MARK)).expect("a mark");
        std::fs::remove_file(path.join(MARK)).expect("removed");
        assert_eq!(set_aside_if_marked(&disk).await, Ok(None));
        std::fs::write(path.join(MARK), mark).expect("written");
        let elsewhere = tempfile::tempdir().expect("a folder");
        let moved_to = elsewhere.path().join("damaged-12");
        std::fs::rename(path.join("damaged-12"), moved_to).expect("moved");
        std::fs::write(path.join("identity"), "of the second").expect("written");
        let (moved, why) = set_aside_if_marked(&disk)
            .await
            .expect("moved")
            .expect("marked");
        assert_eq!((moved, why.as_str()), (path.join("damaged-13"), "again"));
        assert!(path.join("damaged-13").join("identity").exists());
        losses::note_healed(&disk, false)
            .await
            .expect("whole again");
        mark_damaged(path, "and again", 14).await.expect("marked");
        let moved = set_aside_if_marked(&disk).await.expect("moved");
        assert!(moved.is_some() && !path.join("damaged-13").exists());
    }
}
