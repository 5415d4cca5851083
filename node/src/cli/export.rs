//! `quorate export FILE`: every record of a keyspace or a range, as JSON lines that `import` takes.
//!
//! Behind each page the file is flushed and FILE.export-position says how far it is good and where
//! the scan stands; `--resume` cuts the file there and goes on, also in another process, on another
//! day, after restarts of nodes. A file that is there is touched only once the first page was read.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use quorate_client::ScanPosition;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::args::{ExportArgs, Global};
use super::data::{bytes_of, scan_level};
use super::exit::{Exit, Problem};
use super::is_json;
use super::output::{note, print_json, stdout_is_terminal};
use super::scan::lines;
use super::session::{connect, unread};
use super::signals::{StopSignals, unless_stopped};

/// Records between two notes of progress on a terminal.
const NOTE_EVERY: u64 = 100_000;

/// How far an export has come.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Progress {
    keyspace: String,
    /// The prefix of its keys, escaped; empty without one.
    #[serde(default)]
    prefix: String,
    position: Option<String>,
    bytes: u64,
    records: u64,
}

/// Exports the records.
///
/// # Errors
/// A [`Problem`] if the file cannot be written or the level could not be met; `--resume` goes on.
pub(super) async fn run(args: ExportArgs, global: Global) -> Result<Exit, Problem> {
    let level = scan_level(&args.data)?;
    if args.file.as_os_str() == "-" {
        let what = "export writes a file, to go on with it later";
        return Err(Problem::new(Exit::Usage, "USAGE", what)
            .then("`quorate scan -o json` writes the same lines to standard output"));
    }
    let mut signals = StopSignals::listen()?;
    let beside = position_file(&args.file);
    let prefix = args.prefix.map(bytes_of);
    let asked = Progress {
        keyspace: args.data.keyspace.clone(),
        prefix: prefix
            .as_ref()
            .map_or_else(String::new, |prefix| prefix.escape_ascii().to_string()),
        ..Progress::default()
    };
    let mut progress = if args.resume {
        read_progress(&args.file, &beside, &asked)?
    } else {
        asked
    };
    let unwritable = |e: std::io::Error| {
        let what = format!("cannot write {}: {e}", args.file.display());
        Problem::new(Exit::Failed, "FILE_UNWRITABLE", what)
    };
    let mut file = None;

    let client = connect(&global).await?;
    let mut scan = client.keyspace(&args.data.keyspace).scan().level(level);
    scan = scan.deadline(args.data.deadline);
    if let Some(prefix) = prefix {
        scan = scan.prefix(prefix);
    }
    if let Some(position) = &progress.position {
        let position = position.parse::<ScanPosition>();
        let position = position
            .map_err(|error| Problem::new(Exit::Failed, "SCAN_TOKEN_INVALID", error.to_string()))?;
        scan = scan.resume(position);
    }
    let mut pages = scan.pages();
    loop {
        let page = unless_stopped(&mut signals, pages.next_page()).await;
        let interrupted = || Problem::new(Exit::Failed, "INTERRUPTED", "interrupted");
        let page = page
            .ok_or_else(interrupted)
            .and_then(|page| page.map_err(|error| unread(&error)));
        let is_begun = args.resume || file.is_some();
        let page = page.map_err(|problem| match is_begun {
            true => problem.then("go on with --resume"),
            false => problem,
        })?;
        let file = match &mut file {
            Some(file) => file,
            None => file.insert(open(&args.file, &progress).map_err(unwritable)?),
        };
        let Some(page) = page else {
            break;
        };
        let text = lines(&page.records);
        file.write_all(&text).map_err(unwritable)?;
        file.sync_data().map_err(unwritable)?;
        let before = progress.records;
        progress.bytes += text.len() as u64;
        progress.records += page.records.len() as u64;
        progress.position = page.next.map(|next| next.to_string());
        write_progress(&beside, &progress)?;
        if stdout_is_terminal() && before / NOTE_EVERY != progress.records / NOTE_EVERY {
            note(&format!("{} records", progress.records));
        }
    }
    std::fs::remove_file(&beside).or_else(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(Problem::from(e)),
    })?;
    client.close().await;
    if is_json(global.output) {
        print_json(&json!({
            "schema": "export/v1",
            "records": progress.records,
            "bytes": progress.bytes,
        }))?;
    } else {
        note(&format!(
            "{} records, {} bytes",
            progress.records, progress.bytes
        ));
    }
    Ok(Exit::Ok)
}

fn position_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".export-position");
    name.into()
}

/// The file, cut to what is known to be good of it.
#[expect(
    clippy::disallowed_types,
    reason = "a file of the user, outside of the store"
)]
fn open(path: &Path, progress: &Progress) -> std::io::Result<std::fs::File> {
    let is_new = progress.bytes == 0;
    let mut options = OpenOptions::new();
    options.write(true).create(is_new).truncate(is_new);
    let mut file = options.open(path)?;
    if !is_new {
        file.set_len(progress.bytes)?;
        file.seek(SeekFrom::End(0))?;
    }
    Ok(file)
}

/// Where the export stands that is to go on.
fn read_progress(file: &Path, beside: &Path, asked: &Progress) -> Result<Progress, Problem> {
    let unusable = |why: String| {
        let what = format!("cannot go on from {}: {why}", beside.display());
        Problem::new(Exit::Usage, "FILE_UNREADABLE", what).then("export anew, without --resume")
    };
    let text = std::fs::read(beside).map_err(|e| unusable(e.to_string()))?;
    let progress: Progress = serde_json::from_slice(&text).map_err(|e| unusable(e.to_string()))?;
    if progress.keyspace != asked.keyspace {
        return Err(unusable(format!("it is of keyspace {}", progress.keyspace)));
    }
    if progress.prefix != asked.prefix {
        return Err(unusable(format!("it is of prefix `{}`", progress.prefix)));
    }
    let held = std::fs::metadata(file).map_or(0, |metadata| metadata.len());
    if held < progress.bytes {
        let (path, bytes) = (file.display(), progress.bytes);
        return Err(unusable(format!(
            "{path} has {held} bytes, and {bytes} were written"
        )));
    }
    Ok(progress)
}

fn write_progress(beside: &Path, progress: &Progress) -> Result<(), Problem> {
    let mut next = beside.as_os_str().to_owned();
    next.push(".next");
    let next = PathBuf::from(next);
    let text = serde_json::to_vec(progress).map_err(|e| Problem::from(std::io::Error::from(e)))?;
    std::fs::write(&next, text)?;
    std::fs::rename(&next, beside)?;
    Ok(())
}
