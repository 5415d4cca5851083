//! Lines of a file or of standard input, read on a thread of their own: a read of a terminal or a
//! pipe blocks, and nothing else may wait for it.
//!
//! Invariants: a line longer than [`LINE_BYTES_MAX`] is never kept, only reported; at most
//! [`QUEUE_LINES`] lines wait.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use tokio::sync::mpsc;

/// Longest line: a record of 4 MiB in base64, or in text with escapes, with room for its names.
pub(super) const LINE_BYTES_MAX: usize = 12 * 1024 * 1024;

/// How a file of UTF-8 may begin.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Lines that are read ahead: enough that no operation waits for the next line.
const QUEUE_LINES: usize = 64;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    /// Bytes of the input up to and with this line.
    pub(super) end: u64,
    /// Its bytes without the end of line; `None` if it is too long.
    pub(super) text: Option<Vec<u8>>,
}

/// What the thread sends: a line, or why no more follow.
pub(super) type Lines = mpsc::Receiver<std::io::Result<Line>>;

/// Where to go on in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Start {
    /// Bytes that are skipped.
    pub(super) offset: u64,
    /// Lines that these bytes hold.
    pub(super) lines: u64,
}

/// Lines of standard input.
///
/// # Errors
/// What the system said when the thread was started.
pub(super) fn of_stdin() -> std::io::Result<Lines> {
    start(std::io::stdin(), Start::default())
}

/// Lines of a file from `from` on, and the file's length.
///
/// # Errors
/// What the system said.
pub(super) fn of_file(path: &Path, from: Start) -> std::io::Result<(Lines, u64)> {
    let mut file = std::fs::OpenOptions::new().read(true).open(path)?;
    let bytes = file.metadata()?.len();
    if from.offset > 0 {
        file.seek(SeekFrom::Start(from.offset))?;
    }
    Ok((start(file, from)?, bytes))
}

fn start(input: impl Read + Send + 'static, from: Start) -> std::io::Result<Lines> {
    let (sender, lines) = mpsc::channel(QUEUE_LINES);
    std::thread::Builder::new()
        .name("lines".to_owned())
        .spawn(move || {
            let mut input = BufReader::with_capacity(1 << 16, input);
            let mut at = from;
            loop {
                let line = next(&mut input, &mut at).transpose();
                let is_last = line.as_ref().is_none_or(Result::is_err);
                let sent = line.map(|line| sender.blocking_send(line));
                if is_last || matches!(sent, Some(Err(_))) {
                    return;
                }
            }
        })?;
    Ok(lines)
}

fn next(input: &mut impl BufRead, at: &mut Start) -> std::io::Result<Option<Line>> {
    let mut text = Vec::new();
    let mut bytes = 0_u64;
    let mut is_whole = false;
    while !is_whole {
        let ready = input.fill_buf()?;
        if ready.is_empty() {
            break;
        }
        let end = ready.iter().position(|byte| *byte == b'\n');
        let take = end.map_or(ready.len(), |end| end + 1);
        if text.len() <= LINE_BYTES_MAX {
            text.extend(ready.iter().take(take));
        }
        is_whole = end.is_some();
        bytes += take as u64;
        input.consume(take);
    }
    if bytes == 0 {
        return Ok(None);
    }
    // Some editors begin a file with a mark of its encoding; it is no part of the first line.
    if at.offset == 0 && text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len());
    }
    at.offset += bytes;
    at.lines += 1;
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    Ok(Some(Line {
        number: at.lines,
        end: at.offset,
        text: Some(text).filter(|text| text.len() <= LINE_BYTES_MAX),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Vec<(u64, u64, Option<Vec<u8>>)> {
        let mut input = BufReader::with_capacity(3, text);
        let mut at = Start::default();
        std::iter::from_fn(|| next(&mut input, &mut at).expect("readable"))
            .map(|line| (line.number, line.end, line.text))
            .collect()
    }

    #[test]
    fn lines_are_numbered_and_the_last_needs_no_end() {
        let line = |number, end, text: &str| (number, end, Some(text.as_bytes().to_vec()));
        assert_eq!(all(b""), []);
        assert_eq!(
            all(b"abcdef\n\nx"),
            [line(1, 7, "abcdef"), line(2, 8, ""), line(3, 9, "x")]
        );
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        let lines = all(b"\xef\xbb\xbfa\n\xef\xbb\xbfb");
        assert_eq!(lines[0], (1, 5, Some(b"a".to_vec())));
        assert_eq!(lines[1].2.as_deref(), Some(&b"\xef\xbb\xbfb"[..]));
    }

    #[test]
    fn a_line_that_is_too_long_is_told_and_the_next_is_read() {
        let mut text = vec![b'a'; LINE_BYTES_MAX + 1];
        text.extend_from_slice(b"\nb\n");
        let lines = all(&text);
        assert_eq!(lines[0].2, None);
        assert_eq!(lines[1].2.as_deref(), Some(&b"b"[..]));
    }
}
