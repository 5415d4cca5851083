//! The real [`Disk`]: one directory of flat files, locked against a second process.
//!
//! Calls block: they are made on the store's own threads. Handles stay open, because opening per
//! call would double the cost of a small read.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock, statvfs};

use super::error::OpenError;
use crate::shell::seam::{BoxFuture, Disk, DiskError};

/// Name of the lock file.
const LOCK: &str = "lock";

/// Zeros are written in pieces of this size.
const FILL_BYTES: usize = 1 << 20;

/// And synced after so many of them: synced at once, a segment keeps the log's syncs waiting.
const PIECES_PER_SYNC: u64 = 4;

#[expect(
    clippy::disallowed_types,
    reason = "this is the adapter to the file system"
)]
type File = std::fs::File;

/// A directory of the file system.
#[derive(Debug)]
pub struct RealDisk {
    path: PathBuf,
    directory: File,
    /// Holds the lock as long as the disk lives.
    _lock: Option<File>,
    open: Mutex<BTreeMap<String, Arc<File>>>,
}

impl RealDisk {
    /// Opens the directory, makes it if it is missing, and locks it for this process.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another live process holds it; [`OpenError::Disk`] for what the
    /// system reports.
    pub fn open_locked(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let path = path.into();
        let mut disk = Self::open(&path)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK))
            .map_err(|error| disk_error(LOCK, &error))?;
        match flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(OpenError::Locked {
                    path: path.display().to_string(),
                });
            }
            Err(errno) => return Err(disk_error(LOCK, &errno.into()).into()),
        }
        disk._lock = Some(lock);
        Ok(disk)
    }

    /// Opens the directory, makes it if it is missing; no lock.
    ///
    /// # Errors
    /// [`OpenError::Disk`] for what the system reports.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let path = path.into();
        let named = path.display().to_string();
        let failed = |error: io::Error| disk_error(&named, &error);
        std::fs::create_dir_all(&path).map_err(failed)?;
        let directory = File::open(&path).map_err(failed)?;
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            // A directory that was just made must not vanish with everything in it.
            File::open(parent)
                .and_then(|parent| parent.sync_all())
                .map_err(failed)?;
        }
        Ok(Self {
            path,
            directory,
            _lock: None,
            open: Mutex::new(BTreeMap::new()),
        })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn list_files(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Renamed or removed between the listing and the look: by the segments' loop, say.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if let Ok(name) = entry.file_name().into_string()
                && metadata.is_file()
            {
                files.push((name, metadata.len()));
            }
        }
        files.sort();
        Ok(files)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<()> {
        self.handles().remove(name);
        let file = File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(self.path.join(name))?;
        let zeros = vec![0; FILL_BYTES];
        let mut offset = 0;
        while offset < bytes {
            // Written, not only reserved: a sync into unwritten extents costs twice as much.
            let piece = usize::try_from(bytes - offset).map_or(FILL_BYTES, |n| n.min(FILL_BYTES));
            file.write_all_at(&zeros[..piece], offset)?;
            offset += piece as u64;
            if offset.is_multiple_of(PIECES_PER_SYNC * FILL_BYTES as u64) {
                file.sync_data()?;
            }
        }
        self.handles().insert(name.to_owned(), Arc::new(file));
        Ok(())
    }

    fn read_at(&self, name: &str, offset: u64, bytes: usize) -> io::Result<Bytes> {
        let file = self.file(name)?;
        let left = file.metadata()?.len().saturating_sub(offset);
        let length = usize::try_from(left).map_or(bytes, |left| left.min(bytes));
        let mut buffer = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(filled);
        Ok(buffer.into())
    }

    fn file(&self, name: &str) -> io::Result<Arc<File>> {
        let mut handles = self.handles();
        if let Some(file) = handles.get(name) {
            return Ok(file.clone());
        }
        let file = File::options()
            .read(true)
            .write(true)
            .open(self.path.join(name))?;
        let file = Arc::new(file);
        handles.insert(name.to_owned(), file.clone());
        Ok(file)
    }

    fn rename_file(&self, from: &str, to: &str) -> io::Result<()> {
        let mut handles = self.handles();
        std::fs::rename(self.path.join(from), self.path.join(to))?;
        handles.remove(to);
        if let Some(file) = handles.remove(from) {
            handles.insert(to.to_owned(), file);
        }
        Ok(())
    }

    fn remove_file(&self, name: &str) -> io::Result<()> {
        self.handles().remove(name);
        std::fs::remove_file(self.path.join(name))
    }

    fn free_and_total(&self) -> io::Result<(u64, u64)> {
        let stat = statvfs(&self.path)?;
        Ok((
            stat.f_bavail.saturating_mul(stat.f_frsize),
            stat.f_blocks.saturating_mul(stat.f_frsize),
        ))
    }

    fn handles(&self) -> MutexGuard<'_, BTreeMap<String, Arc<File>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn disk_error(name: &str, error: &io::Error) -> DiskError {
    let name = name.to_owned();
    match error.kind() {
        ErrorKind::NotFound => DiskError::NotFound { name },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DiskError::Full { name },
        _ => DiskError::Io {
            name,
            reason: error.to_string(),
        },
    }
}

/// A result that is there at once: the call has blocked.
fn done<'a, T: Send + 'a>(
    name: &str,
    result: io::Result<T>,
) -> BoxFuture<'a, Result<T, DiskError>> {
    let result = result.map_err(|error| disk_error(name, &error));
    Box::pin(std::future::ready(result))
}

impl Disk for RealDisk {
    fn list(&self) -> BoxFuture<'_, Result<Vec<(String, u64)>, DiskError>> {
        done(".", self.list_files())
    }

    fn create_zeroed<'a>(
        &'a self,
        name: &'a str,
        bytes: u64,
    ) -> BoxFuture<'a, Result<(), DiskError>> {
        done(name, self.create(name, bytes))
    }

    fn read<'a>(
        &'a self,
        name: &'a str,
        offset: u64,
        bytes: usize,
    ) -> BoxFuture<'a, Result<Bytes, DiskError>> {
        done(name, self.read_at(name, offset, bytes))
    }

    fn write<'a>(
        &'a self,
        name: &'a str,
        offset: u64,
        data: &'a [u8],
    ) -> BoxFuture<'a, Result<(), DiskError>> {
        done(
            name,
            self.file(name)
                .and_then(|file| file.write_all_at(data, offset)),
        )
    }

    fn sync<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), DiskError>> {
        done(name, self.file(name).and_then(|file| file.sync_data()))
    }

    fn sync_dir(&self) -> BoxFuture<'_, Result<(), DiskError>> {
        done(".", self.directory.sync_all())
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> BoxFuture<'a, Result<(), DiskError>> {
        done(from, self.rename_file(from, to))
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), DiskError>> {
        done(name, self.remove_file(name))
    }

    fn space(&self) -> BoxFuture<'_, Result<(u64, u64), DiskError>> {
        done(".", self.free_and_total())
    }
}
