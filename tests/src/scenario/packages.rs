//! A real data set: the Debian package index, one record per stanza.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::json;

/// Fewer stanzas than this mean that the index is not there.
const STANZAS_MIN: usize = 60_000;

/// Records in the order of a file, and what each key ends with.
#[derive(Debug, Clone, Default)]
pub struct Records {
    lines: Vec<(Bytes, Bytes)>,
    last: BTreeMap<Bytes, Bytes>,
}

impl Records {
    /// Adds a record behind those that are there.
    pub fn push(&mut self, key: Bytes, value: Bytes) {
        self.last.insert(key.clone(), value.clone());
        self.lines.push((key, value));
    }

    /// The records as `quorate import` reads them.
    ///
    /// # Errors
    /// If a key is not UTF-8.
    pub fn json_lines(&self) -> Result<String> {
        let mut text = String::new();
        for (key, value) in &self.lines {
            let key = std::str::from_utf8(key)?;
            let line = match std::str::from_utf8(value) {
                Ok(value) => json!({"key": key, "value": value}),
                Err(_) => json!({"key": key, "value": STANDARD.encode(value), "b64": true}),
            };
            writeln!(text, "{line}")?;
        }
        Ok(text)
    }

    /// How many records there are; a key may have several.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lines.len()
    }

    /// Each key with the value of its last record.
    #[must_use]
    pub const fn last(&self) -> &BTreeMap<Bytes, Bytes> {
        &self.last
    }
}

/// The package index of this machine, fetched if it is not there: key = name and version, value =
/// the stanza.
///
/// # Errors
/// If this is no Debian, or the index cannot be fetched.
pub fn debian_packages() -> Result<Records> {
    let mut records = parse(&dumpavail()?);
    if records.count() < STANZAS_MIN {
        let status = Command::new("apt-get").arg("update").status();
        ensure!(
            status.context("apt-get does not start")?.success(),
            "`apt-get update` failed"
        );
        records = parse(&dumpavail()?);
    }
    let count = records.count();
    ensure!(
        count >= STANZAS_MIN,
        "the package index has only {count} stanzas"
    );
    Ok(records)
}

fn dumpavail() -> Result<Vec<u8>> {
    let output = Command::new("apt-cache").arg("dumpavail").output();
    Ok(output
        .context("apt-cache does not start; this needs a Debian")?
        .stdout)
}

fn parse(index: &[u8]) -> Records {
    let mut records = Records::default();
    let mut stanza: Vec<&[u8]> = Vec::new();
    for line in index.split(|byte| *byte == b'\n').chain([&b""[..]]) {
        if !line.is_empty() {
            stanza.push(line);
            continue;
        }
        if let (Some(name), Some(version)) =
            (field(&stanza, b"Package: "), field(&stanza, b"Version: "))
        {
            let key = [name, version].join(&b' ');
            records.push(key.into(), stanza.join(&b'\n').into());
        }
        stanza.clear();
    }
    records
}

fn field<'a>(stanza: &[&'a [u8]], name: &[u8]) -> Option<&'a [u8]> {
    stanza.iter().find_map(|line| line.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_is_a_record_and_the_last_of_a_key_counts() {
        let index = b"Package: a\nVersion: 1\nX: old\n\nPackage: b\nVersion: 2\n\n\
                      Package: a\nVersion: 1\nX: \xff\n\nNo: package\n";
        let records = parse(index);
        assert_eq!((records.count(), records.last().len()), (3, 2));
        let a = records.last().get(&b"a 1"[..]).expect("it is there");
        assert_eq!(&a[..], b"Package: a\nVersion: 1\nX: \xff");
        let lines = records.json_lines().expect("keys are text");
        assert!(
            lines
                .lines()
                .nth(2)
                .is_some_and(|line| line.contains("\"b64\":true"))
        );
    }
}
