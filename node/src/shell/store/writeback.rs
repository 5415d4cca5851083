//! Brings what the engine writes to the disk while it is written.
//!
//! fjall writes a table of up to a few hundred MiB through the page cache and syncs it at its end,
//! both where it is fed and where it compacts. Such a sync, and the system's own writing of so many
//! pages at once, kept the log's syncs waiting for 100 to 600 ms. A thread of its own syncs tables
//! that grow, several times a second while the engine works, each time what was written since, a
//! few MiB as a rule; it waits while the engine is at rest. Nobody waits for it.
//!
//! What fails here is only not spread: whoever writes a table syncs it at its end in any case.
//!
//! Not here: when a table is whole and may be relied on (fjall, `engine_open`).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, fdatasync, openat};

/// Between two looks at the tables while the engine works.
const LOOK: Duration = Duration::from_millis(40);

/// Looks at an engine at rest before it is left alone: a compaction follows soon upon a feed or
/// upon another, or not at all.
const IDLE_LOOKS: u32 = 25;

/// A table is synced when it has grown by so much.
const SYNC_BYTES: u64 = 4 << 20;

/// The thread; it ends with this value.
pub(super) struct Writeback {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    asked: Mutex<Asked>,
    changed: Condvar,
}

#[derive(Default)]
struct Asked {
    /// The engine was opened or fed since the thread last began to look.
    to_look: bool,
    is_fed: bool,
    to_end: bool,
}

impl Writeback {
    /// Starts the thread for the tables in `folder`; the engine compacts as long as `compacts` says
    /// so.
    ///
    /// # Errors
    /// If there is no thread.
    pub(super) fn start(
        folder: PathBuf,
        compacts: impl Fn() -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        let named = std::thread::Builder::new().name("engine-sync".to_owned());
        let thread = named.spawn(move || {
            let mut tables = Tables::new(folder);
            while watched.wait_for_work() {
                let mut idle_looks = 0;
                while idle_looks < IDLE_LOOKS && watched.pause() {
                    tables.spread();
                    let is_busy = compacts() || watched.lock().is_fed;
                    idle_looks = if is_busy { 0 } else { idle_looks + 1 };
                }
            }
        })?;
        let writeback = Self {
            shared,
            thread: Some(thread),
        };
        // An engine may compact from its start.
        writeback.shared.look(|_| ());
        Ok(writeback)
    }

    /// The engine is fed from now on.
    pub(super) fn feed_begins(&self) {
        self.shared.look(|asked| asked.is_fed = true);
    }

    /// It is not any more; what it compacts for that follows.
    pub(super) fn feed_ends(&self) {
        self.shared.look(|asked| asked.is_fed = false);
    }
}

impl Drop for Writeback {
    fn drop(&mut self) {
        self.shared.lock().to_end = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // Its panic was told by the hook; nothing depends on it.
            let _ended = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the thread look, after this change.
    fn look(&self, change: impl FnOnce(&mut Asked)) {
        let mut asked = self.lock();
        change(&mut asked);
        asked.to_look = true;
        self.changed.notify_one();
    }

    /// Waits until there is something to look at; `false` if the thread is to end.
    fn wait_for_work(&self) -> bool {
        let asked = self.lock();
        let waited = self
            .changed
            .wait_while(asked, |asked| !asked.to_look && !asked.to_end);
        let mut asked = waited.unwrap_or_else(PoisonError::into_inner);
        asked.to_look = false;
        !asked.to_end
    }

    /// Waits for the next look; `false` if the thread is to end.
    fn pause(&self) -> bool {
        let asked = self.lock();
        let waited = self
            .changed
            .wait_timeout_while(asked, LOOK, |asked| !asked.to_end);
        let (asked, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !asked.to_end
    }
}

/// The tables of an engine, and what of each is on the disk as far as is known.
struct Tables {
    folder: PathBuf,
    synced: BTreeMap<u64, u64>,
}

impl Tables {
    /// What is there by now was synced by who wrote it.
    fn new(folder: PathBuf) -> Self {
        let synced = sizes(&folder);
        Self { folder, synced }
    }

    /// Syncs every table that has grown enough.
    fn spread(&mut self) {
        let sizes = sizes(&self.folder);
        self.synced.retain(|number, _| sizes.contains_key(number));
        for (number, bytes) in sizes {
            let synced = self.synced.entry(number).or_default();
            // The number of a table that failed is given again.
            *synced = bytes.min(*synced);
            if bytes >= *synced + SYNC_BYTES {
                *synced = bytes;
                sync(&self.folder.join(number.to_string()));
            }
        }
    }
}

/// The tables in `folder` and their sizes: files whose names are numbers.
fn sizes(folder: &Path) -> BTreeMap<u64, u64> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sized = files.filter_map(|file| {
        let number = file.file_name().to_str()?.parse().ok()?;
        Some((number, file.metadata().ok()?.len()))
    });
    sized.collect()
}

fn sync(path: &Path) {
    if let Ok(file) = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _spread = fdatasync(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_synced_and_what_was_there_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let grow = |name: &str, bytes: u64| {
            std::fs::write(
                folder.path().join(name),
                vec![1; usize::try_from(bytes).expect("small")],
            )
            .expect("written");
        };
        grow("7", 2 * SYNC_BYTES);
        let mut tables = Tables::new(folder.path().to_owned());
        grow("8", SYNC_BYTES - 1);
        grow("not a table", SYNC_BYTES);
        tables.spread();
        assert_eq!(tables.synced, [(7, 2 * SYNC_BYTES), (8, 0)].into());
        grow("8", SYNC_BYTES);
        std::fs::remove_file(folder.path().join("7")).expect("compacted away");
        tables.spread();
        assert_eq!(tables.synced, [(8, SYNC_BYTES)].into());
    }

    #[test]
    fn it_looks_while_the_engine_works_and_ends_with_its_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let (asked, busy) = std::sync::mpsc::channel();
        let writeback = Writeback::start(folder.path().to_owned(), move || asked.send(()).is_ok())
            .expect("there is a thread");
        for _ in 0..3 {
            busy.recv_timeout(Duration::from_secs(60))
                .expect("it looks again");
        }
        drop(writeback);
        while busy.try_recv().is_ok() {}
        assert!(busy.recv().is_err(), "the thread has ended");
    }
}
