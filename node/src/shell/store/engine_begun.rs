//! What fjall leaves open when it makes a database: one whose making was not finished, names that
//! are not durable, and a marker that is not what was written.
//!
//! fjall makes its journal, then the marker that names its format, then its keyspaces. A directory
//! that a crash left before the last step it neither goes on with nor makes anew, so that the node
//! would never start again. Nothing can have been put into it: it is removed. Were it an engine
//! whose keyspaces somebody took away, the log would begin behind what it holds, and be refused.
//!
//! Not here: any engine with a keyspace, however damaged.

use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

/// Where fjall keeps its keyspaces.
const KEYSPACES_FOLDER: &str = "keyspaces";

/// fjall's marker of its format, and what it begins with; the format's number follows.
const MARKER: &str = "version";
const MAGIC: [u8; 3] = *b"FJL";

/// Removes what there is of an engine that has no keyspace.
///
/// # Errors
/// What the system reports.
pub(super) fn remove_unfinished(engine: &Path) -> io::Result<()> {
    match fs::read_dir(engine.join(KEYSPACES_FOLDER)) {
        Ok(mut entries) => {
            if entries.next().transpose()?.is_some() {
                return Ok(());
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    match fs::remove_dir_all(engine) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes the names of the keyspaces durable: fjall syncs what is in their folders, and not that
/// they are there. A power loss could take everything that was ever put into them.
///
/// # Errors
/// What the system reports.
pub(super) fn sync_names(engine: &Path) -> io::Result<()> {
    for folder in [&engine.join(KEYSPACES_FOLDER), engine] {
        #[expect(
            clippy::disallowed_types,
            reason = "this is a part of the adapter to the engine's files"
        )]
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Whether the marker is there and does not even begin as one: another format is no damage.
pub(super) fn marker_is_damaged(engine: &Path) -> bool {
    #[expect(
        clippy::disallowed_types,
        reason = "this is a part of the adapter to the engine's files"
    )]
    let marker = fs::File::open(engine.join(MARKER));
    let mut bytes = Vec::new();
    match marker.and_then(|marker| marker.take(MAGIC.len() as u64).read_to_end(&mut bytes)) {
        Ok(_) => bytes != MAGIC,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::{EngineConfig, FjallEngine};
    use super::*;

    #[test]
    fn an_engine_whose_making_a_crash_ended_is_made_anew() {
        for marker in [None, Some(&b""[..]), Some(b"FJ"), Some(b"FJL\x03")] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("engine");
            fs::create_dir_all(path.join(KEYSPACES_FOLDER)).expect("made");
            fs::write(path.join("0.jnl"), b"").expect("written");
            if let Some(marker) = marker {
                fs::write(path.join(MARKER), marker).expect("written");
            }
            let opened = FjallEngine::open(&EngineConfig::new(&path));
            assert!(opened.is_ok(), "{marker:?}: {opened:?}");
        }
    }

    #[test]
    fn a_damaged_marker_is_told_from_another_format_and_removes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("engine");
        drop(FjallEngine::open(&EngineConfig::new(&path)).expect("it is made"));
        for (marker, is_damage) in [(&b"FKL\x03"[..], true), (b"", true), (b"FJL\x09", false)] {
            fs::write(path.join(MARKER), marker).expect("written");
            let refused = FjallEngine::open(&EngineConfig::new(&path));
            let refused = refused.expect_err("it is not what was written");
            assert_eq!(refused.is_damage, is_damage, "{marker:?}: {refused}");
        }
        fs::write(path.join(MARKER), b"FJL\x03").expect("written");
        assert!(FjallEngine::open(&EngineConfig::new(&path)).is_ok());
    }
}
