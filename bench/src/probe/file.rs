//! A file that was filled with zeros before, written in blocks one behind the other, as the
//! product's log is: such a sync has no lengths and no extents to write besides.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Least length of a write.
pub(super) const BLOCK_BYTES: usize = 4_096;

/// Length of the file; behind its end it begins again.
const FILE_BYTES: u64 = 64 << 20;

/// Zeros are written in pieces of this size.
const FILL_BYTES: usize = 1 << 20;

/// The file.
#[derive(Debug)]
pub(super) struct PreparedFile {
    #[expect(
        clippy::disallowed_types,
        reason = "the probe measures the file system itself"
    )]
    file: std::fs::File,
    offset: u64,
}

impl PreparedFile {
    /// Makes `name` in `folder`, filled and synced.
    #[expect(
        clippy::disallowed_types,
        reason = "the probe measures the file system itself"
    )]
    pub(super) fn create(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        let fill = || -> io::Result<std::fs::File> {
            let file = std::fs::File::create(&path)?;
            let zeros = vec![0; FILL_BYTES];
            for piece in 0..FILE_BYTES / FILL_BYTES as u64 {
                file.write_all_at(&zeros, piece * FILL_BYTES as u64)?;
            }
            file.sync_all()?;
            Ok(file)
        };
        let file = fill().with_context(|| format!("cannot fill {}", path.display()))?;
        Ok(Self { file, offset: 0 })
    }

    /// Writes `blocks`, whole blocks, behind what was written last, and syncs.
    pub(super) fn append(&mut self, blocks: &[u8]) -> io::Result<()> {
        let bytes = blocks.len() as u64;
        if self.offset + bytes > FILE_BYTES {
            self.offset = 0;
        }
        self.file.write_all_at(blocks, self.offset)?;
        self.offset += bytes;
        self.file.sync_data()
    }
}
