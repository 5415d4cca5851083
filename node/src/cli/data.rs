//! What the commands on data share: their arguments as bytes, and the levels of an operation.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use bytes::Bytes;
use quorate_client::{Client, Context, Level, Written};
use quorate_ring::KeyspaceMode;
use serde_json::{Map, Value, json};

use super::args::{DataOptions, Global, ScanOptions, SeenOptions};
use super::exit::{Exit, Problem};
use super::level::LevelMisfit;
use super::output::{Format, note, print_json, with_key};
use super::session::unread;

/// A value longer than this is not read to its end: the limit and one byte.
const VALUE_BYTES_READ_MAX: u64 = quorate_client::wire::VALUE_BYTES_MAX as u64 + 1;

/// Bytes of an argument.
pub(super) fn bytes_of(argument: OsString) -> Bytes {
    Bytes::from(argument.into_vec())
}

/// The value that an argument names: itself, standard input for `-`, a file for `@FILE`.
///
/// # Errors
/// A [`Problem`] if standard input or the file cannot be read.
pub(super) fn value_of(argument: OsString) -> Result<Bytes, Problem> {
    let unreadable = |name: &str, e: &std::io::Error| {
        Problem::new(
            Exit::Usage,
            "VALUE_UNREADABLE",
            format!("cannot read {name}: {e}"),
        )
    };
    let mut value = Vec::new();
    if argument == "-" {
        let mut input = std::io::stdin().lock().take(VALUE_BYTES_READ_MAX);
        let read = input.read_to_end(&mut value);
        read.map_err(|e| unreadable("standard input", &e))?;
        return Ok(value.into());
    }
    let Some(path) = argument.as_bytes().strip_prefix(b"@") else {
        return Ok(bytes_of(argument));
    };
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path));
    let mut options = std::fs::OpenOptions::new();
    options
        .read(true)
        .open(path)
        .and_then(|file| file.take(VALUE_BYTES_READ_MAX).read_to_end(&mut value))
        .map_err(|e| unreadable(&path.display().to_string(), &e))?;
    Ok(value.into())
}

/// The level of reads; `None` is the keyspace's own.
///
/// # Errors
/// A usage [`Problem`] if the level is one of writes.
pub(super) fn read_level(data: &DataOptions) -> Result<Option<Level>, Problem> {
    data.consistency
        .unwrap_or_default()
        .for_read()
        .map_err(misfit)
}

/// The level of scans; `None` is the keyspace's own.
///
/// # Errors
/// A usage [`Problem`] if the level is one of writes, or sloppy.
pub(super) fn scan_level(data: &ScanOptions) -> Result<Option<Level>, Problem> {
    data.consistency
        .unwrap_or_default()
        .for_scan()
        .map_err(misfit)
}

/// The level of writes; `None` is the keyspace's own.
///
/// # Errors
/// A usage [`Problem`] if the level is one of reads.
pub(super) fn write_level(data: &DataOptions) -> Result<Option<Level>, Problem> {
    data.consistency
        .unwrap_or_default()
        .for_write()
        .map_err(misfit)
}

fn misfit(misfit: LevelMisfit) -> Problem {
    Problem::usage(misfit.to_string())
}

/// What a write is to supersede, as it is decided before the write.
#[derive(Debug)]
pub(super) enum Seen {
    /// Nothing.
    Blind,
    /// What this context covers; `is_absent` if a read found nothing.
    After {
        /// The context.
        context: Context,
        /// A read found no value.
        is_absent: bool,
    },
}

/// Takes the context that was given, or reads the key at the level, or neither if `--blind` or in
/// an lww keyspace.
///
/// # Errors
/// A [`Problem`] if the context is none, or the read failed; then nothing was written.
pub(super) async fn see(
    client: &Client,
    key: &Bytes,
    data: &DataOptions,
    seen: &SeenOptions,
) -> Result<Seen, Problem> {
    let is_lww = client.topology().mode(&data.keyspace) == Some(KeyspaceMode::Lww);
    if seen.blind || is_lww && seen.context.is_none() {
        return Ok(Seen::Blind);
    }
    if let Some(text) = &seen.context {
        let context = text
            .parse()
            .map_err(|e: quorate_client::ContextParseError| {
                Problem::new(Exit::Failed, "CONTEXT_INVALID", e.to_string())
                    .then("give the context as get, put or delete printed it with -o json")
            })?;
        return Ok(Seen::After {
            context,
            is_absent: false,
        });
    }
    let level = data.consistency.unwrap_or_default().before_write();
    let read = client
        .keyspace(&data.keyspace)
        .get(key.clone())
        .level(level)
        .deadline(data.deadline);
    let read = read.await.map_err(|e| {
        let mut problem = unread(&e);
        problem
            .why
            .push("the read before the write failed; nothing was written".to_owned());
        problem
    })?;
    Ok(Seen::After {
        context: read.context().clone(),
        is_absent: read.values().is_empty(),
    })
}

/// Tells that a write was applied: nothing as text, a document as JSON.
///
/// # Errors
/// A [`Problem`] if standard output cannot be written.
pub(super) fn tell_written(
    schema: &str,
    key: &Bytes,
    data: &DataOptions,
    written: &Written,
    global: &Global,
) -> Result<(), Problem> {
    match global.output {
        Format::Text => {
            if written.is_superseded() {
                note("applied, and superseded at once: a write with a later stamp is there");
            }
            Ok(())
        }
        Format::Json => {
            let mut document = Map::new();
            document.insert("schema".to_owned(), json!(schema));
            document.insert("keyspace".to_owned(), json!(data.keyspace));
            with_key(&mut document, key);
            document.insert("outcome".to_owned(), json!("applied"));
            document.insert("acks".to_owned(), json!(written.acks()));
            let context = written.context().map(ToString::to_string);
            document.insert("context".to_owned(), json!(context));
            if let Some(stamp) = written.stamp() {
                document.insert("stamp".to_owned(), json!(stamp.to_string()));
                document.insert("superseded".to_owned(), json!(written.is_superseded()));
            }
            print_json(&Value::Object(document))
        }
    }
}
