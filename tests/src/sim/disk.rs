//! A simulated disk that keeps cache and platter apart.
//!
//! What is written stands in the cache at once and on the platter after a sync. `kill -9` keeps the
//! cache. A power loss keeps of each file's unsynced sectors none, a prefix or a subset, in sectors
//! of 512 bytes or 4 KiB, and of the unsynced names a prefix. A failed sync marks the pages clean:
//! the cache still shows them, a later sync succeeds without them, a power loss drops them.
//!
//! The disk outlives the node: it is owned by the test, and the node works through a [`Mount`],
//! whose operations hang for ever once the disk crashed under it.

#![expect(
    clippy::cast_possible_truncation,
    reason = "simulated files fit into memory, so their lengths fit into usize"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate_node::shell::seam::{BoxFuture, Disk, DiskError};
use tokio::sync::Notify;

use super::seeded::Seeded;

const SECTOR: usize = 512;

/// How a node went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// `kill -9`: the page cache stays.
    Kill,
    /// Power loss: what was not synced is dropped or torn.
    Power,
}

/// Faults of a disk; all off by default. Chances are in parts per million of operations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// Chance that a read fails.
    pub read_error_ppm: u32,
    /// Chance that a write fails, after a part of it.
    pub write_error_ppm: u32,
    /// Chance that a sync fails and drops what it should have kept.
    pub sync_error_ppm: u32,
    /// Longest usual latency of an operation.
    pub latency_max: Duration,
    /// Chance of a stall.
    pub stall_ppm: u32,
    /// Longest stall.
    pub stall_max: Duration,
    /// Bytes that all files may have together; `None` is without bound.
    pub capacity: Option<u64>,
    /// A power loss keeps nothing that was not synced, instead of a random part.
    pub drop_all_unsynced: bool,
    /// A power loss keeps each unsynced block of 4 KiB or drops it, by the toss of a coin.
    pub tear_blocks: bool,
}

/// A disk that outlives its node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

/// What a node holds of a disk until the disk crashes.
#[derive(Debug)]
pub struct Mount {
    disk: SimDisk,
    epoch: u64,
}

#[derive(Debug)]
struct State {
    cache: BTreeMap<String, u64>,
    platter: BTreeMap<String, u64>,
    /// Names changed since the last sync of the directory.
    renames: Vec<NameChange>,
    files: BTreeMap<u64, File>,
    next_file: u64,
    epoch: u64,
    faults: DiskFaults,
    /// Told when operations that stand still go on.
    mended: Arc<Notify>,
    random: Seeded,
    took_effect: BTreeMap<&'static str, u64>,
    operations: u64,
    crash_after: Option<u64>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Link(String, u64),
    Unlink(String),
    Rename(String, String),
}

#[derive(Debug, Default)]
struct File {
    cache: Vec<u8>,
    platter: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl File {
    fn write(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        self.cache[offset..end].copy_from_slice(data);
        self.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
    }

    /// Puts one sector of the cache on the platter.
    fn keep(&mut self, sector: usize) {
        let begin = sector * SECTOR;
        let end = (begin + SECTOR).min(self.cache.len());
        if begin < end {
            if self.platter.len() < end {
                self.platter.resize(end, 0);
            }
            self.platter[begin..end].copy_from_slice(&self.cache[begin..end]);
        }
    }

    fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.keep(sector);
        }
        self.platter.resize(self.cache.len(), 0);
    }
}

fn apply(names: &mut BTreeMap<String, u64>, change: &NameChange) {
    match change {
        NameChange::Link(name, file) => {
            names.insert(name.clone(), *file);
        }
        NameChange::Unlink(name) => {
            names.remove(name);
        }
        NameChange::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
    }
}

impl SimDisk {
    /// An empty disk; `seed` decides its faults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            cache: BTreeMap::new(),
            platter: BTreeMap::new(),
            renames: Vec::new(),
            files: BTreeMap::new(),
            next_file: 0,
            epoch: 0,
            faults: DiskFaults::default(),
            mended: Arc::default(),
            random: Seeded::new(seed),
            took_effect: BTreeMap::new(),
            operations: 0,
            crash_after: None,
        })))
    }

    /// The disk as a node sees it until the next crash.
    #[must_use]
    pub fn mount(&self) -> Arc<Mount> {
        Arc::new(Mount {
            disk: self.clone(),
            epoch: self.lock().epoch,
        })
    }

    /// Ends every mount; a power loss also drops or tears what was not synced.
    pub fn crash(&self, crash: Crash) {
        let mut state = self.lock();
        state.epoch += 1;
        state.crash_after = None;
        match crash {
            Crash::Kill => {}
            Crash::Power => state.lose_power(),
        }
    }

    /// Switches faults.
    pub fn set_faults(&self, faults: DiskFaults) {
        self.lock().faults = faults;
    }

    /// Ends the faults, for what stands still already too.
    pub fn mend(&self, usual: DiskFaults) {
        self.set_faults(usual);
        self.lock().mended.notify_waiters();
    }

    /// After this many further operations every operation hangs, as if the process had been killed
    /// there; [`SimDisk::crash`] is still to be called.
    pub fn hang_after(&self, operations: u64) {
        let mut state = self.lock();
        state.crash_after = Some(state.operations + operations);
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Operations so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Faults that took effect, by kind.
    #[must_use]
    pub fn took_effect(&self) -> BTreeMap<&'static str, u64> {
        self.lock().took_effect.clone()
    }

    /// Puts a file on cache and platter, durably.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.lock();
        let file = state.create(name);
        state.cache.insert(name.to_owned(), file);
        state.platter.insert(name.to_owned(), file);
        let file = state.files.entry(file).or_default();
        file.cache = bytes.to_vec();
        file.platter = bytes.to_vec();
    }

    /// A file as the page cache shows it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        let file = state.cache.get(name)?;
        state.files.get(file).map(|file| file.cache.clone())
    }

    /// Names as the cache shows them.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.lock().cache.keys().cloned().collect()
    }

    /// Removes a file, durably.
    pub fn erase(&self, name: &str) {
        let mut state = self.lock();
        state.cache.remove(name);
        state.platter.remove(name);
    }

    /// Flips bits of one byte in cache and platter. False if there is no such byte.
    #[must_use]
    pub fn flip(&self, name: &str, offset: usize, mask: u8) -> bool {
        let mut state = self.lock();
        let file = state.cache.get(name).copied();
        let Some(file) = file.and_then(|file| state.files.get_mut(&file)) else {
            return false;
        };
        let hit = file
            .cache
            .get_mut(offset)
            .map(|byte| *byte ^= mask)
            .is_some();
        if let Some(byte) = file.platter.get_mut(offset) {
            *byte ^= mask;
        }
        if hit {
            state.count("bit_flip");
        }
        hit
    }

    /// Overwrites bytes in cache and platter, as a torn or misdirected write would.
    pub fn overwrite(&self, name: &str, offset: usize, bytes: &[u8]) {
        let mut bytes_then = self.get(name).unwrap_or_default();
        if let Some(place) = bytes_then.get_mut(offset..offset + bytes.len()) {
            place.copy_from_slice(bytes);
            self.put(name, &bytes_then);
        }
    }

    /// Puts what another disk holds in the place of all that is here, durably. Mounts end.
    pub fn replace(&self, other: &Self) {
        self.crash(Crash::Power);
        for name in self.names() {
            self.erase(&name);
        }
        for name in other.names() {
            self.put(&name, &other.get(&name).unwrap_or_default());
        }
        self.lock().renames.clear();
    }

    /// A copy of everything, as of a disk that was copied while the node was down.
    #[must_use]
    pub fn copy(&self, seed: u64) -> Self {
        let copy = Self::new(seed);
        for name in self.names() {
            copy.put(&name, &self.get(&name).unwrap_or_default());
        }
        copy
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn create(&mut self, name: &str) -> u64 {
        self.next_file += 1;
        self.files.insert(self.next_file, File::default());
        self.rename(NameChange::Link(name.to_owned(), self.next_file));
        self.next_file
    }

    fn rename(&mut self, change: NameChange) {
        apply(&mut self.cache, &change);
        self.renames.push(change);
    }

    fn count(&mut self, fault: &'static str) {
        *self.took_effect.entry(fault).or_default() += 1;
    }

    fn lose_power(&mut self) {
        let kept = if self.faults.drop_all_unsynced {
            0
        } else {
            self.random.below(self.renames.len() as u64 + 1)
        };
        let changes = std::mem::take(&mut self.renames);
        if (kept as usize) < changes.len() {
            self.count("names_lost");
        }
        for change in changes.iter().take(kept as usize) {
            apply(&mut self.platter, change);
        }
        let mut torn = 0;
        for file in self.files.values_mut() {
            let dirty: Vec<usize> = std::mem::take(&mut file.dirty).into_iter().collect();
            let keep = choose(&mut self.random, &dirty, &self.faults);
            torn += u64::from(keep.len() < dirty.len());
            keep.into_iter().for_each(|sector| file.keep(sector));
            file.cache.clone_from(&file.platter);
        }
        if torn > 0 {
            self.count("unsynced_lost");
        }
        self.cache.clone_from(&self.platter);
        let named: BTreeSet<u64> = self.cache.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
    }

    fn file(&mut self, name: &str) -> Result<&mut File, DiskError> {
        let missing = || DiskError::NotFound {
            name: name.to_owned(),
        };
        let file = self.cache.get(name).ok_or_else(missing)?;
        self.files.get_mut(file).ok_or_else(missing)
    }

    fn used(&self) -> u64 {
        let length = |file: &u64| {
            self.files
                .get(file)
                .map_or(0, |file| file.cache.len() as u64)
        };
        self.cache.values().map(length).sum()
    }

    fn reserve(&mut self, name: &str, more: u64) -> Result<(), DiskError> {
        let full = self
            .faults
            .capacity
            .is_some_and(|capacity| self.used() + more > capacity);
        if full && more > 0 {
            self.count("disk_full");
            return Err(DiskError::Full {
                name: name.to_owned(),
            });
        }
        Ok(())
    }

    fn error(&mut self, name: &str, fault: &'static str) -> DiskError {
        self.count(fault);
        DiskError::Io {
            name: name.to_owned(),
            reason: format!("injected {fault}"),
        }
    }
}

/// Which unsynced sectors of a file survive a power loss.
fn choose(random: &mut Seeded, dirty: &[usize], faults: &DiskFaults) -> Vec<usize> {
    if faults.drop_all_unsynced {
        return Vec::new();
    }
    let blocks = faults.tear_blocks;
    let grain = if !blocks && random.below(2) == 0 {
        1
    } else {
        4096 / SECTOR
    };
    let way = if blocks { 3 } else { random.below(4) };
    match way {
        0 => Vec::new(),
        1 => dirty.to_vec(),
        2 => {
            let last = dirty.len() as u64;
            let cut = random.below(last + 1) as usize;
            let edge = dirty
                .get(cut)
                .map_or(usize::MAX, |sector| sector / grain * grain);
            dirty
                .iter()
                .copied()
                .filter(|&sector| sector < edge)
                .collect()
        }
        _ => {
            let (mut block, mut keep) = (usize::MAX, false);
            let mut survives = |sector: &usize| {
                if sector / grain != block {
                    block = sector / grain;
                    keep = random.below(2) == 0;
                }
                keep
            };
            dirty
                .iter()
                .copied()
                .filter(|sector| survives(sector))
                .collect()
        }
    }
}

impl Mount {
    /// Waits as long as the disk takes; for ever if the node is dead.
    async fn wait(&self) {
        let (delay, mended) = {
            let mut state = self.disk.lock();
            state.operations += 1;
            let faults = state.faults.clone();
            let mut delay = state.random.up_to(faults.latency_max);
            if state.random.happens(faults.stall_ppm) {
                delay += state.random.up_to(faults.stall_max);
                state.count("disk_stall");
            }
            (delay, state.mended.clone().notified_owned())
        };
        if !delay.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = mended => {}
            }
        }
        let dead = {
            let state = self.disk.lock();
            let hangs = state
                .crash_after
                .is_some_and(|last| state.operations > last);
            state.epoch != self.epoch || hangs
        };
        if dead {
            std::future::pending::<()>().await;
        }
    }

    fn with<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        action(&mut self.disk.lock())
    }
}

impl Disk for Mount {
    fn list(&self) -> BoxFuture<'_, Result<Vec<(String, u64)>, DiskError>> {
        Box::pin(async move {
            self.wait().await;
            Ok(self.with(|state| {
                let entry = |(name, file): (&String, &u64)| {
                    let length = state.files.get(file).map_or(0, |file| file.cache.len());
                    (name.clone(), length as u64)
                };
                state.cache.iter().map(entry).collect()
            }))
        })
    }

    fn create_zeroed<'a>(
        &'a self,
        name: &'a str,
        bytes: u64,
    ) -> BoxFuture<'a, Result<(), DiskError>> {
        Box::pin(async move {
            self.wait().await;
            self.with(|state| {
                state.reserve(name, bytes)?;
                let file = match state.cache.get(name) {
                    Some(&file) => file,
                    None => state.create(name),
                };
                let file = state.files.entry(file).or_default();
                file.cache.clear();
                file.write(0, &vec![0; bytes as usize]);
                Ok(())
            })
        })
    }

    fn read<'a>(
        &'a self,
        name: &'a str,
        offset: u64,
        bytes: usize,
    ) -> BoxFuture<'a, Result<Bytes, DiskError>> {
        Box::pin(async move {
            self.wait().await;
            self.with(|state| {
                if state.random.happens(state.faults.read_error_ppm) {
                    return Err(state.error(name, "read_error"));
                }
                let file = state.file(name)?;
                let begin = (offset as usize).min(file.cache.len());
                let end = begin.saturating_add(bytes).min(file.cache.len());
                Ok(Bytes::copy_from_slice(&file.cache[begin..end]))
            })
        })
    }

    fn write<'a>(
        &'a self,
        name: &'a str,
        offset: u64,
        data: &'a [u8],
    ) -> BoxFuture<'a, Result<(), DiskError>> {
        Box::pin(async move {
            let offset = offset as usize;
            let alive = self.with(|state| state.epoch == self.epoch);
            // A part is in the cache before the rest: a kill in between tears the write.
            let part = self.with(|state| {
                let blocks = state.random.below((data.len() / SECTOR) as u64 + 1);
                blocks as usize * SECTOR
            });
            let grows = self.with(|state| {
                let length = state.file(name).map_or(0, |file| file.cache.len());
                (offset + data.len()).saturating_sub(length) as u64
            });
            if alive && grows == 0 && self.with(|state| state.crash_after.is_none()) {
                self.with(|state| state.file(name).map(|f| f.write(offset, &data[..part])))?;
            }
            self.wait().await;
            self.with(|state| {
                state.reserve(name, grows)?;
                if state.random.happens(state.faults.write_error_ppm) {
                    return Err(state.error(name, "write_error"));
                }
                state.file(name)?.write(offset, data);
                Ok(())
            })
        })
    }

    fn sync<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), DiskError>> {
        Box::pin(async move {
            self.wait().await;
            self.with(|state| {
                if state.random.happens(state.faults.sync_error_ppm) {
                    let dirty: Vec<usize> = state.file(name)?.dirty.iter().copied().collect();
                    let kept = choose(&mut state.random, &dirty, &DiskFaults::default());
                    let file = state.file(name)?;
                    kept.into_iter().for_each(|sector| file.keep(sector));
                    file.dirty.clear();
                    return Err(state.error(name, "sync_error"));
                }
                state.file(name)?.sync();
                Ok(())
            })
        })
    }

    fn sync_dir(&self) -> BoxFuture<'_, Result<(), DiskError>> {
        Box::pin(async move {
            self.wait().await;
            self.with(|state| {
                for change in std::mem::take(&mut state.renames) {
                    apply(&mut state.platter, &change);
                }
                Ok(())
            })
        })
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> BoxFuture<'a, Result<(), DiskError>> {
        Box::pin(async move {
            self.wait().await;
            self.with(|state| {
                state.file(from)?;
                state.rename(NameChange::Rename(from.to_owned(), to.to_owned()));
                Ok(())
            })
        })
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), DiskError>> {
        Box::pin(async move {
            self.wait().await;
            self.with(|state| {
                state.file(name)?;
                state.rename(NameChange::Unlink(name.to_owned()));
                Ok(())
            })
        })
    }

    fn space(&self) -> BoxFuture<'_, Result<(u64, u64), DiskError>> {
        Box::pin(async move {
            self.wait().await;
            Ok(self.with(|state| {
                let total = state.faults.capacity.unwrap_or(1 << 40);
                (total.saturating_sub(state.used()), total)
            }))
        })
    }
}
