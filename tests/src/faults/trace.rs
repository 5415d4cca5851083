//! What a process did to its disk, in order, as strace saw it.
//!
//! Only calls that succeeded count, each at the moment at which it returned. Paths are relative to
//! the folder that is watched; what is done elsewhere is left out, but for what is said on standard
//! output.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, Result, bail};

/// System calls that must be traced.
pub(super) const TRACED: &str = "openat,write,pwrite64,lseek,ftruncate,rename,renameat,unlink,unlinkat,rmdir,mkdir,fsync,fdatasync";

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Done {
    /// A file was made where there was none, or emptied.
    Create {
        path: String,
        is_emptied: bool,
    },
    MakeFolder(String),
    Write {
        path: String,
        offset: u64,
        bytes: Vec<u8>,
    },
    SetLength {
        path: String,
        length: u64,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove(String),
    Sync(String),
    Said(String),
}

/// Reads a trace of what was done in `folder`.
pub(super) fn read_trace(trace: &str, folder: &str) -> Result<Vec<Done>> {
    let mut reader = Reader {
        folder: folder.to_owned(),
        offsets: BTreeMap::new(),
    };
    let (mut begun, mut done) = (BTreeMap::new(), Vec::new());
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(' ') else {
            continue;
        };
        let call = call.trim_start();
        let whole = if let Some(start) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(thread.to_owned(), start.to_owned());
            continue;
        } else if call.starts_with("<... ") {
            let rest = call.split_once(" resumed>").map_or("", |(_, rest)| rest);
            let start = begun.remove(thread).context("nothing was begun")?;
            format!("{start}{rest}")
        } else {
            call.to_owned()
        };
        let short = whole.get(..whole.len().min(200)).unwrap_or_default();
        let read = reader.call(&whole).with_context(|| short.to_owned())?;
        done.extend(read);
    }
    Ok(done)
}

struct Reader {
    folder: String,
    /// Where the next plain write of a descriptor goes.
    offsets: BTreeMap<u64, u64>,
}

impl Reader {
    fn call(&mut self, call: &str) -> Result<Option<Done>> {
        let Some((name, rest)) = call.split_once('(') else {
            return Ok(None);
        };
        let Some((arguments, result)) = rest.rsplit_once(" = ") else {
            return Ok(None);
        };
        if result.starts_with('-') || result.starts_with('?') {
            return Ok(None);
        }
        let arguments = arguments.trim_end().trim_end_matches(')');
        match name {
            "openat" => self.open(arguments, result),
            "write" | "pwrite64" => self.write(name, arguments, result),
            "lseek" => {
                let (number, _) = descriptor(arguments)?;
                self.offsets.insert(number, result.trim().parse()?);
                Ok(None)
            }
            "ftruncate" => {
                let (_, path) = descriptor(arguments)?;
                let length = arguments.rsplit(", ").next().context("a length")?;
                let length = length.parse()?;
                Ok(self
                    .inside(path)
                    .map(|path| Done::SetLength { path, length }))
            }
            "fsync" | "fdatasync" => {
                let (_, path) = descriptor(arguments)?;
                Ok(self.inside(path).map(Done::Sync))
            }
            "mkdir" => Ok(self.named(arguments, 0)?.map(Done::MakeFolder)),
            "unlink" | "unlinkat" | "rmdir" => Ok(self.named(arguments, 0)?.map(Done::Remove)),
            "rename" | "renameat" => {
                let (from, to) = (self.named(arguments, 0)?, self.named(arguments, 1)?);
                match (from, to) {
                    (Some(from), Some(to)) => Ok(Some(Done::Rename { from, to })),
                    (None, None) => Ok(None),
                    _ => bail!("a rename across the folder's bounds"),
                }
            }
            _ => Ok(None),
        }
    }

    fn open(&mut self, arguments: &str, result: &str) -> Result<Option<Done>> {
        let (number, path) = descriptor(result)?;
        self.offsets.insert(number, 0);
        let Some(path) = self.inside(path) else {
            return Ok(None);
        };
        let is_emptied = arguments.contains("O_TRUNC");
        let makes = arguments.contains("O_CREAT");
        Ok(makes.then_some(Done::Create { path, is_emptied }))
    }

    fn write(&mut self, name: &str, arguments: &str, result: &str) -> Result<Option<Done>> {
        let (number, path) = descriptor(arguments)?;
        let length: usize = result.trim().parse()?;
        let (bytes, after) = text(arguments, 0)?;
        let bytes = bytes.get(..length).context("the trace is cut")?.to_vec();
        if number == 1 {
            return Ok(Some(Done::Said(String::from_utf8(bytes)?)));
        }
        let offset = if name == "pwrite64" {
            let offset = after.rsplit(", ").next().context("an offset")?;
            offset.parse()?
        } else {
            let next = self.offsets.entry(number).or_default();
            let offset = *next;
            *next += length as u64;
            offset
        };
        Ok(self.inside(path).map(|path| Done::Write {
            path,
            offset,
            bytes,
        }))
    }

    /// The `which`th quoted path.
    fn named(&self, arguments: &str, which: usize) -> Result<Option<String>> {
        let (path, _) = text(arguments, which)?;
        Ok(self.inside(&String::from_utf8(path)?))
    }

    /// A path in the folder, relative to it; the folder itself is empty.
    fn inside(&self, path: &str) -> Option<String> {
        let path = path.strip_prefix(&self.folder)?;
        match path.strip_prefix('/') {
            Some(path) => Some(path.to_owned()),
            None => path.is_empty().then(String::new),
        }
    }
}

/// Number and path of a descriptor, as in `7</path>`.
fn descriptor(text: &str) -> Result<(u64, &str)> {
    let (number, rest) = text.split_once('<').context("a descriptor")?;
    let (path, _) = rest.split_once('>').context("its path")?;
    Ok((number.trim().parse()?, path))
}

/// The `which`th quoted text, from 0, and what follows it.
fn text(arguments: &str, which: usize) -> Result<(Vec<u8>, &str)> {
    let mut rest = arguments;
    for _ in 0..which {
        let (_, after) = quoted(rest)?;
        rest = after;
    }
    quoted(rest)
}

fn quoted(arguments: &str) -> Result<(Vec<u8>, &str)> {
    let (_, quoted) = arguments.split_once('"').context("a text")?;
    let mut bytes = Vec::new();
    let mut rest = quoted.as_bytes();
    loop {
        match rest {
            [b'"', after @ ..] => {
                let at = quoted.len() - after.len();
                return Ok((bytes, quoted.get(at..).context("it is text")?));
            }
            [b'\\', b'x', high, low, after @ ..] => {
                let digit = |byte: u8| char::from(byte).to_digit(16).context("a digit");
                let byte = digit(*high)? * 16 + digit(*low)?;
                bytes.push(u8::try_from(byte)?);
                rest = after;
            }
            [b'\\', escaped, after @ ..] => {
                bytes.push(match escaped {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    b'v' => 0x0b,
                    b'f' => 0x0c,
                    b'"' | b'\\' => *escaped,
                    _ => bail!("an escape that is not known"),
                });
                rest = after;
            }
            [byte, after @ ..] => {
                bytes.push(*byte);
                rest = after;
            }
            [] => bail!("a text has no end"),
        }
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { path, .. } => write!(f, "{path} is made"),
            Self::MakeFolder(path) => write!(f, "folder {path} is made"),
            Self::Write { path, offset, .. } => write!(f, "{path} is written at {offset}"),
            Self::SetLength { path, length } => write!(f, "{path} is made {length} long"),
            Self::Rename { from, to } => write!(f, "{from} becomes {to}"),
            Self::Remove(path) => write!(f, "{path} is removed"),
            Self::Sync(path) => write!(f, "{path} is synced"),
            Self::Said(line) => write!(f, "`{:.20}` is said", line.trim()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_with_offsets_and_paths() {
        let trace = concat!(
            "1  openat(AT_FDCWD</x>, \"/d/a\", O_RDWR|O_CREAT|O_TRUNC, 0666) = 3</d/a>\n",
            "1  write(3</d/a>, \"ab\\n\", 3) = 3\n",
            "1  write(3</d/a>, \"\\x00\\x7f\", 2 <unfinished ...>\n",
            "2  write(1</p>, \"ready\\n\", 6) = 6\n",
            "1  <... write resumed>)  = 2\n",
            "1  pwrite64(3</d/a>, \"q\", 1, 4096) = 1\n",
            "1  renameat(AT_FDCWD</x>, \"/d/a\", AT_FDCWD</x>, \"/d/b/c\") = 0\n",
            "1  fsync(4</d>)          = 0\n",
            "1  unlink(\"/d/z\") = -1 ENOENT (No such file or directory)\n",
            "1  unlink(\"/e/z\") = 0\n",
        );
        let write = |offset, bytes: &[u8]| Done::Write {
            path: "a".to_owned(),
            offset,
            bytes: bytes.to_vec(),
        };
        let expected = vec![
            Done::Create {
                path: "a".to_owned(),
                is_emptied: true,
            },
            write(0, b"ab\n"),
            Done::Said("ready\n".to_owned()),
            write(3, &[0, 0x7f]),
            write(4096, b"q"),
            Done::Rename {
                from: "a".to_owned(),
                to: "b/c".to_owned(),
            },
            Done::Sync(String::new()),
        ];
        assert_eq!(read_trace(trace, "/d").expect("it is a trace"), expected);
    }
}
