//! What commands print: text for people, or JSON documents with a schema for programs.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::exit::Problem;

/// Form of what a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// JSON documents.
    Json,
}

/// Writes to standard output. A closed pipe ends the command without a complaint.
///
/// # Errors
/// A [`Problem`] if standard output cannot be written.
pub(super) fn print(bytes: &[u8]) -> Result<(), Problem> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    match written {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Problem::from(e)),
        Ok(()) => Ok(()),
    }
}

/// Prints `document` and ends the line.
///
/// # Errors
/// A [`Problem`] if standard output cannot be written.
pub(super) fn print_json(document: &Value) -> Result<(), Problem> {
    print(format!("{document}\n").as_bytes())
}

/// Tells something on standard error, such as progress or a hint; never an answer.
pub(super) fn note(text: &str) {
    // Nobody is left to be told if standard error is closed.
    let _told = writeln!(std::io::stderr().lock(), "{text}");
}

/// Whether a person reads standard output.
pub(super) fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Bytes for JSON: as text where all of `all` are UTF-8, else base64. The flag says which.
pub(super) fn texts<'a>(all: impl IntoIterator<Item = &'a [u8]> + Clone) -> (Vec<String>, bool) {
    let plain: Option<Vec<String>> = all
        .clone()
        .into_iter()
        .map(|bytes| std::str::from_utf8(bytes).ok().map(str::to_owned))
        .collect();
    match plain {
        Some(plain) => (plain, false),
        None => (all.into_iter().map(encode).collect(), true),
    }
}

/// Base64 with padding.
pub(super) fn encode(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// Bytes of a base64 text with padding; `None` if it is none.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).ok()
}

/// Adds `key` to a document: as text, or as base64 with `"kb64":true`.
pub(super) fn with_key(document: &mut Map<String, Value>, key: &[u8]) {
    let (text, b64) = texts([key]);
    document.insert("key".to_owned(), json!(text.concat()));
    if b64 {
        document.insert("kb64".to_owned(), json!(true));
    }
}

/// A table with columns as wide as their widest cell; numbers to the right.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(super) fn new(headings: &[&str]) -> Self {
        let headings = headings.iter().map(|text| (*text).to_owned()).collect();
        Self {
            rows: vec![headings],
        }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table's text, each line ended.
    pub(super) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let lengths = self
                    .rows
                    .iter()
                    .map(|row| cell(row, column).chars().count());
                lengths.max().unwrap_or_default()
            })
            .collect();
        let numeric = |column: usize| {
            self.rows.iter().skip(1).all(|row| {
                let text = cell(row, column);
                text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+')
            })
        };
        let right: Vec<bool> = (0..columns).map(numeric).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (width, right)) in widths.iter().zip(&right).enumerate() {
                let text = cell(row, column);
                let written = if *right {
                    write!(line, "{text:>width$}  ")
                } else {
                    write!(line, "{text:<width$}  ")
                };
                written.expect("a string takes all that is written");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A number of bytes in the largest unit that keeps it above 1.
pub(super) fn shown_bytes(bytes: u64) -> String {
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{}.{} {unit}", bytes / size, bytes % size * 10 / size),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_where_all_of_them_can_be() {
        assert_eq!(
            texts([&b"a"[..], b"b"]),
            (vec!["a".to_owned(), "b".to_owned()], false)
        );
        assert_eq!(
            texts([&b"a"[..], b"\xff"]),
            (vec!["YQ==".to_owned(), "/w==".to_owned()], true)
        );
    }

    #[test]
    fn columns_align() {
        let mut table = Table::new(&["node", "vnodes"]);
        table.row(vec!["a".into(), "7".into()]);
        table.row(vec!["long".into(), "128".into()]);
        assert_eq!(table.text(), "node  vnodes\na          7\nlong     128\n");
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, want) in [(7, "7 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB")] {
            assert_eq!(shown_bytes(bytes), want);
        }
    }
}
