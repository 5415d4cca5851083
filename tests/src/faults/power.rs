//! Power loss: what a disk may hold at a moment of a script's run, if nothing counts but what was
//! synced.
//!
//! The script runs once, traced. From the trace follows what the disk holds for certain at each
//! moment: a file's content of its last sync, under the names that the last sync of each folder
//! knew. What came after is there or not, drawn for each block of 512 bytes of a file, and for each
//! folder up to some one of its changes: torn and out of order. Real file systems keep more: a new
//! file's sync often keeps its name, too.
//!
//! Each such disk is made as real files, and the store must open on it as after a kill: everything
//! is there that was acknowledged before the moment.
//!
//! Not here: a second power loss while the store recovers from the first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::trace::Done;

/// What a disk writes as a whole.
const BLOCK_BYTES: usize = 512;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// Content of a file, in blocks; one that is not there is zeros.
#[derive(Debug, Clone, Default)]
struct Content {
    length: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

/// A file: what was written, what of it is durable, and which blocks differ.
#[derive(Debug, Clone, Default)]
struct File {
    now: Content,
    durable: Content,
    changed: BTreeSet<u64>,
}

/// What a name in a folder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    File(usize),
    Folder,
}

/// A change of a folder: these names come to stand for these, at once.
type Change = Vec<(String, Option<Entry>)>;

/// A disk on which only what was synced is certain.
#[derive(Debug, Clone, Default)]
pub(super) struct Volatile {
    files: Vec<File>,
    /// By path, as processes see it.
    now: BTreeMap<String, Entry>,
    durable: BTreeMap<String, Entry>,
    /// Of each folder, changes since its last sync.
    changes: BTreeMap<String, Vec<Change>>,
}

/// How much of what was not synced survives.
#[derive(Debug, Clone, Copy)]
pub(super) enum Survives {
    Nothing,
    /// As drawn from this seed.
    Some(u64),
}

impl Volatile {
    /// A disk that durably holds one empty file.
    pub(super) fn with_empty_file(name: &str) -> Self {
        let mut disk = Self::default();
        disk.create(name, true);
        disk.sync("");
        disk
    }

    pub(super) fn take(&mut self, done: &Done) -> Result<()> {
        match done {
            Done::Create { path, is_emptied } => self.create(path, *is_emptied),
            Done::MakeFolder(path) => self.change(vec![(path.clone(), Some(Entry::Folder))]),
            Done::Write {
                path,
                offset,
                bytes,
            } => self.file(path)?.write(*offset, bytes),
            Done::SetLength { path, length } => self.file(path)?.set_length(*length),
            Done::Rename { from, to } => {
                let entry = self.now.get(from).copied();
                let entry = entry.context("what is renamed is not known")?;
                self.change(vec![(from.clone(), None), (to.clone(), Some(entry))]);
            }
            Done::Remove(path) => self.change(vec![(path.clone(), None)]),
            Done::Sync(path) => self.sync(path),
            Done::Said(_) => {}
        }
        Ok(())
    }

    fn create(&mut self, path: &str, is_emptied: bool) {
        match self.now.get(path) {
            Some(Entry::File(number)) => {
                if is_emptied && let Some(file) = self.files.get_mut(*number) {
                    file.set_length(0);
                }
            }
            Some(Entry::Folder) => {}
            None => {
                let entry = Entry::File(self.files.len());
                self.files.push(File::default());
                self.change(vec![(path.to_owned(), Some(entry))]);
            }
        }
    }

    fn file(&mut self, path: &str) -> Result<&mut File> {
        let Some(Entry::File(number)) = self.now.get(path) else {
            anyhow::bail!("{path} is no file that is known");
        };
        self.files.get_mut(*number).context("it is there")
    }

    fn change(&mut self, change: Change) {
        for (path, entry) in &change {
            set(&mut self.now, path, *entry);
        }
        let folder = change.last().map_or("", |(path, _)| folder_of(path));
        self.changes
            .entry(folder.to_owned())
            .or_default()
            .push(change);
    }

    fn sync(&mut self, path: &str) {
        if let Some(Entry::File(number)) = self.now.get(path) {
            if let Some(file) = self.files.get_mut(*number) {
                file.sync();
            }
            return;
        }
        for (path, entry) in self.changes.remove(path).into_iter().flatten().flatten() {
            set(&mut self.durable, &path, entry);
        }
    }

    /// Makes what is left of it after a power loss, in an empty folder.
    pub(super) fn lose_power(&self, survives: Survives, folder: &Path) -> Result<()> {
        let mut random = match survives {
            Survives::Nothing => None,
            Survives::Some(seed) => Some(SmallRng::seed_from_u64(seed)),
        };
        let mut names = self.durable.clone();
        if let Some(random) = &mut random {
            for changes in self.changes.values() {
                let kept = random.random_range(0..=changes.len());
                for (path, entry) in changes.iter().take(kept).flatten() {
                    set(&mut names, path, *entry);
                }
            }
        }
        for (path, entry) in &names {
            // A folder comes before what is in it; without its own name nothing in it can be found.
            let above = folder_of(path);
            if !above.is_empty() && names.get(above) != Some(&Entry::Folder) {
                continue;
            }
            match entry {
                // Its folder may have been left out itself.
                _ if !folder.join(above).is_dir() => {}
                Entry::Folder => fs::create_dir(folder.join(path))?,
                Entry::File(number) => {
                    let file = self.files.get(*number).context("it is there")?;
                    file.left(&mut random).write_to(&folder.join(path))?;
                }
            }
        }
        Ok(())
    }
}

impl File {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let number = at / BLOCK;
            let inside = usize::try_from(at % BLOCK).expect("a block is small");
            let (part, after) = rest.split_at(rest.len().min(BLOCK_BYTES - inside));
            let block = self.now.blocks.entry(number);
            let block = block.or_insert_with(|| vec![0; BLOCK_BYTES]);
            if let Some(place) = block.get_mut(inside..inside + part.len()) {
                place.copy_from_slice(part);
            }
            self.changed.insert(number);
            at += part.len() as u64;
            rest = after;
        }
        self.now.length = self.now.length.max(at);
    }

    fn set_length(&mut self, length: u64) {
        if length < self.now.length {
            let gone = self.now.blocks.split_off(&length.div_ceil(BLOCK));
            self.changed.extend(gone.keys());
        }
        self.now.length = length;
    }

    fn sync(&mut self) {
        for number in std::mem::take(&mut self.changed) {
            self.durable.take(&self.now, number);
        }
        self.durable.length = self.now.length;
    }

    /// What is left of it.
    fn left(&self, random: &mut Option<SmallRng>) -> Content {
        let mut left = self.durable.clone();
        let Some(random) = random else {
            return left;
        };
        if random.random_bool(0.5) {
            left.length = self.now.length;
        }
        for number in &self.changed {
            if random.random_bool(0.5) {
                left.take(&self.now, *number);
            }
        }
        left
    }
}

impl Content {
    fn take(&mut self, from: &Self, number: u64) {
        match from.blocks.get(&number) {
            Some(block) => {
                self.blocks.insert(number, block.clone());
            }
            None => {
                self.blocks.remove(&number);
            }
        }
    }

    fn write_to(&self, path: &Path) -> Result<()> {
        #[expect(
            clippy::disallowed_types,
            reason = "real files are made for a real store"
        )]
        let file = fs::File::create(path)?;
        for (number, block) in &self.blocks {
            file.write_all_at(block, number * BLOCK)?;
        }
        Ok(file.set_len(self.length)?)
    }
}

fn set(names: &mut BTreeMap<String, Entry>, path: &str, entry: Option<Entry>) {
    match entry {
        Some(entry) => {
            names.insert(path.to_owned(), entry);
        }
        None => {
            names.remove(path);
        }
    }
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn done_to(disk: &mut Volatile, all: &[Done]) {
        for done in all {
            disk.take(done).expect("it can be done");
        }
    }

    fn write(path: &str, bytes: &[u8]) -> Done {
        Done::Write {
            path: path.to_owned(),
            offset: 0,
            bytes: bytes.to_vec(),
        }
    }

    fn left(disk: &Volatile, survives: Survives) -> TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        disk.lose_power(survives, folder.path()).expect("made");
        folder
    }

    #[test]
    fn only_what_was_synced_is_certain() {
        let mut disk = Volatile::with_empty_file("first");
        let create = |path: &str| Done::Create {
            path: path.to_owned(),
            is_emptied: true,
        };
        let sync = |path: &str| Done::Sync(path.to_owned());
        done_to(
            &mut disk,
            &[create("a"), write("a", b"one"), sync("a"), sync("")],
        );
        done_to(&mut disk, &[write("a", b"two"), create("b"), sync("b")]);
        let folder = left(&disk, Survives::Nothing);
        let read = |name: &str| fs::read(folder.path().join(name)).ok();
        assert_eq!(read("first"), Some(Vec::new()));
        assert_eq!(read("a"), Some(b"one".to_vec()));
        assert_eq!(read("b"), None, "its name was not synced");
        let contents: BTreeSet<_> = (0..50)
            .map(|seed| fs::read(left(&disk, Survives::Some(seed)).path().join("a")).ok())
            .collect();
        let both = [Some(b"one".to_vec()), Some(b"two".to_vec())];
        assert_eq!(contents, both.into());
        let rename = Done::Rename {
            from: "b".to_owned(),
            to: "a".to_owned(),
        };
        done_to(&mut disk, &[rename, sync("")]);
        let folder = left(&disk, Survives::Nothing);
        assert_eq!(fs::read(folder.path().join("a")).ok(), Some(Vec::new()));
        assert!(!folder.path().join("b").exists());
    }
}
