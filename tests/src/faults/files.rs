//! Files of a node's data directory: found by what they are, flipped, copied.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Which byte of a file is harmed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// The byte at this offset.
    At(usize),
    /// The same; a file that is shorter gets bytes up to there.
    AtOrBehind(usize),
    /// The byte so far in front of the end.
    BeforeEnd(usize),
    Middle,
    /// The middle one of the places at which this text stands.
    In(&'a [u8]),
}

/// Files in `folder` whose names begin so and have a number behind it, or are just that, whether or
/// not they end as journals of the engine do; the lowest first.
pub(super) fn numbered(folder: &Path, prefix: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_file()
            && let Some(rest) = name.strip_prefix(prefix)
            && let rest = rest.strip_suffix(".jnl").unwrap_or(rest)
            && rest.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            files.push((rest.len(), rest.to_owned(), entry.path()));
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(_, _, path)| path).collect())
}

/// Flips one bit in the first of `files` that has the place; false if none has.
pub(super) fn flip(files: &[PathBuf], place: Place<'_>) -> Result<bool> {
    for path in files {
        let mut bytes = fs::read(path)?;
        let found = match place {
            Place::At(offset) => Some(offset),
            Place::AtOrBehind(offset) => {
                bytes.resize(bytes.len().max(offset + 1), 0);
                Some(offset)
            }
            Place::BeforeEnd(back) => bytes.len().checked_sub(back),
            Place::Middle => Some(bytes.len() / 2),
            Place::In(text) => {
                let places = places(&bytes, text);
                places.get(places.len() / 2).copied()
            }
        };
        if let Some(byte) = found.and_then(|offset| bytes.get_mut(offset)) {
            *byte ^= 1;
            fs::write(path, bytes)?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn places(bytes: &[u8], text: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(text.len()).enumerate();
    let found = windows.filter(|(_, window)| *window == text);
    found.map(|(place, _)| place).collect()
}

/// Copies a folder with all that is in it.
///
/// # Errors
/// What the file system says; a part may be copied then.
pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
