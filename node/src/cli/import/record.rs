//! One line of an import: from JSON to a key and its values.

use bytes::Bytes;
use serde::Deserialize;

use super::super::lines::Line;
use super::super::output::decode;

/// A record to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImportRecord {
    /// Line it came from.
    pub(super) line: u64,
    /// Bytes of the file up to and with its line.
    pub(super) end: u64,
    /// The key.
    pub(super) key: Bytes,
    /// One value, or several concurrent ones.
    pub(super) values: Vec<Bytes>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    key: String,
    value: Option<String>,
    siblings: Option<Vec<String>>,
    #[serde(default)]
    b64: bool,
    #[serde(default)]
    kb64: bool,
}

impl ImportRecord {
    /// Reads a line; a blank one holds none.
    ///
    /// # Errors
    /// A sentence if it is no record.
    pub(super) fn read(line: &Line) -> Result<Option<Self>, String> {
        let text = line.text.as_ref().ok_or("the line is too long")?;
        if text.trim_ascii().is_empty() {
            return Ok(None);
        }
        let raw: Raw = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        let values = match (raw.value, raw.siblings) {
            (Some(value), None) => vec![value],
            (None, Some(siblings)) if !siblings.is_empty() => siblings,
            (None, Some(_)) => return Err("`siblings` is empty".to_owned()),
            (None, None) => return Err("neither `value` nor `siblings` is there".to_owned()),
            (Some(_), Some(_)) => return Err("both `value` and `siblings` are there".to_owned()),
        };
        let bytes = |text: String, b64: bool, name: &str| {
            if b64 {
                let decoded = decode(&text).map(Bytes::from);
                decoded.ok_or_else(|| format!("`{name}` is not base64"))
            } else {
                Ok(Bytes::from(text))
            }
        };
        let values = values
            .into_iter()
            .map(|value| bytes(value, raw.b64, "value"));
        Ok(Some(Self {
            line: line.number,
            end: line.end,
            key: bytes(raw.key, raw.kb64, "key")?,
            values: values.collect::<Result<_, _>>()?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<ImportRecord>, String> {
        ImportRecord::read(&Line {
            number: 3,
            end: 99,
            text: Some(text.as_bytes().to_vec()),
        })
    }

    #[test]
    fn a_line_is_a_key_with_a_value_or_siblings() {
        let record = |key: &'static [u8], values: &[&'static [u8]]| {
            Ok(Some(ImportRecord {
                line: 3,
                end: 99,
                key: Bytes::from_static(key),
                values: values
                    .iter()
                    .map(|value| Bytes::from_static(value))
                    .collect(),
            }))
        };
        let cases = [
            (r#"{"key":"a","value":"b"}"#, record(b"a", &[b"b"])),
            (r#"{"key":"a","value":""}"#, record(b"a", &[b""])),
            (
                r#"{"key":"a","siblings":["b","c"]}"#,
                record(b"a", &[b"b", b"c"]),
            ),
            (
                r#"{"key":"/w==","kb64":true,"value":"b"}"#,
                record(b"\xff", &[b"b"]),
            ),
            (
                r#"{"key":"a","b64":true,"value":"/w=="}"#,
                record(b"a", &[b"\xff"]),
            ),
            ("   ", Ok(None)),
        ];
        for (text, want) in cases {
            assert_eq!(read(text), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for text in [
            r#"{"key":"a","val"#,
            r#"{"key":"a"}"#,
            r#"{"value":"a"}"#,
            r#"{"key":"a","siblings":[]}"#,
            r#"{"key":"a","value":"b","siblings":["c"]}"#,
            r#"{"key":"a","vlaue":"b"}"#,
            r#"{"key":"a","value":"?","b64":true}"#,
            "[]",
            "nonsense",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
