//! `quorate export FILE`: every record of a keyspace or a range, as JSON lines that `import` takes.
//!
//! Behind each page the file is flushed and FILE.export-position says how far it is good and where
//! the scan stands; `--resume` cuts the file there and goes on, also in another process, on another
//! day, after restarts of nodes.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use quorate_client::ScanPosition;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::args::{ExportArgs, Global};
use super::data::{bytes_of, read_level};
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
    position: Option<String>,
    bytes: u64,
    records: u64,
}

/// Exports the records.
///
/// # Errors
/// A [`Problem`] if the file cannot be written or the level could not be met; `--resume` goes on.
pub(super) async fn run(args: ExportArgs, global: Global) -> Result<Exit, Problem> {
    let level = read_level(&args.data)?;
    let mut signals = StopSignals::listen()?;
    let beside = position_file(&args.file);
    let mut progress = if args.resume {
        read_progress(&beside, &args.data.keyspace)?
    } else {
        Progress {
            keyspace: args.data.keyspace.clone(),
            ..Progress::default()
        }
    };
    let unwritable = |e: std::io::Error| {
        let what = format!("cannot write {}: {e}", args.file.display());
        Problem::new(Exit::Failed, "FILE_UNWRITABLE", what)
    };
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(!args.resume);
    let mut file = options.open(&args.file).map_err(unwritable)?;
    file.set_len(progress.bytes).map_err(unwritable)?;
    file.seek(SeekFrom::End(0)).map_err(unwritable)?;

    let client = connect(&global).await?;
    let mut scan = client.keyspace(&args.data.keyspace).scan().level(level);
    scan = scan.deadline(args.data.deadline);
    if let Some(prefix) = args.prefix {
        scan = scan.prefix(bytes_of(prefix));
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
        let page = page.map_err(|problem| problem.then("go on with --resume"))?;
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

fn read_progress(beside: &Path, keyspace: &str) -> Result<Progress, Problem> {
    let unusable = |why: String| {
        let what = format!("cannot go on from {}: {why}", beside.display());
        Problem::new(Exit::Usage, "FILE_UNREADABLE", what).then("export anew, without --resume")
    };
    let text = std::fs::read(beside).map_err(|e| unusable(e.to_string()))?;
    let progress: Progress = serde_json::from_slice(&text).map_err(|e| unusable(e.to_string()))?;
    if progress.keyspace != keyspace {
        return Err(unusable(format!("it is of keyspace {}", progress.keyspace)));
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
