//! `pid` beside the configuration: which process runs the node.
//!
//! Written only by who holds the lock of the data directory, so that a second process that is
//! refused leaves the first one's file alone. Removed when the node has stopped in order; one that
//! was killed leaves it, which its reader must expect anyway.

use std::path::{Path, PathBuf};

use super::node_error::NodeError;

/// The file; removed when dropped.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the id of this process into `folder`.
    ///
    /// # Errors
    /// [`NodeError::System`] if it cannot be written.
    pub(super) fn write(folder: &Path) -> Result<Self, NodeError> {
        let path = folder.join("pid");
        let written = std::fs::write(&path, format!("{}\n", std::process::id()));
        written.map_err(|e| NodeError::System {
            doing: "cannot write the file `pid`",
            reason: format!("{}: {e}", path.display()),
        })?;
        Ok(Self { path })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A file that stays names a process that is gone, as after a kill.
        let _removed = std::fs::remove_file(&self.path);
    }
}
